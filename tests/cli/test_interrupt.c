/* Signals that ask the program to stop. */
#include "api_test.h"

#include <poll.h>
#include <signal.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>

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

/* Without echo, as while an answer is printed. */
static struct termios make_quiet(int fd)
{
    struct termios modes, quiet;
    assert_int_equal(tcgetattr(fd, &modes), 0);
    quiet = modes;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    assert_int_equal(tcsetattr(fd, TCSANOW, &quiet), 0);
    return modes;
}

static void the_terminal_is_given_back(void **state)
{
    (void)state;
    for (int is_set = 0; is_set < 2; is_set++) {
        int master = -1, slave = -1;
        assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
        struct termios modes = make_quiet(slave);
        pid_t child = fork();
        if (child == 0) {
            dup2(slave, STDIN_FILENO);
            hs_interrupt_install();
            hs_interrupt_set_modes(&modes);
            hs_interrupt_set_modes(is_set ? &modes : NULL);
            for (int i = 0; i < 3; i++) {
                raise(SIGINT);
            }
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
        struct termios now;
        assert_int_equal(tcgetattr(slave, &now), 0);
        assert_true(((now.c_lflag & ECHO) != 0) == (is_set != 0));
        close(slave);
        close(master);
    }
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
        cmocka_unit_test(the_terminal_is_given_back),
        cmocka_unit_test(without_installing), /* first: nothing is installed yet */
        cmocka_unit_test(ends),
        cmocka_unit_test(one_is_remembered),
        cmocka_unit_test(resizes),
        cmocka_unit_test(a_held_stop_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
