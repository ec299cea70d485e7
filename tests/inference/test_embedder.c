/* Tests of embedder.c, embedder_step.c and embed_request.c: embeddings over the fake runtime. */
#include <math.h>
#include <unistd.h>

#include "engine_test.h"

#define N_CTX 64
#define N_SEQ 4

/* Input i of a request: `n` tokens that depend on i. */
static void make_tokens(int32_t *tokens, size_t n, size_t i)
{
    for (size_t t = 0; t < n; t++) {
        tokens[t] = (int32_t)((i * 31 + t * 7) % 200) + 1;
    }
}

#define MAX_INPUTS 600

/* Inputs of given lengths. */
struct inputs {
    int32_t tokens[MAX_INPUTS][N_CTX + 8];
    struct hs_embed_input list[MAX_INPUTS];
    size_t n;
};

static void add_input(struct inputs *inputs, size_t n_tokens)
{
    size_t i = inputs->n++;
    make_tokens(inputs->tokens[i], n_tokens, i);
    inputs->list[i] = (struct hs_embed_input){inputs->tokens[i], n_tokens};
}

static struct hs_embed_params raw_params(void)
{
    struct hs_embed_params params;
    hs_embed_params_defaults(&params);
    params.normalize = false;
    return params;
}

static hs_stream *embed(hs_engine *engine, const struct inputs *inputs,
                        const struct hs_embed_params *params)
{
    struct hs_error err;
    hs_stream *stream = NULL;
    if (hs_engine_embed(engine, "m", inputs->list, inputs->n, params, &stream, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return stream;
}

/* All events of a stream; every embedding is checked against the formula. Returns DONE. */
static struct hs_event collect(hs_stream *stream, const struct inputs *inputs)
{
    static bool seen[MAX_INPUTS];
    memset(seen, 0, sizeof seen);
    size_t n_seen = 0;
    struct hs_event event;
    while (true) {
        struct hs_error err;
        assert_int_equal(hs_stream_next(stream, 60000, &event, &err), HS_OK);
        if (event.type == HS_EVENT_DONE) {
            break;
        }
        assert_int_equal(event.type, HS_EVENT_EMBEDDING);
        size_t i = (size_t)event.index;
        assert_true(i < inputs->n && !seen[i]);
        seen[i] = true;
        n_seen++;
        float want[FAKE_N_EMBD];
        fake_embedding(inputs->list[i].tokens, inputs->list[i].n_tokens, want);
        assert_int_equal(event.n_values, FAKE_N_EMBD);
        assert_memory_equal(event.values, want, sizeof want);
        assert_string_equal(event.text, "");
    }
    assert_true(event.finish != HS_FINISH_STOP || n_seen == inputs->n);
    hs_stream_free(stream);
    return event;
}

static struct inputs one, two;

static hs_engine *start(const struct fake_config *config)
{
    fake_runtime_reset(config);
    one.n = two.n = 0;
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.max_queue = 2;
    return test_engine(&params, N_CTX, N_SEQ);
}

static void stop(hs_engine *engine)
{
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- what comes out ---- */

static void every_input_has_its_embedding(void **state)
{
    (void)state;
    static const struct fake_config configs[] = {
        {0}, {.embed_batch = 1}, {.embed_batch = 200}, {.embed_batch = 8, .embed_is_whole = true}};
    for (size_t c = 0; c < sizeof configs / sizeof configs[0]; c++) {
        hs_engine *engine = start(&configs[c]);
        size_t n_tokens = 0;
        for (size_t i = 0; i < 50; i++) {
            size_t n = 1 + i * 13 % N_CTX;
            n = i == 20 ? N_CTX : n;
            add_input(&one, n);
            n_tokens += n;
        }
        struct hs_embed_params params = raw_params();
        struct hs_event done = collect(embed(engine, &one, &params), &one);
        assert_int_equal(done.finish, HS_FINISH_STOP);
        assert_int_equal(done.usage.prompt_tokens, n_tokens);
        struct hs_model_stats stats = test_stats(engine);
        assert_int_equal(stats.n_embedded, 50);
        assert_int_equal(stats.n_embed_tokens, n_tokens);
        assert_int_equal(stats.n_embed_requests, 0);
        assert_int_equal(test_counters().n_items, n_tokens);
        stop(engine);
    }
}

static void short_inputs_share_a_batch(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.embed_batch = 16});
    for (size_t i = 0; i < 16; i++) {
        add_input(&one, 4);
    }
    struct hs_embed_params params = raw_params();
    collect(embed(engine, &one, &params), &one);
    assert_int_equal(test_counters().max_seqs, N_SEQ);
    assert_int_equal(test_counters().n_decode, 4);
    stop(engine);
}

static void values_are_cut_and_normalised(void **state)
{
    (void)state;
    hs_engine *engine = start(NULL);
    add_input(&one, 3);
    float all[FAKE_N_EMBD];
    fake_embedding(one.list[0].tokens, 3, all);
    for (int32_t n = 0; n <= FAKE_N_EMBD; n++) {
        struct hs_embed_params params;
        hs_embed_params_defaults(&params);
        params.dimensions = n;
        hs_stream *stream = embed(engine, &one, &params);
        struct hs_event event;
        struct hs_error err;
        assert_int_equal(hs_stream_next(stream, 60000, &event, &err), HS_OK);
        int32_t n_values = n == 0 ? FAKE_N_EMBD : n;
        assert_int_equal(event.n_values, n_values);
        double squares = 0;
        for (int32_t v = 0; v < n_values; v++) {
            squares += (double)all[v] * (double)all[v];
        }
        for (int32_t v = 0; v < n_values; v++) {
            double want = (double)all[v] / sqrt(squares);
            assert_true(fabs((double)event.values[v] - want) < 1e-6);
        }
        hs_stream_free(stream);
    }
    stop(engine);
}

/* ---- limits and errors ---- */

static hs_status refused(hs_engine *engine, const struct hs_embed_params *params,
                         struct hs_error *err)
{
    hs_stream *stream = NULL;
    hs_status status = hs_engine_embed(engine, "m", one.list, one.n, params, &stream, err);
    assert_null(stream);
    assert_int_equal(err->status, status);
    return status;
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    hs_engine *engine = start(NULL);
    struct hs_error err;
    struct hs_embed_params params = raw_params();
    assert_int_equal(refused(engine, &params, &err), HS_INVALID_ARGUMENT); /* no input */
    add_input(&one, N_CTX);
    add_input(&one, N_CTX + 1);
    assert_int_equal(refused(engine, &params, &err), HS_CONTEXT_FULL);
    assert_non_null(strstr(err.message, "input 1 has 65 tokens"));
    assert_non_null(strstr(err.message, "at most 64"));
    one.list[1].n_tokens = 0;
    assert_int_equal(refused(engine, &params, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "input 1"));
    one.list[1].n_tokens = 2;
    one.tokens[1][1] = FAKE_N_VOCAB;
    assert_int_equal(refused(engine, &params, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "input 1"));
    one.n = 1;
    params.dimensions = FAKE_N_EMBD + 1;
    assert_int_equal(refused(engine, &params, &err), HS_INVALID_ARGUMENT);
    params.dimensions = -1;
    assert_int_equal(refused(engine, &params, &err), HS_INVALID_ARGUMENT);
    params = raw_params();
    params.deadline_ms = -1;
    assert_int_equal(refused(engine, &params, &err), HS_INVALID_ARGUMENT);
    params = raw_params();
    params.rank = true;
    assert_int_equal(refused(engine, &params, &err), HS_NOT_SUPPORTED);
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_embed(engine, "x", one.list, 1, &params, &stream, &err),
                     HS_NOT_FOUND);
    stop(engine);
}

