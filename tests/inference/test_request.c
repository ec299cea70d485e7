/* One generation by itself: what is asked for is checked, text becomes events, ends are kept. */
#include "engine_test.h"

#include "request.h"

static struct hs_error err;

/* A model as the loader makes it, on the fake runtime. */
static struct hs_model *make_model(void)
{
    static struct hs_model model;
    struct hs_model_params params;
    memset(&model, 0, sizeof(model));
    hs_model_params_defaults(&params);
    fake_runtime_reset(NULL);
    model.rt = fake_runtime();
    assert_int_equal(model.rt->model_load("", &params, &model.rt_model, &err), HS_OK);
    model.info.n_ctx = 512;
    model.info.n_vocab = FAKE_N_VOCAB;
    model.rt->model_info(model.rt_model, &model.rt_info);
    return &model;
}

static void drop_model(struct hs_model *model)
{
    model->rt->model_free(model->rt_model);
    test_check_clean();
}

static struct hs_request *make_request(const struct hs_model *model,
                                       const struct hs_generate_params *params, hs_stream **stream)
{
    struct hs_request *request = NULL;
    int32_t *tokens = hs_alloc(3 * sizeof(tokens[0]));
    memcpy(tokens, (const int32_t[]){FAKE_BOS, 'h', 'i'}, 3 * sizeof(tokens[0]));
    assert_int_equal(hs_request_new(model, params, NULL, NULL, &request, &err), HS_OK);
    assert_int_equal(hs_request_set_prompt(request, tokens, 3, &err), HS_OK);
    assert_int_equal(hs_request_open_stream(request, 64, NULL, NULL, stream, &err), HS_OK);
    return request;
}

static void what_is_asked_for_is_checked(void **state)
{
    (void)state;
    static const char *const stop[] = {"x"};
    struct hs_generate_params params = test_params(5);
    assert_int_equal(hs_generate_params_check(&params, &err), HS_OK);
    params.n_logprobs = HS_LOGPROBS_MAX;
    assert_int_equal(hs_generate_params_check(&params, &err), HS_OK);
    params.n_logprobs = HS_LOGPROBS_MAX + 1;
    assert_int_equal(hs_generate_params_check(&params, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "n_logprobs"));
    params.n_logprobs = -1;
    assert_int_equal(hs_generate_params_check(&params, &err), HS_INVALID_ARGUMENT);
    params = test_params(5);
    params.deadline_ms = -1;
    assert_int_equal(hs_generate_params_check(&params, &err), HS_INVALID_ARGUMENT);
    params = test_params(5);
    params.n_stop = 1;
    assert_int_equal(hs_generate_params_check(&params, &err), HS_INVALID_ARGUMENT);
    params.stop = stop;
    assert_int_equal(hs_generate_params_check(&params, &err), HS_OK);
    params.overflow = (enum hs_overflow)99;
    assert_int_equal(hs_generate_params_check(&params, &err), HS_INVALID_ARGUMENT);
}

/* Read the next event, which must be this text. */
static void expect_text(hs_stream *stream, const char *text)
{
    struct hs_event event;
    assert_int_equal(hs_stream_next(stream, 0, &event, &err), HS_OK);
    assert_int_equal(event.type, HS_EVENT_TEXT);
    assert_string_equal(event.text, text);
}

static void emit(struct hs_request *request, int32_t token, bool stops)
{
    bool is_stopped = false;
    assert_int_equal(hs_request_push_token(request, token), HS_OK);
    assert_int_equal(hs_request_emit(request, token, NULL, &is_stopped), HS_OK);
    assert_true(is_stopped == stops);
}

