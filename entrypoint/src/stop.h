/* The third phase: the stop signal once, to the server; then to what is left beside it; patience,
 * TERM, KILL. A state machine, like the first two phases.
 *
 *   SIGNALLED  the server has its signal. When it has ended, the programs beside it get theirs, and
 *              have all that is left of the patience
 *   TERMED     patience over: all that is left has got TERM
 *   KILLED     and, two seconds later, KILL */
#pragma once
#include "tree.h"

/* As the records have it: FORCED_NO, FORCED_TERM, FORCED_KILL. */
enum stage { SIGNALLED, TERMED, KILLED };

struct stop {
    const struct options *options;
    enum stage stage;
    struct server server;
    int signal;
    const char *command; /* run instead of the signal; NULL: none */
    pid_t running;       /* the stop command while it runs */
    bool group;
    pid_t told_group; /* which has got the signal as a whole */
    bool rest;        /* the server has ended; the others are being told */
    bool observe;     /* before the stop, wait for requests in flight */
    bool finishes;    /* but not for those that the server finishes by itself after this signal */
    int64_t patience; /* a caller that has not drained first may add to it */
    int64_t began, next_stage, next_word;
};

/* What has not ended yet. Large, touched only in a stop; a process needs only one. */
extern struct members left;

/* Settle how the server is stopped: by its own profile if it was detected, else by the options. */
void stop_plan(struct stop *s, const struct options *o, const struct server *server);
/* How that reads in a log line: "QUIT to nginx (7)". */
void stop_text(const struct stop *s, struct text *t);
/* Send the signal, or start the command. */
void stop_begin(struct stop *s, int64_t now);
/* The command has ended by itself: TERM to what it left behind, and a second. */
void stop_sweep(struct stop *s, const struct options *o, int64_t now);
/* The stop command has ended: if it failed, send the signal after all. For a caller that reaps all.
 */
void stop_command_ended(struct stop *s, int code);
/* The same for a caller that does not: notice its end. */
void stop_command_reap(struct stop *s);
/* The caller leaves: if patience is over, end the command. It has the caller's streams, and a
 * runtime waits until nobody holds those. */
void stop_command_end(const struct stop *s, int64_t now);
/* Go on with what is left by now; returns the milliseconds until the next step. */
int64_t stop_step(struct stop *s, int64_t now);
