/*
 * The self-test: two adapters of random weights on every matrix, and a row without, in one batch of
 * two decodes. llama.cpp's own way computes the same batches three times, with one set for all
 * rows; of each run the rows count whose set it was. So both sides multiply matrices of equal
 * shapes, and differ only by how the adapters are added.
 *
 * The measure is the error in units of what the adapters change, as root mean squares over the
 * logits. With matrices of floats it is about 1e-5 in small models, and 1.4e-3 in one of 18 layers,
 * whose keys and values are rounded to 16 bits. Quantised products round their inputs to 8
 * bits: a difference in the last bit of a float becomes a step there, and 2 to 8 percent in the
 * logits, by which even llama.cpp's own way differs from itself when two adapters change places.
 * A row with another's adapter or a wrong scale is off by 50 percent and more; that no matrix is
 * left out is counted.
 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "llama_lora.h"

#define ERROR_MAX_FLOAT 1e-2
#define ERROR_MAX_QUANTISED 0.2
#define STRENGTH 0.5f /* of what the adapters add, in units of usual weights */

enum { N_SETS = 3, N_STEPS = 2, RANK_MAX = 5, BATCH_MAX = 8 };
static const int32_t n_tokens[N_STEPS][N_SETS] = {{1, 3, 2}, {1, 1, 1}};

struct bench {
    const hs_rt_model *model;
    const struct hs_rt_context_params *params;
    hs_rt_adapter *adapters[2];
    struct hs_rt_adapter_use uses[2];
    struct hs_rt_adapter_set sets[N_SETS];
    float *tested, *native; /* f32[N_STEPS][N_SETS][n_vocab] */
    float *base;            /* as native, without adapters */
};

/* xorshift64*; values in [-1, 1). */
static float next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (float)(int32_t)((*state * 0x2545F4914F6CDD1Du) >> 32) / 2147483648.0f;
}

static void fill(float *values, size_t n, float scale, uint64_t *state)
{
    for (size_t i = 0; i < n; i++) {
        values[i] = scale * next_random(state);
    }
}

static size_t count_values(const struct hs_llama_lora *lora)
{
    size_t n = 0;
    for (int32_t i = 0; i < lora->n_sites; i++) {
        const struct hs_lora_site *site = &lora->sites[i];
        n += site->kind == HS_LORA_SITE_PRODUCT ? (size_t)(site->n_in + site->n_out) * RANK_MAX : 0;
    }
    return n;
}

static hs_status make_adapter(const hs_rt_model *model, int32_t rank, uint64_t seed,
                              hs_rt_adapter **ret_adapter, struct hs_error *err)
{
    const struct hs_llama_lora *lora = model->lora;
    HS_CLEANUP(hs_freep)
    struct hs_lora_target *targets = hs_calloc((size_t)lora->n_sites + 1, sizeof(*targets));
    HS_CLEANUP(hs_freep) float *values = hs_calloc(count_values(lora) + 1, sizeof(*values));
    if (!targets || !values) {
        return hs_error_nomem(err, "self-test of adapters");
    }
    struct hs_lora weights = {.targets = targets};
    float *at = values;
    for (int32_t i = 0; i < lora->n_sites; i++) {
        const struct hs_lora_site *site = &lora->sites[i];
        if (site->kind != HS_LORA_SITE_PRODUCT) {
            continue;
        }
        struct hs_lora_target *target = &targets[weights.n_targets++];
        size_t n_a = (size_t)(rank * site->n_in), n_b = (size_t)(rank * site->n_out);
        fill(at, n_a, sqrtf(3.0f / (float)site->n_in), &seed);
        fill(at + n_a, n_b, STRENGTH * sqrtf(3.0f / (float)rank), &seed);
        *target = (struct hs_lora_target){.n_in = site->n_in,
                                          .n_out = site->n_out,
                                          .rank = rank,
                                          .scale = 1,
                                          .a = {HS_LORA_F32, rank, site->n_in, at, NULL},
                                          .b = {HS_LORA_F32, site->n_out, rank, at + n_a, NULL}};
        memcpy(target->tensor, site->tensor, sizeof(target->tensor));
        at += n_a + n_b;
    }
    return hs_lora_adapter_pack(model, &weights, HS_ADAPTER_WEIGHTS_FILE, ret_adapter, err);
}

