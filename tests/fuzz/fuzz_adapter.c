/*
 * fuzz_adapter.c - the files of adapters: bytes that begin with '{' are PEFT's adapter_config.json,
 * with "GGUF" an adapter in GGUF, low-rank or sparse; others PEFT's SafeTensors file.
 */
#include <stdlib.h>
#include <string.h>

#include "adapter_internal.h"
#include "base/mem.h"
#include "peft_config.h"
#include "storage/safetensors.h"

#define TRUE_OR_DIE(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_config(const uint8_t *data, size_t size)
{
    static const char *const modules[] = {"model.layers.0.self_attn.q_proj", "lm_head", ""};
    struct hs_error err = {0};
    hs_peft_config *config = NULL;
    hs_status status = hs_peft_config_parse((const char *)data, size, &config, &err);
    if (status != HS_OK) {
        TRUE_OR_DIE(config == NULL && err.status == status && err.message[0] != '\0');
        TRUE_OR_DIE(err.hint[0] != '\0');
        return;
    }
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        bool has = false;
        int32_t rank = 0;
        float scale = 0;
        status = hs_peft_config_has(config, modules[i], &has, &err);
        TRUE_OR_DIE(status == HS_OK || status == HS_LIMIT || status == HS_BAD_FORMAT);
        status = hs_peft_config_scale(config, modules[i], &rank, &scale, &err);
        TRUE_OR_DIE(status == HS_OK ? rank >= 1 : status == HS_LIMIT);
    }
    hs_peft_config_free(config);
}

/* Tensors lie in the file, fill its end, and none has another's bytes. */
static void fuzz_tensors(const uint8_t *data, size_t size)
{
    struct hs_error err = {0};
    hs_safetensors *reader = NULL;
    uint64_t sum = 0, total = 0;
    hs_status status = hs_safetensors_open(data, size, &reader, &err);
    if (status != HS_OK) {
        TRUE_OR_DIE(reader == NULL && err.status == status && err.message[0] != '\0');
        TRUE_OR_DIE(err.hint[0] != '\0');
        return;
    }
    for (size_t i = 0; i < hs_safetensors_n(reader); i++) {
        const struct hs_safetensors_tensor *tensor = hs_safetensors_at(reader, i);
        TRUE_OR_DIE(hs_safetensors_find(reader, tensor->name) == tensor);
        TRUE_OR_DIE(tensor->data >= data + 8 && tensor->size_bytes <= size);
        TRUE_OR_DIE(tensor->data + tensor->size_bytes <= data + size);
        total += tensor->size_bytes;
        for (uint64_t b = 0; b < tensor->size_bytes; b++) {
            sum += tensor->data[b];
        }
    }
    TRUE_OR_DIE(total < size && sum <= total * 255);
    const char *format = hs_safetensors_metadata(reader, "format");
    TRUE_OR_DIE(format == NULL || strlen(format) < size);
    hs_safetensors_free(reader);
}

static double sum_of(enum hs_lora_type type, const void *data, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        float value;
        hs_lora_values(type, data, i, 1, &value);
        sum += (double)value;
    }
    return sum;
}

/* What is read has its values, finite ones, and its blocks within the matrix. */
static void check_target(const struct hs_lora_target *target)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    double sum = 0;
    if (target->rank > 0) {
        sum = sum_of(target->a.type, target->a.data, target->a.n_rows * target->a.n_cols) +
              sum_of(target->b.type, target->b.data, target->b.n_rows * target->b.n_cols);
    } else {
        int64_t n_rows = target->n_out / sparse->block_rows;
        sum = sum_of(sparse->type, sparse->values,
                     sparse->n_blocks * sparse->block_rows * sparse->block_cols);
        TRUE_OR_DIE(sparse->row_start[n_rows] == sparse->n_blocks);
        for (int64_t i = 0; i < sparse->n_blocks; i++) {
            TRUE_OR_DIE(sparse->block_column[i] >= 0);
            TRUE_OR_DIE(sparse->block_column[i] < target->n_in / sparse->block_cols);
        }
    }
    TRUE_OR_DIE(sum == sum && memchr(target->tensor, '\0', sizeof target->tensor) != NULL);
}

static void fuzz_gguf(const uint8_t *data, size_t size)
{
    struct hs_error err = {0};
    struct hs_adapter_loaded *adapter = hs_calloc(1, sizeof *adapter);
    TRUE_OR_DIE(adapter != NULL && (adapter->bytes = hs_alloc(size)) != NULL);
    memcpy(adapter->bytes, data, size);
    adapter->len = size;
    hs_status status = hs_adapter_read_gguf(adapter, NULL, &err);
    if (status == HS_OK) {
        for (int32_t i = 0; i < adapter->file.lora.n_targets; i++) {
            check_target(&adapter->file.lora.targets[i]);
        }
    } else {
        TRUE_OR_DIE(err.status == status && err.message[0] != '\0');
    }
    hs_adapter_file_free(&adapter->file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '{') {
        fuzz_config(data, size);
    } else if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        fuzz_gguf(data, size);
    } else {
        fuzz_tensors(data, size);
    }
    return 0;
}
