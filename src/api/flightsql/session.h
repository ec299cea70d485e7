/*
 * session.h - who is connected, and what is theirs: connections of the SQL engine, prepared
 * statements, tickets, transactions.
 *
 * A session is found by the token of its login, by the cookie it was given, or by its connection,
 * with which it ends unless the client has sent the cookie. One that nobody uses ends in time.
 * It is its user's and key's alone, also where a proxy has one connection for several. It has one
 * main connection. While that one streams a result, further statements run on others, which do not
 * see the main one's temporary tables and settings; a session that has such (is_sticky) waits for
 * its main connection instead. A transaction has a connection of its own, which ends with it.
 *
 * Threads: any; a connection is leased by one call at a time. A thread of the server's own frees
 *          sessions that ended without a call.
 */
#ifndef FLIGHTSQL_SESSION_H
#define FLIGHTSQL_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/flightsql.h"

#define HS_FLIGHT_CONNS_MAX 16   /* of a session, beside those of transactions */
#define HS_FLIGHT_WAIT_MS 30000  /* for a connection that is in use */
#define HS_FLIGHT_HANDLE_SIZE 16 /* random bytes */
#define HS_FLIGHT_TOKEN_PREFIX "hs-session-"
#define HS_FLIGHT_COOKIE "hyprstream_session"

struct hs_flight_conn {
    hs_sql_conn *sql; /* NULL: it is being opened, or a further transaction may open it */
    bool is_busy;
    uint64_t transaction;            /* the number of the one that is open on it; 0: none */
    struct hs_flight_handle *runs;   /* of the lease there is; NULL: none is noted */
    struct hs_flight_handle *doomed; /* their statements are freed by whoever has the lease */
    struct hs_flight_conn *next;
};

/* What was bound to the parameters of a statement; it is never changed. */
struct hs_flight_values {
    struct ArrowSchema schema;
    struct ArrowArray array;
    atomic_int n_users;
};

enum hs_flight_kind { HS_FLIGHT_STATEMENT, HS_FLIGHT_PREPARED, HS_FLIGHT_TRANSACTION };

struct hs_flight_handle {
    uint8_t id[HS_FLIGHT_HANDLE_SIZE];
    enum hs_flight_kind kind;
    struct hs_flight_conn *conn; /* where stmt was prepared, or the transaction's */
    uint64_t transaction;        /* that of its connection, when it was made */
    hs_sql_stmt *stmt;           /* NULL: of a transaction, or that one has ended */
    char *text;
    struct hs_flight_values *values; /* NULL: nothing is bound */
    bool is_taken;                   /* a ticket is for one use; then it can only be cancelled */
    atomic_bool is_executed;         /* by GetFlightInfo: the next DoGet has nothing left to do */
    uint64_t n_cancels;
    int n_users;     /* calls that use it now */
    bool is_dropped; /* nobody finds it; the last of them frees it */
    struct hs_flight_handle *next;
};

struct hs_flight_session {
    char id[64];         /* what a token or cookie has */
    uint64_t connection; /* that it was begun on; 0: it is found by its token only */
    char user[HS_KEY_NAME_MAX + 1];
    char key[HS_KEY_TEXT_MAX]; /* the API key it was made with; "": none was needed */
    bool has_cookie;           /* the client sent it back */
    atomic_bool is_sticky;
    bool is_closed;
    int n_calls, n_handles;
    int64_t last_used_ms;         /* 0: no call of it was answered */
    char *catalog, *schema;       /* session options; NULL: not set */
    struct hs_flight_conn *conns; /* the first is the main one */
    struct hs_flight_conn *transactions;
    struct hs_flight_handle *handles;
    struct hs_flight_session *next;
};

struct hs_flight {
    struct hs_flight_config config;
    hs_grpc_server *server;
    pthread_mutex_t lock; /* of sessions and all that is in them */
    pthread_cond_t freed; /* a connection was given back */
    struct hs_flight_session *sessions;
    struct hs_flight_session *ended; /* without calls, to be freed */
    int n_sessions;
    uint64_t n_transactions; /* that were begun */
    pthread_t sweeper;
    pthread_cond_t swept; /* the sweeper has something to do */
    bool has_sweeper, is_stopping;
};

/* ---- sessions ---- */

/* With a call of the caller's, to be left with hs_flight_session_leave; connection 0: it is found
 * by its token only; else it may be one that another call has begun. Errors: HS_LIMIT. */
HS_CHECKED hs_status hs_flight_session_new(hs_flight *flight, const char *user, const char *key,
                                           uint64_t connection,
                                           struct hs_flight_session **ret_session,
                                           struct hs_error *err);
/* By id, the token's or cookie's. NULL: there is none. */
struct hs_flight_session *hs_flight_session_enter(hs_flight *flight, const char *id);
/* By connection, of this user and key. */
struct hs_flight_session *hs_flight_session_enter_connection(hs_flight *flight, uint64_t connection,
                                                             const char *user, const char *key);
