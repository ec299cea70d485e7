/*
 * Migrations, with a schema of two versions in place of the product's (this program defines the
 * three symbols of registry_schema.c, so that file is not linked): rows stay, several processes
 * migrate once, a step that fails or is killed leaves the old version.
 */
#include "registry_test.h"

#include "registry_internal.h"

#define STEP_1                                                                                     \
    "CREATE TABLE models (" HS_REGISTRY_MODEL_COLUMNS ", PRIMARY KEY (name));"                     \
    "CREATE TABLE sessions (" HS_REGISTRY_SESSION_COLUMNS ", PRIMARY KEY (name));"

const char *const HS_REGISTRY_STEPS[] = {
    STEP_1,
    "CREATE TABLE adapters (name TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL) STRICT;"
    "INSERT INTO adapters SELECT name, n_messages + 1 FROM sessions;",
};
const int HS_REGISTRY_VERSION = 2;
const char *const HS_REGISTRY_PROBES[] = {
    "SELECT " HS_REGISTRY_MODEL_COLUMNS " FROM models",
    "SELECT " HS_REGISTRY_SESSION_COLUMNS " FROM sessions",
    "SELECT name, n FROM adapters",
    NULL,
};

/* A registry as version 1 left it, with three sessions. */
static void make_version_1(const char *folder)
{
    char sql[2048];
    snprintf(sql, sizeof sql,
             "PRAGMA journal_mode = WAL; BEGIN; %s PRAGMA application_id = %d; "
             "PRAGMA user_version = 1; "
             "INSERT INTO sessions VALUES ('a', 'm', 'f', 10, 0, 0, 0), ('b', 'm', 'f', 20, 0, 0, "
             "0), ('c', 'm', 'f', 30, 0, 0, 0); COMMIT",
             STEP_1, HS_REGISTRY_APPLICATION_ID);
    run_sql(folder, sql);
}

static void remove_registry(const char *folder)
{
    char command[4096];
    snprintf(command, sizeof command, "rm -f '%s'/registry.*", folder);
    assert_int_equal(system(command), 0);
}

static void assert_version_2(const char *folder)
{
    assert_sql(folder, "PRAGMA user_version", "2");
    assert_sql(folder, "PRAGMA integrity_check", "ok");
    assert_sql(folder, "SELECT group_concat(name || n) FROM (SELECT * FROM adapters ORDER BY name)",
               "a11,b21,c31");
    assert_sql(folder, "SELECT count(*) FROM sessions WHERE name IN ('a', 'b', 'c')", "3");
    assert_int_equal(count_set_aside(folder, ""), 0);
}

static void test_new_ones_take_all_steps(void **state)
{
    hs_registry *registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 0);
    hs_registry_close(registry);
    assert_sql(*state, "PRAGMA user_version", "2");
    assert_sql(*state, "SELECT count(*) FROM adapters", "0");
}

static void test_rows_stay(void **state)
{
    make_version_1(*state);
    hs_registry *registry = open_registry(*state);
    assert_int_equal(count_sessions(registry), 3);
    assert_int_equal(put_session(registry, "d", 1, NULL), HS_OK);
    hs_registry_close(registry);
    hs_registry_close(open_registry(*state)); /* the second time nothing happens */
    assert_version_2(*state);
}

static int open_and_put(void *user)
{
    hs_registry *registry = NULL;
    char name[32];
    snprintf(name, sizeof name, "p%ld", (long)getpid());
    if (try_registry(user, &registry, NULL) != HS_OK)
        return 1;
    if (put_session(registry, name, 1, NULL) != HS_OK)
        return 2;
    hs_registry_close(registry);
    return 0;
}

static void test_several_processes_migrate_once(void **state)
{
    for (int round = 0; round < 10; round++) {
        pid_t pids[4];
        remove_registry(*state);
        make_version_1(*state);
        for (size_t i = 0; i < COUNT_OF(pids); i++)
            pids[i] = child_start(open_and_put, *state);
        for (size_t i = 0; i < COUNT_OF(pids); i++)
            child_expect_success(pids[i]);
        assert_version_2(*state);
        assert_sql(*state, "SELECT count(*) FROM sessions", "7");
    }
}

static void test_a_step_that_fails_changes_nothing(void **state)
{
    hs_registry *registry = NULL;
    struct hs_error err = {0};
    make_version_1(*state);
    run_sql(*state, "CREATE TABLE adapters (something TEXT)");
    assert_int_equal(try_registry(*state, &registry, &err), HS_INTERNAL);
    assert_true(err.message[0] != 0);
    assert_sql(*state, "PRAGMA user_version", "1");
    assert_sql(*state, "SELECT count(*) FROM sessions", "3");
    assert_int_equal(count_set_aside(*state, ""), 0);
    run_sql(*state, "DROP TABLE adapters");
    hs_registry_close(open_registry(*state));
    assert_version_2(*state);
}

static int open_and_wait(void *user)
{
    hs_registry *registry = NULL;
    if (try_registry(user, &registry, NULL) != HS_OK)
        return 1;
    for (;;)
        pause();
}

static void test_killed_while_it_migrates(void **state)
{
    uint64_t seed = 4;
    int n_rounds = kill_rounds(60), n_old = 0;
    for (int i = 0; i < n_rounds; i++) {
        remove_registry(*state);
        make_version_1(*state);
        pid_t pid = child_start(open_and_wait, *state);
        usleep(next_random(&seed) % 12000);
        child_kill(pid);
        char *version = query_sql(*state, "PRAGMA user_version");
        n_old += version[0] == '1';
        free(version);
        hs_registry_close(open_registry(*state));
        assert_version_2(*state);
    }
    print_message("%d kills, %d before the migration was made\n", n_rounds, n_old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new_ones_take_all_steps),        TEST(test_rows_stay),
        TEST(test_several_processes_migrate_once), TEST(test_a_step_that_fails_changes_nothing),
        TEST(test_killed_while_it_migrates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
