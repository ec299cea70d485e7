/* Tests of lora_kernels.h: every set of kernels that this CPU runs against float64. */
#include "lora_test.h"

#include <pthread.h>

/* One group over all rows, each set of kernels, each number of threads. */
static void check_shape(int32_t n_rows, int64_t n_in, int64_t n_out, int32_t rank,
                        enum hs_lora_type a_type, enum hs_lora_type b_type)
{
    const struct hs_lora_kernels *kernels;
    for (size_t set = 0; (kernels = hs_lora_kernels_at(set)) != NULL; set++) {
        for (int nth = 1; nth <= 5; nth += 2) {
            struct lora_test_batch batch =
                lora_test_batch(n_rows, n_in, n_out, lora_test_random(3));
            lora_test_group(&batch, lora_test_target(n_in, n_out, rank, a_type, b_type), n_rows,
                            HS_ADAPTER_WEIGHTS_FILE);
            lora_test_check(&batch, kernels, nth);
            lora_test_batch_free(&batch);
        }
    }
}

static void test_sets_of_kernels(void **state)
{
    (void)state;
    size_t n = 0;
    while (hs_lora_kernels_at(n) != NULL) {
        for (size_t i = 0; i < n; i++) {
            assert_string_not_equal(hs_lora_kernels_at(i)->name, hs_lora_kernels_at(n)->name);
        }
        n++;
    }
    assert_true(n >= 1 && hs_lora_kernels_at(n + 1) == NULL);
    assert_string_equal(hs_lora_kernels_at(n - 1)->name, "portable");
}

static void test_inputs_of_every_length(void **state)
{
    (void)state;
    for (int64_t n_in = 1; n_in <= 49; n_in++) {
        check_shape(3, n_in, 20, 5, HS_LORA_F16, HS_LORA_F16);
    }
    check_shape(2, 1000, 3, 2, HS_LORA_F32, HS_LORA_F32);
}

static void test_outputs_of_every_length(void **state)
{
    (void)state;
    for (int64_t n_out = 1; n_out <= 130; n_out += n_out < 70 ? 1 : 7) {
        check_shape(3, 18, n_out, 3, HS_LORA_F16, HS_LORA_F16);
    }
}

static void test_ranks(void **state)
{
    (void)state;
    for (int32_t rank = 1; rank <= 17; rank++) {
        check_shape(5, 33, 70, rank, HS_LORA_F16, HS_LORA_F16);
    }
    check_shape(1, 20, 65, HS_LORA_RANK_MAX, HS_LORA_F16, HS_LORA_F16);
}

static void test_rows(void **state)
{
    (void)state;
    for (int32_t n_rows = 1; n_rows <= 35; n_rows++) {
        check_shape(n_rows, 21, 66, 6, HS_LORA_F16, HS_LORA_F16);
    }
}

static void test_types(void **state)
{
    (void)state;
    for (enum hs_lora_type a = HS_LORA_F32; a <= HS_LORA_I8; a++) {
        for (enum hs_lora_type b = HS_LORA_F32; b <= HS_LORA_I8; b++) {
            check_shape(7, 53, 99, 9, a, b);
        }
    }
}

/* Subnormal and largest 16-bit numbers, as the portable set converts them by itself. */
static void test_extreme_values(void **state)
{
    (void)state;
    static const uint16_t f16[] = {0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x8000};
    static const uint16_t bf16[] = {0x0080, 0x8080, 0x5f00, 0xdf00, 0x3f80, 0x8000};
    for (int is_bf16 = 0; is_bf16 <= 1; is_bf16++) {
        const struct hs_lora_kernels *kernels;
        for (size_t set = 0; (kernels = hs_lora_kernels_at(set)) != NULL; set++) {
            enum hs_lora_type type = is_bf16 ? HS_LORA_BF16 : HS_LORA_F16;
            struct lora_test_batch batch = lora_test_batch(2, 6, 9, 0);
            struct hs_lora_target target = lora_test_target(6, 9, 1, type, HS_LORA_F32);
            memcpy((void *)target.a.data, is_bf16 ? bf16 : f16, sizeof f16);
            lora_test_group(&batch, target, 2, HS_ADAPTER_WEIGHTS_FILE);
            lora_test_check(&batch, kernels, 1);
            lora_test_batch_free(&batch);
        }
    }
}

