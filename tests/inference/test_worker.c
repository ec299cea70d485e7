/* The scheduler, over the fake runtime: batching, queue, cancellation, deadlines, lagging readers,
 * preemption. */
#include "engine_test.h"

#include "base/clock.h"

static struct answer answer;

static void one_request_gives_the_formula(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 4);
    test_run(engine, "hello", 40, &answer);
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    assert_int_equal(answer.usage.cached_tokens, 0);
    assert_int_equal(answer.n_tokens, 40);
    hs_engine_free(engine);
    test_check_clean();
}

static void an_end_token_stops_and_is_counted(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.answer_len = 7});
    hs_engine *engine = test_engine(NULL, 512, 4);
    test_run(engine, "hello<|gen|>", 40, &answer);
    assert_int_equal(answer.finish, HS_FINISH_STOP);
    assert_int_equal(answer.len, 7);
    assert_int_equal(answer.usage.completion_tokens, 8);
    hs_engine_free(engine);
    test_check_clean();
}

static void ignore_eos_goes_on(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.answer_len = 7});
    hs_engine *engine = test_engine(NULL, 512, 4);
    struct hs_generate_params params = test_params(20);
    params.ignore_eos = true;
    test_collect(test_complete(engine, "hello<|gen|>", &params), &answer);
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    assert_int_equal(answer.len, 20);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_stop_string_ends_the_text_before_it(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 4);
    int32_t prompt[8];
    char text[64];
    fake_answer(prompt, fake_tokenize("hello", prompt), 40, 512, text);
    char stop[4] = {text[20], text[21], text[22], 0};
    const char *stops[] = {stop};
    struct hs_generate_params params = test_params(40);
    params.stop = stops;
    params.n_stop = 1;
    test_collect(test_complete(engine, "hello", &params), &answer);
    assert_int_equal(answer.finish, HS_FINISH_STOP);
    char *found = strstr(text, stop);
    assert_int_equal(answer.len, found - text);
    assert_memory_equal(answer.text, text, answer.len);
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- clients take turns ---- */

static hs_stream *complete_for(hs_engine *engine, const char *client, const char *text)
{
    struct hs_generate_params params = test_params(3);
    params.client = client;
    return test_complete(engine, text, &params);
}

/* Whether a stream has something to read now. */
static bool has_begun(hs_stream *stream)
{
    struct hs_event event;
    struct hs_error err;
    return hs_stream_next(stream, 0, &event, &err) == HS_OK;
}

/*
 * One sequence; "a" queues four requests, then "b" two, then "c" one. Each request takes three
 * steps. FIFO would answer a a a a b b c; taking turns it is a, then b c a, then b a, then a.
 */
static void clients_take_turns(void **state)
{
    (void)state;
    static const struct {
        const char *client, *text;
    } rows[] = {{"a", "a0"}, {"a", "a1"}, {"a", "a2"}, {"a", "a3"},
                {"b", "b0"}, {"b", "b1"}, {"c", "c0"}};
    static const int order[] = {0, 4, 6, 1, 5, 2, 3};
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 1);
    hs_stream *streams[7];
    fake_runtime_pause();
    streams[0] = complete_for(engine, rows[0].client, rows[0].text);
    fake_runtime_wait_held(); /* it runs; the others find it there */
    for (int i = 1; i < 7; i++) {
        streams[i] = complete_for(engine, rows[i].client, rows[i].text);
    }
    for (int turn = 0; turn < 7; turn++) {
        fake_runtime_step(turn < 6 ? 3 : 2); /* the last one stays: nobody comes after it */
        for (int i = turn; i < 7; i++) {
            assert_int_equal(has_begun(streams[order[i]]), i == turn);
        }
    }
    fake_runtime_resume();
    for (int i = 0; i < 7; i++) {
        hs_stream_free(streams[i]);
    }
    hs_engine_free(engine);
    test_check_clean();
}

