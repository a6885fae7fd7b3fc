/* One process, one blocking wait; a timer only while somebody is connected. It observes and
 * remembers. It never stops anything, so no request from anybody can harm a healthy Pod.
 *
 *   GET /drain?container=..   blocks until drained, then 200; anywhere: the kubelet is on the node
 *   GET /healthz              200
 *   GET /metrics              counters, Prometheus' text format
 *   GET /status               what is going on, and the last records; inside of the Pod only
 *   POST /report              one record, from the other helpers; inside of the Pod only
 *
 * A caller says which container, and nothing else: our own command line says what to wait for. Each
 * caller has its own verdict, which counts from its call; the looks at sockets are shared.
 *
 * The life of a connection:
 *
 *   1. It takes one of the places for reading. It has READ_MS to say what it wants, and whoever has
 *      taken longest makes room for a newcomer.
 *   2. Anything but /drain gets its answer at once, and the connection closes.
 *   3. /drain takes one of the places for waiting, until drained or until the caller hangs up.
 *
 * Some places of both kinds are kept for callers from inside of the Pod. Of the others, no address
 * can have more than a few, and the address that has most makes room: a stranger cannot keep the
 * kubelet out. */
#include "sidecar.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"
#include "install.h"
#include "phases.h"
#include "signals.h"

enum {
    MAX_READ = 20,
    KEPT_READ = 4,     /* of these, for callers from inside */
    KEPT_WAITING = 32, /* the same for those that wait */
    STRANGERS = 64,    /* for others, beside one for each container */
    MOST_OF_ONE =
        16, /* from one address, beside one per container: the kubelet calls for all at once */
    MAX_WAITING = KEPT_WAITING + STRANGERS + MAX_ANSWERS,
    OWN_LISTENERS = 2,
    MAX_RECORDS = 16,
    READ_MS = 3000,
    FRESH_MS = 10000, /* /status says "drained" for this long */
};

/* `held` is the descriptor plus 1, or 0 where the place is free: a place that was never taken is
 * never written to, and costs no memory. */
struct client {
    int held;
    bool local;
    struct in6_addr from;
    int64_t end;
    size_t size;
    char data[HTTP_MOST];
};

struct waiting {
    int held;
    bool local;
    struct in6_addr from;
    unsigned answer;
    struct phases phases;
    int64_t next;
};

/* What one --answer says, and what is counted for its callers. */
struct answer {
    struct options options;
    struct tally tally;
    unsigned callers;
};

static const struct options *own;
static struct client clients[MAX_READ];
static struct waiting waiting[MAX_WAITING];
static struct answer *answers; /* as many as the command line has */
static struct watch watch;
static unsigned n_waiting;
static int64_t last_drained = -FRESH_MS;
static int64_t next_look; /* not before, however often somebody calls and hangs up */
static char records[MAX_RECORDS][RECORD_SIZE];
static unsigned n_records;

static struct {
    int64_t drains_idle, drains_timeout, drains_other, lost, stops, forced_term, forced_kill, hooks,
        refused;
} counts;

static int64_t at_least_0(int64_t number) { return number > 0 ? number : 0; }

/* Keep a record, count it, and print it: the sidecar's log outlives the container that sent it.
 * `line` is without its newline. */
static void keep(const struct record *r, const char *line, size_t size) {
    char *slot = records[n_records % MAX_RECORDS];
    memcpy(slot, line, size);
    slot[size] = '\0';
    n_records++;
    switch (r->kind) {
    case RECORD_DRAIN:
        switch (r->number[R_DRAIN_END]) {
        case END_IDLE:
        case END_FINISHES:
        case END_NOT_OBSERVED:
            counts.drains_idle++;
            break;
        case END_TIMEOUT:
            counts.drains_timeout++;
            break;
        default:
            counts.drains_other++;
        }
        counts.lost += at_least_0(r->number[R_IN_FLIGHT_END]);
        break;
    case RECORD_STOP:
        counts.stops++;
        counts.forced_term += r->number[R_FORCED] == FORCED_TERM;
        counts.forced_kill += r->number[R_FORCED] == FORCED_KILL;
        counts.lost += at_least_0(r->number[R_LEFT]);
        break;
    default:
        counts.hooks++;
    }
    char out[RECORD_SIZE + 1];
    memcpy(out, line, size);
    out[size] = '\n';
    log_line(out, size + 1);
}

