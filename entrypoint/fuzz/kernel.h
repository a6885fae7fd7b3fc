/* A kernel that answers as the input says: for the readers of netlink and /proc as a whole, with
 * their loops, retries and descriptors. The linker puts it in place of the C library (--wrap). */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Netlink: a list of steps, each 3 bytes, the last two a length, and as many bytes. A step is one
 * datagram (0: as an answer to the last question; 1: with a number of its own), or what may happen
 * instead: EINTR of poll (2), nothing in time (3), EINTR (4), EAGAIN (5), ENOBUFS (6), a datagram
 * larger than the buffer (7), an empty one (8). After that nothing comes. */
void kernel_netlink(const unsigned char *data, size_t size);
/* /proc: files, each "PATH=TEXT" and a byte 1. PATH is below /proc; SELF in it is this process. Two
 * entries are not files. "gone=N": after N calls everything is gone; "short=N": a read gives N
 * bytes. `last`: the same as gone. */
void kernel_proc(const char *data, size_t size, unsigned long last);
/* The real one again. Returns how many descriptors were left open. */
unsigned kernel_end(void);
