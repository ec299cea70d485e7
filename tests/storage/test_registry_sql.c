/* Statements, their errors, and transactions that leave nothing behind. */
#include "registry_test.h"

#include "registry_internal.h"

static void values_are_bound_and_read(void **state)
{
    hs_registry *registry = open_registry(*state);
    sqlite3_stmt *statement = NULL;
    assert_int_equal(hs_registry_prepare(registry, "SELECT ?, ?, ?", &statement, NULL, "sis",
                                         "it's \"x\"", INT64_MIN, NULL),
                     HS_OK);
    bool has_row = false;
    assert_int_equal(hs_registry_step(registry, statement, &has_row, NULL), HS_OK);
    assert_true(has_row);
    char *text = NULL;
    assert_int_equal(hs_registry_column(registry, statement, 0, &text, NULL), HS_OK);
    assert_string_equal(text, "it's \"x\"");
    hs_free(text);
    assert_true(sqlite3_column_int64(statement, 1) == INT64_MIN);
    assert_int_equal(hs_registry_column(registry, statement, 2, &text, NULL), HS_OK);
    assert_string_equal(text, ""); /* NULL counts as "" */
    hs_free(text);
    assert_int_equal(hs_registry_step(registry, statement, &has_row, NULL), HS_OK);
    assert_false(has_row);
    hs_registry_finalizep(&statement);
    int64_t value = 0;
    assert_int_equal(hs_registry_query_int(registry, "SELECT 6 * 7", &value, NULL), HS_OK);
    assert_int_equal(value, 42);
    hs_registry_close(registry);
}

static void wrong_statements_are_our_fault(void **state)
{
    hs_registry *registry = open_registry(*state);
    sqlite3_stmt *statement = NULL;
    struct hs_error err = {0};
    assert_int_equal(hs_registry_prepare(registry, "SELEKT 1", &statement, &err, ""), HS_INTERNAL);
    assert_non_null(strstr(err.message, "SELEKT"));
    assert_null(statement);
    assert_int_equal(hs_registry_prepare(registry, "SELECT ?", &statement, &err, "ss", "a", "b"),
                     HS_IO); /* more values than places: SQLITE_RANGE */
    assert_null(statement);
    assert_int_equal(hs_registry_exec(registry, "INSERT INTO nothing VALUES (1)", &err),
                     HS_INTERNAL);
    int64_t value = 1;
    assert_int_not_equal(
        hs_registry_query_int(registry, "SELECT 1 FROM models WHERE 0", &value, &err), HS_OK);
    assert_int_equal(value, 1);
    hs_registry_close(registry);
}

/* SQLite's codes, the extended ones too, and what the user is told. */
static void errors_of_sqlite(void **state)
{
    static const struct {
        int rc;
        hs_status status;
    } CASES[] = {
        {SQLITE_BUSY, HS_BUSY},
        {SQLITE_BUSY_SNAPSHOT, HS_BUSY},
        {SQLITE_LOCKED, HS_BUSY},
        {SQLITE_NOMEM, HS_OUT_OF_MEMORY},
        {SQLITE_IOERR_NOMEM, HS_OUT_OF_MEMORY},
        {SQLITE_READONLY, HS_PERMISSION_DENIED},
        {SQLITE_PERM, HS_PERMISSION_DENIED},
        {SQLITE_CORRUPT, HS_CORRUPT},
        {SQLITE_CORRUPT_VTAB, HS_CORRUPT},
        {SQLITE_NOTADB, HS_CORRUPT},
        {SQLITE_CONSTRAINT, HS_INTERNAL},
        {SQLITE_MISUSE, HS_INTERNAL},
        {SQLITE_FULL, HS_IO},
        {SQLITE_IOERR, HS_IO},
    };
    hs_registry *registry = open_registry(*state);
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct hs_error err = {0};
        hs_status status = hs_registry_sql_error(registry, CASES[i].rc, "read", &err);
        if (status != CASES[i].status)
            fail_msg("code %d: %s", CASES[i].rc, hs_status_name(status));
        assert_int_equal(err.status, status);
        assert_true(err.message[0] != 0);
    }
    hs_registry_close(registry);
}

static hs_status insert_then_fail(hs_registry *registry, void *user, struct hs_error *err)
{
    ++*(int *)user;
    struct hs_registry_session row = {.name = (char *)"lost"};
    hs_status status = hs_registry_session_write(registry, &row, err);
    return status == HS_OK ? hs_error_set(err, HS_LIMIT, "on purpose") : status;
}

static void what_fails_is_rolled_back(void **state)
{
    hs_registry *registry = open_registry(*state);
    int n_calls = 0;
    struct hs_error err = {0};
    assert_int_equal(hs_registry_run(registry, true, insert_then_fail, &n_calls, &err), HS_LIMIT);
    assert_string_equal(err.message, "on purpose");
    assert_int_equal(n_calls, 1);
    assert_int_equal(count_sessions(registry), 0);
    assert_int_equal(put_session(registry, "kept", 1, NULL), HS_OK); /* no transaction was left */
    assert_int_equal(count_sessions(registry), 1);
    hs_registry_close(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_are_bound_and_read),
        TEST(wrong_statements_are_our_fault),
        TEST(errors_of_sqlite),
        TEST(what_fails_is_rolled_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