static void a_model_that_ranks_has_no_embeddings(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.is_ranker = true});
    struct hs_error err;
    struct hs_embed_params params = raw_params();
    add_input(&one, 3);
    assert_int_equal(refused(engine, &params, &err), HS_NOT_SUPPORTED);
    params.rank = true;
    collect(embed(engine, &one, &params), &one);
    struct hs_model_info info;
    assert_int_equal(hs_engine_model_info(engine, "m", &info, &err), HS_OK);
    assert_true(info.can_rank && info.can_generate);
    stop(engine);
}

static void a_long_input_is_cut_when_asked_for(void **state)
{
    (void)state;
    hs_engine *engine = start(NULL);
    add_input(&one, N_CTX + 5);
    two = one;
    two.tokens[0][N_CTX - 1] = one.tokens[0][N_CTX + 4]; /* the last one stays */
    two.list[0] = (struct hs_embed_input){two.tokens[0], N_CTX};
    struct hs_embed_params params = raw_params();
    params.truncate = true;
    struct hs_event done = collect(embed(engine, &one, &params), &two);
    assert_int_equal(done.usage.prompt_tokens, N_CTX);
    stop(engine);
}

static void nan_is_an_error_of_its_request_alone(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.nan_token = 255});
    for (size_t i = 0; i < 4; i++) {
        add_input(&one, 5);
        add_input(&two, 5);
    }
    one.tokens[2][3] = 255;
    struct hs_embed_params params = raw_params();
    fake_runtime_pause();
    hs_stream *bad = embed(engine, &one, &params);
    hs_stream *good = embed(engine, &two, &params);
    fake_runtime_resume();
    struct hs_event done = collect(bad, &one);
    assert_int_equal(done.finish, HS_FINISH_ERROR);
    assert_int_equal(done.error.status, HS_INTERNAL);
    assert_non_null(strstr(done.error.message, "input 2"));
    assert_int_equal(collect(good, &two).finish, HS_FINISH_STOP);
    stop(engine);
}

