#include "sql_test.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>
#include <nanoarrow/nanoarrow.h>

#include "base/fs.h"

int sql_test_open(void **state)
{
    struct sql_test *test = calloc(1, sizeof *test);
    assert_non_null(test);
    snprintf(test->folder, sizeof test->folder, "%s/sql-XXXXXX", HS_TEST_TMP);
    assert_non_null(mkdtemp(test->folder));
    const char *dirs[] = {test->folder};
    struct hs_sql_params params;
    hs_sql_params_defaults(&params);
    params.allowed_dirs = dirs;
    params.n_allowed_dirs = 1;
    params.memory_bytes = 200 << 20;
    params.n_threads = 2;
    if (hs_sql_open(&params, &test->sql, &test->err) != HS_OK) {
        fail_msg("%s", test->err.message);
    }
    assert_int_equal(hs_sql_connect(test->sql, "ann", &test->conn, NULL), HS_OK);
    *state = test;
    return 0;
}

int sql_test_close(void **state)
{
    struct sql_test *test = *state;
    hs_sql_disconnect(test->conn);
    hs_sql_close(test->sql);
    assert_int_equal(hs_fs_remove_all(test->folder, NULL), HS_OK);
    free(test);
    return 0;
}

static void add(struct sql_test *test, const char *format, ...)
{
    size_t len = strlen(test->text);
    va_list args;
    va_start(args, format);
    vsnprintf(test->text + len, sizeof test->text - len, format, args);
    va_end(args);
}

static void add_cell(struct sql_test *test, const struct ArrowArrayView *cell, int64_t row)
{
    if (ArrowArrayViewIsNull(cell, row)) {
        add(test, "NULL");
    } else if (cell->storage_type == NANOARROW_TYPE_STRING) {
        struct ArrowStringView text = ArrowArrayViewGetStringUnsafe(cell, row);
        add(test, "%.*s", (int)text.size_bytes, text.data);
    } else if (cell->storage_type == NANOARROW_TYPE_DOUBLE) {
        add(test, "%g", ArrowArrayViewGetDoubleUnsafe(cell, row));
    } else {
        add(test, "%lld", (long long)ArrowArrayViewGetIntUnsafe(cell, row));
    }
}

static void add_rows(struct sql_test *test, const struct ArrowSchema *schema,
                     const struct ArrowArray *rows)
{
    struct ArrowArrayView view;
    struct ArrowError why;
    assert_int_equal(ArrowArrayViewInitFromSchema(&view, schema, &why), NANOARROW_OK);
    if (ArrowArrayViewSetArray(&view, rows, &why) != NANOARROW_OK) {
        fail_msg("%s", why.message);
    }
    assert_int_equal(ArrowArrayViewValidate(&view, NANOARROW_VALIDATION_LEVEL_FULL, &why),
                     NANOARROW_OK);
    for (int64_t row = 0; row < rows->length; row++) {
        add(test, "%s", *test->text ? ";" : "");
        for (int64_t i = 0; i < rows->n_children; i++) {
            add(test, "%s", i > 0 ? "|" : "");
            add_cell(test, view.children[i], row);
        }
    }
    ArrowArrayViewReset(&view);
}

static hs_status read_rows(struct sql_test *test, hs_sql_result *result)
{
    struct ArrowSchema schema;
    assert_int_equal(hs_sql_result_schema(result, &schema, NULL), HS_OK);
    hs_status status = HS_OK;
    for (bool is_end = false; !is_end;) {
        struct ArrowArray rows;
        status = hs_sql_result_next(result, &rows, &test->err);
        is_end = status || rows.release == NULL;
        if (!is_end) {
            add_rows(test, &schema, &rows);
            rows.release(&rows);
        }
    }
    schema.release(&schema);
    return status;
}

hs_status sql_test_run(struct sql_test *test, const char *text)
{
    hs_sql_stmt *stmt;
    hs_sql_result *result;
    test->text[0] = '\0';
    hs_status status = hs_sql_prepare(test->conn, text, strlen(text), &stmt, &test->err);
    if (status) {
        return status;
    }
    status = hs_sql_execute(stmt, &result, &test->err);
    if (!status) {
        status = read_rows(test, result);
        test->n_changed = hs_sql_result_n_changed(result);
        hs_sql_result_free(result);
    }
    hs_sql_stmt_free(stmt);
    return status;
}

const char *sql_test_query(struct sql_test *test, const char *text)
{
    if (sql_test_run(test, text) != HS_OK) {
        fail_msg("%s: %s", text, test->err.message);
    }
    return test->text;
}

void sql_test_fails(struct sql_test *test, const char *text, hs_status status, const char *part)
{
    hs_status got = sql_test_run(test, text);
    if (got != status || strstr(test->err.message, part) == NULL) {
        fail_msg("%s: %s, '%s'; wanted %s, '%s'", text, hs_status_name(got),
                 got ? test->err.message : test->text, hs_status_name(status), part);
    }
}

void sql_test_take(struct sql_test *test, const char *text, struct ArrowSchema *ret_schema,
                   struct ArrowArray *ret_rows)
{
    hs_sql_stmt *stmt;
    hs_sql_result *result;
    if (hs_sql_prepare(test->conn, text, strlen(text), &stmt, &test->err) != HS_OK) {
        fail_msg("%s: %s", text, test->err.message);
    }
    assert_int_equal(hs_sql_execute(stmt, &result, NULL), HS_OK);
    assert_int_equal(hs_sql_result_schema(result, ret_schema, NULL), HS_OK);
    assert_int_equal(hs_sql_result_next(result, ret_rows, NULL), HS_OK);
    assert_non_null(ret_rows->release);
    hs_sql_result_free(result);
    hs_sql_stmt_free(stmt);
}
