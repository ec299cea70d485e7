/* adapter_memory.c - what a loaded adapter owns, and what it says of itself as a whole. */
#include <stdlib.h>
#include <string.h>

#include "adapter_internal.h"
#include "base/error.h"
#include "base/mem.h"

#define ALIGNMENT sizeof(uint32_t) /* of the widest value */

void *hs_adapter_block(struct hs_adapter_loaded *adapter, size_t bytes)
{
    void **blocks =
        hs_realloc_array(adapter->blocks, adapter->n_blocks + 1, sizeof *adapter->blocks);
    if (blocks == NULL) {
        return NULL;
    }
    adapter->blocks = blocks;
    void *block = hs_alloc(bytes);
    if (block != NULL) {
        blocks[adapter->n_blocks++] = block;
    }
    return block;
}

hs_status hs_adapter_targets(struct hs_adapter_loaded *adapter, size_t n, struct hs_error *err)
{
    adapter->targets = hs_calloc(n, sizeof *adapter->targets);
    return adapter->targets == NULL ? hs_error_nomem(err, "the matrices of an adapter") : HS_OK;
}

bool hs_adapter_matrix(struct hs_adapter_loaded *adapter, enum hs_lora_type type, int64_t n_rows,
                       int64_t n_cols, const uint8_t *data, struct hs_lora_matrix *ret_matrix)
{
    if ((uintptr_t)data % ALIGNMENT != 0) {
        size_t bytes = (size_t)n_rows * (size_t)n_cols * hs_lora_type_size(type);
        void *copy = hs_adapter_block(adapter, bytes);
        if (copy == NULL) {
            return false;
        }
        memcpy(copy, data, bytes);
        data = copy;
    }
    *ret_matrix = (struct hs_lora_matrix){type, n_rows, n_cols, data, NULL};
    return true;
}

/* ---- the adapter as a whole ---- */

static int by_tensor(const void *a, const void *b)
{
    return strverscmp(((const struct hs_lora_target *)a)->tensor,
                      ((const struct hs_lora_target *)b)->tensor);
}

/* "blk.3.attn_q.weight" -> "attn_q"; other names as they are, without ".weight". */
static void kind_of(const char *tensor, char kind[HS_LORA_TENSOR_NAME_MAX])
{
    size_t skip = 0;
    if (strncmp(tensor, "blk.", 4) == 0) {
        skip = 4 + strspn(tensor + 4, "0123456789");
        skip += tensor[skip] == '.';
    }
    size_t len = strlen(tensor + skip), n = strlen(".weight");
    if (len > n && strcmp(tensor + skip + len - n, ".weight") == 0) {
        len -= n;
    }
    memcpy(kind, tensor + skip, len);
    kind[len] = '\0';
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static hs_status list_kinds(struct hs_adapter_loaded *adapter, struct hs_error *err)
{
    size_t n = adapter->n_targets, len = 0;
    HS_CLEANUP(hs_freep)
    char(*kinds)[HS_LORA_TENSOR_NAME_MAX] = hs_calloc(n, sizeof *kinds);
    char *text = hs_alloc(n * sizeof *kinds + 1);
    adapter->file.targets = text;
    if (kinds == NULL || text == NULL) {
        return hs_error_nomem(err, "the matrices of an adapter");
    }
    for (size_t i = 0; i < n; i++) {
        kind_of(adapter->targets[i].tensor, kinds[i]);
    }
    qsort(kinds, n, sizeof *kinds, by_text);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && strcmp(kinds[i], kinds[i - 1]) == 0) {
            continue;
        }
        text[len] = ',';
        len += len > 0;
        memcpy(text + len, kinds[i], strlen(kinds[i]));
        len += strlen(kinds[i]);
    }
    text[len] = '\0';
    return HS_OK;
}

static void check_base(struct hs_adapter_file *file, const hs_lora_base *base,
                       struct hs_lora_faults *faults)
{
    const char *fingerprint = hs_lora_base_fingerprint(base);
    if (file->base_fingerprint[0] != '\0' && fingerprint[0] != '\0' &&
        strcmp(file->base_fingerprint, fingerprint) != 0) {
        hs_lora_fault(faults, HS_MISMATCH,
                      "it was made for the model %.12s..., this one is %.12s...",
                      file->base_fingerprint, fingerprint);
    }
    if (file->architecture[0] == '\0') {
        strncpy(file->architecture, hs_lora_base_architecture(base), sizeof file->architecture - 1);
    }
}

static hs_status report(const struct hs_lora_faults *faults, struct hs_error *err)
{
    hs_status status = hs_lora_faults_end(faults, err);
    if (status == HS_MISMATCH) {
        hs_error_prefix(err, "it does not fit the model");
        hs_error_hint(err, "use it with the model it was made for");
    } else if (status == HS_NOT_SUPPORTED) {
        hs_error_hint(err, "save it as plain LoRA, or merge it into the model with PEFT's "
                           "merge_and_unload");
    } else if (status != HS_OK) {
        hs_error_hint(err, "copy or download it again, or save it anew");
    }
    return status;
}

hs_status hs_adapter_finish(struct hs_adapter_loaded *adapter, const hs_lora_base *base,
                            struct hs_lora_faults *faults, struct hs_error *err)
{
    struct hs_adapter_file *file = &adapter->file;
    size_t n = adapter->n_targets;
    bool has_names = base != NULL || file->format == HS_ADAPTER_GGUF;
    if (n == 0 && faults->n == 0) {
        hs_lora_fault(faults, HS_BAD_FORMAT, "it has no weights");
    }
    qsort(adapter->targets, n, sizeof *adapter->targets, by_tensor);
    for (size_t i = 0; i < n; i++) {
        const struct hs_lora_target *target = &adapter->targets[i];
        file->rank = target->rank > file->rank ? target->rank : file->rank;
        if (has_names && i > 0 && strcmp(target->tensor, target[-1].tensor) == 0) {
            hs_lora_fault(faults, HS_BAD_FORMAT, "%s has two pairs of weights", target->tensor);
        }
    }
    /* What was not read whole is told already; its matrices may be missing. */
    file->lora = (struct hs_lora){adapter->targets, (int32_t)n};
    if (base != NULL) {
        check_base(file, base, faults);
    }
    if (faults->n == 0) {
        hs_lora_check_into(&file->lora, base, faults);
    }
    hs_status status = report(faults, err);
    if (status == HS_OK) {
        status = list_kinds(adapter, err);
    }
    if (!has_names) {
        file->lora = (struct hs_lora){NULL, 0};
    }
    return status;
}
