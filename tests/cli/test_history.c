/* The history file. */
#include "api_test.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "history.h"

static char **entries;
static size_t n_entries;

static void load(const char *path)
{
    hs_history_free(entries, n_entries);
    entries = NULL;
    n_entries = 0;
    assert_int_equal(hs_history_load(path, &entries, &n_entries, NULL), HS_OK);
}

static int teardown(void **state)
{
    hs_history_free(entries, n_entries);
    entries = NULL;
    n_entries = 0;
    return api_teardown(state);
}

static void entries_come_back(void **state)
{
    struct api_test *test = *state;
    const char *path = api_path(test, "deep/er/history");
    load(path);
    assert_int_equal(n_entries, 0);
    static const char *const typed[] = {"one",         "two lines\nof text",   "back\\slash",
                                        "\\n literal", "\xC3\xA4\xE2\x82\xAC", "\\"};
    for (size_t i = 0; i < COUNT_OF(typed); i++) {
        assert_int_equal(hs_history_append(path, typed[i], &test->err), HS_OK);
    }
    load(path);
    assert_int_equal(n_entries, COUNT_OF(typed));
    for (size_t i = 0; i < COUNT_OF(typed); i++) {
        assert_string_equal(entries[i], typed[i]);
    }
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_file_of_others_becomes_private(void **state)
{
    struct api_test *test = *state;
    const char *path = api_path(test, "history");
    api_write_file(path, "old\n", 4);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(hs_history_append(path, "new", &test->err), HS_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void the_newest_thousand_are_kept(void **state)
{
    struct api_test *test = *state;
    const char *path = api_path(test, "history");
    struct hs_buf text = HS_BUF_INIT(1u << 20);
    for (int i = 0; i < 2 * HS_HISTORY_MAX; i++) {
        assert_int_equal(hs_buf_printf(&text, "line %d\n", i), HS_OK);
    }
    api_write_file(path, text.data, text.len);
    load(path);
    assert_int_equal(n_entries, HS_HISTORY_MAX);
    assert_string_equal(entries[0], "line 1000");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, text.len); /* twice the limit: not cut yet */
    assert_int_equal(hs_history_append(path, "one more", &test->err), HS_OK);
    load(path);
    assert_int_equal(n_entries, HS_HISTORY_MAX);
    assert_string_equal(entries[0], "line 1001");
    assert_string_equal(entries[HS_HISTORY_MAX - 1], "one more");
    assert_int_equal(stat(path, &st), 0);
    assert_true((size_t)st.st_size < text.len);
    load(path);
    assert_string_equal(entries[0], "line 1001");
    hs_buf_free(&text);
}

static void long_entries_are_not_kept(void **state)
{
    struct api_test *test = *state;
    const char *path = api_path(test, "history");
    char *entry = malloc(HS_HISTORY_ENTRY_MAX + 2);
    memset(entry, '\\', HS_HISTORY_ENTRY_MAX + 1); /* each takes two bytes in the file */
    entry[HS_HISTORY_ENTRY_MAX + 1] = '\0';
    assert_int_equal(hs_history_append(path, entry, &test->err), HS_OK);
    load(path);
    assert_int_equal(n_entries, 0);
    entry[HS_HISTORY_ENTRY_MAX] = '\0';
    assert_int_equal(hs_history_append(path, entry, &test->err), HS_OK);
    load(path);
    assert_int_equal(n_entries, 1);
    assert_string_equal(entries[0], entry);
    free(entry);
}

static void half_a_line_is_left_out(void **state)
{
    struct api_test *test = *state;
    const char *path = api_path(test, "history");
    api_write_file(path, "whole\nhal", 9);
    load(path);
    assert_int_equal(n_entries, 1);
}

static void two_programs_share_it(void **state)
{
    struct api_test *test = *state;
    char path[1024];
    snprintf(path, sizeof path, "%s", api_path(test, "history"));
    pid_t children[4];
    for (int c = 0; c < 4; c++) {
        children[c] = fork();
        if (children[c] == 0) {
            for (int i = 0; i < 50; i++) {
                char entry[64];
                snprintf(entry, sizeof entry, "child %d entry %d\nsecond line", c, i);
                if (hs_history_append(path, entry, NULL)) {
                    _exit(1);
                }
            }
            _exit(0);
        }
    }
    for (int c = 0; c < 4; c++) {
        int status = 0;
        waitpid(children[c], &status, 0);
        assert_int_equal(status, 0);
    }
    load(path);
    assert_int_equal(n_entries, 200);
    for (size_t i = 0; i < n_entries; i++) {
        assert_contains(entries[i], "\nsecond line");
        assert_int_equal(strncmp(entries[i], "child ", 6), 0);
    }
}

static void failures(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(hs_history_load(test->home, &entries, &n_entries, &test->err),
                     HS_IS_DIRECTORY);
    assert_int_equal(hs_history_append(test->home, "x", &test->err), HS_IS_DIRECTORY);
    const char *path = api_path(test, "history");
    api_write_file(path, "a\nb\nc\n", 6);
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 100);
        hs_history_free(entries, n_entries);
        entries = NULL;
        n_entries = 0;
        hs_mem_fail_after(nth);
        status = hs_history_load(path, &entries, &n_entries, &test->err);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
    hs_mem_fail_after(1);
    status = hs_history_append(path, "x", &test->err);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_come_back, api_setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_of_others_becomes_private, api_setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_thousand_are_kept, api_setup, teardown),
        cmocka_unit_test_setup_teardown(long_entries_are_not_kept, api_setup, teardown),
        cmocka_unit_test_setup_teardown(half_a_line_is_left_out, api_setup, teardown),
        cmocka_unit_test_setup_teardown(two_programs_share_it, api_setup, teardown),
        cmocka_unit_test_setup_teardown(failures, api_setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
