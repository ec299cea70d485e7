#include "views.h"

#include <stdio.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "sql_error.h"

#define TEXT_MAX (64u << 10)

/* What a function knows of its view. */
struct source {
    const struct hs_view *view;
    const struct hs_sql_host *host;
    hs_sql *sql;
};

/* One reading. */
struct scan {
    struct hs_view_rows rows;
    size_t n_columns, next; /* cells already given */
};

/* ---- collecting ---- */

/* NULL: it has failed, now or before. */
static struct hs_view_cell *add(struct hs_view_rows *rows)
{
    if (rows->n_cells == rows->capacity && !rows->status) {
        size_t capacity = rows->capacity ? 2 * rows->capacity : 64;
        struct hs_view_cell *cells = hs_realloc_array(rows->cells, capacity, sizeof *cells);
        if (cells == NULL) {
            rows->status = HS_OUT_OF_MEMORY;
            return NULL;
        }
        rows->cells = cells;
        rows->capacity = capacity;
    }
    if (rows->status) {
        return NULL;
    }
    struct hs_view_cell *cell = &rows->cells[rows->n_cells++];
    *cell = (struct hs_view_cell){.is_null = false};
    return cell;
}

void hs_view_text(struct hs_view_rows *rows, const char *text)
{
    struct hs_view_cell *cell = add(rows);
    if (cell == NULL) {
        return;
    }
    cell->is_null = text == NULL || *text == '\0';
    cell->text = cell->is_null ? NULL : hs_strdup(text);
    if (!cell->is_null && cell->text == NULL) {
        rows->status = HS_OUT_OF_MEMORY;
    }
}

void hs_view_int(struct hs_view_rows *rows, int64_t number)
{
    struct hs_view_cell *cell = add(rows);
    if (cell != NULL) {
        cell->number = number;
    }
}

void hs_view_real(struct hs_view_rows *rows, double number)
{
    struct hs_view_cell *cell = add(rows);
    if (cell != NULL) {
        cell->real = number;
    }
}

void hs_view_time(struct hs_view_rows *rows, int64_t unix_ms)
{
    struct hs_view_cell *cell = add(rows);
    if (cell != NULL) {
        cell->number = unix_ms * 1000;
        cell->is_null = unix_ms == 0;
    }
}

static void scan_free(void *user)
{
    struct scan *scan = user;
    for (size_t i = 0; i < scan->rows.n_cells; i++) {
        hs_free(scan->rows.cells[i].text);
    }
    hs_free(scan->rows.cells);
    hs_free(scan);
}

/* ---- as DuckDB calls it ---- */

static void on_bind(duckdb_bind_info info)
{
    const struct source *source = duckdb_bind_get_extra_info(info);
    for (size_t i = 0; source->view->columns[i].name != NULL; i++) {
        duckdb_logical_type type = duckdb_create_logical_type(source->view->columns[i].type);
        duckdb_bind_add_result_column(info, source->view->columns[i].name, type);
        duckdb_destroy_logical_type(&type);
    }
}

static void on_init(duckdb_init_info info)
{
    const struct source *source = duckdb_init_get_extra_info(info);
    struct scan *scan = hs_calloc(1, sizeof *scan);
    if (scan == NULL) {
        duckdb_init_set_error(info, "out of memory");
        return;
    }
    while (source->view->columns[scan->n_columns].name != NULL) {
        scan->n_columns++;
    }
    struct hs_error err;
    hs_status status = HS_OK;
    if (source->view->collect_running != NULL) {
        source->view->collect_running(source->sql, &scan->rows);
    } else {
        status = source->view->collect(source->host, &scan->rows, &err);
    }
    if (!status && scan->rows.status) {
        status = hs_error_nomem(&err, "rows of a view");
    }
    if (status) {
        duckdb_init_set_error(info, err.message);
    }
    duckdb_init_set_init_data(info, scan, scan_free);
}

