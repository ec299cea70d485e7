/* One step: planning, making room, decoding, sampling, and what it tells. */
#include "engine_test.h"

#include "base/clock.h"

static struct answer answer;

/* Three requests that need the whole context each, at once: all must come out right. */
static void check_crowd(const struct fake_config *config, uint64_t park_budget_bytes,
                        int n_requests, int32_t n_ctx, int32_t max_tokens)
{
    fake_runtime_reset(config);
    struct hs_engine_params engine_params;
    hs_engine_params_defaults(&engine_params);
    engine_params.park_budget_bytes = park_budget_bytes;
    hs_engine *engine = test_engine(&engine_params, n_ctx, 8);
    struct hs_generate_params params = test_params(max_tokens);
    params.stream_capacity = 4096;
    hs_stream *streams[16];
    char prompts[16][64];
    fake_runtime_pause();
    for (int i = 0; i < n_requests; i++) {
        test_text(prompts[i], 20 + (size_t)i, (uint32_t)i + 1);
        streams[i] = test_complete(engine, prompts[i], &params);
    }
    fake_runtime_resume();
    for (int i = 0; i < n_requests; i++) {
        test_collect(streams[i], &answer);
        test_expect(&answer, prompts[i], (size_t)max_tokens, (size_t)n_ctx);
        assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    }
    hs_engine_free(engine);
    test_check_clean();
}

static void many_requests_share_steps_and_do_not_mix(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 8192, 64);
    hs_stream *streams[64];
    char prompts[64][128];
    struct hs_generate_params params = test_params(30);
    fake_runtime_pause();
    for (uint32_t i = 0; i < 64; i++) {
        test_text(prompts[i], 5 + i, i + 1);
        streams[i] = test_complete(engine, prompts[i], &params);
    }
    fake_runtime_resume();
    for (int i = 0; i < 64; i++) {
        test_collect(streams[i], &answer);
        test_expect(&answer, prompts[i], 30, 8192);
    }
    assert_int_equal(test_counters().max_seqs, 64);
    /* One sequence took one step ahead at most while the others queued up. */
    assert_in_range(test_counters().n_decode, 30, 40);
    hs_engine_free(engine);
    test_check_clean();
}

/* Two long prompts and a decoding request: chunks alternate, decoding never pauses. */
static void prompts_are_chunked_fairly_beside_decoding(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    struct hs_engine_params engine_params;
    hs_engine_params_defaults(&engine_params);
    engine_params.prefill_chunk = 32;
    engine_params.prefill_ms = -1;
    hs_engine *engine = test_engine(&engine_params, 4096, 4);
    struct hs_generate_params params = test_params(60);
    fake_runtime_pause();
    hs_stream *decoding = test_complete(engine, "abc", &params);
    fake_runtime_wait_held();
    fake_runtime_step(3);
    char long_text[2][513];
    hs_stream *streams[2];
    struct hs_generate_params short_params = test_params(5);
    for (uint32_t i = 0; i < 2; i++) {
        test_text(long_text[i], 512, 77 + i);
        streams[i] = test_complete(engine, long_text[i], &short_params);
    }
    fake_runtime_step(2);
    int32_t first = test_counters().n_decode;
    fake_runtime_step(20);
    for (int32_t call = first; call < first + 20; call++) {
        assert_int_equal(fake_runtime_logged(call, 0), 1);
        assert_int_equal(fake_runtime_logged(call, 1), 16);
        assert_int_equal(fake_runtime_logged(call, 2), 16);
    }
    fake_runtime_resume();
    test_collect(decoding, &answer);
    test_expect(&answer, "abc", 60, 4096);
    for (int i = 0; i < 2; i++) {
        test_collect(streams[i], &answer);
        test_expect(&answer, long_text[i], 5, 4096);
    }
    hs_engine_free(engine);
    test_check_clean();
}

/* Every single batch, from the first token of a prompt of 4,000 to its last, has a token of each
 * request that decodes. */
