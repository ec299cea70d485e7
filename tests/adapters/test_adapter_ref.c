/* Tests of adapters/adapter_ref.h. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "adapters/adapter_ref.h"
#include "base/mem.h"

#define NAME_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* ---- NAME[:SCALE] ---- */

static void expect_parsed(const char *text, const char *name, float scale)
{
    struct hs_adapter_ref ref = {0};
    assert_int_equal(hs_adapter_ref_parse(text, &ref, NULL), HS_OK);
    assert_string_equal(ref.name, name);
    assert_memory_equal(&ref.scale, &scale, sizeof(scale));
    hs_adapter_ref_clear(&ref);
    assert_null(ref.name);
    hs_adapter_ref_clear(&ref);
}

static void expect_refused(const char *text, const char *message_part)
{
    struct hs_adapter_ref ref = {.name = "untouched", .scale = 7.0f};
    struct hs_error err = {0};
    assert_int_equal(hs_adapter_ref_parse(text, &ref, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(err.status, HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, message_part));
    assert_true(err.hint[0] != '\0');
    assert_string_equal(ref.name, "untouched");
    assert_int_equal(hs_adapter_ref_parse(text, &ref, NULL), HS_INVALID_ARGUMENT);
}

static void names_and_scales_are_parsed(void **state)
{
    (void)state;
    expect_parsed("french", "french", 1.0f);
    expect_parsed("french:0.5", "french", 0.5f);
    expect_parsed("f:-1e-2", "f", -0.01f);
    expect_parsed("A.b_c-9:+2", "A.b_c-9", 2.0f);
    expect_parsed("x:.5", "x", 0.5f);
    expect_parsed("x:5.", "x", 5.0f);
    expect_parsed("x:1E+2", "x", 100.0f);
    expect_parsed("x:0", "x", 0.0f);
    expect_parsed("x:-0", "x", -0.0f);
    expect_parsed("x:3.4028234e38", "x", 3.4028234e38f); /* the largest float */
    expect_parsed("x:1e-60", "x", 0.0f);
    expect_parsed(NAME_64, NAME_64, 1.0f);
}

static void bad_names_and_scales_are_refused(void **state)
{
    (void)state;
    const char *const names[] = {"",   ".",    ".x",  "a b", "a/b", "a+b", "ä",   NAME_64 "x",
                                 ":1", "..:1", "a,b", "a@b", "a*b", "a\n", "\xFF"};
    const char *const scales[] = {"x:",     "x: 1",    "x:1 ",  "x:inf", "x:nan", "x:0x10",
                                  "x:1e",   "x:1e+",   "x:--1", "x:+-1", "x:.",   "x:1,5",
                                  "x:1e39", "x:-1e39", "x:1:2", "x:one", "x:-",   "x:e5"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        expect_refused(names[i], "adapter's name");
    }
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
        expect_refused(scales[i], "adapter's scale");
    }
    char many_digits[100] = "x:";
    memset(many_digits + 2, '1', 65);
    expect_refused(many_digits, "adapter's scale");
}

static void the_locale_does_not_matter(void **state)
{
    (void)state;
    const char *const candidates[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR"};
    bool has_comma = false;
    for (size_t i = 0; i < 4 && !has_comma; i++) {
        has_comma = setlocale(LC_NUMERIC, candidates[i]) != NULL;
    }
    print_message("decimal separator here: '%s'\n", localeconv()->decimal_point);
    expect_parsed("x:0.5", "x", 0.5f);
    expect_refused("x:0,5", "adapter's scale");
    setlocale(LC_NUMERIC, "C");
}

/* ---- the key of a set ---- */

static void expect_key(const struct hs_adapter_ref *refs, const char *const *versions, size_t n,
                       const char *want)
{
    char *key = NULL;
    assert_int_equal(hs_adapter_set_key(refs, versions, n, &key, NULL), HS_OK);
    assert_string_equal(key, want);
    hs_free(key);
}

/* Bit patterns of IEEE 754 single precision: 1 = 3f800000, 0.5 = 3f000000, -2 = c0000000. */
static void keys_are_canonical(void **state)
{
    (void)state;
    const struct hs_adapter_ref sets[][3] = {
        {{"b", 0.5f}, {"a", 1.0f}, {"c", -2.0f}},
        {{"c", -2.0f}, {"b", 0.5f}, {"a", 1.0f}},
    };
    expect_key(NULL, NULL, 0, "");
    for (size_t i = 0; i < 2; i++) {
        expect_key(sets[i], NULL, 3, "a@*3f800000+b@*3f000000+c@*c0000000");
    }
    const char *const versions[] = {"v2", NULL, "sha-01.x"};
    expect_key(sets[0], versions, 3, "a@*3f800000+b@v2*3f000000+c@sha-01.x*c0000000");
}

static void scale_zero_counts_as_absent(void **state)
{
    (void)state;
    const struct hs_adapter_ref refs[] = {{"a", 0.0f}, {"b", 1.0f}, {"c", -0.0f}};
    expect_key(refs, NULL, 3, "b@*3f800000");
    expect_key(refs, NULL, 1, "");
}

static void every_difference_shows_in_the_key(void **state)
{
    (void)state;
    const struct hs_adapter_ref refs[] = {
        {"a", 1.0f}, {"a", nextafterf(1.0f, 2.0f)}, {"A", 1.0f}, {"a", -1.0f}, {"a-", 1.0f}};
    const char *const version[] = {"1"};
    char *keys[6];
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(hs_adapter_set_key(&refs[i], NULL, 1, &keys[i], NULL), HS_OK);
    }
    assert_int_equal(hs_adapter_set_key(refs, version, 1, &keys[5], NULL), HS_OK);
    for (size_t i = 0; i < 6; i++) {
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(keys[i], keys[k]);
        }
    }
    for (size_t i = 0; i < 6; i++) {
        hs_free(keys[i]);
    }
}

