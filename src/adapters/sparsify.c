/* sparsify.c - two passes over a delta: the norms of its blocks, then the values of the largest. */
#include "adapters/sparsify.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/half.h"
#include "base/mem.h"

struct work {
    const hs_merge_plan *plan;
    int32_t i; /* the target */
    const struct hs_sparsify_params *params;
    int64_t n_rows, n_cols; /* of blocks */
    double *rows;           /* f64[block_rows, n_in]: one row of blocks */
    float *energy;          /* [n_rows, n_cols]: squares of the blocks' norms */
    double total;           /* of energy */
    int64_t n_ties;         /* blocks just at the threshold that are still kept */
    float threshold;        /* larger ones are kept */
    int64_t *row_start;
    int32_t *column;
    void *values;
};

static void work_clear(struct work *work)
{
    hs_free(work->rows);
    hs_free(work->energy);
    hs_free(work->row_start);
    hs_free(work->column);
    hs_free(work->values);
}

/* ---- checks ---- */

static hs_status check_params(const struct hs_sparsify_params *params, struct hs_error *err)
{
    if (params->block_rows < 1 || params->block_rows > HS_SPARSIFY_BLOCK_MAX ||
        params->block_cols < 1 || params->block_cols > HS_SPARSIFY_BLOCK_MAX) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "blocks of %d x %d values, 1 to %d on each side",
                     (int)params->block_rows, (int)params->block_cols, HS_SPARSIFY_BLOCK_MAX);
        return hs_error_hint(err, "use 16 x 1, or 1 x 1 for single values");
    }
    if (!(params->density >= 0 && params->density <= 1)) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "density %g, above 0 and 1 at most",
                     params->density);
        return hs_error_hint(err, "0.1 keeps a tenth of the blocks");
    }
    if (!(params->max_error >= 0 && params->max_error < 1)) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "max_error %g, from 0 to below 1",
                     params->max_error);
        return hs_error_hint(err, "0.1 keeps all but a tenth of the delta's norm");
    }
    if (params->type < HS_LORA_F32 || params->type > HS_LORA_BF16) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "sparse values of an unknown type");
        return hs_error_hint(err, "use f32, f16 or bf16");
    }
    return HS_OK;
}

static hs_status check_target(const struct hs_lora_target *target,
                              const struct hs_sparsify_params *params, struct hs_error *err)
{
    if (target->is_embedding) {
        hs_error_set(err, HS_NOT_SUPPORTED, "%s: rows of embeddings are looked up, not multiplied",
                     target->tensor);
        return hs_error_hint(err, "keep this matrix as A and B");
    }
    if (target->n_out % params->block_rows != 0 || target->n_in % params->block_cols != 0) {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "%s: %lld x %lld values cannot be cut into blocks of %d x %d", target->tensor,
                     (long long)target->n_out, (long long)target->n_in, (int)params->block_rows,
                     (int)params->block_cols);
        return hs_error_hint(err, "use smaller blocks; 1 x 1 always fits");
    }
    return HS_OK;
}

/* ---- which blocks ---- */

/* Call take for each row of blocks of the delta. */
static hs_status for_block_rows(struct work *work,
                                hs_status (*take)(struct work *work, int64_t row,
                                                  struct hs_error *err),
                                struct hs_error *err)
{
    hs_merge_delta *delta = NULL;
    hs_status status = hs_merge_delta_new(work->plan, work->i, &delta, err);
    for (int64_t row = 0; row < work->n_rows && status == HS_OK; row++) {
        status = hs_merge_delta_next(delta, work->params->block_rows, work->rows, err);
        if (status == HS_OK) {
            status = take(work, row, err);
        }
    }
    hs_merge_delta_free(delta);
    return status;
}

static hs_status take_energy(struct work *work, int64_t row, struct hs_error *err)
{
    (void)err;
    int32_t n_cols = work->params->block_cols;
    float *energy = work->energy + row * work->n_cols;
    for (int64_t column = 0; column < work->n_cols; column++) {
        double sum = 0;
        for (int32_t r = 0; r < work->params->block_rows; r++) {
            const double *values = work->rows + (r * work->n_cols + column) * n_cols;
            for (int32_t c = 0; c < n_cols; c++) {
                sum += values[c] * values[c];
            }
        }
        energy[column] = (float)sum;
        work->total += sum;
    }
    return HS_OK;
}

/* How many blocks have at least this energy, and how much the others have together. */
static int64_t count_from(const struct work *work, float least, double *ret_lost)
{
    int64_t n = 0;
    double lost = 0;
    for (int64_t i = 0; i < work->n_rows * work->n_cols; i++) {
        bool is_kept = work->energy[i] >= least;
        n += is_kept;
        lost += is_kept ? 0 : (double)work->energy[i];
    }
    *ret_lost = lost;
    return n;
}

/*
 * The largest threshold that still keeps enough, bit by bit from the highest: positive floats are
 * in the order of their bits.
 */
