/* lora_kernels_avx2.c - the kernels in AVX2 with FMA and F16C. */
#include "lora_kernels_body.h"

const struct hs_lora_kernels hs_lora_kernels_avx2 = {"avx2", shrink, expand};
