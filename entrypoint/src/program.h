/* Which program a command line runs. In: the words, as /proc/PID/cmdline has them. Out: its name as
 * a person would give it, and with --detect its profile. */
#pragma once
#include "options.h"

enum kind { A_LAUNCHER, A_TRAP, ANOTHER, A_MATCH }; /* A_TRAP: a shell that has a trap for TERM */

struct profile {
    const char *name, *match, *signal, *stop_on, *stop_command;
    enum target target;
    bool observe, finishes;
    uint8_t number; /* counted from 1 */
};

struct program {
    char name[32];
    const struct profile *profile; /* with --detect, if the name is known */
};

/* Pure: a command line of `size` bytes and a NUL after them. */
enum kind program_kind(const char *data, size_t size, const struct options *o,
                       struct program *found);
/* The name in one word: *word moves to its beginning. Returns its length. */
size_t program_name(const char **word);
/* The signal that means "finish and exit" to a profile, by its number, or TERM. */
int program_signal(unsigned profile);
