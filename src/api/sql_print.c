#include "sql_print.h"

#include <nanoarrow/nanoarrow_ipc.h>
#include <string.h>

#include "api/output.h"
#include "api/sql_text.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "table.h"

#define LINE_MAX_BYTES (256u << 20)
/* Values in values; deeper ones are printed as text. */
#define DEPTH_MAX 32

static const char *const formats[] = {
    [HS_SQL_FORMAT_TABLE] = "table", [HS_SQL_FORMAT_CSV] = "csv",
    [HS_SQL_FORMAT_JSON] = "json",   [HS_SQL_FORMAT_NDJSON] = "ndjson",
    [HS_SQL_FORMAT_ARROW] = "arrow", NULL,
};

const char *const *hs_sql_format_names(void)
{
    return formats;
}

bool hs_sql_format_find(const char *name, enum hs_sql_format *ret_format)
{
    for (size_t i = 0; formats[i] != NULL; i++) {
        if (strcmp(formats[i], name) == 0) {
            *ret_format = (enum hs_sql_format)i;
            return true;
        }
    }
    return false;
}

hs_status hs_sql_format_read(const char *name, enum hs_sql_format *ret_format, struct hs_error *err)
{
    if (hs_sql_format_find(name, ret_format)) {
        return HS_OK;
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "there is no format %s", name);
    return hs_error_hint(err, "the formats are table, csv, json, ndjson and arrow");
}

/* One result on its way out. */
struct printer {
    const struct hs_command_io *io;
    struct ArrowSchema schema;
    enum hs_sql_format format;
    size_t n_rows;
    struct hs_buf line;
    struct hs_table table;
    struct ArrowBuffer bytes;
    struct ArrowIpcWriter writer;
};

static hs_status flush(struct printer *out, struct hs_error *err)
{
    hs_status status = out->line.len == 0
                           ? HS_OK
                           : out->io->out(out->io->self, out->line.data, out->line.len, err);
    hs_buf_clear(&out->line);
    return status;
}

static hs_status no_room(hs_status status, struct hs_error *err)
{
    return status ? hs_error_set(err, status, "a row is too long to be printed") : HS_OK;
}

/* ---- tables ---- */

static bool is_number(const struct ArrowSchema *column)
{
    return strchr("cCsSiIlLefgd", column->format[0]) != NULL;
}

static hs_status begin_table(struct printer *out, struct hs_error *err)
{
    (void)err;
    size_t n = (size_t)out->schema.n_children;
    uint64_t right = 0;
    for (size_t i = 0; i < n && i < 64; i++) {
        right |= (uint64_t)is_number(out->schema.children[i]) << i;
    }
    hs_table_init(&out->table, n, right, NULL);
    for (size_t i = 0; i < n; i++) {
        hs_table_cell(&out->table, "%s", out->schema.children[i]->name);
    }
    return HS_OK;
}

static hs_status add_to_table(struct printer *out, const struct ArrowArray *rows,
                              struct hs_error *err)
{
    for (int64_t row = 0; row < rows->length; row++) {
        for (int64_t i = 0; i < rows->n_children; i++) {
            HS_CLEANUP(hs_freep) char *text = NULL;
            hs_status status =
                hs_sql_cell_text(out->schema.children[i], rows->children[i], row, &text, err);
            if (status) {
                return status;
            }
            hs_table_cell(&out->table, "%s", text != NULL ? text : "NULL");
        }
    }
    return HS_OK;
}

static hs_status end_table(struct printer *out, struct hs_error *err)
{
    return hs_table_print(&out->table, out->io, err);
}

/* ---- CSV ---- */

static hs_status add_field(struct printer *out, int64_t column, const char *text,
                           struct hs_error *err)
{
    hs_status status = column > 0 ? hs_buf_append(&out->line, ",", 1) : HS_OK;
    if (text == NULL || status) {
        return no_room(status, err);
    }
    if (*text != '\0' && text[strcspn(text, ",\"\r\n")] == '\0') {
        return no_room(hs_buf_append_str(&out->line, text), err);
    }
    status = hs_buf_append(&out->line, "\"", 1);
    for (const char *c = text; *c != '\0' && !status; c++) {
        status = *c == '"' ? hs_buf_append(&out->line, "\"\"", 2) : hs_buf_append(&out->line, c, 1);
    }
    return no_room(status ? status : hs_buf_append(&out->line, "\"", 1), err);
}

