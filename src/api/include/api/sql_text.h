/*
 * api/sql_text.h - cells of Arrow as the SQL engine writes them.
 *
 * Threads: none.
 */
#ifndef API_SQL_TEXT_H
#define API_SQL_TEXT_H

#include "api/arrow_abi.h"
#include "hyprstream.h"

/* What CAST(cell AS VARCHAR) gives, to be freed with hs_free; NULL for NULL. HS_NOT_SUPPORTED: a
 * type that SQL does not give. */
HS_CHECKED hs_status hs_sql_cell_text(const struct ArrowSchema *schema,
                                      const struct ArrowArray *array, int64_t row, char **ret_text,
                                      struct hs_error *err);

#endif
