/* The conversation: messages, commands, Ctrl-C, completion. */
#include "api_test.h"

#include "storage/registry.h"
#include "storage/session_store.h"
#include "tiny_adapter.h"
#include "tiny_gguf.h"

static int setup(void **state)
{
    int result = api_setup(state);
    struct api_test *test = *state;
    test->io.in_is_terminal = true;
    for (size_t i = 0; i < 2; i++) {
        static char *const names[] = {"one", "two"};
        char *path = (char *)api_path(test, names[i]);
        api_write_model(path, names[i]);
        test->options[HS_OPT_NAME] = names[i];
        assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_OK);
    }
    test->options[HS_OPT_NAME] = NULL;
    api_flag(test, HS_CFG_MODEL, "one");
    api_clear_output(test);
    return result;
}

static hs_status talk(struct api_test *test, const char *const *lines)
{
    test->lines = lines;
    test->next_line = 0;
    return api_run(test, hs_cmd_chat, NULL);
}

#define TALK(test, ...) talk(test, (const char *const[]){__VA_ARGS__, NULL})

static const struct fake_asked *asked(size_t i)
{
    assert_true(i < fake_engine.n_asked);
    return &fake_engine.asked[i];
}

static void messages_add_up(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "first", "", "  ", "second\nline"), HS_OK);
    assert_string_equal(test->out.data, "Hello world\nHello world\n");
    assert_int_equal(fake_engine.n_asked, 2); /* blank lines are no messages */
    assert_int_equal(asked(1)->n_messages, 3);
    assert_string_equal(asked(1)->messages[0].content, "first");
    assert_string_equal(asked(1)->messages[1].role, "assistant");
    assert_string_equal(asked(1)->messages[2].content, "second\nline");
}

static void exit_leaves(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/exit", "never said"), HS_OK);
    assert_int_equal(fake_engine.n_asked, 0);
    assert_int_equal(test->next_line, 1);
}

static void ctrl_c_twice_leaves(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, LINE_INTERRUPT, "said", LINE_INTERRUPT, LINE_INTERRUPT, "never"),
                     HS_OK);
    assert_int_equal(fake_engine.n_asked, 1);
    assert_int_equal(test->next_line, 4);
    assert_contains(test->err_out.data, "Ctrl-C again");
}

static void ctrl_c_stops_an_answer_only(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece slow[] = {
        {HS_EVENT_TEXT, "begin"}, {HS_EVENT_TEXT, FAKE_WAIT}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece quick[] = {{HS_EVENT_TEXT, "done"}, {HS_EVENT_TEXT, NULL}};
    const struct fake_answer answers[] = {{.pieces = slow}, {.pieces = quick}};
    fake_engine.answers = answers;
    fake_engine.n_answers = 2;
    test->interrupt_at = 4;
    assert_int_equal(TALK(test, "first", "second"), HS_OK);
    assert_string_equal(test->out.data, "begin\ndone\n");
    assert_contains(test->err_out.data, "[stopped]");
    assert_string_equal(asked(1)->messages[1].content, "begin");
}

static void errors_do_not_end_the_conversation(void **state)
{
    struct api_test *test = *state;
    static const struct fake_answer answers[] = {
        {.refuse = HS_QUEUE_FULL, .error = {.message = "the queue is full"}},
        {.refuse = HS_CONTEXT_FULL, .error = {.message = "too long"}}};
    fake_engine.answers = answers;
    fake_engine.n_answers = 2;
    assert_int_equal(TALK(test, "first", "second", "/hlep", "/nothingnear", "/exit"), HS_OK);
    assert_contains(test->err_out.data, "the queue is full\n");
    assert_contains(test->err_out.data, "too long\n");
    assert_contains(test->err_out.data, "unknown command '/hlep'\n  did you mean '/help'?");
    assert_contains(test->err_out.data, "unknown command '/nothingnear'\n  /help lists");
    assert_int_equal(asked(1)->n_messages, 1); /* what was refused is not remembered */
}

static void a_closed_output_ends_it(void **state)
{
    struct api_test *test = *state;
    test->out_fails = true;
    assert_int_equal(TALK(test, "first", "second"), HS_IO);
    assert_int_equal(fake_engine.n_asked, 1);
}

static void paths_are_no_commands(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/usr/bin/env", " /help", "/"), HS_OK);
    assert_int_equal(fake_engine.n_asked, 3);
    assert_string_equal(asked(0)->messages[0].content, "/usr/bin/env");
}

static void help_lists_all(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/help"), HS_OK);
    static const char *const names[] = {"/help",    "/model", "/adapter", "/system",
                                        "/session", "/clear", "/regen",   "/save",
                                        "/set",     "/stats", "/exit"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        assert_contains(test->err_out.data, names[i]);
    }
    assert_string_equal(test->out.data, "");
}

static void system_message(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/system", "/system be brief", "/system", "hi", "/system -", "ho"),
                     HS_OK);
    assert_contains(test->err_out.data, "there is no system message\nbe brief\n");
    assert_string_equal(asked(0)->messages[0].role, "system");
    assert_string_equal(asked(0)->messages[0].content, "be brief");
    assert_string_equal(asked(1)->messages[0].role, "user");
}

