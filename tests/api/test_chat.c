/* Models, sessions, loading and stopping, through hyprstream chat with a prompt. */
#include "api_test.h"

#include "base/log.h"
#include "storage/registry.h"
#include "storage/session_store.h"

static int setup(void **state)
{
    int result = api_setup(state);
    api_flag(*state, HS_CFG_MODEL, "/models/m.gguf");
    return result;
}

/* A registered model instead of a path. */
static void add_model(struct api_test *test, const char *name)
{
    char *path = (char *)api_path(test, name);
    api_write_model(path, name);
    test->options[HS_OPT_NAME] = name;
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_OK);
    test->options[HS_OPT_NAME] = NULL;
    api_clear_output(test);
}

static void a_system_message_goes_first(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_SYSTEM, "be brief");
    api_flag(test, HS_CFG_STOP, "END");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    assert_string_equal(fake_engine.asked[0].messages[0].role, "system");
    assert_string_equal(fake_engine.asked[0].messages[0].content, "be brief");
    assert_string_equal(fake_engine.asked[0].stop[0], "END");
}

static void long_file_names_are_clipped(void **state)
{
    struct api_test *test = *state;
    char path[300] = "/";
    memset(path + 1, 'x', 125);
    strcpy(path + 126, "\xC3\xA4\xC3\xA4.gguf"); /* bytes 126 and 127 are one character */
    api_flag(test, HS_CFG_MODEL, path);
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    assert_int_equal(strlen(fake_engine.loaded_id), 127);
    assert_string_equal(fake_engine.loaded_id + 125, "\xC3\xA4");
    path[125] = '\0'; /* without the suffix, and one character less than an id can be */
    api_flag(test, HS_CFG_MODEL, path);
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    assert_string_equal(fake_engine.loaded_id, path + 1);
}

static void ctrl_c_gives_the_text_so_far(void **state)
{
    struct api_test *test = *state;
    static const struct fake_piece slow[] = {
        {HS_EVENT_TEXT, "begin"}, {HS_EVENT_TEXT, FAKE_WAIT}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer answer = {.pieces = slow};
    fake_engine.answers = &answer;
    test->interrupt_at = 3;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_CANCELLED);
    assert_string_equal(test->out.data, "begin\n");
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_CANCELLED);
    json_t *object = api_json(test);
    assert_string_equal(json_string_value(json_object_get(object, "answer")), "begin");
    assert_string_equal(json_string_value(json_object_get(object, "finish_reason")), "cancelled");
    json_decref(object);
}

static void ctrl_c_stops_loading(void **state)
{
    struct api_test *test = *state;
    fake_engine.load_asks_progress = true;
    test->interrupt_at = 2;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_CANCELLED);
    assert_int_equal(fake_engine.n_asked, 0);
    assert_int_equal(test->n_progress, 3); /* twice while loading, once to clear */
}

static void failures_keep_their_message(void **state)
{
    struct api_test *test = *state;
    fake_engine.load_status = HS_MODEL_TOO_LARGE;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_MODEL_TOO_LARGE);
    assert_contains(test->err.message, "/models/m.gguf");
    assert_string_equal(test->err.hint, "a hint");
    fake_engine.load_status = HS_OK;
    static const struct fake_answer refused = {.refuse = HS_CONTEXT_FULL,
                                               .error = {.message = "the prompt is too long"}};
    fake_engine.answers = &refused;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_CONTEXT_FULL);
    assert_string_equal(test->err.message, "the prompt is too long");
    static const struct fake_piece none[] = {{HS_EVENT_TEXT, NULL}};
    static const struct fake_answer failed = {
        .pieces = none, .finish = HS_FINISH_ERROR, .error = {HS_INTERNAL, "decode failed", "try"}};
    fake_engine.answers = &failed;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_INTERNAL);
    assert_string_equal(test->err.message, "decode failed");
    assert_string_equal(test->err.hint, "try");
    assert_string_equal(test->out.data, "");
}

static void the_load_is_told_to_people(void **state)
{
    struct api_test *test = *state;
    test->io.err_is_terminal = true;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    assert_string_equal(test->err_out.data, "model m (fake 1B Q4), 4 threads, 0 GPU layers on "
                                            "CPU, context 2048 of 8192\n");
    assert_int_equal(fake_engine.load_params.n_seq_max, 1);
}

