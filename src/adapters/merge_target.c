/*
 * merge_target.c - one target: as a product of factors where the merge is one (factors merged, or
 * deltas merely added), else row by row.
 */
#include <math.h>
#include <string.h>

#include <cblas.h>

#include "base/error.h"
#include "base/mem.h"
#include "merge_internal.h"
#include "merge_svd.h"

struct hs_merge_delta {
    bool is_product;
    struct hs_merge_operand product;
    struct hs_merge_field field;
    int64_t row; /* the next one of the product */
};

#define RANDOM_SVD_SEED 1 /* always: two runs give the same */

enum part_of { PART_DELTA = 0, PART_A, PART_B };

/* ---- fields of operands ---- */

static hs_status load_operand(const struct hs_lora_target *target, enum part_of part,
                              struct hs_merge_operand *ret_operand, struct hs_error *err)
{
    if (part == PART_DELTA) {
        return hs_merge_operand_delta(target, ret_operand, err);
    }
    return hs_merge_operand_matrix(part == PART_A ? &target->a : &target->b, ret_operand, err);
}

/* PEFT shares weight and scale between both factors; the sign goes to A alone. */
static double weight_of(const hs_merge_plan *plan, const struct hs_merge_part *part,
                        enum part_of which)
{
    double weight = plan->weights[part->input];
    if (which == PART_DELTA) {
        return weight;
    }
    weight *= (double)part->target->scale;
    double root = sqrt(fabs(weight));
    return which == PART_A && weight < 0 ? -root : root;
}

static hs_status fill_field(const hs_merge_plan *plan, int32_t i, enum part_of which,
                            struct hs_merge_field *field, struct hs_error *err)
{
    field->combine = plan->row.combine;
    field->majority_sign = plan->params.majority_sign;
    for (int32_t p = plan->first[i]; p < plan->first[i + 1]; p++) {
        const struct hs_merge_part *part = &plan->parts[p];
        int32_t k = field->n;
        hs_status status = load_operand(part->target, which, &field->operands[k], err);
        if (status != HS_OK) {
            return status;
        }
        field->n++; /* hs_merge_field_clear frees it from now on */
        field->weights[k] = weight_of(plan, part, which);
        uint64_t stream =
            hs_merge_stream(plan->params.seed, part->target->tensor, part->input, (int32_t)which);
        status = hs_merge_keeper_init(&field->keepers[k], plan->row.keep, &plan->params,
                                      &field->operands[k], stream, err);
        if (status != HS_OK) {
            return status;
        }
    }
    field->n_rows = field->operands[0].n_rows;
    field->n_cols = field->operands[0].n_cols;
    if (field->combine == ARC && field->n == 2) {
        return hs_merge_arc(field->operands, field->weights, plan->params.t, field->weights, err);
    }
    if (field->combine == ARC) { /* the other end is 0: at a right angle */
        bool is_first = plan->parts[plan->first[i]].input == 0;
        double t = plan->params.t;
        field->weights[0] *= sin((is_first ? 1 - t : t) * M_PI_2);
    }
    return HS_OK;
}

/* ---- products ---- */

/* One factor of all adapters, merged: f64 of the shape of the first. */
static hs_status merge_factor(const hs_merge_plan *plan, int32_t i, enum part_of which,
                              double **ret_values, struct hs_error *err)
{
    struct hs_merge_field field = {0};
    double *values = NULL;
    hs_status status = fill_field(plan, i, which, &field, err);
    if (status == HS_OK) {
        values = hs_calloc((size_t)(field.n_rows * field.n_cols), sizeof *values);
        status = values == NULL ? hs_error_nomem(err, "a merged factor")
                                : hs_merge_field_next(&field, field.n_rows, values, err);
    }
    hs_merge_field_clear(&field);
    if (status != HS_OK) {
        hs_free(values);
        return status;
    }
    *ret_values = values;
    return HS_OK;
}

