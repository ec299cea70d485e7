/* Decoding and KV operations, against tiny models whose next token is a formula. */
#include "runtime_test.h"

#include <math.h>

struct fixture {
    struct tiny_gguf_spec bigram, history;
    hs_rt_model *bigram_model, *history_model;
};
static struct fixture fx;

static int set_up(void **state)
{
    if (start_runtime(state) != 0) {
        return -1;
    }
    tiny_gguf_defaults(&fx.bigram);
    tiny_gguf_defaults(&fx.history);
    fx.history.kind = TINY_GGUF_HISTORY;
    fx.bigram_model = load_tiny(&fx.bigram);
    fx.history_model = load_tiny(&fx.history);
    return 0;
}

static int tear_down(void **state)
{
    rt->model_free(fx.bigram_model);
    rt->model_free(fx.history_model);
    return stop_runtime(state);
}

/* <s> and n tokens of the answer words, different for each seed. */
static void make_history(int32_t *tokens, int32_t n, uint32_t seed)
{
    tokens[0] = TINY_GGUF_BOS;
    for (int32_t i = 1; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = TINY_GGUF_ANSWER0 + (int32_t)((seed >> 16) % TINY_GGUF_N_ANSWERS);
    }
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

static void test_bigram_logits_are_the_formulas(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(fx.bigram_model, 256, 1);
    int32_t tokens[] = {TINY_GGUF_BOS, TINY_GGUF_LETTER0 + 3, TINY_GGUF_ANSWER0 + 9};
    int32_t item = feed(context, 0, 0, tokens, 3);
    const float *logits = rt->logits(context, item);
    for (int32_t i = 0; i < TINY_GGUF_N_VOCAB; i++) {
        float wanted = tiny_gguf_bigram_logit(&fx.bigram, tokens[2], i);
        assert_true(fabsf(logits[i] - wanted) < 0.01F);
    }
    rt->context_free(context);
}

static void test_history_in_one_batch_and_one_by_one(void **state)
{
    (void)state;
    int32_t tokens[700];
    make_history(tokens, 700, 7);
    for (int way = 0; way < 2; way++) {
        hs_rt_context *context = new_context(fx.history_model, 1024, 2);
        int32_t item = -1;
        if (way == 0) {
            item = feed(context, 1, 0, tokens, 700);
        } else {
            for (int32_t i = 0; i < 700; i++) {
                item = feed(context, 1, i, &tokens[i], 1);
            }
        }
        assert_int_equal(best(context, item), tiny_gguf_history_next(tokens, 700));
        assert_int_equal(rt->kv_pos_min(context, 1), 0);
        assert_int_equal(rt->kv_pos_max(context, 1), 699);
        assert_int_equal(rt->kv_pos_max(context, 0), -1);
        rt->context_free(context);
    }
}

/* Sequences mixed in one batch do not see each other. */
static void test_mixed_batch(void **state)
{
    (void)state;
    enum { SEQS = 16, LEN = 20 };
    hs_rt_context *context = new_context(fx.history_model, 1024, SEQS);
    int32_t tokens[SEQS][LEN];
    struct hs_rt_batch_item items[SEQS * LEN];
    int32_t n = 0;
    for (int32_t i = 0; i < LEN; i++) {
        for (int32_t s = 0; s < SEQS; s++) {
            if (i == 0) {
                make_history(tokens[s], LEN, (uint32_t)s);
            }
            items[n++] = (struct hs_rt_batch_item){tokens[s][i], i, s, i == LEN - 1, NULL};
        }
    }
    struct hs_error err = {0};
    enum hs_rt_decode outcome;
    OK(rt->decode(context, items, n, &outcome, &err));
    assert_int_equal(outcome, HS_RT_DECODE_OK);
    for (int32_t s = 0; s < SEQS; s++) {
        assert_int_equal(best(context, (LEN - 1) * SEQS + s),
                         tiny_gguf_history_next(tokens[s], LEN));
    }
    assert_null(rt->logits(context, 0));
    assert_null(rt->logits(context, -1));
    assert_null(rt->logits(context, n));
    rt->context_free(context);
}

static void test_kv_remove_then_go_on(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(fx.history_model, 256, 2);
    int32_t tokens[40];
    make_history(tokens, 40, 3);
    feed(context, 0, 0, tokens, 40);
    assert_true(rt->kv_remove(context, 0, 25, -1));
    assert_int_equal(rt->kv_pos_max(context, 0), 24);
    int32_t other[40];
    make_history(other, 40, 4);
    memcpy(other, tokens, 25 * sizeof(*other));
    int32_t item = feed(context, 0, 25, &other[25], 15);
    assert_int_equal(best(context, item), tiny_gguf_history_next(other, 40));
    /* A hole in the middle: the answer is that of the tokens that are left. */
    assert_true(rt->kv_remove(context, 0, 10, 20));
    assert_true(rt->kv_shift(context, 0, 20, -1, -10));
    assert_int_equal(rt->kv_pos_max(context, 0), 29);
    memmove(&other[10], &other[20], 20 * sizeof(*other));
    other[30] = TINY_GGUF_ANSWER0 + 5;
    item = feed(context, 0, 30, &other[30], 1);
    assert_int_equal(best(context, item), tiny_gguf_history_next(other, 31));
    assert_false(rt->kv_remove(context, 2, 0, -1));
    assert_false(rt->kv_remove(context, -1, 0, -1));
    rt->context_free(context);
}

static void test_kv_copy(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(fx.history_model, 256, 3);
    int32_t a[20];
    int32_t b[20];
    make_history(a, 20, 1);
    make_history(b, 20, 2);
    memcpy(b, a, 12 * sizeof(*b));
    feed(context, 0, 0, a, 20);
    rt->kv_copy(context, 0, 2, 0, 12);
    assert_int_equal(rt->kv_pos_max(context, 2), 11);
    int32_t item = feed(context, 2, 12, &b[12], 8);
    assert_int_equal(best(context, item), tiny_gguf_history_next(b, 20));
    rt->kv_copy(context, 0, 0, 0, -1);
    rt->kv_copy(context, 0, 3, 0, -1);
    rt->kv_copy(context, -1, 1, 0, -1);
    assert_int_equal(rt->kv_pos_max(context, 1), -1);
    rt->kv_clear(context);
    for (int32_t s = 0; s < 3; s++) {
        assert_int_equal(rt->kv_pos_max(context, s), -1);
    }
    rt->context_free(context);
}

static void test_shift_is_refused_below_zero_and_for_foreign_sequences(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(fx.history_model, 256, 1);
    int32_t tokens[10];
    make_history(tokens, 10, 1);
    feed(context, 0, 0, tokens, 10);
    assert_false(rt->kv_shift(context, 0, 0, -1, -1));
    assert_false(rt->kv_shift(context, 0, 3, -1, -4));
    assert_false(rt->kv_shift(context, 1, 0, -1, 1));
    assert_int_equal(rt->kv_pos_max(context, 0), 9);
    assert_true(rt->kv_remove(context, 0, 0, 4));
    assert_int_equal(rt->kv_pos_min(context, 0), 4);
    assert_true(rt->kv_shift(context, 0, 0, -1, -4));
    assert_int_equal(rt->kv_pos_min(context, 0), 0);
    assert_int_equal(rt->kv_pos_max(context, 0), 5);
    rt->context_free(context);
}

static void test_no_room_keeps_everything(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(fx.history_model, 256, 2);
    assert_int_equal(rt->context_n_ctx(context), 256);
    int32_t tokens[256];
    make_history(tokens, 256, 9);
    feed(context, 0, 0, tokens, 250);
    struct hs_error err = {0};
    struct hs_rt_batch_item items[7];
    for (int32_t i = 0; i < 7; i++) {
        items[i] = (struct hs_rt_batch_item){tokens[i], i, 1, i == 6, NULL};
    }
    enum hs_rt_decode outcome = HS_RT_DECODE_OK;
    OK(rt->decode(context, items, 7, &outcome, &err));
    assert_int_equal(outcome, HS_RT_DECODE_NO_ROOM);
    assert_null(rt->logits(context, 6));
    assert_int_equal(rt->kv_pos_max(context, 1), -1);
    assert_int_equal(rt->kv_pos_max(context, 0), 249);
    /* The last six cells do fit. */
    OK(rt->decode(context, items, 6, &outcome, &err));
    assert_int_equal(outcome, HS_RT_DECODE_OK);
    rt->context_free(context);
}

static void test_bad_items_are_refused(void **state)
{
    (void)state;
    hs_rt_context *context = new_context(fx.bigram_model, 256, 2);
    struct hs_error err = {0};
    enum hs_rt_decode outcome;
    const struct hs_rt_batch_item bad[] = {
        {-1, 0, 0, true, NULL}, {TINY_GGUF_N_VOCAB, 0, 0, true, NULL},
        {1, -1, 0, true, NULL}, {1, 0, -1, true, NULL},
        {1, 0, 2, true, NULL},  {1, 0, INT32_MAX, true, NULL},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, &bad[i], 1, &outcome, &err));
        assert_non_null(strstr(err.message, "batch item 0"));
    }
    struct hs_rt_batch_item items[513] = {0};
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, items, 0, &outcome, &err));
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, items, -1, &outcome, &err));
    for (int32_t i = 0; i < 513; i++) {
        items[i] = (struct hs_rt_batch_item){TINY_GGUF_BOS, i, 0, i < 3, NULL};
    }
    /* n_batch is 512, but never more than the context: 256 and 257. */
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, items, 257, &outcome, &err));
    /* Three outputs with two sequences. */
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, items, 256, &outcome, &err));
    assert_non_null(strstr(err.message, "one per sequence"));
    items[2].want_logits = false;
    OK(rt->decode(context, items, 256, &outcome, &err));
    /* Positions must go on where the KV ends. */
    struct hs_rt_batch_item gap = {TINY_GGUF_BOS, 300, 0, true, NULL};
    EXPECT(HS_INVALID_ARGUMENT, rt->decode(context, &gap, 1, &outcome, &err));
    assert_int_equal(rt->kv_pos_max(context, 0), 255);
    rt->context_free(context);
}

