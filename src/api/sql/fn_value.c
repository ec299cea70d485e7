#include "fn_value.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

bool hs_fn_is_null(duckdb_vector vector, idx_t row)
{
    return !duckdb_validity_row_is_valid(duckdb_vector_get_validity(vector), row);
}

const char *hs_fn_text(duckdb_vector vector, idx_t row, size_t *ret_len)
{
    duckdb_string_t *texts = duckdb_vector_get_data(vector);
    *ret_len = duckdb_string_t_length(texts[row]);
    return duckdb_string_t_data(&texts[row]);
}

/* ---- to JSON ---- */

static hs_status to_json(duckdb_vector vector, idx_t row, int depth, json_t **ret,
                         struct hs_error *err);

static hs_status read_text(duckdb_vector vector, idx_t row, json_t **ret, struct hs_error *err)
{
    size_t len = 0;
    const char *text = hs_fn_text(vector, row, &len);
    json_error_t error;
    *ret = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (*ret == NULL && json_error_code(&error) == json_error_out_of_memory) {
        return hs_error_nomem(err, "JSON");
    }
    if (*ret == NULL) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "this is not JSON: %s at byte %d", error.text,
                     error.position);
        hs_error_hint(err, "write it like {\"max_tokens\": 10}, or as a struct: {max_tokens: 10}");
        return HS_INVALID_ARGUMENT;
    }
    return HS_OK;
}

/* Numbers that are whole become integers, so that 10 and 10.0 are the same option. */
static json_t *number(double value)
{
    bool is_whole = value == floor(value) && fabs(value) < 9007199254740992.0;
    return is_whole ? json_integer((json_int_t)value) : json_real(value);
}

static double decimal(duckdb_logical_type type, const void *data, idx_t row)
{
    double value = 0;
    switch (duckdb_decimal_internal_type(type)) {
    case DUCKDB_TYPE_SMALLINT:
        value = ((const int16_t *)data)[row];
        break;
    case DUCKDB_TYPE_INTEGER:
        value = ((const int32_t *)data)[row];
        break;
    case DUCKDB_TYPE_BIGINT:
        value = (double)((const int64_t *)data)[row];
        break;
    default:
        value = duckdb_hugeint_to_double(((const duckdb_hugeint *)data)[row]);
    }
    return value / pow(10, duckdb_decimal_scale(type));
}

/* NULL without an error: it is none of these. */
static json_t *scalar(duckdb_logical_type type, duckdb_vector vector, idx_t row)
{
    const void *data = duckdb_vector_get_data(vector);
    size_t len = 0;
    const char *text;
    switch (duckdb_get_type_id(type)) {
    case DUCKDB_TYPE_BOOLEAN:
        return json_boolean(((const bool *)data)[row]);
    case DUCKDB_TYPE_TINYINT:
        return json_integer(((const int8_t *)data)[row]);
    case DUCKDB_TYPE_SMALLINT:
        return json_integer(((const int16_t *)data)[row]);
    case DUCKDB_TYPE_INTEGER:
        return json_integer(((const int32_t *)data)[row]);
    case DUCKDB_TYPE_BIGINT:
        return json_integer(((const int64_t *)data)[row]);
    case DUCKDB_TYPE_UTINYINT:
        return json_integer(((const uint8_t *)data)[row]);
    case DUCKDB_TYPE_USMALLINT:
        return json_integer(((const uint16_t *)data)[row]);
    case DUCKDB_TYPE_UINTEGER:
        return json_integer(((const uint32_t *)data)[row]);
    case DUCKDB_TYPE_UBIGINT:
        return number((double)((const uint64_t *)data)[row]);
    case DUCKDB_TYPE_HUGEINT:
        return number(duckdb_hugeint_to_double(((const duckdb_hugeint *)data)[row]));
    case DUCKDB_TYPE_FLOAT:
        return number((double)((const float *)data)[row]);
    case DUCKDB_TYPE_DOUBLE:
        return number(((const double *)data)[row]);
    case DUCKDB_TYPE_DECIMAL:
        return number(decimal(type, data, row));
    case DUCKDB_TYPE_VARCHAR:
        text = hs_fn_text(vector, row, &len);
        return json_stringn(text, len);
    default:
        return NULL;
    }
}

static hs_status read_items(duckdb_vector child, idx_t first, idx_t n, int depth, json_t **ret,
                            struct hs_error *err)
{
    json_t *array = json_array();
    hs_status status = array == NULL ? hs_error_nomem(err, "a list") : HS_OK;
    for (idx_t i = 0; i < n && status == HS_OK; i++) {
        json_t *item = NULL;
        status = to_json(child, first + i, depth + 1, &item, err);
        if (status == HS_OK && json_array_append_new(array, item) != 0) {
            status = hs_error_nomem(err, "a list");
        }
    }
    if (status != HS_OK) {
        json_decref(array);
        return status;
    }
    *ret = array;
    return HS_OK;
}

