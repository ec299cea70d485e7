/*
 * rest/sql.h - what POST /api/v1/sql and its client agree on.
 *
 * An error after the first rows ends ndjson with a line {"error": ...}, and Arrow's stream with
 * such an object in place of a message, which no reader takes for one; csv and json are cut off.
 */
#ifndef API_REST_SQL_H
#define API_REST_SQL_H

#include "rest.h"

#define HS_REST_SQL_PATH "/api/v1/sql"
/* Header: rows that the statement inserted, changed or deleted, when it was such a statement. */
#define HS_REST_SQL_CHANGED "Sql-Rows-Changed"

/* The statements that run, as /api/v1/status lists them. NULL: no memory. */
json_t *hs_rest_sql_running(const struct hs_rest *rest);

#endif
