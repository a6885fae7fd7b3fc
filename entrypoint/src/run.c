/* The life of `run`, from top to bottom: block signals, start the command, wait; when a stop is asked for, wait for real
 * requests, stop the server, wait for all of it; exit as the command did.
 *
 * One blocking wait, without a timer, until a stop is asked for. */
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
    WAITING_DRAINED, /* observing; nobody has been told to stop yet */
    READY,           /* drained because the hook asked; the stop signal comes next */
    STOPPING,        /* signal sent, patience runs */
    SWEEPING,        /* the command has ended by itself: end what it left behind */
    FLUSHING,        /* all have ended: the kernel may still be sending */
};

enum {
    MAX_HOOKS = 8,
    READY_MS = 30000, /* a verdict older than that is no verdict: the hook was not followed by a stop */
    LEFTOVER_MS = 1000,
    FLUSH_MS = 2000,
    FAREWELL_MS = 2000,
    POLL_MS = 100,
};

/* What runtimes send because an image's STOPSIGNAL says so. After the hook has drained, the first of these is the stop. */
static const int usual_stops[] = {SIGTERM, SIGINT, SIGQUIT, SIGWINCH, SIGUSR1, 37 /* RTMIN+3, systemd */};

struct life {
    const struct options *o;
    enum state state;
    int signals, door; /* descriptors: all signals; hooks that call */
    int hooks[MAX_HOOKS];
    pid_t child;
    bool child_gone, all_gone;
    int code;
    bool by_hook;
    bool hurried; /* the server has ended, what runs beside it has got its last second */
    struct phases phases;
    struct server server;
    struct stop stop;
    int64_t ready_at, flush_end;
};

static struct members left; /* 100 KB, touched only in a stop */

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
    const struct watch *w = &l->phases.watch;
    if (l->o->target == TARGET_CHILD || tree_server(&l->server, l->o, getpid(), false, w->listener_inodes, w->n_inodes) != 0 || l->server.pid == 0) {
        l->server = (struct server){.pid = l->child};
        struct text t = TEXT(l->server.name);
        const char *name = base_name(l->o->argv[0]);
        text_bytes(&t, name, strlen(name));
    }
}

static void begin_drain(struct life *l, bool by_hook, int64_t now) {
    l->state = WAITING_DRAINED;
    l->by_hook = by_hook;
    phases_begin(&l->phases, l->o, l->o->observe, now);
    find_server(l);
    if (l->server.profile != NULL && !l->server.profile->observe) {
        l->phases.observe = false;
    }
    say(by_hook ? "the hook asks to drain" : "stop signal: draining first", NULL);
}

/* One JSON line: what the drain was, and what comes next. */
static void record_drain(struct life *l) {
    char data[1024], next[160];
    struct text line = TEXT(data), t = TEXT(next);
    struct stop planned;
    find_server(l);
    stop_plan(&planned, l->o, &l->server);
    stop_text(&planned, &t);
    phases_record(&l->phases, &line, l->by_hook ? "hook" : "signal", l->server.profile != NULL ? l->server.profile->name : l->o->detect ? "generic" : "given", next);
    report(l->o, data, line.len);
}

static void record_stop(const struct life *l, int64_t now) {
    char data[512], number[32];
    struct text line = TEXT(data);
    text_add(&line, "{\"podgrace\":\"stop\",\"container\":");
    text_json(&line, l->o->container);
    text_add(&line, ",\"stop_ms\":");
    text_add(&line, num(number, now - l->stop.began));
    text_add(&line, ",\"forced\":");
    text_json(&line, stop_forced(&l->stop));
    text_add(&line, ",\"exit\":");
    text_add(&line, num(number, l->code));
    text_add(&line, "}\n");
    report(l->o, data, line.len);
}

static void begin_stop(struct life *l, int64_t now) {
    l->state = STOPPING;
    find_server(l);
    stop_plan(&l->stop, l->o, &l->server);
    stop_begin(&l->stop, now);
}

/* The patience is for the server. Once it has ended, the rest (what a script started beside it, the script itself) was never
 * told anything: it gets a moment to follow, then TERM. */
static void hurry_the_rest(struct life *l, int64_t now) {
    if (l->hurried || l->stop.stage != SIGNALLED || l->stop.command != 0 || kill(l->stop.server.pid, 0) == 0 || errno != ESRCH) {
        return;
    }
    l->hurried = true;
    say("the server has ended; a second for what runs beside it", NULL);
    l->stop.next_word = INT64_MAX;
    l->stop.next_stage = now + LEFTOVER_MS < l->stop.next_stage ? now + LEFTOVER_MS : l->stop.next_stage;
}

