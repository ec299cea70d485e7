/* Conversations: turns, files, KV kept and brought back, refusals while busy. */
#include "session_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "storage/session_store.h"

/* The text of the whole session as the fake's template renders it. */
static size_t render_session(hs_engine *engine, const char *id, int32_t *tokens)
{
    char text[ANSWER_MAX] = "";
    size_t len = 0;
    size_t n = 0;
    assert_int_equal(hs_session_message_count(engine, id, &n, &err), HS_OK);
    for (size_t i = 0; i < n; i++) {
        struct hs_message message;
        assert_int_equal(hs_session_message(engine, id, i, &message, &err), HS_OK);
        bool is_answer = strcmp(message.role, "assistant") == 0;
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                is_answer ? "<|gen|>%s%s<|end|>\n" : "[%s]%s\n",
                                is_answer ? "" : message.role, message.content);
        hs_message_free(&message);
    }
    snprintf(text + len, sizeof(text) - len, "<|gen|>");
    return fake_tokenize(text, tokens);
}

static void turns_join_and_their_kv_is_reused(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    hs_engine *engine = open_engine(NULL, 2048);
    char id[HS_ID_MAX];
    open_session(engine, NULL, "be brief", id);
    assert_int_equal(count(engine, id), 1);
    int32_t tokens[ANSWER_MAX];
    char expected[ANSWER_MAX];
    int32_t n_in_kv = 0;
    for (int turn = 0; turn < 5; turn++) {
        char question[32];
        snprintf(question, sizeof(question), "question %d", turn);
        ask(engine, id, question, 50);
        assert_int_equal(answer.finish, HS_FINISH_STOP);
        assert_int_equal(count(engine, id), 3 + 2 * turn);
        expect_message(engine, id, 1 + 2 * (size_t)turn, "user", question);
        expect_message(engine, id, 2 + 2 * (size_t)turn, "assistant", answer.text);
        /* The answer is right for the conversation up to there, and only what is new was read. */
        assert_int_equal(answer.usage.cached_tokens, n_in_kv);
        n_in_kv = answer.usage.prompt_tokens + 9;
    }
    assert_int_equal(hs_session_truncate(engine, id, 10, &err), HS_OK);
    size_t n = render_session(engine, id, tokens);
    fake_answer(tokens, n, 50, 2048, expected);
    assert_string_equal(answer.text, expected);
    hs_engine_free(engine);
    test_check_clean();
}

static void the_last_question_can_be_answered_again(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    hs_engine *engine = open_engine(NULL, 2048);
    char id[HS_ID_MAX];
    open_session(engine, NULL, NULL, id);
    struct hs_generate_params params = test_params(20);
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_generate(engine, id, NULL, &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    ask(engine, id, "hello", 20);
    struct answer first;
    first = answer;
    assert_int_equal(hs_engine_generate(engine, id, NULL, &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_session_truncate(engine, id, 1, &err), HS_OK);
    ask(engine, id, NULL, 20);
    assert_string_equal(answer.text, first.text);
    /* All of the prompt but one token. */
    assert_int_equal(answer.usage.cached_tokens, answer.usage.prompt_tokens - 1);
    assert_int_equal(count(engine, id), 2);
    hs_engine_free(engine);
    test_check_clean();
}

static void system_messages_are_set_and_removed(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.answer_len = 3});
    hs_engine *engine = open_engine(NULL, 2048);
    char id[HS_ID_MAX];
    open_session(engine, NULL, NULL, id);
    ask(engine, id, "q", 20);
    assert_int_equal(hs_session_set_system(engine, id, "one", &err), HS_OK);
    expect_message(engine, id, 0, "system", "one");
    expect_message(engine, id, 1, "user", "q");
    assert_int_equal(hs_session_set_system(engine, id, "two", &err), HS_OK);
    assert_int_equal(count(engine, id), 3);
    expect_message(engine, id, 0, "system", "two");
    assert_int_equal(hs_session_set_system(engine, id, NULL, &err), HS_OK);
    assert_int_equal(hs_session_set_system(engine, id, NULL, &err), HS_OK);
    assert_int_equal(count(engine, id), 2);
    expect_message(engine, id, 0, "user", "q");
    hs_engine_free(engine);
    test_check_clean();
}

