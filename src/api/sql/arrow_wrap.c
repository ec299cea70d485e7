#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "statement.h"

#define INLINE_MAX 12 /* bytes of a text that DuckDB keeps beside its length */

struct column {
    struct ArrowArray array;
    const void *buffers[3];
    uint8_t *copy;
};

/* What a chunk's arrays share; each may be released by itself. */
struct wrapped {
    atomic_int n_users;
    duckdb_data_chunk chunk;
    size_t n_columns;
    struct ArrowArray **children;
    const void *buffers[1];
    struct column columns[];
};

/* ---- types ---- */

enum hs_sql_layout hs_sql_layout_of(duckdb_logical_type type)
{
    char *alias = duckdb_logical_type_get_alias(type);
    duckdb_type id = alias == NULL ? duckdb_get_type_id(type) : DUCKDB_TYPE_INVALID;
    duckdb_free(alias);
    switch (id) {
    case DUCKDB_TYPE_TINYINT:
    case DUCKDB_TYPE_SMALLINT:
    case DUCKDB_TYPE_INTEGER:
    case DUCKDB_TYPE_BIGINT:
    case DUCKDB_TYPE_UTINYINT:
    case DUCKDB_TYPE_USMALLINT:
    case DUCKDB_TYPE_UINTEGER:
    case DUCKDB_TYPE_UBIGINT:
    case DUCKDB_TYPE_FLOAT:
    case DUCKDB_TYPE_DOUBLE:
    case DUCKDB_TYPE_DATE:
    case DUCKDB_TYPE_TIME:
    case DUCKDB_TYPE_TIMESTAMP:
    case DUCKDB_TYPE_TIMESTAMP_S:
    case DUCKDB_TYPE_TIMESTAMP_MS:
    case DUCKDB_TYPE_TIMESTAMP_NS:
    case DUCKDB_TYPE_TIMESTAMP_TZ:
        return HS_SQL_LAYOUT_ARROW;
    case DUCKDB_TYPE_VARCHAR:
    case DUCKDB_TYPE_BLOB:
        return HS_SQL_LAYOUT_TEXTS;
    case DUCKDB_TYPE_BOOLEAN:
        return HS_SQL_LAYOUT_BOOLEANS;
    default:
        return HS_SQL_LAYOUT_OTHER;
    }
}

/* ---- columns ---- */

static bool is_valid(const uint64_t *valid, int64_t i)
{
    return valid == NULL || (valid[i / 64] >> (i % 64) & 1) != 0;
}

static const char *bytes_of(const duckdb_string_t *text)
{
    return text->value.inlined.length <= INLINE_MAX ? text->value.inlined.inlined
                                                    : text->value.pointer.ptr;
}

static hs_status copy_texts(struct column *column, const duckdb_string_t *texts,
                            const uint64_t *valid, struct hs_error *err)
{
    int64_t n = column->array.length;
    size_t size = 0, head = ((size_t)n + 1) * sizeof(int32_t);
    for (int64_t i = 0; i < n; i++) {
        size += is_valid(valid, i) ? texts[i].value.inlined.length : 0;
    }
    if (size > INT32_MAX) {
        return hs_error_set(err, HS_LIMIT, "%lld texts of a column have %zu bytes; the limit is %d",
                            (long long)n, size, INT32_MAX);
    }
    /* short texts are copied with what lies behind them: that is faster than to the byte */
    column->copy = hs_alloc(head + size + INLINE_MAX);
    if (column->copy == NULL) {
        return hs_error_nomem(err, "texts");
    }
    int32_t *offsets = (int32_t *)(void *)column->copy, at = 0;
    uint8_t *bytes = column->copy + head;
    for (int64_t i = 0; i < n; i++) {
        offsets[i] = at;
        if (is_valid(valid, i)) {
            uint32_t len = texts[i].value.inlined.length;
            memcpy(bytes + at, bytes_of(&texts[i]), len <= INLINE_MAX ? INLINE_MAX : len);
            at += (int32_t)len;
        }
    }
    offsets[n] = at;
    column->buffers[1] = offsets;
    column->buffers[2] = bytes;
    return HS_OK;
}

