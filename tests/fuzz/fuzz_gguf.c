/*
 * fuzz_gguf.c - the GGUF reader on arbitrary bytes: opening, every accessor, the model checks.
 *
 * The last byte chooses how much larger the file claims to be than what is in memory, so that
 * tensor tables are reached without megabytes of data behind them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "storage/gguf.h"

#define TRUE_OR_DIE(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t use_keys(const hs_gguf *gguf)
{
    uint64_t sum = 0, u = 0;
    double f = 0;
    for (size_t i = 0; i < hs_gguf_n_kv(gguf); i++) {
        const struct hs_gguf_kv *kv = hs_gguf_kv_at(gguf, i);
        char *key = hs_strndup(kv->key, kv->key_len);
        if (key == NULL) {
            continue;
        }
        TRUE_OR_DIE(strlen(key) == kv->key_len);
        TRUE_OR_DIE(hs_gguf_find(gguf, key) == kv);
        sum += hs_gguf_u64(gguf, key, &u) ? u : 0;
        sum += hs_gguf_f64(gguf, key, &f) && f > 0;
        char *text = hs_gguf_strdup(gguf, key);
        TRUE_OR_DIE((text != NULL) == (kv->type == HS_GGUF_STRING));
        hs_free(text);
        for (size_t b = 0; b < kv->value_len; b++) {
            sum += kv->value[b];
        }
        hs_free(key);
    }
    return sum;
}

static void use_tensors(const hs_gguf *gguf)
{
    uint64_t end = 0;
    for (size_t i = 0; i < hs_gguf_n_tensors(gguf); i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(gguf, i);
        TRUE_OR_DIE(hs_gguf_find_tensor(gguf, tensor->name) == tensor);
        TRUE_OR_DIE(hs_gguf_tensor_type(tensor->type) != NULL);
        TRUE_OR_DIE(tensor->offset % hs_gguf_alignment(gguf) == 0);
        TRUE_OR_DIE(tensor->offset >= end);
        TRUE_OR_DIE(tensor->size_bytes > 0 &&
                    tensor->size_bytes <= hs_gguf_file_size(gguf) - tensor->offset);
        end = tensor->offset + tensor->size_bytes;
        TRUE_OR_DIE(hs_gguf_data_offset(gguf) + end <= hs_gguf_file_size(gguf));
    }
    TRUE_OR_DIE(hs_gguf_weights_bytes(gguf) <= hs_gguf_file_size(gguf));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    uint64_t claimed = size;
    uint64_t u = 0;
    if (size > 0) {
        claimed += (UINT64_C(1) << (data[size - 1] % 48)) - 1;
    }
    hs_status status = hs_gguf_open_memory(data, size, claimed, &gguf, &err);
    if (status != HS_OK) {
        TRUE_OR_DIE(gguf == NULL && err.status == status && err.message[0] != '\0');
        return 0;
    }
    use_keys(gguf);
    use_tensors(gguf);
    (void)hs_gguf_arch_u64(gguf, "block_count", &u);
    status = hs_gguf_check_model(gguf, NULL, &err);
    TRUE_OR_DIE(status == HS_OK || (err.status == status && err.hint[0] != '\0'));
    hs_gguf_free(gguf);
    return 0;
}
