/*
 * merge_keep.c - choosing values by rank without holding the matrix: a radix search over the bits
 * of the magnitudes, 16 at a time, until what is left fits the table and is sorted.
 */
#include "merge_keep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define TABLE_SIZE 65536 /* of 16 bits */
#define GOLDEN 0x9e3779b97f4a7c15u
#define NORM_MIN 1e-7 /* below it mergekit does not rescale */

struct hs_merge_ranked {
    double magnitude;
    int64_t index;
};

/* ---- random numbers ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t hs_merge_stream(uint64_t seed, const char *tensor, int32_t input, int32_t part)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = tensor; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;
    }
    return mix(seed ^ mix(hash + 4 * (uint64_t)input + (uint64_t)part));
}

static bool is_drawn(const struct hs_merge_keeper *keeper, int64_t position, double probability)
{
    uint64_t bits = mix(keeper->stream + (uint64_t)(position + 1) * GOLDEN);
    return (double)(bits >> 11) * 0x1p-53 < probability;
}

/* ---- the value of a rank ---- */

struct search {
    uint64_t prefix; /* the upper bits that are known */
    int shift;       /* bits below it */
    uint64_t *table; /* [TABLE_SIZE] counts by the next 16 bits, or the magnitudes themselves */
    int64_t n_found;
};

