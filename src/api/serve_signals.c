#include "serve_signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

enum { N_NUMBERS = sizeof numbers / sizeof numbers[0] };

/* Masks, actions and handlers are the process's own: so is what they were before. */
static sigset_t mask_before;
static struct sigaction actions_before[N_NUMBERS];
static int came[2] = {-1, -1}; /* a byte for each signal that came */

static void on_signal(int number)
{
    int saved_errno = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t n = write(came[1], &byte, 1); /* a full pipe holds thousands of them already */
    (void)n;
    errno = saved_errno;
}

void hs_serve_signals_begin(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < N_NUMBERS; i++) {
        sigaddset(&set, numbers[i]);
    }
    pthread_sigmask(SIG_BLOCK, &set, &mask_before);
    bool has_pipe = pipe2(came, O_CLOEXEC | O_NONBLOCK) == 0;
    for (int i = 0; i < N_NUMBERS; i++) {
        /* a thread that a library began before us holds nothing back: it must not be the end */
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigfillset(&action.sa_mask);
        sigaction(numbers[i], has_pipe ? &action : NULL, &actions_before[i]);
    }
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)1000 + now.tv_nsec / 1000000;
}

int hs_serve_signals_wait(int timeout_ms)
{
    int64_t end = now_ms() + timeout_ms;
    for (;;) {
        unsigned char byte;
        if (read(came[0], &byte, 1) == 1) {
            return byte;
        }
        int64_t left = timeout_ms < 0 ? INT64_MAX : end - now_ms();
        left = left < 0 ? 0 : left;
        const struct timespec timeout = {left / 1000, (left % 1000) * 1000000};
        struct pollfd pipe_end = {.fd = came[0], .events = POLLIN};
        int n = ppoll(&pipe_end, 1, timeout_ms < 0 ? NULL : &timeout, &mask_before);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return 0;
        }
    }
}

void hs_serve_signals_kill(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    unsigned char byte;
    while (read(came[0], &byte, 1) == 1) {
        if (byte != SIGHUP) {
            raise(byte); /* it came before this, and nobody has heard of it */
        }
    }
}

void hs_serve_signals_end(void)
{
    for (int i = 0; i < N_NUMBERS; i++) {
        sigaction(numbers[i], &actions_before[i], NULL);
    }
    pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
    for (int i = 0; i < 2; i++) {
        close(came[i]);
        came[i] = -1;
    }
}
