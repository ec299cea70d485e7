/*
 * merge_internal.h - what the parts of merging share: the rows of merge.def and the plan.
 *
 * merge_method.c is the table, merge.c makes plans, merge_target.c computes a target;
 * merge_operand.c, merge_keep.c and merge_field.c are the steps of it, merge_svd.c the last one.
 */
#ifndef MERGE_INTERNAL_H
#define MERGE_INTERNAL_H

#include "merge_field.h"

enum hs_merge_operand_kind { FACTORS = 0, DELTAS, STACK };

struct hs_merge_row {
    const char *name;
    enum hs_merge_operand_kind operand;
    enum hs_merge_keep keep;
    enum hs_merge_combine combine;
    const char *parameters, *text;
};
const struct hs_merge_row *hs_merge_row(int32_t method);
HS_CHECKED hs_status hs_merge_params_check(const struct hs_merge_params *params,
                                           struct hs_error *err);

/* One input's part in a target. */
struct hs_merge_part {
    const struct hs_lora_target *target;
    int32_t input;
};

struct hs_merge_plan {
    struct hs_merge_params params; /* rank is never 0 */
    struct hs_merge_row row;
    int32_t n_inputs;
    double weights[HS_MERGE_INPUTS_MAX];
    int32_t n_targets;
    struct hs_merge_part *parts; /* of all targets one behind the other */
    int32_t *first;              /* [n_targets + 1], where a target's parts begin */
};

#endif
