/*
 * route_arrows.h - what adapters' weights say of a text (adapters/arrow.h): directions are made
 * from an adapter's file when it is first asked about, kept with its version, and calibrated by the
 * texts that no adapter is for.
 *
 * Owner:   the router. Threads: any; one at a time makes directions, and no lock is held while a
 *          text is read.
 */
#ifndef INFERENCE_ROUTE_ARROWS_H
#define INFERENCE_ROUTE_ARROWS_H

#include "hyprstream.h"

typedef struct hs_route_arrows hs_route_arrows;

HS_CHECKED hs_status hs_route_arrows_new(hs_route_arrows **ret_arrows, struct hs_error *err);
void hs_route_arrows_free(hs_route_arrows *all);
void hs_route_arrows_forget(hs_route_arrows *all, const char *name);

/*
 * Score a text for adapters[n] of a loaded model.
 * In:     deadline_at_ms of hs_clock_ms; 0: none.
 * Out:    scores[n], standard deviations above other texts; NaN: its weights say nothing (made in
 *         memory, sparse, or not to be read).
 * Errors: HS_NOT_FOUND (no such model), HS_TIMEOUT, those of the runtime's observe.
 */
HS_CHECKED hs_status hs_route_arrows_score(hs_route_arrows *all, hs_engine *engine,
                                           const char *model_id,
                                           const struct hs_adapter_info *const *adapters, size_t n,
                                           const char *text, double deadline_at_ms, double *scores,
                                           struct hs_error *err);

#endif
