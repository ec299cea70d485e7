/* hyprstream config show|path. */
#include "api_test.h"

static const json_t *entry(const json_t *object, const char *name, const char *key)
{
    return json_object_get(json_object_get(object, name), key);
}

static void every_setting_and_its_origin(void **state)
{
    struct api_test *test = *state;
    const char *path = api_path(test, "c.toml");
    api_write_file(path, "temp = 0.5\nstop = \"a,b\"\n", 24);
    assert_int_equal(hs_config_load_file(&test->config, path, true, &test->err), HS_OK);
    setenv("HYPRSTREAM_TOP_K", "7", 1);
    assert_int_equal(hs_config_load_env(&test->config, &test->err), HS_OK);
    unsetenv("HYPRSTREAM_TOP_K");
    api_flag(test, HS_CFG_SEED, "3");
    assert_int_equal(api_run(test, hs_cmd_config_show, NULL), HS_OK);
    size_t n_lines = 0;
    for (const char *c = test->out.data; *c; c++) {
        n_lines += *c == '\n';
    }
    assert_int_equal(n_lines, HS_CFG_COUNT + 1);
    assert_contains(test->out.data, "HYPRSTREAM_TOP_K\n");
    assert_contains(test->out.data, "c.toml:1\n");
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_config_show, NULL), HS_OK);
    json_t *object = api_json(test);
    assert_int_equal(json_object_size(object), HS_CFG_COUNT);
    assert_true(json_real_value(entry(object, "temp", "value")) == 0.5);
    assert_string_equal(json_string_value(entry(object, "temp", "source")), "file");
    assert_int_equal(json_integer_value(entry(object, "top-k", "value")), 7);
    assert_string_equal(json_string_value(entry(object, "top-k", "source")), "environment");
    assert_string_equal(json_string_value(entry(object, "seed", "source")), "flag");
    assert_string_equal(json_string_value(entry(object, "top-p", "source")), "default");
    assert_int_equal(json_array_size(entry(object, "stop", "value")), 2);
    assert_true(json_is_null(entry(object, "model", "value")));
    assert_true(json_is_true(entry(object, "mmap", "value")));
    assert_int_equal(json_integer_value(entry(object, "park-budget", "value")), 512 << 20);
    json_decref(object);
}

static void secrets_are_not_shown(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_API_KEY, "hs-abc");
    assert_int_equal(api_run(test, hs_cmd_config_show, NULL), HS_OK);
    assert_contains(test->out.data, "(hidden)");
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_config_show, NULL), HS_OK);
    assert_null(strstr(test->out.data, "hs-abc"));
}

static void the_path(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_config_path, NULL), HS_OK);
    assert_contains(test->out.data, test->home);
    assert_contains(test->out.data, "/config.toml\n");
    api_clear_output(test);
    setenv("HYPRSTREAM_CONFIG", "/from/env", 1);
    assert_int_equal(api_run(test, hs_cmd_config_path, NULL), HS_OK);
    assert_string_equal(test->out.data, "/from/env\n");
    api_clear_output(test);
    api_flag(test, HS_CFG_CONFIG, "/from/flag");
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_config_path, NULL), HS_OK);
    unsetenv("HYPRSTREAM_CONFIG");
    json_t *object = api_json(test);
    assert_string_equal(json_string_value(json_object_get(object, "config_file")), "/from/flag");
    assert_string_equal(json_string_value(json_object_get(object, "models_dir")),
                        test->paths.models_dir);
    json_decref(object);
}

static void without_a_home(void **state)
{
    struct api_test *test = *state;
    struct hs_paths paths = test->paths;
    test->paths = (struct hs_paths){0};
    hs_status status = api_run(test, hs_cmd_config_path, NULL);
    test->paths = paths;
    assert_int_equal(status, HS_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_setting_and_its_origin, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(secrets_are_not_shown, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(the_path, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(without_a_home, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
