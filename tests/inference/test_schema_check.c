/* JSON schemas as the converter enforces them: what is written, what is refused, and by which name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "schema_check.h"
#include "schema_pattern.h"

#define OBJECT(text) "{\"type\":\"object\",\"properties\":{" text "}}"

static struct hs_error err;

static hs_status check(const char *schema, bool is_lenient, char **ret)
{
    struct hs_schema_use use = {.is_lenient = is_lenient};
    *ret = NULL;
    return hs_schema_check(schema, &use, ret, &err);
}

static void expect(const char *schema, const char *written)
{
    char *text = NULL;
    if (check(schema, false, &text) != HS_OK) {
        fail_msg("%s: %s", schema, err.message);
    }
    assert_string_equal(text, written);
    hs_free(text);
}

static void refuse_as(hs_status status, const char *schema, const char *what)
{
    char *text = NULL;
    hs_status got = check(schema, false, &text);
    if (got != status || !strstr(err.message, what)) {
        fail_msg("%s: %s '%s' instead of '%s'", schema, hs_status_name(got),
                 text ? text : err.message, what);
    }
}

static void refuse(const char *schema, const char *what)
{
    refuse_as(HS_INVALID_ARGUMENT, schema, what);
}

static void test_what_is_enforced_is_written(void **state)
{
    (void)state;
    expect("{}", "{\"type\":\"object\"}");
    expect("{\"type\":\"object\"}", "{\"type\":\"object\"}");
    expect("{\"title\":\"x\",\"$comment\":\"y\"}", "{}");
    expect("{\"type\":\"string\",\"maxLength\":5}", "{\"type\":\"string\",\"maxLength\":5}");
    expect("{\"type\":\"string\",\"maxLength\":5000}", "{\"type\":\"string\",\"maxLength\":2000}");
    expect("{\"const\":3}", "{\"enum\":[3]}");
    expect("{\"type\":\"string\",\"enum\":[\"a\",1,null]}", "{\"enum\":[\"a\"]}");
    expect("{\"type\":[\"string\",\"null\"],\"maxLength\":3}",
           "{\"anyOf\":[{\"type\":\"string\",\"maxLength\":3},{\"type\":\"null\"}]}");
    expect("{\"type\":\"array\",\"items\":true}", "{\"type\":\"array\"}");
    expect("{\"maxItems\":2}", "{\"type\":\"array\",\"maxItems\":2}");
    expect("{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"}],\"items\":false}",
           "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"}]}");
    expect("{\"type\":\"array\",\"items\":[{\"type\":\"null\"}]}",
           "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"}]}");
    expect("{\"type\":\"string\",\"format\":\"date\",\"maxLength\":10}",
           "{\"type\":\"string\",\"format\":\"date\"}");
    expect("{\"type\":\"string\",\"format\":\"email\"}", "{\"type\":\"string\"}");
    expect("{\"type\":\"boolean\",\"uniqueItems\":false}", "{\"type\":\"boolean\"}");
    expect("{\"allOf\":[{\"type\":\"null\"}],\"description\":\"d\"}", "{\"type\":\"null\"}");
}

static void test_objects_have_the_named_properties(void **state)
{
    (void)state;
    expect(OBJECT("\"a\":{\"type\":\"null\"}"),
           "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"required\":[],"
           "\"additionalProperties\":false}");
    /* Open ones, too, and what is required is there. */
    expect("{\"type\":\"object\",\"properties\":{\"a\":true},\"required\":[\"b\"],"
           "\"additionalProperties\":{\"type\":\"integer\"}}",
           "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{\"type\":\"integer\"}},"
           "\"required\":[\"b\"],\"additionalProperties\":false}");
    expect("{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
           "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}");
    expect(
        "{\"type\":\"object\",\"additionalProperties\":false}",
        "{\"type\":\"object\",\"properties\":{},\"required\":[],\"additionalProperties\":false}");
    expect(
        "{\"allOf\":[{\"$ref\":\"#/$defs/A\"},{\"properties\":{\"b\":{\"type\":\"null\"}}}],"
        "\"$defs\":{\"A\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},"
        "\"required\":[\"a\"]}}}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"b\":{\"type\":\"null\"}},"
        "\"required\":[\"a\"],\"additionalProperties\":false}");
}

