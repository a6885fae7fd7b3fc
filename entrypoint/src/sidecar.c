/* One process, one blocking wait; a timer only while somebody is connected. It observes and remembers; it never stops
 * anything, so whatever it is asked, and by whom, a healthy pod stays as it is.
 *
 *   GET /drain?container=..   blocks until drained, then 200. From anywhere: the kubelet calls from the node
 *   GET /healthz              200
 *   GET /metrics              counters, Prometheus' text format
 *   GET /status               what is going on, and the last records; from inside of the Pod only
 *   POST /report              one record, from the other helpers; from inside of the Pod only
 */
#include "sidecar.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"
#include "install.h"
#include "phases.h"
#include "signals.h"

enum {
    MAX_CLIENTS = 24,
    MAX_DRAINS = 8,
    MAX_RECORDS = 16,
    RECORD_SIZE = 1024,
    READ_MS = 3000,   /* a client has this long to say what it wants */
    FRESH_MS = 10000, /* a repeated call for a container that was drained just now is answered at once */
};

struct client {
    int fd; /* -1: free */
    bool local;
    int drain; /* -1: still being read */
    int64_t end;
    size_t size;
    char data[HTTP_MOST];
};

struct drain {
    bool active;
    struct options options;
    struct phases phases;
    int64_t next, ended;
};

static const struct options *own;
static struct client clients[MAX_CLIENTS];
static struct drain drains[MAX_DRAINS];
static char records[MAX_RECORDS][RECORD_SIZE];
static unsigned n_records;

static struct {
    int64_t drains_idle, drains_timeout, drains_other, lost, stops, forced_term, forced_kill, hooks, reports, refused;
} counts;

static bool has(const char *line, const char *what) { return strstr(line, what) != NULL; }

static int64_t number_in(const char *line, const char *name) {
    const char *at = strstr(line, name);
    if (at == NULL) {
        return 0;
    }
    at += strlen(name);
    int64_t value = parse_num(at, strspn(at, "0123456789"), INT32_MAX);
    return value > 0 ? value : 0;
}

/* Keep a line, count it, and print it: the sidecar's log outlives the container that sent it. `line` without its newline. */
static void keep(const char *line, size_t size) {
    char *slot = records[n_records % MAX_RECORDS];
    memcpy(slot, line, size);
    slot[size] = '\0';
    n_records++;
    if (has(slot, "{\"podgrace\":\"drain\"")) {
        counts.drains_idle += has(slot, "\"drain_end\":\"idle\"") || has(slot, "\"drain_end\":\"not-observed\"");
        counts.drains_timeout += has(slot, "\"drain_end\":\"timeout\"");
        counts.drains_other += !has(slot, "\"drain_end\":\"idle\"") && !has(slot, "\"drain_end\":\"not-observed\"") && !has(slot, "\"drain_end\":\"timeout\"");
        counts.lost += number_in(slot, "\"in_flight_end\":");
    } else if (has(slot, "{\"podgrace\":\"stop\"")) {
        counts.stops++;
        counts.forced_term += has(slot, "\"forced\":\"term\"");
        counts.forced_kill += has(slot, "\"forced\":\"kill\"");
    } else {
        counts.hooks++;
    }
    char out[RECORD_SIZE + 1];
    memcpy(out, line, size);
    out[size] = '\n';
    log_line(out, size + 1);
}

/* A record is one line of printable JSON that begins as ours do; anything else is not kept, as it would be printed. */
static bool is_record(const char *line, size_t size) {
    static const char start[] = "{\"podgrace\":\"";
    if (size < sizeof start || size >= RECORD_SIZE || memcmp(line, start, sizeof start - 1) != 0 || line[size - 1] != '}') {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (line[i] < ' ' || line[i] > '~') {
            return false;
        }
    }
    return true;
}

static void hang_up(struct client *c) {
    close(c->fd);
    c->fd = -1;
}

/* An answer is at most 20 KB and the only one on its connection: the empty send buffer takes it whole, or the client is
 * none that reads. */
