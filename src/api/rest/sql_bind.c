#include "sql_bind.h"

#include <nanoarrow/nanoarrow.h>

#include "base/error.h"

static enum ArrowType type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return NANOARROW_TYPE_STRING;
    case JSON_INTEGER:
        return NANOARROW_TYPE_INT64;
    case JSON_REAL:
        return NANOARROW_TYPE_DOUBLE;
    case JSON_TRUE:
    case JSON_FALSE:
        return NANOARROW_TYPE_BOOL;
    case JSON_NULL:
        return NANOARROW_TYPE_NA;
    default:
        return NANOARROW_TYPE_UNINITIALIZED;
    }
}

bool hs_rest_sql_can_bind(const json_t *value)
{
    return type_of(value) != NANOARROW_TYPE_UNINITIALIZED;
}

static ArrowErrorCode append(struct ArrowArray *column, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return ArrowArrayAppendString(
            column,
            (struct ArrowStringView){json_string_value(value), (int64_t)json_string_length(value)});
    case JSON_REAL:
        return ArrowArrayAppendDouble(column, json_real_value(value));
    case JSON_NULL:
        return ArrowArrayAppendNull(column, 1);
    default:
        return ArrowArrayAppendInt(column, json_is_integer(value) ? json_integer_value(value)
                                                                  : json_is_true(value));
    }
}

static ArrowErrorCode make_schema(const json_t *values, struct ArrowSchema *schema)
{
    size_t n = json_array_size(values);
    ArrowSchemaInit(schema);
    ArrowErrorCode code = ArrowSchemaSetTypeStruct(schema, (int64_t)n);
    for (size_t i = 0; i < n && code == NANOARROW_OK; i++) {
        code = ArrowSchemaSetType(schema->children[i], type_of(json_array_get(values, i)));
        code = code != NANOARROW_OK ? code : ArrowSchemaSetName(schema->children[i], "");
    }
    return code;
}

/* One row. */
static ArrowErrorCode make_row(const json_t *values, const struct ArrowSchema *schema,
                               struct ArrowArray *row)
{
    ArrowErrorCode code = ArrowArrayInitFromSchema(row, schema, NULL);
    code = code != NANOARROW_OK ? code : ArrowArrayStartAppending(row);
    for (int64_t i = 0; i < schema->n_children && code == NANOARROW_OK; i++) {
        code = append(row->children[i], json_array_get(values, (size_t)i));
    }
    code = code != NANOARROW_OK ? code : ArrowArrayFinishElement(row);
    return code != NANOARROW_OK ? code : ArrowArrayFinishBuildingDefault(row, NULL);
}

hs_status hs_rest_sql_bind(hs_sql_stmt *stmt, const json_t *values, struct hs_error *err)
{
    struct ArrowSchema schema = {.release = NULL};
    struct ArrowArray row = {.release = NULL};
    ArrowErrorCode code = make_schema(values, &schema);
    code = code != NANOARROW_OK ? code : make_row(values, &schema, &row);
    hs_status status = code != NANOARROW_OK ? hs_error_nomem(err, "parameters")
                                            : hs_sql_bind(stmt, &schema, &row, 0, err);
    if (row.release != NULL) {
        row.release(&row);
    }
    schema.release(&schema);
    return status;
}
