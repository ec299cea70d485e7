/* Statements, their schemas, results, transactions and interruption. */
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "sql_test.h"

static hs_sql_stmt *prepare(struct sql_test *test, const char *text)
{
    hs_sql_stmt *stmt;
    if (hs_sql_prepare(test->conn, text, strlen(text), &stmt, &test->err) != HS_OK) {
        fail_msg("%s: %s", text, test->err.message);
    }
    return stmt;
}

static void test_kinds_and_rows_changed(void **state)
{
    struct sql_test *test = *state;
    static const struct {
        const char *text;
        enum hs_sql_kind kind;
        int64_t n_changed;
    } cases[] = {
        {"CREATE TABLE t (n INT)", HS_SQL_OTHER, -1},
        {"INSERT INTO t VALUES (1), (2), (3)", HS_SQL_UPDATE, 3},
        {"UPDATE t SET n = 5 WHERE n > 1", HS_SQL_UPDATE, 2},
        {"INSERT INTO t VALUES (7) RETURNING n", HS_SQL_QUERY, -1},
        {"DELETE FROM t", HS_SQL_UPDATE, 4},
        {"SELECT 1", HS_SQL_QUERY, -1},
        {"EXPLAIN SELECT 1", HS_SQL_QUERY, -1},
        {"BEGIN", HS_SQL_OTHER, -1},
        {"ROLLBACK", HS_SQL_OTHER, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hs_sql_stmt *stmt = prepare(test, cases[i].text);
        assert_int_equal(hs_sql_stmt_kind(stmt), cases[i].kind);
        hs_sql_stmt_free(stmt);
        sql_test_query(test, cases[i].text);
        assert_int_equal(test->n_changed, cases[i].n_changed);
    }
}

static void test_several_statements_give_the_last_ones_rows(void **state)
{
    struct sql_test *test = *state;
    assert_string_equal(sql_test_query(test, "CREATE TABLE t (n INT); INSERT INTO t VALUES (4); "
                                             "SELECT n FROM t;; -- end"),
                        "4");
    sql_test_fails(test, "INSERT INTO t VALUES (5); SELECT nothing FROM t", HS_INVALID_ARGUMENT,
                   "nothing");
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "2");
}

static void test_errors_say_where(void **state)
{
    struct sql_test *test = *state;
    sql_test_fails(test, "SELEC 1", HS_INVALID_ARGUMENT, "(line 1, at \"SELEC 1\")");
    sql_test_fails(test, "SELECT a FROM nowhere", HS_INVALID_ARGUMENT, "nowhere");
    sql_test_fails(test, "SELECT 1,\n  b + 1", HS_INVALID_ARGUMENT, "(line 2, at \"b + 1\")");
    sql_test_fails(test, "SELECT 'x'::INT", HS_INVALID_ARGUMENT, "Conversion Error");
    sql_test_fails(test, "", HS_INVALID_ARGUMENT, "no statement");
    sql_test_fails(test, "; -- x", HS_INVALID_ARGUMENT, "no statement");
    hs_sql_stmt *stmt;
    assert_int_equal(hs_sql_prepare(test->conn, "SELECT\0001", 8, &stmt, NULL),
                     HS_INVALID_ARGUMENT);
    /* an error among the rows of a result that was begun */
    sql_test_fails(test,
                   "SELECT CASE WHEN n = 200000 THEN 'x' ELSE '1' END::INT FROM range(200001) t(n)",
                   HS_INVALID_ARGUMENT, "Conversion Error");
    assert_string_equal(sql_test_query(test, "SELECT 1"), "1");
}

static void assert_format(const struct ArrowSchema *schema, const char *formats)
{
    char text[256] = "";
    for (int64_t i = 0; i < schema->n_children; i++) {
        size_t len = strlen(text);
        snprintf(text + len, sizeof text - len, "%s=%s ", schema->children[i]->name,
                 schema->children[i]->format);
    }
    assert_string_equal(text, formats);
}

