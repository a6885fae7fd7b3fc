#include "hook.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "asks.h"
#include "control.h"
#include "spawn.h"

enum {
    POLL_MS = 20,
    KILL_MS = 1000,
    CONNECT_MS = 5000,
    MOST_ASKED = 8192,
    MOST_READ = 10 * 1024 /* of an answer: the kubelet reads no more */
};

/* Whether `run` has said that the server is gone, or is gone itself. */
static bool is_gone(int fd) {
    char word = 0;
    if (fd < 0) {
        return false;
    }
    ssize_t got = recv(fd, &word, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR) ||
           (got == 1 && word == WORD_GONE);
}

static enum outcome wait_child(pid_t pid, int64_t end, int gone, int *code) {
    enum outcome how = OUTCOME_DONE;
    bool termed = false;
    for (;;) {
        int status;
        pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid) {
            *code = shell_code(status);
            return how == OUTCOME_DONE && *code != 0 ? OUTCOME_FAILED : how;
        }
        if (ended < 0 && errno != EINTR) {
            return OUTCOME_FAILED;
        }
        if (is_gone(gone)) {
            return OUTCOME_GONE;
        }
        if (now_ms() >= end) {
            kill(-pid, termed ? SIGKILL : SIGTERM);
            how = OUTCOME_TIMEOUT;
            termed = true;
            end = now_ms() + KILL_MS;
        }
        asks_publish(-1, pid);
        sleep_ms(POLL_MS);
    }
}

/* "http://host:port/path". The host may be empty, as in most Pods: then it is this Pod. */
static bool split(const char *url, char *host, size_t size, uint16_t *port, const char **path) {
    const char *at = url + 7, *stop;
    if (*at == '[') {
        at++;
        stop = strchr(at, ']');
    } else {
        stop = at + strcspn(at, ":/");
    }
    if (stop == NULL || (size_t)(stop - at) >= size) {
        return false;
    }
    memcpy(host, at, (size_t)(stop - at));
    host[stop - at] = '\0';
    stop += *stop == ']';
    *port = 80;
    if (*stop == ':') {
        size_t n = strcspn(stop + 1, "/");
        int64_t number = parse_num(stop + 1, n, 65535);
        if (number < 1) {
            return false;
        }
        *port = (uint16_t)number;
        stop += 1 + n;
    }
    *path = *stop == '/' ? stop : "/";
    return *stop == '/' || *stop == '\0';
}

static bool ready(int fd, short events, int64_t end, int gone) {
    struct pollfd fds[2] = {{.fd = fd, .events = events, .revents = 0},
                            {.fd = gone, .events = POLLIN, .revents = 0}};
    int64_t left = end == INT64_MAX ? -1 : end - now_ms();
    if (end != INT64_MAX && left <= 0) {
        return false;
    }
    return poll(fds, 2, (int)left) > 0 && fds[0].revents != 0;
}

static int try_connect(const struct sockaddr *to, socklen_t size, int64_t end, int gone) {
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
    socklen_t length = sizeof error;
    if (fd < 0) {
        return -1;
    }
    int64_t limit = now_ms() + CONNECT_MS;
    if (connect(fd, to, size) == 0 ||
        (errno == EINPROGRESS && ready(fd, POLLOUT, limit < end ? limit : end, gone) &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0)) {
        return fd;
    }
    error = error != 0 ? error : errno != EINPROGRESS ? errno : ETIMEDOUT;
    close(fd);
    errno = error;
    return -1;
}

/* This Pod's own address: what the kernel would send from, to anywhere outside (connecting UDP
 * sends nothing). */
static int connect_here(int family, const char *outside, uint16_t port, int64_t end, int gone) {
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } a = {.six = {0}};
    a.any.sa_family = (sa_family_t)family;
    inet_pton(family, outside,
              family == AF_INET ? (void *)&a.four.sin_addr : (void *)&a.six.sin6_addr);
    socklen_t size = family == AF_INET ? sizeof a.four : sizeof a.six;
    a.four.sin_port = htons(9);
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool known = fd >= 0 && connect(fd, &a.any, size) == 0 && getsockname(fd, &a.any, &size) == 0;
    if (fd >= 0) {
        close(fd);
    }
    if (!known) {
        return -1;
    }
    a.four.sin_port = htons(port); /* at the same place in both families */
    return try_connect(&a.any, size, end, gone);
}

static int connect_numeric(const char *host, uint16_t port, int64_t end, int gone) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, host, &four.sin_addr) == 1) {
        return try_connect((struct sockaddr *)&four, sizeof four, end, gone);
    }
    if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1) {
        return try_connect((struct sockaddr *)&six, sizeof six, end, gone);
    }
    errno = EADDRNOTAVAIL;
    return -1;
}

static int connect_to(const char *host, uint16_t port, int64_t end, int gone) {
    if (*host != '\0' && strcmp(host, "localhost") != 0) {
        return connect_numeric(host, port, end, gone);
    }
    /* The kubelet would have called the Pod's address; it never reached a server that listens on
     * loopback only. */
    int fd = -1;
    if (*host == '\0') {
        fd = connect_here(AF_INET, "192.0.2.1", port, end, gone);
        fd = fd >= 0 ? fd : connect_here(AF_INET6, "2001:db8::1", port, end, gone);
    }
    fd = fd >= 0 ? fd : connect_numeric("127.0.0.1", port, end, gone);
    return fd >= 0 ? fd : connect_numeric("::1", port, end, gone);
}

