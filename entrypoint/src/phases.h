/* The first two of three phases: deregistered, then drained. A state machine; how to wait between
 * steps is up to the caller.
 *
 *   DELAYING   the server goes on serving until nothing new comes in
 *   DRAINING   until nothing is in flight; where the server finishes by itself after its signal,
 *              only until no request from inside of the Pod is
 *   DRAINED    the stop comes next */
#pragma once
#include "watch.h"

enum { RESERVE_MS = 4000, FLUSH_MS = 2000, CALM_LOOKS = 2 };

enum phase { DELAYING, DRAINING, DRAINED };

struct phases {
    struct watch *watch;
    struct tally *tally;
    const struct options *options;
    enum phase phase;
    bool observe, finishes, started;
    uint32_t turn;       /* of the last look that was taken in */
    unsigned calm_looks; /* in a row that found nothing to wait for */
    int64_t began, delay_ended, drain_ended, last_new, hard_end;
    enum end delay_end, drain_end;
    unsigned at_start, at_end, finishing, connections, requests, probes;
};

/* When all that a deadline of the options covers must be over; INT64_MAX without one. */
int64_t phases_hard_end(const struct options *o, int64_t began);

/* Begin, as the only one of this process: with its own watch and tally, until phases_close. */
void phases_open(struct phases *p, const struct options *options, bool observe, int64_t now);
void phases_close(struct phases *p);
/* Begin, as one of several: the tally has joined the watch. */
void phases_begin(struct phases *p, struct watch *w, struct tally *t, bool observe, int64_t now);

/* It is now known whether the server finishes by itself, or has permanent connections. */
void phases_know(struct phases *p, bool observe, bool finishes);
/* Do what is due; returns the milliseconds until the next step, or -1 when drained. */
int64_t phases_step(struct phases *p, int64_t now);
/* Its two halves, for several at once: whether a look is due, and acting on the last look. */
bool phases_look_due(const struct phases *p, int64_t now);
int64_t phases_take(struct phases *p, int64_t now);
/* Give up waiting. */
void phases_cut(struct phases *p, enum end why, int64_t now);

/* After the server has ended: wait until the kernel has sent the rest, at most FLUSH_MS after
 * `began`. Returns the milliseconds until the next step, or -1 if there is nothing to wait for. */
int64_t phases_flush(struct phases *p, int64_t began, int64_t now);

/* The record of a drain. `stop` says what follows. */
struct record phases_record(const struct phases *p, enum asked_by by, const char *profile,
                            const char *stop);
