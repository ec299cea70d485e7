/* How a failed command is told of. */
#include "api_test.h"

#include "api/report.h"
#include "api/status_map.h"

static struct hs_error failure(const char *message, const char *hint)
{
    struct hs_error error;
    hs_error_clear(&error);
    hs_error_set(&error, HS_NOT_FOUND, "%s", message);
    hs_error_hint(&error, "%s", hint);
    return error;
}

static void for_people(void **state)
{
    struct api_test *test = *state;
    struct hs_error error = failure("no model named 'x'", "see the list");
    hs_error_report(&test->io, HS_NOT_FOUND, &error, false);
    assert_string_equal(test->err_out.data, "hyprstream: no model named 'x'\n  see the list\n");
    assert_string_equal(test->out.data, ""); /* standard output holds answers only */
    api_clear_output(test);
    error = failure("no model", "");
    test->io.color_err = true;
    hs_error_report(&test->io, HS_NOT_FOUND, &error, false);
    assert_string_equal(test->err_out.data, "\033[1;31mhyprstream:\033[0m no model\n");
}

/* A name that somebody else chose must not speak to the terminal. */
static void control_characters_are_shown(void **state)
{
    struct api_test *test = *state;
    struct hs_error error = failure("no \033[2J here\nnor there", "try \a");
    hs_error_report(&test->io, HS_NOT_FOUND, &error, false);
    assert_null(strchr(test->err_out.data, '\033'));
    assert_null(strchr(test->err_out.data, '\a'));
    assert_contains(test->err_out.data, "no \xE2\x90\x9B[2J here\xE2\x90\x8Anor there\n");
}

static void without_a_message(void **state)
{
    struct api_test *test = *state;
    struct hs_error error;
    hs_error_clear(&error);
    hs_error_report(&test->io, HS_TIMEOUT, &error, false);
    char expected[200];
    snprintf(expected, sizeof expected, "hyprstream: %s\n", hs_status_text(HS_TIMEOUT));
    assert_string_equal(test->err_out.data, expected);
}

static void for_programs(void **state)
{
    struct api_test *test = *state;
    struct hs_error error = failure("a \"quoted\" name", "");
    hs_error_report(&test->io, HS_NOT_FOUND, &error, true);
    size_t len = strlen(test->err_out.data);
    assert_true(strchr(test->err_out.data, '\n') == test->err_out.data + len - 1);
    json_t *object = json_loads(test->err_out.data, 0, NULL);
    const json_t *inner = json_object_get(object, "error");
    assert_string_equal(json_string_value(json_object_get(inner, "status")), "HS_NOT_FOUND");
    assert_string_equal(json_string_value(json_object_get(inner, "message")), "a \"quoted\" name");
    assert_true(json_is_null(json_object_get(inner, "hint")));
    assert_int_equal(json_integer_value(json_object_get(inner, "exit_code")),
                     hs_exit_code(HS_NOT_FOUND));
    json_decref(object);
}

/* Who pressed Ctrl-C knows; a program is told. */
static void a_stop_is_no_failure_for_people(void **state)
{
    struct api_test *test = *state;
    struct hs_error error = failure("the answer was stopped", "");
    hs_error_report(&test->io, HS_CANCELLED, &error, false);
    assert_string_equal(test->err_out.data, "");
    hs_error_report(&test->io, HS_CANCELLED, &error, true);
    assert_contains(test->err_out.data, "\"exit_code\":130");
}

/* Something is said even when memory is gone. */
static void memory_failures(void **state)
{
    struct api_test *test = *state;
    struct hs_error error = failure("no model", "see the list");
    for (int as_json = 0; as_json < 2; as_json++) {
        for (uint64_t nth = 1; nth < 40; nth++) {
            hs_mem_fail_after(nth);
            hs_error_report(&test->io, HS_NOT_FOUND, &error, as_json);
            hs_mem_fail_after(0);
            api_clear_output(test);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(for_people, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(control_characters_are_shown, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(without_a_message, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(for_programs, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_stop_is_no_failure_for_people, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
