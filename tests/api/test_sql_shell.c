/* `hyprstream sql` with several statements, and on a terminal: commands, errors, completion. */
#include "api_test.h"

static int setup(void **state)
{
    int result = api_setup(state);
    struct api_test *test = *state;
    api_flag(test, HS_CFG_SQL_FILE, ":memory:");
    test->io.in_is_terminal = true;
    return result;
}

static hs_status type(struct api_test *test, const char *const *lines)
{
    test->lines = lines;
    test->next_line = 0;
    api_clear_output(test);
    return api_run(test, hs_cmd_sql, NULL);
}

#define TYPE(test, ...) type(test, (const char *const[]){__VA_ARGS__, NULL})

static hs_status pipe_in(struct api_test *test, const char *text)
{
    test->io.in_is_terminal = false;
    test->in = text;
    api_clear_output(test);
    return api_run(test, hs_cmd_sql, NULL);
}

/* ---- texts ---- */

static void test_rows_of_each_statement_are_printed(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(pipe_in(test, "CREATE TEMP TABLE t AS SELECT ';' AS s; -- ;\n"
                                   "FROM t;;\n.mode csv\nSELECT 2 AS n; SELECT $$;$$ AS m"),
                     HS_OK);
    assert_string_equal(test->out.data, "s\n;\nn\r\n2\r\nm\r\n;\r\n");
    assert_int_equal(pipe_in(test, " ; -- nothing\n"), HS_INVALID_ARGUMENT);
}

static void test_the_first_error_ends_a_text(void **state)
{
    struct api_test *test = *state;
    static const char text[] = "SELECT 1 AS a;\n\nATTACH 'x';\nselec;\nSELECT 2 AS b;";
    assert_int_equal(pipe_in(test, text), HS_PERMISSION_DENIED);
    assert_string_equal(test->out.data, "a\n1\n");
    assert_contains(test->err.message, "line 3");
    test->options[HS_OPT_CONTINUE_ON_ERROR] = "";
    assert_int_equal(pipe_in(test, text), HS_PERMISSION_DENIED);
    assert_string_equal(test->out.data, "a\n1\nb\n2\n");
    assert_string_equal(test->err.message, "2 of 4 statements failed");
    assert_contains(test->err_out.data, "line 3");
    assert_contains(test->err_out.data, "line 4");
    /* but not where nobody reads */
    test->out_fails = true;
    assert_int_equal(pipe_in(test, text), HS_IO);
    test->out_fails = false;
    test->interrupt_at = 1;
    assert_int_equal(pipe_in(test, "SELECT count(*) FROM range(100000000000) a, range(10) b;\n"
                                   "SELECT 1"),
                     HS_CANCELLED);
}

static void test_files_are_read(void **state)
{
    struct api_test *test = *state;
    char path[600], self[700], command[700];
    snprintf(path, sizeof path, "%s/q.sql", test->home);
    snprintf(command, sizeof command, ".read %s", path);
    api_write_file(path, "SELECT 1 AS a;\nSELECT 2 AS b", 28);
    assert_int_equal(pipe_in(test, command), HS_OK);
    assert_string_equal(test->out.data, "a\n1\nb\n2\n");
    api_write_file(path, "SELECT 1\0;", 10);
    assert_int_equal(pipe_in(test, command), HS_INVALID_ARGUMENT);
    api_write_file(path, "", 0);
    assert_int_equal(pipe_in(test, command), HS_OK);
    snprintf(self, sizeof self, "SELECT 7 AS a;\n.read %s\n", path);
    api_write_file(path, self, strlen(self));
    assert_int_equal(pipe_in(test, command), HS_LIMIT);
    assert_int_equal(test->out.len, 8 * strlen("a\n7\n")); /* eight deep */
    assert_int_equal(pipe_in(test, ".read /nowhere/x.sql"), HS_NOT_FOUND);
}

