/* hyprstream adapter route, over the fake engine: rules and what is printed. */
#include "api_test.h"

static int setup(void **state)
{
    if (api_setup(state)) {
        return -1;
    }
    struct api_test *test = *state;
    char *path = (char *)api_path(test, "tiny.gguf");
    api_write_model(path, "tiny");
    api_flag(test, HS_CFG_MODEL, path);
    return 0;
}

static void prints_what_would_be_used(void **state)
{
    struct api_test *test = *state;
    test->io.err_is_terminal = true;
    api_flag(test, HS_CFG_ROUTE, "nobody=x");
    api_flag(test, HS_CFG_ROUTE, "hello=a:0.5+b");
    if (api_run(test, hs_cmd_adapter_route, "say hello", NULL) != HS_OK) {
        fail_msg("%s", test->err.message);
    }
    assert_string_equal(test->out.data, "a:0.5\nb:1\n");
    assert_contains(test->err_out.data, "rule hello");
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_adapter_route, "good night", NULL), HS_OK);
    assert_true(test->out.len == 0);
    assert_contains(test->err_out.data, "no adapter: ");
    assert_int_equal(fake_engine.n_engines, 0);
}

static void prints_json(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_JSON, "true");
    api_flag(test, HS_CFG_ROUTE, "hello=a:0.5");
    assert_int_equal(api_run(test, hs_cmd_adapter_route, "hello", NULL), HS_OK);
    json_t *json = api_json(test);
    const json_t *first = json_array_get(json_object_get(json, "adapters"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "name")), "a");
    assert_true(json_number_value(json_object_get(first, "scale")) == 0.5);
    assert_true(json_is_number(json_object_get(first, "arrow")));
    assert_string_equal(json_string_value(json_object_get(json, "reason")), "rule hello");
    json_decref(json);
}

static void says_what_is_wrong(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_ROUTE, "hello");
    assert_int_equal(api_run(test, hs_cmd_adapter_route, "hello", NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "is no rule");
    assert_contains(test->err.hint, "REGEX=ADAPTER");
}

static void a_model_that_does_not_load(void **state)
{
    struct api_test *test = *state;
    fake_engine.load_status = HS_BAD_MAGIC;
    assert_int_equal(api_run(test, hs_cmd_adapter_route, "hello", NULL), HS_BAD_MAGIC);
    assert_int_equal(fake_engine.n_engines, 0);
}

static void another_model_embeds(void **state)
{
    struct api_test *test = *state;
    char *path = (char *)api_path(test, "embeds.gguf");
    api_write_model(path, "embeds");
    api_flag(test, HS_CFG_ROUTE_METHOD, "examples");
    assert_int_equal(api_run(test, hs_cmd_adapter_route, "hello", NULL), HS_OK);
    assert_string_equal(fake_engine.route_embed_model, "");
    assert_int_equal(fake_engine.route_method, HS_ROUTE_EXAMPLES);
    api_flag(test, HS_CFG_ROUTE_MODEL, path);
    api_flag(test, HS_CFG_ROUTE_METHOD, "arrow");
    if (api_run(test, hs_cmd_adapter_route, "hello", NULL) != HS_OK) {
        fail_msg("%s", test->err.message);
    }
    assert_string_equal(fake_engine.route_embed_model, "route/embeds");
    assert_int_equal(fake_engine.route_method, HS_ROUTE_ARROW);
    fake_engine.load_path_fails = path;
    assert_int_equal(api_run(test, hs_cmd_adapter_route, "hello", NULL), HS_BAD_MAGIC);
    assert_contains(test->err.message, "--route-model");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, api_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(prints_what_would_be_used),  TEST(prints_json),          TEST(says_what_is_wrong),
        TEST(a_model_that_does_not_load), TEST(another_model_embeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
