/* The head of an HTTP request, as far as the sidecar needs it. Pure: bytes in, a request out. */
#pragma once
#include "base.h"

enum http_state { HTTP_MORE, HTTP_READY, HTTP_BAD, HTTP_LARGE };
enum { HTTP_MOST = 2048 }; /* head and body together */

struct request {
    bool post; /* else GET or HEAD */
    bool head;
    char path[32];
    char query[1024];
    const char *body; /* inside of the bytes that were parsed */
    size_t body_size;
};

/* `size` bytes have come so far. HTTP_MORE: not all yet. */
enum http_state http_parse(const char *data, size_t size, struct request *r);
