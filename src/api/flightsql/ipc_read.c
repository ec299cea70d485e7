#include "ipc_read.h"

#include <nanoarrow/nanoarrow_ipc.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "ipc_check.h"

#define PREFIX 8 /* of an encapsulated message: FFFFFFFF and the header's length */

struct hs_ipc_reader {
    struct ArrowIpcDecoder decoder;
    struct ArrowSchema schema;
    struct ArrowIpcDictionaryEncodings encodings;
    struct ArrowIpcDictionaries dictionaries;
    bool has_schema, has_dictionaries;
};

hs_status hs_ipc_reader_new(hs_ipc_reader **ret_reader, struct hs_error *err)
{
    hs_ipc_reader *reader = hs_calloc(1, sizeof *reader);
    if (!reader || ArrowIpcDecoderInit(&reader->decoder)) {
        hs_free(reader);
        return hs_error_nomem(err, "Arrow data");
    }
    ArrowIpcDictionaryEncodingsInit(&reader->encodings);
    *ret_reader = reader;
    return HS_OK;
}

const struct ArrowSchema *hs_ipc_reader_schema(const hs_ipc_reader *reader)
{
    return reader->has_schema ? &reader->schema : NULL;
}

void hs_ipc_reader_free(hs_ipc_reader *reader)
{
    if (!reader) {
        return;
    }
    if (reader->has_dictionaries) {
        ArrowIpcDictionariesReset(&reader->dictionaries);
    }
    ArrowIpcDictionaryEncodingsReset(&reader->encodings);
    ArrowIpcDecoderReset(&reader->decoder);
    if (reader->schema.release) {
        reader->schema.release(&reader->schema);
    }
    hs_free(reader);
}

static hs_status refuse(ArrowErrorCode code, const struct ArrowError *error, struct hs_error *err)
{
    if (code == ENOMEM) {
        return hs_error_nomem(err, "Arrow data");
    }
    return hs_error_set(err, code == ENOTSUP ? HS_NOT_SUPPORTED : HS_INVALID_ARGUMENT,
                        "Arrow data: %s", error->message[0] ? error->message : "malformed");
}

/* ---- what nanoarrow leaves to its callers ---- */

static int64_t text_offset(const struct ArrowArray *array, bool is_large, int64_t row)
{
    return is_large ? ((const int64_t *)array->buffers[1])[row]
                    : ((const int32_t *)array->buffers[1])[row];
}

static bool has_valid_text(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    bool is_large = schema->format[0] == 'U';
    bool is_valid = true;
    if ((is_large || schema->format[0] == 'u') && !schema->dictionary) {
        const char *bytes = array->buffers[2];
        for (int64_t row = 0; row < array->length && is_valid; row++) {
            int64_t from = text_offset(array, is_large, row);
            int64_t size = text_offset(array, is_large, row + 1) - from;
            is_valid = size == 0 || hs_utf8_valid(bytes + from, (size_t)size);
        }
    }
    for (int64_t i = 0; i < schema->n_children && is_valid; i++) {
        is_valid = has_valid_text(schema->children[i], array->children[i]);
    }
    return is_valid &&
           (!schema->dictionary || has_valid_text(schema->dictionary, array->dictionary));
}

/* A header's count of nulls is its client's word only. */
static void recount_nulls(const struct ArrowSchema *schema, struct ArrowArray *array)
{
    bool is_union = strncmp(schema->format, "+u", 2) == 0;
    if (strcmp(schema->format, "n") != 0) {
        array->null_count =
            !is_union && array->n_buffers > 0 && array->buffers[0]
                ? array->length - ArrowBitCountSet(array->buffers[0], 0, array->length)
                : 0;
    }
    for (int64_t i = 0; i < schema->n_children; i++) {
        recount_nulls(schema->children[i], array->children[i]);
    }
    if (schema->dictionary) {
        recount_nulls(schema->dictionary, array->dictionary);
    }
}

/* ---- messages ---- */

static hs_status read_schema(hs_ipc_reader *reader, struct hs_error *err)
{
    struct ArrowError error = {{0}};
    if (reader->has_schema) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "Arrow data: a second schema");
    }
    ArrowIpcDictionaryEncodingsReset(&reader->encodings);
    ArrowErrorCode code = ArrowIpcDecoderDecodeSchemaWithDictionaries(
        &reader->decoder, &reader->schema, &reader->encodings, &error);
    if (code) {
        ArrowIpcDictionaryEncodingsInit(&reader->encodings);
        reader->schema.release = NULL;
        return refuse(code, &error, err);
    }
    code = ArrowIpcDecoderSetSchemaWithDictionaries(&reader->decoder, &reader->schema,
                                                    &reader->encodings, &error);
    code = code ? code : ArrowIpcDecoderSetEndianness(&reader->decoder, reader->decoder.endianness);
    code =
        code ? code : ArrowIpcDictionariesInit(&reader->dictionaries, &reader->encodings, &error);
    reader->has_dictionaries = code == NANOARROW_OK;
    reader->has_schema = code == NANOARROW_OK;
    return code ? refuse(code, &error, err) : HS_OK;
}