static void a_failed_batch_ends_its_requests(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.fail_decode = 1});
    add_input(&one, 5);
    struct hs_embed_params params = raw_params();
    struct hs_event done = collect(embed(engine, &one, &params), &one);
    assert_int_equal(done.finish, HS_FINISH_ERROR);
    assert_int_equal(done.error.status, HS_INTERNAL);
    assert_int_equal(collect(embed(engine, &one, &params), &one).finish, HS_FINISH_STOP);
    stop(engine);
}

/* ---- a queue, cancels, deadlines ---- */

/* Half of the two that may wait are one client's. */
static void a_client_gets_its_share(void **state)
{
    (void)state;
    hs_engine *engine = start(NULL);
    add_input(&one, 5);
    struct hs_embed_params params = raw_params();
    struct hs_error err;
    fake_runtime_pause();
    params.client = "a";
    hs_stream *streams[N_SEQ + 2];
    for (size_t i = 0; i < N_SEQ + 1; i++) {
        streams[i] = embed(engine, &one, &params);
    }
    assert_int_equal(refused(engine, &params, &err), HS_QUEUE_FULL);
    assert_non_null(strstr(err.message, "client 'a'"));
    params.client = "b";
    streams[N_SEQ + 1] = embed(engine, &one, &params);
    fake_runtime_resume();
    for (size_t i = 0; i < N_SEQ + 2; i++) {
        assert_int_equal(collect(streams[i], &one).finish, HS_FINISH_STOP);
    }
    stop(engine);
}

static void the_queue_has_a_limit(void **state)
{
    (void)state;
    hs_engine *engine = start(NULL); /* N_SEQ may run, two may wait */
    add_input(&one, 5);
    struct hs_embed_params params = raw_params();
    struct hs_error err;
    fake_runtime_pause();
    hs_stream *streams[N_SEQ + 2];
    for (size_t i = 0; i < N_SEQ + 2; i++) {
        streams[i] = embed(engine, &one, &params);
    }
    assert_int_equal(test_stats(engine).n_embed_requests, N_SEQ + 2);
    assert_int_equal(refused(engine, &params, &err), HS_QUEUE_FULL);
    assert_int_equal(hs_engine_unload_model(engine, "m", &err), HS_BUSY);
    fake_runtime_resume();
    for (size_t i = 0; i < N_SEQ + 2; i++) {
        assert_int_equal(collect(streams[i], &one).finish, HS_FINISH_STOP);
    }
    assert_int_equal(collect(embed(engine, &one, &params), &one).finish, HS_FINISH_STOP);
    assert_int_equal(hs_engine_unload_model(engine, "m", &err), HS_OK);
    stop(engine);
}

static void a_short_request_does_not_wait_for_a_long_one(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.embed_batch = 8});
    for (size_t i = 0; i < 100; i++) {
        add_input(&one, i % 2 == 0 ? N_CTX : 6);
    }
    add_input(&two, 3);
    struct hs_embed_params params = raw_params();
    fake_runtime_pause();
    hs_stream *long_one = embed(engine, &one, &params);
    fake_runtime_wait_held();
    hs_stream *short_one = embed(engine, &two, &params);
    fake_runtime_step(3); /* the batch under way, and at most two more */
    struct hs_event event;
    struct hs_error err;
    assert_int_equal(hs_stream_next(short_one, 0, &event, &err), HS_OK);
    assert_int_equal(event.type, HS_EVENT_EMBEDDING);
    fake_runtime_resume();
    hs_stream_free(short_one);
    assert_int_equal(collect(long_one, &one).finish, HS_FINISH_STOP);
    stop(engine);
}

