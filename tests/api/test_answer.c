/* A stream of events as it is printed. */
#include "api_test.h"

#include "answer.h"

static hs_status read_answer(struct api_test *test, const struct fake_answer *script,
                             enum hs_answer_mode mode, struct hs_answer *answer)
{
    fake_engine_reset();
    fake_engine.answers = script;
    hs_engine *engine = NULL;
    char id[HS_ID_MAX];
    struct hs_engine_params params = {0};
    struct hs_model_params model = {0};
    struct hs_generate_params generate;
    hs_generate_params_defaults(&generate);
    hs_stream *stream = NULL;
    assert_int_equal(hs_engine_create(&params, &engine, NULL), HS_OK);
    assert_int_equal(hs_engine_load_model(engine, "m", "m", &model, id, NULL), HS_OK);
    assert_int_equal(hs_engine_chat(engine, id, NULL, 0, NULL, 0, &generate, &stream, NULL), HS_OK);
    api_clear_output(test);
    struct hs_token_source source = hs_token_source_of(stream);
    hs_status status = hs_answer_read(&test->io, &source, mode, answer, &test->err);
    source.free(source.self);
    hs_engine_free(engine);
    return status;
}

static const struct fake_piece reasoning[] = {{HS_EVENT_REASONING, "let me "},
                                              {HS_EVENT_REASONING, "think"},
                                              {HS_EVENT_TEXT, "It is "},
                                              {HS_EVENT_TEXT, "4."},
                                              {HS_EVENT_TEXT, NULL}};
static const struct fake_answer reasoned = {.pieces = reasoning};

static void reasoning_is_hidden_without_a_terminal(void **state)
{
    struct api_test *test = *state;
    struct hs_answer answer;
    assert_int_equal(read_answer(test, &reasoned, HS_ANSWER_STREAM, &answer), HS_OK);
    assert_string_equal(test->out.data, "It is 4.\n");
    assert_string_equal(test->err_out.data, "");
    assert_string_equal(answer.text.data, "It is 4.");
    assert_string_equal(answer.reasoning.data, "let me think");
    assert_int_equal(answer.finish, HS_FINISH_STOP);
    assert_int_equal(answer.usage.prompt_tokens, 12);
    hs_answer_free(&answer);
}

static void reasoning_is_dimmed_on_a_terminal(void **state)
{
    struct api_test *test = *state;
    struct hs_answer answer;
    test->io.err_is_terminal = true;
    assert_int_equal(read_answer(test, &reasoned, HS_ANSWER_STREAM, &answer), HS_OK);
    assert_string_equal(test->err_out.data, "let me think\n\n");
    hs_answer_free(&answer);
    test->io.color_err = true;
    assert_int_equal(read_answer(test, &reasoned, HS_ANSWER_STREAM, &answer), HS_OK);
    assert_string_equal(test->err_out.data, "\033[2mlet me think\033[0m\n\n"); /* SGR 2: faint */
    assert_string_equal(test->out.data, "It is 4.\n");
    hs_answer_free(&answer);
    assert_int_equal(read_answer(test, &reasoned, HS_ANSWER_QUIET, &answer), HS_OK);
    assert_string_equal(test->err_out.data, "");
    hs_answer_free(&answer);
}

static void whole_and_quiet(void **state)
{
    struct api_test *test = *state;
    struct hs_answer answer;
    assert_int_equal(read_answer(test, &reasoned, HS_ANSWER_WHOLE, &answer), HS_OK);
    assert_string_equal(test->out.data, "It is 4.\n");
    hs_answer_free(&answer);
    assert_int_equal(read_answer(test, &reasoned, HS_ANSWER_QUIET, &answer), HS_OK);
    assert_string_equal(test->out.data, "");
    assert_string_equal(answer.text.data, "It is 4.");
    hs_answer_free(&answer);
}

static void events_are_lines_of_json(void **state)
{
    struct api_test *test = *state;
    struct hs_answer answer;
    assert_int_equal(read_answer(test, &reasoned, HS_ANSWER_EVENTS, &answer), HS_OK);
    assert_string_equal(test->out.data, "{\"event\":\"reasoning\",\"text\":\"let me \"}\n"
                                        "{\"event\":\"reasoning\",\"text\":\"think\"}\n"
                                        "{\"event\":\"text\",\"text\":\"It is \"}\n"
                                        "{\"event\":\"text\",\"text\":\"4.\"}\n");
    hs_answer_free(&answer);
}

