/* lora.c - values of an adapter's matrices as f32, whatever they are kept as. */
#include "base/lora.h"

#include <string.h>

#include "base/half.h"

size_t hs_lora_type_size(enum hs_lora_type type)
{
    return type == HS_LORA_F32 ? 4 : type == HS_LORA_I8 ? 1 : 2;
}

void hs_lora_values(enum hs_lora_type type, const void *data, int64_t first, int64_t n,
                    float *ret_values)
{
    switch (type) {
    case HS_LORA_F32:
        memcpy(ret_values, (const float *)data + first, (size_t)n * sizeof(float));
        break;
    case HS_LORA_F16:
        for (int64_t i = 0; i < n; i++) {
            ret_values[i] = hs_f32_from_f16(((const uint16_t *)data)[first + i]);
        }
        break;
    case HS_LORA_BF16:
        for (int64_t i = 0; i < n; i++) {
            ret_values[i] = hs_f32_from_bf16(((const uint16_t *)data)[first + i]);
        }
        break;
    case HS_LORA_I8:
        for (int64_t i = 0; i < n; i++) {
            ret_values[i] = ((const int8_t *)data)[first + i];
        }
        break;
    }
}

void hs_lora_matrix_row(const struct hs_lora_matrix *matrix, int64_t row, float *ret_values)
{
    hs_lora_values(matrix->type, matrix->data, row * matrix->n_cols, matrix->n_cols, ret_values);
    for (int64_t i = 0; matrix->type == HS_LORA_I8 && i < matrix->n_cols; i++) {
        ret_values[i] *= matrix->factors[row];
    }
}
