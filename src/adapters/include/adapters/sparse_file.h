/*
 * sparse_file.h - writes sparse deltas to a GGUF file, which hs_adapter_file_load reads like any
 * other adapter.
 *
 * Keys: general.type "adapter", general.architecture, adapter.type "sparse", and
 * hyprstream.base_fingerprint when it is known. Tensors of each matrix M, all little-endian:
 *
 *   M.sparse_shape    I64 [2]          n_in, n_out
 *   M.sparse_rows     I64 [n_out / r + 1]  where the blocks of each row of blocks begin, and their
 *                                      number
 *   M.sparse_columns  I32 [n]          column of each block, in blocks, ascending in a row
 *   M.sparse_values   F32, F16 or BF16 [c, r, n]  blocks of r rows and c columns, dims[0] first
 *
 * The delta is what is added to M; a matrix without blocks is left out.
 *
 * In:      targets as hs_sparsify makes them: rank 0, scale 1.
 * Errors:  HS_INVALID_ARGUMENT (other targets, or none with blocks), those of
 * storage/gguf_writer.h. Threads: no state.
 */
#ifndef ADAPTERS_SPARSE_FILE_H
#define ADAPTERS_SPARSE_FILE_H

#include "base/lora.h"
#include "hyprstream.h"

/* base_fingerprint "": not known. */
HS_CHECKED hs_status hs_sparse_file_write(const char *path, const struct hs_lora *lora,
                                          const char *architecture, const char *base_fingerprint,
                                          struct hs_error *err);

#endif
