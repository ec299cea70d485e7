/*
 * What the scan counts, at each limit and one beyond it; and the templates of real models, which
 * must stay far from both.
 */
#include "template_scan.h"

#include <dirent.h>
#include <stdio.h>

#include "base/fs.h"
#include "runtime_test.h"

#define TEXT_MAX (1 << 20)

static char text[TEXT_MAX];

/* head, then `n` times unit, then tail. */
static hs_status scan_repeated(const char *head, const char *unit, size_t n, const char *tail)
{
    struct hs_error err = {0};
    size_t len = (size_t)snprintf(text, sizeof(text), "%s", head);
    for (size_t i = 0; i < n; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", unit);
    }
    assert_true(len + strlen(tail) < sizeof(text));
    memcpy(text + len, tail, strlen(tail) + 1);
    hs_status status = hs_template_scan(text, &err);
    assert_true(status == HS_OK || (strstr(err.message, "at most") && err.hint[0]));
    return status;
}

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *head, *unit, *tail;
        size_t max;
    } rows[] = {
        {"{{ ", "(", "", HS_TEMPLATE_DEPTH_MAX},
        {"{{ ", "[", "", HS_TEMPLATE_DEPTH_MAX},
        {"{{ x", "[x", "", HS_TEMPLATE_DEPTH_MAX},
        {"{% set x = ", "{'a': ", "", HS_TEMPLATE_DEPTH_MAX},
        {"{{ \"}}\" ~ ", "(", "", HS_TEMPLATE_DEPTH_MAX},
        {"{{ '\\'}}' ~ ", "(", "", HS_TEMPLATE_DEPTH_MAX},
        {"{{ {'a': {}} ~ ", "(", "", HS_TEMPLATE_DEPTH_MAX},
        {"{# {{ #}{{ ", "(", "", HS_TEMPLATE_DEPTH_MAX},
        {"", "{% if x %}", "", HS_TEMPLATE_DEPTH_MAX},
        {"", "{%- for m in x -%}", "", HS_TEMPLATE_DEPTH_MAX},
        {"{% if x %}", "{% elif x %}", "", HS_TEMPLATE_DEPTH_MAX - 1},
        {"", "{% set x %}", "", HS_TEMPLATE_DEPTH_MAX},
        {"", "{% set x|f(a=1) %}", "", HS_TEMPLATE_DEPTH_MAX},
        {"", "{% macro x(a=1) %}", "", HS_TEMPLATE_DEPTH_MAX},
        {"{% set y = 1 %}", "{% call x() %}{% filter y %}", "", HS_TEMPLATE_DEPTH_MAX / 2},
        {"{{ ", "- ", "1 }}", HS_TEMPLATE_TAG_MAX - 1},
        {"{{ 1", "+1", "}}", (HS_TEMPLATE_TAG_MAX - 1) / 2},
        {"{{ ", "not ", "x }}", HS_TEMPLATE_TAG_MAX - 1},
        {"{{ f", "()", "", (HS_TEMPLATE_TAG_MAX - 1) / 2},
        {"{{ x", "|y", "", (HS_TEMPLATE_TAG_MAX - 1) / 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (scan_repeated(rows[i].head, rows[i].unit, rows[i].max, rows[i].tail) != HS_OK ||
            scan_repeated(rows[i].head, rows[i].unit, rows[i].max + 1, rows[i].tail) != HS_LIMIT) {
            fail_msg("row %zu: %s%s", i, rows[i].head, rows[i].unit);
        }
    }
}

/* What lies side by side does not nest, and text is not looked at. */
static void test_what_does_not_nest(void **state)
{
    (void)state;
    static const struct {
        const char *head, *unit, *tail;
    } rows[] = {
        {"", "{% if x %}{% endif %}", ""},
        {"", "{% for m in x %}{% else %}{% endfor %}", ""},
        {"", "{% set x = 1 %}", ""},
        {"", "{% set x %}{% endset %}", ""},
        {"", "{% macro x() %}{% endmacro %}", ""},
        {"", "{{ (x) }}", ""},
        {"", "((", ""},
        {"{# ", "{% if x %}", "#}"},
        {"{# ", "((", ""},
        {"{{ '", "((", "' }}"},
        {"", "{ { (", ""},
        {"{{ \"", "\\\"(", "\" }}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (scan_repeated(rows[i].head, rows[i].unit, 5000, rows[i].tail) != HS_OK) {
            fail_msg("row %zu: %s%s", i, rows[i].head, rows[i].unit);
        }
    }
}

static void test_broken_ends(void **state)
{
    (void)state;
    struct hs_error err = {0};
    static const char *const ends[] = {
        "",    "{",      "{{",   "{%",     "{#",          "{{ '",     "{{ \\",
        "{%-", "{{ '\\", "{{ }", "{% end", "{% endif %}", "}} %} #}", "{{ ))))]]}}} }}"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        OK(hs_template_scan(ends[i], &err));
    }
}

static void test_templates_of_real_models(void **state)
{
    (void)state;
    struct hs_error err = {0};
    DIR *folder = opendir(HS_LLAMA_TEMPLATES);
    if (!folder) {
        skip();
    }
    size_t n = 0;
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] == '.' || !strstr(entry->d_name, ".jinja")) {
            continue;
        }
        char *path = hs_fs_join(HS_LLAMA_TEMPLATES, entry->d_name);
        HS_CLEANUP(hs_buf_free) struct hs_buf source = HS_BUF_INIT(TEXT_MAX);
        OK(hs_fs_read(path, &source, &err));
        OK(hs_template_scan(source.data, &err));
        hs_free(path);
        n++;
    }
    closedir(folder);
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_what_does_not_nest),
        cmocka_unit_test(test_broken_ends),
        cmocka_unit_test(test_templates_of_real_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