static void test_parameters_out_of_range(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const struct hs_rt_context_params good = context_params(256, 1);
    hs_rt_context *context = NULL;
    struct hs_rt_context_params bad[9];
    for (size_t i = 0; i < 9; i++) {
        bad[i] = good;
    }
    bad[0].n_ctx = 0;
    bad[1].n_batch = 0;
    bad[2].n_ubatch = 0;
    bad[3].n_seq_max = 0;
    bad[4].n_seq_max = 257;
    bad[5].n_threads = 0;
    bad[6].n_threads_batch = 513;
    bad[7].kv_type = (enum hs_kv_type)2;
    bad[8].flash_attn = HS_FLASH_ATTN_OFF;
    bad[8].kv_type = HS_KV_Q8_0;
    for (size_t i = 0; i < 9; i++) {
        EXPECT(HS_INVALID_ARGUMENT, rt->context_new(fx.bigram_model, &bad[i], &context, &err));
        assert_null(context);
    }
    assert_non_null(strstr(err.message, "flash attention"));
    assert_string_not_equal(err.hint, "");
    struct hs_rt_context_params most = context_params(256, 256);
    OK(rt->context_new(fx.bigram_model, &most, &context, &err));
    rt->context_free(context);
    rt->context_free(NULL);
}

/* Flash attention and KV types do not change an answer that has a wide margin. */
static void test_attention_and_kv_types(void **state)
{
    (void)state;
    struct hs_error err = {0};
    int32_t tokens[300];
    make_history(tokens, 300, 11);
    const struct {
        enum hs_flash_attn flash;
        enum hs_kv_type kv;
    } ways[] = {{HS_FLASH_ATTN_OFF, HS_KV_F16},
                {HS_FLASH_ATTN_ON, HS_KV_F16},
                {HS_FLASH_ATTN_ON, HS_KV_Q8_0},
                {HS_FLASH_ATTN_AUTO, HS_KV_Q8_0}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct hs_rt_context_params params = context_params(512, 1);
        params.flash_attn = ways[i].flash;
        params.kv_type = ways[i].kv;
        hs_rt_context *context = NULL;
        OK(rt->context_new(fx.history_model, &params, &context, &err));
        int32_t item = feed(context, 0, 0, tokens, 300);
        assert_int_equal(best(context, item), tiny_gguf_history_next(tokens, 300));
        rt->context_free(context);
    }
}

