/* The life of a hook: the user's own hook first where it comes before; wait for real requests; the user's hook where it
 * comes after; stop the server, unless somebody else does; return.
 *
 * Who stops the server:
 *   `run` is PID 1            it does the waiting too, the hook asks it to and returns when it has drained. The stop signal
 *                             that the kubelet sends next makes `run` stop the server.
 *   its signal is TERM,       and PID 1 is the server or an init that passes it on: the kubelet sends
 *                             it as soon as the hook returns.
 *   PID 1 keeps TERM          (it ends, and with it everything): we send it, and wait for the server.
 *   nothing is in flight      we send it, but from a process of its own, a moment after the hook has returned. The kernel kills
 *                             a hook together with PID 1; the kubelet calls that a failed hook, and a runtime that is asked to
 *                             stop a container at the very moment of its end may lose track of it.
 *   the drain met its cap     we send it, and return once nothing more can be lost: TERM, which follows, would cut the rest.
 */
#include "drain.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control.h"
#include "hook.h"
#include "phases.h"
#include "report.h"
#include "signals.h"
#include "stop.h"

enum { POLL_MS = 100, QUICK_MS = 5, QUICK_FOR_MS = 300, FLUSH_MS = 2000, RESERVE_MS = 4000, SLACK_MS = 10000, ASIDE_MS = 1000 };

static struct phases phases;

static void report_hook(const struct options *o, const struct hook_result *r) {
    char data[512], number[32];
    struct text line = TEXT(data);
    text_add(&line, "{\"podgrace\":\"hook\",\"container\":");
    text_json(&line, o->container);
    text_add(&line, o->hook == HOOK_BEFORE ? ",\"order\":\"before\"" : ",\"order\":\"after\"");
    text_add(&line, ",\"end\":");
    text_json(&line, r->end);
    text_add(&line, ",\"code\":");
    text_add(&line, num(number, r->code));
    text_add(&line, ",\"hook_ms\":");
    text_add(&line, num(number, r->ms));
    text_add(&line, "}\n");
    report(o, data, line.len);
}

/* Ask `run`. False: it went away (and the container with it, or nothing has been drained). */
static bool ask_run(const struct options *o, int fd) {
    struct pollfd answer = {.fd = fd, .events = POLLIN, .revents = 0};
    int64_t limit = o->delay_max + o->drain_timeout + SLACK_MS;
    char word = 0;
    return poll(&answer, 1, (int)limit) > 0 && recv(fd, &word, 1, 0) == 1 && word == WORD_DRAINED;
}

/* Another call of this hook is at it (kubelets repeat hooks when they restart): its end is ours. */
static int follow_first(const struct options *o) {
    int first = control_connect("drain", o->container);
    say("this container is being drained already: waiting for that", NULL);
    while (first >= 0) {
        struct pollfd end = {.fd = first, .events = POLLIN, .revents = 0};
        if (poll(&end, 1, -1) > 0) {
            break;
        }
    }
    return 0;
}

static void record(const struct options *o, const struct server *server, const char *next) {
    char data[1024];
    struct text line = TEXT(data);
    phases_record(&phases, &line, "hook", server->profile != NULL ? server->profile->name : o->detect ? "generic" : "given", next);
    report(o, data, line.len);
}

/* Nobody listens, nothing is owed, nothing is on its way: whatever happens to the processes now, no request is lost. */
static bool nothing_to_lose(void) {
    const struct watch *w = &phases.watch;
    watch_look(&phases.watch, now_ms());
    return w->method != BY_TIME && w->listeners == 0 && w->busy == 0;
}

/* The server is PID 1. See the head of this file. */
static void stop_init(struct stop *s) {
    const struct options *o = s->options;
    char name[32];
    int64_t now = now_ms(), began = now;
    if (!tree_handles(1, s->signal)) {
        say("PID 1 has no handler for ", signal_name(name, s->signal), ": the kernel does not deliver it; mode wrap would", NULL);
        return;
    }
    stop_begin(s, now);
    left.n = 1;
    left.list[0] = (struct process){.pid = 1, .started = s->server.started};
    while ((now = now_ms()) - began < o->patience && s->stage == SIGNALLED) {
        stop_command_reap(s);
        if (nothing_to_lose()) {
            return;
        }
        if (now >= s->next_word) {
            stop_step(s, now);
        }
        sleep_ms(now - began < QUICK_FOR_MS ? QUICK_MS : POLL_MS);
    }
}

/* The server is below PID 1 (a shell, an init, npm). When it ends PID 1 often ends at once, and this process with it; so the
 * end is noticed by descriptor where the kernel has those, and nothing is written after a clean one. */
static void stop_process(struct stop *s) {
    int handle = (int)syscall(SYS_pidfd_open, s->server.pid, 0);
    struct pollfd gone = {.fd = handle, .events = POLLIN, .revents = 0};
    bool all = s->server.guess; /* then more than one gets the signal */
    if (tree_members(&left, all ? 1 : s->server.pid, !all) != 0) {
        return;
    }
    stop_begin(s, now_ms());
    while (left.n > 0) {
        int64_t wait = stop_step(s, now_ms());
        if (poll(&gone, 1, (int)wait) > 0) {
            if (left.n == 1) {
                break;
            }
            gone.fd = -1; /* the others are polled */
        }
        tree_refresh(&left);
    }
    for (int64_t end = now_ms() + FLUSH_MS; now_ms() < end; sleep_ms(POLL_MS)) {
        watch_look(&phases.watch, now_ms());
        if (phases.watch.method == BY_TIME || phases.watch.by_verdict[UNSENT] == 0) {
            break;
        }
    }
}

