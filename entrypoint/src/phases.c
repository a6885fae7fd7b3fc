#include "phases.h"

#include <string.h>

enum {
    STEP_MS = 100,
    ASK_MS = 50, /* between two questions for what is in flight alone, where looks are rare */
    /* After the first look that finds nothing: a walk through the kernel's table is no snapshot.
     * One that takes longer than this pause has looked for long enough. */
    CONFIRM_MS = 25,
};

int64_t phases_hard_end(const struct options *o, int64_t began) {
    if (o->deadline == 0) {
        return INT64_MAX;
    }
    return began + (o->deadline > RESERVE_MS ? o->deadline - RESERVE_MS : 0);
}

void phases_begin(struct phases *p, struct watch *w, struct tally *t, bool observe, int64_t now) {
    *p = (struct phases){.watch = w, .tally = t, .options = t->options, .turn = w->turn};
    p->began = p->last_new = p->delay_ended = p->drain_ended = now;
    p->hard_end = phases_hard_end(p->options, now);
    phases_know(p, observe, p->options->finishes);
}

void phases_open(struct phases *p, const struct options *options, bool observe, int64_t now) {
    static struct watch watch;
    static struct tally tally;
    watch_open(&watch);
    watch_join(&watch, &tally, options, options->calm);
    phases_begin(p, &watch, &tally, observe, now);
}

void phases_close(struct phases *p) {
    if (p->watch != NULL) {
        watch_close(p->watch);
    }
}

void phases_know(struct phases *p, bool observe, bool finishes) {
    p->observe = observe;
    p->finishes = finishes && observe;
}

static void end_delay(struct phases *p, enum end why, int64_t now) {
    p->phase = DRAINING;
    p->delay_end = why;
    p->delay_ended = p->drain_ended = now;
}

static void end_drain(struct phases *p, enum end why, int64_t now) {
    p->phase = DRAINED;
    p->drain_end = why;
    p->drain_ended = now;
    p->at_end = why == END_FINISHES ? 0 : p->tally->busy;
    p->finishing = why == END_FINISHES ? p->tally->busy : 0;
}

void phases_cut(struct phases *p, enum end why, int64_t now) {
    if (p->phase == DELAYING) {
        end_delay(p, why, now);
    }
    if (p->phase == DRAINING) {
        end_drain(p, why, now);
    }
}

/* What the last look found, once for each look. What comes in counts until everybody has
 * deregistered the Pod.
 *
 * A server that finishes by itself may get its signal while requests still come on connections from
 * outside: those clients find another Pod. From inside they may come from a neighbour container
 * that still serves and has nobody else to ask. */
static void take_look(struct phases *p, int64_t now) {
    const struct tally *t = p->tally;
    if (p->turn == p->watch->turn) {
        return;
    }
    p->turn = p->watch->turn;
    if (!p->watch->sure) {
        p->calm_looks = 0;
        return;
    }
    if (!p->started) {
        p->started = true;
        p->at_start = t->busy;
    }
    unsigned waits_for = p->finishes ? t->inside : t->busy;
    p->calm_looks = waits_for == 0 ? p->calm_looks + 1 : 0;
    if (p->phase == DELAYING) {
        p->connections += t->connections;
        p->requests += t->requests;
        if (t->connections > 0 || (p->finishes ? t->inside_requests : t->requests) > 0) {
            p->last_new = now;
        }
    }
    p->probes += t->probes;
}

/* Keep serving until the load balancers have deregistered the Pod: nothing new for a while. */
static void step_delay(struct phases *p, int64_t now) {
    const struct options *o = p->options;
    const struct watch *w = p->watch;
    bool seen = w->sure && w->method != BY_TIME;
    if (seen && p->tally->listeners == 0) {
        end_delay(p, END_NOT_LISTENING, now); /* nothing can come in any more, or not yet */
    } else if (now >= p->hard_end) {
        end_delay(p, END_DEADLINE, now);
    } else if (now - p->began >= o->delay_max) {
        end_delay(p, w->method == BY_TIME ? END_TIME : END_MAX, now);
    } else if (seen && !w->blind && now - p->began >= o->delay_min &&
               now - p->last_new >= o->quiet) {
        end_delay(p, END_QUIET, now);
    }
}

