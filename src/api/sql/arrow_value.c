#include <nanoarrow/nanoarrow.h>
#include <string.h>

#include "api/sql_text.h"
#include "base/error.h"
#include "base/mem.h"
#include "statement.h"

/* Values in values, as deep as anybody writes them. */
#define DEPTH_MAX 32

#define DAY_MS INT64_C(86400000)

static hs_status make(const struct ArrowSchemaView *type, const struct ArrowArrayView *view,
                      int64_t row, int depth, duckdb_value *ret_value, struct hs_error *err);

static hs_status refuse(const struct ArrowSchemaView *type, struct hs_error *err)
{
    return hs_error_set(err, HS_NOT_SUPPORTED, "a value of Arrow's type %s cannot be bound",
                        ArrowTypeString(type->type));
}

/* ---- numbers ---- */

static duckdb_value make_integer(const struct ArrowSchemaView *type,
                                 const struct ArrowArrayView *view, int64_t row)
{
    int64_t number = ArrowArrayViewGetIntUnsafe(view, row);
    switch (type->type) {
    case NANOARROW_TYPE_BOOL:
        return duckdb_create_bool(number != 0);
    case NANOARROW_TYPE_INT8:
        return duckdb_create_int8((int8_t)number);
    case NANOARROW_TYPE_INT16:
        return duckdb_create_int16((int16_t)number);
    case NANOARROW_TYPE_INT32:
        return duckdb_create_int32((int32_t)number);
    case NANOARROW_TYPE_INT64:
        return duckdb_create_int64(number);
    case NANOARROW_TYPE_UINT8:
        return duckdb_create_uint8((uint8_t)number);
    case NANOARROW_TYPE_UINT16:
        return duckdb_create_uint16((uint16_t)number);
    case NANOARROW_TYPE_UINT32:
        return duckdb_create_uint32((uint32_t)number);
    default:
        return duckdb_create_uint64(ArrowArrayViewGetUIntUnsafe(view, row));
    }
}

static hs_status make_decimal(const struct ArrowSchemaView *type, const struct ArrowArrayView *view,
                              int64_t row, duckdb_value *ret_value, struct hs_error *err)
{
    struct ArrowDecimal number;
    ArrowDecimalInit(&number, type->decimal_bitwidth, type->decimal_precision, type->decimal_scale);
    ArrowArrayViewGetDecimalUnsafe(view, row, &number);
    if (number.n_words > 2 || type->decimal_precision > 38 || type->decimal_scale < 0) {
        return hs_error_set(err, HS_NOT_SUPPORTED,
                            "a decimal has at most 38 digits and no negative scale; this one's are "
                            "%d and %d",
                            (int)type->decimal_precision, (int)type->decimal_scale);
    }
    duckdb_decimal value = {.width = (uint8_t)type->decimal_precision,
                            .scale = (uint8_t)type->decimal_scale};
    if (number.n_words == 2) {
        value.value.lower = number.words[number.low_word_index];
        value.value.upper = (int64_t)number.words[number.high_word_index];
    } else {
        int64_t word = type->decimal_bitwidth == 32 ? (int32_t)(uint32_t)number.words[0]
                                                    : (int64_t)number.words[0];
        value.value.lower = (uint64_t)word;
        value.value.upper = word < 0 ? -1 : 0;
    }
    *ret_value = duckdb_create_decimal(value);
    return HS_OK;
}

/* ---- times ---- */

static duckdb_value make_timestamp(const struct ArrowSchemaView *type, int64_t number)
{
    bool has_zone = type->timezone != NULL && *type->timezone != '\0';
    switch (type->time_unit) {
    case NANOARROW_TIME_UNIT_SECOND:
        return has_zone ? duckdb_create_timestamp_tz((duckdb_timestamp){number * 1000000})
                        : duckdb_create_timestamp_s((duckdb_timestamp_s){number});
    case NANOARROW_TIME_UNIT_MILLI:
        return has_zone ? duckdb_create_timestamp_tz((duckdb_timestamp){number * 1000})
                        : duckdb_create_timestamp_ms((duckdb_timestamp_ms){number});
    case NANOARROW_TIME_UNIT_MICRO:
        return has_zone ? duckdb_create_timestamp_tz((duckdb_timestamp){number})
                        : duckdb_create_timestamp((duckdb_timestamp){number});
    default:
        return has_zone ? duckdb_create_timestamp_tz((duckdb_timestamp){number / 1000})
                        : duckdb_create_timestamp_ns((duckdb_timestamp_ns){number});
    }
}