static void find_threshold(struct work *work)
{
    const struct hs_sparsify_params *params = work->params;
    double wanted = ceil(params->density * (double)(work->n_rows * work->n_cols));
    double budget = params->max_error * params->max_error * work->total;
    uint32_t bits = 0;
    double lost;
    for (int bit = 30; bit >= 0; bit--) {
        uint32_t higher = bits | (UINT32_C(1) << bit);
        if (higher > hs_f32_bits(INFINITY)) {
            continue;
        }
        int64_t n = count_from(work, hs_f32_from_bits(higher), &lost);
        if (params->density > 0 ? (double)n >= wanted : lost <= budget) {
            bits = higher;
        }
    }
    work->threshold = hs_f32_from_bits(bits);
    int64_t n_above = count_from(work, nextafterf(work->threshold, INFINITY), &lost);
    work->n_ties = params->density > 0 ? (int64_t)wanted - n_above : INT64_MAX;
}

/* Blocks come in order, so ties are kept from the top. */
static bool keeps(struct work *work, float energy)
{
    if (energy != work->threshold || energy == 0) {
        return energy > work->threshold;
    }
    return work->n_ties-- > 0;
}

static hs_status choose_blocks(struct work *work, int64_t *ret_n_kept, struct hs_error *err)
{
    find_threshold(work);
    int64_t n = 0, most = work->n_rows * work->n_cols;
    work->row_start = hs_calloc((size_t)work->n_rows + 1, sizeof *work->row_start);
    work->column = hs_alloc((size_t)most * sizeof *work->column);
    if (work->row_start == NULL || work->column == NULL) {
        return hs_error_nomem(err, "blocks of a sparse delta");
    }
    for (int64_t i = 0; i < most; i++) {
        if (keeps(work, work->energy[i])) {
            work->column[n++] = (int32_t)(i % work->n_cols);
        }
        work->row_start[i / work->n_cols + 1] = n;
    }
    int32_t *column = hs_realloc_array(work->column, n > 0 ? (size_t)n : 1, sizeof *column);
    if (column == NULL) {
        return hs_error_nomem(err, "blocks of a sparse delta");
    }
    work->column = column;
    *ret_n_kept = n;
    return HS_OK;
}

/* ---- their values ---- */

/* Store a value and give back what it lost. */
static double put_value(enum hs_lora_type type, void *values, int64_t at, double value)
{
    float kept = (float)value;
    if (type == HS_LORA_F32) {
        ((float *)values)[at] = kept;
    } else if (type == HS_LORA_F16) {
        ((uint16_t *)values)[at] = hs_f16_from_f32(kept);
        kept = hs_f32_from_f16(((uint16_t *)values)[at]);
    } else {
        ((uint16_t *)values)[at] = hs_bf16_from_f32(kept);
        kept = hs_f32_from_bf16(((uint16_t *)values)[at]);
    }
    return value - (double)kept;
}

static hs_status take_values(struct work *work, int64_t row, struct hs_error *err)
{
    int32_t n_rows = work->params->block_rows, n_cols = work->params->block_cols;
    int64_t at = work->row_start[row] * n_rows * n_cols;
    for (int64_t i = work->row_start[row]; i < work->row_start[row + 1]; i++) {
        for (int32_t r = 0; r < n_rows; r++) {
            const double *from = work->rows + (r * work->n_cols + work->column[i]) * n_cols;
            for (int32_t c = 0; c < n_cols; c++) {
                double lost = put_value(work->params->type, work->values, at++, from[c]);
                if (!isfinite(lost)) {
                    hs_error_set(err, HS_LIMIT, "%s: the value %g is too large for 16 bits",
                                 hs_merge_plan_target(work->plan, work->i)->tensor, from[c]);
                    return hs_error_hint(err, "keep the values as f32");
                }
                work->total += lost * lost;
            }
        }
    }
    return HS_OK;
}

/* The norm of what is missing: dropped blocks, and the rounding of the others. */
static double missing(const struct work *work, double rounding)
{
    double lost = rounding;
    for (int64_t row = 0; row < work->n_rows; row++) {
        int64_t next = work->row_start[row];
        for (int64_t column = 0; column < work->n_cols; column++) {
            if (next < work->row_start[row + 1] && work->column[next] == column) {
                next++;
            } else {
                lost += (double)work->energy[row * work->n_cols + column];
            }
        }
    }
    return sqrt(lost);
}

