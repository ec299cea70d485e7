/* hyprstream tokenize. The fake's tokens are bytes, 256 is "<s>". */
#include "api_test.h"

static void as_lines(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, "/m.gguf");
    assert_int_equal(api_run(test, hs_cmd_tokenize, "a\"\n\t\\", "\033", NULL), HS_OK);
    assert_string_equal(test->out.data, "    256  \"<s>\"\n"
                                        "     97  \"a\"\n"
                                        "     34  \"\\\"\"\n"
                                        "     10  \"\\n\"\n"
                                        "      9  \"\\t\"\n"
                                        "     92  \"\\\\\"\n"
                                        "     32  \" \"\n"
                                        "     27  \"\\x1b\"\n");
    assert_true(fake_engine.load_params.n_ctx < 512); /* nothing is generated */
}

static void raw_text_has_no_specials(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, "/m.gguf");
    test->options[HS_OPT_RAW] = "";
    test->in = "hi\n";
    assert_int_equal(api_run(test, hs_cmd_tokenize, NULL), HS_OK);
    assert_string_equal(test->out.data, "    104  \"h\"\n    105  \"i\"\n");
}

static void half_code_points_are_shown_as_bytes(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, "/m.gguf");
    test->options[HS_OPT_RAW] = "";
    assert_int_equal(api_run(test, hs_cmd_tokenize, "\xC3\xA4", NULL), HS_OK);
    assert_string_equal(test->out.data, "    195  \"\\xc3\"\n    164  \"\\xa4\"\n");
}

static void as_json(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, "/m.gguf");
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_tokenize, "\xC3\xA4", NULL), HS_OK);
    json_t *object = api_json(test);
    const json_t *tokens = json_object_get(object, "tokens");
    assert_int_equal(json_array_size(tokens), 3);
    assert_int_equal(json_integer_value(json_object_get(object, "n_tokens")), 3);
    const json_t *half = json_array_get(tokens, 1);
    assert_int_equal(json_integer_value(json_object_get(half, "id")), 0xC3);
    /* half a code point is no text: its bytes */
    const json_t *bytes = json_object_get(half, "piece");
    assert_int_equal(json_array_size(bytes), 1);
    assert_int_equal(json_integer_value(json_array_get(bytes, 0)), 0xC3);
    const json_t *special = json_object_get(json_array_get(tokens, 0), "piece");
    assert_string_equal(json_string_value(special), "<s>");
    json_decref(object);
}

static void failures(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_tokenize, "x", NULL), HS_NOT_FOUND);
    api_flag(test, HS_CFG_MODEL, "/m.gguf");
    assert_int_equal(api_run(test, hs_cmd_tokenize, "", NULL), HS_INVALID_ARGUMENT);
    fake_engine.load_status = HS_TRUNCATED;
    assert_int_equal(api_run(test, hs_cmd_tokenize, "x", NULL), HS_TRUNCATED);
    assert_string_equal(test->out.data, "");
}

static void memory_failures(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_MODEL, "/m.gguf");
    char *word = "ab";
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 1000);
        hs_mem_fail_after(nth);
        status = api_run_args(test, hs_cmd_tokenize, 1, &word);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        assert_int_equal(fake_engine.n_engines, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_lines, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(raw_text_has_no_specials, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(half_code_points_are_shown_as_bytes, api_setup,
                                        api_teardown),
        cmocka_unit_test_setup_teardown(as_json, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(failures, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
