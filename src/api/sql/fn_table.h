/*
 * fn_table.h - functions that give rows: a prompt, and options by name, in; nothing is computed
 * before the first row is read.
 *
 * Owner:   DuckDB frees what it made of a statement, by then `end` was called.
 * Threads: one for each statement.
 */
#ifndef API_SQL_FN_TABLE_H
#define API_SQL_FN_TABLE_H

#include "fn_batch.h"

#define HS_FN_COLUMNS_MAX 4

/* One reading of the rows. */
struct hs_fn_scan {
    struct hs_fn_batch batch; /* the connection and its memo, for hs_fn_submit; else empty */
    const struct hs_fn_target *target;
    const char *prompt;
    void *state; /* the function's; NULL at the first call of `next` */
};

struct hs_fn_table {
    const char *name;
    struct {
        const char *name; /* NULL ends the list */
        duckdb_type type;
    } columns[HS_FN_COLUMNS_MAX + 1];
    /* The next rows, at least one, with their number in the chunk; none: there are no more. */
    hs_status (*next)(struct hs_fn_scan *scan, duckdb_data_chunk out, struct hs_error *err);
    void (*end)(struct hs_fn_scan *scan); /* frees scan->state, which may be NULL */
};

extern const struct hs_fn_table hs_fn_stream_table; /* generate_stream */
extern const struct hs_fn_table hs_fn_route_table;  /* route */

HS_CHECKED hs_status hs_fn_table_register(hs_sql *sql, duckdb_connection connection,
                                          const struct hs_sql_host *host,
                                          const struct hs_fn_table *table, struct hs_error *err);

#endif
