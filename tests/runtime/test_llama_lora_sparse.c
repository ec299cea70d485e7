/*
 * Sparse deltas beside dense adapters in one batch of a real model. What they must do is what an
 * adapter with all ranks does whose A is the identity and whose B is the delta: the dense kernels
 * and llama.cpp's own way compute that.
 */
#include "mixed_test.h"

#include <math.h>

#define N_VOCAB TINY_GGUF_N_VOCAB
#define N_SCHEDULES 20
#define NOISE_FACTOR 4 /* as in test_llama_lora.c */

enum { DENSE, SPARSE, N_KINDS };

/* One delta of each target of a random adapter, twice. */
struct pair {
    struct hs_lora loras[N_KINDS];
    hs_rt_adapter *adapters[N_KINDS];
};

/* Blocks of the delta B A that are kept: one of `one_of`, at random. */
static void fill_sparse(const struct hs_lora_target *from, int32_t block_rows, int32_t block_cols,
                        int32_t one_of, uint64_t *state, struct hs_lora_target *to, float *dense)
{
    int64_t n_rows = from->n_out / block_rows, n_cols = from->n_in / block_cols, n = 0;
    const float *a = from->a.data, *b = from->b.data;
    int64_t *row_start = calloc((size_t)n_rows + 1, sizeof *row_start);
    int32_t *columns = malloc((size_t)(n_rows * n_cols) * sizeof *columns);
    float *values = malloc((size_t)(from->n_in * from->n_out) * sizeof *values);
    assert_true(row_start != NULL && columns != NULL && values != NULL);
    for (int64_t block = 0; block < n_rows * n_cols; block++) {
        int64_t row = block / n_cols, column = block % n_cols;
        if (random_below(state, one_of) == 0) {
            for (int64_t i = 0; i < block_rows * block_cols; i++) {
                int64_t out = row * block_rows + i / block_cols;
                int64_t in = column * block_cols + i % block_cols;
                float sum = 0;
                for (int32_t k = 0; k < from->rank; k++) {
                    sum += b[out * from->rank + k] * a[k * from->n_in + in];
                }
                values[n * block_rows * block_cols + i] = sum;
                dense[out * from->n_in + in] = sum;
            }
            columns[n++] = (int32_t)column;
        }
        row_start[row + 1] = n;
    }
    *to = *from;
    to->rank = 0;
    to->a = to->b = (struct hs_lora_matrix){0};
    to->sparse =
        (struct hs_lora_sparse){HS_LORA_F32, block_rows, block_cols, n, row_start, columns, values};
}

static void open_pair(const hs_rt_model *model, int32_t block_rows, int32_t block_cols,
                      int32_t one_of, uint64_t seed, struct pair *pair)
{
    struct hs_lora *from = random_lora(8, seed, LORA_LAYERS, 0.3f);
    for (int kind = 0; kind < N_KINDS; kind++) {
        pair->loras[kind].n_targets = from->n_targets;
        pair->loras[kind].targets = calloc((size_t)from->n_targets, sizeof *from->targets);
        assert_non_null(pair->loras[kind].targets);
    }
    for (int32_t i = 0; i < from->n_targets; i++) {
        int64_t n_in = from->targets[i].n_in, n_out = from->targets[i].n_out;
        float *dense = calloc((size_t)(n_in * n_out), sizeof *dense);
        float *identity = calloc((size_t)(n_in * n_in), sizeof *identity);
        assert_true(dense != NULL && identity != NULL);
        for (int64_t k = 0; k < n_in; k++) {
            identity[k * n_in + k] = 1;
        }
        fill_sparse(&from->targets[i], block_rows, block_cols, one_of, &seed,
                    (struct hs_lora_target *)&pair->loras[SPARSE].targets[i], dense);
        struct hs_lora_target *target = (struct hs_lora_target *)&pair->loras[DENSE].targets[i];
        *target = from->targets[i];
        target->rank = (int32_t)n_in;
        target->a = (struct hs_lora_matrix){HS_LORA_F32, n_in, n_in, identity, NULL};
        target->b = (struct hs_lora_matrix){HS_LORA_F32, n_out, n_in, dense, NULL};
    }
    free_lora(from);
    for (int kind = 0; kind < N_KINDS; kind++) {
        pair->adapters[kind] = new_adapter(model, &pair->loras[kind]);
    }
}