static hs_status begin_csv(struct printer *out, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (int64_t i = 0; i < out->schema.n_children && !status; i++) {
        status = add_field(out, i, out->schema.children[i]->name, err);
    }
    if (out->schema.n_children == 0) {
        return HS_OK;
    }
    status = status ? status : no_room(hs_buf_append(&out->line, "\r\n", 2), err);
    return status ? status : flush(out, err);
}

static hs_status add_to_csv(struct printer *out, const struct ArrowArray *rows,
                            struct hs_error *err)
{
    for (int64_t row = 0; row < rows->length; row++) {
        hs_status status = HS_OK;
        for (int64_t i = 0; i < rows->n_children && !status; i++) {
            HS_CLEANUP(hs_freep) char *text = NULL;
            status = hs_sql_cell_text(out->schema.children[i], rows->children[i], row, &text, err);
            status = status ? status : add_field(out, i, text, err);
        }
        status = status ? status : no_room(hs_buf_append(&out->line, "\r\n", 2), err);
        if (status) {
            return status;
        }
    }
    return flush(out, err);
}

/* ---- JSON ---- */

static json_t *json_of(const struct ArrowSchema *schema, const struct ArrowArray *array,
                       const struct ArrowArrayView *view, int64_t row, int depth);

static json_t *json_of_list(const struct ArrowSchema *schema, const struct ArrowArray *array,
                            const struct ArrowArrayView *view, int64_t row, int depth)
{
    bool is_fixed = view->storage_type == NANOARROW_TYPE_FIXED_SIZE_LIST;
    int64_t size = view->layout.child_size_elements;
    int64_t first = is_fixed ? row * size : ArrowArrayViewListChildOffset(view, row + view->offset);
    int64_t end =
        is_fixed ? first + size : ArrowArrayViewListChildOffset(view, row + view->offset + 1);
    json_t *list = json_array();
    for (int64_t i = first; i < end; i++) {
        hs_json_append(&list, json_of(schema->children[0], array->children[0], view->children[0], i,
                                      depth + 1));
    }
    return list;
}

static json_t *json_of_struct(const struct ArrowSchema *schema, const struct ArrowArray *array,
                              const struct ArrowArrayView *view, int64_t row, int depth)
{
    json_t *object = json_object();
    for (int64_t i = 0; i < view->n_children; i++) {
        hs_json_set(
            &object, schema->children[i]->name,
            json_of(schema->children[i], array->children[i], view->children[i], row, depth + 1));
    }
    return object;
}

/* Numbers that JSON cannot hold, dates and the like are texts. NULL: no memory. */
static json_t *json_of(const struct ArrowSchema *schema, const struct ArrowArray *array,
                       const struct ArrowArrayView *view, int64_t row, int depth)
{
    struct ArrowSchemaView type;
    if (ArrowSchemaViewInit(&type, schema, NULL) != NANOARROW_OK) {
        return NULL;
    }
    if (ArrowArrayViewIsNull(view, row)) {
        return json_null();
    }
    double number;
    switch (depth < DEPTH_MAX ? type.type : NANOARROW_TYPE_UNINITIALIZED) {
    case NANOARROW_TYPE_BOOL:
        return json_boolean(ArrowArrayViewGetIntUnsafe(view, row) != 0);
    case NANOARROW_TYPE_INT8:
    case NANOARROW_TYPE_INT16:
    case NANOARROW_TYPE_INT32:
    case NANOARROW_TYPE_INT64:
    case NANOARROW_TYPE_UINT8:
    case NANOARROW_TYPE_UINT16:
    case NANOARROW_TYPE_UINT32:
        return json_integer(ArrowArrayViewGetIntUnsafe(view, row));
    case NANOARROW_TYPE_FLOAT:
    case NANOARROW_TYPE_DOUBLE:
        number = ArrowArrayViewGetDoubleUnsafe(view, row);
        return number - number == 0 ? json_real(number) : json_null(); /* not finite */
    case NANOARROW_TYPE_LIST:
    case NANOARROW_TYPE_LARGE_LIST:
    case NANOARROW_TYPE_FIXED_SIZE_LIST:
        return json_of_list(schema, array, view, row, depth);
    case NANOARROW_TYPE_STRUCT:
        return json_of_struct(schema, array, view, row, depth);
    default:
        break;
    }
    HS_CLEANUP(hs_freep) char *text = NULL;
    return hs_sql_cell_text(schema, array, row, &text, NULL) == HS_OK ? hs_json_text(text) : NULL;
}

