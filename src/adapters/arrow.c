#include "adapters/arrow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "merge_operand.h"
#include "merge_svd.h"

#define ATTENTION ".attn_"

struct matrix {
    char tensor[HS_LORA_TENSOR_NAME_MAX];
    int64_t n_in;
    float *direction;      /* [n_in] */
    double mean, variance; /* of c over tokens; variance 0: the matrix does not count */
    double level, spread;  /* of the matrix's score over texts */
};

struct hs_arrow {
    int32_t n;
    double level, spread; /* of the mean of matrices' scores over texts */
    struct matrix items[];
};

void hs_arrow_free(hs_arrow *arrow)
{
    for (int32_t i = 0; arrow != NULL && i < arrow->n; i++) {
        hs_free(arrow->items[i].direction);
    }
    hs_free(arrow);
}

/* ---- directions ---- */

static bool is_wanted(const struct hs_lora_target *target, bool attention_only)
{
    return target->rank > 0 && target->rank <= target->n_in && target->rank <= target->n_out &&
           !target->is_embedding && (!attention_only || strstr(target->tensor, ATTENTION) != NULL);
}

static hs_status find_direction(const struct hs_lora_target *target, struct matrix *item,
                                struct hs_error *err)
{
    HS_CLEANUP(hs_merge_operand_clear) struct hs_merge_operand delta = {0};
    struct hs_merge_product product = {0};
    hs_status status = hs_merge_operand_delta(target, &delta, err);
    if (status == HS_OK) {
        status = hs_merge_svd_product(delta.left, delta.right, delta.n_rows, delta.n_cols,
                                      delta.rank, 1, &product, err);
    }
    if (status != HS_OK) {
        return status;
    }
    memcpy(item->tensor, target->tensor, sizeof(item->tensor));
    item->n_in = target->n_in;
    item->direction = hs_calloc((size_t)target->n_in, sizeof(float));
    double squares = 0;
    for (int64_t i = 0; i < target->n_in; i++) {
        squares += product.right[i] * product.right[i];
    }
    for (int64_t i = 0; item->direction != NULL && squares > 0 && i < target->n_in; i++) {
        item->direction[i] = (float)(product.right[i] / sqrt(squares));
    }
    hs_free(product.left);
    hs_free(product.right);
    return item->direction == NULL ? hs_error_nomem(err, "directions of an adapter") : HS_OK;
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(((const struct matrix *)a)->tensor, ((const struct matrix *)b)->tensor);
}

hs_status hs_arrow_new(const struct hs_lora *lora, hs_arrow **ret_arrow, struct hs_error *err)
{
    bool attention_only = false;
    for (int32_t i = 0; i < lora->n_targets; i++) {
        attention_only |= is_wanted(&lora->targets[i], true);
    }
    hs_arrow *arrow =
        hs_calloc(1, sizeof(*arrow) + (size_t)lora->n_targets * sizeof(arrow->items[0]));
    hs_status status = arrow == NULL ? hs_error_nomem(err, "directions of an adapter") : HS_OK;
    for (int32_t i = 0; status == HS_OK && i < lora->n_targets; i++) {
        if (is_wanted(&lora->targets[i], attention_only)) {
            status = find_direction(&lora->targets[i], &arrow->items[arrow->n++], err);
        }
    }
    if (status != HS_OK) {
        hs_arrow_free(arrow);
        return status;
    }
    qsort(arrow->items, (size_t)arrow->n, sizeof(arrow->items[0]), compare_items);
    *ret_arrow = arrow;
    return HS_OK;
}

int32_t hs_arrow_n_matrices(const hs_arrow *arrow)
{
    return arrow->n;
}

const char *hs_arrow_tensor(const hs_arrow *arrow, int32_t i)
{
    return arrow->items[i].tensor;
}

static int compare_tensor(const void *tensor, const void *item)
{
    return strcmp(tensor, ((const struct matrix *)item)->tensor);
}

static const struct matrix *find(const hs_arrow *arrow, const char *tensor)
{
    return arrow->n == 0 ? NULL
                         : bsearch(tensor, arrow->items, (size_t)arrow->n, sizeof(arrow->items[0]),
                                   compare_tensor);
}

