/*
 * Adapters applied to the rows of a batch. What a sequence's logits must be comes from two sides
 * that share no code with the way under test: llama.cpp's own adapters on the sequence alone, and a
 * model with the adapters merged into its weights. How much batching itself changes logits (kernels
 * round differently, KV is 16 bits wide) is measured with the base model in the same schedules.
 */
#include "mixed_test.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "llama_lora.h"

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
    uint64_t n_products;         /* of weights with rows, in a decode */
};

static void open_bench(struct bench *bench, const struct tiny_random_spec *spec, unsigned which)
{
    *bench = (struct bench){.model = load_random(spec), .n_products = N_PRODUCTS};
    if (spec->arch == TINY_RANDOM_QWEN3MOE) {
        which |= LORA_NO_FFN;
        bench->n_products = TINY_RANDOM_N_LAYER * 5; /* attention, and who chooses the experts */
    }
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

/* By how much the base alone differs between schedules and each sequence alone. */
static void measure_noise(struct bench *bench, int32_t n_schedules, struct figures *figures)
{
    hs_rt_context *context = new_context(bench->model, SCHEDULE_N_CTX, SCHEDULE_SEQS);
    struct schedule schedule;
    uint64_t state = 77;
    const hs_rt_adapter *const *adapters = (const hs_rt_adapter *const *)bench->adapters;
    for (int32_t i = 0; i < n_schedules || i < 40; i++) {
        random_schedule(&schedule, adapters, N_ADAPTERS, &state);
        run_schedule(context, &schedule, -1, true, NULL, bench->mixed);
        run_alone(context, &schedule, true, bench->base);
        note(&figures->noise, largest_difference(&schedule, bench->mixed, bench->base));
    }
    rt->context_free(context);
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
        run_alone(native, &schedule, true, bench->base);
        note(&figures->effect, largest_difference(&schedule, bench->alone, bench->base));
    }
    measure_noise(bench, n_schedules, figures);
    struct hs_rt_lora_stats stats;
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.engine, engine);
    assert_string_equal(stats.reason, "");
    assert_false(stats.is_one_set);
    assert_true(stats.n_decodes_mixed > (uint64_t)n_schedules / 2);
    assert_true(stats.n_sets_max >= 3);
    if (engine == HS_LORA_ENGINE_REWRITE) {
        assert_true(stats.n_nodes >= stats.n_decodes * bench->n_products);
        assert_int_equal(stats.n_nodes % bench->n_products, 0);
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

/* ---- how threads share the work ---- */

/* One token a sequence and batch. Returns whether threads had rows of their own. */
static bool decode_rows(struct bench *bench, hs_rt_context *context, hs_rt_context *native,
                        int32_t n_seqs, struct figures *figures)
{
    struct schedule schedule = {.n_seqs = n_seqs};
    for (int32_t s = 0; s < n_seqs; s++) {
        schedule.uses[s][0] = (struct hs_rt_adapter_use){bench->adapters[s], 1};
        schedule.sets[s] = (struct hs_rt_adapter_set){schedule.uses[s], 1};
        for (int32_t batch = 0; batch < 6; batch++) {
            schedule.tokens[s][batch] = (5 + 7 * s + 3 * batch) % N_VOCAB;
        }
    }
    for (int32_t batch = 0; batch < 6; batch++) {
        for (int32_t s = 0; s < n_seqs; s++) {
            schedule.spans[schedule.n_spans++] = (struct schedule_span){batch, s, 1};
        }
    }
    run_schedule(context, &schedule, -1, false, NULL, bench->mixed);
    bool is_by_rows = context->lora->plan.all_split.is_by_rows;
    run_alone(native, &schedule, false, bench->alone);
    note(&figures->error, largest_difference(&schedule, bench->mixed, bench->alone));
    run_alone(native, &schedule, true, bench->base);
    note(&figures->effect, largest_difference(&schedule, bench->alone, bench->base));
    return is_by_rows;
}

static void threads_share_rows_or_matrices(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 7};
    struct figures figures = {0};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    for (int32_t i = 0; i < 2; i++) { /* so large that a lone row is shared */
        rt->adapter_free(bench.adapters[i]);
        free_lora(bench.loras[i]);
        bench.loras[i] = random_lora(512, (uint64_t)i + 1, LORA_LAYERS, 0.3f);
        bench.adapters[i] = new_adapter(bench.model, bench.loras[i]);
    }
    hs_rt_context *context = new_lora_context(bench.model, HS_LORA_ENGINE_REWRITE, 2);
    hs_rt_context *native = new_lora_context(bench.model, HS_LORA_ENGINE_NATIVE, 1);
    assert_false(decode_rows(&bench, context, native, 1, &figures));
    assert_true(decode_rows(&bench, context, native, 2, &figures));
    measure_noise(&bench, 40, &figures);
    check("shared rows and matrices", &figures);
    rt->context_free(context);
    rt->context_free(native);
    close_bench(&bench);
}

/* ---- weights in fewer bits ---- */

/* Rounding to 8 bits is half a step of a 127th of a row's largest value: of uniform values about
 * half a percent for A and B each. */