/* A step of draining; when it is over, stop, or tell the hook and wait for the signal that follows it. */
static int64_t step_drain(struct life *l, int64_t now) {
    int64_t wait = phases_step(&l->phases, now);
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

static bool is_stop(struct life *l, int number) {
    if (number == SIGTERM || (l->o->stop_on & signal_bit(number)) != 0) {
        return true;
    }
    for (size_t i = 0; i < COUNT(usual_stops); i++) {
        if (usual_stops[i] != number) {
            continue;
        }
        if (l->state == READY) {
            return true;
        }
        if (l->o->detect && l->state == RUNNING) {
            find_server(l);
            const struct profile *p = l->server.profile;
            char name[32];
            const char *word = signal_name(name, number);
            return p != NULL && in_list(p->stop_on, word, strlen(word));
        }
    }
    return false;
}

/* Every signal goes on to the command, as often as it comes; but one that means stop begins the sequence, and once that is
 * under way it is swallowed: a second signal is a "faster" to many servers, and nobody said that. */
static void take_signal(struct life *l, const struct signalfd_siginfo *s, int64_t now) {
    int number = (int)s->ssi_signo;
    if (number == SIGCHLD && s->ssi_code != SI_USER && s->ssi_code != SI_QUEUE && s->ssi_code != SI_TKILL) {
        return; /* a child of ours; reaped below */
    }
    if (is_stop(l, number)) {
        switch (l->state) {
        case RUNNING:
            begin_drain(l, false, now);
            return;
        case WAITING_DRAINED:
            if (l->by_hook) {
                /* The kubelet signals only when its hook is over: this one was cut off, and two seconds are left. */
                phases_cut(&l->phases, "signal", now);
                l->by_hook = false;
            }
            return;
        case READY:
            if (now - l->ready_at > READY_MS && !hook_is_there(l)) {
                begin_drain(l, false, now);
            } else {
                begin_stop(l, now);
            }
            return;
        default:
            return;
        }
    }
    if (!l->child_gone && kill(l->child, number) != 0 && errno != ESRCH) {
        char name[32];
        say("kill ", base_name(l->o->argv[0]), " with ", signal_name(name, number), ": ", strerror(errno), NULL);
    }
}

/* All that has ended, ours or inherited. */
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
        } else if (pid == l->stop.command) {
            stop_command_ended(&l->stop, shell_code(status));
        }
    }
}