/* Half a code point is held back, and so is what may become a stop string. */
static void tokens_become_text(void **state)
{
    (void)state;
    static const char *const stop[] = {"END"};
    struct hs_model *model = make_model();
    struct hs_generate_params params = test_params(100);
    params.stop = stop;
    params.n_stop = 1;
    hs_stream *stream = NULL;
    struct hs_event event;
    struct hs_request *request = make_request(model, &params, &stream);
    emit(request, 'a', false);
    expect_text(stream, "a");
    emit(request, 0xC3, false);
    assert_int_equal(hs_stream_next(stream, 0, &event, &err), HS_TIMEOUT);
    emit(request, 0xA4, false);
    expect_text(stream, "\xC3\xA4");
    emit(request, 'E', false);
    emit(request, 'N', false);
    assert_int_equal(hs_stream_next(stream, 0, &event, &err), HS_TIMEOUT);
    emit(request, 'x', false);
    expect_text(stream, "ENx");
    emit(request, 'E', false);
    emit(request, 'N', false);
    emit(request, 'D', true);
    assert_int_equal(request->n_tokens, 3 + 9);
    assert_int_equal(request->n_prompt, 3);
    hs_request_mark(request, HS_FINISH_STOP);
    hs_request_complete(request);
    assert_int_equal(hs_stream_next(stream, 0, &event, &err), HS_OK);
    assert_int_equal(event.type, HS_EVENT_DONE);
    assert_int_equal(event.finish, HS_FINISH_STOP);
    hs_stream_free(stream);
    drop_model(model);
}

/* An end flushes what was held back. */
static void what_is_held_back_leaves_at_the_end(void **state)
{
    (void)state;
    static const char *const stop[] = {"END"};
    struct hs_model *model = make_model();
    struct hs_generate_params params = test_params(100);
    params.stop = stop;
    params.n_stop = 1;
    hs_stream *stream = NULL;
    struct hs_request *request = make_request(model, &params, &stream);
    emit(request, 'E', false);
    emit(request, 'N', false);
    assert_int_equal(hs_request_flush(request), HS_OK);
    expect_text(stream, "EN");
    hs_request_mark(request, HS_FINISH_LENGTH);
    hs_request_complete(request);
    hs_stream_free(stream);
    drop_model(model);
}

static void the_first_end_counts(void **state)
{
    (void)state;
    struct hs_model *model = make_model();
    struct hs_generate_params params = test_params(1);
    hs_stream *stream = NULL;
    struct hs_request *request = make_request(model, &params, &stream);
    hs_request_mark(request, HS_FINISH_LENGTH);
    hs_request_mark(request, HS_FINISH_CANCELLED);
    assert_int_equal(request->finish, HS_FINISH_LENGTH);
    hs_request_complete(request);
    hs_stream_free(stream);
    drop_model(model);
}

static void wrong_prompts_are_refused(void **state)
{
    (void)state;
    struct hs_model *model = make_model();
    struct hs_generate_params params = test_params(1);
    struct hs_request *request = NULL;
    assert_int_equal(hs_request_new(model, &params, NULL, NULL, &request, &err), HS_OK);
    int32_t *tokens = hs_alloc(sizeof(tokens[0]));
    tokens[0] = FAKE_N_VOCAB; /* taken over, also when it fails */
    assert_int_equal(hs_request_set_prompt(request, tokens, 1, &err), HS_INVALID_ARGUMENT);
    hs_request_free(request);
    drop_model(model);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct hs_model *model = make_model();
    struct hs_generate_params params = test_params(1);
    for (uint64_t nth = 1;; nth++) {
        struct hs_request *request = NULL;
        hs_mem_fail_after(nth);
        hs_status status = hs_request_new(model, &params, NULL, NULL, &request, &err);
        hs_mem_fail_after(0);
        hs_request_free(request);
        if (status == HS_OK) {
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
        assert_null(request);
    }
    drop_model(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_is_checked),
        cmocka_unit_test(tokens_become_text),
        cmocka_unit_test(what_is_held_back_leaves_at_the_end),
        cmocka_unit_test(the_first_end_counts),
        cmocka_unit_test(wrong_prompts_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
