/* The threads that run handlers: order, removal, waiting and the end. Requests here have no
 * handler: what a turn does is in test_server.c. */
#include "http_test.h"

#include "base/mem.h"
#include "http_internal.h"

/* Without threads nothing is taken, so that the queues can be looked at. */
static void queues_keep_their_order(void **state)
{
    (void)state;
    struct hs_http_pool pool = {0};
    hs_http_request requests[5] = {0};
    assert_int_equal(hs_http_pool_start(&pool, 0, NULL), HS_OK);
    for (int i = 0; i < 5; i++) {
        hs_http_pool_push(&pool, &requests[i], i != 3);
    }
    assert_int_equal(hs_http_pool_n_beginning(&pool), 4);
    assert_ptr_equal(pool.going_on.head, &requests[3]);
    assert_ptr_equal(pool.beginning.head, &requests[0]);
    /* from the middle, the front and the end */
    assert_true(hs_http_pool_remove(&pool, &requests[1]));
    assert_false(hs_http_pool_remove(&pool, &requests[1]));
    assert_true(hs_http_pool_remove(&pool, &requests[0]));
    assert_true(hs_http_pool_remove(&pool, &requests[4]));
    assert_ptr_equal(pool.beginning.head, &requests[2]);
    assert_ptr_equal(pool.beginning.tail, &requests[2]);
    assert_int_equal(hs_http_pool_n_beginning(&pool), 1);
    hs_http_pool_push(&pool, &requests[0], true);
    assert_ptr_equal(requests[2].queue_next, &requests[0]);
    assert_true(hs_http_pool_remove(&pool, &requests[2]));
    assert_true(hs_http_pool_remove(&pool, &requests[0]));
    assert_true(hs_http_pool_remove(&pool, &requests[3]));
    assert_null(pool.beginning.head);
    assert_null(pool.beginning.tail);
    assert_null(pool.going_on.head);
    hs_net_pool_close(&pool.threads);
}

static void *end_later(void *user)
{
    sleep_ms(20);
    hs_http_pool_count(user, -1);
    return NULL;
}

static void waiting_for_the_last(void **state)
{
    (void)state;
    struct hs_http_pool pool = {0};
    pthread_t thread;
    assert_int_equal(hs_http_pool_start(&pool, 1, NULL), HS_OK);
    assert_true(hs_http_pool_wait(&pool, 0)); /* nobody is there */
    hs_http_pool_count(&pool, 1);
    hs_http_pool_count(&pool, 1);
    assert_false(hs_http_pool_wait(&pool, 10));
    hs_http_pool_count(&pool, -1);
    assert_false(hs_http_pool_wait(&pool, 0));
    assert_int_equal(pthread_create(&thread, NULL, end_later, &pool), 0);
    assert_true(hs_http_pool_wait(&pool, LONG_MS));
    pthread_join(thread, NULL);
    hs_net_pool_close(&pool.threads);
}

static void many_threads_end(void **state)
{
    (void)state;
    for (int n = 1; n <= 32; n *= 2) {
        struct hs_http_pool pool = {0};
        assert_int_equal(hs_http_pool_start(&pool, n, NULL), HS_OK);
        assert_int_equal(pool.threads.n_threads, n);
        hs_net_pool_close(&pool.threads);
        assert_null(pool.threads.threads);
    }
    struct hs_http_pool pool = {0};
    hs_mem_fail_after(1);
    hs_status status = hs_http_pool_start(&pool, 2, NULL);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queues_keep_their_order),
        cmocka_unit_test(waiting_for_the_last),
        cmocka_unit_test(many_threads_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
