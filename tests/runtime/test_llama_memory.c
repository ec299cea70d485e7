/* Estimates against what llama.cpp then really allocates, on the demo model and a tiny one. */
#include <unistd.h>

#include "base/machine.h"
#include "runtime_test.h"

static hs_rt_model *demo;

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    demo = load(HS_DEMO_MODEL);
    return 0;
}

static int tear_down(void **state)
{
    rt->model_free(demo);
    return stop_runtime(state);
}

static void compare(const struct hs_rt_context_params *context_p)
{
    struct hs_error err = {0};
    struct hs_model_params params = model_params();
    params.n_gpu_layers = -1;
    struct hs_rt_memory before;
    int32_t n_ctx_train = 0;
    int32_t n_gpu_layers = -7;
    OK(rt->estimate(HS_DEMO_MODEL, &params, context_p, &before, &n_ctx_train, &n_gpu_layers, &err));
    assert_int_equal(n_ctx_train, 8192);
    if (before.device_free_bytes == 0) {
        assert_int_equal(n_gpu_layers, 0);
    }
    hs_rt_context *context = NULL;
    OK(rt->context_new(demo, context_p, &context, &err));
    struct hs_rt_memory after;
    rt->context_memory(context, &after);
    assert_true(before.weights_bytes == after.weights_bytes);
    assert_true(before.kv_bytes == after.kv_bytes);
    /* A bound: never below, and not absurd. */
    assert_true(before.compute_bytes >= after.compute_bytes);
    assert_true(before.compute_bytes <= 8 * after.compute_bytes + (64u << 20));
    assert_true(after.host_bytes <= before.host_bytes || before.device_free_bytes > 0);
    assert_true(after.host_available_bytes > 0);
    rt->context_free(context);
}

static void test_estimate_bounds_what_is_allocated(void **state)
{
    (void)state;
    for (int flash = HS_FLASH_ATTN_OFF; flash <= HS_FLASH_ATTN_ON; flash++) {
        for (int32_t n_ctx = 500; n_ctx <= 8192; n_ctx = n_ctx * 4 + 192) {
            struct hs_rt_context_params context_p = context_params(n_ctx, 64);
            context_p.flash_attn = (enum hs_flash_attn)flash;
            context_p.n_batch = 2048;
            compare(&context_p);
        }
    }
    struct hs_rt_context_params context_p = context_params(4096, 1);
    context_p.kv_type = HS_KV_Q8_0;
    compare(&context_p);
    context_p = context_params(2048, 256);
    context_p.n_ubatch = 64;
    compare(&context_p);
}

/* Where the bound does not fit, llama.cpp's own layout decides; absurd sizes stay too large. */
static void test_more_than_the_machine_has(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_model_params params = model_params();
    struct hs_rt_context_params context_p = context_params(INT32_MAX / 2, 1);
    struct hs_rt_memory memory;
    OK(rt->estimate(HS_DEMO_MODEL, &params, &context_p, &memory, NULL, NULL, &err));
    assert_true(memory.host_bytes > memory.host_available_bytes);
    assert_true(memory.kv_bytes > (uint64_t)10 << 40);
}

/* Refused before anything is allocated: twice what is left, a thousand times, the largest number.
 */
static void test_contexts_that_do_not_fit(void **state)
{
    (void)state;
    struct hs_error err = {0};
    uint64_t available = hs_machine_memory_available();
    uint64_t cells = 2 * available / (30 * 3 * 64 * 2 * 2);
    const uint64_t sizes[] = {cells, 1000 * cells, INT32_MAX - 256};
    for (size_t i = 0; i < 3; i++) {
        uint64_t n_ctx = sizes[i] < INT32_MAX - 256 ? sizes[i] : INT32_MAX - 256;
        struct hs_rt_context_params context_p = context_params((int32_t)n_ctx, 1);
        hs_rt_context *context = NULL;
        EXPECT(HS_MODEL_TOO_LARGE, rt->context_new(demo, &context_p, &context, &err));
        assert_null(context);
        assert_non_null(strstr(err.hint, "ctx-size"));
    }
}

static void test_bad_files(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_model_params params = model_params();
    struct hs_rt_context_params context_p = context_params(512, 1);
    struct hs_rt_memory memory;
    EXPECT(HS_NOT_FOUND,
           rt->estimate("/nonexistent", &params, &context_p, &memory, NULL, NULL, &err));
    EXPECT(HS_BAD_MAGIC, rt->estimate("/dev/null", &params, &context_p, &memory, NULL, NULL, &err));
    params.devices = "NoSuchDevice";
    EXPECT(HS_INVALID_ARGUMENT,
           rt->estimate(HS_DEMO_MODEL, &params, &context_p, &memory, NULL, NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_estimate_bounds_what_is_allocated),
        cmocka_unit_test(test_more_than_the_machine_has),
        cmocka_unit_test(test_contexts_that_do_not_fit),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