static hs_status read_batch(hs_ipc_reader *reader, struct ArrowBufferView body,
                            struct ArrowArray *ret_array, struct hs_error *err)
{
    struct ArrowError error = {{0}};
    struct ArrowArray array = {0};
    ArrowErrorCode code = ArrowIpcDecoderDecodeArrayWithDictionaries(
        &reader->decoder, body, -1, &reader->dictionaries, &array, NANOARROW_VALIDATION_LEVEL_FULL,
        &error);
    if (code) {
        return refuse(code, &error, err);
    }
    hs_status status = HS_OK;
    if (array.length > HS_IPC_ROWS_MAX) {
        status = hs_error_set(err, HS_LIMIT, "a batch of %lld rows, at most %d are taken",
                              (long long)array.length, HS_IPC_ROWS_MAX);
    } else if (!has_valid_text(&reader->schema, &array)) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "Arrow data: a text is not UTF-8");
    }
    if (status) {
        array.release(&array);
        return status;
    }
    recount_nulls(&reader->schema, &array);
    *ret_array = array;
    return HS_OK;
}

static hs_status read_dictionary(hs_ipc_reader *reader, struct ArrowBufferView body,
                                 struct hs_error *err)
{
    struct ArrowError error = {{0}};
    ArrowErrorCode code = ArrowIpcDecoderDecodeDictionary(
        &reader->decoder, body, NANOARROW_VALIDATION_LEVEL_FULL, &reader->dictionaries, &error);
    return code ? refuse(code, &error, err) : HS_OK;
}

static hs_status check_header(struct ArrowIpcDecoder *decoder, struct ArrowBufferView header,
                              struct hs_error *err)
{
    struct ArrowError error = {{0}};
    if (!hs_ipc_is_complete(header.data.as_uint8 + PREFIX, (size_t)header.size_bytes - PREFIX)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "Arrow data: malformed, nested more than %d deep, or more than %d "
                            "columns",
                            HS_IPC_DEPTH_MAX, HS_IPC_FIELDS_MAX);
    }
    ArrowErrorCode code = ArrowIpcDecoderVerifyHeader(decoder, header, &error);
    return code ? refuse(code, &error, err) : HS_OK;
}

static hs_status read_message(hs_ipc_reader *reader, struct ArrowBufferView header,
                              struct ArrowBufferView body, struct ArrowArray *ret_array,
                              struct hs_error *err)
{
    struct ArrowError error = {{0}};
    hs_status status = check_header(&reader->decoder, header, err);
    if (status) {
        return status;
    }
    ArrowErrorCode code = ArrowIpcDecoderDecodeHeader(&reader->decoder, header, &error);
    if (code) {
        return refuse(code, &error, err);
    }
    if (reader->decoder.body_size_bytes < 0 || reader->decoder.body_size_bytes > body.size_bytes) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "Arrow data: the body is %lld bytes short",
                            (long long)(reader->decoder.body_size_bytes - body.size_bytes));
    }
    enum ArrowIpcMessageType type = reader->decoder.message_type;
    if (type == NANOARROW_IPC_MESSAGE_TYPE_SCHEMA) {
        return read_schema(reader, err);
    }
    if (!reader->has_schema) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "Arrow data: rows before the schema");
    }
    if (type == NANOARROW_IPC_MESSAGE_TYPE_RECORD_BATCH) {
        return read_batch(reader, body, ret_array, err);
    }
    if (type == NANOARROW_IPC_MESSAGE_TYPE_DICTIONARY_BATCH) {
        return read_dictionary(reader, body, err);
    }
    return hs_error_set(err, HS_NOT_SUPPORTED, "Arrow data: tensors are not taken");
}

/* A header as nanoarrow takes it; its bytes are for hs_free. NULL: no memory. */
static uint8_t *encapsulate(const uint8_t *header, size_t len, struct ArrowBufferView *ret_view)
{
    size_t padded = (len + 7) & ~(size_t)7;
    uint8_t *bytes = hs_calloc(1, PREFIX + padded);
    if (bytes) {
        const uint32_t prefix[2] = {UINT32_MAX, (uint32_t)padded};
        memcpy(bytes, prefix, sizeof prefix);
        if (len > 0) {
            memcpy(bytes + PREFIX, header, len);
        }
    }
    ret_view->data.as_uint8 = bytes;
    ret_view->size_bytes = (int64_t)(PREFIX + padded);
    return bytes;
}

hs_status hs_ipc_reader_read(hs_ipc_reader *reader, const uint8_t *header, size_t header_len,
                             const uint8_t *body, size_t body_len, struct ArrowArray *ret_array,
                             struct hs_error *err)
{
    struct ArrowBufferView whole;
    ret_array->release = NULL;
    uint8_t *bytes HS_CLEANUP(hs_freep) = encapsulate(header, header_len, &whole);
    if (!bytes) {
        return hs_error_nomem(err, "Arrow data");
    }
    struct ArrowBufferView rest = {.data.as_uint8 = body, .size_bytes = (int64_t)body_len};
    return read_message(reader, whole, rest, ret_array, err);
}

hs_status hs_ipc_body_len(const uint8_t *header, size_t header_len, uint64_t *ret_len,
                          struct hs_error *err)
{
    struct ArrowIpcDecoder decoder;
    struct ArrowBufferView whole;
    uint8_t *bytes HS_CLEANUP(hs_freep) = encapsulate(header, header_len, &whole);
    if (!bytes || ArrowIpcDecoderInit(&decoder)) {
        return hs_error_nomem(err, "Arrow data");
    }
    hs_status status = check_header(&decoder, whole, err);
    int64_t len = decoder.body_size_bytes;
    ArrowIpcDecoderReset(&decoder);
    if (!status && len < 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "Arrow data: a body of %lld bytes",
                            (long long)len);
    }
    *ret_len = (uint64_t)len;
    return status;
}