static void weights_may_be_kept_in_8_bits(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 7};
    struct hs_error err = {0};
    struct figures figures = {0};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    struct hs_rt_context_params params = context_params(64, 2);
    params.has_adapters = true;
    bench.model->lora->weights = HS_ADAPTER_WEIGHTS_INT8;
    OK(rt->lora_prepare(bench.model, HS_LORA_ENGINE_REWRITE, &params, &err));
    const hs_rt_adapter *small[] = {new_adapter(bench.model, bench.loras[3])};
    assert_true(rt->adapter_bytes(small[0]) < rt->adapter_bytes(bench.adapters[3]) / 2);
    hs_rt_context *context = new_lora_context(bench.model, HS_LORA_ENGINE_REWRITE, 1);
    struct schedule schedule;
    uint64_t random = 5;
    for (int32_t i = 0; i < 10; i++) {
        random_schedule(&schedule, (const hs_rt_adapter *const *)&bench.adapters[3], 1, &random);
        run_schedule(context, &schedule, -1, false, NULL, bench.alone);
        run_schedule(context, &schedule, -1, true, NULL, bench.base);
        for (int32_t s = 0; s < schedule.n_seqs; s++) {
            for (int32_t u = 0; u < schedule.sets[s].n; u++) {
                schedule.uses[s][u].adapter = small[0];
            }
        }
        run_schedule(context, &schedule, -1, false, NULL, bench.mixed);
        note(&figures.error, largest_difference(&schedule, bench.mixed, bench.alone));
        note(&figures.effect, largest_difference(&schedule, bench.alone, bench.base));
    }
    print_message("adapters change logits by %g, int8 is off by %g\n", (double)figures.effect,
                  (double)figures.error);
    assert_true(figures.error > 0);
    assert_true(figures.error < 0.05f * figures.effect);
    rt->context_free(context);
    rt->adapter_free((hs_rt_adapter *)small[0]);
    close_bench(&bench);
}

static int32_t n_of_family = 45; /* of each family and engine; the first argument */

static void check_family(enum tiny_random_arch arch, enum hs_lora_engine engine, const char *what)
{
    struct tiny_random_spec spec = {.arch = arch, .seed = 7};
    struct figures figures = {0};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    compare(&bench, engine, 1, n_of_family, true, 1000, &figures);
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

/* Adapters of the attention; experts' matrices cannot be changed. */
static void mixtures_of_experts_mix(void **state)
{
    (void)state;
    check_family(TINY_RANDOM_QWEN3MOE, HS_LORA_ENGINE_REWRITE, "qwen3moe");
    check_family(TINY_RANDOM_QWEN3MOE, HS_LORA_ENGINE_STACKED, "qwen3moe, stacked");
}

static void threads_share_the_work(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_QWEN3, .seed = 8};
    struct figures figures = {0};
    struct bench bench;
    open_bench(&bench, &spec, LORA_EMBEDDING | LORA_OUTPUT);
    compare(&bench, HS_LORA_ENGINE_REWRITE, 2, 5, true, 2000, &figures);
    close_bench(&bench);
    check("two threads", &figures);
}

/* ---- against merged weights ---- */

static const struct hs_lora *lora_of(const struct bench *bench, const hs_rt_adapter *adapter)
{
    for (int32_t i = 0; i < N_ADAPTERS; i++) {
        if (bench->adapters[i] == adapter) {
            return bench->loras[i];
        }
    }
    fail();
    return NULL;
}

/* Each sequence alone in a model with its adapters in the weights. */
static void run_merged(struct bench *bench, const struct tiny_random_spec *spec,
                       const struct schedule *schedule, float *logits)
{
    for (int32_t s = 0; s < schedule->n_seqs; s++) {
        const struct hs_rt_adapter_set *set = &schedule->sets[s];
        const struct hs_lora *loras[3];
        float scales[3];
        for (int32_t i = 0; i < set->n; i++) {
            loras[i] = lora_of(bench, set->uses[i].adapter);
            scales[i] = set->uses[i].scale;
        }
        hs_rt_model *merged = load_merged(spec, loras, scales, set->n);
        hs_rt_context *context = new_context(merged, SCHEDULE_N_CTX, 1);
        run_schedule(context, schedule, s, true, NULL, logits);
        rt->context_free(context);
        rt->model_free(merged);
    }
}

static void check_merged(const struct tiny_random_spec *spec, enum hs_lora_engine engine,
                         bool is_alone, const char *what)
{
    struct figures figures = {0};
    struct bench bench;
    open_bench(&bench, spec, LORA_EMBEDDING | LORA_OUTPUT);
    hs_rt_context *context = new_lora_context(bench.model, engine, 1);
    uint64_t state = 5;
    for (int32_t i = 0; i < 3; i++) {
        struct schedule schedule;
        const hs_rt_adapter *const *adapters = (const hs_rt_adapter *const *)bench.adapters;
        random_schedule(&schedule, adapters, N_ADAPTERS, &state);
        run_merged(&bench, spec, &schedule, bench.alone);
        if (is_alone) {
            run_alone(context, &schedule, false, bench.mixed);
        } else {
            run_schedule(context, &schedule, -1, false, NULL, bench.mixed);
        }
        note(&figures.error, largest_difference(&schedule, bench.mixed, bench.alone));
        run_alone(context, &schedule, true, bench.base);
        note(&figures.effect, largest_difference(&schedule, bench.alone, bench.base));
    }
    measure_noise(&bench, 0, &figures);
    struct hs_rt_lora_stats stats;
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.engine, engine);
    assert_true(is_alone || stats.n_decodes_mixed > 0);
    rt->context_free(context);
    close_bench(&bench);
    check(what, &figures);
}

