/*
 * gguf.h - a strict reader of GGUF headers: every count, length, type, offset and alignment is
 * checked against the file's size before anything else sees the file.
 *
 * In:      a regular file (mapped read-only) or a block of memory.
 * Errors:  HS_NOT_FOUND, HS_IS_DIRECTORY, HS_PERMISSION_DENIED, HS_BAD_MAGIC,
 * HS_UNSUPPORTED_VERSION, HS_TRUNCATED, HS_BAD_FORMAT (which key or tensor, which value, which
 * limit), HS_LIMIT, HS_OUT_OF_MEMORY; each with a hint. Reads of a file that shrinks meanwhile are
 * caught by a size check, not by SIGBUS: only the header is mapped or read, never tensor data
 * unless asked. Owner:   hs_gguf owns its memory; strings and arrays it hands out live as long as
 * it does. Threads: none while opening; afterwards read-only, any number of threads. Source:  GGUF
 * specification version 3 (ggml docs/gguf.md); versions 2 and 3 are read, 1 and big-endian files
 * are refused by name.
 */
#ifndef STORAGE_GGUF_H
#define STORAGE_GGUF_H

#include <stdbool.h>

#include "hyprstream.h"

typedef struct hs_gguf hs_gguf;

/* Limits, each tested at N and N+1. */
#define HS_GGUF_MAX_KV 65536u
#define HS_GGUF_MAX_TENSORS 1048576u
#define HS_GGUF_MAX_KEY_BYTES 65535u
#define HS_GGUF_MAX_STRING_BYTES (64u << 20)
#define HS_GGUF_MAX_ARRAY_ITEMS (1u << 28)
#define HS_GGUF_MAX_NAME_BYTES 63u /* llama.cpp's GGML_MAX_NAME - 1 */
#define HS_GGUF_MAX_HEADER_BYTES (1u << 30)
#define HS_GGUF_MAX_DIMS 4u
#define HS_GGUF_MAX_ALIGNMENT (1u << 20)

enum hs_gguf_type {
    HS_GGUF_UINT8 = 0,
    HS_GGUF_INT8,
    HS_GGUF_UINT16,
    HS_GGUF_INT16,
    HS_GGUF_UINT32,
    HS_GGUF_INT32,
    HS_GGUF_FLOAT32,
    HS_GGUF_BOOL,
    HS_GGUF_STRING,
    HS_GGUF_ARRAY,
    HS_GGUF_UINT64,
    HS_GGUF_INT64,
    HS_GGUF_FLOAT64
};

struct hs_gguf_kv {
    const char *key; /* not NUL-terminated */
    size_t key_len;
    enum hs_gguf_type type;
    enum hs_gguf_type item_type; /* of arrays */
    uint64_t n_items;            /* of arrays; 1 for scalars */
    const uint8_t *value;        /* little-endian bytes as in the file, for strings the text */
    size_t value_len;
};

struct hs_gguf_tensor {
    const char *name; /* NUL-terminated */
    uint32_t n_dims;
    uint64_t dims[HS_GGUF_MAX_DIMS]; /* ne[0] is the contiguous one; missing ones are 1 */
    uint32_t type;                   /* ggml type number */
    uint64_t offset;                 /* from the start of the data section */
    uint64_t size_bytes;
};

/* What a ggml tensor type is; NULL for numbers that this version does not know. */
struct hs_gguf_tensor_type {
    uint32_t number;
    const char *name; /* "Q4_K" */
    uint32_t block_size;
    uint32_t block_bytes;
};
const struct hs_gguf_tensor_type *hs_gguf_tensor_type(uint32_t number);

HS_CHECKED hs_status hs_gguf_open(const char *path, hs_gguf **ret_gguf, struct hs_error *err);
/* `data` must outlive the reader; file_size may exceed len when only the beginning is in memory. */
HS_CHECKED hs_status hs_gguf_open_memory(const void *data, size_t len, uint64_t file_size,
                                         hs_gguf **ret_gguf, struct hs_error *err);
void hs_gguf_free(hs_gguf *gguf);

uint32_t hs_gguf_version(const hs_gguf *gguf);
uint64_t hs_gguf_file_size(const hs_gguf *gguf);
uint64_t
hs_gguf_data_offset(const hs_gguf *gguf); /* of the data section from the start of the file */
uint32_t hs_gguf_alignment(const hs_gguf *gguf);
size_t hs_gguf_n_kv(const hs_gguf *gguf);
const struct hs_gguf_kv *hs_gguf_kv_at(const hs_gguf *gguf, size_t i);
const struct hs_gguf_kv *hs_gguf_find(const hs_gguf *gguf, const char *key); /* NULL: not there */
size_t hs_gguf_n_tensors(const hs_gguf *gguf);
const struct hs_gguf_tensor *hs_gguf_tensor_at(const hs_gguf *gguf, size_t i);
const struct hs_gguf_tensor *hs_gguf_find_tensor(const hs_gguf *gguf, const char *name);

/* Scalars by key; false when missing or of another kind (any integer type is accepted when it
 * fits). */
bool hs_gguf_u64(const hs_gguf *gguf, const char *key, uint64_t *ret_value);
bool hs_gguf_f64(const hs_gguf *gguf, const char *key, double *ret_value);
/* A copy with NUL, to be freed with hs_free; NULL when missing, of another kind or without memory.
 */
char *hs_gguf_strdup(const hs_gguf *gguf, const char *key);
/* "<architecture>.<suffix>" as u64, e.g. suffix "context_length". */
bool hs_gguf_arch_u64(const hs_gguf *gguf, const char *suffix, uint64_t *ret_value);

/* How many files the model has by its split.count. */
uint32_t hs_gguf_split_count(const hs_gguf *gguf);
/* Open part i >= 1 of the n of the model whose first part is at `path`, and check that it is the
 * one it should be. */
HS_CHECKED hs_status hs_gguf_split_open(const char *path, uint32_t i, uint32_t n,
                                        hs_gguf **ret_gguf, struct hs_error *err);

/* Sums over the tensor table. */
uint64_t hs_gguf_n_params(const hs_gguf *gguf);
uint64_t hs_gguf_weights_bytes(const hs_gguf *gguf);

/*
 * A name for the weights that is quick to compute: SHA-256 over the header bytes, the file size and
 * 1 KiB from the middle of every tensor's data (docs/formats.md). Reads the file at `path`, which
 * must be the one opened.
 */
HS_CHECKED hs_status hs_gguf_fingerprint(const hs_gguf *gguf, const char *path, char ret_hex[65],
                                         struct hs_error *err);

/*
 * Check what a language model needs beyond the format: general.architecture, general.type not
 * "adapter" or the like, a block count, embedding length and heads that are sane, a vocabulary,
 * split.count (1 or absent, else every part beside it), dimensions that cannot overflow.
 * HS_UNSUPPORTED_MODEL or HS_BAD_FORMAT.
 */
HS_CHECKED hs_status hs_gguf_check_model(const hs_gguf *gguf, const char *path,
                                         struct hs_error *err);

#endif
