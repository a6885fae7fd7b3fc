#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "signals.h"

/* The child, up to exec. Signals stay blocked until the last moment: one that came between fork and
 * exec meets the program's defaults, as if it had come a moment later. */
static _Noreturn void become(char *const argv[], bool terminal, int report) {
    setpgid(0, 0);
    if (terminal) {
        /* With TTOU blocked, a background process can take the terminal. Without a terminal,
         * nothing happens. */
        tcsetpgrp(STDIN_FILENO, getpgrp());
    }
    signals_reset();
    execvp(argv[0], argv);
    int why = errno;
    ssize_t ignored = write(report, &why, sizeof why);
    (void)ignored;
    _exit(why == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

pid_t spawn(char *const argv[], bool terminal, int *code) {
    int report[2];
    *code = EXIT_OWN;
    if (pipe2(report, O_CLOEXEC) != 0) {
        say("pipe2: ", strerror(errno), NULL);
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        become(argv, terminal, report[1]);
    }
    int failed = errno;
    close(report[1]);
    if (pid < 0) {
        say("fork: ", strerror(failed), NULL);
        close(report[0]);
        return -1;
    }
    setpgid(pid, pid); /* both sides do it, so neither depends on who runs first */
    int why = 0;
    ssize_t got;
    do {
        got = read(report[0], &why, sizeof why); /* end of file: exec closed it, the program runs */
    } while (got < 0 && errno == EINTR);
    close(report[0]);
    if (got <= 0) {
        return pid;
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    *code = why == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
    say("cannot run ", argv[0], ": ", strerror(why), NULL);
    return -1;
}

int spawn_instead(char *const argv[]) {
    say("the command runs without the helper, and stops as it would without it", NULL);
    signals_reset();
    execvp(argv[0], argv);
    int why = errno;
    say("cannot run ", argv[0], ": ", strerror(why), NULL);
    return why == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

pid_t spawn_words(const char *words, int *code) {
    char copy[1024];
    char *argv[32];
    size_t n = 0, len = strlen(words);
    *code = EXIT_OWN;
    if (len >= sizeof copy) {
        say("stop command is longer than 1023 bytes", NULL);
        return -1;
    }
    memcpy(copy, words, len + 1);
    for (char *at = copy;;) {
        at += strspn(at, " \t");
        if (*at == '\0') {
            break;
        }
        if (n == COUNT(argv) - 1) {
            say("stop command has more than 31 words", NULL);
            return -1;
        }
        argv[n++] = at;
        at += strcspn(at, " \t");
        if (*at != '\0') {
            *at++ = '\0';
        }
    }
    argv[n] = NULL;
    return n > 0 ? spawn(argv, false, code) : -1;
}

int shell_code(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
