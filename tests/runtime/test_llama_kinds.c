/*
 * Memories that are not plain KV: a sliding window, whose old cells are gone, and a recurrent
 * state, which cannot step back. Both go back by partial states instead.
 */
#include "runtime_test.h"

enum { LEN = 200, N_SWA = 32 };

static struct tiny_gguf_spec window_spec, recurrent_spec;
static hs_rt_model *window, *recurrent;
static int32_t tokens[LEN], other[LEN];

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    tiny_gguf_defaults(&window_spec);
    window_spec.kind = TINY_GGUF_HISTORY;
    window_spec.arch = TINY_GGUF_GEMMA3;
    window_spec.n_swa = N_SWA;
    window = load_tiny(&window_spec);
    recurrent_spec = window_spec;
    recurrent_spec.arch = TINY_GGUF_MAMBA;
    recurrent = load_tiny(&recurrent_spec);
    for (int32_t i = 0; i < LEN; i++) {
        tokens[i] = i == 0 ? TINY_GGUF_BOS : TINY_GGUF_ANSWER0 + (i * 37) % TINY_GGUF_N_ANSWERS;
        other[i] = i == 0 ? TINY_GGUF_BOS : TINY_GGUF_ANSWER0 + (i * 91) % TINY_GGUF_N_ANSWERS;
    }
    return 0;
}

static int tear_down(void **state)
{
    rt->model_free(window);
    rt->model_free(recurrent);
    return stop_runtime(state);
}

static int32_t best(hs_rt_context *context, int32_t item)
{
    const float *logits = rt->logits(context, item);
    assert_non_null(logits);
    int32_t winner = 0;
    for (int32_t i = 1; i < TINY_GGUF_N_VOCAB; i++) {
        winner = logits[i] > logits[winner] ? i : winner;
    }
    return winner;
}

static void expect_answer(hs_rt_context *context, const struct tiny_gguf_spec *spec, int32_t item,
                          const int32_t *all, int32_t n)
{
    assert_int_equal(best(context, item), tiny_gguf_next(spec, all, (size_t)n));
}

static void test_info(void **state)
{
    (void)state;
    struct hs_rt_model_info info;
    rt->model_info(window, &info);
    assert_int_equal(info.n_swa, N_SWA);
    assert_false(info.is_recurrent);
    rt->model_info(recurrent, &info);
    assert_true(info.is_recurrent);
    assert_int_equal(info.n_swa, 0);
}

static void test_answers(void **state)
{
    (void)state;
    hs_rt_model *const models[] = {window, recurrent};
    const struct tiny_gguf_spec *const specs[] = {&window_spec, &recurrent_spec};
    for (int m = 0; m < 2; m++) {
        hs_rt_context *context = new_context(models[m], 512, 2);
        int32_t item = feed(context, 0, 0, tokens, LEN);
        expect_answer(context, specs[m], item, tokens, LEN);
        for (int32_t i = 0; i < 100; i++) {
            item = feed(context, 1, i, &other[i], 1);
        }
        expect_answer(context, specs[m], item, other, 100);
        rt->context_free(context);
    }
}

/* What is left of the tokens after a cut, then other ones: the answer must be theirs. */
static void cut_and_go_on(hs_rt_context *context, const struct tiny_gguf_spec *spec, int32_t cut)
{
    int32_t mixed[LEN];
    memcpy(mixed, tokens, (size_t)cut * sizeof(*mixed));
    memcpy(&mixed[cut], &other[cut], (size_t)(LEN - cut) * sizeof(*mixed));
    int32_t item = feed(context, 0, cut, &mixed[cut], LEN - cut);
    expect_answer(context, spec, item, mixed, LEN);
}

/* Every cut that is allowed is right; those that are not change nothing. */
static void test_window_cuts(void **state)
{
    (void)state;
    int n_allowed = 0;
    for (int32_t cut = 1; cut < LEN; cut += 3) {
        hs_rt_context *context = new_context(window, 512, 2);
        feed(context, 0, 0, tokens, LEN / 2);
        for (int32_t i = LEN / 2; i < LEN; i++) {
            feed(context, 0, i, &tokens[i], 1);
        }
        if (rt->kv_remove(context, 0, cut, -1)) {
            n_allowed++;
            assert_int_equal(rt->kv_pos_max(context, 0), cut - 1);
            cut_and_go_on(context, &window_spec, cut);
        } else {
            assert_int_equal(rt->kv_pos_max(context, 0), LEN - 1);
        }
        rt->context_free(context);
    }
    assert_true(n_allowed > 0);
}

