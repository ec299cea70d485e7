/* The whole engine on llama.cpp, with tiny models whose answers follow from a formula. */
#include "llama_test.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/utf8.h"

static struct answer answer;
static struct hs_error err;
static int32_t tokens[LLAMA_TOKENS_MAX];
static char expected[LLAMA_TOKENS_MAX * 4];

static struct tiny_gguf_spec history_spec(void)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.kind = TINY_GGUF_HISTORY;
    spec.chat_template = tiny_gguf_chatml;
    return spec;
}

static struct tiny_gguf_spec speaker_spec(int32_t *next, const char *text)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    tiny_gguf_next_unset(next);
    assert_true(tiny_gguf_spell(next, tiny_gguf_token("!"), text, -1));
    spec.next = next;
    return spec;
}

/* Run tokens[n] and compare with the formula. */
static void run_exact(struct llama_fixture *f, size_t n, int32_t max_tokens)
{
    struct hs_generate_params params = test_params(max_tokens);
    test_collect(llama_complete(f->engine, tokens, n, &params), &answer);
    size_t n_generated = llama_answer(&f->spec, tokens, n, (size_t)max_tokens, 1024, expected);
    assert_string_equal(answer.text, expected);
    assert_int_equal(answer.usage.completion_tokens, n_generated);
    assert_int_equal(answer.usage.prompt_tokens, n);
}

static struct hs_model_params crowd_model(int32_t n_ctx, int32_t n_seq_max)
{
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    params.n_ctx = n_ctx;
    params.n_seq_max = n_seq_max;
    params.n_threads = 1;
    return params;
}

static void open_session(hs_engine *engine, const char *name, enum hs_overflow overflow,
                         char id[HS_ID_MAX])
{
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = name;
    params.model_id = "m";
    params.overflow = overflow;
    if (hs_engine_create_session(engine, &params, id, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

/* The template with "<cal>" for "<tool_call>", whose letters the table below has no tokens for. */
static void read_template(struct hs_buf *text)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf file = HS_BUF_INIT(1 << 16);
    assert_int_equal(hs_fs_read(HS_TEST_DATA "/templates/hermes.jinja", &file, &err), HS_OK);
    static const char tag[] = "tool_call>";
    for (const char *p = file.data; *p;) {
        size_t n = strncmp(p, tag, strlen(tag)) == 0 ? strlen(tag) : 1;
        assert_int_equal(hs_buf_append(text, n == 1 ? p : "cal>", n == 1 ? 1 : 4), HS_OK);
        p += n;
    }
}

/*
 * The model says "Hm. <cal>\n" over and over. From "<cal>\n" on the grammar binds: what it says
 * then is a whole call of a tool there is, in the format of its template.
 */
static void a_call_that_begins_is_finished(void **state)
{
    (void)state;
    static const struct hs_tool tools[] = {
        {"get_time", NULL,
         "{\"type\":\"object\",\"properties\":{\"utc\":{\"type\":\"boolean\"}},"
         "\"required\":[\"utc\"]}"}};
    struct hs_buf template_text = HS_BUF_INIT(1 << 16);
    read_template(&template_text);
    int32_t next[TINY_GGUF_N_VOCAB];
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    tiny_gguf_next_unset(next);
    assert_true(tiny_gguf_spell(next, TINY_GGUF_BYTE0 + '\n', "Hm. <cal>", TINY_GGUF_BYTE0 + '\n'));
    spec.next = next;
    spec.chat_template = template_text.data;
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 1024, 4);
    struct hs_message question = {.role = "user", .content = "Hi"};
    struct hs_generate_params params = test_params(300);
    params.tools = tools;
    params.n_tools = 1;
    params.parallel_tool_calls = false; /* it would call again and again */
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(f.engine, "m", NULL, 0, &question, 1, &params, &stream, &err),
                     HS_OK);
    char text[64] = "", name[64] = "", arguments[256] = "";
    struct hs_event event;
    do {
        assert_int_equal(hs_stream_next(stream, 60000, &event, &err), HS_OK);
        if (event.type == HS_EVENT_TEXT) {
            strncat(text, event.text, sizeof(text) - strlen(text) - 1);
        } else if (event.type == HS_EVENT_TOOL_CALL) {
            assert_int_equal(event.index, 0);
            strncat(name, event.tool_name == NULL ? "" : event.tool_name, 32);
            strncat(arguments, event.text, sizeof(arguments) - strlen(arguments) - 1);
        }
    } while (event.type != HS_EVENT_DONE);
    assert_int_equal(event.finish, HS_FINISH_TOOL_CALLS);
    hs_stream_free(stream);
    assert_string_equal(text, "Hm. ");
    assert_string_equal(name, "get_time");
    char packed[256];
    size_t n = 0;
    for (const char *p = arguments; *p; p++) {
        if (!strchr(" \n\t", *p)) {
            packed[n++] = *p;
        }
    }
    packed[n] = '\0';
    assert_true(strcmp(packed, "{\"utc\":true}") == 0 || strcmp(packed, "{\"utc\":false}") == 0);
    /* Where none may be made, the same text is text. */
    params.tool_choice = HS_TOOL_CHOICE_NONE;
    params.max_tokens = (int32_t)strlen("Hm. <cal>\nHm. ");
    assert_int_equal(hs_engine_chat(f.engine, "m", NULL, 0, &question, 1, &params, &stream, &err),
                     HS_OK);
    test_collect(stream, &answer);
    assert_string_equal(answer.text, "Hm. <cal>\nHm. ");
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    llama_stop(&f);
    hs_buf_free(&template_text);
}

