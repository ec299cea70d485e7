/* gguf_writer.c - the header is put together in memory, the data goes straight to the file. */
#include "storage/gguf_writer.h"

#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "gguf_internal.h"

#define VERSION 3
#define ALIGNMENT_KEY "general.alignment"

struct hs_gguf_writer {
    uint32_t alignment;
    struct hs_buf kv, infos;
    uint64_t n_kv, n_tensors;
    uint64_t *sizes; /* [n_tensors] of the data */
    uint64_t offset; /* of the next tensor in the table */
    struct hs_fs_atomic file;
    bool is_begun;
    uint64_t i_tensor, n_written; /* where the data has come to */
};

/* ---- little-endian bytes ---- */

static hs_status put_le(struct hs_buf *buf, uint64_t value, size_t n_bytes)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    return hs_buf_append(buf, bytes, n_bytes);
}

static hs_status put_text(struct hs_buf *buf, const char *text, size_t len)
{
    hs_status status = put_le(buf, len, 8);
    return status != HS_OK ? status : hs_buf_append(buf, text, len);
}

static hs_status put_key(hs_gguf_writer *writer, const char *key, size_t len, uint32_t type)
{
    hs_status status = put_text(&writer->kv, key, len);
    if (status == HS_OK) {
        status = put_le(&writer->kv, type, 4);
    }
    writer->n_kv++;
    return status;
}

static hs_status header_error(hs_status status, struct hs_error *err)
{
    if (status == HS_LIMIT) {
        hs_error_set(err, HS_LIMIT, "the header of the GGUF file exceeds %u bytes",
                     HS_GGUF_MAX_HEADER_BYTES);
        hs_error_hint(err, "write fewer keys or tensors");
        return HS_LIMIT;
    }
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "the header of a GGUF file");
}

/* ---- keys ---- */

hs_status hs_gguf_writer_new(uint32_t alignment, hs_gguf_writer **ret_writer, struct hs_error *err)
{
    if (alignment < 8 || (alignment & (alignment - 1)) != 0 || alignment > HS_GGUF_MAX_ALIGNMENT) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "an alignment of %u is no power of two from 8 to %u", alignment,
                            HS_GGUF_MAX_ALIGNMENT);
    }
    hs_gguf_writer *writer = hs_calloc(1, sizeof *writer);
    if (writer == NULL) {
        return hs_error_nomem(err, "a GGUF writer");
    }
    writer->alignment = alignment;
    writer->kv.max = writer->infos.max = HS_GGUF_MAX_HEADER_BYTES / 2;
    writer->file.fd = -1;
    hs_status status = HS_OK;
    if (alignment != HS_GGUF_DEFAULT_ALIGNMENT) {
        status = hs_gguf_writer_put_u32(writer, ALIGNMENT_KEY, alignment, err);
    }
    if (status != HS_OK) {
        hs_gguf_writer_free(writer);
        return status;
    }
    *ret_writer = writer;
    return HS_OK;
}

void hs_gguf_writer_free(hs_gguf_writer *writer)
{
    if (writer != NULL) {
        hs_fs_atomic_abort(&writer->file);
        hs_buf_free(&writer->kv);
        hs_buf_free(&writer->infos);
        hs_free(writer->sizes);
        hs_free(writer);
    }
}

hs_status hs_gguf_writer_put_string(hs_gguf_writer *writer, const char *key, const char *value,
                                    struct hs_error *err)
{
    hs_status status = put_key(writer, key, strlen(key), HS_GGUF_STRING);
    if (status == HS_OK) {
        status = put_text(&writer->kv, value, strlen(value));
    }
    return header_error(status, err);
}

hs_status hs_gguf_writer_put_u32(hs_gguf_writer *writer, const char *key, uint32_t value,
                                 struct hs_error *err)
{
    hs_status status = put_key(writer, key, strlen(key), HS_GGUF_UINT32);
    if (status == HS_OK) {
        status = put_le(&writer->kv, value, 4);
    }
    return header_error(status, err);
}