static void free_context(hs_rt_context **context)
{
    hs_llama_context_free(*context);
}

/* Which logits of a run are kept: those of one sequence, or of all. */
#define ALL (-1)

struct pass {
    enum hs_lora_engine engine;
    int32_t set;  /* of all rows; ALL: each sequence its own */
    int32_t kept; /* sequence */
    float *logits;
};

static hs_status compute_step(const struct bench *bench, hs_rt_context *context,
                              const struct pass *pass, int32_t step, int32_t *pos,
                              struct hs_error *err)
{
    struct hs_rt_batch_item items[BATCH_MAX];
    int32_t n = 0, last[N_SETS];
    size_t n_vocab = (size_t)bench->model->n_vocab;
    for (int32_t s = 0; s < N_SETS; s++) {
        for (int32_t i = 0; i < n_tokens[step][s]; i++) {
            last[s] = n;
            items[n++] = (struct hs_rt_batch_item){
                .token = (17 + 101 * s + 31 * pos[s]) % bench->model->n_vocab,
                .pos = pos[s],
                .seq = s,
                .want_logits = i + 1 == n_tokens[step][s],
                .adapters = &bench->sets[pass->set == ALL ? s : pass->set]};
            pos[s]++;
        }
    }
    enum hs_rt_decode outcome = HS_RT_DECODE_OK;
    hs_status status = hs_llama_decode(context, items, n, &outcome, err);
    if (status == HS_OK && outcome != HS_RT_DECODE_OK) {
        status = hs_error_set(err, HS_INTERNAL, "no room for the self-test's batch");
    }
    for (int32_t s = 0; status == HS_OK && s < N_SETS; s++) {
        if (pass->kept == ALL || pass->kept == s) {
            memcpy(pass->logits + (size_t)(step * N_SETS + s) * n_vocab,
                   hs_llama_logits(context, last[s]), n_vocab * sizeof(float));
        }
    }
    return status;
}

static hs_status compute(const struct bench *bench, const struct pass *pass, struct hs_error *err)
{
    const struct hs_rt_context_params params = {.n_ctx = 64,
                                                .n_batch = BATCH_MAX,
                                                .n_ubatch = BATCH_MAX,
                                                .n_seq_max = N_SETS,
                                                .n_threads = bench->params->n_threads,
                                                .n_threads_batch = bench->params->n_threads_batch,
                                                .has_adapters = true};
    HS_CLEANUP(free_context) hs_rt_context *context = NULL;
    hs_status status = hs_llama_context_new(bench->model->lora->model, &params, &context, err);
    if (status == HS_OK) {
        status = hs_lora_run_set_up(context->lora, pass->engine, err);
    }
    int32_t pos[N_SETS] = {0};
    for (int32_t step = 0; status == HS_OK && step < N_STEPS; step++) {
        status = compute_step(bench, context, pass, step, pos, err);
    }
    return status;
}

static bool is_quantised(const struct hs_llama_lora *lora)
{
    for (int32_t i = 0; i < lora->n_sites; i++) {
        if (ggml_is_quantized(lora->sites[i].weight->type)) {
            return true;
        }
    }
    return false;
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    }
    return sqrt(sum / (double)n);
}