static void a_known_text_is_streamed_to_its_end(void **state)
{
    (void)state;
    int32_t next[TINY_GGUF_N_VOCAB];
    static const char text[] = "Hello w\xc3\xb6rld\xe2\x82\xac 42\xf0\x9f\x98\x80.";
    struct tiny_gguf_spec spec = speaker_spec(next, text);
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 512, 4);
    size_t n = llama_tokens(f.engine, "!", true, tokens);
    struct hs_generate_params params = test_params(-1);
    hs_stream *stream = llama_complete(f.engine, tokens, n, &params);
    char got[256] = "";
    struct hs_event event;
    int n_events = 0;
    do {
        assert_int_equal(hs_stream_next(stream, 60000, &event, &err), HS_OK);
        assert_true(hs_utf8_valid(event.text, event.text_len));
        strcat(got, event.text);
        n_events++;
    } while (event.type != HS_EVENT_DONE);
    assert_string_equal(got, text);
    assert_int_equal(event.finish, HS_FINISH_STOP);
    assert_true(n_events > 5);
    hs_stream_free(stream);
    llama_stop(&f);
}

static void stop_strings_cut_across_tokens(void **state)
{
    (void)state;
    int32_t next[TINY_GGUF_N_VOCAB];
    static const char text[] = "abcdefgh";
    struct tiny_gguf_spec spec = speaker_spec(next, text);
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 512, 4);
    size_t n = llama_tokens(f.engine, "!", true, tokens);
    for (size_t first = 0; first < 8; first++) {
        for (size_t len = 1; first + len <= 8; len++) {
            char stop[9];
            snprintf(stop, sizeof(stop), "%.*s", (int)len, text + first);
            const char *stops[] = {"zzz", stop};
            struct hs_generate_params params = test_params(-1);
            params.stop = stops;
            params.n_stop = 2;
            test_collect(llama_complete(f.engine, tokens, n, &params), &answer);
            assert_int_equal(answer.len, first);
            assert_memory_equal(answer.text, text, first);
            assert_int_equal(answer.finish, HS_FINISH_STOP);
            assert_int_equal(answer.usage.stopped_by, 2);
        }
    }
    llama_stop(&f);
}

/* What a model says that was asked "hello" under its chat template; tmpl NULL: its own. */
static void check_chat(const struct tiny_gguf_spec *spec, const char *tmpl, const char *want)
{
    struct hs_model_params model = crowd_model(512, 2);
    model.chat_template = tmpl;
    struct llama_fixture f;
    llama_start(&f, spec, NULL, &model, 0, 0);
    struct hs_message message = {.role = "user", .content = "hello"};
    struct hs_generate_params params = test_params(60);
    const char *stops[64];
    for (int32_t i = 0; i < 64; i++) {
        stops[i] = "never";
    }
    params.stop = stops;
    for (int round = 0; round < 2; round++) {
        hs_stream *stream = NULL;
        params.n_stop = round * 64; /* the user's limit is still the user's */
        assert_int_equal(
            hs_engine_chat(f.engine, "m", NULL, 0, &message, 1, &params, &stream, &err), HS_OK);
        test_collect(stream, &answer);
        assert_string_equal(answer.text, want);
        assert_int_equal(answer.finish, HS_FINISH_STOP);
    }
    if (tmpl == NULL) {
        char id[HS_ID_MAX];
        open_session(f.engine, NULL, HS_OVERFLOW_STOP, id);
        params.n_stop = 0;
        test_collect(test_generate(f.engine, id, "hello", &params), &answer);
        assert_string_equal(answer.text, want);
    }
    llama_stop(&f);
}