static void test_schemas_are_known_before_it_runs(void **state)
{
    struct sql_test *test = *state;
    struct ArrowSchema schema;
    hs_sql_stmt *stmt =
        prepare(test, "SELECT 1::INT AS a, 'x' AS b, $1::DATE AS c, [1.5::DOUBLE] AS d, $2 AS e");
    assert_int_equal(hs_sql_stmt_n_params(stmt), 2);
    assert_int_equal(hs_sql_stmt_result_schema(stmt, &schema, NULL), HS_OK);
    schema.release(&schema);
    assert_int_equal(hs_sql_stmt_param_schema(stmt, &schema, NULL), HS_OK);
    assert_format(&schema, "1=tdD 2=n ");
    schema.release(&schema);
    hs_sql_stmt_free(stmt);

    stmt = prepare(test,
                   "SELECT 1::INT AS a, 'x' AS b, DATE '2000-01-01' AS c, 2::DECIMAL(9, 2) AS d");
    assert_int_equal(hs_sql_stmt_result_schema(stmt, &schema, NULL), HS_OK);
    assert_format(&schema, "a=i b=u c=tdD d=d:9,2,128 ");
    schema.release(&schema);
    hs_sql_stmt_free(stmt);

    stmt = prepare(test, "CREATE TABLE t (n INT)");
    assert_int_equal(hs_sql_stmt_result_schema(stmt, &schema, NULL), HS_OK);
    assert_int_equal(schema.n_children, 0);
    schema.release(&schema);
    hs_sql_stmt_free(stmt);
}

/* ---- results ---- */

static void test_rows_come_whole_and_outlive_everything(void **state)
{
    struct sql_test *test = *state;
    hs_sql_stmt *stmt = prepare(test, "SELECT n FROM range(100000) t(n)");
    hs_sql_result *result;
    struct ArrowArray rows, first = {.release = NULL};
    assert_int_equal(hs_sql_execute(stmt, &result, NULL), HS_OK);
    int64_t n = 0;
    for (;;) {
        assert_int_equal(hs_sql_result_next(result, &rows, NULL), HS_OK);
        if (rows.release == NULL) {
            break;
        }
        for (int64_t i = 0; i < rows.length; i++) {
            assert_int_equal(((const int64_t *)rows.children[0]->buffers[1])[i], n + i);
        }
        n += rows.length;
        if (first.release == NULL) {
            first = rows;
        } else {
            rows.release(&rows);
        }
    }
    assert_int_equal(n, 100000);
    hs_sql_result_free(result);
    hs_sql_stmt_free(stmt);
    assert_int_equal(((const int64_t *)first.children[0]->buffers[1])[1], 1);
    first.release(&first);
}

static void test_one_result_at_a_time(void **state)
{
    struct sql_test *test = *state;
    hs_sql_stmt *stmt = prepare(test, "SELECT n FROM range(100000) t(n)"), *other;
    hs_sql_result *result, *second;
    assert_int_equal(hs_sql_execute(stmt, &result, NULL), HS_OK);
    assert_int_equal(hs_sql_execute(stmt, &second, &test->err), HS_BUSY);
    assert_int_equal(hs_sql_prepare(test->conn, "SELECT 1", 8, &other, &test->err), HS_BUSY);
    assert_true(*test->err.hint);
    hs_sql_result_free(result);
    assert_string_equal(sql_test_query(test, "SELECT 1"), "1");
    hs_sql_stmt_free(stmt);
}

static void test_every_type_of_duckdb_gives_valid_arrow(void **state)
{
    struct sql_test *test = *state;
    sql_test_query(test, "SELECT * EXCLUDE (bignum, time_tz) FROM test_all_types()");
    sql_test_query(test, "CREATE TYPE mood AS ENUM ('sad', 'glad')");
    assert_string_equal(sql_test_query(test, "SELECT m::mood FROM (VALUES ('glad'), (NULL), "
                                             "('sad')) t(m)"),
                        "glad;NULL;sad");
    sql_test_query(test, "SELECT ['glad'::mood, NULL], {'a': 'sad'::mood}");
}

/* ---- transactions ---- */