/* How many microseconds a unit has; 0: it is a nanosecond. */
static int64_t micros_of(enum ArrowTimeUnit unit)
{
    switch (unit) {
    case NANOARROW_TIME_UNIT_SECOND:
        return 1000000;
    case NANOARROW_TIME_UNIT_MILLI:
        return 1000;
    case NANOARROW_TIME_UNIT_MICRO:
        return 1;
    default:
        return 0;
    }
}

static duckdb_value make_time(const struct ArrowSchemaView *type, const struct ArrowArrayView *view,
                              int64_t row)
{
    int64_t number = ArrowArrayViewGetIntUnsafe(view, row);
    int64_t micros = micros_of(type->time_unit);
    switch (type->type) {
    case NANOARROW_TYPE_DATE32:
        return duckdb_create_date((duckdb_date){(int32_t)number});
    case NANOARROW_TYPE_DATE64:
        return duckdb_create_date((duckdb_date){(int32_t)(number / DAY_MS)});
    case NANOARROW_TYPE_TIMESTAMP:
        return make_timestamp(type, number);
    case NANOARROW_TYPE_DURATION:
        return duckdb_create_interval(
            (duckdb_interval){0, 0, micros > 0 ? number * micros : number / 1000});
    default:
        return micros > 0 ? duckdb_create_time((duckdb_time){number * micros})
                          : duckdb_create_time_ns((duckdb_time_ns){number});
    }
}

static duckdb_value make_interval(const struct ArrowSchemaView *type,
                                  const struct ArrowArrayView *view, int64_t row)
{
    struct ArrowInterval interval;
    ArrowIntervalInit(&interval, type->type);
    ArrowArrayViewGetIntervalUnsafe(view, row, &interval);
    return duckdb_create_interval((duckdb_interval){
        interval.months, interval.days, (int64_t)interval.ms * 1000 + interval.ns / 1000});
}

/* ---- values in values ---- */

static void free_values(duckdb_value *values, size_t n)
{
    for (size_t i = 0; values != NULL && i < n; i++) {
        duckdb_destroy_value(&values[i]);
    }
    hs_free(values);
}

/* Values first..first + n - 1 of a child, for free_values. */
static hs_status make_many(const struct ArrowSchema *schema, const struct ArrowArrayView *view,
                           int64_t first, size_t n, int depth, duckdb_value **ret_values,
                           struct hs_error *err)
{
    struct ArrowSchemaView type;
    if (ArrowSchemaViewInit(&type, schema, NULL) != NANOARROW_OK) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a type inside of a value is malformed");
    }
    duckdb_value *values = hs_calloc(n + 1, sizeof *values);
    hs_status status = values != NULL ? HS_OK : hs_error_nomem(err, "values");
    for (size_t i = 0; i < n && !status; i++) {
        status = make(&type, view, first + (int64_t)i, depth, &values[i], err);
    }
    if (status) {
        free_values(values, n);
        return status;
    }
    *ret_values = values;
    return HS_OK;
}

/* The type of the first value that is not NULL; borrowed from it, or `none`. */
static duckdb_logical_type type_of(const duckdb_value *values, size_t n, duckdb_logical_type none)
{
    for (size_t i = 0; i < n; i++) {
        if (!duckdb_is_null_value(values[i])) {
            return duckdb_get_value_type(values[i]);
        }
    }
    return none;
}

static hs_status make_list(const struct ArrowSchemaView *type, const struct ArrowArrayView *view,
                           int64_t row, int depth, duckdb_value *ret_value, struct hs_error *err)
{
    int64_t first, end;
    if (type->type == NANOARROW_TYPE_FIXED_SIZE_LIST) {
        first = (row + view->offset) * type->fixed_size;
        end = first + type->fixed_size;
    } else {
        first = ArrowArrayViewListChildOffset(view, row + view->offset);
        end = ArrowArrayViewListChildOffset(view, row + view->offset + 1);
    }
    size_t n = (size_t)(end - first);
    duckdb_value *values;
    hs_status status =
        make_many(type->schema->children[0], view->children[0], first, n, depth, &values, err);
    if (!status) {
        duckdb_logical_type none = duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL);
        *ret_value = duckdb_create_list_value(type_of(values, n, none), values, n);
        duckdb_destroy_logical_type(&none);
        free_values(values, n);
    }
    return status;
}

