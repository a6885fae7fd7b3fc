#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int __real_open(const char *path, int flags, ...);
ssize_t __real_read(int fd, void *buffer, size_t size);
int __real_close(int fd);
ssize_t __real_readlink(const char *path, char *buffer, size_t size);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_read(int fd, void *buffer, size_t size);
int __wrap_close(int fd);
ssize_t __wrap_readlink(const char *path, char *buffer, size_t size);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
long __wrap_syscall(long number, ...);

enum { FIRST = 1 << 20, DESCRIPTORS = 16, FILES = 256 };

static enum { REAL, NETLINK, PROC } which;
static const unsigned char *steps;
static size_t left;
static uint32_t question;

static struct file {
    char path[64];
    const char *text;
    size_t size;
} files[FILES];
static unsigned n_files;
static unsigned long calls, gone, most;
static struct {
    const struct file *file; /* NULL: a directory */
    char path[64];
    size_t at;
    bool used;
} held[DESCRIPTORS];

void kernel_netlink(const unsigned char *data, size_t size) {
    which = NETLINK;
    steps = data;
    left = size;
    question = 0;
}

static bool number_after(const char *entry, size_t size, const char *name, unsigned long *to) {
    size_t n = strlen(name);
    if (size <= n || memcmp(entry, name, n) != 0) {
        return false;
    }
    char digits[16] = "";
    memcpy(digits, entry + n, size - n < 15 ? size - n : 15);
    *to = strtoul(digits, NULL, 10);
    return true;
}

void kernel_proc(const char *data, size_t size, unsigned long last) {
    which = PROC;
    n_files = 0;
    calls = 0;
    gone = last;
    most = SIZE_MAX;
    while (size > 0) {
        const char *end = memchr(data, 1, size);
        size_t n = end != NULL ? (size_t)(end - data) : size;
        const char *equal = memchr(data, '=', n);
        struct file *f = &files[n_files];
        if (!number_after(data, n, "gone=", &gone) && !number_after(data, n, "short=", &most) &&
            equal != NULL && n_files < FILES && equal - data < 48) {
            int head = (int)(equal - data);
            if (head >= 4 && memcmp(data, "SELF", 4) == 0) {
                snprintf(f->path, sizeof f->path, "%d%.*s", getpid(), head - 4, data + 4);
            } else {
                snprintf(f->path, sizeof f->path, "%.*s", head, data);
            }
            f->text = equal + 1;
            f->size = n - (size_t)(equal + 1 - data);
            n_files++;
        }
        data += n;
        size -= n;
        if (size > 0) {
            data++;
            size--;
        }
    }
}

unsigned kernel_end(void) {
    unsigned open = 0;
    for (unsigned i = 0; i < DESCRIPTORS; i++) {
        open += held[i].used;
        held[i].used = false;
    }
    which = REAL;
    return open;
}

static const struct file *find(const char *path) {
    for (unsigned i = 0; i < n_files; i++) {
        if (strcmp(files[i].path, path) == 0) {
            return &files[i];
        }
    }
    return NULL;
}

static bool is_ours(const char *path) {
    return which == PROC && strncmp(path, "/proc", 5) == 0;
}

int __wrap_open(const char *path, int flags, ...) {
    if (!is_ours(path)) {
        va_list more;
        va_start(more, flags);
        mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
        va_end(more);
        return __real_open(path, flags, mode);
    }
    const char *name = path[5] == '/' ? path + 6 : "";
    const struct file *f = find(name);
    if (calls++ >= gone || (f == NULL && (flags & O_DIRECTORY) == 0)) {
        errno = ENOENT;
        return -1;
    }
    for (unsigned i = 0; i < DESCRIPTORS; i++) {
        if (!held[i].used) {
            held[i].used = true;
            held[i].file = (flags & O_DIRECTORY) == 0 ? f : NULL;
            held[i].at = 0;
            snprintf(held[i].path, sizeof held[i].path, "%s%s", name, *name != '\0' ? "/" : "");
            return FIRST + (int)i;
        }
    }
    abort(); /* they leak */
}

ssize_t __wrap_read(int fd, void *buffer, size_t size) {
    if (fd < FIRST) {
        return __real_read(fd, buffer, size);
    }
    const struct file *f = held[fd - FIRST].file;
    if (calls++ >= gone || f == NULL) {
        errno = ESRCH; /* as of a process that has ended meanwhile */
        return -1;
    }
    size_t at = held[fd - FIRST].at, n = f->size - at;
    n = n < size ? n : size;
    n = n < most ? n : most;
    memcpy(buffer, f->text + at, n);
    held[fd - FIRST].at += n;
    return (ssize_t)n;
}

