#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launchers.gen.h"
#include "proc.h"
#include "signals.h"

_Static_assert(sizeof(struct process) == 24, "there are several lists of thousands");

static struct process all[MAX_PROCESSES];
static unsigned n_all;

/* The numbers begin after the last ')': the name before it may hold anything. */
bool tree_stat(const char *data, struct process *p) {
    const char *at = strrchr(data, ')');
    if (at == NULL || at[1] != ' ' || at[2] == '\0') {
        return false;
    }
    bool ended = at[2] == 'Z' || at[2] == 'X';
    *p = (struct process){.dead = ended};
    at += 2;
    for (int field = 3; field <= 22; field++) {
        size_t n = strcspn(at, " \n");
        if (field == 4) {
            int64_t parent = parse_num(at, n, INT32_MAX);
            p->parent = parent > 0 ? (pid_t)parent : 0;
        } else if (field == 20) {
            p->dead = ended && parse_num(at, n, INT32_MAX) <= 1; /* its other threads live on */
        } else if (field == 22) {
            int64_t started = parse_num(at, n, INT64_MAX);
            p->started = started > 0 ? (uint64_t)started : 0;
        }
        at += n + (at[n] != '\0');
    }
    return true;
}

static bool read_process(pid_t pid, struct process *p) {
    char data[1024];
    if (proc_read(pid, "stat", data, sizeof data) <= 0 || !tree_stat(data, p)) {
        return false;
    }
    p->pid = pid;
    return true;
}

uint64_t tree_started(pid_t pid) {
    struct process p;
    return read_process(pid, &p) ? p.started : 0;
}

/* By a descriptor, so that the pid cannot have gone to another process between the look and the
 * signal. Kernels before 5.3 have none, and old seccomp profiles refuse unknown calls: there the
 * pid has to do. */
int tree_signal(const struct process *p, int signal) {
    int fd = p->pid > 0 ? (int)syscall(SYS_pidfd_open, p->pid, 0) : -1;
    if (fd < 0) {
        return kill(p->pid, signal);
    }
    struct process now;
    bool same = p->started == 0 || (read_process(p->pid, &now) && now.started == p->started);
    errno = ESRCH;
    int failed = same ? (int)syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) : -1;
    int why = errno;
    close(fd);
    if (failed != 0 && why != ESRCH) {
        return kill(p->pid, signal);
    }
    errno = why;
    return failed;
}

static void take_process(void *context, int64_t number) {
    (void)context;
    if (n_all < MAX_PROCESSES && read_process((pid_t)number, &all[n_all])) {
        n_all++;
    }
}

static struct process *lookup(pid_t pid) {
    for (unsigned i = 0; i < n_all; i++) {
        if (all[i].pid == pid) {
            return &all[i];
        }
    }
    return NULL;
}

/* Read the whole table and mark what is below `root`. A process whose parent is outside of the
 * container (a hook, a shell of kubectl exec) has parent 0 and is below nothing. */
static int read_all(pid_t root) {
    n_all = 0;
    if (proc_each("/proc", take_process, NULL) != 0) {
        return -1;
    }
    char self[24];
    ssize_t n = readlink("/proc/self", self, sizeof self);
    if (n <= 0 || parse_num(self, (size_t)n, INT32_MAX) != getpid() || lookup(getpid()) == NULL) {
        errno = ENOENT; /* empty, or of another PID namespace */
        return -1;
    }
    for (unsigned i = 0; i < n_all; i++) {
        const struct process *p = &all[i];
        for (unsigned depth = 0; p != NULL && depth < 64; depth++) {
            if (p->pid == root) {
                all[i].inside = true;
                break;
            }
            p = p->parent > 0 ? lookup(p->parent) : NULL;
        }
    }
    return 0;
}

/* How many steps below the root. */
static unsigned depth_of(const struct process *p, pid_t root) {
    unsigned depth = 0;
    while (p != NULL && p->pid != root && depth < 64) {
        p = lookup(p->parent);
        depth++;
    }
    return depth;
}

struct sockets {
    char prefix[48];
    const uint32_t *inodes;
    unsigned n;
    unsigned listener; /* the best that was found, counted from 1 */
};

