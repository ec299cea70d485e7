/* hyprstream version. */
#include "api_test.h"

static void version(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_version, NULL), HS_OK);
    char expected[256];
    snprintf(expected, sizeof expected,
             "hyprstream %s\nllama.cpp b1234\ndevice CPU: Fake CPU (libfake.so), 2.0 GB\n"
             "CPU features in use: AVX AVX2\n",
             hs_version());
    assert_string_equal(test->out.data, expected);
    api_clear_output(test);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_version, NULL), HS_OK);
    json_t *object = api_json(test);
    assert_string_equal(json_string_value(json_object_get(object, "llama_cpp")), "b1234");
    assert_int_equal(json_array_size(json_object_get(object, "devices")), 1);
    json_decref(object);
    fake_engine.system_status = HS_NOT_FOUND;
    assert_int_equal(api_run(test, hs_cmd_version, NULL), HS_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(version, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
