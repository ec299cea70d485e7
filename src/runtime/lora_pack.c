/* lora_pack.c - checks a target of an adapter and copies it into the order of the kernels. */
#include "lora_pack.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/half.h"
#include "base/mem.h"

#define ALIGNMENT ((size_t)64) /* a cache line, and the widest vector */

static int64_t parts_of(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* ---- checks ---- */

static hs_status refuse(const struct hs_lora_target *target, const char *what, struct hs_error *err)
{
    hs_error_set(err, HS_INVALID_ARGUMENT, "adapter of '%.*s': %s",
                 (int)HS_LORA_TENSOR_NAME_MAX - 1, target->tensor, what);
    return hs_error_hint(err, "the adapter contradicts itself: make or fetch it again");
}

static hs_status check_matrix(const struct hs_lora_target *target, const char *name,
                              const struct hs_lora_matrix *matrix, int64_t n_rows, int64_t n_cols,
                              struct hs_error *err)
{
    if (matrix->data == NULL || (matrix->type == HS_LORA_I8 && matrix->factors == NULL)) {
        return refuse(target, "a matrix without values, or int8 without factors", err);
    }
    if (matrix->type < HS_LORA_F32 || matrix->type > HS_LORA_I8) {
        return refuse(target, "a matrix of an unknown type", err);
    }
    if (matrix->n_rows != n_rows || matrix->n_cols != n_cols) {
        hs_error_set(
            err, HS_INVALID_ARGUMENT, "adapter of '%.*s': %s is %lld x %lld instead of %lld x %lld",
            (int)HS_LORA_TENSOR_NAME_MAX - 1, target->tensor, name, (long long)matrix->n_rows,
            (long long)matrix->n_cols, (long long)n_rows, (long long)n_cols);
        return hs_error_hint(err, "the adapter contradicts itself: make or fetch it again");
    }
    return HS_OK;
}

static hs_status check_blocks(const struct hs_lora_target *target, struct hs_error *err)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    int64_t n_rows = target->n_out / sparse->block_rows;
    int64_t n_cols = target->n_in / sparse->block_cols;
    if (sparse->row_start == NULL || sparse->row_start[0] != 0 ||
        sparse->row_start[n_rows] != sparse->n_blocks) {
        return refuse(target, "rows of blocks that do not hold its blocks", err);
    }
    if (sparse->n_blocks > 0 && (sparse->block_column == NULL || sparse->values == NULL)) {
        return refuse(target, "blocks without columns or values", err);
    }
    for (int64_t row = 0; row < n_rows; row++) {
        if (sparse->row_start[row + 1] < sparse->row_start[row] ||
            sparse->row_start[row + 1] > sparse->n_blocks) {
            return refuse(target, "rows of blocks that go back", err);
        }
        int64_t least = 0;
        for (int64_t i = sparse->row_start[row]; i < sparse->row_start[row + 1]; i++) {
            if (sparse->block_column[i] < least || sparse->block_column[i] >= n_cols) {
                return refuse(target, "columns of blocks out of order or range", err);
            }
            least = (int64_t)sparse->block_column[i] + 1;
        }
    }
    return HS_OK;
}

static hs_status check_sparse(const struct hs_lora_target *target, struct hs_error *err)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    if (target->is_embedding) {
        hs_error_set(err, HS_NOT_SUPPORTED, "adapter of '%.*s': a sparse delta of an embedding",
                     (int)HS_LORA_TENSOR_NAME_MAX - 1, target->tensor);
        return hs_error_hint(err, "keep the embedding's delta as A and B");
    }
    if (target->n_in > HS_LORA_SPARSE_IN_MAX) {
        hs_error_set(err, HS_LIMIT, "adapter of '%.*s': a sparse delta of %lld inputs, %d at most",
                     (int)HS_LORA_TENSOR_NAME_MAX - 1, target->tensor, (long long)target->n_in,
                     HS_LORA_SPARSE_IN_MAX);
        return hs_error_hint(err, "keep this delta as A and B");
    }
    if (sparse->type < HS_LORA_F32 || sparse->type > HS_LORA_BF16) {
        return refuse(target, "a sparse delta that is not f32, f16 or bf16", err);
    }
    if (sparse->block_rows < 1 || sparse->block_cols < 1 ||
        target->n_out % sparse->block_rows != 0 || target->n_in % sparse->block_cols != 0) {
        return refuse(target, "blocks that do not divide the matrix", err);
    }
    return check_blocks(target, err);
}

