/* llama_weights.c - the weights of a loaded model, changed in place. */
#include <string.h>

#include "base/error.h"
#include "llama_lora.h"

/* llama.cpp maps weights read-only; its buffers of them are called "CPU_Mapped" and the like. */
static bool is_mapped(const struct ggml_tensor *weight)
{
    return strstr(ggml_backend_buffer_name(weight->buffer), "Mapped") != NULL;
}

static hs_status check(const struct ggml_tensor *weight, const char *tensor, uint32_t type,
                       size_t size, struct hs_error *err)
{
    if (is_mapped(weight)) {
        hs_error_set(err, HS_NOT_SUPPORTED,
                     "%s is in a mapped file: weights cannot be changed in it", tensor);
        hs_error_hint(err, "load the model with --no-mmap");
        return HS_NOT_SUPPORTED;
    }
    if ((uint32_t)weight->type != type || ggml_nbytes(weight) != size) {
        return hs_error_set(err, HS_MISMATCH, "%s has type %s and %zu bytes, not type %u and %zu",
                            tensor, ggml_type_name(weight->type), ggml_nbytes(weight), type, size);
    }
    return HS_OK;
}

/* A tied output matrix may be a copy of the embeddings, under their name. */
hs_status hs_llama_weights_set(hs_rt_model *model, const char *tensor, uint32_t type,
                               const void *data, size_t size, struct hs_error *err)
{
    struct hs_llama_lora *lora = model->lora;
    const struct ggml_tensor *last = NULL;
    pthread_mutex_lock(&lora->lock);
    hs_status status = hs_lora_sites_find(model, err);
    pthread_mutex_unlock(&lora->lock);
    for (int32_t i = 0; i < lora->n_sites && status == HS_OK; i++) {
        const struct ggml_tensor *weight = lora->sites[i].weight;
        if (strcmp(weight->name, tensor) != 0 || weight == last) {
            continue;
        }
        status = check(weight, tensor, type, size, err);
        if (status == HS_OK) {
            ggml_backend_tensor_set((struct ggml_tensor *)(uintptr_t)weight, data, 0, size);
            last = weight;
        }
    }
    if (status == HS_OK && last == NULL) {
        hs_error_set(err, HS_NOT_FOUND, "the model does not multiply with '%.80s'", tensor);
        hs_error_hint(err, "merge into a copy of the model instead");
        return HS_NOT_FOUND;
    }
    return status;
}
