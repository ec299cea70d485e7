/* The command line: words, settings and options in any order; finding commands. */
#include "api_test.h"

#include "args.h"

static struct hs_args args;
static struct hs_error err;

static hs_status parse(int argc, const char *const *argv)
{
    hs_args_free(&args);
    hs_error_clear(&err);
    return hs_args_parse(argc, (char *const *)argv, &args, &err);
}

#define PARSE(...)                                                                                 \
    parse((int)COUNT_OF(((const char *const[]){__VA_ARGS__})), (const char *const[]){__VA_ARGS__})

static int teardown(void **state)
{
    (void)state;
    hs_args_free(&args);
    return 0;
}

static void forms_of_a_setting(void **state)
{
    (void)state;
    assert_int_equal(PARSE("chat", "--temp", "0.5", "--temp=0.6", "-t", "0.7", "-t0.8", "-t=0.9"),
                     HS_OK);
    static const char *const values[] = {"0.5", "0.6", "0.7", "0.8", "0.9"};
    assert_int_equal(args.n_settings, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(args.settings[i].id, HS_CFG_TEMP);
        assert_string_equal(args.settings[i].value, values[i]);
    }
    assert_string_equal(hs_args_setting_value(&args, HS_CFG_TEMP), "0.9");
    assert_null(hs_args_setting_value(&args, HS_CFG_SEED));
    assert_int_equal(args.n_words, 1);
}

static void values_may_look_like_flags(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--seed", "-1", "--stop", "--", "--system=", "chat"), HS_OK);
    assert_string_equal(args.settings[0].value, "-1");
    assert_string_equal(args.settings[1].value, "--");
    assert_string_equal(args.settings[2].value, "");
    assert_string_equal(args.words[0], "chat");
}

