#include "init.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "launchers.gen.h"
#include "proc.h"

static bool is_named(pid_t pid, const char *list) {
    char data[256];
    ssize_t size = proc_read(pid, "comm", data, sizeof data);
    if (size > 1 && in_list(list, data, (size_t)size - 1)) {
        return true;
    }
    if (proc_read(pid, "cmdline", data, sizeof data) <= 0) {
        return false;
    }
    const char *name = data;
    size_t n = program_name(&name);
    return in_list(list, name, n);
}

/* Some inits take signals by sigtimedwait, which no mask shows while they wait. */
bool init_takes(int signal) {
    return proc_handles(1, signal) || is_named(1, FORWARDING_INITS);
}

bool init_is_supervisor(void) {
    /* runsvdir ends on TERM, and tells nobody. */
    return is_named(1, INITS ",supervisord") && !is_named(1, FORWARDING_INITS ",runsvdir") &&
           proc_handles(1, SIGTERM);
}

bool init_passes_on(const struct server *server) {
    /* They hand it to their child. dumb-init hands it to the child's group as well, but ends with
     * the child: what is below a shell has no time. */
    if (is_named(1, FORWARDING_INITS)) {
        return server->parent == 1;
    }
    return init_is_supervisor() ||
           (proc_handles(1, SIGTERM) &&
            proc_is_same_program(1, server->pid)); /* a master and its worker */
}

/* The pause container by its name. Otherwise compare PID 1 with this process, which runs in the
 * container to stop: by file system or, where that is not readable, by control group. */
bool init_is_shared(void) {
    char one[512], own[512];
    if (getpid() == 1) {
        return false;
    }
    if (is_named(1, "pause")) {
        return true;
    }
    if (proc_link(1, "ns/mnt", one, sizeof one) && proc_link(getpid(), "ns/mnt", own, sizeof own)) {
        return strcmp(one, own) != 0;
    }
    return proc_read(1, "cgroup", one, sizeof one) > 0 &&
           proc_read(getpid(), "cgroup", own, sizeof own) > 0 && strcmp(one, own) != 0;
}