/* Without a name everybody is somebody else: first come, first served. */
static void requests_of_nobody_are_served_in_order(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 1);
    hs_stream *streams[4];
    fake_runtime_pause();
    streams[0] = complete_for(engine, NULL, "a");
    fake_runtime_wait_held();
    streams[1] = complete_for(engine, "", "b");
    streams[2] = complete_for(engine, NULL, "c");
    streams[3] = complete_for(engine, "x", "d");
    for (int turn = 0; turn < 4; turn++) {
        fake_runtime_step(turn < 3 ? 3 : 2);
        for (int i = turn; i < 4; i++) {
            assert_int_equal(has_begun(streams[i]), i == turn);
        }
    }
    fake_runtime_resume();
    for (int i = 0; i < 4; i++) {
        hs_stream_free(streams[i]);
    }
    hs_engine_free(engine);
    test_check_clean();
}

static void the_queue_takes_n_and_refuses_n_plus_one(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    struct hs_engine_params engine_params;
    hs_engine_params_defaults(&engine_params);
    engine_params.max_queue = 5;
    hs_engine *engine = test_engine(&engine_params, 512, 2);
    struct hs_generate_params params = test_params(4);
    fake_runtime_pause();
    hs_stream *streams[7];
    for (int i = 0; i < 7; i++) {
        streams[i] = test_complete(engine, "queue", &params);
    }
    int32_t tokens[] = {1, 2, 3};
    struct hs_error err;
    hs_stream *refused = NULL;
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 3, &params, &refused, &err),
                     HS_QUEUE_FULL);
    assert_null(refused);
    assert_non_null(strstr(err.message, "5 requests"));
    fake_runtime_step(1);
    test_wait_for(engine, 2, 5);
    fake_runtime_resume();
    for (int i = 0; i < 7; i++) {
        test_collect(streams[i], &answer);
        test_expect(&answer, "queue", 4, 512);
    }
    test_run(engine, "queue", 4, &answer);
    hs_engine_free(engine);
    test_check_clean();
}

/* "a" has its share; the queue still takes requests of others, and of nobody. */
static void a_client_gets_its_share_and_no_more(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    struct hs_engine_params engine_params;
    hs_engine_params_defaults(&engine_params);
    engine_params.max_queue = 5; /* half of it, rounded up, is 3 */
    hs_engine *engine = test_engine(&engine_params, 512, 2);
    struct hs_generate_params params = test_params(4);
    int32_t tokens[] = {1, 2, 3};
    struct hs_error err;
    hs_stream *streams[7], *refused = NULL;
    fake_runtime_pause();
    for (int i = 0; i < 5; i++) {
        streams[i] = complete_for(engine, "a", "share");
    }
    params.client = "a";
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 3, &params, &refused, &err),
                     HS_QUEUE_FULL);
    assert_null(refused);
    assert_non_null(strstr(err.message, "'a' has 5 requests"));
    streams[5] = complete_for(engine, "b", "share");
    streams[6] = complete_for(engine, NULL, "share");
    params.client = "c";
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 3, &params, &refused, &err),
                     HS_QUEUE_FULL);
    assert_non_null(strstr(err.message, "5 requests wait"));
    fake_runtime_resume();
    for (int i = 0; i < 7; i++) {
        hs_stream_free(streams[i]);
    }
    test_wait_for(engine, 0, 0); /* its places are free again */
    for (int i = 0; i < 5; i++) {
        streams[i] = complete_for(engine, "a", "share");
    }
    for (int i = 0; i < 5; i++) {
        hs_stream_free(streams[i]);
    }
    hs_engine_free(engine);
    test_check_clean();
}

/* One at a time, each prompt a token longer than the one before: the decode calls tell the order.
 */
static void requests_start_in_order(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 1);
    struct hs_generate_params params = test_params(3);
    params.cache_prompt = false;
    hs_stream *streams[6];
    fake_runtime_pause();
    for (int i = 0; i < 6; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%.*s", 5 + i, "in this order");
        streams[i] = test_complete(engine, text, &params);
    }
    fake_runtime_resume();
    for (int i = 0; i < 6; i++) {
        test_collect(streams[i], &answer);
    }
    for (int i = 0; i < 6; i++) {
        assert_int_equal(fake_runtime_logged(3 * i, 0), 5 + i);
    }
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- cancellation, in each state ---- */

