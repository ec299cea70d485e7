/* thread.c - threads without signals, conditions on the monotonic clock. */
#include "base/thread.h"

#include <signal.h>
#include <time.h>

int hs_thread_start(pthread_t *ret_thread, void *(*run)(void *), void *arg)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int code = pthread_create(ret_thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return code;
}

int hs_cond_init(pthread_cond_t *ret_cond)
{
    pthread_condattr_t attr;
    int code = pthread_condattr_init(&attr);
    if (code != 0) {
        return code;
    }
    code = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    code = code != 0 ? code : pthread_cond_init(ret_cond, &attr);
    pthread_condattr_destroy(&attr);
    return code;
}
