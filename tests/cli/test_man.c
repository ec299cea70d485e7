/* The man page. */
#include "script_test.h"

static void the_man_page_is_clean(void **state)
{
    (void)state;
    char output[8192];
    assert_int_equal(hs_man_page(&text), HS_OK);
    bool checked = false;
    if (has_tool("groff")) {
        int code = run("groff -man -Tutf8 -ww -z", output, sizeof output);
        assert_string_equal(output, "");
        assert_int_equal(code, 0);
        checked = true;
    }
    if (has_tool("mandoc")) {
        /* the date is empty so that the page is the same in every build */
        run("mandoc -T lint -W warning", output, sizeof output);
        char *rest = NULL;
        for (char *line = strtok_r(output, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            if (!strstr(line, "missing date")) {
                fail_msg("%s", line);
            }
        }
        checked = true;
    }
    if (!checked) {
        print_message("neither groff nor mandoc is installed\n");
        skip();
    }
}

static void the_man_page_has_everything(void **state)
{
    (void)state;
    size_t n = 0;
    const struct hs_exit_code_row *codes = hs_exit_code_rows(&n);
    assert_int_equal(hs_man_page(&text), HS_OK);
    for (size_t i = 0; i < n; i++) {
        char tag[64];
        snprintf(tag, sizeof tag, ".TP\n\\fB%d\\fR\n", codes[i].exit_code);
        assert_contains(text.data, tag);
    }
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        char variable[64];
        const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
        assert_contains(text.data, hs_help_variable(row, variable, sizeof variable));
    }
    size_t n_commands = 0;
    const struct hs_command *rows = hs_commands(&n_commands);
    for (size_t i = 0; i < n_commands; i++) {
        char heading[128];
        snprintf(heading, sizeof heading, ".SS \"hyprstream %s", rows[i].name);
        assert_contains(text.data, heading);
    }
    static const char *const parts[] = {"IN A CONVERSATION", "/regen",   "ENVIRONMENT", "FILES",
                                        "HYPRSTREAM_HOME",   "NO_COLOR", "EXIT STATUS"};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        assert_contains(text.data, parts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_man_page_is_clean, clear),
        cmocka_unit_test_teardown(the_man_page_has_everything, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
