/* Calls that end at the worst moment, and callers who try what is not theirs. */
#include "call_test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "message.h"

#define CANCELLED FL__CANCEL_STATUS__CANCEL_STATUS_CANCELLED
#define NOT_CANCELLABLE FL__CANCEL_STATUS__CANCEL_STATUS_NOT_CANCELLABLE

static struct flight_call one, two;

static int setup(void **state)
{
    (void)state;
    memset(&one, 0, sizeof one);
    memset(&two, 0, sizeof two);
    one.grpc.connection = two.grpc.connection = 1;
    flight_open(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    flight_close();
    return 0;
}

static void assert_ok(enum hs_grpc_code code, const struct flight_call *call)
{
    if (code != HS_GRPC_OK) {
        fail_msg("%d: %s", code, call->grpc.text);
    }
}

static void assert_refused(enum hs_grpc_code code, const struct flight_call *call, const char *part)
{
    if (code != HS_GRPC_INVALID_ARGUMENT || strstr(call->grpc.text, part) == NULL) {
        fail_msg("%d: %s", code, call->grpc.text);
    }
}

static int64_t n_rows(void)
{
    return flight_number("SELECT count(*) FROM t");
}

/* ---- the end of a call, when it has its connection and has not begun to use it ---- */

static void assert_cancelled(enum hs_grpc_code code)
{
    assert_int_equal(code, HS_GRPC_CANCELLED);
    assert_int_equal(one.n_out, 0);
}

static void test_a_call_that_is_over_begins_nothing(void **state)
{
    (void)state;
    struct bytes ticket, update, query, transaction;
    assert_ok(flight_info(&one, "SELECT n FROM t", NULL, &ticket), &one);
    assert_ok(flight_prepare(&one, "INSERT INTO t VALUES (2)", NULL, &update), &one);
    assert_ok(flight_prepare(&one, "INSERT INTO t VALUES (3) RETURNING n", NULL, &query), &one);
    assert_ok(flight_begin(&one, &transaction), &one);
    assert_ok(flight_update(&one, "INSERT INTO t VALUES (4)", &transaction), &one);
    one.grpc.watched = fake_grpc_end;
    assert_cancelled(flight_info(&one, "INSERT INTO t VALUES (5)", NULL, NULL));
    assert_cancelled(flight_get(&one, &ticket));
    assert_cancelled(flight_get_prepared(&one, &query));
    assert_cancelled(flight_put_prepared(&one, &update));
    assert_cancelled(flight_update(&one, "INSERT INTO t VALUES (6)", NULL));
    assert_cancelled(flight_prepare(&one, "INSERT INTO t VALUES (7); SELECT 1", NULL, NULL));
    assert_cancelled(flight_set_option(&one, "schema", "main"));
    assert_cancelled(flight_begin(&one, NULL));
    assert_cancelled(flight_end(&one, &transaction, true));
    one.grpc.watched = NULL;
    assert_int_equal(n_rows(), 1);
    /* nothing stays interrupted */
    assert_ok(flight_put_prepared(&one, &update), &one);
    assert_ok(flight_get_prepared(&one, &query), &one);
    assert_int_equal(n_rows(), 3);
    assert_refused(flight_end(&one, &transaction, true), &one, "no such transaction");
}

static void test_a_rollback_is_not_cancelled(void **state)
{
    (void)state;
    struct bytes transaction;
    assert_ok(flight_begin(&one, &transaction), &one);
    assert_ok(flight_update(&one, "INSERT INTO t VALUES (4)", &transaction), &one);
    one.grpc.watched = fake_grpc_end;
    assert_ok(flight_end(&one, &transaction, false), &one);
    assert_int_equal(n_rows(), 1);
}

/* ---- cancelling by ticket ---- */

static struct bytes ticket;
static int cancel_status;

static void cancel_ticket(hs_grpc_call *call)
{
    call->watched = NULL;
    assert_ok(flight_cancel(&two, &ticket, &cancel_status), &two);
    two.grpc.watched = NULL;
}

static void cancel_ticket_as_before(hs_grpc_call *call)
{
    call->watched = NULL;
    assert_ok(flight_cancel_query(&two, &ticket, &cancel_status), &two);
}

static void test_cancelling_wins(void **state)
{
    (void)state;
    struct bytes handle;
    void (*const ways[])(hs_grpc_call *) = {cancel_ticket, cancel_ticket_as_before};
    for (size_t i = 0; i < 2; i++) {
        assert_ok(flight_info(&one, "SELECT n FROM t", NULL, &ticket), &one);
        one.grpc.watched = ways[i];
        assert_int_equal(flight_get(&one, &ticket), HS_GRPC_CANCELLED);
        assert_int_equal(cancel_status, CANCELLED);
        assert_refused(flight_get(&one, &ticket), &one, "no such ticket");
    }
    assert_ok(flight_prepare(&one, "INSERT INTO t VALUES (2) RETURNING n", NULL, &handle), &one);
    flight_ticket(&handle, &ticket);
    one.grpc.watched = cancel_ticket;
    assert_int_equal(flight_get_prepared(&one, &handle), HS_GRPC_CANCELLED);
    assert_int_equal(n_rows(), 1);
    assert_ok(flight_get_prepared(&one, &handle), &one);
    assert_int_equal(n_rows(), 2);
}

static void test_a_cancelled_ticket_is_worth_nothing(void **state)
{
    (void)state;
    assert_ok(flight_info(&one, "SELECT n FROM t", NULL, &ticket), &one);
    assert_ok(flight_cancel(&two, &ticket, &cancel_status), &two);
    assert_int_equal(cancel_status, CANCELLED);
    assert_refused(flight_get(&one, &ticket), &one, "no such ticket");
    assert_ok(flight_cancel(&two, &ticket, &cancel_status), &two);
    assert_int_equal(cancel_status, NOT_CANCELLABLE);
}

static struct flight_call third;
static enum hs_grpc_code third_code;
static struct bytes shared;

/* The statement of the call that has just got its connection is run by another one, too. */
static void run_again(hs_grpc_call *call)
{
    call->watched = NULL;
    memset(&third, 0, sizeof third);
    third.grpc.connection = 1;
    third.grpc.watched = cancel_ticket;
    third_code = flight_get_prepared(&third, &shared);
}

static void test_all_that_run_a_statement_are_cancelled(void **state)
{
    (void)state;
    assert_ok(flight_prepare(&one, "SELECT n FROM t", NULL, &shared), &one);
    flight_ticket(&shared, &ticket);
    one.grpc.watched = run_again;
    assert_int_equal(flight_get_prepared(&one, &shared), HS_GRPC_CANCELLED);
    assert_int_equal(third_code, HS_GRPC_CANCELLED);
    assert_ok(flight_get_prepared(&one, &shared), &one);
}

static void close_session(hs_grpc_call *call)
{
    call->watched = NULL;
    assert_ok(flight_action(&two, "CloseSession"), &two);
}

static void test_a_session_that_is_closed_begins_nothing(void **state)
{
    (void)state;
    one.grpc.watched = close_session;
    assert_int_equal(flight_update(&one, "INSERT INTO t VALUES (2)", NULL), HS_GRPC_CANCELLED);
    assert_int_equal(n_rows(), 1);
    assert_ok(flight_update(&one, "INSERT INTO t VALUES (2)", NULL), &one);
}

/* ---- statements that are closed while their connection is in use ---- */

#define MANY 100

static struct bytes many[MANY];

static void close_many(hs_grpc_call *call)
{
    call->watched = NULL;
    for (int i = 0; i < MANY; i++) {
        assert_ok(flight_close_prepared(&two, &many[i]), &two);
    }
    int n = 0;
    for (const struct hs_flight_handle *i = flight->sessions->conns->doomed; i; i = i->next) {
        n++;
    }
    assert_int_equal(n, MANY);
}

static void test_closed_statements_wait_for_their_connection(void **state)
{
    (void)state;
    for (int i = 0; i < MANY; i++) {
        assert_ok(flight_prepare(&one, "SELECT n FROM t", NULL, &many[i]), &one);
    }
    one.grpc.watched = close_many;
    assert_ok(flight_update(&one, "INSERT INTO t VALUES (2)", NULL), &one);
    assert_null(flight->sessions->conns->doomed);
    assert_int_equal(flight->sessions->n_handles, 0);
    assert_refused(flight_close_prepared(&one, &many[0]), &one, "no such prepared statement");
}

static void test_the_most_that_may_be_open(void **state)
{
    (void)state;
    struct bytes excess;
    flight->config.max_handles = 2;
    assert_ok(flight_prepare(&one, "SELECT n FROM t", NULL, &many[0]), &one);
    assert_ok(flight_begin(&one, &many[1]), &one);
    assert_int_equal(flight_prepare(&one, "SELECT n FROM t", NULL, &excess),
                     HS_GRPC_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(one.grpc.text, "2 statements and transactions are open"));
    assert_non_null(strstr(one.grpc.text, "--flight-handles"));
    assert_int_equal(flight_begin(&one, &excess), HS_GRPC_RESOURCE_EXHAUSTED);
    assert_ok(flight_close_prepared(&one, &many[0]), &one);
    assert_ok(flight_begin(&one, &excess), &one);
}

/* ---- sessions ---- */

static void test_two_first_calls_begin_one_session(void **state)
{
    (void)state;
    struct hs_flight_session *first, *second, *other, *logins[2];
    assert_int_equal(hs_flight_session_new(flight, "ann", "k", 7, &first, NULL), HS_OK);
    assert_int_equal(hs_flight_session_new(flight, "ann", "k", 7, &second, NULL), HS_OK);
    assert_ptr_equal(first, second);
    assert_int_equal(hs_flight_session_new(flight, "ann", "l", 7, &other, NULL), HS_OK);
    assert_ptr_not_equal(first, other);
    hs_flight_session_leave(flight, other);
    assert_int_equal(hs_flight_session_new(flight, "bob", "k", 7, &other, NULL), HS_OK);
    assert_ptr_not_equal(first, other);
    hs_flight_session_leave(flight, other);
    for (int i = 0; i < 2; i++) { /* a login begins its own */
        assert_int_equal(hs_flight_session_new(flight, "ann", "k", 0, &logins[i], NULL), HS_OK);
        hs_flight_session_leave(flight, logins[i]);
    }
    assert_ptr_not_equal(logins[0], logins[1]);
    int n = flight->n_sessions;
    hs_flight_session_abandon(flight, first); /* the other one may still be answered */
    assert_int_equal(flight->n_sessions, n);
    hs_flight_session_abandon(flight, second);
    assert_int_equal(flight->n_sessions, n - 1);
    hs_flight_sessions_disconnect(7, flight);
}

static void test_a_transaction_sees_nothing_of_another(void **state)
{
    (void)state;
    struct bytes first, second, handle;
    assert_ok(flight_begin(&one, &first), &one);
    assert_ok(flight_update(&one,
                            "CREATE TEMP TABLE secret AS SELECT 1; SET VARIABLE v = 2;"
                            "CREATE TEMP MACRO hidden() AS 3; PREPARE p AS SELECT 4;"
                            "CREATE SCHEMA s; USE s",
                            &first),
              &one);
    assert_ok(flight_prepare(&one, "SELECT * FROM secret", &first, &handle), &one);
    assert_ok(flight_get_prepared(&one, &handle), &one);
    assert_ok(flight_end(&one, &first, true), &one);
    assert_ok(flight_begin(&one, &second), &one);
    assert_refused(flight_info(&one, "SELECT * FROM secret", &second, NULL), &one, "secret");
    assert_ok(flight_end(&one, &second, false), &one);
    assert_ok(flight_begin(&one, &second), &one);
    assert_refused(flight_info(&one, "SELECT hidden()", &second, NULL), &one, "hidden");
    assert_ok(flight_end(&one, &second, false), &one);
    assert_ok(flight_begin(&one, &second), &one);
    assert_refused(flight_info(&one, "EXECUTE p", &second, NULL), &one, "p");
    assert_ok(flight_end(&one, &second, false), &one);
    assert_ok(flight_begin(&one, &second), &one);
    assert_ok(flight_update(&one,
                            "INSERT INTO t SELECT 5 WHERE getvariable('v') IS NULL AND "
                            "current_schema() = 'main'",
                            &second),
              &one);
    assert_refused(flight_get_prepared(&one, &handle), &one, "transaction has ended");
    assert_refused(flight_info(&one, "SELECT 1", &first, NULL), &one, "no such transaction");
    assert_ok(flight_end(&one, &second, true), &one);
    assert_ok(flight_close_prepared(&one, &handle), &one);
    assert_int_equal(n_rows(), 2);
    /* their connections are used again */
    assert_non_null(flight->sessions->transactions);
    assert_null(flight->sessions->transactions->next);
}

static void test_temporary_tables_stay_where_they_are_seen(void **state)
{
    (void)state;
    assert_ok(flight_info(&one, "CREATE TEMP TABLE mine AS SELECT 1 AS x; SELECT x FROM mine", NULL,
                          &ticket),
              &one);
    assert_true(atomic_load(&flight->sessions->is_sticky));
    assert_ok(flight_get(&one, &ticket), &one);
    assert_ok(flight_info(&one, "SELECT x FROM mine", NULL, NULL), &one);
}

/* ---- others' ---- */

/* What belongs to `one`, and a caller who has learnt of it. */
static void check_foreign(struct flight_call *other)
{
    struct bytes own, prepared, transaction, cancelled;
    char cookie[128];
    int status = 0;
    assert_ok(flight_info(&one, "CREATE OR REPLACE TEMP TABLE mine AS SELECT 1 AS x", NULL, NULL),
              &one);
    assert_ok(flight_info(&one, "SELECT x FROM mine", NULL, &own), &one);
    assert_ok(flight_prepare(&one, "SELECT x FROM mine", NULL, &prepared), &one);
    assert_ok(flight_begin(&one, &transaction), &one);
    snprintf(cookie, sizeof cookie, HS_FLIGHT_COOKIE "=%s", flight->sessions->id);
    for (int i = 0; i < 2; i++) {
        other->grpc.cookie = i == 0 ? NULL : cookie;
        assert_refused(flight_get(other, &own), other, "no such ticket");
        assert_refused(flight_get_prepared(other, &prepared), other, "no such prepared");
        assert_refused(flight_put_prepared(other, &prepared), other, "no such prepared");
        assert_refused(flight_close_prepared(other, &prepared), other, "no such prepared");
        assert_refused(flight_info(other, "SELECT 1", &transaction, NULL), other,
                       "no such transaction");
        assert_refused(flight_update(other, "DROP TABLE t", &transaction), other,
                       "no such transaction");
        assert_refused(flight_prepare(other, "SELECT 1", &transaction, NULL), other,
                       "no such transaction");
        assert_refused(flight_end(other, &transaction, true), other, "no such transaction");
        assert_refused(flight_info(other, "SELECT x FROM mine", NULL, NULL), other, "mine");
        assert_ok(flight_cancel(other, &own, &status), other);
        assert_int_equal(status, NOT_CANCELLABLE);
        flight_ticket(&prepared, &cancelled);
        assert_ok(flight_cancel_query(other, &cancelled, &status), other);
        assert_int_equal(status, NOT_CANCELLABLE);
        assert_ok(flight_action(other, "CloseSession"), other);
    }
    other->grpc.cookie = NULL;
    assert_ok(flight_get(&one, &own), &one);
    assert_ok(flight_get_prepared(&one, &prepared), &one);
    assert_ok(flight_update(&one, "INSERT INTO t VALUES (2)", &transaction), &one);
    assert_ok(flight_end(&one, &transaction, true), &one);
}

/* A proxy has one connection for all. */
static void test_users_of_one_connection_are_apart(void **state)
{
    (void)state;
    one.grpc.authorization = "Basic YW5uOg=="; /* ann: */
    two.grpc.authorization = "Basic Ym9iOg=="; /* bob: */
    check_foreign(&two);
    two.grpc.authorization = NULL;
    check_foreign(&two);
    two.grpc.connection = 2;
    two.grpc.authorization = "Basic Ym9iOg==";
    check_foreign(&two);
}

static void test_keys_of_one_connection_are_apart(void **state)
{
    (void)state;
    char path[] = HS_TEST_TMP "/flight-keys-XXXXXX", file[128], texts[2][256];
    char keys[2][HS_KEY_TEXT_MAX];
    struct hs_http_key_info info;
    static const char *const names[] = {"ann", "bob"};
    assert_non_null(mkdtemp(path));
    snprintf(file, sizeof file, "%s/keys.json", path);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hs_http_key_create(file, names[i], HS_KEY_INFERENCE, keys[i], &info, NULL),
                         HS_OK);
        snprintf(texts[i], sizeof texts[i], "Bearer %s", keys[i]);
    }
    flight_close();
    flight_open(file);
    assert_int_equal(flight_info(&one, "SELECT 1", NULL, NULL), HS_GRPC_UNAUTHENTICATED);
    one.grpc.authorization = texts[0];
    two.grpc.authorization = texts[1];
    check_foreign(&two);
    /* the token of a session without its key is nobody's */
    char token[128];
    snprintf(token, sizeof token, "Bearer " HS_FLIGHT_TOKEN_PREFIX "%s", flight->sessions->id);
    two.grpc.authorization = token;
    assert_int_equal(flight_info(&two, "SELECT 1", NULL, NULL), HS_GRPC_UNAUTHENTICATED);
    assert_int_equal(hs_fs_remove_all(path, NULL), HS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_call_that_is_over_begins_nothing),
        TEST(test_a_rollback_is_not_cancelled),
        TEST(test_cancelling_wins),
        TEST(test_a_cancelled_ticket_is_worth_nothing),
        TEST(test_all_that_run_a_statement_are_cancelled),
        TEST(test_a_session_that_is_closed_begins_nothing),
        TEST(test_closed_statements_wait_for_their_connection),
        TEST(test_the_most_that_may_be_open),
        TEST(test_two_first_calls_begin_one_session),
        TEST(test_a_transaction_sees_nothing_of_another),
        TEST(test_temporary_tables_stay_where_they_are_seen),
        TEST(test_users_of_one_connection_are_apart),
        TEST(test_keys_of_one_connection_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
