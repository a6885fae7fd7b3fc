/* The processes of the container, as /proc shows them: which of them is the server. */
#pragma once
#include "program.h"

/* Bytes of a command line that are read: a JVM of Kafka or Elasticsearch has 5 KB of options. */
enum { MAX_PROCESSES = 4096, MAX_COMMAND_LINE = 8192 };

struct process {
    pid_t pid, parent;
    uint64_t started;  /* the kernel reuses a pid, but not with this time */
    uint16_t listener; /* the first of the listening sockets that it has, counted from 1; 0: none */
    uint8_t kind;      /* of those that are inside, where it was asked for: enum kind */
    uint8_t profile;   /* of A_MATCH, with --detect: counted from 1; 0: none */
    bool dead;         /* a zombie: only its parent can wait for it */
    bool inside;       /* below the root */
};

/* What is known about the server. */
struct server {
    pid_t pid; /* 0: none was found */
    pid_t root, parent;
    uint64_t started;
    struct program program;
    bool trap;   /* in front of it: a shell with a trap for TERM, or a program that handles TERM */
    pid_t shell; /* with a trap for TERM that has to wait for the server, in front of it; 0: none */
    uint64_t shell_started;
    bool guess;  /* neither a name nor a socket told which it is */
};

/* A list of processes to wait for. */
struct members {
    struct process list[MAX_PROCESSES];
    unsigned n;
};

/* Find the server below `root`, or `root` itself where `include_root`. Listening sockets come in
 * order: the owner of the first is preferred. -1 with errno if /proc cannot be read. */
int tree_server(struct server *found, const struct options *o, pid_t root, bool include_root,
                const uint32_t *inodes, unsigned n_inodes);
/* Everything below `root`, without zombies; `root` itself only with `include_root`. -1 with errno.
 */
int tree_members(struct members *m, pid_t root, bool include_root);
/* Of these, the programs at the top: those with only launchers between them and `root`. A shell
 * that has a trap for TERM is one. -1 with errno. */
int tree_programs(struct members *m, const struct options *o, pid_t root);
/* Drop those that have ended; add what the others have started meanwhile. */
void tree_refresh(struct members *m);
bool tree_has(const struct members *m, const struct process *p);

/* The sockets that `root` and all below it have open, each once, at most `most` of them. Returns
 * their number. */
unsigned tree_sockets(pid_t root, uint32_t *inodes, unsigned most);

/* When a process started, in the kernel's ticks; 0 if that is not known. */
uint64_t tree_started(pid_t pid);
/* Signal this process, and no other that may have its pid by now; a pid below 0 is a group, or all.
 * -1 with errno; ESRCH: it has ended. */
int tree_signal(const struct process *p, int signal);

/* Pure, for the fuzzer: /proc/PID/stat. */
bool tree_stat(const char *data, struct process *p);
