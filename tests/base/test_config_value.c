/* Values of every type of setting. */
#include "config_test.h"

#include <float.h>
#include <locale.h>

static void test_int(void **state)
{
    static const char *const wrong[] = {
        "",
        " 1",
        "1 ",
        "1x",
        "x",
        "0x10",
        "1.0",
        "1e3",
        "--1",
        "+-1",
        "-",
        "+",
        "1,000",
        "1_000",
        "nan",
        "inf",
        "99999999999999999999",
        "-99999999999999999999",
        "\xD9\xA1",
        "1\n",
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        refuse(*state, HS_CFG_CTX_SIZE, wrong[i], "a whole number from 0 to 16777216");
    }
    refuse(*state, HS_CFG_CTX_SIZE, "-1", "0 to 16777216");
    refuse(*state, HS_CFG_CTX_SIZE, "16777217", "0 to 16777216");
    accept(*state, HS_CFG_CTX_SIZE, "16777216", 16777216);
    accept(*state, HS_CFG_CTX_SIZE, "0", 0);
    accept(*state, HS_CFG_CTX_SIZE, "+7", 7);
    accept(*state, HS_CFG_CTX_SIZE, "007", 7);
    accept(*state, HS_CFG_MAX_TOKENS, "-1", -1);
    refuse(*state, HS_CFG_MAX_TOKENS, "-2", "-1 to 1048576");
    accept(*state, HS_CFG_SEED, "4294967294", 4294967294.0);
    assert_int_equal(hs_config_int(*state, HS_CFG_SEED), 4294967294);
    refuse(*state, HS_CFG_SEED, "4294967295", "-1 to 4294967294");
}

/* Every INT and FLOAT of the table at its range and one step outside. */
static void test_ranges(void **state)
{
    for (int i = 0; i < HS_CFG_COUNT; i++) {
        enum hs_config_id id = (enum hs_config_id)i;
        const struct hs_config_row *row = hs_config_row(id);
        char text[64];
        if (row->type == HS_CONFIG_INT) {
            for (int over = 0; over <= 1; over++) {
                snprintf(text, sizeof text, "%lld", (long long)row->min - over);
                over ? refuse(*state, id, text, "from") : accept(*state, id, text, row->min);
                snprintf(text, sizeof text, "%lld", (long long)row->max + over);
                over ? refuse(*state, id, text, "from") : accept(*state, id, text, row->max);
            }
        } else if (row->type == HS_CONFIG_FLOAT) {
            snprintf(text, sizeof text, "%.17g", row->max);
            accept(*state, id, text, row->max);
            snprintf(text, sizeof text, "%.17g", row->max * (1 + DBL_EPSILON));
            refuse(*state, id, text, "from");
            snprintf(text, sizeof text, "%.17g", row->min);
            accept(*state, id, text, row->min);
            snprintf(text, sizeof text, "%.17g", row->min - 1e-9);
            refuse(*state, id, text, "from");
        }
    }
}

static void test_float(void **state)
{
    static const char *const wrong[] = {
        "",    "nan", "NaN", "-nan", "inf",  "-inf", "infinity", "1e999", "0x1p3",
        "0x1", "1,5", " 1",  "1 ",   "1.5x", "1..5", "e5",       ".",     "-",
        "1e",  "1e+", "--1", "1f",   "1 2",  "\t1",  "1d0",
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        refuse(*state, HS_CFG_TEMP, wrong[i], "a number from 0 to 100");
    }
    accept(*state, HS_CFG_TEMP, "0.7", 0.7);
    accept(*state, HS_CFG_TEMP, "1", 1);
    accept(*state, HS_CFG_TEMP, ".5", 0.5);
    accept(*state, HS_CFG_TEMP, "5.", 5);
    accept(*state, HS_CFG_TEMP, "1e2", 100);
    accept(*state, HS_CFG_TEMP, "1E-1", 0.1);
    accept(*state, HS_CFG_TEMP, "+2.5", 2.5);
    accept(*state, HS_CFG_TEMP, "0", 0);
    refuse(*state, HS_CFG_REPEAT_PENALTY, "0", "0.01 to 10");
}

