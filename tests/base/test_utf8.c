/*
 * Tests of base/utf8.h: against Python's codec (utf8_cases.txt, made by make_utf8_cases.py), and
 * against a decoder that follows the bit patterns of RFC 3629, section 3, instead of the byte
 * ranges of section 4.
 */
#include "base_test.h"

#include "base/utf8.h"

#define LEN_MAX 4

/* Check one sequence against a code of utf8_cases.txt. */
static void check_case(const unsigned char *bytes, size_t len, int code)
{
    size_t held = (size_t)code / 2;
    assert_int_equal(hs_utf8_valid((const char *)bytes, len), code % 2);
    assert_int_equal(hs_utf8_complete((const char *)bytes, len), len - held);
    if (code % 2 == 1) {
        assert_int_equal(held, 0);
    }
}

/* The i-th sequence of `len` bytes over the alphabet, the last byte changing fastest. */
static void make_sequence(size_t i, size_t len, const unsigned char *alphabet, size_t n_alphabet,
                          unsigned char ret[LEN_MAX])
{
    for (size_t k = len; k > 0; k--) {
        ret[k - 1] = alphabet[i % n_alphabet];
        i /= n_alphabet;
    }
}

static size_t read_alphabet(FILE *file, unsigned char ret[256])
{
    size_t n = 0;
    unsigned byte;
    while (n < 256 && fscanf(file, "%2x", &byte) == 1) {
        ret[n++] = (unsigned char)byte;
        int c = fgetc(file);
        if (c == '\n') {
            break;
        }
        ungetc(c, file);
    }
    return n;
}

static size_t check_block(FILE *file, size_t len)
{
    unsigned char alphabet[256];
    fgetc(file); /* the blank between length and alphabet */
    size_t n_alphabet = read_alphabet(file, alphabet);
    size_t total = 1;
    for (size_t k = 0; k < len; k++) {
        total *= n_alphabet;
    }
    size_t i = 0;
    while (i < total) {
        size_t count;
        int code;
        assert_int_equal(fscanf(file, "%zux%d", &count, &code), 2);
        assert_true(count <= total - i);
        for (size_t end = i + count; i < end; i++) {
            unsigned char bytes[LEN_MAX];
            make_sequence(i, len, alphabet, n_alphabet, bytes);
            check_case(bytes, len, code);
        }
    }
    return total;
}

static void test_python_cases(void **state)
{
    (void)state;
    FILE *file = fopen(UTF8_CASES, "r");
    assert_non_null(file);
    size_t len, n_cases = 0;
    while (fscanf(file, "%zu", &len) == 1) {
        assert_in_range(len, 1, LEN_MAX);
        n_cases += check_block(file, len);
    }
    fclose(file);
    assert_int_equal(n_cases, 256 + 65536 + 25 * 25 * 25 + 16 * 16 * 16 * 16);
}

/* Length of the character at s[len] by RFC 3629, section 3, and its number; 0: none. */
static size_t oracle_decode(const unsigned char *s, size_t len, uint32_t *ret_point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = (s[0] & 0x80) == 0      ? 1
               : (s[0] & 0xE0) == 0xC0 ? 2
               : (s[0] & 0xF0) == 0xE0 ? 3
               : (s[0] & 0xF8) == 0xF0 ? 4
                                       : 0;
    if (n == 0 || n > len) {
        return 0;
    }
    uint32_t point = n == 1 ? s[0] : s[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
        point = point * 64 + (s[i] & 0x3Fu);
    }
    if (point < least[n] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) {
        return 0;
    }
    *ret_point = point;
    return n;
}

static size_t encode(uint32_t point, unsigned char *ret)
{
    if (point < 0x80) {
        ret[0] = (unsigned char)point;
        return 1;
    }
    size_t n = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        ret[i] = (unsigned char)(0x80 + point % 64);
        point /= 64;
    }
    ret[0] = (unsigned char)((0xF00 >> n) + point);
    return n;
}