static void test_integers_get_both_bounds(void **state)
{
    (void)state;
    expect("{\"type\":\"integer\"}", "{\"type\":\"integer\"}");
    expect("{\"type\":\"integer\",\"minimum\":1.5,\"exclusiveMaximum\":10}",
           "{\"type\":\"integer\",\"minimum\":2,\"maximum\":9}");
    expect("{\"type\":\"integer\",\"exclusiveMinimum\":0}",
           "{\"type\":\"integer\",\"minimum\":1,\"maximum\":999999999999999}");
    expect("{\"type\":\"integer\",\"minimum\":3,\"exclusiveMinimum\":true,\"maximum\":1e300}",
           "{\"type\":\"integer\",\"minimum\":4,\"maximum\":999999999999999}");
    expect("{\"type\":\"integer\",\"minimum\":3,\"exclusiveMinimum\":7,\"maximum\":8}",
           "{\"type\":\"integer\",\"minimum\":8,\"maximum\":8}");
    refuse("{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "\"minimum\"");
    refuse("{\"type\":\"integer\",\"minimum\":1e16}", "\"minimum\"");
    refuse("{\"type\":\"number\",\"minimum\":0}", "\"minimum\"");
    refuse("{\"type\":\"number\",\"exclusiveMaximum\":0}", "\"exclusiveMaximum\"");
}

static void test_references(void **state)
{
    (void)state;
    expect("{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/a_b\"},"
           "\"$defs\":{\"a_b\":{\"type\":\"null\"}}}",
           "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/r0x0\"},"
           "\"$defs\":{\"r0x0\":{\"type\":\"null\"}}}");
    expect("{\"type\":\"array\",\"items\":{\"$ref\":\"#/%24defs/a~1b~0\"},"
           "\"$defs\":{\"a/b~\":{\"type\":\"null\"}}}",
           "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/r0x0\"},"
           "\"$defs\":{\"r0x0\":{\"type\":\"null\"}}}");
    /* A tree. */
    expect("{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}",
           "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/r0x0\"},\"$defs\":{\"r0x0\":"
           "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/r0x0\"}}}}");
    refuse("{\"$ref\":\"https://example.org/s.json\"}", "\"$ref\"");
    refuse("{\"type\":\"array\",\"items\":{\"$ref\":\"other.json\"}}", "leads out");
    refuse("{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/none\"}}", "leads nowhere");
    refuse("{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/a\"}}}", "\"$ref\"");
    refuse("{\"items\":{\"$ref\":\"#/$defs/a\",\"minLength\":1},\"$defs\":{\"a\":{}}}",
           "\"minLength\" at \"#/items\"");
}

static void test_keywords_that_are_ignored_elsewhere_are_refused(void **state)
{
    (void)state;
    static const char *const keywords[] = {
        "\"not\":{}",
        "\"if\":{}",
        "\"then\":{}",
        "\"else\":{}",
        "\"contains\":{}",
        "\"minContains\":1",
        "\"maxContains\":1",
        "\"uniqueItems\":true",
        "\"multipleOf\":2",
        "\"dependencies\":{\"a\":[]}",
        "\"propertyNames\":{\"maxLength\":3}",
        "\"patternProperties\":{\"x\":{}}",
        "\"$dynamicRef\":\"#a\"",
        "\"$recursiveRef\":\"#\"",
        "\"dependentRequired\":{\"a\":[]}",
        "\"dependentSchemas\":{\"a\":{}}",
        "\"unevaluatedItems\":false",
        "\"unevaluatedProperties\":false",
        "\"minProperties\":1",
        "\"maxProperties\":1",
    };
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        char schema[256];
        char what[128];
        snprintf(schema, sizeof(schema), OBJECT("\"a/b\":{\"type\":\"object\",%s}"), keywords[i]);
        snprintf(what, sizeof(what),
                 "%.*s at \"#/properties/a~1b\" of the JSON schema cannot be enforced",
                 (int)(strchr(keywords[i], ':') - keywords[i]), keywords[i]);
        refuse(schema, what);
        /* A tool that need not be called is not refused for it. */
        char *text = NULL;
        assert_int_equal(check(schema, true, &text), HS_OK);
        assert_string_equal(text,
                            "{\"type\":\"object\",\"properties\":{\"a/b\":{\"type\":\"object\"}},"
                            "\"required\":[],\"additionalProperties\":false}");
        hs_free(text);
    }
}

