/* merge_method.c - the table of merge methods, and the ranges of their parameters. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "merge_internal.h"

static const struct hs_merge_row rows[] = {
#define HS_MERGE_METHOD(id, name, operand, keep, combine, parameters, text)                        \
    {name, operand, keep, combine, parameters, text},
#include "adapters/merge.def"
#undef HS_MERGE_METHOD
};

const struct hs_merge_row *hs_merge_row(int32_t method)
{
    return &rows[method];
}

int32_t hs_merge_n_methods(void)
{
    return HS_MERGE_COUNT;
}

int32_t hs_merge_method_find(const char *name)
{
    for (int32_t i = 0; i < HS_MERGE_COUNT; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

const char *hs_merge_method_name(int32_t method)
{
    return rows[method].name;
}

const char *hs_merge_method_text(int32_t method)
{
    return rows[method].text;
}

const char *hs_merge_method_params(int32_t method)
{
    return rows[method].parameters;
}

void hs_merge_params_defaults(struct hs_merge_params *params)
{
    *params = (struct hs_merge_params){
        .method = HS_MERGE_SVD, .density = 0.5, .gamma = 0.01, .epsilon = 0.15, .t = 0.5};
}

static hs_status out_of_range(const char *name, double value, const char *range,
                              struct hs_error *err)
{
    hs_error_set(err, HS_INVALID_ARGUMENT, "%s is %g, which is not %s", name, value, range);
    hs_error_hint(err, "give a value in that range");
    return HS_INVALID_ARGUMENT;
}

hs_status hs_merge_params_check(const struct hs_merge_params *params, struct hs_error *err)
{
    if (params->method < 0 || params->method >= HS_MERGE_COUNT) {
        return out_of_range("method", (double)params->method, "one of the methods", err);
    }
    if (!(params->density > 0 && params->density <= 1)) {
        return out_of_range("density", params->density, "above 0 and at most 1", err);
    }
    if (!(params->gamma >= 0 && params->gamma < 1)) {
        return out_of_range("gamma", params->gamma, "at least 0 and less than 1", err);
    }
    if (!(params->t >= 0 && params->t <= 1)) {
        return out_of_range("t", params->t, "from 0 to 1", err);
    }
    if (!(params->epsilon >= 0 && params->epsilon < 0.5)) {
        return out_of_range("epsilon", params->epsilon, "at least 0 and less than 0.5", err);
    }
    if (rows[params->method].keep == KEEP_LIKELY && params->density < 1 &&
        (params->density - params->epsilon <= 0 || params->density + params->epsilon >= 1)) {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "density %g with epsilon %g gives probabilities that are not between 0 and 1",
                     params->density, params->epsilon);
        hs_error_hint(err, "choose an epsilon below %g",
                      fmin(params->density, 1 - params->density));
        return HS_INVALID_ARGUMENT;
    }
    if (params->rank < 0 || params->rank > HS_LORA_RANK_MAX) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "rank %d is not from 1 to %d", params->rank,
                     HS_LORA_RANK_MAX);
        hs_error_hint(err, "leave it out to get the highest rank of the adapters");
        return HS_INVALID_ARGUMENT;
    }
    return HS_OK;
}
