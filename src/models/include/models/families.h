/*
 * families.h - the table of model families (families.def): what is special about an architecture,
 * in one row.
 *
 * Nothing else in the code asks for an architecture by name. Names are GGUF's general.architecture
 * values.
 *
 * Threads: constant data.
 * Source:  llama.cpp's src/llama-arch.cpp for names; the model cards for sampling and reasoning.
 */
#ifndef MODELS_FAMILIES_H
#define MODELS_FAMILIES_H

#include <stdbool.h>

#include "hyprstream.h"

enum hs_rope_permute {
    HS_ROPE_PERMUTE_NONE = 0, /* q and k rows lie as in the Hugging Face checkpoint */
    HS_ROPE_PERMUTE_LLAMA /* interleaved halves, as convert_hf_to_gguf permutes Llama's q and k */
};

enum hs_lora_names {
    HS_LORA_NAMES_NONE = 0, /* not known: adapters only as GGUF files */
    HS_LORA_NAMES_PLAIN     /* each module is one tensor of GGUF, its rows moved by rope_permute at
                               most: models/lora_names.h */
};

struct hs_model_family {
    const char *architecture;                    /* "qwen3" */
    const char *title;                           /* "Qwen3" */
    const char *hf_class;                        /* "Qwen3ForCausalLM" */
    const char *reasoning_start, *reasoning_end; /* NULL: does not reason */
    const char *lora_targets;                    /* default targets, PEFT names, comma-separated */
    enum hs_lora_names lora_names;
    enum hs_rope_permute rope_permute;
    bool is_decoder; /* generates text; false: embedding or encoder models */
};

/* NULL when the architecture has no row of its own; defaults then apply (no reasoning, all linear
 * layers). */
const struct hs_model_family *hs_model_family_find(const char *architecture);
size_t hs_model_family_count(void);
const struct hs_model_family *hs_model_family_at(size_t i);

#endif
