/* JSON for standard output. */
#include "api_test.h"

#include "json_out.h"

static void text_is_always_valid(void **state)
{
    (void)state;
    json_t *text = hs_json_text("a\xC3\xA4\xF0\x9F\x98\x80");
    assert_string_equal(json_string_value(text), "a\xC3\xA4\xF0\x9F\x98\x80");
    json_decref(text);
    text = hs_json_text("a\xFFz\xC3"); /* bytes that are no UTF-8 become U+FFFD */
    assert_string_equal(json_string_value(text), "a\xEF\xBF\xBDz\xEF\xBF\xBD");
    json_decref(text);
    text = hs_json_text(NULL);
    assert_true(json_is_null(text));
    json_decref(text);
}

/* The first failure is kept, and everything is released. */
static void failures_stick(void **state)
{
    struct api_test *test = *state;
    json_t *object = json_object();
    hs_json_set(&object, "a", json_integer(1));
    hs_json_set(&object, "b", NULL);
    assert_null(object);
    hs_json_set(&object, "c", json_integer(2));
    assert_null(object);
    assert_int_equal(hs_json_print(&test->io, object, true, &test->err), HS_OUT_OF_MEMORY);
    json_t *array = json_array();
    hs_json_append(&array, NULL);
    assert_null(array);
    hs_json_append(&array, json_integer(1));
    assert_null(array);
    assert_string_equal(test->out.data, "");
}

static void forms(void **state)
{
    struct api_test *test = *state;
    json_t *object = json_object();
    json_t *list = json_array();
    hs_json_append(&list, json_real(0.1f));
    hs_json_append(&list, json_integer(-1));
    hs_json_set(&object, "list", list);
    assert_int_equal(hs_json_print(&test->io, object, true, &test->err), HS_OK);
    assert_string_equal(test->out.data, "{\"list\":[0.1,-1]}\n"); /* as a float has it */
    api_clear_output(test);
    assert_int_equal(hs_json_print(&test->io, object, false, &test->err), HS_OK);
    assert_string_equal(test->out.data, "{\n  \"list\": [\n    0.1,\n    -1\n  ]\n}\n");
    struct hs_buf small HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(10);
    assert_int_not_equal(hs_json_dump(object, true, &small), HS_OK);
    hs_json_freep(&object);
}

static void memory_failures(void **state)
{
    struct api_test *test = *state;
    json_t *object = json_pack("{s:s}", "key", "value");
    for (uint64_t nth = 1;; nth++) {
        api_clear_output(test);
        hs_mem_fail_after(nth);
        hs_status status = hs_json_print(&test->io, object, true, &test->err);
        hs_mem_fail_after(0);
        if (status == HS_OK) {
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
    assert_string_equal(test->out.data, "{\"key\":\"value\"}\n");
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_always_valid),
        cmocka_unit_test_setup_teardown(failures_stick, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(forms, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
