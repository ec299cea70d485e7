/* Threads of a server: how many, what they do, waiting for them, and the end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/net_pool.h"
#include "base/error.h"
#include "base/mem.h"

#define LONG_MS 60000

struct work {
    struct hs_net_pool pool;
    int n_left, n_done, n_inside; /* pool.lock */
};

/* Take one away at a time, as a server's thread takes calls. */
static void *run(void *arg)
{
    struct work *work = arg;
    pthread_mutex_lock(&work->pool.lock);
    work->n_inside++;
    while (work->n_left > 0 || !work->pool.is_closed) {
        if (work->n_left == 0) {
            pthread_cond_wait(&work->pool.has_work, &work->pool.lock);
            continue;
        }
        work->n_left--;
        work->n_done++;
        if (work->n_left == 0) {
            pthread_cond_broadcast(&work->pool.has_ended);
        }
    }
    work->n_inside--;
    pthread_mutex_unlock(&work->pool.lock);
    return NULL;
}

static bool has_ended(const void *arg)
{
    return ((const struct work *)arg)->n_left == 0;
}

static void add(struct work *work, int n)
{
    pthread_mutex_lock(&work->pool.lock);
    work->n_left += n;
    pthread_cond_signal(&work->pool.has_work);
    pthread_mutex_unlock(&work->pool.lock);
}

static int grow(struct work *work)
{
    pthread_mutex_lock(&work->pool.lock);
    int code = hs_net_pool_grow(&work->pool);
    pthread_mutex_unlock(&work->pool.lock);
    return code;
}

static void threads_up_to_the_limit(void **state)
{
    (void)state;
    struct work work = {.n_done = 0};
    assert_int_equal(hs_net_pool_open(&work.pool, 3, run, &work, NULL), HS_OK);
    assert_int_equal(work.pool.n_threads, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(grow(&work), 0);
    }
    assert_int_equal(grow(&work), EAGAIN);
    assert_int_equal(work.pool.n_threads, 3);
    add(&work, 1000);
    assert_true(hs_net_pool_wait(&work.pool, has_ended, LONG_MS));
    hs_net_pool_close(&work.pool);
    assert_int_equal(work.n_done, 1000);
    assert_int_equal(work.n_inside, 0);
    assert_int_equal(work.pool.n_threads, 0);
    assert_null(work.pool.threads);
}

static void waiting_has_an_end(void **state)
{
    (void)state;
    struct work work = {.n_left = 1};
    assert_int_equal(hs_net_pool_open(&work.pool, 1, run, &work, NULL), HS_OK);
    assert_false(hs_net_pool_wait(&work.pool, has_ended, 0)); /* nobody does it */
    assert_false(hs_net_pool_wait(&work.pool, has_ended, 10));
    assert_int_equal(grow(&work), 0);
    assert_true(hs_net_pool_wait(&work.pool, has_ended, LONG_MS));
    assert_true(hs_net_pool_wait(&work.pool, has_ended, 0));
    hs_net_pool_close(&work.pool);
}

/* What is left when the pool closes is still done. */
static void the_end_waits_for_work(void **state)
{
    (void)state;
    struct work work = {.n_left = 100};
    assert_int_equal(hs_net_pool_open(&work.pool, 2, run, &work, NULL), HS_OK);
    assert_int_equal(grow(&work), 0);
    hs_net_pool_close(&work.pool);
    assert_int_equal(work.n_done, 100);
    hs_net_pool_close(&work.pool); /* again, and one that never was */
    hs_net_pool_close(&(struct hs_net_pool){.n_threads = 0});
}

static void no_memory(void **state)
{
    (void)state;
    struct work work = {.n_done = 0};
    struct hs_error err = {.message = ""};
    hs_mem_fail_after(1);
    hs_status status = hs_net_pool_open(&work.pool, 2, run, &work, &err);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
    hs_net_pool_close(&work.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_up_to_the_limit),
        cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(the_end_waits_for_work),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