static hs_status check_target(const struct hs_lora_target *target, struct hs_error *err)
{
    if (target->n_in < 1 || target->n_in > INT32_MAX || target->n_out < 1 ||
        target->n_out > INT32_MAX) {
        return refuse(target, "a matrix without rows or columns, or with too many", err);
    }
    if (target->rank < 0 || target->rank > HS_LORA_RANK_MAX) {
        hs_error_set(err, HS_LIMIT, "adapter of '%.*s': rank %d, %d at most",
                     (int)HS_LORA_TENSOR_NAME_MAX - 1, target->tensor, (int)target->rank,
                     HS_LORA_RANK_MAX);
        return hs_error_hint(err, "use an adapter of a lower rank");
    }
    if (!isfinite(target->scale)) {
        return refuse(target, "a scale that is no number", err);
    }
    if (target->rank == 0) {
        return check_sparse(target, err);
    }
    int64_t a_rows = target->is_embedding ? target->n_in : target->rank;
    int64_t a_cols = target->is_embedding ? target->rank : target->n_in;
    hs_status status = check_matrix(target, "A", &target->a, a_rows, a_cols, err);
    return status == HS_OK ? check_matrix(target, "B", &target->b, target->n_out, target->rank, err)
                           : status;
}

/* ---- other types ---- */

/* One row of n values as `type`, F16 or I8. false: a value that cannot be kept. */
static bool convert_row(const float *row, int64_t n, enum hs_lora_type type, void *ret_data,
                        float *ret_factor)
{
    float largest = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(row[i])) {
            return false;
        }
        largest = fmaxf(largest, fabsf(row[i]));
    }
    if (type == HS_LORA_F16) {
        for (int64_t i = 0; i < n; i++) {
            ((uint16_t *)ret_data)[i] = hs_f16_from_f32(row[i]);
        }
        return isfinite(hs_f32_from_f16(hs_f16_from_f32(largest)));
    }
    *ret_factor = largest / 127;
    for (int64_t i = 0; i < n; i++) {
        ((int8_t *)ret_data)[i] =
            *ret_factor > 0 ? (int8_t)lrintf(fminf(fmaxf(row[i] / *ret_factor, -127), 127)) : 0;
    }
    return true;
}

/* `matrix` as `type`; what it then points into is *ret_memory, NULL when nothing had to be done. */
static hs_status convert(const struct hs_lora_target *target, enum hs_lora_type type,
                         struct hs_lora_matrix *matrix, void **ret_memory, struct hs_error *err)
{
    if (matrix->type == type) {
        return HS_OK;
    }
    size_t row_bytes = (size_t)matrix->n_cols * hs_lora_type_size(type);
    size_t factors_bytes = type == HS_LORA_I8 ? (size_t)matrix->n_rows * sizeof(float) : 0;
    char *memory = hs_alloc(factors_bytes + (size_t)matrix->n_rows * row_bytes);
    HS_CLEANUP(hs_freep) float *row = hs_alloc((size_t)matrix->n_cols * sizeof *row);
    *ret_memory = memory;
    if (memory == NULL || row == NULL) {
        return hs_error_nomem(err, "values of an adapter");
    }
    float *factors = type == HS_LORA_I8 ? (float *)memory : NULL;
    char *data = memory + factors_bytes;
    for (int64_t i = 0; i < matrix->n_rows; i++) {
        hs_lora_matrix_row(matrix, i, row);
        if (!convert_row(row, matrix->n_cols, type, data + (size_t)i * row_bytes,
                         factors == NULL ? NULL : &factors[i])) {
            refuse(target, "values that are no numbers, or too large for 16 bits", err);
            return hs_error_hint(err, "with --adapter-weights file they are kept as they are");
        }
    }
    matrix->type = type;
    matrix->data = data;
    matrix->factors = factors;
    return HS_OK;
}

static enum hs_lora_type kept_type(enum hs_lora_type type, enum hs_adapter_weights keep,
                                   bool is_sparse)
{
    if (keep == HS_ADAPTER_WEIGHTS_INT8 && !is_sparse) {
        return HS_LORA_I8;
    }
    return keep != HS_ADAPTER_WEIGHTS_FILE && type == HS_LORA_F32 ? HS_LORA_F16 : type;
}

/* ---- memory ---- */

struct arena {
    char *base; /* NULL: it is only measured */
    size_t n_bytes;
};

