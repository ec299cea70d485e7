#include "arrow_test.h"

#include <stdio.h>
#include <string.h>

#define OK(call) assert_int_equal(call, NANOARROW_OK)

static const struct {
    const char *name;
    enum ArrowType type;
} plain[] = {
    {"i8", NANOARROW_TYPE_INT8},      {"u64", NANOARROW_TYPE_UINT64},
    {"f64", NANOARROW_TYPE_DOUBLE},   {"flag", NANOARROW_TYPE_BOOL},
    {"text", NANOARROW_TYPE_STRING},  {"long", NANOARROW_TYPE_LARGE_STRING},
    {"bytes", NANOARROW_TYPE_BINARY}, {"nothing", NANOARROW_TYPE_NA},
    {"days", NANOARROW_TYPE_DATE32},  {"span", NANOARROW_TYPE_INTERVAL_MONTH_DAY_NANO},
    {"always", NANOARROW_TYPE_INT32},
};
enum { N_PLAIN = sizeof plain / sizeof *plain, N_COLUMNS = N_PLAIN + 6 };

void arrow_test_schema(struct ArrowSchema *schema)
{
    ArrowSchemaInit(schema);
    OK(ArrowSchemaSetTypeStruct(schema, N_COLUMNS));
    for (int i = 0; i < N_PLAIN; i++) {
        OK(ArrowSchemaSetType(schema->children[i], plain[i].type));
        OK(ArrowSchemaSetName(schema->children[i], plain[i].name));
    }
    struct ArrowSchema **more = schema->children + N_PLAIN;
    OK(ArrowSchemaSetType(more[0], NANOARROW_TYPE_LIST));
    OK(ArrowSchemaSetType(more[0]->children[0], NANOARROW_TYPE_STRING));
    OK(ArrowSchemaSetTypeStruct(more[1], 2));
    OK(ArrowSchemaSetType(more[1]->children[0], NANOARROW_TYPE_BOOL));
    OK(ArrowSchemaSetName(more[1]->children[0], "yes"));
    OK(ArrowSchemaSetType(more[1]->children[1], NANOARROW_TYPE_INT16));
    OK(ArrowSchemaSetName(more[1]->children[1], "number"));
    OK(ArrowSchemaSetTypeFixedSize(more[2], NANOARROW_TYPE_FIXED_SIZE_LIST, 3));
    OK(ArrowSchemaSetType(more[2]->children[0], NANOARROW_TYPE_FLOAT));
    OK(ArrowSchemaSetType(more[3], NANOARROW_TYPE_MAP));
    OK(ArrowSchemaSetType(more[3]->children[0]->children[0], NANOARROW_TYPE_STRING));
    more[3]->children[0]->children[0]->flags &= ~ARROW_FLAG_NULLABLE;
    OK(ArrowSchemaSetType(more[3]->children[0]->children[1], NANOARROW_TYPE_INT32));
    OK(ArrowSchemaSetTypeUnion(more[4], NANOARROW_TYPE_SPARSE_UNION, 2));
    OK(ArrowSchemaSetType(more[4]->children[0], NANOARROW_TYPE_INT32));
    OK(ArrowSchemaSetName(more[4]->children[0], "a"));
    OK(ArrowSchemaSetType(more[4]->children[1], NANOARROW_TYPE_STRING));
    OK(ArrowSchemaSetName(more[4]->children[1], "b"));
    OK(ArrowSchemaSetTypeDecimal(more[5], NANOARROW_TYPE_DECIMAL128, 38, 2));
    static const char *const names[] = {"list", "pair", "three", "map", "either", "money"};
    for (int i = 0; i < 6; i++) {
        OK(ArrowSchemaSetName(more[i], names[i]));
    }
}

static struct ArrowStringView text_of(int64_t row, char text[32])
{
    int n = snprintf(text, 32, "%.*s%lld\xc3\xa4", (int)(row % 7), "abcdefg", (long long)row);
    return (struct ArrowStringView){text, n};
}

static void add_plain(struct ArrowArray *column, enum ArrowType type, int64_t row)
{
    char text[32];
    struct ArrowStringView view = text_of(row, text);
    struct ArrowInterval span;
    switch (type) {
    case NANOARROW_TYPE_NA:
        OK(ArrowArrayAppendNull(column, 1));
        break;
    case NANOARROW_TYPE_STRING:
    case NANOARROW_TYPE_LARGE_STRING:
    case NANOARROW_TYPE_BINARY:
        OK(ArrowArrayAppendString(column, view));
        break;
    case NANOARROW_TYPE_DOUBLE:
        OK(ArrowArrayAppendDouble(column, (double)row / 3));
        break;
    case NANOARROW_TYPE_INTERVAL_MONTH_DAY_NANO:
        ArrowIntervalInit(&span, type);
        span.months = (int32_t)row;
        span.days = 3;
        span.ns = row * 1000;
        OK(ArrowArrayAppendInterval(column, &span));
        break;
    case NANOARROW_TYPE_BOOL:
        OK(ArrowArrayAppendInt(column, row % 3 == 0));
        break;
    default:
        OK(ArrowArrayAppendInt(column, row % 100));
        break;
    }
}

