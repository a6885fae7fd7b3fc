/* The third phase: the stop signal once, to the server; then patience, TERM, KILL. A state machine, as the first two are. */
#pragma once
#include "tree.h"

enum stage { SIGNALLED, TERMED, KILLED };

struct stop {
    const struct options *options;
    enum stage stage;
    struct server server;
    int signal;
    pid_t command; /* the stop command while it runs */
    bool group;
    int64_t began, next_stage, next_word;
};

/* Settle how the server is stopped: by its own profile if it was detected, else by the options. */
void stop_plan(struct stop *s, const struct options *o, const struct server *server);
/* How that reads in a log line: "QUIT to nginx (7)". */
void stop_text(const struct stop *s, struct text *t);
/* Send the signal, or start the command. */
void stop_begin(struct stop *s, int64_t now);
/* The stop command has ended: if it failed, the signal is sent after all. */
void stop_command_ended(struct stop *s, int code);
/* `left` are the processes that should have ended; returns the milliseconds until the next step. */
int64_t stop_step(struct stop *s, const struct members *left, int64_t now);
/* "no", "term" or "kill". */
const char *stop_forced(const struct stop *s);