/* It goes on as the user by itself: that is where a model without a template must be stopped. */
static void without_a_template_answers_end_before_the_next_user(void **state)
{
    (void)state;
    int32_t next[TINY_GGUF_N_VOCAB];
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    tiny_gguf_next_unset(next);
    assert_true(tiny_gguf_spell(next, tiny_gguf_token(":"), " Us!\nUser: I", -1));
    spec.next = next;
    check_chat(&spec, NULL, " Us!");
    check_chat(&spec, "", " Us!");
    check_chat(&spec, "{{ messages[0].content }}:", " Us!\nUser: I");
    spec.chat_template = "{{ messages[0].content }}:";
    check_chat(&spec, NULL, " Us!\nUser: I");
    struct llama_fixture f;
    spec.chat_template = NULL;
    llama_start(&f, &spec, NULL, NULL, 512, 2);
    size_t n = llama_tokens(f.engine, "Assistant:", true, tokens);
    struct hs_generate_params params = test_params(60);
    test_collect(llama_complete(f.engine, tokens, n, &params), &answer);
    assert_string_equal(answer.text, " Us!\nUser: I");
    llama_stop(&f);
}

static void history_is_exact_and_reused_exactly(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = history_spec();
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 1024, 4);
    size_t n = llama_tokens(f.engine, "a first prompt, somewhat long", true, tokens);
    run_exact(&f, n, 50);
    assert_int_equal(answer.usage.cached_tokens, 0);
    /* The last token generated was never evaluated. */
    run_exact(&f, n + 50, 30);
    assert_int_equal(answer.usage.cached_tokens, n + 49);
    /* Change a token in the middle. */
    tokens[n + 20] =
        tokens[n + 20] == TINY_GGUF_ANSWER0 ? TINY_GGUF_ANSWER0 + 1 : TINY_GGUF_ANSWER0;
    run_exact(&f, n + 60, 10);
    assert_int_equal(answer.usage.cached_tokens, n + 20);
    struct hs_generate_params params = test_params(10);
    params.cache_prompt = false;
    test_collect(llama_complete(f.engine, tokens, n + 60, &params), &answer);
    assert_int_equal(answer.usage.cached_tokens, 0);
    llama_answer(&spec, tokens, n + 60, 10, 1024, expected);
    assert_string_equal(answer.text, expected);
    llama_stop(&f);
}

/* ---- many sequences ---- */

/* n requests at once on few cells and sequences; every answer must be its own. */
static void check_crowd_of(const struct tiny_gguf_spec *spec, const struct hs_model_params *model,
                           uint64_t budget, int n_requests, int32_t max_tokens)
{
    struct hs_engine_params engine_params;
    hs_engine_params_defaults(&engine_params);
    engine_params.park_budget_bytes = budget;
    struct llama_fixture f;
    llama_start(&f, spec, &engine_params, model, 0, 0);
    struct hs_model_info info;
    assert_int_equal(hs_engine_model_info(f.engine, "m", &info, &err), HS_OK);
    struct hs_generate_params params = test_params(max_tokens);
    hs_stream *streams[64];
    char prompts[64][128];
    for (int i = 0; i < n_requests; i++) {
        char tail[64];
        test_text(tail, 3 + (size_t)(i * 7) % 50, (uint32_t)i + 1);
        snprintf(prompts[i], sizeof(prompts[i]), "%s%s", i % 3 == 0 ? "the same beginning " : "",
                 tail);
        params.stream_capacity = 65536;
        size_t n = llama_tokens(f.engine, prompts[i], true, tokens);
        streams[i] = llama_complete(f.engine, tokens, n, &params);
    }
    for (int i = 0; i < n_requests; i++) {
        test_collect(streams[i], &answer);
        assert_int_equal(answer.finish, HS_FINISH_LENGTH);
        size_t n = llama_tokens(f.engine, prompts[i], true, tokens);
        size_t n_out =
            llama_answer(spec, tokens, n, (size_t)max_tokens, (size_t)info.n_ctx, expected);
        assert_string_equal(answer.text, expected);
        assert_int_equal(answer.usage.completion_tokens, n_out);
    }
    llama_stop(&f);
}