static hs_status read_struct(duckdb_logical_type type, duckdb_vector vector, idx_t row, int depth,
                             json_t **ret, struct hs_error *err)
{
    json_t *object = json_object();
    hs_status status = object == NULL ? hs_error_nomem(err, "a struct") : HS_OK;
    for (idx_t i = 0; i < duckdb_struct_type_child_count(type) && status == HS_OK; i++) {
        char *name = duckdb_struct_type_child_name(type, i);
        json_t *value = NULL;
        status = to_json(duckdb_struct_vector_get_child(vector, i), row, depth + 1, &value, err);
        if (status == HS_OK && (name == NULL || json_object_set_new(object, name, value) != 0)) {
            status = hs_error_nomem(err, "a struct");
        }
        duckdb_free(name);
    }
    if (status != HS_OK) {
        json_decref(object);
        return status;
    }
    *ret = object;
    return HS_OK;
}

/* A map is a list of structs of a key and a value. */
static hs_status read_map(duckdb_vector vector, idx_t row, int depth, json_t **ret,
                          struct hs_error *err)
{
    duckdb_list_entry entry = ((duckdb_list_entry *)duckdb_vector_get_data(vector))[row];
    duckdb_vector pairs = duckdb_list_vector_get_child(vector);
    duckdb_vector keys = duckdb_struct_vector_get_child(pairs, 0);
    duckdb_vector values = duckdb_struct_vector_get_child(pairs, 1);
    json_t *object = json_object();
    hs_status status = object == NULL ? hs_error_nomem(err, "a map") : HS_OK;
    for (idx_t i = entry.offset; i < entry.offset + entry.length && status == HS_OK; i++) {
        json_t *key = NULL, *value = NULL;
        status = to_json(keys, i, depth + 1, &key, err);
        if (status == HS_OK && !json_is_string(key)) {
            status = hs_error_set(err, HS_INVALID_ARGUMENT, "a map's keys must be texts here");
        }
        status = status == HS_OK ? to_json(values, i, depth + 1, &value, err) : status;
        if (status == HS_OK && json_object_set_new(object, json_string_value(key), value) != 0) {
            status = hs_error_nomem(err, "a map");
        }
        json_decref(key);
    }
    if (status != HS_OK) {
        json_decref(object);
        return status;
    }
    *ret = object;
    return HS_OK;
}

static hs_status read_nested(duckdb_logical_type type, duckdb_vector vector, idx_t row, int depth,
                             json_t **ret, struct hs_error *err)
{
    duckdb_list_entry entry;
    idx_t n;
    switch (duckdb_get_type_id(type)) {
    case DUCKDB_TYPE_LIST:
        entry = ((duckdb_list_entry *)duckdb_vector_get_data(vector))[row];
        return read_items(duckdb_list_vector_get_child(vector), entry.offset, entry.length, depth,
                          ret, err);
    case DUCKDB_TYPE_ARRAY:
        n = duckdb_array_type_array_size(type);
        return read_items(duckdb_array_vector_get_child(vector), row * n, n, depth, ret, err);
    case DUCKDB_TYPE_STRUCT:
        return read_struct(type, vector, row, depth, ret, err);
    case DUCKDB_TYPE_MAP:
        return read_map(vector, row, depth, ret, err);
    default:
        *ret = scalar(type, vector, row);
    }
    if (*ret == NULL) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "a value has a type that JSON has not");
        hs_error_hint(err, "cast it, say to VARCHAR");
        return HS_INVALID_ARGUMENT;
    }
    return HS_OK;
}

static hs_status to_json(duckdb_vector vector, idx_t row, int depth, json_t **ret,
                         struct hs_error *err)
{
    if (depth > HS_FN_DEPTH_MAX) {
        return hs_error_set(err, HS_LIMIT, "lists and structs lie more than %d deep",
                            HS_FN_DEPTH_MAX);
    }
    if (hs_fn_is_null(vector, row)) {
        *ret = json_null();
        return HS_OK;
    }
    duckdb_logical_type type = duckdb_vector_get_column_type(vector);
    hs_status status = depth == 0 && duckdb_get_type_id(type) == DUCKDB_TYPE_VARCHAR
                           ? read_text(vector, row, ret, err)
                           : read_nested(type, vector, row, depth, ret, err);
    duckdb_destroy_logical_type(&type);
    return status;
}

hs_status hs_fn_json(duckdb_vector vector, idx_t row, json_t **ret_json, struct hs_error *err)
{
    return to_json(vector, row, 0, ret_json, err);
}

/* ---- results ---- */

void hs_fn_set_null(duckdb_vector vector, idx_t row)
{
    duckdb_vector_ensure_validity_writable(vector);
    duckdb_validity_set_row_invalid(duckdb_vector_get_validity(vector), row);
}

hs_status hs_fn_set_list(duckdb_vector vector, idx_t row, size_t n, idx_t *ret_first,
                         struct hs_error *err)
{
    idx_t first = duckdb_list_vector_get_size(vector);
    if (duckdb_list_vector_reserve(vector, first + n) != DuckDBSuccess ||
        duckdb_list_vector_set_size(vector, first + n) != DuckDBSuccess) {
        return hs_error_nomem(err, "a list");
    }
    duckdb_list_entry *entries = duckdb_vector_get_data(vector);
    entries[row] = (duckdb_list_entry){.offset = first, .length = n};
    *ret_first = first;
    return HS_OK;
}
