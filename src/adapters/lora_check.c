#include "adapters/lora_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "adapter_internal.h"
#include "base/error.h"
#include "base/utf8.h"

void hs_lora_fault(struct hs_lora_faults *faults, hs_status status, const char *format, ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t n = len < 0 ? 0 : (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
    n = hs_utf8_complete(text, n);
    if (faults->n == 0) {
        faults->status = status;
    }
    faults->n++;
    size_t sep = faults->len > 0 ? 2 : 0;
    if (faults->len + sep + n < sizeof faults->text) {
        memcpy(faults->text + faults->len, "; ", sep);
        memcpy(faults->text + faults->len + sep, text, n);
        faults->len += sep + n;
        faults->text[faults->len] = '\0';
    } else {
        faults->len = sizeof faults->text; /* what follows is only counted */
    }
}

hs_status hs_lora_faults_end(const struct hs_lora_faults *faults, struct hs_error *err)
{
    if (faults->n == 0) {
        return HS_OK;
    }
    if (faults->n == 1 || faults->len < sizeof faults->text) {
        hs_error_set(err, faults->status, "%s", faults->text);
    } else {
        hs_error_set(err, faults->status, "%s; ... (%zu in all)", faults->text, faults->n);
    }
    return faults->status;
}

/* ---- values ---- */

static bool f32_finite(const uint32_t *values, size_t n)
{
    uint32_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        wrong |= (values[i] & 0x7F800000u) == 0x7F800000u;
    }
    return wrong == 0;
}

static bool f16_finite(const uint16_t *values, size_t n, uint16_t exponent)
{
    uint32_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        wrong |= (values[i] & exponent) == exponent;
    }
    return wrong == 0;
}

static bool values_finite(enum hs_lora_type type, const void *data, size_t n)
{
    switch (type) {
    case HS_LORA_F32:
        return f32_finite(data, n);
    case HS_LORA_F16:
        return f16_finite(data, n, 0x7C00u);
    case HS_LORA_BF16:
        return f16_finite(data, n, 0x7F80u);
    case HS_LORA_I8:
        return true;
    }
    return false;
}

static void check_matrix(const struct hs_lora_target *target, const struct hs_lora_matrix *matrix,
                         char which, int64_t n_rows, int64_t n_cols, struct hs_lora_faults *faults)
{
    if (matrix->n_rows != n_rows || matrix->n_cols != n_cols) {
        hs_lora_fault(faults, HS_BAD_FORMAT,
                      "%s: %c is %" PRId64 " x %" PRId64 ", not %" PRId64 " x %" PRId64,
                      target->tensor, which, matrix->n_rows, matrix->n_cols, n_rows, n_cols);
    } else if (!values_finite(matrix->type, matrix->data, (size_t)n_rows * (size_t)n_cols) ||
               (matrix->type == HS_LORA_I8 &&
                !values_finite(HS_LORA_F32, matrix->factors, (size_t)n_rows))) {
        hs_lora_fault(faults, HS_BAD_FORMAT, "%s: %c has a NaN or infinity", target->tensor, which);
    }
}

/* ---- sparse deltas ---- */

static bool sparse_is_sound(const struct hs_lora_target *target)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    if (sparse->block_rows < 1 || sparse->block_cols < 1 ||
        target->n_out % sparse->block_rows != 0 || target->n_in % sparse->block_cols != 0) {
        return false;
    }
    int64_t n_rows = target->n_out / sparse->block_rows;
    int64_t n_cols = target->n_in / sparse->block_cols;
    if (sparse->row_start[0] != 0 || sparse->row_start[n_rows] != sparse->n_blocks) {
        return false;
    }
    for (int64_t row = 0; row < n_rows; row++) {
        int64_t first = sparse->row_start[row], end = sparse->row_start[row + 1];
        if (first > end || end > sparse->n_blocks) {
            return false;
        }
        for (int64_t i = first; i < end; i++) {
            int32_t before = i > first ? sparse->block_column[i - 1] : -1;
            if (sparse->block_column[i] <= before || sparse->block_column[i] >= n_cols) {
                return false;
            }
        }
    }
    return true;
}

static void check_sparse(const struct hs_lora_target *target, struct hs_lora_faults *faults)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    if (sparse->type == HS_LORA_I8 || !sparse_is_sound(target)) {
        hs_lora_fault(faults, HS_BAD_FORMAT, "%s: its blocks are not in order", target->tensor);
    } else if (!values_finite(sparse->type, sparse->values,
                              (size_t)sparse->n_blocks * (size_t)sparse->block_rows *
                                  (size_t)sparse->block_cols)) {
        hs_lora_fault(faults, HS_BAD_FORMAT, "%s: it has a NaN or infinity", target->tensor);
    }
}

/* ---- targets ---- */

/* The outputs of a matrix of the same layer, "blk.3.attn_qkv.weight" beside "blk.3.attn_q.weight";
 * 0: there is none. */
