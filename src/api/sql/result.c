#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "sql_error.h"
#include "statement.h"
#include "workers.h"

struct hs_sql_result {
    hs_sql_conn *conn;
    duckdb_result result;
    bool is_over; /* the connection is free again */
    bool has_rows;
    bool infers; /* the workers pause */
    int64_t n_changed;
    size_t n_columns;
    enum hs_sql_layout *layouts; /* NULL: DuckDB converts the rows */
};

#define SPIN_MS 0.2      /* most statements are over by then */
#define PAUSE_MAX_MS 1.0 /* what a long one may take longer */

/* ---- executing ---- */

static void end(hs_sql_result *result)
{
    if (!result->is_over) {
        result->is_over = true;
        duckdb_destroy_result(&result->result);
        result->conn->busy = NULL;
        hs_sql_conn_stop(result->conn);
        if (result->infers) {
            hs_sql_workers_resume(result->conn->sql->workers);
        }
    }
}

/* Until there are rows, or no more to come; false: it failed. DuckDB's own waiting keeps a core
 * busy while others of its threads compute, and that core is the model's. */
static bool compute(duckdb_pending_result pending)
{
    double busy_ms = hs_clock_ms();
    duckdb_pending_state state;
    while ((state = duckdb_pending_execute_task(pending)) != DUCKDB_PENDING_RESULT_READY &&
           state != DUCKDB_PENDING_ERROR) {
        double now_ms = hs_clock_ms(), idle_ms = now_ms - busy_ms;
        if (state != DUCKDB_PENDING_NO_TASKS_AVAILABLE) {
            busy_ms = now_ms;
        } else if (idle_ms > SPIN_MS) {
            double pause_ms = idle_ms / 8 < PAUSE_MAX_MS ? idle_ms / 8 : PAUSE_MAX_MS;
            nanosleep(&(struct timespec){.tv_nsec = (long)(pause_ms * 1e6)}, NULL);
        }
    }
    return state == DUCKDB_PENDING_RESULT_READY;
}

/*
 * How much DuckDB gathers before it hands rows on. A megabyte may be minutes of inference: with the
 * small size rows come before the next ones but one are computed, at the price of a switch of
 * threads for every 2,048. It is the smallest size that works: DuckDB takes 40% of it for rows that
 * are out of order, and waits forever for room where that is nothing.
 */
static hs_status set_stream(hs_sql_conn *conn, bool is_small, struct hs_error *err)
{
    if (conn->has_small_stream == is_small || !conn->sql->has_functions) {
        return HS_OK;
    }
    hs_status status = hs_sql_conn_run(
        conn, is_small ? "SET streaming_buffer_size = '3B'" : "SET streaming_buffer_size = '1MB'",
        err);
    conn->has_small_stream = status ? conn->has_small_stream : is_small;
    return status;
}

/* Planning may be done again now, with the values; what has many rows is not computed whole. */
static hs_status start(hs_sql_stmt *stmt, duckdb_result *ret_result, struct hs_error *err)
{
    hs_sql_conn *conn = stmt->conn;
    duckdb_pending_result pending = NULL;
    hs_status status = stmt->kind == HS_SQL_QUERY ? set_stream(conn, stmt->infers, err) : HS_OK;
    memset(ret_result, 0, sizeof *ret_result);
    if (status) {
        return status;
    }
    hs_sql_conn_plan(conn, true);
    duckdb_state state = stmt->kind == HS_SQL_QUERY
                             ? duckdb_pending_prepared_streaming(stmt->prepared, &pending)
                             : duckdb_pending_prepared(stmt->prepared, &pending);
    hs_sql_conn_plan(conn, false);
    if (hs_sql_conn_is_interrupted(conn)) {
        duckdb_interrupt(conn->connection); /* it forgets what came before this */
    }
    if (state != DuckDBSuccess || !compute(pending)) {
        status = hs_sql_error(conn, duckdb_pending_error(pending), err);
    } else if (duckdb_execute_pending(pending, ret_result) != DuckDBSuccess) {
        status = hs_sql_error(conn, duckdb_result_error(ret_result), err);
    }
    duckdb_destroy_pending(&pending);
    return status;
}

hs_status hs_sql_execute(hs_sql_stmt *stmt, hs_sql_result **ret_result, struct hs_error *err)
{
    hs_sql_result *result = hs_calloc(1, sizeof *result);
    hs_status status =
        result != NULL ? hs_sql_conn_start(stmt->conn, err) : hs_error_nomem(err, "result");
    if (status) {
        hs_free(result);
        return status;
    }
    result->conn = stmt->conn;
    hs_sql_conn_show(stmt->conn, stmt->shown);
    result->has_rows = stmt->kind == HS_SQL_QUERY;
    if (stmt->begins && stmt->conn->has_transaction) { /* DuckDB would end the one there is */
        hs_sql_conn_stop(stmt->conn);
        hs_free(result);
        return hs_error_set(err, HS_BUSY, "this connection has a transaction already");
    }
    result->infers = stmt->infers;
    if (result->infers) {
        hs_sql_workers_pause(stmt->conn->sql->workers);
    }
    status = start(stmt, &result->result, err);
    stmt->conn->has_transaction =
        !stmt->ends && (stmt->conn->has_transaction || (stmt->begins && !status));
    stmt->conn->busy = result;
    if (!status) {
        result->n_changed =
            stmt->kind == HS_SQL_UPDATE ? (int64_t)duckdb_rows_changed(&result->result) : -1;
    }
    if (status) {
        hs_sql_result_free(result);
        return status;
    }
    *ret_result = result;
    return HS_OK;
}