static void check_crowd(const struct hs_model_params *model, uint64_t budget, int n_requests,
                        int32_t max_tokens)
{
    struct tiny_gguf_spec spec = history_spec();
    check_crowd_of(&spec, model, budget, n_requests, max_tokens);
}

static void sixty_four_sequences_do_not_mix(void **state)
{
    (void)state;
    struct hs_model_params model = crowd_model(8192, 64);
    check_crowd(&model, 1 << 20, 64, 60);
}

static void few_cells_are_shared_by_preemption(void **state)
{
    (void)state;
    struct hs_model_params model = crowd_model(512, 16);
    check_crowd(&model, 64 << 20, 32, 200);
    check_crowd(&model, 0, 16, 200);
}

static void few_sequences_are_shared_in_turn(void **state)
{
    (void)state;
    struct hs_model_params model = crowd_model(1024, 3);
    check_crowd(&model, 64 << 20, 24, 40);
}

static void small_batches_give_the_same(void **state)
{
    (void)state;
    struct hs_model_params model = crowd_model(2048, 8);
    model.n_batch = 16;
    model.n_ubatch = 8;
    check_crowd(&model, 1 << 20, 24, 40);
}

static void q8_kv_and_attention_kinds_give_the_same(void **state)
{
    (void)state;
    struct hs_model_params model = crowd_model(1024, 8);
    model.kv_type = HS_KV_Q8_0;
    check_crowd(&model, 64 << 20, 16, 100);
    model.kv_type = HS_KV_F16;
    model.flash_attn = HS_FLASH_ATTN_OFF;
    check_crowd(&model, 64 << 20, 16, 100);
}

/* ---- memories that cannot be cut ---- */

static struct tiny_gguf_spec arch_spec(enum tiny_gguf_arch arch)
{
    struct tiny_gguf_spec spec = history_spec();
    spec.arch = arch;
    return spec;
}

static void a_sliding_window_is_shared_rightly(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = arch_spec(TINY_GGUF_GEMMA3);
    struct hs_model_params model = crowd_model(2048, 16);
    check_crowd_of(&spec, &model, 64 << 20, 24, 100);
    model = crowd_model(512, 8);
    check_crowd_of(&spec, &model, 64 << 20, 16, 200);
    check_crowd_of(&spec, &model, 0, 8, 200);
}

static void a_recurrent_state_is_shared_rightly(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = arch_spec(TINY_GGUF_MAMBA);
    struct hs_model_params model = crowd_model(2048, 16);
    check_crowd_of(&spec, &model, 64 << 20, 24, 100);
    model = crowd_model(512, 4);
    check_crowd_of(&spec, &model, 64 << 20, 16, 200);
    check_crowd_of(&spec, &model, 0, 8, 200);
}

/* Prefixes of one text, then other endings: cuts go to checkpoints, answers stay exact. */
static void check_cuts(enum tiny_gguf_arch arch, int32_t n_seq_max)
{
    struct tiny_gguf_spec spec = arch_spec(arch);
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 1024, n_seq_max);
    size_t n = llama_tokens(f.engine,
                            "a text of a length that exceeds the window by far, so that "
                            "what is cut is gone from it and must be brought back",
                            true, tokens);
    int32_t original[LLAMA_TOKENS_MAX];
    memcpy(original, tokens, n * sizeof(tokens[0]));
    int32_t n_cached = 0;
    for (size_t round = 0; round < 20; round++) {
        memcpy(tokens, original, n * sizeof(tokens[0]));
        size_t cut = n - 1 - (19 - round) * 3;
        tokens[cut] = TINY_GGUF_ANSWER0 + (int32_t)(round % 7);
        run_exact(&f, round % 2 == 0 ? n : cut + 1, 5 + (int32_t)(round % 3) * 30);
        n_cached += answer.usage.cached_tokens;
    }
    assert_true(n_cached > 0);
    llama_stop(&f);
}