static void answer(struct client *c, const char *status, const char *type, const char *body, size_t size, bool head_only) {
    char data[256];
    struct text t = TEXT(data);
    text_add(&t, "HTTP/1.1 ");
    text_add(&t, status);
    text_add(&t, "\r\nContent-Type: ");
    text_add(&t, type);
    text_add(&t, "\r\nConnection: close\r\nContent-Length: ");
    text_num(&t, (int64_t)size);
    text_add(&t, "\r\n\r\n");
    ssize_t ignored = send(c->fd, t.at, t.len, MSG_NOSIGNAL | MSG_DONTWAIT | (size > 0 ? MSG_MORE : 0));
    if (!head_only && size > 0) {
        ignored = send(c->fd, body, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    (void)ignored;
    shutdown(c->fd, SHUT_WR);
    hang_up(c);
}

static void answer_text(struct client *c, const char *status, const char *body) { answer(c, status, "text/plain", body, strlen(body), false); }

/* ------------------------------------------------------------------ draining */

static bool is_waited_for(int i) {
    for (int c = 0; c < MAX_CLIENTS; c++) {
        if (clients[c].fd >= 0 && clients[c].drain == i) {
            return true;
        }
    }
    return false;
}

static void end_drain(int i, const char *by, int64_t now) {
    struct drain *d = &drains[i];
    char data[RECORD_SIZE];
    struct text line = TEXT(data);
    phases_record(&d->phases, &line, by, "none", "left to the kubelet");
    phases_close(&d->phases);
    d->active = false;
    d->ended = now;
    keep(data, line.len - 1);
    for (int c = 0; c < MAX_CLIENTS; c++) {
        if (clients[c].fd >= 0 && clients[c].drain == i) {
            answer(&clients[c], "200 OK", "application/json", data, line.len, false);
        }
    }
}

/* Step those that are due. One that nobody waits for any more is forgotten: the pod was not stopped, or the kubelet gave up. */
static void step_drains(int64_t now) {
    for (int i = 0; i < MAX_DRAINS; i++) {
        struct drain *d = &drains[i];
        if (!d->active) {
            continue;
        }
        if (!is_waited_for(i)) {
            phases_close(&d->phases);
            d->active = false;
            d->ended = 0;
            d->options.container[0] = '\0';
            continue;
        }
        if (now >= d->next) {
            int64_t wait = phases_step(&d->phases, now);
            if (wait < 0) {
                end_drain(i, "sidecar", now_ms());
            } else {
                d->next = now + wait;
            }
        }
    }
}

static void serve_drain(struct client *c, const struct request *r, int64_t now) {
    static struct options asked;
    char why[256];
    if (!options_query(&asked, r->query, why, sizeof why)) {
        answer_text(c, "400 Bad Request", why);
        return;
    }
    int free_slot = -1;
    for (int i = 0; i < MAX_DRAINS; i++) {
        struct drain *d = &drains[i];
        if (strcmp(d->options.container, asked.container) == 0) {
            if (d->active) {
                c->drain = i; /* the second call of a hook waits for the first one's end */
                return;
            }
            if (d->ended > 0 && now - d->ended < FRESH_MS) {
                answer_text(c, "200 OK", "drained already\n");
                return;
            }
        }
        if (!d->active && (free_slot < 0 || d->ended < drains[free_slot].ended)) {
            free_slot = i;
        }
    }
    if (free_slot < 0) {
        counts.refused++;
        answer_text(c, "503 Service Unavailable", "eight containers are being drained already\n");
        return;
    }
    struct drain *d = &drains[free_slot];
    d->options = asked;
    d->options.report_port = own->port; /* not one of the application's */
    d->active = true;
    d->next = now;
    d->ended = 0;
    phases_begin(&d->phases, &d->options, true, now);
    c->drain = free_slot;
}

/* ------------------------------------------------------------------ telling */

static void serve_status(struct client *c, bool head, int64_t now) {
    static char data[MAX_RECORDS * RECORD_SIZE + 1024];
    struct text t = TEXT(data);
    unsigned active = 0;
    bool drained = false;
    for (int i = 0; i < MAX_DRAINS; i++) {
        active += drains[i].active;
        drained |= !drains[i].active && drains[i].ended > 0 && now - drains[i].ended < FRESH_MS;
    }
    text_add(&t, "{\"version\":");
    text_json(&t, VERSION);
    text_add(&t, ",\"state\":");
    text_json(&t, active > 0 ? "draining" : drained ? "drained" : "serving");
    text_add(&t, ",\"draining\":[");
    for (int i = 0, n = 0; i < MAX_DRAINS; i++) {
        if (drains[i].active) {
            text_add(&t, n++ > 0 ? "," : "");
            text_json(&t, drains[i].options.container);
        }
    }
    text_add(&t, "],\"records\":[");
    for (unsigned i = n_records > MAX_RECORDS ? n_records - MAX_RECORDS : 0, first = i; i < n_records; i++) {
        text_add(&t, i > first ? "," : "");
        text_add(&t, records[i % MAX_RECORDS]);
    }
    text_add(&t, "]}\n");
    answer(c, "200 OK", "application/json", data, t.len, head);
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

static void serve_metrics(struct client *c, bool head) {
    char data[3072];
    struct text t = TEXT(data);
    int64_t active = 0;
    for (int i = 0; i < MAX_DRAINS; i++) {
        active += drains[i].active;
    }
    metric(&t, "info", "gauge", "Version of the helper.");
    value(&t, "info{version=\"" VERSION "\"}", 1);
    metric(&t, "draining", "gauge", "Containers that are being drained through this sidecar.");
    value(&t, "draining", active);
    metric(&t, "drains_total", "counter", "Drains by how the wait for requests in flight ended.");
    value(&t, "drains_total{end=\"idle\"}", counts.drains_idle);
    value(&t, "drains_total{end=\"timeout\"}", counts.drains_timeout);
    value(&t, "drains_total{end=\"other\"}", counts.drains_other);
    metric(&t, "in_flight_at_end_total", "counter", "Requests that were still in flight when the wait for them was over.");
    value(&t, "in_flight_at_end_total", counts.lost);
    metric(&t, "stops_total", "counter", "Stops by what was needed after the stop signal.");
    value(&t, "stops_total{forced=\"no\"}", counts.stops - counts.forced_term - counts.forced_kill);
    value(&t, "stops_total{forced=\"term\"}", counts.forced_term);
    value(&t, "stops_total{forced=\"kill\"}", counts.forced_kill);
    metric(&t, "hooks_total", "counter", "Runs of users' own preStop hooks.");
    value(&t, "hooks_total", counts.hooks);
    metric(&t, "refused_total", "counter", "Requests that were refused because too many were open.");
    value(&t, "refused_total", counts.refused);
    answer(c, "200 OK", "text/plain; version=0.0.4", data, t.len, head);
}

static void serve(struct client *c, const struct request *r, int64_t now) {
    bool is_report = strcmp(r->path, "/report") == 0;
    if ((is_report || strcmp(r->path, "/status") == 0) && !c->local) {
        answer_text(c, "403 Forbidden", "from inside of the Pod only\n");
    } else if (is_report != r->post) {
        answer_text(c, "405 Method Not Allowed", is_report ? "POST it\n" : "GET it\n");
    } else if (is_report) {
        size_t size = r->body_size;
        while (size > 0 && (r->body[size - 1] == '\n' || r->body[size - 1] == '\r')) {
            size--;
        }
        bool good = is_record(r->body, size);
        if (good) {
            counts.reports++;
            keep(r->body, size);
        }
        answer_text(c, good ? "200 OK" : "400 Bad Request", good ? "kept\n" : "not a record\n");
    } else if (strcmp(r->path, "/drain") == 0) {
        serve_drain(c, r, now);
    } else if (strcmp(r->path, "/healthz") == 0) {
        answer(c, "200 OK", "text/plain", "ok\n", 3, r->head);
    } else if (strcmp(r->path, "/metrics") == 0) {
        serve_metrics(c, r->head);
    } else if (strcmp(r->path, "/status") == 0) {
        serve_status(c, r->head, now);
    } else {
        answer_text(c, "404 Not Found", "there are /drain, /healthz, /metrics, /status and /report\n");
    }
}

/* ------------------------------------------------------------------ connections */

static void read_client(struct client *c, int64_t now) {
    if (c->drain >= 0) {
        char ignored[64];
        ssize_t got = recv(c->fd, ignored, sizeof ignored, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            hang_up(c); /* the kubelet does not wait any more */
        }
        return;
    }
    ssize_t got = recv(c->fd, c->data + c->size, sizeof c->data - c->size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        hang_up(c);
        return;
    }
    c->size += (size_t)got;
    static struct request request;
    switch (http_parse(c->data, c->size, &request)) {
    case HTTP_MORE:
        if (c->size == sizeof c->data) {
            answer_text(c, "413 Content Too Large", "at most 2048 bytes\n");
        }
        break;
    case HTTP_READY:
        serve(c, &request, now);
        break;
    case HTTP_LARGE:
        answer_text(c, "413 Content Too Large", "at most 2048 bytes\n");
        break;
    case HTTP_BAD:
        answer_text(c, "400 Bad Request", "not understood\n");
        break;
    }
}

static bool is_local(const struct sockaddr_in6 *a) {
    static const unsigned char mapped[13] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127};
    if (a->sin6_family == AF_INET) {
        return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
    }
    return memcmp(&a->sin6_addr, mapped, sizeof mapped) == 0 || memcmp(&a->sin6_addr, &in6addr_loopback, sizeof in6addr_loopback) == 0;
}

/* A new client takes a free place, or that of the one who has been silent longest: nobody can lock others out by
 * connecting and saying nothing. Those who wait for a drain keep theirs. */
static void take_client(int door, int64_t now) {
    struct sockaddr_in6 from = {0};
    socklen_t size = sizeof from;
    int fd = accept4(door, (struct sockaddr *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    struct client *place = NULL;
    for (int i = 0; i < MAX_CLIENTS; i++) {
        struct client *c = &clients[i];
        if (c->fd < 0) {
            place = c;
            break;
        }
        if (c->drain < 0 && (place == NULL || c->end < place->end)) {
            place = c;
        }
    }
    if (place == NULL || place->fd >= 0) {
        counts.refused++;
    }
    if (place == NULL) {
        close(fd);
        return;
    }
    if (place->fd >= 0) {
        hang_up(place);
    }
    place->fd = fd;
    place->local = is_local(&from);
    place->drain = -1;
    place->end = now + READ_MS;
    place->size = 0;
}

/* One socket for both families where there is IPv6. */
static int listen_on(uint16_t port) {
    int on = 1, off = 0;
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (bind(fd, (struct sockaddr *)&six, sizeof six) == 0 && listen(fd, 64) == 0) {
            return fd;
        }
        close(fd);
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&four, sizeof four) == 0 && listen(fd, 64) == 0) {
            return fd;
        }
        int why = errno;
        close(fd);
        errno = why;
    }
    return -1;
}

/* How long nothing is due: for ever, if nobody is connected. */
static int64_t time_left(int64_t now) {
    int64_t next = INT64_MAX;
    for (int i = 0; i < MAX_CLIENTS; i++) {
        if (clients[i].fd >= 0 && clients[i].drain < 0 && clients[i].end < next) {
            next = clients[i].end;
        }
    }
    for (int i = 0; i < MAX_DRAINS; i++) {
        if (drains[i].active && drains[i].next < next) {
            next = drains[i].next;
        }
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

int sidecar_main(const struct options *o) {
    own = o;
    for (int i = 0; i < MAX_CLIENTS; i++) {
        clients[i].fd = -1;
    }
    if (signals_block() != 0) {
        say("sigprocmask: ", strerror(errno), NULL);
        return EXIT_OWN;
    }
    int signals = signals_open(), door = -1;
    if (signals < 0) {
        say("signalfd: ", strerror(errno), NULL);
        return EXIT_OWN;
    }
    /* Containers start with what is installed here: better that this one fails, visibly, than each of them. */
    if (o->dir != NULL && install_main(o->dir) != 0) {
        return EXIT_OWN;
    }
    if (o->port != 0 && (door = listen_on(o->port)) < 0) {
        char port[32];
        say("cannot listen on port ", num(port, o->port), ": ", strerror(errno), NULL);
        return EXIT_OWN;
    }
    for (;;) {
        struct pollfd fds[2 + MAX_CLIENTS];
        fds[0] = (struct pollfd){.fd = signals, .events = POLLIN, .revents = 0};
        fds[1] = (struct pollfd){.fd = door, .events = POLLIN, .revents = 0};
        for (int i = 0; i < MAX_CLIENTS; i++) {
            fds[2 + i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN, .revents = 0};
        }
        if (poll(fds, COUNT(fds), (int)time_left(now_ms())) < 0 && errno != EINTR) {
            say("poll: ", strerror(errno), NULL);
            return EXIT_OWN;
        }
        /* The kubelet ends sidecars last, when the applications have gone: nothing is left to wait for. */
        if (fds[0].revents != 0 && asked_to_end(signals)) {
            return 0;
        }
        int64_t now = now_ms();
        for (int i = 0; i < MAX_CLIENTS; i++) {
            struct client *c = &clients[i];
            if (c->fd >= 0 && fds[2 + i].revents != 0) {
                read_client(c, now);
            } else if (c->fd >= 0 && c->drain < 0 && now >= c->end) {
                hang_up(c);
            }
        }
        if (fds[1].revents != 0) {
            take_client(door, now);
        }
        step_drains(now);
    }
}
