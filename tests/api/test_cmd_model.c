/* hyprstream model list|show|add. */
#include "api_test.h"

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static char *add_model(struct api_test *test, const char *file, const char *name)
{
    char *path = (char *)api_path(test, file);
    api_write_model(path, name);
    test->options[HS_OPT_NAME] = name;
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_OK);
    test->options[HS_OPT_NAME] = NULL;
    api_clear_output(test);
    return path;
}

static void an_empty_list(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_OK);
    assert_string_equal(test->out.data, "");
    assert_string_equal(test->err_out.data, "");
    test->io.err_is_terminal = true;
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_OK);
    assert_contains(test->err_out.data, "model add PATH");
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_OK);
    assert_string_equal(test->out.data, "[]\n");
}

static void add_and_list(void **state)
{
    struct api_test *test = *state;
    char *path = (char *)api_path(test, "tiny.gguf");
    api_write_model(path, "x");
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_OK);
    assert_contains(test->out.data, "tiny (llama, ");
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_OK);
    assert_contains(test->out.data, "NAME  ARCHITECTURE  PARAMS");
    assert_contains(test->out.data, "tiny  llama");
    api_clear_output(test);
    test->options[HS_OPT_NAMES] = "";
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_OK);
    assert_string_equal(test->out.data, "tiny\n");
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "--names and --json");
    test->options[HS_OPT_NAMES] = NULL;
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_OK);
    json_t *list = api_json(test);
    assert_int_equal(json_array_size(list), 1);
    const json_t *row = json_array_get(list, 0);
    assert_string_equal(text(row, "name"), "tiny");
    assert_string_equal(text(row, "source"), "added");
    assert_true(json_is_null(json_object_get(row, "sha256")));
    assert_false(json_boolean_value(json_object_get(row, "missing")));
    json_decref(list);
}

static void a_missing_file_is_marked(void **state)
{
    struct api_test *test = *state;
    unlink(add_model(test, "tiny.gguf", "tiny"));
    assert_int_equal(api_run(test, hs_cmd_model_list, NULL), HS_OK);
    assert_contains(test->out.data, "file is missing");
}

static void add_refuses(void **state)
{
    struct api_test *test = *state;
    char *path = (char *)api_path(test, "broken.gguf");
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_NOT_FOUND);
    assert_contains(test->err.hint, "path of a GGUF file");
    api_write_file(path, "not a model at all", 18);
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_BAD_MAGIC);
    assert_true(strlen(test->err.hint) > 0);
    api_write_file(path, "GGUF", 4);
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_TRUNCATED);
    assert_int_equal(api_run(test, hs_cmd_model_add, test->home, NULL), HS_IS_DIRECTORY);
    add_model(test, "one.gguf", "name");
    api_write_model(path, "other");
    test->options[HS_OPT_NAME] = "name";
    assert_int_equal(api_run(test, hs_cmd_model_add, path, NULL), HS_ALREADY_EXISTS);
    assert_true(strlen(test->err.hint) > 0);
}

static void show_as_table(void **state)
{
    struct api_test *test = *state;
    char *path = (char *)api_path(test, "tiny.gguf");
    api_write_model(path, "A tiny\033[31m model");
    test->io.out_is_terminal = true;
    assert_int_equal(api_run(test, hs_cmd_model_show, path, NULL), HS_OK);
    assert_contains(test->out.data, "architecture   llama\n");
    assert_contains(test->out.data, "context        4096\n");
    assert_contains(test->out.data, "tensors        ");
    assert_contains(test->out.data, "chat template:\n");
    assert_contains(test->out.data, "<|im_start|>");
    assert_null(strchr(test->out.data, '\033')); /* names in files are foreign text */
    assert_false(api_exists(test->paths.registry_file));
}

static void show_as_json(void **state)
{
    struct api_test *test = *state;
    add_model(test, "tiny.gguf", "tiny");
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_model_show, "tiny", NULL), HS_OK);
    json_t *object = api_json(test);
    assert_string_equal(text(object, "name"), "tiny");
    assert_string_equal(text(object, "architecture"), "llama");
    assert_int_equal(json_integer_value(json_object_get(object, "n_ctx_train")), 4096);
    json_int_t n = 0;
    size_t i;
    json_t *type;
    json_array_foreach(json_object_get(object, "tensors"), i, type)
    {
        n += json_integer_value(json_object_get(type, "size_bytes"));
    }
    assert_int_equal(n, json_integer_value(json_object_get(object, "weights_bytes")));
    json_decref(object);
    assert_int_equal(api_run(test, hs_cmd_model_show, "none", NULL), HS_NOT_FOUND);
}

static void memory_failures(void **state)
{
    struct api_test *test = *state;
    add_model(test, "tiny.gguf", "tiny");
    char *name = "tiny";
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 2000);
        api_clear_output(test);
        hs_mem_fail_after(nth);
        status = api_run_args(test, hs_cmd_model_show, 1, &name);
        hs_mem_fail_after(0);
        /* a key that cannot be copied is as good as missing */
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_list, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(add_and_list, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_missing_file_is_marked, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(add_refuses, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(show_as_table, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(show_as_json, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