int __wrap_close(int fd) {
    if (fd < FIRST) {
        return __real_close(fd);
    }
    if (!held[fd - FIRST].used) {
        abort();
    }
    held[fd - FIRST].used = false;
    return 0;
}

ssize_t __wrap_readlink(const char *path, char *buffer, size_t size) {
    if (!is_ours(path)) {
        return __real_readlink(path, buffer, size);
    }
    char self[16];
    const struct file *f = find(path + 6);
    if (calls++ >= gone || (f == NULL && strcmp(path, "/proc/self") != 0)) {
        errno = ENOENT;
        return -1;
    }
    snprintf(self, sizeof self, "%d", getpid());
    size_t n = f != NULL ? f->size : strlen(self);
    n = n < size ? n : size;
    memcpy(buffer, f != NULL ? f->text : self, n);
    return (ssize_t)n;
}

/* getdents64: one entry a call; the names below a directory, each as often as it has files. */
static long next_entry(int fd, char *data, size_t size) {
    const char *path = held[fd - FIRST].path;
    size_t n = strlen(path);
    while (calls++ < gone && held[fd - FIRST].at < n_files) {
        const char *name = files[held[fd - FIRST].at++].path;
        if (strncmp(name, path, n) != 0) {
            continue;
        }
        size_t length = strcspn(name + n, "/");
        bool again = false;
        for (unsigned i = 0; i + 1 < held[fd - FIRST].at; i++) {
            again |= strncmp(files[i].path, name, n + length) == 0 &&
                     strcspn(files[i].path + n, "/") == length;
        }
        size_t record = (19 + length + 1 + 7) / 8 * 8;
        if (again || record > size) {
            continue;
        }
        uint16_t short_record = (uint16_t)record;
        memset(data, 0, record);
        memcpy(data + 16, &short_record, 2);
        memcpy(data + 19, name + n, length);
        return (long)record;
    }
    return 0;
}

long __wrap_syscall(long number, ...) {
    va_list more;
    va_start(more, number);
    long fd = va_arg(more, long);
    char *data = va_arg(more, char *);
    size_t size = va_arg(more, size_t);
    va_end(more);
    if (number == SYS_getdents64 && (int)fd >= FIRST) {
        return next_entry((int)fd, data, size);
    }
    errno = ENOSYS; /* nothing is signalled from here */
    return -1;
}

/* ------------------------------------------------------------------ netlink */

static unsigned step_kind(size_t *n) {
    if (left < 3) {
        return 3;
    }
    *n = (size_t)(steps[1] | steps[2] << 8);
    *n = *n < left - 3 ? *n : left - 3;
    return steps[0] % 9;
}

static void step_over(size_t n) {
    if (left >= 3) {
        steps += 3 + n;
        left -= 3 + n;
    }
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout) {
    size_t length = 0;
    if (which != NETLINK) {
        return __real_poll(fds, n, timeout);
    }
    unsigned kind = step_kind(&length);
    if (kind == 2) {
        step_over(length);
        errno = EINTR;
        return -1;
    }
    if (kind == 3) {
        step_over(length);
        return 0;
    }
    fds[0].revents = POLLIN;
    return 1;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags) {
    (void)fd;
    (void)flags;
    struct nlmsghdr h;
    size_t size = 0;
    for (size_t i = 0; i < m->msg_iovlen; i++) {
        size += m->msg_iov[i].iov_len;
    }
    memcpy(&h, m->msg_iov[0].iov_base, sizeof h);
    if (h.nlmsg_len != size) {
        abort(); /* a question that says it is longer than it is */
    }
    question = h.nlmsg_seq;
    return (ssize_t)size;
}

ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags) {
    static const int errors[] = {EAGAIN, EAGAIN, EAGAIN, EAGAIN, EINTR, EAGAIN, ENOBUFS};
    size_t n = 0;
    (void)fd;
    (void)flags;
    unsigned kind = step_kind(&n);
    const unsigned char *data = steps + 3;
    step_over(n);
    if (kind >= 2 && kind <= 6) {
        errno = errors[kind];
        return -1;
    }
    size_t whole = n;
    n = kind == 8 ? 0 : n < size ? n : size;
    memcpy(buffer, data, n);
    if (kind == 0 && n >= sizeof(struct nlmsghdr)) {
        memcpy((char *)buffer + offsetof(struct nlmsghdr, nlmsg_seq), &question, sizeof question);
    }
    return (ssize_t)(kind == 7 ? size + 1 + whole : kind == 8 ? 0 : whole);
}