static void add_nested(struct ArrowArray **more, int64_t row)
{
    char text[32];
    struct ArrowStringView view = text_of(row, text);
    for (int64_t i = 0; i < row % 4; i++) {
        OK(i == 1 ? ArrowArrayAppendNull(more[0]->children[0], 1)
                  : ArrowArrayAppendString(more[0]->children[0], view));
    }
    OK(ArrowArrayFinishElement(more[0]));
    OK(ArrowArrayAppendInt(more[1]->children[0], row % 2));
    OK(row % 6 == 1 ? ArrowArrayAppendNull(more[1]->children[1], 1)
                    : ArrowArrayAppendInt(more[1]->children[1], row % 1000));
    OK(ArrowArrayFinishElement(more[1]));
    for (int i = 0; i < 3; i++) {
        OK(ArrowArrayAppendDouble(more[2]->children[0], (double)(row + i)));
    }
    OK(ArrowArrayFinishElement(more[2]));
    for (int64_t i = 0; i < row % 3; i++) {
        OK(ArrowArrayAppendString(more[3]->children[0]->children[0], view));
        OK(ArrowArrayAppendInt(more[3]->children[0]->children[1], i));
        OK(ArrowArrayFinishElement(more[3]->children[0]));
    }
    OK(ArrowArrayFinishElement(more[3]));
    int8_t which = (int8_t)(row % 2);
    OK(which ? ArrowArrayAppendString(more[4]->children[1], view)
             : ArrowArrayAppendInt(more[4]->children[0], row));
    OK(ArrowArrayFinishUnionElement(more[4], which));
    struct ArrowDecimal money;
    ArrowDecimalInit(&money, 128, 38, 2);
    ArrowDecimalSetInt(&money, row * 101);
    OK(ArrowArrayAppendDecimal(more[5], &money));
}

void arrow_test_array(const struct ArrowSchema *schema, int64_t first, int64_t n,
                      struct ArrowArray *array)
{
    OK(ArrowArrayInitFromSchema(array, schema, NULL));
    OK(ArrowArrayStartAppending(array));
    for (int64_t row = first; row < first + n; row++) {
        for (int i = 0; i < N_PLAIN; i++) {
            bool is_null = (row + i) % 5 == 0 && i != N_PLAIN - 1;
            if (is_null) {
                OK(ArrowArrayAppendNull(array->children[i], 1));
            } else {
                add_plain(array->children[i], plain[i].type, row);
            }
        }
        add_nested(array->children + N_PLAIN, row);
        OK(ArrowArrayFinishElement(array));
    }
    OK(ArrowArrayFinishBuildingDefault(array, NULL));
}

/* Bits behind a bitmap's last may be anything. */
static void clear_tail(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    int bitmaps = schema->format[0] == 'b' ? 2 : strncmp(schema->format, "+u", 2) == 0 ? 0 : 1;
    for (int i = 0; i < bitmaps && i < array->n_buffers; i++) {
        uint8_t *bits = (uint8_t *)(uintptr_t)array->buffers[i];
        for (int64_t bit = array->length; bits && bit % 8 != 0; bit++) {
            ArrowBitClear(bits, bit);
        }
    }
    for (int64_t i = 0; i < array->n_children; i++) {
        clear_tail(schema->children[i], array->children[i]);
    }
}

void arrow_test_equal(const struct ArrowSchema *schema, const struct ArrowArray *actual,
                      const struct ArrowArray *expected)
{
    struct ArrowArrayView a, b;
    struct ArrowError why = {{0}};
    int is_equal = 0;
    clear_tail(schema, actual);
    clear_tail(schema, expected);
    OK(ArrowArrayViewInitFromSchema(&a, schema, NULL));
    OK(ArrowArrayViewInitFromSchema(&b, schema, NULL));
    OK(ArrowArrayViewSetArray(&a, actual, NULL));
    OK(ArrowArrayViewSetArray(&b, expected, NULL));
    OK(ArrowArrayViewCompare(&a, &b, NANOARROW_COMPARE_IDENTICAL, &is_equal, &why));
    if (!is_equal) {
        fail_msg("%s", why.message);
    }
    ArrowArrayViewReset(&a);
    ArrowArrayViewReset(&b);
}

/* ---- Flight's message ---- */

static uint64_t number(const struct flight_data *data, size_t *at)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(*at < data->whole.len);
        uint8_t byte = (uint8_t)data->whole.data[(*at)++];
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            return value;
        }
    }
}

void flight_data_take(struct hs_grpc_message *message, struct flight_data *ret_data)
{
    *ret_data = (struct flight_data){.whole = HS_BUF_INIT(1 << 30)};
    for (size_t i = 0; i < message->n_parts; i++) {
        assert_int_equal(
            hs_buf_append(&ret_data->whole, message->parts[i].data, message->parts[i].size), HS_OK);
    }
    message->release(message->user);
    for (size_t at = 0; at < ret_data->whole.len;) {
        uint64_t tag = number(ret_data, &at);
        size_t size = (size_t)number(ret_data, &at);
        const uint8_t *bytes = (const uint8_t *)ret_data->whole.data + at;
        at += size;
        assert_true(at <= ret_data->whole.len);
        if (tag == (2 << 3 | 2)) {
            ret_data->header = bytes;
            ret_data->header_len = size;
        } else {
            assert_int_equal(tag, 1000 << 3 | 2);
            ret_data->body = bytes;
            ret_data->body_len = size;
            ret_data->has_body = true;
        }
    }
}
