/* The public entry points: loading and its refusals, ids, what is busy, what is not supported. */
#include "engine_test.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "model_loader.h"
#include "tiny_gguf.h"

static struct answer answer;
static struct hs_error err;

static hs_engine *bare_engine(void)
{
    hs_engine *engine = NULL;
    assert_int_equal(hs_engine_create_with_runtime(NULL, fake_runtime(), &engine, &err), HS_OK);
    return engine;
}

static hs_status load(hs_engine *engine, const char *path, const char *id,
                      const struct hs_model_params *params)
{
    char got[HS_ID_MAX];
    return hs_engine_load_model(engine, path, id, params, got, &err);
}

static void engine_parameters_are_checked(void **state)
{
    (void)state;
    hs_engine *engine = NULL;
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.max_queue = -1;
    assert_int_equal(hs_engine_create_with_runtime(&params, fake_runtime(), &engine, &err),
                     HS_INVALID_ARGUMENT);
    hs_engine_params_defaults(&params);
    params.prefill_ms = -2;
    assert_int_equal(hs_engine_create_with_runtime(&params, fake_runtime(), &engine, &err),
                     HS_INVALID_ARGUMENT);
    hs_engine_params_defaults(&params);
    params.prefill_chunk = -1;
    assert_int_equal(hs_engine_create_with_runtime(&params, fake_runtime(), &engine, &err),
                     HS_INVALID_ARGUMENT);
    hs_engine_free(NULL);
}

static void a_model_gets_the_files_stem_as_id(void **state)
{
    (void)state;
    char id[HS_ID_MAX];
    assert_int_equal(hs_model_id_from_path("/a/b/model-7B.Q4_1.gguf", id, &err), HS_OK);
    assert_string_equal(id, "model-7B.Q4_1");
    assert_int_equal(hs_model_id_from_path("plain", id, &err), HS_OK);
    assert_string_equal(id, "plain");
    assert_int_equal(hs_model_id_from_path("/a/", id, &err), HS_INVALID_ARGUMENT);
    char name[HS_ID_MAX + 8];
    memset(name, 'x', sizeof(name));
    snprintf(name + HS_ID_MAX - 1, 8, ".gguf");
    assert_int_equal(hs_model_id_from_path(name, id, &err), HS_OK);
    snprintf(name + HS_ID_MAX, 8, ".gguf");
    name[HS_ID_MAX - 1] = 'x';
    assert_int_equal(hs_model_id_from_path(name, id, &err), HS_INVALID_ARGUMENT);
}

static void ids_are_unique_and_free_again_after_unloading(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = bare_engine();
    char got[HS_ID_MAX] = "";
    assert_int_equal(hs_engine_load_model(engine, test_model_path(), NULL, NULL, got, &err), HS_OK);
    assert_int_equal(strncmp(got, "engine-", 7), 0);
    assert_int_equal(load(engine, test_model_path(), NULL, NULL), HS_ALREADY_EXISTS);
    assert_int_equal(load(engine, test_model_path(), "b", NULL), HS_OK);
    assert_int_equal(load(engine, test_model_path(), "", NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(load(engine, NULL, "c", NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_engine_unload_model(engine, got, &err), HS_OK);
    assert_int_equal(hs_engine_unload_model(engine, got, &err), HS_NOT_FOUND);
    assert_int_equal(load(engine, test_model_path(), got, NULL), HS_OK);
    hs_engine_free(engine);
    test_check_clean();
}

static void the_figures_of_a_worker(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 2);
    test_run(engine, "figures", 10, &answer);
    struct hs_model_stats stats = test_stats(engine);
    assert_int_equal(stats.n_running, 0);
    assert_int_equal(stats.n_queued, 0);
    assert_int_equal(stats.n_prompt_tokens, 7);
    assert_int_equal(stats.n_generated_tokens, 10);
    assert_int_equal(stats.n_decode_calls, 10);
    assert_int_equal(stats.n_kv_used, 16); /* the last token was not evaluated */
    test_run(engine, "figures", 10, &answer);
    stats = test_stats(engine);
    assert_int_equal(stats.n_cached_tokens, 6);
    assert_int_equal(stats.n_prompt_tokens, 8);
    hs_engine_free(engine);
    test_check_clean();
}

static int n_warnings;

static void count_warnings(enum hs_log_level level, const char *component, const char *request_id,
                           const char *message, void *user)
{
    (void)component;
    (void)request_id;
    (void)user;
    n_warnings += level == HS_LOG_WARN && strstr(message, "chat template") != NULL;
}

static void a_model_without_template_is_warned_of_once(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.has_no_template = true});
    n_warnings = 0;
    hs_log_set_sink(count_warnings, NULL);
    hs_engine *engine = test_engine(NULL, 512, 2);
    struct hs_message message = {.role = "user", .content = "hi"};
    struct hs_generate_params params = test_params(3);
    for (int i = 0; i < 3; i++) {
        hs_stream *stream = NULL;
        assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, &message, 1, &params, &stream, &err),
                         HS_OK);
        test_collect(stream, &answer);
    }
    hs_engine_free(engine);
    hs_log_set_sink(NULL, NULL);
    assert_int_equal(n_warnings, 1);
    test_check_clean();
}

