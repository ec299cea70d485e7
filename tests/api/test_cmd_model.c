/* hyprstream model list|show|verify|add|rm. */
#include "api_test.h"

#include "base/sha256.h"

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

static void verify_records_and_compares(void **state)
{
    struct api_test *test = *state;
    char *path = hs_strdup(add_model(test, "tiny.gguf", "tiny"));
    char hash[65];
    assert_int_equal(hs_sha256_file(path, NULL, NULL, hash, NULL), HS_OK);
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_OK);
    assert_contains(test->out.data, hash);
    assert_contains(test->out.data, "(recorded)");
    assert_true(test->n_progress > 0);
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_OK);
    assert_contains(test->out.data, "(as recorded)");
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_model_verify, path, NULL), HS_OK);
    assert_contains(test->out.data, "not registered");
    hs_free(path);
}

static void verify_finds_damage(void **state)
{
    struct api_test *test = *state;
    char *path = add_model(test, "tiny.gguf", "tiny");
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_OK);
    FILE *file = fopen(path, "r+b");
    assert_int_equal(fseek(file, -1, SEEK_END), 0); /* the last byte of the weights */
    int last = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    fputc(last ^ 1, file);
    fclose(file);
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_CORRUPT);
    assert_contains(test->err.message, "SHA-256");
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_TRUNCATED);
    api_write_model(path, "a longer name than before, so that the size differs by some blocks");
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_CORRUPT);
    assert_contains(test->err.message, "size");
}

static void ctrl_c_stops_verify(void **state)
{
    struct api_test *test = *state;
    add_model(test, "tiny.gguf", "tiny");
    test->interrupt_at = 1;
    assert_int_equal(api_run(test, hs_cmd_model_verify, "tiny", NULL), HS_CANCELLED);
}

static void rm_leaves_files_of_others(void **state)
{
    struct api_test *test = *state;
    char *path = hs_strdup(add_model(test, "tiny.gguf", "tiny"));
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_OK);
    assert_contains(test->out.data, "its file stays");
    assert_true(api_exists(path));
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_NOT_FOUND);
    assert_contains(test->err.hint, "model list");
    hs_free(path);
}

static void rm_asks_about_our_files(void **state)
{
    struct api_test *test = *state;
    char *path = hs_strdup(add_model(test, "models/tiny.gguf", "tiny"));
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.hint, "--force");
    test->io.in_is_terminal = true;
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_OK);
    assert_contains(test->question, "tiny.gguf");
    assert_contains(test->err_out.data, "nothing was removed");
    assert_true(api_exists(path));
    test->confirms = true;
    assert_int_equal(api_run(test, hs_cmd_model_rm, "tiny", NULL), HS_OK);
    assert_false(api_exists(path));
    hs_free(path);
    path = hs_strdup(add_model(test, "models/two.gguf", "two"));
    test->io.in_is_terminal = false;
    test->options[HS_OPT_FORCE] = "";
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_model_rm, "two", NULL), HS_OK);
    assert_contains(test->out.data, "\"file_removed\": true");
    assert_false(api_exists(path));
    hs_free(path);
}

static void rm_sees_through_links(void **state)
{
    struct api_test *test = *state;
    char *real = hs_strdup(api_path(test, "elsewhere.gguf"));
    api_write_model(real, "x");
    assert_int_equal(symlink(real, api_path(test, "models/link.gguf")), 0);
    assert_int_equal(
        api_run(test, hs_cmd_model_add, (char *)api_path(test, "models/link.gguf"), NULL), HS_OK);
    api_clear_output(test);
    test->options[HS_OPT_FORCE] = "";
    assert_int_equal(api_run(test, hs_cmd_model_rm, "elsewhere", NULL), HS_OK);
    assert_true(api_exists(real)); /* the file itself is not in our folder */
    hs_free(real);
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
        cmocka_unit_test_setup_teardown(verify_records_and_compares, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(verify_finds_damage, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(ctrl_c_stops_verify, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_leaves_files_of_others, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_asks_about_our_files, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(rm_sees_through_links, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