static void test_output_goes_to_a_file(void **state)
{
    struct api_test *test = *state;
    char path[600], text[1500];
    snprintf(path, sizeof path, "%s/rows.csv", test->home);
    snprintf(text, sizeof text,
             ".mode csv\n.output %s\nSELECT 1 AS a;\nSELECT 2 AS b;\n.output\nSELECT 3 AS c;",
             path);
    assert_int_equal(pipe_in(test, text), HS_OK);
    assert_string_equal(test->out.data, "c\r\n3\r\n");
    struct hs_buf file HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1000);
    assert_int_equal(hs_fs_read(path, &file, NULL), HS_OK);
    assert_string_equal(file.data, "a\r\n1\r\nb\r\n2\r\n");
    assert_int_equal(pipe_in(test, ".output /nowhere/rows"), HS_NOT_FOUND);
    assert_int_equal(pipe_in(test, ".output /dev/full\nSELECT 1"), HS_IO);
}

/* ---- a terminal ---- */

static void test_a_statement_goes_on_to_its_semicolon(void **state)
{
    struct api_test *test = *state;
    static const struct {
        const char *text;
        bool is_whole;
    } cases[] = {
        {"SELECT 1", false},
        {"SELECT 1;", true},
        {"", true},
        {" .tables", true},
        {"\\d", true},
        {"SELECT ';", false},
        {"SELECT ';';", true},
        {"SELECT 1; -- ;", true},
        {"SELECT 1 -- ;", false},
        {"SELECT $$;", false},
        {"SELECT 1 /* ;", false},
        {"SELECT 1; SELECT", false},
        {"SELECT \";\"", false},
        {"SELECT 1;\n\n  ", true},
    };
    assert_int_equal(TYPE(test, "SELECT 1;"), HS_OK);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (test->is_whole(cases[i].text, strlen(cases[i].text)) != cases[i].is_whole) {
            fail_msg("%s", cases[i].text);
        }
    }
}

static void test_errors_do_not_end_it(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TYPE(test, "CREATE TEMP TABLE t AS SELECT 5 AS n;", "selec;", LINE_INTERRUPT,
                          ".nope", ".mod", ".quit now", ".read", ".timer maybe", ".mode xml",
                          "FROM t;"),
                     HS_OK);
    assert_contains(test->err_out.data, "selec");
    assert_contains(test->err_out.data, "Ctrl-D leaves");
    assert_contains(test->err_out.data, "unknown command .nope");
    assert_contains(test->err_out.data, "did you mean .mode?");
    assert_contains(test->err_out.data, ".quit takes nothing");
    assert_contains(test->err_out.data, ".read needs a FILE");
    assert_contains(test->err_out.data, ".timer takes on or off");
    assert_contains(test->err_out.data, "there is no format xml");
    assert_string_equal(test->out.data, "n\n5\n");
    test->out_fails = true;
    assert_int_equal(TYPE(test, "SELECT 1;", "SELECT 2;"), HS_IO);
    assert_int_equal(test->next_line, 1);
}

static void test_ctrl_c_ends_a_statement(void **state)
{
    struct api_test *test = *state;
    test->interrupt_at = 2; /* the first question is about what was before */
    assert_int_equal(
        TYPE(test, "SELECT count(*) FROM range(100000000000) a, range(10) b;", "SELECT 1 AS a;"),
        HS_OK);
    assert_contains(test->err_out.data, "[stopped]");
    assert_string_equal(test->out.data, "a\n1\n");
}

