/*
 * merge.h - several adapters become one: the methods of merge.def, target by target.
 *
 * A plan checks everything that can be checked without arithmetic and lists the targets of all
 * inputs. A target is then computed either into the factors of a new adapter, or, row by row, into
 * the full delta that is added to a model. Only one target's matrices are in memory at a time.
 *
 * One input alone is merged as by `linear` whatever the method of PEFT's (as PEFT does).
 *
 * Methods and parameters are those of hyprstream.h (struct hs_merge_params).
 *
 * In:      weights of any sign, finite; adapters that do not have a target leave it to the others.
 * Errors:  HS_INVALID_ARGUMENT (a parameter out of its range, which), HS_MISMATCH (shapes of
 *          different models; unequal ranks with a method that needs equal ones), HS_NOT_SUPPORTED
 *          (sparse deltas with a method on factors), HS_LIMIT, HS_BAD_FORMAT (not finite),
 *          HS_OUT_OF_MEMORY.
 * Owner:   a plan borrows its inputs; results are the caller's.
 * Threads: a plan is constant: targets may be computed by several threads at once. Results do not
 *          depend on it.
 * Source:  PEFT 0.21.2 (LoraModel.add_weighted_adapter, utils/merge_utils.py): the methods from
 *          linear to magnitude_prune_svd; mergekit 0.1.5: breadcrumbs, della and slerp on deltas.
 *          arXiv 2306.01708 (TIES), 2311.03099 (DARE), 2312.06795 (breadcrumbs), 2406.11617
 * (DELLA).
 */
#ifndef ADAPTERS_MERGE_H
#define ADAPTERS_MERGE_H

#include "base/lora.h"
#include "hyprstream.h"

#define HS_MERGE_INPUTS_MAX 64

typedef struct hs_merge_plan hs_merge_plan;
typedef struct hs_merge_delta hs_merge_delta;

enum hs_merge_method {
#define HS_MERGE_METHOD(id, name, operand, keep, combine, parameters, text) HS_MERGE_##id,
#include "adapters/merge.def"
#undef HS_MERGE_METHOD
    HS_MERGE_COUNT
};

struct hs_merge_input {
    const struct hs_lora *lora;
    const char *name; /* for messages */
    double weight;
};

/* Factors of one target. */
struct hs_merge_factors {
    struct hs_lora_target target; /* F32, scale 1; its memory is freed by hs_merge_factors_clear */
    double norm;                  /* Frobenius norm of the merged delta, before it was cut */
    double error;                 /* norm of what was cut off by the rank */
};

HS_CHECKED hs_status hs_merge_plan_new(const struct hs_merge_input *inputs, int32_t n_inputs,
                                       const struct hs_merge_params *params,
                                       hs_merge_plan **ret_plan, struct hs_error *err);
void hs_merge_plan_free(hs_merge_plan *plan);
int32_t hs_merge_plan_n_targets(const hs_merge_plan *plan);
/* A target as the first input that has it describes it: tensor, n_in, n_out and is_embedding. */
const struct hs_lora_target *hs_merge_plan_target(const hs_merge_plan *plan, int32_t i);
int32_t hs_merge_plan_find(const hs_merge_plan *plan, const char *tensor); /* -1: not merged */

/* The new adapter's factors for target i. */
HS_CHECKED hs_status hs_merge_factors(const hs_merge_plan *plan, int32_t i,
                                      struct hs_merge_factors *ret_factors, struct hs_error *err);
void hs_merge_factors_clear(struct hs_merge_factors *factors);

/*
 * The merged delta of target i, in the order of its GGUF tensor: f32[n_rows, n_cols], which is
 * [n_out, n_in], of an embedding [n_in, n_out].
 */
HS_CHECKED hs_status hs_merge_delta_new(const hs_merge_plan *plan, int32_t i,
                                        hs_merge_delta **ret_delta, struct hs_error *err);
void hs_merge_delta_free(hs_merge_delta *delta);
int64_t hs_merge_delta_n_rows(const hs_merge_delta *delta);
int64_t hs_merge_delta_n_cols(const hs_merge_delta *delta);
/* The next n rows. Out: values f64[n, n_cols]. */
HS_CHECKED hs_status hs_merge_delta_next(hs_merge_delta *delta, int64_t n, double *values,
                                         struct hs_error *err);

#endif