static void merged_weights_agree(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "qwen3", "gemma3"};
    for (enum tiny_random_arch arch = TINY_RANDOM_LLAMA; arch <= TINY_RANDOM_GEMMA3; arch++) {
        struct tiny_random_spec spec = {.arch = arch, .seed = 9};
        check_merged(&spec, HS_LORA_ENGINE_REWRITE, false, names[arch]);
        check_merged(&spec, HS_LORA_ENGINE_STACKED, false, names[arch]);
        check_merged(&spec, HS_LORA_ENGINE_NATIVE, true, names[arch]);
    }
}

/* llama.cpp's own adapters cannot do this: they end the process. */
static void embeddings_may_be_the_output_matrix(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_GEMMA3, .seed = 10, .is_tied = true};
    check_merged(&spec, HS_LORA_ENGINE_REWRITE, false, "tied");
    check_merged(&spec, HS_LORA_ENGINE_NATIVE, true, "tied, native");
}

/* ---- what a batch without adapters gets ---- */

static void base_rows_are_as_without_adapters(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 11};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    hs_rt_context *plain = new_context(bench.model, SCHEDULE_N_CTX, SCHEDULE_SEQS);
    hs_rt_context *context = new_lora_context(bench.model, HS_LORA_ENGINE_REWRITE, 1);
    struct schedule schedule;
    struct hs_rt_lora_stats stats;
    uint64_t random = 3;
    const hs_rt_adapter *const *adapters = (const hs_rt_adapter *const *)bench.adapters;
    random_schedule(&schedule, adapters, N_ADAPTERS, &random);
    run_schedule(plain, &schedule, -1, true, NULL, bench.base);
    run_schedule(context, &schedule, -1, true, NULL, bench.mixed);
    assert_true(largest_difference(&schedule, bench.base, bench.mixed) == 0);
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.engine, HS_LORA_ENGINE_AUTO);
    assert_int_equal(stats.n_decodes, 0);

    /* With the ghost in the graph, and beside rows that have adapters. */
    run_schedule(context, &schedule, -1, false, NULL, bench.mixed);
    for (int32_t i = 0; i < schedule.n_spans; i++) {
        size_t at = (size_t)i * N_VOCAB;
        bool is_base = schedule.sets[schedule.spans[i].seq].n == 0;
        bool is_same = memcmp(bench.base + at, bench.mixed + at, N_VOCAB * sizeof(float)) == 0;
        assert_int_equal(is_same, is_base);
    }
    rt->lora_stats(context, &stats);
    uint64_t n_decodes = stats.n_decodes;
    assert_true(n_decodes > 0);
    run_schedule(context, &schedule, -1, true, NULL, bench.mixed);
    assert_true(largest_difference(&schedule, bench.base, bench.mixed) == 0);
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.n_decodes, n_decodes);
    rt->context_free(context);
    rt->context_free(plain);
    close_bench(&bench);
}

/* ---- how batches are cut ---- */

static void one_batch(hs_rt_context *context, const struct hs_rt_adapter_set *sets,
                      float logits[4][N_VOCAB])
{
    struct hs_error err = {0};
    struct hs_rt_batch_item items[4 * 9];
    int32_t n = 0, last[4];
    for (int32_t s = 0; s < 4; s++) {
        for (int32_t i = 0; i < 3 + 2 * s; i++) {
            last[s] = n;
            items[n++] = (struct hs_rt_batch_item){10 + 7 * i + s, i, s, i + 1 == 3 + 2 * s,
                                                   sets[s].n ? &sets[s] : NULL};
        }
    }
    enum hs_rt_decode outcome;
    rt->kv_clear(context);
    OK(rt->decode(context, items, n, &outcome, &err));
    assert_int_equal(outcome, HS_RT_DECODE_OK);
    for (int32_t s = 0; s < 4; s++) {
        memcpy(logits[s], rt->logits(context, last[s]), sizeof(logits[s]));
    }
}

