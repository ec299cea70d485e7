/* Characters that are seen as one. The examples are UAX #29's, and Unicode's emoji-zwj-sequences.
 */
#include "api_test.h"

#include <locale.h>

#include "cluster.h"

static const struct {
    const wchar_t *text;
    size_t n;    /* code points of the first cluster */
    int columns; /* each code point by itself, as wcwidth has it */
    bool is_odd;
} rows[] = {
    {L"ab", 1, 1, false},
    {L"\u65E5\u672C", 1, 2, false},                               /* CJK */
    {L"e\u0301x", 2, 1, true},                                    /* a letter and an acute */
    {L"e\u0301\u0323x", 3, 1, true},                              /* two marks */
    {L"\u1112\u1161\u11AB!", 3, 2, true},                         /* Hangul in parts */
    {L"\u0301x", 1, 0, true},                                     /* a mark alone */
    {L"\U0001F600x", 1, 2, true},                                 /* emoji */
    {L"\U0001F44D\U0001F3FDx", 2, 4, true},                       /* with a colour of skin */
    {L"\U0001F469\u200D\U0001F469\u200D\U0001F467x", 5, 6, true}, /* a family */
    {L"\u2764\uFE0Fx", 2, 2, true},                               /* a heart as a picture */
    {L"\u2764\uFE0F\u200D\U0001F525x", 4, 4, true},               /* on fire */
    {L"\U0001F1E9\U0001F1EA\U0001F1EB", 2, 2, true},              /* a flag, and half of one */
    {L"a\u200D\U0001F600", 2, 1, true},                           /* a joiner joins emoji only */
    {L"\nx", 1, 2, false},
    {L"\n\u0301", 1, 2, false},
    {L"a\033", 1, 1, false},
    {L"\x85"
     L"x",
     1, 1, true}, /* cannot be drawn */
};

static void clusters(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        size_t len = wcslen(rows[i].text), end = hs_cluster_end(rows[i].text, len, 0);
        int columns = hs_cluster_width(rows[i].text, end);
        if (end != rows[i].n || columns != rows[i].columns ||
            hs_cluster_is_odd(rows[i].text, end) != rows[i].is_odd) {
            fail_msg("row %zu: %zu code points, %d columns", i, end, columns);
        }
        for (size_t k = 1; k <= end; k++) {
            assert_int_equal(hs_cluster_begin(rows[i].text, len, k), 0);
        }
        if (end < len) {
            assert_int_equal(hs_cluster_begin(rows[i].text, len, end + 1), end);
        }
    }
}

/* Every index of a mixed text finds the cluster that going through it from the front finds. */
static void the_way_back(void **state)
{
    (void)state;
    wchar_t text[128] = L"";
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        wcscat(text, rows[i].text);
    }
    size_t len = wcslen(text);
    for (size_t begin = 0, end; begin < len; begin = end) {
        end = hs_cluster_end(text, len, begin);
        assert_true(end > begin && end <= len);
        for (size_t i = begin + 1; i <= end; i++) {
            assert_int_equal(hs_cluster_begin(text, len, i), begin);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters),
        cmocka_unit_test(the_way_back),
    };
    if (!setlocale(LC_CTYPE, "C.UTF-8")) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
