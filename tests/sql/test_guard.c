/* What SQL may not do, however it is written. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

#include "base/fs.h"
#include "guard.h"
#include "sql_test.h"

/* ---- where a text is cut ---- */

static void test_statements_end_at_semicolons_that_are_not_quoted(void **state)
{
    (void)state;
    static const struct {
        const char *text, *first;
    } cases[] = {
        {"SELECT 1", "SELECT 1"},
        {"SELECT 1;", "SELECT 1"},
        {"  ;; SELECT 1 ; x", "  ;; SELECT 1"},
        {"SELECT ';' ; x", "SELECT ';'"},
        {"SELECT ';''' ; x", "SELECT ';'''"},
        {"SELECT 'a\\' ; x", "SELECT 'a\\'"},
        {"SELECT e'a\\';' ; x", "SELECT e'a\\';'"},
        {"SELECT \"a;\"\"b\" ; x", "SELECT \"a;\"\"b\""},
        {"SELECT $$;$$ ; x", "SELECT $$;$$"},
        {"SELECT $q$;$$;$q$ ; x", "SELECT $q$;$$;$q$"},
        {"SELECT $1 ; x $1", "SELECT $1"},
        {"SELECT 1 -- ;\n ; x", "SELECT 1"},
        {"SELECT /* ; /* ; */ ; */ 1 ; x", "SELECT /* ; /* ; */ ; */ 1"},
        {"", ""},
        {" -- nothing\n/* at all */ ;", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t next, len = hs_sql_statement_len(cases[i].text, strlen(cases[i].text), &next);
        if (len != strlen(cases[i].first) || memcmp(cases[i].text, cases[i].first, len) != 0) {
            fail_msg("%s: %zu", cases[i].text, len);
        }
        assert_true(next >= len && next <= strlen(cases[i].text));
    }
}

static void test_inner_statements_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *text, *inner;
    } cases[] = {
        {"EXPLAIN SELECT 1", " SELECT 1"},
        {"explain /* x */ analyze COPY t", " COPY t"},
        {"EXPLAIN (ANALYZE, FORMAT json) COPY t", " COPY t"},
        {"EXPLAIN (SELECT 1)", " (SELECT 1)"},
        {"PREPARE p AS COPY t", " COPY t"},
        {"PREPARE \"as\" (INT, DECIMAL(3, 1)) AS SELECT 1", " SELECT 1"},
        {"PREPARE p COPY t", NULL},
        {"SELECT 1", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *inner = hs_sql_inner_statement(cases[i].text);
        if (cases[i].inner == NULL) {
            assert_null(inner);
        } else {
            assert_string_equal(inner, cases[i].inner);
        }
    }
}

/* ---- files ---- */

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(hs_fs_write_atomic(path, text, strlen(text), 0600, NULL), HS_OK);
}

static void test_allowed_folders_are_read_and_nothing_else(void **state)
{
    struct sql_test *test = *state;
    char text[1024];
    write_file(test->folder, "a.csv", "n,s\n1,one\n2,two\n");
    write_file(test->folder, "a.json", "[{\"n\": 3, \"s\": \"three\"}]");
    snprintf(text, sizeof text, "SELECT n, s FROM read_csv('%s/a.csv') ORDER BY n", test->folder);
    assert_string_equal(sql_test_query(test, text), "1|one;2|two");
    snprintf(text, sizeof text, "SELECT n, s FROM '%s/a.json'", test->folder);
    assert_string_equal(sql_test_query(test, text), "3|three");

    sql_test_query(test, "CREATE TABLE t (n INT, s TEXT)");
    snprintf(text, sizeof text, "COPY t FROM '%s/a.csv'", test->folder);
    sql_test_fails(test, text, HS_PERMISSION_DENIED, "COPY is refused");

    sql_test_fails(test, "SELECT * FROM read_csv('/etc/passwd')", HS_PERMISSION_DENIED, "/etc");
    sql_test_fails(test, "SELECT * FROM '/etc/passwd.csv'", HS_PERMISSION_DENIED, "/etc");
    sql_test_fails(test, "SELECT * FROM glob('/etc/*')", HS_PERMISSION_DENIED, "/etc");
    sql_test_fails(test, "SELECT * FROM read_csv('http://127.0.0.1:9/a.csv')", HS_PERMISSION_DENIED,
                   "127.0.0.1");
    snprintf(text, sizeof text, "SELECT * FROM read_text('%s/../../../CMakeCache.txt')",
             test->folder);
    sql_test_fails(test, text, HS_PERMISSION_DENIED, "CMakeCache");
    sql_test_fails(test, "CREATE VIEW v AS SELECT * FROM read_text('/etc/passwd')",
                   HS_PERMISSION_DENIED, "/etc");
    sql_test_query(test, "CREATE MACRO look(f) AS TABLE SELECT * FROM read_text(f)");
    sql_test_fails(test, "SELECT * FROM look('/etc/passwd')", HS_PERMISSION_DENIED, "/etc");
}

