/* Copy this program into a directory. */
#pragma once
#include "base.h"

/* 0, or EXIT_OWN after saying why. */
int install_main(const char *dir);