static void test_combinations(void **state)
{
    (void)state;
    refuse("{\"anyOf\":[{\"type\":\"null\"}],\"minLength\":1}", "\"minLength\"");
    refuse("{\"anyOf\":[{}],\"oneOf\":[{}]}", "\"oneOf\"");
    refuse("{\"enum\":[1],\"minimum\":1}", "\"minimum\"");
    refuse("{\"enum\":[]}", "\"enum\"");
    refuse("{\"type\":[0,\"string\"]}", "is not a type");
    refuse("{\"type\":\"string\",\"enum\":[1]}", "no value of the type");
    refuse("{\"anyOf\":[]}", "\"anyOf\"");
    refuse("{\"allOf\":[{\"type\":\"string\"},{\"maxLength\":3}]}", "\"allOf\"");
    refuse("{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "\"oneOf\"");
    refuse("{\"oneOf\":[{\"minLength\":2},{\"type\":\"integer\"}]}", "\"oneOf\"");
    expect("{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}",
           "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}");
    expect("{\"type\":\"integer\",\"anyOf\":[{\"maximum\":1},{\"minimum\":5}]}",
           "{\"anyOf\":[{\"type\":\"integer\",\"minimum\":-999999999999999,\"maximum\":1},"
           "{\"type\":\"integer\",\"minimum\":5,\"maximum\":999999999999999}]}");
    static const char *const unions[] = {
        /* A property that tells them apart. */
        "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"}},\"required\":"
        "[\"k\"]},{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"b\"}},\"required\":["
        "\"k\"]}]}",
        "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"]},"
        "{\"type\":\"object\",\"properties\":{\"b\":{}},\"required\":[\"b\"]}]}",
    };
    for (int i = 0; i < 2; i++) {
        char *text = NULL;
        assert_int_equal(check(unions[i], false, &text), HS_OK);
        hs_free(text);
    }
    refuse("{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"}}},"
           "{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"b\"}},\"required\":[\"k\"]}]}",
           "\"oneOf\"");
}

static void test_what_is_no_schema(void **state)
{
    (void)state;
    refuse("", "not valid JSON");
    refuse("{", "not valid JSON");
    refuse("3", "schema");
    refuse("{\"type\":\"text\"}", "\"type\"");
    refuse("{\"type\":[]}", "\"type\"");
    refuse("{\"type\":3}", "\"type\"");
    refuse("{\"properties\":3}", "\"properties\"");
    refuse("{\"required\":3}", "\"required\"");
    refuse("{\"type\":\"object\",\"required\":[3]}", "\"required\"");
    refuse("{\"minLength\":-1}", "\"minLength\"");
    refuse("{\"minLength\":1.5}", "\"minLength\"");
    refuse("{\"minLength\":3,\"maxLength\":2}", "\"minLength\"");
    refuse("{\"minItems\":2001}", "\"minItems\"");
    refuse("{\"type\":\"array\",\"items\":3}", "\"items\"");
    refuse("{\"pattern\":3}", "\"pattern\"");
    refuse("{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"*\":{}}}}",
           "\"properties\" at \"#/items\"");
    refuse("{\"type\":\"object\",\"required\":[\"a\"],\"additionalProperties\":false}",
           "\"required\"");
}