static void nothing_is_done_for_models_that_are_not_there(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 2);
    struct hs_generate_params params = test_params(3);
    struct hs_message message = {.role = "user", .content = "hi"};
    int32_t token = 1;
    hs_stream *stream = NULL;
    struct hs_model_info info;
    struct hs_model_stats stats;
    char id[HS_ID_MAX];
    char *text = NULL;
    size_t len = 0;
    int32_t *tokens = NULL;
    struct hs_session_params session;
    hs_session_params_defaults(&session);
    assert_int_equal(hs_engine_create_session(engine, &session, id, &err), HS_INVALID_ARGUMENT);
    session.model_id = "x";
    assert_int_equal(hs_engine_create_session(engine, &session, id, &err), HS_NOT_FOUND);
    assert_int_equal(hs_engine_chat(engine, "x", NULL, 0, &message, 1, &params, &stream, &err),
                     HS_NOT_FOUND);
    assert_int_equal(hs_engine_complete(engine, "x", NULL, 0, &token, 1, &params, &stream, &err),
                     HS_NOT_FOUND);
    assert_int_equal(hs_engine_generate(engine, "x", "hi", &params, &stream, &err), HS_NOT_FOUND);
    assert_int_equal(hs_engine_model_info(engine, "x", &info, &err), HS_NOT_FOUND);
    assert_int_equal(hs_engine_model_stats(engine, "x", &stats, &err), HS_NOT_FOUND);
    assert_int_equal(hs_engine_tokenize(engine, "x", "a", 1, true, true, &tokens, &len, &err),
                     HS_NOT_FOUND);
    assert_int_equal(hs_engine_detokenize(engine, "x", &token, 1, true, &text, &len, &err),
                     HS_NOT_FOUND);
    assert_int_equal(hs_engine_render(engine, "x", &message, 1, &params, &text, &len, &err),
                     HS_NOT_FOUND);
    assert_int_equal(hs_session_message_count(engine, "x", &len, &err), HS_NOT_FOUND);
    assert_int_equal(hs_session_truncate(engine, "x", 0, &err), HS_NOT_FOUND);
    assert_int_equal(hs_session_set_system(engine, "x", "s", &err), HS_NOT_FOUND);
    assert_int_equal(hs_engine_close_session(engine, "x", &err), HS_NOT_FOUND);
    hs_engine_free(engine);
    test_check_clean();
}

static void adapters_must_be_registered(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 2);
    struct hs_adapter_ref adapter = {.name = "style", .scale = 1};
    struct hs_generate_params params = test_params(3);
    struct hs_message message = {.role = "user", .content = "hi"};
    int32_t token = 1;
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(engine, "m", &adapter, 1, &message, 1, &params, &stream, &err),
                     HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "'style'"));
    assert_true(err.hint[0] != '\0');
    assert_int_equal(
        hs_engine_complete(engine, "m", &adapter, 1, &token, 1, &params, &stream, &err),
        HS_NOT_FOUND);
    struct hs_session_params session;
    hs_session_params_defaults(&session);
    session.model_id = "m";
    session.adapters = &adapter;
    session.n_adapters = 1;
    char id[HS_ID_MAX];
    assert_int_equal(hs_engine_create_session(engine, &session, id, &err), HS_NOT_FOUND);
    session.n_adapters = 0;
    assert_int_equal(hs_engine_create_session(engine, &session, id, &err), HS_OK);
    assert_int_equal(hs_engine_apply_lora_weights(engine, id, &adapter, 1, &err), HS_NOT_FOUND);
    assert_int_equal(hs_engine_apply_lora_weights(engine, "x", &adapter, 1, &err), HS_NOT_FOUND);
    hs_engine_free(engine);
    test_check_clean();
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 2);
    hs_stream *stream = NULL;
    int32_t tokens[] = {1, FAKE_N_VOCAB - 1, FAKE_N_VOCAB, -1};
    const char *empty_stop[] = {""};
    struct hs_generate_params good = test_params(3);
    struct hs_generate_params params;
