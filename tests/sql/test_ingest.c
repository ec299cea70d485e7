/* Rows of Arrow into tables: every mode, all or nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <cmocka.h>
#include <nanoarrow/nanoarrow.h>

#include "sql_test.h"

/* The rows of a query into a table, n_times. */
static hs_status ingest(struct sql_test *test, const char *query,
                        const struct hs_sql_target *target, int n_times, int64_t *ret_n)
{
    struct ArrowSchema schema;
    struct ArrowArray rows;
    hs_sql_ingest *ingest;
    sql_test_take(test, query, &schema, &rows);
    rows.release(&rows);
    hs_status status = hs_sql_ingest_begin(test->conn, target, &schema, &ingest, &test->err);
    schema.release(&schema);
    for (int i = 0; i < n_times && !status; i++) {
        hs_sql_conn *other; /* this one is busy */
        struct sql_test reader = *test;
        assert_int_equal(hs_sql_connect(test->sql, NULL, &other, NULL), HS_OK);
        reader.conn = other;
        sql_test_take(&reader, query, &schema, &rows);
        schema.release(&schema);
        hs_sql_disconnect(other);
        status = hs_sql_ingest_add(ingest, &rows, &test->err);
        assert_null(rows.release);
        if (status) {
            hs_sql_ingest_abort(ingest);
        }
    }
    return status ? status : hs_sql_ingest_end(ingest, ret_n, &test->err);
}

static const char two_rows[] = "SELECT n::INT AS n, 's' || n AS s FROM range(2) t(n)";

static void test_modes(void **state)
{
    struct sql_test *test = *state;
    struct hs_sql_target target = {.table = "t\"t", .if_missing = HS_SQL_MISSING_FAIL};
    int64_t n;
    assert_int_equal(ingest(test, two_rows, &target, 1, &n), HS_NOT_FOUND);
    target.if_missing = HS_SQL_MISSING_CREATE;
    assert_int_equal(ingest(test, two_rows, &target, 1, &n), HS_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ingest(test, two_rows, &target, 1, &n), HS_ALREADY_EXISTS);
    target.if_exists = HS_SQL_EXISTS_APPEND;
    assert_int_equal(ingest(test, two_rows, &target, 2, &n), HS_OK);
    assert_int_equal(n, 4);
    assert_string_equal(
        sql_test_query(test, "SELECT count(*), sum(n)::BIGINT, max(s) FROM \"t\"\"t\""), "6|3|s1");
    target.if_exists = HS_SQL_EXISTS_REPLACE;
    assert_int_equal(ingest(test, "SELECT 1.5::DECIMAL(3, 1) AS d", &target, 1, &n), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT d::TEXT FROM \"t\"\"t\""), "1.5");
    assert_int_equal(ingest(test, two_rows, &target, 0, &n), HS_OK);
    assert_int_equal(n, 0);
    assert_string_equal(sql_test_query(test, "SELECT count(n) FROM \"t\"\"t\""), "0");
}

