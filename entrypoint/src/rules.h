/* What one socket means. Pure: a row in, a verdict out. Rows come from diag and nettable. */
#pragma once
#include "base.h"

/* The kernel's numbers (/proc/net/tcp prints them in hexadecimal). */
enum {
    ESTABLISHED = 1,
    SYN_SENT,
    SYN_RECV,
    FIN_WAIT1,
    FIN_WAIT2,
    TIME_WAIT,
    CLOSE,
    CLOSE_WAIT,
    LAST_ACK,
    LISTEN,
    CLOSING,
    NEW_SYN_RECV
};

struct row {
    uint64_t key; /* the same for the same connection, as long as it lives */
    uint64_t received, sent;
    uint32_t received_age, sent_age; /* milliseconds since the last byte, each way */
    /* Bytes; of a LISTEN row: connections waiting to be accepted, and room for them. */
    uint32_t unread, unsent;
    uint32_t inode;           /* 0: not accepted yet, or the program has closed it */
    uint32_t user;
    uint32_t peer;            /* a hash of the other end's address, without its port */
    uint16_t port, peer_port; /* ours, and the other end's */
    uint8_t state;
    bool loopback;
    bool known; /* bytes and ages are */
    /* Where the kernel can be asked for this one alone: its struct inet_diag_sockid; NULL if it
     * cannot. */
    const void *id;
    uint8_t family;
};

enum verdict {
    IDLE,   /* nothing is owed, and has not been for a moment */
    SILENT, /* has never sent a byte: a preconnect, a health check */
    YOUNG,  /* the same, but younger than a second: its request may be on the way */
    OWED,    /* the last byte came in after the last one went out: an answer, or an upload */
    UNREAD,  /* bytes that the server has not read yet */
    UNSENT,  /* bytes that the client has not got yet */
    TIE,     /* in and out within one tick of the clock: cannot be told */
    RECENT,  /* the last byte went out a moment ago: it may be streaming */
    WAITING, /* in the queue of connections not accepted yet */
    UNKNOWN, /* open, and the kernel does not tell more */
    OVER,    /* finished, or never begun */
};

enum { YOUNG_MS = 1000, TIE_MS = 10000 };

enum verdict judge(const struct row *row, int64_t calm);
static inline bool is_busy(enum verdict v) { return v != IDLE && v != SILENT && v != OVER; }
