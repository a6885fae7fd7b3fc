/* Install this program: whole or not at all, and never through something that somebody else has put
 * into the directory. */
#include "install.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NAME "podgrace-helper"

enum { TRIES = 8 };

static int failed(const char *call, const char *dir, const char *name) {
    say("install: ", call, " ", dir, name[0] != '\0' ? "/" : "", name, ": ", strerror(errno), NULL);
    return EXIT_OWN;
}

/* Whether the file is there already, the same to the last byte: a container that restarts installs
 * again. A link is not ours, and opening a FIFO would never return. */
static bool is_same(int source, int dir) {
    char a[4096], b[4096];
    int fd = openat(dir, NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat have;
    bool same =
        fd >= 0 && fstat(fd, &have) == 0 && S_ISREG(have.st_mode) && (have.st_mode & 07777) == 0755;
    for (off_t at = 0; same;) {
        ssize_t n = pread(source, a, sizeof a, at), m = pread(fd, b, sizeof b, at);
        same = n >= 0 && n == m && memcmp(a, b, (size_t)n) == 0;
        if (n <= 0) {
            break;
        }
        at += n;
    }
    if (fd >= 0) {
        close(fd);
    }
    return same;
}

/* -1 with errno. fsync reports what write did not: that the volume is full. */
static int copy(int source, int target) {
    char data[4096];
    ssize_t n;
    for (off_t at = 0; (n = pread(source, data, sizeof data, at)) > 0; at += n) {
        for (ssize_t done = 0; done < n;) {
            ssize_t wrote = write(target, data + done, (size_t)(n - done));
            if (wrote < 0 && errno == EINTR) {
                continue;
            }
            if (wrote <= 0) {
                errno = wrote == 0 ? ENOSPC : errno;
                return -1;
            }
            done += wrote;
        }
    }
    return n < 0 || fchmod(target, 0755) != 0 || fsync(target) != 0 ? -1 : 0;
}

/* A new file, by a name that nobody can have taken before. */
static int create_aside(int dir, char *name, size_t size) {
    static const char digits[] = "0123456789abcdef";
    int fd = -1;
    errno = EEXIST;
    for (int i = 0; i < TRIES && fd < 0 && errno == EEXIST; i++) {
        unsigned char random[8];
        struct text t = {.at = name, .cap = size};
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
            int64_t now = now_ms() + i; /* O_EXCL still holds */
            memcpy(random, &now, sizeof random);
        }
        text_add(&t, "." NAME ".");
        for (size_t j = 0; j < sizeof random; j++) {
            char byte[2] = {digits[random[j] >> 4], digits[random[j] & 15]};
            text_bytes(&t, byte, sizeof byte);
        }
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0700);
    }
    return fd;
}

/* Write beside, then rename: whoever starts the program meanwhile gets all of the old one or all of
 * the new one. Whatever had the name before, even a link, is replaced; a link's target is left
 * alone. */
static int replace(int source, int at, const char *dir) {
    char aside[64];
    int target = create_aside(at, aside, sizeof aside);
    if (target < 0) {
        return failed("create", dir, aside);
    }
    int code = copy(source, target) != 0 ? failed("write", dir, aside) : 0;
    if (close(target) != 0 && code == 0) {
        code = failed("close", dir, aside);
    }
    /* An empty directory may go, too. */
    if (code == 0 && renameat(at, aside, at, NAME) != 0 &&
        (errno != EISDIR || unlinkat(at, NAME, AT_REMOVEDIR) != 0 ||
         renameat(at, aside, at, NAME) != 0)) {
        code = failed("rename to", dir, NAME);
    }
    if (code != 0) {
        unlinkat(at, aside, 0);
    } else {
        fsync(at);
    }
    return code;
}

int install_main(const char *dir) {
    struct statvfs volume;
    int source = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (source < 0) {
        return failed("open", "/proc/self/exe", "");
    }
    int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = 0;
    if (at < 0) {
        code = failed("open", dir, "");
    } else if (fstatvfs(at, &volume) == 0 && (volume.f_flag & ST_NOEXEC) != 0) {
        say("install: ", dir, ": mounted with noexec: nothing could be started from there", NULL);
        code = EXIT_OWN;
    } else if (!is_same(source, at)) {
        code = replace(source, at, dir);
    }
    if (at >= 0) {
        close(at);
    }
    close(source);
    return code;
}
