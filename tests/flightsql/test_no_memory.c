/* Every allocation of every call fails once: the call says so, and nothing stays in use. */
#include "base/mem.h"
#include "call_test.h"

static struct flight_call call;
static struct bytes ticket, handle, id;

static int setup(void **state)
{
    (void)state;
    memset(&call, 0, sizeof call);
    call.grpc.connection = 1;
    flight_open(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    flight_close();
    return 0;
}

/* ---- calls: what has to be there before is made where memory does not fail ---- */

static void need_nothing(void)
{
}

static void need_ticket(void)
{
    assert_int_equal(flight_info(&call, "SELECT [n], 'x' FROM t", NULL, &ticket), HS_GRPC_OK);
}

static void need_query(void)
{
    assert_int_equal(flight_prepare(&call, "SELECT n FROM t", NULL, &handle), HS_GRPC_OK);
}

static void need_update(void)
{
    assert_int_equal(flight_prepare(&call, "UPDATE t SET n = 2", NULL, &handle), HS_GRPC_OK);
}

static void need_transaction(void)
{
    assert_int_equal(flight_begin(&call, &id), HS_GRPC_OK);
}

static enum hs_grpc_code run_info(void)
{
    return flight_info(&call, "SELECT n, 'x' FROM t", NULL, NULL);
}

static enum hs_grpc_code run_info_of_update(void)
{
    return flight_info(&call, "UPDATE t SET n = 1", NULL, NULL);
}

static enum hs_grpc_code run_get(void)
{
    return flight_get(&call, &ticket);
}

static enum hs_grpc_code run_prepare(void)
{
    return flight_prepare(&call, "SELECT 1; SELECT n + $1 FROM t", NULL, NULL);
}

static enum hs_grpc_code run_get_prepared(void)
{
    return flight_get_prepared(&call, &handle);
}

static enum hs_grpc_code run_put_prepared(void)
{
    return flight_put_prepared(&call, &handle);
}

static enum hs_grpc_code run_close_prepared(void)
{
    return flight_close_prepared(&call, &handle);
}

static enum hs_grpc_code run_update(void)
{
    return flight_update(&call, "UPDATE t SET n = 3", NULL);
}

static enum hs_grpc_code run_begin(void)
{
    return flight_begin(&call, NULL);
}

static enum hs_grpc_code run_update_within(void)
{
    return flight_update(&call, "UPDATE t SET n = 3", &id);
}

static enum hs_grpc_code run_commit(void)
{
    return flight_end(&call, &id, true);
}

static enum hs_grpc_code run_cancel(void)
{
    int status;
    return flight_cancel(&call, &ticket, &status);
}

static enum hs_grpc_code run_set_option(void)
{
    return flight_set_option(&call, "schema", "main");
}

static enum hs_grpc_code run_get_options(void)
{
    return flight_action(&call, "GetSessionOptions");
}

static enum hs_grpc_code run_close_session(void)
{
    return flight_action(&call, "CloseSession");
}

static const struct {
    void (*need)(void);
    enum hs_grpc_code (*run)(void);
} cases[] = {
    {need_nothing, run_info},
    {need_nothing, run_info_of_update},
    {need_ticket, run_get},
    {need_nothing, run_prepare},
    {need_query, run_get_prepared},
    {need_update, run_put_prepared},
    {need_query, run_close_prepared},
    {need_nothing, run_update},
    {need_nothing, run_begin},
    {need_transaction, run_update_within},
    {need_transaction, run_commit},
    {need_ticket, run_cancel},
    {need_nothing, run_set_option},
    {need_nothing, run_get_options},
    {need_nothing, run_close_session},
};

static void check_conns(const struct hs_flight_conn *conns)
{
    for (const struct hs_flight_conn *conn = conns; conn; conn = conn->next) {
        assert_false(conn->is_busy);
        assert_null(conn->runs);
        assert_null(conn->doomed);
    }
}

static void check_idle(void)
{
    pthread_mutex_lock(&flight->lock);
    for (const struct hs_flight_session *i = flight->sessions; i; i = i->next) {
        assert_int_equal(i->n_calls, 0);
        check_conns(i->conns);
        check_conns(i->transactions);
        for (const struct hs_flight_handle *k = i->handles; k; k = k->next) {
            assert_int_equal(k->n_users, 0);
            assert_false(k->is_dropped);
        }
    }
    pthread_mutex_unlock(&flight->lock);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool has_failed = true;
        for (uint64_t n = 1; has_failed; n++) {
            cases[i].need();
            hs_mem_fail_after(n);
            enum hs_grpc_code code = cases[i].run();
            has_failed = hs_mem_count() >= n;
            hs_mem_fail_after(0);
            /* what was read may be malformed as well, as far as its reader can tell */
            if (code != HS_GRPC_OK && (!has_failed || (code != HS_GRPC_RESOURCE_EXHAUSTED &&
                                                       code != HS_GRPC_INVALID_ARGUMENT))) {
                fail_msg("case %zu, allocation %llu: %d: %s", i, (unsigned long long)n, code,
                         call.grpc.text);
            }
            assert_true(code == HS_GRPC_OK || call.grpc.text[0] != '\0');
            check_idle();
            assert_int_equal(flight_action(&call, "CloseSession"), HS_GRPC_OK);
        }
    }
    assert_int_equal(flight_number("SELECT count(*) FROM t"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_allocation_may_fail, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
