/*
 * safetensors.h - a strict reader of SafeTensors files that lie in memory.
 *
 *   u64 N (little-endian), N bytes of JSON that begin with '{', then the data.
 *   {"NAME": {"dtype": "F16", "shape": [8, 640], "data_offsets": [0, 10240]}, ...,
 *    "__metadata__": {"KEY": "TEXT", ...}}
 *
 * Every length, offset and count is checked before it is used: tensors fill the data in some order
 * without holes and without overlap, and their sizes are those of dtype and shape.
 *
 * Errors:  HS_BAD_MAGIC (not such a file, and what it is), HS_TRUNCATED, HS_BAD_FORMAT (which
 *          tensor, which value), HS_LIMIT, HS_OUT_OF_MEMORY; each with a hint.
 * Owner:   names and texts live as long as the reader, data as long as the caller's memory.
 * Threads: read-only once open.
 * Source:  the format's description in huggingface/safetensors (README, "Format").
 */
#ifndef STORAGE_SAFETENSORS_H
#define STORAGE_SAFETENSORS_H

#include <stdbool.h>

#include "hyprstream.h"

typedef struct hs_safetensors hs_safetensors;

/* Limits, each tested at N and N+1. */
#define HS_SAFETENSORS_MAX_HEADER_BYTES (32u << 20)
#define HS_SAFETENSORS_MAX_TENSORS 262144u
#define HS_SAFETENSORS_MAX_NAME_BYTES 512u
#define HS_SAFETENSORS_MAX_DIMS 8u

enum hs_safetensors_dtype {
    HS_SAFETENSORS_BOOL = 0,
    HS_SAFETENSORS_U8,
    HS_SAFETENSORS_I8,
    HS_SAFETENSORS_F8_E5M2,
    HS_SAFETENSORS_F8_E4M3,
    HS_SAFETENSORS_I16,
    HS_SAFETENSORS_U16,
    HS_SAFETENSORS_F16,
    HS_SAFETENSORS_BF16,
    HS_SAFETENSORS_I32,
    HS_SAFETENSORS_U32,
    HS_SAFETENSORS_F32,
    HS_SAFETENSORS_I64,
    HS_SAFETENSORS_U64,
    HS_SAFETENSORS_F64
};

struct hs_safetensors_tensor {
    const char *name;
    enum hs_safetensors_dtype dtype;
    uint32_t n_dims;                        /* 0: a single value */
    uint64_t dims[HS_SAFETENSORS_MAX_DIMS]; /* row-major: the last one is contiguous */
    const uint8_t *data;                    /* little-endian, aligned to nothing */
    uint64_t size_bytes;
};

/* data[len] is the whole file and must outlive the reader. */
HS_CHECKED hs_status hs_safetensors_open(const void *data, size_t len, hs_safetensors **ret_reader,
                                         struct hs_error *err);
void hs_safetensors_free(hs_safetensors *reader);

size_t hs_safetensors_n(const hs_safetensors *reader);
/* By name, in ascending order of bytes; NULL behind the last. */
const struct hs_safetensors_tensor *hs_safetensors_at(const hs_safetensors *reader, size_t i);
const struct hs_safetensors_tensor *hs_safetensors_find(const hs_safetensors *reader,
                                                        const char *name); /* NULL: not there */
const char *hs_safetensors_metadata(const hs_safetensors *reader, const char *key); /* or NULL */
const char *hs_safetensors_dtype_name(enum hs_safetensors_dtype dtype);             /* "BF16" */

#endif
