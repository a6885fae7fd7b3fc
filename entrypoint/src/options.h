/* The command line, and the query of the sidecar's /drain: parsed once, then trusted. */
#pragma once
#include "base.h"

enum { MAX_PORTS = 64, MAX_HEADERS = 32 };

enum command { COMMAND_NONE, COMMAND_RUN, COMMAND_DRAIN, COMMAND_SIDECAR, COMMAND_INSTALL, COMMAND_VERSION, COMMAND_HELP };
enum target { TARGET_SERVER, TARGET_CHILD, TARGET_GROUP };
enum order { HOOK_NONE, HOOK_BEFORE, HOOK_AFTER };

/* Times in milliseconds. */
struct options {
    enum command command;
    bool dry_run;

    char container[64];
    uint16_t ports[MAX_PORTS];
    unsigned n_ports;
    int64_t delay_min, quiet, delay_max, drain_timeout, patience, calm, deadline;
    bool observe, loopback;
    int64_t probe_period;
    uint32_t report_host; /* network order */
    uint16_t report_port; /* 0: nobody is told */

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

    char *const *argv; /* what follows "--"; NULL if nothing does */
};

/* Returns false if something is not understood: `why` (at least 256 bytes) names it, its value and what is accepted. */
bool options_parse(struct options *o, int argc, char *const argv[], char *why, size_t size);
/* The path of GET /drain?container=...; the same names and values as on the command line, those that observe only. */
bool options_query(struct options *o, const char *query, char *why, size_t size);
/* What was understood, one "name value" a line, on standard output: for --dry-run. */
void options_print(const struct options *o);
