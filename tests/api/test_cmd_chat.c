/* hyprstream chat with a prompt: where it comes from, and the forms of the answer. */
#include "api_test.h"

static int setup(void **state)
{
    int result = api_setup(state);
    api_flag(*state, HS_CFG_MODEL, "/models/m.gguf");
    return result;
}

static void an_argument_is_answered(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", "there", NULL), HS_OK);
    assert_string_equal(test->out.data, "Hello world\n");
    assert_string_equal(test->err_out.data, "");
    assert_int_equal(fake_engine.n_asked, 1);
    const struct fake_asked *asked = &fake_engine.asked[0];
    assert_int_equal(asked->n_messages, 1);
    assert_string_equal(asked->messages[0].role, "user");
    assert_string_equal(asked->messages[0].content, "Hi there");
    assert_string_equal(fake_engine.loaded_path, "/models/m.gguf");
    assert_int_equal(fake_engine.n_engines, 0);
    /* a model given as a path needs no registry: nothing is opened or written */
    assert_false(api_exists(test->paths.registry_file));
}

static void standard_input_is_answered(void **state)
{
    struct api_test *test = *state;
    test->in = "from stdin\n";
    assert_int_equal(api_run(test, hs_cmd_chat, NULL), HS_OK);
    assert_string_equal(fake_engine.asked[0].messages[0].content, "from stdin");
}

static void json_is_one_object(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece pieces[] = {
        {HS_EVENT_REASONING, "hm"}, {HS_EVENT_TEXT, "4\033"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = pieces, .finish = HS_FINISH_LENGTH};
    fake_engine.answers = &answer;
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    json_t *object = api_json(test);
    assert_int_equal(json_object_size(object), 6);
    assert_string_equal(json_string_value(json_object_get(object, "answer")), "4\033");
    assert_string_equal(json_string_value(json_object_get(object, "reasoning")), "hm");
    assert_string_equal(json_string_value(json_object_get(object, "finish_reason")), "length");
    assert_string_equal(json_string_value(json_object_get(object, "model")), "m");
    assert_true(json_is_null(json_object_get(object, "session")));
    const json_t *usage = json_object_get(object, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), 12);
    assert_int_equal(json_integer_value(json_object_get(usage, "seed")), 42);
    json_decref(object);
    assert_string_equal(test->err_out.data, "");
}

static void json_stream_is_one_event_a_line(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_JSON, "true");
    api_flag(test, HS_CFG_STREAM, "true");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    char *rest = NULL;
    json_t *first = json_loads(strtok_r(test->out.data, "\n", &rest), 0, NULL);
    json_t *second = json_loads(strtok_r(NULL, "\n", &rest), 0, NULL);
    json_t *last = json_loads(strtok_r(NULL, "\n", &rest), 0, NULL);
    assert_null(strtok_r(NULL, "\n", &rest));
    assert_string_equal(json_string_value(json_object_get(first, "text")), "Hello");
    assert_string_equal(json_string_value(json_object_get(second, "text")), " world");
    assert_string_equal(json_string_value(json_object_get(last, "event")), "done");
    assert_string_equal(json_string_value(json_object_get(last, "finish_reason")), "stop");
    assert_null(json_object_get(last, "answer"));
    json_decref(first);
    json_decref(second);
    json_decref(last);
}

static void json_needs_a_prompt(void **state)
{
    struct api_test *test = *state;
    test->io.in_is_terminal = true;
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_chat, NULL), HS_INVALID_ARGUMENT);
}

static void a_closed_pipe_is_an_error(void **state)
{
    struct api_test *test = *state;
    test->out_fails = true;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_IO);
    assert_true(fake_engine.was_cancelled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_argument_is_answered, setup, api_teardown),
        cmocka_unit_test_setup_teardown(standard_input_is_answered, setup, api_teardown),
        cmocka_unit_test_setup_teardown(json_is_one_object, setup, api_teardown),
        cmocka_unit_test_setup_teardown(json_stream_is_one_event_a_line, setup, api_teardown),
        cmocka_unit_test_setup_teardown(json_needs_a_prompt, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_closed_pipe_is_an_error, setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
