#include <nanoarrow/nanoarrow.h>

#include "base/error.h"
#include "base/mem.h"
#include "sql_error.h"
#include "statement.h"

/* ---- columns ---- */

hs_status hs_sql_columns_new(size_t n, struct hs_sql_columns *ret_columns, struct hs_error *err)
{
    *ret_columns = (struct hs_sql_columns){.n = n};
    ret_columns->types = hs_calloc(n + 1, sizeof(duckdb_logical_type));
    ret_columns->names = hs_calloc(n + 1, sizeof(char *));
    if (ret_columns->types == NULL || ret_columns->names == NULL) {
        hs_sql_columns_free(ret_columns);
        return hs_error_nomem(err, "columns");
    }
    return HS_OK;
}

void hs_sql_columns_free(struct hs_sql_columns *columns)
{
    for (size_t i = 0; i < columns->n; i++) {
        if (columns->types != NULL) {
            duckdb_destroy_logical_type(&columns->types[i]);
        }
        if (columns->names != NULL) {
            hs_free(columns->names[i]);
        }
    }
    hs_free(columns->types);
    hs_free(columns->names);
    *columns = (struct hs_sql_columns){0};
}

/* ---- without dictionaries: not every reader of a stream knows them, and enumerations are all ----
 */

static void plain_schema(struct ArrowSchema *schema)
{
    if (schema->dictionary != NULL) {
        schema->format = schema->dictionary->format;
        if (schema->dictionary->release != NULL) {
            schema->dictionary->release(schema->dictionary);
        }
        schema->dictionary = NULL;
    }
    for (int64_t i = 0; i < schema->n_children; i++) {
        plain_schema(schema->children[i]);
    }
}

hs_status hs_sql_arrow_schema(hs_sql_conn *conn, const struct hs_sql_columns *columns,
                              struct ArrowSchema *ret_schema, struct hs_error *err)
{
    ret_schema->release = NULL;
    hs_status status = hs_sql_error_data(conn,
                                         duckdb_to_arrow_schema(conn->arrow, columns->types,
                                                                (const char **)columns->names,
                                                                columns->n, ret_schema),
                                         err);
    if (!status) {
        plain_schema(ret_schema);
    }
    return status;
}

static int64_t index_at(const struct ArrowArray *array, size_t width, int64_t i)
{
    const void *data = array->buffers[1];
    i += array->offset;
    switch (width) {
    case 1:
        return ((const uint8_t *)data)[i];
    case 2:
        return ((const uint16_t *)data)[i];
    default:
        return ((const uint32_t *)data)[i];
    }
}

/* Bytes of an index into an enumeration of n names, as DuckDB chooses it. */
static size_t index_width(int64_t n)
{
    return n <= UINT8_MAX ? 1 : n <= UINT16_MAX ? 2 : 4;
}

/* Texts in the place of indices into a dictionary of texts. */
static bool write_out(const struct ArrowArray *array, struct ArrowArray *ret_plain)
{
    const struct ArrowArray *names = array->dictionary;
    const int32_t *offsets = names->buffers[1];
    const char *texts = names->buffers[2];
    const uint8_t *valid = array->buffers[0];
    size_t width = index_width(names->length);
    bool is_good = ArrowArrayInitFromType(ret_plain, NANOARROW_TYPE_STRING) == NANOARROW_OK;
    is_good = is_good && ArrowArrayStartAppending(ret_plain) == NANOARROW_OK;
    for (int64_t i = 0; i < array->length && is_good; i++) {
        if (valid != NULL && !ArrowBitGet(valid, i + array->offset)) {
            is_good = ArrowArrayAppendNull(ret_plain, 1) == NANOARROW_OK;
            continue;
        }
        int64_t at = index_at(array, width, i);
        struct ArrowStringView text = {texts + offsets[at], offsets[at + 1] - offsets[at]};
        is_good = ArrowArrayAppendString(ret_plain, text) == NANOARROW_OK;
    }
    return is_good && ArrowArrayFinishBuildingDefault(ret_plain, NULL) == NANOARROW_OK;
}

static bool plain_array(struct ArrowArray *array)
{
    if (array->dictionary != NULL) {
        struct ArrowArray plain = {.release = NULL};
        if (!write_out(array, &plain)) {
            if (plain.release != NULL) {
                plain.release(&plain);
            }
            return false;
        }
        struct ArrowArray old = *array;
        *array = plain;
        old.release(&old);
    }
    bool is_good = true;
    for (int64_t i = 0; i < array->n_children && is_good; i++) {
        is_good = plain_array(array->children[i]);
    }
    return is_good;
}

hs_status hs_sql_arrow_array(hs_sql_conn *conn, duckdb_data_chunk chunk,
                             struct ArrowArray *ret_array, struct hs_error *err)
{
    ret_array->release = NULL;
    hs_status status =
        hs_sql_error_data(conn, duckdb_data_chunk_to_arrow(conn->arrow, chunk, ret_array), err);
    if (!status && !plain_array(ret_array)) {
        ret_array->release(ret_array);
        ret_array->release = NULL;
        status = hs_error_nomem(err, "rows");
    }
    return status;
}
