/* clock.h - monotonic time for durations and deadlines, wall time for records. Threads: no state.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

int64_t hs_clock_ns(void);      /* monotonic */
double hs_clock_ms(void);       /* monotonic */
int64_t hs_clock_unix_ms(void); /* wall */
/* The absolute CLOCK_MONOTONIC time `timeout_ms` from now, for pthread_cond_timedwait on a
 * monotonic condition. */
struct timespec hs_clock_deadline(int64_t timeout_ms);

#endif