/* Each names %s for the allowed folder, where writing is refused, too. */
static void test_statements_that_write_or_change_limits_are_refused(void **state)
{
    struct sql_test *test = *state;
    static const char *const texts[] = {
        "COPY (SELECT 1) TO '%s/o.csv'",
        "SELECT 1; /* ; */ COPY (SELECT 1) TO '%s/o.csv'",
        "PREPARE p AS COPY (SELECT 1) TO '%s/o.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '%s/o.csv'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '%s/o.csv'",
        "EXPLAIN COPY (SELECT 1) TO '%s/o.csv'",
        "ATTACH '%s/x.db' AS x",
        "ATTACH ':memory:' AS m",
        "DETACH memory",
        "EXPORT DATABASE '%s/x'",
        "IMPORT DATABASE '%s/x'",
        "COPY FROM DATABASE memory TO memory",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '%s/x.duckdb_extension'",
        "SET threads = 1",
        "SET GLOBAL memory_limit = '100GB'",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET lock_configuration",
        "PRAGMA threads = 1",
        "PRAGMA enable_profiling",
        "CALL enable_logging()",
        "CALL pragma_version()",
        "CHECKPOINT",
        "FORCE CHECKPOINT",
    };
    sql_test_query(test, "CREATE TABLE t (n INT)");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text, texts[i], test->folder);
        sql_test_fails(test, text, HS_PERMISSION_DENIED, "");
        if (rmdir(test->folder) != 0) {
            fail_msg("%s: wrote something", text);
        }
        assert_int_equal(hs_fs_mkdir_p(test->folder, NULL), HS_OK);
    }
}

static void test_functions_that_act_on_the_process_are_refused(void **state)
{
    struct sql_test *test = *state;
    static const char *const texts[] = {
        "SELECT * FROM enable_logging(storage = 'file', storage_path = '/tmp/x')",
        "SELECT * FROM Enable_Logging ()",
        "SELECT * FROM \"enable_logging\"()",
        "SELECT * FROM main.enable_logging/* */()",
        "SELECT * FROM system.main.\"Enable_Profiling\" -- x\n()",
        "CREATE MACRO m() AS TABLE SELECT * FROM enable_logging()",
        "CREATE VIEW w AS SELECT * FROM enable_logging()",
        "SELECT 1; SELECT * FROM enable_logging()",
        "SELECT * FROM query('SELECT * FROM enable_' || 'logging()')",
        "SELECT * FROM query\xC2\xA0('SELECT 1')",
        "SELECT * FROM query\xE3\x80\x80('SELECT 1')",
        "SELECT * FROM json_execute_serialized_sql('{}')",
        "SELECT * FROM arrow_scan(1, 2, 3)",
        "SELECT * FROM checkpoint()",
        "SELECT * FROM read_duckdb('x')",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        sql_test_fails(test, texts[i], HS_PERMISSION_DENIED, "is refused");
    }
    assert_string_equal(sql_test_query(test, "SELECT 'enable_logging()', 1 AS query"),
                        "enable_logging()|1");
}

static void test_what_sets_nothing_for_others_is_allowed(void **state)
{
    struct sql_test *test = *state;
    sql_test_query(test, "CREATE SCHEMA s");
    sql_test_query(test, "USE s");
    sql_test_query(test, "SET schema = 'main'");
    sql_test_query(test, "SET VARIABLE v = 3");
    assert_string_equal(sql_test_query(test, "SELECT getvariable('v')"), "3");
    sql_test_query(test, "PREPARE p AS SELECT $1 + 1");
    assert_string_equal(sql_test_query(test, "EXECUTE p(4)"), "5");
    sql_test_query(test, "DEALLOCATE p");
    sql_test_query(test, "EXPLAIN ANALYZE SELECT 1");
    sql_test_query(test, "EXPLAIN (FORMAT json) (SELECT 1)");
    sql_test_query(test,
                   "CREATE TABLE t AS SELECT 1 AS n; COMMENT ON TABLE t IS 'x'; DROP TABLE t");
    sql_test_query(test, "SHOW TABLES");
    sql_test_query(test, "ANALYZE; VACUUM");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statements_end_at_semicolons_that_are_not_quoted),
        cmocka_unit_test(test_inner_statements_are_found),
        cmocka_unit_test_setup_teardown(test_allowed_folders_are_read_and_nothing_else,
                                        sql_test_open, sql_test_close),
        cmocka_unit_test_setup_teardown(test_statements_that_write_or_change_limits_are_refused,
                                        sql_test_open, sql_test_close),
        cmocka_unit_test_setup_teardown(test_functions_that_act_on_the_process_are_refused,
                                        sql_test_open, sql_test_close),
        cmocka_unit_test_setup_teardown(test_what_sets_nothing_for_others_is_allowed, sql_test_open,
                                        sql_test_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