static void a_session_generates_once_at_a_time(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.answer_len = 5});
    hs_engine *engine = open_engine(NULL, 2048);
    char id[HS_ID_MAX];
    open_session(engine, NULL, NULL, id);
    struct hs_generate_params params = test_params(20);
    fake_runtime_pause();
    hs_stream *stream = test_generate(engine, id, "one", &params);
    hs_stream *second = NULL;
    char model_id[] = "m";
    assert_int_equal(hs_engine_generate(engine, id, "two", &params, &second, &err), HS_BUSY);
    assert_int_equal(hs_session_truncate(engine, id, 0, &err), HS_BUSY);
    assert_int_equal(hs_session_set_system(engine, id, "s", &err), HS_BUSY);
    assert_int_equal(hs_engine_close_session(engine, id, &err), HS_BUSY);
    assert_int_equal(hs_engine_unload_model(engine, model_id, &err), HS_BUSY);
    assert_int_equal(count(engine, id), 1);
    fake_runtime_resume();
    test_collect(stream, &answer);
    assert_int_equal(count(engine, id), 2);
    assert_int_equal(hs_engine_unload_model(engine, model_id, &err), HS_BUSY);
    assert_non_null(strstr(err.message, "open sessions"));
    assert_int_equal(hs_engine_close_session(engine, id, &err), HS_OK);
    assert_int_equal(hs_engine_close_session(engine, id, &err), HS_NOT_FOUND);
    assert_int_equal(hs_engine_unload_model(engine, model_id, &err), HS_OK);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_cancelled_answer_joins_and_an_error_leaves_no_trace(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.fail_decode = 30});
    hs_engine *engine = open_engine(NULL, 2048);
    char id[HS_ID_MAX];
    open_session(engine, NULL, NULL, id);
    struct hs_generate_params params = test_params(1000);
    fake_runtime_pause();
    hs_stream *stream = test_generate(engine, id, "cancel me", &params);
    fake_runtime_wait_held();
    fake_runtime_step(6);
    hs_stream_cancel(stream);
    fake_runtime_resume();
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    assert_true(answer.len >= 6);
    assert_int_equal(count(engine, id), 2);
    expect_message(engine, id, 1, "assistant", answer.text);
    ask(engine, id, "fail", 1000);
    assert_int_equal(answer.finish, HS_FINISH_ERROR);
    assert_int_equal(count(engine, id), 2);
    ask(engine, id, "again", 10);
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    assert_int_equal(count(engine, id), 4);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_refused_request_leaves_no_trace(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = open_engine(NULL, 64);
    char id[HS_ID_MAX];
    open_session(engine, NULL, NULL, id);
    struct hs_generate_params params = test_params(10);
    char text[101];
    test_text(text, 100, 1);
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_generate(engine, id, text, &params, &stream, &err), HS_CONTEXT_FULL);
    assert_int_equal(count(engine, id), 0);
    params.n_logprobs = 21;
    assert_int_equal(hs_engine_generate(engine, id, "q", &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    params.n_logprobs = 0;
    params.sampling.top_p = 2;
    assert_int_equal(hs_engine_generate(engine, id, "q", &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(count(engine, id), 0);
    ask(engine, id, "q", 5);
    assert_int_equal(count(engine, id), 2);
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- reasoning ---- */

static int32_t next_with_reasoning(const int32_t *tokens, size_t n, void *user)
{
    (void)user;
    static const char text[] = "<think>hm, well</think>\n\nyes";
    size_t n_answer = 0;
    for (size_t i = 0; i < n; i++) {
        n_answer = tokens[i] == FAKE_GEN ? 0 : n_answer + 1;
    }
    return n_answer < sizeof(text) - 1 ? text[n_answer] : FAKE_EOG;
}

static void reasoning_is_kept_out_of_the_content(void **state)
{
    (void)state;
    for (int split = 0; split < 2; split++) {
        fake_runtime_reset(&(struct fake_config){.next = next_with_reasoning,
                                                 .reasoning_start = "<think>",
                                                 .reasoning_end = "</think>"});
        hs_engine *engine = open_engine(NULL, 2048);
        char id[HS_ID_MAX];
        open_session(engine, NULL, NULL, id);
        struct hs_generate_params params = test_params(100);
        params.split_reasoning = split == 1;
        test_collect(test_generate(engine, id, "q", &params), &answer);
        assert_string_equal(answer.text, split == 1 ? "yes" : "<think>hm, well</think>\n\nyes");
        assert_string_equal(answer.reasoning, split == 1 ? "hm, well" : "");
        struct hs_message message;
        assert_int_equal(hs_session_message(engine, id, 1, &message, &err), HS_OK);
        assert_string_equal(message.content, "yes");
        assert_string_equal(message.reasoning, "hm, well");
        hs_message_free(&message);
        hs_engine_free(engine);
        test_check_clean();
    }
}

/* ---- files ---- */

static void a_named_session_goes_on_after_a_restart(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    char id[HS_ID_MAX];
    struct answer first;
    int32_t n_in_kv = 0;
    hs_engine *engine = open_engine(dir, 2048);
    open_session(engine, "work", "be brief", id);
    assert_string_equal(id, "work");
    ask(engine, id, "remember me", 50);
    first = answer;
    n_in_kv = answer.usage.prompt_tokens + 9;
    hs_engine_free(engine);
    test_check_clean();

    engine = open_engine(dir, 2048);
    open_session(engine, "work", NULL, id);
    assert_int_equal(count(engine, id), 3);
    expect_message(engine, id, 0, "system", "be brief");
    expect_message(engine, id, 2, "assistant", first.text);
    ask(engine, id, "and now?", 50);
    assert_int_equal(answer.usage.cached_tokens, n_in_kv);
    assert_int_equal(test_counters().n_state_load, 1);
    assert_int_equal(hs_engine_close_session(engine, id, &err), HS_OK);
    /* Closed and opened within one engine. */
    open_session(engine, "work", NULL, id);
    assert_int_equal(count(engine, id), 5);
    hs_engine_free(engine);
    test_check_clean();
    test_dir_remove(dir);
}

static void kv_that_does_not_fit_is_evaluated_again(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    char id[HS_ID_MAX];
    hs_engine *engine = open_engine(dir, 2048);
    open_session(engine, "work", NULL, id);
    ask(engine, id, "remember me", 50);
    hs_engine_free(engine);
    /* Another KV type: another cache key. */
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = dir;
    struct hs_model_params model;
    hs_model_params_defaults(&model);
    model.n_ctx = 2048;
    model.kv_type = HS_KV_Q8_0;
    engine = test_engine_model(&params, &model);
    open_session(engine, "work", NULL, id);
    ask(engine, id, "and now?", 50);
    assert_int_equal(answer.usage.cached_tokens, 0);
    assert_int_equal(answer.finish, HS_FINISH_STOP);
    hs_engine_free(engine);
    /* Right again, but the runtime refuses the state. */
    fake_runtime_reset(&(struct fake_config){.answer_len = 9, .fails_state_load = true});
    engine = test_engine_model(&params, &model);
    open_session(engine, "work", NULL, id);
    ask(engine, id, "and now?", 50);
    assert_int_equal(answer.usage.cached_tokens, 0);
    assert_int_equal(answer.finish, HS_FINISH_STOP);
    hs_engine_free(engine);
    test_check_clean();
    test_dir_remove(dir);
}

static void a_damaged_kv_file_is_ignored_and_a_damaged_text_is_reported(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    char id[HS_ID_MAX];
    hs_engine *engine = open_engine(dir, 2048);
    open_session(engine, "work", NULL, id);
    ask(engine, id, "remember me", 50);
    hs_engine_free(engine);
    char path[512];
    snprintf(path, sizeof(path), "%s/work/kv.bin", dir);
    assert_int_equal(truncate(path, 60), 0);
    engine = open_engine(dir, 2048);
    open_session(engine, "work", NULL, id);
    ask(engine, id, "and now?", 50);
    assert_int_equal(answer.usage.cached_tokens, 0);
    hs_engine_free(engine);
    snprintf(path, sizeof(path), "%s/work/session.json", dir);
    assert_int_equal(truncate(path, 20), 0);
    engine = open_engine(dir, 2048);
    assert_int_equal(try_session(engine, "work", NULL, HS_OVERFLOW_STOP, id), HS_CORRUPT);
    hs_engine_free(engine);
    test_check_clean();
    test_dir_remove(dir);
}

static void a_session_is_open_once(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    hs_engine *engine = open_engine(dir, 2048);
    char id[HS_ID_MAX];
    open_session(engine, "work", NULL, id);
    assert_int_equal(try_session(engine, "work", NULL, HS_OVERFLOW_STOP, id), HS_BUSY);
    assert_int_equal(try_session(engine, "../x", NULL, HS_OVERFLOW_STOP, id), HS_INVALID_ARGUMENT);
    hs_engine_free(engine);
    engine = open_engine(NULL, 2048);
    open_session(engine, "memory", NULL, id);
    assert_int_equal(try_session(engine, "memory", NULL, HS_OVERFLOW_STOP, id), HS_BUSY);
    hs_engine_free(engine);
    test_check_clean();
    test_dir_remove(dir);
}

static void the_turn_is_on_disk_before_it_is_done(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    hs_engine *engine = open_engine(dir, 2048);
    char id[HS_ID_MAX];
    open_session(engine, "work", NULL, id);
    for (size_t turn = 1; turn <= 5; turn++) {
        ask(engine, id, "another question", 50);
        struct hs_session_record record;
        uint64_t size = 0;
        assert_int_equal(hs_session_store_read(dir, "work", &record, &size, &err), HS_OK);
        assert_int_equal(record.n_messages, 2 * turn);
        assert_string_equal(record.messages[2 * turn - 1].content, answer.text);
        hs_session_record_free(&record);
    }
    hs_engine_free(engine);
    test_check_clean();
    test_dir_remove(dir);
}

/* A child answers questions until it is killed; every turn it reported is there afterwards. */
static void kill_loses_at_most_the_turn_in_progress(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    test_model_path();
    for (int round = 0; round < 8; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            fake_runtime_reset(&(struct fake_config){.answer_len = 9});
            hs_engine *engine = open_engine(dir, 65536);
            char id[HS_ID_MAX];
            open_session(engine, "work", NULL, id);
            for (;;) {
                ask(engine, id, "a question", 50);
                size_t n = count(engine, id);
                if (write(fds[1], &n, sizeof(n)) != sizeof(n)) {
                    _exit(1);
                }
            }
        }
        close(fds[1]);
        size_t n = 0;
        size_t n_reported = 0;
        for (int i = 0; i < 2 + round * 3; i++) {
            assert_int_equal(read(fds[0], &n, sizeof(n)), sizeof(n));
        }
        kill(child, SIGKILL);
        n_reported = n;
        while (read(fds[0], &n, sizeof(n)) == sizeof(n)) {
            n_reported = n;
        }
        close(fds[0]);
        waitpid(child, NULL, 0);
        fake_runtime_reset(&(struct fake_config){.answer_len = 9});
        hs_engine *engine = open_engine(dir, 65536);
        char id[HS_ID_MAX];
        open_session(engine, "work", NULL, id);
        assert_in_range(count(engine, id), n_reported, n_reported + 2);
        ask(engine, id, "one more", 50);
        assert_int_equal(answer.finish, HS_FINISH_STOP);
        hs_engine_free(engine);
        test_check_clean();
    }
    test_dir_remove(dir);
}

/* ---- overflow ---- */

static void a_full_context_drops_whole_turns(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.answer_len = 30});
    hs_engine *engine = open_engine(NULL, 256);
    char id[HS_ID_MAX];
    assert_int_equal(try_session(engine, NULL, "S", HS_OVERFLOW_SHIFT, id), HS_OK);
    int32_t n_dropped = 0;
    for (int turn = 0; turn < 12; turn++) {
        ask(engine, id, "what comes next?", 100);
        assert_int_equal(answer.finish, HS_FINISH_STOP);
        assert_int_equal(answer.len, 30);
        n_dropped += answer.usage.dropped_messages;
        assert_true(answer.usage.prompt_tokens < 256);
        assert_int_equal(answer.usage.dropped_messages % 2, 0);
    }
    assert_true(n_dropped > 0);
    /* The session keeps its text. */
    assert_int_equal(count(engine, id), 1 + 24);
    hs_engine_free(engine);
    test_check_clean();
}

/* The answer itself fills the context: the oldest turns go, the answer goes on behind them. */
static void a_long_answer_drops_turns_and_goes_on(void **state)
{
    (void)state;
    fake_runtime_reset(&(struct fake_config){.answer_len = 20});
    hs_engine *engine = open_engine(NULL, 256);
    char id[HS_ID_MAX];
    assert_int_equal(try_session(engine, NULL, "S", HS_OVERFLOW_SHIFT, id), HS_OK);
    for (int turn = 0; turn < 4; turn++) {
        ask(engine, id, "short", 100);
    }
    char text[8][64];
    for (size_t i = 0; i < 8; i++) {
        struct hs_message message;
        assert_int_equal(hs_session_message(engine, id, i + 1, &message, &err), HS_OK);
        snprintf(text[i], sizeof(text[i]), "%s", message.content);
        hs_message_free(&message);
    }
    hs_engine_free(engine);

    /* The same conversation without a session, answered without end. */
    fake_runtime_reset(NULL);
    engine = open_engine(NULL, 256);
    struct hs_message messages[10] = {{.role = "system", .content = "S"}};
    for (size_t i = 0; i < 8; i++) {
        messages[i + 1] =
            (struct hs_message){.role = i % 2 == 0 ? "user" : "assistant", .content = text[i]};
    }
    messages[9] = (struct hs_message){.role = "user", .content = "long"};
    struct hs_generate_params params = test_params(-1);
    params.overflow = HS_OVERFLOW_SHIFT;
    params.stream_capacity = 8192;
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_chat(engine, "m", NULL, 0, messages, 10, &params, &stream, &err),
                     HS_OK);
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    assert_int_equal(answer.usage.dropped_messages, 8);

    /* By the rules: prompt and answer up to 256; then turns go until 192 (or one is left). */
    int32_t tokens[ANSWER_MAX];
    char expected[ANSWER_MAX];
    size_t n_answer = 0;
    size_t n_turns = 4;
    for (;;) {
        char prompt[4096];
        size_t len = (size_t)snprintf(prompt, sizeof(prompt), "[system]S\n");
        for (size_t i = 8 - 2 * n_turns; i < 8; i++) {
            len += (size_t)snprintf(prompt + len, sizeof(prompt) - len,
                                    i % 2 == 0 ? "[user]%s\n" : "<|gen|>%s<|end|>\n", text[i]);
        }
        snprintf(prompt + len, sizeof(prompt) - len, "[user]long\n<|gen|>");
        size_t n = fake_tokenize(prompt, tokens);
        bool fits = n + n_answer < 256 && (n_answer == 0 || n + n_answer <= 192 || n_turns == 0);
        if (fits) {
            for (size_t i = 0; i < n_answer; i++) {
                tokens[n + i] = (unsigned char)expected[i];
            }
            n_answer += fake_answer(tokens, n + n_answer, 1000, 256, expected + n_answer);
        }
        if (n_turns == 0) {
            break;
        }
        n_turns--;
    }
    assert_string_equal(answer.text, expected);
    assert_int_equal(answer.usage.completion_tokens, n_answer);
    hs_engine_free(engine);
    test_check_clean();
}