static void expect_bad_set(const struct hs_adapter_ref *refs, const char *const *versions, size_t n,
                           hs_status want, const char *message_part)
{
    char *key = NULL;
    struct hs_error err = {0};
    assert_int_equal(hs_adapter_set_key(refs, versions, n, &key, &err), want);
    assert_int_equal(err.status, want);
    assert_non_null(strstr(err.message, message_part));
    assert_null(key);
}

static void bad_sets_are_refused(void **state)
{
    (void)state;
    const struct hs_adapter_ref twice[] = {{"a", 1.0f}, {"b", 1.0f}, {"a", 0.0f}};
    const struct hs_adapter_ref endless[] = {{"a", INFINITY}};
    const struct hs_adapter_ref not_a_number[] = {{"a", NAN}};
    const struct hs_adapter_ref nameless[] = {{NULL, 1.0f}};
    const struct hs_adapter_ref tricky[] = {{"a@1*3f800000+b", 1.0f}};
    const char *const bad_version[] = {"1*3f800000+b"};
    expect_bad_set(twice, NULL, 3, HS_INVALID_ARGUMENT, "'a' is named twice");
    expect_bad_set(endless, NULL, 1, HS_INVALID_ARGUMENT, "not finite");
    expect_bad_set(not_a_number, NULL, 1, HS_INVALID_ARGUMENT, "not finite");
    expect_bad_set(nameless, NULL, 1, HS_INVALID_ARGUMENT, "name");
    expect_bad_set(tricky, NULL, 1, HS_INVALID_ARGUMENT, "name");
    expect_bad_set(twice, bad_version, 1, HS_INVALID_ARGUMENT, "version");
}

static void sets_hold_at_n_and_n_plus_1(void **state)
{
    (void)state;
    static char names[HS_ADAPTER_SET_MAX + 1][HS_ADAPTER_NAME_MAX + 1];
    struct hs_adapter_ref refs[HS_ADAPTER_SET_MAX + 1];
    const char *versions[HS_ADAPTER_SET_MAX + 1];
    for (size_t i = 0; i <= HS_ADAPTER_SET_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "%.*s%03zu", (int)HS_ADAPTER_NAME_MAX - 3, NAME_64, i);
        refs[i] = (struct hs_adapter_ref){.name = names[i], .scale = 0.1f};
        versions[i] = NAME_64;
    }
    char *key = NULL;
    assert_int_equal(hs_adapter_set_key(refs, versions, HS_ADAPTER_SET_MAX, &key, NULL), HS_OK);
    hs_free(key);
    expect_bad_set(refs, versions, HS_ADAPTER_SET_MAX + 1, HS_LIMIT, "limit of 64");
}

/* ---- memory ---- */

static void every_allocation_fails_once(void **state)
{
    (void)state;
    const struct hs_adapter_ref refs[] = {{"a", 1.0f}, {"b", 1.0f}};
    bool has_failed = true;
    for (uint64_t n = 1; has_failed; n++) {
        struct hs_adapter_ref ref = {0};
        struct hs_error err = {0};
        char *key = NULL;
        hs_mem_fail_after(n);
        hs_status parsed = hs_adapter_ref_parse("a:2", &ref, &err);
        assert_true(parsed == HS_OK || err.status == HS_OUT_OF_MEMORY);
        hs_status keyed = hs_adapter_set_key(refs, NULL, 2, &key, &err);
        assert_true(keyed == HS_OK || err.status == HS_OUT_OF_MEMORY);
        hs_mem_fail_after(0);
        has_failed = parsed != HS_OK || keyed != HS_OK;
        hs_adapter_ref_clear(&ref);
        hs_free(key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_scales_are_parsed),
        cmocka_unit_test(bad_names_and_scales_are_refused),
        cmocka_unit_test(the_locale_does_not_matter),
        cmocka_unit_test(keys_are_canonical),
        cmocka_unit_test(scale_zero_counts_as_absent),
        cmocka_unit_test(every_difference_shows_in_the_key),
        cmocka_unit_test(bad_sets_are_refused),
        cmocka_unit_test(sets_hold_at_n_and_n_plus_1),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