static void test_transactions(void **state)
{
    struct sql_test *test = *state;
    sql_test_query(test, "CREATE TABLE t (n INT)");
    assert_int_equal(hs_sql_begin(test->conn, NULL), HS_OK);
    assert_int_equal(hs_sql_begin(test->conn, &test->err), HS_BUSY);
    assert_int_equal(hs_sql_rollback(test->conn, NULL), HS_OK);
    assert_int_equal(hs_sql_begin(test->conn, NULL), HS_OK);
    sql_test_query(test, "INSERT INTO t VALUES (1)");
    assert_int_equal(hs_sql_rollback(test->conn, NULL), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "0");
    assert_int_equal(hs_sql_begin(test->conn, NULL), HS_OK);
    sql_test_query(test, "INSERT INTO t VALUES (1)");
    assert_int_equal(hs_sql_commit(test->conn, NULL), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "1");
    assert_int_equal(hs_sql_commit(test->conn, &test->err), HS_NOT_FOUND);
    assert_int_equal(hs_sql_rollback(test->conn, &test->err), HS_NOT_FOUND);
    sql_test_query(test, "BEGIN; INSERT INTO t VALUES (2)");
    sql_test_fails(test, "START TRANSACTION", HS_BUSY, "already");
    assert_int_equal(hs_sql_begin(test->conn, NULL), HS_BUSY);
    sql_test_query(test, "COMMIT");
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "2");
    sql_test_fails(test, "COMMIT", HS_INVALID_ARGUMENT, "no transaction is active");
}

/* ---- interruption ---- */

static void *interrupt_until(void *user)
{
    struct sql_test *test = user;
    while (!__atomic_load_n(&test->n_changed, __ATOMIC_ACQUIRE)) {
        hs_sql_interrupt(test->conn);
    }
    return NULL;
}

static void test_interruption_ends_a_statement_and_no_later_one(void **state)
{
    struct sql_test *test = *state;
    hs_sql_interrupt(test->conn); /* nothing runs */
    assert_string_equal(sql_test_query(test, "SELECT 1"), "1");
    hs_sql_stmt *stmt = prepare(test, "SELECT count(*) FROM range(100000000000) a, range(10) b");
    hs_sql_result *result;
    pthread_t thread;
    test->n_changed = 0;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_until, test), 0);
    hs_status status = hs_sql_execute(stmt, &result, &test->err);
    if (status == HS_OK) {
        struct ArrowArray rows;
        status = hs_sql_result_next(result, &rows, &test->err);
        hs_sql_result_free(result);
    }
    __atomic_store_n(&test->n_changed, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(status, HS_CANCELLED);
    hs_sql_stmt_free(stmt);
    assert_string_equal(sql_test_query(test, "SELECT 2"), "2");
}

/* Whether it would begin. */
static hs_status try_to(struct sql_test *test, const char *text)
{
    hs_sql_task_begin(test->conn);
    hs_sql_interrupt(test->conn);
    hs_status status = sql_test_run(test, text);
    hs_sql_task_end(test->conn);
    return status;
}

static void test_interruption_of_a_task_stays(void **state)
{
    struct sql_test *test = *state;
    hs_sql_result *result;
    sql_test_query(test, "CREATE TABLE t (n INT)");
    hs_sql_stmt *stmt = prepare(test, "INSERT INTO t VALUES (1)"), *rows;
    assert_int_equal(try_to(test, "INSERT INTO t VALUES (2)"), HS_CANCELLED);
    assert_int_equal(try_to(test, "INSERT INTO t VALUES (3); SELECT 1"), HS_CANCELLED);
    hs_sql_task_begin(test->conn);
    hs_sql_interrupt(test->conn);
    assert_int_equal(hs_sql_execute(stmt, &result, &test->err), HS_CANCELLED);
    assert_int_equal(hs_sql_begin(test->conn, &test->err), HS_CANCELLED);
    hs_sql_task_end(test->conn);
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "0");
    hs_sql_task_begin(test->conn); /* a result that is not read interrupts itself only */
    rows = prepare(test, "SELECT n FROM range(100000) t(n)");
    assert_int_equal(hs_sql_execute(rows, &result, NULL), HS_OK);
    hs_sql_result_free(result);
    hs_sql_stmt_free(rows);
    assert_string_equal(sql_test_query(test, "SELECT 5"), "5");
    hs_sql_task_end(test->conn);
    hs_sql_stmt_free(stmt);
}

