/* Tests of sparse deltas: packing and kernels for every shape of block. */
#include "lora_test.h"

#include "base/error.h"

/* One sparse group, and beside it a low-rank one, for each set of kernels. */
static void check(int32_t n_rows, int64_t n_in, int64_t n_out, int32_t block_rows,
                  int32_t block_cols, enum hs_lora_type type, double density)
{
    const struct hs_lora_kernels *kernels;
    for (size_t set = 0; (kernels = hs_lora_kernels_at(set)) != NULL; set++) {
        struct lora_test_batch batch = lora_test_batch(n_rows, n_in, n_out, lora_test_random(3));
        lora_test_group(&batch,
                        lora_test_sparse(n_in, n_out, block_rows, block_cols, type, density),
                        n_rows, HS_ADAPTER_WEIGHTS_FILE);
        lora_test_group(&batch, lora_test_target(n_in, n_out, 3, HS_LORA_F16, HS_LORA_F16),
                        (n_rows + 1) / 2, HS_ADAPTER_WEIGHTS_FILE);
        lora_test_check(&batch, kernels, 1 + (int)lora_test_random(4));
        lora_test_batch_free(&batch);
    }
}

static void test_blocks_of_every_shape(void **state)
{
    (void)state;
    static const int32_t sides[][2] = {{1, 1},  {1, 4},  {4, 1},  {4, 4},   {8, 8},  {5, 3},
                                       {16, 1}, {16, 4}, {32, 1}, {32, 16}, {48, 3}, {16, 60}};
    for (size_t i = 0; i < COUNT_OF(sides); i++) {
        int64_t n_in = sides[i][1] * (60 / sides[i][1]), n_out = sides[i][0] * (160 / sides[i][0]);
        for (int32_t n_rows = 1; n_rows <= 20; n_rows += 1 + n_rows / 2) {
            check(n_rows, n_in, n_out, sides[i][0], sides[i][1], HS_LORA_F16, 0.4);
        }
    }
}

static void test_types(void **state)
{
    (void)state;
    for (enum hs_lora_type type = HS_LORA_F32; type <= HS_LORA_BF16; type++) {
        check(17, 40, 96, 1, 1, type, 0.3);
        check(9, 40, 96, 16, 2, type, 0.3);
    }
}

/* A row of more entries than are converted at once, a delta of all blocks and one of none. */
static void test_full_and_empty(void **state)
{
    (void)state;
    for (int32_t n_rows = 1; n_rows <= 17; n_rows += 8) {
        check(n_rows, 700, 16, 1, 1, HS_LORA_F16, 1.0);
        check(n_rows, 700, 16, 16, 1, HS_LORA_F32, 1.0);
        check(n_rows, 70, 16, 1, 1, HS_LORA_F16, 0.0);
        check(n_rows, 70, 16, 16, 1, HS_LORA_F32, 0.0);
    }
}

static void test_packed_as_f16(void **state)
{
    (void)state;
    struct hs_lora_target target = lora_test_sparse(32, 32, 16, 1, HS_LORA_F32, 0.5);
    static const enum hs_adapter_weights keeps[] = {HS_ADAPTER_WEIGHTS_F16,
                                                    HS_ADAPTER_WEIGHTS_INT8};
    for (size_t i = 0; i < COUNT_OF(keeps); i++) {
        struct hs_lora_packed *packed = NULL;
        assert_int_equal(hs_lora_packed_new(&target, keeps[i], &packed, NULL), HS_OK);
        assert_int_equal(packed->b_type, HS_LORA_F16);
        hs_lora_packed_free(packed);
    }
    lora_test_target_free(&target);
}

