/*
 * Embeddings: a context whose every token has an output, and the pooling of them.
 *
 * llama.cpp pools within one micro-batch only, so a long input would lose all but its last part;
 * here the outputs of all parts are pooled, in double precision. Scores of a model that ranks are
 * llama.cpp's own, as they need its classification head.
 *
 * Each token also has room for logits that nobody asked for (llama.cpp leaves no choice), which is
 * why the vocabulary bounds the batch. Computing them, which may be more than all the rest, is left
 * out: the scheduler asks before it computes a graph whether its nodes are to be looked at, and
 * that is when the product with the vocabulary becomes a node of no operation.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/machine.h"
#include "base/mem.h"
#include "llama_internal.h"

#define LOGITS_BYTES (64u << 20) /* of a batch, in the graph and once more where they are read */
#define MIN_BATCH 32

void hs_llama_embed_info(const struct llama_model *model, struct hs_rt_model_info *info)
{
    char key[96];
    char value[16] = "";
    snprintf(key, sizeof(key), "%s.pooling_type", info->architecture);
    if (llama_model_meta_val_str(model, key, value, sizeof(value)) < 0) {
        value[0] = '\0';
    }
    static const enum hs_rt_pooling poolings[] = {HS_RT_POOLING_MEAN, HS_RT_POOLING_MEAN,
                                                  HS_RT_POOLING_CLS, HS_RT_POOLING_LAST,
                                                  HS_RT_POOLING_RANK};
    unsigned long type = strtoul(value, NULL, 10);
    info->pooling =
        type < sizeof(poolings) / sizeof(poolings[0]) ? poolings[type] : HS_RT_POOLING_MEAN;
    info->n_embd_out = info->pooling == HS_RT_POOLING_RANK ? (int32_t)llama_model_n_cls_out(model)
                                                           : llama_model_n_embd_out(model);
}

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t max_i32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* The sizes when inputs may come in parts, or have to come whole. */
static void set_sizes(const hs_rt_model *model, const struct hs_rt_context_params *wanted,
                      bool is_whole, struct hs_rt_context_params *params,
                      struct hs_rt_embedder *embedder)
{
    uint64_t row_bytes = (uint64_t)model->n_vocab * sizeof(float);
    int32_t good = (int32_t)(LOGITS_BYTES / (2 * row_bytes) + 1);
    good = min_i32(max_i32(good, MIN_BATCH), max_i32(wanted->n_ubatch, 1));
    int32_t n_input = wanted->n_ctx;
    int32_t n_batch = good;
    if (is_whole) {
        /* Positions beyond those it was trained with are missing in such models. */
        uint64_t most = hs_machine_memory_available() / 4 / row_bytes;
        n_input = min_i32(n_input, max_i32(model->info.n_ctx_train, 1));
        n_input = (uint64_t)n_input > most && most > 0 ? (int32_t)most : n_input;
        n_batch = max_i32(n_input, good);
    }
    *params = *wanted;
    params->n_ctx = n_input + n_batch;
    params->n_batch = params->n_ubatch = n_batch;
    /* Recurrent states are computed one sequence at a time anyway. */
    params->n_seq_max = model->info.is_recurrent ? 1 : min_i32(wanted->n_seq_max, n_batch);
    params->kv_type = HS_KV_F16;
    params->has_embeddings = true;
    *embedder = (struct hs_rt_embedder){.n_input_max = n_input,
                                        .n_batch = n_batch,
                                        .n_batch_good = good,
                                        .n_seq_max = params->n_seq_max,
                                        .is_whole = is_whole};
}

static bool says_not_causal(const hs_rt_model *model)
{
    char key[96];
    char value[16];
    snprintf(key, sizeof(key), "%s.attention.causal", model->info.architecture);
    return llama_model_meta_val_str(model->llama, key, value, sizeof(value)) >= 0 &&
           strcmp(value, "false") == 0;
}

static hs_status make_pool(hs_rt_context *context, struct hs_error *err)
{
    size_t n_seq = (size_t)context->params.n_seq_max;
    size_t n_values = (size_t)context->model->info.n_embd_out;
    context->pooled = hs_calloc(n_seq * n_values, sizeof(context->pooled[0]));
    context->n_pooled = hs_calloc(n_seq, sizeof(context->n_pooled[0]));
    return context->pooled && context->n_pooled ? HS_OK : hs_error_nomem(err, "embeddings");
}