bool hs_arrow_has(const hs_arrow *arrow, const char *tensor)
{
    return find(arrow, tensor) != NULL;
}

const float *hs_arrow_direction(const hs_arrow *arrow, const char *tensor, int64_t *ret_n_in)
{
    const struct matrix *item = find(arrow, tensor);
    if (item != NULL) {
        *ret_n_in = item->n_in;
    }
    return item != NULL ? item->direction : NULL;
}

/* ---- texts ---- */

/* Sums side by side, so that the compiler may use vectors. */
static double dot(const float *a, const float *b, int64_t n)
{
    float sums[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int k = 0; k < 16; k++) {
            sums[k] += a[i + k] * b[i + k];
        }
    }
    double sum = 0;
    for (int k = 0; k < 16; k++) {
        sum += (double)sums[k];
    }
    for (; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

void hs_arrow_see(const hs_arrow *arrow, const char *tensor, const float *rows, int64_t n_rows,
                  int64_t n_in, struct hs_arrow_sum *sums)
{
    const struct matrix *item = find(arrow, tensor);
    if (item == NULL || item->n_in != n_in) {
        return;
    }
    struct hs_arrow_sum *sum = &sums[item - arrow->items];
    for (int64_t k = 0; k < n_rows; k++) {
        double cosine = dot(rows + k * n_in, item->direction, n_in);
        if (isfinite(cosine)) {
            sum->sum += cosine;
            sum->squares += cosine * cosine;
            sum->n++;
        }
    }
}

/* The mean of ((c - mean) / s)^2 over the text's tokens. */
static double matrix_score(const struct matrix *item, const struct hs_arrow_sum *sum)
{
    double n = (double)sum->n;
    return ((sum->squares - 2 * item->mean * sum->sum) / n + item->mean * item->mean) /
           item->variance;
}

static double mean_score(const hs_arrow *arrow, const struct hs_arrow_sum *sums)
{
    double total = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < arrow->n; i++) {
        const struct matrix *item = &arrow->items[i];
        if (item->variance > 0 && sums[i].n > 0) {
            total += (matrix_score(item, &sums[i]) - item->level) / item->spread;
            n++;
        }
    }
    return n > 0 ? total / n : 0;
}

static void calibrate_matrix(struct matrix *item, const struct hs_arrow_sum *sums, int32_t n_texts,
                             int32_t stride)
{
    double sum = 0, squares = 0, n = 0;
    item->variance = 0;
    for (int32_t t = 0; t < n_texts; t++) {
        const struct hs_arrow_sum *text = &sums[(size_t)t * (size_t)stride];
        if (text->n == 0) {
            return;
        }
        sum += text->sum;
        squares += text->squares;
        n += (double)text->n;
    }
    item->mean = sum / n;
    item->variance = squares / n - item->mean * item->mean;
    if (!(item->variance > 1e-12)) { /* what rounding leaves */
        item->variance = 0;
        return;
    }
    double scores = 0, score_squares = 0;
    for (int32_t t = 0; t < n_texts; t++) {
        double score = matrix_score(item, &sums[(size_t)t * (size_t)stride]);
        scores += score;
        score_squares += score * score;
    }
    item->level = scores / n_texts;
    item->spread = sqrt(fmax(score_squares / n_texts - item->level * item->level, 0));
    if (!(item->spread > 1e-9)) {
        item->variance = 0;
    }
}

bool hs_arrow_calibrate(hs_arrow *arrow, const struct hs_arrow_sum *sums, int32_t n_texts)
{
    double total = 0, squares = 0;
    for (int32_t i = 0; i < arrow->n; i++) {
        calibrate_matrix(&arrow->items[i], sums + i, n_texts, arrow->n);
    }
    for (int32_t t = 0; t < n_texts; t++) {
        double score = mean_score(arrow, sums + (size_t)t * (size_t)arrow->n);
        total += score;
        squares += score * score;
    }
    arrow->level = total / n_texts;
    arrow->spread = sqrt(fmax(squares / n_texts - arrow->level * arrow->level, 0));
    return arrow->spread > 1e-9;
}

double hs_arrow_score(const hs_arrow *arrow, const struct hs_arrow_sum *sums)
{
    return (mean_score(arrow, sums) - arrow->level) / arrow->spread;
}
