/* What PID 1 of the container does with a stop signal. */
#pragma once
#include "tree.h"

/* Whether PID 1 does something with a signal. */
bool init_takes(int signal);
/* Whether PID 1 is a supervisor that stops what it has started, each program in its own order with
 * its own signal and limit, and would start again what ends otherwise. */
bool init_is_supervisor(void);
/* Whether TERM to PID 1 reaches the server: PID 1 is an init that passes signals on, or such a
 * supervisor. */
bool init_passes_on(const struct server *server);
/* Whether PID 1 belongs to other containers too: then do not look for a server below it. */
bool init_is_shared(void);
