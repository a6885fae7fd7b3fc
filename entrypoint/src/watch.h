/* The sockets of some ports, looked at again and again: what is in flight, and what has come in since the last look. */
#pragma once
#include "options.h"
#include "rules.h"

enum method { BY_DIAG, BY_TABLE, BY_TIME };
enum { MAX_LISTENERS = 64 };

struct seen; /* what is remembered of one connection */

struct watch {
    const struct options *options;
    enum method method;
    int fd;
    unsigned failures;
    bool began;
    bool wide; /* every port that listens, not just those that were named */
    uint32_t turn;
    int64_t calm;

    struct seen *table; /* open addressing, grown by mapping a larger one */
    size_t room, held;
    bool blind; /* no memory for it: then nothing that comes in is noticed, and delay-max ends the delay */

    uint16_t ports[MAX_PORTS];
    unsigned n_ports;
    uint64_t listening[65536 / 64]; /* every port of the namespace that has had a listener */
    int64_t opens;                  /* connections the kernel counted up to the last look, -1 if it does not tell */
    int64_t balance;                /* of those, how many were not seen as rows */

    struct slot {
        uint32_t peer;
        bool taken;
        int64_t last;
    } slots[MAX_PORTS + 1]; /* one probe a port, and one for what was too short to be seen */

    /* Of the last look: */
    unsigned busy, waiting, queue, open, listeners;
    unsigned by_verdict[OVER + 1];
    uint32_t listener_inodes[MAX_LISTENERS];
    unsigned n_inodes;
    bool anything_new;
    /* Since the first look: */
    unsigned connections, requests, probes;

    int64_t now;
    unsigned visible; /* connections that turned up in this look, on any port */
};

void watch_open(struct watch *w, const struct options *options, int64_t calm);
void watch_look(struct watch *w, int64_t now);
void watch_close(struct watch *w);
const char *method_name(enum method method);