static double *transposed(const double *values, int64_t n_rows, int64_t n_cols)
{
    double *copy = hs_calloc((size_t)(n_rows * n_cols), sizeof *copy);
    for (int64_t i = 0; copy != NULL && i < n_rows * n_cols; i++) {
        copy[i % n_cols * n_rows + i / n_cols] = values[i];
    }
    return copy;
}

static hs_status merge_factors(const hs_merge_plan *plan, int32_t i,
                               struct hs_merge_operand *product, struct hs_error *err)
{
    const struct hs_lora_target *target = hs_merge_plan_target(plan, i);
    HS_CLEANUP(hs_freep) double *a = NULL;
    HS_CLEANUP(hs_freep) double *b = NULL;
    hs_status status = merge_factor(plan, i, PART_A, &a, err);
    if (status == HS_OK) {
        status = merge_factor(plan, i, PART_B, &b, err);
    }
    if (status != HS_OK) {
        return status;
    }
    product->rank = target->rank;
    if (!target->is_embedding) {
        product->left = b;
        product->right = a;
        a = b = NULL;
        return HS_OK;
    }
    product->right = transposed(b, target->n_out, target->rank);
    if (product->right == NULL) {
        return hs_error_nomem(err, "a merged factor");
    }
    product->left = a;
    a = NULL;
    return HS_OK;
}

/* Put the factors of one operand into the columns and rows from `at` on. */
static void stack_operand(struct hs_merge_operand *product, const struct hs_merge_operand *operand,
                          double weight, int32_t at)
{
    for (int64_t row = 0; row < product->n_rows; row++) {
        for (int32_t r = 0; r < operand->rank; r++) {
            product->left[row * product->rank + at + r] = operand->left[row * operand->rank + r];
        }
    }
    double *to = product->right + at * product->n_cols;
    for (int64_t j = 0; j < operand->rank * product->n_cols; j++) {
        to[j] = weight * operand->scale * operand->right[j];
    }
}

static hs_status stack_field(const struct hs_merge_field *field, struct hs_merge_operand *product,
                             struct hs_error *err)
{
    for (int32_t k = 0; k < field->n; k++) {
        product->rank += field->operands[k].rank;
    }
    product->left = hs_calloc((size_t)(product->n_rows * product->rank), sizeof(double));
    product->right = hs_calloc((size_t)(product->n_cols * product->rank), sizeof(double));
    if (product->left == NULL || product->right == NULL) {
        return hs_error_nomem(err, "the factors of adapters");
    }
    int32_t at = 0;
    for (int32_t k = 0; k < field->n; k++) {
        stack_operand(product, &field->operands[k], field->weights[k], at);
        at += field->operands[k].rank;
    }
    return HS_OK;
}

/* ---- deltas ---- */

static bool is_mere_sum(const struct hs_merge_field *field)
{
    bool is_sum = field->combine == SUM || field->combine == ARC;
    for (int32_t k = 0; k < field->n; k++) {
        is_sum = is_sum && field->keepers[k].keep == KEEP_ALL && field->operands[k].sparse == NULL;
    }
    return is_sum;
}

static hs_status fill_delta(const hs_merge_plan *plan, int32_t i, hs_merge_delta *delta,
                            struct hs_error *err)
{
    const struct hs_lora_target *target = hs_merge_plan_target(plan, i);
    delta->product.n_rows = target->is_embedding ? target->n_in : target->n_out;
    delta->product.n_cols = target->is_embedding ? target->n_out : target->n_in;
    delta->product.scale = 1;
    if (plan->row.operand == FACTORS) {
        delta->is_product = true;
        return merge_factors(plan, i, &delta->product, err);
    }
    hs_status status = fill_field(plan, i, PART_DELTA, &delta->field, err);
    if (status == HS_OK && is_mere_sum(&delta->field)) {
        delta->is_product = true;
        status = stack_field(&delta->field, &delta->product, err);
        hs_merge_field_clear(&delta->field);
    }
    return status;
}