static void test_limits(void **state)
{
    (void)state;
    for (int n = HS_SCHEMA_DEPTH_MAX - 1; n <= HS_SCHEMA_DEPTH_MAX; n++) {
        char text[8192] = "";
        for (int i = 0; i < n; i++) {
            strcat(text, "{\"type\":\"array\",\"items\":");
        }
        strcat(text, "{\"type\":\"null\"}");
        for (int i = 0; i < n; i++) {
            strcat(text, "}");
        }
        char *out = NULL;
        hs_status status = check(text, false, &out);
        assert_int_equal(status, n < HS_SCHEMA_DEPTH_MAX ? HS_OK : HS_LIMIT);
        hs_free(out);
    }
    for (int n = HS_SCHEMA_PROPERTIES_MAX; n <= HS_SCHEMA_PROPERTIES_MAX + 1; n++) {
        char *text = calloc(1, 64 * 1024);
        assert_non_null(text);
        strcat(text, "{\"properties\":{");
        for (int i = 0; i < n; i++) {
            snprintf(text + strlen(text), 64, "%s\"p%d\":{}", i ? "," : "", i);
        }
        strcat(text, "}}");
        char *out = NULL;
        assert_int_equal(check(text, false, &out),
                         n == HS_SCHEMA_PROPERTIES_MAX ? HS_OK : HS_LIMIT);
        hs_free(out);
        free(text);
    }
    char *big = malloc(HS_SCHEMA_MAX_BYTES + 2);
    assert_non_null(big);
    memset(big, ' ', HS_SCHEMA_MAX_BYTES + 1);
    big[HS_SCHEMA_MAX_BYTES + 1] = '\0';
    big[0] = '{';
    big[HS_SCHEMA_MAX_BYTES - 1] = '}';
    char *out = NULL;
    assert_int_equal(check(big, false, &out), HS_LIMIT);
    big[HS_SCHEMA_MAX_BYTES] = '\0';
    assert_int_equal(check(big, false, &out), HS_OK);
    hs_free(out);
    free(big);
}

/* ---- patterns ---- */

static void pattern_is(const char *pattern, const char *written, uint64_t min, uint64_t max)
{
    struct hs_schema_pattern read = {.text = HS_BUF_INIT(1 << 16)};
    hs_status status = hs_schema_pattern_read(pattern, &read);
    if (status != HS_OK) {
        fail_msg("%s: it %s", pattern, read.why);
    }
    assert_string_equal(read.text.data, written);
    assert_int_equal(read.min_length, min);
    assert_int_equal(read.max_length, max);
    hs_buf_free(&read.text);
}

#define C(x) "[\\U000000" x "-\\U000000" x "]"
#define ESCAPED                                                                                    \
    "\\U00000000-\\U0000001F\\U00000022-\\U00000022\\U0000005C-\\U0000005C\\U0000007F-\\U0000007F"

static void test_patterns_are_written_in_classes(void **state)
{
    (void)state;
    pattern_is("^ab$", "^" C("61") C("62") "$", 2, 2);
    pattern_is("ab", "^" C("61") C("62") "$", 2, 2);
    pattern_is("^a|b$", "^" C("61") "|" C("62") "$", 1, 1);
    pattern_is("^(?:ab)+?c{2,3}d*$", "^(" C("61") C("62") ")+" C("63") "{2,3}" C("64") "*$", 4,
               UINT64_MAX);
    pattern_is("^\\d{4}$", "^[\\U00000030-\\U00000039]{4}$", 4, 4);
    pattern_is("^.$", "^[^" ESCAPED "]$", 1, 1);
    pattern_is("^[^a]$", "^[^\\U00000061-\\U00000061" ESCAPED "]$", 1, 1);
    /* ' ' to '~' without '"' and '\'. */
    pattern_is("[ -~]", "^[\\U00000020-\\U00000021\\U00000023-\\U0000005B\\U0000005D-\\U0000007E]$",
               1, 1);
    pattern_is("^\\u00e9\xc3\xa9\\.$", "^" C("E9") C("E9") C("2E") "$", 3, 3);
    pattern_is("^\\S[^\\d][\\D]$",
               "^[\\U00000021-\\U00000021\\U00000023-\\U0000005B\\U0000005D-\\U0000007E]"
               "[^\\U00000030-\\U00000039\\U00000080-\\U0010FFFF" ESCAPED "]"
               "[\\U00000020-\\U00000021\\U0000003A-\\U0000005B\\U00000023-\\U0000002F"
               "\\U0000005D-\\U0000007E]$",
               3, 3);
    pattern_is("^a?$", "^" C("61") "?$", 0, 1);
}