static void test_commands(void **state)
{
    struct api_test *test = *state;
    assert_int_equal(TYPE(test, "CREATE TABLE \"it's\" (a INT, b TEXT); CREATE VIEW v AS SELECT 1;",
                          ".tables it's", ".schema it's", "\\d v", ".mode", ".timer on", "\\q",
                          "never"),
                     HS_OK);
    assert_string_equal(test->out.data, "name  kind\nit's  table\n"
                                        "sql\nCREATE TABLE \"it's\"(a INTEGER, b VARCHAR);\n"
                                        "column_name  column_type  null  key   default  extra\n"
                                        "1            INTEGER      YES   NULL  NULL     NULL\n"
                                        "table\n");
    assert_int_equal(test->next_line, 7);
    assert_int_equal(TYPE(test, ".timer on", "SELECT 1;", ".timer", "SELECT 1;"), HS_OK);
    const char *first = strstr(test->err_out.data, "time 0");
    assert_non_null(first);
    assert_null(strstr(first + 1, "time 0"));
    assert_int_equal(TYPE(test, ".help"), HS_OK);
    assert_contains(test->out.data, ".read FILE");
    assert_contains(test->out.data, "\\q");
    test->io.out_is_terminal = true;
    assert_int_equal(TYPE(test, ".mode arrow", "SELECT 1;"), HS_OK);
    assert_int_equal(test->out.len, 0);
    assert_contains(test->err_out.data, ".output FILE");
}

/* ---- completion ---- */

/* The words for a line, joined by blanks. */
static const char *complete(struct api_test *test, const char *line)
{
    static char text[4096];
    test->complete_line = line;
    test->word_start = SIZE_MAX;
    hs_buf_clear(&test->words);
    assert_int_equal(TYPE(test,
                          "CREATE TABLE orders (colour TEXT); CREATE SCHEMA s; "
                          "CREATE TABLE s.ordered (n INT);",
                          ""),
                     HS_OK);
    text[0] = '\0';
    for (size_t i = 0; i < test->words.len; i += strlen(test->words.data + i) + 1) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", test->words.data + i);
    }
    return text;
}

static void test_completion(void **state)
{
    struct api_test *test = *state;
    test->completes_at = 1;
    assert_string_equal(complete(test, ".ti"), ".timer ");
    assert_int_equal(test->word_start, 0);
    assert_string_equal(complete(test, ".mode "), "table csv json ndjson arrow ");
    assert_string_equal(complete(test, ".mode nd"), "ndjson ");
    assert_string_equal(complete(test, "SELEC"), "SELECT ");
    assert_string_equal(complete(test, "selec"), "select ");
    assert_string_equal(complete(test, "FROM orde"), "order orders ");
    assert_int_equal(test->word_start, 5);
    assert_string_equal(complete(test, "FROM ORDERs"), "ORDERs ");
    assert_string_equal(complete(test, "FROM s.o"), "s.ordered ");
    assert_string_equal(complete(test, "SELECT colou"), "colour ");
    assert_string_equal(complete(test, "SELECT try_gen"), "try_generate ");
    assert_string_equal(complete(test, "FROM hyprstream.mod"), "hyprstream.models ");
    assert_string_equal(complete(test, "SELECT nothing_so"), "");
    assert_int_equal(test->word_start, 7);
    assert_string_equal(complete(test, "SELECT "), "");
    assert_int_equal(test->word_start, SIZE_MAX); /* Tab stands for itself */
}

static void test_allocations_that_fail_are_told(void **state)
{
    struct api_test *test = *state;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status != HS_OK && n < 3000; n++) {
        hs_error_clear(&test->err);
        test->io.in_is_terminal = false;
        test->in = ".tables x\n.mode csv\nSELECT 1;";
        hs_mem_fail_after(n);
        status = api_run(test, hs_cmd_sql, NULL);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || test->err.message[0] != '\0');
    }
    assert_int_equal(status, HS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, api_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rows_of_each_statement_are_printed),
        TEST(test_the_first_error_ends_a_text),
        TEST(test_files_are_read),
        TEST(test_output_goes_to_a_file),
        TEST(test_a_statement_goes_on_to_its_semicolon),
        TEST(test_errors_do_not_end_it),
        TEST(test_ctrl_c_ends_a_statement),
        TEST(test_commands),
        TEST(test_completion),
        TEST(test_allocations_that_fail_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