#define REFUSED(field, value)                                                                      \
    params = good;                                                                                 \
    params.field = value;                                                                          \
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 2, &params, &stream, &err),  \
                     HS_INVALID_ARGUMENT)
    REFUSED(n_logprobs, 21);
    REFUSED(n_logprobs, -1);
    REFUSED(deadline_ms, -1);
    REFUSED(n_stop, 1);
    REFUSED(stream_capacity, -1);
    REFUSED(overflow, (enum hs_overflow)7);
    REFUSED(sampling.top_p, 1.5f);
#undef REFUSED
    params = good;
    params.stop = empty_stop;
    params.n_stop = 1;
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 2, &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 3, &good, &stream, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens + 3, 1, &good, &stream, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 0, &good, &stream, &err),
                     HS_INVALID_ARGUMENT);
    struct hs_message message = {.role = "user", .content = NULL};
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, &message, 1, &good, &stream, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, NULL, 0, &good, &stream, &err),
                     HS_INVALID_ARGUMENT);
    message = (struct hs_message){.role = "bad", .content = "x"};
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, &message, 1, &good, &stream, &err),
                     HS_INVALID_ARGUMENT);
    static const struct hs_message bad[] = {
        {.role = NULL, .content = "x"},
        {.role = "", .content = "x"},
        {.role = "user", .content = NULL},
        {.role = "us\xff", .content = "x"},
        {.role = "user", .content = "caf\xe9"},
        {.role = "assistant", .content = "x", .reasoning = "\xc3"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hs_message two[] = {{.role = "user", .content = "x"}, bad[i]};
        char *text = NULL;
        size_t len = 0;
        assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, two, 2, &good, &stream, &err),
                         HS_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "message 1"));
        assert_int_equal(hs_engine_render(engine, "m", two, 2, &params, &text, &len, &err),
                         HS_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "message 1"));
    }
    params = good;
    params.n_logprobs = 20;
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 2, &params, &stream, &err),
                     HS_OK);
    test_collect(stream, &answer);
    hs_engine_free(engine);
    test_check_clean();
}

static void text_becomes_tokens_and_text_again(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 2);
    int32_t *tokens = NULL;
    size_t n = 0;
    assert_int_equal(hs_engine_tokenize(engine, "m", "a<|end|>", 8, true, true, &tokens, &n, &err),
                     HS_OK);
    assert_int_equal(n, 3);
    assert_int_equal(tokens[0], FAKE_BOS);
    assert_int_equal(tokens[2], FAKE_EOG);
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(hs_engine_detokenize(engine, "m", tokens + 1, 2, true, &text, &len, &err),
                     HS_OK);
    assert_string_equal(text, "a<|end|>");
    assert_int_equal(len, 8);
    hs_text_free(text);
    tokens[1] = FAKE_N_VOCAB;
    assert_int_equal(hs_engine_detokenize(engine, "m", tokens, 3, true, &text, &len, &err),
                     HS_INVALID_ARGUMENT);
    hs_tokens_free(tokens);
    assert_int_equal(hs_engine_tokenize(engine, "m", "", 0, false, true, &tokens, &n, &err), HS_OK);
    assert_int_equal(n, 0);
    hs_tokens_free(tokens);
    hs_tokens_free(NULL);
    hs_text_free(NULL);
    struct hs_message message = {.role = "user", .content = "hi"};
    struct hs_generate_params params = test_params(1);
    assert_int_equal(hs_engine_render(engine, "m", &message, 1, &params, &text, &len, &err), HS_OK);
    assert_string_equal(text, "[user]hi\n<|gen|>");
    hs_text_free(text);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_model_in_use_is_not_unloaded(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = test_engine(NULL, 512, 2);
    struct hs_generate_params params = test_params(5);
    fake_runtime_pause();
    hs_stream *stream = test_complete(engine, "busy", &params);
    assert_int_equal(hs_engine_unload_model(engine, "m", &err), HS_BUSY);
    assert_true(err.hint[0] != '\0');
    fake_runtime_resume();
    test_collect(stream, &answer);
    test_expect(&answer, "busy", 5, 512);
    assert_int_equal(hs_engine_unload_model(engine, "m", &err), HS_OK);
    test_check_clean();
    hs_engine_free(engine);
}