static int64_t beside(const struct hs_lora_target *target, const char *name,
                      const hs_lora_base *base, int64_t *ret_n_in)
{
    char other[sizeof target->tensor];
    const char *dot = strchr(target->tensor, '.');
    dot = dot == NULL ? NULL : strchr(dot + 1, '.');
    int before = dot == NULL ? 0 : (int)(dot + 1 - target->tensor);
    int64_t n_out = 0;
    int len = snprintf(other, sizeof other, "%.*s%s", before, target->tensor, name);
    if (len < 0 || (size_t)len >= sizeof other ||
        !hs_lora_base_find(base, other, ret_n_in, &n_out)) {
        return 0;
    }
    return n_out;
}

static bool is_kind(const struct hs_lora_target *target, const char *kind)
{
    size_t len = strlen(target->tensor), n = strlen(kind);
    return len >= n && strcmp(target->tensor + len - n, kind) == 0;
}

/* Why the model has no such matrix, as far as that can be told. */
static const char *why_missing(const struct hs_lora_target *target, const hs_lora_base *base)
{
    int64_t n_in = 0, n_inner = 0;
    if (strcmp(target->tensor, "output.weight") == 0) {
        return " (its embeddings serve as its output)";
    }
    if ((is_kind(target, ".attn_q.weight") || is_kind(target, ".attn_k.weight") ||
         is_kind(target, ".attn_v.weight")) &&
        beside(target, "attn_qkv.weight", base, &n_in) > 0) {
        return " (its q, k and v are one matrix, attn_qkv)";
    }
    if (is_kind(target, ".attn_qkv.weight") && beside(target, "attn_q.weight", base, &n_in) > 0) {
        return " (its q, k and v are three matrices)";
    }
    if (is_kind(target, ".ffn_gate.weight") &&
        beside(target, "ffn_down.weight", base, &n_inner) > 0 &&
        beside(target, "ffn_up.weight", base, &n_in) == 2 * n_inner) {
        return " (its gate and up projections are one matrix, ffn_up)";
    }
    return "";
}

static void check_base(const struct hs_lora_target *target, const hs_lora_base *base,
                       struct hs_lora_faults *faults)
{
    int64_t n_in = 0, n_out = 0;
    if (!hs_lora_base_find(base, target->tensor, &n_in, &n_out)) {
        hs_lora_fault(faults, HS_MISMATCH, "%s: the model has no such matrix%s", target->tensor,
                      why_missing(target, base));
        return;
    }
    if (target->is_embedding) {
        int64_t n_words = n_out;
        n_out = n_in;
        n_in = n_words;
    }
    if (target->n_in != n_in || target->n_out != n_out) {
        hs_lora_fault(faults, HS_MISMATCH,
                      "%s: made for %" PRId64 " inputs and %" PRId64
                      " outputs, the model has %" PRId64 " and %" PRId64,
                      target->tensor, target->n_in, target->n_out, n_in, n_out);
    }
}

static void check_target(const struct hs_lora_target *target, struct hs_lora_faults *faults)
{
    int64_t rank = target->rank;
    if (target->n_in < 1 || target->n_out < 1 || target->n_in > INT32_MAX ||
        target->n_out > INT32_MAX) {
        hs_lora_fault(faults, HS_BAD_FORMAT, "%s: it has no inputs or no outputs", target->tensor);
        return;
    }
    if (!values_finite(HS_LORA_F32, &target->scale, 1)) {
        hs_lora_fault(faults, HS_BAD_FORMAT, "%s: its scale is no number", target->tensor);
    }
    if (rank < 0 || rank > HS_LORA_RANK_MAX) {
        hs_lora_fault(faults, HS_LIMIT, "%s: rank %" PRId64 ", not 1 to %d", target->tensor, rank,
                      HS_LORA_RANK_MAX);
    } else if (rank == 0) {
        check_sparse(target, faults);
    } else {
        check_matrix(target, &target->a, 'A', target->is_embedding ? target->n_in : rank,
                     target->is_embedding ? rank : target->n_in, faults);
        check_matrix(target, &target->b, 'B', target->n_out, rank, faults);
    }
}

void hs_lora_check_into(const struct hs_lora *lora, const hs_lora_base *base,
                        struct hs_lora_faults *faults)
{
    for (int32_t i = 0; i < lora->n_targets; i++) {
        check_target(&lora->targets[i], faults);
        if (base != NULL) {
            check_base(&lora->targets[i], base, faults);
        }
    }
}

hs_status hs_lora_check(const struct hs_lora *lora, const hs_lora_base *base, struct hs_error *err)
{
    struct hs_lora_faults faults = {0};
    hs_lora_check_into(lora, base, &faults);
    hs_status status = hs_lora_faults_end(&faults, err);
    if (status == HS_MISMATCH) {
        hs_error_hint(err, "use the adapter with the model it was made for");
    } else if (status != HS_OK) {
        hs_error_hint(err, "make the adapter anew; its weights cannot be used");
    }
    return status;
}
