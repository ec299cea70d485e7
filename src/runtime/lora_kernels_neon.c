/* lora_kernels_neon.c - the kernels in NEON, which every arm64 CPU has. */
#include "lora_kernels_body.h"

const struct hs_lora_kernels hs_lora_kernels_neon = {"neon", shrink, expand};