/* A long context has lost its old cells, and must say so. */
static void test_window_refuses_far_cuts(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(window, 2048, 1);
    int32_t item = -1;
    for (int32_t i = 0; i < 1500; i++) {
        int32_t token = i == 0 ? TINY_GGUF_BOS : TINY_GGUF_ANSWER0 + i % 256;
        item = feed(context, 0, i, &token, 1);
    }
    assert_true(item >= 0);
    assert_false(rt->kv_remove(context, 0, 20, -1));
    assert_int_equal(rt->kv_pos_max(context, 0), 1499);
    assert_true(rt->kv_pos_min(context, 0) > 20);
    assert_true(rt->kv_remove(context, 0, 1500, -1));
    assert_true(rt->kv_remove(context, 0, 0, -1));
    assert_int_equal(rt->kv_pos_max(context, 0), -1);
    rt->context_free(context);
}

static void test_recurrent_state_cannot_step_back(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(recurrent, 512, 2);
    feed(context, 0, 0, tokens, 50);
    assert_int_equal(rt->kv_pos_max(context, 0), 49);
    assert_false(rt->kv_remove(context, 0, 30, -1));
    assert_int_equal(rt->kv_pos_max(context, 0), 49);
    /* Nothing behind the end, or everything: both are possible. */
    assert_true(rt->kv_remove(context, 0, 50, -1));
    assert_true(rt->kv_remove(context, 0, 0, -1));
    assert_int_equal(rt->kv_pos_max(context, 0), -1);
    int32_t item = feed(context, 0, 0, other, 40);
    expect_answer(context, &recurrent_spec, item, other, 40);
    rt->context_free(context);
}

static uint8_t *save(hs_rt_context *context, int32_t seq, uint32_t flags, size_t *ret_size)
{
    struct hs_error err = {0};
    size_t size = rt->state_size(context, seq, flags);
    uint8_t *data = malloc(size);
    assert_non_null(data);
    OK(rt->state_save(context, seq, flags, data, size, ret_size, &err));
    return data;
}

/* A checkpoint taken at 80, used after 200 tokens: the way back for both kinds. */
static void test_partial_states(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_rt_model *const models[] = {window, recurrent};
    const struct tiny_gguf_spec *const specs[] = {&window_spec, &recurrent_spec};
    for (int m = 0; m < 2; m++) {
        hs_rt_context *context = new_context(models[m], 512, 2);
        feed(context, 0, 0, tokens, 80);
        size_t whole_size = 0;
        size_t size = 0;
        uint8_t *whole = save(context, 0, HS_RT_STATE_WHOLE, &whole_size);
        uint8_t *data = save(context, 0, HS_RT_STATE_PARTIAL, &size);
        assert_true(size <= whole_size);
        for (int32_t i = 80; i < LEN; i++) {
            feed(context, 0, i, &tokens[i], 1);
        }
        EXPECT(HS_CORRUPT, rt->state_load(context, 0, HS_RT_STATE_WHOLE, data, size, &err));
        OK(rt->state_load(context, 0, HS_RT_STATE_PARTIAL, data, size, &err));
        assert_true(rt->kv_remove(context, 0, 80, -1));
        assert_int_equal(rt->kv_pos_max(context, 0), 79);
        cut_and_go_on(context, specs[m], 80);
        /* The whole state does the same in an empty sequence. */
        OK(rt->state_load(context, 1, HS_RT_STATE_WHOLE, whole, whole_size, &err));
        assert_int_equal(rt->kv_pos_max(context, 1), 79);
        int32_t item = feed(context, 1, 80, &tokens[80], 20);
        expect_answer(context, specs[m], item, tokens, 100);
        free(whole);
        free(data);
        rt->context_free(context);
    }
}

