#include "options.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "signals.h"

enum { ON_DRAIN = 1, ON_RUN = 2, ON_SIDECAR = 4, ON_QUERY = 8, ON_BOTH = ON_DRAIN | ON_RUN };
enum { LONGEST = 7 * 24 * 3600 }; /* seconds */

typedef bool (*set_fn)(struct options *o, const char *value);

static bool seconds(const char *value, int64_t *out) {
    const char *dot = strchr(value, '.');
    size_t whole = dot != NULL ? (size_t)(dot - value) : strlen(value);
    int64_t s = parse_num(value, whole, LONGEST);
    if (s < 0) {
        return false;
    }
    *out = s * 1000;
    if (dot != NULL) {
        size_t n = strlen(dot + 1);
        int64_t part = n <= 3 ? parse_num(dot + 1, n, 999) : -1;
        if (part < 0) {
            return false;
        }
        *out += n == 1 ? part * 100 : n == 2 ? part * 10 : part;
    }
    return true;
}

/* A container's name is a DNS label. It becomes part of a socket's name and of JSON, so refuse
 * anything else. */
static bool set_container(struct options *o, const char *value) {
    size_t n = strlen(value);
    if (n == 0 || n >= sizeof o->container) {
        return false;
    }
    for (const char *c = value; *c != '\0'; c++) {
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
              *c == '-' || *c == '.' || *c == '_')) {
            return false;
        }
    }
    memcpy(o->container, value, n + 1);
    return true;
}

void ports_add(struct ports *p, uint16_t port) {
    if (!ports_have(p, port)) {
        p->bits[port / 64] |= (uint64_t)1 << (port % 64);
        p->n++;
    }
}

void ports_clear(struct ports *p) {
    if (p->n > 0) {
        memset(p, 0, sizeof *p);
    }
}

void ports_join(struct ports *p, const struct ports *others) {
    for (size_t i = 0; i < COUNT(p->bits) && others->n > 0; i++) {
        uint64_t more = others->bits[i] & ~p->bits[i];
        if (more != 0) {
            p->bits[i] |= more;
            p->n += (unsigned)__builtin_popcountll(more);
        }
    }
}

static bool set_ports(struct options *o, const char *value) {
    ports_clear(&o->ports);
    for (;;) {
        size_t n = strcspn(value, ",");
        int64_t port = parse_num(value, n, 65535);
        if (port < 1) {
            return false;
        }
        ports_add(&o->ports, (uint16_t)port);
        if (value[n] == '\0') {
            return true;
        }
        value += n + 1;
    }
}

static bool set_report(struct options *o, const char *value) {
    uint32_t host = 0;
    const char *at = value;
    for (int i = 0; i < 4; i++) {
        size_t n = strcspn(at, ".:");
        int64_t byte = parse_num(at, n, 255);
        if (byte < 0 || at[n] != (i < 3 ? '.' : ':')) {
            return false;
        }
        ((unsigned char *)&host)[i] = (unsigned char)byte;
        at += n + 1;
    }
    int64_t port = parse_num(at, strlen(at), 65535);
    if (port < 1) {
        return false;
    }
    o->report_host = host;
    o->report_port = (uint16_t)port;
    return true;
}

/* Empty: nothing is written. A Pod may name anything here, but only a regular file is written. */
static bool set_termination_message(struct options *o, const char *value) {
    o->termination_message = value;
    return true;
}

static bool set_signal(struct options *o, const char *value) {
    o->signal = signal_number(value, strlen(value));
    return o->signal > 0;
}

static bool set_stop_on(struct options *o, const char *value) {
    o->stop_on = 0;
    while (*value != '\0') {
        size_t n = strcspn(value, ",");
        int number = signal_number(value, n);
        if (number == 0) {
            return false;
        }
        o->stop_on |= signal_bit(number);
        value += n + (value[n] == ',');
    }
    return true;
}

static bool set_stop_command(struct options *o, const char *value) {
    o->stop_command = value;
    return *value != '\0';
}
static bool set_match(struct options *o, const char *value) {
    o->match = value;
    return *value != '\0';
}

static bool set_target(struct options *o, const char *value) {
    static const char *const names[] = {"server", "child", "group"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(value, names[i]) == 0) {
            o->target = (enum target)i;
            return true;
        }
    }
    return false;
}

static bool set_hook(struct options *o, const char *value) {
    o->hook = strcmp(value, "before") == 0  ? HOOK_BEFORE
              : strcmp(value, "after") == 0 ? HOOK_AFTER
                                            : HOOK_NONE;
    return o->hook != HOOK_NONE;
}

static bool set_hook_url(struct options *o, const char *value) {
    o->hook_url = value;
    return strncmp(value, "http://", 7) == 0;
}

