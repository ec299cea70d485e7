/*
 * served_models.h - the models of a server that load when they are asked for: a model pool behind
 * the table of struct hs_rest.
 *
 * A request that names a model which is not loaded waits, without a thread, and its handler is run
 * again from the beginning once the model is there: a handler asks for its model before it does
 * anything. The request keeps the model to its end.
 *
 * Models of the registry are served beside those of the command line; the registry is looked at
 * again when a name is not known.
 *
 * Owner:   hs_served_models_free, after the HTTP server and before the engine.
 * Threads: any. Ids, and all of a model while a request keeps it, are constant; the rest of
 *          rest->models is read through hs_served_model_info.
 */
#ifndef API_SERVED_MODELS_H
#define API_SERVED_MODELS_H

#include "hyprstream/model_pool.h"
#include "rest.h"

struct hs_served_params {
    struct hs_rest *rest;  /* its engine is there; models and `served` are filled in */
    hs_registry *registry; /* NULL: only models that are added are served */
    bool is_on_demand;     /* serve all models of the registry */
    uint64_t budget_bytes; /* as struct hs_model_pool_params */
    int64_t keep_alive_ms; /* of models of the registry */
    const struct hs_model_params *model; /* parameters of models of the registry; copied but for
                                            its strings, which outlive this */
};

HS_CHECKED hs_status hs_served_models_new(const struct hs_served_params *params,
                                          struct hs_error *err);
void hs_served_models_free(hs_served_models *served);

/* One more, which stays once it is loaded. HS_LIMIT, those of hs_model_pool_add. */
HS_CHECKED hs_status hs_served_models_add(hs_served_models *served, const char *id,
                                          const char *path, const struct hs_model_params *params,
                                          struct hs_error *err);
/* Load it now; false from `progress` gives up. Errors: those of the load; HS_CANCELLED. */
HS_CHECKED hs_status hs_served_models_load(hs_served_models *served, const char *id,
                                           hs_progress_fn progress, void *user,
                                           struct hs_error *err);
/* Look for models that are new in the registry. is_changed: this process has changed it. */
void hs_served_models_sync(hs_served_models *served, bool is_changed);
hs_model_pool *hs_served_models_pool(hs_served_models *served);

/* What there is of model i, as it is now. ret_state: cold or ready for a server without a pool,
 * too. false: there is none. */
bool hs_served_model_info(const struct hs_rest *rest, size_t i, struct hs_model_info *ret_info,
                          bool *ret_is_loaded);

/*
 * The model i for this request, loaded and kept to the request's end. NULL: the request waits for
 * it and its handler returns, or it was answered with why it cannot be had.
 */
const struct hs_model_info *hs_served_model_take(const struct hs_rest *rest,
                                                 hs_http_request *request, size_t i);
/* How long the model that the request keeps stays afterwards: as hs_model_lease_keep_alive. */
void hs_served_model_keep_alive(hs_http_request *request, int64_t keep_alive_ms);
/* For work that is no request: wait until it is loaded. release with hs_served_model_release. NULL
 * and HS_OK: there is no pool. Errors: those of the load, HS_BUSY after timeout_ms. */
HS_CHECKED hs_status hs_served_model_hold(const struct hs_rest *rest, const char *id,
                                          int64_t timeout_ms, hs_model_lease **ret_lease,
                                          struct hs_error *err);
/* Something of it would be lost with it (adapters by path, merged weights): it stays from now on.
 * Without a pool it does anyway. */
void hs_served_model_pin(const struct hs_rest *rest, const char *id);
/* The index of the model that the registry's adapter of this name was checked against, or
 * n_models. */
size_t hs_served_model_of_adapter(const struct hs_rest *rest, const char *name);

/* For the status: the pool as JSON, null without one. NULL: no memory. */
json_t *hs_rest_pool_describe(const struct hs_rest *rest);
/* For /metrics. HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_rest_pool_metrics(const struct hs_rest *rest, struct hs_buf *out);

#endif
