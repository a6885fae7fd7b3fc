#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launchers.gen.h"
#include "signals.h"

/* Names of processes by which a server is known, from webhook/profiles.toml. */
static const struct profile profiles[] = {
#include "profiles.gen.h"
};

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

/* The numbers of /proc/PID/stat begin behind the last ')': the name before it may hold anything. */
static bool read_process(pid_t pid, struct process *p) {
    char path[48], data[1024];
    proc_path(path, sizeof path, pid, "stat");
    if (read_file(path, data, sizeof data) <= 0) {
        return false;
    }
    char *at = strrchr(data, ')');
    if (at == NULL || at[1] != ' ') {
        return false;
    }
    char state = at[2];
    *p = (struct process){.pid = pid, .dead = state == 'Z' || state == 'X'};
    at += 2;
    for (int field = 3; field <= 22; field++) {
        size_t n = strcspn(at, " \n");
        int64_t value = parse_num(at, n, INT64_MAX);
        if (field == 4) {
            p->parent = (pid_t)value;
        } else if (field == 22) {
            p->started = (uint64_t)value;
        }
        at += n + (at[n] != '\0');
    }
    return true;
}

struct dirent_kernel {
    uint64_t ino;
    int64_t off;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* Call `each` with the number that every entry of a directory is named by. */
static int each_number(const char *path, void (*each)(void *context, int64_t number), void *context) {
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

/* Read the whole table and mark what is below `root`. A process whose parent is outside of the container (a hook, a shell
 * of kubectl exec) has parent 0 and is below nothing. */
static int read_all(pid_t root) {
    n_all = 0;
    if (each_number("/proc", take_process, NULL) != 0) {
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
    bool found;
};

static void take_descriptor(void *context, int64_t number) {
    struct sockets *s = context;
    char path[80], to[64];
    struct text t = TEXT(path);
    if (s->found) {
        return;
    }
    text_add(&t, s->prefix);
    text_add(&t, "/");
    text_num(&t, number);
    ssize_t n = readlink(path, to, sizeof to - 1);
    if (n < 10 || memcmp(to, "socket:[", 8) != 0) {
        return;
    }
    int64_t inode = parse_num(to + 8, (size_t)n - 9, UINT32_MAX);
    for (unsigned i = 0; i < s->n; i++) {
        s->found |= inode > 0 && (uint32_t)inode == s->inodes[i];
    }
}

/* Which processes have a listening socket open. Told only of processes of the same user; for others nothing is known. */
static void mark_owners(const uint32_t *inodes, unsigned n) {
    for (unsigned i = 0; i < n_all && n > 0; i++) {
        struct sockets s = {.inodes = inodes, .n = n, .found = false};
        if (all[i].inside && !all[i].dead) {
            proc_path(s.prefix, sizeof s.prefix, all[i].pid, "fd");
            each_number(s.prefix, take_descriptor, &s);
            all[i].owner = s.found;
        }
    }
}

static bool owns_below(const struct process *p) {
    for (unsigned i = 0; i < n_all; i++) {
        if (!all[i].owner) {
            continue;
        }
        const struct process *up = &all[i];
        for (unsigned depth = 0; up != NULL && depth < 64; depth++) {
            if (up->pid == p->pid) {
                return true;
            }
            up = up->parent > 0 ? lookup(up->parent) : NULL;
        }
    }
    return false;
}

/* Of one word of a command line: its last path element up to a title's ":" or blank ("nginx: master process"). */
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

/* Whether one of the entries of a list fits: a name, one that ends in "*" for any rest, or either of them, a blank and how
 * one of the arguments begins. */
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

static const struct profile *profile_of(const char *name, size_t n, struct words arguments) {
    for (size_t i = 0; i < COUNT(profiles); i++) {
        if (is_listed(profiles[i].match, name, n, arguments)) {
            return &profiles[i];
        }
    }
    return NULL;
}

enum kind { A_LAUNCHER, ANOTHER, A_MATCH };

static void set_name(struct server *found, const char *name, size_t n) {
    struct text t = TEXT(found->name);
    text_bytes(&t, name, n);
}

static bool is_wanted(const struct options *o, struct server *found, const char *name, size_t n, struct words arguments) {
    found->profile = o->detect ? profile_of(name, n, arguments) : NULL;
    return found->profile != NULL || is_listed(o->match, name, n, arguments);
}

/* Read a command line as a person would: the program, or the script that an interpreter runs. */
static enum kind kind_of(const struct process *p, const struct options *o, struct server *found) {
    char path[48], data[MAX_COMMAND_LINE];
    proc_path(path, sizeof path, p->pid, "cmdline");
    ssize_t size = read_file(path, data, sizeof data);
    if (size <= 0) {
        return ANOTHER; /* a kernel thread, a zombie, or not ours to read */
    }
    const char *program = data;
    size_t length = name_of(&program);
    struct words words = {.at = data + strlen(data) + 1, .end = data + size};
    set_name(found, program, length);
    if (in_list(LAUNCHERS, program, length)) {
        return is_wanted(o, found, program, length, words) ? A_MATCH : A_LAUNCHER; /* busybox is a shell and a server */
    }
    for (char *word = data; word < data + size; word += strlen(word) + 1) {
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
    /* "node npm-cli.js" is npm, not a server in Node: so an interpreter's own name comes after that of its script. */
    return is_wanted(o, found, program, length, words) ? A_MATCH : ANOTHER;
}

/* In order: a process whose name was looked for and which has (or whose children have) a listening socket; one whose name
 * was looked for; the one that has a listening socket; the first that is no launcher. Of several, the topmost: the master. */
int tree_server(struct server *found, const struct options *o, pid_t root, bool include_root, const uint32_t *inodes, unsigned n_inodes) {
    unsigned best = 0, best_depth = 0;
    *found = (struct server){.pid = 0};
    if (read_all(root) != 0) {
        return -1;
    }
    mark_owners(inodes, n_inodes);
    for (unsigned i = 0; i < n_all; i++) {
        const struct process *p = &all[i];
        struct server candidate = {.pid = p->pid};
        if (!p->inside || p->dead || (p->pid == root && !include_root)) {
            continue;
        }
        enum kind kind = kind_of(p, o, &candidate);
        unsigned depth = depth_of(p, root);
        unsigned rank = kind == A_MATCH ? (owns_below(p) ? 5 : 4) : p->owner && kind != A_LAUNCHER ? 3 : kind == ANOTHER ? 2 : 1;
        if (rank > best || (rank == best && (depth < best_depth || (depth == best_depth && p->pid < found->pid)))) {
            *found = candidate;
            best = rank;
            best_depth = depth;
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

static bool is_member(const struct members *m, unsigned n, const struct process *p) {
    for (unsigned i = 0; i < n; i++) {
        if (m->list[i].pid == p->pid && m->list[i].started == p->started) {
            return true;
        }
    }
    return false;
}

void tree_refresh(struct members *m) {
    static struct process before[MAX_PROCESSES];
    unsigned n_before = m->n, kept = 0;
    memcpy(before, m->list, n_before * sizeof *before);
    if (read_all(1) != 0) {
        return;
    }
    for (unsigned i = 0; i < n_before; i++) {
        const struct process *now = lookup(before[i].pid);
        if (now != NULL && now->started == before[i].started && !now->dead) {
            m->list[kept++] = *now;
        }
    }
    for (unsigned i = 0; i < n_all && kept < MAX_PROCESSES; i++) {
        for (unsigned j = 0; j < kept; j++) {
            if (all[i].parent == m->list[j].pid && !all[i].dead && !is_member(m, kept, &all[i])) {
                m->list[kept++] = all[i];
                break;
            }
        }
    }
    m->n = kept;
}

/* A line of /proc/PID/status, as a set of signals; all of them if it is not there: then each is tried. */
static uint64_t mask_of(const char *status, const char *name) {
    const char *at = strstr(status, name);
    uint64_t mask = 0;
    if (at == NULL) {
        return ~mask;
    }
    for (at += strlen(name); *at != '\n' && *at != '\0'; at++) {
        mask = mask << 4 | (unsigned)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
    }
    return mask;
}

bool tree_handles(pid_t pid, int signal) {
    char path[48], data[4096];
    proc_path(path, sizeof path, pid, "status");
    if (read_file(path, data, sizeof data) <= 0) {
        return true; /* not known: then it is tried */
    }
    /* Caught by a handler; or blocked, as an init does that waits for signals by other means. */
    return ((mask_of(data, "\nSigCgt:\t") | mask_of(data, "\nSigBlk:\t")) & signal_bit(signal)) != 0;
}

/* These take a signal out of a set by sigtimedwait, which shows in no mask while they wait. */
bool tree_passes_on(pid_t pid) {
    char path[48], name[32];
    proc_path(path, sizeof path, pid, "comm");
    ssize_t size = read_file(path, name, sizeof name);
    return size > 1 && in_list(FORWARDING_INITS, name, (size_t)size - 1);
}
