/*
 * lora_base.h - what adapters need to know of the model they belong to: its architecture, heads and
 * matrices, taken once from the header of its GGUF file (all parts of a split one).
 *
 * Owner:   the caller; it keeps a few kilobytes and neither the file nor its vocabulary.
 * Errors:  those of hs_gguf_open; HS_BAD_FORMAT (no architecture).
 * Threads: read-only once made.
 */
#ifndef ADAPTERS_LORA_BASE_H
#define ADAPTERS_LORA_BASE_H

#include "hyprstream.h"
#include "storage/gguf.h"

typedef struct hs_lora_base hs_lora_base;

HS_CHECKED hs_status hs_lora_base_open(const char *path, hs_lora_base **ret_base,
                                       struct hs_error *err);
/* From a header that is read already; fingerprint as of hs_gguf_fingerprint, NULL: not known. */
HS_CHECKED hs_status hs_lora_base_new(const hs_gguf *gguf, const char *fingerprint,
                                      hs_lora_base **ret_base, struct hs_error *err);
void hs_lora_base_free(hs_lora_base *base);

const char *hs_lora_base_architecture(const hs_lora_base *base); /* "gemma3" */
const char *hs_lora_base_fingerprint(const hs_lora_base *base);  /* "": not known */
/* Sides of a matrix, f32[n_out, n_in]; of "token_embd.weight" n_out is the number of words. false:
 * the model has no matrix of this name. */
bool hs_lora_base_find(const hs_lora_base *base, const char *tensor, int64_t *ret_n_in,
                       int64_t *ret_n_out);
/* Heads of q, or of k and v; 0: not said, or not the same in all layers. */
uint32_t hs_lora_base_n_head(const hs_lora_base *base, bool is_kv);

#endif
