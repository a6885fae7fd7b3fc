/* Two helpers in one container: the hook finds PID 1's `run`, or another hook that is already at
 * it.
 *
 * By abstract Unix sockets: no file, so a read-only root and any user will do, and the name goes
 * with the process. They live in the network namespace, which the Pod's containers share, and
 * anybody there may take any name first. So a name holds the PID namespace; who answers is believed
 * only if it is a process of the same one; and a name that a stranger has is passed over for the
 * next. */
#pragma once
#include "base.h"

/* What `run` answers to a hook. The socket closing without one means that whoever was at it is
 * gone. */
enum { WORD_DRAINED = 'D', WORD_GONE = 'G' };

/* `role`: "run" or "drain". -1 with errno; EADDRINUSE: another helper of this container is at
 * it. */
int control_listen(const char *role, const char *container);
/* -1 if no helper of this container listens. */
int control_connect(const char *role, const char *container);
/* A peer, or -1. */
int control_accept(int fd);
