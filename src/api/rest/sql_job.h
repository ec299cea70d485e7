/*
 * sql_job.h - the statements of one request: a thread of their own runs them, a bounded piece of
 * the answer ahead of what the client took.
 *
 * Owner:   the request's hooks (hs_rest_sql_job_start) and the thread hold it together.
 * Threads: the request's; the rest is inside.
 */
#ifndef API_REST_SQL_JOB_H
#define API_REST_SQL_JOB_H

#include "api/http.h"
#include "sql_print.h"
#include "sql_service.h"

struct hs_rest_sql_ask {
    const char *text;
    const json_t *values; /* NULL: none; each can be bound (sql_bind.h) */
    const char *user;
    const char *owner, *session; /* id of a session of the owner's; NULL: a connection of its own */
    enum hs_sql_format format;   /* no table */
};

/* Answers the request, or waits for it. `service` is entered for as long as the thread runs. */
void hs_rest_sql_job_start(hs_http_request *request, hs_sql_service *service,
                           const struct hs_rest_sql_ask *ask);

#endif