static hs_status run(struct work *work, struct hs_sparsify_report *report, struct hs_error *err)
{
    const struct hs_sparsify_params *params = work->params;
    size_t block = (size_t)params->block_rows * (size_t)params->block_cols;
    work->rows = hs_alloc(block * (size_t)work->n_cols * sizeof *work->rows);
    work->energy = hs_alloc((size_t)(work->n_rows * work->n_cols) * sizeof *work->energy);
    if (work->rows == NULL || work->energy == NULL) {
        return hs_error_nomem(err, "the norms of a delta");
    }
    hs_status status = for_block_rows(work, take_energy, err);
    if (status == HS_OK) {
        status = choose_blocks(work, &report->n_kept, err);
    }
    if (status != HS_OK) {
        return status;
    }
    size_t value_bytes = (size_t)report->n_kept * block * hs_lora_type_size(params->type);
    work->values = hs_alloc(value_bytes);
    if (work->values == NULL) {
        return hs_error_nomem(err, "the values of a sparse delta");
    }
    report->n_blocks = work->n_rows * work->n_cols;
    report->norm = sqrt(work->total);
    report->n_bytes = value_bytes + (size_t)report->n_kept * sizeof *work->column +
                      ((size_t)work->n_rows + 1) * sizeof *work->row_start;
    work->total = 0;
    status = for_block_rows(work, take_values, err);
    report->error = missing(work, work->total);
    return status;
}

hs_status hs_sparsify(const hs_merge_plan *plan, int32_t i, const struct hs_sparsify_params *params,
                      struct hs_lora_target *ret_target, struct hs_sparsify_report *ret_report,
                      struct hs_error *err)
{
    const struct hs_lora_target *target = hs_merge_plan_target(plan, i);
    hs_status status = check_params(params, err);
    if (status == HS_OK) {
        status = check_target(target, params, err);
    }
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(work_clear)
    struct work work = {
        .plan = plan,
        .i = i,
        .params = params,
        .n_rows = target->n_out / params->block_rows,
        .n_cols = target->n_in / params->block_cols,
    };
    struct hs_sparsify_report report = {0};
    status = run(&work, &report, err);
    if (status != HS_OK) {
        return status;
    }
    *ret_report = report;
    *ret_target = (struct hs_lora_target){
        .n_in = target->n_in,
        .n_out = target->n_out,
        .scale = 1,
        .sparse = {params->type, params->block_rows, params->block_cols, report.n_kept,
                   work.row_start, work.column, work.values},
    };
    memcpy(ret_target->tensor, target->tensor, sizeof ret_target->tensor);
    work.row_start = NULL;
    work.column = NULL;
    work.values = NULL;
    return HS_OK;
}

void hs_sparsify_clear(struct hs_lora_target *target)
{
    hs_free((void *)target->sparse.row_start);
    hs_free((void *)target->sparse.block_column);
    hs_free((void *)target->sparse.values);
    *target = (struct hs_lora_target){0};
}

/* ---- whole adapters ---- */

static void add_report(struct hs_sparsify_report *total, const struct hs_sparsify_report *report)
{
    total->n_blocks += report->n_blocks;
    total->n_kept += report->n_kept;
    total->n_bytes += report->n_bytes;
    total->norm = hypot(total->norm, report->norm);
    total->error = hypot(total->error, report->error);
}

hs_status hs_sparse_application(const hs_merge_plan *plan, const struct hs_sparsify_params *params,
                                bool (*progress)(float fraction, void *user), void *user,
                                struct hs_sparse_adapter **ret_adapter, struct hs_error *err)
{
    int32_t n = hs_merge_plan_n_targets(plan);
    struct hs_sparse_adapter *adapter = hs_calloc(1, sizeof *adapter);
    struct hs_lora_target *targets = hs_calloc((size_t)n, sizeof *targets);
    if (adapter == NULL || targets == NULL) {
        hs_free(adapter);
        hs_free(targets);
        return hs_error_nomem(err, "a sparse adapter");
    }
    adapter->lora = (struct hs_lora){targets, n};
    adapter->reports = hs_calloc((size_t)n, sizeof *adapter->reports);
    hs_status status = adapter->reports == NULL ? hs_error_nomem(err, "a sparse adapter") : HS_OK;
    for (int32_t i = 0; i < n && status == HS_OK; i++) {
        if (progress != NULL && !progress((float)i / (float)n, user)) {
            status = hs_error_set(err, HS_CANCELLED, "cancelled");
            break;
        }
        status = hs_sparsify(plan, i, params, &targets[i], &adapter->reports[i], err);
        if (status == HS_OK) {
            add_report(&adapter->total, &adapter->reports[i]);
        }
    }
    if (status != HS_OK) {
        hs_sparse_adapter_free(adapter);
        return status;
    }
    *ret_adapter = adapter;
    return HS_OK;
}

void hs_sparse_adapter_free(struct hs_sparse_adapter *adapter)
{
    if (adapter == NULL) {
        return;
    }
    for (int32_t i = 0; i < adapter->lora.n_targets; i++) {
        hs_sparsify_clear((struct hs_lora_target *)&adapter->lora.targets[i]);
    }
    hs_free((void *)adapter->lora.targets);
    hs_free(adapter->reports);
    hs_free(adapter);
}