static uint64_t magnitude_bits(double value)
{
    uint64_t bits;
    value = fabs(value);
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* whether the upper bits are the prefix; a shift by 64 is not defined */
static bool is_candidate(const struct search *search, uint64_t bits)
{
    return search->shift == 64 || bits >> search->shift == search->prefix;
}

static void count_digits(const double *values, int64_t n_rows, int64_t n_cols, void *user)
{
    struct search *search = user;
    for (int64_t i = 0; i < n_rows * n_cols; i++) {
        uint64_t bits = magnitude_bits(values[i]);
        if (is_candidate(search, bits)) {
            search->table[bits >> (search->shift - 16) & (TABLE_SIZE - 1)]++;
        }
    }
}

static void collect(const double *values, int64_t n_rows, int64_t n_cols, void *user)
{
    struct search *search = user;
    for (int64_t i = 0; i < n_rows * n_cols; i++) {
        uint64_t bits = magnitude_bits(values[i]);
        if (is_candidate(search, bits)) {
            search->table[search->n_found++] = bits;
        }
    }
}

static int compare_bits(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The magnitude with `rank` values before it (0: the smallest), and how many are less than it. */
static void find_rank(const struct hs_merge_operand *operand, int64_t rank, double *scratch,
                      uint64_t *table, double *ret_value, int64_t *ret_n_less)
{
    struct search search = {.shift = 64, .table = table};
    int64_t n_less = 0;
    int64_t n_candidates = operand->n_rows * operand->n_cols;
    while (search.shift > 0 && n_candidates > TABLE_SIZE) {
        memset(table, 0, TABLE_SIZE * sizeof *table);
        hs_merge_operand_scan(operand, scratch, count_digits, &search);
        uint64_t digit = 0;
        while (n_less + (int64_t)table[digit] <= rank) {
            n_less += (int64_t)table[digit++];
        }
        n_candidates = (int64_t)table[digit];
        search.prefix = search.prefix << 16 | digit;
        search.shift -= 16;
    }
    uint64_t bits = search.prefix;
    if (search.shift > 0) {
        hs_merge_operand_scan(operand, scratch, collect, &search);
        qsort(table, (size_t)search.n_found, sizeof *table, compare_bits);
        bits = table[rank - n_less];
        for (int64_t i = 0; table[i] < bits; i++) {
            n_less++;
        }
    }
    memcpy(ret_value, &bits, sizeof bits);
    *ret_n_less = n_less;
}

/* ---- the keepers ---- */

/* Keep the values of the ranks [first, first + n). */
static hs_status find_band(struct hs_merge_keeper *keeper, const struct hs_merge_operand *operand,
                           int64_t first, int64_t n, double *scratch, struct hs_error *err)
{
    int64_t n_values = operand->n_rows * operand->n_cols;
    int64_t n_less = 0;
    keeper->low = first >= n_values || n == 0 ? (double)INFINITY : 0;
    keeper->high = (double)INFINITY;
    keeper->n_high_kept = INT64_MAX;
    if (keeper->low > 0) {
        keeper->n_low_left = INT64_MAX;
        return HS_OK;
    }
    HS_CLEANUP(hs_freep) uint64_t *table = hs_alloc(TABLE_SIZE * sizeof *table);
    if (table == NULL) {
        return hs_error_nomem(err, "a table of magnitudes");
    }
    if (first > 0) {
        find_rank(operand, first, scratch, table, &keeper->low, &n_less);
        keeper->n_low_left = first - n_less;
    }
    if (first + n < n_values) {
        find_rank(operand, first + n, scratch, table, &keeper->high, &n_less);
        keeper->n_high_kept = first + n - n_less;
    }
    return HS_OK;
}

struct norms {
    struct hs_merge_keeper *keeper;
    double *kept; /* a block */
    double before, after;
};

static void add_norms(const double *values, int64_t n_rows, int64_t n_cols, void *user)
{
    struct norms *norms = user;
    int64_t n = n_rows * n_cols;
    memcpy(norms->kept, values, (size_t)n * sizeof *values);
    hs_merge_keeper_next(norms->keeper, norms->kept, n_rows, n_cols);
    for (int64_t i = 0; i < n; i++) {
        norms->before += fabs(values[i]);
        norms->after += fabs(norms->kept[i]);
    }
}

/* What is kept gets the L1 norm that the whole had. */
static hs_status find_factor(struct hs_merge_keeper *keeper, const struct hs_merge_operand *operand,
                             double *scratch, struct hs_error *err)
{
    size_t n_block = (size_t)(hs_merge_operand_block_rows(operand) * operand->n_cols);
    HS_CLEANUP(hs_freep) double *kept = hs_calloc(n_block, sizeof *kept);
    keeper->order = hs_calloc((size_t)operand->n_cols, sizeof *keeper->order);
    if (kept == NULL || keeper->order == NULL) {
        return hs_error_nomem(err, "the ranks of a row");
    }
    struct norms norms = {.keeper = keeper, .kept = kept};
    hs_merge_operand_scan(operand, scratch, add_norms, &norms);
    keeper->position = 0;
    if (norms.before >= NORM_MIN && norms.after >= NORM_MIN) {
        keeper->factor = norms.before / norms.after;
    }
    return HS_OK;
}

static hs_status prepare(struct hs_merge_keeper *keeper, const struct hs_merge_params *params,
                         const struct hs_merge_operand *operand, double *scratch,
                         struct hs_error *err)
{
    int64_t n_values = operand->n_rows * operand->n_cols;
    int64_t n_kept = (int64_t)(params->density * (double)n_values);
    int64_t n_top = (int64_t)(params->gamma * (double)n_values);
    switch (keeper->keep) {
    case KEEP_LARGEST:
        return find_band(keeper, operand, n_values - n_kept, n_kept, scratch, err);
    case KEEP_MIDDLE:
        n_top = n_top < n_values - n_kept ? n_top : n_values - n_kept;
        return find_band(keeper, operand, n_values - n_kept - n_top, n_kept, scratch, err);
    case KEEP_RANDOM:
        keeper->factor = 1 / params->density;
        return HS_OK;
    case KEEP_LIKELY:
        return find_factor(keeper, operand, scratch, err);
    default:
        return HS_OK;
    }
}

hs_status hs_merge_keeper_init(struct hs_merge_keeper *keeper, enum hs_merge_keep keep,
                               const struct hs_merge_params *params,
                               const struct hs_merge_operand *operand, uint64_t stream,
                               struct hs_error *err)
{
    *keeper = (struct hs_merge_keeper){
        .keep = params->density < 1 ? keep : KEEP_ALL,
        .density = params->density,
        .epsilon = params->epsilon,
        .factor = 1,
        .stream = stream,
    };
    size_t n_block = (size_t)(hs_merge_operand_block_rows(operand) * operand->n_cols);
    HS_CLEANUP(hs_freep) double *scratch = hs_calloc(n_block, sizeof *scratch);
    if (scratch == NULL) {
        return hs_error_nomem(err, "rows of a matrix");
    }
    hs_status status = prepare(keeper, params, operand, scratch, err);
    if (status != HS_OK) {
        hs_merge_keeper_clear(keeper);
    }
    return status;
}

void hs_merge_keeper_clear(struct hs_merge_keeper *keeper)
{
    hs_freep(&keeper->order);
}

static bool is_in_band(struct hs_merge_keeper *keeper, double value)
{
    double magnitude = fabs(value);
    bool is_kept = magnitude >= keeper->low && magnitude <= keeper->high;
    if (magnitude == keeper->low && keeper->n_low_left-- > 0) {
        is_kept = false;
    }
    if (magnitude == keeper->high && keeper->n_high_kept-- <= 0) {
        is_kept = false;
    }
    return is_kept;
}

static int compare_ranked(const void *a, const void *b)
{
    const struct hs_merge_ranked *x = a;
    const struct hs_merge_ranked *y = b;
    if (x->magnitude != y->magnitude) {
        return x->magnitude < y->magnitude ? -1 : 1;
    }
    return (x->index > y->index) - (x->index < y->index);
}

/* The probability grows with the rank in the row, from density - epsilon to density + epsilon. */
static void keep_likely(struct hs_merge_keeper *keeper, double *row, int64_t n_cols)
{
    for (int64_t i = 0; i < n_cols; i++) {
        keeper->order[i] = (struct hs_merge_ranked){fabs(row[i]), i};
    }
    qsort(keeper->order, (size_t)n_cols, sizeof keeper->order[0], compare_ranked);
    for (int64_t rank = 0; rank < n_cols; rank++) {
        int64_t i = keeper->order[rank].index;
        double share = n_cols > 1 ? (double)rank / (double)(n_cols - 1) : 0.5;
        double probability = keeper->density - keeper->epsilon + share * 2 * keeper->epsilon;
        row[i] = is_drawn(keeper, keeper->position + i, probability) ? row[i] : 0;
    }
}

void hs_merge_keeper_next(struct hs_merge_keeper *keeper, double *values, int64_t n_rows,
                          int64_t n_cols)
{
    int64_t n = n_rows * n_cols;
    for (int64_t row = 0; row < n_rows && keeper->keep == KEEP_LIKELY; row++) {
        keep_likely(keeper, values + row * n_cols, n_cols);
        keeper->position += n_cols;
    }
    for (int64_t i = 0; i < n && keeper->keep != KEEP_LIKELY; i++) {
        bool is_kept = true;
        if (keeper->keep == KEEP_RANDOM) {
            is_kept = is_drawn(keeper, keeper->position++, keeper->density);
        } else if (keeper->keep != KEEP_ALL) {
            is_kept = is_in_band(keeper, values[i]);
        }
        values[i] = is_kept ? values[i] : 0;
    }
    for (int64_t i = 0; i < n && keeper->factor != 1; i++) {
        values[i] *= keeper->factor;
    }
}
