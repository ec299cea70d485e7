/*
 * table.h - a table of text with aligned columns, for standard output.
 *
 * Columns are two spaces apart; widths count terminal columns, so UTF-8 lines up. Texts are made
 * safe for one line. The first failure sticks and is returned by hs_table_print.
 *
 * Owner:   hs_table_free releases it. Threads: one thread.
 */
#ifndef API_TABLE_H
#define API_TABLE_H

#include "api/command.h"
#include "base/mem.h"

struct hs_table {
    size_t n_columns;
    uint64_t right; /* bit i: column i is aligned to the right */
    char **cells;   /* [n_cells], rows one after the other */
    size_t n_cells, capacity;
    hs_status status;
};

/* headers: space-separated words, one a column; NULL: no header and `n_columns` counts. */
void hs_table_init(struct hs_table *table, size_t n_columns, uint64_t right, const char *headers);
void hs_table_cell(struct hs_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
HS_CHECKED hs_status hs_table_print(const struct hs_table *table, const struct hs_command_io *io,
                                    struct hs_error *err);
void hs_table_free(struct hs_table *table);

#endif
