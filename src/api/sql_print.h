/*
 * sql_print.h - the rows of a statement as text or bytes, wherever they come from.
 *
 * Threads: none.
 */
#ifndef API_SQL_PRINT_H
#define API_SQL_PRINT_H

#include "api/command.h"
#include "api/sql.h"

enum hs_sql_format {
    HS_SQL_FORMAT_TABLE = 0,
    HS_SQL_FORMAT_CSV,    /* RFC 4180 with a header; NULL is empty, an empty text is "" */
    HS_SQL_FORMAT_JSON,   /* an array of objects */
    HS_SQL_FORMAT_NDJSON, /* an object a line */
    HS_SQL_FORMAT_ARROW   /* Arrow's IPC stream */
};

/* Where rows come from; both are as hs_sql_result_schema and hs_sql_result_next. */
struct hs_sql_rows {
    void *user;
    hs_status (*schema)(void *user, struct ArrowSchema *ret_schema, struct hs_error *err);
    hs_status (*next)(void *user, struct ArrowArray *ret_array, struct hs_error *err);
};
struct hs_sql_rows hs_sql_result_rows(hs_sql_result *result);

/* false: there is no such format. */
bool hs_sql_format_find(const char *name, enum hs_sql_format *ret_format);
/* The same for people: HS_INVALID_ARGUMENT, with a hint at those that there are. */
HS_CHECKED hs_status hs_sql_format_read(const char *name, enum hs_sql_format *ret_format,
                                        struct hs_error *err);
/* Names of the formats, in the order of the enumeration; NULL behind the last. */
const char *const *hs_sql_format_names(void);
/* Read them to their end and print them with io->out; a statement without columns prints nothing.
 * Only a table, which goes by the width of the terminal, is kept whole in memory. */
HS_CHECKED hs_status hs_sql_print(const struct hs_command_io *io, const struct hs_sql_rows *rows,
                                  enum hs_sql_format format, struct hs_error *err);
/* The same for programs: without columns JSON is an empty array, and Arrow a stream of none. No
 * table. */
HS_CHECKED hs_status hs_sql_write(const struct hs_command_io *io, const struct hs_sql_rows *rows,
                                  enum hs_sql_format format, struct hs_error *err);

#endif
