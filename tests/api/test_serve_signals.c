/* Signals of a running server, in children of their own. */
#include "api_test.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve_signals.h"

/* What a child that runs `body` ends with, as wait gives it. */
static int end_of_child(int (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        _exit(body());
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return status;
}

static int takes_one_by_one(void)
{
    signal(SIGHUP, SIG_IGN); /* as under nohup */
    hs_serve_signals_begin();
    if (hs_serve_signals_wait(0) != 0) {
        return 1;
    }
    raise(SIGTERM);
    raise(SIGTERM); /* two of a kind are one */
    raise(SIGHUP);
    int first = hs_serve_signals_wait(-1), second = hs_serve_signals_wait(60000);
    bool are_both =
        (first == SIGTERM && second == SIGHUP) || (first == SIGHUP && second == SIGTERM);
    return are_both && hs_serve_signals_wait(1) == 0 ? 0 : 2;
}

static void *wait_for_end(void *end)
{
    /* not read, in which ThreadSanitizer holds signals back */
    struct pollfd pipe_end = {.fd = *(int *)end, .events = POLLIN};
    while (poll(&pipe_end, 1, -1) < 0) {
    }
    return NULL;
}

/* Returns when the other thread has taken it. */
static void send_to_the_other_thread(int number)
{
    sigset_t pending;
    kill(getpid(), number);
    do {
        sched_yield();
        sigpending(&pending);
    } while (sigismember(&pending, number));
}

/* As the threads of a BLAS library, which are there before main. */
static int takes_what_a_foreign_thread_got(void)
{
    int end[2];
    pthread_t thread;
    if (pipe(end) != 0 || pthread_create(&thread, NULL, wait_for_end, end) != 0) {
        return 1;
    }
    hs_serve_signals_begin();
    for (int i = 0; i < 100; i++) {
        send_to_the_other_thread(SIGHUP);
        if (hs_serve_signals_wait(60000) != SIGHUP) {
            return 2;
        }
    }
    send_to_the_other_thread(SIGTERM);
    int number = hs_serve_signals_wait(-1);
    close(end[1]);
    pthread_join(thread, NULL);
    hs_serve_signals_end();
    return number == SIGTERM ? 0 : 3;
}

static int a_foreign_thread_got_the_end(void)
{
    int end[2];
    pthread_t thread;
    if (pipe(end) != 0 || pthread_create(&thread, NULL, wait_for_end, end) != 0) {
        return 1;
    }
    hs_serve_signals_begin();
    send_to_the_other_thread(SIGTERM);
    close(end[1]);
    pthread_join(thread, NULL);
    hs_serve_signals_kill();
    return 2;
}

static int is_killed(void)
{
    hs_serve_signals_begin();
    raise(SIGINT); /* held back until then */
    hs_serve_signals_kill();
    return 1;
}

static int ends_as_before(void)
{
    sigset_t before, after;
    sigemptyset(&before);
    sigaddset(&before, SIGUSR1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    hs_serve_signals_begin();
    hs_serve_signals_end();
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    return sigismember(&after, SIGUSR1) && !sigismember(&after, SIGTERM) &&
                   !sigismember(&after, SIGINT) && !sigismember(&after, SIGHUP)
               ? 0
               : 1;
}

static void signals_are_taken_one_by_one(void **state)
{
    (void)state;
    assert_int_equal(end_of_child(takes_one_by_one), 0);
}

static void the_second_one_may_kill(void **state)
{
    (void)state;
    int status = end_of_child(is_killed);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

static void a_foreign_thread_takes_none_away(void **state)
{
    (void)state;
    assert_int_equal(end_of_child(takes_what_a_foreign_thread_got), 0);
    int status = end_of_child(a_foreign_thread_got_the_end);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void the_mask_is_put_back(void **state)
{
    (void)state;
    assert_int_equal(end_of_child(ends_as_before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_taken_one_by_one),
        cmocka_unit_test(the_second_one_may_kill),
        cmocka_unit_test(a_foreign_thread_takes_none_away),
        cmocka_unit_test(the_mask_is_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
