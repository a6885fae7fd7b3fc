/* The life of `drain`, the preStop hook. Each call has its own verdict: what is in flight when the
 * kubelet calls may have come after somebody else's call began.
 *
 *   1. The user's own hook, where it comes before.
 *   2. `run` is PID 1: it waits, and stops the server when the kubelet's signal comes. Ask it, wait
 *      for its word, run the user's hook where that comes after, return.
 *   3. Else wait here: deregistered, then drained. The first look shows which process is the
 *      server, and so what to wait for.
 *   4. The user's own hook, where it comes after. It may stop the server, so nothing may be in
 *      flight.
 *   5. One record: what was waited for, and what comes next.
 *   6. Stop the server, unless the kubelet's TERM does or another call is at it, and return at the
 *      right time:
 *
 *   who stops it   where                                           the hook returns
 *   the kubelet    the signal is TERM, and PID 1 is the server     at once
 *                  or an init that passes it on
 *   we, aside      nothing is in flight; or PID 1 is deaf to       at once; a process that it
 *                  TERM, so that it cuts nothing                   leaves signals a moment later
 *   we, and wait   the signal is TERM, and PID 1 takes it and      when the server has ended
 *                  does not pass it on
 *   we, and wait   the server finishes by itself, and TERM to      when nothing is in flight
 *                  PID 1 would cut what it finishes
 *   we, and wait   the drain met its cap                           when nothing can be lost
 *
 * The kernel kills a hook together with PID 1, and the kubelet calls that a failed hook. A runtime
 * that is asked to stop a container just as it ends may lose track of it. Hence "aside". A server
 * that finishes by itself ends with its last answer. So that the hook can leave first, it keeps a
 * silent connection open to the server (the anchor), and such servers wait for it. */
#include "drain.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control.h"
#include "hook.h"
#include "init.h"
#include "phases.h"
#include "proc.h"
#include "report.h"
#include "signals.h"
#include "stop.h"

enum {
    POLL_MS = 100,
    QUICK_MS = 5,
    QUICK_FOR_MS = 300,
    SLACK_MS = 10000,
    ASIDE_MS = 1000,
    ANCHOR_MS = 200
};

static struct phases phases;

/* ------------------------------------------------------------------ telling */

static void tell(const struct options *o, const struct record *r, bool last) {
    char data[RECORD_SIZE];
    struct text line = TEXT(data);
    report(o, r);
    if (last) {
        record_write(r, &line);
        termination_message(o, line.at, line.len);
    }
}

/* The user's own hook, if it is its turn. False: it failed. */
static bool run_hook(const struct options *o, enum order order, int64_t end, int gone) {
    if (o->hook != order) {
        return true;
    }
    struct hook_result result = hook_run(o, end, gone);
    struct record r = record_of(RECORD_HOOK, o->container);
    r.number[R_ORDER] = order == HOOK_BEFORE ? RAN_BEFORE : RAN_AFTER;
    r.number[R_OUTCOME] = result.outcome;
    r.number[R_CODE] = result.code;
    r.number[R_HOOK_MS] = result.ms;
    tell(o, &r, false);
    return result.outcome == OUTCOME_DONE;
}

static void record_drain(const struct options *o, const struct server *server, const char *next) {
    const char *profile = server->program.profile != NULL ? server->program.profile->name
                          : o->detect             ? "generic"
                                                  : "given";
    struct record r = phases_record(&phases, BY_HOOK, profile, next);
    tell(o, &r, true);
}

/* Only where force was needed or something was left: after a clean end there may be no time. */
static bool record_stop(const struct stop *s, unsigned in_flight) {
    if (s->stage == SIGNALLED && in_flight == 0) {
        return true;
    }
    struct record r = record_of(RECORD_STOP, s->options->container);
    r.number[R_STOP_MS] = now_ms() - s->began;
    r.number[R_FORCED] = (int64_t)s->stage;
    r.number[R_LEFT] = in_flight;
    tell(s->options, &r, true);
    return false;
}

/* ------------------------------------------------------------------ 2: `run` is PID 1 */

