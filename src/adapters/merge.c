/* merge.c - plans: which adapters meet in which target, and whether the method can be done there.
 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "merge_internal.h"

static hs_status check_inputs(const struct hs_merge_input *inputs, int32_t n,
                              const struct hs_merge_params *params, struct hs_error *err)
{
    hs_status status = hs_merge_params_check(params, err);
    if (status != HS_OK) {
        return status;
    }
    if (n < 1 || n > HS_MERGE_INPUTS_MAX) {
        hs_error_set(err, n < 1 ? HS_INVALID_ARGUMENT : HS_LIMIT,
                     "%d adapters to merge; it must be 1 to %d", n, HS_MERGE_INPUTS_MAX);
        hs_error_hint(err, "merge some first, then the results");
        return n < 1 ? HS_INVALID_ARGUMENT : HS_LIMIT;
    }
    if (hs_merge_row(params->method)->combine == ARC && n != 2) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "%s takes two adapters, not %d",
                     hs_merge_method_name(params->method), n);
        hs_error_hint(err, "use task_arithmetic for any number");
        return HS_INVALID_ARGUMENT;
    }
    for (int32_t k = 0; k < n; k++) {
        if (!isfinite(inputs[k].weight)) {
            hs_error_set(err, HS_INVALID_ARGUMENT, "the weight of adapter '%s' is not a number",
                         inputs[k].name);
            hs_error_hint(err, "give a finite weight; it may be negative");
            return HS_INVALID_ARGUMENT;
        }
    }
    return HS_OK;
}

/* As PEFT: one adapter alone is only weighted. A rank that was asked for is still made. */
static const struct hs_merge_row *choose_row(const struct hs_merge_params *params, int32_t n_inputs)
{
    const struct hs_merge_row *row = hs_merge_row(params->method);
    if (n_inputs > 1 || params->method > HS_MERGE_MAGNITUDE_PRUNE_SVD) {
        return row;
    }
    return hs_merge_row(row->operand == DELTAS && params->rank > 0 ? HS_MERGE_SVD
                                                                   : HS_MERGE_LINEAR);
}

static const struct hs_lora_target *find_target(const struct hs_lora *lora, const char *tensor)
{
    for (int32_t i = 0; i < lora->n_targets; i++) {
        if (strcmp(lora->targets[i].tensor, tensor) == 0) {
            return &lora->targets[i];
        }
    }
    return NULL;
}

/* List the targets of all inputs in the order in which they first come. */
static hs_status list_targets(hs_merge_plan *plan, const struct hs_merge_input *inputs,
                              struct hs_error *err)
{
    size_t n_all = 1;
    for (int32_t k = 0; k < plan->n_inputs; k++) {
        n_all += (size_t)inputs[k].lora->n_targets;
    }
    plan->parts = hs_calloc(n_all, sizeof *plan->parts);
    plan->first = hs_calloc(n_all, sizeof *plan->first);
    if (plan->parts == NULL || plan->first == NULL) {
        return hs_error_nomem(err, "the plan of a merge");
    }
    int32_t n_parts = 0;
    for (int32_t k = 0; k < plan->n_inputs; k++) {
        for (int32_t i = 0; i < inputs[k].lora->n_targets; i++) {
            const char *tensor = inputs[k].lora->targets[i].tensor;
            if (hs_merge_plan_find(plan, tensor) >= 0) {
                continue;
            }
            for (int32_t other = k; other < plan->n_inputs; other++) {
                const struct hs_lora_target *target = find_target(inputs[other].lora, tensor);
                if (target != NULL) {
                    plan->parts[n_parts++] = (struct hs_merge_part){target, other};
                }
            }
            plan->first[++plan->n_targets] = n_parts;
        }
    }
    return HS_OK;
}

/* The method on products that does what this one does on factors. */
static const char *method_on_deltas(const struct hs_merge_row *row)
{
    for (int i = 0; i < HS_MERGE_COUNT; i++) {
        const struct hs_merge_row *other = hs_merge_row(i);
        if (other->operand == DELTAS && other->keep == row->keep &&
            other->combine == row->combine) {
            return other->name;
        }
    }
    return row->name;
}

static hs_status check_part(const hs_merge_plan *plan, const struct hs_merge_part *part,
                            const struct hs_merge_part *first, const struct hs_merge_input *inputs,
                            struct hs_error *err)
{
    const struct hs_lora_target *target = part->target;
    const struct hs_lora_target *other = first->target;
    const char *name = inputs[part->input].name;
    const char *other_name = inputs[first->input].name;
    const char *better = method_on_deltas(&plan->row);
    if (target->n_in != other->n_in || target->n_out != other->n_out ||
        target->is_embedding != other->is_embedding) {
        hs_error_set(err, HS_MISMATCH,
                     "%s is %lld x %lld in adapter '%s' and %lld x %lld in '%s': they belong to "
                     "different models",
                     target->tensor, (long long)target->n_out, (long long)target->n_in, name,
                     (long long)other->n_out, (long long)other->n_in, other_name);
        hs_error_hint(err, "merge adapters of the same base model");
        return HS_MISMATCH;
    }
    if (target->n_in > INT32_MAX || target->n_out > INT32_MAX) {
        return hs_error_set(err, HS_LIMIT, "%s of adapter '%s' has a side above %d", target->tensor,
                            name, INT32_MAX);
    }
    if (target->rank == 0 && plan->row.operand != DELTAS) {
        hs_error_set(err, HS_NOT_SUPPORTED,
                     "adapter '%s' is sparse in %s: %s merges factors, which it does not have",
                     name, target->tensor, plan->row.name);
        hs_error_hint(err, "use %s", better);
        return HS_NOT_SUPPORTED;
    }
    if (target->rank != other->rank && plan->row.operand == FACTORS) {
        hs_error_set(err, HS_MISMATCH,
                     "%s has rank %d in adapter '%s' and %d in '%s': %s needs equal ranks",
                     target->tensor, target->rank, name, other->rank, other_name, plan->row.name);
        hs_error_hint(err, "use %s, which takes any ranks", better);
        return HS_MISMATCH;
    }
    return HS_OK;
}