static void cuts_go_back_to_checkpoints(void **state)
{
    (void)state;
    check_cuts(TINY_GGUF_LLAMA, 4);
    check_cuts(TINY_GGUF_GEMMA3, 4);
    check_cuts(TINY_GGUF_GEMMA3, 1);
    check_cuts(TINY_GGUF_MAMBA, 4);
    check_cuts(TINY_GGUF_MAMBA, 1);
}

/* ---- sessions ---- */

/* Ask and compare with the formula for the messages from `first` on. */
static void ask_exact(struct llama_fixture *f, const char *id, const char *question,
                      int32_t max_tokens, size_t first)
{
    struct hs_generate_params params = test_params(max_tokens);
    test_collect(test_generate(f->engine, id, question, &params), &answer);
    assert_int_not_equal(answer.finish, HS_FINISH_ERROR);
    size_t n_messages = 0;
    assert_int_equal(hs_session_message_count(f->engine, id, &n_messages, &err), HS_OK);
    size_t n = llama_session_prompt(f->engine, id, first, n_messages - 1, tokens);
    assert_int_equal(answer.usage.prompt_tokens, n);
    llama_answer(&f->spec, tokens, n, (size_t)max_tokens, 1024, expected);
    assert_string_equal(answer.text, expected);
}

static void sixty_four_sessions_talk_in_turn(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = history_spec();
    spec.history_stops = true;
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 4096, 16);
    char ids[64][HS_ID_MAX];
    for (int i = 0; i < 64; i++) {
        open_session(f.engine, NULL, HS_OVERFLOW_STOP, ids[i]);
    }
    for (int turn = 0; turn < 3; turn++) {
        hs_stream *streams[64];
        struct hs_generate_params params = test_params(12);
        for (int i = 0; i < 64; i++) {
            char question[64];
            snprintf(question, sizeof(question), "session %d asks %d", i, i * 31 + turn);
            streams[i] = test_generate(f.engine, ids[i], question, &params);
        }
        for (int i = 0; i < 64; i++) {
            test_collect(streams[i], &answer);
            size_t n = llama_session_prompt(f.engine, ids[i], 0, 1 + 2 * (size_t)turn, tokens);
            llama_answer(&spec, tokens, n, 12, 1024, expected);
            assert_string_equal(answer.text, expected);
        }
    }
    struct hs_model_stats stats = test_stats(f.engine);
    assert_true(stats.n_parked > 0);
    assert_true(stats.n_cached_tokens > 0);
    llama_stop(&f);
}

static void check_restore(enum tiny_gguf_arch arch)
{
    char *dir = test_dir_make();
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = dir;
    struct tiny_gguf_spec spec = arch_spec(arch);
    struct llama_fixture f;
    char id[HS_ID_MAX];
    llama_start(&f, &spec, &params, NULL, 1024, 4);
    open_session(f.engine, "kept", HS_OVERFLOW_STOP, id);
    ask_exact(&f, id, "the first question", 20, 0);
    int32_t n_in_kv = answer.usage.prompt_tokens + answer.usage.completion_tokens - 1;
    llama_stop(&f);
    llama_start(&f, &spec, &params, NULL, 1024, 4);
    open_session(f.engine, "kept", HS_OVERFLOW_STOP, id);
    ask_exact(&f, id, "the second question", 20, 0);
    assert_int_equal(answer.usage.cached_tokens, n_in_kv);
    llama_stop(&f);
    test_dir_remove(dir);
}

static void a_session_is_restored_with_its_kv(void **state)
{
    (void)state;
    check_restore(TINY_GGUF_LLAMA);
    check_restore(TINY_GGUF_GEMMA3);
    check_restore(TINY_GGUF_MAMBA);
}

/*
 * After a restart, what does not go on exactly where the KV ends: the last question again, then
 * another one in its place. The state is set back to a checkpoint that was saved with it.
 */
static void check_restore_elsewhere(enum tiny_gguf_arch arch, bool has_checkpoints)
{
    char *dir = test_dir_make();
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = dir;
    struct tiny_gguf_spec spec = arch_spec(arch);
    struct llama_fixture f;
    char id[HS_ID_MAX];
    for (int turn = 0; turn < 3; turn++) {
        llama_start(&f, &spec, &params, NULL, 1024, 4);
        open_session(f.engine, "kept", HS_OVERFLOW_STOP, id);
        if (turn == 1) {
            assert_int_equal(hs_session_truncate(f.engine, id, 3, &err), HS_OK);
            ask_exact(&f, id, NULL, 40, 0);
        } else if (turn == 2) {
            assert_int_equal(hs_session_truncate(f.engine, id, 2, &err), HS_OK);
            ask_exact(&f, id, "quite another question", 40, 0);
        } else {
            ask_exact(&f, id, "the first question of two", 40, 0);
            ask_exact(&f, id, "the second question, which is longer", 40, 0);
        }
        if (turn > 0) {
            int32_t n_new = answer.usage.prompt_tokens - answer.usage.cached_tokens;
            assert_true(answer.usage.cached_tokens > 60);
            assert_true(!has_checkpoints || n_new < 60);
        }
        llama_stop(&f);
    }
    test_dir_remove(dir);
}