static void clear_forgets(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/system be brief", "hi", "/clear", "ho"), HS_OK);
    assert_int_equal(asked(1)->n_messages, 2);
    assert_string_equal(asked(1)->messages[0].content, "be brief");
    assert_string_equal(asked(1)->messages[1].content, "ho");
}

static void regen_answers_again(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/regen", "hi", "/regen", "ho"), HS_OK);
    assert_contains(test->err_out.data, "there is no answer yet");
    assert_int_equal(fake_engine.n_asked, 3);
    assert_int_equal(asked(1)->n_messages, 1);
    assert_string_equal(asked(1)->messages[0].content, "hi");
    assert_int_equal(asked(2)->n_messages, 3);
}

static void a_failed_regen_keeps_the_answer(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "good"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answers[] = {
        {.pieces = pieces},
        {.pieces = pieces,
         .finish = HS_FINISH_ERROR,
         .error = {.status = HS_IO, .message = "broken"}},
        {.refuse = HS_QUEUE_FULL, .error = {.message = "the queue is full"}},
        {.pieces = pieces}};
    fake_engine.answers = answers;
    fake_engine.n_answers = COUNT_OF(answers);
    assert_int_equal(TALK(test, "hi", "/regen", "/regen", "ho"), HS_OK);
    assert_contains(test->err_out.data, "broken");
    assert_contains(test->err_out.data, "the queue is full");
    assert_int_equal(asked(1)->n_messages, 1);
    assert_int_equal(asked(2)->n_messages, 1);
    assert_int_equal(asked(3)->n_messages, 3);
    assert_string_equal(asked(3)->messages[0].content, "hi");
    assert_string_equal(asked(3)->messages[1].content, "good");
    assert_string_equal(asked(3)->messages[2].content, "ho");
}

static void set_changes_the_next_answer(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/set temp 0.25", "hi", "/set temp", "/set tmep 1", "/set temp x",
                          "/set", "/set ctx-size 512"),
                     HS_OK);
    assert_true(asked(0)->params.sampling.temp == 0.25f);
    assert_contains(test->err_out.data, "'temp' needs a value");
    assert_contains(test->err_out.data, "/set: setting 'temp' cannot be 'x'");
    assert_contains(test->err_out.data, "there is no setting 'tmep'\n  did you mean 'temp'?");
    assert_contains(test->err_out.data, "temp            0.25\n");
    assert_contains(test->err_out.data, "'ctx-size' is used the next time a model is loaded");
}