static hs_status begin_json(struct printer *out, struct hs_error *err)
{
    return no_room(hs_buf_append_str(&out->line, "["), err);
}

/* What stands around a row. */
static const char *json_before(const struct printer *out, int64_t row)
{
    return out->format == HS_SQL_FORMAT_NDJSON ? "" : out->n_rows + (size_t)row ? ",\n " : "\n ";
}

static hs_status add_to_json(struct printer *out, const struct ArrowArray *rows,
                             struct hs_error *err)
{
    struct ArrowArrayView view;
    if (ArrowArrayViewInitFromSchema(&view, &out->schema, NULL) != NANOARROW_OK ||
        ArrowArrayViewSetArray(&view, rows, NULL) != NANOARROW_OK) {
        ArrowArrayViewReset(&view);
        return hs_error_nomem(err, "rows");
    }
    hs_status status = HS_OK;
    for (int64_t row = 0; row < rows->length && !status; row++) {
        json_t *object HS_CLEANUP(hs_json_freep) =
            json_of_struct(&out->schema, rows, &view, row, 0);
        status = no_room(hs_buf_append_str(&out->line, json_before(out, row)), err);
        char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
        if (!status && text == NULL) {
            status = hs_error_nomem(err, "row");
        }
        status = status ? status : no_room(hs_buf_append_str(&out->line, text), err);
        if (!status && out->format == HS_SQL_FORMAT_NDJSON) {
            status = no_room(hs_buf_append(&out->line, "\n", 1), err);
        }
        free(text);
    }
    ArrowArrayViewReset(&view);
    return status ? status : flush(out, err);
}

static hs_status end_json(struct printer *out, struct hs_error *err)
{
    hs_status status =
        no_room(hs_buf_append_str(&out->line, out->n_rows > 0 ? "\n]\n" : "]\n"), err);
    return status ? status : flush(out, err);
}

/* ---- Arrow ---- */

static hs_status send_bytes(struct printer *out, int code, const struct ArrowError *why,
                            struct hs_error *err)
{
    if (code != NANOARROW_OK) {
        return hs_error_set(err, code == ENOMEM ? HS_OUT_OF_MEMORY : HS_NOT_SUPPORTED,
                            "the rows cannot be written as Arrow: %s", why->message);
    }
    hs_status status = out->bytes.size_bytes == 0
                           ? HS_OK
                           : out->io->out(out->io->self, (const char *)out->bytes.data,
                                          (size_t)out->bytes.size_bytes, err);
    out->bytes.size_bytes = 0;
    return status;
}

static hs_status begin_arrow(struct printer *out, struct hs_error *err)
{
    struct ArrowIpcOutputStream stream;
    struct ArrowError why = {""};
    int code = ArrowIpcOutputStreamInitBuffer(&stream, &out->bytes);
    code = code != NANOARROW_OK ? code : ArrowIpcWriterInit(&out->writer, &stream);
    code =
        code != NANOARROW_OK ? code : ArrowIpcWriterWriteSchema(&out->writer, &out->schema, &why);
    return send_bytes(out, code, &why, err);
}