/* Every code point there is: valid, held back at every cut, clipped as a whole. */
static void test_every_code_point(void **state)
{
    (void)state;
    for (uint32_t point = 0; point <= 0x110000; point++) {
        unsigned char bytes[8] = "a";
        size_t n = encode(point, bytes + 1);
        bool is_valid = point < 0xD800 || (point > 0xDFFF && point <= 0x10FFFF);
        const char *s = (const char *)bytes;
        assert_int_equal(hs_utf8_valid(s, 1 + n), is_valid);
        if (!is_valid) {
            continue;
        }
        for (size_t cut = 1; cut < n; cut++) {
            assert_int_equal(hs_utf8_complete(s, 1 + cut), 1);
            assert_int_equal(hs_utf8_clip(s, 1 + n, 1 + cut), 1);
            assert_false(hs_utf8_valid(s, 1 + cut));
        }
        assert_int_equal(hs_utf8_complete(s, 1 + n), 1 + n);
        assert_int_equal(hs_utf8_clip(s, 1 + n, 1 + n), 1 + n);
    }
}

/* Random mixes of pieces of characters: clip is the last border of the oracle's characters. */
static void test_clip_random(void **state)
{
    (void)state;
    static const unsigned char pool[] = {'a',  0x80, 0xBF, 0xC3, 0xA9, 0xE2, 0x82, 0xAC,
                                         0xF0, 0x9F, 0x98, 0x80, 0xED, 0xA0, 0xFF, 0xF4};
    unsigned seed = 1;
    for (int round = 0; round < 20000; round++) {
        unsigned char s[12];
        for (size_t i = 0; i < sizeof s; i++) {
            seed = seed * 1103515245u + 12345u;
            s[i] = pool[(seed >> 16) % sizeof pool];
        }
        for (size_t max = 0; max <= sizeof s + 1; max++) {
            size_t border = 0, i = 0;
            while (i <= max && i <= sizeof s) {
                border = i;
                uint32_t point;
                size_t n = i == sizeof s ? 1 : oracle_decode(s + i, sizeof s - i, &point);
                i += n == 0 ? 1 : n;
            }
            assert_int_equal(hs_utf8_clip((const char *)s, sizeof s, max), border);
        }
    }
}

static void test_empty(void **state)
{
    (void)state;
    assert_true(hs_utf8_valid("", 0));
    assert_int_equal(hs_utf8_complete("", 0), 0);
    assert_int_equal(hs_utf8_clip("", 0, 10), 0);
    assert_int_equal(hs_utf8_columns("", 0), 0);
    assert_int_equal(hs_utf8_clip("abc", 3, 0), 0);
    /* nothing is cut, so nothing is left out, be it broken or not */
    assert_int_equal(hs_utf8_clip("ab\xE2\x82", 4, 4), 4);
    assert_int_equal(hs_utf8_clip("ab\xE2\x82", 4, 3), 3);
}

/* The examples of Unicode 15, section 3.9, tables 3-8 to 3-11, '?' in the place of U+FFFD. */
static void test_scrub(void **state)
{
    (void)state;
    static const struct {
        const char *text, *scrubbed;
    } rows[] = {
        {"", ""},
        {"a\xC3\xA9\xF0\x9F\x98\x80z", "a\xC3\xA9\xF0\x9F\x98\x80z"},
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "????????A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "????????A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "?????A??B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "????A"},
        {"cut in half: \xD0", "cut in half: ?"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[32];
        snprintf(text, sizeof text, "%s", rows[i].text);
        hs_utf8_scrub(text);
        assert_string_equal(text, rows[i].scrubbed);
    }
}

/* Widths by Unicode's East Asian Width: W and F take two columns, combining marks none. */
static void test_columns(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t columns;
    } rows[] = {
        {"abc", 3},
        {"\xC3\xA9t\xC3\xA9", 3},        /* U+00E9 t U+00E9 */
        {"\xE4\xBD\xA0\xE5\xA5\xBD", 4}, /* U+4F60 U+597D, wide */
        {"\xEF\xBC\xA1", 2},             /* U+FF21, full width */
        {"e\xCC\x81", 1},                /* e and U+0301, combining */
        {"\xF0\x9F\x98\x80", 2},         /* U+1F600 */
        {"a\xFF"
         "b",
         3},             /* a byte that is no UTF-8 */
        {"\xE4\xBD", 2}, /* two bytes of a character */
        {"a\tb\x1b", 2}, /* control characters have no width */
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(hs_utf8_columns(rows[i].text, strlen(rows[i].text)), rows[i].columns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_python_cases), cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_clip_random),  cmocka_unit_test(test_empty),
        cmocka_unit_test(test_scrub),        cmocka_unit_test(test_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
