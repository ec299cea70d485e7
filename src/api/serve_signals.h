/*
 * serve_signals.h - the signals of a running server, taken one by one by the main thread.
 *
 * Begin before any thread is started, as threads inherit what is held back. A thread that a library
 * started earlier takes signals nevertheless; they are not lost, and end nothing. One that was
 * ignored (in the background of a script) is taken, too. Without a begin a signal has its usual
 * effect.
 *
 * Threads: the main thread.
 * Source:  POSIX.1-2017, pselect; ppoll(2).
 */
#ifndef API_SERVE_SIGNALS_H
#define API_SERVE_SIGNALS_H

#include <stdbool.h>

/* Hold SIGINT, SIGTERM and SIGHUP back. */
void hs_serve_signals_begin(void);
/* The next one that came; 0: none within the time. timeout_ms < 0: wait for ever. */
int hs_serve_signals_wait(int timeout_ms);
/* From now on SIGINT and SIGTERM end the process at once. */
void hs_serve_signals_kill(void);
/* Back to what was before hs_serve_signals_begin. */
void hs_serve_signals_end(void);

#endif
