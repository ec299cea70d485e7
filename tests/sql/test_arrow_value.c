/* Binding: a row of every type that Arrow has, and what cannot be bound. Arrow is made by DuckDB
 * itself, so that a value comes back as it went. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <cmocka.h>
#include <nanoarrow/nanoarrow.h>

#include "sql_test.h"

static hs_status bind(struct sql_test *test, const char *text, const struct ArrowSchema *schema,
                      const struct ArrowArray *rows, int64_t row)
{
    hs_sql_stmt *stmt;
    hs_sql_result *result;
    struct ArrowArray found;
    assert_int_equal(hs_sql_prepare(test->conn, text, strlen(text), &stmt, &test->err), HS_OK);
    hs_status status = hs_sql_bind(stmt, schema, rows, row, &test->err);
    status = status ? status : hs_sql_execute(stmt, &result, &test->err);
    if (!status) {
        assert_int_equal(hs_sql_result_next(result, &found, &test->err), HS_OK);
        assert_non_null(found.release);
        const int32_t *offsets = found.children[0]->buffers[1];
        const uint8_t *valid = found.children[0]->buffers[0];
        snprintf(test->text, sizeof test->text, "%.*s",
                 valid && !(valid[0] & 1) ? 4 : (int)(offsets[1] - offsets[0]),
                 valid && !(valid[0] & 1) ? "NULL" : (const char *)found.children[0]->buffers[2]);
        found.release(&found);
        hs_sql_result_free(result);
    }
    hs_sql_stmt_free(stmt);
    return status;
}

static void test_every_type_comes_back_as_it_went(void **state)
{
    struct sql_test *test = *state;
    static const char *const values[] = {
        "true",
        "(-7)::TINYINT",
        "(-300)::SMALLINT",
        "(-70000)::INT",
        "(-5000000000)::BIGINT",
        "200::UTINYINT",
        "60000::USMALLINT",
        "4000000000::UINTEGER",
        "18000000000000000000::UBIGINT",
        "170141183460469231731687303715884105727::HUGEINT",
        "1.5::FLOAT",
        "(-2.25)::DOUBLE",
        "123.45::DECIMAL(5, 2)",
        "(-1.2)::DECIMAL(30, 1)",
        "(-0.5)::DECIMAL(18, 3)",
        "DATE '1969-12-31'",
        "TIME '23:59:59.123456'",
        "TIMESTAMP '2001-02-03 04:05:06.789'",
        "TIMESTAMP_S '2001-02-03 04:05:06'",
        "TIMESTAMP_MS '2001-02-03 04:05:06.7'",
        "TIMESTAMP_NS '2001-02-03 04:05:06.123456789'",
        "TIMESTAMPTZ '2001-02-03 04:05:06+00'",
        "INTERVAL '14 months 3 days 4.5 seconds'",
        "'text \xC3\xA9'",
        "''",
        "'\\x00\\xFF'::BLOB",
        "NULL::INT",
        "[1, NULL, 3]",
        "[]::INT[]",
        "[['a'], []]",
        "[1, 2]::INT[2]",
        "{'a': 1, 'b': [2, 3], 'c': NULL}",
        "MAP {'a': 1, 'b': 2}",
        "'x'::ENUM ('y', 'x')",
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[512];
        struct ArrowSchema schema;
        struct ArrowArray rows;
        snprintf(text, sizeof text, "SELECT %s AS v FROM range(2)", values[i]);
        sql_test_take(test, text, &schema, &rows);
        snprintf(text, sizeof text, "SELECT COALESCE((%s)::TEXT, 'NULL')", values[i]);
        char wanted[256];
        snprintf(wanted, sizeof wanted, "%s", sql_test_query(test, text));
        for (int64_t row = 0; row < 2; row++) {
            if (bind(test, "SELECT COALESCE($1::TEXT, 'NULL')", &schema, &rows, row) != HS_OK) {
                fail_msg("%s: %s", values[i], test->err.message);
            }
            assert_string_equal(test->text, wanted);
        }
        rows.release(&rows);
        schema.release(&schema);
    }
}

static void test_names_find_their_parameters(void **state)
{
    struct sql_test *test = *state;
    struct ArrowSchema schema;
    struct ArrowArray rows;
    sql_test_take(test, "SELECT 'x' AS b, 'y' AS a", &schema, &rows);
    assert_int_equal(bind(test, "SELECT $a || $b", &schema, &rows, 0), HS_OK);
    assert_string_equal(test->text, "yx");
    assert_int_equal(bind(test, "SELECT $1 || $2", &schema, &rows, 0), HS_OK);
    assert_string_equal(test->text, "xy");
    assert_int_equal(bind(test, "SELECT $1", &schema, &rows, 0), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(test->err.message, "1 parameters, but 2"));
    assert_int_equal(bind(test, "SELECT $1 || $2", &schema, &rows, 1), HS_INVALID_ARGUMENT);
    assert_int_equal(bind(test, "SELECT $1 || $2", &schema, &rows, -1), HS_INVALID_ARGUMENT);
    rows.release(&rows);
    schema.release(&schema);
}

/* One column of one value in a type of Arrow that DuckDB does not write. */
static void make_other(enum ArrowType type, int32_t size, struct ArrowSchema *ret_schema,
                       struct ArrowArray *ret_rows)
{
    ArrowSchemaInit(ret_schema);
    assert_int_equal(ArrowSchemaSetTypeStruct(ret_schema, 1), NANOARROW_OK);
    int status;
    if (type == NANOARROW_TYPE_TIME32 || type == NANOARROW_TYPE_DURATION) {
        status = ArrowSchemaSetTypeDateTime(ret_schema->children[0], type,
                                            NANOARROW_TIME_UNIT_SECOND, NULL);
    } else if (type == NANOARROW_TYPE_DECIMAL256) {
        status = ArrowSchemaSetTypeDecimal(ret_schema->children[0], type, size, 0);
    } else {
        status = ArrowSchemaSetType(ret_schema->children[0], type);
    }
    assert_int_equal(status, NANOARROW_OK);
    assert_int_equal(ArrowArrayInitFromSchema(ret_rows, ret_schema, NULL), NANOARROW_OK);
    assert_int_equal(ArrowArrayStartAppending(ret_rows), NANOARROW_OK);
    struct ArrowArray *cell = ret_rows->children[0];
    if (type == NANOARROW_TYPE_DECIMAL256) {
        struct ArrowDecimal number;
        ArrowDecimalInit(&number, 256, size, 0);
        ArrowDecimalSetInt(&number, 5);
        status = ArrowArrayAppendDecimal(cell, &number);
    } else if (type == NANOARROW_TYPE_LARGE_STRING) {
        status = ArrowArrayAppendString(cell, ArrowCharView("large"));
    } else {
        status = ArrowArrayAppendInt(cell, 90);
    }
    assert_int_equal(status, NANOARROW_OK);
    assert_int_equal(ArrowArrayFinishElement(ret_rows), NANOARROW_OK);
    assert_int_equal(ArrowArrayFinishBuildingDefault(ret_rows, NULL), NANOARROW_OK);
}

