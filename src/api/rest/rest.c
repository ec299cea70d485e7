#include "rest.h"

#include <stdio.h>
#include <string.h>

#include "api/status_map.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "lora.h"
#include "served_models.h"

#define DEFAULT_MAX_MESSAGES 4096
#define DEFAULT_MAX_CHOICES 16
#define DEFAULT_MAX_INPUTS 2048
#define DEFAULT_MAX_STOP 64
#define DEFAULT_MAX_TOOLS 128
#define DEFAULT_MAX_SCHEMA_BYTES (256u << 10)
#define DEFAULT_PING_MS 10000

void hs_rest_defaults(struct hs_rest *ret_rest)
{
    memset(ret_rest, 0, sizeof *ret_rest);
    hs_generate_params_defaults(&ret_rest->defaults);
    ret_rest->max_messages = DEFAULT_MAX_MESSAGES;
    ret_rest->max_choices = DEFAULT_MAX_CHOICES;
    ret_rest->max_inputs = DEFAULT_MAX_INPUTS;
    ret_rest->max_stop = DEFAULT_MAX_STOP;
    hs_route_params_defaults(&ret_rest->routing);
    ret_rest->max_tools = DEFAULT_MAX_TOOLS;
    ret_rest->max_schema_bytes = DEFAULT_MAX_SCHEMA_BYTES;
    ret_rest->ping_ms = DEFAULT_PING_MS;
    atomic_init(&ret_rest->server, NULL);
    atomic_init(&ret_rest->is_merging, false);
}

hs_status hs_rest_add_model(struct hs_rest *rest, const char *model_id, struct hs_error *err)
{
    size_t n = rest->n_models;
    if (n == HS_REST_MODELS_MAX) {
        return hs_error_set(err, HS_LIMIT, "a server has at most %d models", HS_REST_MODELS_MAX);
    }
    hs_status status = hs_engine_model_info(rest->engine, model_id, &rest->models[n], err);
    atomic_store(&rest->n_models, n + (status == HS_OK));
    return status;
}

void hs_rest_respond_no_model(const struct hs_rest *rest, hs_http_request *request,
                              const char *text, const char *name)
{
    struct hs_buf message HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(8192);
    size_t len = hs_utf8_clip(name, strlen(name), HS_ID_MAX);
    hs_status status = hs_buf_printf(&message, "%s '%.*s'; there is", text, (int)len, name);
    for (size_t i = 0; i < rest->n_models && status == HS_OK; i++) {
        status = hs_buf_printf(&message, "%s '%s'", i == 0 ? "" : ",", rest->models[i].id);
    }
    status = status == HS_OK ? hs_buf_append_str(&message, "; adapters: ") : status;
    status = status == HS_OK ? hs_rest_lora_names(rest, NULL, &message) : status;
    hs_http_respond_error(request, &(struct hs_http_error){
                                       .status = 404,
                                       .param = "model",
                                       .code = "model_not_found",
                                       .message = status == HS_OK ? message.data : "no such model",
                                   });
}

static const struct hs_model_info *find_id(const struct hs_rest *rest, const char *id)
{
    size_t i = 0;
    while (i < rest->n_models && strcmp(rest->models[i].id, id) != 0) {
        i++;
    }
    return i < rest->n_models ? &rest->models[i] : NULL;
}

/* The model that a name means, loaded or not; NULL: none. */
static const struct hs_model_info *find_named(const struct hs_rest *rest, const char *name,
                                              hs_status *ret_status, struct hs_error *err)
{
    *ret_status = HS_OK;
    const struct hs_model_info *model = find_id(rest, name);
    if (model == NULL) {
        model = hs_rest_lora_model(rest, name, ret_status, err);
    }
    if (model == NULL && rest->served != NULL &&
        (*ret_status == HS_OK || *ret_status == HS_NOT_FOUND)) {
        hs_served_models_sync(rest->served, false);
        struct hs_error ignored;
        hs_status again;
        const struct hs_model_info *found = find_id(rest, name);
        found = found != NULL ? found : hs_rest_lora_model(rest, name, &again, &ignored);
        *ret_status = found != NULL ? HS_OK : *ret_status;
        model = found;
    }
    return model;
}

size_t hs_rest_model_index(const struct hs_rest *rest, hs_http_request *request, const char *name)
{
    if ((name == NULL || *name == '\0') && rest->n_models > 0) {
        return 0;
    }
    struct hs_error err;
    hs_status status = HS_OK;
    const struct hs_model_info *model = name == NULL ? NULL : find_named(rest, name, &status, &err);
    if (status != HS_OK) {
        hs_error_prefix(&err, "'%.128s'", name);
        hs_rest_lora_respond(request, "model", &err);
        return SIZE_MAX;
    }
    if (model == NULL) {
        hs_rest_respond_no_model(rest, request, "there is no model", name == NULL ? "" : name);
        return SIZE_MAX;
    }
    return (size_t)(model - rest->models);
}

const struct hs_model_info *hs_rest_model(const struct hs_rest *rest, hs_http_request *request,
                                          const char *name)
{
    size_t i = hs_rest_model_index(rest, request, name);
    return i == SIZE_MAX ? NULL : hs_served_model_take(rest, request, i);
}

const struct hs_model_info *hs_rest_model_of(const struct hs_rest *rest, const char *name,
                                             const char *fingerprint)
{
    const struct hs_model_info *model = name == NULL ? NULL : find_id(rest, name);
    bool has_weights = fingerprint != NULL && *fingerprint != '\0';
    struct hs_model_info info;
    bool is_loaded = false;
    for (size_t i = 0;
         model == NULL && has_weights && hs_served_model_info(rest, i, &info, &is_loaded); i++) {
        model = strcmp(info.fingerprint, fingerprint) == 0 ? &rest->models[i] : NULL;
    }
    return model;
}

const struct hs_model_info *hs_rest_open(const struct hs_rest *rest, hs_http_request *request,
                                         struct hs_fields *ret_fields)
{
    *ret_fields = (struct hs_fields){request, hs_http_request_json(request), ""};
    const char *name = NULL;
    if (ret_fields->object == NULL || !hs_field_string(ret_fields, "model", &name)) {
        return NULL;
    }
    return hs_rest_model(rest, request, name);
}

/* Ports of an address come and go. */
void hs_rest_client_name(const hs_http_request *request, char ret[HS_TAG_MAX])
{
    const struct hs_http_key_info *key = hs_http_request_key(request);
    const char *name = key != NULL ? key->name : hs_http_request_peer(request);
    const char *port = key != NULL ? NULL : strrchr(name, ':');
    size_t len = port != NULL ? (size_t)(port - name) : strlen(name);
    snprintf(ret, HS_TAG_MAX, "%.*s", (int)len, name);
}

void hs_rest_respond_failure(hs_http_request *request, const struct hs_error *err,
                             const char *param)
{
    char message[HS_MESSAGE_MAX + HS_HINT_MAX + 2];
    bool has_hint = err->hint[0] != '\0';
    snprintf(message, sizeof message, "%s%s%s", err->message, has_hint ? "; " : "", err->hint);
    const char *code = NULL;
    if (err->status == HS_CONTEXT_FULL) {
        code = "context_length_exceeded";
    } else if (err->status == HS_QUEUE_FULL) {
        code = "queue_full";
    }
    int status = hs_http_status(err->status);
    hs_http_respond_error(request, &(struct hs_http_error){
                                       .status = status,
                                       .param = err->status == HS_CONTEXT_FULL ? param : NULL,
                                       .code = code,
                                       .message = message,
                                       .retry_after_s = status == 429 || status == 503 ? 1 : 0,
                                   });
}