static void a_session_is_restored_with_its_checkpoints(void **state)
{
    (void)state;
    check_restore_elsewhere(TINY_GGUF_LLAMA, false);
    check_restore_elsewhere(TINY_GGUF_GEMMA3, true);
    check_restore_elsewhere(TINY_GGUF_MAMBA, true);
}

/* The next turn, the same question again, and another one instead of it. */
static void check_turns(enum tiny_gguf_arch arch)
{
    struct tiny_gguf_spec spec = arch_spec(arch);
    spec.history_stops = true;
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 1024, 4);
    char id[HS_ID_MAX];
    open_session(f.engine, NULL, HS_OVERFLOW_STOP, id);
    for (size_t turn = 0; turn < 4; turn++) {
        ask_exact(&f, id, "a question that takes some tokens to ask?", 15, 0);
        if (turn > 0) {
            assert_true(answer.usage.cached_tokens >= answer.usage.prompt_tokens / 3);
        }
        assert_int_equal(hs_session_truncate(f.engine, id, 2 * turn + 1, &err), HS_OK);
        ask_exact(&f, id, NULL, 15, 0);
        assert_true(answer.usage.cached_tokens >= answer.usage.prompt_tokens - 30);
        assert_int_equal(hs_session_truncate(f.engine, id, 2 * turn, &err), HS_OK);
        ask_exact(&f, id, "another question instead of the one above?", 15, 0);
        assert_true(turn == 0 || answer.usage.cached_tokens >= answer.usage.prompt_tokens / 3);
    }
    llama_stop(&f);
}

static void turns_reuse_what_memories_that_cannot_be_cut_kept(void **state)
{
    (void)state;
    check_turns(TINY_GGUF_LLAMA);
    check_turns(TINY_GGUF_GEMMA3);
    check_turns(TINY_GGUF_MAMBA);
}

static void talk_until_killed(const char *dir, int fd)
{
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = dir;
    struct tiny_gguf_spec spec = history_spec();
    struct llama_fixture f;
    char id[HS_ID_MAX];
    llama_start(&f, &spec, &params, NULL, 1024, 4);
    open_session(f.engine, "kept", HS_OVERFLOW_SHIFT, id);
    for (;;) {
        struct hs_generate_params generate = test_params(5);
        test_collect(test_generate(f.engine, id, "more", &generate), &answer);
        size_t n = 0;
        if (hs_session_message_count(f.engine, id, &n, &err) != HS_OK ||
            write(fd, &n, sizeof(n)) != sizeof(n)) {
            _exit(1);
        }
    }
}

static void kill_in_the_middle_of_turns_keeps_the_earlier_ones(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    for (int round = 0; round < 3; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        /* A process of its own: llama.cpp's threads do not survive a fork. */
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(fds[0]);
            char fd[16];
            snprintf(fd, sizeof(fd), "%d", fds[1]);
            execl("/proc/self/exe", "test_engine_llama", "--talk", dir, fd, (char *)NULL);
            _exit(1);
        }
        close(fds[1]);
        size_t n = 0;
        size_t n_reported = 0;
        for (int i = 0; i < 3 + round; i++) {
            assert_int_equal(read(fds[0], &n, sizeof(n)), sizeof(n));
        }
        test_sleep_ms(3 * round);
        kill(child, SIGKILL);
        do {
            n_reported = n;
        } while (read(fds[0], &n, sizeof(n)) == sizeof(n));
        close(fds[0]);
        waitpid(child, NULL, 0);
        struct hs_engine_params params;
        hs_engine_params_defaults(&params);
        params.sessions_dir = dir;
        struct tiny_gguf_spec spec = history_spec();
        struct llama_fixture f;
        char id[HS_ID_MAX];
        llama_start(&f, &spec, &params, NULL, 1024, 4);
        open_session(f.engine, "kept", HS_OVERFLOW_STOP, id);
        assert_int_equal(hs_session_message_count(f.engine, id, &n, &err), HS_OK);
        assert_in_range(n, n_reported, n_reported + 2);
        ask_exact(&f, id, "go on", 5, 0);
        llama_stop(&f);
    }
    test_dir_remove(dir);
}

