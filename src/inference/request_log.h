/*
 * request_log.h - the last requests that have ended, for those who look afterwards.
 *
 * Owner:   the engine; it outlives the models.
 * Threads: any.
 */
#ifndef INFERENCE_REQUEST_LOG_H
#define INFERENCE_REQUEST_LOG_H

#include "hyprstream.h"

typedef struct hs_request_log hs_request_log;

HS_CHECKED hs_status hs_request_log_new(hs_request_log **ret_log, struct hs_error *err);
void hs_request_log_free(hs_request_log *log); /* NULL is allowed */
/* Keep as much of the error's message as there is room for. */
void hs_request_record_fail(struct hs_request_record *record, const struct hs_error *error);
/* Add a copy; its number is given here. Without memory for it the request goes unrecorded. log
 * NULL: nothing. */
void hs_request_log_add(hs_request_log *log, const struct hs_request_record *record);
/* As hs_engine_requests; returns how many were written. */
size_t hs_request_log_read(hs_request_log *log, uint64_t after,
                           struct hs_request_record *ret_records, size_t max);

#endif
