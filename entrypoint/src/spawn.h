/* Start a program in a process group of its own. */
#pragma once
#include "base.h"

/* Returns the process id once the program runs, or -1 if it does not: then *code is the exit code
 * (125 to 127), and the reason is in the log. `terminal`: give it the foreground of our terminal,
 * if there is one. */
pid_t spawn(char *const argv[], bool terminal, int *code);
/* The same for words in one string, split at blanks. No shell. */
pid_t spawn_words(const char *words, int *code);
/* Become the program, where a sandbox or a limit refuses what the helper needs: that is no reason
 * for it not to start. Returns only if it cannot be run: the exit code. */
int spawn_instead(char *const argv[]);
/* Exit status of wait(2) as a shell tells it. */
int shell_code(int status);
