/*
 * merge_keep.h - what of a matrix is kept before it is combined with others: its largest values, a
 * random part, and so on (KEEP_* of merge.def).
 *
 * Values are ordered by magnitude, equal ones by position (row-major); how many are kept is
 * exact. Random numbers are a function of seed, tensor, input, matrix and position alone:
 *
 *   mix(z):  z ^= z >> 30; z *= 0xbf58476d1ce4e5b9; z ^= z >> 27; z *= 0x94d049bb133111eb;
 *            z ^= z >> 31
 *   stream   mix(seed ^ mix(fnv1a64(tensor) + 4 * input + part)); part 0: delta, 1: A, 2: B
 *   number   (mix(stream + (position + 1) * 0x9e3779b97f4a7c15) >> 11) / 2^53, kept when less than
 *            the probability
 *
 * Threads: one at a time for a keeper.
 * Source:  SplitMix64 (Steele, Lea, Flood 2014); FNV-1a.
 */
#ifndef MERGE_KEEP_H
#define MERGE_KEEP_H

#include "adapters/merge.h"
#include "merge_operand.h"

enum hs_merge_keep { KEEP_ALL = 0, KEEP_LARGEST, KEEP_RANDOM, KEEP_MIDDLE, KEEP_LIKELY };

struct hs_merge_ranked;

struct hs_merge_keeper {
    enum hs_merge_keep keep;
    double density, epsilon;
    double factor; /* of what is kept */
    uint64_t stream;
    int64_t position;              /* of the next value */
    double low, high;              /* magnitudes at the ends of what is kept */
    int64_t n_low_left;            /* of the next values equal to `low`, so many are left out */
    int64_t n_high_kept;           /* of the next values equal to `high`, so many are kept */
    struct hs_merge_ranked *order; /* [n_cols] scratch of KEEP_LIKELY */
};

uint64_t hs_merge_stream(uint64_t seed, const char *tensor, int32_t input, int32_t part);

/* Look at the whole matrix, and be ready for its first row. */
HS_CHECKED hs_status hs_merge_keeper_init(struct hs_merge_keeper *keeper, enum hs_merge_keep keep,
                                          const struct hs_merge_params *params,
                                          const struct hs_merge_operand *operand, uint64_t stream,
                                          struct hs_error *err);
void hs_merge_keeper_clear(struct hs_merge_keeper *keeper);
/* The next rows, f64[n_rows, n_cols]: what is not kept becomes 0. */
void hs_merge_keeper_next(struct hs_merge_keeper *keeper, double *values, int64_t n_rows,
                          int64_t n_cols);

#endif
