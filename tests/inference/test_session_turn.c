/* What is saved of a session and when, and turns that leave no trace. */
#include "session_test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "storage/session_store.h"

static struct hs_session_record read_session(const char *dir)
{
    struct hs_session_record record = {0};
    if (hs_session_store_read(dir, "work", &record, NULL, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return record;
}

static void expect_saved(const char *dir, size_t n_messages, const char *last)
{
    struct hs_session_record record = read_session(dir);
    assert_int_equal(record.n_messages, n_messages);
    assert_string_equal(record.messages[n_messages - 1].content, last);
    hs_session_record_free(&record);
}

/* A folder in the place of session.json: it cannot be replaced, by nobody. */
static void block_saving(const char *dir, bool block)
{
    char path[512];
    char aside[512];
    snprintf(path, sizeof(path), "%s/work/session.json", dir);
    snprintf(aside, sizeof(aside), "%s/work/aside", dir);
    if (block) {
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(mkdir(path, 0700), 0);
        hs_log_set_level(HS_LOG_OFF);
    } else {
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(rename(aside, path), 0);
        hs_log_set_level(HS_LOG_WARN);
    }
}

static void expect_params(const char *dir, float temp, uint32_t seed, const char *stop)
{
    struct hs_session_record record = read_session(dir);
    assert_non_null(record.params);
    assert_true(record.params->sampling.temp == temp);
    assert_int_equal(record.params->sampling.seed, seed);
    assert_int_equal(record.params->n_stop, stop == NULL ? 0 : 1);
    if (stop != NULL) {
        assert_string_equal(record.params->stop[0], stop);
    }
    hs_session_record_free(&record);
}

static void the_parameters_of_the_last_turn_are_saved(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    hs_engine *engine = open_engine(dir, 2048);
    char id[HS_ID_MAX];
    open_session(engine, "work", NULL, id);
    static const char *const stops[] = {"\n\n"};
    struct hs_generate_params params = test_params(50);
    params.sampling.temp = 0.25f;
    params.sampling.seed = 5;
    params.stop = stops;
    params.n_stop = 1;
    test_collect(test_generate(engine, id, "q", &params), &answer);
    expect_params(dir, 0.25f, 5, "\n\n");
    hs_engine_free(engine);
    /* A change without a turn keeps them, and so does a turn that fails. */
    engine = open_engine(dir, 2048);
    open_session(engine, "work", NULL, id);
    assert_int_equal(hs_session_set_system(engine, id, "be brief", &err), HS_OK);
    expect_params(dir, 0.25f, 5, "\n\n");
    hs_stream *stream = NULL;
    static const char *const bad_stops[] = {"\xff"};
    params.stop = bad_stops;
    assert_int_equal(hs_engine_generate(engine, id, "q", &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    params = test_params(50);
    params.sampling.seed = 7;
    assert_int_equal(hs_session_truncate(engine, id, 2, &err), HS_OK);
    fake_runtime_pause();
    stream = test_generate(engine, id, NULL, &params);
    hs_stream_cancel(stream);
    fake_runtime_resume();
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    assert_int_equal(hs_session_set_system(engine, id, NULL, &err), HS_OK);
    expect_params(dir, 0.25f, 5, "\n\n");
    /* Those of another turn take their place. */
    params.sampling.temp = 0.5f;
    test_collect(test_generate(engine, id, "q", &params), &answer);
    expect_params(dir, 0.5f, 7, NULL);
    hs_engine_free(engine);
    test_check_clean();
    test_dir_remove(dir);
}

static void the_overflow_of_a_session_is_resumed(void **state)
{
    (void)state;
    static const struct {
        enum hs_overflow asked, saved;
    } steps[] = {{HS_OVERFLOW_SHIFT, HS_OVERFLOW_SHIFT},
                 {HS_OVERFLOW_SAVED, HS_OVERFLOW_SHIFT},
                 {HS_OVERFLOW_STOP, HS_OVERFLOW_STOP},
                 {HS_OVERFLOW_SAVED, HS_OVERFLOW_STOP}};
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    struct hs_session_params defaults;
    hs_session_params_defaults(&defaults);
    assert_int_equal(defaults.overflow, HS_OVERFLOW_SAVED);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        hs_engine *engine = open_engine(dir, 2048);
        char id[HS_ID_MAX];
        assert_int_equal(try_session(engine, "work", NULL, steps[i].asked, id), HS_OK);
        ask(engine, id, "q", 50);
        struct hs_session_record record = read_session(dir);
        assert_int_equal(record.overflow, steps[i].saved);
        hs_session_record_free(&record);
        assert_int_equal(try_session(engine, "x", NULL, (enum hs_overflow)2, id),
                         HS_INVALID_ARGUMENT);
        assert_int_equal(try_session(engine, NULL, NULL, HS_OVERFLOW_SAVED, id), HS_OK);
        ask(engine, id, "q", 50);
        assert_int_equal(answer.finish, HS_FINISH_STOP);
        hs_engine_free(engine);
    }
    test_check_clean();
    test_dir_remove(dir);
}

static void a_turn_that_was_not_saved_is_saved_later(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    for (int how = 0; how < 3; how++) {
        hs_engine *engine = open_engine(dir, 2048);
        char id[HS_ID_MAX];
        open_session(engine, "work", NULL, id);
        ask(engine, id, "one", 50);
        struct answer first;
        first = answer;
        size_t n = count(engine, id);
        block_saving(dir, true);
        ask(engine, id, "two", 50);
        assert_int_equal(answer.finish, HS_FINISH_STOP);
        assert_int_equal(hs_engine_close_session(engine, id, &err), HS_IS_DIRECTORY);
        assert_non_null(strstr(err.message, "'work'"));
        /* It is open still, with all that was said. */
        assert_int_equal(count(engine, id), n + 2);
        block_saving(dir, false);
        expect_saved(dir, n, first.text);
        if (how == 0) {
            assert_int_equal(hs_engine_close_session(engine, id, &err), HS_OK);
            expect_saved(dir, n + 2, answer.text);
        } else if (how == 1) {
            ask(engine, id, "three", 50);
            expect_saved(dir, n + 4, answer.text);
            n += 2;
        }
        hs_engine_free(engine);
        expect_saved(dir, n + 2, answer.text);
    }
    test_check_clean();
    test_dir_remove(dir);
}

static void a_change_that_cannot_be_saved_has_not_happened(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    hs_engine *engine = open_engine(dir, 2048);
    char id[HS_ID_MAX];
    open_session(engine, "work", "one", id);
    ask(engine, id, "q", 50);
    block_saving(dir, true);
    assert_int_equal(hs_session_set_system(engine, id, "two", &err), HS_IS_DIRECTORY);
    expect_message(engine, id, 0, "system", "one");
    assert_int_equal(hs_session_set_system(engine, id, NULL, &err), HS_IS_DIRECTORY);
    expect_message(engine, id, 0, "system", "one");
    assert_int_equal(count(engine, id), 3);
    block_saving(dir, false);
    assert_int_equal(hs_session_set_system(engine, id, "two", &err), HS_OK);
    expect_message(engine, id, 0, "system", "two");
    hs_engine_free(engine);
    expect_saved(dir, 3, answer.text);
    test_check_clean();
    test_dir_remove(dir);
}

/* Cut the last answer off and let the next one go wrong in some way: the old one is back, in memory
 * and on disk, where it was all the time. */
static void an_answer_that_fails_leaves_the_old_one(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    enum { REFUSED, CANCELLED_EARLY, CANCELLED_LATE, FAILED, ENGINE_FREED, N_WAYS };
    for (int way = 0; way < N_WAYS; way++) {
        fake_runtime_reset(&(struct fake_config){.fail_decode = way == FAILED ? 30 : 0});
        hs_engine *engine = open_engine(dir, 2048);
        char id[HS_ID_MAX];
        open_session(engine, "work", NULL, id);
        ask(engine, id, "q", 9);
        struct answer old;
        old = answer;
        size_t n = count(engine, id);
        assert_int_equal(hs_session_truncate(engine, id, n - 1, &err), HS_OK);
        assert_int_equal(count(engine, id), n - 1);
        expect_saved(dir, n, old.text);
        struct hs_generate_params params = test_params(1000);
        hs_stream *stream = NULL;
        if (way == REFUSED) {
            params.sampling.top_p = 2;
            assert_int_equal(hs_engine_generate(engine, id, NULL, &params, &stream, &err),
                             HS_INVALID_ARGUMENT);
        } else {
            fake_runtime_pause();
            stream = test_generate(engine, id, NULL, &params);
            if (way == CANCELLED_LATE) {
                fake_runtime_wait_held();
                fake_runtime_step(6);
            }
            if (way == CANCELLED_EARLY || way == CANCELLED_LATE) {
                hs_stream_cancel(stream);
            }
            expect_saved(dir, n, old.text);
            fake_runtime_resume();
        }
        if (way == ENGINE_FREED) {
            hs_engine_free(engine);
            engine = NULL;
        }
        if (stream != NULL) {
            test_collect(stream, &answer);
            assert_int_equal(answer.finish, way == FAILED ? HS_FINISH_ERROR : HS_FINISH_CANCELLED);
        }
        if (engine != NULL) {
            assert_int_equal(count(engine, id), n);
            expect_message(engine, id, n - 1, "assistant", old.text);
            expect_saved(dir, n, old.text);
        }
        hs_engine_free(engine);
        expect_saved(dir, n, old.text);
        test_check_clean();
    }
    test_dir_remove(dir);
}

static void what_was_cut_off_goes_with_the_next_answer(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    hs_engine *engine = open_engine(dir, 2048);
    char id[HS_ID_MAX];
    open_session(engine, "work", NULL, id);
    for (int turn = 0; turn < 3; turn++) {
        ask(engine, id, "question", 50);
    }
    /* In two cuts, and all of it comes back. */
    struct hs_generate_params params = test_params(50);
    params.sampling.top_p = 2;
    hs_stream *stream = NULL;
    assert_int_equal(hs_session_truncate(engine, id, 4, &err), HS_OK);
    assert_int_equal(hs_session_truncate(engine, id, 3, &err), HS_OK);
    assert_int_equal(hs_engine_generate(engine, id, NULL, &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(count(engine, id), 6);
    expect_message(engine, id, 2, "user", "question");
    expect_message(engine, id, 5, "assistant", answer.text);
    /* A new question is no answer anew: what was cut off before it stays off. */
    assert_int_equal(hs_session_truncate(engine, id, 2, &err), HS_OK);
    assert_int_equal(hs_engine_generate(engine, id, "x", &params, &stream, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(count(engine, id), 2);
    expect_saved(dir, 6, answer.text);
    ask(engine, id, "another", 50);
    expect_saved(dir, 4, answer.text);
    assert_int_equal(hs_session_truncate(engine, id, 3, &err), HS_OK);
    assert_int_equal(hs_session_set_system(engine, id, "s", &err), HS_OK);
    expect_saved(dir, 4, "another");
    assert_int_equal(hs_session_truncate(engine, id, 3, &err), HS_OK);
    assert_int_equal(hs_engine_close_session(engine, id, &err), HS_OK);
    struct hs_session_record record = read_session(dir);
    assert_int_equal(record.n_messages, 3);
    hs_session_record_free(&record);
    hs_engine_free(engine);
    test_check_clean();
    test_dir_remove(dir);
}

/* Cancelled while it waits: neither the question nor an empty answer stays, and the KV that was
 * read from disk serves the next turn. */
static void a_turn_cancelled_in_the_queue_leaves_no_trace(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    fake_runtime_reset(&(struct fake_config){.answer_len = 9});
    struct hs_engine_params engine_params;
    hs_engine_params_defaults(&engine_params);
    engine_params.sessions_dir = dir;
    hs_engine *engine = test_engine(&engine_params, 2048, 1);
    char id[HS_ID_MAX];
    open_session(engine, "work", NULL, id);
    ask(engine, id, "remember me", 50);
    struct answer first;
    first = answer;
    int32_t n_in_kv = answer.usage.prompt_tokens + 9;
    hs_engine_free(engine);

    engine = test_engine(&engine_params, 2048, 1);
    open_session(engine, "work", NULL, id);
    struct hs_generate_params params = test_params(50);
    fake_runtime_pause();
    hs_stream *other = test_complete(engine, "somebody else", &params);
    fake_runtime_wait_held();
    hs_stream *stream = test_generate(engine, id, "never mind", &params);
    hs_stream_cancel(stream);
    fake_runtime_resume();
    test_collect(other, &answer);
    test_collect(stream, &answer);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    assert_int_equal(answer.len, 0);
    assert_int_equal(count(engine, id), 2);
    expect_saved(dir, 2, first.text);
    ask(engine, id, "and now?", 50);
    assert_int_equal(answer.usage.cached_tokens, n_in_kv);
    assert_int_equal(test_counters().n_state_load, 1);
    assert_int_equal(count(engine, id), 4);
    hs_engine_free(engine);
    test_check_clean();
    test_dir_remove(dir);
}

/* A refused turn drops nothing from the context: the next one has the prompt it would have had. */
static void a_refused_turn_drops_nothing_from_the_context(void **state)
{
    (void)state;
    struct answer answers[2];
    for (int refuse = 0; refuse < 2; refuse++) {
        fake_runtime_reset(&(struct fake_config){.answer_len = 20});
        struct hs_engine_params engine_params;
        hs_engine_params_defaults(&engine_params);
        engine_params.max_queue = 1;
        hs_engine *engine = test_engine(&engine_params, 256, 1);
        char id[HS_ID_MAX];
        assert_int_equal(try_session(engine, NULL, NULL, HS_OVERFLOW_SHIFT, id), HS_OK);
        for (int turn = 0; turn < 3; turn++) {
            ask(engine, id, "short", 50);
        }
        struct hs_generate_params params = test_params(50);
        if (refuse == 1) {
            fake_runtime_pause();
            hs_stream *running = test_complete(engine, "first", &params);
            fake_runtime_wait_held();
            hs_stream *waiting = test_complete(engine, "second", &params);
            char text[151];
            test_text(text, 150, 1);
            hs_stream *stream = NULL;
            assert_int_equal(hs_engine_generate(engine, id, text, &params, &stream, &err),
                             HS_QUEUE_FULL);
            fake_runtime_resume();
            test_collect(running, &answer);
            test_collect(waiting, &answer);
        }
        ask(engine, id, "short", 50);
        answers[refuse] = answer;
        hs_engine_free(engine);
        test_check_clean();
    }
    assert_int_equal(answers[0].usage.dropped_messages, 0);
    assert_int_equal(answers[1].usage.prompt_tokens, answers[0].usage.prompt_tokens);
    assert_string_equal(answers[1].text, answers[0].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parameters_of_the_last_turn_are_saved),
        cmocka_unit_test(the_overflow_of_a_session_is_resumed),
        cmocka_unit_test(a_turn_that_was_not_saved_is_saved_later),
        cmocka_unit_test(a_change_that_cannot_be_saved_has_not_happened),
        cmocka_unit_test(an_answer_that_fails_leaves_the_old_one),
        cmocka_unit_test(what_was_cut_off_goes_with_the_next_answer),
        cmocka_unit_test(a_turn_cancelled_in_the_queue_leaves_no_trace),
        cmocka_unit_test(a_refused_turn_drops_nothing_from_the_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
