#include "llama_lora.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* ---- of a model ---- */

hs_status hs_llama_lora_new(hs_rt_model *model, enum hs_adapter_weights weights,
                            struct hs_error *err)
{
    struct hs_llama_lora *lora = hs_calloc(1, sizeof(*lora));
    if (!lora) {
        return hs_error_nomem(err, "model");
    }
    lora->model = model;
    lora->weights = weights;
    pthread_mutex_init(&lora->lock, NULL);
    pthread_mutex_init(&lora->llama_lock, NULL);
    model->lora = lora;
    return HS_OK;
}

void hs_llama_lora_free(struct hs_llama_lora *lora)
{
    if (lora) {
        pthread_mutex_destroy(&lora->lock);
        pthread_mutex_destroy(&lora->llama_lock);
        hs_free(lora->sites);
        hs_free(lora);
    }
}

hs_status hs_llama_lora_prepare(hs_rt_model *model, enum hs_lora_engine wanted,
                                const struct hs_rt_context_params *params, struct hs_error *err)
{
    struct hs_lora_verdict verdict;
    return hs_lora_choose(model, wanted, params, &verdict, err);
}

/* ---- adapters ---- */

static hs_status misfit(const struct hs_lora_target *target, const struct hs_lora_site *site,
                        struct hs_error *err)
{
    if (!site) {
        hs_error_set(err, HS_MISMATCH, "the model has no matrix '%.*s' in its products",
                     (int)sizeof(target->tensor) - 1, target->tensor);
    } else {
        hs_error_set(err, HS_MISMATCH,
                     "'%s' is %lld x %lld in the model and %lld x %lld in the adapter",
                     site->tensor, (long long)site->n_out, (long long)site->n_in,
                     (long long)target->n_out, (long long)target->n_in);
    }
    return hs_error_hint(err, "the adapter was made for another model");
}

static hs_status find_site(const struct hs_llama_lora *lora, const struct hs_lora_target *target,
                           int32_t *ret_site, struct hs_error *err)
{
    char name[HS_LORA_TENSOR_NAME_MAX];
    memcpy(name, target->tensor, sizeof(name));
    name[sizeof(name) - 1] = '\0';
    int32_t at = hs_lora_site_named(lora, name);
    const struct hs_lora_site *site = at >= 0 ? &lora->sites[at] : NULL;
    if (site && site->kind == HS_LORA_SITE_FIXED) {
        hs_error_set(err, HS_NOT_SUPPORTED, "adapters cannot change '%s' of this model",
                     site->tensor);
        return hs_error_hint(err, "train the adapter without this matrix");
    }
    if (!site || site->n_in != target->n_in || site->n_out != target->n_out ||
        target->is_embedding != (site->kind == HS_LORA_SITE_EMBEDDING)) {
        return misfit(target, site, err);
    }
    *ret_site = at;
    return HS_OK;
}

static hs_status pack_target(hs_rt_adapter *adapter, const struct hs_lora_target *target,
                             enum hs_adapter_weights keep, struct hs_error *err)
{
    int32_t at = -1;
    hs_status status = find_site(adapter->lora, target, &at, err);
    if (status == HS_OK && adapter->weights[at]) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "the adapter changes '%s' twice",
                              adapter->lora->sites[at].tensor);
    }
    if (status == HS_OK) {
        status = hs_lora_packed_new(target, keep, &adapter->weights[at], err);
    }
    if (status != HS_OK) {
        return status;
    }
    int64_t n_scratch = hs_lora_packed_scratch(adapter->weights[at]);
    adapter->n_scratch = n_scratch > adapter->n_scratch ? n_scratch : adapter->n_scratch;
    adapter->n_bytes += hs_lora_packed_bytes(adapter->weights[at]);
    return HS_OK;
}

hs_status hs_lora_adapter_pack(const hs_rt_model *model, const struct hs_lora *weights,
                               enum hs_adapter_weights keep, hs_rt_adapter **ret_adapter,
                               struct hs_error *err)
{
    struct hs_llama_lora *lora = model->lora;
    size_t size = sizeof(hs_rt_adapter) + (size_t)lora->n_sites * sizeof(struct hs_lora_packed *);
    hs_rt_adapter *adapter = hs_calloc(1, size);
    if (!adapter) {
        return hs_error_nomem(err, "adapter");
    }
    adapter->lora = lora;
    adapter->id = atomic_fetch_add(&lora->n_adapters, 1);
    adapter->n_sites = lora->n_sites;
    adapter->n_bytes = size;
    for (int32_t i = 0; i < weights->n_targets; i++) {
        hs_status status = pack_target(adapter, &weights->targets[i], keep, err);
        if (status != HS_OK) {
            hs_llama_adapter_free(adapter);
            return status;
        }
    }
    *ret_adapter = adapter;
    return HS_OK;
}

hs_status hs_llama_adapter_new(const hs_rt_model *model, const struct hs_lora *lora,
                               hs_rt_adapter **ret_adapter, struct hs_error *err)
{
    pthread_mutex_lock(&model->lora->lock);
    hs_status status = hs_lora_sites_find(model, err);
    pthread_mutex_unlock(&model->lora->lock);
    return status == HS_OK
               ? hs_lora_adapter_pack(model, lora, model->lora->weights, ret_adapter, err)
               : status;
}

void hs_llama_adapter_free(hs_rt_adapter *adapter)
{
    if (adapter) {
        for (int32_t i = 0; i < adapter->n_sites; i++) {
            hs_lora_packed_free(adapter->weights[i]);
        }
        hs_free(adapter);
    }
}

uint64_t hs_llama_adapter_bytes(const hs_rt_adapter *adapter)
{
    return adapter->n_bytes;
}

