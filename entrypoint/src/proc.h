/* What /proc tells about a process. In: a pid. Out: its files, links, descriptors and signals.
 * Which processes there are, and which is the server, belongs to `tree`. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Write "/proc/PID/NAME". */
void proc_path(char *buffer, size_t size, pid_t pid, const char *name);
/* Read such a file and end it with a NUL. Returns the bytes, or -1. */
ssize_t proc_read(pid_t pid, const char *name, char *buffer, size_t size);
/* Read a link such as ns/mnt. False if that cannot be read. */
bool proc_link(pid_t pid, const char *name, char *to, size_t size);
/* Call `each` for every entry of a directory that is a number. -1 with errno. */
int proc_each(const char *path, void (*each)(void *context, int64_t number), void *context);
/* The number of the socket behind a descriptor, of those in the directory `prefix`; below 1: it is
 * not a socket. */
int64_t proc_socket(const char *prefix, int64_t number);

/* Whether a process has a handler for a signal. */
bool proc_catches(pid_t pid, int signal);
/* Whether it handles a signal, or blocks it, like an init that waits for signals by other means:
 * PID 1 never gets a signal that it does not handle. True if that cannot be read. */
bool proc_handles(pid_t pid, int signal);
/* Whether both have the same command line. */
bool proc_is_same_program(pid_t a, pid_t b);

/* Pure, for the fuzzer: a set of signals in /proc/PID/status. */
bool proc_set(const char *status, const char *name, uint64_t *set);