static void test_interruption_of_a_transaction(void **state)
{
    struct sql_test *test = *state;
    sql_test_query(test, "CREATE TABLE t (n INT)");
    for (int i = 0; i < 2; i++) {
        hs_sql_task_begin(test->conn);
        assert_int_equal(hs_sql_begin(test->conn, NULL), HS_OK);
        sql_test_query(test, "INSERT INTO t VALUES (1)");
        hs_sql_interrupt(test->conn);
        assert_int_equal(i == 0 ? hs_sql_commit(test->conn, &test->err)
                                : hs_sql_rollback(test->conn, &test->err),
                         i == 0 ? HS_CANCELLED : HS_OK);
        assert_int_equal(hs_sql_rollback(test->conn, &test->err), HS_NOT_FOUND);
        hs_sql_task_end(test->conn);
        assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "0");
        sql_test_query(test, "BEGIN; ROLLBACK");
    }
}

/* ---- what stays on a connection ---- */

static void test_traces(void **state)
{
    (void)state;
    static const char *const leave[] = {
        "CREATE TEMP TABLE t (n INT)",
        "create or replace temporary view v as select 1",
        "SELECT 1; CREATE TABLE temp.t (n INT)",
        "CREATE TABLE \"temp\".main.t (n INT)",
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
        "/* x */ SET VARIABLE v = 1",
        "USE s",
        "BEGIN",
        "START TRANSACTION",
        "PREPARE p AS SELECT 1; SELECT 2",
    };
    static const char *const leave_nothing[] = {
        "SELECT n FROM t OFFSET 3",
        "SELECT 'CREATE TEMP TABLE t'",
        "UPDATE t SET n = 1",
        "CREATE TABLE template (n INT)",
        "INSERT INTO t SELECT 1 AS used; DELETE FROM t",
        "",
    };
    for (size_t i = 0; i < sizeof leave / sizeof leave[0]; i++) {
        assert_true(hs_sql_leaves_traces(leave[i]));
    }
    for (size_t i = 0; i < sizeof leave_nothing / sizeof leave_nothing[0]; i++) {
        assert_false(hs_sql_leaves_traces(leave_nothing[i]));
    }
}

/* ---- without memory ---- */

static void test_every_allocation_may_fail(void **state)
{
    struct sql_test *test = *state;
    struct ArrowSchema schema;
    struct ArrowArray rows;
    static const char values[] = "SELECT [1, 2] AS a, {'x': 'y'} AS b, MAP {'k': 1} AS c";
    static const char text[] = "SELECT 1; SELECT $1, $2, $3, 'x'";
    sql_test_take(test, values, &schema, &rows);
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status != HS_OK; n++) {
        hs_sql_stmt *stmt = NULL;
        hs_sql_result *result = NULL;
        struct ArrowSchema columns = {.release = NULL};
        hs_mem_fail_after(n);
        status = hs_sql_prepare(test->conn, text, strlen(text), &stmt, &test->err);
        status = status ? status : hs_sql_bind(stmt, &schema, &rows, 0, &test->err);
        status = status ? status : hs_sql_execute(stmt, &result, &test->err);
        status = status ? status : hs_sql_result_schema(result, &columns, &test->err);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        if (columns.release != NULL) {
            columns.release(&columns);
        }
        hs_sql_result_free(result);
        hs_sql_stmt_free(stmt);
    }
    rows.release(&rows);
    schema.release(&schema);
    assert_string_equal(sql_test_query(test, "SELECT 1"), "1");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, sql_test_open, sql_test_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_kinds_and_rows_changed),
        TEST(test_several_statements_give_the_last_ones_rows),
        TEST(test_errors_say_where),
        TEST(test_schemas_are_known_before_it_runs),
        TEST(test_rows_come_whole_and_outlive_everything),
        TEST(test_one_result_at_a_time),
        TEST(test_every_type_of_duckdb_gives_valid_arrow),
        TEST(test_transactions),
        TEST(test_interruption_ends_a_statement_and_no_later_one),
        TEST(test_interruption_of_a_task_stays),
        TEST(test_interruption_of_a_transaction),
        cmocka_unit_test(test_traces),
        TEST(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
