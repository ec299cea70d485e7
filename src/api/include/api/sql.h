/*
 * api/sql.h - SQL over models and tables: DuckDB in this process behind a few functions, with
 * results as Arrow's C data interface. Knows no transport.
 *
 * A database has connections, a connection statements, and one result or ingestion at a time: until
 * it has been read to its end, or freed, everything else on that connection is HS_BUSY.
 * What a statement may do is limited (docs/sql.md): no files but those of the allowed folders,
 * which are only read; no other databases, no extensions, no change of limits.
 *
 * Errors:  HS_INVALID_ARGUMENT (what the SQL engine says of the text or the values, with the line),
 *          HS_PERMISSION_DENIED (a statement that is refused; why is in the message),
 *          HS_CANCELLED (hs_sql_interrupt), HS_OUT_OF_MEMORY, HS_LIMIT, HS_IO; those of the engine
 *          when a function of ours failed.
 * Owner:   whoever got it frees it: results before their statement, statements before their
 *          connection, connections before the database. `_free` takes NULL.
 * Threads: a database may be used by any; a connection and what belongs to it by one at a time,
 *          but hs_sql_interrupt.
 */
#ifndef API_SQL_H
#define API_SQL_H

#include "api/arrow_abi.h"
#include "api/sql_host.h"

typedef struct hs_sql hs_sql;
typedef struct hs_sql_conn hs_sql_conn;
typedef struct hs_sql_stmt hs_sql_stmt;
typedef struct hs_sql_result hs_sql_result;
typedef struct hs_sql_ingest hs_sql_ingest;

struct hs_sql_params {
    const char *file;                /* the users' tables; NULL: they live in memory only */
    const char *const *allowed_dirs; /* [n_allowed_dirs] absolute folders that may be read */
    size_t n_allowed_dirs;
    uint64_t memory_bytes;          /* of DuckDB's own data; 0: a quarter of the machine's memory */
    int32_t n_threads;              /* that compute queries; 0: physical cores */
    const char *temp_dir;           /* for what exceeds the memory; NULL: it is an error */
    uint64_t temp_bytes;            /* at most so much there; 0: 4 GiB */
    const struct hs_sql_host *host; /* NULL: no functions and no views of ours */
};
void hs_sql_params_defaults(struct hs_sql_params *params);

/* Errors: HS_BUSY (the file is open in another process), HS_NOT_FOUND (a folder), HS_BAD_FORMAT,
 * HS_IO, HS_PERMISSION_DENIED. */
HS_CHECKED hs_status hs_sql_open(const struct hs_sql_params *params, hs_sql **ret_sql,
                                 struct hs_error *err);
void hs_sql_close(hs_sql *sql);

/* In: user, who is written to the log of requests; NULL: nobody. */
HS_CHECKED hs_status hs_sql_connect(hs_sql *sql, const char *user, hs_sql_conn **ret_conn,
                                    struct hs_error *err);
void hs_sql_disconnect(hs_sql_conn *conn);
/* Ends the statement that runs on the connection, and its inference, with HS_CANCELLED; inside of a
 * task what would begin after it, too. Without either it does nothing. Threads: any, while the
 * connection exists. */
void hs_sql_interrupt(hs_sql_conn *conn);
/* A task is all that one caller's request runs on a connection: from the first to the last of its
 * statements one interruption is enough, whenever it comes. Only hs_sql_rollback is not kept from
 * running. Tasks are not nested. */
void hs_sql_task_begin(hs_sql_conn *conn);
void hs_sql_task_end(hs_sql_conn *conn);

/* ---- what runs ---- */

#define HS_SQL_SHOWN_SIZE 241 /* bytes: 60 characters and a NUL */
#define HS_SQL_RUNNING_MAX 256

struct hs_sql_running {
    char user[HS_TAG_MAX];        /* "": nobody */
    char text[HS_SQL_SHOWN_SIZE]; /* its first characters, on one line */
    double ms;                    /* since it began */
    uint64_t n_asked, n_answered; /* questions to models: known by now, and of these answered; what
                                     is asked twice counts once */
};
/* The statements of a database that run, or whose rows are being read; at most `max`, returns how
 * many. Threads: any. */
size_t hs_sql_list(hs_sql *sql, struct hs_sql_running *ret_items, size_t max);

/* ---- statements ---- */

/* The length of the statement that text begins with, without its semicolon; *ret_next is where the
 * next one begins. 0: there is only blank and comments, to the end. */
size_t hs_sql_statement_len(const char *text, size_t len, size_t *ret_next);
/* Whether a semicolon ends the last statement of a text; also of one without statements. */
bool hs_sql_is_complete(const char *text, size_t len);

/* Whether a text leaves something on its connection that others of its user do not have: temporary
 * objects, settings, prepared statements, a transaction. A text that is no SQL may be said to. */
bool hs_sql_leaves_traces(const char *text);