struct abort_after {
    int calls_left;
};

static bool abort_after(void *user)
{
    struct abort_after *after = user;
    return after->calls_left-- <= 0;
}

static void test_abort_takes_the_batch_back(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_rt_context_params params = context_params(512, 2);
    params.n_ubatch = 16;
    hs_rt_context *context = NULL;
    OK(rt->context_new(fx.history_model, &params, &context, &err));
    int32_t tokens[200];
    make_history(tokens, 200, 5);
    feed(context, 0, 0, tokens, 10);
    struct hs_rt_batch_item items[190];
    for (int32_t i = 0; i < 190; i++) {
        items[i] = (struct hs_rt_batch_item){tokens[10 + i], 10 + i, 0, i == 189, NULL};
    }
    /* Some micro-batches are through before it stops. */
    struct abort_after after = {.calls_left = 60};
    rt->set_abort(context, abort_after, &after);
    enum hs_rt_decode outcome = HS_RT_DECODE_OK;
    OK(rt->decode(context, items, 190, &outcome, &err));
    assert_int_equal(outcome, HS_RT_DECODE_ABORTED);
    assert_int_equal(rt->kv_pos_max(context, 0), 9);
    assert_null(rt->logits(context, 189));
    rt->set_abort(context, NULL, NULL);
    OK(rt->decode(context, items, 190, &outcome, &err));
    assert_int_equal(outcome, HS_RT_DECODE_OK);
    assert_int_equal(best(context, 189), tiny_gguf_history_next(tokens, 200));
    rt->context_free(context);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_rt_context_params params = context_params(256, 1);
    for (uint64_t n = 1;; n++) {
        hs_rt_context *context = NULL;
        hs_mem_fail_after(n);
        hs_status status = rt->context_new(fx.bigram_model, &params, &context, &err);
        bool failed = hs_mem_count() >= n;
        hs_mem_fail_after(0);
        if (!failed) {
            assert_int_equal(status, HS_OK);
            rt->context_free(context);
            return;
        }
        /* What the machine has is only asked, and may stay unanswered. */
        assert_true(status == HS_OUT_OF_MEMORY || status == HS_OK);
        assert_int_equal(status == HS_OK, context != NULL);
        rt->context_free(context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bigram_logits_are_the_formulas),
        cmocka_unit_test(test_history_in_one_batch_and_one_by_one),
        cmocka_unit_test(test_mixed_batch),
        cmocka_unit_test(test_kv_remove_then_go_on),
        cmocka_unit_test(test_kv_copy),
        cmocka_unit_test(test_shift_is_refused_below_zero_and_for_foreign_sequences),
        cmocka_unit_test(test_no_room_keeps_everything),
        cmocka_unit_test(test_bad_items_are_refused),
        cmocka_unit_test(test_parameters_out_of_range),
        cmocka_unit_test(test_attention_and_kv_types),
        cmocka_unit_test(test_abort_takes_the_batch_back),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
