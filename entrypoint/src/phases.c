#include "phases.h"

#include <string.h>

enum {
    LOOK_MS = 100,   /* between two looks */
    CROWD_MS = 250,  /* the same, where a look costs several milliseconds */
    CROWD = 4000,    /* sockets */
    CONFIRM_MS = 25, /* after the first look that finds nothing: a walk through the kernel's table is no snapshot */
    RESERVE_MS = 4000,
};

void phases_begin(struct phases *p, const struct options *options, bool observe, int64_t now) {
    memset(p, 0, sizeof *p);
    watch_open(&p->watch, options, options->calm);
    p->options = options;
    p->observe = observe;
    p->began = p->last_new = p->delay_ended = p->drain_ended = now;
    p->hard_end = options->deadline > 0 ? now + (options->deadline > RESERVE_MS ? options->deadline - RESERVE_MS : 0) : INT64_MAX;
    p->delay_end = p->drain_end = "none";
}

static void end_delay(struct phases *p, const char *why, int64_t now) {
    p->phase = DRAINING;
    p->delay_end = why;
    p->delay_ended = p->drain_ended = now;
    p->connections = p->watch.connections;
    p->requests = p->watch.requests;
}

static void end_drain(struct phases *p, const char *why, int64_t now) {
    p->phase = DRAINED;
    p->drain_end = why;
    p->drain_ended = now;
    p->at_end = p->watch.busy;
}

void phases_cut(struct phases *p, const char *why, int64_t now) {
    if (p->phase == DELAYING) {
        end_delay(p, why, now);
    }
    if (p->phase == DRAINING) {
        end_drain(p, why, now);
    }
}

/* Keep serving until the balancers have let go: no new connection and no new request for a while. */
static void step_delay(struct phases *p, int64_t now) {
    const struct options *o = p->options;
    const struct watch *w = &p->watch;
    if (w->anything_new) {
        p->last_new = now;
    }
    if (w->method != BY_TIME && w->listeners == 0) {
        end_delay(p, "not-listening", now); /* nothing can come in any more; or yet */
    } else if (now >= p->hard_end) {
        end_delay(p, "deadline", now);
    } else if (now - p->began >= o->delay_max) {
        end_delay(p, w->method == BY_TIME ? "time" : "max", now);
    } else if (w->method != BY_TIME && !w->blind && now - p->began >= o->delay_min && now - p->last_new >= o->quiet) {
        end_delay(p, "quiet", now);
    }
}

/* Wait for the answers that are owed. */
static void step_drain(struct phases *p, int64_t now) {
    const struct watch *w = &p->watch;
    p->calm_looks = w->busy == 0 ? p->calm_looks + 1 : 0;
    if (!p->observe) {
        end_drain(p, "not-observed", now);
    } else if (w->method != BY_TIME && p->calm_looks >= 2) {
        end_drain(p, "idle", now);
    } else if (now >= p->hard_end) {
        end_drain(p, "deadline", now);
    } else if (now - p->delay_ended >= p->options->drain_timeout) {
        end_drain(p, w->method == BY_TIME ? "time" : w->busy == 0 ? "idle" : "timeout", now);
    }
}

int64_t phases_step(struct phases *p, int64_t now) {
    if (p->phase == DRAINED) {
        return -1;
    }
    bool first = !p->watch.began;
    watch_look(&p->watch, now);
    if (first) {
        p->at_start = p->watch.busy;
    }
    if (p->phase == DELAYING) {
        step_delay(p, now);
    }
    if (p->phase == DRAINING) {
        step_drain(p, now);
    }
    if (p->phase == DRAINED) {
        return -1;
    }
    if (p->phase == DRAINING && p->calm_looks == 1) {
        return CONFIRM_MS;
    }
    return p->watch.open > CROWD ? CROWD_MS : LOOK_MS;
}

void phases_close(struct phases *p) { watch_close(&p->watch); }

static void field(struct text *t, const char *name, int64_t value) {
    text_add(t, ",\"");
    text_add(t, name);
    text_add(t, "\":");
    text_num(t, value);
}

static void word(struct text *t, const char *name, const char *value) {
    text_add(t, ",\"");
    text_add(t, name);
    text_add(t, "\":");
    text_json(t, value);
}

void phases_record(const struct phases *p, struct text *line, const char *by, const char *profile, const char *stop) {
    const struct watch *w = &p->watch;
    text_add(line, "{\"podgrace\":\"drain\"");
    word(line, "container", p->options->container);
    word(line, "by", by);
    word(line, "method", method_name(w->method));
    field(line, "waited_ms", p->drain_ended - p->began);
    field(line, "delay_ms", p->delay_ended - p->began);
    word(line, "delay_end", p->delay_end);
    field(line, "drain_ms", p->drain_ended - p->delay_ended);
    word(line, "drain_end", p->drain_end);
    field(line, "in_flight_start", p->at_start);
    field(line, "in_flight_end", p->at_end);
    field(line, "new_connections", p->connections);
    field(line, "new_requests", p->requests);
    field(line, "probes", w->probes);
    field(line, "open", w->open);
    field(line, "owed", w->by_verdict[OWED]);
    field(line, "unread", w->by_verdict[UNREAD]);
    field(line, "unsent", w->by_verdict[UNSENT]);
    field(line, "unsure", w->by_verdict[TIE] + w->by_verdict[RECENT] + w->by_verdict[YOUNG] + w->by_verdict[UNKNOWN]);
    field(line, "queued", w->queue);
    word(line, "profile", profile);
    word(line, "stop", stop);
    text_add(line, "}\n");
}
