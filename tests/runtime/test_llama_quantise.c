/* Values of tensor types: exact where the type is exact, within the type's step elsewhere. */
#include "runtime_test.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/half.h"
#include "ggml.h"
#include "storage/gguf.h"

#define N 1024

static float values[N];

static int set_up(void **state)
{
    uint32_t seed = 9;
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) * 0x1p-23f - 1;
    }
    return start_runtime(state);
}

static void test_floats(void **state)
{
    (void)state;
    struct hs_error err = {0};
    float back[N];
    uint8_t data[4 * N];
    OK(rt->quantise(GGML_TYPE_F32, values, 4, N / 4, data, &err));
    OK(rt->dequantise(GGML_TYPE_F32, data, N, back, &err));
    assert_memory_equal(back, values, sizeof back);
    OK(rt->quantise(GGML_TYPE_F16, values, 4, N / 4, data, &err));
    OK(rt->dequantise(GGML_TYPE_F16, data, N, back, &err));
    for (int i = 0; i < N; i++) {
        assert_true(back[i] == hs_f32_from_f16(hs_f16_from_f32(values[i])));
    }
    OK(rt->quantise(GGML_TYPE_BF16, values, 4, N / 4, data, &err));
    OK(rt->dequantise(GGML_TYPE_BF16, data, N, back, &err));
    for (int i = 0; i < N; i++) {
        assert_true(back[i] == hs_f32_from_bf16(hs_bf16_from_f32(values[i])));
    }
}

/* Values are in [-1, 1), so a step of n bits is at most 2 / (2^n - 1), with the scale's own error.
 */
static void test_quantised(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        int n_bits;
    } types[] = {{GGML_TYPE_Q8_0, 8}, {GGML_TYPE_Q6_K, 6}, {GGML_TYPE_Q5_K, 5},
                 {GGML_TYPE_Q5_1, 5}, {GGML_TYPE_Q4_K, 4}, {GGML_TYPE_Q4_1, 4},
                 {GGML_TYPE_Q3_K, 3}, {GGML_TYPE_Q2_K, 2}};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        struct hs_error err = {0};
        float back[N];
        uint8_t data[4 * N];
        uint8_t again[4 * N];
        size_t row = ggml_row_size((enum ggml_type)types[t].type, N / 4);
        OK(rt->quantise(types[t].type, values, 4, N / 4, data, &err));
        OK(rt->dequantise(types[t].type, data, N, back, &err));
        double step = 2.0 / ((1 << types[t].n_bits) - 1);
        for (int i = 0; i < N; i++) {
            assert_true(fabs((double)back[i] - (double)values[i]) < 0.75 * step + 0.02);
        }
        for (size_t i = 0; i < 4; i++) { /* row by row is the same */
            OK(rt->quantise(types[t].type, values + i * N / 4, 1, N / 4, again + i * row, &err));
        }
        assert_memory_equal(again, data, 4 * row);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct hs_error err = {0};
    float back[N];
    uint8_t data[4 * N] = {0};
    static const uint32_t unreadable[] = {999, GGML_TYPE_I32, 4 /* removed from ggml */};
    for (size_t i = 0; i < 3; i++) {
        EXPECT(HS_NOT_SUPPORTED, rt->dequantise(unreadable[i], data, 32, back, &err));
        EXPECT(HS_NOT_SUPPORTED, rt->quantise(unreadable[i], values, 1, 32, data, &err));
        assert_true(err.hint[0] != '\0');
    }
    static const uint32_t unwritable[] = {GGML_TYPE_IQ2_XXS, GGML_TYPE_IQ1_S, GGML_TYPE_Q8_K,
                                          GGML_TYPE_Q8_1};
    for (size_t i = 0; i < 4; i++) {
        EXPECT(HS_NOT_SUPPORTED, rt->quantise(unwritable[i], values, 1, 256, data, &err));
    }
    EXPECT(HS_INVALID_ARGUMENT, rt->quantise(GGML_TYPE_Q4_K, values, 1, 255, data, &err));
    EXPECT(HS_INVALID_ARGUMENT, rt->dequantise(GGML_TYPE_Q8_0, data, 33, back, &err));
    assert_non_null(strstr(err.message, "33 values"));
}

static void test_model(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    struct hs_error err = {0};
    char *path = temp_path(".gguf");
    char *path_out = temp_path(".gguf");
    uint64_t ftype = 0;
    hs_gguf *gguf = NULL;
    tiny_gguf_defaults(&spec);
    assert_true(tiny_gguf_write(&spec, path));
    OK(rt->model_quantise(path, path_out, "Q8_0", 1, &err));
    OK(hs_gguf_open(path_out, &gguf, &err));
    assert_true(hs_gguf_u64(gguf, "general.file_type", &ftype));
    assert_int_equal(ftype, 7);
    assert_int_equal(hs_gguf_find_tensor(gguf, "blk.0.attn_q.weight")->type, GGML_TYPE_Q8_0);
    hs_gguf_free(gguf);
    rt->model_free(load(path_out));
    EXPECT(HS_INVALID_ARGUMENT, rt->model_quantise(path, path_out, "Q4_X", 1, &err));
    assert_non_null(strstr(err.hint, "Q4_K_M"));
    EXPECT(HS_INTERNAL, rt->model_quantise("/nowhere.gguf", path_out, "Q8_0", 1, &err));
    unlink(path);
    unlink(path_out);
    free(path);
    free(path_out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, set_up, stop_runtime);
}
