/*
 * Tests of weights merged into a running model, on llama.cpp: a fused model answers bit by bit like
 * one that was loaded from a merged file, and after undoing like before.
 */
#include "fusion_test.h"

#define N_TOKENS 12
#define N_LOGPROBS 5

static struct fusion_test test;
static hs_engine *engine;
static struct hs_error err;

static void load(const char *path, const char *id, bool use_mmap)
{
    struct hs_model_params params;
    char loaded[HS_ID_MAX];
    hs_model_params_defaults(&params);
    params.n_ctx = 256;
    params.n_seq_max = 4;
    params.n_threads = 1;
    params.use_mmap = use_mmap;
    hs_status status = hs_engine_load_model(engine, path, id, &params, loaded, &err);
    if (status != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static int set_up(void **state)
{
    (void)state;
    fusion_test_new(&test);
    assert_int_equal(hs_engine_create(NULL, &engine, &err), HS_OK);
    load(test.base, "m", false);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    hs_engine_free(engine);
    fusion_test_free(&test);
    return 0;
}

struct answer {
    struct hs_token_logprob tokens[N_TOKENS * (1 + N_LOGPROBS)];
    int32_t n, n_cached;
};

static hs_stream *start(const char *model, int32_t n_tokens, bool cache_prompt)
{
    static const int32_t prompt[] = {1, 300, 301, 302, 299, 310, 305};
    struct hs_generate_params params;
    hs_stream *stream = NULL;
    hs_generate_params_defaults(&params);
    params.sampling.temp = 0;
    params.max_tokens = n_tokens;
    params.ignore_eos = true;
    params.cache_prompt = cache_prompt;
    params.n_logprobs = N_LOGPROBS;
    hs_status status =
        hs_engine_complete(engine, model, NULL, 0, prompt, 7, &params, &stream, &err);
    if (status != HS_OK) {
        fail_msg("%s", err.message);
    }
    return stream;
}

/* cache_prompt changes how tokens are batched, and with it the last bits. */
static struct answer ask_cached(const char *model, bool cache_prompt)
{
    struct answer answer = {0};
    struct hs_event event;
    hs_stream *stream = start(model, N_TOKENS, cache_prompt);
    do {
        assert_int_equal(hs_stream_next(stream, 20000, &event, &err), HS_OK);
        for (int32_t i = 0; event.type == HS_EVENT_TEXT && event.logprobs != NULL &&
                            i < event.n_tokens && answer.n < N_TOKENS;
             i++) {
            memcpy(answer.tokens + answer.n++ * (1 + N_LOGPROBS),
                   event.logprobs + i * (1 + N_LOGPROBS),
                   (1 + N_LOGPROBS) * sizeof answer.tokens[0]);
        }
    } while (event.type != HS_EVENT_DONE);
    assert_int_equal(event.error.status, HS_OK);
    answer.n_cached = event.usage.cached_tokens;
    hs_stream_free(stream);
    assert_true(answer.n > 3);
    return answer;
}

static struct answer ask(const char *model)
{
    return ask_cached(model, false);
}

static bool is_same(const struct answer *a, const struct answer *b)
{
    return a->n == b->n && memcmp(a->tokens, b->tokens, sizeof a->tokens) == 0;
}

static hs_status fuse(const char *model)
{
    struct hs_merge_params params = test_params();
    return hs_engine_fuse_weights(engine, model, test.sources, 2, &params, &err);
}

static void test_like_a_merged_file(void **state)
{
    (void)state;
    struct hs_merge_params params = test_params();
    struct answer before = ask("m");
    assert_int_equal(hs_merge_into_model(test.base, test.sources, 2, &params, test.out, NULL, &err),
                     HS_OK);
    load(test.out, "merged", false);
    struct answer wanted = ask("merged");
    assert_false(is_same(&before, &wanted));
    for (int round = 0; round < 2; round++) {
        assert_int_equal(fuse("m"), HS_OK);
        struct answer fused = ask("m");
        assert_true(is_same(&fused, &wanted));
        assert_int_equal(hs_engine_unfuse_weights(engine, "m", &err), HS_OK);
        struct answer after = ask("m");
        assert_true(is_same(&after, &before));
    }
    assert_int_equal(hs_engine_unload_model(engine, "merged", &err), HS_OK);
}

/* The same prompt again is taken from the cache; not across a change, and again after undoing. */
static void test_cache_is_apart(void **state)
{
    (void)state;
    ask_cached("m", true);
    assert_true(ask_cached("m", true).n_cached > 0);
    assert_int_equal(fuse("m"), HS_OK);
    assert_int_equal(ask_cached("m", true).n_cached, 0);
    assert_true(ask_cached("m", true).n_cached > 0);
    assert_int_equal(hs_engine_unfuse_weights(engine, "m", &err), HS_OK);
    assert_true(ask_cached("m", true).n_cached > 0); /* what was kept of the plain model */
}

static void test_refused(void **state)
{
    (void)state;
    assert_int_equal(hs_engine_unfuse_weights(engine, "m", &err), HS_NOT_FOUND);
    assert_int_equal(fuse("none"), HS_NOT_FOUND);
    assert_int_equal(fuse("m"), HS_OK);
    assert_int_equal(fuse("m"), HS_ALREADY_EXISTS);
    assert_int_equal(hs_engine_unfuse_weights(engine, "m", &err), HS_OK);
    load(test.base, "mapped", true);
    assert_int_equal(fuse("mapped"), HS_NOT_SUPPORTED);
    assert_non_null(strstr(err.hint, "--no-mmap"));
    assert_int_equal(hs_engine_unload_model(engine, "mapped", &err), HS_OK);
}

static void test_busy(void **state)
{
    (void)state;
    struct hs_event event;
    struct answer before = ask("m");
    hs_stream *stream = start("m", 200, false); /* its reader does not read: it cannot end */
    assert_int_equal(hs_stream_next(stream, 20000, &event, &err), HS_OK);
    hs_status status = fuse("m");
    hs_stream_free(stream);
    /* a machine so slow that the answer was over: then it is merged */
    assert_true(status == HS_BUSY || status == HS_OK);
    if (status == HS_OK) {
        assert_int_equal(hs_engine_unfuse_weights(engine, "m", &err), HS_OK);
    }
    struct answer after = ask("m");
    assert_true(is_same(&after, &before));
}

/* Another file under its name: nothing is changed. */
static void test_other_file(void **state)
{
    (void)state;
    struct answer before = ask("m");
    struct tiny_random_spec spec = {.arch = TINY_RANDOM_LLAMA, .seed = 6};
    assert_true(tiny_random_write(&spec, test.base));
    hs_status status = fuse("m");
    assert_int_equal(status, HS_MISMATCH);
    spec.seed = 5;
    assert_true(tiny_random_write(&spec, test.base));
    struct answer after = ask("m");
    assert_true(is_same(&after, &before));
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct answer before = ask("m");
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
        hs_mem_fail_after(n);
        status = fuse("m");
        hs_mem_fail_after(0);
    }
    assert_int_equal(status, HS_OK);
    status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
        hs_mem_fail_after(n);
        status = hs_engine_unfuse_weights(engine, "m", &err);
        hs_mem_fail_after(0);
    }
    assert_int_equal(status, HS_OK);
    struct answer after = ask("m");
    assert_true(is_same(&after, &before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_a_merged_file),
        cmocka_unit_test(test_cache_is_apart),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_other_file),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
