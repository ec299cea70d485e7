/* Saved states: exact continuation, and every way in which saved bytes can be wrong. */
#include "runtime_test.h"

static struct tiny_gguf_spec spec;
static hs_rt_model *model;

enum { LEN = 60 };
static int32_t history[LEN];

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    tiny_gguf_defaults(&spec);
    spec.kind = TINY_GGUF_HISTORY;
    model = load_tiny(&spec);
    history[0] = TINY_GGUF_BOS;
    for (int32_t i = 1; i < LEN; i++) {
        history[i] = TINY_GGUF_ANSWER0 + (i * 37) % TINY_GGUF_N_ANSWERS;
    }
    return 0;
}

static int tear_down(void **state)
{
    rt->model_free(model);
    return stop_runtime(state);
}

/* The state of sequence 0 after `n` tokens; to be freed with free. */
static uint8_t *save(hs_rt_context *context, uint32_t flags, size_t *ret_size)
{
    struct hs_error err = {0};
    size_t size = rt->state_size(context, 0, flags);
    uint8_t *data = malloc(size);
    assert_non_null(data);
    size_t written = 0;
    OK(rt->state_save(context, 0, flags, data, size, &written, &err));
    assert_int_equal(written, size);
    *ret_size = size;
    return data;
}

static uint8_t *save_history(int32_t n, size_t *ret_size)
{
    hs_rt_context *context = new_context(model, 256, 2);
    feed(context, 0, 0, history, n);
    uint8_t *data = save(context, HS_RT_STATE_WHOLE, ret_size);
    rt->context_free(context);
    return data;
}

static int32_t answer(hs_rt_context *context, int32_t item)
{
    struct hs_error err = {0};
    struct hs_sampling sampling = sampling_off();
    hs_rt_sampler *sampler = new_sampler(model, &sampling);
    int32_t token = -1;
    OK(rt->sample(sampler, context, item, 0, &token, NULL, &err));
    rt->sampler_free(sampler);
    return token;
}

static void test_goes_on_exactly_in_another_context(void **state)
{
    (void)state;
    struct hs_error err = {0};
    size_t size = 0;
    uint8_t *data = save_history(40, &size);
    hs_rt_context *context = new_context(model, 512, 4);
    /* Another conversation is there already, and the target holds something else. */
    feed(context, 1, 0, history, 30);
    feed(context, 3, 0, history, 5);
    OK(rt->state_load(context, 3, HS_RT_STATE_WHOLE, data, size, &err));
    assert_int_equal(rt->kv_pos_min(context, 3), 0);
    assert_int_equal(rt->kv_pos_max(context, 3), 39);
    int32_t item = feed(context, 3, 40, &history[40], LEN - 40);
    assert_int_equal(answer(context, item), tiny_gguf_history_next(history, LEN));
    item = feed(context, 1, 30, &history[30], 1);
    assert_int_equal(answer(context, item), tiny_gguf_history_next(history, 31));
    rt->context_free(context);
    free(data);
}

static void test_no_room_is_context_full(void **state)
{
    (void)state;
    struct hs_error err = {0};
    size_t size = 0;
    uint8_t *data = save_history(40, &size);
    hs_rt_context *context = new_context(model, 256, 6);
    for (int32_t seq = 1; seq < 5; seq++) {
        feed(context, seq, 0, history, LEN);
    }
    /* 16 cells are free. */
    EXPECT(HS_CONTEXT_FULL, rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, size, &err));
    assert_int_equal(rt->kv_pos_max(context, 0), -1);
    assert_true(rt->kv_remove(context, 4, 0, -1));
    OK(rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, size, &err));
    assert_int_equal(rt->kv_pos_max(context, 0), 39);
    rt->context_free(context);
    free(data);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    struct hs_error err = {0};
    size_t size = 0;
    uint8_t *data = save_history(3, &size);
    hs_rt_context *context = new_context(model, 256, 1);
    for (size_t n = 0; n < size; n++) {
        EXPECT(HS_CORRUPT, rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, n, &err));
    }
    OK(rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, size, &err));
    rt->context_free(context);
    free(data);
}

