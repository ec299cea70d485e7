/*
 * adapter_file.h - reads an adapter from disk, in the formats that PEFT and llama.cpp write.
 *
 * In:      a path: PEFT's folder, its adapter_config.json or its .safetensors file (the other one
 *          lies beside it), or a GGUF LoRA file. Weights in f32, f16 or bf16, in GGUF also Q8_0.
 * Errors:  HS_NOT_FOUND and the like; HS_BAD_MAGIC, HS_TRUNCATED, HS_BAD_FORMAT (damage, NaN and
 *          infinities, half a pair); HS_NOT_SUPPORTED (DoRA, modules_to_save, ...: what it uses);
 *          HS_MISMATCH (what does not fit the base: architecture, matrices, shapes, fingerprint);
 *          HS_LIMIT; HS_OUT_OF_MEMORY. One message lists all that does not fit, as far as there is
 *          room; each has a hint.
 * Owner:   hs_adapter_file owns its memory, weights included; the files are read once and closed.
 * Threads: no state; a loaded file is read-only.
 * Source:  PEFT's LoraConfig and its rules for rank_pattern, alpha_pattern and target_modules
 *          (0.21); llama.cpp's convert_lora_to_gguf.py and llama-adapter.cpp.
 */
#ifndef ADAPTERS_ADAPTER_FILE_H
#define ADAPTERS_ADAPTER_FILE_H

#include "adapters/lora_base.h"
#include "base/lora.h"

/* Limits, each tested at N and N+1. */
#define HS_ADAPTER_FILE_MAX_BYTES (UINT64_C(4) << 30)
#define HS_ADAPTER_CONFIG_MAX_BYTES (1u << 20)
#define HS_ADAPTER_STATE_MAX_BYTES (64u << 20) /* trainer_state.json */

enum hs_adapter_format { HS_ADAPTER_PEFT = 0, HS_ADAPTER_GGUF };

struct hs_adapter_file {
    struct hs_lora lora; /* by layer; empty when PEFT's is loaded without a base, whose names it
                            does not know */
    enum hs_adapter_format format;
    char *path;                /* of the file with the weights */
    char architecture[64];     /* of the base; "": not said (PEFT, loaded without one) */
    char base_fingerprint[65]; /* of the base, as the file says; "": it does not say */
    char *base_model;          /* name or path of the base, as the file says; NULL: it does not */
    int32_t rank;              /* the largest */
    float alpha;               /* 0: the file gives none, scales are 1 */
    char *targets; /* kinds of matrices, sorted: "attn_k,attn_q", in PEFT's words without a base */
    uint64_t size_bytes; /* of the file with the weights */
    char sha256[65];     /* the same, as sha256sum has it */
    char version[65]; /* SHA-256 of all that decides what it computes: the weights, of PEFT with the
                         configuration */
    char *training;   /* JSON: what trainer_state.json beside it says, in short; NULL: none there */
};

/* base NULL: what can be said and checked without one. */
HS_CHECKED hs_status hs_adapter_file_load(const char *path, const hs_lora_base *base,
                                          struct hs_adapter_file **ret_file, struct hs_error *err);
/* The same for those who only compute with it: sha256, version and training stay empty. Hashing
 * takes as long as all the rest. */
HS_CHECKED hs_status hs_adapter_file_load_weights(const char *path, const hs_lora_base *base,
                                                  struct hs_adapter_file **ret_file,
                                                  struct hs_error *err);
void hs_adapter_file_free(struct hs_adapter_file *file);

#endif
