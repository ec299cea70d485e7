/* What is sent, read again by nanoarrow's decoder (through ipc_read.h). */
#include "ipc_write.h"

#include <string.h>

#include "arrow_test.h"
#include "base/mem.h"
#include "ipc_read.h"

static struct ArrowSchema schema;

static int setup(void **state)
{
    (void)state;
    arrow_test_schema(&schema);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    schema.release(&schema);
    return 0;
}

static void add(hs_ipc_writer *writer, int64_t first, int64_t n)
{
    struct ArrowArray array;
    arrow_test_array(&schema, first, n, &array);
    assert_int_equal(hs_ipc_writer_add(writer, &array, NULL), HS_OK);
}

static hs_ipc_reader *reader_with_schema(void)
{
    hs_ipc_reader *reader;
    struct hs_grpc_message message;
    struct flight_data data;
    struct ArrowArray array;
    assert_int_equal(hs_ipc_reader_new(&reader, NULL), HS_OK);
    assert_int_equal(hs_ipc_schema_message(&schema, &message, NULL), HS_OK);
    flight_data_take(&message, &data);
    assert_false(data.has_body);
    assert_int_equal(
        hs_ipc_reader_read(reader, data.header, data.header_len, NULL, 0, &array, NULL), HS_OK);
    assert_null(array.release);
    hs_buf_free(&data.whole);
    return reader;
}

/* Take one batch and compare it with the rows from `first`; returns how many it has. */
static int64_t check_batch(hs_ipc_writer *writer, hs_ipc_reader *reader, int64_t first)
{
    struct hs_grpc_message message;
    struct flight_data data;
    struct ArrowArray array, expected;
    struct hs_error err;
    assert_int_equal(hs_ipc_writer_take(writer, &message, NULL), HS_OK);
    flight_data_take(&message, &data);
    assert_true(data.has_body);
    if (hs_ipc_reader_read(reader, data.header, data.header_len, data.body, data.body_len, &array,
                           &err)) {
        fail_msg("%s", err.message);
    }
    assert_true(array.length == 1 || data.body_len <= HS_IPC_BODY_MAX);
    int64_t n = array.length;
    arrow_test_array(&schema, first, n, &expected);
    arrow_test_equal(&schema, &array, &expected);
    array.release(&array);
    expected.release(&expected);
    hs_buf_free(&data.whole);
    return n;
}

static void test_joins(void **state)
{
    (void)state;
    /* lengths that are and are not multiples of 8, one alone, an empty one between */
    static const int64_t lengths[][4] = {
        {1, 0, 0, 0}, {64, 64, 0, 8}, {64, 3, 64, 1}, {5, 0, 2, 9}, {2048, 2048, 2048, 100}};
    hs_ipc_reader *reader = reader_with_schema();
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        hs_ipc_writer *writer;
        assert_int_equal(hs_ipc_writer_new(&schema, &writer, NULL), HS_OK);
        int64_t n = 0;
        for (int k = 0; k < 4; k++) {
            add(writer, n, lengths[i][k]);
            n += lengths[i][k];
        }
        assert_int_equal(hs_ipc_writer_n_rows(writer), n);
        assert_int_equal(check_batch(writer, reader, 0), n);
        assert_int_equal(hs_ipc_writer_n_rows(writer), 0);
        hs_ipc_writer_free(writer);
    }
    hs_ipc_reader_free(reader);
}

static void test_cuts(void **state)
{
    (void)state;
    hs_ipc_reader *reader = reader_with_schema();
    hs_ipc_writer *writer;
    assert_int_equal(hs_ipc_writer_new(&schema, &writer, NULL), HS_OK);
    add(writer, 0, 5);
    add(writer, 5, 30001);
    assert_true(hs_ipc_writer_is_full(writer));
    int64_t n = 0, n_batches = 0;
    for (; hs_ipc_writer_n_rows(writer) > 0; n_batches++) {
        n += check_batch(writer, reader, n);
    }
    assert_int_equal(n, 30006);
    assert_true(n_batches > 1);
    hs_ipc_writer_free(writer);
    hs_ipc_reader_free(reader);
}