static void cancelled_while_queued(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 1);
    struct hs_generate_params params = test_params(10);
    fake_runtime_pause();
    hs_stream *running = test_complete(engine, "running", &params);
    fake_runtime_wait_held();
    hs_stream *queued = test_complete(engine, "queued", &params);
    test_wait_for(engine, 1, 1);
    hs_stream_cancel(queued);
    fake_runtime_step(1);
    test_collect(queued, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    assert_int_equal(answer.usage.completion_tokens, 0);
    assert_true(answer.usage.queue_ms > 0);
    fake_runtime_resume();
    test_collect(running, &answer);
    test_expect(&answer, "running", 10, 512);
    hs_engine_free(engine);
    test_check_clean();
}

static void cancelled_in_prefill_aborts_the_decode(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 2);
    char text[2001];
    test_text(text, 2000, 9);
    struct hs_generate_params params = test_params(10);
    fake_runtime_pause();
    hs_stream *stream = test_complete(engine, text, &params);
    fake_runtime_wait_held();
    hs_stream_cancel(stream);
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    assert_int_equal(answer.usage.completion_tokens, 0);
    assert_int_equal(test_counters().n_aborted, 1);
    fake_runtime_resume();
    test_run(engine, text, 5, &answer);
    hs_engine_free(engine);
    test_check_clean();
}

/* A cancelled prompt beside a decoding request: no abort, the other loses nothing. */
static void cancelled_in_prefill_leaves_others_alone(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 2);
    char text[2001];
    test_text(text, 2000, 9);
    struct hs_generate_params params = test_params(10);
    fake_runtime_pause();
    hs_stream *other = test_complete(engine, "other", &params);
    fake_runtime_wait_held();
    fake_runtime_step(2);
    hs_stream *stream = test_complete(engine, text, &params);
    fake_runtime_step(2);
    hs_stream_cancel(stream);
    fake_runtime_step(1);
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    assert_int_equal(test_counters().n_aborted, 0);
    fake_runtime_resume();
    test_collect(other, &answer);
    test_expect(&answer, "other", 10, 4096);
    hs_engine_free(engine);
    test_check_clean();
}

static void cancelled_while_decoding_stops_within_a_step(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 2);
    struct hs_generate_params params = test_params(1000);
    fake_runtime_pause();
    hs_stream *stream = test_complete(engine, "abc", &params);
    fake_runtime_wait_held();
    fake_runtime_step(5);
    hs_stream_cancel(stream);
    fake_runtime_resume();
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    assert_in_range(answer.usage.completion_tokens, 5, 6);
    test_wait_for(engine, 0, 0);
    assert_in_range(test_counters().n_decode, 5, 6);
    hs_engine_free(engine);
    test_check_clean();
}

static void slots_tell_what_each_sequence_does(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    struct hs_engine_params engine_params;
    hs_engine_params_defaults(&engine_params);
    engine_params.prefill_chunk = 4;
    hs_engine *engine = test_engine(&engine_params, 512, 3);
    struct hs_slot slots[4];
    struct hs_error err;
    size_t n = 0;
    char tag[HS_TAG_MAX + 1];
    memset(tag, 't', HS_TAG_MAX);
    tag[HS_TAG_MAX] = '\0';
    struct hs_generate_params params = test_params(100);
    params.tag = tag;
    fake_runtime_pause();
    hs_stream *first = test_complete(engine, "abcdef", &params);
    fake_runtime_wait_held();
    fake_runtime_step(3); /* the prompt, and two tokens of the answer */
    params.tag = NULL;
    hs_stream *second = test_complete(engine, "0123456789", &params);
    fake_runtime_step(3); /* at most one without it, then chunks of four */
    assert_int_equal(hs_engine_model_slots(engine, "m", slots, 4, &n, &err), HS_OK);
    assert_int_equal(n, 3);
    const struct hs_slot *a = NULL, *b = NULL;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(slots[i].id, i);
        a = slots[i].request == 1 ? &slots[i] : a;
        b = slots[i].request == 2 ? &slots[i] : b;
    }
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(a->state, HS_SLOT_DECODE);
    assert_int_equal(a->n_prompt, 6);
    assert_int_equal(a->n_generated, 6);
    assert_int_equal(a->n_evaluated, 6 + 5); /* the newest token waits for its turn */
    assert_int_equal(strlen(a->tag), HS_TAG_MAX - 1);
    assert_true(a->age_ms >= b->age_ms);
    assert_int_equal(b->state, HS_SLOT_PREFILL);
    assert_int_equal(b->n_prompt, 10);
    assert_in_range(b->n_evaluated, 4, 8);
    assert_int_equal(b->n_generated, 0);
    assert_string_equal(b->tag, "");
    assert_int_equal(hs_engine_model_slots(engine, "m", slots, 1, &n, &err), HS_OK);
    assert_int_equal(n, 1);
    assert_int_equal(hs_engine_model_slots(engine, "x", slots, 1, &n, &err), HS_NOT_FOUND);
    fake_runtime_resume();
    test_collect(first, &answer);
    test_collect(second, &answer);
    test_wait_for(engine, 0, 0);
    assert_int_equal(hs_engine_model_slots(engine, "m", slots, 4, &n, &err), HS_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(slots[i].state, HS_SLOT_IDLE);
        assert_int_equal(slots[i].request, 0);
    }
    hs_engine_free(engine);
    test_check_clean();
}