/* As the kubelet sends them; a line break would make two headers of one. */
static bool set_hook_header(struct options *o, const char *value) {
    if (o->n_headers == MAX_HEADERS || strchr(value, ':') == NULL ||
        strpbrk(value, "\r\n") != NULL || *value == ':') {
        return false;
    }
    o->hook_headers[o->n_headers++] = value;
    return true;
}

static bool set_install(struct options *o, const char *value) {
    o->dir = value;
    return *value != '\0';
}

static bool set_port(struct options *o, const char *value) {
    int64_t port = parse_num(value, strlen(value), 65535);
    o->port = (uint16_t)port;
    return port >= 0;
}

static bool set_listen(struct options *o, const char *value) {
    o->listen_pod = strcmp(value, "pod") == 0;
    return o->listen_pod || strcmp(value, "loopback") == 0;
}

static bool set_answer(struct options *o, const char *value) {
    if (o->n_answers == MAX_ANSWERS) {
        return false;
    }
    o->answers[o->n_answers++] = value;
    return true; /* settle() checks what it says */
}

/* Names are arrays in the table, and times and switches are offsets: in a position-independent
 * program each pointer in a table costs 32 bytes. */
static const struct option {
    char name[20];
    uint8_t on;
    enum { A_WORD, A_TIME, YES, NO } type : 8;
    uint16_t place;
    set_fn set;
    const char *accepted;
} table[] = {
#define AT(field) .place = offsetof(struct options, field)
#define WORD(fn, what) A_WORD, .set = fn, .accepted = what
    {"container", ON_BOTH | ON_QUERY,
     WORD(set_container, "a name of up to 63 letters, digits and -")},
    {"ports", ON_BOTH | ON_QUERY, WORD(set_ports, "port numbers, with commas between")},
    {"delay-min", ON_BOTH | ON_QUERY, A_TIME, AT(delay_min)},
    {"quiet", ON_BOTH | ON_QUERY, A_TIME, AT(quiet)},
    {"delay-max", ON_BOTH | ON_QUERY, A_TIME, AT(delay_max)},
    {"drain-timeout", ON_BOTH | ON_QUERY, A_TIME, AT(drain_timeout)},
    {"patience", ON_BOTH, A_TIME, AT(patience)},
    {"calm", ON_BOTH | ON_QUERY, A_TIME, AT(calm)},
    {"deadline", ON_BOTH | ON_QUERY, A_TIME, AT(deadline)},
    {"no-observe", ON_BOTH, NO, AT(observe)},
    {"loopback", ON_BOTH, YES, AT(loopback)},
    {"probe-period", ON_BOTH | ON_QUERY, A_TIME, AT(probe_period)},
    {"report", ON_BOTH, WORD(set_report, "an IPv4 address and a port, such as 127.0.0.1:15990")},
    {"termination-message", ON_BOTH, WORD(set_termination_message, "a path")},
    {"finishes", ON_BOTH | ON_QUERY, YES, AT(finishes)},
    {"detect", ON_BOTH, YES, AT(detect)},
    {"signal", ON_BOTH, WORD(set_signal, "a signal, such as TERM, SIGQUIT, RTMIN+3 or 10")},
    {"stop-command", ON_BOTH, WORD(set_stop_command, "a program and its arguments")},
    {"target", ON_BOTH, WORD(set_target, "server, child or group")},
    {"match", ON_BOTH, WORD(set_match, "names of processes, with commas between")},
    {"stop-on", ON_RUN, WORD(set_stop_on, "signals with commas between, such as INT,QUIT")},
    {"no-stop", ON_DRAIN, NO, AT(stop)},
    {"strict", ON_DRAIN, YES, AT(strict)},
    {"hook", ON_DRAIN, WORD(set_hook, "before or after")},
    {"hook-sleep", ON_DRAIN, A_TIME, AT(hook_sleep)},
    {"hook-timeout", ON_DRAIN, A_TIME, AT(hook_timeout)},
    {"hook-url", ON_DRAIN, WORD(set_hook_url, "a URL that begins with http://")},
    {"hook-header", ON_DRAIN, WORD(set_hook_header, "up to 32 of Name:value")},
    {"install", ON_SIDECAR, WORD(set_install, "a directory")},
    {"port", ON_SIDECAR, WORD(set_port, "a port number, or 0 to serve nothing")},
    {"listen", ON_SIDECAR, WORD(set_listen, "loopback or pod")},
    {"answer", ON_SIDECAR, WORD(set_answer, "up to 256 of container=NAME&ports=1,2&delay-min=S..")},
    {"dry-run", ON_BOTH | ON_SIDECAR, YES, AT(dry_run)},
};

