/* Tell a fact to the container's log and to the sidecar. */
#pragma once
#include "options.h"

/* `line` ends in a newline. The sidecar gets half a second; one that does not answer costs no more. */
void report(const struct options *o, const char *line, size_t len);