void hs_flight_session_leave(hs_flight *flight, struct hs_flight_session *session);
/* Leave it without an answer: it ends, unless others use it. */
void hs_flight_session_abandon(hs_flight *flight, struct hs_flight_session *session);
/* Interrupts what runs in it; it is freed when its last call leaves. */
void hs_flight_session_close(hs_flight *flight, struct hs_flight_session *session);
/* End what was found by a connection; on_disconnect of the gRPC server. */
void hs_flight_sessions_disconnect(uint64_t connection, void *flight);
/* Start the thread that ends idle sessions. Errors: HS_OUT_OF_MEMORY, HS_IO. */
HS_CHECKED hs_status hs_flight_sessions_sweep(hs_flight *flight, struct hs_error *err);
/* All, with the thread; there are no calls any more. */
void hs_flight_sessions_free(hs_flight *flight);

/* ---- leases of connections ---- */

struct hs_flight_lease {
    hs_flight *flight;
    hs_grpc_call *call;
    struct hs_flight_conn *conn;
};

/*
 * Lease the connection of a transaction; NULL: the main one, or another of the session while that
 * one is in use. A lease is a task (hs_sql_task_begin), which the end of the call interrupts.
 * Errors: HS_BUSY, HS_CANCELLED, HS_INVALID_ARGUMENT (the transaction has ended).
 */
HS_CHECKED hs_status hs_flight_lease(hs_flight *flight, struct hs_flight_session *session,
                                     const struct hs_flight_handle *transaction, hs_grpc_call *call,
                                     struct hs_flight_lease *ret_lease, struct hs_error *err);
/* Likewise for running the statement of a handle, which is prepared again where it has to be.
 * hs_flight_handle_cancel interrupts it, from here on. */
HS_CHECKED hs_status hs_flight_lease_handle(hs_flight *flight, struct hs_flight_session *session,
                                            struct hs_flight_handle *handle, hs_grpc_call *call,
                                            struct hs_flight_lease *ret_lease,
                                            hs_sql_stmt **ret_stmt, hs_sql_stmt **ret_own,
                                            struct hs_error *err);
void hs_flight_lease_end(struct hs_flight_lease *lease);
/* Lease a new connection, for a transaction. */
HS_CHECKED hs_status hs_flight_lease_new(hs_flight *flight, struct hs_flight_session *session,
                                         hs_grpc_call *call, struct hs_flight_lease *ret_lease,
                                         struct hs_error *err);
/* End the lease of a transaction's connection, the transaction and the connection. */
void hs_flight_lease_close(struct hs_flight_session *session, struct hs_flight_lease *lease);
/* For sessions that end: nobody has it leased. */
void hs_flight_conn_free(struct hs_flight_conn *conn);

/* Set the session's catalog or schema, which `option` is, on a connection that the caller has
 * leased as well. */
HS_CHECKED hs_status hs_flight_session_set(hs_flight *flight, struct hs_flight_session *session,
                                           struct hs_flight_conn *conn, char **option,
                                           const char *value, struct hs_error *err);

/* ---- handles ---- */

/* Takes over stmt and text, also when it fails; the lease is on the statement's connection. */
HS_CHECKED hs_status hs_flight_handle_new(hs_flight *flight, struct hs_flight_session *session,
                                          enum hs_flight_kind kind, struct hs_flight_conn *conn,
                                          hs_sql_stmt *stmt, char *text,
                                          struct hs_flight_handle **ret_handle,
                                          struct hs_error *err);
/* Of this session and kind, to be given back with hs_flight_handle_put; HS_INVALID_ARGUMENT. */
HS_CHECKED hs_status hs_flight_handle_get(hs_flight *flight, struct hs_flight_session *session,
                                          enum hs_flight_kind kind, const uint8_t *id, size_t len,
                                          struct hs_flight_handle **ret_handle,
                                          struct hs_error *err);
void hs_flight_handle_put(hs_flight *flight, struct hs_flight_session *session,
                          struct hs_flight_handle *handle);
/* Values of a schema, which is copied; the array is taken over, also when it fails. To be let go
 * with hs_flight_values_put. */
HS_CHECKED hs_status hs_flight_values_new(const struct ArrowSchema *schema,
                                          struct ArrowArray *array,
                                          struct hs_flight_values **ret_values,
                                          struct hs_error *err);
void hs_flight_values_put(struct hs_flight_values *values); /* NULL is allowed */
/* Have these values be those of the handle, beside the caller; NULL: it has none any more. */
void hs_flight_handle_bind(hs_flight *flight, struct hs_flight_handle *handle,
                           struct hs_flight_values *values);
/* Those it has now, to be let go; NULL: none. */
struct hs_flight_values *hs_flight_handle_values(hs_flight *flight,
                                                 struct hs_flight_handle *handle);
/* Nobody finds it any more; its last user frees it. */
void hs_flight_handle_drop(hs_flight *flight, struct hs_flight_session *session,
                           struct hs_flight_handle *handle);
/* Interrupt what a handle of any kind runs; false: there is no such handle. */
bool hs_flight_handle_cancel(hs_flight *flight, struct hs_flight_session *session,
                             const uint8_t *id, size_t len);

/* Hexadecimal, of n random bytes. */
HS_CHECKED hs_status hs_flight_random_hex(char *out, size_t n, struct hs_error *err);

#endif
