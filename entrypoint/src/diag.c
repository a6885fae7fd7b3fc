#include "diag.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Offsets in struct tcp_info. The kernel only appends to it, so they never change, and a shorter
 * answer means an older kernel. */
enum {
    INFO_LAST_SENT = 44,
    INFO_LAST_RECEIVED = 52,
    INFO_ACKED = 120,
    INFO_RECEIVED = 128,
    INFO_SENT = 200,
    INFO_LEAST = 136,
};

enum { PATIENCE_MS = 1000 };

int diag_open(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd >= 0) {
        int room = 1 << 20;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    }
    return fd;
}

static uint32_t u32_at(const unsigned char *data, size_t at) {
    uint32_t value;
    memcpy(&value, data + at, sizeof value);
    return value;
}

static uint64_t u64_at(const unsigned char *data, size_t at) {
    uint64_t value;
    memcpy(&value, data + at, sizeof value);
    return value;
}

static void read_info(struct row *row, const unsigned char *info, size_t size) {
    if (size < INFO_LEAST) {
        return;
    }
    row->known = true;
    row->sent_age = u32_at(info, INFO_LAST_SENT);
    row->received_age = u32_at(info, INFO_LAST_RECEIVED);
    row->received = u64_at(info, INFO_RECEIVED);
    /* Before 4.19 the kernel does not count bytes sent: acknowledged plus waiting is as good. */
    row->sent =
        size >= INFO_SENT + 8 ? u64_at(info, INFO_SENT) : u64_at(info, INFO_ACKED) + row->unsent;
}

static bool is_mapped(const uint32_t a[4]) {
    return a[0] == 0 && a[1] == 0 && a[2] == htonl(0xffff);
}

static bool is_loopback(const uint32_t a[4], int family) {
    if (family == AF_INET) {
        return (ntohl(a[0]) >> 24) == 127;
    }
    return is_mapped(a) ? (ntohl(a[3]) >> 24) == 127
                        : a[0] == 0 && a[1] == 0 && a[2] == 0 && a[3] == htonl(1);
}

/* The other side's end of stream counts as one byte, both received and unread. */
static void leave_out_fin(struct row *row) {
    if (row->state == CLOSE_WAIT || row->state == LAST_ACK || row->state == CLOSING) {
        row->received -= row->received > 0;
        row->unread -= row->unread > 0;
    }
    if (row->state == FIN_WAIT1 || row->state == LAST_ACK || row->state == CLOSING) {
        row->unsent -= row->unsent > 0;
    }
}

static void read_message(const unsigned char *body, size_t size, row_fn each, void *context) {
    struct inet_diag_msg m;
    if (size < sizeof m) {
        return;
    }
    memcpy(&m, body, sizeof m);
    const uint32_t *there = m.id.idiag_dst, *here = m.id.idiag_src;
    size_t words = m.idiag_family == AF_INET ? 1 : 4;
    struct row row = {
        .key = (uint64_t)m.id.idiag_cookie[1] << 32 | m.id.idiag_cookie[0],
        .unread = m.idiag_rqueue,
        .unsent = m.idiag_wqueue,
        .inode = m.idiag_inode,
        .user = m.idiag_uid,
        .peer = m.idiag_family == AF_INET ? there[0]
                : is_mapped(there)        ? there[3]
                                          : there[0] ^ there[1] ^ there[2] ^ there[3],
        .port = ntohs(m.id.idiag_sport),
        .peer_port = ntohs(m.id.idiag_dport),
        .state = m.idiag_state == NEW_SYN_RECV ? SYN_RECV : m.idiag_state,
        /* A Pod that calls its own address does not leave the network namespace either. */
        /* A listener has no other end: its own address says who can reach it. */
        .loopback = m.idiag_state == LISTEN
                        ? is_loopback(here, m.idiag_family)
                        : is_loopback(there, m.idiag_family) || memcmp(there, here, words * 4) == 0,
        .id = body + offsetof(struct inet_diag_msg, id),
        .family = m.idiag_family,
    };
    for (size_t at = sizeof m; size - at >= sizeof(struct nlattr);) {
        struct nlattr a;
        memcpy(&a, body + at, sizeof a);
        if (a.nla_len < sizeof a || a.nla_len > size - at) {
            break;
        }
        if (a.nla_type == INET_DIAG_INFO) {
            read_info(&row, body + at + sizeof a, a.nla_len - sizeof a);
        }
        size_t step = NLA_ALIGN(a.nla_len);
        at += step < size - at ? step : size - at;
    }
    leave_out_fin(&row);
    each(context, &row);
}