enum hs_sql_kind {
    HS_SQL_QUERY = 0, /* gives rows */
    HS_SQL_UPDATE,    /* INSERT, UPDATE, DELETE without RETURNING: a number of rows */
    HS_SQL_OTHER      /* neither: CREATE, BEGIN and the like */
};

/* Text with several statements: all but the last are executed at once, as they have to be before
 * the last can be prepared; only the last one may have parameters. */
HS_CHECKED hs_status hs_sql_prepare(hs_sql_conn *conn, const char *text, size_t text_len,
                                    hs_sql_stmt **ret_stmt, struct hs_error *err);
void hs_sql_stmt_free(hs_sql_stmt *stmt);
enum hs_sql_kind hs_sql_stmt_kind(const hs_sql_stmt *stmt);
size_t hs_sql_stmt_n_params(const hs_sql_stmt *stmt);
/* Struct types; to be released by the caller. Parameters whose type is open are of type null; a
 * result whose type depends on one gets it when the values are bound. */
HS_CHECKED hs_status hs_sql_stmt_result_schema(hs_sql_stmt *stmt, struct ArrowSchema *ret_schema,
                                               struct hs_error *err);
HS_CHECKED hs_status hs_sql_stmt_param_schema(hs_sql_stmt *stmt, struct ArrowSchema *ret_schema,
                                              struct hs_error *err);
/* Bind one row of a struct array, column i to parameter i (by name where the statement's parameters
 * have names and a column has that one). schema and array are only read. */
HS_CHECKED hs_status hs_sql_bind(hs_sql_stmt *stmt, const struct ArrowSchema *schema,
                                 const struct ArrowArray *array, int64_t row, struct hs_error *err);
/* Run it with what is bound. The rows are computed as they are read. */
HS_CHECKED hs_status hs_sql_execute(hs_sql_stmt *stmt, hs_sql_result **ret_result,
                                    struct hs_error *err);

/* ---- results ---- */

/* To be released by the caller. */
HS_CHECKED hs_status hs_sql_result_schema(hs_sql_result *result, struct ArrowSchema *ret_schema,
                                          struct hs_error *err);
/* The next rows, a struct array without offsets and dictionaries, to be released by the caller; it
 * may outlive everything here. At the end its release is NULL. */
HS_CHECKED hs_status hs_sql_result_next(hs_sql_result *result, struct ArrowArray *ret_array,
                                        struct hs_error *err);
/* Rows that were inserted, changed or deleted; -1: it was no such statement. */
int64_t hs_sql_result_n_changed(const hs_sql_result *result);
void hs_sql_result_free(hs_sql_result *result);

/* ---- transactions: one at a time on a connection ---- */

/* HS_BUSY: one is open already, or a result is being read; HS_NOT_FOUND: none is. A commit that
 * fails for another reason has rolled back. */
HS_CHECKED hs_status hs_sql_begin(hs_sql_conn *conn, struct hs_error *err);
HS_CHECKED hs_status hs_sql_commit(hs_sql_conn *conn, struct hs_error *err);
HS_CHECKED hs_status hs_sql_rollback(hs_sql_conn *conn, struct hs_error *err);

/* ---- bulk ingestion ---- */

enum hs_sql_if_missing { HS_SQL_MISSING_CREATE = 0, HS_SQL_MISSING_FAIL };
enum hs_sql_if_exists { HS_SQL_EXISTS_FAIL = 0, HS_SQL_EXISTS_APPEND, HS_SQL_EXISTS_REPLACE };

struct hs_sql_target {
    const char *catalog; /* NULL: the present one */
    const char *schema;  /* NULL: the present one */
    const char *table;
    bool is_temporary;
    enum hs_sql_if_missing if_missing;
    enum hs_sql_if_exists if_exists;
};

/*
 * Put rows into a table: all of them or, when it is not ended or ends with an error, none (inside a
 * transaction that the caller began, that one decides). Columns are found by name.
 * Errors: HS_NOT_FOUND, HS_ALREADY_EXISTS, HS_MISMATCH (the columns), HS_PERMISSION_DENIED.
 */
HS_CHECKED hs_status hs_sql_ingest_begin(hs_sql_conn *conn, const struct hs_sql_target *target,
                                         const struct ArrowSchema *schema,
                                         hs_sql_ingest **ret_ingest, struct hs_error *err);
/* Takes the array over, also when it fails. */
HS_CHECKED hs_status hs_sql_ingest_add(hs_sql_ingest *ingest, struct ArrowArray *array,
                                       struct hs_error *err);
/* Frees it, whatever it returns. */
HS_CHECKED hs_status hs_sql_ingest_end(hs_sql_ingest *ingest, int64_t *ret_n_rows,
                                       struct hs_error *err);
void hs_sql_ingest_abort(hs_sql_ingest *ingest); /* frees it; NULL is allowed */

#endif
