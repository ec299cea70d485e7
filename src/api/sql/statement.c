#include "statement.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "guard.h"
#include "sql_error.h"

/* ---- preparing ---- */

static bool is_count(duckdb_prepared_statement prepared)
{
    const char *name = duckdb_prepared_statement_column_name(prepared, 0);
    bool is_count = name != NULL && strcmp(name, "Count") == 0 &&
                    duckdb_prepared_statement_column_count(prepared) == 1 &&
                    duckdb_prepared_statement_column_type(prepared, 0) == DUCKDB_TYPE_BIGINT;
    duckdb_free((void *)name);
    return is_count;
}

static enum hs_sql_kind kind_of(duckdb_prepared_statement prepared)
{
    switch (duckdb_prepared_statement_type(prepared)) {
    case DUCKDB_STATEMENT_TYPE_INSERT:
    case DUCKDB_STATEMENT_TYPE_UPDATE:
    case DUCKDB_STATEMENT_TYPE_DELETE:
    case DUCKDB_STATEMENT_TYPE_MERGE_INTO:
    case DUCKDB_STATEMENT_TYPE_EXECUTE:
        return is_count(prepared) ? HS_SQL_UPDATE : HS_SQL_QUERY;
    case DUCKDB_STATEMENT_TYPE_SELECT:
    case DUCKDB_STATEMENT_TYPE_EXPLAIN:
        return HS_SQL_QUERY;
    default:
        return HS_SQL_OTHER;
    }
}

/* The statement as DuckDB plans it, refused when it is not allowed; *ret_prepared is set in any
 * case. */
static hs_status plan(hs_sql_conn *conn, const char *text, duckdb_prepared_statement *ret_prepared,
                      struct hs_error *err)
{
    hs_sql_conn_plan(conn, true);
    bool is_good = duckdb_prepare(conn->connection, text, ret_prepared) == DuckDBSuccess;
    hs_sql_conn_plan(conn, false);
    if (!is_good) {
        return hs_sql_error(conn, duckdb_prepare_error(*ret_prepared), err);
    }
    duckdb_statement_type type = duckdb_prepared_statement_type(*ret_prepared);
    hs_status status = hs_sql_guard_type(type, text, err);
    const char *inner = status ? NULL : hs_sql_inner_statement(text);
    if (inner != NULL) {
        duckdb_prepared_statement prepared = NULL;
        status = plan(conn, inner, &prepared, err);
        duckdb_destroy_prepare(&prepared);
    } else if (!status &&
               (type == DUCKDB_STATEMENT_TYPE_PREPARE || type == DUCKDB_STATEMENT_TYPE_EXPLAIN)) {
        status = hs_error_set(err, HS_PERMISSION_DENIED,
                              "the statement inside of this one cannot be told");
        hs_error_hint(err, "write PREPARE name AS ..., or EXPLAIN ...");
    }
    return status;
}

static hs_status prepare_one(hs_sql_conn *conn, const char *text, size_t len,
                             hs_sql_stmt **ret_stmt, struct hs_error *err)
{
    hs_sql_stmt *stmt = hs_calloc(1, sizeof *stmt);
    HS_CLEANUP(hs_freep) char *copy = hs_strndup(text, len);
    if (stmt == NULL || copy == NULL) {
        hs_free(stmt);
        return hs_error_nomem(err, "statement");
    }
    stmt->conn = conn;
    hs_sql_shorten(copy, stmt->shown);
    hs_status status = hs_sql_guard_text(conn->sql, copy, err);
    status = status ? status : hs_sql_conn_start(conn, err);
    if (!status) {
        conn->infers = false;
        status = plan(conn, copy, &stmt->prepared, err);
        stmt->infers = conn->infers;
        hs_sql_conn_stop(conn);
    }
    if (status) {
        hs_sql_stmt_free(stmt);
        return status;
    }
    stmt->kind = kind_of(stmt->prepared);
    duckdb_statement_type type = duckdb_prepared_statement_type(stmt->prepared);
    /* what EXECUTE names was planned before */
    stmt->infers = stmt->infers || type == DUCKDB_STATEMENT_TYPE_EXECUTE;
    if (type == DUCKDB_STATEMENT_TYPE_TRANSACTION) {
        stmt->begins = hs_sql_begins_with(copy, "begin") || hs_sql_begins_with(copy, "start");
        stmt->ends = !stmt->begins;
    }
    *ret_stmt = stmt;
    return HS_OK;
}

/* One of several statements that is not the last. */
static hs_status run_whole(hs_sql_stmt *stmt, struct hs_error *err)
{
    hs_sql_result *result;
    hs_status status = hs_sql_execute(stmt, &result, err);
    for (bool is_end = status != HS_OK; !is_end;) {
        struct ArrowArray rows;
        status = hs_sql_result_next(result, &rows, err);
        is_end = status || rows.release == NULL;
        if (!is_end) {
            rows.release(&rows);
        } else {
            hs_sql_result_free(result);
        }
    }
    return status;
}