static bool refuse(char *why, size_t size, const char *const parts[]) {
    struct text t = {.at = why, .len = 0, .cap = size, .cut = false};
    for (; *parts != NULL; parts++) {
        text_add(&t, *parts);
    }
    return false;
}
#define REFUSE(...) refuse(why, size, (const char *const[]){__VA_ARGS__, NULL})

static const char seconds_text[] = "seconds, such as 5 or 0.5, at most a week";

/* One "name" or "name=value", given without dashes. */
static bool set(struct options *o, const char *word, int on, char *why, size_t size) {
    const char *equals = strchr(word, '=');
    size_t n = equals != NULL ? (size_t)(equals - word) : strlen(word);
    for (size_t i = 0; i < COUNT(table); i++) {
        const struct option *option = &table[i];
        if (strlen(option->name) != n || memcmp(option->name, word, n) != 0 ||
            (option->on & on) == 0) {
            continue;
        }
        const char *value = equals != NULL ? equals + 1 : "";
        const char *accepted = option->type == A_TIME ? seconds_text : option->accepted;
        char *place = (char *)o + option->place;
        if (option->type == YES || option->type == NO) {
            if (equals != NULL) {
                return REFUSE("option --", option->name, " takes no value");
            }
            *(bool *)place = option->type == YES;
            return true;
        }
        if (equals == NULL) {
            return REFUSE("option --", option->name, " needs a value: ", accepted);
        }
        if (option->type == A_TIME ? !seconds(value, (int64_t *)(void *)place)
                                   : !option->set(o, value)) {
            return REFUSE("option --", option->name, ": \"", value, "\" is not ", accepted);
        }
        return true;
    }
    return REFUSE("unknown option \"--", word, "\"; --help lists them all");
}

static void defaults(struct options *o) {
    memset(o, 0, offsetof(struct options, ports));
    ports_clear(&o->ports);
    o->delay_min = 5000;
    o->quiet = 2000;
    o->delay_max = 15000;
    o->drain_timeout = 30000;
    o->patience = 10000;
    o->calm = 2000;
    o->observe = o->stop = true;
    o->signal = 15;
    o->hook_sleep = o->hook_timeout = -1;
    o->termination_message = "/dev/termination-log";
    memcpy(o->container, "-", 2);
}

static enum command command_of(const char *word) {
    static const struct {
        const char *word;
        enum command command;
    } words[] = {
        {"run", COMMAND_RUN},         {"drain", COMMAND_DRAIN},     {"sidecar", COMMAND_SIDECAR},
        {"install", COMMAND_INSTALL}, {"version", COMMAND_VERSION}, {"--version", COMMAND_VERSION},
        {"help", COMMAND_HELP},       {"--help", COMMAND_HELP},     {"-h", COMMAND_HELP},
    };
    for (size_t i = 0; i < COUNT(words); i++) {
        if (strcmp(words[i].word, word) == 0) {
            return words[i].command;
        }
    }
    return COMMAND_NONE;
}

/* Check what belongs together. Put delays in order rather than refuse them: a Pod's bound may have
 * cut any of them. */
static bool settle(struct options *o, char *why, size_t size) {
    if (o->delay_min > o->delay_max) {
        o->delay_min = o->delay_max;
    }
    if (o->command == COMMAND_RUN && o->argv == NULL) {
        return REFUSE("run needs a command: podgrace-helper run [options] -- CMD [ARGUMENT...]");
    }
    if (o->command == COMMAND_DRAIN) {
        int given = (o->argv != NULL) + (o->hook_url != NULL) + (o->hook_sleep >= 0);
        if (o->hook != HOOK_NONE && given != 1) {
            return REFUSE("--hook needs exactly one of --hook-sleep=S, --hook-url=URL and -- CMD "
                          "[ARGUMENT...]");
        }
        if (o->hook == HOOK_NONE && given != 0) {
            return REFUSE(
                "a hook was given, but not when to run it: --hook=before or --hook=after");
        }
    }
    for (unsigned i = 0; i < o->n_answers; i++) {
        static struct options answer;
        if (!options_query(&answer, o->answers[i], why, size)) {
            return false;
        }
    }
    return true;
}