static hs_status make_struct(const struct ArrowSchemaView *type, const struct ArrowArrayView *view,
                             int64_t row, int depth, duckdb_value *ret_value, struct hs_error *err)
{
    size_t n = (size_t)view->n_children;
    duckdb_value *values = hs_calloc(n + 1, sizeof *values);
    duckdb_logical_type *types = hs_calloc(n + 1, sizeof *types);
    const char **names = hs_calloc(n + 1, sizeof *names);
    hs_status status =
        values != NULL && types != NULL && names != NULL ? HS_OK : hs_error_nomem(err, "values");
    duckdb_logical_type none = duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL);
    for (size_t i = 0; i < n && !status; i++) {
        const struct ArrowSchema *field = type->schema->children[i];
        struct ArrowSchemaView child;
        status = ArrowSchemaViewInit(&child, field, NULL) == NANOARROW_OK
                     ? make(&child, view->children[i], row + view->offset, depth, &values[i], err)
                     : hs_error_set(err, HS_INVALID_ARGUMENT, "a field's type is malformed");
        names[i] = field->name != NULL ? field->name : "";
        types[i] = status ? none : type_of(&values[i], 1, none);
    }
    if (!status) {
        duckdb_logical_type whole = duckdb_create_struct_type(types, names, n);
        *ret_value = duckdb_create_struct_value(whole, values);
        duckdb_destroy_logical_type(&whole);
    }
    duckdb_destroy_logical_type(&none);
    free_values(values, n);
    hs_free(types);
    hs_free(names);
    return status;
}

static hs_status make_map(const struct ArrowSchemaView *type, const struct ArrowArrayView *view,
                          int64_t row, int depth, duckdb_value *ret_value, struct hs_error *err)
{
    const struct ArrowSchema *entry = type->schema->children[0];
    const struct ArrowArrayView *entries = view->children[0];
    int64_t first = ArrowArrayViewListChildOffset(view, row + view->offset);
    size_t n = (size_t)(ArrowArrayViewListChildOffset(view, row + view->offset + 1) - first);
    first += entries->offset;
    duckdb_value *keys = NULL, *values = NULL;
    hs_status status =
        make_many(entry->children[0], entries->children[0], first, n, depth, &keys, err);
    status =
        status ? status
               : make_many(entry->children[1], entries->children[1], first, n, depth, &values, err);
    if (!status) {
        duckdb_logical_type none = duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL);
        duckdb_logical_type whole =
            duckdb_create_map_type(type_of(keys, n, none), type_of(values, n, none));
        *ret_value = duckdb_create_map_value(whole, keys, values, n);
        duckdb_destroy_logical_type(&whole);
        duckdb_destroy_logical_type(&none);
    }
    free_values(keys, keys != NULL ? n : 0);
    free_values(values, values != NULL ? n : 0);
    return status;
}

/* ---- any ---- */

static hs_status make_other(const struct ArrowSchemaView *type, const struct ArrowArrayView *view,
                            int64_t row, duckdb_value *ret_value, struct hs_error *err)
{
    switch (type->type) {
    case NANOARROW_TYPE_STRING:
    case NANOARROW_TYPE_LARGE_STRING:
    case NANOARROW_TYPE_STRING_VIEW: {
        struct ArrowStringView text = ArrowArrayViewGetStringUnsafe(view, row);
        *ret_value = duckdb_create_varchar_length(text.data, (idx_t)text.size_bytes);
        return *ret_value != NULL ? HS_OK
                                  : hs_error_set(err, HS_INVALID_ARGUMENT, "a text is not UTF-8");
    }
    case NANOARROW_TYPE_BINARY:
    case NANOARROW_TYPE_LARGE_BINARY:
    case NANOARROW_TYPE_BINARY_VIEW:
    case NANOARROW_TYPE_FIXED_SIZE_BINARY: {
        struct ArrowBufferView bytes = ArrowArrayViewGetBytesUnsafe(view, row);
        *ret_value = duckdb_create_blob(bytes.data.as_uint8, (idx_t)bytes.size_bytes);
        return HS_OK;
    }
    case NANOARROW_TYPE_DECIMAL32:
    case NANOARROW_TYPE_DECIMAL64:
    case NANOARROW_TYPE_DECIMAL128:
    case NANOARROW_TYPE_DECIMAL256:
        return make_decimal(type, view, row, ret_value, err);
    case NANOARROW_TYPE_INTERVAL_MONTHS:
    case NANOARROW_TYPE_INTERVAL_DAY_TIME:
    case NANOARROW_TYPE_INTERVAL_MONTH_DAY_NANO:
        *ret_value = make_interval(type, view, row);
        return HS_OK;
    default:
        return refuse(type, err);
    }
}

static hs_status make_dictionary(const struct ArrowSchemaView *type,
                                 const struct ArrowArrayView *view, int64_t row, int depth,
                                 duckdb_value *ret_value, struct hs_error *err)
{
    struct ArrowSchemaView values;
    int64_t at = ArrowArrayViewGetIntUnsafe(view, row);
    if (ArrowSchemaViewInit(&values, type->schema->dictionary, NULL) != NANOARROW_OK || at < 0 ||
        at >= view->dictionary->length) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a dictionary is malformed");
    }
    return make(&values, view->dictionary, at, depth, ret_value, err);
}

