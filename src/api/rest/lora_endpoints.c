/* lora_endpoints.c - adapters as other servers' clients manage them: vLLM's POST
 * /v1/load_lora_adapter and /v1/unload_lora_adapter, llama-server's /lora-adapters. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "lora.h"
#include "served_models.h"

/* ---- vLLM's ---- */

static void respond_text(hs_http_request *request, const char *format, const char *name)
{
    char text[256];
    int n = snprintf(text, sizeof text, format, name);
    hs_http_respond(request, 200, "text/plain; charset=utf-8", text, (size_t)n);
}

static bool read_required(const struct hs_fields *fields, const char *name, const char **ret)
{
    if (!hs_field_string(fields, name, ret)) {
        return false;
    }
    return *ret != NULL || hs_field_refuse(fields, name, "is missing");
}

void hs_rest_lora_load(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    const struct hs_fields fields = {request, hs_http_request_json(request), ""};
    const char *name = NULL, *path = NULL;
    bool replaces = false;
    struct hs_error err;
    if (fields.object == NULL || !read_required(&fields, "lora_name", &name) ||
        !read_required(&fields, "lora_path", &path) ||
        !hs_field_bool(&fields, "load_inplace", &replaces)) {
        return;
    }
    hs_status status = hs_adapter_table_add(rest->adapters, name, path, replaces, &err);
    if (status == HS_ALREADY_EXISTS) { /* vLLM's status, too */
        hs_http_respond_bad_param(request, "lora_name",
                                  "lora_name: %s; \"load_inplace\": true replaces it", err.message);
    } else if (status == HS_MISMATCH || status == HS_INVALID_ARGUMENT) {
        hs_http_respond_bad_param(request, "lora_path", "lora_path: %s", err.message);
    } else if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
    } else {
        struct hs_adapter_info info;
        if (hs_engine_adapter_info(rest->engine, name, &info, NULL) == HS_OK) {
            hs_served_model_pin(rest, info.model_id);
        }
        respond_text(request, "Success: LoRA adapter '%.64s' added successfully.", name);
    }
}

void hs_rest_lora_unload(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    const struct hs_fields fields = {request, hs_http_request_json(request), ""};
    const char *name = NULL;
    struct hs_error err;
    if (fields.object == NULL || !read_required(&fields, "lora_name", &name)) {
        return;
    }
    hs_status status = hs_adapter_table_drop(rest->adapters, name, &err);
    if (status == HS_NOT_FOUND) {
        hs_rest_lora_respond(request, "lora_name", &err);
    } else if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
    } else {
        respond_text(request, "Success: LoRA adapter '%.64s' removed successfully.", name);
    }
}

/* ---- llama-server's ---- */

static json_t *describe(const struct hs_rest *rest, size_t number,
                        const struct hs_adapter_number *entry)
{
    struct hs_adapter_info info;
    bool is_there = hs_engine_adapter_info(rest->engine, entry->name, &info, NULL) == HS_OK;
    const char *slash = is_there ? strrchr(info.path, '/') : NULL;
    const char *file = slash != NULL ? slash + 1 : "";
    /* the registry's folders are called by their version, which tells nobody anything */
    bool is_version = strspn(file, "0123456789") == strlen(file);
    return json_pack("{s:I, s:s, s:s, s:s, s:f}", "id", (json_int_t)number, "name", entry->name,
                     "path", is_version ? entry->name : file, "model",
                     is_there ? info.model_id : "", "scale", (double)entry->scale);
}

void hs_rest_lora_scales_get(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    hs_adapter_table_sync(rest->adapters, false);
    json_t *list = json_array();
    size_t n = hs_adapter_table_count(rest->adapters);
    for (size_t i = 0; i < n && list != NULL; i++) {
        struct hs_adapter_number entry;
        if (hs_adapter_table_number(rest->adapters, i, &entry) &&
            json_array_append_new(list, describe(rest, i, &entry)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    hs_http_respond_json(request, 200, list);
}

/* One of the list; false: the request was answered. */
static bool read_scale(const struct hs_rest *rest, hs_http_request *request, const json_t *item,
                       size_t i, float *scales, size_t n)
{
    char path[32];
    struct hs_adapter_number entry;
    snprintf(path, sizeof path, "[%zu].", i);
    const struct hs_fields fields = {request, item, path};
    int64_t id = -1;
    float scale = 0;
    if (!json_is_object(item)) {
        hs_http_respond_bad_param(request, "body", "body: must be an array of {\"id\", \"scale\"}");
        return false;
    }
    if (!hs_field_int(&fields, "id", 0, INT32_MAX, &id) ||
        !hs_field_float(&fields, "scale", -1000, 1000, &scale)) {
        return false;
    }
    if (hs_field_get(&fields, "scale") == NULL) {
        return hs_field_refuse(&fields, "scale", "is missing");
    }
    if (id < 0 || (size_t)id >= n || !hs_adapter_table_number(rest->adapters, (size_t)id, &entry)) {
        return hs_field_refuse(&fields, "id",
                               "is the number of no adapter; GET /lora-adapters has "
                               "them");
    }
    scales[id] = scale;
    return true;
}

void hs_rest_lora_scales_set(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    size_t len = 0, n = hs_adapter_table_count(rest->adapters);
    const char *body = hs_http_request_body(request, &len);
    json_t *list = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
    HS_CLEANUP(hs_freep) float *scales = hs_calloc(n + 1, sizeof *scales);
    struct hs_error err;
    bool is_read = true;
    if (scales == NULL) {
        hs_error_nomem(&err, "scales");
        hs_rest_respond_failure(request, &err, NULL);
        is_read = false;
    } else if (!json_is_array(list)) {
        hs_http_respond_bad_param(request, "body", "body: must be an array of {\"id\", \"scale\"}");
        is_read = false;
    }
    for (size_t i = 0; i < json_array_size(list) && is_read; i++) {
        is_read = read_scale(rest, request, json_array_get(list, i), i, scales, n);
    }
    json_decref(list);
    if (is_read) {
        hs_adapter_table_set_scales(rest->adapters, scales, n);
        hs_http_respond_json(request, 200, json_pack("{s:b}", "success", 1));
    }
}
