/* The user's own preStop hook: a program, a GET, or a sleep. */
#pragma once
#include "options.h"
#include "record.h"

struct hook_result {
    int code; /* as a shell tells it; 0 or 1 for a GET */
    int64_t ms;
    enum outcome outcome;
};

/* Run it to its end, or until `end` (INT64_MAX: no limit but the kubelet's). `gone` is a
 * descriptor; when it closes or says WORD_GONE, the container is ending, and the wait ends too. -1:
 * none. */
struct hook_result hook_run(const struct options *o, int64_t end, int gone);
/* A connection to a port of this Pod, as a client would make it: at the Pod's own address, else at
 * loopback. -1: none. */
int hook_connect(uint16_t port, int64_t end);
