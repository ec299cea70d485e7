/*
 * adapter_write.h - writes an adapter as a GGUF LoRA file, which this program and llama.cpp read.
 *
 * Errors:  HS_LIMIT (a value beyond f16, a tensor's name too long), HS_NOT_SUPPORTED (sparse
 *          deltas, which the format does not have), those of storage/gguf_writer.h.
 * Threads: no state.
 * Source:  llama.cpp's convert_lora_to_gguf.py and llama-adapter.cpp.
 */
#ifndef ADAPTERS_ADAPTER_WRITE_H
#define ADAPTERS_ADAPTER_WRITE_H

#include "adapters/lora_base.h"
#include "base/lora.h"

struct hs_adapter_about {
    const hs_lora_base *base; /* its architecture and fingerprint are written */
    const char *name;
    const char *description; /* NULL: none */
    bool is_f16;             /* else f32 */
};

/* The file appears when it is whole. */
HS_CHECKED hs_status hs_adapter_write_gguf(const struct hs_lora *lora,
                                           const struct hs_adapter_about *about, const char *path,
                                           struct hs_error *err);

#endif