static void one_newline_at_the_end(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece ends[] = {{HS_EVENT_TEXT, "line\n"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece nothing[] = {{HS_EVENT_TEXT, NULL}};
    const struct fake_answer with_end = {.pieces = ends}, empty = {.pieces = nothing};
    struct hs_answer answer;
    assert_int_equal(read_answer(test, &with_end, HS_ANSWER_STREAM, &answer), HS_OK);
    assert_string_equal(test->out.data, "line\n");
    hs_answer_free(&answer);
    assert_int_equal(read_answer(test, &empty, HS_ANSWER_STREAM, &answer), HS_OK);
    assert_string_equal(test->out.data, "\n");
    assert_string_equal(answer.text.data, "");
    hs_answer_free(&answer);
}

static void escape_codes_do_not_reach_a_terminal(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece evil[] = {{HS_EVENT_REASONING, "\033]0;t\a"},
                                             {HS_EVENT_TEXT, "a\033[2Jb\r\xC2\x9B"},
                                             {HS_EVENT_TEXT, NULL}};
    const struct fake_answer script = {.pieces = evil};
    struct hs_answer answer;
    assert_int_equal(read_answer(test, &script, HS_ANSWER_STREAM, &answer), HS_OK);
    assert_string_equal(test->out.data, "a\033[2Jb\r\xC2\x9B\n"); /* a pipe gets it unchanged */
    hs_answer_free(&answer);
    test->io.out_is_terminal = test->io.err_is_terminal = true;
    for (int mode = HS_ANSWER_STREAM; mode <= HS_ANSWER_WHOLE; mode++) {
        assert_int_equal(read_answer(test, &script, (enum hs_answer_mode)mode, &answer), HS_OK);
        assert_null(strchr(test->out.data, '\033'));
        assert_null(strchr(test->out.data, '\r'));
        assert_null(strstr(test->out.data, "\xC2\x9B"));
        assert_null(strchr(test->err_out.data, '\033'));
        assert_null(strchr(test->err_out.data, '\a'));
        hs_answer_free(&answer);
    }
}

static void ctrl_c_stops_the_stream(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece slow[] = {
        {HS_EVENT_TEXT, "begin"}, {HS_EVENT_TEXT, FAKE_WAIT}, {HS_EVENT_TEXT, NULL}};
    const struct fake_answer script = {.pieces = slow};
    struct hs_answer answer;
    test->interrupt_at = 5;
    assert_int_equal(read_answer(test, &script, HS_ANSWER_STREAM, &answer), HS_OK);
    assert_int_equal(answer.finish, HS_FINISH_CANCELLED);
    assert_string_equal(answer.text.data, "begin");
    assert_string_equal(test->out.data, "begin\n");
    hs_answer_free(&answer);
}

static void a_closed_pipe_stops_the_stream(void **state)
{
    struct api_test *test = *state;
    struct hs_answer answer;
    test->out_fails_at = 3;
    assert_int_equal(read_answer(test, &reasoned, HS_ANSWER_STREAM, &answer), HS_IO);
    assert_true(fake_engine.was_cancelled);
    hs_answer_free(&answer);
}

static void a_failed_generation_is_told(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece none[] = {{HS_EVENT_TEXT, NULL}};
    const struct fake_answer script = {
        .pieces = none, .finish = HS_FINISH_ERROR, .error = {HS_INTERNAL, "decode failed", ""}};
    struct hs_answer answer;
    assert_int_equal(read_answer(test, &script, HS_ANSWER_STREAM, &answer), HS_OK);
    assert_int_equal(answer.finish, HS_FINISH_ERROR);
    assert_string_equal(answer.error.message, "decode failed");
    assert_string_equal(test->out.data, "");
    hs_answer_free(&answer);
}

static void memory_failures(void **state)
{
    struct api_test *test = *state;
    test->io.err_is_terminal = test->io.out_is_terminal = true;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 100);
        struct hs_answer answer;
        hs_mem_fail_after(nth);
        status = read_answer(test, &reasoned, HS_ANSWER_STREAM, &answer);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        hs_answer_free(&answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reasoning_is_hidden_without_a_terminal, api_setup,
                                        api_teardown),
        cmocka_unit_test_setup_teardown(reasoning_is_dimmed_on_a_terminal, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(whole_and_quiet, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(events_are_lines_of_json, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(one_newline_at_the_end, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(escape_codes_do_not_reach_a_terminal, api_setup,
                                        api_teardown),
        cmocka_unit_test_setup_teardown(ctrl_c_stops_the_stream, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_closed_pipe_stops_the_stream, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_failed_generation_is_told, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
