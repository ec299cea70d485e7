/* The completions of shells. What they offer is asked of the shells in tests/python/test_cli.py. */
#include "script_test.h"

static void scripts_parse(void **state)
{
    (void)state;
    static const char *const shells[] = {"bash", "zsh", "fish"};
    size_t n_checked = 0;
    for (size_t i = 0; i < COUNT_OF(shells); i++) {
        char command[64], output[4096];
        hs_buf_clear(&text);
        assert_int_equal(hs_completion_script(shells[i], &text), HS_OK);
        assert_contains(text.data, "model list --names");
        assert_contains(text.data, "adapter list --names");
        assert_contains(text.data, "top-k");
        if (!has_tool(shells[i])) {
            print_message("%s is not installed\n", shells[i]);
            continue;
        }
        snprintf(command, sizeof command, "%s -n", shells[i]);
        int code = run(command, output, sizeof output);
        assert_string_equal(output, "");
        assert_int_equal(code, 0);
        n_checked++;
    }
    assert_int_equal(hs_completion_script("tcsh", &text), HS_NOT_FOUND);
    if (n_checked == 0) {
        skip();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(scripts_parse, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
