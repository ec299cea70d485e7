/* lora_unpack.c - the way back from the order of the kernels. */
#include "lora_pack.h"

void hs_lora_packed_read(const struct hs_lora_packed *packed, float *a, float *b)
{
    int64_t n_chunks = (packed->n_in + HS_LORA_A_COLUMNS - 1) / HS_LORA_A_COLUMNS;
    for (int64_t rank = 0; rank < packed->rank; rank++) {
        float factor = packed->a_factors ? packed->a_factors[rank] : 1;
        int64_t tile = rank / HS_LORA_A_RANKS;
        for (int64_t first = 0; first < packed->n_in; first += HS_LORA_A_COLUMNS) {
            int64_t n = packed->n_in - first;
            int64_t at = ((tile * n_chunks + first / HS_LORA_A_COLUMNS) * HS_LORA_A_RANKS +
                          rank % HS_LORA_A_RANKS) *
                         HS_LORA_A_COLUMNS;
            float values[HS_LORA_A_COLUMNS];
            hs_lora_values(packed->a_type, packed->a, at, HS_LORA_A_COLUMNS, values);
            for (int64_t i = 0; i < n && i < HS_LORA_A_COLUMNS; i++) {
                a[rank * packed->n_in + first + i] = values[i] * factor;
            }
        }
    }
    for (int64_t first = 0; first < packed->n_out; first += HS_LORA_B_COLUMNS) {
        int64_t n = packed->n_out - first;
        for (int64_t rank = 0; rank < packed->rank; rank++) {
            float values[HS_LORA_B_COLUMNS];
            hs_lora_values(packed->b_type, packed->b,
                           first * packed->rank + rank * HS_LORA_B_COLUMNS, HS_LORA_B_COLUMNS,
                           values);
            for (int64_t i = 0; i < n && i < HS_LORA_B_COLUMNS; i++) {
                float factor = packed->b_factors ? packed->b_factors[first + i] : 1;
                b[(first + i) * packed->rank + rank] = values[i] * factor;
            }
        }
    }
}
