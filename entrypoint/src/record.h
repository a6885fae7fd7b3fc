/* The records: one line of JSON for each fact that a machine may read. The one writer, and the one
 * reader.
 *
 * In: values. Out: text, and back. Who gets the text (log, sidecar, termination message) belongs in
 * report.c. */
#pragma once
#include "base.h"

enum { RECORD_SIZE = 1024 };

enum record_kind { RECORD_DRAIN, RECORD_STOP, RECORD_HOOK, RECORD_KINDS };

/* Values of the fields that hold a word. The last of each list stands for any word that a reader
 * does not know. */
enum asked_by { BY_HOOK, BY_SIGNAL, BY_SIDECAR, BY_OTHERS };
enum method { BY_DIAG, BY_TABLE, BY_TIME, BY_OTHER };
/* Why a wait ended: of the delay, of the wait for requests in flight, or of both. */
enum end {
    END_NONE,
    END_QUIET,         /* nothing new has come in for a while */
    END_MAX,           /* delay-max */
    END_NOT_LISTENING, /* nobody listens: nothing can come in */
    END_IDLE,          /* nothing is in flight */
    END_FINISHES,      /* the server itself finishes what is in flight, after its signal */
    END_NOT_OBSERVED,  /* connections are permanent: nobody waits for them */
    END_TIMEOUT,       /* drain-timeout */
    END_DEADLINE,      /* the grace period is over */
    END_SIGNAL,        /* a stop signal came before the end */
    END_EXITED,        /* the command ended by itself */
    END_TIME,          /* sockets cannot be seen: the fixed time */
    END_OTHER,
};
enum forced { FORCED_NO, FORCED_TERM, FORCED_KILL, FORCED_OTHER };
enum ran { RAN_BEFORE, RAN_AFTER, RAN_OTHER };
/* How the user's own hook ended. */
enum outcome { OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_TIMEOUT, OUTCOME_GONE, OUTCOME_OTHER };

/* In the order in which they are written. README.md, "The log", says what each means. */
enum field {
    R_CONTAINER,
    R_BY,
    R_METHOD,
    R_WAITED_MS,
    R_DELAY_MS,
    R_DELAY_END,
    R_DRAIN_MS,
    R_DRAIN_END,
    R_IN_FLIGHT_START,
    R_IN_FLIGHT_END,
    R_FINISHING,
    R_NEW_CONNECTIONS,
    R_NEW_REQUESTS,
    R_PROBES,
    R_OPEN,
    R_OWED,
    R_UNREAD,
    R_UNSENT,
    R_UNSURE,
    R_QUEUED,
    R_PROFILE,
    R_STOP,
    R_STOP_MS,
    R_FORCED,
    R_LEFT,
    R_EXIT,
    R_ORDER,
    R_OUTCOME,
    R_CODE,
    R_HOOK_MS,
    R_FIELDS
};

/* A number below 0 is not known, and is not written; neither is a text that is NULL. */
struct record {
    enum record_kind kind;
    int64_t number[R_FIELDS]; /* numbers, and words by their enum */
    const char *text[R_FIELDS];
};

struct record record_of(enum record_kind kind, const char *container);
/* As a line that ends in a newline, at most RECORD_SIZE bytes with it: `line` has room for that. */
void record_write(const struct record *r, struct text *line);
/* Read a line without its newline. False if it is not a record: one flat JSON object in printable
 * ASCII that begins with "podgrace" and a known kind. Unknown fields are skipped; texts are not
 * kept. */
bool record_read(const char *line, size_t size, struct record *r);
