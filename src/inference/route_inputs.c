#include "route_inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* What a matrix got of one text. */
struct block {
    uint16_t *rows; /* bf16[n_rows, n_in]; NULL: nothing */
    int64_t n_rows, n_in;
};

struct matrix {
    char tensor[HS_LORA_TENSOR_NAME_MAX];
    struct block *blocks; /* [n_texts] */
    bool is_borrowed;     /* another matrix got the same, and owns the blocks */
};

struct hs_route_inputs {
    size_t max_bytes, n_bytes;
    bool is_full; /* it was too much once, and is not tried again */
    int32_t n_texts;
    struct matrix *matrices; /* [n] */
    size_t n, cap;
};

hs_status hs_route_inputs_new(size_t max_bytes, hs_route_inputs **ret_inputs, struct hs_error *err)
{
    hs_route_inputs *inputs = hs_calloc(1, sizeof(*inputs));
    if (inputs == NULL) {
        return hs_error_nomem(err, "inputs of matrices");
    }
    inputs->max_bytes = max_bytes;
    *ret_inputs = inputs;
    return HS_OK;
}

static size_t block_bytes(const struct block *block)
{
    return (size_t)(block->n_rows * block->n_in) * sizeof(block->rows[0]);
}

/* Those from `n` on leave. */
static void cut(hs_route_inputs *inputs, size_t n)
{
    for (; inputs->n > n; inputs->n--) {
        struct matrix *matrix = &inputs->matrices[inputs->n - 1];
        for (int32_t t = 0; !matrix->is_borrowed && t < inputs->n_texts; t++) {
            inputs->n_bytes -= block_bytes(&matrix->blocks[t]);
            hs_free(matrix->blocks[t].rows);
        }
        if (!matrix->is_borrowed) {
            hs_free(matrix->blocks);
        }
    }
}

void hs_route_inputs_free(hs_route_inputs *inputs)
{
    if (inputs != NULL) {
        cut(inputs, 0);
        hs_free(inputs->matrices);
        hs_free(inputs);
    }
}

static struct matrix *find(const hs_route_inputs *inputs, const char *tensor)
{
    for (size_t i = 0; i < inputs->n; i++) {
        if (strcmp(inputs->matrices[i].tensor, tensor) == 0) {
            return &inputs->matrices[i];
        }
    }
    return NULL;
}

static struct matrix *add(hs_route_inputs *inputs, const char *tensor)
{
    if (inputs->n == inputs->cap) {
        size_t cap = inputs->cap == 0 ? 64 : 2 * inputs->cap;
        struct matrix *matrices = hs_realloc_array(inputs->matrices, cap, sizeof(*matrices));
        if (matrices == NULL) {
            return NULL;
        }
        inputs->matrices = matrices;
        inputs->cap = cap;
    }
    struct matrix *matrix = &inputs->matrices[inputs->n];
    *matrix = (struct matrix){
        .blocks = hs_calloc((size_t)inputs->n_texts, sizeof(matrix->blocks[0])),
    };
    snprintf(matrix->tensor, sizeof(matrix->tensor), "%s", tensor);
    inputs->n += matrix->blocks != NULL;
    return matrix->blocks != NULL ? matrix : NULL;
}

static hs_status add_matrices_of(hs_route_inputs *inputs, const hs_arrow *arrow,
                                 struct hs_error *err)
{
    for (int32_t i = 0; i < hs_arrow_n_matrices(arrow); i++) {
        const char *tensor = hs_arrow_tensor(arrow, i);
        if (find(inputs, tensor) == NULL && add(inputs, tensor) == NULL) {
            return hs_error_nomem(err, "inputs of matrices");
        }
    }
    return HS_OK;
}

/* ---- reading ---- */

struct taking {
    hs_route_inputs *inputs;
    size_t n_before; /* matrices that were kept */
    int32_t text;
    const struct matrix *last; /* that was taken of the first text */
    bool is_too_much, has_no_memory;
};

static bool wants_new(void *user, const char *tensor)
{
    const struct taking *taking = user;
    const struct matrix *matrix = find(taking->inputs, tensor);
    return matrix != NULL && matrix >= taking->inputs->matrices + taking->n_before &&
           !matrix->is_borrowed;
}

/* To the nearest, of two the even one. */
static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof(result));
    return result;
}