/* ---- of a context ---- */

hs_status hs_lora_run_new(hs_rt_context *context, struct hs_error *err)
{
    struct hs_lora_run *run = hs_calloc(1, sizeof(*run));
    if (!run) {
        return hs_error_nomem(err, "adapters of a context");
    }
    run->context = context;
    run->model = context->model;
    run->plan.n_threads = context->params.n_threads;
    run->plan.n_threads_batch = context->params.n_threads_batch;
    run->chain.site = -1;
    context->lora = run;
    return HS_OK;
}

void hs_lora_run_free(struct hs_lora_run *run)
{
    if (run) {
        hs_lora_stack_free(run);
        hs_lora_plan_free(&run->plan);
        hs_free(run->calls);
        hs_free(run);
    }
}

hs_status hs_lora_run_set_up(struct hs_lora_run *run, enum hs_lora_engine engine,
                             struct hs_error *err)
{
    struct hs_llama_lora *lora = run->model->lora;
    run->calls = hs_calloc((size_t)lora->n_sites + 1, sizeof(*run->calls));
    if (!run->calls) {
        return hs_error_nomem(err, "adapters of a context");
    }
    for (int32_t i = 0; i < lora->n_sites; i++) {
        hs_lora_call_init(&run->calls[i]);
    }
    if (engine != HS_LORA_ENGINE_REWRITE) {
        hs_status status = hs_lora_stack_new(run, err);
        if (status != HS_OK) {
            hs_free(run->calls);
            run->calls = NULL;
            return status;
        }
    } else if (lora->ghost) {
        float one = 1;
        llama_set_adapters_lora(run->context->llama, &lora->ghost, 1, &one);
        run->is_reserving = true;
    }
    run->stats.engine = engine;
    run->stats.is_one_set = engine == HS_LORA_ENGINE_NATIVE;
    return HS_OK;
}

static bool has_adapters(const struct hs_rt_batch_item *items, int32_t n_items)
{
    for (int32_t i = 0; i < n_items; i++) {
        if (items[i].adapters) {
            return true;
        }
    }
    return false;
}

static hs_status set_up_chosen(struct hs_lora_run *run, struct hs_error *err)
{
    const struct hs_rt_context_params *params = &run->context->params;
    struct hs_lora_verdict verdict;
    hs_status status = hs_lora_choose(run->model, params->lora_engine, params, &verdict, err);
    if (status == HS_OK) {
        status = hs_lora_run_set_up(run, verdict.engine, err);
    }
    if (status == HS_OK) {
        memcpy(run->stats.reason, verdict.reason, sizeof(run->stats.reason));
    }
    return status;
}

static hs_status begin(struct hs_lora_run *run, const struct hs_rt_batch_item *items,
                       int32_t n_items, struct hs_error *err)
{
    hs_status status = HS_OK;
    if (run->stats.engine == HS_LORA_ENGINE_AUTO) {
        status = set_up_chosen(run, err);
    }
    if (status == HS_OK) {
        status = hs_lora_plan_make(&run->plan, run->model->lora, items, n_items, err);
    }
    if (status == HS_OK && run->stack) {
        status = hs_lora_stack_set(run, err);
    }
    if (status != HS_OK) {
        return status;
    }
    run->is_planned = true;
    run->mismatch[0] = '\0';
    if (run->is_reserving) {
        pthread_mutex_lock(&run->model->lora->llama_lock);
    }
    return HS_OK;
}

hs_status hs_lora_decode_begin(hs_rt_context *context, const struct hs_rt_batch_item *items,
                               int32_t n_items, struct hs_error *err)
{
    struct hs_lora_run *run = context->lora;
    bool is_used = has_adapters(items, n_items);
    if (is_used && !run) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "this context was made without adapters");
    }
    /* Until the first adapter comes, llama.cpp's graphs are as if there were none. */
    if (!run || (!is_used && run->stats.engine == HS_LORA_ENGINE_AUTO)) {
        return HS_OK;
    }
    return begin(run, items, n_items, err);
}

static void count(struct hs_lora_run *run)
{
    struct hs_rt_lora_stats *stats = &run->stats;
    const struct hs_lora_plan *plan = &run->plan;
    stats->n_decodes += plan->n_members > 0;
    stats->n_decodes_mixed += plan->n_sets > 1;
    stats->n_sets_max = plan->n_sets > stats->n_sets_max ? plan->n_sets : stats->n_sets_max;
}

hs_status hs_lora_decode_end(hs_rt_context *context, bool is_computed, hs_status status,
                             struct hs_error *err)
{
    struct hs_lora_run *run = context->lora;
    if (!run || !run->is_planned) {
        return status;
    }
    if (run->is_reserving) {
        pthread_mutex_unlock(&run->model->lora->llama_lock);
        run->is_reserving = false;
    }
    run->is_planned = false;
    const struct hs_lora_plan *plan = &run->plan;
    if (is_computed && hs_lora_graph_ended(run) && plan->first + plan->n_rows != plan->n_items) {
        hs_lora_mismatch(run, "%d rows of %d were computed", plan->first + plan->n_rows,
                         plan->n_items);
    }
    if (run->mismatch[0]) {
        hs_error_set(err, HS_INTERNAL, "adapters cannot be applied to this batch: %s",
                     run->mismatch);
        return hs_error_hint(err, "use --lora-engine native");
    }
    if (is_computed) {
        count(run);
    }
    return status;
}

void hs_llama_lora_stats(const hs_rt_context *context, struct hs_rt_lora_stats *ret_stats)
{
    *ret_stats = context->lora ? context->lora->stats : (struct hs_rt_lora_stats){0};
}