/* False: `run` went away (and the container with it, or nothing has been drained). */
static bool ask_run(const struct options *o, int fd) {
    struct pollfd answer = {.fd = fd, .events = POLLIN, .revents = 0};
    int64_t limit = o->delay_max + o->drain_timeout + SLACK_MS;
    char word = 0;
    return poll(&answer, 1, (int)limit) > 0 && recv(fd, &word, 1, 0) == 1 && word == WORD_DRAINED;
}

/* Until nothing is in flight: the options of `run` may say that the server finishes by itself, but
 * the user's hook may end the server. */
static void wait_idle(const struct options *o) {
    static struct options rest;
    int64_t wait;
    rest = *o;
    rest.delay_min = rest.delay_max = rest.quiet = 0;
    rest.finishes = false;
    phases_open(&phases, &rest, o->observe, now_ms());
    while ((wait = phases_step(&phases, now_ms())) >= 0) {
        sleep_ms(wait);
    }
    phases_close(&phases);
}

static bool drain_by_run(const struct options *o, int run, int64_t end) {
    if (!ask_run(o, run)) {
        return false;
    }
    if (o->hook == HOOK_AFTER && (o->finishes || o->detect)) {
        wait_idle(o);
    }
    return run_hook(o, HOOK_AFTER, end, run);
}

/* ------------------------------------------------------------------ 3: waiting */

/* The container's processes hang below PID 1; a hook and its children do not. */
static void find_server(const struct options *o, struct server *server) {
    static bool said;
    const struct tally *t = phases.tally;
    *server = (struct server){.pid = 0};
    if (!o->stop) {
        return;
    }
    if (init_is_shared()) {
        /* Nobody can tell whose server is whose, and PID 1 is the pause container's or the node's.
         */
        if (!said) {
            say("PID 1 belongs to other containers too: nothing is stopped from here", NULL);
            said = true;
        }
    } else if (o->target == TARGET_CHILD) {
        *server = (struct server){.pid = 1, .root = 1};
    } else if (tree_server(server, o, 1, true, t->listener_inodes, t->n_inodes) != 0) {
        say("/proc: ", strerror(errno),
            "; the server cannot be told from others, so PID 1 gets the kubelet's signal", NULL);
        *server = (struct server){.pid = 0};
    }
}

/* What is known about the server decides what to wait for. That it finishes by itself helps only if
 * it gets its own signal next, and all of its time: a supervisor has its own limit, often of a few
 * seconds. */
static void know_server(const struct options *o, const struct server *server) {
    struct stop stop;
    stop_plan(&stop, o, server);
    bool supervised = server->pid != 1 && stop.signal == SIGTERM && init_is_supervisor();
    phases_know(&phases, o->observe && stop.observe,
                stop.finishes && !supervised && server->pid > 0 && o->hook != HOOK_AFTER);
}

static void wait_drained(const struct options *o, int64_t end) {
    struct server server;
    bool known = false;
    int64_t wait;
    phases_open(&phases, o, o->observe, now_ms());
    phases_know(&phases, o->observe, false);
    phases.hard_end = end; /* the user's hook may have taken some of the time */
    while ((wait = phases_step(&phases, now_ms())) >= 0 || !known) {
        if (!known) {
            known = true;
            find_server(o, &server);
            know_server(o, &server);
            continue;
        }
        sleep_ms(wait);
    }
}

/* ------------------------------------------------------------------ 6: stopping */

/* Whether another call of this hook stops the server already: a second signal means "faster" to
 * many. Otherwise nobody else will: the name is held until this process, and the one that it leaves
 * behind, has ended. */
static bool is_stopped_already(const struct options *o) {
    return control_listen("stop", o->container) < 0 && errno == EADDRINUSE;
}

static void wait_for_other(const struct stop *s) {
    const struct options *o = s->options;
    int other = control_connect("stop", o->container);
    struct pollfd end = {.fd = other, .events = POLLIN, .revents = 0};
    say("another call of the hook stops this container: waiting for that", NULL);
    if (other >= 0) {
        poll(&end, 1, (int)(s->patience + o->drain_timeout + SLACK_MS));
    }
}

/* Nobody listens and nothing is in flight: whatever happens to the processes now, no request is
 * lost. Or the server is gone, though what a supervisor has started in its place listens. `before`:
 * listeners before the signal; some may be another container's. */
