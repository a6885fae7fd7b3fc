#include "proc.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base.h"
#include "signals.h"

static ssize_t read_file(const char *path, char *buffer, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t got = read(fd, buffer, size - 1);
    close(fd);
    if (got >= 0) {
        buffer[got] = '\0';
    }
    return got;
}

void proc_path(char *buffer, size_t size, pid_t pid, const char *name) {
    struct text t = {.at = buffer, .len = 0, .cap = size, .cut = false};
    text_add(&t, "/proc/");
    text_num(&t, pid);
    text_add(&t, "/");
    text_add(&t, name);
}

ssize_t proc_read(pid_t pid, const char *name, char *buffer, size_t size) {
    char path[48];
    proc_path(path, sizeof path, pid, name);
    return read_file(path, buffer, size);
}

bool proc_link(pid_t pid, const char *name, char *to, size_t size) {
    char path[48];
    proc_path(path, sizeof path, pid, name);
    ssize_t n = readlink(path, to, size - 1);
    to[n > 0 ? n : 0] = '\0';
    return n > 0;
}

struct dirent_kernel {
    uint64_t ino;
    int64_t off;
    uint16_t length;
    uint8_t type;
    char name[];
};

int proc_each(const char *path, void (*each)(void *context, int64_t number), void *context) {
    _Alignas(8) char data[4096];
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    long got;
    while ((got = syscall(SYS_getdents64, fd, data, sizeof data)) > 0) {
        for (long at = 0; at < got;) {
            const struct dirent_kernel *entry = (const void *)(data + at);
            int64_t number = parse_num(entry->name, strlen(entry->name), INT32_MAX);
            if (number >= 0) {
                each(context, number);
            }
            at += entry->length;
        }
    }
    close(fd);
    return got < 0 ? -1 : 0;
}

int64_t proc_socket(const char *prefix, int64_t number) {
    char path[80], to[64];
    struct text t = TEXT(path);
    text_add(&t, prefix);
    text_add(&t, "/");
    text_num(&t, number);
    ssize_t n = readlink(path, to, sizeof to - 1);
    if (n < 10 || memcmp(to, "socket:[", 8) != 0) {
        return -1;
    }
    return parse_num(to + 8, (size_t)n - 9, UINT32_MAX);
}

/* A line of /proc/PID/status: "SigCgt:", a tab, and 16 digits of hexadecimal. */
bool proc_set(const char *status, const char *name, uint64_t *set) {
    size_t n = strlen(name);
    const char *line = status;
    while (line != NULL && (strncmp(line, name, n) != 0 || line[n] != ':')) {
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    if (line == NULL) {
        return false;
    }
    *set = 0;
    for (line += n + 1; *line == ' ' || *line == '\t'; line++) {
    }
    for (; (*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f'); line++) {
        *set = *set << 4 | (unsigned)(*line <= '9' ? *line - '0' : *line - 'a' + 10);
    }
    return true;
}

bool proc_catches(pid_t pid, int signal) {
    char data[4096];
    uint64_t caught;
    return proc_read(pid, "status", data, sizeof data) > 0 && proc_set(data, "SigCgt", &caught) &&
           (caught & signal_bit(signal)) != 0;
}

bool proc_handles(pid_t pid, int signal) {
    char data[4096];
    uint64_t caught, blocked;
    if (proc_read(pid, "status", data, sizeof data) <= 0 || !proc_set(data, "SigCgt", &caught) ||
        !proc_set(data, "SigBlk", &blocked)) {
        return true; /* not known: then try it */
    }
    return ((caught | blocked) & signal_bit(signal)) != 0;
}

bool proc_is_same_program(pid_t a, pid_t b) {
    char one[1024], other[1024];
    ssize_t n = proc_read(a, "cmdline", one, sizeof one);
    return n > 0 && n == proc_read(b, "cmdline", other, sizeof other) &&
           memcmp(one, other, (size_t)n) == 0;
}
