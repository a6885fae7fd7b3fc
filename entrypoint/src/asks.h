/* Which requests come from hooks. A hook may ask another container of the same Pod and wait for the
 * answer, while that container drains and waits for the hook's connection: a deadlock. So the
 * helper that runs a hook publishes the hook's sockets, and a helper that drains leaves those out.
 *
 * The containers share a network, not processes. Both can see a socket's number: its owner in
 * /proc/PID/fd, everybody else in sock_diag. The number names an abstract Unix socket for as long
 * as the hook has the socket open. Nothing else is known about a request from inside the Pod: what
 * a proxy of the same Pod passes on for a client counts as in flight. */
#pragma once
#include "rules.h"

/* Publish the sockets that the hook has open now: `fd`, or those of the process `pid` and all below
 * it; -1: not this one. Reads /proc; returns at once if the last call was a moment ago. */
void asks_publish(int fd, pid_t pid);
/* The hook is over. */
void asks_withdraw(void);

/* Whether a hook has the socket with this number. A name counts only if it belongs to the user who
 * has the socket, or to root. */
bool asks_has(uint32_t inode, uint32_t user);