static bool abort_after(void *user)
{
    int *calls_left = user;
    return (*calls_left)-- <= 0;
}

/* What an abort cannot take back leaves an empty sequence, never a wrong one. */
static void test_abort(void **state)
{
    (void)state;
    struct hs_error err = {0};
    hs_rt_model *const models[] = {window, recurrent};
    const struct tiny_gguf_spec *const specs[] = {&window_spec, &recurrent_spec};
    for (int m = 0; m < 2; m++) {
        struct hs_rt_context_params params = context_params(512, 2);
        params.n_ubatch = 16;
        hs_rt_context *context = NULL;
        OK(rt->context_new(models[m], &params, &context, &err));
        feed(context, 0, 0, tokens, 10);
        struct hs_rt_batch_item items[LEN - 10];
        for (int32_t i = 10; i < LEN; i++) {
            items[i - 10] = (struct hs_rt_batch_item){tokens[i], i, 0, i == LEN - 1, NULL};
        }
        int calls_left = 100;
        rt->set_abort(context, abort_after, &calls_left);
        enum hs_rt_decode outcome = HS_RT_DECODE_OK;
        OK(rt->decode(context, items, LEN - 10, &outcome, &err));
        assert_int_equal(outcome, HS_RT_DECODE_ABORTED);
        rt->set_abort(context, NULL, NULL);
        int32_t kept = rt->kv_pos_max(context, 0) + 1;
        assert_true(kept == 10 || kept == 0);
        int32_t item = feed(context, 0, kept, &tokens[kept], LEN - kept);
        expect_answer(context, specs[m], item, tokens, LEN);
        rt->context_free(context);
    }
}

/*
 * A window that moved on while the aborted batch was computed is not whole after the way back. A
 * prompt of 200 tokens, 800 more, stopped anywhere: what is kept answers as its tokens say.
 */
static void test_abort_behind_a_window(void **state)
{
    (void)state;
    enum { RESIDENT = LEN, ALL = 1000 };
    struct hs_error err = {0};
    static int32_t all[ALL];
    static struct hs_rt_batch_item items[ALL - RESIDENT];
    for (int32_t i = 0; i < ALL; i++) {
        all[i] = i == 0 ? TINY_GGUF_BOS : TINY_GGUF_ANSWER0 + (i * 37) % TINY_GGUF_N_ANSWERS;
    }
    for (int32_t i = RESIDENT; i < ALL; i++) {
        items[i - RESIDENT] = (struct hs_rt_batch_item){all[i], i, 0, i == ALL - 1, NULL};
    }
    int n_kept = 0;
    int n_emptied = 0;
    for (int calls = 0; calls < 1600; calls += 32) {
        struct hs_rt_context_params params = context_params(2048, 1);
        params.n_ubatch = 16;
        params.n_batch = ALL;
        hs_rt_context *context = NULL;
        OK(rt->context_new(window, &params, &context, &err));
        feed(context, 0, 0, all, RESIDENT);
        int calls_left = calls;
        rt->set_abort(context, abort_after, &calls_left);
        enum hs_rt_decode outcome = HS_RT_DECODE_OK;
        OK(rt->decode(context, items, ALL - RESIDENT, &outcome, &err));
        rt->set_abort(context, NULL, NULL);
        int32_t kept = rt->kv_pos_max(context, 0) + 1;
        if (outcome == HS_RT_DECODE_ABORTED) {
            assert_true(kept == RESIDENT || kept == 0);
            n_kept += kept == RESIDENT;
            n_emptied += kept == 0;
            int32_t mixed[RESIDENT + 1];
            memcpy(mixed, all, sizeof(mixed));
            mixed[RESIDENT] = other[100];
            int32_t item = feed(context, 0, kept, &mixed[kept], RESIDENT + 1 - kept);
            expect_answer(context, &window_spec, item, mixed, RESIDENT + 1);
        }
        rt->context_free(context);
    }
    assert_true(n_kept > 0);
    assert_true(n_emptied > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_window_cuts),
        cmocka_unit_test(test_window_refuses_far_cuts),
        cmocka_unit_test(test_recurrent_state_cannot_step_back),
        cmocka_unit_test(test_partial_states),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_abort_behind_a_window),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
