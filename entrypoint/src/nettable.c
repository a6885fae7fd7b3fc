#include "nettable.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A field of hexadecimal digits up to `end`; moves *at past it. */
static bool hex(const char **at, const char *last, char end, uint64_t *out) {
    uint64_t value = 0;
    int n = 0;
    for (; *at < last && **at != end; (*at)++, n++) {
        char c = **at;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                                : 16;
        if (digit > 15 || n >= 16) {
            return false;
        }
        value = value << 4 | digit;
    }
    *out = value;
    if (*at >= last || n == 0) {
        return false;
    }
    (*at)++;
    return true;
}

/* An address is 8 or 32 digits: words in the machine's own order. */
static bool address(const char **at, const char *last, uint32_t words[4], unsigned *n) {
    const char *colon = memchr(*at, ':', (size_t)(last - *at));
    size_t digits = colon != NULL ? (size_t)(colon - *at) : 0;
    if (digits != 8 && digits != 32) {
        return false;
    }
    *n = (unsigned)digits / 8;
    for (unsigned i = 0; i < *n; i++) {
        char word[9];
        memcpy(word, *at + i * 8, 8);
        word[8] = ' ';
        const char *w = word;
        uint64_t value;
        if (!hex(&w, word + 9, ' ', &value)) {
            return false;
        }
        words[i] = (uint32_t)value;
    }
    *at = colon + 1;
    return true;
}

static bool is_loopback(const uint32_t a[4], unsigned n) {
    if (n == 1 || (a[0] == 0 && a[1] == 0 && a[2] == htonl(0xffff))) {
        return (ntohl(a[n - 1]) >> 24) == 127;
    }
    return a[0] == 0 && a[1] == 0 && a[2] == 0 && a[3] == htonl(1);
}

static uint64_t mix(uint64_t h, uint64_t value) {
    return (h ^ value) * 0x9e3779b97f4a7c15u ^ h >> 29;
}

bool nettable_line(const char *line, size_t size, struct row *row) {
    const char *at = line, *last = line + size;
    uint32_t here[4] = {0}, there[4] = {0};
    unsigned n, m;
    uint64_t port, peer_port, state, unsent, unread, ignored;
    while (at < last && *at == ' ') {
        at++;
    }
    const char *colon = memchr(at, ':', (size_t)(last - at));
    if (colon == NULL || parse_num(at, (size_t)(colon - at), INT64_MAX) < 0 || colon + 2 >= last) {
        return false;
    }
    at = colon + 2;
    if (!address(&at, last, here, &n) || !hex(&at, last, ' ', &port) ||
        !address(&at, last, there, &m) || m != n || !hex(&at, last, ' ', &peer_port) ||
        !hex(&at, last, ' ', &state) || !hex(&at, last, ':', &unsent) ||
        !hex(&at, last, ' ', &unread) || port > 65535 || state > NEW_SYN_RECV) {
        return false;
    }
    /* timer:when, retransmits, uid, timeout, inode: the last one counts. */
    if (!hex(&at, last, ':', &ignored) || !hex(&at, last, ' ', &ignored) ||
        !hex(&at, last, ' ', &ignored)) {
        return false;
    }
    int64_t inode = -1;
    for (int field = 0; field < 3; field++) {
        while (at < last && *at == ' ') {
            at++;
        }
        const char *space = memchr(at, ' ', (size_t)(last - at));
        size_t len = space != NULL ? (size_t)(space - at) : (size_t)(last - at);
        inode = parse_num(at, len, UINT32_MAX);
        at += len;
    }
    if (inode < 0) {
        return false;
    }
    bool mapped = n == 4 && there[0] == 0 && there[1] == 0 && there[2] == htonl(0xffff);
    uint64_t key = mix(mix(0x243f6a8885a308d3u, port), peer_port);
    for (unsigned i = 0; i < n; i++) {
        key = mix(mix(key, here[i]), there[i]);
    }
    *row = (struct row){
        .key = key,
        .unread = (uint32_t)unread,
        .unsent = (uint32_t)unsent,
        .inode = (uint32_t)inode,
        .peer = n == 1   ? there[0]
                : mapped ? there[3]
                         : there[0] ^ there[1] ^ there[2] ^ there[3],
        .port = (uint16_t)port,
        .peer_port = (uint16_t)peer_port,
        .state = state == NEW_SYN_RECV ? SYN_RECV : (uint8_t)state,
        .loopback = state == LISTEN ? is_loopback(here, n)
                                    : is_loopback(there, n) || memcmp(here, there, n * 4) == 0,
    };
    if (row->state == CLOSE_WAIT || row->state == LAST_ACK || row->state == CLOSING) {
        row->unread -= row->unread > 0;
    }
    if (row->state == FIN_WAIT1 || row->state == LAST_ACK || row->state == CLOSING) {
        row->unsent -= row->unsent > 0;
    }
    return true;
}

static int dump_file(const char *path, row_fn each, void *context) {
    char data[8192];
    size_t held = 0;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    while ((got = read(fd, data + held, sizeof data - held)) > 0) {
        size_t size = held + (size_t)got;
        char *from = data, *end;
        while ((end = memchr(from, '\n', size - (size_t)(from - data))) != NULL) {
            struct row row;
            if (nettable_line(from, (size_t)(end - from), &row)) {
                each(context, &row);
            }
            from = end + 1;
        }
        held = size - (size_t)(from - data);
        if (held == sizeof data) {
            held = 0; /* no line is this long: not a table of sockets */
        }
        memmove(data, from, held);
    }
    close(fd);
    return got < 0 ? -1 : 0;
}

int nettable_dump(row_fn each, void *context) {
    if (dump_file("/proc/net/tcp", each, context) != 0) {
        return -1;
    }
    dump_file("/proc/net/tcp6", each, context); /* absent without IPv6 */
    return 0;
}

/* /proc/net/snmp has pairs of lines, "Tcp: names..." and "Tcp: numbers...". */
int64_t passive_opens(void) {
    char data[4096];
    int fd = open("/proc/net/snmp", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, data, sizeof data - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (got <= 0) {
        return -1;
    }
    data[got] = '\0';
    const char *names = strstr(data, "Tcp: ");
    const char *numbers = names != NULL ? strstr(names + 1, "\nTcp: ") : NULL;
    if (numbers == NULL) {
        return -1;
    }
    const char *n = names + 5, *v = numbers + 6;
    while (*n != '\n' && *n != '\0' && *v != '\n' && *v != '\0') {
        size_t name = strcspn(n, " \n"), value = strcspn(v, " \n");
        if (name == 12 && memcmp(n, "PassiveOpens", 12) == 0) {
            return parse_num(v, value, INT64_MAX);
        }
        n += name + (n[name] == ' ');
        v += value + (v[value] == ' ');
    }
    return -1;
}
