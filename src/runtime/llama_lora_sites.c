/*
 * The graph itself says which matrices there are: one decode of one token in a small context, cut
 * off behind its first node, shows all products with weights. A second one with the ghost shows
 * which of them llama.cpp adds adapters to.
 */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_cxx.h"
#include "llama_log.h"
#include "llama_lora.h"

#define EMBEDDING "token_embd.weight"
#define OUTPUT "output.weight"
#define SUFFIX_LEN 7u /* of ".lora_a" */

struct search {
    const hs_rt_model *model;
    struct hs_llama_lora *lora;
    struct llama_context *llama;
    struct llama_adapter_lora *ghost;
    int32_t capacity;
    bool has_no_memory;
    int32_t result;
};

int32_t hs_lora_site_named(const struct hs_llama_lora *lora, const char *tensor)
{
    for (int32_t i = 0; i < lora->n_sites; i++) {
        if (strcmp(lora->sites[i].tensor, tensor) == 0) {
            return i;
        }
    }
    return -1;
}

static bool is_weight(const struct ggml_tensor *tensor)
{
    return tensor && tensor->op == GGML_OP_NONE && tensor->buffer &&
           ggml_backend_buffer_get_usage(tensor->buffer) == GGML_BACKEND_BUFFER_USAGE_WEIGHTS;
}

static void add_site(struct search *search, const char *tensor, enum hs_lora_site_kind kind,
                     const struct ggml_tensor *weight)
{
    struct hs_llama_lora *lora = search->lora;
    if (hs_lora_site_named(lora, tensor) >= 0 || search->has_no_memory) {
        return;
    }
    if (lora->n_sites == search->capacity) {
        int32_t capacity = search->capacity ? 2 * search->capacity : 256;
        struct hs_lora_site *sites =
            hs_realloc_array(lora->sites, (size_t)capacity, sizeof(*sites));
        if (!sites) {
            search->has_no_memory = true;
            return;
        }
        lora->sites = sites;
        search->capacity = capacity;
    }
    struct hs_lora_site *site = &lora->sites[lora->n_sites++];
    bool is_embedding = kind == HS_LORA_SITE_EMBEDDING;
    *site = (struct hs_lora_site){.kind = kind,
                                  .n_in = weight->ne[is_embedding],
                                  .n_out = weight->ne[!is_embedding],
                                  .weight = weight};
    snprintf(site->tensor, sizeof(site->tensor), "%s", tensor);
}

/* What comes before and behind the layers is changed in host memory. */
static enum hs_lora_site_kind end_kind(const struct ggml_tensor *node, enum hs_lora_site_kind kind)
{
    return node->buffer && ggml_backend_buffer_is_host(node->buffer) ? kind : HS_LORA_SITE_FIXED;
}

/* llama.cpp asserts that NVFP4 matrices have no adapters, and a name has to leave room for the
 * suffix. Its embeddings with an adapter end the process when they are the output matrix, too. */
static void add_product(struct search *search, const struct ggml_tensor *weight,
                        const struct ggml_tensor *node)
{
    if (strcmp(weight->name, EMBEDDING) == 0 || strcmp(weight->name, OUTPUT) == 0) {
        add_site(search, OUTPUT, end_kind(node, HS_LORA_SITE_OUTPUT), weight);
        return;
    }
    bool is_plain = node->op == GGML_OP_MUL_MAT && ggml_n_dims(weight) <= 2 &&
                    weight->type != GGML_TYPE_NVFP4 &&
                    strlen(weight->name) + SUFFIX_LEN < GGML_MAX_NAME;
    add_site(search, weight->name, is_plain ? HS_LORA_SITE_PRODUCT : HS_LORA_SITE_FIXED, weight);
}

static bool collect(struct ggml_tensor *node, bool ask, void *user)
{
    struct search *search = user;
    const struct ggml_tensor *weight = node->src[0];
    if (ask && is_weight(weight)) {
        if (node->op == GGML_OP_GET_ROWS && strcmp(weight->name, EMBEDDING) == 0) {
            add_site(search, EMBEDDING, end_kind(node, HS_LORA_SITE_EMBEDDING), weight);
        } else if (node->op == GGML_OP_MUL_MAT || node->op == GGML_OP_MUL_MAT_ID) {
            add_product(search, weight, node);
        }
    }
    return !ask;
}

