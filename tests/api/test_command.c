/* Rows of options, and lists of names. */
#include "api_test.h"

static void names_in_lists(void **state)
{
    (void)state;
    static const struct {
        const char *list, *name;
        bool has;
    } cases[] = {
        {"model temp json", "model", true},
        {"model temp json", "temp", true},
        {"model temp json", "json", true},
        {"model temp json", "tem", false},
        {"model temp json", "temps", false},
        {"model temp json", "", false},
        {"model temp json", "model temp", false},
        {"", "model", false},
        {"*", "anything", true},
        {"a *", "anything", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (hs_command_list_has(cases[i].list, cases[i].name) != cases[i].has) {
            fail_msg("'%s' in '%s'", cases[i].name, cases[i].list);
        }
    }
}

static void options_have_names_of_their_own(void **state)
{
    (void)state;
    assert_string_equal(hs_option_row(HS_OPT_HELP)->name, "help");
    assert_int_equal(hs_option_row(HS_OPT_HELP)->short_flag, 'h');
    assert_null(hs_option_row(HS_OPT_FORCE)->placeholder);
    assert_string_equal(hs_option_row(HS_OPT_NAME)->placeholder, "NAME");
    for (int a = 0; a < HS_OPT_COUNT; a++) {
        const struct hs_option_row *row = hs_option_row((enum hs_option_id)a);
        assert_true(strlen(row->text) > 0);
        for (int b = a + 1; b < HS_OPT_COUNT; b++) {
            const struct hs_option_row *other = hs_option_row((enum hs_option_id)b);
            assert_string_not_equal(row->name, other->name);
            assert_true(row->short_flag == 0 || row->short_flag != other->short_flag);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_in_lists),
        cmocka_unit_test(options_have_names_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
