/*
 * merge_test.h - adapters of random values for the tests of merging, and their deltas computed the
 * plain way.
 *
 * Owner:   the caller frees adapters with test_lora_free, deltas with free.
 */
#ifndef MERGE_TEST_H
#define MERGE_TEST_H

#include "adapters/merge.h"

/* hs_merge_params_defaults */
struct hs_merge_params test_params(void);

struct test_shape {
    const char *tensor;
    int32_t n_out, n_in, rank; /* rank 0: a sparse delta in blocks of 2 x 2 */
    bool is_embedding;
    enum hs_lora_type type; /* of both factors, or of the blocks */
};

/* Values of about 1, by seed; scale is that of every target. */
struct hs_lora *test_lora_new(const struct test_shape *shapes, int32_t n, float scale,
                              uint32_t seed);
void test_lora_free(struct hs_lora *lora);

/* scale * B A in the order of the GGUF tensor, by three loops; NULL target: zeros of n values. */
double *test_delta(const struct hs_lora_target *target, size_t n);
/* The same of a merged one, from hs_merge_factors. */
double *test_merged(const hs_merge_plan *plan, int32_t i);
/* And from hs_merge_delta_next, in uneven steps. */
double *test_merged_rows(const hs_merge_plan *plan, int32_t i);

/* The plan must be made. */
hs_merge_plan *test_plan(const struct hs_merge_input *inputs, int32_t n,
                         const struct hs_merge_params *params);

/* max |a - b| <= tolerance * max |b| */
void expect_near(const double *a, const double *b, size_t n, double tolerance);

#endif
