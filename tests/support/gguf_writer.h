/*
 * gguf_writer.h - writes GGUF files byte by byte for tests, valid ones and deliberately wrong ones.
 *
 * Independent of ggml and of our own reader, so that both can be judged by its files.
 *
 * Owner:   the caller; gguf_writer_free and gguf_bytes_free release what they point to.
 * Errors:  out of memory sets `failed`; later calls then do nothing and gguf_writer_finish says so.
 * Threads: none; one thread at a time.
 * Source:  GGUF specification version 3 (ggml docs/gguf.md).
 */
#ifndef SUPPORT_GGUF_WRITER_H
#define SUPPORT_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Type numbers of the specification, repeated here on purpose. */
enum gguf_writer_type {
    GGUF_W_U8 = 0,
    GGUF_W_I8,
    GGUF_W_U16,
    GGUF_W_I16,
    GGUF_W_U32,
    GGUF_W_I32,
    GGUF_W_F32,
    GGUF_W_BOOL,
    GGUF_W_STRING,
    GGUF_W_ARRAY,
    GGUF_W_U64,
    GGUF_W_I64,
    GGUF_W_F64
};

struct gguf_bytes {
    uint8_t *data;
    size_t len, cap;
    bool failed;
};

void gguf_bytes_put(struct gguf_bytes *bytes, const void *data, size_t len);
void gguf_bytes_zero(struct gguf_bytes *bytes, size_t len);
void gguf_bytes_u8(struct gguf_bytes *bytes, uint8_t value);
void gguf_bytes_u16(struct gguf_bytes *bytes, uint16_t value);
void gguf_bytes_u32(struct gguf_bytes *bytes, uint32_t value);
void gguf_bytes_u64(struct gguf_bytes *bytes, uint64_t value);
void gguf_bytes_f32(struct gguf_bytes *bytes, float value);
void gguf_bytes_str(struct gguf_bytes *bytes, const char *s); /* u64 length, then the bytes */
void gguf_bytes_free(struct gguf_bytes *bytes);

struct gguf_writer {
    uint32_t version;
    uint32_t alignment;
    uint64_t n_kv, n_tensors; /* what the header will claim; tests may falsify them */
    struct gguf_bytes kv, infos, data;
};

/* Version 3, alignment 32, nothing in it. */
void gguf_writer_init(struct gguf_writer *writer);
void gguf_writer_free(struct gguf_writer *writer);

void gguf_writer_u32(struct gguf_writer *writer, const char *key, uint32_t value);
void gguf_writer_f32(struct gguf_writer *writer, const char *key, float value);
void gguf_writer_bool(struct gguf_writer *writer, const char *key, bool value);
void gguf_writer_str(struct gguf_writer *writer, const char *key, const char *value);
/* Key and type number only; the caller appends the value to writer->kv. */
void gguf_writer_key(struct gguf_writer *writer, const char *key, uint32_t type);
/* The same for an array: key, type, item type and count; the caller appends the items. */
void gguf_writer_array(struct gguf_writer *writer, const char *key, uint32_t item_type,
                       uint64_t n_items);

/* A tensor with its data, padded to the alignment. data NULL: zeros. */
void gguf_writer_tensor(struct gguf_writer *writer, const char *name, uint32_t n_dims,
                        const uint64_t *dims, uint32_t type, const void *data, size_t size);
/* Only the table entry, with any offset. */
void gguf_writer_tensor_info(struct gguf_writer *writer, const char *name, uint32_t n_dims,
                             const uint64_t *dims, uint32_t type, uint64_t offset);

/*
 * Put the file together.
 * Out:    ret_bytes, the caller's; ret_header_len (may be NULL): where the padded header ends.
 */
bool gguf_writer_finish(struct gguf_writer *writer, struct gguf_bytes *ret_bytes,
                        size_t *ret_header_len);

#endif