static void fill(struct taking *taking, struct block *block, const float *rows, int64_t n_rows,
                 int64_t n_in)
{
    struct block filled = {.n_rows = n_rows, .n_in = n_in};
    size_t n_bytes = block_bytes(&filled);
    taking->is_too_much |= taking->inputs->n_bytes + n_bytes > taking->inputs->max_bytes;
    if (taking->is_too_much || n_bytes == 0) {
        return;
    }
    filled.rows = hs_calloc(1, n_bytes);
    if (filled.rows == NULL) {
        taking->has_no_memory = true;
        return;
    }
    for (int64_t i = 0; i < n_rows * n_in; i++) {
        filled.rows[i] = to_bf16(rows[i]);
    }
    *block = filled;
    taking->inputs->n_bytes += n_bytes;
}

/* q, k and v follow each other: of the first text it shows that they get the same. */
static void borrow(struct taking *taking, struct matrix *matrix)
{
    const struct matrix *before = taking->last;
    struct block *own = &matrix->blocks[0];
    taking->last = matrix;
    if (before == NULL || own->rows == NULL || before->blocks[0].rows == NULL ||
        own->n_rows != before->blocks[0].n_rows || own->n_in != before->blocks[0].n_in ||
        memcmp(own->rows, before->blocks[0].rows, block_bytes(own)) != 0) {
        return;
    }
    taking->inputs->n_bytes -= block_bytes(own);
    hs_free(own->rows);
    hs_free(matrix->blocks);
    matrix->blocks = before->blocks;
    matrix->is_borrowed = true;
}

static void take(void *user, const char *tensor, const float *rows, int64_t n_rows, int64_t n_in)
{
    struct taking *taking = user;
    struct matrix *matrix = find(taking->inputs, tensor);
    if (matrix->blocks[taking->text].rows != NULL) {
        return; /* the tensor is used twice */
    }
    fill(taking, &matrix->blocks[taking->text], rows, n_rows, n_in);
    if (taking->text == 0) {
        borrow(taking, matrix);
    }
}

static hs_status read_all(struct taking *taking, const struct hs_route_reading *how,
                          const char *const *texts, struct hs_error *err)
{
    const struct hs_route_reader reader = {wants_new, take, taking};
    hs_status status = HS_OK;
    for (int32_t t = 0; t < taking->inputs->n_texts && status == HS_OK; t++) {
        taking->text = t;
        status = taking->is_too_much ? HS_OK : hs_route_read(how, texts[t], &reader, err);
        if (status == HS_OK && taking->has_no_memory) {
            status = hs_error_nomem(err, "inputs of matrices");
        } else if (status == HS_OK && taking->is_too_much) {
            taking->inputs->is_full = true;
            status = hs_error_set(err, HS_LIMIT, "inputs of matrices take more than %zu bytes",
                                  taking->inputs->max_bytes);
        }
    }
    return status;
}

hs_status hs_route_inputs_read(hs_route_inputs *inputs, const struct hs_route_reading *how,
                               const char *const *texts, int32_t n_texts,
                               const hs_arrow *const *arrows, size_t n_arrows, struct hs_error *err)
{
    struct taking taking = {.inputs = inputs, .n_before = inputs->n};
    hs_status status = HS_OK;
    inputs->n_texts = n_texts;
    for (size_t i = 0; i < n_arrows && status == HS_OK; i++) {
        status = arrows[i] != NULL ? add_matrices_of(inputs, arrows[i], err) : HS_OK;
    }
    if (status == HS_OK && inputs->n > taking.n_before) {
        taking.is_too_much = inputs->is_full;
        status = read_all(&taking, how, texts, err);
    }
    if (status != HS_OK) {
        cut(inputs, taking.n_before);
    }
    return status;
}

hs_status hs_route_inputs_see(const hs_route_inputs *inputs, int32_t text, const hs_arrow *arrow,
                              struct hs_arrow_sum *sums, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) float *rows = NULL;
    const uint16_t *in_rows = NULL;
    int64_t n_most = 0;
    for (size_t i = 0; i < inputs->n; i++) {
        const struct block *block = &inputs->matrices[i].blocks[text];
        int64_t n = block->n_rows * block->n_in;
        if (block->rows == NULL || !hs_arrow_has(arrow, inputs->matrices[i].tensor)) {
            continue;
        }
        if (n > n_most) {
            float *more = hs_realloc_array(rows, (size_t)n, sizeof(*rows));
            if (more == NULL) {
                return hs_error_nomem(err, "inputs of matrices");
            }
            rows = more;
            n_most = n;
        }
        for (int64_t k = 0; block->rows != in_rows && k < n; k++) {
            rows[k] = from_bf16(block->rows[k]);
        }
        in_rows = block->rows;
        hs_arrow_see(arrow, inputs->matrices[i].tensor, rows, block->n_rows, block->n_in, sums);
    }
    return HS_OK;
}