/* The rule of README.md, worked out anew: turns go until three quarters are not exceeded. */
static void the_context_shifts_by_whole_messages(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = history_spec();
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 256, 4);
    struct hs_model_info info;
    assert_int_equal(hs_engine_model_info(f.engine, "m", &info, &err), HS_OK);
    size_t n_ctx = (size_t)info.n_ctx;
    char id[HS_ID_MAX];
    open_session(f.engine, NULL, HS_OVERFLOW_SHIFT, id);
    size_t first = 0;
    int n_shifts = 0;
    for (size_t turn = 0; turn < 15; turn++) {
        struct hs_generate_params params = test_params(6);
        test_collect(test_generate(f.engine, id, "what is next?", &params), &answer);
        assert_int_equal(answer.usage.completion_tokens, 6);
        size_t n_messages = 1 + 2 * turn;
        size_t before = first;
        size_t n = llama_session_prompt(f.engine, id, first, n_messages, tokens);
        while (n >= n_ctx || (first > before && n > n_ctx - n_ctx / 4)) {
            first += 2;
            n = llama_session_prompt(f.engine, id, first, n_messages, tokens);
        }
        /* Or the answer itself reached the end. */
        bool is_late = n + 6 > n_ctx;
        if (!is_late) {
            assert_int_equal(answer.usage.prompt_tokens, n);
            assert_int_equal(answer.usage.dropped_messages, first - before);
            llama_answer(&spec, tokens, n, 6, n_ctx, expected);
            assert_string_equal(answer.text, expected);
        } else {
            first += (size_t)answer.usage.dropped_messages;
        }
        n_shifts += answer.usage.dropped_messages > 0;
    }
    assert_true(n_shifts >= 1);
    llama_stop(&f);
}

/* ---- cancellation and threads ---- */

/*
 * The whole prompt is one batch, and what a batch evaluated counts only when it was finished: a
 * request that was let in and leaves the count alone was stopped in the middle of its batch.
 */
static void a_long_prompt_can_be_cancelled(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    struct llama_fixture f;
    struct hs_model_params model = crowd_model(4096, 4);
    model.n_batch = 4096;
    model.n_ubatch = 32;
    llama_start(&f, &spec, NULL, &model, 0, 0);
    for (size_t i = 0; i < 4000; i++) {
        tokens[i] = TINY_GGUF_ANSWER0 + (int32_t)(i % 256);
    }
    struct hs_generate_params params = test_params(1);
    params.cache_prompt = false;
    test_collect(llama_complete(f.engine, tokens, 4000, &params), &answer);
    struct hs_model_stats before = test_stats(f.engine);
    assert_int_equal(before.n_prompt_tokens, 4000);
    assert_int_equal(before.n_decode_calls, 1);
    int n_aborted = 0;
    for (int round = 0; round < 10; round++) {
        hs_stream *stream = llama_complete(f.engine, tokens, 4000, &params);
        test_wait_for(f.engine, 1, 0);
        test_sleep_ms(round);
        hs_stream_cancel(stream);
        test_collect(stream, &answer);
        test_wait_for(f.engine, 0, 0);
        struct hs_model_stats after = test_stats(f.engine);
        assert_int_equal(after.n_decode_calls, before.n_decode_calls + 1);
        if (after.n_prompt_tokens == before.n_prompt_tokens) {
            assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
            assert_int_equal(answer.usage.completion_tokens, 0);
            n_aborted++;
        }
        before = after;
    }
    print_message("stopped in the middle: %d of 10\n", n_aborted);
    assert_true(n_aborted > 0);
    run_exact(&f, 900, 20);
    llama_stop(&f);
}

struct talker {
    hs_engine *engine;
    const struct tiny_gguf_spec *spec;
    uint32_t seed;
    int n_wrong;
};

