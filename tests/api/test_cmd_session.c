/* hyprstream session list|show|rm. */
#include "api_test.h"

#include "storage/session_store.h"

static void save(struct api_test *test, const char *name, const char *answer)
{
    hs_session_file *file = NULL;
    assert_int_equal(hs_session_file_open(test->paths.sessions_dir, name, true, &file, &test->err),
                     HS_OK);
    struct hs_message messages[] = {{.role = "user", .content = "2+2?"},
                                    {.role = "assistant", .content = answer, .reasoning = "hmm"}};
    char fingerprint[65];
    memset(fingerprint, 'f', 64);
    fingerprint[64] = '\0';
    struct hs_session_record record = {.model_name = "tiny",
                                       .fingerprint = fingerprint,
                                       .messages = messages,
                                       .n_messages = 2,
                                       .created_unix_ms = 1764000000000,
                                       .updated_unix_ms = 1764000000000};
    assert_int_equal(hs_session_file_save(file, &record, &test->err), HS_OK);
    hs_session_file_close(file);
}

static void no_sessions(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_session_list, NULL), HS_OK);
    assert_string_equal(test->out.data, "");
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_session_list, NULL), HS_OK);
    assert_string_equal(test->out.data, "[]\n");
}

static void list_of_two(void **state)
{
    struct api_test *test = *state;
    setenv("TZ", "UTC", 1);
    save(test, "b", "4");
    save(test, "a", "4");
    assert_int_equal(api_run(test, hs_cmd_session_list, NULL), HS_OK);
    const char *first = strstr(test->out.data, "\na ");
    assert_non_null(first);
    assert_contains(first, "tiny");
    assert_contains(first, "2025-11-24 16:00");
    assert_contains(first, "\nb ");
    api_clear_output(test);
    test->options[HS_OPT_NAMES] = "";
    assert_int_equal(api_run(test, hs_cmd_session_list, NULL), HS_OK);
    assert_string_equal(test->out.data, "a\nb\n");
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_session_list, NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "--names and --json");
    test->options[HS_OPT_NAMES] = NULL;
    assert_int_equal(api_run(test, hs_cmd_session_list, NULL), HS_OK);
    json_t *list = api_json(test);
    assert_int_equal(json_array_size(list), 2);
    const json_t *row = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(row, "name")), "a");
    assert_int_equal(json_integer_value(json_object_get(row, "n_messages")), 2);
    assert_int_equal(json_integer_value(json_object_get(row, "updated_unix_ms")), 1764000000000);
    json_decref(list);
}

static void a_damaged_session_does_not_hide_the_others(void **state)
{
    struct api_test *test = *state;
    save(test, "good", "4");
    save(test, "bad", "4");
    api_write_file(api_path(test, "sessions/bad/session.json"), "{", 1);
    assert_int_equal(api_run(test, hs_cmd_session_list, NULL), HS_OK);
    assert_contains(test->out.data, "good");
    assert_null(strstr(test->out.data, "bad"));
    assert_int_equal(api_run(test, hs_cmd_session_show, "bad", NULL), HS_CORRUPT);
    test->options[HS_OPT_FORCE] = "";
    assert_int_equal(api_run(test, hs_cmd_session_rm, "bad", NULL), HS_OK);
    assert_false(api_exists(api_path(test, "sessions/bad")));
}