/* Threads load, ask, look and unload at once; cmocka's asserts stay on the main thread. */
static void *hammer(void *arg)
{
    hs_engine *engine = arg;
    for (int i = 0; i < 20; i++) {
        struct hs_error error;
        char id[HS_ID_MAX];
        struct hs_model_stats stats;
        (void)!hs_engine_load_model(engine, test_model_path(), "h", NULL, id, &error);
        (void)!hs_engine_model_stats(engine, "h", &stats, &error);
        int32_t tokens[] = {1, 2, 3};
        struct hs_generate_params params = test_params(4);
        hs_stream *stream = NULL;
        if (hs_engine_complete(engine, "h", NULL, 0, tokens, 3, &params, &stream, &error) ==
            HS_OK) {
            struct hs_event event;
            while (hs_stream_next(stream, 60000, &event, &error) == HS_OK) {
            }
            hs_stream_free(stream);
        }
        (void)!hs_engine_unload_model(engine, "h", &error);
    }
    return NULL;
}

static void threads_may_do_everything_at_once(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    test_model_path();
    hs_engine *engine = bare_engine();
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, engine), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
    }
    hs_engine_free(engine);
    test_check_clean();
}

static void prompts_at_their_limit(void **state)
{
    (void)state;
    hs_engine *engine = test_engine(NULL, 256, 2);
    struct hs_generate_params params = test_params(1);
    const int32_t tokens[] = {'a', 'b', 'c', 'd'};
    hs_stream *stream = NULL;
    params.max_prompt_tokens = 3;
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 4, &params, &stream, &err),
                     HS_CONTEXT_FULL);
    assert_non_null(strstr(err.message, "4 tokens; at most 3"));
    assert_int_equal(hs_engine_complete(engine, "m", NULL, 0, tokens, 3, &params, &stream, &err),
                     HS_OK);
    test_collect(stream, &answer);
    assert_int_equal(answer.usage.prompt_tokens, 3);
    hs_engine_free(engine);
    test_check_clean();
}

/* Each request that ended is in the log before its reader knows that it has. */
static void requests_that_ended_are_recorded(void **state)
{
    (void)state;
    hs_engine *engine = test_engine(NULL, 256, 4);
    struct hs_generate_params params = test_params(5);
    struct hs_request_record records[4];
    struct answer whole;
    size_t n;
    params.client = "ann";
    params.tag = "t1";
    test_collect(test_complete(engine, "abc", &params), &whole);
    assert_int_equal(hs_engine_requests(engine, 0, records, 4, &n, NULL), HS_OK);
    assert_int_equal(n, 1);
    assert_int_equal(records[0].number, 1);
    assert_string_equal(records[0].model_id, "m");
    assert_string_equal(records[0].client, "ann");
    assert_string_equal(records[0].tag, "t1");
    assert_string_equal(records[0].adapters, "");
    assert_int_equal(records[0].finish, whole.finish);
    assert_int_equal(records[0].usage.prompt_tokens, whole.usage.prompt_tokens);
    assert_int_equal(records[0].usage.completion_tokens, whole.usage.completion_tokens);
    assert_true(records[0].started_unix_ms > 0 && records[0].total_ms >= 0);
    hs_stream *stream = test_complete(engine, "abc", &params);
    hs_stream_cancel(stream);
    test_collect(stream, &whole);
    assert_int_equal(hs_engine_requests(engine, 1, records, 4, &n, NULL), HS_OK);
    assert_int_equal(n, 1);
    assert_int_equal(records[0].finish, whole.finish);
    hs_engine_free(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine_parameters_are_checked),
        cmocka_unit_test(a_model_gets_the_files_stem_as_id),
        cmocka_unit_test(prompts_at_their_limit),
        cmocka_unit_test(ids_are_unique_and_free_again_after_unloading),
        cmocka_unit_test(the_figures_of_a_worker),
        cmocka_unit_test(a_model_without_template_is_warned_of_once),
        cmocka_unit_test(nothing_is_done_for_models_that_are_not_there),
        cmocka_unit_test(adapters_must_be_registered),
        cmocka_unit_test(wrong_requests_are_refused),
        cmocka_unit_test(text_becomes_tokens_and_text_again),
        cmocka_unit_test(a_model_in_use_is_not_unloaded),
        cmocka_unit_test(threads_may_do_everything_at_once),
        cmocka_unit_test(requests_that_ended_are_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