hs_status hs_merge_delta_new(const hs_merge_plan *plan, int32_t i, hs_merge_delta **ret_delta,
                             struct hs_error *err)
{
    hs_merge_delta *delta = hs_calloc(1, sizeof *delta);
    if (delta == NULL) {
        return hs_error_nomem(err, "a merged delta");
    }
    hs_status status = fill_delta(plan, i, delta, err);
    if (status != HS_OK) {
        hs_merge_delta_free(delta);
        return status;
    }
    *ret_delta = delta;
    return HS_OK;
}

void hs_merge_delta_free(hs_merge_delta *delta)
{
    if (delta != NULL) {
        hs_merge_operand_clear(&delta->product);
        hs_merge_field_clear(&delta->field);
        hs_free(delta);
    }
}

int64_t hs_merge_delta_n_rows(const hs_merge_delta *delta)
{
    return delta->product.n_rows;
}

int64_t hs_merge_delta_n_cols(const hs_merge_delta *delta)
{
    return delta->product.n_cols;
}

hs_status hs_merge_delta_next(hs_merge_delta *delta, int64_t n, double *values,
                              struct hs_error *err)
{
    if (!delta->is_product) {
        return hs_merge_field_next(&delta->field, n, values, err);
    }
    hs_merge_operand_rows(&delta->product, delta->row, n, values);
    delta->row += n;
    return HS_OK;
}

/* ---- factors of a new adapter ---- */

/* The norm of left right without making it: the sum over left^T left times right right^T. */
static hs_status product_norm(const struct hs_merge_operand *product, double *ret_norm,
                              struct hs_error *err)
{
    int r = product->rank;
    int n_cols = (int)product->n_cols;
    HS_CLEANUP(hs_freep) double *grams = hs_calloc((size_t)r * (size_t)r, 2 * sizeof *grams);
    if (grams == NULL) {
        return hs_error_nomem(err, "the norm of a merged delta");
    }
    double *other = grams + (int64_t)r * r;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, r, r, (int)product->n_rows, 1,
                product->left, r, product->left, r, 0, grams, r);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, r, r, n_cols, 1, product->right, n_cols,
                product->right, n_cols, 0, other, r);
    *ret_norm = sqrt(fmax(0, cblas_ddot(r * r, grams, 1, other, 1)));
    return HS_OK;
}

static hs_status decompose_full(const hs_merge_plan *plan, hs_merge_delta *delta,
                                struct hs_merge_product *ret, struct hs_error *err)
{
    int64_t m = delta->product.n_rows;
    int64_t n = delta->product.n_cols;
    HS_CLEANUP(hs_freep) double *matrix = hs_calloc((size_t)m * (size_t)n, sizeof *matrix);
    if (matrix == NULL) {
        return hs_error_nomem(err, "a merged delta");
    }
    hs_status status = hs_merge_delta_next(delta, m, matrix, err);
    if (status != HS_OK) {
        return status;
    }
    enum hs_merge_svd svd = plan->params.svd;
    bool is_small = (m < n ? m : n) <= HS_MERGE_SVD_EXACT_SIDE;
    if (svd == HS_MERGE_SVD_EXACT || (svd == HS_MERGE_SVD_AUTO && is_small)) {
        return hs_merge_svd_exact(matrix, m, n, plan->params.rank, ret, err);
    }
    return hs_merge_svd_randomised(matrix, m, n, plan->params.rank, RANDOM_SVD_SEED, ret, err);
}