static void add_numbers(hs_ipc_writer *writer, struct ArrowSchema *numbers, int64_t n)
{
    struct ArrowArray array;
    assert_int_equal(ArrowArrayInitFromSchema(&array, numbers, NULL), NANOARROW_OK);
    assert_int_equal(ArrowArrayStartAppending(&array), NANOARROW_OK);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(ArrowArrayAppendInt(array.children[0], i), NANOARROW_OK);
        assert_int_equal(ArrowArrayFinishElement(&array), NANOARROW_OK);
    }
    assert_int_equal(ArrowArrayFinishBuildingDefault(&array, NULL), NANOARROW_OK);
    assert_int_equal(hs_ipc_writer_add(writer, &array, NULL), HS_OK);
}

static void test_is_full(void **state)
{
    (void)state;
    int64_t n_full = HS_IPC_BODY_FULL / 8;
    struct ArrowSchema numbers;
    hs_ipc_writer *writer;
    struct hs_grpc_message message;
    ArrowSchemaInit(&numbers);
    assert_int_equal(ArrowSchemaSetTypeStruct(&numbers, 1), NANOARROW_OK);
    assert_int_equal(ArrowSchemaSetType(numbers.children[0], NANOARROW_TYPE_INT64), NANOARROW_OK);
    assert_int_equal(hs_ipc_writer_new(&numbers, &writer, NULL), HS_OK);
    add_numbers(writer, &numbers, n_full - 1);
    assert_false(hs_ipc_writer_is_full(writer));
    add_numbers(writer, &numbers, 1);
    assert_true(hs_ipc_writer_is_full(writer));
    assert_int_equal(hs_ipc_writer_take(writer, &message, NULL), HS_OK);
    assert_int_equal(hs_ipc_writer_n_rows(writer), 0);
    assert_false(hs_ipc_writer_is_full(writer));
    message.release(message.user);
    hs_ipc_writer_free(writer);
    numbers.release(&numbers);
}

/* One row of more than a batch has room for leaves alone; the small ones around it do not. */
static void test_large_row(void **state)
{
    (void)state;
    struct ArrowSchema texts;
    struct ArrowArray array;
    ArrowSchemaInit(&texts);
    assert_int_equal(ArrowSchemaSetTypeStruct(&texts, 1), NANOARROW_OK);
    assert_int_equal(ArrowSchemaSetType(texts.children[0], NANOARROW_TYPE_STRING), NANOARROW_OK);
    assert_int_equal(ArrowArrayInitFromSchema(&array, &texts, NULL), NANOARROW_OK);
    assert_int_equal(ArrowArrayStartAppending(&array), NANOARROW_OK);
    char *large = hs_alloc(HS_IPC_BODY_MAX + 1);
    memset(large, 'x', HS_IPC_BODY_MAX + 1);
    for (int i = 0; i < 100; i++) {
        struct ArrowStringView text = {large, i == 50 ? HS_IPC_BODY_MAX + 1 : 10};
        assert_int_equal(ArrowArrayAppendString(array.children[0], text), NANOARROW_OK);
        assert_int_equal(ArrowArrayFinishElement(&array), NANOARROW_OK);
    }
    assert_int_equal(ArrowArrayFinishBuildingDefault(&array, NULL), NANOARROW_OK);
    hs_free(large);
    hs_ipc_writer *writer;
    assert_int_equal(hs_ipc_writer_new(&texts, &writer, NULL), HS_OK);
    assert_int_equal(hs_ipc_writer_add(writer, &array, NULL), HS_OK);
    int n_large = 0, n_rows = 0;
    while (hs_ipc_writer_n_rows(writer) > 0) {
        struct hs_grpc_message message;
        size_t size = 0;
        int before = (int)hs_ipc_writer_n_rows(writer);
        assert_int_equal(hs_ipc_writer_take(writer, &message, NULL), HS_OK);
        for (size_t i = 1; i < message.n_parts; i++) {
            size += message.parts[i].size;
        }
        message.release(message.user);
        int n = before - (int)hs_ipc_writer_n_rows(writer);
        n_large += size > HS_IPC_BODY_MAX;
        assert_true(size <= HS_IPC_BODY_MAX || n == 1);
        n_rows += n;
    }
    assert_int_equal(n_large, 1);
    assert_int_equal(n_rows, 100);
    hs_ipc_writer_free(writer);
    texts.release(&texts);
}

