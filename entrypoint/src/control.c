#include "control.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static socklen_t name(struct sockaddr_un *address, const char *role, const char *container) {
    struct stat space;
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    struct text t = {.at = address->sun_path + 1, .len = 0, .cap = sizeof address->sun_path - 1, .cut = false};
    text_add(&t, "podgrace/");
    text_num(&t, stat("/proc/self/ns/pid", &space) == 0 ? (int64_t)space.st_ino : 0);
    text_add(&t, "/");
    text_add(&t, role);
    text_add(&t, "/");
    text_add(&t, container);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + t.len);
}

/* A process of another container shows as pid 0 here, and has no say. */
static bool is_neighbour(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0;
}

int control_listen(const char *role, const char *container) {
    struct sockaddr_un address;
    socklen_t size = name(&address, role, container);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 8) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

int control_connect(const char *role, const char *container) {
    struct sockaddr_un address;
    socklen_t size = name(&address, role, container);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (connect(fd, (struct sockaddr *)&address, size) != 0 || !is_neighbour(fd))) {
        close(fd);
        return -1;
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
