/* Which requests come from hooks. A hook of one container that asks a neighbour in the same Pod
 * waits for the answer; a neighbour that drains would wait for the hook's connection: each for the
 * other. So who runs a hook makes known which sockets it has, and who drains leaves those out.
 *
 * The containers share a network, not processes. What both can see is the number of a socket: its
 * owner in /proc/PID/fd, all others in sock_diag. It is the name of an abstract Unix socket for as
 * long as the hook has it. Nothing else is known of a request from inside: what a proxy of the same
 * Pod passes on for a client is owed, as ever. */
#pragma once
#include "rules.h"

/* Make known what the hook has open by now: `fd`, or what the process `pid` and all below it have;
 * -1: not this one. Costs a look through /proc; returns at once if the last was a moment ago. */
void asks_publish(int fd, pid_t pid);
/* The hook is over. */
void asks_withdraw(void);

/* Whether a hook has the socket with this number. A name counts only if its owner is of the same
 * user as the socket, or root. */
bool asks_has(uint32_t inode, uint32_t user);