static hs_status decompose(const hs_merge_plan *plan, hs_merge_delta *delta,
                           struct hs_merge_product *ret, struct hs_error *err)
{
    struct hs_merge_operand *product = &delta->product;
    int64_t side = product->n_rows < product->n_cols ? product->n_rows : product->n_cols;
    if (delta->is_product && plan->row.operand != DELTAS) {
        hs_status status = product_norm(product, &ret->norm, err);
        if (status == HS_OK) {
            ret->rank = product->rank;
            ret->left = product->left;
            ret->right = product->right;
            product->left = product->right = NULL;
        }
        return status;
    }
    if (delta->is_product && product->rank <= side) {
        return hs_merge_svd_product(product->left, product->right, product->n_rows, product->n_cols,
                                    product->rank, plan->params.rank, ret, err);
    }
    return decompose_full(plan, delta, ret, err);
}

/* values f64[n_rows, n_cols] as a matrix of its own, transposed if need be. */
static hs_status to_matrix(const double *values, int64_t n_rows, int64_t n_cols, bool is_transposed,
                           const char *tensor, struct hs_lora_matrix *ret_matrix,
                           struct hs_error *err)
{
    float *data = hs_calloc((size_t)(n_rows * n_cols), sizeof *data);
    if (data == NULL) {
        return hs_error_nomem(err, "the factors of a merged adapter");
    }
    for (int64_t i = 0; i < n_rows * n_cols; i++) {
        float value = (float)values[i];
        if (!isfinite(value)) {
            hs_free(data);
            hs_error_set(err, HS_BAD_FORMAT, "merged values of %s are not finite", tensor);
            hs_error_hint(err, "use smaller weights, or check the adapters");
            return HS_BAD_FORMAT;
        }
        data[is_transposed ? i % n_cols * n_rows + i / n_cols : i] = value;
    }
    *ret_matrix = (struct hs_lora_matrix){.type = HS_LORA_F32,
                                          .n_rows = is_transposed ? n_cols : n_rows,
                                          .n_cols = is_transposed ? n_rows : n_cols,
                                          .data = data};
    return HS_OK;
}

static hs_status to_target(const struct hs_lora_target *like, const struct hs_merge_product *from,
                           struct hs_merge_factors *ret, struct hs_error *err)
{
    bool is_embedding = like->is_embedding;
    struct hs_merge_factors factors = {.norm = from->norm, .error = from->error};
    struct hs_lora_target *target = &factors.target;
    memcpy(target->tensor, like->tensor, sizeof target->tensor);
    target->n_in = like->n_in;
    target->n_out = like->n_out;
    target->rank = from->rank;
    target->scale = 1;
    target->is_embedding = is_embedding;
    hs_status status = to_matrix(from->left, is_embedding ? like->n_in : like->n_out, from->rank,
                                 false, like->tensor, is_embedding ? &target->a : &target->b, err);
    if (status == HS_OK) {
        status = to_matrix(from->right, from->rank, is_embedding ? like->n_out : like->n_in,
                           is_embedding, like->tensor, is_embedding ? &target->b : &target->a, err);
    }
    if (status != HS_OK) {
        hs_merge_factors_clear(&factors);
        return status;
    }
    *ret = factors;
    return HS_OK;
}

hs_status hs_merge_factors(const hs_merge_plan *plan, int32_t i,
                           struct hs_merge_factors *ret_factors, struct hs_error *err)
{
    hs_merge_delta *delta = NULL;
    struct hs_merge_product product = {0};
    hs_status status = hs_merge_delta_new(plan, i, &delta, err);
    if (status == HS_OK) {
        status = decompose(plan, delta, &product, err);
    }
    hs_merge_delta_free(delta);
    if (status == HS_OK) {
        status = to_target(hs_merge_plan_target(plan, i), &product, ret_factors, err);
    }
    hs_free(product.left);
    hs_free(product.right);
    return status;
}

void hs_merge_factors_clear(struct hs_merge_factors *factors)
{
    hs_free((void *)(uintptr_t)factors->target.a.data);
    hs_free((void *)(uintptr_t)factors->target.b.data);
    factors->target.a.data = NULL;
    factors->target.b.data = NULL;
}
