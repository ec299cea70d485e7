/* lora_kernels_avx512.c - the kernels in AVX-512 F, BW, DQ and VL. */
#include "lora_kernels_body.h"

const struct hs_lora_kernels hs_lora_kernels_avx512 = {"avx512", shrink, expand};
