/* Feeds broken input to the parsers and the readers of netlink and /proc: a corpus changed at
 * random, under the sanitizers.
 *
 *   fuzz SECONDS CORPUS...    the same seed each time, so findings repeat
 *
 * The name of a corpus file begins with what it is for: args- (words end in newlines), query-,
 * http-, diag- (a datagram), table-; of /proc/PID words- (a command line), stat- and signals-; and
 * for the readers netlink- and proc- (see kernel.h). An input that breaks something is left in
 * ./crash-KIND; `fuzz 0 crash-KIND` runs it alone. Needs a C compiler only. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "diag.h"
#include "http.h"
#include "init.h"
#include "kernel.h"
#include "nettable.h"
#include "options.h"
#include "proc.h"
#include "tree.h"

enum { MOST = 16384, FILES = 256 };

static const char *const kinds[] = {"args",  "query", "http",    "diag",    "table",
                                    "words", "stat",  "signals", "netlink", "proc"};

struct input {
    unsigned kind;
    size_t size;
    unsigned char *data;
};

static struct input corpus[FILES];
static unsigned n_corpus;
static uint64_t state = 0x9e3779b97f4a7c15u;
static unsigned char current[MOST];
static size_t current_size;
static unsigned current_kind;

static void save(void);

#define CLAIM(what)                                            \
    do {                                                       \
        if (!(what)) {                                         \
            fprintf(stderr, "claim broken: %s\n", #what);      \
            save();                                            \
            abort();                                           \
        }                                                      \
    } while (0)

static uint64_t chance(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void save(void) {
    char name[64];
    snprintf(name, sizeof name, "crash-%s", kinds[current_kind]);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0) {
        ssize_t ignored = write(fd, current, current_size);
        (void)ignored;
        close(fd);
        fprintf(stderr, "left in %s\n", name);
    }
}

/* Called by the sanitizers before they end the process. */
void __asan_on_error(void);
void __asan_on_error(void) { save(); }

static void claim_sound(const struct options *o) {
    CLAIM(o->ports.n <= 65535 && o->n_headers <= MAX_HEADERS && o->n_answers <= MAX_ANSWERS);
    CLAIM(o->delay_min >= 0 && o->delay_min <= o->delay_max && o->quiet >= 0 &&
          o->drain_timeout >= 0 && o->patience >= 0);
    CLAIM(o->signal > 0 && o->signal <= 64);
    CLAIM(strlen(o->container) < sizeof o->container && o->container[0] != '\0');
    CLAIM(!ports_have(&o->ports, 0));
}

static void try_args(char *text) {
    static struct options o;
    char why[256];
    char *argv[128];
    int argc = 0;
    for (char *word = strtok(text, "\n"); word != NULL && argc < 127; word = strtok(NULL, "\n")) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    why[0] = '\0';
    if (argc == 0) {
        return;
    }
    if (options_parse(&o, argc, argv, why, sizeof why)) {
        claim_sound(&o);
        CLAIM(o.command != COMMAND_NONE);
        CLAIM(o.command != COMMAND_RUN || (o.argv != NULL && o.argv[0] != NULL));
    } else {
        CLAIM(why[0] != '\0');
    }
}

static void try_query(const char *text) {
    static struct options o;
    char why[256];
    if (options_query(&o, text, why, sizeof why)) {
        claim_sound(&o);
        CLAIM(!o.stop && o.argv == NULL && o.hook == HOOK_NONE && o.stop_command == NULL &&
              o.report_port == 0);
    }
}

/* However the bytes are cut, the answer for all of them is the same, and what is pointed at lies
 * inside. */
static void try_http(const char *data, size_t size) {
    static struct request r, again;
    if (size > HTTP_MOST) {
        size = HTTP_MOST;
    }
    enum http_state whole = http_parse(data, size, &r);
    if (whole == HTTP_READY) {
        CLAIM(r.path[0] == '/' && strlen(r.path) < sizeof r.path &&
              strlen(r.query) < sizeof r.query);
        CLAIM(r.body >= data && r.body + r.body_size <= data + size);
        for (size_t i = 0; i < size; i++) {
            enum http_state part = http_parse(data, i, &again);
            CLAIM(part == HTTP_MORE || part == HTTP_READY);
        }
        if (strcmp(r.path, "/drain") == 0) {
            try_query(r.query);
        }
    }
}

static void take_row(void *context, const struct row *row) {
    (*(unsigned *)context)++;
    for (int64_t calm = 0; calm <= 10000; calm += 2000) {
        enum verdict v = judge(row, calm);
        CLAIM(v <= OVER);
        CLAIM(row->state != LISTEN || v == OVER);
    }
}

static void try_diag(const unsigned char *data, size_t size) {
    unsigned rows = 0;
    int error = 0;
    uint32_t sequence = 0;
    if (size >= 12) {
        /* Of its own first message, or none would be read. */
        memcpy(&sequence, data + 8, sizeof sequence);
    }
    enum diag_more more = diag_parse(data, size, sequence, take_row, &rows, &error);
    CLAIM((more == DIAG_FAILED) == (error != 0));
    CLAIM(rows <= size / 16);
}

