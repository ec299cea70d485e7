/*
 * gguf_lora.c - LoRA adapters in GGUF, as llama.cpp's convert_lora_to_gguf.py writes them: keys
 * general.type "adapter", adapter.type "lora", adapter.lora.alpha; a tensor "<matrix>.lora_a" and
 * "<matrix>.lora_b" for each matrix. Scales are alpha / rank, or 1 when alpha is 0 or missing. With
 * adapter.type "sparse" the file is one of sparse_file.c.
 */
#include <inttypes.h>
#include <string.h>

#include "adapter_internal.h"
#include "base/error.h"
#include "base/half.h"
#include "base/mem.h"
#include "sparse_internal.h"
#include "storage/gguf.h"

#define FINGERPRINT_KEY "hyprstream.base_fingerprint"
#define Q8_BLOCK 32
#define Q8_BLOCK_BYTES 34 /* an f16, then 32 int8 */

enum { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q8_0 = 8, TYPE_BF16 = 30 };

struct lora_file {
    struct hs_adapter_loaded *adapter;
    const hs_lora_base *base;
    hs_gguf *gguf;
    struct hs_lora_faults faults;
};

static bool text_is(const hs_gguf *gguf, const char *key, const char *wanted)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, key);
    return kv != NULL && kv->type == HS_GGUF_STRING && kv->value_len == strlen(wanted) &&
           memcmp(kv->value, wanted, kv->value_len) == 0;
}

static void copy_text(const hs_gguf *gguf, const char *key, char *text, size_t size)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, key);
    if (kv != NULL && kv->type == HS_GGUF_STRING && kv->value_len < size) {
        memcpy(text, kv->value, kv->value_len);
    }
}

/* ---- tensors ---- */

static float *dequantize(struct hs_adapter_loaded *adapter, const uint8_t *data, size_t n)
{
    float *values = hs_adapter_block(adapter, n * sizeof *values);
    for (size_t i = 0; values != NULL && i < n; i++) {
        const uint8_t *block = data + i / Q8_BLOCK * Q8_BLOCK_BYTES;
        uint16_t scale = (uint16_t)(block[0] | block[1] << 8);
        values[i] = hs_f32_from_f16(scale) * (float)(int8_t)block[2 + i % Q8_BLOCK];
    }
    return values;
}

static hs_status read_matrix(struct lora_file *in, const struct hs_gguf_tensor *tensor,
                             struct hs_lora_matrix *ret_matrix, struct hs_error *err)
{
    const uint8_t *data = in->adapter->bytes + hs_gguf_data_offset(in->gguf) + tensor->offset;
    int64_t n_cols = (int64_t)tensor->dims[0], n_rows = (int64_t)tensor->dims[1];
    enum hs_lora_type type = HS_LORA_F32;
    if (tensor->n_dims > 2 && tensor->dims[2] * tensor->dims[3] != 1) {
        hs_lora_fault(&in->faults, HS_NOT_SUPPORTED, "'%s' %s", tensor->name,
                      strstr(tensor->name, "_exps.") != NULL ? "is for the experts of a mixture"
                                                             : "is no matrix");
        return HS_OK;
    }
    switch (tensor->type) {
    case TYPE_Q8_0:
        data = (const uint8_t *)dequantize(in->adapter, data, (size_t)n_rows * (size_t)n_cols);
        if (data == NULL) {
            return hs_error_nomem(err, "the weights of an adapter");
        }
        break;
    case TYPE_F32:
        break;
    case TYPE_F16:
        type = HS_LORA_F16;
        break;
    case TYPE_BF16:
        type = HS_LORA_BF16;
        break;
    default:
        hs_lora_fault(&in->faults, HS_NOT_SUPPORTED, "'%s' is %s, not F32, F16, BF16 or Q8_0",
                      tensor->name, hs_gguf_tensor_type(tensor->type)->name);
        return HS_OK;
    }
    if (!hs_adapter_matrix(in->adapter, type, n_rows, n_cols, data, ret_matrix)) {
        return hs_error_nomem(err, "the weights of an adapter");
    }
    return HS_OK;
}

/* The length of the name before this ending; 0: it has another one. */
static size_t name_before(const char *name, const char *ending)
{
    size_t len = strlen(name), n = strlen(ending);
    return len > n && strcmp(name + len - n, ending) == 0 ? len - n : 0;
}

static hs_status read_pair(struct lora_file *in, const struct hs_gguf_tensor *a, float alpha,
                           struct hs_lora_target *target, struct hs_error *err)
{
    char other[HS_GGUF_MAX_NAME_BYTES + 1] = "";
    memcpy(other, a->name, strlen(a->name));
    other[strlen(other) - 1] = 'b';
    const struct hs_gguf_tensor *b = hs_gguf_find_tensor(in->gguf, other);
    if (b == NULL) {
        hs_lora_fault(&in->faults, HS_BAD_FORMAT, "'%s' has no lora_b", a->name);
        return HS_OK;
    }
    memcpy(target->tensor, a->name, name_before(a->name, ".lora_a"));
    target->is_embedding = strcmp(target->tensor, "token_embd.weight") == 0;
    target->rank = b->dims[0] > HS_LORA_RANK_MAX ? HS_LORA_RANK_MAX + 1 : (int32_t)b->dims[0];
    target->scale = alpha != 0 ? alpha / (float)target->rank : 1;
    target->n_in = (int64_t)a->dims[target->is_embedding ? 1 : 0];
    target->n_out = (int64_t)b->dims[1];
    hs_status status = read_matrix(in, a, &target->a, err);
    if (status == HS_OK) {
        status = read_matrix(in, b, &target->b, err);
    }
    return status;
}