/* Groups of any number and size that share rows, of all kinds. */
static void add_random_group(struct lora_test_batch *batch)
{
    int32_t n_rows = (int32_t)lora_test_random((uint32_t)batch->n_rows + 1);
    struct hs_lora_target target;
    switch (lora_test_random(4)) {
    case 0:
        target = lora_test_sparse(batch->n_in, batch->n_out, 1, 1, lora_test_random(3), 0.2);
        break;
    case 1:
        target = lora_test_sparse(batch->n_in, batch->n_out, 16, 1, lora_test_random(3), 0.4);
        break;
    default:
        target = lora_test_target(batch->n_in, batch->n_out, 1 + (int32_t)lora_test_random(24),
                                  lora_test_random(4), lora_test_random(4));
        break;
    }
    lora_test_group(batch, target, n_rows, HS_ADAPTER_WEIGHTS_FILE);
}

static void test_mixed_groups(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 60; seed++) {
        const struct hs_lora_kernels *kernels;
        for (size_t set = 0; (kernels = hs_lora_kernels_at(set)) != NULL; set++) {
            lora_test_seed(seed);
            int32_t n_rows = 1 + (int32_t)lora_test_random(24);
            struct lora_test_batch batch =
                lora_test_batch(n_rows, 1 + lora_test_random(70), 16 * (1 + lora_test_random(10)),
                                lora_test_random(5));
            uint32_t n_groups = lora_test_random(LORA_TEST_GROUPS_MAX + 1);
            for (uint32_t i = 0; i < n_groups; i++) {
                add_random_group(&batch);
            }
            lora_test_check(&batch, kernels, 1 + (int)lora_test_random(5));
            lora_test_batch_free(&batch);
        }
    }
}

static void test_no_rows(void **state)
{
    (void)state;
    struct hs_lora_target target = lora_test_target(20, 30, 4, HS_LORA_F16, HS_LORA_F16);
    struct hs_lora_packed *weights = NULL;
    assert_int_equal(hs_lora_packed_new(&target, HS_ADAPTER_WEIGHTS_FILE, &weights, NULL), HS_OK);
    struct hs_lora_group group = {.weights = weights};
    for (int32_t n_groups = 0; n_groups <= 1; n_groups++) {
        hs_lora_shrink(&group, n_groups, NULL, 20, 0, 1);
        hs_lora_lookup(&group, n_groups, NULL, 0, 1);
        hs_lora_expand(&group, n_groups, NULL, 20, NULL, 30, 0, 1);
    }
    hs_lora_packed_free(weights);
    lora_test_target_free(&target);
}

