#include "serve_signals.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

/* The mask of the process is the process's own: so is what it was before. */
static sigset_t mask_before;

static void fill(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
}

void hs_serve_signals_begin(void)
{
    sigset_t set;
    fill(&set);
    pthread_sigmask(SIG_BLOCK, &set, &mask_before);
}

int hs_serve_signals_wait(int timeout_ms)
{
    sigset_t set;
    fill(&set);
    const struct timespec timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
    int number;
    do {
        number = timeout_ms < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &timeout);
    } while (number < 0 && errno == EINTR);
    return number > 0 ? number : 0;
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
}

void hs_serve_signals_end(void)
{
    pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
}