static void no_step_of_a_long_prompt_leaves_decoding_out(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 8192, 4);
    struct hs_generate_params params = test_params(1000);
    static char text[3][8], long_text[4001];
    hs_stream *streams[3];
    params.stream_capacity = 1100;
    fake_runtime_pause();
    for (int i = 0; i < 3; i++) {
        snprintf(text[i], sizeof text[i], "abc%d", i);
        streams[i] = test_complete(engine, text[i], &params);
    }
    fake_runtime_wait_held();
    fake_runtime_step(4);
    int32_t first = test_counters().n_decode;
    test_text(long_text, 4000, 4);
    struct hs_generate_params short_params = test_params(1);
    hs_stream *stream = test_complete(engine, long_text, &short_params);
    fake_runtime_resume();
    test_collect(stream, &answer);
    test_expect(&answer, long_text, 1, 8192);
    int32_t call = first, n_prompt = 0, n_chunks = 0;
    for (; n_prompt < 4000; call++) {
        for (int32_t seq = 0; seq < 3; seq++) {
            assert_int_equal(fake_runtime_logged(call, seq), 1);
        }
        int32_t n = fake_runtime_logged(call, 3);
        assert_in_range(n, 0, 512);
        n_prompt += n;
        n_chunks += n > 0;
    }
    assert_int_equal(n_prompt, 4000);
    assert_in_range(n_chunks, 8, 250);
    for (int i = 0; i < 3; i++) {
        test_collect(streams[i], &answer);
        test_expect(&answer, text[i], 1000, 8192);
    }
    hs_engine_free(engine);
    test_check_clean();
}

static void a_lone_prompt_uses_the_whole_batch(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    struct hs_model_params model;
    hs_model_params_defaults(&model);
    model.n_ctx = 4096;
    model.n_seq_max = 4;
    model.n_batch = 300;
    hs_engine *engine = test_engine_model(NULL, &model);
    char text[1001];
    test_text(text, 1000, 5);
    test_run(engine, text, 3, &answer);
    assert_int_equal(fake_runtime_logged(0, 0), 300);
    assert_int_equal(fake_runtime_logged(2, 0), 300);
    assert_int_equal(fake_runtime_logged(3, 0), 100);
    assert_int_equal(test_counters().n_decode, 4 + 2);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_crowd_is_preempted_and_parked(void **state)
{
    (void)state;
    check_crowd(NULL, (uint64_t)1 << 30, 6, 256, 200);
    assert_true(test_counters().n_state_load > 0);
}

static void a_crowd_without_host_memory_is_evaluated_anew(void **state)
{
    (void)state;
    check_crowd(NULL, 0, 6, 256, 200);
    assert_int_equal(test_counters().n_state_save, 0);
}

static void a_crowd_that_fills_the_context_wholly(void **state)
{
    (void)state;
    check_crowd(NULL, 1 << 20, 8, 256, 100000);
}

static void a_crowd_on_hidden_cells(void **state)
{
    (void)state;
    struct fake_config config = {.hidden_cells = 300};
    check_crowd(&config, 1 << 20, 6, 320, 200);
    assert_true(test_counters().n_no_room > 0);
}

static void a_crowd_with_a_recurrent_state(void **state)
{
    (void)state;
    struct fake_config config = {.is_recurrent = true};
    check_crowd(&config, 1 << 20, 6, 256, 200);
}

static void a_crowd_with_a_sliding_window(void **state)
{
    (void)state;
    struct fake_config config = {.n_swa = 16};
    check_crowd(&config, 1 << 20, 6, 256, 200);
}

static void a_context_without_any_room_ends_with_length(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.hidden_cells = 100});
    hs_engine *engine = test_engine(NULL, 256, 2);
    struct hs_generate_params params = test_params(1000);
    test_collect(test_complete(engine, "abc", &params), &answer);
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    assert_int_equal(answer.usage.completion_tokens, 100 - 3 + 1);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_full_context_ends_with_length(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 256, 2);
    struct hs_generate_params params = test_params(-1);
    test_collect(test_complete(engine, "abc", &params), &answer);
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    test_expect(&answer, "abc", 1000, 256);
    assert_int_equal(answer.usage.completion_tokens, 253);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_prompt_may_leave_room_for_one_token(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 256, 2);
    char text[257];
    test_text(text, 256, 3);
    int32_t tokens[256];
    size_t n = fake_tokenize(text, tokens);
    struct hs_generate_params params = test_params(10);
    struct hs_error err;
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, n, &params, &stream, &err),
                     HS_CONTEXT_FULL);
    assert_non_null(strstr(err.message, "256"));
    assert_true(err.hint[0] != '\0');
    assert_int_equal(
        hs_engine_complete(engine, "m", NULL, 0, tokens, n - 1, &params, &stream, &err), HS_OK);
    test_collect(stream, &answer);
    assert_int_equal(answer.usage.completion_tokens, 1);
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_failed_decode_fails_its_requests_only(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.fail_decode = 5});
    hs_engine *engine = test_engine(NULL, 512, 4);
    struct hs_generate_params params = test_params(20);
    test_collect(test_complete(engine, "abc", &params), &answer);
    assert_int_equal(answer.finish, HS_FINISH_ERROR);
    assert_int_equal(answer.error.status, HS_INTERNAL);
    assert_int_equal(answer.usage.completion_tokens, 4);
    test_run(engine, "abc", 20, &answer);
    assert_int_equal(answer.usage.cached_tokens, 0);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_failed_sample_fails_its_request(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.fail_sample = 3});
    hs_engine *engine = test_engine(NULL, 512, 4);
    struct hs_generate_params params = test_params(20);
    test_collect(test_complete(engine, "abc", &params), &answer);
    assert_int_equal(answer.finish, HS_FINISH_ERROR);
    assert_int_equal(answer.error.status, HS_INTERNAL);
    test_run(engine, "abc", 20, &answer);
    hs_engine_free(engine);
    test_check_clean();
}

