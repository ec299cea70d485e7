/* Adapters through the whole engine on llama.cpp: a tiny model and adapters whose answers follow
 * from a formula, in each way of applying them. */
#include "llama_test.h"

#include <unistd.h>

#define N_ADAPTERS 6
#define N_REQUESTS 12
#define MAX_TOKENS 24

static struct answer answer;
static struct hs_error err;
static struct llama_fixture f;

/* Even ranks and odd ones, above and below what kernels take at once. */
static const uint32_t ranks[N_ADAPTERS] = {1, 2, 4, 8, 16, 64};
static const int32_t shifts[N_ADAPTERS] = {3, -8, 20, 16, -32, 64};

static const char *adapter_path(int i)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/lora-%d-%d.gguf", HS_TEST_TMP, (int)getpid(), i);
    return path;
}

static void write_adapter(int i, int32_t shift)
{
    assert_true(tiny_gguf_adapter_write(adapter_path(i), shift, ranks[i]));
}

static const char *adapter_name(int i)
{
    static const char *const names[N_ADAPTERS] = {"a", "b", "c", "d", "e", "f"};
    return names[i];
}

/* engine_params NULL: defaults. */
static void start_with(const struct hs_engine_params *engine_params, enum hs_lora_engine engine)
{
    struct tiny_gguf_spec spec;
    struct hs_model_params params;
    tiny_gguf_defaults(&spec);
    spec.kind = TINY_GGUF_HISTORY;
    spec.chat_template = tiny_gguf_chatml;
    hs_model_params_defaults(&params);
    params.n_ctx = 2048;
    params.n_seq_max = 16;
    params.n_threads = 1;
    params.n_gpu_layers = 0;
    params.lora_engine = engine;
    llama_start(&f, &spec, engine_params, &params, 0, 0);
    for (int i = 0; i < N_ADAPTERS; i++) {
        write_adapter(i, shifts[i]);
        struct hs_adapter_params adapter = test_adapter_params(adapter_name(i), adapter_path(i));
        if (hs_engine_register_adapter(f.engine, &adapter, &err) != HS_OK) {
            fail_msg("%s", err.message);
        }
    }
}

static void start(enum hs_lora_engine engine)
{
    start_with(NULL, engine);
}

static void stop(void)
{
    llama_stop(&f);
    for (int i = 0; i < N_ADAPTERS; i++) {
        unlink(adapter_path(i));
    }
}

/* A request with some adapters, and what they add up to. */
struct asked {
    int32_t tokens[LLAMA_TOKENS_MAX];
    size_t n;
    struct hs_adapter_ref refs[2];
    int32_t n_refs, shift;
    hs_stream *stream;
};