static hs_status check_kind(const hs_rt_model *model, struct hs_error *err)
{
    if (model->info.has_encoder && model->info.has_decoder) {
        return hs_error_set(err, HS_NOT_SUPPORTED,
                            "'%s' models have an encoder and a decoder; embeddings of such models "
                            "are not supported",
                            model->info.architecture);
    }
    if (model->info.n_embd_out < 1) {
        return hs_error_set(err, HS_NOT_SUPPORTED, "the model has no embeddings");
    }
    return HS_OK;
}

hs_status hs_llama_embedder_new(hs_rt_model *model, const struct hs_rt_context_params *wanted,
                                struct hs_rt_embedder *ret_embedder, struct hs_error *err)
{
    hs_status status = check_kind(model, err);
    bool is_encoder = !model->info.has_decoder;
    bool is_whole = is_encoder || says_not_causal(model);
    struct hs_rt_embedder embedder = {0};
    while (status == HS_OK && !embedder.context) {
        struct hs_rt_context_params params;
        set_sizes(model, wanted, is_whole, &params, &embedder);
        status = hs_llama_context_new(model, &params, &embedder.context, err);
        /* Only the context tells whether it has a memory for the parts of an input. */
        if (status == HS_OK && !is_whole &&
            (!embedder.context->memory || !llama_get_causal_attn(embedder.context->llama))) {
            is_whole = true;
            hs_llama_context_free(embedder.context);
            embedder.context = NULL;
        }
    }
    if (status == HS_OK) {
        embedder.context->is_encoder = is_encoder;
        status = make_pool(embedder.context, err);
    }
    if (status != HS_OK) {
        hs_llama_context_free(embedder.context);
        return status;
    }
    *ret_embedder = embedder;
    return HS_OK;
}

bool hs_llama_drop_logits(struct ggml_tensor *node, bool ask, void *user)
{
    (void)user;
    if (ask && node->op == GGML_OP_MUL_MAT &&
        (strcmp(node->src[0]->name, "output.weight") == 0 ||
         strcmp(node->src[0]->name, "token_embd.weight") == 0)) {
        node->op = GGML_OP_NONE;
    }
    return !ask;
}

static void pool_row(hs_rt_context *context, int32_t seq, const float *row)
{
    enum hs_rt_pooling pooling = context->model->info.pooling;
    size_t n_values = (size_t)context->model->info.n_embd_out;
    double *pooled = context->pooled + (size_t)seq * n_values;
    bool is_first = context->n_pooled[seq] == 0;
    context->n_pooled[seq]++;
    if (pooling == HS_RT_POOLING_CLS && !is_first) {
        return;
    }
    bool is_sum = pooling == HS_RT_POOLING_MEAN && !is_first;
    for (size_t i = 0; i < n_values; i++) {
        pooled[i] = (double)row[i] + (is_sum ? pooled[i] : 0.0);
    }
}

hs_status hs_llama_embed(hs_rt_context *context, const struct hs_rt_batch_item *items,
                         int32_t n_items, enum hs_rt_decode *ret_outcome, struct hs_error *err)
{
    enum hs_rt_decode outcome = HS_RT_DECODE_OK;
    hs_status status = hs_llama_decode(context, items, n_items, &outcome, err);
    if (status != HS_OK || outcome != HS_RT_DECODE_OK) {
        *ret_outcome = outcome;
        return status;
    }
    bool is_rank = context->model->info.pooling == HS_RT_POOLING_RANK;
    for (int32_t i = 0; i < n_items; i++) {
        const float *row = is_rank ? llama_get_embeddings_seq(context->llama, items[i].seq)
                                   : llama_get_embeddings_ith(context->llama, i);
        if (!row) {
            return hs_error_set(err, HS_INTERNAL, "llama.cpp gave no output for batch item %d", i);
        }
        pool_row(context, items[i].seq, row);
    }
    *ret_outcome = HS_RT_DECODE_OK;
    return HS_OK;
}

void hs_llama_embed_take(hs_rt_context *context, int32_t seq, float *values)
{
    size_t n_values = (size_t)context->model->info.n_embd_out;
    const double *pooled = context->pooled + (size_t)seq * n_values;
    bool is_mean = context->model->info.pooling == HS_RT_POOLING_MEAN;
    double n = is_mean && context->n_pooled[seq] > 0 ? (double)context->n_pooled[seq] : 1.0;
    for (size_t i = 0; values && i < n_values; i++) {
        values[i] = (float)(pooled[i] / n);
    }
    context->n_pooled[seq] = 0;
    if (context->memory) {
        llama_memory_seq_rm(context->memory, seq, -1, -1);
    }
}
