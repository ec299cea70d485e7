/*
 * fake_pool.h - a model pool over the fake engine, which has one model at a time: another one takes
 * its place unless it is in use, and then does not fit.
 *
 * Threads: as the pool; fake_pool is set while nothing runs.
 */
#ifndef SUPPORT_FAKE_POOL_H
#define SUPPORT_FAKE_POOL_H

#include <stdbool.h>

#include "hyprstream/model_pool.h"

extern struct fake_pool {
    bool is_held; /* loads wait for fake_pool_go */
} fake_pool;

/* Let the loads that wait be done. Returns how many requests there were. */
int fake_pool_go(hs_model_pool *pool);
/* Requests that wait for a model. */
int fake_pool_waiting(hs_model_pool *pool);

#endif