static void hang_up(int *held) {
    close(*held - 1);
    *held = 0;
}

/* An answer is at most 20 KB and the only one on its connection: the empty send buffer takes it
 * whole, or the client does not read. Closes the connection. */
static void answer(int *held, const char *status, const char *type, const char *body, size_t size,
                   bool head_only) {
    char data[256];
    struct text t = TEXT(data);
    text_add(&t, "HTTP/1.1 ");
    text_add(&t, status);
    text_add(&t, "\r\nContent-Type: ");
    text_add(&t, type);
    text_add(&t, "\r\nConnection: close\r\nContent-Length: ");
    text_num(&t, (int64_t)size);
    text_add(&t, "\r\n\r\n");
    ssize_t ignored =
        send(*held - 1, t.at, t.len, MSG_NOSIGNAL | MSG_DONTWAIT | (size > 0 ? MSG_MORE : 0));
    if (!head_only && size > 0) {
        ignored = send(*held - 1, body, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    (void)ignored;
    shutdown(*held - 1, SHUT_WR);
    hang_up(held);
}

static void answer_text(int *held, const char *status, const char *body) {
    answer(held, status, "text/plain", body, strlen(body), false);
}

/* ------------------------------------------------------------------ draining */

static void leave(struct waiting *w) {
    struct answer *a = &answers[w->answer];
    if (w->held > 0) {
        hang_up(&w->held);
    }
    if (--a->callers == 0) {
        watch_leave(&watch, &a->tally);
    }
    if (--n_waiting == 0) {
        watch_close(&watch);
    }
}

static void end_drain(struct waiting *w, int64_t now) {
    char data[RECORD_SIZE];
    struct text line = TEXT(data);
    struct record r = phases_record(&w->phases, BY_SIDECAR, "none", "left to the kubelet");
    record_write(&r, &line);
    keep(&r, data, line.len - 1);
    answer(&w->held, "200 OK", "application/json", data, line.len, false);
    leave(w);
    last_drained = now;
}

/* One look for all callers, if one of them needs it; then each takes from it what it needs. */
static void step_drains(int64_t now) {
    bool due = false;
    for (int i = 0; i < MAX_WAITING && !due; i++) {
        due = waiting[i].held > 0 && now >= waiting[i].next &&
              phases_look_due(&waiting[i].phases, now);
    }
    if (due) {
        watch_look(&watch, now);
        next_look = watch.next;
    }
    for (int i = 0; i < MAX_WAITING; i++) {
        struct waiting *w = &waiting[i];
        if (w->held == 0 || (!due && now < w->next)) {
            continue;
        }
        int64_t wait = phases_take(&w->phases, now);
        if (wait < 0) {
            end_drain(w, now_ms());
        } else {
            w->next = now + wait;
        }
    }
}

static bool is_same(const struct in6_addr *a, const struct in6_addr *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

static unsigned held_by(const struct in6_addr *from) {
    unsigned n = 0;
    for (int i = 0; i < MAX_WAITING; i++) {
        n += waiting[i].held > 0 && is_same(&waiting[i].from, from);
    }
    return n;
}

/* The longest waiting one of an address. */
static struct waiting *oldest_of(const struct in6_addr *from) {
    struct waiting *oldest = NULL;
    for (int i = 0; i < MAX_WAITING; i++) {
        struct waiting *w = &waiting[i];
        if (w->held > 0 && is_same(&w->from, from) &&
            (oldest == NULL || w->phases.began < oldest->phases.began)) {
            oldest = w;
        }
    }
    return oldest;
}

/* Who makes room for one more: of the address that has most places, the caller that has waited
 * longest. */
static struct waiting *most_greedy(bool local) {
    struct waiting *found = NULL;
    unsigned most = 0;
    for (int i = 0; i < MAX_WAITING; i++) {
        struct waiting *w = &waiting[i];
        if (w->held == 0 || w->local != local) {
            continue;
        }
        unsigned n = held_by(&w->from);
        if (n > most || (n == most && w->phases.began < found->phases.began)) {
            most = n;
            found = w;
        }
    }
    return found;
}

/* A place to wait in; another caller of the same kind may have to leave its own. */
static struct waiting *make_place(const struct client *c) {
    unsigned held = 0, most = c->local ? KEPT_WAITING : STRANGERS + own->n_answers;
    for (int i = 0; i < MAX_WAITING; i++) {
        held += waiting[i].held > 0 && waiting[i].local == c->local;
    }
    struct waiting *out = NULL;
    if (!c->local && held_by(&c->from) >= MOST_OF_ONE + own->n_answers) {
        out = oldest_of(&c->from);
    } else if (held == most) {
        out = most_greedy(c->local);
    }
    if (out != NULL) {
        counts.refused++;
        leave(out);
    }
    for (int i = 0; i < MAX_WAITING; i++) {
        if (waiting[i].held == 0) {
            return &waiting[i];
        }
    }
    return NULL; /* cannot happen: each kind has its own places */
}

static void serve_drain(struct client *c, const struct request *r, int64_t now) {
    static const char name[] = "container=";
    if (strncmp(r->query, name, sizeof name - 1) != 0 || strchr(r->query, '&') != NULL) {
        answer_text(
            &c->held, "400 Bad Request",
            "ask for /drain?container=NAME: what is waited for is not the caller's to say\n");
        return;
    }
    unsigned which = 0;
    while (which < own->n_answers &&
           strcmp(answers[which].options.container, r->query + sizeof name - 1) != 0) {
        which++;
    }
    if (which == own->n_answers) {
        answer_text(&c->held, "404 Not Found",
                    "this sidecar has no --answer for such a container\n");
        return;
    }
    struct waiting *w = make_place(c);
    if (w == NULL) {
        counts.refused++;
        answer_text(&c->held, "503 Service Unavailable", "too many wait already\n");
        return;
    }
    struct answer *a = &answers[which];
    if (n_waiting++ == 0) {
        watch_open(&watch);
    }
    if (a->callers++ == 0) {
        watch_join(&watch, &a->tally, &a->options, a->options.calm);
    }
    w->held = c->held;
    w->local = c->local;
    w->from = c->from;
    w->answer = which;
    w->next = now > next_look ? now : next_look;
    phases_begin(&w->phases, &watch, &a->tally, true, now);
    c->held = 0;
}

/* ------------------------------------------------------------------ telling */

static void serve_status(int *held, bool head, int64_t now) {
    static char data[MAX_RECORDS * RECORD_SIZE + 4096];
    struct text t = TEXT(data);
    text_add(&t, "{\"version\":");
    text_json(&t, VERSION);
    text_add(&t, ",\"state\":");
    text_json(&t, n_waiting > 0                   ? "draining"
                  : now - last_drained < FRESH_MS ? "drained"
                                                  : "serving");
    text_add(&t, ",\"draining\":[");
    for (unsigned i = 0, n = 0; i < own->n_answers; i++) {
        if (answers[i].callers > 0) {
            text_add(&t, n++ > 0 ? "," : "");
            text_json(&t, answers[i].options.container);
        }
    }
    text_add(&t, "],\"records\":[");
    for (unsigned i = n_records > MAX_RECORDS ? n_records - MAX_RECORDS : 0, first = i;
         i < n_records; i++) {
        text_add(&t, i > first ? "," : "");
        text_add(&t, records[i % MAX_RECORDS]);
    }
    text_add(&t, "]}\n");
    answer(held, "200 OK", "application/json", data, t.len, head);
}

static void metric(struct text *t, const char *name, const char *type, const char *help) {
    text_add(t, "# HELP podgrace_helper_");
    text_add(t, name);
    text_add(t, " ");
    text_add(t, help);
    text_add(t, "\n# TYPE podgrace_helper_");
    text_add(t, name);
    text_add(t, " ");
    text_add(t, type);
    text_add(t, "\n");
}

static void value(struct text *t, const char *name, int64_t number) {
    text_add(t, "podgrace_helper_");
    text_add(t, name);
    text_add(t, " ");
    text_num(t, number);
    text_add(t, "\n");
}

static void serve_metrics(int *held, bool head) {
    char data[3072];
    struct text t = TEXT(data);
    unsigned draining = 0;
    for (unsigned i = 0; i < own->n_answers; i++) {
        draining += answers[i].callers > 0;
    }
    metric(&t, "info", "gauge", "Version of the helper.");
    value(&t, "info{version=\"" VERSION "\"}", 1);
    metric(&t, "draining", "gauge", "Containers that are being drained through this sidecar.");
    value(&t, "draining", draining);
    metric(&t, "drains_total", "counter", "Drains by how the wait for requests in flight ended.");
    value(&t, "drains_total{end=\"idle\"}", counts.drains_idle);
    value(&t, "drains_total{end=\"timeout\"}", counts.drains_timeout);
    value(&t, "drains_total{end=\"other\"}", counts.drains_other);
    metric(&t, "in_flight_at_end_total", "counter",
           "Requests that were still in flight when the wait for them was over.");
    value(&t, "in_flight_at_end_total", counts.lost);
    metric(&t, "stops_total", "counter", "Stops by what was needed after the stop signal.");
    value(&t, "stops_total{forced=\"no\"}", counts.stops - counts.forced_term - counts.forced_kill);
    value(&t, "stops_total{forced=\"term\"}", counts.forced_term);
    value(&t, "stops_total{forced=\"kill\"}", counts.forced_kill);
    metric(&t, "hooks_total", "counter", "Runs of users' own preStop hooks.");
    value(&t, "hooks_total", counts.hooks);
    metric(&t, "refused_total", "counter",
           "Requests that were refused because too many were open.");
    value(&t, "refused_total", counts.refused);
    answer(held, "200 OK", "text/plain; version=0.0.4", data, t.len, head);
}

static void serve(struct client *c, const struct request *r, int64_t now) {
    bool is_report = strcmp(r->path, "/report") == 0;
    if ((is_report || strcmp(r->path, "/status") == 0) && !c->local) {
        answer_text(&c->held, "403 Forbidden", "from inside of the Pod only\n");
    } else if (is_report != r->post) {
        answer_text(&c->held, "405 Method Not Allowed", is_report ? "POST it\n" : "GET it\n");
    } else if (is_report) {
        struct record record;
        size_t size = r->body_size;
        while (size > 0 && (r->body[size - 1] == '\n' || r->body[size - 1] == '\r')) {
            size--;
        }
        bool good = record_read(r->body, size, &record);
        if (good) {
            keep(&record, r->body, size);
        }
        answer_text(&c->held, good ? "200 OK" : "400 Bad Request",
                    good ? "kept\n" : "not a record\n");
    } else if (strcmp(r->path, "/drain") == 0) {
        serve_drain(c, r, now);
    } else if (strcmp(r->path, "/healthz") == 0) {
        answer(&c->held, "200 OK", "text/plain", "ok\n", 3, r->head);
    } else if (strcmp(r->path, "/metrics") == 0) {
        serve_metrics(&c->held, r->head);
    } else if (strcmp(r->path, "/status") == 0) {
        serve_status(&c->held, r->head, now);
    } else {
        answer_text(&c->held, "404 Not Found",
                    "there are /drain, /healthz, /metrics, /status and /report\n");
    }
}

/* ------------------------------------------------------------------ connections */

static void read_client(struct client *c, int64_t now) {
    ssize_t got = recv(c->held - 1, c->data + c->size, sizeof c->data - c->size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        hang_up(&c->held);
        return;
    }
    c->size += (size_t)got;
    static struct request request;
    switch (http_parse(c->data, c->size, &request)) {
    case HTTP_MORE:
        if (c->size == sizeof c->data) {
            answer_text(&c->held, "413 Content Too Large", "at most 2048 bytes\n");
        }
        break;
    case HTTP_READY:
        serve(c, &request, now);
        break;
    case HTTP_LARGE:
        answer_text(&c->held, "413 Content Too Large", "at most 2048 bytes\n");
        break;
    case HTTP_BAD:
        answer_text(&c->held, "400 Bad Request", "not understood\n");
        break;
    }
}

/* One form for both families: IPv4 as a dual-stack socket shows it. */
static struct in6_addr address_of(const struct sockaddr_in6 *a) {
    struct in6_addr out = a->sin6_addr;
    if (a->sin6_family == AF_INET) {
        memset(&out, 0, sizeof out);
        out.s6_addr[10] = out.s6_addr[11] = 0xff;
        memcpy(&out.s6_addr[12], &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
    }
    return out;
}

static bool is_local(const struct in6_addr *a) {
    static const unsigned char mapped[13] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127};
    return memcmp(a, mapped, sizeof mapped) == 0 || is_same(a, &in6addr_loopback);
}

/* Of the places from `first` on, a free one; else, of the address that has most, that of the client
 * that has been silent longest. Nobody can lock others out by connecting and saying nothing. Kept
 * places come first, so callers from inside find one. */
static struct client *reading_place(int first) {
    struct client *place = NULL;
    unsigned most = 0;
    for (int i = first; i < MAX_READ; i++) {
        struct client *c = &clients[i];
        unsigned n = 0;
        if (c->held == 0) {
            return c;
        }
        for (int j = first; j < MAX_READ; j++) {
            n += is_same(&clients[j].from, &c->from);
        }
        if (n > most || (n == most && c->end < place->end)) {
            most = n;
            place = c;
        }
    }
    return place;
}

static void take_client(int listener, int64_t now) {
    struct sockaddr_in6 name = {0};
    socklen_t size = sizeof name;
    int fd = accept4(listener, (struct sockaddr *)&name, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    struct in6_addr from = address_of(&name);
    bool local = is_local(&from);
    struct client *place = reading_place(local ? 0 : KEPT_READ);
    if (place->held > 0) {
        counts.refused++;
        hang_up(&place->held);
    }
    place->held = fd + 1;
    place->from = from;
    place->local = local;
    place->end = now + READ_MS;
    place->size = 0;
}

static int listen_at(const struct sockaddr *at, socklen_t size, bool both) {
    int on = 1, only = !both, room = 2 * HTTP_MOST;
    int fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* For each connection: what a caller sends on top of its request is never read. */
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (at->sa_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    }
    if (bind(fd, at, size) == 0 && listen(fd, 64) == 0) {
        return fd;
    }
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* On loopback, one socket for each address family; on every address, one for both where there is
 * IPv6. False with errno if there is none. */
static bool start_listening(int listeners[OWN_LISTENERS], const struct options *o) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(o->port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(o->port)};
    if (!o->listen_pod) {
        six.sin6_addr = in6addr_loopback;
        four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    listeners[1] = listen_at((struct sockaddr *)&six, sizeof six, o->listen_pod);
    if (listeners[1] < 0 || !o->listen_pod) {
        listeners[0] = listen_at((struct sockaddr *)&four, sizeof four, false);
        return listeners[0] >= 0; /* the helpers report over IPv4 */
    }
    return true;
}

/* How long nothing is due: for ever if nobody is connected. */
static int64_t time_left(int64_t now) {
    int64_t next = INT64_MAX;
    for (int i = 0; i < MAX_READ; i++) {
        next = clients[i].held > 0 && clients[i].end < next ? clients[i].end : next;
    }
    for (int i = 0; i < MAX_WAITING; i++) {
        next = waiting[i].held > 0 && waiting[i].next < next ? waiting[i].next : next;
    }
    return next == INT64_MAX ? -1 : next > now ? next - now : 0;
}

static bool asked_to_end(int signals) {
    struct signalfd_siginfo s;
    while (read(signals, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGTERM || s.ssi_signo == SIGINT || s.ssi_signo == SIGQUIT) {
            return true;
        }
    }
    return false;
}

static bool read_answers(const struct options *o) {
    char why[256];
    size_t size = o->n_answers * sizeof *answers;
    if (size == 0) {
        return true;
    }
    answers = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (answers == MAP_FAILED) {
        say("mmap: ", strerror(errno), NULL);
        return false;
    }
    for (unsigned i = 0; i < o->n_answers; i++) {
        struct options *answer = &answers[i].options;
        if (!options_query(answer, o->answers[i], why, sizeof why)) {
            say(why, NULL); /* cannot happen: the command line was checked */
            return false;
        }
        answer->report_port = o->port; /* not one of the application's */
    }
    return true;
}

int sidecar_main(const struct options *o) {
    int listeners[OWN_LISTENERS] = {-1, -1};
    own = o;
    if (signals_block() != 0) {
        say("sigprocmask: ", strerror(errno), NULL);
        return EXIT_OWN;
    }
    int signals = signals_open();
    if (signals < 0) {
        say("signalfd: ", strerror(errno), NULL);
        return EXIT_OWN;
    }
    /* Containers start with what is installed here: better if this one fails, visibly, than each of
     * them. */
    if ((o->dir != NULL && install_main(o->dir) != 0) || !read_answers(o)) {
        return EXIT_OWN;
    }
    if (o->port != 0 && !start_listening(listeners, o)) {
        char port[32];
        say("cannot listen on port ", num(port, o->port), ": ", strerror(errno), NULL);
        return EXIT_OWN;
    }
    for (;;) {
        enum { FIRST_READ = 1 + OWN_LISTENERS, FIRST_WAITING = FIRST_READ + MAX_READ };
        struct pollfd fds[FIRST_WAITING + MAX_WAITING];
        fds[0] = (struct pollfd){.fd = signals, .events = POLLIN, .revents = 0};
        for (int i = 0; i < OWN_LISTENERS; i++) {
            fds[1 + i] = (struct pollfd){.fd = listeners[i], .events = POLLIN, .revents = 0};
        }
        for (int i = 0; i < MAX_READ; i++) {
            fds[FIRST_READ + i] =
                (struct pollfd){.fd = clients[i].held - 1, .events = POLLIN, .revents = 0};
        }
        for (int i = 0; i < MAX_WAITING; i++) {
            /* Hung up: the kubelet no longer waits. It has nothing more to say either. */
            fds[FIRST_WAITING + i] =
                (struct pollfd){.fd = waiting[i].held - 1, .events = POLLRDHUP, .revents = 0};
        }
        if (poll(fds, COUNT(fds), (int)time_left(now_ms())) < 0 && errno != EINTR) {
            say("poll: ", strerror(errno), NULL);
            return EXIT_OWN;
        }
        /* The kubelet ends sidecars last, when the applications are gone: nothing is left to wait
         * for. */
        if (fds[0].revents != 0 && asked_to_end(signals)) {
            return 0;
        }
        int64_t now = now_ms();
        for (int i = 0; i < MAX_WAITING; i++) {
            if (waiting[i].held > 0 && fds[FIRST_WAITING + i].revents != 0) {
                leave(&waiting[i]);
            }
        }
        for (int i = 0; i < MAX_READ; i++) {
            struct client *c = &clients[i];
            if (c->held > 0 && fds[FIRST_READ + i].revents != 0) {
                read_client(c, now);
            } else if (c->held > 0 && now >= c->end) {
                hang_up(&c->held);
            }
        }
        for (int i = 0; i < OWN_LISTENERS; i++) {
            if (listeners[i] >= 0 && fds[1 + i].revents != 0) {
                take_client(listeners[i], now);
            }
        }
        step_drains(now);
    }
}