static hs_status read_pairs(struct lora_file *in, struct hs_error *err)
{
    struct hs_adapter_loaded *adapter = in->adapter;
    size_t n = hs_gguf_n_tensors(in->gguf);
    hs_status status = hs_adapter_targets(adapter, n, err);
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(in->gguf, i);
        size_t len_b = name_before(tensor->name, ".lora_b");
        if (name_before(tensor->name, ".lora_a") > 0) {
            status = read_pair(in, tensor, adapter->file.alpha,
                               &adapter->targets[adapter->n_targets++], err);
        } else if (len_b == 0) {
            hs_lora_fault(&in->faults, HS_NOT_SUPPORTED, "'%s' is no weight of LoRA", tensor->name);
        } else {
            char other[HS_GGUF_MAX_NAME_BYTES + 1] = "";
            memcpy(other, tensor->name, strlen(tensor->name));
            other[strlen(other) - 1] = 'a';
            if (hs_gguf_find_tensor(in->gguf, other) == NULL) {
                hs_lora_fault(&in->faults, HS_BAD_FORMAT, "'%s' has no lora_a", tensor->name);
            }
        }
    }
    return status;
}

/* ---- keys ---- */

static bool is_sparse(const struct lora_file *in)
{
    return text_is(in->gguf, "adapter.type", HS_SPARSE_TYPE);
}

static hs_status check_keys(struct lora_file *in, struct hs_error *err)
{
    const char *what = !text_is(in->gguf, "general.type", "adapter") ? "no adapter but a model"
                       : !text_is(in->gguf, "adapter.type", "lora") && !is_sparse(in)
                           ? "no LoRA adapter"
                           : NULL;
    if (what != NULL) {
        hs_error_set(err, HS_BAD_FORMAT, "the GGUF file is %s", what);
        hs_error_hint(err, "llama.cpp's convert_lora_to_gguf.py writes LoRA adapters");
        return HS_BAD_FORMAT;
    }
    if (hs_gguf_find(in->gguf, "adapter.alora.invocation_tokens") != NULL) {
        hs_error_set(err, HS_NOT_SUPPORTED,
                     "the adapter is an activated LoRA, which works only "
                     "behind its invocation tokens");
        hs_error_hint(err, "use one that is trained as plain LoRA");
        return HS_NOT_SUPPORTED;
    }
    return HS_OK;
}

static hs_status describe(struct lora_file *in, struct hs_error *err)
{
    struct hs_adapter_file *file = &in->adapter->file;
    double alpha = 0;
    file->format = HS_ADAPTER_GGUF;
    copy_text(in->gguf, "general.architecture", file->architecture, sizeof file->architecture);
    copy_text(in->gguf, FINGERPRINT_KEY, file->base_fingerprint, sizeof file->base_fingerprint);
    if (hs_gguf_f64(in->gguf, "adapter.lora.alpha", &alpha)) {
        file->alpha = (float)alpha;
    }
    if (hs_gguf_find(in->gguf, "general.base_model.0.name") != NULL) {
        file->base_model = hs_gguf_strdup(in->gguf, "general.base_model.0.name");
        if (file->base_model == NULL) {
            return hs_error_nomem(err, "the name of an adapter's base");
        }
    }
    if (in->base != NULL && strcmp(file->architecture, hs_lora_base_architecture(in->base)) != 0) {
        hs_lora_fault(&in->faults, HS_MISMATCH, "it is for %s models, this one is %s",
                      file->architecture, hs_lora_base_architecture(in->base));
    }
    return HS_OK;
}

hs_status hs_adapter_read_gguf(struct hs_adapter_loaded *adapter, const hs_lora_base *base,
                               struct hs_error *err)
{
    struct lora_file in = {.adapter = adapter, .base = base};
    hs_status status =
        hs_gguf_open_memory(adapter->bytes, adapter->len, adapter->len, &in.gguf, err);
    if (status == HS_OK) {
        status = check_keys(&in, err);
    }
    if (status == HS_OK) {
        status = describe(&in, err);
    }
    if (status == HS_OK) {
        status = is_sparse(&in) ? hs_sparse_read(in.gguf, adapter, &in.faults, err)
                                : read_pairs(&in, err);
    }
    if (status == HS_OK) {
        status = hs_adapter_finish(adapter, base, &in.faults, err);
    }
    hs_gguf_free(in.gguf);
    return status;
}