/* cmocka's asserts are for the main thread: this one counts. */
static void *talk(void *arg)
{
    struct talker *talker = arg;
    for (int i = 0; i < 12; i++) {
        struct hs_error error;
        char text[64];
        test_text(text, 10 + (size_t)i, talker->seed + (uint32_t)i);
        int32_t *list = NULL;
        size_t n = 0;
        struct hs_generate_params params = test_params(15);
        hs_stream *stream = NULL;
        if (hs_engine_tokenize(talker->engine, "m", text, strlen(text), true, true, &list, &n,
                               &error) != HS_OK ||
            hs_engine_complete(talker->engine, "m", NULL, 0, list, n, &params, &stream, &error) !=
                HS_OK) {
            talker->n_wrong++;
            hs_tokens_free(list);
            continue;
        }
        int32_t all[128];
        char wanted[256];
        char got[256] = "";
        memcpy(all, list, n * sizeof(all[0]));
        hs_tokens_free(list);
        llama_answer(talker->spec, all, n, 15, 1024, wanted);
        struct hs_event event;
        bool is_cancelled = i % 4 == 3;
        do {
            if (hs_stream_next(stream, 60000, &event, &error) != HS_OK) {
                talker->n_wrong++;
                break;
            }
            strcat(got, event.text);
            if (is_cancelled) {
                hs_stream_cancel(stream);
            }
        } while (event.type != HS_EVENT_DONE);
        talker->n_wrong += strncmp(got, wanted, strlen(got)) != 0;
        talker->n_wrong += !is_cancelled && strcmp(got, wanted) != 0;
        hs_stream_free(stream);
    }
    return NULL;
}

static void many_threads_talk_at_once(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = history_spec();
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 1024, 6);
    pthread_t threads[8];
    struct talker talkers[8];
    for (uint32_t i = 0; i < 8; i++) {
        talkers[i] = (struct talker){f.engine, &spec, i * 1000, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, talk, &talkers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(talkers[i].n_wrong, 0);
    }
    llama_stop(&f);
}

static void two_models_run_beside_each_other(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec = history_spec();
    struct llama_fixture f;
    llama_start(&f, &spec, NULL, NULL, 1024, 4);
    struct llama_fixture g;
    int32_t next[TINY_GGUF_N_VOCAB];
    struct tiny_gguf_spec speaker = speaker_spec(next, "Hello world");
    llama_start(&g, &speaker, NULL, NULL, 512, 2);
    size_t n = llama_tokens(g.engine, "!", true, tokens);
    struct hs_generate_params params = test_params(-1);
    test_collect(llama_complete(g.engine, tokens, n, &params), &answer);
    assert_string_equal(answer.text, "Hello world");
    n = llama_tokens(f.engine, "something", true, tokens);
    run_exact(&f, n, 20);
    llama_stop(&g);
    run_exact(&f, n, 20);
    llama_stop(&f);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--talk") == 0) {
        talk_until_killed(argv[2], atoi(argv[3]));
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_text_is_streamed_to_its_end),
        cmocka_unit_test(a_call_that_begins_is_finished),
        cmocka_unit_test(stop_strings_cut_across_tokens),
        cmocka_unit_test(without_a_template_answers_end_before_the_next_user),
        cmocka_unit_test(history_is_exact_and_reused_exactly),
        cmocka_unit_test(sixty_four_sequences_do_not_mix),
        cmocka_unit_test(few_cells_are_shared_by_preemption),
        cmocka_unit_test(few_sequences_are_shared_in_turn),
        cmocka_unit_test(small_batches_give_the_same),
        cmocka_unit_test(q8_kv_and_attention_kinds_give_the_same),
        cmocka_unit_test(a_sliding_window_is_shared_rightly),
        cmocka_unit_test(a_recurrent_state_is_shared_rightly),
        cmocka_unit_test(cuts_go_back_to_checkpoints),
        cmocka_unit_test(turns_reuse_what_memories_that_cannot_be_cut_kept),
        cmocka_unit_test(sixty_four_sessions_talk_in_turn),
        cmocka_unit_test(a_session_is_restored_with_its_kv),
        cmocka_unit_test(a_session_is_restored_with_its_checkpoints),
        cmocka_unit_test(kill_in_the_middle_of_turns_keeps_the_earlier_ones),
        cmocka_unit_test(the_context_shifts_by_whole_messages),
        cmocka_unit_test(a_long_prompt_can_be_cancelled),
        cmocka_unit_test(many_threads_talk_at_once),
        cmocka_unit_test(two_models_run_beside_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