static void open_door(struct life *l) {
    int peer;
    while ((peer = control_accept(l->door)) >= 0) {
        int i = 0;
        while (i < MAX_HOOKS && l->hooks[i] >= 0) {
            i++;
        }
        if (i == MAX_HOOKS) {
            close(peer);
            continue;
        }
        l->hooks[i] = peer;
        int64_t now = now_ms();
        if (l->state == RUNNING || (l->state == READY && now - l->ready_at > READY_MS)) {
            begin_drain(l, true, now);
        } else if (l->state != WAITING_DRAINED) {
            char word = WORD_DRAINED; /* the second call of a hook: done already */
            send(peer, &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
    }
}

/* A hook that goes away before the end takes its question with it; nothing has been stopped, so all is as it was. */
static void hook_left(struct life *l, int i) {
    close(l->hooks[i]);
    l->hooks[i] = -1;
    if (l->state == WAITING_DRAINED && l->by_hook && !hook_is_there(l)) {
        say("the hook has gone away: serving on", NULL);
        phases_close(&l->phases);
        l->state = RUNNING;
    }
}

/* Wait for anything. Signals are read one at a time, so that each meets the state that the one before it left. */
static void wait_for_news(struct life *l, int64_t timeout) {
    struct pollfd fds[2 + MAX_HOOKS];
    nfds_t n = 0;
    fds[n++] = (struct pollfd){.fd = l->signals, .events = POLLIN, .revents = 0};
    fds[n++] = (struct pollfd){.fd = l->door, .events = POLLIN, .revents = 0};
    for (int i = 0; i < MAX_HOOKS; i++) {
        fds[n++] = (struct pollfd){.fd = l->hooks[i], .events = POLLIN, .revents = 0};
    }
    if (poll(fds, n, (int)timeout) < 0) {
        if (errno != EINTR) {
            sleep_ms(POLL_MS); /* cannot happen; must not become a busy loop if it does */
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
        open_door(l);
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

/* Without /proc the processes below us have no names: then the command's group is what can be reached, and for PID 1 all. */
static void find_left(struct life *l) {
    if (tree_members(&left, getpid(), false) == 0) {
        return;
    }
    left.n = 0;
    if (!l->child_gone) {
        left.list[left.n++] = (struct process){.pid = l->child};
    }
    left.list[left.n++] = (struct process){.pid = -l->child};
}

/* What is due in this state; returns how long to wait for news, -1 for ever. Sets *over at the end of it all. */
static int64_t step(struct life *l, bool *over, int64_t now) {
    reap(l);
    if (l->all_gone && l->state != FLUSHING) {
        if (l->state == STOPPING || l->state == SWEEPING) {
            record_stop(l, now);
        } else if (l->state == WAITING_DRAINED) {
            phases_cut(&l->phases, "exited", now);
            record_drain(l);
            phases_close(&l->phases);
        }
        bool stopped = l->state != RUNNING;
        l->state = FLUSHING;
        l->flush_end = now + FLUSH_MS;
        tell_hooks(l, WORD_GONE);
        if (stopped && l->o->n_ports > 0) {
            watch_open(&l->phases.watch, l->o, 0);
        } else {
            l->flush_end = now;
        }
    }
    if (l->child_gone && (l->state == RUNNING || l->state == WAITING_DRAINED || l->state == READY)) {
        /* The command is over, and with it the container; what it left behind gets a second. */
        if (l->state == WAITING_DRAINED) {
            phases_cut(&l->phases, "exited", now);
            record_drain(l);
            phases_close(&l->phases);
        }
        tell_hooks(l, WORD_GONE);
        l->state = SWEEPING;
        find_left(l);
        l->stop = (struct stop){.options = l->o, .stage = left.n > 0 ? TERMED : SIGNALLED, .began = now, .next_stage = now + LEFTOVER_MS, .next_word = INT64_MAX};
        for (unsigned i = 0; i < left.n; i++) {
            kill(left.list[i].pid, SIGTERM);
        }
    }
    switch (l->state) {
    case WAITING_DRAINED:
        return step_drain(l, now);
    case STOPPING:
        hurry_the_rest(l, now);
        find_left(l);
        return stop_step(&l->stop, &left, now);
    case SWEEPING:
        find_left(l);
        return stop_step(&l->stop, &left, now);
    case FLUSHING:
        /* When PID 1 is gone the network goes too, and answers that the kernel has not sent yet go with it. */
        if (now < l->flush_end) {
            watch_look(&l->phases.watch, now);
            if (l->phases.watch.method != BY_TIME && l->phases.watch.by_verdict[UNSENT] > 0) {
                return POLL_MS;
            }
        }
        /* The kernel kills a hook together with PID 1, and the kubelet calls that a failed hook: let it leave first. */
        if (hook_is_there(l) && now < l->flush_end + FAREWELL_MS) {
            l->flush_end = now < l->flush_end ? now : l->flush_end;
            return POLL_MS;
        }
        *over = true;
        return 0;
    default:
        return -1;
    }
}

int run_main(const struct options *o) {
    static struct life life; /* 10 KB of it is a bitmap of ports */
    struct life *l = &life;
    *l = (struct life){.o = o, .signals = -1, .door = -1};
    for (int i = 0; i < MAX_HOOKS; i++) {
        l->hooks[i] = -1;
    }

    /* Before anything else: a signal that comes now must wait, not kill. */
    if (signals_block() != 0 || (l->signals = signals_open()) < 0) {
        say("signalfd: ", strerror(errno), NULL);
        return EXIT_OWN;
    }
    if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
        say("prctl(PR_SET_CHILD_SUBREAPER): ", strerror(errno), "; orphans will not be waited for", NULL);
    }
    l->door = control_listen("run", o->container);
    if (l->door < 0) {
        say("no socket for hooks: ", strerror(errno), "; the stop signal alone will begin the drain", NULL);
    }
    l->child = spawn(o->argv, true, &l->code);
    if (l->child < 0) {
        return l->code;
    }

    /* The point of no return. From here on only the command's end ends this process: to die would kill the container. */
    bool over = false;
    while (!over) {
        int64_t wait = step(l, &over, now_ms());
        if (!over && wait != 0) {
            wait_for_news(l, wait);
        }
    }
    return l->code;
}