/* Micro-batches of 1 to 32 rows, some of them without output. */
static void micro_batches_of_any_size(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 12};
    struct bench bench;
    open_bench(&bench, &spec, LORA_EMBEDDING | LORA_OUTPUT);
    struct hs_rt_adapter_use uses[] = {
        {bench.adapters[0], 1}, {bench.adapters[5], -1}, {bench.adapters[2], 0.5f}};
    struct hs_rt_adapter_set sets[] = {{uses, 1}, {uses, 0}, {uses + 1, 2}, {uses, 3}};
    static float wanted[4][N_VOCAB], logits[4][N_VOCAB];
    static const int32_t sizes[] = {512, 1, 2, 3, 5, 8, 23, 24, 25, 32};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct hs_error err = {0};
        struct hs_rt_context_params params = context_params(256, 4);
        params.n_ubatch = sizes[i];
        params.has_adapters = true;
        params.lora_engine = HS_LORA_ENGINE_REWRITE;
        hs_rt_context *context = NULL;
        OK(rt->context_new(bench.model, &params, &context, &err));
        one_batch(context, sets, i == 0 ? wanted : logits);
        struct hs_rt_lora_stats stats;
        rt->lora_stats(context, &stats);
        assert_int_equal(stats.n_nodes, (24 + sizes[i] - 1) / sizes[i] * N_PRODUCTS);
        assert_int_equal(stats.n_sets_max, 4);
        for (int32_t k = 0; i > 0 && k < 4 * N_VOCAB; k++) {
            assert_float_equal(logits[k / N_VOCAB][k % N_VOCAB], wanted[k / N_VOCAB][k % N_VOCAB],
                               0.02);
        }
        rt->context_free(context);
    }
    close_bench(&bench);
}

/* A row may name an adapter twice, or with a scale of zero. */
static void sets_that_are_odd(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 13};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    hs_rt_context *context = new_lora_context(bench.model, HS_LORA_ENGINE_REWRITE, 1);
    const hs_rt_adapter *a = bench.adapters[3], *b = bench.adapters[1];
    struct hs_rt_adapter_use twice[] = {{a, 0.75f}, {b, 0}, {a, 0.25f}}, once[] = {{a, 1}};
    struct hs_rt_adapter_use nothing[] = {{a, 0}, {b, 0}};
    struct hs_rt_adapter_set odd[] = {{twice, 3}, {nothing, 2}, {nothing, 0}, {once, 1}};
    struct hs_rt_adapter_set plain[] = {{once, 1}, {once, 0}, {once, 0}, {once, 1}};
    static float wanted[4][N_VOCAB], logits[4][N_VOCAB];
    one_batch(context, plain, wanted);
    struct hs_rt_lora_stats stats;
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.n_sets_max, 2);
    one_batch(context, odd, logits);
    assert_memory_equal(logits, wanted, sizeof(logits));
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.n_sets_max, 3); /* "twice" is not known to be "once" */
    assert_int_equal(stats.n_decodes, 2);
    assert_int_equal(stats.n_decodes_mixed, 2);
    rt->context_free(context);
    close_bench(&bench);
}

/* ---- the native way ---- */

static void native_takes_one_set(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 14};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    hs_rt_context *context = new_lora_context(bench.model, HS_LORA_ENGINE_NATIVE, 1);
    struct hs_rt_adapter_use uses[] = {{bench.adapters[0], 1}, {bench.adapters[1], 1}};
    struct hs_rt_adapter_set a = {uses, 1}, same = {uses, 1}, b = {uses, 2};
    struct hs_rt_batch_item items[] = {{5, 0, 0, true, &a}, {6, 0, 1, true, &same}};
    enum hs_rt_decode outcome;
    OK(rt->decode(context, items, 2, &outcome, &err));
    struct hs_rt_lora_stats stats;
    rt->lora_stats(context, &stats);
    assert_true(stats.is_one_set);
    assert_int_equal(stats.n_decodes_mixed, 0);
    items[0].pos = items[1].pos = 1;
    items[1].adapters = &b;
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, items, 2, &outcome, &err));
    items[1].adapters = NULL;
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, items, 2, &outcome, &err));
    assert_int_equal(rt->kv_pos_max(context, 0), 0);
    items[1].adapters = &a;
    OK(rt->decode(context, items, 2, &outcome, &err));
    rt->context_free(context);
    close_bench(&bench);
}

/* Adapters come and go, at addresses that were others'. */
static void fallbacks_forget_freed_adapters(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 15};
    hs_rt_model *model = load_random(&spec);
    static float wanted[N_VOCAB];
    for (enum hs_lora_engine engine = HS_LORA_ENGINE_REWRITE; engine <= HS_LORA_ENGINE_NATIVE;
         engine++) {
        hs_rt_context *kept = new_lora_context(model, engine, 1);
        for (uint64_t i = 0; i < 24; i++) {
            struct hs_lora *lora = random_lora(4, 100 + i, LORA_LAYERS, 0.3f);
            hs_rt_adapter *adapter = new_adapter(model, lora);
            hs_rt_context *fresh = new_lora_context(model, engine, 1);
            struct hs_rt_adapter_use use = {adapter, 1};
            struct hs_rt_adapter_set set = {&use, 1};
            struct hs_rt_batch_item item = {9, 0, 0, true, &set};
            enum hs_rt_decode outcome;
            OK(rt->decode(fresh, &item, 1, &outcome, &err));
            memcpy(wanted, rt->logits(fresh, 0), sizeof(wanted));
            rt->kv_clear(kept);
            OK(rt->decode(kept, &item, 1, &outcome, &err));
            assert_memory_equal(rt->logits(kept, 0), wanted, sizeof(wanted));
            rt->context_free(fresh);
            rt->adapter_free(adapter);
            free_lora(lora);
        }
        rt->context_free(kept);
    }
    rt->model_free(model);
}

