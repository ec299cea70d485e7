/*
 * guard.h - which statements are refused (and where a text with several is cut: api/sql.h).
 *
 * Words of a text are read as DuckDB's parser does: comments and strings are skipped, quoted names
 * count as names. A statement is judged by its text before DuckDB sees it (functions that change
 * the whole process) and by the type that DuckDB gives it when it is prepared.
 *
 * Threads: none.
 */
#ifndef API_SQL_GUARD_H
#define API_SQL_GUARD_H

#include "sql_internal.h"

/* Functions that may not be called, found in DuckDB's own list of them: " a b c ", for hs_free. */
HS_CHECKED hs_status hs_sql_refused_list(duckdb_connection connection, char **ret_names,
                                         struct hs_error *err);
/* HS_PERMISSION_DENIED: the statement begins with a word, also inside of EXPLAIN and PREPARE, or
 * calls a function that is refused, or could hide its name. */
HS_CHECKED hs_status hs_sql_guard_text(const hs_sql *sql, const char *text, struct hs_error *err);
/* The same by the type that DuckDB gives it. */
HS_CHECKED hs_status hs_sql_guard_type(duckdb_statement_type type, const char *text,
                                       struct hs_error *err);
/* Whether a statement begins with a word. */
bool hs_sql_begins_with(const char *text, const char *word);
/* The statement inside of EXPLAIN and PREPARE, which needs to be judged, too; NULL: this is
 * neither, or it cannot be told. */
const char *hs_sql_inner_statement(const char *text);

#endif
