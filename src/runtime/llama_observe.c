/*
 * What goes into a model's matrices while it reads a text: the scheduler's callback (cb_eval) has
 * the wanted products computed one by one and looks at their second operand. Nothing behind the
 * last of them is needed; but for the logits the graph ends soon after.
 */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "ggml-backend.h"
#include "llama_cxx.h"
#include "llama_internal.h"
#include "llama_log.h"
#include "llama_lora.h"

struct observation {
    const struct hs_rt_observer *observer;
    struct llama_model *model;
    struct llama_context_params params;
    struct llama_context *llama;
    struct llama_batch batch;
    float *rows;
    size_t n_rows_max; /* values that rows has room for */
    bool has_no_memory;
    int32_t result;
};

static bool take_rows(struct observation *seen, const struct ggml_tensor *node)
{
    const struct ggml_tensor *x = node->src[1];
    size_t n = (size_t)ggml_nelements(x);
    if (x->type != GGML_TYPE_F32 || !ggml_is_contiguous(x) || ggml_n_dims(x) > 2) {
        return true; /* not rows of values: this matrix is not seen */
    }
    if (n > seen->n_rows_max) {
        float *rows = hs_realloc_array(seen->rows, n, sizeof(*rows));
        if (!rows) {
            seen->has_no_memory = true;
            return false;
        }
        seen->rows = rows;
        seen->n_rows_max = n;
    }
    ggml_backend_tensor_get(x, seen->rows, 0, n * sizeof(float));
    seen->observer->see(seen->observer->user, node->src[0]->name, seen->rows, x->ne[1], x->ne[0]);
    return true;
}

static bool look(struct ggml_tensor *node, bool ask, void *user)
{
    struct observation *seen = user;
    const struct hs_rt_observer *observer = seen->observer;
    if (node->op != GGML_OP_MUL_MAT || !observer->wants(observer->user, node->src[0]->name)) {
        return hs_llama_drop_logits(node, ask, NULL);
    }
    return ask || take_rows(seen, node);
}

static void init(void *arg)
{
    struct observation *seen = arg;
    seen->llama = llama_init_from_model(seen->model, seen->params);
}

static void compute(void *arg)
{
    struct observation *seen = arg;
    if (seen->llama) {
        seen->result = llama_decode(seen->llama, seen->batch);
    }
}

static void fill_batch(struct llama_batch *batch, const int32_t *tokens, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        batch->token[i] = tokens[i];
        batch->pos[i] = i;
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = 0;
        batch->logits[i] = i == n - 1;
    }
    batch->n_tokens = n;
}

static hs_status run(hs_rt_model *model, struct observation *seen, struct hs_error *err)
{
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    pthread_mutex_lock(&model->lora->llama_lock);
    hs_status status = hs_cxx_guard(init, seen, "making a context", err);
    pthread_mutex_unlock(&model->lora->llama_lock);
    if (status == HS_OK) {
        status = hs_cxx_guard(compute, seen, "looking into a model", err);
    }
    llama_free(seen->llama);
    hs_llama_log_capture(NULL);
    if (status == HS_OK && seen->has_no_memory) {
        status = hs_error_nomem(err, "rows of a matrix");
    } else if (status == HS_OK && seen->result != 0) {
        status = hs_error_set(err, HS_INTERNAL, "the model could not be looked into: %s",
                              hs_llama_capture_essence(&log));
    }
    return status;
}

hs_status hs_llama_observe(hs_rt_model *model, const int32_t *tokens, int32_t n_tokens,
                           int32_t n_threads, const struct hs_rt_observer *observer,
                           struct hs_error *err)
{
    if (!model->info.has_decoder || model->info.has_encoder) {
        return hs_error_set(err, HS_NOT_SUPPORTED,
                            "only decoders can be looked into, and '%s' is "
                            "none",
                            model->info.architecture);
    }
    const struct hs_rt_context_params params = {.n_ctx = n_tokens,
                                                .n_batch = n_tokens,
                                                .n_ubatch = n_tokens,
                                                .n_seq_max = 1,
                                                .n_threads = n_threads,
                                                .n_threads_batch = n_threads};
    struct observation seen = {.observer = observer,
                               .model = model->llama,
                               .params = hs_llama_context_params(&params),
                               .batch = llama_batch_init(n_tokens, 0, 1),
                               .result = -1};
    if (!seen.batch.token) {
        return hs_error_nomem(err, "batch");
    }
    seen.params.cb_eval = look;
    seen.params.cb_eval_user_data = &seen;
    fill_batch(&seen.batch, tokens, n_tokens);
    hs_status status = run(model, &seen, err);
    llama_batch_free(seen.batch);
    hs_free(seen.rows);
    return status;
}
