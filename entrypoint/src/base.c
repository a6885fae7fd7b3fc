#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fact_fd = STDERR_FILENO;
static int word_fd = STDERR_FILENO;

int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* By nanosleep where a sandbox refuses poll: a wait that ends at once would be a busy loop. */
void sleep_ms(int64_t ms) {
    if (ms > 0 && poll(NULL, 0, (int)ms) < 0 && errno != EINTR) {
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
    }
}

void text_bytes(struct text *t, const char *s, size_t n) {
    size_t room = t->cap - t->len - 1;
    if (n > room) {
        t->cut = true;
        n = room;
    }
    memcpy(t->at + t->len, s, n);
    t->len += n;
    t->at[t->len] = '\0';
}

void text_add(struct text *t, const char *s) { text_bytes(t, s, strlen(s)); }

char *num(char *buffer, int64_t n) {
    char digits[24];
    size_t at = sizeof digits;
    bool negative = n < 0;
    uint64_t left = negative ? 0 - (uint64_t)n : (uint64_t)n;
    do {
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (negative) {
        digits[--at] = '-';
    }
    memcpy(buffer, digits + at, sizeof digits - at);
    buffer[sizeof digits - at] = '\0';
    return buffer;
}

void text_num(struct text *t, int64_t n) {
    char buffer[32];
    text_add(t, num(buffer, n));
}

/* A JSON string. Names of containers and processes come from outside, so everything unprintable is
 * escaped; what is not ASCII becomes '?', because half a UTF-8 sequence would make the whole line
 * unreadable. */
void text_json(struct text *t, const char *s) {
    text_add(t, "\"");
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            text_bytes(t, "\\", 1);
            text_bytes(t, s, 1);
        } else if (c < 0x20 || c > 0x7e) {
            text_add(t, "?");
        } else {
            text_bytes(t, s, 1);
        }
    }
    text_add(t, "\"");
}

void text_plain(struct text *t, const char *s) {
    static const char digits[] = "0123456789abcdef";
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        char escaped[4] = {'\\', 'x', digits[c >> 4], digits[c & 15]};
        bool printable = c >= ' ' && c <= '~';
        text_bytes(t, printable ? s : escaped, printable ? 1 : sizeof escaped);
    }
}

int64_t parse_num(const char *s, size_t n, int64_t max) {
    int64_t value = 0;
    if (n == 0 || n > 18) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return -1;
        }
        value = value * 10 + (s[i] - '0');
    }
    return value <= max ? value : -1;
}

const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

bool in_list(const char *list, const char *s, size_t n) {
    while (list != NULL && *list != '\0') {
        const char *comma = strchr(list, ',');
        size_t len = comma != NULL ? (size_t)(comma - list) : strlen(list);
        if (len == n && len > 0 && memcmp(list, s, n) == 0) {
            return true;
        }
        list = comma != NULL ? comma + 1 : NULL;
    }
    return false;
}

/* A log that nobody reads must not delay a stop: if the pipe is full, lose the line. */
static void write_if_ready(int fd, const char *s, size_t n) {
    struct pollfd ready = {.fd = fd, .events = POLLOUT, .revents = 0};
    if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0) {
        ssize_t ignored = write(fd, s, n);
        (void)ignored;
    }
}

void say(const char *first, ...) {
    int saved = errno;
    char buffer[512];
    struct text line = TEXT(buffer);
    va_list more;
    text_add(&line, "podgrace-helper: ");
    va_start(more, first);
    for (const char *part = first; part != NULL; part = va_arg(more, const char *)) {
        text_plain(&line, part);
    }
    va_end(more);
    if (line.len > sizeof buffer - 2) {
        line.len = sizeof buffer - 2;
    }
    line.at[line.len++] = '\n';
    write_if_ready(word_fd, buffer, line.len);
    errno = saved;
}

void log_line(const char *line, size_t len) {
    int saved = errno;
    write_if_ready(fact_fd, line, len);
    errno = saved;
}

/* Opening the link makes a file description of our own, so O_NONBLOCK does not affect the
 * application. It fails for a socket, for another user's pipe and without /proc. Then use our own
 * stream, which the kubelet shows if the hook fails. */
void log_to_container(void) {
    int fd = open("/proc/1/fd/2", O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0) {
        fact_fd = word_fd = fd;
    }
}

void log_to_output(void) { fact_fd = STDOUT_FILENO; }