static void try_table(const char *data, size_t size) {
    struct row row;
    unsigned rows = 0;
    for (const char *end; (end = memchr(data, '\n', size)) != NULL;
         size -= (size_t)(end + 1 - data), data = end + 1) {
        if (nettable_line(data, (size_t)(end - data), &row)) {
            take_row(&rows, &row);
        }
    }
}

static void try_words(const char *data, size_t size) {
    struct options o = {.detect = true, .match = "app,server*,busybox httpd"};
    for (int detect = 0; detect < 2; detect++) {
        struct program found = {.profile = NULL};
        o.detect = detect != 0;
        enum kind kind = program_kind(data, size, &o, &found);
        CLAIM(kind == A_LAUNCHER || kind == ANOTHER || kind == A_MATCH);
        CLAIM(found.profile == NULL || (o.detect && kind == A_MATCH));
        CLAIM(strlen(found.name) < sizeof found.name);
    }
}

static void try_stat(const char *data) {
    struct process p;
    if (tree_stat(data, &p)) {
        CLAIM(p.parent >= 0 && p.pid == 0 && !p.inside);
    }
}

static void try_signals(const char *data) {
    uint64_t set = 1, again = 2;
    bool is_there = proc_set(data, "SigCgt", &set);
    CLAIM(!is_there || strstr(data, "SigCgt:") != NULL);
    CLAIM(proc_set(data, "SigCgt", &again) == is_there && (!is_there || set == again));
    proc_set(data, "SigBlk", &set);
}

/* Any answer to any question is rows, or an error with a reason; and it is an end. */
static void try_netlink(const unsigned char *data, size_t size) {
    static struct diag_filter filter;
    static struct ports ports;
    struct inet_diag_sockid id = {.idiag_sport = 1};
    unsigned rows = 0;
    int got[5];
    ports_add(&ports, 8000);
    ports_add(&ports, 80);
    diag_filter_ports(&filter, &ports);
    kernel_netlink(data, size);
    for (int i = 0; i < 5; i++) {
        errno = 0;
        got[i] = i == 0   ? diag_dump(7, DIAG_LISTENERS, NULL, take_row, &rows)
                 : i == 1 ? diag_dump(7, DIAG_CONNECTIONS, &filter, take_row, &rows)
                 : i == 2 ? diag_one(7, &id, 2, take_row, &rows)
                 : i == 3 ? diag_other_end(7, &id, 10, take_row, &rows)
                          : diag_ends(7, take_row, &rows);
        CLAIM(got[i] >= 0 || errno > 0);
        CLAIM(got[i] <= (i == 2 || i == 3 ? 1 : 0));
    }
    CLAIM(kernel_end() == 0);
}

/* Whatever /proc says, and whenever it stops to say it: a server is a process that was there, below
 * the root; nothing is left open. */
static void try_proc(const char *data, size_t size) {
    static struct members m;
    struct options o = {.detect = true, .match = "app,server*"};
    struct server found;
    uint32_t inodes[] = {11, 12, 4294967295u}, sockets[8];
    unsigned rows = 0;
    unsigned long sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += (unsigned char)data[i];
    }
    for (int round = 0; round < 6; round++) {
        int root = round % 2 + 1;
        kernel_proc(data, size, round < 2 ? ULONG_MAX : (sum + (unsigned long)round * 37) % 251);
        o.detect = root == 1;
        if (tree_server(&found, &o, root, root == 1, inodes, COUNT(inodes)) == 0) {
            CLAIM(found.pid >= 0 && found.root == root && (found.pid != root || root == 1));
            CLAIM(strlen(found.program.name) < sizeof found.program.name);
            init_passes_on(&found);
        }
        if (tree_programs(&m, &o, root) == 0) {
            CLAIM(m.n <= MAX_PROCESSES);
            for (unsigned i = 0; i < m.n; i++) {
                CLAIM(m.list[i].pid != root && program_signal(m.list[i].profile) > 0);
            }
        }
        if (tree_members(&m, root, true) == 0) {
            unsigned before = m.n;
            tree_refresh(&m);
            CLAIM(m.n <= MAX_PROCESSES && (before > 0 || m.n == 0));
        }
        CLAIM(tree_sockets(root, sockets, COUNT(sockets)) <= COUNT(sockets));
        init_takes(15);
        init_is_shared();
        nettable_dump(take_row, &rows);
        CLAIM(passive_opens() >= -1);
        CLAIM(kernel_end() == 0);
    }
}