static void switches(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--json", "--no-json", "--json=false", "--no-stream"), HS_OK);
    assert_null(args.settings[0].value);
    assert_string_equal(args.settings[1].value, "false");
    assert_string_equal(args.settings[2].value, "false");
    assert_int_equal(args.settings[3].id, HS_CFG_STREAM);
    assert_int_equal(PARSE("--no-json=1"), HS_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--no-temp"), HS_INVALID_ARGUMENT); /* only switches have an opposite */
}

static void words_anywhere(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-m", "x", "chat", "--json", "hello", "-", "--", "--temp", "-x"), HS_OK);
    static const char *const words[] = {"chat", "hello", "-", "--temp", "-x"};
    assert_int_equal(args.n_words, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(args.words[i], words[i]);
    }
    assert_int_equal(parse(0, NULL), HS_OK);
    assert_int_equal(args.n_words, 0);
    assert_int_equal(PARSE(""), HS_OK); /* an empty word is a word */
    assert_int_equal(args.n_words, 1);
}

static void options(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-f", "--name", "x", "--help", "-V"), HS_OK);
    assert_string_equal(args.options[HS_OPT_FORCE], "");
    assert_string_equal(args.options[HS_OPT_NAME], "x");
    assert_non_null(args.options[HS_OPT_HELP]);
    assert_non_null(args.options[HS_OPT_VERSION]);
    assert_null(args.options[HS_OPT_MAN]);
    assert_int_equal(PARSE("--force=yes"), HS_INVALID_ARGUMENT);
    assert_int_equal(PARSE("-fx"), HS_INVALID_ARGUMENT);
}

static void repeated_options(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--tag", "a", "--example=x y", "--tag", "b", "--tag", "c"), HS_OK);
    assert_string_equal(args.options[HS_OPT_TAG], "a\nb\nc");
    assert_string_equal(args.options[HS_OPT_EXAMPLE], "x y");
    assert_int_equal(PARSE("--name", "a", "--name", "b"), HS_OK);
    assert_string_equal(args.options[HS_OPT_NAME], "b"); /* of others the last one counts */
}

static void mistakes(void **state)
{
    (void)state;
    assert_int_equal(PARSE("chat", "--tmep", "1"), HS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "unknown option '--tmep'");
    assert_string_equal(err.hint, "did you mean '--temp'?");
    assert_int_equal(PARSE("--max-token=3"), HS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "unknown option '--max-token'");
    assert_string_equal(err.hint, "did you mean '--max-tokens'?");
    /* only what the command understands is offered */
    assert_int_equal(PARSE("chat", "--nope"), HS_INVALID_ARGUMENT);
    assert_string_equal(err.hint, "'hyprstream help chat' lists the options");
    assert_int_equal(PARSE("model", "add", "--nope"), HS_INVALID_ARGUMENT);
    assert_string_equal(err.hint, "did you mean '--name'?");
    assert_int_equal(PARSE("model", "list", "--colr", "never"), HS_INVALID_ARGUMENT);
    assert_string_equal(err.hint, "did you mean '--color'?");
    assert_int_equal(PARSE("--nothing-like-it"), HS_INVALID_ARGUMENT);
    assert_contains(err.hint, "hyprstream help");
    assert_int_equal(PARSE("-5"), HS_INVALID_ARGUMENT);
    assert_contains(err.hint, "'--'");
    assert_int_equal(PARSE("chat", "--temp"), HS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "--temp needs a value");
    char flag[200] = "--";
    memset(flag + 2, 'x', sizeof flag - 3);
    assert_int_equal(PARSE(flag), HS_INVALID_ARGUMENT);
}

static void unknown_commands(void **state)
{
    (void)state;
    assert_int_equal(PARSE("caht"), HS_OK);
    assert_int_equal(hs_args_unknown_command(&args, &err), HS_INVALID_ARGUMENT);
    assert_string_equal(err.hint, "did you mean 'hyprstream chat'?");
    assert_int_equal(PARSE("model"), HS_OK);
    assert_int_equal(hs_args_unknown_command(&args, &err), HS_INVALID_ARGUMENT);
    assert_string_equal(err.hint, "one of: list, show, verify, add, rm");
    assert_int_equal(PARSE("model", "lsit"), HS_OK);
    assert_int_equal(hs_args_unknown_command(&args, &err), HS_INVALID_ARGUMENT);
    assert_string_equal(err.hint, "did you mean 'hyprstream model list'?");
    assert_int_equal(PARSE("session", "frobnicate"), HS_OK);
    assert_int_equal(hs_args_unknown_command(&args, &err), HS_INVALID_ARGUMENT);
    assert_string_equal(err.hint, "after 'session' comes one of: list, show, rm");
    assert_int_equal(PARSE("frobnicate"), HS_OK);
    assert_int_equal(hs_args_unknown_command(&args, &err), HS_INVALID_ARGUMENT);
    assert_contains(err.hint, "hyprstream help");
}

static hs_status check(void)
{
    int n = 0;
    const struct hs_command *command = hs_command_find(args.n_words, args.words, &n);
    assert_non_null(command);
    return hs_args_check(&args, command, n, &err);
}

static void commands_refuse_what_they_do_not_know(void **state)
{
    (void)state;
    assert_int_equal(PARSE("chat", "a", "b", "c", "--temp", "1", "--log-level", "debug"), HS_OK);
    assert_int_equal(check(), HS_OK);
    assert_int_equal(PARSE("model", "list", "--temp", "1"), HS_OK);
    assert_int_equal(check(), HS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "--temp is no option of 'model list'");
    assert_int_equal(PARSE("model", "list", "--force"), HS_OK);
    assert_int_equal(check(), HS_INVALID_ARGUMENT);
    assert_int_equal(PARSE("config", "show", "--temp", "1", "--mlock"), HS_OK);
    assert_int_equal(check(), HS_OK);
    assert_int_equal(PARSE("model", "show"), HS_OK);
    assert_int_equal(check(), HS_INVALID_ARGUMENT);
    assert_string_equal(err.hint, "usage: hyprstream model show MODEL");
    assert_int_equal(PARSE("model", "show", "a", "b"), HS_OK);
    assert_int_equal(check(), HS_INVALID_ARGUMENT);
    assert_int_equal(PARSE("version", "x"), HS_OK);
    assert_int_equal(check(), HS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "'version' takes no arguments");
    assert_string_equal(err.hint, "usage: hyprstream version");
}

static void memory_failures(void **state)
{
    (void)state;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 100);
        hs_mem_fail_after(nth);
        status = PARSE("chat", "--temp", "1", "--tag", "a", "--tag", "b");
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_of_a_setting),
        cmocka_unit_test(values_may_look_like_flags),
        cmocka_unit_test(switches),
        cmocka_unit_test(words_anywhere),
        cmocka_unit_test(options),
        cmocka_unit_test(repeated_options),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(unknown_commands),
        cmocka_unit_test(commands_refuse_what_they_do_not_know),
        cmocka_unit_test(memory_failures),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