static void test_decimal_point_in_any_locale(void **state)
{
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"};
    for (size_t i = 0; i < COUNT_OF(locales); i++) {
        if (setlocale(LC_ALL, locales[i]) == NULL) {
            continue;
        }
        accept(*state, HS_CFG_TEMP, "0.5", 0.5);
        refuse(*state, HS_CFG_TEMP, "0,5", "0 to 100");
        refuse(*state, HS_CFG_REPEAT_PENALTY, "0", "0.01 to 10");
    }
    setlocale(LC_ALL, "C");
}

static void test_bool(void **state)
{
    static const char *const yes[] = {"true", "yes", "on", "1", "TRUE", "Yes", "oN"};
    static const char *const no[] = {"false", "no", "off", "0", "FALSE", "No", "oFF"};
    static const char *const wrong[] = {"", "2", "t", "y", "enable", "true ", "01", "-1"};
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        accept(*state, HS_CFG_MLOCK, yes[i], 1);
        assert_true(hs_config_bool(*state, HS_CFG_MLOCK));
        accept(*state, HS_CFG_MLOCK, no[i], 0);
        assert_false(hs_config_bool(*state, HS_CFG_MLOCK));
    }
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        refuse(*state, HS_CFG_MLOCK, wrong[i], "true or false");
    }
    assert_int_equal(hs_config_set_flag(*state, HS_CFG_MLOCK, NULL, NULL), HS_OK);
    assert_true(hs_config_bool(*state, HS_CFG_MLOCK));
}

static void test_enum(void **state)
{
    accept(*state, HS_CFG_COLOR, "auto", 0);
    accept(*state, HS_CFG_COLOR, "always", 1);
    accept(*state, HS_CFG_COLOR, "never", 2);
    accept(*state, HS_CFG_LOG_LEVEL, "off", 4);
    static const char *const wrong[] = {"", "Auto", "aut", "autox", "auto|always", "|", "1"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        refuse(*state, HS_CFG_COLOR, wrong[i], "one of auto|always|never");
    }
}

static void test_size(void **state)
{
    static const char *const wrong[] = {
        "",
        "K",
        "-1",
        "+1",
        "1.5G",
        "1KB",
        "1KiB",
        "1 K",
        "1P",
        "0x10",
        "18446744073709551616",
        "1025G",
        "2T",
        "1MM",
        " 1",
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        refuse(*state, HS_CFG_PARK_BUDGET, wrong[i], "0 to 1099511627776");
    }
    accept(*state, HS_CFG_PARK_BUDGET, "0", 0);
    accept(*state, HS_CFG_PARK_BUDGET, "1234567", 1234567);
    accept(*state, HS_CFG_PARK_BUDGET, "1k", 1024);
    accept(*state, HS_CFG_PARK_BUDGET, "3K", 3072);
    accept(*state, HS_CFG_PARK_BUDGET, "2M", 2097152);
    accept(*state, HS_CFG_PARK_BUDGET, "2g", 2147483648.0);
    accept(*state, HS_CFG_PARK_BUDGET, "1T", 1099511627776.0);
    assert_int_equal(hs_config_int(*state, HS_CFG_PARK_BUDGET), 1099511627776);
    accept(*state, HS_CFG_PARK_BUDGET, "1024G", 1099511627776.0);
    refuse(*state, HS_CFG_PARK_BUDGET, "1099511627777", "0 to 1099511627776");
}

/* A wrong value is shown shortened and without control characters. */
static void test_shown_value(void **state)
{
    struct hs_error err;
    char text[2000];
    memset(text, '9', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(hs_config_set_flag(*state, HS_CFG_TOP_K, text, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "9..."));
    assert_non_null(strstr(err.message, "0 to 1048576"));
    assert_true(strlen(err.message) < 250);
    assert_int_equal(hs_config_set_flag(*state, HS_CFG_TOP_K, "a\x1b[2J\nb\x7f", &err),
                     HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "'a?[2J?b?'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONFIG_TEST(test_int),   CONFIG_TEST(test_ranges),
        CONFIG_TEST(test_float), CONFIG_TEST(test_decimal_point_in_any_locale),
        CONFIG_TEST(test_bool),  CONFIG_TEST(test_enum),
        CONFIG_TEST(test_size),  CONFIG_TEST(test_shown_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
