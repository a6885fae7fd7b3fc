/* The life of `run`, from top to bottom: block signals, start the command, wait; on a stop request,
 * wait for requests in flight, stop the server, wait for all its processes; exit as the command
 * did.
 *
 * One blocking wait, without a timer, until a stop is asked for. What happens in each state:
 *
 *             stop signal   a hook calls    last hook leaves  the command ends  due
 *   RUNNING   OBSERVING     OBSERVING, for  -                 SWEEPING          -
 *                           the hook
 *   OBSERVING swallowed     joins           -                 SWEEPING          drained: STOPPING
 *   OBSERVING cut short:    begins anew     RUNNING           SWEEPING          drained: READY,
 *   for hook  STOPPING                                                          hooks are told
 *   READY     STOPPING      begins anew     30 s begin        SWEEPING          30 s over: RUNNING
 *   STOPPING  swallowed     "drained"       -                 -                 stop.h
 *   SWEEPING  swallowed     "drained"       -                 -                 stop.h
 *   FLUSHING  swallowed     "drained"       -                 -                 all is sent: exit
 *
 * Any other signal goes on to the command, as long as there is one. From any state: when all
 * processes have ended, FLUSHING. means_stop() says which signals mean stop. READY has no timer:
 * whoever uses it first checks whether it is over. A hook's verdict is for that hook: its caller
 * asks what is in flight now, and who still sends requests now. */
#include "run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "phases.h"
#include "report.h"
#include "signals.h"
#include "spawn.h"
#include "stop.h"

enum state {
    RUNNING,
    OBSERVING, /* draining; nobody has been told to stop yet */
    READY,     /* drained because the hook asked; the stop signal comes next */
    STOPPING,  /* signal sent, patience runs */
    SWEEPING,  /* the command has ended by itself: end what it left behind */
    FLUSHING,  /* all have ended: the kernel may still be sending */
};

enum {
    MAX_HOOKS = 8,
    READY_MS = 30000, /* an older verdict is void: no stop followed the hook */
    FAREWELL_MS = 2000,
    POLL_MS = 100,
};

/* What runtimes send because an image's STOPSIGNAL says so. After the hook has drained, the first
 * of these is the stop. 37: RTMIN+3, for systemd. */
static const int usual_stops[] = {SIGTERM, SIGINT, SIGQUIT, SIGWINCH, SIGUSR1, 37};

struct life {
    const struct options *o;
    enum state state;
    int signals, listener; /* descriptors: all signals; where hooks call */
    int hooks[MAX_HOOKS];
    pid_t child;
    bool child_gone, all_gone;
    int code;
    bool by_hook;
    bool asked; /* a stop was asked for, or may be: worth a record */
    bool known; /* a look has shown the sockets, and so which process is the server */
    struct phases phases;
    struct server server;
    struct stop stop;
    int64_t ready_at, flush_end;
};