enum diag_more diag_parse(const unsigned char *data, size_t size, uint32_t sequence, row_fn each,
                          void *context, int *error) {
    while (size >= sizeof(struct nlmsghdr)) {
        struct nlmsghdr h;
        memcpy(&h, data, sizeof h);
        if (h.nlmsg_len < sizeof h || h.nlmsg_len > size) {
            break;
        }
        const unsigned char *body = data + sizeof h;
        size_t n = h.nlmsg_len - sizeof h;
        if (h.nlmsg_seq == sequence) {
            if (h.nlmsg_type == NLMSG_DONE) {
                return DIAG_DONE;
            }
            if (h.nlmsg_type == NLMSG_ERROR) {
                int32_t code = 0;
                memcpy(&code, body, n >= sizeof code ? sizeof code : 0);
                *error = code < 0 && code > -4096 ? -code : EPROTO;
                return DIAG_FAILED;
            }
            if (h.nlmsg_type == SOCK_DIAG_BY_FAMILY || h.nlmsg_type == TCPDIAG_GETSOCK) {
                read_message(body, n, each, context);
            }
        }
        size_t step = NLMSG_ALIGN(h.nlmsg_len);
        data += step < size ? step : size;
        size -= step < size ? step : size;
    }
    return DIAG_MORE;
}

/* ------------------------------------------------------------------ the filter */

/* Offsets in the program are bytes from the instruction itself. A jump to the end passes the
 * socket, a jump four bytes beyond it drops the socket. A port stands in the instruction after the
 * comparison. One range is
 *
 *     port >= low     else to the next range
 *     port <= high    else to the next range
 *     jump to the end */
enum { OP = sizeof(struct inet_diag_bc_op), RANGE = 5 * OP };

/* The first of the ports from `low` on, and in *high the last that follows it without a gap; 0:
 * there is none. */
static unsigned next_range(const struct ports *ports, unsigned low, unsigned *high) {
    for (; low <= 65535; low++) {
        if (ports->bits[low / 64] == 0) {
            low |= 63; /* none of these 64 */
        } else if (ports_have(ports, (uint16_t)low)) {
            *high = low;
            while (*high < 65535 && ports_have(ports, (uint16_t)(*high + 1))) {
                ++*high;
            }
            return low;
        }
    }
    return 0;
}

void diag_filter_ports(struct diag_filter *f, const struct ports *ports) {
    unsigned n = 0, high;
    f->size = 0;
    for (unsigned low = 1; (low = next_range(ports, low, &high)) > 0; low = high + 1) {
        if (n == MOST_RANGES) {
            return;
        }
        struct inet_diag_bc_op *op = &f->program[n * 5];
        op[0] = (struct inet_diag_bc_op){.code = INET_DIAG_BC_S_GE, .yes = 2 * OP, .no = RANGE};
        op[1] = (struct inet_diag_bc_op){.no = (uint16_t)low};
        op[2] = (struct inet_diag_bc_op){.code = INET_DIAG_BC_S_LE, .yes = 2 * OP, .no = 3 * OP};
        op[3] = (struct inet_diag_bc_op){.no = (uint16_t)high};
        op[4] = (struct inet_diag_bc_op){.code = INET_DIAG_BC_JMP, .yes = OP, .no = 0};
        n++;
    }
    for (unsigned i = 0; i < n; i++) {
        f->program[i * 5 + 4].no = (uint16_t)((n - 1 - i) * RANGE + OP);
    }
    if (n > 0) {
        f->program[(n - 1) * 5].no = RANGE + OP;
        f->program[(n - 1) * 5 + 2].no = 4 * OP;
    }
    f->size = n * RANGE;
}

/* ------------------------------------------------------------------ asking */

static int send_parts(int fd, const struct iovec *parts, uint8_t n) {
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct msghdr m = {.msg_name = &kernel,
                       .msg_namelen = sizeof kernel,
                       .msg_iov = (struct iovec *)(uintptr_t)parts,
                       .msg_iovlen = n};
    return sendmsg(fd, &m, 0) < 0 ? -1 : 0;
}

/* Read an answer to its end. The kernel answers at once; a sandbox that neither answers nor refuses
 * must not hold up a Pod. */
