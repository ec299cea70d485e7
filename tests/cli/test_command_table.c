/* The table of commands. */
#include "api_test.h"

static const struct hs_command *find(int argc, const char *const *argv, int *ret_words)
{
    return hs_command_find(argc, (char *const *)argv, ret_words);
}

#define FIND(n, ...)                                                                               \
    find((int)COUNT_OF(((const char *const[]){__VA_ARGS__})), (const char *const[]){__VA_ARGS__}, n)

static void finding_commands(void **state)
{
    (void)state;
    int n = 0;
    assert_string_equal(FIND(&n, "chat", "hello")->name, "chat");
    assert_int_equal(n, 1);
    assert_string_equal(FIND(&n, "model", "list")->name, "model list");
    assert_int_equal(n, 2);
    assert_string_equal(FIND(&n, "model", "rm", "list")->name, "model rm");
    assert_null(FIND(&n, "model"));
    assert_null(FIND(&n, "model", "x"));
    assert_null(FIND(&n, "model list"));
    assert_null(FIND(&n, "cha"));
    assert_null(FIND(&n, "chats"));
    assert_null(find(0, NULL, &n));
    assert_int_equal(n, 2); /* written only when something is found */
}

static void the_tables_fit_together(void **state)
{
    (void)state;
    size_t n = 0;
    const struct hs_command *rows = hs_commands(&n);
    for (size_t i = 0; i < n; i++) {
        const char *const lists[] = {rows[i].settings, rows[i].options};
        for (size_t l = 0; l < 2; l++) {
            char copy[1024];
            snprintf(copy, sizeof copy, "%s", lists[l]);
            char *rest = NULL;
            for (char *name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
                bool found = strcmp(name, "*") == 0;
                for (int id = 0; l == 1 && id < HS_OPT_COUNT; id++) {
                    found = found || strcmp(hs_option_row((enum hs_option_id)id)->name, name) == 0;
                }
                found = found || (l == 0 && hs_config_find(name, NULL));
                if (!found) {
                    fail_msg("'%s' of '%s' is in no table", name, rows[i].name);
                }
            }
        }
        assert_true(strlen(rows[i].text) > 0);
    }
    /* no option has a setting's name or letter */
    for (int id = 0; id < HS_OPT_COUNT; id++) {
        const struct hs_option_row *option = hs_option_row((enum hs_option_id)id);
        assert_null(hs_config_find(option->name, NULL));
        for (int s = 0; s < HS_CFG_COUNT && option->short_flag; s++) {
            assert_int_not_equal(hs_config_row((enum hs_config_id)s)->short_flag,
                                 option->short_flag);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finding_commands),
        cmocka_unit_test(the_tables_fit_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