static void report_stop(const struct stop *s) {
    char data[512], number[32];
    struct text line = TEXT(data);
    text_add(&line, "{\"podgrace\":\"stop\",\"container\":");
    text_json(&line, s->options->container);
    text_add(&line, ",\"stop_ms\":");
    text_add(&line, num(number, now_ms() - s->began));
    text_add(&line, ",\"forced\":");
    text_json(&line, stop_forced(s));
    text_add(&line, "}\n");
    report(s->options, data, line.len);
}

/* The container's processes hang below PID 1; a hook and its children do not. */
static void find_server(const struct options *o, struct server *server) {
    static bool said;
    const struct watch *w = &phases.watch;
    *server = (struct server){.pid = 0};
    if (!o->stop) {
        return;
    }
    if (tree_is_shared()) {
        /* Whose server is whose, nobody knows, and PID 1 is the pause container's or the node's. */
        if (!said) {
            say("PID 1 belongs to other containers too: nothing is stopped from here", NULL);
            said = true;
        }
    } else if (o->target == TARGET_CHILD) {
        *server = (struct server){.pid = 1, .root = 1};
    } else if (tree_server(server, o, 1, true, w->listener_inodes, w->n_inodes) != 0) {
        say("/proc: ", strerror(errno), "; the server cannot be told from others, so PID 1 gets the kubelet's signal", NULL);
        *server = (struct server){.pid = 0};
    }
}

/* Go on in a process of its own while the hook returns. True in the hook; false in the other, or where there is no fork. */
static bool step_aside(int64_t delay) {
    pid_t pid = fork();
    if (pid != 0) {
        return pid > 0;
    }
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++) {
        dup2(null, fd); /* the runtime waits until nobody holds the hook's streams */
    }
    sleep_ms(delay);
    return false;
}

static int drain_here(const struct options *o, int64_t end) {
    struct server server;
    struct stop stop;
    char next[160];
    struct text t = TEXT(next);
    int64_t wait;
    bool failed = false;

    phases_begin(&phases, o, o->observe, now_ms());
    find_server(o, &server);
    if (server.profile != NULL && !server.profile->observe) {
        phases.observe = false;
    }
    while ((wait = phases_step(&phases, now_ms())) >= 0) {
        sleep_ms(wait);
    }
    failed |= phases.observe && phases.at_end > 0;
    if (o->hook == HOOK_AFTER) {
        struct hook_result r = hook_run(o, end, -1);
        report_hook(o, &r);
        failed |= strcmp(r.end, "done") != 0;
    }

    find_server(o, &server);
    stop_plan(&stop, o, &server);
    bool here = o->stop && server.pid > 0;
    bool init = server.pid == 1 && !stop.group;
    bool is_term = stop.signal == SIGTERM && stop.command == NULL;
    /* What the kubelet sends to PID 1 reaches the server; or PID 1 keeps it to itself, and ends. */
    bool reaches = init || tree_passes_on(&server);
    bool keeps = is_term && !reaches && tree_init_takes(SIGTERM);
    if (init && is_term && !tree_handles(1, SIGTERM)) {
        say("PID 1 has no handler for TERM: the kernel does not deliver it; mode wrap would", NULL);
    }
    if (!here || (is_term && !stop.group && reaches)) {
        record(o, &server, "left to the kubelet");
        return failed;
    }
    stop_text(&stop, &t);
    record(o, &server, next); /* now: after the signal there may be no time */
    if (phases.at_end == 0 && phases.watch.method != BY_TIME && !keeps) {
        /* Where connections are permanent the signal comes first: what the kubelet sends is not what they need. */
        if (step_aside(phases.observe ? ASIDE_MS : 0)) {
            return failed;
        }
        pid_t before = server.pid;
        find_server(o, &server);
        if (server.pid != before) {
            return failed;
        }
    }
    if (init) {
        stop_init(&stop);
    } else {
        stop_process(&stop);
    }
    if (stop.stage != SIGNALLED) {
        report_stop(&stop);
        failed = true;
    }
    return failed;
}

int drain_main(const struct options *o) {
    bool failed = false;
    signal(SIGPIPE, SIG_IGN);
    log_to_container();
    int64_t began = now_ms(), end = INT64_MAX;
    if (o->deadline > 0) {
        end = began + (o->deadline > RESERVE_MS ? o->deadline - RESERVE_MS : 0);
    }

    /* Held open until this process ends; a second call of the hook finds it. */
    if (control_listen("drain", o->container) < 0 && errno == EADDRINUSE) {
        return follow_first(o);
    }
    if (o->hook == HOOK_BEFORE) {
        struct hook_result r = hook_run(o, end, -1);
        report_hook(o, &r);
        failed |= strcmp(r.end, "done") != 0;
    }
    int run = o->stop ? control_connect("run", o->container) : -1;
    if (run >= 0) {
        bool drained = ask_run(o, run);
        if (drained && o->hook == HOOK_AFTER) {
            struct hook_result r = hook_run(o, end, run);
            report_hook(o, &r);
            failed |= strcmp(r.end, "done") != 0;
        }
        failed |= !drained;
    } else {
        failed |= drain_here(o, end) != 0;
    }
    return o->strict && failed ? 1 : 0;
}
