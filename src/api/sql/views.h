/*
 * views.h - the schema `hyprstream`: what the program is and does, as views over table functions.
 *
 * A view's rows are collected when a statement begins to read it. They are read-only.
 *
 * Threads: those of DuckDB; a statement reads a view with one.
 */
#ifndef API_SQL_VIEWS_H
#define API_SQL_VIEWS_H

#include "sql_internal.h"

/* Rows as a view collects them: cells one after the other, in the order of its columns. */
struct hs_view_rows {
    struct hs_view_cell {
        bool is_null;
        int64_t number;
        double real;
        char *text;
    } * cells;
    size_t n_cells, capacity;
    hs_status status; /* the first failure sticks */
};
void hs_view_text(struct hs_view_rows *rows, const char *text); /* NULL and "": NULL */
void hs_view_int(struct hs_view_rows *rows, int64_t number);    /* also booleans */
void hs_view_real(struct hs_view_rows *rows, double number);
void hs_view_time(struct hs_view_rows *rows, int64_t unix_ms); /* 0: NULL */

#define HS_VIEW_COLUMNS_MAX 20

struct hs_view {
    const char *name, *text;
    struct {
        const char *name; /* NULL ends the list */
        duckdb_type type; /* VARCHAR, BIGINT, BOOLEAN, DOUBLE or TIMESTAMP_TZ */
        const char *text;
    } columns[HS_VIEW_COLUMNS_MAX + 1];
    hs_status (*collect)(const struct hs_sql_host *host, struct hs_view_rows *rows,
                         struct hs_error *err);
    /* In its place: what the database knows. */
    void (*collect_running)(hs_sql *sql, struct hs_view_rows *rows);
};

extern const struct hs_view hs_views[]; /* the last one has no name */

/* Makes the schema and its views anew, once a database, before its settings are locked. */
HS_CHECKED hs_status hs_sql_views_register(hs_sql_conn *conn, const struct hs_sql_host *host,
                                           struct hs_error *err);

#endif
