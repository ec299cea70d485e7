/* One message from several lines. */
#include "api_test.h"

#include "multiline.h"

/* Feed lines (NULL ends); the message, or NULL when it is not complete after the last one. */
static char *feed(const char *const *lines)
{
    struct hs_multiline message = HS_MULTILINE_INIT;
    bool complete = false;
    for (size_t i = 0; lines[i]; i++) {
        assert_false(complete); /* not before the last line */
        assert_int_equal(hs_multiline_add(&message, lines[i], &complete), HS_OK);
    }
    char *text = complete ? strdup(message.text.data) : NULL;
    hs_multiline_free(&message);
    return text;
}

static void expect(const char *const *lines, const char *expected)
{
    char *text = feed(lines);
    if (expected) {
        assert_non_null(text);
        assert_string_equal(text, expected);
    } else {
        assert_null(text);
    }
    free(text);
}

#define EXPECT(expected, ...) expect((const char *const[]){__VA_ARGS__, NULL}, expected)

static void single_lines(void **state)
{
    (void)state;
    EXPECT("hello", "hello");
    EXPECT("", "");
    EXPECT("a\nb", "a\nb"); /* pasted */
    EXPECT("say \"\"\"", "say \"\"\"");
}

static void backslashes(void **state)
{
    (void)state;
    EXPECT("one\ntwo", "one\\", "two");
    EXPECT("one\n\nthree", "one\\", "\\", "three");
    EXPECT(NULL, "one\\");
    EXPECT("path\\\\", "path\\\\"); /* an even number is text */
    EXPECT("three\\\\\nend", "three\\\\\\", "end");
    EXPECT("\n", "\\", "");
}

static void blocks(void **state)
{
    (void)state;
    EXPECT("one\ntwo\\\n\nend", "\"\"\"", "one", "two\\", "", "end", "\"\"\"  ");
    EXPECT("", "\"\"\"", "\"\"\"");
    EXPECT(NULL, "\"\"\"", "open");
    EXPECT(NULL, "\"\"\" \t");
    EXPECT("x\n\"\"\"", "x\\", "\"\"\""); /* not at the beginning: text */
    EXPECT("\"\"\"\"", "\"\"\"\"");
}

static void plain_lines(void **state)
{
    (void)state;
    struct hs_multiline message = HS_MULTILINE_INIT;
    static const char *const lines[] = {"", "a\\", "\"\"\"", "b"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(hs_multiline_add_plain(&message, lines[i]), HS_OK);
    }
    assert_string_equal(message.text.data, "\na\\\n\"\"\"\nb");
    hs_multiline_free(&message);
}

static void the_limit_is_exact(void **state)
{
    (void)state;
    char *line = malloc(HS_MULTILINE_MAX_BYTES + 2);
    memset(line, 'a', HS_MULTILINE_MAX_BYTES + 1);
    line[HS_MULTILINE_MAX_BYTES + 1] = '\0';
    struct hs_multiline message = HS_MULTILINE_INIT;
    bool complete = false;
    assert_int_equal(hs_multiline_add(&message, line, &complete), HS_LIMIT);
    assert_false(complete);
    hs_multiline_free(&message);
    line[HS_MULTILINE_MAX_BYTES] = '\0';
    assert_int_equal(hs_multiline_add(&message, line, &complete), HS_OK);
    assert_true(complete);
    hs_multiline_free(&message);
    free(line);
    hs_mem_fail_after(1);
    assert_int_equal(hs_multiline_add(&message, "x", &complete), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(0);
    hs_multiline_free(&message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_lines),
        cmocka_unit_test(backslashes),
        cmocka_unit_test(blocks),
        cmocka_unit_test(plain_lines),
        cmocka_unit_test(the_limit_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
