/*
 * sql_print.h - the rows of a statement on standard output.
 *
 * Threads: none.
 */
#ifndef API_SQL_PRINT_H
#define API_SQL_PRINT_H

#include "api/command.h"
#include "api/sql.h"

enum hs_sql_format {
    HS_SQL_FORMAT_TABLE = 0,
    HS_SQL_FORMAT_CSV,  /* RFC 4180 with a header; NULL is empty, an empty text is "" */
    HS_SQL_FORMAT_JSON, /* an array of objects */
    HS_SQL_FORMAT_ARROW /* Arrow's IPC stream */
};

/* false: there is no such format. */
bool hs_sql_format_find(const char *name, enum hs_sql_format *ret_format);
/* Read a result to its end and print it. Only a table is kept whole in memory. */
HS_CHECKED hs_status hs_sql_print(const struct hs_command_io *io, hs_sql_result *result,
                                  enum hs_sql_format format, struct hs_error *err);

#endif
