#include "control.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { NAMES = 8, BACKLOG = 64, LISTENS_SOON_MS = 20 };

static ino_t namespace_of(const char *process) {
    char path[48];
    struct text t = TEXT(path);
    struct stat space;
    text_add(&t, "/proc/");
    text_add(&t, process);
    text_add(&t, "/ns/pid");
    return stat(path, &space) == 0 ? space.st_ino : 0;
}

/* "podgrace/4026531836/run/app", and for the second choice "podgrace/4026531836/run/app/1". */
static socklen_t name(struct sockaddr_un *address, const char *role, const char *container,
                      int choice) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    struct text t = {.at = address->sun_path + 1, .cap = sizeof address->sun_path - 1};
    text_add(&t, "podgrace/");
    text_num(&t, (int64_t)namespace_of("self"));
    text_add(&t, "/");
    text_add(&t, role);
    text_add(&t, "/");
    text_add(&t, container);
    if (choice > 0) {
        text_add(&t, "/");
        text_num(&t, choice);
    }
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + t.len);
}

/* Another container's process shows as pid 0, or is in a PID namespace below ours: ignore it. */
static bool is_neighbour(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    char number[32];
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0) {
        return false;
    }
    ino_t theirs = namespace_of(num(number, peer.pid)), own = namespace_of("self");
    return theirs == 0 || own == 0 || theirs == own; /* 0: another user's, or no /proc */
}

/* The helper that has a name; -1 if it is a stranger's, or nobody's. */
static int call(const struct sockaddr_un *address, socklen_t size) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (const struct sockaddr *)address, size) == 0) {
        if (is_neighbour(fd)) {
            return fd;
        }
        errno = EACCES;
    }
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int control_listen(const char *role, const char *container) {
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    int why = EACCES;
    for (int choice = 0; choice < NAMES; choice++) {
        socklen_t size = name(&address, role, container, choice);
        if (bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, BACKLOG) == 0) {
            return fd;
        }
        if (errno != EADDRINUSE) {
            why = errno;
            break;
        }
        int other = call(&address, size);
        if (other < 0 && errno == ECONNREFUSED) {
            sleep_ms(LISTENS_SOON_MS); /* it may have taken the name a moment ago */
            other = call(&address, size);
        }
        if (other >= 0) {
            close(other);
            why = EADDRINUSE;
            break;
        }
        why = EACCES; /* strangers have it */
    }
    close(fd);
    errno = why;
    return -1;
}

int control_connect(const char *role, const char *container) {
    struct sockaddr_un address;
    int fd = -1;
    for (int choice = 0; choice < NAMES && fd < 0; choice++) {
        socklen_t size = name(&address, role, container, choice);
        fd = call(&address, size);
    }
    return fd;
}

int control_accept(int fd) {
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer >= 0 && !is_neighbour(peer)) {
        close(peer);
        return -1;
    }
    return peer;
}