/* ---- refusals ---- */

static void adapters_that_do_not_fit(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_QWEN3, .seed = 16};
    hs_rt_model *model = load_random(&spec);
    hs_rt_adapter *adapter = NULL;
    struct hs_lora *lora = random_lora(2, 1, LORA_LAYERS | LORA_EMBEDDING | LORA_OUTPUT, 0.3f);
    struct hs_lora_target *target = (struct hs_lora_target *)&lora->targets[5];
    const struct hs_lora_target good = *target;

    snprintf(target->tensor, sizeof(target->tensor), "blk.4.attn_q.weight");
    EXPECT(HS_MISMATCH, rt->adapter_new(model, lora, &adapter, &err));
    assert_non_null(strstr(err.message, "blk.4.attn_q.weight"));
    snprintf(target->tensor, sizeof(target->tensor), "blk.0.attn_norm.weight");
    EXPECT(HS_MISMATCH, rt->adapter_new(model, lora, &adapter, &err));
    memset(target->tensor, 'x', sizeof(target->tensor));
    EXPECT(HS_MISMATCH, rt->adapter_new(model, lora, &adapter, &err));
    *target = good;
    target->n_in++;
    EXPECT(HS_MISMATCH, rt->adapter_new(model, lora, &adapter, &err));
    assert_non_null(strstr(err.message, "in the model and"));
    *target = good;
    target->is_embedding = true;
    EXPECT(HS_MISMATCH, rt->adapter_new(model, lora, &adapter, &err));
    *target = good;
    target->rank = HS_LORA_RANK_MAX + 1;
    EXPECT(HS_LIMIT, rt->adapter_new(model, lora, &adapter, &err));
    *target = good;
    memcpy(target->tensor, lora->targets[4].tensor, sizeof(target->tensor));
    target->n_in = lora->targets[4].n_in;
    target->n_out = lora->targets[4].n_out;
    EXPECT(HS_INVALID_ARGUMENT, rt->adapter_new(model, lora, &adapter, &err));
    assert_non_null(strstr(err.message, "twice"));
    *target = good;
    assert_null(adapter);
    adapter = new_adapter(model, lora);
    size_t n_values = 0;
    for (int32_t i = 0; i < lora->n_targets; i++) {
        n_values += 2 * (size_t)(lora->targets[i].n_in + lora->targets[i].n_out);
    }
    /* Padding: ranks to 4, outputs to 64. */
    assert_in_range(rt->adapter_bytes(adapter), 4 * n_values, 16 * n_values);
    rt->adapter_free(adapter);
    rt->adapter_free(NULL);
    free_lora(lora);
    rt->model_free(model);
}

static void batches_that_are_refused(void **state)
{
    (void)state;
    struct hs_error err = {0};
    enum hs_rt_decode outcome;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 17};
    struct bench bench, other;
    open_bench(&bench, &spec, 0);
    open_bench(&other, &spec, 0);
    struct hs_rt_adapter_use use = {bench.adapters[0], 1};
    struct hs_rt_adapter_set set = {&use, 1};
    struct hs_rt_batch_item item = {5, 0, 0, true, &set};
    hs_rt_context *plain = new_context(bench.model, 64, 1);
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(plain, &item, 1, &outcome, &err));
    assert_non_null(strstr(err.message, "without adapters"));
    struct hs_rt_lora_stats stats;
    rt->lora_stats(plain, &stats);
    assert_int_equal(stats.engine, HS_LORA_ENGINE_AUTO);
    rt->context_free(plain);

    hs_rt_context *context = new_lora_context(bench.model, HS_LORA_ENGINE_AUTO, 1);
    OK(rt->decode(context, &item, 1, &outcome, &err));
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.engine, HS_LORA_ENGINE_REWRITE);
    item.pos = 1;
    use.adapter = other.adapters[0];
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, &item, 1, &outcome, &err));
    assert_non_null(strstr(err.message, "another model"));
    use.adapter = NULL;
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, &item, 1, &outcome, &err));
    use.adapter = bench.adapters[0];
    use.scale = NAN;
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, &item, 1, &outcome, &err));
    use.scale = INFINITY;
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, &item, 1, &outcome, &err));
    use.scale = -1;
    OK(rt->decode(context, &item, 1, &outcome, &err));
    assert_int_equal(rt->kv_pos_max(context, 0), 1);
    rt->context_free(context);
    close_bench(&bench);
    close_bench(&other);
}

