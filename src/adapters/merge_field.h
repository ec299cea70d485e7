/*
 * merge_field.h - several matrices become one, value by value, in row-major order.
 *
 * Owner:   the field takes the operands that are added to it.
 * Threads: one at a time.
 */
#ifndef MERGE_FIELD_H
#define MERGE_FIELD_H

#include "merge_keep.h"

enum hs_merge_combine { SUM = 0, ELECT, ELECT_WEIGHTED, ARC };

struct hs_merge_field {
    enum hs_merge_combine combine; /* ARC is SUM with the weights of hs_merge_arc */
    enum hs_merge_sign majority_sign;
    int64_t n_rows, n_cols, block_rows;
    int32_t n; /* operands */
    struct hs_merge_operand operands[HS_MERGE_INPUTS_MAX];
    struct hs_merge_keeper keepers[HS_MERGE_INPUTS_MAX];
    double weights[HS_MERGE_INPUTS_MAX];
    int64_t row;    /* the next one */
    double *blocks; /* f64[n, block_rows, n_cols] */
};

/* The next n rows, f64[n, n_cols]. The first call reserves memory. */
HS_CHECKED hs_status hs_merge_field_next(struct hs_merge_field *field, int64_t n, double *values,
                                         struct hs_error *err);
void hs_merge_field_clear(struct hs_merge_field *field);

/*
 * Weights of the point at t on the arc from weights[0] * operands[0] to weights[1] * operands[1],
 * seen as vectors: of the straight line when they are nearly parallel; one that is nearly 0 counts
 * as at a right angle. Each is of two.
 */
HS_CHECKED hs_status hs_merge_arc(const struct hs_merge_operand *operands, const double *weights,
                                  double t, double *ret_weights, struct hs_error *err);

#endif
