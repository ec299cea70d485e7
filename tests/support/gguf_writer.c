#include "gguf_writer.h"

#include <stdlib.h>
#include <string.h>

static bool grow(struct gguf_bytes *bytes, size_t extra)
{
    if (bytes->failed) {
        return false;
    }
    if (bytes->cap - bytes->len >= extra) {
        return true;
    }
    size_t cap = bytes->cap ? bytes->cap * 2 : 4096;
    while (cap - bytes->len < extra) {
        cap *= 2;
    }
    uint8_t *data = realloc(bytes->data, cap);
    if (!data) {
        bytes->failed = true;
        return false;
    }
    bytes->data = data;
    bytes->cap = cap;
    return true;
}

void gguf_bytes_put(struct gguf_bytes *bytes, const void *data, size_t len)
{
    if (len > 0 && grow(bytes, len)) {
        memcpy(bytes->data + bytes->len, data, len);
        bytes->len += len;
    }
}

void gguf_bytes_zero(struct gguf_bytes *bytes, size_t len)
{
    if (len > 0 && grow(bytes, len)) {
        memset(bytes->data + bytes->len, 0, len);
        bytes->len += len;
    }
}

static void put_le(struct gguf_bytes *bytes, uint64_t value, size_t n)
{
    uint8_t out[8];
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
    gguf_bytes_put(bytes, out, n);
}

void gguf_bytes_u8(struct gguf_bytes *bytes, uint8_t value)
{
    put_le(bytes, value, 1);
}

void gguf_bytes_u16(struct gguf_bytes *bytes, uint16_t value)
{
    put_le(bytes, value, 2);
}

void gguf_bytes_u32(struct gguf_bytes *bytes, uint32_t value)
{
    put_le(bytes, value, 4);
}

void gguf_bytes_u64(struct gguf_bytes *bytes, uint64_t value)
{
    put_le(bytes, value, 8);
}

void gguf_bytes_f32(struct gguf_bytes *bytes, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_le(bytes, bits, 4);
}

void gguf_bytes_str(struct gguf_bytes *bytes, const char *s)
{
    size_t len = strlen(s);
    gguf_bytes_u64(bytes, len);
    gguf_bytes_put(bytes, s, len);
}

void gguf_bytes_free(struct gguf_bytes *bytes)
{
    free(bytes->data);
    memset(bytes, 0, sizeof(*bytes));
}

void gguf_writer_init(struct gguf_writer *writer)
{
    memset(writer, 0, sizeof(*writer));
    writer->version = 3;
    writer->alignment = 32;
}

void gguf_writer_free(struct gguf_writer *writer)
{
    gguf_bytes_free(&writer->kv);
    gguf_bytes_free(&writer->infos);
    gguf_bytes_free(&writer->data);
}

void gguf_writer_key(struct gguf_writer *writer, const char *key, uint32_t type)
{
    gguf_bytes_str(&writer->kv, key);
    gguf_bytes_u32(&writer->kv, type);
    writer->n_kv++;
}

void gguf_writer_u32(struct gguf_writer *writer, const char *key, uint32_t value)
{
    gguf_writer_key(writer, key, GGUF_W_U32);
    gguf_bytes_u32(&writer->kv, value);
}

void gguf_writer_f32(struct gguf_writer *writer, const char *key, float value)
{
    gguf_writer_key(writer, key, GGUF_W_F32);
    gguf_bytes_f32(&writer->kv, value);
}

void gguf_writer_bool(struct gguf_writer *writer, const char *key, bool value)
{
    gguf_writer_key(writer, key, GGUF_W_BOOL);
    gguf_bytes_u8(&writer->kv, value ? 1 : 0);
}

void gguf_writer_str(struct gguf_writer *writer, const char *key, const char *value)
{
    gguf_writer_key(writer, key, GGUF_W_STRING);
    gguf_bytes_str(&writer->kv, value);
}

void gguf_writer_array(struct gguf_writer *writer, const char *key, uint32_t item_type,
                       uint64_t n_items)
{
    gguf_writer_key(writer, key, GGUF_W_ARRAY);
    gguf_bytes_u32(&writer->kv, item_type);
    gguf_bytes_u64(&writer->kv, n_items);
}

void gguf_writer_tensor_info(struct gguf_writer *writer, const char *name, uint32_t n_dims,
                             const uint64_t *dims, uint32_t type, uint64_t offset)
{
    gguf_bytes_str(&writer->infos, name);
    gguf_bytes_u32(&writer->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        gguf_bytes_u64(&writer->infos, dims[i]);
    }
    gguf_bytes_u32(&writer->infos, type);
    gguf_bytes_u64(&writer->infos, offset);
    writer->n_tensors++;
}

static void pad(struct gguf_bytes *bytes, size_t alignment)
{
    gguf_bytes_zero(bytes, (alignment - bytes->len % alignment) % alignment);
}

void gguf_writer_tensor(struct gguf_writer *writer, const char *name, uint32_t n_dims,
                        const uint64_t *dims, uint32_t type, const void *data, size_t size)
{
    gguf_writer_tensor_info(writer, name, n_dims, dims, type, writer->data.len);
    if (data) {
        gguf_bytes_put(&writer->data, data, size);
    } else {
        gguf_bytes_zero(&writer->data, size);
    }
    pad(&writer->data, writer->alignment);
}

bool gguf_writer_finish(struct gguf_writer *writer, struct gguf_bytes *ret_bytes,
                        size_t *ret_header_len)
{
    struct gguf_bytes out = {0};
    gguf_bytes_put(&out, "GGUF", 4);
    gguf_bytes_u32(&out, writer->version);
    gguf_bytes_u64(&out, writer->n_tensors);
    gguf_bytes_u64(&out, writer->n_kv);
    gguf_bytes_put(&out, writer->kv.data, writer->kv.len);
    gguf_bytes_put(&out, writer->infos.data, writer->infos.len);
    pad(&out, writer->alignment);
    if (ret_header_len) {
        *ret_header_len = out.len;
    }
    gguf_bytes_put(&out, writer->data.data, writer->data.len);
    if (out.failed || writer->kv.failed || writer->infos.failed || writer->data.failed) {
        gguf_bytes_free(&out);
        return false;
    }
    *ret_bytes = out;
    return true;
}
