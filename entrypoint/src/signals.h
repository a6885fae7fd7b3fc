/* Signals by name, blocked and forwarded by the kernel's numbers: the C library keeps 32 to 34 to
 * itself. */
#pragma once
#include "base.h"

enum { SIGNALS = 64 };

/* "TERM", "SIGTERM", "15", "RTMIN+3", "RTMAX-1"; 0 if it is no signal. */
int signal_number(const char *s, size_t n);
/* The name without SIG; `buffer` is at least 24 bytes. */
const char *signal_name(char *buffer, int number);
/* One bit a signal, as the kernel has it. */
static inline uint64_t signal_bit(int number) { return (uint64_t)1 << (number - 1); }

/* Block every signal; returns 0 or -1 with errno. */
int signals_block(void);
/* A descriptor from which every signal is read; -1 with errno. */
int signals_open(void);
/* For a new process before exec: no signal blocked, none ignored (a background job of a shell has
 * INT and QUIT ignored). */
void signals_reset(void);
