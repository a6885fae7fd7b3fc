/* What every file needs: exit codes, the clock, text in fixed buffers, messages. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef VERSION
#define VERSION "dev"
#endif

/* A shell's exit codes. 125 means "the helper itself failed", as in env(1) and timeout(1). */
enum { EXIT_OWN = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

int64_t now_ms(void);
void sleep_ms(int64_t ms);

/* Text in a buffer of fixed size. What does not fit is left out, and `cut` is set. Always ends in
 * NUL. */
struct text {
    char *at;
    size_t len, cap;
    bool cut;
};
#define TEXT(buffer) ((struct text){.at = (buffer), .len = 0, .cap = sizeof(buffer), .cut = false})

void text_add(struct text *t, const char *s);
void text_bytes(struct text *t, const char *s, size_t n);
void text_num(struct text *t, int64_t n);
void text_json(struct text *t, const char *s);
/* For a terminal: what is not printable ASCII becomes \xNN. */
void text_plain(struct text *t, const char *s);

/* A number as text; `buffer` is at least 24 bytes and is returned. */
char *num(char *buffer, int64_t n);
/* Digits only, at most `max`; -1 if it is anything else. */
int64_t parse_num(const char *s, size_t n, int64_t max);
/* The part of a path after its last slash. */
const char *base_name(const char *path);
/* Whether one of the comma-separated words of `list` is the first n bytes of s. */
bool in_list(const char *list, const char *s, size_t n);

/* Messages for people: one line each, on the container's standard error if it can be opened. Names
 * in them come from outside and may hold anything, so text_plain writes them. Keeps errno. */
void say(const char *first, ...) __attribute__((sentinel));
/* Facts for machines: one JSON line each, in the same place: standard output belongs to the
 * application. `line` ends in a newline. */
void log_line(const char *line, size_t len);
/* For a process that the kubelet started beside PID 1: write to PID 1's log, because only that is
 * kept. */
void log_to_container(void);
/* For a process whose standard output is its log: facts go there. */
void log_to_output(void);