static void tell_hooks(struct life *l, char word) {
    for (int i = 0; i < MAX_HOOKS; i++) {
        if (l->hooks[i] >= 0) {
            send(l->hooks[i], &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
    }
}

static bool hook_is_there(const struct life *l) {
    for (int i = 0; i < MAX_HOOKS; i++) {
        if (l->hooks[i] >= 0) {
            return true;
        }
    }
    return false;
}

/* Where the server is. Without /proc, the command itself. */
static void find_server(struct life *l) {
    const struct tally *seen = l->phases.tally; /* NULL: nobody has looked yet */
    const uint32_t *inodes = seen != NULL ? seen->listener_inodes : NULL;
    unsigned n = seen != NULL ? seen->n_inodes : 0;
    bool found = l->o->target != TARGET_CHILD &&
                 tree_server(&l->server, l->o, getpid(), false, inodes, n) == 0 &&
                 l->server.pid != 0;
    if (!found) {
        l->server = (struct server){.pid = l->child, .root = getpid()};
        l->server.started = tree_started(l->child);
        struct text t = TEXT(l->server.program.name);
        const char *name = base_name(l->o->argv[0]);
        text_bytes(&t, name, strlen(name));
    }
}

static void begin_drain(struct life *l, bool by_hook, int64_t now) {
    l->state = OBSERVING;
    l->by_hook = by_hook;
    l->asked = true;
    l->known = false;
    phases_close(&l->phases);
    phases_open(&l->phases, l->o, l->o->observe, now);
    phases_know(&l->phases, l->o->observe, false);
    find_server(l);
    say(by_hook ? "the hook asks to drain" : "stop signal: draining first", NULL);
}

/* What is known about the server decides what to wait for. Of two servers by name, sockets tell
 * which is at the front. */
static void know_server(struct life *l) {
    struct stop planned;
    find_server(l);
    stop_plan(&planned, l->o, &l->server);
    phases_know(&l->phases, l->o->observe && planned.observe, planned.finishes);
    l->known = true;
}

/* Nothing has been stopped: go back to RUNNING. */
static void serve_on(struct life *l) {
    l->state = RUNNING;
    l->by_hook = l->asked = false;
}

/* The last drain and what followed it, for the termination message: written when the command has
 * ended, so that the command's own message comes first. */
static char last[2 * RECORD_SIZE];
static struct text last_lines = TEXT(last);

/* What the drain was, and what comes next. */
static void record_drain(struct life *l) {
    char next[160];
    struct text t = TEXT(next);
    struct stop planned;
    find_server(l);
    stop_plan(&planned, l->o, &l->server);
    stop_text(&planned, &t);
    const char *profile = l->server.program.profile != NULL ? l->server.program.profile->name
                          : l->o->detect            ? "generic"
                                                    : "given";
    enum asked_by by = l->by_hook ? BY_HOOK : BY_SIGNAL;
    struct record r = phases_record(&l->phases, by, profile, next);
    report(l->o, &r);
    last_lines.len = 0;
    record_write(&r, &last_lines);
}

static void record_stop(const struct life *l, int64_t now) {
    struct record r = record_of(RECORD_STOP, l->o->container);
    r.number[R_STOP_MS] = now - l->stop.began;
    r.number[R_FORCED] = (int64_t)l->stop.stage;
    r.number[R_EXIT] = l->code;
    report(l->o, &r);
    record_write(&r, &last_lines);
}

static void begin_stop(struct life *l, int64_t now) {
    l->state = STOPPING;
    find_server(l);
    stop_plan(&l->stop, l->o, &l->server);
    /* Nothing in flight has been waited for, so it still has the drain's time. A connection that is
     * only silent has the patience, as always. */
    if (l->phases.drain_end == END_FINISHES && l->phases.finishing > 0) {
        l->stop.patience += l->o->drain_timeout;
    }
    stop_begin(&l->stop, now);
}

/* A step of draining. At its end, stop; or tell the hook and wait for the signal that follows it.
 */
static int64_t step_drain(struct life *l, int64_t now) {
    int64_t wait = phases_step(&l->phases, now);
    if (!l->known) {
        know_server(l);
        wait = phases_step(&l->phases, now);
    }
    if (wait >= 0) {
        return wait;
    }
    record_drain(l);
    phases_close(&l->phases);
    if (l->by_hook) {
        l->state = READY;
        l->ready_at = now_ms();
        tell_hooks(l, WORD_DRAINED);
        return -1;
    }
    begin_stop(l, now_ms());
    return 0;
}

static bool is_usual_stop(int number) {
    for (size_t i = 0; i < COUNT(usual_stops); i++) {
        if (usual_stops[i] == number) {
            return true;
        }
    }
    return false;
}

/* TERM and --stop-on always; after a hook has drained, any that runtimes use; with --detect, also
 * those that the server's profile names. */
static bool means_stop(const struct life *l, int number) {
    const struct profile *profile = l->o->detect ? l->server.program.profile : NULL;
    char name[32];
    const char *word = signal_name(name, number);
    return number == SIGTERM || (l->o->stop_on & signal_bit(number)) != 0 ||
           (is_usual_stop(number) && l->state == READY) ||
           (is_usual_stop(number) && profile != NULL &&
            in_list(profile->stop_on, word, strlen(word)));
}

/* A verdict that no stop has followed is out of date. */
static void forget_old_verdict(struct life *l, int64_t now) {
    if (l->state == READY && now - l->ready_at > READY_MS && !hook_is_there(l)) {
        serve_on(l);
    }
}

static void forward(struct life *l, int number) {
    const struct process child = {.pid = l->child};
    if (!l->child_gone && tree_signal(&child, number) != 0 && errno != ESRCH) {
        char name[32];
        say("kill ", base_name(l->o->argv[0]), " with ", signal_name(name, number), ": ",
            strerror(errno), NULL);
    }
}

/* Every signal goes on to the command, as often as it comes. But one that means stop begins the
 * sequence, and is swallowed once that is under way: to many servers a second signal means
 * "faster", and nobody asked for that. */
static void take_signal(struct life *l, const struct signalfd_siginfo *s, int64_t now) {
    int number = (int)s->ssi_signo;
    bool by_user = s->ssi_code == SI_USER || s->ssi_code == SI_QUEUE || s->ssi_code == SI_TKILL;
    if (number == SIGCHLD && !by_user) {
        return; /* a child of ours: reaped below */
    }
    forget_old_verdict(l, now);
    if (l->state == RUNNING && l->o->detect && is_usual_stop(number)) {
        find_server(l);
    }
    if (!means_stop(l, number)) {
        forward(l, number);
    } else if (l->state == RUNNING) {
        begin_drain(l, false, now);
    } else if (l->state == OBSERVING && l->by_hook) {
        /* The kubelet signals only when its hook is over: it has cut the hook off, and two seconds
         * are left. */
        phases_cut(&l->phases, END_SIGNAL, now);
        l->by_hook = false;
        tell_hooks(l, WORD_DRAINED); /* what is left of it has nothing to wait for */
    } else if (l->state == READY) {
        begin_stop(l, now);
    }
}

/* Everything that has ended, ours or inherited. */
static void reap(struct life *l) {
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == EINTR) {
            continue;
        }
        l->all_gone = pid < 0;
        if (pid <= 0) {
            return;
        }
        if (pid == l->child) {
            l->child_gone = true;
            l->code = shell_code(status);
        } else if (pid == l->stop.running) {
            stop_command_ended(&l->stop, shell_code(status));
        }
    }
}

