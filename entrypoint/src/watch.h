/* The sockets of some ports, looked at again and again: what is in flight, and what has come in
 * since the last look.
 *
 * One watch holds what was seen; any number of tallies count from it, one for each set of ports
 * that somebody asks about. So a look costs the same whether one asks or thirty. */
#pragma once
#include "diag.h"
#include "options.h"
#include "record.h"
#include "rules.h"

enum { MAX_LISTENERS = 256, MAX_TALLIES = MAX_ANSWERS, MAX_PENDING = 64, MAX_SLOTS = 64 };

struct seen; /* what is remembered of one connection */

struct tally {
    const struct options *options;
    int64_t calm;
    bool began;
    uint32_t since; /* turn of its first look */
    bool wide; /* every port that listens, not just those that were named */

    /* One probe a port and period. */
    struct slot {
        uint16_t port;
        bool taken;
        uint32_t peer;
        int64_t last;
    } slots[MAX_SLOTS];
    unsigned n_slots;

    /* Of the last look: */
    unsigned busy, waiting, queue, open, listeners;
    unsigned inside; /* of the busy ones: asked for from inside of the Pod */
    unsigned by_verdict[OVER + 1];
    uint32_t listener_inodes[MAX_LISTENERS]; /* the front first: see prefer() */
    uint32_t preferred[MAX_LISTENERS];
    unsigned n_inodes;
    /* What came in between the last two looks; of the requests, how many from inside. */
    unsigned connections, requests, inside_requests, probes;

    struct ports ports;
};

struct watch {
    enum method method;
    int fd, ends, other; /* -1: not open; the last is for questions while a dump is read */
    unsigned failures;
    bool worked; /* a look by this method has succeeded */
    bool sure;   /* the last look has succeeded; else the numbers are those of the one before */
    uint32_t turn;
    int64_t now;

    struct tally *tallies[MAX_TALLIES];
    unsigned n_tallies;

    struct seen *table; /* open addressing, grown by mapping a larger one */
    size_t room, held;
    bool blind; /* no memory for it: then nothing that comes in is noticed, and delay-max ends the
                   delay */

    /* Busy ones, to be asked for alone between two looks. */
    struct pending {
        uint64_t key;
        struct inet_diag_sockid id;
        uint8_t family;
    } pending[MAX_PENDING];
    unsigned n_pending; /* over MAX_PENDING: not all are in it */
    unsigned n_others;  /* connections from inside that are no hook's, in this look */

    uint16_t own; /* the end of a connection that this process made itself: it asks for nothing; 0:
                     none */

    int64_t costs[3]; /* microseconds that the last looks took */
    int64_t took;     /* milliseconds of the last */
    int64_t next;     /* when a look is due */

    /* Where the kernel does not tell what has ended, it counts: */
    int64_t opens;    /* connections up to the last look, -1 if it does not tell */
    int64_t balance;  /* of those, how many were not seen as rows */
    unsigned visible; /* connections that turned up in this look, on any port */

    struct ports listening; /* ports of the namespace that have had a listener */
    struct diag_filter filter;
};

void watch_open(struct watch *w);
/* Take part in the looks from now on. At most MAX_TALLIES at a time. */
void watch_join(struct watch *w, struct tally *t, const struct options *options, int64_t calm);
void watch_leave(struct watch *w, const struct tally *t);
void watch_look(struct watch *w, int64_t now);
/* Whether something of the last look may still be in flight, by asking for those few connections
 * alone. True if that cannot be told: then only a look does. */
bool watch_still_busy(struct watch *w, const struct tally *t);
void watch_close(struct watch *w);