static void cancelled_while_waiting_for_its_reader(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 2);
    struct hs_generate_params params = test_params(1000);
    params.stream_capacity = 16;
    hs_stream *stream = test_complete(engine, "abc", &params);
    while (test_stats(engine).n_generated_tokens < 9) {
        test_sleep_ms(1);
    }
    test_sleep_ms(20);
    assert_in_range(test_stats(engine).n_generated_tokens, 9, 16);
    hs_stream_cancel(stream);
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_freed_stream_cancels_its_request(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.decode_us = 500});
    hs_engine *engine = test_engine(NULL, 4096, 2);
    struct hs_generate_params params = test_params(100000);
    hs_stream *stream = test_complete(engine, "abc", &params);
    test_wait_for(engine, 1, 0);
    hs_stream_free(stream);
    test_wait_for(engine, 0, 0);
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- deadlines ---- */

static void a_deadline_ends_a_running_request(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 2);
    struct hs_generate_params params = test_params(100000);
    params.deadline_ms = 2000;
    double start = hs_clock_ms();
    fake_runtime_pause();
    hs_stream *stream = test_complete(engine, "abc", &params);
    fake_runtime_step(3);
    while (hs_clock_ms() - start < 2000) {
        test_sleep_ms(10);
    }
    fake_runtime_resume();
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_ERROR);
    assert_int_equal(answer.error.status, HS_TIMEOUT);
    assert_in_range(answer.usage.completion_tokens, 3, 4);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_deadline_ends_a_queued_request(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 1);
    struct hs_generate_params params = test_params(20);
    fake_runtime_pause();
    hs_stream *running = test_complete(engine, "abc", &params);
    fake_runtime_wait_held();
    params.deadline_ms = 10;
    hs_stream *late = test_complete(engine, "late", &params);
    test_sleep_ms(15);
    fake_runtime_step(1);
    test_collect(late, &answer);
    assert_int_equal(answer.finish, HS_FINISH_ERROR);
    assert_int_equal(answer.error.status, HS_TIMEOUT);
    assert_int_equal(answer.usage.completion_tokens, 0);
    fake_runtime_resume();
    test_collect(running, &answer);
    test_expect(&answer, "abc", 20, 4096);
    hs_engine_free(engine);
    test_check_clean();
}

/* The worker sleeps: the deadline itself must wake it. */
static void a_deadline_ends_a_request_whose_reader_sleeps(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 1);
    struct hs_generate_params params = test_params(2000);
    params.deadline_ms = 500;
    params.stream_capacity = 8;
    hs_stream *stream = test_complete(engine, "abc", &params);
    test_wait_for(engine, 0, 0);
    test_collect(stream, &answer);
    assert_int_equal(answer.error.status, HS_TIMEOUT);
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- lagging readers ---- */

