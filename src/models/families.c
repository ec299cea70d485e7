#include "models/families.h"

#include <stdlib.h>
#include <string.h>

#define ATTENTION "q_proj,k_proj,v_proj,o_proj"
#define DENSE ATTENTION ",gate_proj,up_proj,down_proj"
#define THINK "<think>", "</think>"

/* One level more, so that THINK counts as two arguments. */
#define HS_FAMILY(...) HS_FAMILY_ROW(__VA_ARGS__)
#define HS_FAMILY_ROW(architecture_, title_, hf_class_, start_, end_, targets_, names_, permute_,  \
                      is_decoder_)                                                                 \
    {.architecture = (architecture_),                                                              \
     .title = (title_),                                                                            \
     .hf_class = (hf_class_),                                                                      \
     .reasoning_start = (start_),                                                                  \
     .reasoning_end = (end_),                                                                      \
     .lora_targets = (targets_),                                                                   \
     .lora_names = HS_LORA_NAMES_##names_,                                                         \
     .rope_permute = HS_ROPE_PERMUTE_##permute_,                                                   \
     .is_decoder = (is_decoder_)},

static const struct hs_model_family families[] = {
#include "families.def"
};

static int compare_architecture(const void *key, const void *row)
{
    return strcmp(key, ((const struct hs_model_family *)row)->architecture);
}

const struct hs_model_family *hs_model_family_find(const char *architecture)
{
    return bsearch(architecture, families, hs_model_family_count(), sizeof(families[0]),
                   compare_architecture);
}

size_t hs_model_family_count(void)
{
    return sizeof(families) / sizeof(families[0]);
}

const struct hs_model_family *hs_model_family_at(size_t i)
{
    return i < hs_model_family_count() ? &families[i] : NULL;
}