static hs_status check_targets(const hs_merge_plan *plan, const struct hs_merge_input *inputs,
                               struct hs_error *err)
{
    for (int32_t i = 0; i < plan->n_targets; i++) {
        const struct hs_merge_part *first = &plan->parts[plan->first[i]];
        int64_t rank = 0;
        for (int32_t p = plan->first[i]; p < plan->first[i + 1]; p++) {
            hs_status status = check_part(plan, &plan->parts[p], first, inputs, err);
            if (status != HS_OK) {
                return status;
            }
            rank += plan->parts[p].target->rank;
        }
        if (plan->row.operand == STACK && rank > HS_LORA_RANK_MAX) {
            hs_error_set(err, HS_LIMIT, "the ranks in %s add up to %lld; the limit is %d",
                         first->target->tensor, (long long)rank, HS_LORA_RANK_MAX);
            hs_error_hint(err, "use svd with a rank");
            return HS_LIMIT;
        }
    }
    return HS_OK;
}

static hs_status choose_rank(hs_merge_plan *plan, struct hs_error *err)
{
    for (int32_t p = 0; p < plan->first[plan->n_targets] && plan->params.rank == 0; p++) {
        if (plan->parts[p].target->rank == 0 && plan->row.operand == DELTAS) {
            hs_error_set(err, HS_INVALID_ARGUMENT,
                         "a sparse adapter has no rank that the new one could have");
            hs_error_hint(err, "say which rank it shall have");
            return HS_INVALID_ARGUMENT;
        }
    }
    int32_t rank = 0;
    for (int32_t p = 0; p < plan->first[plan->n_targets]; p++) {
        int32_t other = plan->parts[p].target->rank;
        rank = other > rank ? other : rank;
    }
    plan->params.rank = plan->params.rank > 0 ? plan->params.rank : rank;
    return HS_OK;
}

static hs_status fill_plan(hs_merge_plan *plan, const struct hs_merge_input *inputs,
                           struct hs_error *err)
{
    hs_status status = list_targets(plan, inputs, err);
    if (status == HS_OK) {
        status = check_targets(plan, inputs, err);
    }
    if (status == HS_OK) {
        status = choose_rank(plan, err);
    }
    if (status == HS_OK && plan->n_targets == 0) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "the adapters change nothing");
        hs_error_hint(err, "name adapters that have weights");
        return HS_INVALID_ARGUMENT;
    }
    return status;
}

hs_status hs_merge_plan_new(const struct hs_merge_input *inputs, int32_t n_inputs,
                            const struct hs_merge_params *params, hs_merge_plan **ret_plan,
                            struct hs_error *err)
{
    hs_status status = check_inputs(inputs, n_inputs, params, err);
    if (status != HS_OK) {
        return status;
    }
    hs_merge_plan *plan = hs_calloc(1, sizeof *plan);
    if (plan == NULL) {
        return hs_error_nomem(err, "the plan of a merge");
    }
    plan->params = *params;
    plan->row = *choose_row(params, n_inputs);
    plan->n_inputs = n_inputs;
    for (int32_t k = 0; k < n_inputs; k++) {
        plan->weights[k] = inputs[k].weight;
    }
    status = fill_plan(plan, inputs, err);
    if (status != HS_OK) {
        hs_merge_plan_free(plan);
        return status;
    }
    *ret_plan = plan;
    return HS_OK;
}

void hs_merge_plan_free(hs_merge_plan *plan)
{
    if (plan != NULL) {
        hs_free(plan->parts);
        hs_free(plan->first);
        hs_free(plan);
    }
}

int32_t hs_merge_plan_n_targets(const hs_merge_plan *plan)
{
    return plan->n_targets;
}

const struct hs_lora_target *hs_merge_plan_target(const hs_merge_plan *plan, int32_t i)
{
    return plan->parts[plan->first[i]].target;
}

int32_t hs_merge_plan_find(const hs_merge_plan *plan, const char *tensor)
{
    for (int32_t i = 0; i < plan->n_targets; i++) {
        if (strcmp(hs_merge_plan_target(plan, i)->tensor, tensor) == 0) {
            return i;
        }
    }
    return -1;
}