static void a_slow_reader_does_not_stall_the_others(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 2);
    struct hs_generate_params slow_params = test_params(300);
    slow_params.stream_capacity = 16;
    hs_stream *slow = test_complete(engine, "slow", &slow_params);
    test_run(engine, "quick", 500, &answer);
    assert_in_range(test_stats(engine).n_generated_tokens, 500 + 1, 500 + 16);
    test_collect(slow, &answer);
    test_expect(&answer, "slow", 300, 4096);
    assert_int_equal(answer.n_tokens, 300);
    hs_engine_free(engine);
    test_check_clean();
}

/* Its sequence is the only one: it must make way for who can use it, and come back whole. */
static void a_slow_reader_gives_up_its_sequence(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 4096, 1);
    struct hs_generate_params slow_params = test_params(300);
    slow_params.stream_capacity = 32;
    hs_stream *slow = test_complete(engine, "slow", &slow_params);
    test_run(engine, "quick", 500, &answer);
    test_collect(slow, &answer);
    test_expect(&answer, "slow", 300, 4096);
    struct fake_counters counters = test_counters();
    assert_true(counters.n_state_save >= 1);
    assert_true(counters.n_state_load >= 1);
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- failures ---- */

/* Every allocation of a whole request fails once: it is refused, ends in an error, or is right. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 2);
    int32_t tokens[64];
    size_t n = fake_tokenize("allocations fail here and there, at times", tokens);
    struct hs_generate_params params = test_params(100);
    params.n_logprobs = 2;
    int n_ok = 0;
    for (uint64_t i = 1; n_ok < 3 && i < 2000; i++) {
        hs_stream *stream = NULL;
        struct hs_error err;
        hs_mem_fail_after(i);
        hs_status status =
            hs_engine_complete(engine, "m", NULL, 0, tokens, n, &params, &stream, &err);
        if (status == HS_OK) {
            test_collect(stream, &answer);
            hs_mem_fail_after(0);
            if (answer.finish == HS_FINISH_ERROR) {
                assert_int_equal(answer.error.status, HS_OUT_OF_MEMORY);
            } else {
                n_ok++;
                test_expect(&answer, "allocations fail here and there, at times", 100, 512);
            }
        } else {
            hs_mem_fail_after(0);
            assert_int_equal(status, HS_OUT_OF_MEMORY);
        }
    }
    assert_int_equal(n_ok, 3);
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- the end of the engine ---- */

static void the_engine_can_go_while_requests_run(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.decode_us = 300});
    hs_engine *engine = test_engine(NULL, 4096, 2);
    struct hs_generate_params params = test_params(100000);
    hs_stream *streams[5];
    for (int i = 0; i < 5; i++) {
        streams[i] = test_complete(engine, "going", &params);
    }
    test_wait_for(engine, 2, 3);
    hs_engine_free(engine);
    for (int i = 0; i < 5; i++) {
        test_collect(streams[i], &answer);
        assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    }
    test_check_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_gives_the_formula),
        cmocka_unit_test(an_end_token_stops_and_is_counted),
        cmocka_unit_test(ignore_eos_goes_on),
        cmocka_unit_test(a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(clients_take_turns),
        cmocka_unit_test(requests_of_nobody_are_served_in_order),
        cmocka_unit_test(the_queue_takes_n_and_refuses_n_plus_one),
        cmocka_unit_test(a_client_gets_its_share_and_no_more),
        cmocka_unit_test(requests_start_in_order),
        cmocka_unit_test(cancelled_while_queued),
        cmocka_unit_test(cancelled_in_prefill_aborts_the_decode),
        cmocka_unit_test(cancelled_in_prefill_leaves_others_alone),
        cmocka_unit_test(cancelled_while_decoding_stops_within_a_step),
        cmocka_unit_test(slots_tell_what_each_sequence_does),
        cmocka_unit_test(cancelled_while_waiting_for_its_reader),
        cmocka_unit_test(a_freed_stream_cancels_its_request),
        cmocka_unit_test(a_deadline_ends_a_running_request),
        cmocka_unit_test(a_deadline_ends_a_queued_request),
        cmocka_unit_test(a_deadline_ends_a_request_whose_reader_sleeps),
        cmocka_unit_test(a_slow_reader_does_not_stall_the_others),
        cmocka_unit_test(a_slow_reader_gives_up_its_sequence),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(the_engine_can_go_while_requests_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
