/* Signals that ask the program to stop. */
#include "api_test.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "interrupt.h"

static bool is_awake(void)
{
    struct pollfd fd = {.fd = hs_interrupt_fd(), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void one_is_remembered(void **state)
{
    (void)state;
    hs_interrupt_install();
    hs_interrupt_install();
    assert_false(hs_interrupt_take());
    assert_false(is_awake());
    raise(SIGINT);
    assert_true(is_awake());
    hs_interrupt_drain();
    assert_false(is_awake());
    assert_true(hs_interrupt_is_pending());
    assert_true(hs_interrupt_take());
    assert_false(hs_interrupt_take());
    assert_int_equal(hs_interrupt_end_signal(), 0);
}

static void resizes(void **state)
{
    (void)state;
    hs_interrupt_install();
    assert_false(hs_interrupt_take_resize());
    raise(SIGWINCH);
    assert_true(is_awake());
    hs_interrupt_drain();
    assert_true(hs_interrupt_take_resize());
    assert_false(hs_interrupt_take_resize());
    assert_false(hs_interrupt_take());
}

static void a_held_stop_is_remembered(void **state)
{
    (void)state;
    hs_interrupt_install();
    hs_interrupt_hold_stop(true);
    raise(SIGTSTP); /* would stop the program, and this test for ever */
    assert_true(is_awake());
    hs_interrupt_drain();
    assert_true(hs_interrupt_take_stop());
    assert_false(hs_interrupt_take_stop());
    assert_false(hs_interrupt_is_pending());
    hs_interrupt_hold_stop(false);
    struct sigaction now;
    assert_int_equal(sigaction(SIGTSTP, NULL, &now), 0);
    assert_true(now.sa_handler == SIG_DFL);
}

/* What a child that runs `body` ends with, as wait gives it. */
static int end_of_child(void (*body)(void))
{
    pid_t child = fork();
    if (child == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

static void three_unheard(void)
{
    hs_interrupt_install();
    for (int i = 0; i < 3; i++) {
        raise(SIGINT);
    }
}

static void two_unheard(void)
{
    hs_interrupt_install();
    raise(SIGINT);
    raise(SIGINT);
    hs_interrupt_take();
    raise(SIGINT);
    raise(SIGINT);
}

static void ended(void)
{
    hs_interrupt_install();
    raise(SIGTERM);
    if (!hs_interrupt_take() || !hs_interrupt_take() || hs_interrupt_end_signal() != SIGTERM) {
        _exit(1);
    }
}

static void ignored(void)
{
    signal(SIGHUP, SIG_IGN); /* nohup */
    hs_interrupt_install();
    raise(SIGHUP);
    if (hs_interrupt_take()) {
        _exit(1);
    }
}

static void not_installed(void)
{
    raise(SIGINT);
}

static void ends(void **state)
{
    (void)state;
    int status = end_of_child(three_unheard);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_int_equal(end_of_child(two_unheard), 0);
    assert_int_equal(end_of_child(ended), 0);
    assert_int_equal(end_of_child(ignored), 0);
}

static void without_installing(void **state)
{
    (void)state;
    int status = end_of_child(not_installed);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_installing), /* first: nothing is installed yet */
        cmocka_unit_test(ends),
        cmocka_unit_test(one_is_remembered),
        cmocka_unit_test(resizes),
        cmocka_unit_test(a_held_stop_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
