/* The first two of three phases: deregistered, then drained. A state machine that is stepped; who waits how is up to the caller. */
#pragma once
#include "watch.h"

enum phase { DELAYING, DRAINING, DRAINED };

struct phases {
    struct watch watch;
    const struct options *options;
    enum phase phase;
    bool observe;
    unsigned calm_looks; /* in a row that found nothing in flight */
    int64_t began, delay_ended, drain_ended, last_new, hard_end;
    const char *delay_end, *drain_end; /* why; words of the log line */
    unsigned at_start, at_end, connections, requests;
};

void phases_begin(struct phases *p, const struct options *options, bool observe, int64_t now);
/* Do what is due; returns the milliseconds until the next step, or -1 when drained. */
int64_t phases_step(struct phases *p, int64_t now);
/* Give up waiting: `why` becomes the reason in the log line. */
void phases_cut(struct phases *p, const char *why, int64_t now);
void phases_close(struct phases *p);
/* The log line of a drain, with a newline. `by` says who asked, `stop` what follows. */
void phases_record(const struct phases *p, struct text *line, const char *by, const char *profile, const char *stop);
