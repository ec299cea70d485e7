/*
 * sql_error.h - from DuckDB's error texts to struct hs_error.
 *
 * Threads: none.
 */
#ifndef API_SQL_ERROR_H
#define API_SQL_ERROR_H

#include "sql_internal.h"

/* The error of a statement on `conn` (NULL: none): what a function of ours failed with, or DuckDB's
 * `message` (NULL: it has none), whose first words name its kind. */
hs_status hs_sql_error(const hs_sql_conn *conn, const char *message, struct hs_error *err);
/* The same for an error object, which is destroyed; HS_OK when it holds no error. */
hs_status hs_sql_error_data(const hs_sql_conn *conn, duckdb_error_data data, struct hs_error *err);

#endif
