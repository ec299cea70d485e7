/*
 * statement.h - a prepared statement and its result, as the files of src/api/sql share them.
 *
 * Threads: those of their connection.
 */
#ifndef API_SQL_STATEMENT_H
#define API_SQL_STATEMENT_H

#include "sql_internal.h"

struct hs_sql_stmt {
    hs_sql_conn *conn;
    duckdb_prepared_statement prepared;
    enum hs_sql_kind kind;
    bool begins, ends; /* a transaction */
    char shown[HS_SQL_SHOWN_SIZE];
    bool infers; /* rows may take long, each */
};

/* Columns as they are described to Arrow. */
struct hs_sql_columns {
    size_t n;
    duckdb_logical_type *types;
    char **names;
};

void hs_sql_columns_free(struct hs_sql_columns *columns);
HS_CHECKED hs_status hs_sql_columns_new(size_t n, struct hs_sql_columns *ret_columns,
                                        struct hs_error *err);
/* The schema that hs_sql_arrow_array fills, without dictionaries. */
HS_CHECKED hs_status hs_sql_arrow_schema(hs_sql_conn *conn, const struct hs_sql_columns *columns,
                                         struct ArrowSchema *ret_schema, struct hs_error *err);
/* The rows of a chunk, without dictionaries. */
HS_CHECKED hs_status hs_sql_arrow_array(hs_sql_conn *conn, duckdb_data_chunk chunk,
                                        struct ArrowArray *ret_array, struct hs_error *err);

/* How the values of a type lie in DuckDB's vectors: as Arrow wants them, or as its texts or its
 * booleans. */
enum hs_sql_layout {
    HS_SQL_LAYOUT_OTHER,
    HS_SQL_LAYOUT_ARROW,
    HS_SQL_LAYOUT_TEXTS,
    HS_SQL_LAYOUT_BOOLEANS
};

enum hs_sql_layout hs_sql_layout_of(duckdb_logical_type type);
/* The rows of a flat chunk of n columns, none with another layout. What can be is not copied: the
 * array owns the chunk, and *chunk is NULL, unless this fails. */
HS_CHECKED hs_status hs_sql_arrow_wrap(duckdb_data_chunk *chunk, const enum hs_sql_layout *layouts,
                                       size_t n, struct ArrowArray *ret_array,
                                       struct hs_error *err);

/* One cell as a value of DuckDB's; *ret_value is for duckdb_destroy_value. */
HS_CHECKED hs_status hs_sql_value_new(const struct ArrowSchema *schema,
                                      const struct ArrowArray *array, int64_t row,
                                      duckdb_value *ret_value, struct hs_error *err);

#endif
