#include "watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "asks.h"
#include "nettable.h"

/* Compare bytes by their lower halves: no connection moves 4 GB between two looks. */
struct seen {
    uint64_t key;
    uint32_t received, sent;
    uint32_t last_out;  /* when it was last seen to send, in milliseconds of the same clock */
    uint32_t turn : 27; /* of the last look that saw it */
    uint32_t used : 1, owing : 1, probe : 1, several : 1, hook : 1;
};

enum { TURNS = (1 << 27) - 1, FIRST_ROOM = 256, MOST_ROOM = 1 << 20, PAUSE_MS = 300 };
enum {
    TRIES = 3,     /* looks in a row that may fail before another means is tried */
    LOOK_MS = 100, /* between two looks */
    LONGEST_MS = 2000,
    SHARE = 30, /* a look takes at most 3.3 % of the time; with all else it stays below 5 % */
    MOST_OTHERS = 16,
};

/* ------------------------------------------------------------------ memory */

static uint32_t age_of(const struct watch *w, const struct seen *s) {
    return (w->turn - s->turn) & TURNS;
}

/* Look-up by key: the entry, or the free one where it would be. */
static struct seen *find(struct seen *table, size_t room, uint64_t key) {
    for (size_t i = (size_t)(key * 0x9e3779b97f4a7c15u >> 20);; i++) {
        struct seen *s = &table[i & (room - 1)];
        if (!s->used || s->key == key) {
            return s;
        }
    }
}

/* Keep the table at most half full. Drop connections that were gone at the last look. If memory was
 * refused once, do not ask again: that would be once for each connection. */
