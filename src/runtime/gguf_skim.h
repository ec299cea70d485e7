/*
 * gguf_skim.h - the few numbers of a GGUF header from which memory is estimated, in about a
 * millisecond: llama.cpp and ggml build the whole vocabulary to get at them.
 *
 * The file was validated before (storage's reader); here every read is still checked, and anything
 * odd is HS_BAD_FORMAT.
 *
 * Threads: no state.
 * Source:  GGUF specification version 3 (ggml docs/gguf.md).
 */
#ifndef RUNTIME_GGUF_SKIM_H
#define RUNTIME_GGUF_SKIM_H

#include "hyprstream.h"

struct hs_gguf_skim {
    char architecture[64];
    uint64_t weights_bytes; /* all parts of a split model */
    uint64_t n_ctx_train, n_layer, n_embd, n_ff, n_head, n_vocab, n_swa;
    uint64_t n_head_kv_sum; /* over all layers */
    uint64_t key_length;    /* values of one head */
    uint64_t value_length;
    bool has_other_state; /* recurrent, compressed or the like: the KV formula does not hold */
};

HS_CHECKED hs_status hs_gguf_skim(const char *path, struct hs_gguf_skim *ret_skim,
                                  struct hs_error *err);

#endif