/* ---- reading ---- */

hs_status hs_sql_result_schema(hs_sql_result *result, struct ArrowSchema *ret_schema,
                               struct hs_error *err)
{
    if (result->is_over) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the result has been read to its end");
    }
    struct hs_sql_columns columns HS_CLEANUP(hs_sql_columns_free) = {0};
    size_t n = result->has_rows ? (size_t)duckdb_column_count(&result->result) : 0;
    hs_status status = hs_sql_columns_new(n, &columns, err);
    for (size_t i = 0; i < columns.n && !status; i++) {
        columns.types[i] = duckdb_column_logical_type(&result->result, i);
        columns.names[i] = hs_strdup(duckdb_column_name(&result->result, i));
        status = columns.names[i] != NULL ? HS_OK : hs_error_nomem(err, "names of columns");
    }
    return status ? status : hs_sql_arrow_schema(result->conn, &columns, ret_schema, err);
}

/* What the columns are, before the first row. */
static hs_status learn_layouts(hs_sql_result *result, struct hs_error *err)
{
    size_t n = (size_t)duckdb_column_count(&result->result);
    enum hs_sql_layout *layouts = hs_calloc(n + 1, sizeof *layouts);
    if (layouts == NULL) {
        return hs_error_nomem(err, "columns");
    }
    bool has_other = false;
    for (size_t i = 0; i < n; i++) {
        duckdb_logical_type type = duckdb_column_logical_type(&result->result, i);
        layouts[i] = hs_sql_layout_of(type);
        has_other = has_other || layouts[i] == HS_SQL_LAYOUT_OTHER;
        duckdb_destroy_logical_type(&type);
    }
    if (has_other) {
        hs_free(layouts);
        layouts = NULL;
    }
    result->layouts = layouts;
    result->n_columns = n;
    return HS_OK;
}

static hs_status convert(hs_sql_result *result, duckdb_data_chunk *chunk,
                         struct ArrowArray *ret_array, struct hs_error *err)
{
    hs_status status = result->n_columns == 0 ? learn_layouts(result, err) : HS_OK;
    if (status || result->layouts == NULL) {
        return status ? status : hs_sql_arrow_array(result->conn, *chunk, ret_array, err);
    }
    return hs_sql_arrow_wrap(chunk, result->layouts, result->n_columns, ret_array, err);
}

hs_status hs_sql_result_next(hs_sql_result *result, struct ArrowArray *ret_array,
                             struct hs_error *err)
{
    ret_array->release = NULL;
    if (result->is_over) {
        return HS_OK;
    }
    duckdb_data_chunk chunk = NULL;
    hs_status status = HS_OK;
    if (result->has_rows) {
        chunk = duckdb_fetch_chunk(result->result);
        const char *message = duckdb_result_error(&result->result);
        if (chunk == NULL && message != NULL && *message != '\0') {
            status = hs_sql_error(result->conn, message, err);
        }
    }
    if (chunk != NULL && duckdb_data_chunk_get_size(chunk) > 0) {
        status = convert(result, &chunk, ret_array, err);
    }
    duckdb_destroy_data_chunk(&chunk);
    if (status || ret_array->release == NULL) {
        end(result);
    }
    return status;
}

int64_t hs_sql_result_n_changed(const hs_sql_result *result)
{
    return result->n_changed;
}

void hs_sql_result_free(hs_sql_result *result)
{
    if (result != NULL) {
        if (!result->is_over) {
            hs_sql_conn_halt(result->conn); /* other threads may compute rows that nobody reads */
        }
        end(result);
        hs_free(result->layouts);
        hs_free(result);
    }
}

/* ---- transactions ---- */

static hs_status run(hs_sql_conn *conn, const char *text, struct hs_error *err)
{
    hs_status status = hs_sql_conn_start(conn, err);
    if (!status) {
        status = hs_sql_conn_run(conn, text, err);
        hs_sql_conn_stop(conn);
    }
    return status;
}

hs_status hs_sql_begin(hs_sql_conn *conn, struct hs_error *err)
{
    if (conn->has_transaction) {
        return hs_error_set(err, HS_BUSY, "this connection has a transaction already");
    }
    hs_status status = run(conn, "BEGIN", err);
    if (status == HS_CANCELLED) { /* it may have begun before */
        (void)!hs_sql_conn_run(conn, "ROLLBACK", NULL);
    }
    conn->has_transaction = status == HS_OK;
    return status;
}

static hs_status check_transaction(const hs_sql_conn *conn, struct hs_error *err)
{
    return conn->has_transaction
               ? HS_OK
               : hs_error_set(err, HS_NOT_FOUND, "this connection has no transaction");
}

hs_status hs_sql_commit(hs_sql_conn *conn, struct hs_error *err)
{
    hs_status status = check_transaction(conn, err);
    status = status ? status : run(conn, "COMMIT", err);
    if (status == HS_CANCELLED) { /* DuckDB itself ends one whose commit fails otherwise */
        (void)!hs_sql_conn_run(conn, "ROLLBACK", NULL);
    }
    conn->has_transaction = conn->has_transaction && status == HS_BUSY;
    return status;
}

hs_status hs_sql_rollback(hs_sql_conn *conn, struct hs_error *err)
{
    hs_status status = check_transaction(conn, err);
    status = status || conn->busy == NULL ? status : hs_sql_conn_start(conn, err);
    status = status ? status : hs_sql_conn_run(conn, "ROLLBACK", err);
    conn->has_transaction = conn->has_transaction && status == HS_BUSY;
    return status;
}