static void test_patterns_that_are_refused(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "(?=a)b",  "(?!a)b", "(?<n>a)", "(?<=a)b", "a\\b", "(a)\\1", "\\p{L}", "a**",    "*a",
        "a{2001}", "a{3,2}", "a{x}",    "(a",      "a)",   "[a",     "a]",     "a}",     "a^b",
        "a$b",     "\"",     "\\\\",    "\\n",     "[\"]", "",       "^$",     "[^\\D]", "\\x1",
        "\\ud800", "a{0}",   "\\",      "[z-a]",   "a++",  "\\cA"};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        struct hs_schema_pattern read = {.text = HS_BUF_INIT(1 << 16)};
        hs_status status = hs_schema_pattern_read(patterns[i], &read);
        if (status != HS_NOT_SUPPORTED) {
            fail_msg("%s: %s", patterns[i], hs_status_name(status));
        }
        assert_non_null(read.why);
        hs_buf_free(&read.text);
    }
    refuse(OBJECT("\"p\":{\"pattern\":\"(?=x)\"}"), "\"pattern\" at \"#/properties/p\"");
    refuse("{\"pattern\":\"^a+$\",\"maxLength\":3}", "\"maxLength\"");
    refuse("{\"pattern\":\"^a+$\",\"minLength\":2}", "\"minLength\"");
    expect("{\"pattern\":\"^a{2,3}$\",\"minLength\":2,\"maxLength\":3}",
           "{\"type\":\"string\",\"pattern\":\"^[\\\\U00000061-\\\\U00000061]{2,3}$\"}");
}

static void test_pattern_limits(void **state)
{
    (void)state;
    char text[HS_PATTERN_MAX_BYTES + 2];
    for (int over = 0; over < 2; over++) {
        memset(text, 'a', sizeof(text));
        text[HS_PATTERN_MAX_BYTES + over] = '\0';
        struct hs_schema_pattern read = {.text = HS_BUF_INIT(1 << 16)};
        assert_int_equal(hs_schema_pattern_read(text, &read), over ? HS_NOT_SUPPORTED : HS_OK);
        hs_buf_free(&read.text);
        memset(text, '(', HS_PATTERN_DEPTH_MAX + (size_t)over);
        text[HS_PATTERN_DEPTH_MAX + over] = 'a';
        memset(text + HS_PATTERN_DEPTH_MAX + over + 1, ')', HS_PATTERN_DEPTH_MAX + (size_t)over);
        text[2 * (HS_PATTERN_DEPTH_MAX + over) + 1] = '\0';
        read = (struct hs_schema_pattern){.text = HS_BUF_INIT(1 << 16)};
        assert_int_equal(hs_schema_pattern_read(text, &read), over ? HS_NOT_SUPPORTED : HS_OK);
        hs_buf_free(&read.text);
    }
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/x\"},\"b\":{\"anyOf\":[{"
        "\"type\":\"null\"},{\"enum\":[1,\"two\"]}]}},\"required\":[\"a\"],\"$defs\":{\"x\":{"
        "\"type\":\"string\",\"pattern\":\"^a+$\"}}}";
    for (uint64_t n = 1;; n++) {
        char *text = NULL;
        hs_mem_fail_after(n);
        hs_status status = check(schema, false, &text);
        bool is_over = hs_mem_count() < n;
        hs_mem_fail_after(0);
        assert_int_equal(status, is_over ? HS_OK : HS_OUT_OF_MEMORY);
        hs_free(text);
        if (is_over) {
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_enforced_is_written),
        cmocka_unit_test(test_objects_have_the_named_properties),
        cmocka_unit_test(test_integers_get_both_bounds),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_keywords_that_are_ignored_elsewhere_are_refused),
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_what_is_no_schema),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_patterns_are_written_in_classes),
        cmocka_unit_test(test_patterns_that_are_refused),
        cmocka_unit_test(test_pattern_limits),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
