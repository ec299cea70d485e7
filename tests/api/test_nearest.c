/* "Did you mean": distances worked out by hand. */
#include "api_test.h"

#include "api/nearest.h"

static const char *nearest_of(const char *name, const char *const *known, size_t n)
{
    struct hs_nearest nearest = {.name = name};
    for (size_t i = 0; i < n; i++) {
        hs_nearest_offer(&nearest, known[i]);
    }
    return nearest.best;
}

#define NEAREST(name, ...)                                                                         \
    nearest_of(name, (const char *const[]){__VA_ARGS__},                                           \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void one_slip_is_near(void **state)
{
    (void)state;
    static const char *const slips[] = {"temp", "tmep", "tem", "temmp", "tesp", "ttemp"};
    for (size_t i = 0; i < COUNT_OF(slips); i++) {
        assert_string_equal(NEAREST(slips[i], "seed", "temp", "top-k"), "temp");
    }
    assert_null(NEAREST("nothing", "seed", "temp", "top-k"));
    assert_null(NEAREST("", "seed"));
}

/* A third of the known name's length, rounded up, and 3 at most. */
static void the_limit_grows_with_the_name(void **state)
{
    (void)state;
    assert_string_equal(NEAREST("b", "a"), "a");          /* one of one */
    assert_null(NEAREST("bc", "a"));                      /* two of one */
    assert_null(NEAREST("axx", "abc"));                   /* two of three */
    assert_string_equal(NEAREST("abxx", "abcd"), "abcd"); /* two of four */
    assert_null(NEAREST("axxx", "abcd"));                 /* three of four */
    assert_string_equal(NEAREST("abcdefghixxx", "abcdefghijkl"), "abcdefghijkl");
    assert_null(NEAREST("abcdefghxxxx", "abcdefghijkl")); /* four of twelve */
}

static void the_first_of_the_nearest_wins(void **state)
{
    (void)state;
    assert_string_equal(NEAREST("cat", "cot", "bat", "cat"), "cat");
    assert_string_equal(NEAREST("cxt", "cot", "cat"), "cot");
}

/* Names of 63 bytes are compared, longer ones are near nothing. */
static void long_names(void **state)
{
    (void)state;
    char known[80], typed[80];
    memset(known, 'x', sizeof known);
    memset(typed, 'x', sizeof typed);
    known[63] = typed[63] = '\0';
    typed[10] = 'y';
    assert_ptr_equal(NEAREST(typed, known), known);
    known[63] = 'x';
    known[64] = '\0';
    assert_null(NEAREST(typed, known));
    assert_null(NEAREST(known, typed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_slip_is_near),
        cmocka_unit_test(the_limit_grows_with_the_name),
        cmocka_unit_test(the_first_of_the_nearest_wins),
        cmocka_unit_test(long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
