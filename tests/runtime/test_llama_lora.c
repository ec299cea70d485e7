/*
 * Adapters applied to the rows of a batch. What a sequence's logits must be comes from two sides
 * that share no code with the way under test: llama.cpp's own adapters on the sequence alone, and a
 * model with the adapters merged into its weights. How much batching itself changes logits (kernels
 * round differently, KV is 16 bits wide) is measured with the base model in the same schedules.
 */
#include "mixed_test.h"

#include <math.h>
#include <stdio.h>

#define N_VOCAB TINY_GGUF_N_VOCAB
#define N_ADAPTERS 6
#define N_PRODUCTS (TINY_RANDOM_N_LAYER * 7)
#define NOISE_FACTOR 4 /* adapters and base do not round alike */

static const int32_t ranks[N_ADAPTERS] = {1, 3, 8, 16, 33, 64};

struct bench {
    hs_rt_model *model;
    struct hs_lora *loras[N_ADAPTERS];
    hs_rt_adapter *adapters[N_ADAPTERS];
    float *mixed, *alone, *base; /* logits of a schedule */
};

static void open_bench(struct bench *bench, const struct tiny_random_spec *spec, unsigned which)
{
    *bench = (struct bench){.model = load_random(spec)};
    for (int32_t i = 0; i < N_ADAPTERS; i++) {
        unsigned layers = i % 3 == 2 ? LORA_SOME_LAYERS : LORA_LAYERS;
        bench->loras[i] = random_lora(ranks[i], (uint64_t)i + 1, layers | which, 0.3f);
        bench->adapters[i] = new_adapter(bench->model, bench->loras[i]);
    }
    size_t n = (size_t)SCHEDULE_SPANS * N_VOCAB * sizeof(float);
    bench->mixed = malloc(n);
    bench->alone = malloc(n);
    bench->base = malloc(n);
    assert_true(bench->mixed && bench->alone && bench->base);
}

static void close_bench(struct bench *bench)
{
    for (int32_t i = 0; i < N_ADAPTERS; i++) {
        rt->adapter_free(bench->adapters[i]);
        free_lora(bench->loras[i]);
    }
    rt->model_free(bench->model);
    free(bench->mixed);
    free(bench->alone);
    free(bench->base);
}

struct figures {
    float error, noise, effect; /* largest */
};

static void note(float *largest, float value)
{
    *largest = value > *largest || isnan(value) ? value : *largest;
}

/* Random schedules in one context of `engine`, against each sequence alone. */
static void compare(struct bench *bench, enum hs_lora_engine engine, int32_t n_threads,
                    int32_t n_schedules, bool with_cancels, uint64_t seed, struct figures *figures)
{
    hs_rt_context *context = new_lora_context(bench->model, engine, n_threads);
    hs_rt_context *native = new_lora_context(bench->model, HS_LORA_ENGINE_NATIVE, 1);
    struct schedule schedule;
    uint64_t state = seed, abort_state = seed + 1;
    for (int32_t i = 0; i < n_schedules; i++) {
        const hs_rt_adapter *const *adapters = (const hs_rt_adapter *const *)bench->adapters;
        random_schedule(&schedule, adapters, N_ADAPTERS, &state);
        run_schedule(context, &schedule, -1, false, with_cancels ? &abort_state : NULL,
                     bench->mixed);
        run_alone(native, &schedule, false, bench->alone);
        note(&figures->error, largest_difference(&schedule, bench->mixed, bench->alone));
        run_schedule(context, &schedule, -1, true, NULL, bench->mixed);
        run_alone(native, &schedule, true, bench->base);
        note(&figures->noise, largest_difference(&schedule, bench->mixed, bench->base));
        note(&figures->effect, largest_difference(&schedule, bench->alone, bench->base));
    }
    struct hs_rt_lora_stats stats;
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.engine, engine);
    assert_string_equal(stats.reason, "");
    assert_false(stats.is_one_set);
    assert_true(stats.n_decodes_mixed > (uint64_t)n_schedules / 2);
    assert_true(stats.n_sets_max >= 3);
    if (engine == HS_LORA_ENGINE_REWRITE) {
        assert_true(stats.n_nodes >= stats.n_decodes * N_PRODUCTS);
        assert_int_equal(stats.n_nodes % N_PRODUCTS, 0);
    }
    rt->context_free(context);
    rt->context_free(native);
}

static void check(const char *what, const struct figures *figures)
{
    print_message("%s: adapters change logits by %g, batching by %g, the mix differs by %g\n", what,
                  figures->effect, figures->noise, figures->error);
    assert_true(figures->effect > 100 * figures->noise);
    assert_true(figures->error <= NOISE_FACTOR * figures->noise);
}

static void check_family(enum tiny_random_arch arch, enum hs_lora_engine engine, const char *what)
{
    struct tiny_random_spec spec = {.arch = arch, .seed = 7};
    struct figures figures = {0};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    compare(&bench, engine, 1, 40, true, 1000, &figures);
    close_bench(&bench);
    check(what, &figures);
}

static void llama_mixes(void **state)
{
    (void)state;
    check_family(TINY_RANDOM_LLAMA, HS_LORA_ENGINE_REWRITE, "llama");
    check_family(TINY_RANDOM_LLAMA, HS_LORA_ENGINE_STACKED, "llama, stacked");
}

static void qwen3_mixes(void **state)
{
    (void)state;
    check_family(TINY_RANDOM_QWEN3, HS_LORA_ENGINE_REWRITE, "qwen3");
    check_family(TINY_RANDOM_QWEN3, HS_LORA_ENGINE_STACKED, "qwen3, stacked");
}

static void gemma3_mixes(void **state)
{
    (void)state;
    check_family(TINY_RANDOM_GEMMA3, HS_LORA_ENGINE_REWRITE, "gemma3");
    check_family(TINY_RANDOM_GEMMA3, HS_LORA_ENGINE_STACKED, "gemma3, stacked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_mixes),
        cmocka_unit_test(qwen3_mixes),
        cmocka_unit_test(gemma3_mixes),
    };
    return cmocka_run_group_tests(tests, start_runtime, stop_runtime);
}
