/* model_pool.c - models that load and leave: GET /api/v1/models, POST /api/v1/models/load and
 * /unload, and what the status and /metrics say of them. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "json_quote.h"
#include "served_models.h"

#define KEEP_ALIVE_MAX_S 1e11

/* ---- what there is ---- */

static json_t *describe(const struct hs_model_pool_status *model)
{
    const struct hs_memory *memory = &model->memory;
    bool has_failed = model->failure.status != HS_OK;
    return json_pack(
        "{s:s, s:s, s:b, s:f, s:i, s:i, s:{s:I, s:I, s:I}, s:I, s:I, s:I, s:I, s:f, s:s?}", "id",
        model->id, "state", hs_model_pool_state_name(model->state), "pinned", (int)model->is_pinned,
        "progress", (double)model->progress, "in_use", (int)model->n_leases, "waiting",
        (int)model->n_waiting, "memory", "weights_bytes", (json_int_t)memory->weights_bytes,
        "kv_bytes", (json_int_t)memory->kv_bytes, "compute_bytes",
        (json_int_t)memory->compute_bytes, "unused_ms", (json_int_t)model->unused_ms, "expires_ms",
        (json_int_t)model->expires_ms, "uses", (json_int_t)model->n_uses, "loads",
        (json_int_t)model->n_loads, "load_ms", model->load_ms, "error",
        has_failed ? model->failure.message : NULL);
}

/* All of them. NULL: no memory. */
static struct hs_model_pool_status *list(const struct hs_rest *rest, size_t *ret_n)
{
    struct hs_model_pool_status *models = hs_calloc(HS_REST_MODELS_MAX, sizeof *models);
    if (models != NULL) {
        hs_model_pool_list(hs_served_models_pool(rest->served), models, HS_REST_MODELS_MAX, ret_n);
    }
    return models;
}