static void a_stopping_session_ends_with_length(void **state)
{
    (void)state;
    fake_runtime_reset(NULL);
    hs_engine *engine = open_engine(NULL, 256);
    char id[HS_ID_MAX];
    open_session(engine, NULL, NULL, id);
    ask(engine, id, "without end", -1);
    assert_int_equal(answer.finish, HS_FINISH_LENGTH);
    assert_int_equal(answer.usage.prompt_tokens + answer.usage.completion_tokens, 256);
    struct hs_generate_params params = test_params(10);
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_generate(engine, id, "more", &params, &stream, &err),
                     HS_CONTEXT_FULL);
    hs_engine_free(engine);
    test_check_clean();
}

/* ---- the end ---- */

static void the_engine_can_go_in_the_middle_of_turns(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.decode_us = 300});
    hs_engine *engine = open_engine(dir, 8192);
    hs_stream *streams[3];
    struct hs_generate_params params = test_params(100000);
    char id[HS_ID_MAX];
    for (int i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof(name), "s%d", i);
        open_session(engine, i == 2 ? NULL : name, NULL, id);
        streams[i] = test_generate(engine, id, "go on and on", &params);
    }
    for (int i = 0; i < 3; i++) {
        struct hs_event event;
        assert_int_equal(hs_stream_next(streams[i], -1, &event, &err), HS_OK);
        assert_int_equal(event.type, HS_EVENT_TEXT);
    }
    hs_engine_free(engine);
    for (int i = 0; i < 3; i++) {
        test_collect(streams[i], &answer);
        assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    }
    test_check_clean();
    fake_runtime_reset(NULL);
    engine = open_engine(dir, 8192);
    open_session(engine, "s0", NULL, id);
    assert_int_equal(count(engine, id), 2);
    hs_engine_free(engine);
    test_dir_remove(dir);
}