static int read_answer(int fd, uint32_t sequence, bool dump, row_fn each, void *context) {
    for (;;) {
        _Alignas(8) unsigned char data[32768];
        struct pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
        int waited = poll(&ready, 1, PATIENCE_MS);
        if (waited < 0 && errno == EINTR) {
            continue;
        }
        if (waited == 0) {
            errno = ETIMEDOUT;
        }
        if (waited <= 0) {
            return -1;
        }
        ssize_t got = recv(fd, data, sizeof data, MSG_TRUNC | MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (got < 0) {
            return -1;
        }
        if ((size_t)got > sizeof data) {
            errno = EMSGSIZE;
            return -1;
        }
        int error = 0;
        enum diag_more more = diag_parse(data, (size_t)got, sequence, each, context, &error);
        if (more == DIAG_FAILED) {
            errno = error;
            return -1;
        }
        if (more == DIAG_DONE || got == 0 || !dump) {
            return 0;
        }
    }
}

static uint32_t asked = 0; /* number of the last question */

/* Uses the older of two requests: it alone covers both families, so the kernel walks its table once
 * instead of twice. */
int diag_dump(int fd, enum diag_what what, const struct diag_filter *f, row_fn each,
              void *context) {
    /* TIME_WAIT is what has ended; there can be tens of thousands. */
    uint32_t states =
        what == DIAG_LISTENERS ? 1U << LISTEN : ~(1U << TIME_WAIT | 1U << SYN_SENT | 1U << CLOSE);
    struct {
        struct nlmsghdr header;
        struct inet_diag_req body;
    } request = {
        .header = {.nlmsg_type = TCPDIAG_GETSOCK,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                   .nlmsg_seq = ++asked},
        .body = {.idiag_ext = 1 << (INET_DIAG_INFO - 1), .idiag_states = states},
    };
    size_t size = f != NULL ? f->size : 0;
    struct nlattr attribute = {.nla_len = (uint16_t)(sizeof attribute + size),
                               .nla_type = INET_DIAG_REQ_BYTECODE};
    struct iovec parts[] = {
        {.iov_base = &request, .iov_len = sizeof request},
        {.iov_base = &attribute, .iov_len = sizeof attribute},
        {.iov_base = size > 0 ? (void *)(uintptr_t)f->program : NULL, .iov_len = size},
    };
    uint8_t n = size > 0 ? 3 : 1;
    request.header.nlmsg_len = (uint32_t)(sizeof request + (n == 3 ? sizeof attribute + size : 0));
    return send_parts(fd, parts, n) != 0 ? -1 : read_answer(fd, asked, true, each, context);
}

struct found {
    row_fn each;
    void *context;
    int n;
};

static void take_found(void *context, const struct row *row) {
    struct found *found = context;
    found->n++;
    found->each(found->context, row);
}

int diag_one(int fd, const void *id, uint8_t family, row_fn each, void *context) {
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 body;
    } request = {
        .header = {.nlmsg_len = sizeof request,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST,
                   .nlmsg_seq = ++asked},
        .body = {.sdiag_family = family,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                 .idiag_states = ~0U},
    };
    struct iovec part = {.iov_base = &request, .iov_len = sizeof request};
    struct found found = {.each = each, .context = context, .n = 0};
    memcpy(&request.body.id, id, sizeof request.body.id);
    if (send_parts(fd, &part, 1) != 0 || read_answer(fd, asked, false, take_found, &found) != 0) {
        return errno == ENOENT ? 0 : -1;
    }
    return found.n > 0;
}

int diag_other_end(int fd, const void *id, uint8_t family, row_fn each, void *context) {
    struct inet_diag_sockid here, there;
    memcpy(&here, id, sizeof here);
    there = (struct inet_diag_sockid){.idiag_sport = here.idiag_dport,
                                      .idiag_dport = here.idiag_sport,
                                      .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}};
    memcpy(there.idiag_src, here.idiag_dst, sizeof there.idiag_src);
    memcpy(there.idiag_dst, here.idiag_src, sizeof there.idiag_dst);
    return diag_one(fd, &there, family, each, context);
}

/* ------------------------------------------------------------------ what has ended */

int diag_open_ends(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
    struct sockaddr_nl groups = {
        .nl_family = AF_NETLINK,
        .nl_groups = 1U << (SKNLGRP_INET_TCP_DESTROY - 1) | 1U << (SKNLGRP_INET6_TCP_DESTROY - 1),
    };
    if (fd >= 0 && bind(fd, (struct sockaddr *)&groups, sizeof groups) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* The messages are those of a dump. */
void diag_filter_ends(int fd, const struct ports *ports) {
    static struct sock_filter program[MOST_RANGES * 3 + 2];
    const unsigned place = sizeof(struct nlmsghdr) + offsetof(struct inet_diag_msg, id.idiag_sport);
    unsigned short n = 0;
    unsigned high;
    program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, place);
    for (unsigned low = 1; (low = next_range(ports, low, &high)) > 0; low = high + 1) {
        if (n == COUNT(program) - 1) {
            n = 0;
            break;
        }
        program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, low, 0, 2);
        program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, high, 1, 0);
        program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
    }
    program[n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, n > 0 ? 0 : UINT32_MAX);
    struct sock_fprog filter = {.len = (unsigned short)(n + 1), .filter = program};
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

int diag_ends(int fd, row_fn each, void *context) {
    for (;;) {
        _Alignas(8) unsigned char data[4096];
        int error = 0;
        ssize_t got = recv(fd, data, sizeof data, MSG_TRUNC | MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno == EAGAIN ? 0 : -1;
        }
        if ((size_t)got <= sizeof data) {
            diag_parse(data, (size_t)got, 0, each, context, &error);
        }
    }
}