static void test_types_that_duckdb_does_not_write(void **state)
{
    struct sql_test *test = *state;
    static const struct {
        enum ArrowType type;
        int32_t size;
        hs_status status;
        const char *text;
    } cases[] = {
        {NANOARROW_TYPE_TIME32, 0, HS_OK, "00:01:30"},
        {NANOARROW_TYPE_DURATION, 0, HS_OK, "00:01:30"},
        {NANOARROW_TYPE_HALF_FLOAT, 0, HS_OK, "90.0"},
        {NANOARROW_TYPE_LARGE_STRING, 0, HS_OK, "large"},
        {NANOARROW_TYPE_DECIMAL256, 40, HS_NOT_SUPPORTED, "38 digits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ArrowSchema schema;
        struct ArrowArray rows;
        make_other(cases[i].type, cases[i].size, &schema, &rows);
        hs_status status = bind(test, "SELECT $1::TEXT", &schema, &rows, 0);
        if (status != cases[i].status) {
            fail_msg("case %zu: %s", i, test->err.message);
        }
        assert_non_null(strstr(status ? test->err.message : test->text, cases[i].text));
        rows.release(&rows);
        schema.release(&schema);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, sql_test_open, sql_test_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_type_comes_back_as_it_went),
        TEST(test_names_find_their_parameters),
        TEST(test_types_that_duckdb_does_not_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
