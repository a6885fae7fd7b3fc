#include "record.h"

#include <string.h>

enum type { A_NUMBER, A_TEXT, A_WORD };
enum {
    OF_DRAIN = 1 << RECORD_DRAIN,
    OF_STOP = 1 << RECORD_STOP,
    OF_HOOK = 1 << RECORD_HOOK,
    OF_ALL = OF_DRAIN | OF_STOP | OF_HOOK
};

/* Lists of words, not arrays: in a position-independent program each pointer in a table costs 32
 * bytes. A word's number is its place; the number after the last stands for any other word. */
static const char kinds[] = "drain,stop,hook";
static const char askers[] = "hook,signal,sidecar";
static const char methods[] = "sock_diag,proc,time";
static const char ends[] = "none,quiet,max,not-listening,idle,finishes,not-observed,timeout,"
                           "deadline,signal,exited,time";
static const char forces[] = "no,term,kill";
static const char orders[] = "before,after";
static const char outcomes[] = "done,failed,timeout,gone";

/* In the order of `enum field`, as the next table. */
static const char names[] =
    "container,by,method,waited_ms,delay_ms,delay_end,drain_ms,drain_end,in_flight_start,"
    "in_flight_end,finishing,new_connections,new_requests,probes,open,owed,unread,unsent,unsure,"
    "queued,profile,stop,stop_ms,forced,left,exit,order,end,code,hook_ms";

static const struct {
    uint8_t of; /* kinds of record */
    uint8_t type;
} fields[R_FIELDS] = {
    [R_CONTAINER] = {OF_ALL, A_TEXT},
    [R_BY] = {OF_DRAIN, A_WORD},
    [R_METHOD] = {OF_DRAIN, A_WORD},
    [R_WAITED_MS] = {OF_DRAIN, A_NUMBER},
    [R_DELAY_MS] = {OF_DRAIN, A_NUMBER},
    [R_DELAY_END] = {OF_DRAIN, A_WORD},
    [R_DRAIN_MS] = {OF_DRAIN, A_NUMBER},
    [R_DRAIN_END] = {OF_DRAIN, A_WORD},
    [R_IN_FLIGHT_START] = {OF_DRAIN, A_NUMBER},
    [R_IN_FLIGHT_END] = {OF_DRAIN, A_NUMBER},
    [R_FINISHING] = {OF_DRAIN, A_NUMBER},
    [R_NEW_CONNECTIONS] = {OF_DRAIN, A_NUMBER},
    [R_NEW_REQUESTS] = {OF_DRAIN, A_NUMBER},
    [R_PROBES] = {OF_DRAIN, A_NUMBER},
    [R_OPEN] = {OF_DRAIN, A_NUMBER},
    [R_OWED] = {OF_DRAIN, A_NUMBER},
    [R_UNREAD] = {OF_DRAIN, A_NUMBER},
    [R_UNSENT] = {OF_DRAIN, A_NUMBER},
    [R_UNSURE] = {OF_DRAIN, A_NUMBER},
    [R_QUEUED] = {OF_DRAIN, A_NUMBER},
    [R_PROFILE] = {OF_DRAIN, A_TEXT},
    [R_STOP] = {OF_DRAIN, A_TEXT},
    [R_STOP_MS] = {OF_STOP, A_NUMBER},
    [R_FORCED] = {OF_STOP, A_WORD},
    [R_LEFT] = {OF_STOP, A_NUMBER},
    [R_EXIT] = {OF_STOP, A_NUMBER},
    [R_ORDER] = {OF_HOOK, A_WORD},
    [R_OUTCOME] = {OF_HOOK, A_WORD},
    [R_CODE] = {OF_HOOK, A_NUMBER},
    [R_HOOK_MS] = {OF_HOOK, A_NUMBER},
};

/* The words that a field may have. */
static const char *words_of(int f) {
    switch (f) {
    case R_BY:
        return askers;
    case R_METHOD:
        return methods;
    case R_FORCED:
        return forces;
    case R_ORDER:
        return orders;
    case R_OUTCOME:
        return outcomes;
    default:
        return ends;
    }
}

/* The place of a word in a list. */
static int64_t word_index(const char *list, const char *word, size_t size) {
    int64_t i = 0;
    for (;; i++) {
        size_t n = strcspn(list, ",");
        if (n == size && memcmp(list, word, n) == 0) {
            return i;
        }
        if (list[n] == '\0') {
            return i + 1;
        }
        list += n + 1;
    }
}

static void add_word(struct text *t, const char *list, int64_t i) {
    for (; i > 0; i--) {
        list += strcspn(list, ",") + 1;
    }
    text_add(t, "\"");
    text_bytes(t, list, strcspn(list, ","));
    text_add(t, "\"");
}

/* ------------------------------------------------------------------ writing */

struct record record_of(enum record_kind kind, const char *container) {
    struct record r = {.kind = kind};
    for (int f = 0; f < R_FIELDS; f++) {
        r.number[f] = -1;
    }
    r.text[R_CONTAINER] = container;
    return r;
}