static void test_columns_go_by_name(void **state)
{
    struct sql_test *test = *state;
    struct hs_sql_target target = {
        .table = "t", .schema = "main", .if_exists = HS_SQL_EXISTS_APPEND};
    int64_t n;
    sql_test_query(test, "CREATE TABLE t (s TEXT, n BIGINT, d INT DEFAULT 7)");
    assert_int_equal(ingest(test, two_rows, &target, 1, &n), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT n, s, d FROM t ORDER BY n"), "0|s0|7;1|s1|7");
    assert_int_equal(ingest(test, "SELECT 1 AS n, 2 AS other", &target, 1, &n), HS_MISMATCH);
    assert_non_null(strstr(test->err.message, "other"));
    assert_int_not_equal(ingest(test, "SELECT 'x' AS n", &target, 1, &n), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "2");
}

static void test_it_is_all_or_nothing(void **state)
{
    struct sql_test *test = *state;
    struct hs_sql_target target = {.table = "t", .if_exists = HS_SQL_EXISTS_APPEND};
    struct ArrowSchema schema;
    struct ArrowArray rows;
    hs_sql_ingest *begun;
    hs_sql_stmt *stmt;
    int64_t n;
    sql_test_take(test, two_rows, &schema, &rows);
    assert_int_equal(hs_sql_ingest_begin(test->conn, &target, &schema, &begun, NULL), HS_OK);
    assert_int_equal(hs_sql_prepare(test->conn, "SELECT 1", 8, &stmt, NULL), HS_BUSY);
    assert_int_equal(hs_sql_ingest_add(begun, &rows, NULL), HS_OK);
    hs_sql_ingest_abort(begun);
    schema.release(&schema);
    sql_test_fails(test, "SELECT * FROM t", HS_INVALID_ARGUMENT, "t");
    hs_sql_ingest_abort(NULL);

    sql_test_query(test,
                   "CREATE TABLE t (n INT PRIMARY KEY, s TEXT); INSERT INTO t VALUES (1, '')");
    assert_int_not_equal(ingest(test, two_rows, &target, 1, &n), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "1");

    assert_int_equal(hs_sql_begin(test->conn, NULL), HS_OK); /* the caller's decides */
    assert_int_equal(ingest(test, "SELECT 5::INT AS n", &target, 1, &n), HS_OK);
    assert_int_equal(hs_sql_rollback(test->conn, NULL), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "1");
}

static void test_temporary_tables_are_of_one_connection(void **state)
{
    struct sql_test *test = *state;
    struct hs_sql_target target = {.table = "t", .is_temporary = true};
    int64_t n;
    assert_int_equal(ingest(test, two_rows, &target, 1, &n), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM temp.t"), "2");
    hs_sql_conn *mine = test->conn;
    assert_int_equal(hs_sql_connect(test->sql, NULL, &test->conn, NULL), HS_OK);
    sql_test_fails(test, "SELECT * FROM t", HS_INVALID_ARGUMENT, "t");
    hs_sql_disconnect(test->conn);
    test->conn = mine;
}

static void test_every_type_and_long_batches(void **state)
{
    struct sql_test *test = *state;
    struct hs_sql_target target = {.table = "t"};
    int64_t n;
    assert_int_equal(
        ingest(test,
               "SELECT * EXCLUDE (bignum, time_tz, bit, \"union\", geometry) FROM test_all_types()",
               &target, 1, &n),
        HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT count(*) FROM t"), "3");

    /* more rows in one array than DuckDB has in one vector, with an offset */
    struct ArrowSchema schema;
    struct ArrowArray rows;
    hs_sql_ingest *begun;
    ArrowSchemaInit(&schema);
    assert_int_equal(ArrowSchemaSetTypeStruct(&schema, 1), NANOARROW_OK);
    assert_int_equal(ArrowSchemaSetType(schema.children[0], NANOARROW_TYPE_INT64), NANOARROW_OK);
    assert_int_equal(ArrowSchemaSetName(schema.children[0], "n"), NANOARROW_OK);
    assert_int_equal(ArrowArrayInitFromSchema(&rows, &schema, NULL), NANOARROW_OK);
    assert_int_equal(ArrowArrayStartAppending(&rows), NANOARROW_OK);
    for (int64_t i = 0; i < 10000; i++) {
        assert_int_equal(ArrowArrayAppendInt(rows.children[0], i), NANOARROW_OK);
        assert_int_equal(ArrowArrayFinishElement(&rows), NANOARROW_OK);
    }
    assert_int_equal(ArrowArrayFinishBuildingDefault(&rows, NULL), NANOARROW_OK);
    target.table = "long";
    assert_int_equal(hs_sql_ingest_begin(test->conn, &target, &schema, &begun, NULL), HS_OK);
    assert_int_equal(hs_sql_ingest_add(begun, &rows, NULL), HS_OK);
    assert_int_equal(hs_sql_ingest_end(begun, &n, NULL), HS_OK);
    assert_int_equal(n, 10000);
    schema.release(&schema);
    assert_string_equal(sql_test_query(test, "SELECT count(*), sum(n)::BIGINT FROM long"),
                        "10000|49995000");
}

static void test_what_is_no_table(void **state)
{
    struct sql_test *test = *state;
    struct hs_sql_target target = {.table = ""};
    int64_t n;
    assert_int_equal(ingest(test, two_rows, &target, 1, &n), HS_INVALID_ARGUMENT);
    target = (struct hs_sql_target){.table = "t", .schema = "nowhere"};
    assert_int_equal(ingest(test, two_rows, &target, 1, &n), HS_INVALID_ARGUMENT);
    target = (struct hs_sql_target){.table = "t", .catalog = "system"};
    assert_int_not_equal(ingest(test, two_rows, &target, 1, &n), HS_OK);
    assert_string_equal(sql_test_query(test, "SELECT 1"), "1");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, sql_test_open, sql_test_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_modes),
        TEST(test_columns_go_by_name),
        TEST(test_it_is_all_or_nothing),
        TEST(test_temporary_tables_are_of_one_connection),
        TEST(test_every_type_and_long_batches),
        TEST(test_what_is_no_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
