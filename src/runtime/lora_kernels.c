/* lora_kernels.c - which kernels this CPU runs, and what is the same in all of them. */
#include "lora_kernels.h"

const struct hs_lora_kernels *hs_lora_kernels_at(size_t i)
{
    const struct hs_lora_kernels *sets[4] = {NULL};
    size_t n = 0;
#if defined(__x86_64__)
    /* Every CPU with AVX2 and FMA has F16C */
    bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        sets[n++] = &hs_lora_kernels_avx512;
    }
    if (has_avx2) {
        sets[n++] = &hs_lora_kernels_avx2;
    }
#elif defined(__aarch64__)
    sets[n++] = &hs_lora_kernels_neon;
#endif
    sets[n++] = &hs_lora_kernels_portable;
    return i < n ? sets[i] : NULL;
}

void hs_lora_shrink(const struct hs_lora_group *groups, int32_t n_groups, const float *x,
                    size_t x_stride, int ith, int nth)
{
    hs_lora_kernels_at(0)->shrink(groups, n_groups, x, x_stride, ith, nth);
}

void hs_lora_lookup(const struct hs_lora_group *groups, int32_t n_groups, const int32_t *tokens,
                    int ith, int nth)
{
    for (int32_t g = 0; g < n_groups; g++) {
        const struct hs_lora_packed *weights = groups[g].weights;
        int64_t rank = weights->rank, end = (int64_t)groups[g].n_rows * (ith + 1) / nth;
        for (int64_t row = (int64_t)groups[g].n_rows * ith / nth; row < end; row++) {
            float *ax = groups[g].ax + row * rank;
            int64_t token = tokens[groups[g].rows[row]];
            float scale = groups[g].scales[row] * weights->scale *
                          (weights->a_factors == NULL ? 1.0f : weights->a_factors[token]);
            hs_lora_values(weights->a_type, weights->a, token * rank, rank, ax);
            for (int64_t k = 0; k < rank; k++) {
                ax[k] *= scale;
            }
        }
    }
}

void hs_lora_expand(const struct hs_lora_group *groups, int32_t n_groups, const float *x,
                    size_t x_stride, float *y, size_t y_stride, int ith, int nth)
{
    hs_lora_kernels_at(0)->expand(groups, n_groups, x, x_stride, y, y_stride, ith, nth);
}
