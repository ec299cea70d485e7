/*
 * lora_fusion.h - the LoRA Fusion Engine: adapters from disk become one (merge_adapters), or go
 * into a copy of their model. The public functions are in hyprstream.h (merging adapters); here is
 * what its files share.
 *
 * lora_fusion.c reads adapters and computes the factors of a new one, target by target and on
 * several threads; fusion_model.c writes models.
 */
#ifndef LORA_FUSION_H
#define LORA_FUSION_H

#include "adapters/adapter_file.h"
#include "adapters/merge.h"
#include "runtime/runtime.h"

/* Adapters that were read, and the plan to merge them. */
struct hs_fusion {
    hs_lora_base *base;
    struct hs_adapter_file *files[HS_MERGE_INPUTS_MAX];
    int32_t n_files;
    hs_merge_plan *plan;
    char *recipe; /* "ties of french:0.7 + polite:-0.3" */
};

HS_CHECKED hs_status hs_fusion_open(const char *base_path, const struct hs_merge_source *sources,
                                    int32_t n_sources, const struct hs_merge_params *params,
                                    struct hs_fusion *ret_fusion, struct hs_error *err);
void hs_fusion_close(struct hs_fusion *fusion);

/* hs_merge_into_model, with the runtime that knows the tensors' types. */
HS_CHECKED hs_status hs_fusion_write_model(const struct hs_runtime *rt, const char *base_path,
                                           const struct hs_fusion *fusion,
                                           const struct hs_merge_params *params, const char *path,
                                           const char *type, struct hs_error *err);

/* A model's file. */
struct hs_fusion_model {
    const struct hs_runtime *rt;
    const char *path;
    const hs_gguf *gguf;
    int fd;
};

/* The bytes of one tensor in its own type: merged, or with plan NULL as the file has them.
 * data[tensor->size_bytes]. */
HS_CHECKED hs_status hs_fusion_tensor(const struct hs_fusion_model *model,
                                      const hs_merge_plan *plan,
                                      const struct hs_gguf_tensor *tensor,
                                      const struct hs_merge_params *params, void *data,
                                      struct hs_error *err);

#endif
