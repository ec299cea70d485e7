/*
 * route_inputs.h - the inputs of a model's matrices on the texts that no adapter is for, kept so
 * that the next adapter's directions are compared with them without reading the texts again.
 *
 * Kept in bf16, matrices with the same input (q, k and v) once: 40 MB for the attention of a model
 * of 270 million parameters.
 *
 * Owner:   the model. Threads: none of its own; the router's lock for learning guards it.
 */
#ifndef INFERENCE_ROUTE_INPUTS_H
#define INFERENCE_ROUTE_INPUTS_H

#include "adapters/arrow.h"
#include "route_reading.h"

typedef struct hs_route_inputs hs_route_inputs;

HS_CHECKED hs_status hs_route_inputs_new(size_t max_bytes, hs_route_inputs **ret_inputs,
                                         struct hs_error *err);
void hs_route_inputs_free(hs_route_inputs *inputs);
/*
 * Read texts[n_texts], the same in every call, for the matrices of arrows[n_arrows] (NULL: none)
 * that are not kept yet.
 * Errors: HS_LIMIT (more than max_bytes; what was kept before stays), those of hs_route_read.
 */
HS_CHECKED hs_status hs_route_inputs_read(hs_route_inputs *inputs,
                                          const struct hs_route_reading *how,
                                          const char *const *texts, int32_t n_texts,
                                          const hs_arrow *const *arrows, size_t n_arrows,
                                          struct hs_error *err);
/* Add what is kept of a text to sums[n_matrices] of an adapter (hs_arrow_see). */
HS_CHECKED hs_status hs_route_inputs_see(const hs_route_inputs *inputs, int32_t text,
                                         const hs_arrow *arrow, struct hs_arrow_sum *sums,
                                         struct hs_error *err);

#endif
