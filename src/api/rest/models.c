/* models.c - GET /v1/models and /v1/models/{id}. */
#include <string.h>

#include "rest.h"
#include "served_models.h"

/* Without a load what the registry knows of it. */
static json_t *describe(const struct hs_rest *rest, const struct hs_model_info *model,
                        bool is_loaded)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:n, s:{s:i, s:i, s:i, s:i, s:I, s:I}, s:{s:s}}",
                     "id", model->id, "object", "model", "created",
                     (json_int_t)rest->created_unix_s, "owned_by", "hyprstream", "root", model->id,
                     "parent", "meta", "n_ctx", (int)model->n_ctx, "n_ctx_train",
                     (int)model->n_ctx_train, "n_vocab", (int)model->n_vocab, "n_embd",
                     (int)model->n_embd, "n_params", (json_int_t)model->n_params, "size",
                     (json_int_t)model->memory.weights_bytes, "status", "value",
                     is_loaded ? "loaded" : "unloaded");
}

static json_t *describe_adapter(const struct hs_adapter_info *info)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s}", "id", info->name, "object", "model",
                     "created", (json_int_t)(info->registered_unix_ms / 1000), "owned_by",
                     "hyprstream", "root", info->model_id, "parent", info->model_id);
}

/* false: no memory. */
static bool add_adapters(const struct hs_rest *rest, json_t *list)
{
    struct hs_adapter_info *infos = NULL;
    size_t n = 0;
    hs_adapter_table_sync(rest->adapters, false);
    bool is_whole = hs_engine_list_adapters(rest->engine, NULL, &infos, &n, NULL) == HS_OK;
    for (size_t i = 0; i < n && is_whole; i++) {
        is_whole = json_array_append_new(list, describe_adapter(&infos[i])) == 0;
    }
    hs_adapter_infos_free(infos);
    return is_whole;
}

void hs_rest_model_list(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    json_t *list = json_array();
    struct hs_model_info model;
    bool is_loaded = false;
    if (rest->served != NULL) {
        hs_served_models_sync(rest->served, false);
    }
    for (size_t i = 0; list != NULL && hs_served_model_info(rest, i, &model, &is_loaded); i++) {
        if (json_array_append_new(list, describe(rest, &model, is_loaded)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    if (list != NULL && !add_adapters(rest, list)) {
        json_decref(list);
        list = NULL;
    }
    hs_http_respond_json(request, 200,
                         list == NULL ? NULL
                                      : json_pack("{s:s, s:o}", "object", "list", "data", list));
}

void hs_rest_model_get(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_adapter_info adapter;
    struct hs_model_info model;
    bool is_loaded = false;
    const char *id = hs_http_request_param(request, "id");
    size_t i = hs_rest_model_index(rest, request, id);
    if (i == SIZE_MAX || !hs_served_model_info(rest, i, &model, &is_loaded)) {
        return;
    }
    bool is_adapter = strcmp(id, model.id) != 0 &&
                      hs_engine_adapter_info(rest->engine, id, &adapter, NULL) == HS_OK;
    hs_http_respond_json(
        request, 200, is_adapter ? describe_adapter(&adapter) : describe(rest, &model, is_loaded));
}