static void a_session_goes_on(void **state)
{
    struct api_test *test = *state;
    add_model(test, "tiny");
    api_flag(test, HS_CFG_MODEL, "tiny");
    api_flag(test, HS_CFG_SESSION, "work");
    assert_int_equal(api_run(test, hs_cmd_chat, "one", NULL), HS_OK);
    assert_int_equal(api_run(test, hs_cmd_chat, "two", NULL), HS_OK);
    const struct fake_asked *asked = &fake_engine.asked[1];
    assert_int_equal(asked->n_messages, 3);
    assert_string_equal(asked->messages[1].content, "Hello world");
    assert_string_equal(asked->messages[2].content, "two");
    /* both are in the registry's lists */
    hs_registry *registry = NULL;
    struct hs_registry_session *rows = NULL;
    size_t n = 0;
    assert_int_equal(hs_registry_open(&test->paths, &registry, &test->err), HS_OK);
    assert_int_equal(hs_registry_session_list(registry, &rows, &n, &test->err), HS_OK);
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].name, "work");
    assert_int_equal(rows[0].n_messages, 4);
    hs_registry_sessions_free(rows, n);
    struct hs_registry_model model;
    assert_int_equal(hs_registry_model_get(registry, "tiny", &model, &test->err), HS_OK);
    assert_true(model.used_unix_ms > 0);
    hs_registry_model_free(&model);
    hs_registry_close(registry);
}

static void a_session_remembers_its_model(void **state)
{
    struct api_test *test = *state;
    add_model(test, "tiny");
    add_model(test, "other");
    api_flag(test, HS_CFG_MODEL, "tiny");
    api_flag(test, HS_CFG_SESSION, "work");
    assert_int_equal(api_run(test, hs_cmd_chat, "one", NULL), HS_OK);
    hs_config_free(&test->config);
    assert_int_equal(hs_config_init(&test->config, &test->err), HS_OK);
    api_flag(test, HS_CFG_SESSION, "work");
    assert_int_equal(api_run(test, hs_cmd_chat, "two", NULL), HS_OK);
    assert_string_equal(fake_engine.loaded_id, "tiny");
}

static void a_path_in_a_session_is_registered(void **state)
{
    struct api_test *test = *state;
    api_write_model(api_path(test, "some.gguf"), "x");
    api_flag(test, HS_CFG_MODEL, api_path(test, "some.gguf"));
    api_flag(test, HS_CFG_SESSION, "work");
    assert_int_equal(api_run(test, hs_cmd_chat, "one", NULL), HS_OK);
    assert_string_equal(fake_engine.loaded_id, "some");
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_OK);
    assert_contains(test->out.data, "some");
}

static void bad_session_names(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_SESSION, "../etc");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "'../etc'");
    assert_int_equal(fake_engine.n_loads, 0);
}

static void a_busy_session(void **state)
{
    struct api_test *test = *state;
    add_model(test, "tiny");
    api_flag(test, HS_CFG_MODEL, "tiny");
    api_flag(test, HS_CFG_SESSION, "work");
    fake_engine.session_status = HS_BUSY;
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_BUSY);
    assert_contains(test->err.message, "'work'");
}

static void memory_failures(void **state)
{
    struct api_test *test = *state;
    test->io.err_is_terminal = test->io.out_is_terminal = true;
    char *prompt = "Hi";
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 2000);
        api_clear_output(test);
        fake_engine_reset();
        hs_mem_fail_after(nth);
        status = api_run_args(test, hs_cmd_chat, 1, &prompt);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        assert_int_equal(fake_engine.n_engines, 0);
        assert_int_equal(fake_engine.n_streams, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_system_message_goes_first, setup, api_teardown),
        cmocka_unit_test_setup_teardown(long_file_names_are_clipped, setup, api_teardown),
        cmocka_unit_test_setup_teardown(ctrl_c_gives_the_text_so_far, setup, api_teardown),
        cmocka_unit_test_setup_teardown(ctrl_c_stops_loading, setup, api_teardown),
        cmocka_unit_test_setup_teardown(failures_keep_their_message, setup, api_teardown),
        cmocka_unit_test_setup_teardown(the_load_is_told_to_people, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_session_goes_on, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_session_remembers_its_model, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_path_in_a_session_is_registered, setup, api_teardown),
        cmocka_unit_test_setup_teardown(bad_session_names, setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_busy_session, setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
