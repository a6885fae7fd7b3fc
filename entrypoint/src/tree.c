#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launchers.gen.h"
#include "signals.h"

/* Process names by which a server is known, from webhook/profiles.toml: offsets into a text. */
struct row {
    uint16_t name, match, signal, stop_on, stop_command;
    uint8_t target;
    bool observe, finishes;
};
#include "profiles.gen.h"

_Static_assert(sizeof texts <= UINT16_MAX, "a place is two bytes");
_Static_assert(COUNT(rows) < UINT8_MAX, "struct process counts them in a byte");
_Static_assert(sizeof(struct process) == 24, "there are several lists of thousands");

static struct process all[MAX_PROCESSES];
static unsigned n_all;

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

/* /proc/PID/NAME */
static void proc_path(char *buffer, size_t size, pid_t pid, const char *name) {
    struct text t = {.at = buffer, .len = 0, .cap = size, .cut = false};
    text_add(&t, "/proc/");
    text_num(&t, pid);
    text_add(&t, "/");
    text_add(&t, name);
}

static ssize_t read_of(pid_t pid, const char *name, char *buffer, size_t size) {
    char path[48];
    proc_path(path, sizeof path, pid, name);
    return read_file(path, buffer, size);
}

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
    if (read_of(pid, "stat", data, sizeof data) <= 0 || !tree_stat(data, p)) {
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

struct dirent_kernel {
    uint64_t ino;
    int64_t off;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* Call `each` for every entry of a directory that is a number. */
static int each_number(const char *path, void (*each)(void *context, int64_t number),
                       void *context) {
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
    if (each_number("/proc", take_process, NULL) != 0) {
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
    unsigned door; /* the best that was found, counted from 1 */
};

/* The number of the socket behind a descriptor; below 1: not a socket. */
static int64_t socket_of(const char *prefix, int64_t number) {
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

static void take_descriptor(void *context, int64_t number) {
    struct sockets *s = context;
    int64_t inode = socket_of(s->prefix, number);
    unsigned known = s->door > 0 ? s->door - 1 : s->n;
    for (unsigned i = 0; i < known && inode > 0; i++) {
        if ((uint32_t)inode == s->inodes[i]) {
            s->door = i + 1;
            return;
        }
    }
}

/* Which processes have a listening socket open. The kernel tells only of processes of the same
 * user. */
static void mark_owners(const uint32_t *inodes, unsigned n) {
    for (unsigned i = 0; i < n_all && n > 0; i++) {
        struct sockets s = {.inodes = inodes, .n = n, .door = 0};
        if (!all[i].dead) {
            proc_path(s.prefix, sizeof s.prefix, all[i].pid, "fd");
            each_number(s.prefix, take_descriptor, &s);
            all[i].door = (uint16_t)s.door;
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
    int64_t inode = l->n < l->most ? socket_of(l->prefix, number) : 0;
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
            each_number(l.prefix, take_socket, &l);
        }
    }
    return l.n;
}

/* The best of the listening sockets that the process or something below it has. */
static unsigned door_below(const struct process *p) {
    unsigned door = 0;
    for (unsigned i = 0; i < n_all; i++) {
        const struct process *up = all[i].door > 0 ? &all[i] : NULL;
        for (unsigned depth = 0; up != NULL && depth < 64; depth++) {
            if (up->pid == p->pid) {
                door = door == 0 || all[i].door < door ? all[i].door : door;
                break;
            }
            up = up->parent > 0 ? lookup(up->parent) : NULL;
        }
    }
    return door;
}

/* The name in one word of a command line: the last path element, up to a title's ":" or blank
 * ("nginx: master process"). */
static size_t name_of(const char **word) {
    size_t n = strcspn(*word, ": ");
    const char *at = *word;
    for (size_t i = 0; i < n; i++) {
        if (at[i] == '/') {
            *word = at + i + 1;
        }
    }
    n -= (size_t)(*word - at);
    if (n > 0 && **word == '-') { /* a login shell */
        (*word)++;
        n--;
    }
    return n;
}

/* A command line as /proc has it: words that end in NUL. */
struct words {
    const char *at, *end;
};

static bool has_argument(struct words arguments, const char *start, size_t n) {
    for (const char *word = arguments.at; word < arguments.end; word += strlen(word) + 1) {
        if (strncmp(word, start, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether an entry of a list matches: a name, or one that ends in "*" for any rest; after either
 * may come a blank and the beginning of an argument. */
static bool is_listed(const char *list, const char *name, size_t n, struct words arguments) {
    while (list != NULL && *list != '\0') {
        size_t whole = strcspn(list, ","), length = strcspn(list, ", ");
        bool prefix = length > 0 && list[length - 1] == '*';
        size_t known = prefix ? length - 1 : length;
        if ((prefix ? n >= known : n == known) && length > 0 && memcmp(list, name, known) == 0 &&
            (length == whole || has_argument(arguments, list + length + 1, whole - length - 1))) {
            return true;
        }
        list += whole + (list[whole] == ',');
    }
    return false;
}

static const struct profile *profile_at(size_t i) {
    static struct profile profiles[COUNT(rows)];
    const struct row *row = &rows[i];
    profiles[i] = (struct profile){
        .name = texts + row->name,
        .match = texts + row->match,
        .signal = texts + row->signal,
        .stop_on = texts + row->stop_on,
        .stop_command = row->stop_command > 0 ? texts + row->stop_command : NULL,
        .target = (enum target)row->target,
        .observe = row->observe,
        .finishes = row->finishes,
        .number = (uint8_t)(i + 1),
    };
    return &profiles[i];
}

static const struct profile *profile_of(const char *name, size_t n, struct words arguments) {
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (is_listed(texts + rows[i].match, name, n, arguments)) {
            return profile_at(i);
        }
    }
    return NULL;
}

static void set_name(struct server *found, const char *name, size_t n) {
    struct text t = TEXT(found->name);
    text_bytes(&t, name, n);
}

static bool is_wanted(const struct options *o, struct server *found, const char *name, size_t n,
                      struct words arguments) {
    found->profile = o->detect ? profile_of(name, n, arguments) : NULL;
    return found->profile != NULL || is_listed(o->match, name, n, arguments);
}

/* As a person would name it: the program, or the script that an interpreter runs. */
enum kind tree_kind(const char *data, size_t size, const struct options *o, struct server *found) {
    const char *program = data;
    size_t length = name_of(&program);
    struct words words = {.at = data + strlen(data) + 1, .end = data + size};
    set_name(found, program, length);
    if (in_list(LAUNCHERS, program, length)) {
        /* Busybox is a shell and a server. */
        return is_wanted(o, found, program, length, words) ? A_MATCH : A_LAUNCHER;
    }
    for (const char *word = data; word < data + size; word += strlen(word) + 1) {
        bool first = word == data;
        if (!first && (word[0] == '-' || word[0] == '\0' || strchr(word, '=') != NULL)) {
            continue;
        }
        const char *name = word;
        size_t n = name_of(&name);
        if (in_list(SCRIPT_LAUNCHERS, name, n)) {
            return A_LAUNCHER;
        }
        bool interpreter = is_listed(INTERPRETERS, name, n, words);
        struct words rest = {.at = word + strlen(word) + 1, .end = data + size};
        if (!(first && interpreter) && is_wanted(o, found, name, n, rest)) {
            set_name(found, name, n);
            return A_MATCH;
        }
        if (!interpreter) {
            break;
        }
    }
    /* "node npm-cli.js" is npm, not a server in Node: so the script's name is tried before the
     * interpreter's. */
    return is_wanted(o, found, program, length, words) ? A_MATCH : ANOTHER;
}

static enum kind kind_of(const struct process *p, const struct options *o, struct server *found) {
    char data[MAX_COMMAND_LINE];
    ssize_t size = read_of(p->pid, "cmdline", data, sizeof data);
    /* Empty: a kernel thread, a zombie, or not ours to read. */
    return size > 0 ? tree_kind(data, (size_t)size, o, found) : ANOTHER;
}

static bool catches(const struct process *p, int signal) {
    char data[4096];
    uint64_t caught;
    return read_of(p->pid, "status", data, sizeof data) > 0 && tree_set(data, "SigCgt", &caught) &&
           (caught & signal_bit(signal)) != 0;
}

/* Shells in front of a server. One that has a trap for TERM does what its author wanted. */
static bool is_trap(const struct process *p, const struct server *candidate) {
    return in_list(SHELLS, candidate->name, strlen(candidate->name)) && catches(p, SIGTERM);
}

static void mark_kinds(const struct options *o, pid_t root, bool include_root) {
    for (unsigned i = 0; i < n_all; i++) {
        struct process *p = &all[i];
        struct server candidate = {.pid = p->pid};
        if (p->inside && !p->dead && (p->pid != root || include_root)) {
            enum kind kind = kind_of(p, o, &candidate);
            p->kind = kind == A_LAUNCHER && is_trap(p, &candidate) ? A_TRAP : (uint8_t)kind;
            p->profile = candidate.profile != NULL ? candidate.profile->number : 0;
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
    unsigned door, depth;
    pid_t pid;
};

static bool is_better(const struct rank *a, const struct rank *b) {
    unsigned a_door = a->door - 1, b_door = b->door - 1; /* 0, none, becomes the last */
    if (a->known != b->known) {
        return a->known > b->known;
    }
    if (a_door != b_door) {
        return a_door < b_door;
    }
    return a->depth != b->depth ? a->depth < b->depth : a->pid < b->pid;
}

static struct rank rank_of(const struct process *p, const struct server *candidate, pid_t root) {
    struct rank r = {.depth = depth_of(p, root), .pid = p->pid};
    r.door = p->kind == A_MATCH ? door_below(p) : p->door;
    r.known = p->kind == A_MATCH      ? (r.door > 0 ? HAS_BOTH : HAS_NAME)
              : p->kind == A_LAUNCHER ? LAUNCHES
              : r.door > 0            ? HAS_SOCKET
              : in_list("sleep", candidate->name, strlen(candidate->name)) ? A_SLEEP
                                                                           : IS_ANOTHER;
    return r;
}

/* Only processes beside the root have the listening sockets: PID 1 does not serve here. */
static bool serves_elsewhere(void) {
    bool elsewhere = false;
    for (unsigned i = 0; i < n_all; i++) {
        if (all[i].door > 0 && all[i].inside) {
            return false;
        }
        elsewhere |= all[i].door > 0;
    }
    return elsewhere;
}

static bool is_same_program(pid_t a, pid_t b) {
    char one[1024], other[1024];
    ssize_t n = read_of(a, "cmdline", one, sizeof one);
    return n > 0 && n == read_of(b, "cmdline", other, sizeof other) &&
           memcmp(one, other, (size_t)n) == 0;
}

/* The name of a link such as /proc/1/ns/mnt; false if it cannot be read. */
static bool read_link(pid_t pid, const char *name, char *to, size_t size) {
    char path[48];
    proc_path(path, sizeof path, pid, name);
    ssize_t n = readlink(path, to, size - 1);
    to[n > 0 ? n : 0] = '\0';
    return n > 0;
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
    if (read_of(child->pid, "status", data, sizeof data) <= 0 ||
        !tree_set(data, "SigIgn", &ignored) || (ignored & keys) == keys ||
        getpgid(child->pid) != getpgid(shell->pid) ||
        read_of(shell->pid, "fdinfo/0", ours, sizeof ours) <= 0 ||
        read_of(child->pid, "fdinfo/0", theirs, sizeof theirs) <= 0 || strcmp(ours, theirs) != 0) {
        return false;
    }
    /* The shell's input may look like a /dev/null that it opens itself: then nothing can be told.
     */
    const char *flags = strstr(ours, "flags:"), *end = flags != NULL ? strchr(flags, '\n') : NULL;
    bool read_only = end == NULL || ((end[-1] - '0') & O_ACCMODE) == O_RDONLY;
    return !read_only || (read_link(shell->pid, "fd/0", ours, sizeof ours) &&
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
    const char *name = read_link(shell->pid, "exe", exe, sizeof exe) ? base_name(exe) : "";
    if (children == 1 && in_list("dash,busybox", name, strlen(name)) &&
        read_of(shell->pid, "wchan", where, sizeof where) > 1) {
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
    return !include_root && top != p && top->kind == ANOTHER && top->door == 0 &&
           catches(top, SIGTERM);
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
        kind_of(p, o, &candidate);
        struct rank rank = rank_of(p, &candidate, root);
        const struct process *top = top_of(p, root, include_root);
        if (top != NULL && stops_below(top, p, &rank, include_root)) {
            const struct profile *profile = candidate.profile;
            candidate.trap = top->kind == A_TRAP || !is_same_program(top->pid, p->pid);
            kind_of(top, o, &candidate);
            candidate.pid = top->pid;
            candidate.started = top->started;
            candidate.profile = profile;
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

int tree_signal_of(const struct process *p) {
    const char *signal = p->profile > 0 ? texts + rows[p->profile - 1].signal : "TERM";
    return signal_number(signal, strlen(signal));
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

/* A line of /proc/PID/status: "SigCgt:", a tab, and 16 digits of hexadecimal. */
bool tree_set(const char *status, const char *name, uint64_t *set) {
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

bool tree_handles(pid_t pid, int signal) {
    char data[4096];
    uint64_t caught, blocked;
    if (read_of(pid, "status", data, sizeof data) <= 0 || !tree_set(data, "SigCgt", &caught) ||
        !tree_set(data, "SigBlk", &blocked)) {
        return true; /* not known: then try it */
    }
    return ((caught | blocked) & signal_bit(signal)) != 0;
}

static bool is_named(pid_t pid, const char *list) {
    char data[256];
    ssize_t size = read_of(pid, "comm", data, sizeof data);
    if (size > 1 && in_list(list, data, (size_t)size - 1)) {
        return true;
    }
    if (read_of(pid, "cmdline", data, sizeof data) <= 0) {
        return false;
    }
    const char *name = data;
    size_t n = name_of(&name);
    return in_list(list, name, n);
}

/* Some inits take signals by sigtimedwait, which no mask shows while they wait. */
bool tree_init_takes(int signal) {
    return tree_handles(1, signal) || is_named(1, FORWARDING_INITS);
}

bool tree_is_supervised(void) {
    /* runsvdir ends on TERM, and tells nobody. */
    return is_named(1, INITS ",supervisord") && !is_named(1, FORWARDING_INITS ",runsvdir") &&
           tree_handles(1, SIGTERM);
}

bool tree_passes_on(const struct server *server) {
    /* They hand it to their child. dumb-init hands it to the child's group as well, but ends with
     * the child: what is below a shell has no time. */
    if (is_named(1, FORWARDING_INITS)) {
        return server->parent == 1;
    }
    return tree_is_supervised() ||
           (tree_handles(1, SIGTERM) &&
            is_same_program(1, server->pid)); /* a master and its worker */
}

/* The pause container by its name. Otherwise compare PID 1 with this process, which runs in the
 * container to stop: by file system or, where that is not readable, by control group. */
bool tree_is_shared(void) {
    char one[512], own[512];
    if (getpid() == 1) {
        return false;
    }
    if (is_named(1, "pause")) {
        return true;
    }
    if (read_link(1, "ns/mnt", one, sizeof one) && read_link(getpid(), "ns/mnt", own, sizeof own)) {
        return strcmp(one, own) != 0;
    }
    return read_of(1, "cgroup", one, sizeof one) > 0 &&
           read_of(getpid(), "cgroup", own, sizeof own) > 0 && strcmp(one, own) != 0;
}