hs_status hs_gguf_writer_put_f32(hs_gguf_writer *writer, const char *key, float value,
                                 struct hs_error *err)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    hs_status status = put_key(writer, key, strlen(key), HS_GGUF_FLOAT32);
    if (status == HS_OK) {
        status = put_le(&writer->kv, bits, 4);
    }
    return header_error(status, err);
}

/* The type and value of a key as the file has them. */
static hs_status copy_value(hs_gguf_writer *writer, const struct hs_gguf_kv *kv)
{
    hs_status status = put_key(writer, kv->key, kv->key_len, kv->type);
    if (status == HS_OK && kv->type == HS_GGUF_STRING) {
        status = put_le(&writer->kv, kv->value_len, 8);
    }
    if (status == HS_OK && kv->type == HS_GGUF_ARRAY) {
        status = put_le(&writer->kv, kv->item_type, 4);
        if (status == HS_OK) {
            status = put_le(&writer->kv, kv->n_items, 8);
        }
    }
    return status != HS_OK ? status : hs_buf_append(&writer->kv, kv->value, kv->value_len);
}

/* Whether kv's key is among the first n_own keys, which are scalars or strings: the writer's. */
static bool is_put(const hs_gguf_writer *writer, uint64_t n_own, const struct hs_gguf_kv *kv)
{
    const uint8_t *at = (const uint8_t *)writer->kv.data;
    for (uint64_t i = 0; i < n_own; i++) {
        size_t key_len = (size_t)hs_gguf_le64(at);
        if (key_len == kv->key_len && memcmp(at + 8, kv->key, key_len) == 0) {
            return true;
        }
        at += 8 + key_len;
        uint32_t type = hs_gguf_le32(at);
        at += 4 + (type == HS_GGUF_STRING ? 8 + hs_gguf_le64(at + 4) : hs_gguf_type_bytes(type));
    }
    return false;
}

hs_status hs_gguf_writer_copy(hs_gguf_writer *writer, const hs_gguf *from, struct hs_error *err)
{
    uint64_t n_own = writer->n_kv;
    hs_status status = HS_OK;
    for (size_t i = 0; i < hs_gguf_n_kv(from) && status == HS_OK; i++) {
        const struct hs_gguf_kv *kv = hs_gguf_kv_at(from, i);
        bool is_alignment = kv->key_len == strlen(ALIGNMENT_KEY) &&
                            memcmp(kv->key, ALIGNMENT_KEY, kv->key_len) == 0;
        if (!is_alignment && !is_put(writer, n_own, kv)) {
            status = copy_value(writer, kv);
        }
    }
    return header_error(status, err);
}

/* ---- tensors ---- */

/* Bytes of the data; 0: not possible. */
static uint64_t data_size(uint32_t n_dims, const uint64_t *dims, uint32_t type)
{
    const struct hs_gguf_tensor_type *info = hs_gguf_tensor_type(type);
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        if (__builtin_mul_overflow(n, dims[i], &n)) {
            return 0;
        }
    }
    if (info == NULL || n_dims < 1 || n_dims > HS_GGUF_MAX_DIMS ||
        dims[0] % info->block_size != 0) {
        return 0;
    }
    n /= info->block_size;
    return __builtin_mul_overflow(n, info->block_bytes, &n) || n > INT64_MAX / 2 ? 0 : n;
}

static uint64_t padded(uint64_t size, uint32_t alignment)
{
    return (size + alignment - 1) / alignment * alignment;
}

static hs_status put_info(hs_gguf_writer *writer, const char *name, uint32_t n_dims,
                          const uint64_t *dims, uint32_t type)
{
    hs_status status = put_text(&writer->infos, name, strlen(name));
    if (status == HS_OK) {
        status = put_le(&writer->infos, n_dims, 4);
    }
    for (uint32_t i = 0; i < n_dims && status == HS_OK; i++) {
        status = put_le(&writer->infos, dims[i], 8);
    }
    if (status == HS_OK) {
        status = put_le(&writer->infos, type, 4);
    }
    return status != HS_OK ? status : put_le(&writer->infos, writer->offset, 8);
}

