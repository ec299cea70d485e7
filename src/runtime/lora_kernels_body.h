/*
 * lora_kernels_body.h - the kernels, written once over lora_vector.h. Each lora_kernels_<set>.c
 * includes it and is compiled for its instruction set.
 *
 * Functions marked ALWAYS_INLINE are templates: type and numbers of rows are constants in each of
 * their copies, so that loops over them unroll and sums stay in registers.
 */
#ifndef RUNTIME_LORA_KERNELS_BODY_H
#define RUNTIME_LORA_KERNELS_BODY_H

#include "lora_kernels.h"
#include "lora_vector.h"

#define SHRINK_ROWS 16 /* of one part of work: they stay in the cache while A passes */
#define VECS_A (HS_LORA_A_COLUMNS / VEC_LEN)
#define VECS_B 4 /* columns of B are computed by so many vectors at once */
#define VECS_STRIP (HS_LORA_STRIP / VEC_LEN)
#define ENTRIES_AT_ONCE 256
#define PANEL 16 /* rows that entries are multiplied with at once */
#define VECS_PANEL (PANEL / VEC_LEN)
#define PREFETCH_BYTES 2048

/* Call `function` for rows [0, n_rows) of a group, as many at once as registers allow. */
#define FOR_ROWS(function, max, type, n_rows, ...)                                                 \
    for (int32_t row_ = 0, left_ = (n_rows); left_ > 0;) {                                         \
        if ((max) >= 8 && left_ >= 8) {                                                            \
            function(type, 8, row_, __VA_ARGS__);                                                  \
            row_ += 8, left_ -= 8;                                                                 \
        } else if ((max) >= 4 && left_ >= 4) {                                                     \
            function(type, 4, row_, __VA_ARGS__);                                                  \
            row_ += 4, left_ -= 4;                                                                 \
        } else if (left_ >= 2) {                                                                   \
            function(type, 2, row_, __VA_ARGS__);                                                  \
            row_ += 2, left_ -= 2;                                                                 \
        } else {                                                                                   \
            function(type, 1, row_, __VA_ARGS__);                                                  \
            row_++, left_--;                                                                       \
        }                                                                                          \
    }

/* Call a template with the type as a constant. */
#define FOR_TYPE(function, type, ...)                                                              \
    switch (type) {                                                                                \
    case HS_LORA_F32:                                                                              \
        function(HS_LORA_F32, __VA_ARGS__);                                                        \
        break;                                                                                     \
    case HS_LORA_F16:                                                                              \
        function(HS_LORA_F16, __VA_ARGS__);                                                        \
        break;                                                                                     \
    case HS_LORA_BF16:                                                                             \
        function(HS_LORA_BF16, __VA_ARGS__);                                                       \
        break;                                                                                     \
    default:                                                                                       \
        function(HS_LORA_I8, __VA_ARGS__);                                                         \
        break;                                                                                     \
    }

ALWAYS_INLINE int64_t share(int64_t n, int i, int n_shares)
{
    return n * i / n_shares;
}