static void test_every_flipped_byte_is_refused(void **state)
{
    (void)state;
    struct hs_error err = {0};
    size_t size = 0;
    uint8_t *data = save_history(2, &size);
    hs_rt_context *context = new_context(model, 256, 1);
    for (size_t i = 0; i < size; i++) {
        uint8_t bit = (uint8_t)(1u << (i % 8));
        data[i] ^= bit;
        EXPECT(HS_CORRUPT, rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, size, &err));
        data[i] ^= bit;
    }
    uint8_t *longer = calloc(1, size + 1);
    assert_non_null(longer);
    memcpy(longer, data, size);
    EXPECT(HS_CORRUPT, rt->state_load(context, 0, HS_RT_STATE_WHOLE, longer, size + 1, &err));
    free(longer);
    rt->context_free(context);
    free(data);
}

static void test_state_of_another_shape_is_refused(void **state)
{
    (void)state;
    struct hs_error err = {0};
    size_t size = 0;
    uint8_t *data = save_history(10, &size);

    struct tiny_gguf_spec deeper = spec;
    deeper.n_layer = 2;
    hs_rt_model *other = load_tiny(&deeper);
    hs_rt_context *context = new_context(other, 256, 1);
    EXPECT(HS_CORRUPT, rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, size, &err));
    rt->context_free(context);
    rt->model_free(other);

    struct hs_rt_context_params params = context_params(256, 1);
    params.kv_type = HS_KV_Q8_0;
    OK(rt->context_new(model, &params, &context, &err));
    EXPECT(HS_CORRUPT, rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, size, &err));
    rt->context_free(context);

    /* Without flash attention V lies transposed: llama.cpp itself has to notice. */
    params = context_params(256, 1);
    params.flash_attn = HS_FLASH_ATTN_OFF;
    OK(rt->context_new(model, &params, &context, &err));
    EXPECT(HS_CORRUPT, rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, size, &err));
    assert_int_equal(rt->kv_pos_max(context, 0), -1);
    rt->context_free(context);
    free(data);
}

static void test_arguments(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_rt_context *context = new_context(model, 256, 2);
    feed(context, 0, 0, history, 10);
    size_t size = 0;
    uint8_t *data = save(context, HS_RT_STATE_WHOLE, &size);
    size_t written = 0;
    EXPECT(HS_LIMIT, rt->state_save(context, 0, HS_RT_STATE_WHOLE, data, size - 1, &written, &err));
    assert_int_equal(written, 0);
    EXPECT(HS_INVALID_ARGUMENT,
           rt->state_save(context, 2, HS_RT_STATE_WHOLE, data, size, &written, &err));
    EXPECT(HS_INVALID_ARGUMENT, rt->state_save(context, 0, 2, data, size, &written, &err));
    EXPECT(HS_INVALID_ARGUMENT, rt->state_load(context, -1, HS_RT_STATE_WHOLE, data, size, &err));
    EXPECT(HS_CORRUPT, rt->state_load(context, 1, HS_RT_STATE_PARTIAL, data, size, &err));
    assert_int_equal(rt->state_size(context, 2, HS_RT_STATE_WHOLE), 0);
    /* The failed calls changed nothing. */
    assert_int_equal(rt->kv_pos_max(context, 0), 9);
    rt->context_free(context);
    free(data);
}

static void test_empty_sequence(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_rt_context *context = new_context(model, 256, 2);
    size_t size = 0;
    uint8_t *data = save(context, HS_RT_STATE_WHOLE, &size);
    feed(context, 1, 0, history, 10);
    OK(rt->state_load(context, 1, HS_RT_STATE_WHOLE, data, size, &err));
    rt->context_free(context);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_on_exactly_in_another_context),
        cmocka_unit_test(test_no_room_is_context_full),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_every_flipped_byte_is_refused),
        cmocka_unit_test(test_state_of_another_shape_is_refused),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_empty_sequence),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
