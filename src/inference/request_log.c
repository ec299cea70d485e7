#include "request_log.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

/* Records are allocated as they come: most engines end fewer requests than are kept. */
#define FIRST_CAPACITY 64

struct hs_request_log {
    pthread_mutex_t mutex;
    struct hs_request_record *records; /* [capacity], number n at index (n - 1) % capacity */
    size_t capacity;
    uint64_t n_ended;
};

hs_status hs_request_log_new(hs_request_log **ret_log, struct hs_error *err)
{
    hs_request_log *log = hs_calloc(1, sizeof(*log));
    if (log == NULL || pthread_mutex_init(&log->mutex, NULL) != 0) {
        hs_free(log);
        return hs_error_nomem(err, "log of requests");
    }
    *ret_log = log;
    return HS_OK;
}

void hs_request_log_free(hs_request_log *log)
{
    if (log != NULL) {
        pthread_mutex_destroy(&log->mutex);
        hs_free(log->records);
        hs_free(log);
    }
}

/* With the mutex held; false: no memory. Nothing moves: it grows only before it has gone round. */
static bool make_room(hs_request_log *log)
{
    if (log->n_ended < log->capacity || log->capacity == HS_REQUEST_RECORDS_MAX) {
        return true;
    }
    size_t capacity = log->capacity == 0 ? FIRST_CAPACITY : 2 * log->capacity;
    struct hs_request_record *records =
        hs_realloc_array(log->records, capacity, sizeof(records[0]));
    if (records == NULL) {
        return false;
    }
    log->records = records;
    log->capacity = capacity;
    return true;
}

void hs_request_record_fail(struct hs_request_record *record, const struct hs_error *error)
{
    size_t len = hs_utf8_clip(error->message, strlen(error->message), sizeof(record->error) - 1);
    memcpy(record->error, error->message, len);
    record->error[len] = '\0';
}

void hs_request_log_add(hs_request_log *log, const struct hs_request_record *record)
{
    if (log == NULL) {
        return;
    }
    pthread_mutex_lock(&log->mutex);
    if (make_room(log)) {
        struct hs_request_record *place = &log->records[log->n_ended % log->capacity];
        *place = *record;
        place->number = ++log->n_ended;
    }
    pthread_mutex_unlock(&log->mutex);
}

size_t hs_request_log_read(hs_request_log *log, uint64_t after,
                           struct hs_request_record *ret_records, size_t max)
{
    pthread_mutex_lock(&log->mutex);
    uint64_t gone = log->n_ended > log->capacity ? log->n_ended - log->capacity : 0;
    size_t n = 0;
    for (uint64_t i = after > gone ? after : gone; i < log->n_ended && n < max; i++) {
        ret_records[n++] = log->records[i % log->capacity];
    }
    pthread_mutex_unlock(&log->mutex);
    return n;
}