static void test_bodies_are_not_copied(void **state)
{
    (void)state;
    struct ArrowArray array;
    hs_ipc_writer *writer;
    struct hs_grpc_message message;
    arrow_test_array(&schema, 0, 1000, &array);
    const void *numbers = array.children[1]->buffers[1], *bytes = array.children[4]->buffers[2];
    int n_found = 0;
    assert_int_equal(hs_ipc_writer_new(&schema, &writer, NULL), HS_OK);
    assert_int_equal(hs_ipc_writer_add(writer, &array, NULL), HS_OK);
    assert_int_equal(hs_ipc_writer_take(writer, &message, NULL), HS_OK);
    hs_ipc_writer_free(writer); /* the message lives on */
    for (size_t i = 0; i < message.n_parts; i++) {
        n_found += message.parts[i].data == numbers || message.parts[i].data == bytes;
    }
    assert_int_equal(n_found, 2);
    message.release(message.user);
}

static void test_refuses_dictionaries_and_views(void **state)
{
    (void)state;
    struct ArrowSchema views;
    struct ArrowArray array;
    hs_ipc_writer *writer;
    struct hs_grpc_message message;
    struct hs_error err;
    ArrowSchemaInit(&views);
    assert_int_equal(ArrowSchemaSetTypeStruct(&views, 1), NANOARROW_OK);
    assert_int_equal(ArrowSchemaSetType(views.children[0], NANOARROW_TYPE_STRING_VIEW), 0);
    assert_int_equal(ArrowArrayInitFromSchema(&array, &views, NULL), NANOARROW_OK);
    assert_int_equal(ArrowArrayStartAppending(&array), NANOARROW_OK);
    assert_int_equal(ArrowArrayAppendString(array.children[0], ArrowCharView("x")), 0);
    assert_int_equal(ArrowArrayFinishElement(&array), NANOARROW_OK);
    assert_int_equal(ArrowArrayFinishBuildingDefault(&array, NULL), NANOARROW_OK);
    assert_int_equal(hs_ipc_writer_new(&views, &writer, NULL), HS_OK);
    assert_int_equal(hs_ipc_writer_add(writer, &array, NULL), HS_OK);
    assert_int_equal(hs_ipc_writer_take(writer, &message, &err), HS_NOT_SUPPORTED);
    assert_non_null(strstr(err.message, "views"));
    hs_ipc_writer_free(writer);
    views.release(&views);
}

static void test_foreign_array(void **state)
{
    (void)state;
    struct ArrowSchema other;
    struct ArrowArray array;
    hs_ipc_writer *writer;
    ArrowSchemaInit(&other);
    assert_int_equal(ArrowSchemaSetTypeStruct(&other, 2), NANOARROW_OK);
    assert_int_equal(ArrowSchemaSetType(other.children[0], NANOARROW_TYPE_BOOL), 0);
    assert_int_equal(ArrowSchemaSetType(other.children[1], NANOARROW_TYPE_BOOL), 0);
    arrow_test_array(&schema, 0, 3, &array);
    assert_int_equal(hs_ipc_writer_new(&other, &writer, NULL), HS_OK);
    assert_int_equal(hs_ipc_writer_add(writer, &array, NULL), HS_INTERNAL);
    hs_ipc_writer_free(writer);
    other.release(&other);
}

static void test_memory_fails(void **state)
{
    (void)state;
    bool is_done = false;
    for (uint64_t n = 1; !is_done; n++) {
        hs_ipc_writer *writer = NULL;
        struct ArrowArray one, two;
        struct hs_grpc_message message;
        arrow_test_array(&schema, 0, 9, &one);
        arrow_test_array(&schema, 9, 9, &two);
        hs_mem_fail_after(n);
        hs_status status = hs_ipc_writer_new(&schema, &writer, NULL);
        if (status) {
            one.release(&one);
            two.release(&two);
        } else {
            status = hs_ipc_writer_add(writer, &one, NULL);
            hs_status second = hs_ipc_writer_add(writer, &two, NULL);
            status = status ? status : second;
        }
        status = status ? status : hs_ipc_writer_take(writer, &message, NULL);
        hs_mem_fail_after(0);
        is_done = status == HS_OK;
        if (is_done) {
            message.release(message.user);
        } else {
            assert_int_equal(status, HS_OUT_OF_MEMORY);
        }
        hs_ipc_writer_free(writer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joins),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_is_full),
        cmocka_unit_test(test_large_row),
        cmocka_unit_test(test_bodies_are_not_copied),
        cmocka_unit_test(test_refuses_dictionaries_and_views),
        cmocka_unit_test(test_foreign_array),
        cmocka_unit_test(test_memory_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