static void stats_after_an_answer(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/stats", "hi", "/stats"), HS_OK);
    assert_contains(test->err_out.data, "context  7 of 2048 cells used");
    assert_contains(test->err_out.data, "weights 98.4 MB");
    /* 8 of 12 tokens read in 10 ms, 2 written in 20 ms */
    assert_contains(test->err_out.data, "prompt   12 tokens (4 reused), 10 ms, 800.0 tokens/s");
    assert_contains(test->err_out.data, "answer   2 tokens, 20 ms, 100.0 tokens/s, seed 42");
}

static void model_carries_the_messages_along(void **state)
{
    struct api_test *test = *state;
    test->io.err_is_terminal = true;
    assert_int_equal(TALK(test, "hi", "/model two", "ho", "/model"), HS_OK);
    assert_string_equal(asked(0)->model_id, "one");
    assert_string_equal(asked(1)->model_id, "two");
    assert_int_equal(asked(1)->n_messages, 3);
    assert_contains(test->err_out.data, "two (fake 1B Q4)");
}

static void a_model_that_fails_leaves_the_old_one(void **state)
{
    struct api_test *test = *state;
    char path[1024];
    snprintf(path, sizeof path, "%s/two", test->home);
    fake_engine.load_path_fails = path;
    assert_int_equal(TALK(test, "hi", "/model two", "/model none", "ho"), HS_OK);
    assert_contains(test->err_out.data, "is not a GGUF file");
    assert_contains(test->err_out.data, "no model named 'none'");
    assert_string_equal(asked(1)->model_id, "one");
    assert_int_equal(asked(1)->n_messages, 3);
}

static void save_makes_a_session(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(
        TALK(test, "/session", "hi", "/save", "/save a/b", "/save work", "ho", "/save", "/session"),
        HS_OK);
    assert_contains(test->err_out.data, "is not kept; /save NAME keeps it");
    assert_contains(test->err_out.data, "the session needs a name");
    assert_contains(test->err_out.data, "'a/b' cannot be the name");
    assert_contains(test->err_out.data, "saved as session 'work'");
    assert_contains(test->err_out.data, "session 'work' is saved after every answer");
    assert_contains(test->err_out.data, "session 'work', 4 messages");
    struct hs_session_record record;
    assert_int_equal(
        hs_session_store_read(test->paths.sessions_dir, "work", &record, NULL, &test->err), HS_OK);
    assert_int_equal(record.n_messages, 4);
    assert_string_equal(record.messages[0].content, "hi");
    assert_string_equal(record.messages[2].content, "ho");
    hs_session_record_free(&record);
    assert_int_equal(TALK(test, "x", "/save work"), HS_OK);
    assert_contains(test->err_out.data, "there is a session 'work' already");
}

static void session_switches(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/session a", "in a", "/session \t b \n", "in b", "/session a ",
                          "more", "/session a"),
                     HS_OK);
    assert_int_equal(asked(1)->n_messages, 1);
    assert_int_equal(asked(2)->n_messages, 3);
    assert_string_equal(asked(2)->messages[0].content, "in a");
    assert_contains(test->err_out.data, "session 'a', 4 messages");
}

static void a_busy_session_leaves_the_old_one(void **state)
{
    struct api_test *test = *state;
    hs_session_file *file = NULL;
    assert_int_equal(
        hs_session_file_open(test->paths.sessions_dir, "busy", true, &file, &test->err), HS_OK);
    assert_int_equal(TALK(test, "hi", "/session busy", "ho"), HS_OK);
    assert_int_equal(asked(1)->n_messages, 3);
    hs_session_file_close(file);
}

static void model_in_a_named_session(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_SESSION, "work");
    assert_int_equal(TALK(test, "hi", "/model two", "ho"), HS_OK);
    assert_string_equal(asked(1)->model_id, "two");
    assert_int_equal(asked(1)->n_messages, 3);
}

