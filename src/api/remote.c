#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "remote_internal.h"

#define LISTED_MAX 200 /* bytes of models in a hint */

/* ---- models ---- */

static hs_status fetch_models(hs_remote *remote, struct hs_error *err)
{
    json_t *list HS_CLEANUP(hs_json_freep) = NULL;
    hs_status status = hs_http_client_ask(remote->client, "GET", "/v1/models", NULL, &list, err);
    if (status) {
        return status;
    }
    json_t *models = json_object_get(list, "data");
    if (!json_is_array(models)) {
        return hs_error_set(err, HS_IO, "%s lists no models", hs_remote_url(remote));
    }
    json_decref(remote->models);
    remote->models = json_incref(models);
    return HS_OK;
}

const char *hs_remote_model_at(const hs_remote *remote, size_t i)
{
    return json_string_value(json_object_get(json_array_get(remote->models, i), "id"));
}

static hs_status no_such_model(const hs_remote *remote, const char *id, struct hs_error *err)
{
    char listed[LISTED_MAX + 1] = "";
    size_t len = 0;
    const char *name;
    for (size_t i = 0; (name = hs_remote_model_at(remote, i)) != NULL && len < LISTED_MAX; i++) {
        int n = snprintf(listed + len, sizeof listed - len, "%s%s", i == 0 ? "" : ", ", name);
        len += n > 0 ? (size_t)n : 0;
    }
    hs_error_set(err, HS_NOT_FOUND, "%s has no model '%s'", hs_remote_url(remote), id);
    return hs_error_hint(err, "it has: %s", *listed ? listed : "none");
}

static hs_status choose_model(hs_remote *remote, const char *id, struct hs_error *err)
{
    const char *found = id ? NULL : hs_remote_model_at(remote, 0);
    const char *name;
    for (size_t i = 0; id && (name = hs_remote_model_at(remote, i)) != NULL && !found; i++) {
        found = strcmp(name, id) == 0 ? name : NULL;
    }
    if (!found || strlen(found) >= HS_ID_MAX) {
        return no_such_model(remote, id ? id : "", err);
    }
    char *model = hs_strdup(found);
    if (!model) {
        return hs_error_nomem(err, "model name");
    }
    hs_free(remote->model);
    remote->model = model;
    return HS_OK;
}

void hs_remote_follow(hs_remote *remote, const char *id)
{
    hs_status status = id && !remote->is_named ? choose_model(remote, id, NULL) : HS_OK;
    (void)status; /* it is not there: the server says so when it is asked */
}

hs_status hs_remote_set_model(hs_remote *remote, const char *id, struct hs_error *err)
{
    hs_status status = fetch_models(remote, err);
    status = status ? status : choose_model(remote, id, err);
    remote->is_named = remote->is_named || !status;
    return status;
}

/* ---- life ---- */

/* Settings of loading and of routing act where the model is. */
static hs_status check_settings(const struct hs_config *config, struct hs_error *err)
{
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const char *name = hs_config_row((enum hs_config_id)id)->name;
        bool is_servers =
            hs_command_list_has(HS_SETTINGS_LOADING " overflow " HS_SETTINGS_ROUTING, name);
        if (is_servers && config->values[id].source == HS_CONFIG_FLAG) {
            hs_error_set(err, HS_INVALID_ARGUMENT, "--%s and --server do not go together", name);
            return hs_error_hint(err,
                                 "how models are loaded and adapters chosen is up to the server");
        }
    }
    return HS_OK;
}

hs_status hs_remote_open(const struct hs_command_args *args, hs_remote **ret_remote,
                         struct hs_error *err)
{
    const struct hs_config_value *refs = &args->config->values[HS_CFG_MODEL];
    hs_remote *remote = hs_calloc(1, sizeof *remote);
    if (!remote) {
        return hs_error_nomem(err, "server");
    }
    remote->args = args;
    hs_status status = check_settings(args->config, err);
    status = status ? status : hs_http_client_new(args, &remote->client, err);
    status = status ? status : fetch_models(remote, err);
    if (!status) {
        bool is_flag = refs->source == HS_CONFIG_FLAG;
        const char *id = refs->n_items > 0 ? refs->items[is_flag ? refs->n_items - 1 : 0] : NULL;
        status = choose_model(remote, id, err);
        remote->is_named = id && !status;
        if (status == HS_NOT_FOUND && id && !is_flag) { /* it is meant for the engine here */
            status = choose_model(remote, NULL, err);
        }
    }
    if (status) {
        hs_remote_close(remote);
        return status;
    }
    *ret_remote = remote;
    return HS_OK;
}

void hs_remote_close(hs_remote *remote)
{
    if (remote) {
        hs_http_client_free(remote->client);
        json_decref(remote->models);
        json_decref(remote->lora);
        hs_free(remote->model);
        hs_free(remote);
    }
}

const char *hs_remote_url(const hs_remote *remote)
{
    return hs_http_client_url(remote->client);
}

const char *hs_remote_model(const hs_remote *remote)
{
    return remote->model;
}

/* ---- adapters: models with a parent ---- */

