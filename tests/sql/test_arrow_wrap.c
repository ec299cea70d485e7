/* Chunks as arrays without copies: the same rows as DuckDB's own conversion gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sql_test.h"
#include <nanoarrow/nanoarrow.h>

/* Every type that is not converted by DuckDB; rows with and without NULL, short and long texts. */
#define N_COLUMNS 20
static const char columns[] =
    "i::TINYINT, i::SMALLINT, i::INTEGER, i::BIGINT, i::UTINYINT, i::USMALLINT, i::UINTEGER, "
    "i::UBIGINT, (i / 3)::FLOAT, i / 7, DATE '1970-01-01' + i::INTEGER, "
    "TIME '00:00:00' + to_seconds(i), TIMESTAMP '2020-01-01' + to_seconds(i), "
    "(TIMESTAMP '2020-01-01' + to_seconds(i))::TIMESTAMP_S, "
    "(TIMESTAMP '2020-01-01' + to_seconds(i))::TIMESTAMP_MS, "
    "(TIMESTAMP '2020-01-01' + to_seconds(i))::TIMESTAMP_NS, "
    "to_timestamp(i), "
    "repeat('x', i::INTEGER % 30) || i, (repeat('y', i::INTEGER % 14))::BLOB, i % 3 = 1";

struct rows {
    struct ArrowSchema schema;
    struct ArrowArray array;
    struct ArrowArrayView view;
};

static void rows_take(struct sql_test *test, const char *more, const char *from, struct rows *rows)
{
    char text[2048];
    struct ArrowError why;
    snprintf(text, sizeof text, "SELECT %s%s FROM %s", columns, more, from);
    sql_test_take(test, text, &rows->schema, &rows->array);
    assert_int_equal(ArrowArrayViewInitFromSchema(&rows->view, &rows->schema, &why), NANOARROW_OK);
    assert_int_equal(ArrowArrayViewSetArray(&rows->view, &rows->array, &why), NANOARROW_OK);
    assert_int_equal(ArrowArrayViewValidate(&rows->view, NANOARROW_VALIDATION_LEVEL_FULL, &why),
                     NANOARROW_OK);
}

static void rows_free(struct rows *rows)
{
    ArrowArrayViewReset(&rows->view);
    rows->array.release(&rows->array);
    rows->schema.release(&rows->schema);
}

static void assert_same_cell(const struct ArrowArrayView *a, const struct ArrowArrayView *b,
                             int64_t row)
{
    struct ArrowBufferView x, y;
    assert_int_equal(ArrowArrayViewIsNull(a, row), ArrowArrayViewIsNull(b, row));
    if (ArrowArrayViewIsNull(b, row)) {
        return;
    }
    switch (b->storage_type) {
    case NANOARROW_TYPE_STRING:
    case NANOARROW_TYPE_BINARY:
        x = ArrowArrayViewGetBytesUnsafe(a, row);
        y = ArrowArrayViewGetBytesUnsafe(b, row);
        assert_int_equal(x.size_bytes, y.size_bytes);
        assert_memory_equal(x.data.data, y.data.data, (size_t)x.size_bytes);
        break;
    case NANOARROW_TYPE_FLOAT:
    case NANOARROW_TYPE_DOUBLE:
        assert_true(ArrowArrayViewGetDoubleUnsafe(a, row) == ArrowArrayViewGetDoubleUnsafe(b, row));
        break;
    default:
        assert_int_equal(ArrowArrayViewGetIntUnsafe(a, row), ArrowArrayViewGetIntUnsafe(b, row));
    }
}

/* A list among the columns has DuckDB convert all of them. */
static void test_rows_are_those_of_duckdbs_conversion(void **state)
{
    static const char *const sources[] = {
        "range(120) t(i)",
        "range(1) t(i)",
        "(SELECT CASE WHEN i % 5 < 2 THEN NULL ELSE i END AS i FROM range(120) t(i))",
        "(SELECT NULL::BIGINT AS i FROM range(9))",
    };
    for (size_t k = 0; k < sizeof sources / sizeof *sources; k++) {
        struct rows ours, theirs;
        rows_take(*state, "", sources[k], &ours);
        rows_take(*state, ", [1]", sources[k], &theirs);
        assert_int_equal(ours.view.n_children, N_COLUMNS);
        assert_int_equal(theirs.view.n_children, N_COLUMNS + 1);
        assert_int_equal(ours.array.length, theirs.array.length);
        for (int64_t i = 0; i < N_COLUMNS * ours.array.length; i++) {
            assert_same_cell(ours.view.children[i % N_COLUMNS], theirs.view.children[i % N_COLUMNS],
                             i / N_COLUMNS);
        }
        rows_free(&ours);
        rows_free(&theirs);
    }
}

/* A column may be moved out of its array, and outlive it and its database. */
static void test_a_column_outlives_the_rest(void **state)
{
    struct ArrowSchema schema;
    struct ArrowArray array, column;
    sql_test_take(*state, "SELECT 7 AS n, 'a text that is not kept inline' AS t", &schema, &array);
    column = *array.children[1];
    array.children[1]->release = NULL;
    array.release(&array);
    assert_null(array.release);
    const int32_t *offsets = column.buffers[1];
    assert_int_equal(column.length, 1);
    assert_int_equal(offsets[1] - offsets[0], 30);
    assert_memory_equal(column.buffers[2], "a text that is not kept inline", 30);
    column.release(&column);
    schema.release(&schema);
}

static void test_every_allocation_may_fail(void **state)
{
    struct sql_test *test = *state;
    static const char text[] = "SELECT 1, 'text', true";
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t n = 1; status != HS_OK; n++) {
        hs_sql_stmt *stmt;
        hs_sql_result *result;
        struct ArrowArray rows;
        assert_int_equal(hs_sql_prepare(test->conn, text, strlen(text), &stmt, &test->err), HS_OK);
        assert_int_equal(hs_sql_execute(stmt, &result, &test->err), HS_OK);
        hs_mem_fail_after(n);
        status = hs_sql_result_next(result, &rows, &test->err);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        assert_int_equal(rows.release != NULL, status == HS_OK);
        if (rows.release != NULL) {
            rows.release(&rows);
        }
        hs_sql_result_free(result);
        hs_sql_stmt_free(stmt);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, sql_test_open, sql_test_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rows_are_those_of_duckdbs_conversion),
        TEST(test_a_column_outlives_the_rest),
        TEST(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