hs_status hs_gguf_writer_tensor(hs_gguf_writer *writer, const char *name, uint32_t n_dims,
                                const uint64_t *dims, uint32_t type, struct hs_error *err)
{
    uint64_t size = data_size(n_dims, dims, type);
    if (writer->is_begun || size == 0 || strlen(name) > HS_GGUF_MAX_NAME_BYTES) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "tensor '%.80s' cannot be written in type %u",
                            name, type);
    }
    if (writer->n_tensors == HS_GGUF_MAX_TENSORS) {
        return hs_error_set(err, HS_LIMIT, "more than %u tensors", HS_GGUF_MAX_TENSORS);
    }
    if ((writer->n_tensors & (writer->n_tensors + 1)) == 0) { /* full: 1, 3, 7, ... */
        uint64_t *sizes = hs_realloc_array(writer->sizes, 2 * writer->n_tensors + 1, sizeof *sizes);
        if (sizes == NULL) {
            return hs_error_nomem(err, "the table of tensors");
        }
        writer->sizes = sizes;
    }
    hs_status status = put_info(writer, name, n_dims, dims, type);
    if (status == HS_OK) {
        writer->sizes[writer->n_tensors++] = size;
        writer->offset += padded(size, writer->alignment);
    }
    return header_error(status, err);
}

/* ---- the file ---- */

static hs_status write_zeros(hs_gguf_writer *writer, uint64_t n, struct hs_error *err)
{
    static const uint8_t zeros[4096];
    hs_status status = HS_OK;
    while (n > 0 && status == HS_OK) {
        size_t now = n < sizeof zeros ? (size_t)n : sizeof zeros;
        status = hs_fs_atomic_write(&writer->file, zeros, now, err);
        n -= now;
    }
    return status;
}

static hs_status write_header(hs_gguf_writer *writer, struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf head = HS_BUF_INIT(64);
    hs_status status = hs_buf_append(&head, "GGUF", 4);
    if (status == HS_OK) {
        status = put_le(&head, VERSION, 4);
    }
    if (status == HS_OK) {
        status = put_le(&head, writer->n_tensors, 8);
    }
    if (status == HS_OK) {
        status = put_le(&head, writer->n_kv, 8);
    }
    if (status != HS_OK) {
        return header_error(status, err);
    }
    const struct hs_buf *const parts[] = {&head, &writer->kv, &writer->infos};
    uint64_t len = 0;
    for (size_t i = 0; i < 3 && status == HS_OK; i++) {
        status = hs_fs_atomic_write(&writer->file, parts[i]->data, parts[i]->len, err);
        len += parts[i]->len;
    }
    return status != HS_OK ? status
                           : write_zeros(writer, padded(len, writer->alignment) - len, err);
}

hs_status hs_gguf_writer_begin(hs_gguf_writer *writer, const char *path, struct hs_error *err)
{
    if (writer->is_begun) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the GGUF file is begun already");
    }
    hs_status status = hs_fs_atomic_begin(path, 0644, &writer->file, err);
    if (status != HS_OK) {
        return status;
    }
    writer->is_begun = true;
    return write_header(writer, err);
}

hs_status hs_gguf_writer_data(hs_gguf_writer *writer, const void *data, size_t len,
                              struct hs_error *err)
{
    uint64_t left = writer->is_begun && writer->i_tensor < writer->n_tensors
                        ? writer->sizes[writer->i_tensor] - writer->n_written
                        : 0;
    if (len > left) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "%zu bytes are too many for a tensor that lacks %llu", len,
                            (unsigned long long)left);
    }
    hs_status status = hs_fs_atomic_write(&writer->file, data, len, err);
    if (status != HS_OK || len < left) {
        writer->n_written += len;
        return status;
    }
    uint64_t size = writer->sizes[writer->i_tensor++];
    writer->n_written = 0;
    return write_zeros(writer, padded(size, writer->alignment) - size, err);
}

hs_status hs_gguf_writer_commit(hs_gguf_writer *writer, struct hs_error *err)
{
    if (!writer->is_begun || writer->i_tensor < writer->n_tensors) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "%llu of %llu tensors have their data",
                            (unsigned long long)writer->i_tensor,
                            (unsigned long long)writer->n_tensors);
    }
    return hs_fs_atomic_commit(&writer->file, err);
}