/* llama.cpp orders the batches of recurrent models anew: only its own way is left. */
static void recurrent_models_fall_back(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.arch = TINY_GGUF_MAMBA;
    hs_rt_model *model = load_tiny(&spec);
    static const float ones[2 * TINY_GGUF_N_EMBD];
    struct hs_lora_target target = {.tensor = "blk.0.ssm_out.weight",
                                    .n_in = 2 * TINY_GGUF_N_EMBD,
                                    .n_out = TINY_GGUF_N_EMBD,
                                    .rank = 1,
                                    .scale = 1,
                                    .a = {HS_LORA_F32, 1, 2 * TINY_GGUF_N_EMBD, ones, NULL},
                                    .b = {HS_LORA_F32, TINY_GGUF_N_EMBD, 1, ones, NULL}};
    struct hs_lora lora = {&target, 1};
    hs_rt_adapter *adapter = new_adapter(model, &lora);
    struct hs_rt_adapter_use use = {adapter, 1};
    struct hs_rt_adapter_set set = {&use, 1};
    struct hs_rt_batch_item item = {5, 0, 0, true, &set};
    enum hs_rt_decode outcome;
    struct hs_rt_lora_stats stats;
    for (enum hs_lora_engine engine = HS_LORA_ENGINE_REWRITE; engine <= HS_LORA_ENGINE_STACKED;
         engine++) {
        hs_rt_context *forced = new_lora_context(model, engine, 1);
        EXPECT(HS_NOT_SUPPORTED, rt->decode(forced, &item, 1, &outcome, &err));
        assert_non_null(strstr(err.message, "recurrent"));
        rt->lora_stats(forced, &stats);
        assert_int_equal(stats.engine, HS_LORA_ENGINE_AUTO);
        rt->context_free(forced);
    }
    hs_rt_context *context = new_lora_context(model, HS_LORA_ENGINE_AUTO, 1);
    OK(rt->decode(context, &item, 1, &outcome, &err));
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.engine, HS_LORA_ENGINE_NATIVE);
    assert_true(stats.is_one_set);
    assert_non_null(strstr(stats.reason, "rewrite: "));
    assert_int_equal(stats.n_decodes, 1);
    rt->context_free(context);
    rt->adapter_free(adapter);
    rt->model_free(model);
}

/* A sparse delta is no product of two factors. */
static void sparse_deltas_need_our_kernels(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 18};
    hs_rt_model *model = load_random(&spec);
    enum { N = TINY_RANDOM_N_EMBD, FF = TINY_RANDOM_N_FF };
    /* One value of ffn_up in every 16th row, and the same as a product of rank 7. */
    static float values[FF / 16], a[7 * N], b[FF * 7];
    static int64_t row_start[FF + 1];
    static int32_t columns[FF / 16];
    for (int32_t row = 0; row < FF; row++) {
        row_start[row + 1] = row / 16 + 1;
    }
    for (int32_t i = 0; i < FF / 16; i++) {
        values[i] = 0.25f * (float)(i + 1);
        columns[i] = 9 * i;
        a[i * N + columns[i]] = 1;
        b[16 * i * 7 + i] = values[i];
    }
    struct hs_lora_target sparse = {
        .tensor = "blk.1.ffn_up.weight",
        .n_in = N,
        .n_out = FF,
        .scale = 1,
        .sparse = {HS_LORA_F32, 1, 1, FF / 16, row_start, columns, values}};
    struct hs_lora_target dense = {.tensor = "blk.1.ffn_up.weight",
                                   .n_in = N,
                                   .n_out = FF,
                                   .rank = 7,
                                   .scale = 1,
                                   .a = {HS_LORA_F32, 7, N, a, NULL},
                                   .b = {HS_LORA_F32, FF, 7, b, NULL}};
    hs_rt_adapter *adapters[2] = {new_adapter(model, &(struct hs_lora){&sparse, 1}),
                                  new_adapter(model, &(struct hs_lora){&dense, 1})};
    struct hs_rt_adapter_use uses[] = {{adapters[0], 2}, {adapters[1], 2}};
    struct hs_rt_adapter_set sets[] = {{uses, 1}, {uses + 1, 1}};
    struct hs_rt_batch_item items[] = {
        {5, 0, 0, true, &sets[0]}, {5, 0, 1, true, &sets[1]}, {5, 0, 2, true, NULL}};
    enum hs_rt_decode outcome;
    hs_rt_context *context = new_lora_context(model, HS_LORA_ENGINE_REWRITE, 1);
    OK(rt->decode(context, items, 3, &outcome, &err));
    float effect = 0;
    for (int32_t i = 0; i < N_VOCAB; i++) {
        assert_float_equal(rt->logits(context, 0)[i], rt->logits(context, 1)[i], 1e-3);
        note(&effect, fabsf(rt->logits(context, 0)[i] - rt->logits(context, 2)[i]));
    }
    assert_true(effect > 0.05f);
    rt->context_free(context);
    for (enum hs_lora_engine engine = HS_LORA_ENGINE_STACKED; engine <= HS_LORA_ENGINE_NATIVE;
         engine++) {
        hs_rt_context *other = new_lora_context(model, engine, 1);
        EXPECT(HS_NOT_SUPPORTED, rt->decode(other, items, 1, &outcome, &err));
        assert_non_null(strstr(err.message, "sparse"));
        OK(rt->decode(other, items + 1, 1, &outcome, &err));
        rt->context_free(other);
    }
    rt->adapter_free(adapters[0]);
    rt->adapter_free(adapters[1]);
    rt->model_free(model);
}