static void a_session_that_cannot_be_opened_again(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_SESSION, "work");
    fake_engine.session_status = HS_CORRUPT;
    fake_engine.session_fails_at = 2;
    assert_int_equal(TALK(test, "hi", "/model two", "ho", "/session", "/save kept"), HS_OK);
    assert_contains(test->err_out.data, "session 'work' cannot be opened again");
    assert_contains(test->err_out.data, "/save NAME keeps it");
    assert_contains(test->err_out.data, "this conversation is not kept");
    assert_contains(test->err_out.data, "saved as session 'kept'");
    assert_string_equal(asked(1)->model_id, "two");
    assert_int_equal(asked(1)->n_messages, 3);
    assert_string_equal(asked(1)->messages[0].content, "hi");
}

static void two_failures_are_both_told(void **state)
{
    struct api_test *test = *state;
    char path[1024];
    snprintf(path, sizeof path, "%s/two", test->home);
    api_flag(test, HS_CFG_SESSION, "work");
    fake_engine.load_path_fails = path;
    fake_engine.session_status = HS_CORRUPT;
    fake_engine.session_fails_at = 2;
    assert_int_equal(TALK(test, "hi", "/model two", "ho"), HS_OK);
    assert_contains(test->err_out.data, "is not a GGUF file");
    assert_contains(test->err_out.data, "session 'work' cannot be opened again");
    assert_string_equal(asked(1)->model_id, "one");
    assert_int_equal(asked(1)->n_messages, 3);
}

static void a_session_says_where_it_is(void **state)
{
    struct api_test *test = *state;
    test->io.err_is_terminal = true;
    api_flag(test, HS_CFG_SESSION, "work");
    assert_int_equal(TALK(test, "hi"), HS_OK);
    assert_contains(test->err_out.data, "session 'work' is new\n");
    api_clear_output(test);
    assert_int_equal(TALK(test, "/exit"), HS_OK);
    assert_contains(test->err_out.data, "session 'work', 2 messages\n");
}

static void commands_refuse_what_they_cannot_use(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "hi", "/clear all", "/exit now", "ho"), HS_OK);
    assert_contains(test->err_out.data, "'/clear' takes nothing after it");
    assert_contains(test->err_out.data, "'/exit' takes nothing after it");
    assert_int_equal(asked(1)->n_messages, 3);
}

static void what_cannot_be_saved_is_not_left(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_SESSION, "work");
    fake_engine.close_status = HS_IO;
    assert_int_equal(TALK(test, "hi", "/model two", "ho"), HS_IO);
    assert_contains(test->err_out.data, "session 'work' cannot be saved");
    assert_contains(test->err.message, "session 'work' cannot be saved"); /* and at the end */
    assert_string_equal(asked(1)->model_id, "one");
    assert_int_equal(asked(1)->n_messages, 3);
}

static void expect_words(struct api_test *test, const char *line, const char *words, size_t start)
{
    test->complete_line = line;
    assert_int_equal(TALK(test, "/exit"), HS_OK);
    char joined[256] = "";
    for (size_t i = 0; i < test->words.len; i += strlen(test->words.data + i) + 1) {
        size_t len = strlen(joined);
        snprintf(joined + len, sizeof joined - len, "%s%s", i ? " " : "", test->words.data + i);
    }
    assert_string_equal(joined, words);
    if (*words) {
        assert_int_equal(test->word_start, start);
    }
}

static void completion(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TALK(test, "/session alpha", "x"), HS_OK);
    expect_words(test, "/s", "/system /session /save /set /stats", 0);
    expect_words(test, "/re", "/regen", 0);
    expect_words(test, "/zz", "", 0);
    expect_words(test, "/model ", "one two", 7);
    expect_words(test, "/model t", "two", 7);
    expect_words(test, "/session ", "alpha", 9);
    expect_words(test, "/set top", "top-k top-p", 5);
    expect_words(test, "/system t", "", 0);
    expect_words(test, "hello", "", 0);
    expect_words(test, "", "", 0);
}