static hs_status copy_booleans(struct column *column, const uint8_t *values, struct hs_error *err)
{
    size_t n = (size_t)column->array.length;
    column->copy = hs_calloc(n / 8 + 1, 1);
    if (column->copy == NULL) {
        return hs_error_nomem(err, "booleans");
    }
    for (size_t i = 0; i < n; i++) {
        /* what lies at a NULL may be any byte */
        column->copy[i / 8] |= (uint8_t)((values[i] & 1) << (i % 8));
    }
    column->buffers[1] = column->copy;
    return HS_OK;
}

static hs_status fill(struct column *column, duckdb_vector vector, enum hs_sql_layout layout,
                      struct hs_error *err)
{
    const uint64_t *valid = duckdb_vector_get_validity(vector);
    const void *data = duckdb_vector_get_data(vector);
    column->buffers[0] = valid;
    column->array.null_count = valid != NULL ? -1 : 0;
    column->array.n_buffers = layout == HS_SQL_LAYOUT_TEXTS ? 3 : 2;
    column->array.buffers = column->buffers;
    switch (layout) {
    case HS_SQL_LAYOUT_TEXTS:
        return copy_texts(column, data, valid, err);
    case HS_SQL_LAYOUT_BOOLEANS:
        return copy_booleans(column, data, err);
    default:
        column->buffers[1] = data;
        return HS_OK;
    }
}

/* ---- arrays ---- */

static void drop(struct wrapped *wrapped)
{
    if (atomic_fetch_sub(&wrapped->n_users, 1) == 1) {
        for (size_t i = 0; i < wrapped->n_columns; i++) {
            hs_free(wrapped->columns[i].copy);
        }
        duckdb_destroy_data_chunk(&wrapped->chunk);
        hs_free(wrapped);
    }
}

static void release(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_children; i++) {
        if (array->children[i]->release != NULL) { /* else it was moved away, or is gone */
            array->children[i]->release(array->children[i]);
        }
    }
    array->release = NULL;
    drop(array->private_data);
}

hs_status hs_sql_arrow_wrap(duckdb_data_chunk *chunk, const enum hs_sql_layout *layouts, size_t n,
                            struct ArrowArray *ret_array, struct hs_error *err)
{
    ret_array->release = NULL;
    struct wrapped *wrapped =
        hs_calloc(1, sizeof *wrapped + n * (sizeof *wrapped->columns + sizeof *wrapped->children));
    if (wrapped == NULL) {
        return hs_error_nomem(err, "rows");
    }
    int64_t n_rows = (int64_t)duckdb_data_chunk_get_size(*chunk);
    wrapped->n_columns = n;
    wrapped->chunk = *chunk;
    *chunk = NULL;
    wrapped->children = (struct ArrowArray **)(void *)&wrapped->columns[n];
    atomic_init(&wrapped->n_users, 1 + (int)n);
    struct ArrowArray root = {.length = n_rows,
                              .n_buffers = 1,
                              .n_children = (int64_t)n,
                              .buffers = wrapped->buffers,
                              .children = wrapped->children,
                              .release = release,
                              .private_data = wrapped};
    hs_status status = HS_OK;
    for (size_t i = 0; i < n; i++) {
        struct column *column = &wrapped->columns[i];
        wrapped->children[i] = &column->array;
        column->array =
            (struct ArrowArray){.length = n_rows, .release = release, .private_data = wrapped};
        status =
            status ? status
                   : fill(column, duckdb_data_chunk_get_vector(wrapped->chunk, i), layouts[i], err);
    }
    if (status) {
        root.release(&root);
        return status;
    }
    *ret_array = root;
    return HS_OK;
}
