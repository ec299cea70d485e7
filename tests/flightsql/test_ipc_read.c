/* What clients may send: written by nanoarrow's own encoder, whole and damaged. */
#include "ipc_read.h"

#include <nanoarrow/nanoarrow_ipc.h>
#include <string.h>

#include "arrow_test.h"
#include "base/mem.h"
#include "ipc_check.h"

struct upload {
    struct ArrowBuffer schema, header, body;
};

static void encode(const struct ArrowSchema *schema, const struct ArrowArray *array,
                   struct upload *ret_upload)
{
    struct ArrowIpcEncoder encoder;
    struct ArrowArrayView view;
    ArrowBufferInit(&ret_upload->schema);
    ArrowBufferInit(&ret_upload->header);
    ArrowBufferInit(&ret_upload->body);
    assert_int_equal(ArrowIpcEncoderInit(&encoder), NANOARROW_OK);
    assert_int_equal(ArrowIpcEncoderEncodeSchema(&encoder, schema, NULL), NANOARROW_OK);
    assert_int_equal(ArrowIpcEncoderFinalizeBuffer(&encoder, false, &ret_upload->schema), 0);
    assert_int_equal(ArrowArrayViewInitFromSchema(&view, schema, NULL), NANOARROW_OK);
    assert_int_equal(ArrowArrayViewSetArray(&view, array, NULL), NANOARROW_OK);
    assert_int_equal(
        ArrowIpcEncoderEncodeSimpleRecordBatch(&encoder, &view, &ret_upload->body, NULL), 0);
    assert_int_equal(ArrowIpcEncoderFinalizeBuffer(&encoder, false, &ret_upload->header), 0);
    ArrowArrayViewReset(&view);
    ArrowIpcEncoderReset(&encoder);
}

static void upload_free(struct upload *upload)
{
    ArrowBufferReset(&upload->schema);
    ArrowBufferReset(&upload->header);
    ArrowBufferReset(&upload->body);
}

static hs_status read_schema(hs_ipc_reader *reader, const struct upload *upload)
{
    struct ArrowArray array;
    return hs_ipc_reader_read(reader, upload->schema.data, (size_t)upload->schema.size_bytes, NULL,
                              0, &array, NULL);
}

static hs_status read_batch(hs_ipc_reader *reader, const struct upload *upload,
                            struct ArrowArray *array)
{
    return hs_ipc_reader_read(reader, upload->header.data, (size_t)upload->header.size_bytes,
                              upload->body.data, (size_t)upload->body.size_bytes, array, NULL);
}

static void test_reads(void **state)
{
    (void)state;
    struct ArrowSchema schema;
    struct ArrowArray array, found;
    struct upload upload;
    hs_ipc_reader *reader;
    arrow_test_schema(&schema);
    arrow_test_array(&schema, 3, 77, &array);
    encode(&schema, &array, &upload);
    assert_int_equal(hs_ipc_reader_new(&reader, NULL), HS_OK);
    assert_null(hs_ipc_reader_schema(reader));
    assert_int_equal(read_batch(reader, &upload, &found), HS_INVALID_ARGUMENT); /* too early */
    assert_int_equal(read_schema(reader, &upload), HS_OK);
    assert_string_equal(hs_ipc_reader_schema(reader)->children[4]->name, "text");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(read_batch(reader, &upload, &found), HS_OK);
        arrow_test_equal(&schema, &found, &array);
        found.release(&found);
    }
    assert_int_equal(read_schema(reader, &upload), HS_INVALID_ARGUMENT); /* a second one */
    hs_ipc_reader_free(reader);
    upload_free(&upload);
    array.release(&array);
    schema.release(&schema);
}

static void test_damage(void **state)
{
    (void)state;
    struct ArrowSchema schema;
    struct ArrowArray array, found;
    struct upload upload;
    arrow_test_schema(&schema);
    arrow_test_array(&schema, 0, 9, &array);
    encode(&schema, &array, &upload);
    for (int64_t i = 0; i < upload.schema.size_bytes + upload.header.size_bytes; i++) {
        bool is_schema = i < upload.schema.size_bytes;
        uint8_t *byte =
            is_schema ? &upload.schema.data[i] : &upload.header.data[i - upload.schema.size_bytes];
        for (int bit = 0; bit < 8; bit += 3) { /* any answer, but no crash */
            hs_ipc_reader *reader;
            assert_int_equal(hs_ipc_reader_new(&reader, NULL), HS_OK);
            *byte ^= (uint8_t)(1 << bit);
            hs_status status = read_schema(reader, &upload);
            status = status ? status : read_batch(reader, &upload, &found);
            *byte ^= (uint8_t)(1 << bit);
            if (!status && found.release) {
                found.release(&found);
            }
            hs_ipc_reader_free(reader);
        }
    }
    hs_ipc_reader *reader;
    assert_int_equal(hs_ipc_reader_new(&reader, NULL), HS_OK);
    assert_int_equal(read_schema(reader, &upload), HS_OK);
    upload.body.size_bytes--;
    assert_int_equal(read_batch(reader, &upload, &found), HS_INVALID_ARGUMENT);
    upload.header.size_bytes /= 2;
    assert_int_equal(read_batch(reader, &upload, &found), HS_INVALID_ARGUMENT);
    upload.header.size_bytes = 0;
    assert_int_equal(read_batch(reader, &upload, &found), HS_INVALID_ARGUMENT);
    hs_ipc_reader_free(reader);
    upload_free(&upload);
    array.release(&array);
    schema.release(&schema);
}