static void a_long_input_goes_on_beside_many_short_ones(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.embed_batch = 8});
    for (size_t i = 0; i < MAX_INPUTS; i++) {
        add_input(&one, 6);
    }
    add_input(&two, N_CTX);
    struct hs_embed_params params = raw_params();
    fake_runtime_pause();
    hs_stream *many = embed(engine, &one, &params);
    hs_stream *single = embed(engine, &two, &params);
    fake_runtime_resume();
    assert_int_equal(collect(single, &two).finish, HS_FINISH_STOP);
    /* its parts are at least half a batch each: it cannot have waited for all the others */
    assert_true(test_stats(engine).n_embed_requests == 1);
    assert_int_equal(collect(many, &one).finish, HS_FINISH_STOP);
    stop(engine);
}

static void a_cancelled_request_leaves_at_once(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.embed_batch = 8});
    add_input(&one, N_CTX);
    add_input(&two, 5);
    struct hs_embed_params params = raw_params();
    fake_runtime_pause();
    hs_stream *running = embed(engine, &one, &params);
    fake_runtime_wait_held();
    hs_stream_cancel(running); /* the batch under way is given up */
    assert_int_equal(collect(running, &one).finish, HS_FINISH_CANCELLED);
    assert_int_equal(test_counters().n_aborted, 1);
    running = embed(engine, &one, &params);
    hs_stream *waiting = embed(engine, &two, &params);
    fake_runtime_wait_held();
    hs_stream_cancel(waiting);
    fake_runtime_resume();
    assert_int_equal(collect(running, &one).finish, HS_FINISH_STOP);
    assert_int_equal(collect(waiting, &two).finish, HS_FINISH_CANCELLED);
    hs_stream_free(embed(engine, &one, &params)); /* nobody reads it */
    stop(engine);
}

static void a_deadline_ends_a_request(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.embed_batch = 8, .decode_us = 20000});
    for (size_t i = 0; i < 100; i++) {
        add_input(&one, N_CTX);
    }
    struct hs_embed_params params = raw_params();
    params.deadline_ms = 50;
    struct hs_event done = collect(embed(engine, &one, &params), &one);
    assert_int_equal(done.finish, HS_FINISH_ERROR);
    assert_int_equal(done.error.status, HS_TIMEOUT);
    stop(engine);
}

static void a_reader_that_lags_stops_nobody_else(void **state)
{
    (void)state;
    hs_engine *engine = start(NULL);
    for (size_t i = 0; i < MAX_INPUTS; i++) { /* more than a stream holds */
        add_input(&one, 2);
    }
    for (size_t i = 0; i < 20; i++) {
        add_input(&two, 7);
    }
    struct hs_embed_params params = raw_params();
    hs_stream *lagging = embed(engine, &one, &params);
    assert_int_equal(collect(embed(engine, &two, &params), &two).finish, HS_FINISH_STOP);
    assert_int_equal(collect(lagging, &one).finish, HS_FINISH_STOP);
    /* a deadline comes while nobody reads */
    params.deadline_ms = 30;
    lagging = embed(engine, &one, &params);
    while (test_stats(engine).n_embed_requests > 0) {
        usleep(500);
    }
    assert_int_equal(collect(lagging, &one).error.status, HS_TIMEOUT);
    stop(engine);
}

static void freeing_the_engine_cancels(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.embed_batch = 8, .decode_us = 1000});
    for (size_t i = 0; i < 500; i++) {
        add_input(&one, N_CTX);
    }
    struct hs_embed_params params = raw_params();
    hs_stream *stream = embed(engine, &one, &params);
    hs_engine_free(engine);
    assert_int_equal(collect(stream, &one).finish, HS_FINISH_CANCELLED);
    test_check_clean();
}

/* ---- the context ---- */

static void the_context_is_made_with_the_first_request(void **state)
{
    (void)state;
    hs_engine *engine = start(
        &(struct fake_config){.kv_bytes_per_token = 10, .compute_bytes = 1000, .weights_bytes = 7});
    struct hs_model_info before, after;
    struct hs_error err;
    assert_int_equal(hs_engine_model_info(engine, "m", &before, &err), HS_OK);
    assert_int_equal(before.n_embedding, FAKE_N_EMBD);
    assert_int_equal(test_counters().n_contexts, 1);
    add_input(&one, 3);
    struct hs_embed_params params = raw_params();
    collect(embed(engine, &one, &params), &one);
    assert_int_equal(test_counters().n_contexts, 2);
    assert_int_equal(hs_engine_model_info(engine, "m", &after, &err), HS_OK);
    assert_int_equal(after.memory.weights_bytes, before.memory.weights_bytes);
    assert_int_equal(after.memory.kv_bytes - before.memory.kv_bytes, 10 * (N_CTX + 16));
    assert_int_equal(after.memory.compute_bytes - before.memory.compute_bytes, 1000);
    stop(engine);
}

