/*
 * fn_value.h - arguments of SQL functions out of DuckDB's vectors, and results into them.
 *
 * Vectors come flat. A row that is NULL has no value.
 *
 * Owner:   vectors are DuckDB's; JSON values are the caller's.
 * Threads: those of DuckDB; a vector belongs to one of them.
 */
#ifndef API_SQL_FN_VALUE_H
#define API_SQL_FN_VALUE_H

#include <duckdb.h>
#include <jansson.h>

#include "hyprstream.h"

#define HS_FN_DEPTH_MAX 32 /* of lists and structs in each other */

bool hs_fn_is_null(duckdb_vector vector, idx_t row);
/* The text of a VARCHAR, not NUL-terminated; valid as long as the vector. */
const char *hs_fn_text(duckdb_vector vector, idx_t row, size_t *ret_len);
/*
 * Any value as JSON: structs and maps with texts as keys become objects, lists and arrays arrays,
 * NULL null, and a type that JSON has not is written as DuckDB's name of it in the error. A VARCHAR
 * at the top, as JSON itself comes, is read as JSON text.
 * Errors: HS_INVALID_ARGUMENT, HS_LIMIT (HS_FN_DEPTH_MAX), HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_fn_json(duckdb_vector vector, idx_t row, json_t **ret_json,
                                struct hs_error *err);

void hs_fn_set_null(duckdb_vector vector, idx_t row);
/* A list of n values behind those that rows before it have; where the first one lies in the list's
 * child. */
HS_CHECKED hs_status hs_fn_set_list(duckdb_vector vector, idx_t row, size_t n, idx_t *ret_first,
                                    struct hs_error *err);

#endif
