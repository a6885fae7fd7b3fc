#include "report.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LIMIT_MS = 500 };

static bool wait_for(int fd, short events, int64_t end) {
    struct pollfd ready = {.fd = fd, .events = events, .revents = 0};
    int64_t left = end - now_ms();
    return left > 0 && poll(&ready, 1, (int)left) == 1;
}

void report(const struct options *o, const char *line, size_t len) {
    char data[2048], answer[64];
    struct text t = TEXT(data);
    log_line(line, len);
    if (o->report_port == 0) {
        return;
    }
    text_add(&t, "POST /report HTTP/1.1\r\nHost: podgrace\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ");
    text_num(&t, (int64_t)len);
    text_add(&t, "\r\n\r\n");
    text_bytes(&t, line, len);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(o->report_port), .sin_addr = {.s_addr = o->report_host}};
    int64_t end = now_ms() + LIMIT_MS;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    connect(fd, (struct sockaddr *)&to, sizeof to);
    if (!t.cut && wait_for(fd, POLLOUT, end) && send(fd, t.at, t.len, MSG_NOSIGNAL) == (ssize_t)t.len && wait_for(fd, POLLIN, end)) {
        ssize_t ignored = read(fd, answer, sizeof answer);
        (void)ignored;
    }
    close(fd);
}
