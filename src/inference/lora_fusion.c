/* lora_fusion.c - merge_adapters(base, adapters) -> FusedWeights. */
#include "lora_fusion.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "adapters/adapter_write.h"
#include "adapters/peft_write.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/machine.h"
#include "base/mem.h"

#define RECIPE_MAX 8192
#define THREADS_MAX 64

/* ---- adapters and the plan ---- */

static hs_status make_recipe(const struct hs_merge_source *sources, int32_t n,
                             const struct hs_merge_params *params, char **ret_recipe,
                             struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(RECIPE_MAX);
    hs_status status = hs_buf_printf(&text, "%s of", hs_merge_method_name(params->method));
    for (int32_t i = 0; i < n && status == HS_OK; i++) {
        status = hs_buf_printf(&text, "%s%.80s:%g", i == 0 ? " " : " + ", sources[i].name,
                               sources[i].weight);
    }
    size_t len;
    if (status == HS_OK) {
        status = hs_buf_take(&text, ret_recipe, &len);
    }
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "the description of a merge");
}

static hs_status open_files(const char *base_path, const struct hs_merge_source *sources,
                            int32_t n_sources, struct hs_fusion *fusion, struct hs_error *err)
{
    hs_status status = hs_lora_base_open(base_path, &fusion->base, err);
    for (int32_t i = 0; i < n_sources && status == HS_OK; i++) {
        status = hs_adapter_file_load(sources[i].path, fusion->base, &fusion->files[i], err);
        fusion->n_files += status == HS_OK ? 1 : 0;
        if (status != HS_OK) {
            hs_error_prefix(err, "adapter '%s'", sources[i].name);
        }
    }
    return status;
}

hs_status hs_fusion_open(const char *base_path, const struct hs_merge_source *sources,
                         int32_t n_sources, const struct hs_merge_params *params,
                         struct hs_fusion *ret_fusion, struct hs_error *err)
{
    struct hs_fusion fusion = {0};
    struct hs_merge_input inputs[HS_MERGE_INPUTS_MAX];
    if (n_sources > HS_MERGE_INPUTS_MAX) {
        hs_error_set(err, HS_LIMIT, "%d adapters to merge are more than the limit of %d", n_sources,
                     HS_MERGE_INPUTS_MAX);
        hs_error_hint(err, "merge some first, then the results");
        return HS_LIMIT;
    }
    hs_status status = open_files(base_path, sources, n_sources, &fusion, err);
    for (int32_t i = 0; i < fusion.n_files; i++) {
        inputs[i] =
            (struct hs_merge_input){&fusion.files[i]->lora, sources[i].name, sources[i].weight};
    }
    if (status == HS_OK) {
        status = hs_merge_plan_new(inputs, n_sources, params, &fusion.plan, err);
    }
    if (status == HS_OK) {
        status = make_recipe(sources, n_sources, params, &fusion.recipe, err);
    }
    if (status != HS_OK) {
        hs_fusion_close(&fusion);
        return status;
    }
    *ret_fusion = fusion;
    return HS_OK;
}

void hs_fusion_close(struct hs_fusion *fusion)
{
    hs_merge_plan_free(fusion->plan);
    for (int32_t i = 0; i < fusion->n_files; i++) {
        hs_adapter_file_free(fusion->files[i]);
    }
    hs_lora_base_free(fusion->base);
    hs_free(fusion->recipe);
    *fusion = (struct hs_fusion){0};
}

/* ---- targets, on several threads ---- */

struct hs_fused_weights {
    hs_lora_base *base;
    char *recipe;
    struct hs_merge_factors *factors; /* [n] */
    struct hs_lora_target *targets;   /* [n] views of them */
    struct hs_lora lora;
};

struct job {
    const hs_merge_plan *plan;
    const struct hs_merge_params *params;
    struct hs_merge_factors *factors;
    atomic_int next;
    pthread_mutex_t lock; /* guards the rest */
    int32_t n_done;
    hs_status status; /* the first that failed */
    struct hs_error err;
};

/* Count a target that is done; false: stop. */
static bool finish_target(struct job *job, hs_status status, const struct hs_error *err)
{
    int32_t n = hs_merge_plan_n_targets(job->plan);
    pthread_mutex_lock(&job->lock);
    if (job->status == HS_OK && status != HS_OK) {
        job->status = status;
        job->err = *err;
    }
    job->n_done++;
    const struct hs_merge_params *params = job->params;
    if (job->status == HS_OK && params->progress != NULL &&
        !params->progress((float)job->n_done / (float)n, params->progress_user)) {
        job->status = hs_error_set(&job->err, HS_CANCELLED, "merging was cancelled");
    }
    bool goes_on = job->status == HS_OK;
    pthread_mutex_unlock(&job->lock);
    return goes_on;
}

static void *run_job(void *arg)
{
    struct job *job = arg;
    int32_t n = hs_merge_plan_n_targets(job->plan);
    bool goes_on = true;
    for (int32_t i = atomic_fetch_add(&job->next, 1); goes_on && i < n;
         i = atomic_fetch_add(&job->next, 1)) {
        struct hs_error err = {0};
        hs_status status = hs_merge_factors(job->plan, i, &job->factors[i], &err);
        goes_on = finish_target(job, status, &err);
    }
    return NULL;
}