/* Every allocation of opening, two turns and closing fails once; the text on disk stays whole. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    hs_log_set_level(HS_LOG_OFF);
    fake_runtime_reset(&(struct fake_config){.answer_len = 4});
    hs_engine *engine = NULL;
    for (uint64_t i = 1; i < 400; i += 3) {
        char *dir = test_dir_make();
        engine = open_engine(dir, 2048);
        char id[HS_ID_MAX];
        hs_mem_fail_after(i);
        hs_status status = try_session(engine, "work", "be brief", HS_OVERFLOW_SHIFT, id);
        size_t n_messages = 1;
        for (int turn = 0; turn < 2 && status == HS_OK; turn++) {
            struct hs_generate_params params = test_params(10);
            hs_stream *stream = NULL;
            status = hs_engine_generate(engine, id, "question", &params, &stream, &err);
            if (status == HS_OK) {
                test_collect(stream, &answer);
                n_messages += answer.finish == HS_FINISH_ERROR ? 0 : 2;
                status = answer.finish == HS_FINISH_ERROR ? answer.error.status : HS_OK;
            }
        }
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        if (n_messages > 1) {
            assert_int_equal(count(engine, id), n_messages);
        }
        hs_engine_free(engine);
        test_dir_remove(dir);
    }
    hs_log_set_level(HS_LOG_WARN);
    test_check_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_join_and_their_kv_is_reused),
        cmocka_unit_test(the_last_question_can_be_answered_again),
        cmocka_unit_test(system_messages_are_set_and_removed),
        cmocka_unit_test(a_session_generates_once_at_a_time),
        cmocka_unit_test(a_cancelled_answer_joins_and_an_error_leaves_no_trace),
        cmocka_unit_test(a_refused_request_leaves_no_trace),
        cmocka_unit_test(reasoning_is_kept_out_of_the_content),
        cmocka_unit_test(a_named_session_goes_on_after_a_restart),
        cmocka_unit_test(kv_that_does_not_fit_is_evaluated_again),
        cmocka_unit_test(a_damaged_kv_file_is_ignored_and_a_damaged_text_is_reported),
        cmocka_unit_test(a_session_is_open_once),
        cmocka_unit_test(the_turn_is_on_disk_before_it_is_done),
        cmocka_unit_test(kill_loses_at_most_the_turn_in_progress),
        cmocka_unit_test(a_full_context_drops_whole_turns),
        cmocka_unit_test(a_long_answer_drops_turns_and_goes_on),
        cmocka_unit_test(a_stopping_session_ends_with_length),
        cmocka_unit_test(the_engine_can_go_in_the_middle_of_turns),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
