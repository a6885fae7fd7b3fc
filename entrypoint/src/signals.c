#include "signals.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Texts, not pointers: each pointer would have to be relocated at the start. */
static const char names[][7] = {
    "",     "HUP",  "INT",  "QUIT", "ILL",    "TRAP",   "ABRT",  "BUS",  "FPE",  "KILL", "USR1",
    "SEGV", "USR2", "PIPE", "ALRM", "TERM",   "STKFLT", "CHLD",  "CONT", "STOP", "TSTP", "TTIN",
    "TTOU", "URG",  "XCPU", "XFSZ", "VTALRM", "PROF",   "WINCH", "IO",   "PWR",  "SYS",
};

/* Container runtimes count real-time signals from 34, the C library's first free one on the
 * machines where they were built. */
enum { RT_MIN = 34, RT_MAX = 64 };

int signal_number(const char *s, size_t n) {
    int64_t plain = parse_num(s, n, SIGNALS);
    if (plain >= 0) {
        return (int)plain;
    }
    if (n > 3 && memcmp(s, "SIG", 3) == 0) {
        s += 3;
        n -= 3;
    }
    for (int i = 1; i < (int)COUNT(names); i++) {
        if (strlen(names[i]) == n && memcmp(names[i], s, n) == 0) {
            return i;
        }
    }
    if (n >= 5 && (memcmp(s, "RTMIN", 5) == 0 || memcmp(s, "RTMAX", 5) == 0)) {
        bool low = s[4] == 'N';
        int64_t offset = 0;
        if (n > 5) {
            offset = s[5] == (low ? '+' : '-') ? parse_num(s + 6, n - 6, RT_MAX - RT_MIN) : -1;
        }
        return offset < 0 ? 0 : low ? RT_MIN + (int)offset : RT_MAX - (int)offset;
    }
    return 0;
}

const char *signal_name(char *buffer, int number) {
    if (number > 0 && number < (int)COUNT(names)) {
        return names[number];
    }
    memcpy(buffer, "RTMIN+", 7);
    if (number >= RT_MIN) {
        num(buffer + 6, number - RT_MIN);
    } else {
        num(buffer, number);
    }
    return buffer;
}

/* sigfillset() leaves out the signals that the C library uses for threads. There are no threads
 * here, and a signal left out would kill PID 1 of an unlucky container. */
int signals_block(void) {
    uint64_t all = ~(uint64_t)0;
    return (int)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
}

int signals_open(void) {
    uint64_t all = ~(uint64_t)0;
    enum { CLOEXEC = 02000000, NONBLOCK = 04000 };
    return (int)syscall(SYS_signalfd4, -1, &all, sizeof all, CLOEXEC | NONBLOCK);
}

void signals_reset(void) {
    /* The kernel's struct sigaction (handler, flags, restorer, mask): all zero means the default,
     * on both architectures. */
    static const uint64_t by_default[4] = {0, 0, 0, 0};
    uint64_t none = 0;
    for (int i = 1; i <= SIGNALS; i++) {
        syscall(SYS_rt_sigaction, i, by_default, NULL, sizeof none);
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}
