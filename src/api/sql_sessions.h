/*
 * sql_sessions.h - connections of the SQL engine that outlive a request: what is temporary,
 * settings and transactions stay from one statement of /api/v1/sql to the next.
 *
 * A session runs one statement at a time. It ends when it is told to, when nobody used it for a
 * while, and with the server.
 *
 * Owner:   hs_sql_sessions_free, when no session is entered.
 * Threads: any, but making and freeing them all.
 */
#ifndef API_SQL_SESSIONS_H
#define API_SQL_SESSIONS_H

#include "api/sql.h"

#define HS_SQL_SESSION_ID_SIZE 33 /* 32 digits and a NUL */
#define HS_SQL_OWNER_MAX 16

typedef struct hs_sql_sessions hs_sql_sessions;
typedef struct hs_sql_session hs_sql_session;

/* max_each: sessions that an owner may have. */
HS_CHECKED hs_status hs_sql_sessions_new(int max_each, int64_t idle_ms,
                                         hs_sql_sessions **ret_sessions, struct hs_error *err);
void hs_sql_sessions_free(hs_sql_sessions *sessions); /* NULL is allowed */

/* In: owner, who alone may use it (shorter than HS_SQL_OWNER_MAX); user, for the log of requests.
 * Errors: HS_QUEUE_FULL: the owner has as many as may be. */
HS_CHECKED hs_status hs_sql_session_new(hs_sql_sessions *sessions, const char *owner,
                                        const char *user, char ret_id[HS_SQL_SESSION_ID_SIZE],
                                        struct hs_error *err);
/* Milliseconds since it was used last; 0 while it is. Errors: HS_NOT_FOUND. */
HS_CHECKED hs_status hs_sql_session_idle_ms(hs_sql_sessions *sessions, const char *owner,
                                            const char *id, int64_t *ret_ms, struct hs_error *err);
/* Its connection, with a task begun, until hs_sql_session_leave.
 * Errors: HS_NOT_FOUND; HS_BUSY: another statement of it runs; those of hs_sql_connect. */
HS_CHECKED hs_status hs_sql_session_enter(hs_sql_sessions *sessions, hs_sql *sql, const char *owner,
                                          const char *id, hs_sql_session **ret_session,
                                          hs_sql_conn **ret_conn, struct hs_error *err);
void hs_sql_session_leave(hs_sql_sessions *sessions, hs_sql_session *session);
/* End it, and the statement that runs in it. Errors: HS_NOT_FOUND. */
HS_CHECKED hs_status hs_sql_session_end(hs_sql_sessions *sessions, const char *owner,
                                        const char *id, struct hs_error *err);

#endif