static hs_status compare(const struct bench *bench, struct hs_error *err)
{
    size_t n_vocab = (size_t)bench->model->n_vocab;
    double allowed = is_quantised(bench->model->lora) ? ERROR_MAX_QUANTISED : ERROR_MAX_FLOAT;
    double effect = 0;
    for (int32_t i = 0; i < N_STEPS * N_SETS; i++) {
        size_t at = (size_t)i * n_vocab;
        effect = fmax(effect, distance(bench->native + at, bench->base + at, n_vocab));
    }
    for (int32_t i = 0; i < N_STEPS * N_SETS; i++) {
        size_t at = (size_t)i * n_vocab;
        double error = distance(bench->tested + at, bench->native + at, n_vocab);
        /* Written so that NaN fails. */
        if (!(error <= allowed * effect)) {
            return hs_error_set(err, HS_NOT_SUPPORTED,
                                "the self-test is off by %.2g where the adapters change %.2g",
                                error, effect);
        }
    }
    hs_log(HS_LOG_INFO, "runtime", "self-test of adapters: they change the logits by %.3g", effect);
    return HS_OK;
}

static hs_status run(struct bench *bench, enum hs_lora_engine engine, struct hs_error *err)
{
    size_t n_logits = (size_t)(N_STEPS * N_SETS) * (size_t)bench->model->n_vocab;
    HS_CLEANUP(hs_freep) float *logits = hs_calloc(3 * n_logits, sizeof(*logits));
    if (!logits) {
        return hs_error_nomem(err, "self-test of adapters");
    }
    bench->tested = logits;
    bench->native = logits + n_logits;
    bench->base = logits + 2 * n_logits;
    const struct pass passes[] = {
        {engine, ALL, ALL, bench->tested},
        {HS_LORA_ENGINE_NATIVE, 0, ALL, bench->base},
        {HS_LORA_ENGINE_NATIVE, 1, 1, bench->native},
        {HS_LORA_ENGINE_NATIVE, 2, 2, bench->native},
    };
    for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++) {
        hs_status status = compute(bench, &passes[i], err);
        if (status != HS_OK) {
            return status;
        }
    }
    for (int32_t step = 0; step < N_STEPS; step++) {
        size_t at = (size_t)(step * N_SETS) * (size_t)bench->model->n_vocab;
        memcpy(bench->native + at, bench->base + at,
               (size_t)bench->model->n_vocab * sizeof(*logits));
    }
    return compare(bench, err);
}

struct test_call {
    struct bench bench;
    enum hs_lora_engine engine;
    hs_status status;
    struct hs_error *err;
};

static void *test_main(void *arg)
{
    struct test_call *call = arg;
    struct bench *bench = &call->bench;
    hs_status status = make_adapter(bench->model, RANK_MAX, 1, &bench->adapters[0], call->err);
    if (status == HS_OK) {
        status = make_adapter(bench->model, 1, 2, &bench->adapters[1], call->err);
    }
    if (status == HS_OK) {
        bench->uses[0] = (struct hs_rt_adapter_use){bench->adapters[0], 1};
        bench->uses[1] = (struct hs_rt_adapter_use){bench->adapters[1], -0.7f};
        bench->sets[1] = (struct hs_rt_adapter_set){&bench->uses[0], 1};
        bench->sets[2] = (struct hs_rt_adapter_set){bench->uses, 2};
        status = run(bench, call->engine, call->err);
    }
    hs_llama_adapter_free(bench->adapters[0]);
    hs_llama_adapter_free(bench->adapters[1]);
    call->status = status;
    return NULL;
}

/* OpenMP keeps the threads that a thread has computed with as long as that lives. While there are
 * more of them than cores, those of every decode sleep at each barrier instead of waiting awake. So
 * the test has a thread that ends. */
hs_status hs_lora_self_test(const hs_rt_model *model, enum hs_lora_engine engine,
                            const struct hs_rt_context_params *params, struct hs_error *err)
{
    struct test_call call = {
        .bench = {.model = model, .params = params}, .engine = engine, .err = err};
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, test_main, &call);
    if (rc != 0) {
        return hs_error_set(err, hs_status_from_errno(rc),
                            "cannot start a thread for the self-test of adapters: %s",
                            strerror(rc));
    }
    pthread_join(thread, NULL);
    return call.status;
}
