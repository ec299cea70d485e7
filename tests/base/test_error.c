/* Tests of base/error.h. */
#include "base_test.h"

#include <errno.h>

#include "base/utf8.h"

static void test_set_and_clear(void **state)
{
    (void)state;
    struct hs_error err;
    assert_int_equal(hs_error_set(&err, HS_NOT_FOUND, "no model named '%s'", "x"), HS_NOT_FOUND);
    assert_int_equal(err.status, HS_NOT_FOUND);
    assert_string_equal(err.message, "no model named 'x'");
    assert_string_equal(err.hint, "");
    assert_int_equal(hs_error_hint(&err, "run %s", "it"), HS_NOT_FOUND);
    assert_string_equal(err.hint, "run it");
    assert_int_equal(hs_error_set(&err, HS_IO, "next"), HS_IO);
    assert_string_equal(err.hint, "");
    hs_error_hint(&err, "h");
    hs_error_clear(&err);
    assert_int_equal(err.status, HS_OK);
    assert_string_equal(err.message, "");
    assert_string_equal(err.hint, "");
}

static void test_null(void **state)
{
    (void)state;
    assert_int_equal(hs_error_set(NULL, HS_BUSY, "x"), HS_BUSY);
    assert_int_equal(hs_error_set(NULL, HS_LIMIT, "m"), HS_LIMIT);
    assert_int_equal(hs_error_hint(NULL, "x"), HS_LIMIT);
    hs_error_prefix(NULL, "x");
    hs_error_clear(NULL);
    assert_int_equal(hs_error_errno(NULL, ENOENT, "open", "x"), HS_NOT_FOUND);
    assert_int_equal(hs_error_nomem(NULL, "x"), HS_OUT_OF_MEMORY);
}

/* The old message may be an argument of the new one. */
static void test_aliases(void **state)
{
    (void)state;
    struct hs_error err;
    hs_error_set(&err, HS_IO, "inner");
    hs_error_hint(&err, "do it");
    hs_error_hint(&err, "first look, then %s", err.hint);
    assert_string_equal(err.hint, "first look, then do it");
    hs_error_set(&err, HS_CORRUPT, "outer: %s", err.message);
    assert_string_equal(err.message, "outer: inner");
}

static void test_prefix(void **state)
{
    (void)state;
    struct hs_error err;
    hs_error_set(&err, HS_IO, "broken");
    hs_error_hint(&err, "h");
    hs_error_prefix(&err, "file %d", 7);
    assert_string_equal(err.message, "file 7: broken");
    assert_string_equal(err.hint, "h");
    assert_int_equal(err.status, HS_IO);
    char huge[2000];
    memset(huge, 'p', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    hs_error_prefix(&err, "%s", huge);
    assert_int_equal(strlen(err.message), HS_MESSAGE_MAX - 1);
    assert_string_equal(err.message + HS_MESSAGE_MAX - 4, "...");
}

/* Texts of N bytes with a `width`-byte character repeated: whole up to the limit, then cut. */
static void check_cut(size_t limit, bool is_hint)
{
    static const char *const characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < COUNT_OF(characters); c++) {
        for (size_t offset = 0; offset < 4; offset++) {
            for (size_t n = limit - 8; n < limit + 8; n++) {
                char text[600] = "xxxx";
                size_t len = offset;
                while (len < n) {
                    len += (size_t)sprintf(text + len, "%s", characters[c]);
                }
                struct hs_error err;
                hs_error_set(&err, HS_IO, "%s", is_hint ? "" : text);
                hs_error_hint(&err, "%s", is_hint ? text : "");
                const char *got = is_hint ? err.hint : err.message;
                if (len < limit) {
                    assert_string_equal(got, text);
                    continue;
                }
                size_t got_len = strlen(got);
                assert_true(got_len < limit && got_len >= limit - 1 - 3);
                assert_string_equal(got + got_len - 3, "...");
                assert_memory_equal(got, text, got_len - 3);
                assert_true(hs_utf8_valid(got, got_len));
            }
        }
    }
}

static void test_cut_at_code_point(void **state)
{
    (void)state;
    check_cut(HS_MESSAGE_MAX, false);
    check_cut(HS_HINT_MAX, true);
}

/* A name of a client shown by its first bytes: found by fuzzing, in an answer of HTTP. */
static void test_cut_by_precision(void **state)
{
    (void)state;
    struct hs_error err;
    hs_error_set(&err, HS_NOT_FOUND, "no '%.4s'", "abc\xD0\x84");
    assert_string_equal(err.message, "no 'abc?'");
    hs_error_hint(&err, "try '%.2s'", "a\xC3\xA9");
    assert_string_equal(err.hint, "try 'a?'");
    hs_error_prefix(&err, "%.1s", "\xC3\xA9");
    assert_string_equal(err.message, "?: no 'abc?'");
}

static void test_errno(void **state)
{
    (void)state;
    static const struct {
        int number;
        hs_status status;
    } rows[] = {
        {ENOENT, HS_NOT_FOUND},
        {ENOTDIR, HS_NOT_FOUND},
        {EACCES, HS_PERMISSION_DENIED},
        {EPERM, HS_PERMISSION_DENIED},
        {EROFS, HS_PERMISSION_DENIED},
        {EISDIR, HS_IS_DIRECTORY},
        {ENOMEM, HS_OUT_OF_MEMORY},
        {EEXIST, HS_ALREADY_EXISTS},
        {EIO, HS_IO},
        {ENOSPC, HS_IO},
        {EMFILE, HS_IO},
        {0, HS_IO},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct hs_error err;
        char wanted[200];
        snprintf(wanted, sizeof wanted, "cannot open 'f': %s", strerror(rows[i].number));
        assert_int_equal(hs_status_from_errno(rows[i].number), rows[i].status);
        assert_int_equal(hs_error_errno(&err, rows[i].number, "open", "f"), rows[i].status);
        assert_string_equal(err.message, wanted);
    }
    struct hs_error err;
    hs_error_errno(&err, ENOSPC, "write", "f");
    assert_non_null(strstr(err.hint, "space"));
    hs_error_errno(&err, EACCES, "write", "f");
    assert_non_null(strstr(err.hint, "permissions"));
}

static void test_nomem(void **state)
{
    (void)state;
    struct hs_error err;
    assert_int_equal(hs_error_nomem(&err, "a list"), HS_OUT_OF_MEMORY);
    assert_string_equal(err.message, "out of memory: a list");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_clear),
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_cut_at_code_point),
        cmocka_unit_test(test_cut_by_precision),
        cmocka_unit_test(test_errno),
        cmocka_unit_test(test_nomem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
