#include "asks.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tree.h"

enum {
    MOST = 64,   /* sockets of a hook */
    LOOK_MS = 50,
    SHARE = 20, /* a look takes at most a twentieth of the time */
};

static struct known {
    uint32_t inode;
    int name;
} known[MOST];
static unsigned n_known;
static int64_t next;

/* "podgrace/asks/123456" */
static socklen_t name_of(struct sockaddr_un *address, uint32_t inode) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    struct text t = {.at = address->sun_path + 1, .cap = sizeof address->sun_path - 1};
    text_add(&t, "podgrace/asks/");
    text_num(&t, inode);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + t.len);
}

static void publish(uint32_t inode) {
    struct sockaddr_un address;
    socklen_t size = name_of(&address, inode);
    int fd = n_known < MOST ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0) {
        return;
    }
    /* Never accept: being able to connect is the whole answer, and each asks once. */
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, MOST) != 0) {
        close(fd);
        return;
    }
    known[n_known++] = (struct known){.inode = inode, .name = fd};
}

/* Withdraw what is no longer in the list, publish what is new. */
static void take_list(const uint32_t *inodes, unsigned n) {
    unsigned kept = 0;
    bool old[MOST] = {false};
    for (unsigned i = 0; i < n_known; i++) {
        unsigned j = 0;
        while (j < n && inodes[j] != known[i].inode) {
            j++;
        }
        if (j < n) {
            old[j] = true;
            known[kept++] = known[i];
        } else {
            close(known[i].name);
        }
    }
    n_known = kept;
    for (unsigned i = 0; i < n; i++) {
        if (!old[i]) {
            publish(inodes[i]);
        }
    }
}

void asks_publish(int fd, pid_t pid) {
    uint32_t inodes[MOST];
    unsigned n = 0;
    int64_t now = now_ms();
    struct stat file;
    if (now < next) {
        return;
    }
    if (fd >= 0 && fstat(fd, &file) == 0) {
        inodes[n++] = (uint32_t)file.st_ino;
    }
    if (pid > 0) {
        n += tree_sockets(pid, inodes + n, MOST - n);
        int64_t pause = (now_ms() - now) * SHARE;
        next = now + (pause > LOOK_MS ? pause : LOOK_MS);
    }
    take_list(inodes, n);
}

void asks_withdraw(void) { take_list(NULL, 0); }

bool asks_has(uint32_t inode, uint32_t user) {
    struct sockaddr_un address;
    struct ucred owner;
    socklen_t size = name_of(&address, inode), length = sizeof owner;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool has = fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0 &&
               getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &length) == 0 &&
               (owner.uid == user || owner.uid == 0);
    if (fd >= 0) {
        close(fd);
    }
    return has;
}
