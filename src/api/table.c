#include "table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

#define CELL_MAX_BYTES (1u << 20)

/* Takes over `cell`. */
static void push(struct hs_table *table, char *cell)
{
    if (table->n_cells == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 32;
        char **cells = hs_realloc_array(table->cells, capacity, sizeof *cells);
        if (!cells) {
            hs_free(cell);
            table->status = HS_OUT_OF_MEMORY;
            return;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    table->cells[table->n_cells++] = cell;
}

void hs_table_init(struct hs_table *table, size_t n_columns, uint64_t right, const char *headers)
{
    *table = (struct hs_table){.n_columns = n_columns, .right = right};
    while (headers && *headers && !table->status) {
        size_t len = strcspn(headers, " ");
        hs_table_cell(table, "%.*s", (int)len, headers);
        headers += len + (headers[len] == ' ');
    }
}

void hs_table_cell(struct hs_table *table, const char *format, ...)
{
    if (table->status) {
        return;
    }
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(CELL_MAX_BYTES);
    char *cell = NULL;
    table->status = hs_safe_text(text, hs_utf8_complete(text, strlen(text)), true, &safe);
    if (!table->status) {
        table->status = hs_buf_take(&safe, &cell, NULL);
    }
    if (!table->status) {
        push(table, cell);
    }
}

static hs_status append_cell(struct hs_buf *line, const char *cell, size_t width, bool right,
                             bool last)
{
    size_t columns = hs_utf8_columns(cell, strlen(cell));
    int pad = columns < width ? (int)(width - columns) : 0;
    if (right) {
        return hs_buf_printf(line, "%*s%s%s", pad, "", cell, last ? "\n" : "  ");
    }
    if (last) {
        return hs_buf_printf(line, "%s\n", cell); /* no blanks at the end of a line */
    }
    return hs_buf_printf(line, "%s%*s  ", cell, pad, "");
}

hs_status hs_table_print(const struct hs_table *table, const struct hs_command_io *io,
                         struct hs_error *err)
{
    HS_CLEANUP(hs_freep) size_t *widths = hs_calloc(table->n_columns, sizeof *widths);
    if (!widths) {
        return hs_error_nomem(err, "table");
    }
    for (size_t i = 0; i < table->n_cells; i++) {
        size_t columns = hs_utf8_columns(table->cells[i], strlen(table->cells[i]));
        size_t *width = &widths[i % table->n_columns];
        *width = columns > *width ? columns : *width;
    }
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX / 4);
    hs_status status = table->status;
    for (size_t i = 0; i < table->n_cells && !status; i++) {
        size_t column = i % table->n_columns;
        status = append_cell(&text, table->cells[i], widths[column],
                             column < 64 && ((table->right >> column) & 1u),
                             column + 1 == table->n_columns);
    }
    if (status) {
        return hs_error_nomem(err, "table");
    }
    return io->out(io->self, text.len ? text.data : "", text.len, err);
}

void hs_table_free(struct hs_table *table)
{
    for (size_t i = 0; i < table->n_cells; i++) {
        hs_free(table->cells[i]);
    }
    hs_free(table->cells);
    *table = (struct hs_table){0};
}