ALWAYS_INLINE int64_t parts_of(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

ALWAYS_INLINE float row_scale(const struct hs_lora_group *group, int32_t row)
{
    return group->scales[row] * group->weights->scale;
}

ALWAYS_INLINE size_t value_size(enum hs_lora_type type)
{
    return type == HS_LORA_F32 ? 4 : type == HS_LORA_I8 ? 1 : 2;
}

/* Decoding waits for memory: the CPU's own prefetching begins anew at every page. */
ALWAYS_INLINE void prefetch(const void *data, int64_t at, size_t n_bytes)
{
    uintptr_t from = (uintptr_t)data + (uintptr_t)at; /* may lie outside: then it has no effect */
    for (size_t i = 0; i < n_bytes; i += 64) {
        __builtin_prefetch((const void *)(from + i));
    }
}

/* Ask for what lies PREFETCH_BYTES behind the 64 values from `at` on. */
ALWAYS_INLINE void prefetch_behind(enum hs_lora_type type, const void *data, int64_t at)
{
    size_t size = value_size(type);
    prefetch(data, at * (int64_t)size + PREFETCH_BYTES, 64 * size);
}

/* ---- ax = scale * x A^T ---- */

/* Products of one chunk of 4 ranks of A, from value `at` on, with the same columns of n rows. */
ALWAYS_INLINE void shrink_chunk(enum hs_lora_type type, int n, const void *a, int64_t at,
                                const float *const *x, vec (*sums)[HS_LORA_A_RANKS])
{
#pragma GCC unroll 4
    for (int v = 0; v < VECS_A; v++) {
        vec weights[HS_LORA_A_RANKS];
#pragma GCC unroll 4
        for (int k = 0; k < HS_LORA_A_RANKS; k++) {
            weights[k] = vec_values(type, a, at + k * HS_LORA_A_COLUMNS + v * VEC_LEN);
        }
#pragma GCC unroll 8
        for (int q = 0; q < n; q++) {
            vec inputs = vec_load(x[q] + v * VEC_LEN);
#pragma GCC unroll 4
            for (int k = 0; k < HS_LORA_A_RANKS; k++) {
                sums[q][k] += weights[k] * inputs;
            }
        }
    }
}

/* n rows of a group from its row `first` on, for the 4 ranks of one tile of A. */
ALWAYS_INLINE void shrink_tile(enum hs_lora_type type, int n, int32_t first,
                               const struct hs_lora_group *group, int64_t tile, const float *x,
                               size_t x_stride)
{
    const struct hs_lora_packed *weights = group->weights;
    int64_t n_chunks = parts_of(weights->n_in, HS_LORA_A_COLUMNS);
    int64_t at = tile * n_chunks * HS_LORA_A_RANKS * HS_LORA_A_COLUMNS;
    const float *inputs[ROW_TILE];
    vec sums[ROW_TILE][HS_LORA_A_RANKS] = {0};
    for (int q = 0; q < n; q++) {
        inputs[q] = x + (size_t)group->rows[first + q] * x_stride;
    }
    for (int64_t chunk = 0; chunk < weights->n_in / HS_LORA_A_COLUMNS; chunk++) {
        if (n == 1) {
            prefetch_behind(type, weights->a, at);
        }
        shrink_chunk(type, n, weights->a, at, inputs, sums);
        at += HS_LORA_A_RANKS * HS_LORA_A_COLUMNS;
        for (int q = 0; q < n; q++) {
            inputs[q] += HS_LORA_A_COLUMNS;
        }
    }
    size_t n_last = (size_t)(weights->n_in % HS_LORA_A_COLUMNS);
    if (n_last > 0) {
        float last[ROW_TILE][HS_LORA_A_COLUMNS] = {0};
        for (int q = 0; q < n; q++) {
            memcpy(last[q], inputs[q], n_last * sizeof(float));
            inputs[q] = last[q];
        }
        shrink_chunk(type, n, weights->a, at, inputs, sums);
    }
    int n_ranks = weights->rank - (int)tile * HS_LORA_A_RANKS;
    for (int q = 0; q < n; q++) {
        float *ax = group->ax + (int64_t)(first + q) * weights->rank + tile * HS_LORA_A_RANKS;
        float scale = row_scale(group, first + q);
        for (int k = 0; k < HS_LORA_A_RANKS && k < n_ranks; k++) {
            float factor =
                type == HS_LORA_I8 ? weights->a_factors[tile * HS_LORA_A_RANKS + k] : 1.0f;
            ax[k] = vec_sum(sums[q][k]) * factor * scale;
        }
    }
}

ALWAYS_INLINE void shrink_part(enum hs_lora_type type, const struct hs_lora_group *group,
                               int64_t tile, const float *x, size_t x_stride)
{
    FOR_ROWS(shrink_tile, ROW_TILE, type, group->n_rows, group, tile, x, x_stride)
}

static int64_t shrink_parts(const struct hs_lora_group *group)
{
    return group->weights->form != HS_LORA_LOW_RANK
               ? 0
               : parts_of(group->weights->rank, HS_LORA_A_RANKS) *
                     parts_of(group->n_rows, SHRINK_ROWS);
}

/* Inputs of entries, by columns and for PANEL rows at once: f32[n_rows / PANEL][n_in][PANEL], the
 * last panel as wide as rows are left. */
static void transpose_inputs(const struct hs_lora_group *group, const float *x, size_t x_stride,
                             int ith, int nth)
{
    int64_t n_in = group->weights->n_in, end = share(n_in, ith + 1, nth);
    for (int32_t row = 0; row < group->n_rows; row++) {
        const float *from = x + (size_t)group->rows[row] * x_stride;
        int32_t first = row / PANEL * PANEL;
        int32_t width = group->n_rows - first < PANEL ? group->n_rows - first : PANEL;
        float *to = group->ax + first * n_in + row % PANEL, scale = row_scale(group, row);
        for (int64_t i = share(n_in, ith, nth); i < end; i++) {
            to[i * width] = from[i] * scale;
        }
    }
}

/* Parts of work are numbered through all groups; a thread's are consecutive, for long streams. */
static void shrink(const struct hs_lora_group *groups, int32_t n_groups, const float *x,
                   size_t x_stride, int ith, int nth)
{
    int64_t n_parts = 0, before = 0;
    for (int32_t g = 0; g < n_groups; g++) {
        n_parts += shrink_parts(&groups[g]);
    }
    int64_t begin = share(n_parts, ith, nth), end = share(n_parts, ith + 1, nth);
    for (int32_t g = 0; g < n_groups; g++) {
        const struct hs_lora_packed *weights = groups[g].weights;
        int64_t n_tiles = parts_of(weights->rank, HS_LORA_A_RANKS), n = shrink_parts(&groups[g]);
        int64_t first = begin > before ? begin - before : 0;
        int64_t last = end - before < n ? end - before : n;
        if (g + 1 < n_groups && first < last) {
            prefetch(groups[g + 1].weights->a, 0, PREFETCH_BYTES);
        }
        for (int64_t part = first; part < last; part++) {
            struct hs_lora_group rows = groups[g];
            int32_t row = (int32_t)(part / n_tiles) * SHRINK_ROWS;
            rows.n_rows = rows.n_rows - row < SHRINK_ROWS ? rows.n_rows - row : SHRINK_ROWS;
            rows.rows += row;
            rows.scales += row;
            rows.ax += (int64_t)row * weights->rank;
            FOR_TYPE(shrink_part, weights->a_type, &rows, part % n_tiles, x, x_stride)
        }
        before += n;
        if (weights->form == HS_LORA_ENTRIES) {
            transpose_inputs(&groups[g], x, x_stride, ith, nth);
        }
    }
}

/* ---- y += ax B^T ---- */

/* Add sums to the n_columns columns of y that there are. */
ALWAYS_INLINE void add_columns(float *y, int64_t n_columns, const vec *sums, int n_vecs,
                               const float *factors)
{
    if (n_columns >= n_vecs * VEC_LEN) {
        for (int v = 0; v < n_vecs; v++) {
            vec factor = factors == NULL ? (vec){0} + 1 : vec_load(factors + v * VEC_LEN);
            vec_store(y + v * VEC_LEN, vec_load(y + v * VEC_LEN) + sums[v] * factor);
        }
        return;
    }
    for (int64_t i = 0; i < n_columns; i++) {
        y[i] += sums[i / VEC_LEN][i % VEC_LEN] * (factors == NULL ? 1.0f : factors[i]);
    }
}

/* n rows of a group from `first` on, for VECS_B vectors of columns from `column` on. */
ALWAYS_INLINE void expand_tile(enum hs_lora_type type, int n, int32_t first,
                               const struct hs_lora_group *group, int64_t column, float *y,
                               size_t y_stride)
{
    const struct hs_lora_packed *weights = group->weights;
    int32_t rank = weights->rank;
    const float *ax = group->ax + (int64_t)first * rank;
    int64_t at = column / HS_LORA_B_COLUMNS * rank * HS_LORA_B_COLUMNS + column % HS_LORA_B_COLUMNS;
    vec sums[ROW_TILE][VECS_B] = {0};
    for (int32_t k = 0; k < rank; k++) {
        vec columns[VECS_B];
        if (n == 1 && column % HS_LORA_B_COLUMNS == 0) {
            prefetch_behind(type, weights->b, at);
        }
#pragma GCC unroll 4
        for (int v = 0; v < VECS_B; v++) {
            columns[v] = vec_values(type, weights->b, at + v * VEC_LEN);
        }
#pragma GCC unroll 8
        for (int q = 0; q < n; q++) {
            float factor = ax[(int64_t)q * rank + k];
#pragma GCC unroll 4
            for (int v = 0; v < VECS_B; v++) {
                sums[q][v] += columns[v] * factor;
            }
        }
        at += HS_LORA_B_COLUMNS;
    }
    for (int q = 0; q < n; q++) {
        add_columns(y + (size_t)group->rows[first + q] * y_stride + column, weights->n_out - column,
                    sums[q], VECS_B, type == HS_LORA_I8 ? weights->b_factors + column : NULL);
    }
}

ALWAYS_INLINE void expand_columns(enum hs_lora_type type, const struct hs_lora_group *group,
                                  int64_t begin, int64_t end, float *y, size_t y_stride)
{
    for (int64_t column = begin; column < end; column += VECS_B * VEC_LEN) {
        FOR_ROWS(expand_tile, ROW_TILE, type, group->n_rows, group, column, y, y_stride)
    }
}

/* ---- y += scale * S x, strips ---- */

/* n rows of a group from `first` on, for one strip. A lone row has sums enough to hide the latency
 * of the additions. */
ALWAYS_INLINE void strip_tile(enum hs_lora_type type, int n, int32_t first,
                              const struct hs_lora_group *group, int64_t strip, const float *x,
                              size_t x_stride, float *y, size_t y_stride)
{
    const struct hs_lora_packed *weights = group->weights;
    const int n_chains = n == 1 ? 4 : 1;
    const float *inputs[STRIP_TILE];
    vec sums[STRIP_TILE < 4 ? 4 : STRIP_TILE][VECS_STRIP] = {0};
    for (int q = 0; q < n; q++) {
        inputs[q] = x + (size_t)group->rows[first + q] * x_stride;
    }
    int64_t i = weights->start[strip];
    for (int64_t end = weights->start[strip + 1]; i < end; i += n_chains) {
        const int n_left = end - i < n_chains ? (int)(end - i) : n_chains;
#pragma GCC unroll 4
        for (int chain = 0; chain < n_chains; chain++) {
            if (chain >= n_left) {
                break;
            }
            size_t column = weights->columns[i + chain];
#pragma GCC unroll 4
            for (int v = 0; v < VECS_STRIP; v++) {
                vec values =
                    vec_values(type, weights->values, (i + chain) * HS_LORA_STRIP + v * VEC_LEN);
#pragma GCC unroll 8
                for (int q = 0; q < n; q++) {
                    sums[q + chain][v] += values * inputs[q][column];
                }
            }
        }
    }
    for (int q = 0; q < n; q++) {
        float scale = row_scale(group, first + q);
        vec scaled[VECS_STRIP];
        for (int v = 0; v < VECS_STRIP; v++) {
            for (int chain = 1; chain < n_chains; chain++) {
                sums[q][v] += sums[q + chain][v];
            }
            scaled[v] = sums[q][v] * scale;
        }
        add_columns(y + (size_t)group->rows[first + q] * y_stride + strip * HS_LORA_STRIP,
                    HS_LORA_STRIP, scaled, VECS_STRIP, NULL);
    }
}

ALWAYS_INLINE void expand_strips(enum hs_lora_type type, const struct hs_lora_group *group,
                                 int64_t begin, int64_t end, const float *x, size_t x_stride,
                                 float *y, size_t y_stride)
{
    for (int64_t strip = begin / HS_LORA_STRIP; strip < end / HS_LORA_STRIP; strip++) {
        FOR_ROWS(strip_tile, STRIP_TILE, type, group->n_rows, group, strip, x, x_stride, y,
                 y_stride)
    }
}

/* ---- y += S ax, entries ---- */

/* Values [at, at + n) as floats; whole vectors are read, which the packed values allow. */
ALWAYS_INLINE void read_entries(enum hs_lora_type type, const void *values, int64_t at, int64_t n,
                                float *ret_values)
{
    for (int64_t i = 0; i < n; i += VEC_LEN) {
        vec_store(ret_values + i, vec_values(type, values, at + i));
    }
}

/* Products of n entries with the inputs of a whole panel, added to its rows. */
ALWAYS_INLINE void entries_of_panel(const float *values, const uint16_t *columns, int64_t n,
                                    const float *panel, float *ret_sums)
{
    vec sums[2][VECS_PANEL] = {0}; /* two, to hide the latency of additions */
    for (int64_t i = 0; i < n; i++) {
        const float *inputs = panel + columns[i] * PANEL;
#pragma GCC unroll 4
        for (int v = 0; v < VECS_PANEL; v++) {
            sums[0][v] += vec_load(inputs + v * VEC_LEN) * values[i];
        }
        if (++i == n) {
            break;
        }
        inputs = panel + columns[i] * PANEL;
#pragma GCC unroll 4
        for (int v = 0; v < VECS_PANEL; v++) {
            sums[1][v] += vec_load(inputs + v * VEC_LEN) * values[i];
        }
    }
    for (int v = 0; v < VECS_PANEL; v++) {
        vec_store(ret_sums + v * VEC_LEN, sums[0][v] + sums[1][v]);
    }
}

/* The same for one row of a panel that is `width` wide. */
ALWAYS_INLINE float entries_of_row(const float *values, const uint16_t *columns, int64_t n,
                                   const float *inputs, int32_t width)
{
    float sums[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            sums[k] += inputs[columns[i + k] * width] * values[i + k];
        }
    }
    for (; i < n; i++) {
        sums[0] += inputs[columns[i] * width] * values[i];
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* At most ENTRIES_AT_ONCE entries of column `column` of y, for the panel of `width` rows from row
 * `first` on. */
ALWAYS_INLINE void expand_entries_at(enum hs_lora_type type, const struct hs_lora_group *group,
                                     int32_t first, int32_t width, int64_t column, int64_t at,
                                     int64_t n, float *y, size_t y_stride)
{
    const uint16_t *columns = group->weights->columns + at;
    const float *panel = group->ax + first * group->weights->n_in;
    float values[ENTRIES_AT_ONCE], sums[PANEL];
    read_entries(type, group->weights->values, at, n, values);
    if (width == PANEL) {
        entries_of_panel(values, columns, n, panel, sums);
    } else {
        for (int32_t q = 0; q < width; q++) {
            sums[q] = entries_of_row(values, columns, n, panel + q, width);
        }
    }
    for (int32_t q = 0; q < width; q++) {
        y[(size_t)group->rows[first + q] * y_stride + (size_t)column] += sums[q];
    }
}

ALWAYS_INLINE void expand_entries(enum hs_lora_type type, const struct hs_lora_group *group,
                                  int64_t begin, int64_t end, float *y, size_t y_stride)
{
    const int64_t *start = group->weights->start;
    for (int32_t first = 0; first < group->n_rows; first += PANEL) {
        int32_t width = group->n_rows - first < PANEL ? group->n_rows - first : PANEL;
        for (int64_t column = begin; column < end; column++) {
            for (int64_t at = start[column]; at < start[column + 1]; at += ENTRIES_AT_ONCE) {
                int64_t n = start[column + 1] - at;
                expand_entries_at(type, group, first, width, column, at,
                                  n < ENTRIES_AT_ONCE ? n : ENTRIES_AT_ONCE, y, y_stride);
            }
        }
    }
}

/* ---- all forms ---- */

static void expand(const struct hs_lora_group *groups, int32_t n_groups, const float *x,
                   size_t x_stride, float *y, size_t y_stride, int ith, int nth)
{
    for (int32_t g = 0; g < n_groups; g++) {
        const struct hs_lora_packed *weights = groups[g].weights;
        int64_t n_blocks = parts_of(weights->n_out, HS_LORA_B_COLUMNS);
        int64_t begin = share(n_blocks, ith, nth) * HS_LORA_B_COLUMNS;
        int64_t end = share(n_blocks, ith + 1, nth) * HS_LORA_B_COLUMNS;
        end = end < weights->n_out ? end : weights->n_out;
        if (g + 1 < n_groups) {
            const struct hs_lora_packed *next = groups[g + 1].weights;
            prefetch(next->b, begin * next->rank * (int64_t)value_size(next->b_type),
                     PREFETCH_BYTES);
        }
        if (weights->form == HS_LORA_LOW_RANK) {
            FOR_TYPE(expand_columns, weights->b_type, &groups[g], begin, end, y, y_stride)
        } else if (weights->form == HS_LORA_STRIPS) {
            FOR_TYPE(expand_strips, weights->b_type, &groups[g], begin, end, x, x_stride, y,
                     y_stride)
        } else {
            FOR_TYPE(expand_entries, weights->b_type, &groups[g], begin, end, y, y_stride)
        }
    }
}

#endif