static const char *adapter_at(const hs_remote *remote, size_t i)
{
    const json_t *model = json_array_get(remote->models, i);
    return json_is_string(json_object_get(model, "parent")) ? hs_remote_model_at(remote, i) : NULL;
}

json_t *hs_remote_adapter_names(hs_remote *remote)
{
    hs_status status = fetch_models(remote, NULL);
    (void)status; /* those that it had */
    json_t *names = json_array();
    for (size_t i = 0; i < json_array_size(remote->models); i++) {
        const char *name = adapter_at(remote, i);
        if (name) {
            hs_json_append(&names, hs_json_text(name));
        }
    }
    return names;
}

const json_t *hs_remote_adapters(const hs_remote *remote)
{
    return remote->lora;
}

static bool has_adapter(const hs_remote *remote, const char *name)
{
    for (size_t i = 0; i < json_array_size(remote->models); i++) {
        const char *known = adapter_at(remote, i);
        if (known && strcmp(known, name) == 0) {
            return true;
        }
    }
    return false;
}

hs_status hs_remote_set_adapters(hs_remote *remote, json_t *list, struct hs_error *err)
{
    size_t i;
    const json_t *entry;
    hs_status status = fetch_models(remote, err);
    json_array_foreach(list, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (!status && !has_adapter(remote, name)) {
            status = hs_error_set(err, HS_NOT_FOUND, "%s has no adapter '%s'",
                                  hs_remote_url(remote), name);
            hs_error_hint(err, "/adapter lists those it has");
        }
    }
    if (status) {
        json_decref(list);
        return status;
    }
    json_decref(remote->lora);
    remote->lora = list;
    return HS_OK;
}

json_t *hs_remote_status(hs_remote *remote)
{
    json_t *status HS_CLEANUP(hs_json_freep) = NULL;
    if (hs_http_client_ask(remote->client, "GET", "/api/v1/status", NULL, &status, NULL)) {
        return NULL;
    }
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(status, "models"), i, model)
    {
        const char *id = json_string_value(json_object_get(model, "id"));
        if (id && strcmp(id, remote->model) == 0) {
            return json_incref(model);
        }
    }
    return NULL;
}

/* ---- asking ---- */

void hs_remote_add_settings(const hs_remote *remote, json_t **body)
{
    const struct hs_config *config = remote->args->config;
    static const struct {
        enum hs_config_id id;
        const char *name;
    } rows[] = {
        {HS_CFG_MAX_TOKENS, "max_tokens"},
        {HS_CFG_TEMP, "temperature"},
        {HS_CFG_TOP_K, "top_k"},
        {HS_CFG_TOP_P, "top_p"},
        {HS_CFG_MIN_P, "min_p"},
        {HS_CFG_REPEAT_PENALTY, "repeat_penalty"},
        {HS_CFG_REPEAT_LAST_N, "repeat_last_n"},
        {HS_CFG_SEED, "seed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct hs_config_value *value = &config->values[rows[i].id];
        bool is_int = hs_config_row(rows[i].id)->type == HS_CONFIG_INT;
        if (value->source != HS_CONFIG_DEFAULT && !(is_int && value->number < 0)) {
            hs_json_set(body, rows[i].name,
                        is_int ? json_integer((json_int_t)value->number)
                               : json_real(value->number));
        }
    }
    const struct hs_config_value *stop = &config->values[HS_CFG_STOP];
    json_t *items = stop->n_items > 0 ? json_array() : NULL;
    for (size_t i = 0; i < stop->n_items; i++) {
        hs_json_append(&items, hs_json_text(stop->items[i]));
    }
    if (stop->n_items > 0) {
        hs_json_set(body, "stop", items);
    }
    if (remote->lora) {
        hs_json_set(body, "lora", json_incref(remote->lora));
    }
    if (config->values[HS_CFG_THINK].source != HS_CONFIG_DEFAULT) {
        hs_json_set(
            body, "chat_template_kwargs",
            json_pack("{s:b}", "enable_thinking", (int)hs_config_bool(config, HS_CFG_THINK)));
    }
}

json_t *hs_remote_messages(const struct hs_message *messages, size_t n_messages)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n_messages; i++) {
        json_t *message = json_object();
        hs_json_set(&message, "role", hs_json_text(messages[i].role));
        hs_json_set(&message, "content", hs_json_text(messages[i].content));
        if (messages[i].reasoning) {
            hs_json_set(&message, "reasoning_content", hs_json_text(messages[i].reasoning));
        }
        hs_json_append(&list, message);
    }
    return list;
}

hs_status hs_remote_chat(hs_remote *remote, const struct hs_message *messages, size_t n_messages,
                         struct hs_token_source *ret_source, struct hs_error *err)
{
    json_t *body = json_object();
    hs_json_set(&body, "model", hs_json_text(remote->model));
    hs_json_set(&body, "messages", hs_remote_messages(messages, n_messages));
    hs_json_set(&body, "stream", json_true());
    hs_json_set(&body, "stream_options", json_pack("{s:b}", "include_usage", 1));
    hs_remote_add_settings(remote, &body);
    return hs_remote_ask(remote, "/v1/chat/completions", body, false, ret_source, err);
}
