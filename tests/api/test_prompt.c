/* Text from arguments and standard input. */
#include "api_test.h"

#include "prompt.h"

static char *result;

static hs_status read_prompt(const struct hs_command_args *args, struct hs_error *err)
{
    result = NULL;
    return hs_prompt_read(args, &result, err);
}

static void expect(struct api_test *test, hs_status status, const char *text)
{
    (void)test;
    assert_int_equal(status, HS_OK);
    assert_string_equal(result, text);
    hs_free(result);
}

static void arguments_are_joined(void **state)
{
    struct api_test *test = *state;
    expect(test, api_run(test, read_prompt, "Hello", NULL), "Hello");
    expect(test, api_run(test, read_prompt, "two", "words  here", NULL), "two words  here");
}

static void standard_input_alone(void **state)
{
    struct api_test *test = *state;
    test->in = "from a file\n";
    expect(test, api_run(test, read_prompt, NULL), "from a file");
    test->in = "two ends\n\n";
    expect(test, api_run(test, read_prompt, NULL), "two ends\n");
}

static void a_dash_is_standard_input(void **state)
{
    struct api_test *test = *state;
    test->in = "text\n";
    expect(test, api_run(test, read_prompt, "-", NULL), "text");
    expect(test, api_run(test, read_prompt, "Sum up:", "-", NULL), "Sum up:\ntext");
    expect(test, api_run(test, read_prompt, "-", "in short", NULL), "text\nin short");
}

static void bad_text_is_refused(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(api_run(test, read_prompt, "", NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "empty");
    test->in = "\n";
    assert_int_equal(api_run(test, read_prompt, NULL), HS_INVALID_ARGUMENT);
    test->in = "caf\xE9"; /* ISO 8859-1 */
    assert_int_equal(api_run(test, read_prompt, NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "UTF-8");
    test->in = "a\0b";
    test->in_len = 3;
    assert_int_equal(api_run(test, read_prompt, NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "NUL");
}

static void the_limit_is_exact(void **state)
{
    struct api_test *test = *state;
    char *text = malloc(HS_PROMPT_MAX_BYTES + 2);
    memset(text, 'a', HS_PROMPT_MAX_BYTES + 1);
    text[HS_PROMPT_MAX_BYTES + 1] = '\0';
    test->in = text;
    test->in_len = HS_PROMPT_MAX_BYTES;
    assert_int_equal(api_run(test, read_prompt, NULL), HS_OK);
    assert_int_equal(strlen(result), HS_PROMPT_MAX_BYTES);
    hs_free(result);
    test->in_len = HS_PROMPT_MAX_BYTES + 1;
    assert_int_equal(api_run(test, read_prompt, NULL), HS_LIMIT);
    assert_contains(test->err.message, "16 MiB");
    test->in_len = HS_PROMPT_MAX_BYTES;
    assert_int_equal(api_run(test, read_prompt, "x", "-", NULL), HS_LIMIT);
    free(text);
}

static void memory_failures(void **state)
{
    struct api_test *test = *state;
    test->in = "input";
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 100);
        hs_mem_fail_after(nth);
        status = api_run(test, read_prompt, "a", "-", NULL);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
    hs_free(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(arguments_are_joined, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(standard_input_alone, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_dash_is_standard_input, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(bad_text_is_refused, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(the_limit_is_exact, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