void record_write(const struct record *r, struct text *line) {
    text_add(line, "{\"podgrace\":");
    add_word(line, kinds, r->kind);
    for (int f = 0; f < R_FIELDS; f++) {
        bool known = fields[f].type == A_TEXT ? r->text[f] != NULL : r->number[f] >= 0;
        if ((fields[f].of & 1U << r->kind) == 0 || !known) {
            continue;
        }
        text_add(line, ",");
        add_word(line, names, f);
        text_add(line, ":");
        if (fields[f].type == A_NUMBER) {
            text_num(line, r->number[f]);
        } else if (fields[f].type == A_WORD) {
            add_word(line, words_of(f), r->number[f]);
        } else {
            text_json(line, r->text[f]);
        }
    }
    text_add(line, "}\n");
}

/* ------------------------------------------------------------------ reading */

struct cursor {
    const char *at, *end;
};

static bool next_is(struct cursor *c, char what) {
    if (c->at < c->end && *c->at == what) {
        c->at++;
        return true;
    }
    return false;
}

static void skip_blanks(struct cursor *c) {
    while (c->at < c->end && *c->at == ' ') {
        c->at++;
    }
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool skip_digits(struct cursor *c) {
    const char *from = c->at;
    while (c->at < c->end && is_digit(*c->at)) {
        c->at++;
    }
    return c->at > from;
}

/* Its bytes as they are: our own words have nothing to unescape. */
static bool read_text(struct cursor *c, const char **start, size_t *size) {
    if (!next_is(c, '"')) {
        return false;
    }
    *start = c->at;
    while (c->at < c->end && *c->at != '"') {
        if (*c->at++ != '\\') {
            continue;
        }
        if (c->at >= c->end || strchr("\"\\/bfnrtu", *c->at) == NULL) {
            return false;
        }
        if (*c->at++ == 'u') {
            for (int i = 0; i < 4; i++, c->at++) {
                if (c->at >= c->end || !is_hex(*c->at)) {
                    return false;
                }
            }
        }
    }
    *size = (size_t)(c->at - *start);
    return next_is(c, '"');
}

/* Any number of JSON; *value is -1 unless it is a whole number that fits. */
static bool read_number(struct cursor *c, int64_t *value) {
    const char *start = c->at;
    bool negative = next_is(c, '-'), whole = true;
    const char *digits = c->at;
    if (!skip_digits(c) || (*digits == '0' && c->at - digits > 1)) {
        return false;
    }
    size_t size = (size_t)(c->at - digits);
    if (next_is(c, '.')) {
        whole = false;
        if (!skip_digits(c)) {
            return false;
        }
    }
    if (next_is(c, 'e') || next_is(c, 'E')) {
        whole = false;
        if (!next_is(c, '+')) {
            next_is(c, '-');
        }
        if (!skip_digits(c)) {
            return false;
        }
    }
    *value = whole && !negative ? parse_num(digits, size, INT64_MAX) : -1;
    return c->at > start;
}

static bool read_literal(struct cursor *c) {
    static const char *const literals[] = {"true", "false", "null"};
    for (size_t i = 0; i < COUNT(literals); i++) {
        size_t n = strlen(literals[i]);
        if ((size_t)(c->end - c->at) >= n && memcmp(c->at, literals[i], n) == 0) {
            c->at += n;
            return true;
        }
    }
    return false;
}

static void take_field(struct record *r, int64_t f, const char *text, size_t size, int64_t number) {
    if (f == R_FIELDS || (fields[f].of & 1U << r->kind) == 0) {
        return;
    }
    if (fields[f].type == A_WORD) {
        r->number[f] = text != NULL ? word_index(words_of((int)f), text, size) : -1;
    } else if (fields[f].type == A_NUMBER) {
        r->number[f] = number;
    }
}

bool record_read(const char *line, size_t size, struct record *r) {
    static const char start[] = "{\"podgrace\":\"";
    if (size < sizeof start || size >= RECORD_SIZE || memcmp(line, start, sizeof start - 1) != 0) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (line[i] < ' ' || line[i] > '~') {
            return false; /* it will be printed */
        }
    }
    const char *text, *name;
    size_t n, length = 0;
    struct cursor c = {.at = line + sizeof start - 2, .end = line + size};
    if (!read_text(&c, &text, &length)) {
        return false;
    }
    int64_t kind = word_index(kinds, text, length);
    if (kind == RECORD_KINDS) {
        return false;
    }
    *r = record_of((enum record_kind)kind, NULL);
    for (skip_blanks(&c); !next_is(&c, '}'); skip_blanks(&c)) {
        int64_t number = -1;
        bool comma = next_is(&c, ',');
        skip_blanks(&c);
        if (!comma || !read_text(&c, &name, &n)) {
            return false;
        }
        skip_blanks(&c);
        if (!next_is(&c, ':')) {
            return false;
        }
        skip_blanks(&c);
        text = NULL;
        if (c.at < c.end && *c.at == '"' ? !read_text(&c, &text, &length)
                                         : !read_number(&c, &number) && !read_literal(&c)) {
            return false;
        }
        take_field(r, word_index(names, name, n), text, length, number);
    }
    return c.at == c.end;
}
