/*
 * lora_test.h - random adapters, batches that use them, and what a batch must become: computed in
 * float64 from the weights as they are stored, with a bound for the rounding of f32.
 *
 * The bound is the usual one (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1):
 * a sum of n products in f32, in any order, is off by at most n u / (1 - n u) times the sum of
 * their magnitudes, u = 2^-24.
 */
#ifndef LORA_TEST_H
#define LORA_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lora_kernels.h"

#define LORA_TEST_GROUPS_MAX 8
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The next number of a fixed series, in [0, n). */
uint32_t lora_test_random(uint32_t n);
void lora_test_seed(uint64_t seed);
/* In [-1, 1). */
float lora_test_value(void);

/* Targets with random weights; sparse ones keep about `density` of their blocks. */
struct hs_lora_target lora_test_target(int64_t n_in, int64_t n_out, int32_t rank,
                                       enum hs_lora_type a_type, enum hs_lora_type b_type);
struct hs_lora_target lora_test_sparse(int64_t n_in, int64_t n_out, int32_t block_rows,
                                       int32_t block_cols, enum hs_lora_type type, double density);
void lora_test_target_free(struct hs_lora_target *target);

/* Rows, and groups that use them. Memory ends where the last row ends; what lies between rows is
 * checked to stay as it was. */
struct lora_test_batch {
    int32_t n_rows, n_groups;
    int64_t n_in, n_out;
    size_t x_stride, y_stride;
    float *x, *y;
    struct hs_lora_target targets[LORA_TEST_GROUPS_MAX];
    struct hs_lora_group groups[LORA_TEST_GROUPS_MAX];
};
struct lora_test_batch lora_test_batch(int32_t n_rows, int64_t n_in, int64_t n_out,
                                       size_t stride_more);
/* A group of n_rows different rows of the batch, which takes the target. */
void lora_test_group(struct lora_test_batch *batch, struct hs_lora_target target, int32_t n_rows,
                     enum hs_adapter_weights keep);
/* Apply with the kernels as nth threads do, one after the other, and compare. */
void lora_test_check(struct lora_test_batch *batch, const struct hs_lora_kernels *kernels, int nth);
void lora_test_batch_free(struct lora_test_batch *batch);

#endif