static void begin(struct asked *asked, uint32_t seed)
{
    asked->tokens[0] = TINY_GGUF_BOS;
    asked->n = 40 + seed % 60;
    for (size_t i = 1; i < asked->n; i++) {
        uint32_t x = ((seed + (uint32_t)i) * 2654435761u) >> 8;
        asked->tokens[i] = TINY_GGUF_ANSWER0 + (int32_t)(x % TINY_GGUF_N_ANSWERS);
    }
    struct hs_generate_params params = test_params(MAX_TOKENS);
    if (hs_engine_complete(f.engine, "m", asked->refs, asked->n_refs, asked->tokens, asked->n,
                           &params, &asked->stream, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

/* Compare the answer with the formula. */
static void check(struct asked *asked)
{
    char text[MAX_TOKENS * 16];
    size_t len = 0;
    size_t n = asked->n;
    for (int i = 0; i < MAX_TOKENS; i++) {
        size_t piece = 0;
        asked->tokens[n] = tiny_gguf_history_next_with(asked->shift, asked->tokens, n);
        assert_true(tiny_gguf_text(asked->tokens[n++], text + len, &piece));
        len += piece;
    }
    text[len] = '\0';
    if (answer.finish == HS_FINISH_ERROR) {
        fail_msg("%s", answer.error.message);
    }
    assert_string_equal(answer.text, text);
}

static void expect(struct asked *asked)
{
    test_collect(asked->stream, &answer);
    check(asked);
}

/* No adapter, one, two, scales of both signs. */
static void choose(struct asked *asked, int i)
{
    asked->n_refs = i % 4 < 2 ? i % 4 : 2;
    asked->shift = 0;
    for (int32_t r = 0; r < asked->n_refs; r++) {
        int k = (i + r * 2) % N_ADAPTERS;
        float scale = (i + r) % 2 == 0 ? 1.0f : -2.0f;
        asked->refs[r] = (struct hs_adapter_ref){adapter_name(k), scale};
        asked->shift += (int32_t)scale * shifts[k];
    }
}

static struct hs_model_stats mix(enum hs_lora_engine engine)
{
    static struct asked asked[N_REQUESTS];
    start(engine);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N_REQUESTS; i++) {
            choose(&asked[i], i);
            begin(&asked[i], (uint32_t)(i / 3)); /* prompts that several share */
        }
        for (int i = 0; i < N_REQUESTS; i++) {
            expect(&asked[i]);
        }
    }
    struct hs_model_stats stats = test_stats(f.engine);
    stop();
    return stats;
}

static void rewriting_mixes_adapters_in_a_batch(void **state)
{
    (void)state;
    struct hs_model_stats stats = mix(HS_LORA_ENGINE_AUTO);
    assert_string_equal(hs_lora_engine_name(stats.lora_engine), "rewrite");
    assert_string_equal(stats.lora_reason, "");
    assert_true(stats.n_lora_decodes_mixed > 0);
    assert_true(stats.n_lora_sets_max >= 4);
    assert_true(stats.n_lora_nodes > 0);
    assert_int_equal(stats.n_adapters_ready, N_ADAPTERS);
}

static void stacking_mixes_them_too(void **state)
{
    (void)state;
    struct hs_model_stats stats = mix(HS_LORA_ENGINE_STACKED);
    assert_string_equal(hs_lora_engine_name(stats.lora_engine), "stacked");
    assert_true(stats.n_lora_decodes_mixed > 0);
}

static void natively_they_take_turns(void **state)
{
    (void)state;
    struct hs_model_stats stats = mix(HS_LORA_ENGINE_NATIVE);
    assert_string_equal(hs_lora_engine_name(stats.lora_engine), "native");
    assert_int_equal(stats.n_lora_decodes_mixed, 0);
}

static void swap(int i, int32_t shift)
{
    write_adapter(i, shift);
    struct hs_adapter_params params = test_adapter_params(adapter_name(i), adapter_path(i));
    if (hs_engine_replace_adapter(f.engine, &params, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static void versions_are_swapped_while_others_run(void **state)
{
    (void)state;
    struct asked old = {.refs = {{"a", 1}}, .n_refs = 1, .shift = shifts[0]};
    struct asked new = {.refs = {{"a", 1}}, .n_refs = 1, .shift = 6};
    start(HS_LORA_ENGINE_AUTO);
    assert_int_equal(hs_engine_load_adapter(f.engine, "a", &err), HS_OK);
    for (int round = 0; round < 4; round++) {
        begin(&old, 5);
        swap(0, new.shift);
        begin(&new, 5);
        expect(&old);
        expect(&new);
        assert_true(round > 0 || answer.usage.cached_tokens == 0);
        old.shift = new.shift;
        new.shift = 6 + round;
    }
    struct hs_adapter_info info;
    assert_int_equal(hs_engine_adapter_info(f.engine, "a", &info, &err), HS_OK);
    assert_int_equal(info.n_uses, 8);
    assert_int_equal(info.n_active, 0);
    stop();
}

static void what_does_not_fit_the_model_is_refused(void **state)
{
    (void)state;
    start(HS_LORA_ENGINE_AUTO);
    struct tiny_gguf_spec spec;
    char path[256];
    snprintf(path, sizeof(path), "%s/no-lora-%d.gguf", HS_TEST_TMP, (int)getpid());
    tiny_gguf_defaults(&spec);
    assert_true(tiny_gguf_write(&spec, path));
    struct hs_adapter_params params = test_adapter_params("model", path);
    assert_int_equal(hs_engine_register_adapter(f.engine, &params, &err), HS_OK);
    assert_int_not_equal(hs_engine_load_adapter(f.engine, "model", &err), HS_OK);
    assert_non_null(strstr(err.message, "adapter 'model'"));
    assert_true(err.hint[0] != '\0');
    unlink(path);
    stop();
}

static void open_session(char id[HS_ID_MAX])
{
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = "kept";
    params.model_id = "m";
    if (hs_engine_create_session(f.engine, &params, id, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

/* What a caller does for a turn of a session that chooses for each: adapters by the question, then
 * the answer; name NULL: none. */
static void take_turn(const char *id, const char *question, const char *name, int32_t shift)
{
    static struct asked asked;
    struct hs_route_params how;
    struct hs_route route;
    bool is_routed = false;
    hs_route_params_defaults(&how);
    how.method = HS_ROUTE_EXAMPLES;
    assert_int_equal(hs_session_is_routed(f.engine, id, &is_routed, &err), HS_OK);
    assert_true(is_routed);
    if (hs_engine_route(f.engine, "m", question, &how, &route, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(route.n_choices, name != NULL);
    struct hs_adapter_ref ref = {route.choices[0].name, route.choices[0].scale};
    if (name != NULL) {
        assert_string_equal(ref.name, name);
    }
    assert_int_equal(hs_engine_apply_lora_weights(f.engine, id, &ref, route.n_choices, &err),
                     HS_OK);
    struct hs_generate_params params = test_params(MAX_TOKENS);
    test_collect(test_generate(f.engine, id, question, &params), &answer);
    size_t n_messages = 0;
    assert_int_equal(hs_session_message_count(f.engine, id, &n_messages, &err), HS_OK);
    asked.shift = shift;
    asked.n = llama_session_prompt(f.engine, id, 0, n_messages - 1, asked.tokens);
    check(&asked);
}

static void a_session_chooses_for_each_turn(void **state)
{
    (void)state;
    static const char *const sea = "sail the old ship home", *const tax = "1 + 1 + 2 + 3 + 5 + 8";
    char *dir = test_dir_make(), id[HS_ID_MAX];
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = dir;
    for (int run = 0; run < 2; run++) { /* the second finds that it is to choose */
        start_with(&params, HS_LORA_ENGINE_AUTO);
        assert_int_equal(hs_engine_set_adapter_examples(f.engine, "a", &sea, 1, &err), HS_OK);
        assert_int_equal(hs_engine_set_adapter_examples(f.engine, "b", &tax, 1, &err), HS_OK);
        open_session(id);
        if (run == 0) {
            assert_int_equal(hs_engine_route_session(f.engine, id, true, &err), HS_OK);
            take_turn(id, sea, "a", shifts[0]);
            take_turn(id, tax, "b", shifts[1]);
        } else {
            take_turn(id, sea, "a", shifts[0]);
            take_turn(id, "How do I open a door?", NULL, 0);
            assert_int_equal(hs_engine_route_session(f.engine, id, false, &err), HS_OK);
        }
        stop();
    }
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewriting_mixes_adapters_in_a_batch),
        cmocka_unit_test(stacking_mixes_them_too),
        cmocka_unit_test(natively_they_take_turns),
        cmocka_unit_test(versions_are_swapped_while_others_run),
        cmocka_unit_test(what_does_not_fit_the_model_is_refused),
        cmocka_unit_test(a_session_chooses_for_each_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