static void test_inputs_at_the_limit(void **state)
{
    (void)state;
    const int64_t row_start[] = {0, 1};
    const int32_t column[] = {HS_LORA_SPARSE_IN_MAX - 1};
    const float value[] = {3};
    struct hs_lora_target target = {
        .tensor = "a",
        .n_in = HS_LORA_SPARSE_IN_MAX,
        .n_out = 1,
        .scale = 2,
        .sparse = {HS_LORA_F32, 1, 1, 1, row_start, column, value},
    };
    struct hs_lora_packed *packed = NULL;
    assert_int_equal(hs_lora_packed_new(&target, HS_ADAPTER_WEIGHTS_FILE, &packed, NULL), HS_OK);
    float *x = calloc(HS_LORA_SPARSE_IN_MAX, sizeof *x);
    float *ax = calloc((size_t)hs_lora_packed_scratch(packed), sizeof *ax);
    assert_true(x != NULL && ax != NULL);
    x[HS_LORA_SPARSE_IN_MAX - 1] = 5;
    float y = 1;
    struct hs_lora_group group = {packed, (const int32_t[]){0}, (const float[]){-1}, 1, ax};
    hs_lora_shrink(&group, 1, x, HS_LORA_SPARSE_IN_MAX, 0, 1);
    hs_lora_expand(&group, 1, x, HS_LORA_SPARSE_IN_MAX, &y, 1, 0, 1);
    assert_true(y == 1 - 2 * 3 * 5);
    hs_lora_packed_free(packed);
    free(x);
    free(ax);

    struct hs_error err;
    target.n_in++;
    assert_int_equal(hs_lora_packed_new(&target, HS_ADAPTER_WEIGHTS_FILE, &packed, &err), HS_LIMIT);
    assert_non_null(strstr(err.message, "65537 inputs, 65536 at most"));
}

static void refuse(struct hs_lora_target target, hs_status wanted, const char *what)
{
    struct hs_error err;
    struct hs_lora_packed *packed = NULL;
    hs_error_clear(&err);
    hs_status status = hs_lora_packed_new(&target, HS_ADAPTER_WEIGHTS_FILE, &packed, &err);
    if (status != wanted || strstr(err.message, what) == NULL || err.hint[0] == '\0') {
        fail_msg("status %d '%s' instead of %d '%s'", status, err.message, wanted, what);
    }
}

#define REFUSE(change, wanted, what)                                                               \
    do {                                                                                           \
        struct hs_lora_target t = good;                                                            \
        int64_t start[] = {0, 2, 3};                                                               \
        int32_t columns[] = {0, 2, 1};                                                             \
        t.sparse.row_start = start;                                                                \
        t.sparse.block_column = columns;                                                           \
        change;                                                                                    \
        refuse(t, wanted, what);                                                                   \
    } while (0)

static void test_refused(void **state)
{
    (void)state;
    const float values[12] = {0};
    const struct hs_lora_target good = {
        .tensor = "a",
        .n_in = 6,
        .n_out = 4,
        .scale = 1,
        .sparse = {HS_LORA_F32, 2, 2, 3, NULL, NULL, values},
    };
    REFUSE(t.is_embedding = true, HS_NOT_SUPPORTED, "embedding");
    REFUSE(t.sparse.type = HS_LORA_I8, HS_INVALID_ARGUMENT, "not f32, f16 or bf16");
    REFUSE(t.sparse.block_rows = 0, HS_INVALID_ARGUMENT, "divide");
    REFUSE(t.sparse.block_rows = 3, HS_INVALID_ARGUMENT, "divide");
    REFUSE(t.sparse.block_cols = 0, HS_INVALID_ARGUMENT, "divide");
    REFUSE(t.sparse.block_cols = 4, HS_INVALID_ARGUMENT, "divide");
    REFUSE(t.sparse.row_start = NULL, HS_INVALID_ARGUMENT, "do not hold");
    REFUSE(start[0] = 1, HS_INVALID_ARGUMENT, "do not hold");
    REFUSE(start[2] = 4, HS_INVALID_ARGUMENT, "do not hold");
    REFUSE(t.sparse.n_blocks = -1, HS_INVALID_ARGUMENT, "do not hold");
    REFUSE(start[1] = -1, HS_INVALID_ARGUMENT, "go back");
    REFUSE(start[1] = 4, HS_INVALID_ARGUMENT, "go back");
    REFUSE(t.sparse.values = NULL, HS_INVALID_ARGUMENT, "without columns or values");
    REFUSE(t.sparse.block_column = NULL, HS_INVALID_ARGUMENT, "without columns or values");
    REFUSE(columns[0] = -1, HS_INVALID_ARGUMENT, "out of order or range");
    REFUSE(columns[1] = 3, HS_INVALID_ARGUMENT, "out of order or range");
    REFUSE(columns[1] = 0, HS_INVALID_ARGUMENT, "out of order or range");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_of_every_shape), cmocka_unit_test(test_types),
        cmocka_unit_test(test_full_and_empty),        cmocka_unit_test(test_packed_as_f16),
        cmocka_unit_test(test_inputs_at_the_limit),   cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