/* A word's row of A times B, exact: all values are small whole numbers. */
static void check_lookup(enum hs_lora_type type, int nth)
{
    enum { N_WORDS = 7, RANK = 3, N_OUT = 5, N_ROWS = 4 };
    float a[N_WORDS * RANK];
    int8_t a_bytes[N_WORDS * RANK];
    float a_factors[N_WORDS], b[N_OUT * RANK], y[N_ROWS * N_OUT] = {0}, ax[N_ROWS * RANK];
    for (int i = 0; i < N_WORDS * RANK; i++) {
        a_factors[i / RANK] = (float)(1 << (i / RANK));
        a_bytes[i] = (int8_t)(i - 9);
        a[i] = (float)a_bytes[i] * (type == HS_LORA_I8 ? a_factors[i / RANK] : 1.0f);
    }
    for (int i = 0; i < N_OUT * RANK; i++) {
        b[i] = (float)(i % 4 - 1);
    }
    struct hs_lora_target target = {
        .tensor = "token_embd.weight",
        .n_in = N_WORDS,
        .n_out = N_OUT,
        .rank = RANK,
        .scale = 0.5f,
        .is_embedding = true,
        .a = {type, N_WORDS, RANK, type == HS_LORA_I8 ? (void *)a_bytes : a,
              type == HS_LORA_I8 ? a_factors : NULL},
        .b = {HS_LORA_F32, N_OUT, RANK, b, NULL},
    };
    struct hs_lora_packed *weights = NULL;
    assert_int_equal(hs_lora_packed_new(&target, HS_ADAPTER_WEIGHTS_FILE, &weights, NULL), HS_OK);
    const int32_t rows[] = {3, 0, 2}, tokens[N_ROWS] = {6, 99, 0, 4};
    const float scales[] = {1, -2, 4};
    struct hs_lora_group group = {weights, rows, scales, 3, ax};
    for (int ith = 0; ith < nth; ith++) {
        hs_lora_lookup(&group, 1, tokens, ith, nth);
    }
    hs_lora_expand(&group, 1, NULL, 0, y, N_OUT, 0, 1);
    for (int i = 0; i < N_ROWS * N_OUT; i++) {
        float wanted = 0;
        for (int k = 0; k < RANK; k++) {
            int row = i / N_OUT;
            float scale = row == 3 ? 1.0f : row == 0 ? -2.0f : row == 2 ? 4.0f : 0.0f;
            wanted +=
                row == 1 ? 0 : 0.5f * scale * a[tokens[row] * RANK + k] * b[i % N_OUT * RANK + k];
        }
        assert_true(y[i] == wanted);
    }
    hs_lora_packed_free(weights);
}

static void test_lookup(void **state)
{
    (void)state;
    for (int nth = 1; nth <= 5; nth++) {
        check_lookup(HS_LORA_F32, nth);
        check_lookup(HS_LORA_I8, nth);
    }
}

/* ---- real threads ---- */

#define N_THREADS 4

struct thread {
    struct lora_test_batch *batch;
    pthread_barrier_t *barrier;
    int ith;
};

static void *run_thread(void *user)
{
    struct thread *thread = user;
    struct lora_test_batch *batch = thread->batch;
    hs_lora_shrink(batch->groups, batch->n_groups, batch->x, batch->x_stride, thread->ith,
                   N_THREADS);
    pthread_barrier_wait(thread->barrier);
    hs_lora_expand(batch->groups, batch->n_groups, batch->x, batch->x_stride, batch->y,
                   batch->y_stride, thread->ith, N_THREADS);
    return NULL;
}

static struct lora_test_batch batch_for_threads(void)
{
    lora_test_seed(5);
    struct lora_test_batch batch = lora_test_batch(24, 100, 320, 1);
    for (int i = 0; i < LORA_TEST_GROUPS_MAX; i++) {
        add_random_group(&batch);
    }
    return batch;
}

static void test_threads_do_what_one_does(void **state)
{
    (void)state;
    struct lora_test_batch one = batch_for_threads(), many = batch_for_threads();
    hs_lora_shrink(one.groups, one.n_groups, one.x, one.x_stride, 0, 1);
    hs_lora_expand(one.groups, one.n_groups, one.x, one.x_stride, one.y, one.y_stride, 0, 1);

    pthread_barrier_t barrier;
    pthread_t ids[N_THREADS];
    struct thread threads[N_THREADS];
    pthread_barrier_init(&barrier, NULL, N_THREADS);
    for (int i = 0; i < N_THREADS; i++) {
        threads[i] = (struct thread){&many, &barrier, i};
        assert_int_equal(pthread_create(&ids[i], NULL, run_thread, &threads[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(ids[i], NULL);
    }
    pthread_barrier_destroy(&barrier);
    assert_memory_equal(many.y, one.y, (23 * one.y_stride + 320) * sizeof(float));
    lora_test_batch_free(&one);
    lora_test_batch_free(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets_of_kernels),
        cmocka_unit_test(test_inputs_of_every_length),
        cmocka_unit_test(test_outputs_of_every_length),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_extreme_values),
        cmocka_unit_test(test_mixed_groups),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_threads_do_what_one_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
