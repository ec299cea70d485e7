/* Tests of lora_pack.h: the order it promises, what it refuses, and what other types cost. */
#include "lora_test.h"

#include <math.h>

#include "base/error.h"
#include "base/half.h"
#include "base/mem.h"

static struct hs_lora_packed *pack(const struct hs_lora_target *target,
                                   enum hs_adapter_weights keep)
{
    struct hs_error err;
    struct hs_lora_packed *packed = NULL;
    hs_error_clear(&err);
    if (hs_lora_packed_new(target, keep, &packed, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return packed;
}

static float value_of(enum hs_lora_type type, const void *data, int64_t at)
{
    float value;
    hs_lora_values(type, data, at, 1, &value);
    return value;
}

/* Every value where lora_pack.h says, and zeros in the padding. */
static void check_low_rank(int64_t n_in, int64_t n_out, int32_t rank, enum hs_lora_type type)
{
    struct hs_lora_target target = lora_test_target(n_in, n_out, rank, type, type);
    struct hs_lora_packed *packed = pack(&target, HS_ADAPTER_WEIGHTS_FILE);
    int64_t n_chunks = (n_in + 15) / 16, n_ranks = (rank + 3) / 4 * 4;
    for (int64_t k = 0; k < n_ranks; k++) {
        for (int64_t i = 0; i < n_chunks * 16; i++) {
            int64_t at = ((k / 4 * n_chunks + i / 16) * 4 + k % 4) * 16 + i % 16;
            float wanted =
                k < rank && i < n_in ? value_of(type, target.a.data, k * n_in + i) : 0.0f;
            assert_true(value_of(type, packed->a, at) == wanted);
        }
    }
    for (int64_t k = 0; k < rank; k++) {
        for (int64_t o = 0; o < (n_out + 63) / 64 * 64; o++) {
            int64_t at = (o / 64 * rank + k) * 64 + o % 64;
            float wanted = o < n_out ? value_of(type, target.b.data, o * rank + k) : 0.0f;
            assert_true(value_of(type, packed->b, at) == wanted);
        }
    }
    assert_int_equal((uintptr_t)packed->a % 64, 0);
    assert_int_equal((uintptr_t)packed->b % 64, 0);
    assert_int_equal(hs_lora_packed_scratch(packed), rank);
    size_t n_values = (size_t)(n_ranks * n_chunks * 16 + (n_out + 63) / 64 * 64 * rank);
    assert_in_range(hs_lora_packed_bytes(packed), n_values * hs_lora_type_size(type),
                    n_values * hs_lora_type_size(type) + 1024 +
                        (size_t)(type == HS_LORA_I8 ? 4 * (n_out + rank) + 512 : 0));
    hs_lora_packed_free(packed);
    lora_test_target_free(&target);
}

/* What the packed order is read back as. */
static void check_read(int64_t n_in, int64_t n_out, int32_t rank, enum hs_lora_type type)
{
    struct hs_lora_target target = lora_test_target(n_in, n_out, rank, type, type);
    struct hs_lora_packed *packed = pack(&target, HS_ADAPTER_WEIGHTS_FILE);
    float *a = malloc((size_t)(rank * n_in) * sizeof(*a));
    float *b = malloc((size_t)(n_out * rank) * sizeof(*b));
    float *row = malloc((size_t)(n_in > rank ? n_in : rank) * sizeof(*row));
    assert_true(a && b && row);
    hs_lora_packed_read(packed, a, b);
    for (int64_t k = 0; k < rank; k++) {
        hs_lora_matrix_row(&target.a, k, row);
        assert_memory_equal(a + k * n_in, row, (size_t)n_in * sizeof(*row));
    }
    for (int64_t o = 0; o < n_out; o++) {
        hs_lora_matrix_row(&target.b, o, row);
        assert_memory_equal(b + o * rank, row, (size_t)rank * sizeof(*row));
    }
    free(a);
    free(b);
    free(row);
    hs_lora_packed_free(packed);
    lora_test_target_free(&target);
}

static void test_packing_and_back(void **state)
{
    (void)state;
    for (enum hs_lora_type type = HS_LORA_F32; type <= HS_LORA_I8; type++) {
        check_read(1, 1, 1, type);
        check_read(16, 64, 4, type);
        check_read(17, 65, 5, type);
        check_read(47, 130, 11, type);
    }
}

static void test_order_of_low_rank(void **state)
{
    (void)state;
    for (enum hs_lora_type type = HS_LORA_F32; type <= HS_LORA_I8; type++) {
        check_low_rank(1, 1, 1, type);
        check_low_rank(16, 64, 4, type);
        check_low_rank(17, 65, 5, type);
        check_low_rank(47, 130, 11, type);
    }
    check_low_rank(3, 2, HS_LORA_RANK_MAX, HS_LORA_F16);
}

static void test_embedding_keeps_rows(void **state)
{
    (void)state;
    static const float a[7 * 3] = {1, 2, 3, 4, 5, [20] = 21}, b[5 * 3] = {1};
    struct hs_lora_target target = {
        .tensor = "token_embd.weight",
        .n_in = 7, /* words */
        .n_out = 5,
        .rank = 3,
        .scale = 1,
        .is_embedding = true,
        .a = {HS_LORA_F32, 7, 3, a, NULL},
        .b = {HS_LORA_F32, 5, 3, b, NULL},
    };
    struct hs_lora_packed *packed = pack(&target, HS_ADAPTER_WEIGHTS_FILE);
    assert_memory_equal(packed->a, a, sizeof a);
    hs_lora_packed_free(packed);
}

static void test_types_to_keep(void **state)
{
    (void)state;
    struct hs_lora_target target = lora_test_target(50, 20, 6, HS_LORA_F32, HS_LORA_BF16);
    struct hs_lora_packed *f16 = pack(&target, HS_ADAPTER_WEIGHTS_F16);
    assert_int_equal(f16->a_type, HS_LORA_F16);
    assert_int_equal(f16->b_type, HS_LORA_BF16);
    assert_int_equal(((const uint16_t *)f16->a)[0],
                     hs_f16_from_f32(((const float *)target.a.data)[0]));
    hs_lora_packed_free(f16);

    struct hs_lora_packed *i8 = pack(&target, HS_ADAPTER_WEIGHTS_INT8);
    assert_true(i8->a_type == HS_LORA_I8 && i8->b_type == HS_LORA_I8);
    for (int64_t k = 0; k < 6; k++) {
        float largest = 0;
        for (int64_t i = 0; i < 50; i++) {
            largest = fmaxf(largest, fabsf(((const float *)target.a.data)[k * 50 + i]));
        }
        assert_true(i8->a_factors[k] == largest / 127);
        for (int64_t i = 0; i < 50; i++) {
            int64_t at = ((k / 4 * 4 + i / 16) * 4 + k % 4) * 16 + i % 16;
            double kept = (double)((const int8_t *)i8->a)[at] * (double)i8->a_factors[k];
            double lost = fabs(kept - (double)((const float *)target.a.data)[k * 50 + i]);
            assert_true(lost <= (double)i8->a_factors[k] * 0.5 * (1 + 0x1p-20));
        }
    }
    hs_lora_packed_free(i8);

    memset((void *)target.a.data, 0, 50 * sizeof(float)); /* a row of zeros has the factor 0 */
    i8 = pack(&target, HS_ADAPTER_WEIGHTS_INT8);
    assert_true(i8->a_factors[0] == 0 && ((const int8_t *)i8->a)[0] == 0);
    hs_lora_packed_free(i8);
    lora_test_target_free(&target);
}

static void refuse(const struct hs_lora_target *target, enum hs_adapter_weights keep,
                   hs_status wanted, const char *what)
{
    struct hs_error err;
    struct hs_lora_packed *packed = NULL;
    hs_error_clear(&err);
    hs_status status = hs_lora_packed_new(target, keep, &packed, &err);
    if (status != wanted || packed != NULL || strstr(err.message, what) == NULL ||
        strstr(err.message, target->tensor) == NULL || err.hint[0] == '\0') {
        fail_msg("status %d '%s' (%s) instead of %d '%s'", status, err.message, err.hint, wanted,
                 what);
    }
}

#define REFUSE(target_, change, wanted, what)                                                      \
    do {                                                                                           \
        struct hs_lora_target t = (target_);                                                       \
        change;                                                                                    \
        refuse(&t, HS_ADAPTER_WEIGHTS_FILE, wanted, what);                                         \
    } while (0)

static void test_refused_low_rank(void **state)
{
    (void)state;
    struct hs_lora_target good = lora_test_target(8, 9, 2, HS_LORA_F16, HS_LORA_F16);
    REFUSE(good, t.n_in = 0, HS_INVALID_ARGUMENT, "without rows or columns");
    REFUSE(good, t.n_in = (int64_t)INT32_MAX + 1, HS_INVALID_ARGUMENT, "too many");
    REFUSE(good, t.n_out = 0, HS_INVALID_ARGUMENT, "without rows or columns");
    REFUSE(good, t.n_out = (int64_t)INT32_MAX + 1, HS_INVALID_ARGUMENT, "too many");
    REFUSE(good, t.rank = -1, HS_LIMIT, "rank -1");
    REFUSE(good, t.rank = HS_LORA_RANK_MAX + 1, HS_LIMIT, "rank 1025, 1024 at most");
    REFUSE(good, t.scale = NAN, HS_INVALID_ARGUMENT, "scale");
    REFUSE(good, t.scale = INFINITY, HS_INVALID_ARGUMENT, "scale");
    REFUSE(good, t.rank = 3, HS_INVALID_ARGUMENT, "A is 2 x 8 instead of 3 x 8");
    REFUSE(good, t.n_in = 9, HS_INVALID_ARGUMENT, "A is 2 x 8 instead of 2 x 9");
    REFUSE(good, t.n_out = 8, HS_INVALID_ARGUMENT, "B is 9 x 2 instead of 8 x 2");
    REFUSE(good, t.is_embedding = true, HS_INVALID_ARGUMENT, "A is 2 x 8 instead of 8 x 2");
    REFUSE(good, t.a.data = NULL, HS_INVALID_ARGUMENT, "without values");
    REFUSE(good, t.b.data = NULL, HS_INVALID_ARGUMENT, "without values");
    REFUSE(good, t.b.type = HS_LORA_I8, HS_INVALID_ARGUMENT, "without factors");
    REFUSE(good, t.a.type = (enum hs_lora_type)(HS_LORA_I8 + 1), HS_INVALID_ARGUMENT, "type");
    lora_test_target_free(&good);
}

static void test_values_that_no_type_keeps(void **state)
{
    (void)state;
    static const float values[] = {65520.0f, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        struct hs_lora_target target = lora_test_target(3, 2, 1, HS_LORA_F32, HS_LORA_F32);
        ((float *)target.b.data)[1] = values[i];
        refuse(&target, HS_ADAPTER_WEIGHTS_F16, HS_INVALID_ARGUMENT, "too large for 16 bits");
        if (i > 0) {
            refuse(&target, HS_ADAPTER_WEIGHTS_INT8, HS_INVALID_ARGUMENT, "no numbers");
        }
        lora_test_target_free(&target);
    }
    struct hs_lora_target target = lora_test_target(3, 2, 1, HS_LORA_F32, HS_LORA_F32);
    ((float *)target.b.data)[1] = 65519.0f; /* the largest f16 is 65504 */
    struct hs_lora_packed *packed = pack(&target, HS_ADAPTER_WEIGHTS_F16);
    assert_int_equal(((const uint16_t *)packed->b)[1], 0x7bff);
    hs_lora_packed_free(packed);
    lora_test_target_free(&target);
}

static void test_allocations_fail(void **state)
{
    (void)state;
    struct hs_lora_target target = lora_test_target(8, 9, 2, HS_LORA_F32, HS_LORA_F32);
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        struct hs_lora_packed *packed = NULL;
        assert_in_range(nth, 1, 10);
        hs_mem_fail_after(nth);
        status = hs_lora_packed_new(&target, HS_ADAPTER_WEIGHTS_INT8, &packed, NULL);
        hs_mem_fail_after(0);
        assert_int_equal(status, packed == NULL ? HS_OUT_OF_MEMORY : HS_OK);
        hs_lora_packed_free(packed);
    }
    hs_lora_packed_free(NULL);
    lora_test_target_free(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_low_rank),
        cmocka_unit_test(test_packing_and_back),
        cmocka_unit_test(test_embedding_keeps_rows),
        cmocka_unit_test(test_types_to_keep),
        cmocka_unit_test(test_refused_low_rank),
        cmocka_unit_test(test_values_that_no_type_keeps),
        cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