/* A graph that is not as the self-test saw it ends the decode; nothing of it stays. */
static void a_changed_graph_is_an_error(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 19};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    hs_rt_context *context = new_lora_context(bench.model, HS_LORA_ENGINE_REWRITE, 1);
    struct hs_rt_adapter_use use = {bench.adapters[3], 1};
    struct hs_rt_adapter_set set = {&use, 1};
    struct hs_rt_batch_item items[] = {{5, 0, 0, true, &set}, {6, 0, 1, true, NULL}};
    enum hs_rt_decode outcome;
    static float wanted[N_VOCAB];
    OK(rt->decode(context, items, 2, &outcome, &err));
    memcpy(wanted, rt->logits(context, 0), sizeof(wanted));
    rt->kv_clear(context);
    struct hs_llama_lora *lora = bench.model->lora;
    struct hs_lora_site *site = &lora->sites[hs_lora_site_named(lora, "blk.2.ffn_up.weight")];
    const struct hs_lora_site good = *site;
    struct hs_lora_site wrong[4] = {good, good, good, good};
    wrong[0].n_in++;
    wrong[1].n_out--;
    wrong[2].ghost_a = NULL;
    wrong[3].ghost_b = NULL;
    for (int i = 0; i < 4; i++) {
        *site = wrong[i];
        EXPECT(HS_INTERNAL, rt->decode(context, items, 2, &outcome, &err));
        assert_non_null(strstr(err.message, "blk.2.ffn_up"));
        assert_int_equal(rt->kv_pos_max(context, 0), -1);
        assert_int_equal(rt->kv_pos_max(context, 1), -1);
        assert_null(rt->logits(context, 0));
    }
    *site = good;
    lora->n_products++;
    EXPECT(HS_INTERNAL, rt->decode(context, items, 2, &outcome, &err));
    assert_non_null(strstr(err.message, "28 matrices of 29"));
    assert_int_equal(rt->kv_pos_max(context, 0), -1);
    lora->n_products--;
    OK(rt->decode(context, items, 2, &outcome, &err));
    assert_memory_equal(rt->logits(context, 0), wanted, sizeof(wanted));
    rt->context_free(context);
    close_bench(&bench);
}

/* Ghosts of two layers exchanged: every node is found, and adds another layer's weights. */
static void exchange_ghosts(struct hs_llama_lora *lora)
{
    struct hs_lora_site *a = &lora->sites[hs_lora_site_named(lora, "blk.1.ffn_down.weight")];
    struct hs_lora_site *b = &lora->sites[hs_lora_site_named(lora, "blk.2.ffn_down.weight")];
    const struct hs_lora_site first = *a;
    a->ghost_a = b->ghost_a;
    a->ghost_b = b->ghost_b;
    b->ghost_a = first.ghost_a;
    b->ghost_b = first.ghost_b;
}

static void a_failing_self_test_falls_back(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 22};
    static const char *const reasons[] = {"28 matrices of 29", "the self-test is off by"};
    for (int i = 0; i < 2; i++) {
        struct bench bench;
        open_bench(&bench, &spec, 0);
        if (i == 0) {
            bench.model->lora->n_products++;
        } else {
            exchange_ghosts(bench.model->lora);
        }
        struct hs_rt_context_params params = context_params(64, 2);
        EXPECT(HS_NOT_SUPPORTED,
               rt->lora_prepare(bench.model, HS_LORA_ENGINE_REWRITE, &params, &err));
        assert_non_null(strstr(err.message, reasons[i]));
        EXPECT(HS_INVALID_ARGUMENT,
               rt->lora_prepare(bench.model, HS_LORA_ENGINE_NATIVE + 1, &params, &err));
        hs_rt_context *context = new_lora_context(bench.model, HS_LORA_ENGINE_AUTO, 1);
        struct hs_rt_adapter_use use = {bench.adapters[3], 1};
        struct hs_rt_adapter_set set = {&use, 1};
        struct hs_rt_batch_item items[] = {{5, 0, 0, true, &set}, {6, 0, 1, true, NULL}};
        enum hs_rt_decode outcome;
        OK(rt->decode(context, items, 2, &outcome, &err));
        struct hs_rt_lora_stats stats;
        rt->lora_stats(context, &stats);
        assert_int_equal(stats.engine, HS_LORA_ENGINE_STACKED);
        assert_non_null(strstr(stats.reason, "rewrite: "));
        assert_non_null(strstr(stats.reason, reasons[i]));
        assert_int_equal(stats.n_decodes_mixed, 1);
        assert_int_equal(stats.n_nodes, 0);
        rt->context_free(context);
        close_bench(&bench);
    }
}

/* ---- memory and threads ---- */

struct life {
    hs_rt_model *model;
    hs_rt_adapter *adapter;
    hs_rt_context *context;
    struct hs_rt_context_params params;
};

