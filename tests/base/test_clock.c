/* Tests of base/clock.h. */
#include "base_test.h"

#include <pthread.h>

#include "base/clock.h"

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void test_monotonic(void **state)
{
    (void)state;
    int64_t last = hs_clock_ns();
    for (int i = 0; i < 10000; i++) {
        int64_t now = hs_clock_ns();
        assert_true(now >= last);
        last = now;
    }
    double ms = hs_clock_ms();
    assert_true(ms * 1e6 >= (double)last - 1e3 && ms * 1e6 < (double)last + 1e9);
}

static void test_wall(void **state)
{
    (void)state;
    int64_t before = (int64_t)time(NULL) - 1; /* time() may lag by a timer tick */
    int64_t ms = hs_clock_unix_ms();
    assert_true(ms / 1000 >= before && ms / 1000 <= (int64_t)time(NULL) + 1);
}

static void test_deadline(void **state)
{
    (void)state;
    static const int64_t timeouts[] = {0, 1, 999, 1000, 1001, 86400000, -1, INT64_MIN};
    for (size_t i = 0; i < COUNT_OF(timeouts); i++) {
        int64_t wait = timeouts[i] < 0 ? 0 : timeouts[i] * 1000000;
        int64_t before = hs_clock_ns();
        struct timespec when = hs_clock_deadline(timeouts[i]);
        int64_t after = hs_clock_ns();
        assert_true(when.tv_nsec >= 0 && when.tv_nsec < 1000000000);
        assert_true(ns_of(when) >= before + wait && ns_of(when) <= after + wait);
    }
    struct timespec far = hs_clock_deadline(INT64_MAX);
    assert_true(far.tv_sec > INT64_MAX / 1000 - 1 && far.tv_nsec < 1000000000);
}

static void test_condition_wait(void **state)
{
    (void)state;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_condattr_t attributes;
    pthread_cond_t condition;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&condition, &attributes);
    int64_t start = hs_clock_ns();
    struct timespec when = hs_clock_deadline(20);
    pthread_mutex_lock(&mutex);
    while (pthread_cond_timedwait(&condition, &mutex, &when) == 0) {
    }
    pthread_mutex_unlock(&mutex);
    int64_t waited = hs_clock_ns() - start;
    assert_true(waited >= 20000000 && waited < 10000000000);
    pthread_cond_destroy(&condition);
    pthread_condattr_destroy(&attributes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic),
        cmocka_unit_test(test_wall),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_condition_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