static void a_model_that_does_not_generate_embeds(void **state)
{
    (void)state;
    hs_engine *engine = start(&(struct fake_config){.generates_nothing = true});
    struct hs_error err;
    struct hs_model_info info;
    assert_int_equal(hs_engine_model_info(engine, "m", &info, &err), HS_OK);
    assert_false(info.can_generate);
    struct hs_message message = {.role = "user", .content = "Hi"};
    struct hs_generate_params generate = test_params(5);
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, &message, 1, &generate, &stream, &err),
                     HS_UNSUPPORTED_MODEL);
    assert_non_null(strstr(err.hint, "/v1/embeddings"));
    assert_int_equal(
        hs_engine_complete(engine, "m", NULL, 0, &(int32_t){65}, 1, &generate, &stream, &err),
        HS_UNSUPPORTED_MODEL);
    struct hs_session_params session;
    char id[HS_ID_MAX];
    hs_session_params_defaults(&session);
    session.model_id = "m";
    assert_int_equal(hs_engine_create_session(engine, &session, id, &err), HS_UNSUPPORTED_MODEL);
    add_input(&one, N_CTX);
    struct hs_embed_params params = raw_params();
    assert_int_equal(collect(embed(engine, &one, &params), &one).finish, HS_FINISH_STOP);
    assert_int_equal(test_stats(engine).n_running, 0);
    assert_int_equal(hs_engine_unload_model(engine, "m", &err), HS_OK);
    stop(engine);
}

static void without_memory_nothing_is_left_behind(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        hs_engine *engine = start(NULL);
        add_input(&one, 20);
        add_input(&one, 3);
        struct hs_embed_params params = raw_params();
        struct hs_error err;
        hs_stream *stream = NULL;
        hs_mem_fail_after(n);
        hs_status status = hs_engine_embed(engine, "m", one.list, one.n, &params, &stream, &err);
        bool is_over = false;
        if (status == HS_OK) {
            struct hs_event event = {0};
            while (event.type != HS_EVENT_DONE) {
                assert_int_equal(hs_stream_next(stream, 60000, &event, &err), HS_OK);
            }
            is_over = event.finish == HS_FINISH_STOP;
            assert_true(is_over || event.error.status == HS_OUT_OF_MEMORY);
            hs_stream_free(stream);
        } else {
            assert_int_equal(status, HS_OUT_OF_MEMORY);
        }
        hs_mem_fail_after(0);
        stop(engine);
        if (is_over) {
            assert_true(n > 10);
            return;
        }
    }
}

static void chats_and_embeddings_run_together(void **state)
{
    (void)state;
    hs_engine *engine = start(NULL);
    for (size_t i = 0; i < 40; i++) {
        add_input(&one, 1 + i % N_CTX);
    }
    struct hs_embed_params params = raw_params();
    struct hs_generate_params generate = test_params(30);
    for (int round = 0; round < 10; round++) {
        hs_stream *embedding = embed(engine, &one, &params);
        hs_stream *chat = test_complete(engine, "hello", &generate);
        static struct answer answer;
        test_collect(chat, &answer);
        test_expect(&answer, "hello", 30, N_CTX);
        assert_int_equal(collect(embedding, &one).finish, HS_FINISH_STOP);
    }
    stop(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_input_has_its_embedding),
        cmocka_unit_test(short_inputs_share_a_batch),
        cmocka_unit_test(values_are_cut_and_normalised),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_model_that_ranks_has_no_embeddings),
        cmocka_unit_test(a_long_input_is_cut_when_asked_for),
        cmocka_unit_test(nan_is_an_error_of_its_request_alone),
        cmocka_unit_test(a_failed_batch_ends_its_requests),
        cmocka_unit_test(the_queue_has_a_limit),
        cmocka_unit_test(a_client_gets_its_share),
        cmocka_unit_test(a_short_request_does_not_wait_for_a_long_one),
        cmocka_unit_test(a_long_input_goes_on_beside_many_short_ones),
        cmocka_unit_test(a_cancelled_request_leaves_at_once),
        cmocka_unit_test(a_deadline_ends_a_request),
        cmocka_unit_test(a_reader_that_lags_stops_nobody_else),
        cmocka_unit_test(freeing_the_engine_cancels),
        cmocka_unit_test(the_context_is_made_with_the_first_request),
        cmocka_unit_test(a_model_that_does_not_generate_embeds),
        cmocka_unit_test(without_memory_nothing_is_left_behind),
        cmocka_unit_test(chats_and_embeddings_run_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
