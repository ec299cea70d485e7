#include "engine_test.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "tiny_gguf.h"

const char *test_model_path(void)
{
    static char path[256];
    if (path[0] == '\0') {
        struct hs_error err;
        assert_int_equal(hs_fs_mkdir_p(HS_TEST_TMP, &err), HS_OK);
        snprintf(path, sizeof(path), "%s/engine-%d.gguf", HS_TEST_TMP, (int)getpid());
        struct tiny_gguf_spec spec;
        tiny_gguf_defaults(&spec);
        assert_true(tiny_gguf_write(&spec, path));
    }
    return path;
}

__attribute__((destructor)) static void remove_model(void)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/engine-%d.gguf", HS_TEST_TMP, (int)getpid());
    unlink(path);
}

char *test_dir_make(void)
{
    struct hs_error err;
    assert_int_equal(hs_fs_mkdir_p(HS_TEST_TMP, &err), HS_OK);
    char *dir = hs_asprintf("%s/sessions-XXXXXX", HS_TEST_TMP);
    assert_non_null(dir);
    assert_non_null(mkdtemp(dir));
    return dir;
}

void test_dir_remove(char *dir)
{
    struct hs_error err;
    assert_int_equal(hs_fs_remove_all(dir, &err), HS_OK);
    hs_free(dir);
}

hs_engine *test_engine_model(const struct hs_engine_params *params,
                             const struct hs_model_params *model)
{
    struct hs_error err = {0};
    hs_engine *engine = NULL;
    char id[HS_ID_MAX];
    assert_int_equal(hs_engine_create_with_runtime(params, fake_runtime(), &engine, &err), HS_OK);
    hs_status status = hs_engine_load_model(engine, test_model_path(), "m", model, id, &err);
    if (status != HS_OK) {
        fail_msg("%s", err.message);
    }
    return engine;
}

hs_engine *test_engine(const struct hs_engine_params *params, int32_t n_ctx, int32_t n_seq_max)
{
    struct hs_model_params model;
    hs_model_params_defaults(&model);
    model.n_ctx = n_ctx;
    model.n_seq_max = n_seq_max;
    return test_engine_model(params, &model);
}

struct hs_generate_params test_params(int32_t max_tokens)
{
    struct hs_generate_params params;
    hs_generate_params_defaults(&params);
    params.max_tokens = max_tokens;
    params.sampling.temp = 0;
    return params;
}

hs_stream *test_complete(hs_engine *engine, const char *text,
                         const struct hs_generate_params *params)
{
    int32_t tokens[ANSWER_MAX];
    size_t n = fake_tokenize(text, tokens);
    struct hs_error err = {0};
    hs_stream *stream = NULL;
    if (hs_engine_complete(engine, "m", NULL, 0, tokens, n, params, &stream, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return stream;
}

hs_stream *test_generate(hs_engine *engine, const char *session, const char *prompt,
                         const struct hs_generate_params *params)
{
    struct hs_error err = {0};
    hs_stream *stream = NULL;
    if (hs_engine_generate(engine, session, prompt, params, &stream, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return stream;
}

void test_collect(hs_stream *stream, struct answer *answer)
{
    memset(answer, 0, sizeof(*answer));
    struct hs_event event;
    struct hs_error err;
    for (;;) {
        hs_status status = hs_stream_next(stream, 60000, &event, &err);
        if (status != HS_OK) {
            fail_msg("%s", err.message);
        }
        if (event.type == HS_EVENT_DONE) {
            break;
        }
        answer->n_events++;
        answer->n_tokens += event.n_tokens;
        bool is_text = event.type == HS_EVENT_TEXT;
        char *to = is_text ? answer->text : answer->reasoning;
        size_t *len = is_text ? &answer->len : &answer->reasoning_len;
        assert_true(*len + event.text_len < ANSWER_MAX);
        memcpy(to + *len, event.text, event.text_len + 1);
        *len += event.text_len;
    }
    answer->finish = event.finish;
    answer->usage = event.usage;
    assert_int_equal(hs_stream_prompt_tokens(stream), event.usage.prompt_tokens);
    answer->error = event.error;
    assert_int_equal(hs_stream_next(stream, 0, &event, &err), HS_NOT_FOUND);
    hs_stream_free(stream);
}

void test_expect(const struct answer *answer, const char *prompt, size_t max_tokens, size_t n_ctx)
{
    int32_t tokens[ANSWER_MAX];
    char text[ANSWER_MAX];
    size_t n = fake_tokenize(prompt, tokens);
    size_t n_generated = fake_answer(tokens, n, max_tokens, n_ctx, text);
    assert_string_equal(answer->text, text);
    assert_int_equal(answer->usage.prompt_tokens, n);
    assert_int_equal(answer->usage.completion_tokens, n_generated);
}

void test_run(hs_engine *engine, const char *text, int32_t max_tokens, struct answer *answer)
{
    struct hs_generate_params params = test_params(max_tokens);
    test_collect(test_complete(engine, text, &params), answer);
    test_expect(answer, text, (size_t)max_tokens, ANSWER_MAX);
}

struct hs_model_stats test_stats(hs_engine *engine)
{
    struct hs_model_stats stats;
    struct hs_error err;
    assert_int_equal(hs_engine_model_stats(engine, "m", &stats, &err), HS_OK);
    return stats;
}

struct fake_counters test_counters(void)
{
    struct fake_counters counters;
    fake_runtime_counters(&counters);
    return counters;
}

struct hs_adapter_params test_adapter_params(const char *name, const char *path)
{
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = name;
    params.model_id = "m";
    params.path = path;
    return params;
}

void test_sleep_ms(int32_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};
    nanosleep(&pause, NULL);
}

void test_wait_for(hs_engine *engine, int32_t n_running, int32_t n_queued)
{
    struct hs_model_stats stats = {0};
    double until_ms = hs_clock_ms() + 60000;
    while (hs_clock_ms() < until_ms) {
        stats = test_stats(engine);
        if (stats.n_running == n_running && stats.n_queued == n_queued) {
            return;
        }
        test_sleep_ms(1);
    }
    fail_msg("%d running and %d queued; %d and %d were expected", stats.n_running, stats.n_queued,
             n_running, n_queued);
}

void test_check_clean(void)
{
    struct fake_counters counters = test_counters();
    assert_int_equal(counters.n_violations, 0);
    assert_int_equal(counters.n_corrupt, 0);
    assert_int_equal(counters.n_models, 0);
    assert_int_equal(counters.n_contexts, 0);
    assert_int_equal(counters.n_samplers, 0);
    struct fake_lora_counters lora;
    fake_lora_counters(&lora);
    assert_int_equal(lora.n_misused, 0);
    assert_int_equal(lora.n_alive, 0);
}

void test_text(char *text, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        text[i] = (char)('A' + (seed >> 24) % 26);
    }
    text[n] = '\0';
}
