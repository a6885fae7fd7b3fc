#include "stop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "signals.h"
#include "spawn.h"

enum { TERM_MS = 2000, POLL_MS = 100, WORD_MS = 1000 };

void stop_plan(struct stop *s, const struct options *o, const struct server *server) {
    *s = (struct stop){.options = o, .server = *server, .signal = o->signal, .group = o->target == TARGET_GROUP};
    if (server->profile != NULL) {
        s->signal = signal_number(server->profile->signal, strlen(server->profile->signal));
        s->group = server->profile->target == TARGET_GROUP;
    }
}

static const char *command_of(const struct stop *s) { return s->server.profile != NULL ? s->server.profile->stop_command : s->options->stop_command; }

void stop_text(const struct stop *s, struct text *t) {
    char name[32];
    const char *command = command_of(s);
    text_add(t, command != NULL ? command : signal_name(name, s->signal));
    text_add(t, s->group ? " to the group of " : " to ");
    text_add(t, s->server.name[0] != '\0' ? s->server.name : "process");
    text_add(t, " (");
    text_num(t, s->server.pid);
    text_add(t, ")");
}

static void send_signal(const struct stop *s) {
    pid_t to = s->server.pid;
    if (s->group) {
        pid_t group = getpgid(to);
        to = group > 1 ? -group : to;
    }
    if (kill(to, s->signal) != 0 && errno != ESRCH) {
        char number[32], name[32];
        say("kill ", num(number, to), " with ", signal_name(name, s->signal), ": ", strerror(errno), NULL);
    }
}

void stop_begin(struct stop *s, int64_t now) {
    int code;
    char buffer[160];
    struct text t = TEXT(buffer);
    s->stage = SIGNALLED;
    s->began = now;
    s->next_stage = now + s->options->patience;
    s->next_word = now + WORD_MS;
    stop_text(s, &t);
    say("stopping: ", buffer, NULL);
    if (command_of(s) != NULL) {
        s->command = spawn_words(command_of(s), &code);
        if (s->command > 0) {
            return;
        }
        s->command = 0;
    }
    send_signal(s);
}

void stop_command_ended(struct stop *s, int code) {
    char number[32], name[32];
    s->command = 0;
    if (code != 0) {
        say("stop command ended with code ", num(number, code), ", sending ", signal_name(name, s->signal), NULL);
        send_signal(s);
    }
}

static void send_all(const struct members *left, int signal) {
    for (unsigned i = 0; i < left->n; i++) {
        if (kill(left->list[i].pid, signal) != 0 && errno != ESRCH) {
            char number[32], name[32];
            say("kill ", num(number, left->list[i].pid), " with ", signal_name(name, signal), ": ", strerror(errno), NULL);
        }
    }
}

int64_t stop_step(struct stop *s, const struct members *left, int64_t now) {
    char seconds[32], many[32];
    if (s->stage == SIGNALLED && now >= s->next_word && now < s->next_stage) {
        /* What the article's script says once a second, but here the end is noticed between two of them. */
        num(seconds, (s->next_stage - now + 999) / 1000);
        say("waiting for ", s->server.name[0] != '\0' ? s->server.name : "the server", " to exit: ", num(many, left->n), " processes left, ", seconds, " s of patience left", NULL);
        s->next_word += WORD_MS;
    }
    if (s->stage == SIGNALLED && now >= s->next_stage) {
        say("patience has run out, sending TERM to ", num(many, left->n), " processes", NULL);
        send_all(left, SIGTERM);
        s->stage = TERMED;
        s->next_stage = now + TERM_MS;
    } else if (s->stage == TERMED && now >= s->next_stage) {
        say("sending KILL to ", num(many, left->n), " processes", NULL);
        s->stage = KILLED;
    }
    if (s->stage == KILLED) {
        send_all(left, SIGKILL); /* again at each step: a fork may have slipped through */
    }
    int64_t until = s->stage == SIGNALLED && s->next_word < s->next_stage ? s->next_word - now : s->next_stage - now;
    return s->stage == KILLED || until > POLL_MS ? POLL_MS : until > 0 ? until : 1;
}

const char *stop_forced(const struct stop *s) {
    static const char *const words[] = {"no", "term", "kill"};
    return words[s->stage];
}