static void close_pair(struct pair *pair)
{
    for (int kind = 0; kind < N_KINDS; kind++) {
        rt->adapter_free(pair->adapters[kind]);
        for (int32_t i = 0; i < pair->loras[kind].n_targets; i++) {
            const struct hs_lora_target *target = &pair->loras[kind].targets[i];
            free((void *)target->a.data);
            free((void *)target->b.data);
            free((void *)target->sparse.row_start);
            free((void *)target->sparse.block_column);
            free((void *)target->sparse.values);
        }
        free((void *)pair->loras[kind].targets);
    }
}

/* The same schedule with the dense adapters instead of the sparse ones. */
static void make_dense(struct schedule *schedule, const struct pair *pairs, int32_t n)
{
    for (int32_t s = 0; s < schedule->n_seqs; s++) {
        for (int32_t i = 0; i < schedule->sets[s].n; i++) {
            for (int32_t p = 0; p < n; p++) {
                if (schedule->uses[s][i].adapter == pairs[p].adapters[SPARSE]) {
                    schedule->uses[s][i].adapter = pairs[p].adapters[DENSE];
                }
            }
        }
    }
}

static void sparse_equals_dense(void **state)
{
    (void)state;
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 7};
    hs_rt_model *model = load_random(&spec);
    struct pair pairs[3];
    open_pair(model, 16, 1, 5, 11, &pairs[0]);
    open_pair(model, 1, 1, 8, 12, &pairs[1]);
    open_pair(model, 16, 4, 1, 13, &pairs[2]); /* full rank: all blocks */
    struct hs_lora *other = random_lora(16, 14, LORA_LAYERS, 0.3f);
    const hs_rt_adapter *adapters[] = {pairs[0].adapters[SPARSE], pairs[1].adapters[SPARSE],
                                       pairs[2].adapters[SPARSE], new_adapter(model, other)};
    hs_rt_context *context = new_lora_context(model, HS_LORA_ENGINE_REWRITE, 2);
    hs_rt_context *native = new_lora_context(model, HS_LORA_ENGINE_NATIVE, 1);
    size_t n = (size_t)SCHEDULE_SPANS * N_VOCAB * sizeof(float);
    float *mixed = malloc(n), *alone = malloc(n), *base = malloc(n);
    assert_true(mixed && alone && base);
    float error = 0, noise = 0, effect = 0;
    uint64_t random = 99;
    for (int i = 0; i < N_SCHEDULES; i++) {
        struct schedule schedule;
        random_schedule(&schedule, adapters, 4, &random);
        run_schedule(context, &schedule, -1, false, NULL, mixed);
        make_dense(&schedule, pairs, 3);
        run_alone(native, &schedule, false, alone);
        error = fmaxf(error, largest_difference(&schedule, mixed, alone));
        run_schedule(context, &schedule, -1, true, NULL, mixed);
        run_alone(native, &schedule, true, base);
        noise = fmaxf(noise, largest_difference(&schedule, mixed, base));
        effect = fmaxf(effect, largest_difference(&schedule, alone, base));
    }
    struct hs_rt_lora_stats stats;
    rt->lora_stats(context, &stats);
    assert_int_equal(stats.engine, HS_LORA_ENGINE_REWRITE);
    assert_true(stats.n_decodes_mixed > N_SCHEDULES / 2);
    print_message("adapters change logits by %g, batching by %g, sparse differs from dense by %g\n",
                  (double)effect, (double)noise, (double)error);
    assert_true(effect > 100 * noise);
    assert_true(error <= NOISE_FACTOR * noise);
    free(mixed);
    free(alone);
    free(base);
    rt->context_free(context);
    rt->context_free(native);
    for (int p = 0; p < 3; p++) {
        close_pair(&pairs[p]);
    }
    rt->adapter_free((hs_rt_adapter *)adapters[3]);
    free_lora(other);
    rt->model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sparse_equals_dense)};
    return cmocka_run_group_tests(tests, start_runtime, stop_runtime);
}
