/*
 * sql_internal.h - what the files of src/api/sql share: connections as functions and views see them
 * from inside DuckDB's threads.
 *
 * A function learns its connection by duckdb_client_context_get_connection_id, and must ask it
 * before it computes: while a statement is planned, constant calls would be evaluated, so a
 * function that costs inference answers HS_SQL_PLANNING_ERROR then.
 *
 * Threads: DuckDB calls functions of one statement from several threads at once.
 */
#ifndef API_SQL_INTERNAL_H
#define API_SQL_INTERNAL_H

#include <duckdb.h>
#include <pthread.h>

#include "api/sql.h"

struct hs_sql {
    duckdb_database database;
    struct hs_sql_workers *workers;
    char *refused;         /* names of functions that may not be called, each between blanks */
    pthread_mutex_t mutex; /* of the list */
    hs_sql_conn *conns;
    bool has_functions; /* of ours, for connections to come */
    struct hs_fn_vectors *vectors;
};

struct hs_sql_memo;

struct hs_sql_conn {
    hs_sql *sql;
    hs_sql_conn *next;
    duckdb_connection connection;
    duckdb_arrow_options arrow;
    uint64_t id;
    char *user;
    const void *busy;      /* a result that is being read, or an ingestion; NULL: none */
    bool has_transaction;  /* begun by a statement, and not ended */
    bool infers;           /* the statement that was planned last calls a function of ours */
    bool has_small_stream; /* DuckDB's setting now */
    pthread_mutex_t mutex; /* of what follows */
    bool is_running, is_interrupted, is_planning;
    bool is_task, is_cancelled; /* the task: what would begin in it does not */
    pthread_t planner;
    struct hs_error failure;       /* HS_OK: no function failed */
    char shown[HS_SQL_SHOWN_SIZE]; /* of the statement that runs; "": none, or one of ours */
    double begun_ms;
    uint64_t n_asked, n_answered;
    struct hs_sql_work *works;
    struct hs_sql_memo *memos;
};

/* Work of a function that hs_sql_interrupt must end: `cancel` is called at most once, from any
 * thread, quick and without locks that are held around hs_sql_work_end. */
struct hs_sql_work {
    void (*cancel)(void *user);
    void *user;
    struct hs_sql_work *next; /* the connection's */
};

/* The connection with DuckDB's number; NULL: none of ours. It stays while one of its statements
 * runs. */
hs_sql_conn *hs_sql_conn_find(hs_sql *sql, uint64_t id);
const char *hs_sql_conn_user(const hs_sql_conn *conn); /* "": nobody */
/* A statement is prepared or explained now: nothing may be computed. */
bool hs_sql_conn_is_planning(const hs_sql_conn *conn);
bool hs_sql_conn_is_interrupted(const hs_sql_conn *conn);
/* What a function says while its connection plans. Users see it where DuckDB cannot do without the
 * value. */
#define HS_SQL_PLANNING_ERROR                                                                      \
    "inference does not run while a statement is planned: write SELECT in place of VALUES, or "    \
    "put "                                                                                         \
    "the call into a query of its own"
/* What a function of ours failed with; false: nothing. */
bool hs_sql_conn_failure(const hs_sql_conn *conn, struct hs_error *ret_error);
/* A statement begins to run or to be planned; HS_BUSY: a result is still being read; HS_CANCELLED:
 * its task is interrupted. */
HS_CHECKED hs_status hs_sql_conn_start(hs_sql_conn *conn, struct hs_error *err);
void hs_sql_conn_stop(hs_sql_conn *conn);
/* End what runs, as hs_sql_interrupt does, but not its task. */
void hs_sql_conn_halt(hs_sql_conn *conn);
/* This thread plans from now on, or no longer. */
void hs_sql_conn_plan(hs_sql_conn *conn, bool is_planning);
/* The statement that is planned calls a function of ours; its planner's thread. */
void hs_sql_conn_infers(hs_sql_conn *conn);
/* A statement that runs from now on, as hs_sql_list shows it. */
void hs_sql_shorten(const char *text, char ret_shown[HS_SQL_SHOWN_SIZE]);
void hs_sql_conn_show(hs_sql_conn *conn, const char *shown);
/* It asks so many more questions, and has so many more answers. */
void hs_sql_conn_progress(hs_sql_conn *conn, size_t n_asked, size_t n_answered);
/* Execute a statement of ours, unchecked. */
HS_CHECKED hs_status hs_sql_conn_run(hs_sql_conn *conn, const char *text, struct hs_error *err);
/* Begin work; false: the statement is interrupted already, and nothing was begun. */
bool hs_sql_work_begin(hs_sql_conn *conn, struct hs_sql_work *work);
void hs_sql_work_end(hs_sql_conn *conn, struct hs_sql_work *work);
/* Why the statement fails, whole, in place of the text that goes through DuckDB: the first counts.
 * The function still has to tell DuckDB that it failed. */
void hs_sql_conn_fail(hs_sql_conn *conn, const struct hs_error *error);
/*
 * Something that lives as long as the present execution of a statement, such as answers that were
 * given already: `make` is called once an execution for a key, one thread at a time; `free` when it
 * is over. `make` must not use the connection. NULL: make returned it.
 */
void *hs_sql_conn_memo(hs_sql_conn *conn, const void *key, void *(*make)(void *user),
                       void (*release)(void *memo), void *user);

/* Registers every function of ours, once a database, before its settings are locked. */
HS_CHECKED hs_status hs_sql_functions_register(hs_sql *sql, duckdb_connection connection,
                                               const struct hs_sql_host *host,
                                               struct hs_error *err);

/* What a connection needs of its own: the macro search. */
HS_CHECKED hs_status hs_sql_functions_connect(hs_sql_conn *conn, struct hs_error *err);
#endif
