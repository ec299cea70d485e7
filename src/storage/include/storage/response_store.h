/*
 * response_store.h - answers of /v1/responses that are kept, in one SQLite file.
 *
 * A row has the answer, the items it was asked with and the whole conversation before them, so that
 * each one can be gone on from whatever became of the others. Rows belong to an owner and are
 * nobody else's. Each put removes what is too old, and the oldest above the limit. WAL mode;
 * several processes may have the file open. A file that SQLite finds corrupt is set aside as
 * <file>.corrupt-<time> with a warning in the log, and a new one is begun.
 *
 * Errors:  HS_BUSY (locked for 5 s), HS_PERMISSION_DENIED, HS_CORRUPT (damage met later), HS_IO,
 *          HS_UNSUPPORTED_VERSION (of a newer program), HS_OUT_OF_MEMORY.
 * Owner:   hs_stored_response_free releases what get returns.
 * Threads: one store may be used from any number of threads (a mutex inside).
 */
#ifndef STORAGE_RESPONSE_STORE_H
#define STORAGE_RESPONSE_STORE_H

#include "hyprstream.h"

typedef struct hs_response_store hs_response_store;

struct hs_response_store_limits {
    int64_t max_responses; /* at least 1 */
    int64_t max_age_s;     /* 0: any */
};

struct hs_stored_response {
    char *body;    /* JSON of the answer */
    char *input;   /* JSON array: the items it was asked with */
    char *history; /* JSON array: the items before these */
};

/* Makes the file when it is not there (its folder must be). */
HS_CHECKED hs_status hs_response_store_open(const char *path,
                                            const struct hs_response_store_limits *limits,
                                            hs_response_store **ret_store, struct hs_error *err);
void hs_response_store_close(hs_response_store *store);

/* Keep one; `owner` is "" or whatever tells owners apart. Replaces the owner's row of that id. */
HS_CHECKED hs_status hs_response_store_put(hs_response_store *store, const char *id,
                                           const char *owner,
                                           const struct hs_stored_response *response,
                                           struct hs_error *err);
/* HS_NOT_FOUND: there is none, it is too old, or somebody else's. */
HS_CHECKED hs_status hs_response_store_get(hs_response_store *store, const char *id,
                                           const char *owner,
                                           struct hs_stored_response *ret_response,
                                           struct hs_error *err);
HS_CHECKED hs_status hs_response_store_delete(hs_response_store *store, const char *id,
                                              const char *owner, struct hs_error *err);
void hs_stored_response_free(struct hs_stored_response *response);

#endif
