/* Help, man page and completions say everything the tables say. */
#include "api_test.h"

#include <sys/wait.h>

#include "api/status_map.h"
#include "help.h"

static struct hs_buf text = HS_BUF_INIT(HS_HELP_MAX_BYTES);

static int clear(void **state)
{
    (void)state;
    hs_buf_free(&text);
    return 0;
}

static size_t longest_line(const char *s)
{
    size_t longest = 0;
    while (*s) {
        size_t len = strcspn(s, "\n");
        longest = len > longest ? len : longest;
        s += len + (s[len] == '\n');
    }
    return longest;
}

static void the_overview_has_every_command(void **state)
{
    (void)state;
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    assert_int_equal(hs_help_overview(&text, 80), HS_OK);
    for (size_t i = 0; i < n; i++) {
        assert_contains(text.data, rows[i].name);
    }
    assert_true(longest_line(text.data) <= 80);
}

static void help_of_a_command_has_its_options(void **state)
{
    (void)state;
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    for (size_t i = 0; i < n; i++) {
        hs_buf_clear(&text);
        assert_int_equal(hs_help_command(&rows[i], &text, 80), HS_OK);
        assert_contains(text.data, "usage: hyprstream ");
        for (int id = 0; id < HS_CFG_COUNT; id++) {
            const char *name = hs_config_row((enum hs_config_id)id)->name;
            char flag[64];
            snprintf(flag, sizeof flag, "%s%s",
                     hs_config_row((enum hs_config_id)id)->type == HS_CONFIG_BOOL ? "--[no-]"
                                                                                  : "--",
                     name);
            bool understood = hs_command_list_has(rows[i].settings, name) ||
                              hs_command_list_has(HS_SETTINGS_COMMON, name);
            if (understood) {
                assert_contains(text.data, flag);
            }
        }
    }
}

static void lines_are_broken(void **state)
{
    (void)state;
    int n_words = 0;
    char *words[] = {"chat"};
    const struct hs_command *command = hs_command_find(1, words, &n_words);
    static const int columns[] = {10, 40, 72, 100, 500};
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        hs_buf_clear(&text);
        assert_int_equal(hs_help_command(command, &text, columns[i]), HS_OK);
        /* 40 columns at least, 100 at most; examples and flags are never broken */
        size_t limit = columns[i] < 60 ? 60 : (columns[i] > 100 ? 100 : (size_t)columns[i]);
        assert_true(longest_line(text.data) <= limit);
    }
}

static void help_for_words(void **state)
{
    (void)state;
    struct hs_error err;
    char *group[] = {"model"}, *unknown[] = {"nothing"};
    assert_int_equal(hs_help_words(1, group, &text, 80, &err), HS_OK);
    assert_contains(text.data, "model verify");
    hs_buf_clear(&text);
    assert_int_equal(hs_help_words(0, NULL, &text, 80, &err), HS_OK);
    assert_contains(text.data, "commands:");
    assert_contains(text.data, "hyprstream help --man | man -l -");
    assert_int_equal(hs_help_words(1, unknown, &text, 80, &err), HS_INVALID_ARGUMENT);
    char *second[] = {"model", "nope"};
    assert_int_equal(hs_help_words(2, second, &text, 80, &err), HS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "there is no command 'model nope'");
    assert_string_equal(err.hint, "'hyprstream help model' lists the commands");
    char *whole[] = {"model", "show"};
    assert_int_equal(hs_help_words(2, whole, &text, 80, &err), HS_OK);
}

static hs_status ask_for_help(int n, char **words, bool man, struct hs_error *err)
{
    const struct hs_command_io io = {.columns = 80}; /* nothing may be printed */
    struct hs_command_args args = {.n_args = n, .args = words, .io = &io};
    args.options[HS_OPT_MAN] = man ? "" : NULL;
    return hs_cmd_help(&args, err);
}

static void help_refuses_what_is_no_command(void **state)
{
    (void)state;
    struct hs_error err;
    char *extra[] = {"chat", "nope"}, *second[] = {"model", "nope"}, *chat[] = {"chat"};
    assert_int_equal(ask_for_help(2, extra, false, &err), HS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "there is no command 'chat nope'");
    assert_int_equal(ask_for_help(2, second, false, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(ask_for_help(1, chat, true, &err), HS_INVALID_ARGUMENT);
    assert_contains(err.message, "--man");
}

static void variables(void **state)
{
    (void)state;
    char name[64];
    assert_string_equal(hs_help_variable(hs_config_row(HS_CFG_CTX_SIZE), name, sizeof name),
                        "HYPRSTREAM_CTX_SIZE");
}

static void memory_failures(void **state)
{
    (void)state;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 2000);
        hs_buf_free(&text);
        hs_mem_fail_after(nth);
        status = hs_man_page(&text);
        status = status ? status : hs_completion_script("fish", &text);
        status = status ? status : hs_help_overview(&text, 80);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_overview_has_every_command, clear),
        cmocka_unit_test_teardown(help_of_a_command_has_its_options, clear),
        cmocka_unit_test_teardown(lines_are_broken, clear),
        cmocka_unit_test(help_refuses_what_is_no_command),
        cmocka_unit_test_teardown(help_for_words, clear),
        cmocka_unit_test_teardown(variables, clear),
        cmocka_unit_test_teardown(memory_failures, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