int hook_connect(uint16_t port, int64_t end) { return connect_to("", port, end, -1); }

/* A Pod's path may hold anything; on the wire it is printable ASCII. */
static void add_path(struct text *t, const char *path) {
    static const char digits[] = "0123456789ABCDEF";
    for (; *path != '\0'; path++) {
        unsigned char c = (unsigned char)*path;
        char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
        text_bytes(t, c <= ' ' || c > '~' ? escaped : path, c <= ' ' || c > '~' ? 3 : 1);
    }
}

/* How long an answer is, head and body, as far as it tells. Not every server closes when asked. */
static size_t answer_size(const char *data) {
    static const char name[] = "\r\ncontent-length:";
    const char *end = strstr(data, "\r\n\r\n"), *field = strcasestr(data, name);
    if (end == NULL || field == NULL || field > end) {
        return MOST_READ;
    }
    field += sizeof name - 1;
    field += strspn(field, " ");
    int64_t body = parse_num(field, strspn(field, "0123456789"), MOST_READ);
    return body < 0 ? MOST_READ : (size_t)(end + 4 - data) + (size_t)body;
}

/* As the kubelet does: a GET, then wait for the answer, whatever its status. */
static enum outcome get(const struct options *o, int64_t end, int gone) {
    static char data[MOST_READ + 1];
    char host[128];
    struct text t = {.at = data, .cap = MOST_ASKED};
    uint16_t port;
    const char *path;
    bool own_host = false, own_agent = false;
    if (!split(o->hook_url, host, sizeof host, &port, &path)) {
        say("hook: \"", o->hook_url, "\" is not http://[host]:port/path", NULL);
        return OUTCOME_FAILED;
    }
    for (unsigned i = 0; i < o->n_headers; i++) {
        own_host |= strncasecmp(o->hook_headers[i], "host:", 5) == 0;
        own_agent |= strncasecmp(o->hook_headers[i], "user-agent:", 11) == 0;
    }
    text_add(&t, "GET ");
    add_path(&t, path);
    text_add(&t, " HTTP/1.1\r\nConnection: close\r\nAccept: */*\r\n");
    if (!own_host) {
        text_add(&t, "Host: ");
        text_add(&t, *host != '\0' ? host : "localhost");
        text_add(&t, ":");
        text_num(&t, port);
        text_add(&t, "\r\n");
    }
    text_add(&t, own_agent ? "" : "User-Agent: podgrace-helper/" VERSION "\r\n");
    for (unsigned i = 0; i < o->n_headers; i++) {
        const char *colon = strchr(o->hook_headers[i], ':');
        text_bytes(&t, o->hook_headers[i], (size_t)(colon - o->hook_headers[i]));
        text_add(&t, ": ");
        text_add(&t, colon + 1);
        text_add(&t, "\r\n");
    }
    text_add(&t, "\r\n");
    int fd = t.cut ? -1 : connect_to(host, port, end, gone);
    asks_publish(fd, -1);
    if (fd < 0 || send(fd, t.at, t.len, MSG_NOSIGNAL) != (ssize_t)t.len) {
        say("hook: GET ", o->hook_url, ": ", t.cut ? "longer than 8 KB" : strerror(errno), NULL);
        if (fd >= 0) {
            close(fd);
        }
        return OUTCOME_FAILED;
    }
    size_t held = 0;
    enum outcome how = OUTCOME_TIMEOUT;
    while (ready(fd, POLLIN, end, gone)) {
        ssize_t got = read(fd, data + held, MOST_READ - held);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            continue;
        }
        if (got <= 0) {
            how = held > 0 ? OUTCOME_DONE : OUTCOME_FAILED;
            break;
        }
        held += (size_t)got;
        data[held] = '\0';
        if (held == MOST_READ || held >= answer_size(data)) {
            how = OUTCOME_DONE;
            break;
        }
    }
    close(fd);
    return how == OUTCOME_TIMEOUT && is_gone(gone) ? OUTCOME_GONE : how;
}

struct hook_result hook_run(const struct options *o, int64_t end, int gone) {
    struct hook_result r = {.outcome = OUTCOME_DONE};
    int64_t began = now_ms();
    if (o->hook_timeout >= 0 && began + o->hook_timeout < end) {
        end = began + o->hook_timeout;
    }
    if (o->argv != NULL) {
        pid_t pid = spawn(o->argv, false, &r.code);
        r.outcome = pid > 0 ? wait_child(pid, end, gone, &r.code) : OUTCOME_FAILED;
    } else if (o->hook_url != NULL) {
        r.outcome = get(o, end, gone);
        r.code = r.outcome != OUTCOME_DONE;
    } else {
        int64_t until = began + o->hook_sleep;
        while (now_ms() < until && r.outcome == OUTCOME_DONE) {
            sleep_ms(until - now_ms() < 100 ? until - now_ms() : 100);
            r.outcome = is_gone(gone)                    ? OUTCOME_GONE
                        : now_ms() >= end && end < until ? OUTCOME_TIMEOUT
                                                         : OUTCOME_DONE;
        }
    }
    asks_withdraw();
    r.ms = now_ms() - began;
    return r;
}