static void take_descriptor(void *context, int64_t number) {
    struct sockets *s = context;
    int64_t inode = proc_socket(s->prefix, number);
    unsigned known = s->listener > 0 ? s->listener - 1 : s->n;
    for (unsigned i = 0; i < known && inode > 0; i++) {
        if ((uint32_t)inode == s->inodes[i]) {
            s->listener = i + 1;
            return;
        }
    }
}

/* Which processes have a listening socket open. The kernel tells only of processes of the same
 * user. */
static void mark_owners(const uint32_t *inodes, unsigned n) {
    for (unsigned i = 0; i < n_all && n > 0; i++) {
        struct sockets s = {.inodes = inodes, .n = n, .listener = 0};
        if (!all[i].dead) {
            proc_path(s.prefix, sizeof s.prefix, all[i].pid, "fd");
            proc_each(s.prefix, take_descriptor, &s);
            all[i].listener = (uint16_t)s.listener;
        }
    }
}

struct socket_list {
    char prefix[48];
    uint32_t *inodes;
    unsigned n, most;
};

static void take_socket(void *context, int64_t number) {
    struct socket_list *l = context;
    int64_t inode = l->n < l->most ? proc_socket(l->prefix, number) : 0;
    for (unsigned i = 0; i < l->n; i++) {
        if (l->inodes[i] == (uint32_t)inode) {
            return;
        }
    }
    if (inode > 0) {
        l->inodes[l->n++] = (uint32_t)inode;
    }
}

unsigned tree_sockets(pid_t root, uint32_t *inodes, unsigned most) {
    struct socket_list l = {.inodes = inodes, .most = most};
    if (read_all(root) != 0) {
        return 0;
    }
    for (unsigned i = 0; i < n_all; i++) {
        if (all[i].inside && !all[i].dead) {
            proc_path(l.prefix, sizeof l.prefix, all[i].pid, "fd");
            proc_each(l.prefix, take_socket, &l);
        }
    }
    return l.n;
}

/* The best of the listening sockets that the process or something below it has. */
static unsigned listener_below(const struct process *p) {
    unsigned listener = 0;
    for (unsigned i = 0; i < n_all; i++) {
        const struct process *up = all[i].listener > 0 ? &all[i] : NULL;
        for (unsigned depth = 0; up != NULL && depth < 64; depth++) {
            if (up->pid == p->pid) {
                listener = listener == 0 || all[i].listener < listener ? all[i].listener : listener;
                break;
            }
            up = up->parent > 0 ? lookup(up->parent) : NULL;
        }
    }
    return listener;
}

static enum kind kind_of(const struct process *p, const struct options *o, struct program *found) {
    char data[MAX_COMMAND_LINE];
    ssize_t size = proc_read(p->pid, "cmdline", data, sizeof data);
    /* Empty: a kernel thread, a zombie, or not ours to read. */
    return size > 0 ? program_kind(data, (size_t)size, o, found) : ANOTHER;
}

/* Shells in front of a server. One that has a trap for TERM does what its author wanted. */
static bool is_trap(const struct process *p, const struct program *program) {
    return in_list(SHELLS, program->name, strlen(program->name)) && proc_catches(p->pid, SIGTERM);
}

static void mark_kinds(const struct options *o, pid_t root, bool include_root) {
    for (unsigned i = 0; i < n_all; i++) {
        struct process *p = &all[i];
        struct program program = {.profile = NULL};
        if (p->inside && !p->dead && (p->pid != root || include_root)) {
            enum kind kind = kind_of(p, o, &program);
            p->kind = kind == A_LAUNCHER && is_trap(p, &program) ? A_TRAP : (uint8_t)kind;
            p->profile = program.profile != NULL ? program.profile->number : 0;
        }
    }
}

/* The topmost process that is not a launcher, from this one upwards; NULL if there is none. */
static const struct process *top_of(const struct process *p, pid_t root, bool include_root) {
    const struct process *top = NULL;
    for (unsigned depth = 0; p != NULL && depth < 64; depth++) {
        if (p->pid == root && !include_root) {
            break;
        }
        top = p->kind != A_LAUNCHER ? p : top;
        p = p->pid != root && p->parent > 0 ? lookup(p->parent) : NULL;
    }
    return top;
}

/* What is known of a candidate. The higher rank is the server; among equals, the one with the
 * preferred socket; then the topmost, which is the master of the others; then the oldest. */
struct rank {
    enum { A_SLEEP = 1, LAUNCHES, IS_ANOTHER, HAS_SOCKET, HAS_NAME, HAS_BOTH } known;
    unsigned listener, depth;
    pid_t pid;
};

