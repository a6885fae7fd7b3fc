#include "program.h"

#include <string.h>

#include "launchers.gen.h"
#include "signals.h"

/* Process names by which a server is known, from webhook/profiles.toml: offsets into a text. */
struct known {
    uint16_t name, match, signal, stop_on, stop_command;
    uint8_t target;
    bool observe, finishes;
};
#include "profiles.gen.h"

_Static_assert(sizeof texts <= UINT16_MAX, "a place is two bytes");
_Static_assert(COUNT(rows) < UINT8_MAX, "struct process counts them in a byte");

/* The name in one word of a command line: the last path element, up to a title's ":" or blank
 * ("nginx: master process"). */
size_t program_name(const char **word) {
    size_t n = strcspn(*word, ": ");
    const char *at = *word;
    for (size_t i = 0; i < n; i++) {
        if (at[i] == '/') {
            *word = at + i + 1;
        }
    }
    n -= (size_t)(*word - at);
    if (n > 0 && **word == '-') { /* a login shell */
        (*word)++;
        n--;
    }
    return n;
}

/* A command line as /proc has it: words that end in NUL. */
struct words {
    const char *at, *end;
};

static bool has_argument(struct words arguments, const char *start, size_t n) {
    for (const char *word = arguments.at; word < arguments.end; word += strlen(word) + 1) {
        if (strncmp(word, start, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether an entry of a list matches: a name, or one that ends in "*" for any rest; after either
 * may come a blank and the beginning of an argument. */
static bool is_listed(const char *list, const char *name, size_t n, struct words arguments) {
    while (list != NULL && *list != '\0') {
        size_t whole = strcspn(list, ","), length = strcspn(list, ", ");
        bool prefix = length > 0 && list[length - 1] == '*';
        size_t known = prefix ? length - 1 : length;
        if ((prefix ? n >= known : n == known) && length > 0 && memcmp(list, name, known) == 0 &&
            (length == whole || has_argument(arguments, list + length + 1, whole - length - 1))) {
            return true;
        }
        list += whole + (list[whole] == ',');
    }
    return false;
}

static const struct profile *profile_at(size_t i) {
    static struct profile profiles[COUNT(rows)];
    const struct known *row = &rows[i];
    profiles[i] = (struct profile){
        .name = texts + row->name,
        .match = texts + row->match,
        .signal = texts + row->signal,
        .stop_on = texts + row->stop_on,
        .stop_command = row->stop_command > 0 ? texts + row->stop_command : NULL,
        .target = (enum target)row->target,
        .observe = row->observe,
        .finishes = row->finishes,
        .number = (uint8_t)(i + 1),
    };
    return &profiles[i];
}

static const struct profile *profile_of(const char *name, size_t n, struct words arguments) {
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (is_listed(texts + rows[i].match, name, n, arguments)) {
            return profile_at(i);
        }
    }
    return NULL;
}

static void set_name(struct program *found, const char *name, size_t n) {
    struct text t = TEXT(found->name);
    text_bytes(&t, name, n);
}

static bool is_wanted(const struct options *o, struct program *found, const char *name, size_t n,
                      struct words arguments) {
    found->profile = o->detect ? profile_of(name, n, arguments) : NULL;
    return found->profile != NULL || is_listed(o->match, name, n, arguments);
}

/* As a person would name it: the program, or the script that an interpreter runs. */
enum kind program_kind(const char *data, size_t size, const struct options *o,
                       struct program *found) {
    const char *program = data;
    size_t length = program_name(&program);
    struct words words = {.at = data + strlen(data) + 1, .end = data + size};
    set_name(found, program, length);
    if (in_list(LAUNCHERS, program, length)) {
        /* Busybox is a shell and a server. */
        return is_wanted(o, found, program, length, words) ? A_MATCH : A_LAUNCHER;
    }
    for (const char *word = data; word < data + size; word += strlen(word) + 1) {
        bool first = word == data;
        if (!first && (word[0] == '-' || word[0] == '\0' || strchr(word, '=') != NULL)) {
            continue;
        }
        const char *name = word;
        size_t n = program_name(&name);
        if (in_list(SCRIPT_LAUNCHERS, name, n)) {
            return A_LAUNCHER;
        }
        bool interpreter = is_listed(INTERPRETERS, name, n, words);
        struct words rest = {.at = word + strlen(word) + 1, .end = data + size};
        if (!(first && interpreter) && is_wanted(o, found, name, n, rest)) {
            set_name(found, name, n);
            return A_MATCH;
        }
        if (!interpreter) {
            break;
        }
    }
    /* "node npm-cli.js" is npm, not a server in Node: so the script's name is tried before the
     * interpreter's. */
    return is_wanted(o, found, program, length, words) ? A_MATCH : ANOTHER;
}

int program_signal(unsigned profile) {
    const char *signal = profile > 0 ? texts + rows[profile - 1].signal : "TERM";
    return signal_number(signal, strlen(signal));
}
