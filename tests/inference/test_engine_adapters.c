/* Adapters of requests and sessions through the engine: exact answers by the fake's formula, which
 * tells KV of other adapters or versions. */
#include "adapter_test.h"
#include "session_test.h"

#include <math.h>

static struct adapter_files *files;
static hs_engine *engine;

static void open_with(const struct hs_engine_params *params, int32_t n_ctx, int32_t n_seq_max)
{
    engine = test_engine(params, n_ctx, n_seq_max);
    struct hs_adapter_reader reader = adapter_files_reader(files);
    hs_adapter_pool_set_reader(engine->adapters, &reader);
}

static void begin(const struct fake_config *config, int32_t n_ctx, int32_t n_seq_max)
{
    fake_runtime_reset(config);
    files = adapter_files_new();
    open_with(NULL, n_ctx, n_seq_max);
}

static void end(void)
{
    hs_engine_free(engine);
    adapter_files_free(files);
    test_check_clean();
}

static hs_status set_file(const char *name, const char *text, bool replaces)
{
    struct hs_adapter_params params = test_adapter_params(name, adapter_file(files, name, text));
    return replaces ? hs_engine_replace_adapter(engine, &params, &err)
                    : hs_engine_register_adapter(engine, &params, &err);
}

static void add(const char *name, const char *text)
{
    if (set_file(name, text, false) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static void replace(const char *name, const char *text)
{
    if (set_file(name, text, true) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static hs_status try_ask(const char *text, const struct hs_adapter_ref *refs, int32_t n_refs,
                         const struct hs_generate_params *params, hs_stream **ret_stream)
{
    int32_t tokens[ANSWER_MAX];
    size_t n = fake_tokenize(text, tokens);
    return hs_engine_complete(engine, "m", refs, n_refs, tokens, n, params, ret_stream, &err);
}

/* name NULL: the model alone. */
static hs_stream *ask_with(const char *text, const char *name, float scale, int32_t max_tokens)
{
    struct hs_adapter_ref ref = {name, scale};
    struct hs_generate_params params = test_params(max_tokens);
    hs_stream *stream = NULL;
    if (try_ask(text, &ref, name == NULL ? 0 : 1, &params, &stream) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return stream;
}

static void expect(hs_stream *stream, const char *text, int32_t effect, int32_t max_tokens)
{
    static int32_t tokens[ANSWER_MAX];
    static char expected[ANSWER_MAX];
    size_t n = fake_tokenize(text, tokens);
    test_collect(stream, &answer);
    (void)fake_answer_with(effect, tokens, n, (size_t)max_tokens, ANSWER_MAX, expected);
    assert_string_equal(answer.text, expected);
}

/* What was reused of the prompt. */
static int32_t run_with(const char *text, const char *name, float scale, int32_t effect)
{
    expect(ask_with(text, name, scale, 6), text, effect, 6);
    return answer.usage.cached_tokens;
}

/* ---- requests ---- */

static void adapters_change_the_answer_by_their_scale(void **state)
{
    (void)state;
    begin(NULL, 512, 4);
    add("a", "3");
    add("b", "10");
    (void)run_with("a question", "a", 1, 3);
    (void)run_with("a question", "a", -2, -6);
    (void)run_with("a question", "b", 0.5f, 5);
    (void)run_with("a question", "a", 0, 0);
    struct hs_adapter_ref both[] = {{"a", 1}, {"b", -1}};
    struct hs_generate_params params = test_params(6);
    hs_stream *stream = NULL;
    assert_int_equal(try_ask("a question", both, 2, &params, &stream), HS_OK);
    expect(stream, "a question", -7, 6);
    struct hs_message message = {.role = "user", .content = "hi"};
    assert_int_equal(hs_engine_chat(engine, "m", both, 2, &message, 1, &params, &stream, &err),
                     HS_OK);
    expect(stream, "[user]hi\n<|gen|>", -7, 6);
    struct hs_adapter_info info;
    assert_int_equal(hs_engine_adapter_info(engine, "b", &info, &err), HS_OK);
    assert_int_equal(info.n_uses, 3);
    assert_int_equal(info.n_generated_tokens, 18);
    assert_int_equal(info.n_active, 0);
    end();
}

/* Not when the first request comes, which would wait for it, and others with it. */
static void registering_finds_out_how_adapters_are_applied(void **state)
{
    (void)state;
    begin(NULL, 512, 4);
    struct hs_adapter_info info;
    struct fake_lora_config config = {.fails_prepare = true};
    fake_lora_reset(&config);
    assert_int_equal(set_file("a", "3", false), HS_NOT_SUPPORTED);
    assert_int_equal(hs_engine_adapter_info(engine, "a", &info, &err), HS_NOT_FOUND);
    fake_lora_reset(NULL);
    add("a", "3");
    struct fake_lora_counters counters;
    fake_lora_counters(&counters);
    assert_int_equal(counters.n_prepared, 1);
    assert_int_equal(adapter_files_n_read(files), 0);
    (void)run_with("a question", "a", 1, 3);
    end();
}

static void a_batch_mixes_adapters(void **state)
{
    (void)state;
    begin(NULL, 512, 8);
    add("a", "3");
    add("b", "10");
    assert_int_equal(hs_engine_load_adapter(engine, "a", &err), HS_OK);
    assert_int_equal(hs_engine_load_adapter(engine, "b", &err), HS_OK);
    fake_runtime_pause();
    hs_stream *streams[] = {ask_with("one", NULL, 1, 8), ask_with("one", "a", 1, 8),
                            ask_with("one", "b", 1, 8), ask_with("two", "a", 1, 8),
                            ask_with("one", "a", 2, 8)};
    fake_runtime_resume();
    const int32_t effects[] = {0, 3, 10, 3, 6};
    for (int i = 0; i < 5; i++) {
        expect(streams[i], i == 3 ? "two" : "one", effects[i], 8);
    }
    struct hs_model_stats stats = test_stats(engine);
    assert_int_equal(stats.lora_engine, HS_LORA_ENGINE_REWRITE);
    assert_string_equal(stats.lora_reason, "");
    assert_int_equal(stats.n_lora_sets_max, 4);
    assert_true(stats.n_lora_decodes_mixed > 0);
    assert_true(stats.n_lora_decodes >= stats.n_lora_decodes_mixed);
    assert_int_equal(stats.n_adapters, 2);
    assert_int_equal(stats.n_adapters_ready, 2);
    assert_int_equal(stats.adapter_bytes, 200);
    end();
}

static void refused_adapters(void **state)
{
    (void)state;
    begin(NULL, 512, 4);
    add("a", "3");
    struct hs_generate_params params = test_params(3);
    hs_stream *stream = NULL;
    struct hs_adapter_ref ref = {"x", 1};
    assert_int_equal(try_ask("q", &ref, 1, &params, &stream), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "it has a"));
    ref = (struct hs_adapter_ref){"a", NAN};
    assert_int_equal(try_ask("q", &ref, 1, &params, &stream), HS_INVALID_ARGUMENT);
    char id[HS_ID_MAX];
    assert_int_equal(hs_engine_load_model(engine, test_model_path(), "second", NULL, id, &err),
                     HS_OK);
    struct hs_message message = {.role = "user", .content = "hi"};
    ref = (struct hs_adapter_ref){"a", 1};
    assert_int_equal(hs_engine_chat(engine, "second", &ref, 1, &message, 1, &params, &stream, &err),
                     HS_MISMATCH);
    struct hs_adapter_params adapter = {
        .name = "c", .model_id = "none", .path = adapter_file(files, "c", "1")};
    assert_int_equal(hs_engine_register_adapter(engine, &adapter, &err), HS_NOT_FOUND);
    adapter.model_id = "second";
    assert_int_equal(hs_engine_register_adapter(engine, &adapter, &err), HS_OK);
    assert_int_equal(hs_engine_load_adapter(engine, "c", &err), HS_OK);
    assert_int_equal(hs_engine_unload_model(engine, "second", &err), HS_OK);
    struct hs_adapter_info info;
    assert_int_equal(hs_engine_adapter_info(engine, "c", &info, &err), HS_NOT_FOUND);
    struct hs_adapter_info *infos = NULL;
    size_t n = 0;
    assert_int_equal(hs_engine_list_adapters(engine, "second", &infos, &n, &err), HS_NOT_FOUND);
    assert_int_equal(hs_engine_list_adapters(engine, "m", &infos, &n, &err), HS_OK);
    assert_int_equal(n, 1);
    hs_adapter_infos_free(infos);
    end();
}

/* ---- KV ---- */

/* The failure of llama.cpp's issue 26207: KV of one adapter, or of an old version, in an answer of
 * another. */
static void no_kv_crosses_adapters_or_versions(void **state)
{
    (void)state;
    begin(NULL, 2048, 8);
    char text[201];
    test_text(text, 200, 1);
    add("a", "3");
    add("b", "3"); /* does the same, but nobody can know */
    assert_int_equal(run_with(text, NULL, 1, 0), 0);
    assert_int_equal(run_with(text, "a", 1, 3), 0);
    assert_int_equal(run_with(text, "b", 1, 3), 0);
    assert_int_equal(run_with(text, "a", 2, 6), 0);
    assert_int_equal(run_with(text, "a", -1, -3), 0);
    assert_true(run_with(text, "a", 1, 3) > 190);
    assert_true(run_with(text, NULL, 1, 0) > 190);
    replace("a", "4");
    assert_int_equal(run_with(text, "a", 1, 4), 0);
    assert_true(run_with(text, "a", 1, 4) > 190);
    assert_int_equal(hs_engine_unregister_adapter(engine, "a", &err), HS_OK);
    add("a", "5");
    assert_int_equal(run_with(text, "a", 1, 5), 0);
    assert_true(run_with(text, "b", 1, 3) > 190);
    end();
}

static void a_prefix_is_shared_by_the_same_adapters_only(void **state)
{
    (void)state;
    begin(NULL, 2048, 8);
    char text[201];
    test_text(text, 200, 2);
    add("a", "3");
    add("b", "5");
    (void)run_with(text, "a", 1, 3);
    assert_int_equal(hs_engine_load_adapter(engine, "b", &err), HS_OK);
    fake_runtime_pause();
    hs_stream *streams[] = {ask_with(text, "a", 1, 9), ask_with(text, "a", 1, 9),
                            ask_with(text, "b", 1, 9), ask_with(text, NULL, 1, 9)};
    fake_runtime_resume();
    const int32_t effects[] = {3, 3, 5, 0};
    for (int i = 0; i < 4; i++) {
        expect(streams[i], text, effects[i], 9);
        assert_int_equal(answer.usage.cached_tokens > 0, i < 2);
    }
    assert_true(test_counters().n_copy > 0);
    end();
}

static void parked_kv_comes_back_to_its_own_adapters(void **state)
{
    (void)state;
    begin(NULL, 256, 2);
    char texts[3][151];
    add("a", "3");
    add("b", "5");
    const char *const names[] = {"a", "b", NULL};
    const int32_t effects[] = {3, 5, 0};
    for (uint32_t i = 0; i < 3; i++) {
        test_text(texts[i], 150, 7); /* all the same */
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            int32_t n_cached = run_with(texts[i], names[i], 1, effects[i]);
            assert_int_equal(n_cached > 0, round > 0);
        }
    }
    assert_true(test_counters().n_state_load > 0);
    end();
}

static void checkpoints_belong_to_their_adapters(void **state)
{
    (void)state;
    struct fake_config config = {.is_recurrent = true};
    begin(&config, 1024, 2);
    char text[101];
    test_text(text, 100, 3);
    add("a", "3");
    for (int round = 0; round < 2; round++) {
        (void)run_with(text, "a", 1, 3);
        (void)run_with(text, NULL, 1, 0);
    }
    replace("a", "4");
    assert_int_equal(run_with(text, "a", 1, 4), 0);
    end();
}

/* ---- loads ---- */

static void a_slow_load_delays_nobody_else(void **state)
{
    (void)state;
    begin(NULL, 512, 1); /* not even where there is one sequence only */
    add("slow", "3");
    adapter_files_hold(files, "slow");
    hs_stream *slow = ask_with("first", "slow", 1, 5);
    adapter_files_wait(files, 1);
    (void)run_with("second", NULL, 1, 0);
    struct hs_model_stats stats = test_stats(engine);
    assert_int_equal(stats.n_queued, 1);
    assert_int_equal(stats.n_running, 0);
    adapter_files_hold(files, "");
    expect(slow, "first", 3, 5);
    assert_true(answer.usage.queue_ms > 0);
    end();
}

static void cancels_and_deadlines_work_while_it_loads(void **state)
{
    (void)state;
    begin(NULL, 512, 2);
    add("slow", "3");
    adapter_files_hold(files, "slow");
    hs_stream *stream = ask_with("first", "slow", 1, 5);
    adapter_files_wait(files, 1);
    hs_stream_cancel(stream);
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    struct hs_generate_params params = test_params(5);
    params.deadline_ms = 20;
    struct hs_adapter_ref ref = {"slow", 1};
    assert_int_equal(try_ask("first", &ref, 1, &params, &stream), HS_OK);
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_ERROR);
    assert_int_equal(answer.error.status, HS_TIMEOUT);
    struct hs_adapter_info info;
    assert_int_equal(hs_engine_adapter_info(engine, "slow", &info, &err), HS_OK);
    assert_int_equal(info.n_active, 0);
    adapter_files_hold(files, "");
    (void)run_with("first", "slow", 1, 3);
    end();
}

static void an_engine_may_go_while_one_loads(void **state)
{
    (void)state;
    begin(NULL, 512, 2);
    add("slow", "3");
    adapter_files_hold(files, "slow");
    hs_stream *stream = ask_with("first", "slow", 1, 5);
    adapter_files_wait(files, 1);
    hs_stream_free(stream);
    adapter_files_hold(files, "");
    end();
}

static void a_load_that_fails_ends_its_requests(void **state)
{
    (void)state;
    begin(NULL, 512, 2);
    add("a", "bad");
    hs_stream *stream = ask_with("first", "a", 1, 5);
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_ERROR);
    assert_int_equal(answer.error.status, HS_BAD_FORMAT);
    assert_non_null(strstr(answer.error.message, "adapter 'a'"));
    assert_non_null(strstr(answer.error.message, "it is damaged"));
    struct hs_adapter_info info;
    assert_int_equal(hs_engine_adapter_info(engine, "a", &info, &err), HS_OK);
    assert_int_equal(info.state, HS_ADAPTER_FAILED);
    stream = ask_with("first", "a", 1, 5);
    test_collect(stream, &answer);
    assert_int_equal(adapter_files_n_read(files), 2); /* tried again */
    replace("a", "7");
    (void)run_with("first", "a", 1, 7);
    end();
}

/* ---- versions ---- */

static void running_requests_finish_on_their_version(void **state)
{
    (void)state;
    begin(NULL, 512, 4);
    add("a", "3");
    assert_int_equal(hs_engine_load_adapter(engine, "a", &err), HS_OK);
    fake_runtime_pause();
    hs_stream *old = ask_with("one", "a", 1, 12);
    fake_runtime_wait_held();
    fake_runtime_step(3);
    replace("a", "4");
    hs_stream *new = ask_with("one", "a", 1, 12);
    /* The step under way, then one with both versions: no load, and nobody waits. */
    fake_runtime_step(2);
    struct hs_model_stats stats = test_stats(engine);
    assert_int_equal(stats.n_running, 2);
    assert_int_equal(stats.n_lora_sets_max, 2);
    fake_runtime_resume();
    expect(old, "one", 3, 12);
    expect(new, "one", 4, 12);
    end();
}

static void a_preempted_request_keeps_its_version(void **state)
{
    (void)state;
    begin(NULL, 256, 4);
    char text[101];
    test_text(text, 100, 5);
    add("a", "3");
    fake_runtime_pause();
    hs_stream *streams[4];
    for (int i = 0; i < 4; i++) {
        streams[i] = ask_with(text, "a", 1.0f + (float)i, 100);
    }
    fake_runtime_resume();
    replace("a", "9");
    for (int i = 0; i < 4; i++) {
        expect(streams[i], text, 3 * (i + 1), 100);
    }
    end();
}

/* ---- one set of adapters in a decode ---- */

static void sets_take_turns_where_a_decode_takes_one(void **state)
{
    (void)state;
    begin(NULL, 512, 8);
    struct fake_lora_config config = {.is_one_set = true};
    fake_lora_reset(&config);
    add("a", "3");
    add("b", "5");
    assert_int_equal(hs_engine_load_adapter(engine, "a", &err), HS_OK);
    assert_int_equal(hs_engine_load_adapter(engine, "b", &err), HS_OK);
    int32_t before = test_counters().n_decode;
    fake_runtime_pause();
    hs_stream *streams[] = {ask_with("one", NULL, 1, 10), ask_with("two", "a", 1, 10),
                            ask_with("three", "b", 1, 10), ask_with("four", "a", 1, 10)};
    const char *const texts[] = {"one", "two", "three", "four"};
    const int32_t effects[] = {0, 3, 5, 3};
    fake_runtime_resume();
    for (int i = 0; i < 4; i++) {
        expect(streams[i], texts[i], effects[i], 10);
    }
    struct hs_model_stats stats = test_stats(engine);
    assert_int_equal(stats.lora_engine, HS_LORA_ENGINE_NATIVE);
    assert_int_equal(stats.n_lora_decodes_mixed, 0);
    assert_true(stats.lora_reason[0] != '\0');
    /* Whoever runs is served at least every third step: three sets. */
    int32_t after = test_counters().n_decode;
    assert_true(after - before >= 30);
    for (int32_t seq = 0; seq < 4; seq++) {
        int32_t last = 0;
        for (int32_t call = before; call < after; call++) {
            if (fake_runtime_logged(call, seq) > 0) {
                assert_true(last == 0 || call - last <= 3);
                last = call;
            }
        }
    }
    end();
}

/* ---- sessions ---- */

static hs_status apply(const char *id, const char *name, float scale)
{
    struct hs_adapter_ref ref = {name, scale};
    return hs_engine_apply_lora_weights(engine, id, &ref, name == NULL ? 0 : 1, &err);
}

static void ask_session(const char *id, const char *prompt, char *transcript, int32_t effect)
{
    struct hs_generate_params params = test_params(6);
    size_t len = strlen(transcript);
    snprintf(transcript + len, ANSWER_MAX - len, "[user]%s\n<|gen|>", prompt);
    expect(test_generate(engine, id, prompt, &params), transcript, effect, 6);
    len = strlen(transcript);
    snprintf(transcript + len, ANSWER_MAX - len, "%s<|end|>\n", answer.text);
}

static void a_session_changes_adapters_between_turns(void **state)
{
    (void)state;
    static char transcript[ANSWER_MAX];
    transcript[0] = '\0';
    begin(NULL, 1024, 4);
    add("a", "3");
    add("b", "5");
    char id[HS_ID_MAX];
    open_session(engine, NULL, NULL, id);
    ask_session(id, "first", transcript, 0);
    assert_int_equal(apply(id, "a", 1), HS_OK);
    ask_session(id, "second", transcript, 3);
    assert_int_equal(answer.usage.cached_tokens, 0);
    ask_session(id, "third", transcript, 3);
    assert_true(answer.usage.cached_tokens > 0);
    replace("a", "4");
    ask_session(id, "fourth", transcript, 4);
    assert_int_equal(answer.usage.cached_tokens, 0);
    assert_int_equal(apply(id, "b", -1), HS_OK);
    ask_session(id, "fifth", transcript, -5);
    struct hs_adapter_ref *refs = NULL;
    size_t n = 0;
    assert_int_equal(hs_session_adapters(engine, id, &refs, &n, &err), HS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(refs[0].name, "b");
    assert_true(refs[0].scale == -1);
    hs_adapter_refs_free(refs, n);
    assert_int_equal(apply(id, "x", 1), HS_NOT_FOUND);
    assert_int_equal(apply("nobody", "a", 1), HS_NOT_FOUND);
    assert_int_equal(hs_session_adapters(engine, "nobody", &refs, &n, &err), HS_NOT_FOUND);
    ask_session(id, "sixth", transcript, -5);
    assert_int_equal(apply(id, NULL, 1), HS_OK);
    ask_session(id, "seventh", transcript, 0);
    assert_int_equal(hs_session_adapters(engine, id, &refs, &n, &err), HS_OK);
    assert_int_equal(n, 0);
    hs_adapter_refs_free(refs, n);
    end();
}

static void a_session_that_generates_keeps_its_adapters(void **state)
{
    (void)state;
    begin(NULL, 1024, 4);
    add("a", "3");
    char id[HS_ID_MAX];
    open_session(engine, NULL, NULL, id);
    fake_runtime_pause();
    struct hs_generate_params params = test_params(6);
    hs_stream *stream = test_generate(engine, id, "first", &params);
    fake_runtime_wait_held();
    assert_int_equal(apply(id, "a", 1), HS_BUSY);
    fake_runtime_resume();
    expect(stream, "[user]first\n<|gen|>", 0, 6);
    end();
}

/* An engine over the same folder of sessions and adapters. */
static void reopen(const char *dir)
{
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = dir;
    if (engine != NULL) {
        hs_engine_free(engine);
    }
    open_with(&params, 1024, 4);
}

static void resume(char id[HS_ID_MAX])
{
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = "kept";
    params.model_id = "m";
    if (hs_engine_create_session(engine, &params, id, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static void saved_sessions_keep_adapters_and_their_kv(void **state)
{
    (void)state;
    static char transcript[ANSWER_MAX];
    transcript[0] = '\0';
    fake_runtime_reset(NULL);
    files = adapter_files_new();
    char *dir = test_dir_make();
    char id[HS_ID_MAX];
    engine = NULL;
    reopen(dir);
    add("a", "3");
    char path[512];
    snprintf(path, sizeof(path), "%s", adapter_file(files, "same", "4"));
    struct hs_adapter_params same = {.name = "same", .model_id = "m", .path = path};
    assert_int_equal(hs_engine_register_adapter(engine, &same, &err), HS_OK);
    resume(id);
    assert_int_equal(apply(id, "same", 1), HS_OK);
    ask_session(id, "first", transcript, 4);
    reopen(dir);
    resume(id); /* the adapter is not registered: the text can be read all the same */
    struct hs_generate_params params = test_params(6);
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_generate(engine, id, "second", &params, &stream, &err),
                     HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "'same'"));
    assert_int_equal(count(engine, id), 2);
    assert_int_equal(hs_engine_register_adapter(engine, &same, &err), HS_OK);
    ask_session(id, "second", transcript, 4);
    assert_true(answer.usage.cached_tokens > 0); /* the same file: its KV from the disk */
    reopen(dir);
    same.path = adapter_file(files, "same", "5");
    assert_int_equal(hs_engine_register_adapter(engine, &same, &err), HS_OK);
    resume(id);
    ask_session(id, "third", transcript, 5);
    assert_int_equal(answer.usage.cached_tokens, 0); /* another content */
    reopen(dir);
    resume(id);
    assert_int_equal(apply(id, NULL, 1), HS_OK);
    ask_session(id, "fourth", transcript, 0);
    assert_int_equal(answer.usage.cached_tokens, 0);
    reopen(dir);
    resume(id);
    ask_session(id, "fifth", transcript, 0);
    assert_true(answer.usage.cached_tokens > 0);
    test_dir_remove(dir);
    end();
}

static void a_session_may_begin_with_adapters(void **state)
{
    (void)state;
    static char transcript[ANSWER_MAX];
    transcript[0] = '\0';
    begin(NULL, 1024, 4);
    add("a", "3");
    struct hs_adapter_ref refs[] = {{"a", 2}};
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.model_id = "m";
    params.adapters = refs;
    params.n_adapters = 1;
    char id[HS_ID_MAX];
    assert_int_equal(hs_engine_create_session(engine, &params, id, &err), HS_OK);
    ask_session(id, "first", transcript, 6);
    refs[0].name = "x";
    assert_int_equal(hs_engine_create_session(engine, &params, id, &err), HS_NOT_FOUND);
    end();
}

/* Whatever fails for want of memory: the session has its old adapters or the new ones. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    hs_status status = HS_OUT_OF_MEMORY;
    int n_failed = 0;
    for (uint64_t i = 1; status != HS_OK; i++) {
        begin(NULL, 512, 2);
        add("a", "3");
        assert_int_equal(hs_engine_load_adapter(engine, "a", &err), HS_OK);
        char id[HS_ID_MAX];
        open_session(engine, NULL, NULL, id);
        struct hs_generate_params params = test_params(6);
        hs_stream *stream = NULL;
        fake_runtime_pause(); /* the worker allocates, too, but not now */
        hs_mem_fail_after(i);
        status = apply(id, "a", 1);
        bool is_set = status == HS_OK;
        if (is_set) {
            status = hs_engine_generate(engine, id, "first", &params, &stream, &err);
        }
        hs_mem_fail_after(0);
        fake_runtime_resume();
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        n_failed += status != HS_OK;
        if (stream == NULL) {
            stream = test_generate(engine, id, "first", &params);
        }
        test_collect(stream, &answer);
        if (answer.finish == HS_FINISH_LENGTH) {
            int32_t tokens[64];
            char expected[64];
            size_t n = fake_tokenize("[user]first\n<|gen|>", tokens);
            (void)fake_answer_with(is_set ? 3 : 0, tokens, n, 6, 512, expected);
            assert_string_equal(answer.text, expected);
        }
        end();
    }
    assert_true(n_failed > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_change_the_answer_by_their_scale),
        cmocka_unit_test(registering_finds_out_how_adapters_are_applied),
        cmocka_unit_test(a_batch_mixes_adapters),
        cmocka_unit_test(refused_adapters),
        cmocka_unit_test(no_kv_crosses_adapters_or_versions),
        cmocka_unit_test(a_prefix_is_shared_by_the_same_adapters_only),
        cmocka_unit_test(parked_kv_comes_back_to_its_own_adapters),
        cmocka_unit_test(checkpoints_belong_to_their_adapters),
        cmocka_unit_test(a_slow_load_delays_nobody_else),
        cmocka_unit_test(cancels_and_deadlines_work_while_it_loads),
        cmocka_unit_test(an_engine_may_go_while_one_loads),
        cmocka_unit_test(a_load_that_fails_ends_its_requests),
        cmocka_unit_test(running_requests_finish_on_their_version),
        cmocka_unit_test(a_preempted_request_keeps_its_version),
        cmocka_unit_test(sets_take_turns_where_a_decode_takes_one),
        cmocka_unit_test(a_session_changes_adapters_between_turns),
        cmocka_unit_test(a_session_that_generates_keeps_its_adapters),
        cmocka_unit_test(saved_sessions_keep_adapters_and_their_kv),
        cmocka_unit_test(a_session_may_begin_with_adapters),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