static bool is_better(const struct rank *a, const struct rank *b) {
    /* 0, none, becomes the last. */
    unsigned a_listener = a->listener - 1, b_listener = b->listener - 1;
    if (a->known != b->known) {
        return a->known > b->known;
    }
    if (a_listener != b_listener) {
        return a_listener < b_listener;
    }
    return a->depth != b->depth ? a->depth < b->depth : a->pid < b->pid;
}

static struct rank rank_of(const struct process *p, const char *name, pid_t root) {
    struct rank r = {.depth = depth_of(p, root), .pid = p->pid};
    r.listener = p->kind == A_MATCH ? listener_below(p) : p->listener;
    r.known = p->kind == A_MATCH      ? (r.listener > 0 ? HAS_BOTH : HAS_NAME)
              : p->kind == A_LAUNCHER ? LAUNCHES
              : r.listener > 0            ? HAS_SOCKET
              : in_list("sleep", name, strlen(name)) ? A_SLEEP
                                                     : IS_ANOTHER;
    return r;
}

/* Only processes beside the root have the listening sockets: PID 1 does not serve here. */
static bool serves_elsewhere(void) {
    bool elsewhere = false;
    for (unsigned i = 0; i < n_all; i++) {
        if (all[i].listener > 0 && all[i].inside) {
            return false;
        }
        elsewhere |= all[i].listener > 0;
    }
    return elsewhere;
}

static const struct process *child_towards(const struct process *shell, const struct process *p) {
    for (unsigned depth = 0; p != NULL && p->parent != shell->pid && depth < 64; depth++) {
        p = p->parent > 0 ? lookup(p->parent) : NULL;
    }
    return p != NULL && p->parent == shell->pid ? p : NULL;
}

/* Without job control, a shell starts a background command with INT and QUIT ignored, and with its
 * own /dev/null as input unless the author redirects it (POSIX). A foreground command has the
 * shell's input. With job control each is a process group. */
static bool is_in_foreground(const struct process *shell, const struct process *child) {
    char data[4096], ours[512], theirs[512];
    uint64_t ignored, keys = signal_bit(SIGINT) | signal_bit(SIGQUIT);
    if (proc_read(child->pid, "status", data, sizeof data) <= 0 ||
        !proc_set(data, "SigIgn", &ignored) || (ignored & keys) == keys ||
        getpgid(child->pid) != getpgid(shell->pid) ||
        proc_read(shell->pid, "fdinfo/0", ours, sizeof ours) <= 0 ||
        proc_read(child->pid, "fdinfo/0", theirs, sizeof theirs) <= 0 ||
        strcmp(ours, theirs) != 0) {
        return false;
    }
    /* The shell's input may look like a /dev/null that it opens itself: then nothing can be told.
     */
    const char *flags = strstr(ours, "flags:"), *end = flags != NULL ? strchr(flags, '\n') : NULL;
    bool read_only = end == NULL || ((end[-1] - '0') & O_ACCMODE) == O_RDONLY;
    return !read_only || (proc_link(shell->pid, "fd/0", ours, sizeof ours) &&
                          strcmp(ours, "/dev/null") != 0);
}

/* Whether a shell waits in the foreground for `p`, or for a process between them: it would run its
 * trap only afterwards. In the wait builtin, dash and busybox sleep elsewhere in the kernel. */
static bool waits_in_foreground(const struct process *shell, const struct process *p) {
    char exe[256], where[64];
    const struct process *child = child_towards(shell, p);
    unsigned children = 0;
    for (unsigned i = 0; i < n_all; i++) {
        children += all[i].parent == shell->pid && !all[i].dead;
    }
    if (child == NULL) {
        return false;
    }
    const char *name = proc_link(shell->pid, "exe", exe, sizeof exe) ? base_name(exe) : "";
    if (children == 1 && in_list("dash,busybox", name, strlen(name)) &&
        proc_read(shell->pid, "wchan", where, sizeof where) > 1) {
        return strcmp(where, "do_wait") == 0;
    }
    return is_in_foreground(shell, child);
}

/* Whether TERM is for `top` rather than for what is below it: a shell with a trap, unless the trap
 * has to wait for the server; or another program that handles TERM, such as a supervisor that
 * starts and stops servers. PID 1 gets TERM from the kubelet, so there, where `include_root`, only
 * a trap counts. */
