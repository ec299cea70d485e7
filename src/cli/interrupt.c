#include "interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <termios.h>
#include <unistd.h>

#define PATIENCE 3

/* Signal handlers have no argument of their own: this is the process's one state. */
static atomic_int n_interrupts;
static atomic_int end_signal;
static atomic_bool was_resized;
static atomic_bool was_told_to_stop;
static atomic_bool is_installed;
static atomic_bool has_modes;
static struct termios terminal_modes; /* read by the handler while has_modes */
static int wake_pipe[2] = {-1, -1};

static void on_signal(int number)
{
    int saved_errno = errno;
    if (number == SIGWINCH) {
        atomic_store(&was_resized, true);
    } else if (number == SIGTSTP) {
        atomic_store(&was_told_to_stop, true);
    } else if (number == SIGINT) {
        if (atomic_fetch_add(&n_interrupts, 1) + 1 >= PATIENCE) {
            if (atomic_load(&has_modes)) {
                tcsetattr(STDIN_FILENO, TCSANOW, &terminal_modes);
            }
            signal(SIGINT, SIG_DFL);
            raise(SIGINT);
        }
    } else {
        atomic_store(&end_signal, number);
    }
    if (wake_pipe[1] >= 0) {
        ssize_t n = write(wake_pipe[1], "", 1); /* a full pipe is awake already */
        (void)n;
    }
    errno = saved_errno;
}

/* A signal that is ignored stays so: nohup, and jobs of a shell without job control. */
static void handle(int number, void (*handler)(int number))
{
    struct sigaction old, action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
        sigaction(number, &action, NULL);
    }
}

void hs_interrupt_install(void)
{
    if (atomic_exchange(&is_installed, true)) {
        return;
    }
    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        wake_pipe[0] = wake_pipe[1] = -1; /* waits then end by EINTR alone */
    }
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        handle(numbers[i], on_signal);
    }
}

void hs_interrupt_set_modes(const struct termios *modes)
{
    atomic_store(&has_modes, false);
    if (modes) {
        terminal_modes = *modes;
        atomic_store(&has_modes, true);
    }
}

void hs_interrupt_hold_stop(bool on)
{
    handle(SIGTSTP, on ? on_signal : SIG_DFL);
}

bool hs_interrupt_take_stop(void)
{
    return atomic_exchange(&was_told_to_stop, false);
}

bool hs_interrupt_take(void)
{
    return atomic_exchange(&n_interrupts, 0) > 0 || atomic_load(&end_signal) != 0;
}

bool hs_interrupt_is_pending(void)
{
    return atomic_load(&n_interrupts) > 0 || atomic_load(&end_signal) != 0;
}

int hs_interrupt_end_signal(void)
{
    return atomic_load(&end_signal);
}

bool hs_interrupt_take_resize(void)
{
    return atomic_exchange(&was_resized, false);
}

int hs_interrupt_fd(void)
{
    return wake_pipe[0];
}

void hs_interrupt_drain(void)
{
    char bytes[64];
    while (wake_pipe[0] >= 0 && read(wake_pipe[0], bytes, sizeof bytes) > 0) {
    }
}
