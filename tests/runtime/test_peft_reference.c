/*
 * Adapters as PEFT saved them, on models with the weights of tiny checkpoints: the logits must be
 * those of transformers with PEFT (tests/references/peft_logits.py), by every way to apply
 * adapters, alone and mixed in one batch. The difference that is left is that of the KV cache in 16
 * bits and of rounding, which the models without adapters show, too.
 */
#include "runtime_test.h"

#include <math.h>
#include <stdio.h>

#include "adapters/adapter_file.h"

#define DATA HS_TEST_DATA "/peft/"
#define N_VOCAB 64
#define N_PROMPTS 2
#define N_ADAPTERS_MAX 2
#define NOISE_MAX 0.01f /* of logits of about 3; the models without adapters show up to 0.004 */

/* As in the script. */
static const struct {
    int32_t n, tokens[12];
} prompts[N_PROMPTS] = {{8, {1, 5, 9, 33, 17, 60, 2, 44}},
                        {12, {1, 63, 40, 3, 3, 21, 58, 7, 11, 30, 62, 19}}};

struct reference {
    hs_rt_model *model;
    hs_lora_base *base;
    int32_t n_adapters;
    hs_rt_adapter *adapters[N_ADAPTERS_MAX];
    float logits[1 + N_ADAPTERS_MAX][N_PROMPTS][N_VOCAB]; /* [0]: of the base */
};

static void read_logits(const char *path, float logits[N_PROMPTS][N_VOCAB])
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(logits, sizeof(float), N_PROMPTS * N_VOCAB, file), N_PROMPTS * N_VOCAB);
    fclose(file);
}

static void open_reference(struct reference *ref, const char *model, const char *const *adapters,
                           int32_t n)
{
    char path[512];
    struct hs_error err = {0};
    memset(ref, 0, sizeof *ref);
    ref->n_adapters = n;
    snprintf(path, sizeof path, DATA "%s.gguf", model);
    ref->model = load(path);
    OK(hs_lora_base_open(path, &ref->base, &err));
    snprintf(path, sizeof path, DATA "%s.f32", model);
    read_logits(path, ref->logits[0]);
    for (int32_t i = 0; i < n; i++) {
        struct hs_adapter_file *file = NULL;
        snprintf(path, sizeof path, DATA "%s-%s", model, adapters[i]);
        OK(hs_adapter_file_load(path, ref->base, &file, &err));
        OK(rt->adapter_new(ref->model, &file->lora, &ref->adapters[i], &err));
        hs_adapter_file_free(file);
        snprintf(path, sizeof path, DATA "%s-%s/logits.f32", model, adapters[i]);
        read_logits(path, ref->logits[1 + i]);
    }
}

static void close_reference(struct reference *ref)
{
    for (int32_t i = 0; i < ref->n_adapters; i++) {
        rt->adapter_free(ref->adapters[i]);
    }
    hs_lora_base_free(ref->base);
    rt->model_free(ref->model);
}

static hs_rt_context *open_context(struct reference *ref, enum hs_lora_engine engine)
{
    struct hs_rt_context_params params = context_params(256, 8);
    struct hs_error err = {0};
    hs_rt_context *context = NULL;
    params.has_adapters = true;
    params.lora_engine = engine;
    params.n_threads = params.n_threads_batch = 1;
    OK(rt->context_new(ref->model, &params, &context, &err));
    return context;
}

static float difference(const float *a, const float *b)
{
    float largest = 0;
    for (int32_t i = 0; i < N_VOCAB; i++) {
        float d = fabsf(a[i] - b[i]);
        largest = d > largest || isnan(d) ? d : largest;
    }
    return largest;
}

/*
 * Prompts with adapters first..end - 1 (0: none) in one batch.
 * Out: ret_errors[i]: the largest difference of adapter i to its reference.
 */