static bool nothing_to_lose(const struct stop *s, unsigned before) {
    const struct tally *t = phases.tally;
    watch_look(phases.watch, now_ms());
    bool seen = phases.watch->sure && phases.watch->method != BY_TIME;
    return seen && t->busy == 0 &&
           (t->listeners == 0 || (t->wide && t->listeners < before) ||
            (s->server.started > 0 && tree_started(s->server.pid) != s->server.started));
}

static int64_t pause_ms(const struct stop *s, int64_t now) {
    int64_t cost = phases.watch->next - phases.watch->now; /* expensive looks are rare */
    return cost > POLL_MS ? cost : now - s->began < QUICK_FOR_MS ? QUICK_MS : POLL_MS;
}

/* Wait until nothing can be lost, at most as long as patience allows. False: something was left. */
static bool wait_finished(struct stop *s, unsigned before) {
    int64_t now;
    unsigned calm = 0;
    while ((now = now_ms()) - s->began < s->patience && now < phases.hard_end) {
        stop_command_reap(s);
        calm = nothing_to_lose(s, before) ? calm + 1 : 0;
        if (calm >= CALM_LOOKS) {
            return true;
        }
        if (now >= s->next_word) {
            stop_step(s, now);
        }
        sleep_ms(pause_ms(s, now));
    }
    return phases.tally->busy == 0;
}

/* What has to end: the server and all below it, or every process where more than one gets the
 * signal. */
static bool find_left(const struct stop *s) {
    bool all = s->server.guess;
    return tree_members(&left, all ? 1 : s->server.pid, !all) == 0;
}

/* The server is PID 1. Nothing but the kubelet can end it by force. */
static void stop_init(struct stop *s) {
    left.n = 1;
    left.list[0] = (struct process){.pid = 1, .started = s->server.started};
    unsigned before = phases.tally->listeners;
    stop_begin(s, now_ms());
    wait_finished(s, before);
}

/* The server is below PID 1 (a shell, an init, npm). When it ends, PID 1 often ends at once, and
 * this process with it. So a descriptor tells of the end where the kernel has those, and nothing is
 * written after a clean end. */
static void wait_process(struct stop *s) {
    int handle = (int)syscall(SYS_pidfd_open, s->server.pid, 0);
    struct pollfd gone = {.fd = handle, .events = POLLIN, .revents = 0};
    while (left.n > 0) {
        int64_t wait = stop_step(s, now_ms());
        wait = s->running > 0 && wait > QUICK_MS ? QUICK_MS : wait;
        if (poll(&gone, 1, (int)wait) > 0) {
            if (left.n == 1) {
                break;
            }
            gone.fd = -1; /* the others are polled */
        }
        tree_refresh(&left);
    }
    int64_t wait, ended = now_ms();
    while ((wait = phases_flush(&phases, ended, now_ms())) >= 0) {
        sleep_ms(wait);
    }
}

/* Go on in a separate process while the hook returns. True in the hook; false in the other process,
 * or if fork failed. */
static bool step_aside(void) {
    pid_t pid = fork();
    if (pid != 0) {
        return pid > 0;
    }
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++) {
        dup2(null, fd); /* the runtime waits until nobody holds the hook's streams */
    }
    return false;
}

/* A silent connection that the server has accepted. -1: none. Not for servers whose signal is TERM:
 * in some of them a silent connection blocks a worker. */
static int drop_anchor(const struct stop *s) {
    const struct ports *ports = &phases.tally->ports;
    int64_t end = now_ms() + ANCHOR_MS;
    int fd = -1;
    for (unsigned port = 1; s->signal != SIGTERM && port <= 65535 && fd < 0 && now_ms() < end;
         port++) {
        if (ports_have(ports, (uint16_t)port) &&
            ports_have(&phases.watch->listening, (uint16_t)port)) {
            fd = hook_connect((uint16_t)port, end);
        }
    }
    struct sockaddr_in6 here = {0};
    socklen_t size = sizeof here;
    if (fd >= 0 && getsockname(fd, (struct sockaddr *)&here, &size) == 0) {
        phases.watch->own = ntohs(here.sin6_port); /* at the same place in both families */
        do {
            sleep_ms(QUICK_MS);
            watch_look(phases.watch, now_ms());
        } while (phases.tally->queue > 0 && now_ms() < end);
    }
    return fd;
}