/* What is done with an adapter, one step after the other. */
static hs_status live(struct life *life, const struct hs_lora *lora, int32_t step,
                      struct hs_error *err)
{
    struct hs_rt_adapter_use use = {life->adapter, 1};
    struct hs_rt_adapter_set set = {&use, 1};
    struct hs_rt_batch_item item = {5, 0, 0, true, &set};
    enum hs_rt_decode outcome;
    switch (step) {
    case 0:
        return rt->adapter_new(life->model, lora, &life->adapter, err);
    case 1:
        return rt->lora_prepare(life->model, life->params.lora_engine, &life->params, err);
    case 2:
        return rt->context_new(life->model, &life->params, &life->context, err);
    default:
        return rt->decode(life->context, &item, 1, &outcome, err);
    }
}

/* The n-th allocation fails; the step is done again and works. Returns whether one has failed. */
static bool live_with_a_failure(const struct hs_lora *lora, enum hs_lora_engine engine, uint64_t n)
{
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 20};
    struct life life = {.model = load_random(&spec), .params = context_params(64, 2)};
    life.params.has_adapters = true;
    life.params.lora_engine = engine;
    bool has_failed = false;
    hs_mem_fail_after(n);
    for (int32_t step = 0; step < 4; step++) {
        struct hs_error err = {0};
        hs_status status = live(&life, lora, step, &err);
        if (status != HS_OK) {
            EXPECT(HS_OUT_OF_MEMORY, status);
            assert_false(has_failed);
            has_failed = true;
            OK(live(&life, lora, step, &err));
        }
    }
    hs_mem_fail_after(0);
    rt->context_free(life.context);
    rt->adapter_free(life.adapter);
    rt->model_free(life.model);
    return has_failed;
}

static void allocations_fail(void **state)
{
    (void)state;
    struct hs_lora *lora = random_lora(2, 1, LORA_LAYERS | LORA_EMBEDDING, 0.3f);
    for (enum hs_lora_engine engine = HS_LORA_ENGINE_REWRITE; engine <= HS_LORA_ENGINE_NATIVE;
         engine++) {
        uint64_t n = 1;
        /* Of the many that are alike not every one. */
        while (live_with_a_failure(lora, engine, n)) {
            n += 1 + n / 8;
        }
        assert_true(n > 30);
    }
    free_lora(lora);
}

struct maker {
    struct bench *bench;
    int32_t n_made;
};

static void *make_adapters(void *arg)
{
    struct maker *maker = arg;
    struct hs_error err = {0};
    struct hs_rt_context_params params = context_params(64, 2);
    for (int32_t i = 0; i < 30; i++) {
        hs_rt_adapter *adapter = NULL;
        hs_status status = rt->adapter_new(maker->bench->model, maker->bench->loras[i % N_ADAPTERS],
                                           &adapter, &err);
        if (status == HS_OK && i % 10 == 0) {
            status = rt->lora_prepare(maker->bench->model, (enum hs_lora_engine)(i / 10 % 4),
                                      &params, &err);
        }
        maker->n_made += status == HS_OK;
        rt->adapter_free(adapter);
    }
    return NULL;
}

static void adapters_are_made_while_decoding(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_QWEN3, .seed = 21};
    struct bench bench;
    open_bench(&bench, &spec, 0);
    struct maker maker = {&bench, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, make_adapters, &maker), 0);
    struct figures figures = {0};
    compare(&bench, HS_LORA_ENGINE_STACKED, 1, 3, false, 3000, &figures);
    compare(&bench, HS_LORA_ENGINE_REWRITE, 1, 3, false, 4000, &figures);
    pthread_join(thread, NULL);
    assert_int_equal(maker.n_made, 30);
    close_bench(&bench);
    check("while others load", &figures);
}

int main(int argc, char **argv)
{
    n_of_family = argc > 1 ? (int32_t)strtol(argv[1], NULL, 10) : n_of_family;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_may_be_kept_in_8_bits),
        cmocka_unit_test(threads_share_rows_or_matrices),
        cmocka_unit_test(llama_mixes),
        cmocka_unit_test(qwen3_mixes),
        cmocka_unit_test(gemma3_mixes),
        cmocka_unit_test(mixtures_of_experts_mix),
        cmocka_unit_test(threads_share_the_work),
        cmocka_unit_test(merged_weights_agree),
        cmocka_unit_test(embeddings_may_be_the_output_matrix),
        cmocka_unit_test(base_rows_are_as_without_adapters),
        cmocka_unit_test(micro_batches_of_any_size),
        cmocka_unit_test(sets_that_are_odd),
        cmocka_unit_test(native_takes_one_set),
        cmocka_unit_test(fallbacks_forget_freed_adapters),
        cmocka_unit_test(adapters_that_do_not_fit),
        cmocka_unit_test(batches_that_are_refused),
        cmocka_unit_test(recurrent_models_fall_back),
        cmocka_unit_test(sparse_deltas_need_our_kernels),
        cmocka_unit_test(a_changed_graph_is_an_error),
        cmocka_unit_test(a_failing_self_test_falls_back),
        cmocka_unit_test(allocations_fail),
        cmocka_unit_test(adapters_are_made_while_decoding),
    };
    return cmocka_run_group_tests(tests, start_runtime, stop_runtime);
}