/* Adapters' tensors are no weights to ggml: they are told by their names. */
static bool meet_ghost(struct ggml_tensor *node, bool ask, void *user)
{
    struct search *search = user;
    const struct ggml_tensor *factor = node->src[0];
    size_t len = ask && node->op == GGML_OP_MUL_MAT ? strlen(factor->name) : 0;
    if (len > SUFFIX_LEN && factor->op == GGML_OP_NONE) {
        const char *suffix = factor->name + len - SUFFIX_LEN;
        char tensor[GGML_MAX_NAME];
        snprintf(tensor, sizeof(tensor), "%.*s", (int)(len - SUFFIX_LEN), factor->name);
        int32_t at = hs_lora_site_named(search->lora, tensor);
        if (at >= 0 && strcmp(suffix, ".lora_a") == 0) {
            search->lora->sites[at].ghost_a = factor;
        } else if (at >= 0 && strcmp(suffix, ".lora_b") == 0) {
            search->lora->sites[at].ghost_b = factor;
        }
    }
    return !ask;
}

static bool stop_at_once(void *user)
{
    (void)user;
    return true;
}

static void decode_one(void *arg)
{
    struct search *search = arg;
    llama_token token = 0;
    if (search->llama) {
        search->result = llama_decode(search->llama, llama_batch_get_one(&token, 1));
    }
}

static void look_at_graph(void *arg)
{
    struct search *search = arg;
    const struct hs_rt_context_params small = {.n_ctx = 32,
                                               .n_batch = 1,
                                               .n_ubatch = 1,
                                               .n_seq_max = 1,
                                               .n_threads = 1,
                                               .n_threads_batch = 1};
    struct llama_context_params params = hs_llama_context_params(&small);
    params.cb_eval = search->ghost ? meet_ghost : collect;
    params.cb_eval_user_data = search;
    /* With several devices later ones are asked about only when the first have computed. */
    if (search->model->info.n_gpu_layers == 0) {
        params.abort_callback = stop_at_once;
    }
    float one = 1;
    search->llama = llama_init_from_model(search->model->llama, params);
    if (search->llama && search->ghost) {
        llama_set_adapters_lora(search->llama, &search->ghost, 1, &one);
    }
    decode_one(search);
}

static hs_status look(struct search *search, struct hs_error *err)
{
    struct hs_llama_capture log;
    search->result = -1;
    hs_llama_log_capture(&log);
    pthread_mutex_lock(&search->lora->llama_lock);
    hs_status status =
        hs_cxx_guard(look_at_graph, search, "looking for matrices that adapters change", err);
    llama_free(search->llama);
    pthread_mutex_unlock(&search->lora->llama_lock);
    hs_llama_log_capture(NULL);
    search->llama = NULL;
    if (status != HS_OK) {
        return status;
    }
    if (search->has_no_memory) {
        return hs_error_nomem(err, "matrices that adapters change");
    }
    if (search->result != 0 && search->result != 2) {
        return hs_error_set(err, HS_INTERNAL, "no graph of the model to apply adapters in: %s",
                            hs_llama_capture_essence(&log));
    }
    return HS_OK;
}

static void judge_sites(struct hs_llama_lora *lora)
{
    for (int32_t i = 0; i < lora->n_sites; i++) {
        struct hs_lora_site *site = &lora->sites[i];
        if (site->kind == HS_LORA_SITE_PRODUCT && !(site->ghost_a && site->ghost_b)) {
            site->kind = HS_LORA_SITE_FIXED;
        }
        if (site->kind != HS_LORA_SITE_PRODUCT) {
            continue;
        }
        if (lora->n_products++ == 0) {
            lora->ghost_first = lora->ghost_last = site->ghost_a;
        }
        lora->ghost_first = site->ghost_a < lora->ghost_first ? site->ghost_a : lora->ghost_first;
        lora->ghost_last = site->ghost_a > lora->ghost_last ? site->ghost_a : lora->ghost_last;
    }
}

static hs_status find(const hs_rt_model *model, struct hs_error *err)
{
    struct hs_llama_lora *lora = model->lora;
    struct search search = {.model = model, .lora = lora};
    hs_status status = look(&search, err);
    if (status == HS_OK) {
        status = hs_lora_native_new(model, NULL, 0, NULL, &search.ghost, err);
    }
    if (status == HS_OK && search.ghost) {
        status = look(&search, err);
    }
    if (status != HS_OK) {
        if (search.ghost) {
            hs_lora_native_free(model, search.ghost);
        }
        return status;
    }
    judge_sites(lora);
    lora->embedding = hs_lora_site_named(lora, EMBEDDING);
    lora->output = hs_lora_site_named(lora, OUTPUT);
    lora->ghost = search.ghost;
    return HS_OK;
}

hs_status hs_lora_sites_find(const hs_rt_model *model, struct hs_error *err)
{
    struct hs_llama_lora *lora = model->lora;
    if (lora->is_found) {
        return HS_OK;
    }
    hs_status status = find(model, err);
    if (status != HS_OK) {
        hs_free(lora->sites);
        lora->sites = NULL;
        lora->n_sites = 0;
        return status;
    }
    lora->is_found = true;
    return HS_OK;
}