static void the_times_add_up(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.decode_us = 3000});
    hs_engine *engine = test_engine(NULL, 512, 1);
    struct hs_generate_params params = test_params(5);
    fake_runtime_pause(); /* the second waits for all of the first */
    hs_stream *first = test_complete(engine, "abc", &params);
    hs_stream *second = test_complete(engine, "abd", &params);
    fake_runtime_resume();
    test_collect(first, &answer);
    assert_true(answer.usage.prefill_ms >= 2.9);
    assert_true(answer.usage.decode_ms >= 4 * 2.9);
    test_collect(second, &answer);
    assert_true(answer.usage.queue_ms >= 4 * 2.9);
    assert_int_equal(answer.usage.seed, 4711);
    hs_engine_free(engine);
    test_check_clean();
}

static void logprobs_come_with_their_tokens(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 1);
    struct hs_generate_params params = test_params(10);
    params.n_logprobs = 3;
    hs_stream *stream = test_complete(engine, "abc", &params);
    struct hs_event event;
    struct hs_error err;
    int n_tokens = 0;
    for (;;) {
        assert_int_equal(hs_stream_next(stream, 60000, &event, &err), HS_OK);
        if (event.type == HS_EVENT_DONE) {
            break;
        }
        assert_non_null(event.logprobs);
        for (int32_t i = 0; i < event.n_tokens; i++) {
            assert_int_equal(event.logprobs[i * 4].token, (unsigned char)event.text[i]);
            assert_true(event.logprobs[i * 4].logprob == 0);
            assert_int_equal(event.logprobs[i * 4 + 2].token, 1);
        }
        n_tokens += event.n_tokens;
    }
    assert_int_equal(n_tokens, 10);
    hs_stream_free(stream);
    hs_engine_free(engine);
    test_check_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_requests_share_steps_and_do_not_mix),
        cmocka_unit_test(prompts_are_chunked_fairly_beside_decoding),
        cmocka_unit_test(no_step_of_a_long_prompt_leaves_decoding_out),
        cmocka_unit_test(a_lone_prompt_uses_the_whole_batch),
        cmocka_unit_test(a_crowd_is_preempted_and_parked),
        cmocka_unit_test(a_crowd_without_host_memory_is_evaluated_anew),
        cmocka_unit_test(a_crowd_that_fills_the_context_wholly),
        cmocka_unit_test(a_crowd_on_hidden_cells),
        cmocka_unit_test(a_crowd_with_a_recurrent_state),
        cmocka_unit_test(a_crowd_with_a_sliding_window),
        cmocka_unit_test(a_context_without_any_room_ends_with_length),
        cmocka_unit_test(a_full_context_ends_with_length),
        cmocka_unit_test(a_prompt_may_leave_room_for_one_token),
        cmocka_unit_test(a_failed_decode_fails_its_requests_only),
        cmocka_unit_test(a_failed_sample_fails_its_request),
        cmocka_unit_test(the_times_add_up),
        cmocka_unit_test(logprobs_come_with_their_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