json_t *hs_rest_pool_describe(const struct hs_rest *rest)
{
    if (rest->served == NULL) {
        return json_null();
    }
    size_t n = 0;
    struct hs_model_pool_status *models HS_CLEANUP(hs_freep) = list(rest, &n);
    json_t *array = models == NULL ? NULL : json_array();
    struct hs_pool_memory memory;
    hs_model_pool_memory(hs_served_models_pool(rest->served), &memory);
    for (size_t i = 0; i < n && array != NULL; i++) {
        if (json_array_append_new(array, describe(&models[i])) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array == NULL
               ? NULL
               : json_pack("{s:I, s:I, s:o}", "budget_bytes", (json_int_t)memory.budget_bytes,
                           "used_bytes", (json_int_t)memory.used_bytes, "models", array);
}

static hs_status write_gauge(struct hs_buf *out, const char *name, const char *type,
                             const char *help)
{
    return hs_buf_printf(out, "# HELP hyprstream_%s %s\n# TYPE hyprstream_%s %s\n", name, help,
                         name, type);
}

static hs_status write_of_models(struct hs_buf *out, const char *name,
                                 const struct hs_model_pool_status *models, size_t n, bool is_loads)
{
    hs_status status = HS_OK;
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        bool is_ready = models[i].state == HS_MODEL_POOL_READY;
        status = hs_buf_printf(out, "hyprstream_%s{model=", name);
        status = status == HS_OK ? hs_json_quote(out, models[i].id, strlen(models[i].id)) : status;
        status = status == HS_OK
                     ? hs_buf_printf(out, "} %llu\n",
                                     is_loads ? (unsigned long long)models[i].n_loads : is_ready)
                     : status;
    }
    return status;
}

hs_status hs_rest_pool_metrics(const struct hs_rest *rest, struct hs_buf *out)
{
    if (rest->served == NULL) {
        return HS_OK;
    }
    size_t n = 0;
    struct hs_model_pool_status *models HS_CLEANUP(hs_freep) = list(rest, &n);
    struct hs_pool_memory memory;
    hs_model_pool_memory(hs_served_models_pool(rest->served), &memory);
    hs_status status = models == NULL ? HS_OUT_OF_MEMORY : HS_OK;
    status = status == HS_OK ? write_gauge(out, "model_loaded", "gauge", "The model is loaded.")
                             : status;
    status = status == HS_OK ? write_of_models(out, "model_loaded", models, n, false) : status;
    status = status == HS_OK ? write_gauge(out, "model_loads_total", "counter",
                                           "Times that the model was loaded.")
                             : status;
    status = status == HS_OK ? write_of_models(out, "model_loads_total", models, n, true) : status;
    status = status == HS_OK ? write_gauge(out, "model_memory_bytes", "gauge",
                                           "Memory of loaded models, and what they may take.")
                             : status;
    return status == HS_OK ? hs_buf_printf(out,
                                           "hyprstream_model_memory_bytes{kind=\"used\"} %llu\n"
                                           "hyprstream_model_memory_bytes{kind=\"budget\"} %llu\n",
                                           (unsigned long long)memory.used_bytes,
                                           (unsigned long long)memory.budget_bytes)
                           : status;
}

static void respond_one(const struct hs_rest *rest, hs_http_request *request, const char *id)
{
    struct hs_model_pool_status model;
    struct hs_error err;
    if (hs_model_pool_get(hs_served_models_pool(rest->served), id, &model, &err) != HS_OK) {
        hs_rest_respond_failure(request, &err, "model");
        return;
    }
    hs_http_respond_json(request, 200, describe(&model));
}

/* false: this server's models stay, and the client was told. */
static bool need_pool(const struct hs_rest *rest, hs_http_request *request)
{
    if (rest->served == NULL) {
        hs_http_respond_error(
            request, &(struct hs_http_error){.status = 409,
                                             .code = "models_stay",
                                             .message = "the models of this server stay loaded"});
    }
    return rest->served != NULL;
}

void hs_rest_pool_list(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    const char *name = hs_http_request_query(request, "model");
    if (name == NULL) {
        if (rest->served != NULL) {
            hs_served_models_sync(rest->served, false);
        }
        hs_http_respond_json(request, 200, hs_rest_pool_describe(rest));
    } else if (need_pool(rest, request)) {
        size_t i = hs_rest_model_index(rest, request, name);
        if (i != SIZE_MAX) {
            respond_one(rest, request, rest->models[i].id);
        }
    }
}

/* ---- load, unload ---- */

void hs_rest_pool_load(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields = {request, hs_http_request_json(request), ""};
    const char *name = NULL;
    bool is_pinned = false;
    if (fields.object == NULL || !need_pool(rest, request) ||
        !hs_field_string(&fields, "model", &name) || !hs_field_bool(&fields, "pin", &is_pinned)) {
        return;
    }
    const json_t *keep = hs_field_get(&fields, "keep_alive");
    double seconds = json_number_value(keep);
    if (keep != NULL && !json_is_number(keep)) {
        hs_field_refuse(&fields, "keep_alive", "must be a number of seconds; -1: without an end");
        return;
    }
    const struct hs_model_info *model = hs_rest_model(rest, request, name);
    if (model == NULL) {
        return;
    }
    if (keep != NULL) {
        bool is_endless = seconds < 0 || seconds > KEEP_ALIVE_MAX_S;
        hs_served_model_keep_alive(request, is_endless ? -1 : (int64_t)(seconds * 1000));
    }
    struct hs_error err;
    hs_status status =
        hs_field_get(&fields, "pin") == NULL
            ? HS_OK
            : hs_model_pool_pin(hs_served_models_pool(rest->served), model->id, is_pinned, &err);
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, "model");
        return;
    }
    respond_one(rest, request, model->id);
}

void hs_rest_pool_unload(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields = {request, hs_http_request_json(request), ""};
    const char *name = NULL;
    if (fields.object == NULL || !need_pool(rest, request) ||
        !hs_field_string(&fields, "model", &name)) {
        return;
    }
    if (name == NULL) {
        hs_field_refuse(&fields, "model", "is missing");
        return;
    }
    size_t i = hs_rest_model_index(rest, request, name);
    struct hs_error err;
    if (i == SIZE_MAX) {
        return;
    }
    const char *id = rest->models[i].id;
    if (hs_model_pool_unload(hs_served_models_pool(rest->served), id, &err) != HS_OK) {
        hs_rest_respond_failure(request, &err, "model");
        return;
    }
    respond_one(rest, request, id);
}
