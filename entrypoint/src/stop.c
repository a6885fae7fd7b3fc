#include "stop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "signals.h"
#include "spawn.h"

enum { TERM_MS = 2000, POLL_MS = 100, WORD_MS = 1000, LEFTOVER_MS = 1000 };

struct members left;
static struct members told;     /* who has had a signal */
static struct members rest;     /* who was there when the last of them ended */
static struct members programs; /* who is to be told now */

void stop_plan(struct stop *s, const struct options *o, const struct server *server) {
    const struct profile *profile = server->program.profile;
    *s = (struct stop){.options = o, .server = *server, .signal = o->signal};
    s->patience = o->patience;
    s->group = o->target == TARGET_GROUP;
    s->command = o->stop_command;
    s->observe = profile == NULL || profile->observe;
    s->finishes = profile != NULL ? profile->finishes : o->finishes;
    if (profile != NULL) {
        s->signal = signal_number(profile->signal, strlen(profile->signal));
        s->group = profile->target == TARGET_GROUP;
        s->command = profile->stop_command;
    }
    if (server->trap) {
        /* Its author wrote a trap for TERM, and the trap knows what else to do. What signal the
         * server gets from it, nobody knows. */
        s->signal = SIGTERM;
        s->group = s->finishes = false;
        s->command = NULL;
    }
}

static const char *name_of(const struct stop *s) {
    return s->server.program.name[0] != '\0' ? s->server.program.name : "process";
}

void stop_text(const struct stop *s, struct text *t) {
    char name[32];
    text_add(t, s->command != NULL ? s->command : signal_name(name, s->signal));
    text_add(t, s->group ? " to the group of " : " to ");
    text_add(t, name_of(s));
    text_add(t, " (");
    text_num(t, s->server.pid);
    text_add(t, ")");
}

static void send_to(const struct process *p, int signal) {
    char number[32], name[32];
    if (tree_signal(p, signal) != 0 && errno != ESRCH) {
        say("kill ", num(number, p->pid), " with ", signal_name(name, signal), ": ",
            strerror(errno), NULL);
    }
}

static void send_all(int signal) {
    for (unsigned i = 0; i < left.n; i++) {
        send_to(&left.list[i], signal);
    }
}

/* One signal to one process, once. */
static void tell(const struct stop *s, const struct process *p, int signal) {
    bool by_group = s->told_group > 1 && getpgid(p->pid) == s->told_group;
    if (!by_group && !tree_has(&told, p)) {
        send_to(p, signal);
        if (told.n < MAX_PROCESSES) {
            told.list[told.n++] = *p;
        }
    }
}

static struct process server_of(const struct stop *s) {
    return (struct process){.pid = s->server.pid, .started = s->server.started};
}

/* The server; its group where that is wanted. Where neither a name nor a socket tells which process
 * it is (below gosu the sockets are another user's), every program at the top. */
static void send_signal(struct stop *s) {
    struct process server = server_of(s);
    if (s->server.shell > 0) { /* first, so that its trap is the next thing to run */
        struct process shell = {.pid = s->server.shell, .started = s->server.shell_started};
        tell(s, &shell, SIGTERM);
    }
    s->told_group = s->group ? getpgid(server.pid) : 0;
    if (s->told_group > 1) {
        send_to(&(struct process){.pid = -s->told_group}, s->signal);
        return;
    }
    send_to(&server, s->signal);
    bool all = s->server.guess && s->server.pid != s->server.root; /* PID 1 stops its own */
    if (all && tree_programs(&programs, s->options, s->server.root) == 0) {
        for (unsigned i = 0, before = told.n; i < programs.n; i++) {
            tell(s, &programs.list[i], program_signal(programs.list[i].profile));
            if (told.n > before) {
                say("nothing tells which program is the server: the others get their signal too",
                    NULL);
                before = MAX_PROCESSES;
            }
        }
    }
}

