/* Text made harmless, figures for people, JSON. */
#include "api_test.h"

#include "api/output.h"
#include "base/log.h"
#include "json_out.h"

static const char *safe(const char *text, size_t len, bool one_line)
{
    static struct hs_buf buf = HS_BUF_INIT(4096);
    hs_buf_clear(&buf);
    assert_int_equal(hs_buf_reserve(&buf, 1), HS_OK);
    assert_int_equal(hs_safe_text(text, len, one_line, &buf), HS_OK);
    return buf.data;
}

static void control_characters_become_pictures(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 0x20; c++) {
        char text[2] = {(char)c, 0};
        /* U+2400 + c in UTF-8 is E2 90 80+c */
        char picture[4] = {'\xE2', '\x90', (char)(0x80 + c), 0};
        bool is_layout = c == '\n' || c == '\t';
        assert_string_equal(safe(text, 1, false), is_layout ? text : picture);
        assert_string_equal(safe(text, 1, true), picture);
    }
    assert_string_equal(safe("\x7F", 1, false), "\xE2\x90\xA1"); /* U+2421 */
    for (unsigned c = 0x80; c < 0xA0; c++) {
        char text[3] = {'\xC2', (char)c, 0};
        assert_string_equal(safe(text, 2, false), "\xEF\xBF\xBD");
    }
    assert_string_equal(safe("\xC2\xA0", 2, false), "\xC2\xA0"); /* U+00A0 is no control */
}

static void ordinary_text_passes(void **state)
{
    (void)state;
    const char *text = "a \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80\n\tend";
    assert_string_equal(safe(text, strlen(text), false), text);
    assert_string_equal(safe("", 0, false), "");
}

static void broken_utf8_is_replaced(void **state)
{
    (void)state;
    assert_string_equal(safe("a\xFFz", 3, false), "a\xEF\xBF\xBDz");
    assert_string_equal(safe("a\xE2\x82", 3, false), "a\xEF\xBF\xBD\xEF\xBF\xBD");
    assert_string_equal(safe("\xC0\x9B", 2, false), "\xEF\xBF\xBD\xEF\xBF\xBD"); /* over-long ESC */
    assert_string_equal(safe("\xED\xA0\x80x", 4, false),
                        "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx"); /* surrogate */
}

static void safe_text_obeys_the_limit(void **state)
{
    (void)state;
    struct hs_buf buf = HS_BUF_INIT(6);
    assert_int_equal(hs_safe_text("\033\033", 2, false, &buf), HS_OK);
    hs_buf_clear(&buf);
    assert_int_equal(hs_safe_text("\033\033a", 3, false, &buf), HS_LIMIT);
    hs_buf_free(&buf);
}

static void output_depends_on_the_terminal(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(hs_out_text(&test->io, "\033[2J", 4, &test->err), HS_OK);
    assert_string_equal(test->out.data, "\033[2J");
    api_clear_output(test);
    test->io.out_is_terminal = true;
    assert_int_equal(hs_out_text(&test->io, "\033[2J", 4, &test->err), HS_OK);
    assert_string_equal(test->out.data, "\xE2\x90\x9B[2J");
    assert_int_equal(hs_out_text(&test->io, "", 0, &test->err), HS_OK);
}

static void info_lines_are_for_people(void **state)
{
    struct api_test *test = *state;
    hs_err_info(&test->io, "hello %d", 1);
    assert_string_equal(test->err_out.data, "");
    hs_log_set_level(HS_LOG_INFO);
    hs_err_info(&test->io, "hello %d", 2);
    assert_string_equal(test->err_out.data, "hello 2\n");
    hs_log_set_level(HS_LOG_WARN);
    test->io.err_is_terminal = true;
    hs_err_info(&test->io, "a\033b");
    assert_string_equal(test->err_out.data, "hello 2\na\xE2\x90\x9B"
                                            "b\n");
}

static void keep_line(enum hs_log_level level, const char *component, const char *request_id,
                      const char *message, void *user)
{
    (void)level;
    (void)request_id;
    snprintf(user, 64, "%s: %s", component, message);
}

/* A reader of JSON lines meets nothing else. */
static void info_lines_are_log_lines_with_log_json(void **state)
{
    struct api_test *test = *state;
    char line[64] = "";
    test->io.err_is_terminal = true;
    hs_log_set_level(HS_LOG_INFO);
    hs_log_set_json(true);
    hs_log_set_sink(keep_line, line);
    hs_err_info(&test->io, "hello %d", 1);
    hs_log_set_sink(NULL, NULL);
    hs_log_set_json(false);
    hs_log_set_level(HS_LOG_WARN);
    assert_string_equal(line, "hyprstream: hello 1");
    assert_string_equal(test->err_out.data, "");
}

static void figures(void **state)
{
    (void)state;
    char text[64];
    assert_string_equal(hs_format_bytes(0, text, sizeof text), "0 B");
    assert_string_equal(hs_format_bytes(999, text, sizeof text), "999 B");
    assert_string_equal(hs_format_bytes(1000, text, sizeof text), "1.0 kB");
    assert_string_equal(hs_format_bytes(98362432, text, sizeof text), "98.4 MB");
    assert_string_equal(hs_format_bytes(999499, text, sizeof text), "999 kB");
    assert_string_equal(hs_format_bytes(999500, text, sizeof text), "1.0 MB");
    assert_string_equal(hs_format_bytes(UINT64_MAX, text, sizeof text), "18446744 TB");
    assert_string_equal(hs_format_count(134515008, text, sizeof text), "135M");
    assert_string_equal(hs_format_count(7241732096, text, sizeof text), "7.2B");
    assert_string_equal(hs_format_time(0, text, sizeof text), "-");
    setenv("TZ", "UTC", 1);
    /* date -u -d @1764000000: 2025-11-24 16:00 */
    assert_string_equal(hs_format_time(1764000000000, text, sizeof text), "2025-11-24 16:00");
}

static void json_repairs_and_reports(void **state)
{
    struct api_test *test = *state;
    json_t *object = json_object();
    hs_json_set(&object, "bad", hs_json_text("a\xFF\xC3\xA4"));
    hs_json_set(&object, "none", hs_json_text(NULL));
    assert_int_equal(hs_json_print(&test->io, object, true, &test->err), HS_OK);
    assert_string_equal(test->out.data, "{\"bad\":\"a\xEF\xBF\xBD\xC3\xA4\",\"none\":null}\n");
    json_decref(object);
    object = json_object();
    hs_json_set(&object, "lost", NULL);
    assert_null(object);
    hs_json_set(&object, "more", json_true());
    assert_null(object);
    assert_int_equal(hs_json_print(&test->io, object, true, &test->err), HS_OUT_OF_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_characters_become_pictures),
        cmocka_unit_test(ordinary_text_passes),
        cmocka_unit_test(broken_utf8_is_replaced),
        cmocka_unit_test(safe_text_obeys_the_limit),
        cmocka_unit_test_setup_teardown(output_depends_on_the_terminal, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(info_lines_are_log_lines_with_log_json, api_setup,
                                        api_teardown),
        cmocka_unit_test_setup_teardown(info_lines_are_for_people, api_setup, api_teardown),
        cmocka_unit_test(figures),
        cmocka_unit_test_setup_teardown(json_repairs_and_reports, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
