/*
 * sql_bind.h - values of JSON as parameters of a statement.
 *
 * Threads: none.
 */
#ifndef API_REST_SQL_BIND_H
#define API_REST_SQL_BIND_H

#include <jansson.h>

#include "api/sql.h"

/* Whether JSON's value can be a parameter: a text, number, boolean or null. */
bool hs_rest_sql_can_bind(const json_t *value);
/* Values by position, each as above; NULL: none. Errors: HS_INVALID_ARGUMENT. */
HS_CHECKED hs_status hs_rest_sql_bind(hs_sql_stmt *stmt, const json_t *values,
                                      struct hs_error *err);

#endif
