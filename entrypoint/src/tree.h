/* The processes of the container, as /proc shows them: which of them is the server. */
#pragma once
#include "options.h"

/* Bytes of a command line that are read: a JVM of Kafka or Elasticsearch has 5 KB of options. */
enum { MAX_PROCESSES = 4096, MAX_COMMAND_LINE = 8192 };

struct process {
    pid_t pid, parent;
    uint64_t started; /* a pid may be given again; this with it is not */
    bool dead;        /* a zombie: nothing that can be waited for but by its parent */
    bool inside;      /* below the root */
    bool owner;       /* has one of the listening sockets */
};

struct profile {
    const char *name, *match, *signal, *stop_on, *stop_command;
    enum target target;
    bool observe, finishes;
};

/* What was found out about the server. `profile` is set with --detect, if its name was known. */
struct server {
    pid_t pid; /* 0: none was found */
    char name[32];
    const struct profile *profile;
};

/* A list of processes to wait for. */
struct members {
    struct process list[MAX_PROCESSES];
    unsigned n;
};

/* Find the server at or below `root`; `include_root`: root may be it. -1 with errno if /proc cannot be read. */
int tree_server(struct server *found, const struct options *o, pid_t root, bool include_root, const uint32_t *inodes, unsigned n_inodes);
/* `root` and everything below it, but for `root` itself unless `include_root`; those that are no zombies. -1 with errno. */
int tree_members(struct members *m, pid_t root, bool include_root);
/* Drop those that have ended; take up what those that remain have started meanwhile. */
void tree_refresh(struct members *m);
/* Whether a process handles or at least does not block and ignore a signal: PID 1 never gets one that it does not handle. */
bool tree_handles(pid_t pid, int signal);
/* Whether it is an init that hands the signals which it gets to its child. */
bool tree_passes_on(pid_t pid);