static hs_status run_threads(struct job *job, struct hs_error *err)
{
    pthread_t threads[THREADS_MAX];
    int32_t n_wanted =
        job->params->n_threads > 0 ? job->params->n_threads : hs_machine_physical_cores();
    int32_t n_started = 0;
    n_wanted = n_wanted < THREADS_MAX ? n_wanted : THREADS_MAX;
    /* a thread that does not start is not missed: the others take its targets */
    while (n_started < n_wanted - 1 &&
           pthread_create(&threads[n_started], NULL, run_job, job) == 0) {
        n_started++;
    }
    run_job(job);
    for (int32_t i = 0; i < n_started; i++) {
        pthread_join(threads[i], NULL);
    }
    if (job->status != HS_OK && err != NULL) {
        *err = job->err;
    }
    return job->status;
}

static hs_status compute(const struct hs_fusion *fusion, const struct hs_merge_params *params,
                         hs_fused_weights *fused, struct hs_error *err)
{
    int32_t n = hs_merge_plan_n_targets(fusion->plan);
    fused->factors = hs_calloc((size_t)n, sizeof *fused->factors);
    fused->targets = hs_calloc((size_t)n, sizeof *fused->targets);
    if (fused->factors == NULL || fused->targets == NULL) {
        return hs_error_nomem(err, "merged weights");
    }
    fused->lora = (struct hs_lora){.targets = fused->targets, .n_targets = n};
    struct job job = {.plan = fusion->plan, .params = params, .factors = fused->factors};
    pthread_mutex_init(&job.lock, NULL);
    hs_status status = run_threads(&job, err);
    pthread_mutex_destroy(&job.lock);
    for (int32_t i = 0; i < n; i++) {
        fused->targets[i] = fused->factors[i].target;
    }
    return status;
}

hs_status hs_merge_adapters(const char *base_path, const struct hs_merge_source *sources,
                            int32_t n_sources, const struct hs_merge_params *params,
                            hs_fused_weights **ret_fused, struct hs_error *err)
{
    struct hs_fusion fusion;
    hs_status status = hs_fusion_open(base_path, sources, n_sources, params, &fusion, err);
    if (status != HS_OK) {
        return status;
    }
    hs_fused_weights *fused = hs_calloc(1, sizeof *fused);
    status = fused == NULL ? hs_error_nomem(err, "merged weights")
                           : compute(&fusion, params, fused, err);
    if (fused != NULL) { /* what the result says of itself outlives the adapters */
        fused->base = fusion.base;
        fused->recipe = fusion.recipe;
        fusion.base = NULL;
        fusion.recipe = NULL;
    }
    hs_fusion_close(&fusion);
    if (status != HS_OK) {
        hs_fused_weights_free(fused);
        return status;
    }
    *ret_fused = fused;
    return HS_OK;
}

void hs_fused_weights_free(hs_fused_weights *fused)
{
    if (fused == NULL) {
        return;
    }
    for (int32_t i = 0; i < fused->lora.n_targets; i++) {
        hs_merge_factors_clear(&fused->factors[i]);
    }
    hs_free(fused->factors);
    hs_free(fused->targets);
    hs_lora_base_free(fused->base);
    hs_free(fused->recipe);
    hs_free(fused);
}

int32_t hs_fused_weights_n_targets(const hs_fused_weights *fused)
{
    return fused->lora.n_targets;
}

void hs_fused_weights_target(const hs_fused_weights *fused, int32_t i,
                             struct hs_merge_target *ret_target)
{
    const struct hs_merge_factors *factors = &fused->factors[i];
    *ret_target = (struct hs_merge_target){
        .rank = factors->target.rank, .norm = factors->norm, .error = factors->error};
    memcpy(ret_target->tensor, factors->target.tensor, sizeof ret_target->tensor);
}

const struct hs_lora *hs_fused_weights_lora(const hs_fused_weights *fused)
{
    return &fused->lora;
}

hs_status hs_fused_weights_write(const hs_fused_weights *fused, const char *path, const char *name,
                                 bool is_f16, struct hs_error *err)
{
    const struct hs_adapter_about about = {
        .base = fused->base, .name = name, .description = fused->recipe, .is_f16 = is_f16};
    size_t len = strlen(path);
    return len > 0 && path[len - 1] == '/'
               ? hs_peft_write(path, &fused->lora, fused->base, NULL, is_f16, err)
               : hs_adapter_write_gguf(&fused->lora, &about, path, err);
}

hs_status hs_merge_into_model(const char *base_path, const struct hs_merge_source *sources,
                              int32_t n_sources, const struct hs_merge_params *params,
                              const char *path, const char *type, struct hs_error *err)
{
    struct hs_fusion fusion;
    hs_status status = hs_fusion_open(base_path, sources, n_sources, params, &fusion, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_fusion_write_model(hs_runtime_llama(), base_path, &fusion, params, path, type, err);
    hs_fusion_close(&fusion);
    return status;
}
