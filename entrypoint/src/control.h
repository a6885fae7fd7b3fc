/* Two helpers in one container: a hook finds `run` as PID 1, or another hook that is already
 * draining.
 *
 * They meet on abstract Unix sockets. These need no file, so a read-only root and any user will do,
 * and the name ends with the process. They live in the network namespace, which the Pod's
 * containers share, and anybody there may take any name first. So a name contains the PID
 * namespace, a peer is believed only if it is in the same one, and a name that a stranger has taken
 * is skipped for the next. */
#pragma once
#include "base.h"

/* What `run` answers to a hook. If the socket closes without an answer, the other side is gone. */
enum { WORD_DRAINED = 'D', WORD_GONE = 'G' };

/* `role`: "run" or "drain". -1 with errno; EADDRINUSE: another helper of this container is already
 * draining. */
int control_listen(const char *role, const char *container);
/* -1 if no helper of this container listens. */
int control_connect(const char *role, const char *container);
/* A peer, or -1. */
int control_accept(int fd);
