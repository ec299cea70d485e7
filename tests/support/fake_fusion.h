/*
 * fake_fusion.h - merging for tests of handlers: remembers what it was asked for, and gives a
 * result of two matrices.
 *
 * Threads: one at a time merges; `is_held` and `n_running` are for any.
 */
#ifndef SUPPORT_FAKE_FUSION_H
#define SUPPORT_FAKE_FUSION_H

#include <stdatomic.h>

#include "hyprstream.h"

struct fake_fusion {
    int n_calls;
    char base[512], paths[4][512], names[4][80];
    double weights[4];
    int32_t n_sources;
    struct hs_merge_params params;
    char out[512], name[80], type[32]; /* of the last file; type "": NULL */
    bool is_f16;
    const char *file;    /* whose bytes are written; NULL: nothing is */
    hs_status status;    /* of the next call */
    atomic_bool is_held; /* merges go on until it is false */
    atomic_int n_running, n_cancelled;
};
extern struct fake_fusion fake_fusion;

#endif