/* The server itself finishes what is in flight, and TERM to PID 1 would cut it: signal, wait, and
 * leave before the server does. */
static bool finish_here(struct stop *s, bool init) {
    unsigned before = phases.tally->listeners;
    int anchor = drop_anchor(s);
    if (init) {
        left.n = 1;
        left.list[0] = (struct process){.pid = 1, .started = s->server.started};
    } else if (!find_left(s)) {
        left.n = 0;
    }
    stop_begin(s, now_ms());
    bool finished = wait_finished(s, before);
    bool clean = record_stop(s, finished ? 0 : phases.tally->busy);
    stop_command_end(s, now_ms());
    if (step_aside()) {
        return clean;
    }
    sleep_ms(ASIDE_MS);
    if (anchor >= 0) {
        close(anchor);
    }
    if (!init) {
        wait_process(s);
    }
    return clean;
}

static bool stop_here(struct stop *s, bool init) {
    const struct options *o = s->options;
    bool idle = phases.at_end == 0 && phases.watch->method != BY_TIME;
    bool deaf = !init && !init_takes(SIGTERM);
    /* The kubelet's TERM would end PID 1, and the server with it, before the server got any signal.
     */
    bool keeps = s->signal == SIGTERM && s->command == NULL && !init && !deaf;
    bool finishes = phases.drain_end == END_FINISHES;
    if (is_stopped_already(o)) {
        if (!idle || keeps || finishes) {
            wait_for_other(s);
        }
        return true;
    }
    if (finishes) {
        s->patience += o->drain_timeout; /* which has not been waited */
        if (!deaf) {
            return finish_here(s, init);
        }
    }
    if (idle && !keeps) {
        if (step_aside()) {
            return true;
        }
        /* Where connections are permanent the signal comes first: what the kubelet sends is not
         * what such servers need. */
        sleep_ms(phases.observe ? ASIDE_MS : 0);
        /* The kubelet's TERM may have stopped it by now: the server is gone, or no longer listens.
         */
        struct server now;
        unsigned before = phases.tally->listeners;
        find_server(o, &now);
        watch_look(phases.watch, now_ms());
        if (now.pid != s->server.pid || (phases.watch->sure && phases.tally->listeners < before)) {
            return true;
        }
    }
    if (init) {
        stop_init(s);
    } else if (find_left(s)) {
        stop_begin(s, now_ms());
        wait_process(s);
    }
    stop_command_end(s, now_ms());
    return record_stop(s, 0);
}

/* Whether the kubelet's TERM, which comes as soon as the hook returns, is all that is needed, or
 * all that can be done. */
static bool is_left(const struct stop *s, bool init) {
    char name[32];
    if (!s->options->stop || s->server.pid <= 0) {
        return true;
    }
    if (s->command != NULL || s->group) {
        return false;
    }
    if (init && !proc_handles(1, s->signal)) {
        say("PID 1 has no handler for ", signal_name(name, s->signal),
            ": the kernel does not deliver it; mode wrap would", NULL);
        return true;
    }
    return s->signal == SIGTERM && (init || init_passes_on(&s->server));
}

static bool drain_here(const struct options *o, int64_t end) {
    struct server server;
    struct stop stop;
    char next[160];
    struct text t = TEXT(next);

    wait_drained(o, end);
    bool good = !phases.observe || phases.at_end == 0;
    good &= run_hook(o, HOOK_AFTER, end, -1);

    find_server(o, &server);
    stop_plan(&stop, o, &server);
    bool init = server.pid == 1 && !stop.group;
    if (is_left(&stop, init)) {
        record_drain(o, &server, "left to the kubelet");
        return good;
    }
    stop_text(&stop, &t);
    record_drain(o, &server, next); /* now: after the signal there may be no time */
    return stop_here(&stop, init) && good;
}

int drain_main(const struct options *o) {
    signal(SIGPIPE, SIG_IGN);
    log_to_container();
    int64_t end = phases_hard_end(o, now_ms());
    bool good = run_hook(o, HOOK_BEFORE, end, -1);
    int run = o->stop ? control_connect("run", o->container) : -1;
    good &= run >= 0 ? drain_by_run(o, run, end) : drain_here(o, end);
    return o->strict && !good ? 1 : 0;
}
