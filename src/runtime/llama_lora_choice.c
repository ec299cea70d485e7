/*
 * Which way a model's adapters are applied: the first that works of
 *
 *   rewrite   needs everything on the CPU, and rows that stay in the batch's order
 *   stacked   needs rows in order; copies weights whenever the adapters of a batch change
 *   native    one set of adapters a batch; llama.cpp's own, so there is nothing to test
 */
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "llama_lora.h"

/* What is known without a test; "" when nothing speaks against it. */
static const char *obstacle(const hs_rt_model *model, enum hs_lora_engine engine)
{
    if (engine == HS_LORA_ENGINE_NATIVE) {
        return "";
    }
    if (model->info.is_recurrent) {
        return "llama.cpp reorders the batches of recurrent models";
    }
    if (engine == HS_LORA_ENGINE_REWRITE &&
        (model->info.n_gpu_layers > 0 || hs_llama_gpu_free(NULL) > 0)) {
        return "the model may compute on a GPU";
    }
    return "";
}

static hs_status try_engine(const hs_rt_model *model, enum hs_lora_engine engine,
                            const struct hs_rt_context_params *params, struct hs_error *err)
{
    static const char *const names[] = {"auto", "rewrite", "stacked", "native"};
    const char *why = obstacle(model, engine);
    hs_status status = HS_OK;
    if (*why) {
        status = hs_error_set(err, HS_NOT_SUPPORTED, "%s", why);
    } else if (engine != HS_LORA_ENGINE_NATIVE) {
        status = hs_lora_self_test(model, engine, params, err);
    }
    if (status != HS_OK) {
        hs_error_prefix(err, "%s", names[engine]);
    }
    return status;
}

static void judge(const hs_rt_model *model, enum hs_lora_engine wanted,
                  const struct hs_rt_context_params *params, struct hs_lora_verdict *verdict)
{
    bool is_forced = wanted != HS_LORA_ENGINE_AUTO;
    enum hs_lora_engine engine = is_forced ? wanted : HS_LORA_ENGINE_REWRITE;
    struct hs_error err = {0};
    hs_status status = try_engine(model, engine, params, &err);
    *verdict = (struct hs_lora_verdict){.is_known = true, .engine = engine};
    if (status != HS_OK) {
        snprintf(verdict->reason, sizeof(verdict->reason), "%.*s", (int)sizeof(verdict->reason) - 1,
                 err.message);
    }
    while (status != HS_OK && !is_forced && engine < HS_LORA_ENGINE_NATIVE) {
        engine++;
        status = try_engine(model, engine, params, &err);
        verdict->engine = engine;
    }
    /* Without memory there was no test. */
    verdict->is_known = status != HS_OUT_OF_MEMORY && err.status != HS_OUT_OF_MEMORY;
    verdict->status = status == HS_OK || status == HS_OUT_OF_MEMORY ? status : HS_NOT_SUPPORTED;
    if (!is_forced && verdict->reason[0]) {
        hs_log(HS_LOG_WARN, "runtime", "adapters are not applied by rewriting: %s",
               verdict->reason);
    }
}

hs_status hs_lora_choose(const hs_rt_model *model, enum hs_lora_engine wanted,
                         const struct hs_rt_context_params *params,
                         struct hs_lora_verdict *ret_verdict, struct hs_error *err)
{
    struct hs_llama_lora *lora = model->lora;
    if (wanted < HS_LORA_ENGINE_AUTO || wanted > HS_LORA_ENGINE_NATIVE) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "there is no adapter engine %d", (int)wanted);
    }
    struct hs_lora_verdict *verdict = &lora->verdicts[wanted];
    pthread_mutex_lock(&lora->lock);
    hs_status status = hs_lora_sites_find(model, err);
    if (status == HS_OK && !verdict->is_known) {
        judge(model, wanted, params, verdict);
    }
    *ret_verdict = *verdict;
    pthread_mutex_unlock(&lora->lock);
    if (status == HS_OK && ret_verdict->status != HS_OK) {
        status = hs_error_set(err, ret_verdict->status,
                              "adapters cannot be applied to this model: %s", ret_verdict->reason);
        hs_error_hint(err, "use --lora-engine auto");
    }
    return status;
}
