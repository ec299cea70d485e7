/* The tables and the steps that lead to them. What happens with later versions is in
 * test_registry_migration.c. */
#include "registry_test.h"

#include "registry_internal.h"

static void test_steps_lead_to_the_version(void **state)
{
    (void)state;
    assert_int_equal(HS_REGISTRY_VERSION, 2);
    for (int i = 0; i < HS_REGISTRY_VERSION; i++)
        assert_non_null(HS_REGISTRY_STEPS[i]);
}

/* The steps alone make tables that the probes, and with them all columns by name, fit. */
static void test_the_steps_make_what_is_probed(void **state)
{
    (void)state;
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    for (int i = 0; i < HS_REGISTRY_VERSION; i++)
        assert_int_equal(sqlite3_exec(db, HS_REGISTRY_STEPS[i], NULL, NULL, NULL), SQLITE_OK);
    int n_probes = 0;
    for (; HS_REGISTRY_PROBES[n_probes] != NULL; n_probes++) {
        sqlite3_stmt *statement = NULL;
        if (sqlite3_prepare_v2(db, HS_REGISTRY_PROBES[n_probes], -1, &statement, NULL) != SQLITE_OK)
            fail_msg("%s: %s", HS_REGISTRY_PROBES[n_probes], sqlite3_errmsg(db));
        sqlite3_finalize(statement);
    }
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM sqlite_schema WHERE type='table'",
                                        -1, &statement, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(statement, 0), n_probes); /* each table has one */
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_lead_to_the_version),
        cmocka_unit_test(test_the_steps_make_what_is_probed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
