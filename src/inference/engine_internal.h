/*
 * engine_internal.h - the engine over any runtime: tests put a fake one there.
 */
#ifndef INFERENCE_ENGINE_INTERNAL_H
#define INFERENCE_ENGINE_INTERNAL_H

#include "runtime/runtime.h"

/* As hs_engine_create; the table must outlive the engine. */
HS_CHECKED hs_status hs_engine_create_with_runtime(const struct hs_engine_params *params,
                                                   const struct hs_runtime *rt,
                                                   hs_engine **ret_engine, struct hs_error *err);

#endif