static void write_cell(duckdb_vector vector, duckdb_type type, idx_t row,
                       const struct hs_view_cell *cell)
{
    void *data = duckdb_vector_get_data(vector);
    if (cell->is_null) {
        duckdb_vector_ensure_validity_writable(vector);
        duckdb_validity_set_row_invalid(duckdb_vector_get_validity(vector), row);
    } else if (type == DUCKDB_TYPE_VARCHAR) {
        duckdb_vector_assign_string_element(vector, row, cell->text);
    } else if (type == DUCKDB_TYPE_BOOLEAN) {
        ((bool *)data)[row] = cell->number != 0;
    } else if (type == DUCKDB_TYPE_DOUBLE) {
        ((double *)data)[row] = cell->real;
    } else {
        ((int64_t *)data)[row] = cell->number;
    }
}

static void on_read(duckdb_function_info info, duckdb_data_chunk out)
{
    const struct source *source = duckdb_function_get_extra_info(info);
    struct scan *scan = duckdb_function_get_init_data(info);
    idx_t n = (scan->rows.n_cells - scan->next) / scan->n_columns;
    n = n < duckdb_vector_size() ? n : duckdb_vector_size();
    for (idx_t row = 0; row < n; row++) {
        for (size_t i = 0; i < scan->n_columns; i++) {
            write_cell(duckdb_data_chunk_get_vector(out, i), source->view->columns[i].type, row,
                       &scan->rows.cells[scan->next++]);
        }
    }
    duckdb_data_chunk_set_size(out, n);
}

/* ---- making them ---- */

static hs_status register_function(hs_sql_conn *conn, const struct hs_sql_host *host,
                                   const struct hs_view *view, struct hs_error *err)
{
    char name[64];
    struct source *source = hs_alloc(sizeof *source);
    if (source == NULL) {
        return hs_error_nomem(err, "view");
    }
    *source = (struct source){view, host, conn->sql};
    snprintf(name, sizeof name, "hyprstream_%s", view->name);
    duckdb_table_function function = duckdb_create_table_function();
    duckdb_table_function_set_name(function, name);
    duckdb_table_function_set_extra_info(function, source, hs_free);
    duckdb_table_function_set_bind(function, on_bind);
    duckdb_table_function_set_init(function, on_init);
    duckdb_table_function_set_function(function, on_read);
    duckdb_state state = duckdb_register_table_function(conn->connection, function);
    duckdb_destroy_table_function(&function);
    return state == DuckDBSuccess
               ? HS_OK
               : hs_error_set(err, HS_INTERNAL, "the view %s cannot be made", view->name);
}

/* Texts of the tables here hold no quotes. */
static hs_status make_view(hs_sql_conn *conn, const struct hs_view *view, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(TEXT_MAX);
    hs_status status = hs_buf_printf(&text,
                                     "CREATE OR REPLACE VIEW hyprstream.%s AS SELECT * FROM "
                                     "hyprstream_%s(); COMMENT ON VIEW hyprstream.%s IS '%s';",
                                     view->name, view->name, view->name, view->text);
    for (size_t i = 0; view->columns[i].name != NULL && !status; i++) {
        status = hs_buf_printf(&text, "COMMENT ON COLUMN hyprstream.%s.\"%s\" IS '%s';", view->name,
                               view->columns[i].name, view->columns[i].text);
    }
    return status ? hs_error_nomem(err, "view") : hs_sql_conn_run(conn, text.data, err);
}

hs_status hs_sql_views_register(hs_sql_conn *conn, const struct hs_sql_host *host,
                                struct hs_error *err)
{
    hs_status status = HS_OK;
    for (const struct hs_view *view = hs_views; view->name != NULL && !status; view++) {
        status = register_function(conn, host, view, err);
    }
    status = status ? status
                    : hs_sql_conn_run(conn, "BEGIN; CREATE SCHEMA IF NOT EXISTS hyprstream", err);
    for (const struct hs_view *view = hs_views; view->name != NULL && !status; view++) {
        status = make_view(conn, view, err);
    }
    return status ? status : hs_sql_conn_run(conn, "COMMIT", err);
}