/* ---- adapters ---- */

/* Adapters of the model "one" in the registry. */
static void add_adapters(struct api_test *test)
{
    static char *const names[] = {"formal", "french"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char *folder = (char *)api_path(test, names[i]);
        assert_true(tiny_adapter_write(folder, TINY_GGUF_N_EMBD, (float)i));
        assert_int_equal(api_run(test, hs_cmd_adapter_add, folder, NULL), HS_OK);
    }
    api_clear_output(test);
}

static void expect_adapters(size_t i, const char *want)
{
    char text[256] = "";
    size_t len = 0;
    for (size_t k = 0; k < asked(i)->n_adapters; k++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s:%g", k == 0 ? "" : " ",
                                asked(i)->adapters[k].name, (double)asked(i)->adapters[k].scale);
    }
    assert_string_equal(text, want);
}

static void adapters_by_command(void **state)
{
    struct api_test *test = *state;
    add_adapters(test);
    assert_int_equal(TALK(test, "a", "/adapter french", "b", "/adapter",
                          "/adapter formal:-0.5  french", "c", "/adapter nobody",
                          "/adapter french french", "d", "/adapter off", "e"),
                     HS_OK);
    expect_adapters(0, "");
    expect_adapters(1, "french:1");
    assert_contains(test->err_out.data, "  formal\n* french:1\n");
    expect_adapters(2, "formal:-0.5 french:1");
    assert_contains(test->err_out.data, "no adapter named 'nobody'");
    assert_contains(test->err_out.data, "twice");
    expect_adapters(3, "formal:-0.5 french:1"); /* those before stay */
    expect_adapters(4, "");
}

static void adapters_by_flag(void **state)
{
    struct api_test *test = *state;
    add_adapters(test);
    api_flag(test, HS_CFG_ADAPTER, "french:0.5");
    assert_int_equal(TALK(test, "a", "/model two", "b"), HS_OK);
    expect_adapters(0, "french:0.5");
    expect_adapters(1, ""); /* it was made for the other model */
}

static void an_adapter_that_is_not_there(void **state)
{
    struct api_test *test = *state;
    add_adapters(test);
    api_flag(test, HS_CFG_ADAPTER, "frnech");
    assert_int_equal(TALK(test, "a"), HS_NOT_FOUND);
    assert_contains(test->err.hint, "'french'");
}

static void an_adapter_that_does_not_load(void **state)
{
    struct api_test *test = *state;
    add_adapters(test);
    fake_engine.adapter_status = HS_MISMATCH;
    assert_int_equal(TALK(test, "/adapter french", "a"), HS_OK);
    assert_contains(test->err_out.data, "adapter 'french'");
    expect_adapters(0, "");
}

static void sessions_keep_adapters(void **state)
{
    struct api_test *test = *state;
    add_adapters(test);
    assert_int_equal(TALK(test, "/adapter french:2", "a", "/save s", "b"), HS_OK);
    expect_adapters(1, "french:2");
    api_flag(test, HS_CFG_SESSION, "s");
    assert_int_equal(TALK(test, "c", "/adapter", "/adapter off", "d"), HS_OK);
    expect_adapters(2, "french:2");
    assert_contains(test->err_out.data, "* french:2\n");
    expect_adapters(3, "");
}

/* The fake engine chooses those whose names are in the text; its model has another fingerprint
 * than the registry's adapters, so they are named once. */
static void adapters_by_the_question(void **state)
{
    struct api_test *test = *state;
    test->io.err_is_terminal = true;
    add_adapters(test);
    assert_int_equal(TALK(test, "/adapter french formal", "/adapter auto", "in french", "/regen",
                          "Hi", "/adapter auto french", "formal", "/adapter", "/save s", "french",
                          "/adapter formal", "french"),
                     HS_OK);
    expect_adapters(0, "french:1");
    expect_adapters(1, "french:1");
    expect_adapters(2, "");
    assert_contains(test->err_out.data, "no adapter named 'auto'");
    expect_adapters(3, "formal:1");
    assert_contains(test->err_out.data, "because of its name");
    assert_contains(test->err_out.data, "chosen for each question");
    expect_adapters(4, "french:1");
    expect_adapters(5, "formal:1");
}

