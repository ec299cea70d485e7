/*
 * adapter_write.c - GGUF LoRA files: the keys that gguf_lora.c reads, and two tensors a target.
 *
 * Each target may have a scale of its own, for which the format has no room: it is multiplied into
 * B, and adapter.lora.alpha is 0, which stands for a scale of 1.
 */
#include "adapters/adapter_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/half.h"
#include "base/mem.h"
#include "storage/gguf_writer.h"

enum { TYPE_F32 = 0, TYPE_F16 = 1 };

static hs_status put_keys(hs_gguf_writer *writer, const struct hs_adapter_about *about,
                          struct hs_error *err)
{
    const char *const texts[][2] = {
        {"general.architecture", hs_lora_base_architecture(about->base)},
        {"general.type", "adapter"},
        {"adapter.type", "lora"},
        {"general.name", about->name},
        {"general.description", about->description},
        {"hyprstream.base_fingerprint", hs_lora_base_fingerprint(about->base)},
    };
    hs_status status = HS_OK;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && status == HS_OK; i++) {
        if (texts[i][1] != NULL && texts[i][1][0] != '\0') {
            status = hs_gguf_writer_put_string(writer, texts[i][0], texts[i][1], err);
        }
    }
    return status != HS_OK ? status : hs_gguf_writer_put_f32(writer, "adapter.lora.alpha", 0, err);
}

static hs_status put_info(hs_gguf_writer *writer, const char *tensor, const char *suffix,
                          const struct hs_lora_matrix *matrix, uint32_t type, struct hs_error *err)
{
    char name[HS_GGUF_MAX_NAME_BYTES + 1];
    if (snprintf(name, sizeof name, "%s%s", tensor, suffix) >= (int)sizeof name) {
        return hs_error_set(err, HS_LIMIT, "'%s%s' has more than the %u bytes of a tensor's name",
                            tensor, suffix, HS_GGUF_MAX_NAME_BYTES);
    }
    uint64_t dims[] = {(uint64_t)matrix->n_cols, (uint64_t)matrix->n_rows};
    return hs_gguf_writer_tensor(writer, name, 2, dims, type, err);
}

static hs_status put_infos(hs_gguf_writer *writer, const struct hs_lora *lora, uint32_t type,
                           struct hs_error *err)
{
    hs_status status = HS_OK;
    for (int32_t i = 0; i < lora->n_targets && status == HS_OK; i++) {
        const struct hs_lora_target *target = &lora->targets[i];
        if (target->rank == 0) {
            hs_error_set(err, HS_NOT_SUPPORTED, "%s is sparse: a GGUF LoRA file holds factors",
                         target->tensor);
            hs_error_hint(err, "merge it by svd with a rank first");
            return HS_NOT_SUPPORTED;
        }
        status = put_info(writer, target->tensor, ".lora_a", &target->a, type, err);
        if (status == HS_OK) {
            status = put_info(writer, target->tensor, ".lora_b", &target->b, type, err);
        }
    }
    return status;
}

static hs_status to_half(const float *row, int64_t n, const char *tensor, uint16_t *halves,
                         struct hs_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        halves[i] = hs_f16_from_f32(row[i]);
        if (isinf(hs_f32_from_f16(halves[i]))) {
            hs_error_set(err, HS_LIMIT, "%s has the value %g, which f16 cannot hold", tensor,
                         (double)row[i]);
            hs_error_hint(err, "write f32");
            return HS_LIMIT;
        }
    }
    return HS_OK;
}

static hs_status put_matrix(hs_gguf_writer *writer, const struct hs_lora_matrix *matrix,
                            float scale, const char *tensor, uint32_t type, struct hs_error *err)
{
    size_t n = (size_t)matrix->n_cols;
    HS_CLEANUP(hs_freep) float *row = hs_calloc(n, sizeof *row);
    HS_CLEANUP(hs_freep) uint16_t *halves = hs_calloc(n, sizeof *halves);
    if (row == NULL || halves == NULL) {
        return hs_error_nomem(err, "a row of an adapter");
    }
    hs_status status = HS_OK;
    for (int64_t i = 0; i < matrix->n_rows && status == HS_OK; i++) {
        hs_lora_matrix_row(matrix, i, row);
        for (size_t j = 0; j < n; j++) {
            row[j] *= scale;
        }
        if (type == TYPE_F16) {
            status = to_half(row, matrix->n_cols, tensor, halves, err);
        }
        if (status == HS_OK) {
            const void *data = type == TYPE_F16 ? (const void *)halves : row;
            status = hs_gguf_writer_data(writer, data, n * (type == TYPE_F16 ? 2 : 4), err);
        }
    }
    return status;
}

static hs_status write_file(hs_gguf_writer *writer, const struct hs_lora *lora,
                            const struct hs_adapter_about *about, const char *path,
                            struct hs_error *err)
{
    uint32_t type = about->is_f16 ? TYPE_F16 : TYPE_F32;
    hs_status status = put_keys(writer, about, err);
    if (status == HS_OK) {
        status = put_infos(writer, lora, type, err);
    }
    if (status == HS_OK) {
        status = hs_gguf_writer_begin(writer, path, err);
    }
    for (int32_t i = 0; i < lora->n_targets && status == HS_OK; i++) {
        const struct hs_lora_target *target = &lora->targets[i];
        status = put_matrix(writer, &target->a, 1, target->tensor, type, err);
        if (status == HS_OK) {
            status = put_matrix(writer, &target->b, target->scale, target->tensor, type, err);
        }
    }
    return status != HS_OK ? status : hs_gguf_writer_commit(writer, err);
}

hs_status hs_adapter_write_gguf(const struct hs_lora *lora, const struct hs_adapter_about *about,
                                const char *path, struct hs_error *err)
{
    hs_gguf_writer *writer = NULL;
    hs_status status = hs_gguf_writer_new(32, &writer, err);
    if (status == HS_OK) {
        status = write_file(writer, lora, about, path, err);
    }
    hs_gguf_writer_free(writer);
    return status;
}
