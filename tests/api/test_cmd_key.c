/* hyprstream key create|list|revoke. */
#include "api/http_keys.h"
#include "api_test.h"

static void a_key_is_shown_once_and_works(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_key_create, "laptop", NULL), HS_OK);
    assert_contains(test->err_out.data, "not shown again");
    char key[HS_KEY_TEXT_MAX];
    assert_true(test->out.len > 1 && test->out.len <= sizeof key);
    memcpy(key, test->out.data, test->out.len - 1); /* but the newline */
    key[test->out.len - 1] = '\0';
    hs_http_keys *keys = NULL;
    struct hs_http_key_info info;
    assert_int_equal(hs_http_keys_open(api_path(test, HS_KEYS_FILE), &keys, NULL), HS_OK);
    assert_true(hs_http_keys_check(keys, key, &info));
    assert_string_equal(info.name, "laptop");
    assert_int_equal(info.scopes, HS_KEY_INFERENCE);
    hs_http_keys_free(keys);
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_key_list, NULL), HS_OK);
    assert_contains(test->out.data, "laptop");
    assert_contains(test->out.data, info.last4);
    assert_null(strstr(test->out.data, key));
}

static void scopes_and_json(void **state)
{
    struct api_test *test = *state;
    api_flag(test, HS_CFG_JSON, "true");
    test->options[HS_OPT_SCOPES] = "admin";
    assert_int_equal(api_run(test, hs_cmd_key_create, "boss", NULL), HS_OK);
    json_t *object = api_json(test);
    assert_string_equal(json_string_value(json_object_get(object, "name")), "boss");
    assert_non_null(strstr(json_string_value(json_object_get(object, "scopes")), "admin"));
    assert_int_equal(strncmp(json_string_value(json_object_get(object, "key")), "hs-", 3), 0);
    json_decref(object);
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_key_list, NULL), HS_OK);
    json_t *list = api_json(test);
    assert_int_equal(json_array_size(list), 1);
    assert_null(json_object_get(json_array_get(list, 0), "key"));
    json_decref(list);
    test->options[HS_OPT_SCOPES] = "everything";
    assert_int_equal(api_run(test, hs_cmd_key_create, "other", NULL), HS_INVALID_ARGUMENT);
}

static void names_are_taken_once(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_key_create, "a", NULL), HS_OK);
    assert_int_equal(api_run(test, hs_cmd_key_create, "a", NULL), HS_ALREADY_EXISTS);
    assert_int_equal(api_run(test, hs_cmd_key_create, "a/b", NULL), HS_INVALID_ARGUMENT);
}

static void revoking(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_key_revoke, "a", NULL), HS_NOT_FOUND);
    assert_int_equal(api_run(test, hs_cmd_key_create, "a", NULL), HS_OK);
    assert_int_equal(api_run(test, hs_cmd_key_revoke, "a", NULL), HS_OK);
    api_clear_output(test);
    assert_int_equal(api_run(test, hs_cmd_key_list, NULL), HS_OK);
    assert_int_equal(test->out.len, 0);
    assert_int_equal(api_run(test, hs_cmd_key_revoke, "a", NULL), HS_NOT_FOUND);
}

static void a_damaged_file_is_told_of(void **state)
{
    struct api_test *test = *state;
    api_write_file(api_path(test, HS_KEYS_FILE), "{", 1);
    assert_int_equal(api_run(test, hs_cmd_key_list, NULL), HS_CORRUPT);
    assert_int_equal(api_run(test, hs_cmd_key_create, "a", NULL), HS_CORRUPT);
}

static void every_allocation_fails_once(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, hs_cmd_key_create, "a", NULL), HS_OK);
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
        api_clear_output(test);
        hs_mem_fail_after(n);
        status = api_run_args(test, hs_cmd_key_list, 0, NULL);
        hs_mem_fail_after(0);
    }
    assert_int_equal(status, HS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, api_setup, api_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_key_is_shown_once_and_works), TEST(scopes_and_json),
        TEST(names_are_taken_once),          TEST(revoking),
        TEST(a_damaged_file_is_told_of),     TEST(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
