/* Sockets by netlink: the kernel's sock_diag, with bytes and ages for each connection. Needs no privilege. */
#pragma once
#include "rules.h"

typedef void (*row_fn)(void *context, const struct row *row);

/* A descriptor, or -1 with errno. */
int diag_open(void);
/* Every TCP socket of the network namespace, both families; -1 with errno if the kernel would not tell. */
int diag_dump(int fd, row_fn each, void *context);

enum diag_more { DIAG_MORE, DIAG_DONE, DIAG_FAILED };
/* One datagram of an answer. Pure, for the fuzzer; *error is set on DIAG_FAILED. */
enum diag_more diag_parse(const unsigned char *data, size_t size, uint32_t sequence, row_fn each, void *context, int *error);