static hs_status add_to_arrow(struct printer *out, const struct ArrowArray *rows,
                              struct hs_error *err)
{
    struct ArrowArrayView view;
    struct ArrowError why = {""};
    int code = ArrowArrayViewInitFromSchema(&view, &out->schema, &why);
    code = code != NANOARROW_OK ? code : ArrowArrayViewSetArray(&view, rows, &why);
    code = code != NANOARROW_OK ? code : ArrowIpcWriterWriteArrayView(&out->writer, &view, &why);
    ArrowArrayViewReset(&view);
    return send_bytes(out, code, &why, err);
}

static hs_status end_arrow(struct printer *out, struct hs_error *err)
{
    struct ArrowError why = {""};
    return send_bytes(out, ArrowIpcWriterWriteArrayView(&out->writer, NULL, &why), &why, err);
}

/* ---- any ---- */

static hs_status begin_nothing(struct printer *out, struct hs_error *err)
{
    (void)out;
    (void)err;
    return HS_OK;
}

static hs_status end_lines(struct printer *out, struct hs_error *err)
{
    return flush(out, err);
}

static const struct {
    hs_status (*begin)(struct printer *out, struct hs_error *err);
    hs_status (*add)(struct printer *out, const struct ArrowArray *rows, struct hs_error *err);
    hs_status (*end)(struct printer *out, struct hs_error *err);
} writers[] = {
    [HS_SQL_FORMAT_TABLE] = {begin_table, add_to_table, end_table},
    [HS_SQL_FORMAT_CSV] = {begin_csv, add_to_csv, end_lines},
    [HS_SQL_FORMAT_JSON] = {begin_json, add_to_json, end_json},
    [HS_SQL_FORMAT_NDJSON] = {begin_nothing, add_to_json, end_lines},
    [HS_SQL_FORMAT_ARROW] = {begin_arrow, add_to_arrow, end_arrow},
};

static hs_status print_rows(struct printer *out, const struct hs_sql_rows *rows,
                            struct hs_error *err)
{
    hs_status status = writers[out->format].begin(out, err);
    while (!status) {
        struct ArrowArray some;
        status = rows->next(rows->user, &some, err);
        if (status || some.release == NULL) {
            break;
        }
        status = writers[out->format].add(out, &some, err);
        out->n_rows += (size_t)some.length;
        some.release(&some);
    }
    return status ? status : writers[out->format].end(out, err);
}

static hs_status print(const struct hs_command_io *io, const struct hs_sql_rows *rows,
                       enum hs_sql_format format, bool is_whole, struct hs_error *err)
{
    struct printer out = {.io = io, .format = format, .line = HS_BUF_INIT(LINE_MAX_BYTES)};
    hs_status status = rows->schema(rows->user, &out.schema, err);
    if (status) {
        return status;
    }
    ArrowBufferInit(&out.bytes);
    if (is_whole || out.schema.n_children > 0) {
        status = print_rows(&out, rows, err);
    }
    if (out.writer.private_data != NULL) {
        ArrowIpcWriterReset(&out.writer);
    }
    ArrowBufferReset(&out.bytes);
    hs_table_free(&out.table);
    hs_buf_free(&out.line);
    out.schema.release(&out.schema);
    return status;
}

hs_status hs_sql_print(const struct hs_command_io *io, const struct hs_sql_rows *rows,
                       enum hs_sql_format format, struct hs_error *err)
{
    return print(io, rows, format, false, err);
}

hs_status hs_sql_write(const struct hs_command_io *io, const struct hs_sql_rows *rows,
                       enum hs_sql_format format, struct hs_error *err)
{
    return print(io, rows, format, true, err);
}

static hs_status schema_of_result(void *user, struct ArrowSchema *ret_schema, struct hs_error *err)
{
    return hs_sql_result_schema(user, ret_schema, err);
}

static hs_status next_of_result(void *user, struct ArrowArray *ret_array, struct hs_error *err)
{
    return hs_sql_result_next(user, ret_array, err);
}

struct hs_sql_rows hs_sql_result_rows(hs_sql_result *result)
{
    return (struct hs_sql_rows){result, schema_of_result, next_of_result};
}