static void test_texts_are_utf8(void **state)
{
    (void)state;
    struct ArrowSchema schema;
    struct ArrowArray array, found;
    struct upload upload;
    hs_ipc_reader *reader;
    ArrowSchemaInit(&schema);
    assert_int_equal(ArrowSchemaSetTypeStruct(&schema, 1), NANOARROW_OK);
    assert_int_equal(ArrowSchemaSetType(schema.children[0], NANOARROW_TYPE_STRING), 0);
    assert_int_equal(ArrowSchemaSetName(schema.children[0], "text"), NANOARROW_OK);
    assert_int_equal(ArrowArrayInitFromSchema(&array, &schema, NULL), NANOARROW_OK);
    assert_int_equal(ArrowArrayStartAppending(&array), NANOARROW_OK);
    assert_int_equal(ArrowArrayAppendString(array.children[0], ArrowCharView("\xff")), 0);
    assert_int_equal(ArrowArrayFinishElement(&array), NANOARROW_OK);
    assert_int_equal(ArrowArrayFinishBuildingDefault(&array, NULL), NANOARROW_OK);
    encode(&schema, &array, &upload);
    assert_int_equal(hs_ipc_reader_new(&reader, NULL), HS_OK);
    assert_int_equal(read_schema(reader, &upload), HS_OK);
    assert_int_equal(read_batch(reader, &upload, &found), HS_INVALID_ARGUMENT);
    hs_ipc_reader_free(reader);
    upload_free(&upload);
    array.release(&array);
    schema.release(&schema);
}

/* A column of nulls needs no bytes: its rows are limited by their number. */
static void test_rows_limit(void **state)
{
    (void)state;
    for (int64_t over = 0; over < 2; over++) {
        struct ArrowSchema schema;
        struct ArrowArray array, found;
        struct upload upload;
        hs_ipc_reader *reader;
        ArrowSchemaInit(&schema);
        assert_int_equal(ArrowSchemaSetTypeStruct(&schema, 1), NANOARROW_OK);
        assert_int_equal(ArrowSchemaSetType(schema.children[0], NANOARROW_TYPE_NA), 0);
        assert_int_equal(ArrowSchemaSetName(schema.children[0], "nothing"), NANOARROW_OK);
        assert_int_equal(ArrowArrayInitFromSchema(&array, &schema, NULL), NANOARROW_OK);
        array.length = array.children[0]->length = array.children[0]->null_count =
            HS_IPC_ROWS_MAX + over;
        encode(&schema, &array, &upload);
        assert_int_equal(hs_ipc_reader_new(&reader, NULL), HS_OK);
        assert_int_equal(read_schema(reader, &upload), HS_OK);
        assert_int_equal(read_batch(reader, &upload, &found), over ? HS_LIMIT : HS_OK);
        if (!over) {
            found.release(&found);
        }
        hs_ipc_reader_free(reader);
        upload_free(&upload);
        array.release(&array);
        schema.release(&schema);
    }
}

static void test_depth_limit(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        struct ArrowSchema schema, *inner = &schema;
        struct ArrowArray array;
        struct upload upload;
        hs_ipc_reader *reader;
        ArrowSchemaInit(&schema);
        for (int i = 0; i < HS_IPC_DEPTH_MAX + over; i++) {
            assert_int_equal(ArrowSchemaSetTypeStruct(inner, 1), NANOARROW_OK);
            assert_int_equal(ArrowSchemaSetName(inner->children[0], "x"), NANOARROW_OK);
            inner = inner->children[0];
        }
        assert_int_equal(ArrowSchemaSetType(inner, NANOARROW_TYPE_INT32), NANOARROW_OK);
        assert_int_equal(ArrowArrayInitFromSchema(&array, &schema, NULL), NANOARROW_OK);
        assert_int_equal(ArrowArrayStartAppending(&array), NANOARROW_OK);
        assert_int_equal(ArrowArrayFinishBuildingDefault(&array, NULL), NANOARROW_OK);
        encode(&schema, &array, &upload);
        assert_int_equal(hs_ipc_reader_new(&reader, NULL), HS_OK);
        assert_int_equal(read_schema(reader, &upload), over ? HS_INVALID_ARGUMENT : HS_OK);
        hs_ipc_reader_free(reader);
        upload_free(&upload);
        array.release(&array);
        schema.release(&schema);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),          cmocka_unit_test(test_damage),
        cmocka_unit_test(test_texts_are_utf8), cmocka_unit_test(test_rows_limit),
        cmocka_unit_test(test_depth_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
