#include "watch.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "diag.h"
#include "nettable.h"

struct seen {
    uint64_t key;
    uint64_t received, sent;
    int64_t last_out; /* when it was last seen to send */
    uint32_t turn;    /* of the last look that saw it */
    bool used, owing, probe, several;
};

enum { FIRST_ROOM = 1024, MOST_ROOM = 1 << 20, TRIES = 5, PAUSE_MS = 300 };

const char *method_name(enum method method) {
    static const char *const names[] = {"sock_diag", "proc", "time"};
    return names[method];
}

/* Look-up by key: the entry, or the free one where it belongs. */
static struct seen *find(struct seen *table, size_t room, uint64_t key) {
    for (size_t i = (size_t)(key * 0x9e3779b97f4a7c15u >> 20);; i++) {
        struct seen *s = &table[i & (room - 1)];
        if (!s->used || s->key == key) {
            return s;
        }
    }
}

/* Keep the table at most half full. Connections that were gone at the last look are left behind. */
static bool make_room(struct watch *w) {
    if (w->held * 2 < w->room) {
        return true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < w->room; i++) {
        kept += w->table[i].used && w->turn - w->table[i].turn <= 1;
    }
    size_t room = w->room > 0 ? w->room : FIRST_ROOM;
    while (kept * 4 >= room && room < MOST_ROOM) {
        room *= 2;
    }
    struct seen *table = kept * 2 >= room ? MAP_FAILED : mmap(NULL, room * sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) {
        return false;
    }
    for (size_t i = 0; i < w->room; i++) {
        struct seen *s = &w->table[i];
        if (s->used && w->turn - s->turn <= 1) {
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

/* Remember a connection. NULL if there is no memory; *fresh: it was not there at the last look. */
static struct seen *remember(struct watch *w, uint64_t key, bool *fresh) {
    *fresh = false;
    if (!make_room(w)) {
        w->blind = true;
        return NULL;
    }
    struct seen *s = find(w->table, w->room, key);
    *fresh = !s->used || w->turn - s->turn > 1;
    if (*fresh) {
        w->held += !s->used;
        *s = (struct seen){.key = key, .used = true};
    }
    s->turn = w->turn;
    return s;
}

void watch_open(struct watch *w, const struct options *options, int64_t calm) {
    memset(w, 0, sizeof *w);
    w->options = options;
    w->calm = calm;
    w->n_ports = options->n_ports;
    w->wide = options->n_ports == 0;
    memcpy(w->ports, options->ports, sizeof w->ports);
    w->opens = -1;
    w->fd = diag_open();
    w->method = w->fd >= 0 ? BY_DIAG : BY_TABLE;
}

void watch_close(struct watch *w) {
    if (w->fd >= 0) {
        close(w->fd);
        w->fd = -1;
    }
    if (w->table != NULL) {
        munmap(w->table, w->room * sizeof *w->table);
        w->table = NULL;
        w->room = w->held = 0;
    }
}

static int port_index(const struct watch *w, uint16_t port) {
    for (unsigned i = 0; i < w->n_ports; i++) {
        if (w->ports[i] == port) {
            return (int)i;
        }
    }
    return -1;
}

/* The kubelet goes on probing readiness while a Pod terminates: one short connection a period, from one address. The first
 * connection of an address may be one; a second within the period is none, and another address has to wait until the first
 * has missed its turn. So at most one connection a port and period is taken for a probe, and traffic can hide behind it
 * only where it is as rare as the probe. */
static bool is_probe(struct watch *w, unsigned slot_index, uint32_t peer) {
    struct slot *slot = &w->slots[slot_index];
    int64_t period = w->options->probe_period, since = w->now - slot->last;
    if (period == 0) {
        return false;
    }
    if (slot->taken && since * 10 < period * (slot->peer == peer ? 8 : 12)) {
        return false;
    }
    *slot = (struct slot){.peer = peer, .taken = true, .last = w->now};
    w->probes++;
    return true;
}

static void came_in(struct watch *w) {
    w->anything_new = true;
    w->connections++;
}

/* What two looks at one connection tell. Asked again while an answer was owed, or sending after a pause though nobody asked:
 * it streams, or carries several requests at once as HTTP/2 does. Then one answer says nothing about the others, and it has
 * to be calm for longer. (Two requests and an answer between two looks are not noticed: README.md, limits.) */
static void compare(struct watch *w, struct seen *s, const struct row *row) {
    bool in = row->received > s->received, out = row->sent > s->sent;
    if (in && !s->owing && !s->probe) {
        /* More bytes on one that owed nothing: the next request. On one that owes, it may be the rest of an upload. */
        w->requests++;
        w->anything_new = true;
    }
    s->several |= in ? !out && s->owing : out && !s->owing && w->now - s->last_out > PAUSE_MS;
    if (out) {
        s->last_out = w->now;
    }
}

static void look_at_listener(struct watch *w, const struct row *row) {
    w->listening[row->port / 64] |= (uint64_t)1 << (row->port % 64);
    /* Whatever listened when the drain began, but for our own sidecar. */
    if (w->wide && !w->began && port_index(w, row->port) < 0 && w->n_ports < MAX_PORTS && row->port != w->options->report_port) {
        w->ports[w->n_ports++] = row->port;
    }
    if (port_index(w, row->port) < 0) {
        return;
    }
    w->listeners++;
    w->queue += row->unread;
    if (w->n_inodes < MAX_LISTENERS) {
        w->listener_inodes[w->n_inodes++] = row->inode;
    }
}

static void look_at(void *context, const struct row *row) {
    struct watch *w = context;
    if (row->state == LISTEN) {
        look_at_listener(w, row);
        return;
    }
    int port = port_index(w, row->port);
    bool passive = (w->listening[row->port / 64] >> (row->port % 64) & 1) != 0;
    if (port < 0 && !passive) {
        return;
    }
    bool fresh = false;
    struct seen *s = remember(w, row->key, &fresh);
    fresh = fresh && w->began;
    /* A connection counts in the kernel's tally once its handshake is over. */
    w->visible += fresh && passive;
    if (port < 0 || (row->loopback && !w->options->loopback)) {
        return;
    }
    if (s != NULL && row->known) {
        if (!fresh && w->began) {
            compare(w, s, row);
        } else {
            s->last_out = w->now - row->sent_age;
        }
        s->received = row->received;
        s->sent = row->sent;
    }
    enum verdict v = judge(row, s != NULL && s->several && w->calm > 0 ? TIE_MS : w->calm);
    w->by_verdict[v]++;
    w->open += v != OVER;
    w->waiting += v == WAITING;
    w->busy += is_busy(v) && v != WAITING;
    if (s == NULL) {
        return;
    }
    if (fresh) {
        s->probe = is_probe(w, (unsigned)port, row->peer);
        if (!s->probe) {
            came_in(w);
        }
    }
    s->owing = v == OWED || v == UNREAD;
}

/* Connections that came and went between two looks leave no row when the client closed first. The kernel has counted them:
 * what it counted and nobody saw was one of those. The count is read before the rows, so a connection that is being made
 * just now is at worst seen before it is counted; the balance then evens out at the next look. */
static void count_unseen(struct watch *w, int64_t opens) {
    if (opens >= 0 && w->opens >= 0 && w->began) {
        w->balance += opens - w->opens - (int64_t)w->visible;
        for (; w->balance > 0; w->balance--) {
            if (!is_probe(w, MAX_PORTS, 0)) {
                came_in(w);
            }
        }
        if (w->balance < -(int64_t)w->visible) {
            w->balance = -(int64_t)w->visible;
        }
    }
    w->opens = opens;
}

static void forget_last(struct watch *w) {
    w->busy = w->waiting = w->queue = w->open = w->listeners = w->n_inodes = w->visible = 0;
    w->anything_new = false;
    memset(w->by_verdict, 0, sizeof w->by_verdict);
}

/* One look, by the best means that works. One that has worked is tried again a few times before it is given up; one that
 * has not is given up at once. */
void watch_look(struct watch *w, int64_t now) {
    int64_t opens = passive_opens();
    w->now = now;
    w->turn++;
    for (;;) {
        forget_last(w);
        int failed = w->method == BY_DIAG ? diag_dump(w->fd, look_at, w) : w->method == BY_TABLE ? nettable_dump(look_at, w) : 0;
        if (failed == 0 && w->listeners == 0 && !w->began && !w->wide && w->method != BY_TIME) {
            /* A Pod may declare any port; what it listens on is what counts, and to look at too much costs only time. */
            w->wide = true;
            continue;
        }
        if (failed == 0) {
            w->failures = 0;
            break;
        }
        if (w->began && ++w->failures < TRIES) {
            w->busy = 1; /* not seen is not idle */
            return;
        }
        say(method_name(w->method), " does not tell about sockets: ", strerror(errno), NULL);
        w->method++;
        w->failures = 0;
        w->began = false;
        w->held = 0;
        if (w->table != NULL) {
            memset(w->table, 0, w->room * sizeof *w->table);
        }
        if (w->method == BY_TIME) {
            break;
        }
    }
    count_unseen(w, opens);
    w->busy += w->queue > w->waiting ? w->queue : w->waiting;
    w->began = true;
}
