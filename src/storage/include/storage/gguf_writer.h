/*
 * gguf_writer.h - writes a GGUF file piece by piece: keys, then the table of tensors, then their
 * data as it comes, so that no more than a piece is in memory.
 *
 * The calls come in this order: new; put_* and copy, in any order; tensor, for each; begin; data,
 * for all tensors in the order of the table, in pieces of any size; commit. The file appears under
 * its name when it is whole (base/fs.h).
 *
 * Errors:  HS_INVALID_ARGUMENT (calls or sizes that do not fit together), HS_LIMIT (as
 *          storage/gguf.h), HS_OUT_OF_MEMORY, those of writing a file.
 * Owner:   the caller frees the writer, at any time; without commit nothing is left of the file.
 * Threads: one at a time.
 * Source:  GGUF specification version 3 (ggml docs/gguf.md).
 */
#ifndef STORAGE_GGUF_WRITER_H
#define STORAGE_GGUF_WRITER_H

#include "storage/gguf.h"

typedef struct hs_gguf_writer hs_gguf_writer;

/* alignment: of the tensors' data, a power of two from 8 on; other than 32 it is also written as a
 * key. */
HS_CHECKED hs_status hs_gguf_writer_new(uint32_t alignment, hs_gguf_writer **ret_writer,
                                        struct hs_error *err);
void hs_gguf_writer_free(hs_gguf_writer *writer);

HS_CHECKED hs_status hs_gguf_writer_put_string(hs_gguf_writer *writer, const char *key,
                                               const char *value, struct hs_error *err);
HS_CHECKED hs_status hs_gguf_writer_put_u32(hs_gguf_writer *writer, const char *key, uint32_t value,
                                            struct hs_error *err);
HS_CHECKED hs_status hs_gguf_writer_put_f32(hs_gguf_writer *writer, const char *key, float value,
                                            struct hs_error *err);
/* All keys of another file, byte by byte, but those that were put before and its alignment. */
HS_CHECKED hs_status hs_gguf_writer_copy(hs_gguf_writer *writer, const hs_gguf *from,
                                         struct hs_error *err);

/* The next tensor of the table; dims[0] is the contiguous one. */
HS_CHECKED hs_status hs_gguf_writer_tensor(hs_gguf_writer *writer, const char *name,
                                           uint32_t n_dims, const uint64_t *dims, uint32_t type,
                                           struct hs_error *err);
HS_CHECKED hs_status hs_gguf_writer_begin(hs_gguf_writer *writer, const char *path,
                                          struct hs_error *err);
/* A piece of the current tensor's data, which must not reach into the next one. */
HS_CHECKED hs_status hs_gguf_writer_data(hs_gguf_writer *writer, const void *data, size_t len,
                                         struct hs_error *err);
HS_CHECKED hs_status hs_gguf_writer_commit(hs_gguf_writer *writer, struct hs_error *err);

#endif
