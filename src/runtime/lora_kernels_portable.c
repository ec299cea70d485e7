/* lora_kernels_portable.c - the kernels in whatever the compiler makes of plain C. */
#define HS_LORA_PORTABLE
#include "lora_kernels_body.h"

const struct hs_lora_kernels hs_lora_kernels_portable = {"portable", shrink, expand};
