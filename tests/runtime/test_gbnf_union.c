/* One grammar of two, by the text of its rules, which llama.cpp's own README defines. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "gbnf_check.h"
#include "gbnf_union.h"

static const struct {
    const char *first, *second, *both;
} rows[] = {
    {"root ::= \"a\"\n", "root ::= \"b\"", "root-1 ::= \"a\"\nroot-2 ::= \"b\"\n"},
    {"root ::= \"a\"\n", "root ::= \"a\"\n", "root-1 ::= \"a\"\nroot-2 ::= \"a\"\n"},
    /* a rule of both, that is another one in each */
    {"root ::= \"a\" x\nx ::= [b]\n", "root ::= x y\n\nx ::= [c]\ny ::= \"x\" x{1,2} ( x|y )?\n",
     "root-1 ::= \"a\" x\nx ::= [b]\nroot-2 ::= x-2 y\nx-2 ::= [c]\n"
     "y ::= \"x\" x-2{1,2} ( x-2|y )?\n"},
    /* the same in both, naming nothing: shared */
    {"digit ::= [0-9]\nroot ::= digit\n", "root ::= digit digit\ndigit ::= [0-9]\n",
     "digit ::= [0-9]\nroot-1 ::= digit\nroot-2 ::= digit digit\n"},
    /* the same in both, but naming others */
    {"a ::= b\nb ::= \"1\"\nroot ::= a\n", "a ::= b\nb ::= \"2\"\nroot ::= a\n",
     "a ::= b\nb ::= \"1\"\nroot-1 ::= a\na-2 ::= b-2\nb-2 ::= \"2\"\nroot-2 ::= a-2\n"},
    /* what is quoted, a range or a token names nothing */
    {"x ::= \"1\"\nroot ::= x\n",
     "x ::= \"2\"\nroot ::= \"x \\\" x ::= \" [x\\]x\"] <x> <[12]> x xx x-x . x\nxx ::= \"\"\n"
     "x-x ::= \"\\\\\" x\n",
     "root-1 ::= x\nx ::= \"1\"\nroot-2 ::= \"x \\\" x ::= \" [x\\]x\"] <x> <[12]> x-2 xx x-x . "
     "x-2\nx-2 ::= \"2\"\nx-x ::= \"\\\\\" x-2\nxx ::= \"\"\n"},
};

static void test_union(void **state)
{
    (void)state;
    static const char both[] = "root ::= root-1 | root-2\n";
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct hs_error err = {.message = ""};
        struct hs_buf out = HS_BUF_INIT(4096);
        assert_int_equal(hs_gbnf_union(rows[i].first, rows[i].second, &out, &err), HS_OK);
        assert_int_equal(strncmp(out.data, both, sizeof both - 1), 0);
        assert_string_equal(out.data + sizeof both - 1, rows[i].both);
        assert_int_equal(hs_gbnf_check(out.data, "root", NULL, NULL, &err), HS_OK);
        hs_buf_free(&out);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char root[] = "root ::= \"a\"\n";
    static const char *const others[] = {
        "",
        "x ::= \"a\"\n",
        "root ::= \"a\"\nnonsense\n",
        "root ::= \"a\"\nroot-1 ::= \"b\"\n",
        "root ::= \"a\"\nroot-2 ::= \"b\"\n",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct hs_error err;
        struct hs_buf out = HS_BUF_INIT(4096);
        assert_int_equal(hs_gbnf_union(root, others[i], &out, &err), HS_INVALID_ARGUMENT);
        assert_int_equal(hs_gbnf_union(others[i], root, &out, &err), HS_INVALID_ARGUMENT);
        hs_buf_free(&out);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct hs_error err;
    struct hs_buf out = HS_BUF_INIT(4096);
    assert_int_equal(hs_gbnf_union(rows[2].first, rows[2].second, &out, &err), HS_OK);
    size_t len = out.len;
    hs_buf_free(&out);
    for (size_t max = len - 1; max <= len; max++) {
        out = (struct hs_buf)HS_BUF_INIT(max);
        assert_int_equal(hs_gbnf_union(rows[2].first, rows[2].second, &out, &err),
                         max < len ? HS_LIMIT : HS_OK);
        hs_buf_free(&out);
    }
    uint64_t n = 0;
    hs_status status = HS_OUT_OF_MEMORY;
    while (status == HS_OUT_OF_MEMORY) {
        out = (struct hs_buf)HS_BUF_INIT(4096);
        hs_mem_fail_after(++n);
        status = hs_gbnf_union(rows[2].first, rows[2].second, &out, &err);
        hs_mem_fail_after(0);
        hs_buf_free(&out);
    }
    assert_int_equal(status, HS_OK);
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_union), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
