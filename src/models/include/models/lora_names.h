/*
 * lora_names.h - what the modules of a Hugging Face checkpoint, which PEFT's adapters name, are
 * called in GGUF files, and back (lora_names.def).
 *
 * Threads: constant data.
 * Source:  llama.cpp's gguf-py/gguf/tensor_mapping.py; LlamaModel.permute in its
 * conversion/llama.py.
 */
#ifndef MODELS_LORA_NAMES_H
#define MODELS_LORA_NAMES_H

#include "models/families.h"

#define HS_LORA_TENSOR_SIZE 64u  /* bytes of a tensor's name with its NUL */
#define HS_LORA_MODULE_SIZE 128u /* bytes of a module's name with its NUL */

/* How the rows of a checkpoint's matrix lie in GGUF. */
enum hs_lora_rows {
    HS_LORA_ROWS_SAME = 0,
    HS_LORA_ROWS_Q, /* each head's two halves interleaved; heads of q */
    HS_LORA_ROWS_K  /* the same; heads of k and v */
};

/*
 * "model.layers.3.self_attn.q_proj" -> "blk.3.attn_q.weight". Prefixes of models with more than
 * text
 * ("language_model.") are understood.
 * false: the family's names are not known, or this is not one of them.
 */
bool hs_model_lora_tensor(const struct hs_model_family *family, const char *module,
                          char ret_tensor[HS_LORA_TENSOR_SIZE], enum hs_lora_rows *ret_rows);
/* The other way: the module's name without a prefix for other things than text. */
bool hs_model_lora_module(const struct hs_model_family *family, const char *tensor,
                          char ret_module[HS_LORA_MODULE_SIZE], enum hs_lora_rows *ret_rows);
/* Where row i of n, of n_head heads, of the checkpoint's matrix is in GGUF's. */
int64_t hs_model_lora_row(int64_t i, int64_t n, uint32_t n_head);

#endif
