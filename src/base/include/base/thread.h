/* thread.h - what the calls of POSIX leave to each user of threads. Threads: no state. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

#include "hyprstream.h"

/* Start a thread that takes no signals: they are the main thread's. 0, or an errno. */
HS_CHECKED int hs_thread_start(pthread_t *ret_thread, void *(*run)(void *), void *arg);
/* A condition whose deadlines are those of hs_clock_deadline. 0, or an errno. */
HS_CHECKED int hs_cond_init(pthread_cond_t *ret_cond);

#endif
