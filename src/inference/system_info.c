/* system_info.c - the engine's answer to what computes here; the runtime knows. */
#include "runtime/runtime.h"

hs_status hs_system_info_get(struct hs_system_info *ret_info, struct hs_error *err)
{
    return hs_runtime_llama_system_info(ret_info, err);
}