/* row counts from the view's own offset, as nanoarrow's functions do. */
static hs_status make(const struct ArrowSchemaView *type, const struct ArrowArrayView *view,
                      int64_t row, int depth, duckdb_value *ret_value, struct hs_error *err)
{
    if (depth >= DEPTH_MAX) {
        return hs_error_set(err, HS_LIMIT, "values may lie in values %d deep", DEPTH_MAX);
    }
    if (type->type == NANOARROW_TYPE_NA || ArrowArrayViewIsNull(view, row)) {
        *ret_value = duckdb_create_null_value();
        return HS_OK;
    }
    switch (type->type) {
    case NANOARROW_TYPE_BOOL:
    case NANOARROW_TYPE_INT8:
    case NANOARROW_TYPE_INT16:
    case NANOARROW_TYPE_INT32:
    case NANOARROW_TYPE_INT64:
    case NANOARROW_TYPE_UINT8:
    case NANOARROW_TYPE_UINT16:
    case NANOARROW_TYPE_UINT32:
    case NANOARROW_TYPE_UINT64:
        *ret_value = make_integer(type, view, row);
        return HS_OK;
    case NANOARROW_TYPE_HALF_FLOAT:
    case NANOARROW_TYPE_FLOAT:
        *ret_value = duckdb_create_float((float)ArrowArrayViewGetDoubleUnsafe(view, row));
        return HS_OK;
    case NANOARROW_TYPE_DOUBLE:
        *ret_value = duckdb_create_double(ArrowArrayViewGetDoubleUnsafe(view, row));
        return HS_OK;
    case NANOARROW_TYPE_DATE32:
    case NANOARROW_TYPE_DATE64:
    case NANOARROW_TYPE_TIME32:
    case NANOARROW_TYPE_TIME64:
    case NANOARROW_TYPE_TIMESTAMP:
    case NANOARROW_TYPE_DURATION:
        *ret_value = make_time(type, view, row);
        return HS_OK;
    case NANOARROW_TYPE_LIST:
    case NANOARROW_TYPE_LARGE_LIST:
    case NANOARROW_TYPE_FIXED_SIZE_LIST:
        return make_list(type, view, row, depth + 1, ret_value, err);
    case NANOARROW_TYPE_STRUCT:
        return make_struct(type, view, row, depth + 1, ret_value, err);
    case NANOARROW_TYPE_MAP:
        return make_map(type, view, row, depth + 1, ret_value, err);
    case NANOARROW_TYPE_DICTIONARY:
        return make_dictionary(type, view, row, depth + 1, ret_value, err);
    default:
        return make_other(type, view, row, ret_value, err);
    }
}

hs_status hs_sql_value_new(const struct ArrowSchema *schema, const struct ArrowArray *array,
                           int64_t row, duckdb_value *ret_value, struct hs_error *err)
{
    struct ArrowSchemaView type;
    struct ArrowArrayView view;
    struct ArrowError why = {""};
    *ret_value = NULL;
    if (ArrowSchemaViewInit(&type, schema, &why) != NANOARROW_OK ||
        ArrowArrayViewInitFromSchema(&view, schema, &why) != NANOARROW_OK) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a type is malformed: %s", why.message);
    }
    hs_status status = HS_OK;
    if (ArrowArrayViewSetArray(&view, array, &why) != NANOARROW_OK || row >= array->length) {
        status =
            hs_error_set(err, HS_INVALID_ARGUMENT, "the values are malformed: %s", why.message);
    } else {
        status = make(&type, &view, row, 0, ret_value, err);
    }
    ArrowArrayViewReset(&view);
    return status || *ret_value != NULL ? status : hs_error_nomem(err, "value");
}

hs_status hs_sql_cell_text(const struct ArrowSchema *schema, const struct ArrowArray *array,
                           int64_t row, char **ret_text, struct hs_error *err)
{
    duckdb_value value;
    hs_status status = hs_sql_value_new(schema, array, row, &value, err);
    if (status) {
        return status;
    }
    *ret_text = NULL;
    if (!duckdb_is_null_value(value)) {
        char *text = duckdb_get_varchar(value);
        *ret_text = hs_strdup(text);
        duckdb_free(text);
        status = *ret_text != NULL ? HS_OK : hs_error_nomem(err, "text of a cell");
    }
    duckdb_destroy_value(&value);
    return status;
}