/* Each in memory of exactly its size: one byte too far is seen. */
static void try_current(void) {
    char *copy = malloc(current_size + 1);
    CLAIM(copy != NULL);
    memcpy(copy, current, current_size);
    copy[current_size] = '\0';
    if (current_kind == 0) {
        try_args(copy);
    } else if (current_kind == 1) {
        try_query(copy);
    } else if (current_kind == 5 && current_size > 0) {
        try_words(copy, current_size);
    } else if (current_kind == 6) {
        try_stat(copy);
    } else if (current_kind == 7) {
        try_signals(copy);
    } else {
        char *exact = realloc(copy, current_size > 0 ? current_size : 1);
        CLAIM(exact != NULL);
        copy = exact;
        if (current_kind == 2) {
            try_http(copy, current_size);
        } else if (current_kind == 3) {
            try_diag((const unsigned char *)copy, current_size);
        } else if (current_kind == 4) {
            try_table(copy, current_size);
        } else if (current_kind == 8) {
            try_netlink((const unsigned char *)copy, current_size);
        } else if (current_kind == 9) {
            try_proc(copy, current_size);
        }
    }
    free(copy);
}

static void change(void) {
    static const unsigned char edges[] = {0,    1,    7,    8,   15,  16,  0x7f, 0x80,
                                          0xff, '\n', '\r', ' ', '=', '&', '%',  '-',
                                          '/',  ':',  ',',  '.', '0', '9'};
    size_t at = current_size > 0 ? chance() % current_size : 0, n;
    switch (chance() % 8) {
    case 0: /* one bit */
        if (current_size > 0) {
            current[at] ^= (unsigned char)(1u << chance() % 8);
        }
        break;
    case 1: /* one byte */
        if (current_size > 0) {
            current[at] = edges[chance() % sizeof edges];
        }
        break;
    case 2: /* cut off */
        current_size = at;
        break;
    case 3: /* take out */
        n = current_size > 0 ? chance() % (current_size - at) % 64 : 0;
        memmove(current + at, current + at + n, current_size - at - n);
        current_size -= n;
        break;
    case 4: /* put in twice */
        n = current_size > 0 ? chance() % (current_size - at) % 512 : 0;
        if (current_size + n <= MOST) {
            memmove(current + at + n, current + at, current_size - at);
            current_size += n;
        }
        break;
    case 5: /* many of one byte */
        n = chance() % 300;
        if (current_size + n <= MOST) {
            memmove(current + at + n, current + at, current_size - at);
            memset(current + at, edges[chance() % sizeof edges], n);
            current_size += n;
        }
        break;
    case 6: /* a piece of another */
    {
        const struct input *other = &corpus[chance() % n_corpus];
        size_t from = other->size > 0 ? chance() % other->size : 0;
        n = other->size > 0 ? chance() % (other->size - from) : 0;
        if (at + n <= MOST) {
            memcpy(current + at, other->data + from, n);
            current_size = at + n > current_size ? at + n : current_size;
        }
        break;
    }
    default: /* a number at its edge */
        if (current_size >= at + 4) {
            static const uint32_t numbers[] = {0,          1,  0x7fffffff, 0x80000000, 0xffffffff,
                                               0xfffffff0, 16, 17,         72,         65535};
            memcpy(current + at, &numbers[chance() % COUNT(numbers)], 4);
        }
    }
}

static void load(const char *path) {
    const char *name = base_name(path);
    name = strncmp(name, "crash-", 6) == 0 ? name + 6 : name;
    for (unsigned kind = 0; kind < COUNT(kinds); kind++) {
        if (strncmp(name, kinds[kind], strlen(kinds[kind])) == 0 && n_corpus < FILES) {
            int fd = open(path, O_RDONLY);
            struct input *input = &corpus[n_corpus];
            input->kind = kind;
            input->data = malloc(MOST);
            ssize_t got = fd >= 0 && input->data != NULL ? read(fd, input->data, MOST) : -1;
            if (got >= 0) {
                input->size = (size_t)got;
                n_corpus++;
            }
            close(fd);
        }
    }
}

int main(int argc, char **argv) {
    int64_t end = now_ms() + (argc > 1 ? atoi(argv[1]) * 1000 : 0);
    uint64_t runs = 0;
    for (int i = 2; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (dir == NULL) {
            load(argv[i]);
            continue;
        }
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
            char path[512];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            load(path);
        }
        closedir(dir);
    }
    if (n_corpus == 0) {
        fprintf(stderr, "fuzz: no corpus\n");
        return 2;
    }
    for (unsigned i = 0; i < n_corpus; i++, runs++) {
        current_kind = corpus[i].kind;
        current_size = corpus[i].size;
        memcpy(current, corpus[i].data, current_size);
        try_current();
    }
    while (now_ms() < end) {
        for (int i = 0; i < 1000; i++, runs++) {
            const struct input *base = &corpus[chance() % n_corpus];
            current_kind = base->kind;
            current_size = base->size;
            memcpy(current, base->data, current_size);
            for (uint64_t n = 1 + chance() % 6; n > 0; n--) {
                change();
            }
            try_current();
        }
    }
    printf("%u inputs, %llu runs, nothing found\n", n_corpus, (unsigned long long)runs);
    return 0;
}
