/* kv_test.h - a cache over the fake runtime's memory, and texts that are evaluated in it. */
#ifndef KV_TEST_H
#define KV_TEST_H

#include "engine_test.h"

#include "kv_cache.h"

#define KEY "key-a"

struct fixture {
    hs_rt_model *model;
    hs_rt_context *context;
    hs_kv_cache *cache;
    int32_t n_ctx;
};

static inline void start(struct fixture *f, const struct fake_config *config, int32_t n_ctx,
                         int32_t n_seq_max, uint64_t budget)
{
    fake_runtime_reset(config);
    struct hs_error err;
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    const struct hs_runtime *rt = fake_runtime();
    assert_int_equal(rt->model_load("", &params, &f->model, &err), HS_OK);
    struct hs_rt_context_params context = {
        .n_ctx = n_ctx, .n_batch = n_ctx, .n_ubatch = n_ctx, .n_seq_max = n_seq_max};
    assert_int_equal(rt->context_new(f->model, &context, &f->context, &err), HS_OK);
    struct hs_kv_cache_params cache = {
        .rt = rt,
        .context = f->context,
        .n_seq_max = n_seq_max,
        .n_swa = config == NULL ? 0 : config->n_swa,
        .is_recurrent = config != NULL && config->is_recurrent,
        .park_budget_bytes = budget,
    };
    assert_int_equal(hs_kv_cache_new(&cache, &f->cache, &err), HS_OK);
    f->n_ctx = n_ctx;
}

static inline void stop(struct fixture *f)
{
    hs_kv_cache_free(f->cache);
    fake_runtime()->context_free(f->context);
    fake_runtime()->model_free(f->model);
    test_check_clean();
}

/* Evaluate the rest of text in the slot, as the worker does; the next token must be right. */
static inline void evaluate(struct fixture *f, struct hs_kv_slot *slot, const char *text)
{
    int32_t tokens[512];
    struct hs_rt_batch_item items[512];
    size_t n = fake_tokenize(text, tokens);
    size_t n_past = slot->content.n_tokens;
    int32_t n_items = 0;
    for (size_t i = n_past; i < n; i++) {
        items[n_items++] =
            (struct hs_rt_batch_item){tokens[i], (int32_t)i, slot->seq, i == n - 1, NULL};
    }
    assert_true(n_items > 0);
    enum hs_rt_decode outcome;
    struct hs_error err;
    assert_int_equal(hs_kv_slot_reserve(slot, n - n_past), HS_OK);
    assert_int_equal(fake_runtime()->decode(f->context, items, n_items, &outcome, &err), HS_OK);
    assert_int_equal(outcome, HS_RT_DECODE_OK);
    hs_kv_slot_append(f->cache, slot, tokens + n_past, n - n_past);
    struct hs_sampling sampling = {.temp = 0};
    hs_rt_sampler *sampler = NULL;
    int32_t next = 0;
    assert_int_equal(
        fake_runtime()->sampler_new(f->model, &sampling, NULL, false, 0, &sampler, &err), HS_OK);
    assert_int_equal(fake_runtime()->sample(sampler, f->context, n_items - 1, 0, &next, NULL, &err),
                     HS_OK);
    fake_runtime()->sampler_free(sampler);
    assert_int_equal(next, fake_next(tokens, n));
}

/* Take a slot for text; returns it, with how much was reused. */
static inline struct hs_kv_slot *take(struct fixture *f, const char *key, const char *text,
                                      size_t *ret_reused)
{
    int32_t tokens[512];
    size_t n = fake_tokenize(text, tokens);
    struct hs_kv_match match;
    hs_kv_cache_match(f->cache, key, tokens, n, NULL, &match);
    struct hs_kv_slot *slot = NULL;
    assert_int_equal(hs_kv_cache_take(f->cache, key, &match, &slot), HS_OK);
    *ret_reused = slot->content.n_tokens;
    assert_int_equal(*ret_reused, match.n_reuse);
    return slot;
}

/* A whole request: take, evaluate, release. Returns what was reused. */
static inline size_t run(struct fixture *f, const char *key, const char *text)
{
    size_t n_reused = 0;
    struct hs_kv_slot *slot = take(f, key, text, &n_reused);
    evaluate(f, slot, text);
    hs_kv_cache_release(f->cache, slot, true);
    return n_reused;
}

#endif