static void run(struct reference *ref, hs_rt_context *context, int32_t first, int32_t end,
                float *ret_errors)
{
    struct hs_rt_batch_item items[(1 + N_ADAPTERS_MAX) * N_PROMPTS * 12] = {0};
    struct hs_rt_adapter_use uses[1 + N_ADAPTERS_MAX];
    struct hs_rt_adapter_set sets[1 + N_ADAPTERS_MAX];
    int32_t last[1 + N_ADAPTERS_MAX][N_PROMPTS], n = 0;
    struct hs_error err = {0};
    enum hs_rt_decode outcome;
    for (int32_t a = first; a < end; a++) {
        uses[a] = (struct hs_rt_adapter_use){a == 0 ? NULL : ref->adapters[a - 1], 1.0f};
        sets[a] = (struct hs_rt_adapter_set){&uses[a], 1};
        for (int32_t p = 0; p < N_PROMPTS; p++) {
            for (int32_t i = 0; i < prompts[p].n; i++) {
                items[n++] = (struct hs_rt_batch_item){.token = prompts[p].tokens[i],
                                                       .pos = i,
                                                       .seq = a * N_PROMPTS + p,
                                                       .want_logits = i == prompts[p].n - 1,
                                                       .adapters = a == 0 ? NULL : &sets[a]};
            }
            last[a][p] = n - 1;
        }
    }
    OK(rt->decode(context, items, n, &outcome, &err));
    assert_int_equal(outcome, HS_RT_DECODE_OK);
    for (int32_t a = first; a < end; a++) {
        ret_errors[a] = 0;
        for (int32_t p = 0; p < N_PROMPTS; p++) {
            float error = difference(rt->logits(context, last[a][p]), ref->logits[a][p]);
            ret_errors[a] = error > ret_errors[a] || isnan(error) ? error : ret_errors[a];
        }
    }
    rt->kv_clear(context);
}

static void check(struct reference *ref, const char *name, const char *engine, const float *errors)
{
    for (int32_t a = 0; a <= ref->n_adapters; a++) {
        float effect = difference(ref->logits[a][0], ref->logits[0][0]);
        print_message("%s, %s, adapter %d: off by %g, it changes logits by %g\n", name, engine,
                      (int)a, (double)errors[a], (double)effect);
        assert_true(errors[a] <= NOISE_MAX);
        assert_true(a == 0 || effect > 1);
    }
}

static void compare(const char *model, const char *const *adapters, int32_t n)
{
    static const struct {
        enum hs_lora_engine engine;
        const char *name;
    } engines[] = {{HS_LORA_ENGINE_NATIVE, "native"},
                   {HS_LORA_ENGINE_STACKED, "stacked"},
                   {HS_LORA_ENGINE_REWRITE, "rewrite"}};
    struct reference ref;
    float errors[1 + N_ADAPTERS_MAX];
    open_reference(&ref, model, adapters, n);
    for (size_t e = 0; e < 3; e++) {
        hs_rt_context *context = open_context(&ref, engines[e].engine);
        for (int32_t a = 0; a <= n; a++) {
            run(&ref, context, a, a + 1, errors);
        }
        check(&ref, model, engines[e].name, errors);
        if (engines[e].engine != HS_LORA_ENGINE_NATIVE) {
            struct hs_rt_lora_stats stats;
            run(&ref, context, 0, n + 1, errors);
            check(&ref, model, "mixed", errors);
            rt->lora_stats(context, &stats);
            assert_int_equal(stats.engine, engines[e].engine);
            assert_int_equal(stats.n_sets_max, n + 1);
        }
        rt->context_free(context);
    }
    close_reference(&ref);
}

static void llama_equals_peft(void **state)
{
    (void)state;
    const char *const adapters[] = {"rslora", "words"};
    compare("llama", adapters, 2);
}

static void qwen3_equals_peft(void **state)
{
    (void)state;
    const char *const adapters[] = {"patterns"};
    compare("qwen3", adapters, 1);
}

static void gemma3_equals_peft(void **state)
{
    (void)state;
    const char *const adapters[] = {"layers", "words"};
    compare("gemma3", adapters, 2);
}

static void phi3_equals_peft(void **state)
{
    (void)state;
    const char *const adapters[] = {"fused"};
    compare("phi3", adapters, 1);
}

static void gpt2_equals_peft(void **state)
{
    (void)state;
    const char *const adapters[] = {"conv1d"};
    compare("gpt2", adapters, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_equals_peft),  cmocka_unit_test(qwen3_equals_peft),
        cmocka_unit_test(gemma3_equals_peft), cmocka_unit_test(phi3_equals_peft),
        cmocka_unit_test(gpt2_equals_peft),
    };
    return cmocka_run_group_tests(tests, start_runtime, stop_runtime);
}