void stop_begin(struct stop *s, int64_t now) {
    int code;
    char buffer[160];
    struct text t = TEXT(buffer);
    s->stage = SIGNALLED;
    s->began = now;
    s->next_stage = now + s->patience;
    s->next_word = now + WORD_MS;
    told.n = 0;
    told.list[told.n++] = server_of(s);
    stop_text(s, &t);
    say("stopping: ", buffer, NULL);
    s->running = s->command != NULL ? spawn_words(s->command, &code) : 0;
    if (s->running <= 0) {
        s->running = 0;
        send_signal(s);
    }
}

void stop_sweep(struct stop *s, const struct options *o, int64_t now) {
    *s = (struct stop){.options = o, .stage = left.n > 0 ? TERMED : SIGNALLED, .rest = true};
    s->began = now;
    s->next_stage = now + LEFTOVER_MS;
    s->next_word = INT64_MAX;
    send_all(SIGTERM);
}

void stop_command_ended(struct stop *s, int code) {
    char number[32], name[32];
    s->running = 0;
    if (code != 0) {
        say("stop command ended with code ", num(number, code), ", sending ",
            signal_name(name, s->signal), NULL);
        send_signal(s);
    }
}

void stop_command_reap(struct stop *s) {
    int status;
    if (s->running > 0 && waitpid(s->running, &status, WNOHANG) == s->running) {
        stop_command_ended(s, shell_code(status));
    }
}

void stop_command_end(const struct stop *s, int64_t now) {
    if (s->running > 0 && now - s->began >= s->patience) {
        kill(-s->running, SIGKILL);
    }
}

static bool told_are_gone(void) {
    for (unsigned i = 0; i < told.n; i++) {
        if (tree_has(&left, &told.list[i])) {
            return false;
        }
    }
    return true;
}

/* The server has ended. The programs that ran beside it have had no signal yet: they get it now,
 * and the time that is left. What starts from now on, such as the clean-up of a script, is left
 * alone; so are shells without a trap, which TERM would only cut short. */
static void tell_rest(struct stop *s) {
    if (!s->rest) {
        rest = left;
        s->rest = true;
    }
    if (tree_programs(&programs, s->options, s->server.root) != 0) {
        programs = left;
    }
    for (unsigned i = 0, before = told.n; i < programs.n; i++) {
        const struct process *p = &programs.list[i];
        if (!tree_has(&rest, p) || !tree_has(&left, p)) {
            continue;
        }
        tell(s, p, program_signal(p->profile));
        if (told.n > before) {
            char number[32], name[32];
            say("the server has ended: ", signal_name(name, program_signal(p->profile)),
                " to what ran beside it (", num(number, p->pid), ")", NULL);
            before = told.n;
        }
    }
}

int64_t stop_step(struct stop *s, int64_t now) {
    char seconds[32], many[32];
    stop_command_reap(s);
    if (s->stage == SIGNALLED && s->running == 0 && left.n > 0 && (s->rest || told_are_gone())) {
        tell_rest(s);
    }
    if (s->stage == SIGNALLED && now >= s->next_word && now < s->next_stage) {
        num(seconds, (s->next_stage - now + 999) / 1000);
        say("waiting for ", s->rest ? "what ran beside the server" : name_of(s),
            " to exit: ", num(many, left.n), " processes left, ", seconds, " s of patience left",
            NULL);
        s->next_word += WORD_MS;
    }
    if (s->stage == SIGNALLED && now >= s->next_stage) {
        say("patience has run out, sending TERM to ", num(many, left.n), " processes", NULL);
        send_all(SIGTERM);
        s->stage = TERMED;
        s->next_stage = now + TERM_MS;
    } else if (s->stage == TERMED && now >= s->next_stage) {
        say("sending KILL to ", num(many, left.n), " processes", NULL);
        s->stage = KILLED;
    }
    if (s->stage == KILLED) {
        send_all(SIGKILL); /* at each step: a fork may have slipped through */
    }
    bool word_first = s->stage == SIGNALLED && s->next_word < s->next_stage;
    int64_t until = (word_first ? s->next_word : s->next_stage) - now;
    return s->stage == KILLED || until > POLL_MS ? POLL_MS : until > 0 ? until : 1;
}
