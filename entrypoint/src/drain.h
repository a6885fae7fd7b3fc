/* `drain`: the preStop hook. */
#pragma once
#include "options.h"

int drain_main(const struct options *o);