hs_status hs_sql_prepare(hs_sql_conn *conn, const char *text, size_t text_len,
                         hs_sql_stmt **ret_stmt, struct hs_error *err)
{
    if (memchr(text, '\0', text_len) != NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a statement holds no NUL");
    }
    size_t next, len = hs_sql_statement_len(text, text_len, &next);
    if (len == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "there is no statement");
    }
    for (;;) {
        hs_sql_stmt *stmt = NULL;
        hs_status status = prepare_one(conn, text, len, &stmt, err);
        text += next;
        text_len -= next;
        len = hs_sql_statement_len(text, text_len, &next);
        if (status || len == 0) {
            if (!status) {
                *ret_stmt = stmt;
            }
            return status;
        }
        status = run_whole(stmt, err);
        hs_sql_stmt_free(stmt);
        if (status) {
            return status;
        }
    }
}

void hs_sql_stmt_free(hs_sql_stmt *stmt)
{
    if (stmt != NULL) {
        duckdb_destroy_prepare(&stmt->prepared);
        hs_free(stmt);
    }
}

enum hs_sql_kind hs_sql_stmt_kind(const hs_sql_stmt *stmt)
{
    return stmt->kind;
}

size_t hs_sql_stmt_n_params(const hs_sql_stmt *stmt)
{
    return (size_t)duckdb_nparams(stmt->prepared);
}

/* ---- what it takes and gives ---- */

static hs_status take_name(const char *name, char **ret_name, struct hs_error *err)
{
    *ret_name = hs_strdup(name != NULL ? name : "");
    duckdb_free((void *)name);
    return *ret_name != NULL ? HS_OK : hs_error_nomem(err, "names of columns");
}

/* Any type in which nothing is open, for what is known only when the values are. */
static void settle(duckdb_logical_type *type)
{
    duckdb_type id = *type != NULL ? duckdb_get_type_id(*type) : DUCKDB_TYPE_INVALID;
    if (id == DUCKDB_TYPE_INVALID || id == DUCKDB_TYPE_ANY) {
        duckdb_destroy_logical_type(type);
        *type = duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL);
    }
}

hs_status hs_sql_stmt_result_schema(hs_sql_stmt *stmt, struct ArrowSchema *ret_schema,
                                    struct hs_error *err)
{
    struct hs_sql_columns columns HS_CLEANUP(hs_sql_columns_free) = {0};
    size_t n = stmt->kind == HS_SQL_QUERY
                   ? (size_t)duckdb_prepared_statement_column_count(stmt->prepared)
                   : 0;
    hs_status status = hs_sql_columns_new(n, &columns, err);
    for (size_t i = 0; i < columns.n && !status; i++) {
        columns.types[i] = duckdb_prepared_statement_column_logical_type(stmt->prepared, i);
        settle(&columns.types[i]);
        status = take_name(duckdb_prepared_statement_column_name(stmt->prepared, i),
                           &columns.names[i], err);
    }
    return status ? status : hs_sql_arrow_schema(stmt->conn, &columns, ret_schema, err);
}

hs_status hs_sql_stmt_param_schema(hs_sql_stmt *stmt, struct ArrowSchema *ret_schema,
                                   struct hs_error *err)
{
    struct hs_sql_columns columns HS_CLEANUP(hs_sql_columns_free) = {0};
    hs_status status = hs_sql_columns_new(hs_sql_stmt_n_params(stmt), &columns, err);
    for (size_t i = 0; i < columns.n && !status; i++) {
        columns.types[i] = duckdb_param_logical_type(stmt->prepared, i + 1);
        settle(&columns.types[i]);
        status = take_name(duckdb_parameter_name(stmt->prepared, i + 1), &columns.names[i], err);
    }
    return status ? status : hs_sql_arrow_schema(stmt->conn, &columns, ret_schema, err);
}

/* ---- binding ---- */

/* The column for parameter i: that of its name, or else the i-th. */
static int64_t column_of(const hs_sql_stmt *stmt, const struct ArrowSchema *schema, size_t i)
{
    const char *name = duckdb_parameter_name(stmt->prepared, i + 1);
    int64_t found = (int64_t)i;
    /* those of `?` are numbers from 1; clients number their columns from 0, or from anything */
    bool is_named = name != NULL && (name[0] < '0' || name[0] > '9');
    for (int64_t j = 0; is_named && j < schema->n_children; j++) {
        const char *column = schema->children[j]->name;
        if (column != NULL && strcmp(column, name) == 0) {
            found = j;
        }
    }
    duckdb_free((void *)name);
    return found;
}

hs_status hs_sql_bind(hs_sql_stmt *stmt, const struct ArrowSchema *schema,
                      const struct ArrowArray *array, int64_t row, struct hs_error *err)
{
    size_t n = hs_sql_stmt_n_params(stmt);
    if (schema->format == NULL || strcmp(schema->format, "+s") != 0 ||
        schema->n_children != array->n_children || row < 0 || row >= array->length) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the values are no row of a table");
    }
    if ((size_t)schema->n_children != n) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "the statement has %zu parameters, but %lld values came", n,
                            (long long)schema->n_children);
    }
    duckdb_clear_bindings(stmt->prepared);
    for (size_t i = 0; i < n; i++) {
        int64_t column = column_of(stmt, schema, i);
        duckdb_value value = NULL;
        hs_status status = hs_sql_value_new(schema->children[column], array->children[column],
                                            row + array->offset, &value, err);
        if (!status && duckdb_bind_value(stmt->prepared, i + 1, value) != DuckDBSuccess) {
            status = hs_sql_error(stmt->conn, duckdb_prepare_error(stmt->prepared), err);
        }
        duckdb_destroy_value(&value);
        if (status) {
            hs_error_prefix(err, "parameter %zu", i + 1);
            return status;
        }
    }
    return HS_OK;
}