static void accept_hooks(struct life *l, int64_t now) {
    int peer;
    forget_old_verdict(l, now);
    while ((peer = control_accept(l->listener)) >= 0) {
        int i = 0;
        while (i < MAX_HOOKS && l->hooks[i] >= 0) {
            i++;
        }
        if (i == MAX_HOOKS) {
            close(peer);
            continue;
        }
        l->hooks[i] = peer;
        if (l->state == RUNNING || l->state == READY || (l->state == OBSERVING && l->by_hook)) {
            begin_drain(l, true, now);
        } else if (l->state != OBSERVING) {
            char word = WORD_DRAINED; /* the stop is under way */
            send(peer, &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
    }
}

/* If a hook goes away before the end, nobody waits any more. If it goes away after it was told, the
 * stop signal follows. */
static void hook_left(struct life *l, int i) {
    close(l->hooks[i]);
    l->hooks[i] = -1;
    if (hook_is_there(l)) {
        return;
    }
    if (l->state == READY) {
        l->ready_at = now_ms();
    } else if (l->state == OBSERVING && l->by_hook) {
        say("the hook has gone away: serving on", NULL);
        phases_close(&l->phases);
        serve_on(l);
    }
}

/* Wait for anything. Signals are read one at a time, so that each meets the state that the previous
 * one left. */
static void wait_for_news(struct life *l, int64_t timeout) {
    struct pollfd fds[2 + MAX_HOOKS];
    nfds_t n = 0;
    fds[n++] = (struct pollfd){.fd = l->signals, .events = POLLIN, .revents = 0};
    fds[n++] = (struct pollfd){.fd = l->listener, .events = POLLIN, .revents = 0};
    for (int i = 0; i < MAX_HOOKS; i++) {
        fds[n++] = (struct pollfd){.fd = l->hooks[i], .events = POLLIN, .revents = 0};
    }
    if (poll(fds, n, (int)timeout) < 0) {
        if (errno != EINTR) {
            sleep_ms(POLL_MS); /* cannot happen; but must never be a busy loop */
        }
        return;
    }
    if (fds[0].revents != 0) {
        struct signalfd_siginfo s;
        while (read(l->signals, &s, sizeof s) == (ssize_t)sizeof s) {
            take_signal(l, &s, now_ms());
        }
    }
    if (fds[1].revents != 0) {
        accept_hooks(l, now_ms());
    }
    for (int i = 0; i < MAX_HOOKS; i++) {
        if (fds[2 + i].revents != 0 && l->hooks[i] >= 0) {
            char word;
            ssize_t got = recv(l->hooks[i], &word, 1, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
                hook_left(l, i);
            }
        }
    }
}

/* Without /proc the processes below us have no names. Then only the command's group can be reached,
 * or for PID 1 every process. */
static void find_left(struct life *l) {
    if (tree_members(&left, getpid(), false) == 0) {
        return;
    }
    left.n = 0;
    if (!l->child_gone) {
        left.list[left.n++] = (struct process){.pid = l->child};
    }
    left.list[left.n++] = (struct process){.pid = -l->child};
    if (getpid() == 1) {
        left.list[left.n++] = (struct process){.pid = -1};
    }
}

static void close_drain(struct life *l, int64_t now) {
    if (l->state == OBSERVING) {
        phases_cut(&l->phases, END_EXITED, now);
        record_drain(l);
        phases_close(&l->phases);
    }
}

/* The command has ended, and so does the container; what it left behind gets a second. */
static void begin_sweep(struct life *l, int64_t now) {
    close_drain(l, now);
    tell_hooks(l, WORD_GONE);
    l->state = SWEEPING;
    find_left(l);
    stop_sweep(&l->stop, l->o, now);
}

/* When PID 1 ends, so does the network, with any answers that the kernel has not sent yet. */
static void begin_flush(struct life *l, int64_t now) {
    bool stopped = l->state != RUNNING;
    if (l->asked && (l->state == STOPPING || l->state == SWEEPING)) {
        record_stop(l, now);
    }
    close_drain(l, now);
    l->state = FLUSHING;
    l->flush_end = now;
    tell_hooks(l, WORD_GONE);
    if (stopped && (l->o->ports.n > 0 || l->phases.tally != NULL)) {
        static struct options seen; /* nobody listens now: so the ports that were watched before */
        seen = *l->o;
        if (l->phases.tally != NULL) {
            ports_join(&seen.ports, &l->phases.tally->ports);
        }
        phases_open(&l->phases, &seen, true, now);
        l->flush_end += FLUSH_MS;
    }
}

/* Returns how long to wait, 0: it is over. */
static int64_t step_flush(struct life *l, int64_t now) {
    if (now < l->flush_end) {
        int64_t wait = phases_flush(&l->phases, l->flush_end - FLUSH_MS, now);
        if (wait >= 0) {
            return wait;
        }
    }
    /* The kernel kills a hook together with PID 1, and the kubelet calls that a failed hook: let
     * the hook leave first. */
    if (hook_is_there(l) && now < l->flush_end + FAREWELL_MS) {
        l->flush_end = now < l->flush_end ? now : l->flush_end;
        return POLL_MS;
    }
    return 0;
}

/* Do what is due in this state; returns how long to wait for events, -1 for ever. Sets *over at the
 * very end. */
static int64_t step(struct life *l, bool *over, int64_t now) {
    reap(l);
    if (l->all_gone && l->state != FLUSHING) {
        begin_flush(l, now);
    } else if (l->child_gone && l->state < STOPPING) {
        begin_sweep(l, now);
    }
    int64_t wait = -1;
    switch (l->state) {
    case OBSERVING:
        return step_drain(l, now);
    case STOPPING:
    case SWEEPING:
        find_left(l);
        return stop_step(&l->stop, now);
    case FLUSHING:
        wait = step_flush(l, now);
        *over = wait == 0;
        if (*over) {
            termination_message(l->o, last_lines.at, last_lines.len);
        }
        return wait;
    default:
        return wait;
    }
}

int run_main(const struct options *o) {
    static struct life life; /* 10 KB of it is a bitmap of ports */
    struct life *l = &life;
    *l = (struct life){.o = o, .signals = -1, .listener = -1};
    for (int i = 0; i < MAX_HOOKS; i++) {
        l->hooks[i] = -1;
    }

    /* Before anything else: a signal that comes now must wait, not kill. */
    if (signals_block() != 0 || (l->signals = signals_open()) < 0) {
        say("signalfd: ", strerror(errno), NULL);
        return spawn_instead(o->argv);
    }
    if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
        say("prctl(PR_SET_CHILD_SUBREAPER): ", strerror(errno), "; orphans will not be waited for",
            NULL);
    }
    l->listener = control_listen("run", o->container);
    if (l->listener < 0) {
        say("no socket for hooks: ", strerror(errno),
            "; the stop signal alone will begin the drain", NULL);
    }
    l->child = spawn(o->argv, true, &l->code);
    if (l->child < 0) {
        return l->code == EXIT_OWN ? spawn_instead(o->argv) : l->code;
    }

    /* The point of no return. From here on this process ends only when the command has: to die
     * would kill the container. */
    bool over = false;
    while (!over) {
        int64_t wait = step(l, &over, now_ms());
        if (!over && wait != 0) {
            wait_for_news(l, wait);
        }
    }
    return l->code;
}
