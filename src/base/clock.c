/* clock.c - monotonic and wall time. */
#include "base/clock.h"

#include <limits.h>

#define NS_PER_S 1000000000

int64_t hs_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

double hs_clock_ms(void)
{
    return (double)hs_clock_ns() / 1e6;
}

int64_t hs_clock_unix_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct timespec hs_clock_deadline(int64_t timeout_ms)
{
    struct timespec when;
    clock_gettime(CLOCK_MONOTONIC, &when);
    if (timeout_ms <= 0) {
        return when;
    }
    int64_t ns = when.tv_nsec + (timeout_ms % 1000) * 1000000;
    int64_t s = timeout_ms / 1000 + ns / NS_PER_S; /* no overflow: INT64_MAX / 1000 + 1 */
    when.tv_nsec = (long)(ns % NS_PER_S);
    when.tv_sec += (time_t)s;
    return when;
}
