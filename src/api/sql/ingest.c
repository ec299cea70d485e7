#include <nanoarrow/nanoarrow.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "sql_error.h"
#include "statement.h"
#include "type_text.h"

#define TEXT_MAX (1u << 20)

struct hs_sql_ingest {
    hs_sql_conn *conn;
    duckdb_arrow_converted_schema types;
    duckdb_appender appender;
    bool owns_transaction;
    int64_t n_rows;
};

/* ---- the table ---- */

/* A chunk without rows: it has the types that DuckDB gives the columns. */
static hs_status make_empty(hs_sql_ingest *ingest, const struct ArrowSchema *schema,
                            duckdb_data_chunk *ret_chunk, struct hs_error *err)
{
    struct ArrowArray none;
    struct ArrowError why = {""};
    if (ArrowArrayInitFromSchema(&none, schema, &why) != NANOARROW_OK) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the schema is malformed: %s", why.message);
    }
    hs_status status = ArrowArrayStartAppending(&none) == NANOARROW_OK &&
                               ArrowArrayFinishBuildingDefault(&none, &why) == NANOARROW_OK
                           ? HS_OK
                           : hs_error_nomem(err, "types of columns");
    if (!status) {
        status = hs_sql_error_data(
            ingest->conn,
            duckdb_data_chunk_from_arrow(ingest->conn->connection, &none, ingest->types, ret_chunk),
            err);
    }
    if (none.release != NULL) {
        none.release(&none);
    }
    return status;
}

static hs_status write_target(struct hs_buf *out, const struct hs_sql_target *target,
                              struct hs_error *err)
{
    const char *const parts[] = {target->catalog, target->schema};
    hs_status status = HS_OK;
    for (size_t i = 0; i < 2 && !status && !target->is_temporary; i++) {
        if (parts[i] != NULL && *parts[i] != '\0') {
            status = hs_sql_write_name(out, parts[i], err);
            status = status ? status : hs_buf_append_str(out, ".");
        }
    }
    return status ? status : hs_sql_write_name(out, target->table, err);
}

static hs_status create_table(hs_sql_ingest *ingest, const struct hs_sql_target *target,
                              const struct ArrowSchema *schema, struct hs_error *err)
{
    duckdb_data_chunk chunk = NULL;
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(TEXT_MAX);
    hs_status status = make_empty(ingest, schema, &chunk, err);
    status = status ? status
                    : hs_buf_printf(&text, "CREATE OR REPLACE %sTABLE ",
                                    target->is_temporary ? "TEMPORARY " : "");
    status = status ? status : write_target(&text, target, err);
    for (int64_t i = 0; i < schema->n_children && !status; i++) {
        const char *name = schema->children[i]->name;
        duckdb_logical_type type =
            duckdb_vector_get_column_type(duckdb_data_chunk_get_vector(chunk, (idx_t)i));
        status = hs_buf_append_str(&text, i > 0 ? ", " : " (");
        status = status ? status : hs_sql_write_name(&text, name != NULL ? name : "", err);
        status = status ? status : hs_buf_append_str(&text, " ");
        status = status ? status : hs_sql_write_type(&text, type, err);
        duckdb_destroy_logical_type(&type);
    }
    status = status ? status : hs_buf_append_str(&text, ")");
    duckdb_destroy_data_chunk(&chunk);
    return status ? status : hs_sql_conn_run(ingest->conn, text.data, err);
}

