#include "adapters/lora_base.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

struct base_matrix {
    char name[HS_GGUF_MAX_NAME_BYTES + 1];
    int64_t n_in, n_out;
};

struct hs_lora_base {
    char architecture[64];
    char fingerprint[65];
    uint32_t n_head, n_head_kv;
    struct base_matrix *matrices; /* by name */
    size_t n_matrices;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct base_matrix *)a)->name, ((const struct base_matrix *)b)->name);
}

static void base_freep(hs_lora_base **base)
{
    hs_lora_base_free(*base);
}

static void gguf_freep(hs_gguf **gguf)
{
    hs_gguf_free(*gguf);
}

/* Room for what comes; the names are sorted at the end. */
static hs_status add_matrices(hs_lora_base *base, const hs_gguf *gguf, struct hs_error *err)
{
    size_t n = base->n_matrices + hs_gguf_n_tensors(gguf);
    struct base_matrix *matrices = hs_realloc_array(base->matrices, n + 1, sizeof *matrices);
    if (matrices == NULL) {
        return hs_error_nomem(err, "the matrices of a model");
    }
    base->matrices = matrices;
    for (size_t i = 0; i < hs_gguf_n_tensors(gguf); i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(gguf, i);
        if (tensor->n_dims < 2 || tensor->dims[2] != 1 || tensor->dims[3] != 1) {
            continue;
        }
        struct base_matrix *matrix = &matrices[base->n_matrices++];
        memset(matrix, 0, sizeof *matrix);
        memcpy(matrix->name, tensor->name, strlen(tensor->name));
        matrix->n_in = (int64_t)tensor->dims[0];
        matrix->n_out = (int64_t)tensor->dims[1];
    }
    return HS_OK;
}

static hs_status read_header(hs_lora_base *base, const hs_gguf *gguf, struct hs_error *err)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, "general.architecture");
    uint64_t n = 0;
    if (kv == NULL || kv->type != HS_GGUF_STRING || kv->value_len == 0 ||
        kv->value_len >= sizeof base->architecture) {
        hs_error_set(err, HS_BAD_FORMAT, "the model does not say its general.architecture");
        hs_error_hint(err, "adapters need a complete GGUF model; fetch or convert it again");
        return HS_BAD_FORMAT;
    }
    memcpy(base->architecture, kv->value, kv->value_len);
    if (hs_gguf_arch_u64(gguf, "attention.head_count", &n) && n <= UINT32_MAX) {
        base->n_head = (uint32_t)n;
        base->n_head_kv = base->n_head;
    }
    if (hs_gguf_arch_u64(gguf, "attention.head_count_kv", &n)) {
        base->n_head_kv = n <= UINT32_MAX ? (uint32_t)n : 0;
    }
    return add_matrices(base, gguf, err);
}

static void finish(hs_lora_base *base)
{
    qsort(base->matrices, base->n_matrices, sizeof *base->matrices, by_name);
}

hs_status hs_lora_base_new(const hs_gguf *gguf, const char *fingerprint, hs_lora_base **ret_base,
                           struct hs_error *err)
{
    HS_CLEANUP(base_freep) hs_lora_base *base = hs_calloc(1, sizeof *base);
    if (base == NULL) {
        return hs_error_nomem(err, "what adapters need of a model");
    }
    hs_status status = read_header(base, gguf, err);
    if (status != HS_OK) {
        return status;
    }
    if (fingerprint != NULL && strlen(fingerprint) < sizeof base->fingerprint) {
        memcpy(base->fingerprint, fingerprint, strlen(fingerprint));
    }
    finish(base);
    *ret_base = base;
    base = NULL;
    return HS_OK;
}

hs_status hs_lora_base_open(const char *path, hs_lora_base **ret_base, struct hs_error *err)
{
    HS_CLEANUP(gguf_freep) hs_gguf *gguf = NULL;
    HS_CLEANUP(base_freep) hs_lora_base *base = NULL;
    char fingerprint[65];
    hs_status status = hs_gguf_open(path, &gguf, err);
    if (status == HS_OK) {
        status = hs_gguf_fingerprint(gguf, path, fingerprint, err);
    }
    if (status == HS_OK) {
        status = hs_lora_base_new(gguf, fingerprint, &base, err);
    }
    uint32_t n = status == HS_OK ? hs_gguf_split_count(gguf) : 1;
    for (uint32_t i = 1; i < n && status == HS_OK; i++) {
        HS_CLEANUP(gguf_freep) hs_gguf *part = NULL;
        status = hs_gguf_split_open(path, i, n, &part, err);
        if (status == HS_OK) {
            status = add_matrices(base, part, err);
        }
    }
    if (status != HS_OK) {
        return status;
    }
    finish(base);
    *ret_base = base;
    base = NULL;
    return HS_OK;
}

void hs_lora_base_free(hs_lora_base *base)
{
    if (base != NULL) {
        hs_free(base->matrices);
        hs_free(base);
    }
}

const char *hs_lora_base_architecture(const hs_lora_base *base)
{
    return base->architecture;
}

const char *hs_lora_base_fingerprint(const hs_lora_base *base)
{
    return base->fingerprint;
}

bool hs_lora_base_find(const hs_lora_base *base, const char *tensor, int64_t *ret_n_in,
                       int64_t *ret_n_out)
{
    struct base_matrix wanted;
    if (strlen(tensor) >= sizeof wanted.name) {
        return false;
    }
    strncpy(wanted.name, tensor, sizeof wanted.name);
    const struct base_matrix *found =
        bsearch(&wanted, base->matrices, base->n_matrices, sizeof wanted, by_name);
    if (found != NULL) {
        *ret_n_in = found->n_in;
        *ret_n_out = found->n_out;
    }
    return found != NULL;
}

uint32_t hs_lora_base_n_head(const hs_lora_base *base, bool is_kv)
{
    return is_kv ? base->n_head_kv : base->n_head;
}