static bool make_room(struct watch *w) {
    if (w->held * 2 < w->room) {
        return true;
    }
    if (w->blind) {
        return false;
    }
    size_t kept = 0;
    for (size_t i = 0; i < w->room; i++) {
        kept += w->table[i].used && age_of(w, &w->table[i]) <= 1;
    }
    size_t room = w->room > 0 ? w->room : FIRST_ROOM;
    while (kept * 4 >= room && room < MOST_ROOM) {
        room *= 2;
    }
    struct seen *table = MAP_FAILED;
    if (kept * 2 < room) {
        table = mmap(NULL, room * sizeof *table, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (table == MAP_FAILED) {
        w->blind = true;
        return false;
    }
    for (size_t i = 0; i < w->room; i++) {
        struct seen *s = &w->table[i];
        if (s->used && age_of(w, s) <= 1) {
            *find(table, room, s->key) = *s;
        }
    }
    if (w->table != NULL) {
        munmap(w->table, w->room * sizeof *table);
    }
    w->table = table;
    w->room = room;
    w->held = kept;
    return true;
}

static void forget_all(struct watch *w) {
    if (w->table != NULL) {
        munmap(w->table, w->room * sizeof *w->table);
    }
    w->table = NULL;
    w->room = w->held = 0;
    w->blind = false;
}

/* Remember a connection. NULL if memory is short; *fresh: it was not there at the last look. */
static struct seen *remember(struct watch *w, uint64_t key, bool *fresh) {
    *fresh = false;
    if (!make_room(w)) {
        return NULL;
    }
    struct seen *s = find(w->table, w->room, key);
    *fresh = !s->used || age_of(w, s) > 1;
    if (*fresh) {
        w->held += !s->used;
        *s = (struct seen){.key = key, .used = true};
    }
    s->turn = w->turn & TURNS;
    return s;
}

/* ------------------------------------------------------------------ tallies */

/* Let the kernel leave out all ports that nobody asks about. Where it only counts what comes and
 * goes, on any port, every port must be seen. */
static void narrow(struct watch *w) {
    static struct ports all;
    ports_clear(&all);
    w->filter.size = 0;
    if (w->ends < 0) {
        return;
    }
    for (unsigned i = 0; i < w->n_tallies; i++) {
        ports_join(&all, &w->tallies[i]->ports);
    }
    diag_filter_ports(&w->filter, &all);
    diag_filter_ends(w->ends, &all);
}

void watch_open(struct watch *w) {
    memset(w, 0, offsetof(struct watch, listening));
    ports_clear(&w->listening);
    w->opens = -1;
    w->ends = diag_open_ends(); /* first, to hear what ends during the first look */
    w->fd = diag_open();
    w->other = -1;
    w->method = w->fd >= 0 ? BY_DIAG : BY_TABLE;
}

void watch_join(struct watch *w, struct tally *t, const struct options *options, int64_t calm) {
    memset(t, 0, offsetof(struct tally, ports));
    ports_clear(&t->ports);
    ports_join(&t->ports, &options->ports);
    t->options = options;
    t->calm = calm;
    t->wide = options->ports.n == 0;
    if (w->n_tallies < MAX_TALLIES) {
        w->tallies[w->n_tallies++] = t;
    }
    w->next = 0;
}

void watch_leave(struct watch *w, const struct tally *t) {
    unsigned kept = 0;
    for (unsigned i = 0; i < w->n_tallies; i++) {
        if (w->tallies[i] != t) {
            w->tallies[kept++] = w->tallies[i];
        }
    }
    w->n_tallies = kept;
    narrow(w);
}

static void close_one(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void watch_close(struct watch *w) {
    close_one(&w->fd);
    close_one(&w->ends);
    close_one(&w->other);
    forget_all(w);
    w->n_tallies = 0;
}

/* ------------------------------------------------------------------ what comes in */

static struct slot *slot_of(struct tally *t, uint16_t port) {
    for (unsigned i = 0; i < t->n_slots; i++) {
        if (t->slots[i].port == port) {
            return &t->slots[i];
        }
    }
    if (t->n_slots == MAX_SLOTS) {
        return NULL;
    }
    t->slots[t->n_slots] = (struct slot){.port = port};
    return &t->slots[t->n_slots++];
}

/* The kubelet keeps probing readiness while a Pod terminates: one short connection a period, from
 * one address. An address's first connection may be a probe; a second within the period is not, and
 * another address has to wait until the first has missed its turn. So at most one connection per
 * port and period counts as a probe, and traffic can hide behind it only if it is as rare. */
static bool is_probe(struct watch *w, struct tally *t, uint16_t port, uint32_t peer) {
    int64_t period = t->options->probe_period;
    struct slot *slot = period > 0 ? slot_of(t, port) : NULL;
    if (slot == NULL) {
        return false;
    }
    if (slot->taken && (w->now - slot->last) * 10 < period * (slot->peer == peer ? 8 : 12)) {
        return false;
    }
    slot->peer = peer;
    slot->taken = true;
    slot->last = w->now;
    t->probes++;
    return true;
}

/* Compare two looks at one connection. True: another request has come in.
 *
 * A second request while one was in flight, or bytes sent after a pause without a request: it
 * streams, or carries several requests at once as HTTP/2 does. Then one answer says nothing about
 * the others, and it has to be calm for longer. (Two requests and an answer between two looks go
 * unnoticed: README.md, limits.) */
static bool compare(struct watch *w, struct seen *s, const struct row *row) {
    bool in = (uint32_t)row->received != s->received, out = (uint32_t)row->sent != s->sent;
    uint32_t now = (uint32_t)w->now;
    s->several |= in ? !out && s->owing : out && !s->owing && now - s->last_out > PAUSE_MS;
    if (out) {
        s->last_out = now;
    }
    /* Only with nothing in flight: otherwise it may be the rest of an upload. */
    return in && !s->owing && !s->probe;
}

/* The owner of the first listener is the front. Listeners that others can reach come before those
 * on loopback, then the lower port: 80 before 8000. */
static void prefer(struct tally *t, const struct row *row) {
    uint32_t key = (uint32_t)row->loopback << 16 | row->port;
    unsigned i = t->n_inodes;
    if (i < MAX_LISTENERS) {
        t->n_inodes++;
    } else if (t->preferred[--i] <= key) {
        return; /* too many to keep: leave out the last */
    }
    for (; i > 0 && t->preferred[i - 1] > key; i--) {
        t->preferred[i] = t->preferred[i - 1];
        t->listener_inodes[i] = t->listener_inodes[i - 1];
    }
    t->preferred[i] = key;
    t->listener_inodes[i] = row->inode;
}

static void look_at_listener(struct watch *w, const struct row *row) {
    ports_add(&w->listening, row->port);
    for (unsigned i = 0; i < w->n_tallies; i++) {
        struct tally *t = w->tallies[i];
        if (!ports_have(&t->ports, row->port)) {
            continue;
        }
        t->listeners++;
        t->queue += row->unread;
        prefer(t, row);
    }
}

static bool counts(const struct watch *w, const struct tally *t, const struct row *row) {
    if (!ports_have(&t->ports, row->port)) {
        return false;
    }
    return !row->loopback || (t->options->loopback && (w->own == 0 || row->peer_port != w->own));
}

static void add_pending(struct watch *w, const struct row *row) {
    if (row->id != NULL && w->n_pending < MAX_PENDING) {
        struct pending *p = &w->pending[w->n_pending];
        p->key = row->key;
        p->family = row->family;
        memcpy(&p->id, row->id, sizeof p->id);
    }
    w->n_pending++;
}

static int64_t calm_of(const struct tally *t, const struct seen *s) {
    return s != NULL && s->several && t->calm > 0 ? TIE_MS : t->calm;
}

/* One connection, for one tally. Returns what it means to that tally. */
static enum verdict count_row(struct watch *w, struct tally *t, const struct row *row,
                              struct seen *s, bool fresh, bool asked) {
    enum verdict v = judge(row, calm_of(t, s));
    t->by_verdict[v]++;
    t->open += v != OVER;
    t->waiting += v == WAITING;
    t->busy += is_busy(v) && v != WAITING;
    t->inside += is_busy(v) && row->loopback;
    if (!t->began || s == NULL) {
        return v;
    }
    if (fresh) {
        bool probe = is_probe(w, t, row->port, row->peer);
        s->probe |= probe;
        t->connections += !probe;
    } else if (asked) {
        t->requests++;
        t->inside_requests += row->loopback;
    }
    return v;
}

static void take_other_end(void *context, const struct row *row) {
    struct row *other = context;
    if (row->state != LISTEN) {
        other->inode = row->inode;
        other->user = row->user;
    }
}

/* Whether a hook of the Pod made this connection: see asks.h. Asked only about connections that are
 * in flight or new, and only until some are found that are not a hook's: those are waited for in
 * any case. */
static bool is_hooks(struct watch *w, const struct row *row, struct seen *s, bool fresh) {
    struct row other = {.inode = 0};
    if (s != NULL && s->hook) {
        return true;
    }
    if (!row->loopback || row->id == NULL || w->n_others >= MOST_OTHERS ||
        !(fresh || is_busy(judge(row, TIE_MS)))) {
        return false;
    }
    w->other = w->other >= 0 ? w->other : diag_open();
    bool hook = w->other >= 0 &&
                diag_other_end(w->other, row->id, row->family, take_other_end, &other) == 1 &&
                other.inode > 0 && asks_has(other.inode, other.user);
    w->n_others += !hook;
    if (s != NULL) {
        s->hook = hook;
    }
    return hook;
}

static void look_at(void *context, const struct row *row) {
    struct watch *w = context;
    if (row->state == LISTEN) {
        look_at_listener(w, row);
        return;
    }
    bool passive = ports_have(&w->listening, row->port), wanted = false, asked = false,
         fresh = false;
    for (unsigned i = 0; i < w->n_tallies; i++) {
        wanted |= counts(w, w->tallies[i], row);
    }
    if (!wanted && (w->ends >= 0 || !passive)) {
        return;
    }
    struct seen *s = remember(w, row->key, &fresh);
    w->visible += fresh && passive;
    if (!wanted || is_hooks(w, row, s, fresh)) {
        return;
    }
    if (s != NULL && row->known) {
        if (fresh) {
            s->last_out = (uint32_t)(w->now - row->sent_age);
        } else {
            asked = compare(w, s, row);
        }
        s->received = (uint32_t)row->received;
        s->sent = (uint32_t)row->sent;
    }
    enum verdict v = OVER;
    bool busy = false;
    for (unsigned i = 0; i < w->n_tallies; i++) {
        if (counts(w, w->tallies[i], row)) {
            v = count_row(w, w->tallies[i], row, s, fresh, asked);
            busy |= is_busy(v);
        }
    }
    if (s != NULL) {
        s->owing = v == OWED || v == UNREAD;
    }
    if (busy) {
        add_pending(w, row);
    }
}

/* A connection that has ended. One that came and went between two looks was in neither. The kernel
 * tells a moment later: what it tells at the second look may have ended before the first. */
static void take_end(void *context, const struct row *row) {
    struct watch *w = context;
    const struct seen *s = w->table != NULL ? find(w->table, w->room, row->key) : NULL;
    if (row->state == LISTEN || row->peer_port == 0 || (s != NULL && s->used)) {
        return;
    }
    for (unsigned i = 0; i < w->n_tallies; i++) {
        struct tally *t = w->tallies[i];
        if (t->began && w->turn - t->since > 1 && counts(w, t, row) &&
            !is_probe(w, t, row->port, row->peer)) {
            t->connections++;
        }
    }
}

static void hear_ends(struct watch *w) {
    if (w->ends >= 0 && diag_ends(w->ends, take_end, w) != 0) {
        for (unsigned i = 0; i < w->n_tallies; i++) {
            w->tallies[i]->connections++; /* more than it could tell: surely some of these */
        }
    }
}

/* The same by the kernel's count of connections, on any port: those counted but never seen came and
 * went. The count is read before the rows, so at worst a connection made just now is seen before it
 * is counted, and the next look evens that out. */
static void count_unseen(struct watch *w, int64_t opens) {
    if (opens >= 0 && w->opens >= 0) {
        w->balance += opens - w->opens - (int64_t)w->visible;
        for (; w->balance > 0; w->balance--) {
            for (unsigned i = 0; i < w->n_tallies; i++) {
                struct tally *t = w->tallies[i];
                t->connections += t->began && !is_probe(w, t, 0, 0);
            }
        }
        if (w->balance < -(int64_t)w->visible) {
            w->balance = -(int64_t)w->visible;
        }
    }
    w->opens = opens;
}

/* ------------------------------------------------------------------ looking */

static int dump(struct watch *w, enum diag_what what, const struct diag_filter *f, row_fn each) {
    return w->method == BY_DIAG    ? diag_dump(w->fd, what, f, each, w)
           : w->method == BY_TABLE ? nettable_dump(each, w)
                                   : 0;
}

static void find_ports(void *context, const struct row *row) {
    const struct watch *w = context;
    for (unsigned i = 0; i < w->n_tallies && row->state == LISTEN; i++) {
        struct tally *t = w->tallies[i];
        if (t->began) {
            continue;
        }
        if (ports_have(&t->options->ports, row->port)) {
            t->listeners++;
        }
        /* Whatever listens when the drain begins, except our own sidecar. */
        if (t->wide && row->port != t->options->report_port) {
            ports_add(&t->ports, row->port);
        }
    }
}

/* To begin, find out what listens. A Pod may declare any port: where nobody listens on the named
 * ones, watch every port that listens; watching too much costs only time. */
static int begin(struct watch *w) {
    bool again = false, any = false;
    for (unsigned i = 0; i < w->n_tallies; i++) {
        struct tally *t = w->tallies[i];
        any |= !t->began;
        t->listeners = t->began ? t->listeners : 0;
    }
    if (!any) {
        return 0;
    }
    for (int pass = 0; pass < 2; pass++) {
        if (dump(w, DIAG_LISTENERS, NULL, find_ports) != 0) {
            return -1;
        }
        for (unsigned i = 0; i < w->n_tallies; i++) {
            struct tally *t = w->tallies[i];
            if (!t->began && !t->wide && t->listeners == 0) {
                t->wide = again = true;
            }
        }
        if (!again) {
            break;
        }
    }
    narrow(w);
    return 0;
}

static void forget_last(struct watch *w) {
    w->visible = w->n_pending = w->n_others = 0;
    for (unsigned i = 0; i < w->n_tallies; i++) {
        struct tally *t = w->tallies[i];
        t->busy = t->waiting = t->queue = t->open = t->listeners = t->inside = t->n_inodes = 0;
        memset(t->by_verdict, 0, sizeof t->by_verdict);
    }
}

static void start_again(struct watch *w) {
    for (unsigned i = 0; i < w->n_tallies; i++) {
        w->tallies[i]->began = false;
    }
    forget_all(w);
    w->opens = -1;
    w->failures = 0;
    w->worked = false;
}

/* A descriptor on which a dump has failed may still be in the middle of it. */
static void open_again(struct watch *w) {
    close_one(&w->fd);
    w->fd = diag_open();
}

/* By the best means that works. A failed look is tried again: at once if there is no earlier look,
 * else at the next turn. Until then the last numbers stand. */
static void look(struct watch *w) {
    w->sure = false;
    while (!w->sure) {
        int64_t opens = w->ends < 0 ? passive_opens() : -1;
        hear_ends(w);
        if (begin(w) == 0) {
            forget_last(w);
            w->sure = dump(w, DIAG_CONNECTIONS, &w->filter, look_at) == 0;
        }
        if (w->sure) {
            count_unseen(w, opens);
            w->failures = 0;
            w->worked = true;
            return;
        }
        int why = errno;
        if (w->method == BY_DIAG) {
            open_again(w);
        }
        if (++w->failures < TRIES && (w->worked || why != ETIMEDOUT)) {
            if (w->worked) {
                return;
            }
            continue;
        }
        say(w->method == BY_DIAG ? "sock_diag" : "/proc/net/tcp",
            " does not tell about sockets: ", strerror(why), NULL);
        w->method++;
        close_one(&w->ends);
        start_again(w);
    }
}

static int64_t microseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* The interval follows the cost of looks. The cheapest of the last three counts: a look that was
 * interrupted only seems expensive, but under a CPU limit all of them are. */
static void plan_next(struct watch *w, int64_t took) {
    w->costs[w->turn % COUNT(w->costs)] = took;
    w->took = took / 1000;
    int64_t least = took;
    for (size_t i = 0; i < COUNT(w->costs); i++) {
        least = w->costs[i] < least ? w->costs[i] : least;
    }
    int64_t wait = least * SHARE / 1000;
    w->next = w->now + (wait < LOOK_MS ? LOOK_MS : wait > LONGEST_MS ? LONGEST_MS : wait);
}

void watch_look(struct watch *w, int64_t now) {
    int64_t began = microseconds();
    w->now = now;
    w->turn++;
    for (unsigned i = 0; i < w->n_tallies; i++) {
        struct tally *t = w->tallies[i];
        t->connections = t->requests = t->inside_requests = t->probes = 0;
    }
    look(w);
    for (unsigned i = 0; i < w->n_tallies && w->sure; i++) {
        struct tally *t = w->tallies[i];
        t->busy += t->queue > t->waiting ? t->queue : t->waiting;
        t->since = t->began ? t->since : w->turn;
        t->began = true;
    }
    plan_next(w, microseconds() - began);
}

struct asking {
    struct watch *w;
    const struct tally *t;
    bool busy;
};

static void take_one(void *context, const struct row *row) {
    struct asking *a = context;
    const struct seen *s = a->w->table != NULL ? find(a->w->table, a->w->room, row->key) : NULL;
    a->busy |= is_busy(judge(row, calm_of(a->t, s != NULL && s->used ? s : NULL)));
}

bool watch_still_busy(struct watch *w, const struct tally *t) {
    struct asking a = {.w = w, .t = t, .busy = false};
    if (w->method != BY_DIAG || !w->sure || w->n_pending > MAX_PENDING || t->queue > 0) {
        return true;
    }
    for (unsigned i = 0; i < w->n_pending && !a.busy; i++) {
        const struct pending *p = &w->pending[i];
        if (ports_have(&t->ports, ntohs(p->id.idiag_sport)) &&
            diag_one(w->fd, &p->id, p->family, take_one, &a) < 0) {
            return true;
        }
    }
    return a.busy;
}