/* Wait for requests in flight. */
static void step_drain(struct phases *p, int64_t now) {
    const struct watch *w = p->watch;
    if (!p->observe) {
        end_drain(p, END_NOT_OBSERVED, now);
    } else if (w->method != BY_TIME && p->calm_looks >= (w->took > CONFIRM_MS ? 1 : CALM_LOOKS)) {
        end_drain(p, p->finishes ? END_FINISHES : END_IDLE, now);
    } else if (now >= p->hard_end) {
        end_drain(p, END_DEADLINE, now);
    } else if (now - p->delay_ended >= p->options->drain_timeout) {
        end_drain(p,
                  w->method == BY_TIME  ? END_TIME
                  : p->tally->busy == 0 ? END_IDLE
                                        : END_TIMEOUT,
                  now);
    }
}

bool phases_look_due(const struct phases *p, int64_t now) {
    if (p->phase == DRAINED) {
        return false;
    }
    if (now >= p->watch->next) {
        return true;
    }
    /* Looks may be expensive, and so rare. In between, ask only about what was in flight. */
    return p->phase == DRAINING && p->calm_looks == 0 && !watch_still_busy(p->watch, p->tally);
}

/* The next time when the clock alone ends something. */
static int64_t next_limit(const struct phases *p, int64_t now) {
    const struct options *o = p->options;
    int64_t limits[] = {
        p->hard_end,
        p->phase == DELAYING ? p->began + o->delay_min : p->delay_ended + o->drain_timeout,
        p->phase == DELAYING ? p->last_new + o->quiet : INT64_MAX,
        p->phase == DELAYING ? p->began + o->delay_max : INT64_MAX,
    };
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < COUNT(limits); i++) {
        next = limits[i] > now && limits[i] < next ? limits[i] : next;
    }
    return next;
}

int64_t phases_take(struct phases *p, int64_t now) {
    if (p->phase == DRAINED) {
        return -1;
    }
    take_look(p, now);
    if (p->phase == DELAYING) {
        step_delay(p, now);
    }
    if (p->phase == DRAINING) {
        step_drain(p, now);
    }
    if (p->phase == DRAINED) {
        return -1;
    }
    if (p->phase == DRAINING && p->calm_looks > 0 && p->watch->next > now + CONFIRM_MS) {
        p->watch->next = now + CONFIRM_MS;
    }
    int64_t next = next_limit(p, now);
    next = p->watch->next < next ? p->watch->next : next;
    next = p->phase == DRAINING && next > now + STEP_MS ? now + ASK_MS : next;
    return next > now ? next - now : 1;
}

int64_t phases_step(struct phases *p, int64_t now) {
    if (phases_look_due(p, now)) {
        watch_look(p->watch, now);
    }
    return phases_take(p, now);
}

int64_t phases_flush(struct phases *p, int64_t began, int64_t now) {
    if (now - began >= FLUSH_MS) {
        return -1;
    }
    watch_look(p->watch, now);
    const struct watch *w = p->watch;
    bool sent = w->method == BY_TIME || (w->sure && p->tally->by_verdict[UNSENT] == 0);
    return sent ? -1 : STEP_MS;
}

struct record phases_record(const struct phases *p, enum asked_by by, const char *profile,
                            const char *stop) {
    const struct tally *t = p->tally;
    struct record r = record_of(RECORD_DRAIN, p->options->container);
    r.number[R_BY] = by;
    r.number[R_METHOD] = p->watch->method;
    r.number[R_WAITED_MS] = p->drain_ended - p->began;
    r.number[R_DELAY_MS] = p->delay_ended - p->began;
    r.number[R_DELAY_END] = p->delay_end;
    r.number[R_DRAIN_MS] = p->drain_ended - p->delay_ended;
    r.number[R_DRAIN_END] = p->drain_end;
    r.number[R_IN_FLIGHT_START] = p->at_start;
    r.number[R_IN_FLIGHT_END] = p->at_end;
    r.number[R_FINISHING] = p->drain_end == END_FINISHES ? (int64_t)p->finishing : -1;
    r.number[R_NEW_CONNECTIONS] = p->connections;
    r.number[R_NEW_REQUESTS] = p->requests;
    r.number[R_PROBES] = p->probes;
    r.number[R_OPEN] = t->open;
    r.number[R_OWED] = t->by_verdict[OWED];
    r.number[R_UNREAD] = t->by_verdict[UNREAD];
    r.number[R_UNSENT] = t->by_verdict[UNSENT];
    r.number[R_UNSURE] =
        t->by_verdict[TIE] + t->by_verdict[RECENT] + t->by_verdict[YOUNG] + t->by_verdict[UNKNOWN];
    r.number[R_QUEUED] = t->queue;
    r.text[R_PROFILE] = profile;
    r.text[R_STOP] = stop;
    return r;
}
