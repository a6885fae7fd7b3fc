/* `sidecar`: installs, then answers: it holds hooks of containers that take no mount, and keeps the
 * record of the others. */
#pragma once
#include "options.h"

int sidecar_main(const struct options *o);
