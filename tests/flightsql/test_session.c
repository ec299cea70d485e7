/* Sessions: how calls find theirs, and when they end. */
#include "session.h"

#include <stdio.h>

#include "grpc_test.h"

#define SERVICE "/arrow.flight.protocol.FlightService/"

static hs_sql *sql;
static hs_flight *flight;

static void start(int max_sessions, int64_t idle_ms)
{
    struct hs_sql_params params;
    struct hs_flight_config config;
    struct hs_error err;
    hs_sql_params_defaults(&params);
    params.memory_bytes = (uint64_t)64 << 20;
    params.n_threads = 1;
    hs_flight_config_defaults(&config);
    config.max_sessions = max_sessions;
    config.session_idle_ms = idle_ms;
    config.grpc.n_workers = 2;
    if (hs_sql_open(&params, &sql, &err)) {
        fail_msg("%s", err.message);
    }
    config.sql = sql;
    if (hs_flight_start(&config, &flight, &err)) {
        fail_msg("%s", err.message);
    }
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(hs_flight_stop(flight, 0, NULL), HS_OK);
    hs_flight_free(flight);
    hs_sql_close(sql);
    return 0;
}

static int n_sessions(void)
{
    pthread_mutex_lock(&flight->lock);
    int n = flight->n_sessions;
    pthread_mutex_unlock(&flight->lock);
    return n;
}

static int n_connections(void)
{
    struct hs_grpc_stats stats;
    hs_grpc_server_stats(hs_flight_server(flight), &stats);
    return stats.n_connections;
}

static void wait_for(int (*count)(void), int wanted)
{
    double end = now_ms() + LONG_MS;
    while (count() != wanted && now_ms() < end) {
        sleep_ms(1);
    }
    assert_int_equal(count(), wanted);
}

static struct client *connect_client(void)
{
    return client_open(hs_flight_server(flight), NULL, 0);
}

static void disconnect(struct client *client)
{
    int n = n_connections();
    client_close(client);
    wait_for(n_connections, n - 1);
}

/* A call in a session, with this cookie or authorization. */
static int call(struct client *client, const char *method, const char *name, const char *value)
{
    const struct header extra[] = {{name, value}, {NULL, NULL}};
    return client_call(client, method, "", name ? extra : NULL)->grpc_status;
}

static void assert_call(struct client *client, const char *cookie)
{
    assert_int_equal(call(client, SERVICE "ListActions", cookie ? "cookie" : NULL, cookie),
                     HS_GRPC_OK);
}

static void test_ends_with_its_connection(void **state)
{
    (void)state;
    start(2, 3600000);
    struct client *one = connect_client(), *two = connect_client(), *three = connect_client();
    assert_call(one, NULL);
    assert_call(one, NULL);
    assert_int_equal(n_sessions(), 1);
    assert_call(two, NULL);
    assert_int_equal(n_sessions(), 2);
    assert_int_equal(call(three, SERVICE "ListActions", NULL, NULL), HS_GRPC_RESOURCE_EXHAUSTED);
    disconnect(one);
    assert_int_equal(n_sessions(), 1);
    assert_call(three, NULL);
    disconnect(two);
    disconnect(three);
    assert_int_equal(n_sessions(), 0);
}

static void test_cookie_outlives_its_connection(void **state)
{
    (void)state;
    start(2, 3600000);
    struct client *one = connect_client(), *two = connect_client();
    char cookie[128];
    assert_call(one, NULL);
    snprintf(cookie, sizeof cookie, "a=b; " HS_FLIGHT_COOKIE "=%s; c=d", flight->sessions->id);
    assert_call(two, cookie);
    disconnect(one);
    assert_int_equal(n_sessions(), 1);
    assert_call(two, cookie);
    assert_int_equal(n_sessions(), 1);
    assert_call(two, HS_FLIGHT_COOKIE "=0123"); /* nobody's: it is as if there were none */
    assert_int_equal(n_sessions(), 2);
    disconnect(two);
    assert_int_equal(n_sessions(), 1);
}

static void test_login_outlives_its_connection(void **state)
{
    (void)state;
    start(2, 3600000);
    struct client *one = connect_client(), *two;
    char cookie[128], token[128];
    assert_int_equal(call(one, SERVICE "Handshake", "authorization", "Basic eDp5"), HS_GRPC_OK);
    disconnect(one);
    assert_int_equal(n_sessions(), 1);
    two = connect_client();
    snprintf(cookie, sizeof cookie, HS_FLIGHT_COOKIE "=%s", flight->sessions->id);
    snprintf(token, sizeof token, "Bearer " HS_FLIGHT_TOKEN_PREFIX "%s", flight->sessions->id);
    assert_int_equal(call(two, SERVICE "ListActions", "authorization", token), HS_GRPC_OK);
    assert_int_equal(n_sessions(), 1);
    assert_call(two, cookie); /* a token is no cookie */
    assert_int_equal(n_sessions(), 2);
    snprintf(token, sizeof token, "Bearer " HS_FLIGHT_TOKEN_PREFIX "%s", flight->sessions->id);
    assert_int_equal(call(two, SERVICE "ListActions", "authorization", token),
                     HS_GRPC_UNAUTHENTICATED); /* nor a cookie a token */
    disconnect(two);
}

static void test_logins_are_text(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "eAA6eQ==", /* "x", NUL, ":y" */
        "eDp5AHo=", /* "x:y", NUL, "z" */
        "eDp5AA==", /* "x:y", NUL */
        "/zp5",     /* 0xFF, ":y" */
        "eHk=",     /* no colon */
        "eDp5=",    "*", "=",
    };
    start(2, 3600000);
    struct client *one = connect_client();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char value[32];
        snprintf(value, sizeof value, "Basic %s", wrong[i]);
        assert_int_equal(call(one, SERVICE "Handshake", "authorization", value),
                         HS_GRPC_UNAUTHENTICATED);
    }
    assert_int_equal(call(one, SERVICE "Handshake", "authorization", "Basic eDo="), HS_GRPC_OK);
    disconnect(one);
}

/* Nothing else has to happen for it. */
static void test_idle_sessions_end(void **state)
{
    (void)state;
    start(2, 50);
    struct client *one = connect_client(), *two = connect_client();
    assert_int_equal(call(one, SERVICE "Handshake", "authorization", "Basic eDp5"), HS_GRPC_OK);
    assert_call(two, NULL);
    wait_for(n_sessions, 0);
    assert_call(one, NULL);
    wait_for(n_sessions, 0);
    disconnect(one);
    disconnect(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_ends_with_its_connection, teardown),
        cmocka_unit_test_teardown(test_cookie_outlives_its_connection, teardown),
        cmocka_unit_test_teardown(test_login_outlives_its_connection, teardown),
        cmocka_unit_test_teardown(test_logins_are_text, teardown),
        cmocka_unit_test_teardown(test_idle_sessions_end, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
