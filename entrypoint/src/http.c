#include "http.h"

#include <string.h>
#include <strings.h>

static const char *find_end(const char *data, size_t size) {
    for (size_t i = 0; i + 3 < size; i++) {
        if (memcmp(data + i, "\r\n\r\n", 4) == 0) {
            return data + i;
        }
    }
    return NULL;
}

/* Copy up to the stop byte; false if it does not fit or contains anything that is not valid in a
 * URL. */
static bool take(const char **at, const char *end, const char *stops, char *out, size_t size) {
    size_t n = 0;
    for (; *at < end && strchr(stops, **at) == NULL; (*at)++) {
        if (**at <= ' ' || **at > '~' || n + 1 >= size) {
            return false;
        }
        out[n++] = **at;
    }
    out[n] = '\0';
    return *at < end;
}

/* %2C for a comma: some clients escape what needs no escape. Refuse anything that would end a text
 * early. */
static bool unescape(char *s) {
    char *to = s;
    for (; *s != '\0'; s++, to++) {
        if (*s != '%') {
            *to = *s;
            continue;
        }
        int value = 0;
        for (int i = 1; i <= 2; i++) {
            char c = s[i];
            int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                               : -1;
            if (digit < 0) {
                return false;
            }
            value = value * 16 + digit;
        }
        if (value <= ' ' || value > '~' || value == '&') {
            return false;
        }
        *to = (char)value;
        s += 2;
    }
    *to = '\0';
    return true;
}

static bool parse_line(const char *at, const char *end, struct request *r) {
    size_t n = (size_t)(end - at);
    if (n > 4 && memcmp(at, "GET ", 4) == 0) {
        at += 4;
    } else if (n > 5 && memcmp(at, "HEAD ", 5) == 0) {
        at += 5;
        r->head = true;
    } else if (n > 5 && memcmp(at, "POST ", 5) == 0) {
        at += 5;
        r->post = true;
    } else {
        return false;
    }
    if (at >= end || *at != '/' || !take(&at, end, " ?", r->path, sizeof r->path)) {
        return false;
    }
    if (*at == '?') {
        at++;
        if (!take(&at, end, " ", r->query, sizeof r->query) || !unescape(r->query)) {
            return false;
        }
    }
    return end - at == 9 && memcmp(at, " HTTP/1.", 8) == 0 && (at[8] == '0' || at[8] == '1');
}

enum http_state http_parse(const char *data, size_t size, struct request *r) {
    memset(r, 0, sizeof *r);
    const char *end = find_end(data, size);
    if (end == NULL) {
        return size >= HTTP_MOST ? HTTP_LARGE : HTTP_MORE;
    }
    const char *line_end = memchr(data, '\r', (size_t)(end - data) + 1);
    if (!parse_line(data, line_end, r)) {
        return HTTP_BAD;
    }
    int64_t length = -1;
    for (const char *line = line_end; line < end;) {
        if (line[1] != '\n') {
            return HTTP_BAD;
        }
        line += 2; /* behind the last line's end */
        const char *next = memchr(line, '\r', (size_t)(end - line) + 1);
        size_t n = (size_t)(next - line);
        if (n >= 15 && strncasecmp(line, "content-length:", 15) == 0) {
            const char *value = line + 15;
            while (value < next && *value == ' ') {
                value++;
            }
            int64_t number = parse_num(value, (size_t)(next - value), INT32_MAX);
            if (number < 0 || length >= 0) {
                return HTTP_BAD; /* two lengths: request smuggling */
            }
            length = number;
        } else if (n >= 18 && strncasecmp(line, "transfer-encoding:", 18) == 0) {
            return HTTP_BAD;
        }
        line = next;
    }
    r->body = end + 4;
    r->body_size = length > 0 ? (size_t)length : 0;
    size_t head = (size_t)(r->body - data);
    if (r->body_size > HTTP_MOST - (head < HTTP_MOST ? head : HTTP_MOST)) {
        return HTTP_LARGE;
    }
    return size - head >= r->body_size ? HTTP_READY : HTTP_MORE;
}
