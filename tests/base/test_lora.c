/*
 * Tests of base/half.h and of what base/lora.h reads: every 16-bit number against the formula of
 * its format, and the rounding at and beside every middle of two neighbours.
 */
#include "base_test.h"

#include <math.h>

#include "base/half.h"
#include "base/lora.h"

/* The number of a sign, an exponent of n_exponent bits and a fraction, by the formula of IEEE 754.
 */
static double number(uint32_t bits, int n_exponent, int n_fraction)
{
    int exponent = (int)(bits >> n_fraction) & ((1 << n_exponent) - 1);
    double fraction = ldexp(bits & ((1u << n_fraction) - 1), -n_fraction);
    int bias = (1 << (n_exponent - 1)) - 1;
    double sign = (bits >> (n_exponent + n_fraction)) & 1 ? -1 : 1;
    if (exponent == (1 << n_exponent) - 1) {
        return fraction > 0 ? NAN : sign * INFINITY;
    }
    return sign * (exponent > 0 ? ldexp(1 + fraction, exponent - bias) : ldexp(fraction, 1 - bias));
}

struct format {
    int n_exponent, n_fraction;
    float (*to_f32)(uint16_t half);
    uint16_t (*from_f32)(float value);
};
static const struct format f16 = {5, 10, hs_f32_from_f16, hs_f16_from_f32};
static const struct format bf16 = {8, 7, hs_f32_from_bf16, hs_bf16_from_f32};

static void check_all(const struct format *format)
{
    for (uint32_t bits = 0; bits <= UINT16_MAX; bits++) {
        double wanted = number(bits, format->n_exponent, format->n_fraction);
        float value = format->to_f32((uint16_t)bits);
        if (isnan(wanted)) {
            assert_true(isnan(value));
            assert_true(isnan(format->to_f32(format->from_f32(value))));
            continue;
        }
        assert_true((double)value == wanted && !signbit(value) == !signbit(wanted));
        assert_int_equal(format->from_f32(value), bits);
    }
}

/* Between each finite number and the next one, the largest finite one and the infinite too. */
static void check_middles(const struct format *format)
{
    uint32_t infinite = ((1u << format->n_exponent) - 1) << format->n_fraction;
    for (uint32_t bits = 0; bits < infinite; bits++) {
        double low = number(bits, format->n_exponent, format->n_fraction);
        double high = bits + 1 < infinite ? number(bits + 1, format->n_exponent, format->n_fraction)
                                          : ldexp(1, 1 << (format->n_exponent - 1));
        double middle_exact = (low + high) / 2;
        float middle = (float)middle_exact;
        assert_true((double)middle == middle_exact);
        uint32_t even = bits + (bits & 1);
        for (uint32_t sign = 0; sign <= 0x8000u; sign += 0x8000u) {
            float factor = sign ? -1 : 1;
            assert_int_equal(format->from_f32(factor * middle), even | sign);
            assert_int_equal(format->from_f32(factor * nextafterf(middle, 0)), bits | sign);
            assert_int_equal(format->from_f32(factor * nextafterf(middle, INFINITY)),
                             (bits + 1) | sign);
        }
    }
}

static void test_f16(void **state)
{
    (void)state;
    check_all(&f16);
    check_middles(&f16);
    assert_int_equal(hs_f16_from_f32(1e30f), 0x7c00);
    assert_int_equal(hs_f16_from_f32(1e-30f), 0);
}

static void test_bf16(void **state)
{
    (void)state;
    check_all(&bf16);
    check_middles(&bf16);
}

static void test_values_of_each_type(void **state)
{
    (void)state;
    const float f32_data[] = {9, 1, -2, 0.5f};
    const uint16_t f16_data[] = {0, 0x3c00, 0xc000, 0x3800};
    const uint16_t bf16_data[] = {0, 0x3f80, 0xc000, 0x3f00};
    const int8_t i8_data[] = {9, 1, -2, 127};
    const struct {
        enum hs_lora_type type;
        size_t size;
        const void *data;
        float last;
    } cases[] = {
        {HS_LORA_F32, 4, f32_data, 0.5f},
        {HS_LORA_F16, 2, f16_data, 0.5f},
        {HS_LORA_BF16, 2, bf16_data, 0.5f},
        {HS_LORA_I8, 1, i8_data, 127},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        float values[4] = {7, 7, 7, 7};
        assert_int_equal(hs_lora_type_size(cases[i].type), cases[i].size);
        hs_lora_values(cases[i].type, cases[i].data, 1, 3, values);
        const float wanted[4] = {1, -2, cases[i].last, 7};
        assert_memory_equal(values, wanted, sizeof wanted);
        hs_lora_values(cases[i].type, cases[i].data, 1, 0, values);
        assert_memory_equal(values, wanted, sizeof wanted);
    }
}

static void test_row_of_a_matrix(void **state)
{
    (void)state;
    const int8_t data[] = {1, 2, 3, -4, 5, -6};
    const float factors[] = {10, 0.5f};
    struct hs_lora_matrix matrix = {HS_LORA_I8, 2, 3, data, factors};
    float row[3];
    hs_lora_matrix_row(&matrix, 0, row);
    assert_memory_equal(row, ((const float[]){10, 20, 30}), sizeof row);
    hs_lora_matrix_row(&matrix, 1, row);
    assert_memory_equal(row, ((const float[]){-2, 2.5f, -3}), sizeof row);
    matrix = (struct hs_lora_matrix){HS_LORA_F32, 2, 3, (const float[]){0, 1, 2, 3, 4, 5}, NULL};
    hs_lora_matrix_row(&matrix, 1, row);
    assert_memory_equal(row, ((const float[]){3, 4, 5}), sizeof row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_values_of_each_type),
        cmocka_unit_test(test_row_of_a_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