static void a_session_goes_on_choosing(void **state)
{
    struct api_test *test = *state;
    add_adapters(test);
    api_flag(test, HS_CFG_SESSION, "s");
    assert_int_equal(TALK(test, "/adapter french formal", "/adapter auto", "in french"), HS_OK);
    assert_int_equal(TALK(test, "formal", "/adapter off", "french"), HS_OK);
    expect_adapters(1, "formal:1");
    expect_adapters(2, "");
    assert_int_equal(TALK(test, "french"), HS_OK);
    expect_adapters(3, "");
}

static void adapters_are_completed(void **state)
{
    struct api_test *test = *state;
    add_adapters(test);
    expect_words(test, "/adapter f", "formal french", 9);
    expect_words(test, "/adapter fr", "french", 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_add_up, setup, api_teardown),
        cmocka_unit_test_setup_teardown(exit_leaves, setup, api_teardown),
        cmocka_unit_test_setup_teardown(ctrl_c_twice_leaves, setup, api_teardown),
        cmocka_unit_test_setup_teardown(ctrl_c_stops_an_answer_only, setup, api_teardown),
        cmocka_unit_test_setup_teardown(errors_do_not_end_the_conversation, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_closed_output_ends_it, setup, api_teardown),
        cmocka_unit_test_setup_teardown(paths_are_no_commands, setup, api_teardown),
        cmocka_unit_test_setup_teardown(help_lists_all, setup, api_teardown),
        cmocka_unit_test_setup_teardown(system_message, setup, api_teardown),
        cmocka_unit_test_setup_teardown(clear_forgets, setup, api_teardown),
        cmocka_unit_test_setup_teardown(regen_answers_again, setup, api_teardown),
        cmocka_unit_test_setup_teardown(set_changes_the_next_answer, setup, api_teardown),
        cmocka_unit_test_setup_teardown(stats_after_an_answer, setup, api_teardown),
        cmocka_unit_test_setup_teardown(model_carries_the_messages_along, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_model_that_fails_leaves_the_old_one, setup, api_teardown),
        cmocka_unit_test_setup_teardown(save_makes_a_session, setup, api_teardown),
        cmocka_unit_test_setup_teardown(session_switches, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_busy_session_leaves_the_old_one, setup, api_teardown),
        cmocka_unit_test_setup_teardown(model_in_a_named_session, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_session_that_cannot_be_opened_again, setup, api_teardown),
        cmocka_unit_test_setup_teardown(two_failures_are_both_told, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_session_says_where_it_is, setup, api_teardown),
        cmocka_unit_test_setup_teardown(commands_refuse_what_they_cannot_use, setup, api_teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_saved_is_not_left, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_failed_regen_keeps_the_answer, setup, api_teardown),
        cmocka_unit_test_setup_teardown(completion, setup, api_teardown),
        cmocka_unit_test_setup_teardown(adapters_by_command, setup, api_teardown),
        cmocka_unit_test_setup_teardown(adapters_by_flag, setup, api_teardown),
        cmocka_unit_test_setup_teardown(an_adapter_that_is_not_there, setup, api_teardown),
        cmocka_unit_test_setup_teardown(an_adapter_that_does_not_load, setup, api_teardown),
        cmocka_unit_test_setup_teardown(sessions_keep_adapters, setup, api_teardown),
        cmocka_unit_test_setup_teardown(adapters_by_the_question, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_session_goes_on_choosing, setup, api_teardown),
        cmocka_unit_test_setup_teardown(adapters_are_completed, setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