static bool stops_below(const struct process *top, const struct process *p, const struct rank *rank,
                        bool include_root) {
    if (top->kind == A_TRAP) {
        return rank->known < HAS_SOCKET || !waits_in_foreground(top, p);
    }
    return !include_root && top != p && top->kind == ANOTHER && top->listener == 0 &&
           proc_catches(top->pid, SIGTERM);
}

/* By rank, see above. A trap for TERM stops what is below its shell: then the shell itself is the
 * server. Workers' sockets identify their master. */
int tree_server(struct server *found, const struct options *o, pid_t root, bool include_root,
                const uint32_t *inodes, unsigned n_inodes) {
    struct rank best = {0};
    *found = (struct server){.pid = 0, .root = root};
    if (read_all(root) != 0) {
        return -1;
    }
    mark_owners(inodes, n_inodes);
    mark_kinds(o, root, include_root);
    if (include_root && serves_elsewhere()) {
        return 0;
    }
    for (unsigned i = 0; i < n_all; i++) {
        const struct process *p = &all[i];
        struct server candidate = {.pid = p->pid, .root = root, .started = p->started};
        if (!p->inside || p->dead || (p->pid == root && !include_root)) {
            continue;
        }
        kind_of(p, o, &candidate.program);
        struct rank rank = rank_of(p, candidate.program.name, root);
        const struct process *top = top_of(p, root, include_root);
        if (top != NULL && stops_below(top, p, &rank, include_root)) {
            const struct profile *profile = candidate.program.profile;
            candidate.trap = top->kind == A_TRAP || !proc_is_same_program(top->pid, p->pid);
            kind_of(top, o, &candidate.program);
            candidate.pid = top->pid;
            candidate.started = top->started;
            candidate.program.profile = profile;
            rank.depth = depth_of(top, root);
            rank.pid = top->pid;
        } else {
            if (top != NULL && top->kind == A_TRAP && top->pid != root) {
                candidate.shell = top->pid;
                candidate.shell_started = top->started;
            }
            top = p;
        }
        if (is_better(&rank, &best)) {
            candidate.parent = top->parent;
            candidate.guess = rank.known <= IS_ANOTHER;
            *found = candidate;
            best = rank;
        }
    }
    return 0;
}

int tree_programs(struct members *m, const struct options *o, pid_t root) {
    m->n = 0;
    if (read_all(root) != 0) {
        return -1;
    }
    mark_kinds(o, root, false);
    for (unsigned i = 0; i < n_all; i++) {
        const struct process *p = &all[i];
        if (p->inside && !p->dead && p->pid != root && top_of(p, root, false) == p) {
            m->list[m->n++] = *p;
        }
    }
    return 0;
}

int tree_members(struct members *m, pid_t root, bool include_root) {
    m->n = 0;
    if (read_all(root) != 0) {
        return -1;
    }
    for (unsigned i = 0; i < n_all; i++) {
        if (all[i].inside && !all[i].dead && (include_root || all[i].pid != root)) {
            m->list[m->n++] = all[i];
        }
    }
    return 0;
}

/* Without /proc the start time is unknown: then the pid has to do. */
static bool is_same(const struct process *a, const struct process *b) {
    return a->pid == b->pid && (a->started == b->started || a->started == 0 || b->started == 0);
}

bool tree_has(const struct members *m, const struct process *p) {
    for (unsigned i = 0; i < m->n; i++) {
        if (is_same(&m->list[i], p)) {
            return true;
        }
    }
    return false;
}

void tree_refresh(struct members *m) {
    unsigned n_before = m->n, kept = 0;
    if (read_all(1) != 0) {
        return;
    }
    for (unsigned i = 0; i < n_before; i++) {
        const struct process *now = lookup(m->list[i].pid);
        if (now != NULL && now->started == m->list[i].started && !now->dead) {
            m->list[kept++] = *now;
        }
    }
    m->n = kept;
    for (unsigned i = 0; i < n_all && kept < MAX_PROCESSES; i++) {
        for (unsigned j = 0; j < kept; j++) {
            if (all[i].parent == m->list[j].pid && !all[i].dead && !tree_has(m, &all[i])) {
                m->list[kept++] = all[i];
                m->n = kept;
                break;
            }
        }
    }
}

