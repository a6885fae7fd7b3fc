/* The command line, and what the sidecar answers: parsed once, then trusted. */
#pragma once
#include "base.h"

enum { MAX_HEADERS = 32, MAX_ANSWERS = 256 };

/* A set of ports, of any size. */
struct ports {
    uint64_t bits[65536 / 64];
    unsigned n;
};

static inline bool ports_have(const struct ports *p, uint16_t port) {
    return (p->bits[port / 64] >> (port % 64) & 1) != 0;
}
void ports_add(struct ports *p, uint16_t port);
void ports_clear(struct ports *p);
/* Add all of others. Pages that hold none of them stay untouched: each touched page costs memory in
 * every Pod. */
void ports_join(struct ports *p, const struct ports *others);

enum command {
    COMMAND_NONE,
    COMMAND_RUN,
    COMMAND_DRAIN,
    COMMAND_SIDECAR,
    COMMAND_INSTALL,
    COMMAND_VERSION,
    COMMAND_HELP
};
enum target { TARGET_SERVER, TARGET_CHILD, TARGET_GROUP };
enum order { HOOK_NONE, HOOK_BEFORE, HOOK_AFTER };

/* Times in milliseconds. */
struct options {
    enum command command;
    bool dry_run;

    char container[64];
    int64_t delay_min, quiet, delay_max, drain_timeout, patience, calm, deadline;
    bool observe, loopback, finishes;
    int64_t probe_period;
    uint32_t report_host;            /* network order */
    uint16_t report_port;            /* 0: nobody is told */
    const char *termination_message; /* "": none is written */

    bool detect;
    int signal;
    const char *stop_command;
    enum target target;
    const char *match;
    uint64_t stop_on;

    bool stop, strict;
    enum order hook;
    int64_t hook_sleep, hook_timeout; /* -1: none */
    const char *hook_url;
    const char *hook_headers[MAX_HEADERS];
    unsigned n_headers;

    const char *dir;
    uint16_t port;
    bool listen_pod;                  /* on every address of the Pod, not on loopback alone */
    const char *answers[MAX_ANSWERS]; /* what /drain waits for, a query each */
    unsigned n_answers;

    char *const *argv; /* what follows "--"; NULL if nothing does */

    struct ports ports; /* the last, and 8 KB: written only where there are any */
};

/* Returns false if a word is not understood: `why` (at least 256 bytes) names it, its value and
 * what is accepted. */
bool options_parse(struct options *o, int argc, char *const argv[], char *why, size_t size);
/* The value of --answer: the same names and values as on the command line, but only those about
 * observing. */
bool options_query(struct options *o, const char *query, char *why, size_t size);
/* What was understood, one "name value" a line, on standard output: for --dry-run. */
void options_print(const struct options *o);
