/* The fake runtime's adapters: see fake_runtime.h. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fake_runtime.h"

#define ALIVE 0x600dadu

struct hs_rt_adapter {
    uint32_t magic;
    float shift;
    uint64_t bytes;
};

static struct fake_lora_config config;
static atomic_int n_alive, n_made, n_prepared, n_misused;
static struct hs_rt_lora_stats stats; /* of all contexts, under the mutex */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void fake_lora_reset(const struct fake_lora_config *new_config)
{
    config = new_config == NULL ? (struct fake_lora_config){0} : *new_config;
    atomic_store(&n_made, 0);
    atomic_store(&n_prepared, 0);
    atomic_store(&n_misused, 0);
    stats = (struct hs_rt_lora_stats){0};
}

void fake_lora_counters(struct fake_lora_counters *ret_counters)
{
    *ret_counters = (struct fake_lora_counters){.n_alive = atomic_load(&n_alive),
                                                .n_made = atomic_load(&n_made),
                                                .n_prepared = atomic_load(&n_prepared),
                                                .n_misused = atomic_load(&n_misused)};
}

const struct hs_lora *fake_lora(struct fake_weights *weights, float shift)
{
    weights->shift = shift;
    weights->target = (struct hs_lora_target){
        .tensor = "blk.0.attn_q.weight",
        .n_in = 1,
        .n_out = 1,
        .rank = 1,
        .scale = 1.0f,
        .a = {.type = HS_LORA_F32, .n_rows = 1, .n_cols = 1, .data = &weights->shift},
        .b = {.type = HS_LORA_F32, .n_rows = 1, .n_cols = 1, .data = &weights->shift},
    };
    weights->lora = (struct hs_lora){.targets = &weights->target, .n_targets = 1};
    return &weights->lora;
}

hs_status fake_adapter_new(const hs_rt_model *model, const struct hs_lora *lora,
                           hs_rt_adapter **ret_adapter, struct hs_error *err)
{
    (void)model;
    if (config.fails_new) {
        return hs_error_set(err, HS_MISMATCH, "the fake model has no such matrix");
    }
    hs_rt_adapter *adapter = hs_calloc(1, sizeof(*adapter));
    if (adapter == NULL) {
        return hs_error_nomem(err, "fake adapter");
    }
    adapter->magic = ALIVE;
    memcpy(&adapter->shift, lora->targets[0].b.data, sizeof(float));
    adapter->bytes = config.bytes > 0 ? config.bytes : 100;
    atomic_fetch_add(&n_alive, 1);
    atomic_fetch_add(&n_made, 1);
    *ret_adapter = adapter;
    return HS_OK;
}

void fake_adapter_free(hs_rt_adapter *adapter)
{
    if (adapter != NULL) {
        adapter->magic = 0;
        atomic_fetch_sub(&n_alive, 1);
        hs_free(adapter);
    }
}

uint64_t fake_adapter_bytes(const hs_rt_adapter *adapter)
{
    return adapter->bytes;
}

hs_status fake_lora_prepare(hs_rt_model *model, enum hs_lora_engine wanted,
                            const struct hs_rt_context_params *params, struct hs_error *err)
{
    (void)model;
    (void)wanted;
    if (!params->has_adapters) {
        atomic_fetch_add(&n_misused, 1);
    }
    atomic_fetch_add(&n_prepared, 1);
    return config.fails_prepare ? hs_error_set(err, HS_NOT_SUPPORTED, "no way works") : HS_OK;
}

int32_t fake_effect(const struct hs_rt_adapter_set *set)
{
    float sum = 0;
    for (int32_t i = 0; set != NULL && i < set->n; i++) {
        if (set->uses[i].adapter->magic != ALIVE || set->uses[i].scale == 0.0f) {
            atomic_fetch_add(&n_misused, 1);
        }
        sum += set->uses[i].adapter->shift * set->uses[i].scale;
    }
    return (int32_t)lrintf(sum);
}

/* Sets are told apart by what they do. */
void fake_lora_count(const struct hs_rt_batch_item *items, int32_t n_items)
{
    int32_t seen[64];
    int32_t n_seen = 0;
    bool has_any = false;
    for (int32_t i = 0; i < n_items; i++) {
        int32_t effect = fake_effect(items[i].adapters);
        int32_t k = 0;
        while (k < n_seen && seen[k] != effect) {
            k++;
        }
        if (k == n_seen && n_seen < 64) {
            seen[n_seen++] = effect;
        }
        has_any = has_any || items[i].adapters != NULL;
    }
    if (config.is_one_set && n_seen > 1) {
        atomic_fetch_add(&n_misused, 1);
    }
    pthread_mutex_lock(&mutex);
    stats.n_decodes += has_any;
    stats.n_decodes_mixed += n_seen > 1;
    stats.n_sets_max = n_seen > stats.n_sets_max ? n_seen : stats.n_sets_max;
    pthread_mutex_unlock(&mutex);
}

void fake_lora_stats(const hs_rt_context *context, struct hs_rt_lora_stats *ret_stats)
{
    (void)context;
    pthread_mutex_lock(&mutex);
    *ret_stats = stats;
    pthread_mutex_unlock(&mutex);
    if (ret_stats->n_decodes == 0) {
        return; /* as in llama.cpp's runtime, it shows with the first */
    }
    ret_stats->is_one_set = config.is_one_set;
    ret_stats->engine = config.is_one_set ? HS_LORA_ENGINE_NATIVE : HS_LORA_ENGINE_REWRITE;
    snprintf(ret_stats->reason, sizeof(ret_stats->reason), "%s",
             config.is_one_set ? "the fake takes one" : "");
}