bool options_parse(struct options *o, int argc, char *const argv[], char *why, size_t size) {
    defaults(o);
    o->command = argc > 1 ? command_of(argv[1]) : COMMAND_HELP;
    if (o->command == COMMAND_NONE) {
        return REFUSE("unknown command \"", argv[1],
                      "\"; accepted are run, drain, sidecar, install, version and --help");
    }
    int on = o->command == COMMAND_RUN       ? ON_RUN
             : o->command == COMMAND_DRAIN   ? ON_DRAIN
             : o->command == COMMAND_SIDECAR ? ON_SIDECAR
                                             : 0;
    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--") == 0 && (on & ON_BOTH) != 0) {
            o->argv = i + 1 < argc ? &argv[i + 1] : NULL;
            break;
        }
        if (strcmp(word, "--help") == 0) {
            o->command = COMMAND_HELP;
            return true;
        }
        if (word[0] == '-' && word[1] == '-' && on != 0) {
            if (!set(o, word + 2, on, why, size)) {
                return false;
            }
        } else if (o->command == COMMAND_RUN) {
            o->argv =
                &argv[i]; /* the first word that is not an option begins the command, as in env */
            break;
        } else if (o->command == COMMAND_INSTALL && o->dir == NULL && word[0] != '-') {
            o->dir = word;
        } else {
            return REFUSE("\"", word, "\" is not understood here; --help tells what is");
        }
    }
    if (o->command == COMMAND_INSTALL && o->dir == NULL) {
        return REFUSE("install needs a directory: podgrace-helper install DIR");
    }
    return settle(o, why, size);
}

/* Values of a query are plain: names, numbers, commas and dots need no percent, and its option
 * refuses what does. */
bool options_query(struct options *o, const char *query, char *why, size_t size) {
    static char pair[16384]; /* two thousand ports fit */
    defaults(o);
    o->command = COMMAND_DRAIN;
    o->loopback = true;
    o->stop = false;
    while (*query != '\0') {
        size_t n = strcspn(query, "&");
        if (n >= sizeof pair) {
            return REFUSE("option --answer: a part of it is longer than 16 KB");
        }
        memcpy(pair, query, n);
        pair[n] = '\0';
        if (n > 0 && strcmp(pair, "ports=") != 0 && !set(o, pair, ON_QUERY, why, size)) {
            return false;
        }
        query += n + (query[n] == '&');
    }
    if (strcmp(o->container, "-") == 0) {
        return REFUSE("option --answer: no container=NAME in it");
    }
    return settle(o, why, size);
}

static void put(const char *s) {
    ssize_t ignored = write(STDOUT_FILENO, s, strlen(s));
    (void)ignored;
}

static void print(const char *name, const char *value) {
    put(name);
    put(" ");
    put(value);
    put("\n");
}

static void print_num(const char *name, int64_t value) {
    char digits[32];
    print(name, num(digits, value));
}

void options_print(const struct options *o) {
    static const char *const targets[] = {"server", "child", "group"};
    static const char *const orders[] = {"none", "before", "after"};
    char text[32];
    print("container", o->container);
    for (unsigned port = 1; port <= 65535; port++) {
        if (ports_have(&o->ports, (uint16_t)port)) {
            print_num("port", port);
        }
    }
    print_num("delay-min-ms", o->delay_min);
    print_num("quiet-ms", o->quiet);
    print_num("delay-max-ms", o->delay_max);
    print_num("drain-timeout-ms", o->drain_timeout);
    print_num("patience-ms", o->patience);
    print_num("calm-ms", o->calm);
    print_num("deadline-ms", o->deadline);
    print_num("probe-period-ms", o->probe_period);
    print_num("observe", o->observe);
    print_num("loopback", o->loopback);
    print_num("report-port", o->report_port);
    print("termination-message", o->termination_message);
    print_num("finishes", o->finishes);
    print_num("detect", o->detect);
    print("signal", signal_name(text, o->signal));
    print("stop-command", o->stop_command != NULL ? o->stop_command : "");
    print("target", targets[o->target]);
    print("match", o->match != NULL ? o->match : "");
    for (int i = 1; i <= SIGNALS; i++) {
        if ((o->stop_on & signal_bit(i)) != 0) {
            print("stop-on", signal_name(text, i));
        }
    }
    print_num("stop", o->stop);
    print_num("strict", o->strict);
    print("hook", orders[o->hook]);
    print_num("hook-sleep-ms", o->hook_sleep);
    print_num("hook-timeout-ms", o->hook_timeout);
    print("hook-url", o->hook_url != NULL ? o->hook_url : "");
    for (unsigned i = 0; i < o->n_headers; i++) {
        print("hook-header", o->hook_headers[i]);
    }
    print("dir", o->dir != NULL ? o->dir : "");
    print_num("serve-port", o->port);
    print("listen", o->listen_pod ? "pod" : "loopback");
    for (unsigned i = 0; i < o->n_answers; i++) {
        print("answer", o->answers[i]);
    }
    for (char *const *word = o->argv; word != NULL && *word != NULL; word++) {
        print("argument", *word);
    }
}
