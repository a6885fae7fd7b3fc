#include "rules.h"

/* The protocol rules. README.md has them as a table, tests/entrypoint/test_connections.py has a
 * test for each. */
static enum verdict judge_open(const struct row *row, int64_t calm) {
    if (row->inode == 0) {
        return WAITING;
    }
    if (row->unread > 0) {
        return UNREAD;
    }
    if (row->unsent > 0) {
        return UNSENT;
    }
    if (!row->known) {
        return UNKNOWN;
    }
    if (row->received == 0 && row->sent == 0) {
        return row->sent_age < YOUNG_MS ? YOUNG : SILENT;
    }
    if (row->received > 0 && row->sent == 0) {
        return OWED;
    }
    if (row->received > 0) {
        if (row->received_age < row->sent_age) {
            return OWED;
        }
        /* One tick of the kernel's clock is 1 to 10 ms. A fast handler's answer ties, and so do the
         * first request on TLS and an HTTP/2 stream still being worked on. Those were lost when a
         * tie counted as idle. */
        if (row->received_age == row->sent_age) {
            return row->sent_age < TIE_MS ? TIE : IDLE;
        }
    }
    return row->sent_age < calm ? RECENT : IDLE;
}

enum verdict judge(const struct row *row, int64_t calm) {
    switch (row->state) {
    case ESTABLISHED:
        return judge_open(row, calm);
    case CLOSE_WAIT: { /* the client has sent everything and still waits for the answer */
        enum verdict v = judge_open(row, calm);
        return v == YOUNG ? SILENT : v; /* but one that has sent nothing, as a TCP probe, does not */
    }
    case FIN_WAIT1:
    case CLOSING:
    case LAST_ACK: /* the server is done, the kernel may not be */
        return row->unsent > 0 ? UNSENT : OVER;
    default:
        return OVER;
    }
}
