/*
 * type_text.h - how SQL writes a type and a name.
 *
 * Threads: none.
 */
#ifndef API_SQL_TYPE_TEXT_H
#define API_SQL_TYPE_TEXT_H

#include <duckdb.h>

#include "base/buf.h"

/* Append the type as a column of a table has it. HS_NOT_SUPPORTED: none can; HS_LIMIT: too deep. */
HS_CHECKED hs_status hs_sql_write_type(struct hs_buf *out, duckdb_logical_type type,
                                       struct hs_error *err);
/* Append a name in its quotes. */
HS_CHECKED hs_status hs_sql_write_name(struct hs_buf *out, const char *name, struct hs_error *err);

#endif
