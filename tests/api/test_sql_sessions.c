/* Sessions of /api/v1/sql: whose they are, how many, when they end. */
#include "api_test.h"

#include <sched.h>

#include "base/clock.h"
#include "sql_sessions.h"

struct world {
    hs_sql *sql;
    hs_sql_sessions *sessions;
    struct hs_error err;
};

static int setup_with(void **state, int64_t idle_ms)
{
    struct world *world = calloc(1, sizeof *world);
    struct hs_sql_params params;
    hs_sql_params_defaults(&params);
    assert_int_equal(hs_sql_open(&params, &world->sql, NULL), HS_OK);
    assert_int_equal(hs_sql_sessions_new(2, idle_ms, &world->sessions, NULL), HS_OK);
    *state = world;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, 1000000);
}

static int setup_short(void **state)
{
    return setup_with(state, 20);
}

static int teardown(void **state)
{
    struct world *world = *state;
    hs_sql_sessions_free(world->sessions);
    hs_sql_close(world->sql);
    free(world);
    return 0;
}

static hs_status ask(struct world *world, const char *owner, const char *id, const char *text)
{
    hs_sql_session *session;
    hs_sql_conn *conn;
    hs_sql_stmt *stmt;
    hs_sql_result *result;
    hs_status status =
        hs_sql_session_enter(world->sessions, world->sql, owner, id, &session, &conn, &world->err);
    if (status) {
        return status;
    }
    status = hs_sql_prepare(conn, text, strlen(text), &stmt, &world->err);
    if (!status) {
        status = hs_sql_execute(stmt, &result, &world->err);
        struct ArrowArray some = {.release = NULL};
        status = status ? status : hs_sql_result_next(result, &some, &world->err);
        if (some.release != NULL) {
            some.release(&some);
        }
        hs_sql_result_free(status ? NULL : result);
        hs_sql_stmt_free(stmt);
    }
    hs_sql_session_leave(world->sessions, session);
    return status;
}

static void test_each_has_what_is_temporary(void **state)
{
    struct world *world = *state;
    char one[HS_SQL_SESSION_ID_SIZE], two[HS_SQL_SESSION_ID_SIZE];
    assert_int_equal(hs_sql_session_new(world->sessions, "a", "ann", one, NULL), HS_OK);
    assert_int_equal(hs_sql_session_new(world->sessions, "a", "ann", two, NULL), HS_OK);
    assert_string_not_equal(one, two);
    assert_int_equal(ask(world, "a", one, "CREATE TEMP TABLE t (n INT)"), HS_OK);
    assert_int_equal(ask(world, "a", one, "FROM t"), HS_OK);
    assert_int_equal(ask(world, "a", two, "FROM t"), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_sql_session_end(world->sessions, "a", one, NULL), HS_OK);
    assert_int_equal(ask(world, "a", one, "FROM t"), HS_NOT_FOUND);
    assert_int_equal(hs_sql_session_end(world->sessions, "a", one, NULL), HS_NOT_FOUND);
}

static void test_they_belong_to_an_owner_who_has_a_limit(void **state)
{
    struct world *world = *state;
    char id[HS_SQL_SESSION_ID_SIZE], none[HS_SQL_SESSION_ID_SIZE] = "x";
    int64_t ms;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hs_sql_session_new(world->sessions, "a", "ann", id, NULL), HS_OK);
    }
    assert_int_equal(hs_sql_session_new(world->sessions, "a", "ann", none, &world->err),
                     HS_QUEUE_FULL);
    assert_contains(world->err.hint, "--sql-sessions");
    assert_int_equal(hs_sql_session_new(world->sessions, "b", "bob", none, NULL), HS_OK);
    assert_int_equal(ask(world, "b", id, "SELECT 1"), HS_NOT_FOUND);
    assert_int_equal(hs_sql_session_idle_ms(world->sessions, "b", id, &ms, NULL), HS_NOT_FOUND);
    assert_int_equal(hs_sql_session_end(world->sessions, "b", id, NULL), HS_NOT_FOUND);
    assert_int_equal(ask(world, "a", id, "SELECT 1"), HS_OK);
    assert_int_equal(hs_sql_session_end(world->sessions, "a", id, NULL), HS_OK);
    assert_int_equal(hs_sql_session_new(world->sessions, "a", "ann", id, NULL), HS_OK);
}

static void test_one_statement_at_a_time(void **state)
{
    struct world *world = *state;
    char id[HS_SQL_SESSION_ID_SIZE];
    int64_t ms = -1;
    hs_sql_session *session;
    hs_sql_conn *conn;
    assert_int_equal(hs_sql_session_new(world->sessions, "", "", id, NULL), HS_OK);
    assert_int_equal(
        hs_sql_session_enter(world->sessions, world->sql, "", id, &session, &conn, NULL), HS_OK);
    assert_int_equal(ask(world, "", id, "SELECT 1"), HS_BUSY);
    assert_int_equal(hs_sql_session_idle_ms(world->sessions, "", id, &ms, NULL), HS_OK);
    assert_int_equal(ms, 0);
    /* ended meanwhile: nothing runs in it any more, and it goes with who is in it */
    assert_int_equal(hs_sql_session_end(world->sessions, "", id, NULL), HS_OK);
    hs_sql_stmt *stmt;
    assert_int_equal(hs_sql_prepare(conn, "SELECT 1", 8, &stmt, NULL), HS_CANCELLED);
    hs_sql_session_leave(world->sessions, session);
    assert_int_equal(ask(world, "", id, "SELECT 1"), HS_NOT_FOUND);
}

static void test_idle_ones_end(void **state)
{
    struct world *world = *state;
    char id[HS_SQL_SESSION_ID_SIZE];
    int64_t ms;
    double until = hs_clock_ms() + 60000;
    for (int i = 0; i < 3; i++) { /* one that never ran a statement, and two that did */
        assert_int_equal(hs_sql_session_new(world->sessions, "a", "ann", id, NULL), HS_OK);
        hs_status status = i > 0 ? ask(world, "a", id, "BEGIN") : HS_OK;
        assert_true(status == HS_OK || status == HS_NOT_FOUND); /* on a slow machine */
        while (hs_sql_session_idle_ms(world->sessions, "a", id, &ms, NULL) == HS_OK) {
            assert_true(hs_clock_ms() < until);
            sched_yield();
        }
    }
}

static void test_allocation_failures(void **state)
{
    struct world *world = *state;
    char id[HS_SQL_SESSION_ID_SIZE];
    hs_sql_sessions *sessions = NULL;
    hs_mem_fail_after(1);
    assert_int_equal(hs_sql_sessions_new(1, 1, &sessions, NULL), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(1);
    assert_int_equal(hs_sql_session_new(world->sessions, "", "", id, NULL), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(0);
    assert_int_equal(hs_sql_session_new(world->sessions, "", "", id, NULL), HS_OK);
    hs_mem_fail_after(1);
    assert_int_equal(ask(world, "", id, "SELECT 1"), HS_OUT_OF_MEMORY);
    hs_mem_fail_after(0);
    assert_int_equal(ask(world, "", id, "SELECT 1"), HS_OK);
    hs_sql_sessions_free(NULL);
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_has_what_is_temporary, setup),
        TEST(test_they_belong_to_an_owner_who_has_a_limit, setup),
        TEST(test_one_statement_at_a_time, setup),
        TEST(test_idle_ones_end, setup_short),
        TEST(test_allocation_failures, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
