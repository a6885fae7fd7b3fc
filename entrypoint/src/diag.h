/* Sockets by netlink: the kernel's sock_diag, with bytes and ages for each connection. Needs no
 * privilege.
 *
 * In: ports. Out: rows. What a row means belongs in rules.c, what to remember of it in watch.c. */
#pragma once
#include <linux/inet_diag.h>

#include "options.h"
#include "rules.h"

typedef void (*row_fn)(void *context, const struct row *row);

/* What the kernel leaves out before it answers: a program for its inet_diag filter. */
struct diag_filter {
    enum { MOST_RANGES = 512 } limits;
    size_t size; /* bytes of it; 0: nothing is left out */
    struct inet_diag_bc_op program[MOST_RANGES * 5];
};

/* Pass only sockets whose local port is one of these. Very scattered ports (over 512 ranges): the
 * kernel filters nothing. */
void diag_filter_ports(struct diag_filter *f, const struct ports *ports);

/* A descriptor, or -1 with errno. */
int diag_open(void);
enum diag_what { DIAG_LISTENERS, DIAG_CONNECTIONS };
/* TCP sockets of the network namespace, both families, in one walk: listeners alone, or listeners
 * and every connection that may still have something in flight. `f` may be NULL. -1 with errno if
 * the kernel refuses. */
int diag_dump(int fd, enum diag_what what, const struct diag_filter *f, row_fn each, void *context);
/* One connection by row.id: 1 and a row, 0 if it is not there any more, -1 with errno. */
int diag_one(int fd, const void *id, uint8_t family, row_fn each, void *context);

/* The same for its other end, which is also a socket of this network namespace if the connection
 * does not leave it. A listener may turn up in its place. */
int diag_other_end(int fd, const void *id, uint8_t family, row_fn each, void *context);

/* A descriptor that reports every connection that ends, whether a dump has seen it or not; -1 if
 * there is none. */
int diag_open_ends(void);
/* From now on only those with one of these local ports: others must not fill its queue. */
void diag_filter_ends(int fd, const struct ports *ports);
/* Connections that have ended since the last call; -1 if there were more than the kernel could
 * queue. */
int diag_ends(int fd, row_fn each, void *context);

enum diag_more { DIAG_MORE, DIAG_DONE, DIAG_FAILED };
/* One datagram of an answer. Pure, for the fuzzer; *error is set on DIAG_FAILED. */
enum diag_more diag_parse(const unsigned char *data, size_t size, uint32_t sequence, row_fn each,
                          void *context, int *error);
