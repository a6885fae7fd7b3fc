/* Tell a fact to those who read it: the container's log, the sidecar, the Pod's status. */
#pragma once
#include "options.h"
#include "record.h"

/* To the log and to the sidecar, which has half a second to answer. */
void report(const struct options *o, const struct record *r);
/* Lines into the container's termination message, which the kubelet takes into the Pod's status.
 * Only into a file that is there and empty, or holds nothing but what this process wrote; at most
 * 4096 bytes in all. What the application wrote stays as it is. */
void termination_message(const struct options *o, const char *lines, size_t size);