static void *take(struct arena *arena, int64_t n, size_t size)
{
    size_t at = arena->n_bytes;
    arena->n_bytes += ((size_t)n * size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    return arena->base == NULL ? NULL : arena->base + at;
}

static int64_t a_tiles(const struct hs_lora_packed *packed)
{
    return parts_of(packed->rank, HS_LORA_A_RANKS);
}

static int64_t a_chunks(const struct hs_lora_packed *packed)
{
    return parts_of(packed->n_in, HS_LORA_A_COLUMNS);
}

static int64_t b_blocks(const struct hs_lora_packed *packed)
{
    return parts_of(packed->n_out, HS_LORA_B_COLUMNS);
}

static int64_t strip_height(const struct hs_lora_packed *packed)
{
    return packed->form == HS_LORA_STRIPS ? HS_LORA_STRIP : 1;
}

/* Give each array its place; n_columns: columns of all strips or rows of a sparse delta. */
static void lay_out(struct hs_lora_packed *packed, int64_t n_columns, struct arena *arena)
{
    size_t a_size = hs_lora_type_size(packed->a_type), b_size = hs_lora_type_size(packed->b_type);
    if (packed->form != HS_LORA_LOW_RANK) {
        int64_t height = strip_height(packed);
        packed->start = take(arena, packed->n_out / height + 1, sizeof *packed->start);
        packed->columns = take(arena, n_columns, sizeof *packed->columns);
        /* Kernels turn the values of a row into floats by whole vectors */
        packed->values = take(arena, n_columns * height + HS_LORA_STRIP, b_size);
        return;
    }
    int64_t a_rows = packed->is_embedding ? packed->n_in : a_tiles(packed) * HS_LORA_A_RANKS;
    int64_t a_cols = packed->is_embedding ? packed->rank : a_chunks(packed) * HS_LORA_A_COLUMNS;
    packed->a = take(arena, a_rows * a_cols, a_size);
    packed->b = take(arena, b_blocks(packed) * packed->rank * HS_LORA_B_COLUMNS, b_size);
    packed->a_factors = packed->a_type == HS_LORA_I8 ? take(arena, a_rows, sizeof(float)) : NULL;
    packed->b_factors = packed->b_type == HS_LORA_I8
                            ? take(arena, b_blocks(packed) * HS_LORA_B_COLUMNS, sizeof(float))
                            : NULL;
}

/* ---- order ---- */

static void pack_a(const struct hs_lora_packed *packed, const struct hs_lora_matrix *a)
{
    size_t size = hs_lora_type_size(a->type);
    char *to = (char *)packed->a;
    if (a->factors != NULL) {
        memcpy((float *)packed->a_factors, a->factors, (size_t)a->n_rows * sizeof(float));
    }
    if (packed->is_embedding) {
        memcpy(to, a->data, (size_t)(a->n_rows * a->n_cols) * size);
        return;
    }
    for (int64_t rank = 0; rank < a->n_rows; rank++) {
        const char *row = (const char *)a->data + (size_t)(rank * a->n_cols) * size;
        int64_t tile = rank / HS_LORA_A_RANKS;
        for (int64_t chunk = 0; chunk < a_chunks(packed); chunk++) {
            int64_t first = chunk * HS_LORA_A_COLUMNS, n = a->n_cols - first;
            int64_t at =
                ((tile * a_chunks(packed) + chunk) * HS_LORA_A_RANKS + rank % HS_LORA_A_RANKS) *
                HS_LORA_A_COLUMNS;
            memcpy(to + (size_t)at * size, row + (size_t)first * size,
                   (size_t)(n < HS_LORA_A_COLUMNS ? n : HS_LORA_A_COLUMNS) * size);
        }
    }
}

/* to[i * to_step] = from[i * from_step] for n values of `size` bytes. */
static inline __attribute__((always_inline)) void
copy_steps(char *to, size_t to_step, const char *from, size_t from_step, int64_t n, size_t size)
{
    for (int64_t i = 0; i < n; i++) {
        memcpy(to, from, size);
        to += to_step * size;
        from += from_step * size;
    }
}

static void copy_column(char *to, size_t to_step, const char *from, size_t from_step, int64_t n,
                        size_t size)
{
    switch (size) {
    case 1:
        copy_steps(to, to_step, from, from_step, n, 1);
        break;
    case 2:
        copy_steps(to, to_step, from, from_step, n, 2);
        break;
    default:
        copy_steps(to, to_step, from, from_step, n, 4);
        break;
    }
}

static void pack_b(const struct hs_lora_packed *packed, const struct hs_lora_matrix *b)
{
    size_t size = hs_lora_type_size(b->type), rank = (size_t)packed->rank;
    char *to = (char *)packed->b;
    for (int64_t row = 0; row < b->n_rows; row++) {
        size_t block = (size_t)row / HS_LORA_B_COLUMNS, column = (size_t)row % HS_LORA_B_COLUMNS;
        copy_column(to + (block * rank * HS_LORA_B_COLUMNS + column) * size, HS_LORA_B_COLUMNS,
                    (const char *)b->data + (size_t)row * rank * size, 1, packed->rank, size);
    }
    if (b->factors != NULL) {
        memcpy((float *)packed->b_factors, b->factors, (size_t)b->n_rows * sizeof(float));
    }
}

static void pack_values(const struct hs_lora_packed *packed, const struct hs_lora_sparse *sparse,
                        const struct hs_lora_matrix *values)
{
    int64_t height = strip_height(packed), n = 0;
    int64_t n_rows = sparse->block_rows, n_cols = sparse->block_cols;
    size_t size = hs_lora_type_size(values->type);
    int64_t *start = (int64_t *)packed->start;
    uint16_t *columns = (uint16_t *)packed->columns;
    char *to = (char *)packed->values;
    for (int64_t strip = 0; strip < packed->n_out / height; strip++) {
        int64_t block_row = strip * height / n_rows, first_row = strip * height % n_rows;
        for (int64_t i = sparse->row_start[block_row]; i < sparse->row_start[block_row + 1]; i++) {
            const char *block =
                (const char *)values->data + (size_t)((i * n_rows + first_row) * n_cols) * size;
            for (int64_t column = 0; column < n_cols; column++) {
                columns[n] = (uint16_t)(sparse->block_column[i] * n_cols + column);
                copy_column(to + (size_t)(n * height) * size, 1, block + (size_t)column * size,
                            (size_t)n_cols, height, size);
                n++;
            }
        }
        start[strip + 1] = n;
    }
}

/* ---- the whole ---- */

/* The description of target, without its arrays. */
static struct hs_lora_packed describe(const struct hs_lora_target *target,
                                      enum hs_adapter_weights keep)
{
    struct hs_lora_packed packed = {
        .form = HS_LORA_LOW_RANK,
        .n_in = target->n_in,
        .n_out = target->n_out,
        .rank = target->rank,
        .scale = target->scale,
        .is_embedding = target->is_embedding,
        .a_type = kept_type(target->a.type, keep, false),
        .b_type = kept_type(target->b.type, keep, false),
    };
    if (target->rank == 0) {
        packed.form =
            target->sparse.block_rows % HS_LORA_STRIP == 0 ? HS_LORA_STRIPS : HS_LORA_ENTRIES;
        packed.a_type = packed.b_type = kept_type(target->sparse.type, keep, true);
    }
    return packed;
}

/* Allocate and fill; a, b: the target's matrices, or the values of its sparse delta in b. */
static hs_status fill(struct hs_lora_packed packed, const struct hs_lora_sparse *sparse,
                      const struct hs_lora_matrix *a, const struct hs_lora_matrix *b,
                      struct hs_lora_packed **ret_packed, struct hs_error *err)
{
    int64_t n_columns =
        sparse->n_blocks * sparse->block_cols * (sparse->block_rows / strip_height(&packed));
    struct arena arena = {0};
    lay_out(&packed, n_columns, &arena);
    packed.n_bytes = sizeof packed + ALIGNMENT + arena.n_bytes;
    struct hs_lora_packed *made = hs_calloc(1, packed.n_bytes);
    if (made == NULL) {
        return hs_error_nomem(err, "packed weights of an adapter");
    }
    size_t first = (size_t)(made + 1);
    arena = (struct arena){(char *)(made + 1) + ((ALIGNMENT - first % ALIGNMENT) % ALIGNMENT), 0};
    lay_out(&packed, n_columns, &arena);
    *made = packed;
    if (packed.form == HS_LORA_LOW_RANK) {
        pack_a(made, a);
        pack_b(made, b);
    } else {
        pack_values(made, sparse, b);
    }
    *ret_packed = made;
    return HS_OK;
}

hs_status hs_lora_packed_new(const struct hs_lora_target *target, enum hs_adapter_weights keep,
                             struct hs_lora_packed **ret_packed, struct hs_error *err)
{
    hs_status status = check_target(target, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_lora_packed packed = describe(target, keep);
    struct hs_lora_matrix a = target->a, b = target->b;
    struct hs_lora_sparse sparse = target->sparse;
    HS_CLEANUP(hs_freep) void *a_memory = NULL;
    HS_CLEANUP(hs_freep) void *b_memory = NULL;
    if (packed.form == HS_LORA_LOW_RANK) {
        sparse = (struct hs_lora_sparse){0};
        status = convert(target, packed.a_type, &a, &a_memory, err);
    } else {
        int64_t block = (int64_t)sparse.block_rows * sparse.block_cols;
        b = (struct hs_lora_matrix){sparse.type, sparse.n_blocks, block, sparse.values, NULL};
    }
    if (status == HS_OK) {
        status = convert(target, packed.b_type, &b, &b_memory, err);
    }
    return status == HS_OK ? fill(packed, &sparse, &a, &b, ret_packed, err) : status;
}

void hs_lora_packed_free(struct hs_lora_packed *packed)
{
    hs_free(packed);
}

uint64_t hs_lora_packed_bytes(const struct hs_lora_packed *packed)
{
    return packed->n_bytes;
}

int64_t hs_lora_packed_scratch(const struct hs_lora_packed *packed)
{
    return packed->form == HS_LORA_ENTRIES ? packed->n_in : packed->rank;
}
