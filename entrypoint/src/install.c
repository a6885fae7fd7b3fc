#include "install.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "podgrace-helper"

static int failed(const char *call, const char *path) {
    say("install: ", call, " ", path, ": ", strerror(errno), NULL);
    return EXIT_OWN;
}

/* Whether the file is there already, the same to the last byte. A container that restarts installs again. */
static bool is_same(int source, const char *path) {
    char a[4096], b[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat have;
    bool same = fd >= 0 && fstat(fd, &have) == 0 && (have.st_mode & 0777) == 0755;
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

/* -1 with errno. fsync tells what write did not: that the volume is full. */
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

/* Aside, then renamed: whoever starts the program meanwhile gets all of the old one or all of the new one. The temporary
 * name holds the process id, because postStart and the sidecar itself install at the same time. */
int install_main(const char *dir) {
    char path[512], aside[544];
    struct text final = TEXT(path), temporary = TEXT(aside);
    text_add(&final, dir);
    text_add(&final, "/" NAME);
    text_add(&temporary, dir);
    text_add(&temporary, "/." NAME ".");
    text_num(&temporary, getpid());
    if (final.cut || temporary.cut) {
        errno = ENAMETOOLONG;
        return failed("path", dir);
    }
    int source = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (source < 0) {
        return failed("open", "/proc/self/exe");
    }
    if (is_same(source, path)) {
        close(source);
        return 0;
    }
    int target = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0755);
    if (target < 0) {
        close(source);
        return failed("open", aside);
    }
    int code = copy(source, target) != 0 ? failed("write", aside) : 0;
    if (close(target) != 0 && code == 0) {
        code = failed("close", aside);
    }
    close(source);
    if (code == 0 && rename(aside, path) != 0) {
        code = failed("rename to", path);
    }
    if (code != 0) {
        unlink(aside);
        return code;
    }
    int directory = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        fsync(directory);
        close(directory);
    }
    return 0;
}
