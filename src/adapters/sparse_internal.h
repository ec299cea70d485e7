/*
 * sparse_internal.h - the reader of sparse deltas, behind that of GGUF adapters.
 *
 * Threads: no state.
 */
#ifndef SPARSE_INTERNAL_H
#define SPARSE_INTERNAL_H

#include "adapter_internal.h"

#define HS_SPARSE_TYPE "sparse" /* of adapter.type */

/* Targets of a file in the format of adapters/sparse_file.h; views of adapter->bytes. Errors:
 * HS_OUT_OF_MEMORY; what is wrong with the file goes into faults. */
HS_CHECKED hs_status hs_sparse_read(const hs_gguf *gguf, struct hs_adapter_loaded *adapter,
                                    struct hs_lora_faults *faults, struct hs_error *err);

#endif
