/* Sockets by the text tables /proc/net/tcp and tcp6: queues and states, no bytes and no ages. */
#pragma once
#include "diag.h"

/* -1 with errno if there is no such table. */
int nettable_dump(row_fn each, void *context);
/* One line of it; false for the heading and for a line that is no socket. Pure, for the fuzzer. */
bool nettable_line(const char *line, size_t size, struct row *row);
/* How many connections this network namespace has accepted since it began, on any port; -1 if the
 * kernel does not tell. */
int64_t passive_opens(void);