static const char *or_null(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

static hs_status need_table(hs_sql_ingest *ingest, const struct hs_sql_target *target,
                            const struct ArrowSchema *schema, struct hs_error *err)
{
    duckdb_table_description found = NULL;
    bool is_there =
        duckdb_table_description_create_ext(
            ingest->conn->connection, target->is_temporary ? "temp" : or_null(target->catalog),
            target->is_temporary ? "main" : or_null(target->schema), target->table,
            &found) == DuckDBSuccess;
    duckdb_table_description_destroy(&found);
    if (is_there && target->if_exists == HS_SQL_EXISTS_FAIL) {
        hs_error_set(err, HS_ALREADY_EXISTS, "there is a table %s already", target->table);
        hs_error_hint(err, "append to it, replace it, or take another name");
        return HS_ALREADY_EXISTS;
    }
    if (!is_there && target->if_missing == HS_SQL_MISSING_FAIL) {
        hs_error_set(err, HS_NOT_FOUND, "there is no table %s", target->table);
        hs_error_hint(err, "create it first, or have it created");
        return HS_NOT_FOUND;
    }
    return is_there && target->if_exists == HS_SQL_EXISTS_APPEND
               ? HS_OK
               : create_table(ingest, target, schema, err);
}

/* ---- the rows ---- */

static hs_status appender_error(hs_sql_ingest *ingest, struct hs_error *err)
{
    hs_status status =
        hs_sql_error_data(ingest->conn, duckdb_appender_error_data(ingest->appender), err);
    return status ? status : hs_error_set(err, HS_INTERNAL, "rows could not be added");
}

static hs_status open_appender(hs_sql_ingest *ingest, const struct hs_sql_target *target,
                               const struct ArrowSchema *schema, struct hs_error *err)
{
    if (duckdb_appender_create_ext(ingest->conn->connection,
                                   target->is_temporary ? "temp" : or_null(target->catalog),
                                   target->is_temporary ? "main" : or_null(target->schema),
                                   target->table, &ingest->appender) != DuckDBSuccess) {
        return appender_error(ingest, err);
    }
    for (int64_t i = 0; i < schema->n_children; i++) {
        const char *name = schema->children[i]->name;
        if (duckdb_appender_add_column(ingest->appender, name != NULL ? name : "") !=
            DuckDBSuccess) {
            hs_error_set(err, HS_MISMATCH, "the table %s has no column %s", target->table,
                         name != NULL ? name : "without a name");
            hs_error_hint(err, "rows go to columns of the same names");
            return HS_MISMATCH;
        }
    }
    return HS_OK;
}

hs_status hs_sql_ingest_begin(hs_sql_conn *conn, const struct hs_sql_target *target,
                              const struct ArrowSchema *schema, hs_sql_ingest **ret_ingest,
                              struct hs_error *err)
{
    if (target->table == NULL || *target->table == '\0' || schema->format == NULL ||
        strcmp(schema->format, "+s") != 0 || schema->n_children == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "rows need a table's name and columns");
    }
    hs_sql_ingest *ingest = hs_calloc(1, sizeof *ingest);
    hs_status status =
        ingest != NULL ? hs_sql_conn_start(conn, err) : hs_error_nomem(err, "ingestion");
    if (status) {
        hs_free(ingest);
        return status;
    }
    ingest->conn = conn;
    conn->busy = ingest;
    if (!conn->has_transaction) { /* otherwise the caller's decides */
        status = hs_sql_conn_run(conn, "BEGIN", err);
        ingest->owns_transaction = status == HS_OK;
    }
    status = status ? status
                    : hs_sql_error_data(conn,
                                        duckdb_schema_from_arrow(conn->connection,
                                                                 (struct ArrowSchema *)schema,
                                                                 &ingest->types),
                                        err);
    status = status ? status : need_table(ingest, target, schema, err);
    status = status ? status : open_appender(ingest, target, schema, err);
    if (status) {
        hs_sql_ingest_abort(ingest);
        return status;
    }
    *ret_ingest = ingest;
    return HS_OK;
}

hs_status hs_sql_ingest_add(hs_sql_ingest *ingest, struct ArrowArray *array, struct hs_error *err)
{
    duckdb_data_chunk chunk = NULL;
    int64_t n = array->length;
    hs_status status =
        hs_sql_conn_is_interrupted(ingest->conn)
            ? hs_error_set(err, HS_CANCELLED, "the ingestion was cancelled")
            : hs_sql_error_data(ingest->conn,
                                duckdb_data_chunk_from_arrow(ingest->conn->connection, array,
                                                             ingest->types, &chunk),
                                err);
    if (!status && duckdb_append_data_chunk(ingest->appender, chunk) != DuckDBSuccess) {
        status = appender_error(ingest, err);
    }
    duckdb_destroy_data_chunk(&chunk);
    if (array->release != NULL) {
        array->release(array);
    }
    ingest->n_rows += status ? 0 : n;
    return status;
}

static void end(hs_sql_ingest *ingest)
{
    hs_sql_conn *conn = ingest->conn;
    duckdb_appender_destroy(&ingest->appender);
    duckdb_destroy_arrow_converted_schema(&ingest->types);
    conn->busy = NULL;
    hs_sql_conn_stop(conn);
    hs_free(ingest);
}

hs_status hs_sql_ingest_end(hs_sql_ingest *ingest, int64_t *ret_n_rows, struct hs_error *err)
{
    hs_status status = hs_sql_conn_is_interrupted(ingest->conn)
                           ? hs_error_set(err, HS_CANCELLED, "the ingestion was cancelled")
                           : HS_OK;
    if (!status && duckdb_appender_close(ingest->appender) != DuckDBSuccess) {
        status = appender_error(ingest, err);
    }
    if (!status && ingest->owns_transaction) {
        status = hs_sql_conn_run(ingest->conn, "COMMIT", err);
        ingest->owns_transaction = status != HS_OK;
    }
    if (status) {
        hs_sql_ingest_abort(ingest);
        return status;
    }
    *ret_n_rows = ingest->n_rows;
    end(ingest);
    return HS_OK;
}

void hs_sql_ingest_abort(hs_sql_ingest *ingest)
{
    if (ingest == NULL) {
        return;
    }
    if (ingest->appender != NULL) {
        duckdb_appender_clear(ingest->appender); /* what it holds would be written otherwise */
    }
    if (ingest->owns_transaction) {
        hs_status ignored = hs_sql_conn_run(ingest->conn, "ROLLBACK", NULL);
        (void)ignored;
    }
    end(ingest);
}
