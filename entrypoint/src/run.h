/* `run`: PID 1 of a container, or beside another one. */
#pragma once
#include "options.h"

int run_main(const struct options *o);
