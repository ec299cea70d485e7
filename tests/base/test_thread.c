/* Threads take no signals; conditions wait on the clock of hs_clock_deadline. */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "base_test.h"

static void *read_mask(void *mask)
{
    pthread_sigmask(SIG_SETMASK, NULL, mask);
    return mask;
}

static void signals_stay_with_the_caller(void **state)
{
    (void)state;
    sigset_t inside, before, after;
    pthread_t thread;
    sigemptyset(&inside);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(hs_thread_start(&thread, read_mask, &inside), 0);
    void *result;
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &inside);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        assert_int_equal(sigismember(&inside, signals[i]), 1);
        assert_int_equal(sigismember(&after, signals[i]), sigismember(&before, signals[i]));
    }
}

static void a_deadline_is_monotonic(void **state)
{
    (void)state;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    assert_int_equal(hs_cond_init(&cond), 0);
    pthread_mutex_lock(&lock);
    int64_t start_ns = hs_clock_ns();
    struct timespec deadline = hs_clock_deadline(20);
    int code = 0;
    while (code == 0) { /* it may wake up for nothing */
        code = pthread_cond_timedwait(&cond, &lock, &deadline);
    }
    assert_int_equal(code, ETIMEDOUT);
    assert_true(hs_clock_ns() - start_ns >= 20 * INT64_C(1000000));
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&cond);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_stay_with_the_caller),
        cmocka_unit_test(a_deadline_is_monotonic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