static void show_tool_calls(void **state)
{
    struct api_test *test = *state;
    hs_session_file *file = NULL;
    assert_int_equal(hs_session_file_open(test->paths.sessions_dir, "t", true, &file, &test->err),
                     HS_OK);
    const struct hs_tool_call calls[] = {{"c1", "look", "{\"a\": 1}"}, {"c2", "go", "{}"}};
    struct hs_message messages[] = {
        {.role = "assistant", .content = "Well.", .tool_calls = calls, .n_tool_calls = 2},
        {.role = "tool", .content = "seen", .tool_call_id = "c1", .name = "look"}};
    struct hs_session_record record = {
        .model_name = "tiny", .fingerprint = "f", .messages = messages, .n_messages = 2};
    assert_int_equal(hs_session_file_save(file, &record, &test->err), HS_OK);
    hs_session_file_close(file);
    assert_int_equal(api_run(test, hs_cmd_session_show, "t", NULL), HS_OK);
    assert_string_equal(test->out.data, "assistant:\nWell.\n-> look({\"a\": 1})\n-> go({})\n\n"
                                        "tool:\nseen\n");
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_session_show, "t", NULL), HS_OK);
    json_t *object = api_json(test);
    json_t *expected =
        json_loads("[{\"role\":\"assistant\",\"content\":\"Well.\",\"tool_calls\":[{\"id\":\"c1\","
                   "\"name\":\"look\",\"arguments\":\"{\\\"a\\\": 1}\"},{\"id\":\"c2\",\"name\":"
                   "\"go\",\"arguments\":\"{}\"}]},{\"role\":\"tool\",\"content\":\"seen\","
                   "\"tool_call_id\":\"c1\",\"name\":\"look\"}]",
                   0, NULL);
    assert_true(json_equal(json_object_get(object, "messages"), expected));
    json_decref(expected);
    json_decref(object);
}

static void show(void **state)
{
    struct api_test *test = *state;
    save(test, "a", "It is 4.\033[2J");
    assert_int_equal(api_run(test, hs_cmd_session_show, "a", NULL), HS_OK);
    assert_string_equal(test->out.data, "user:\n2+2?\n\nassistant:\nIt is 4.\033[2J\n");
    api_clear_output(test);
    test->io.out_is_terminal = test->io.color_out = true;
    assert_int_equal(api_run(test, hs_cmd_session_show, "a", NULL), HS_OK);
    assert_string_equal(test->out.data, "\033[1muser:\033[0m\n2+2?\n\n\033[1massistant:\033[0m\n"
                                        "It is 4.\xE2\x90\x9B[2J\n");
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_session_show, "a", NULL), HS_OK);
    json_t *object = api_json(test);
    const json_t *second = json_array_get(json_object_get(object, "messages"), 1);
    assert_string_equal(json_string_value(json_object_get(second, "role")), "assistant");
    assert_string_equal(json_string_value(json_object_get(second, "reasoning")), "hmm");
    json_decref(object);
    assert_int_equal(api_run(test, hs_cmd_session_show, "none", NULL), HS_NOT_FOUND);
    assert_int_equal(api_run(test, hs_cmd_session_show, "../a", NULL), HS_INVALID_ARGUMENT);
}

static void rm_asks(void **state)
{
    struct api_test *test = *state;
    save(test, "a", "4");
    assert_int_equal(api_run(test, hs_cmd_session_rm, "none", NULL), HS_NOT_FOUND);
    assert_int_equal(api_run(test, hs_cmd_session_rm, "a", NULL), HS_INVALID_ARGUMENT);
    test->io.in_is_terminal = true;
    assert_int_equal(api_run(test, hs_cmd_session_rm, "a", NULL), HS_OK);
    assert_contains(test->question, "'a'");
    assert_true(api_exists(api_path(test, "sessions/a")));
    test->confirms = true;
    assert_int_equal(api_run(test, hs_cmd_session_rm, "a", NULL), HS_OK);
    assert_string_equal(test->out.data, "removed session a\n");
    assert_false(api_exists(api_path(test, "sessions/a")));
}

static void rm_refuses_a_session_in_use(void **state)
{
    struct api_test *test = *state;
    save(test, "a", "4");
    hs_session_file *file = NULL;
    assert_int_equal(hs_session_file_open(test->paths.sessions_dir, "a", false, &file, &test->err),
                     HS_OK);
    test->options[HS_OPT_FORCE] = "";
    assert_int_equal(api_run(test, hs_cmd_session_rm, "a", NULL), HS_BUSY);
    hs_session_file_close(file);
    assert_int_equal(api_run(test, hs_cmd_session_rm, "a", NULL), HS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_sessions, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(list_of_two, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_damaged_session_does_not_hide_the_others, api_setup,
                                        api_teardown),
        cmocka_unit_test_setup_teardown(show, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(show_tool_calls, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_asks, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_refuses_a_session_in_use, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
