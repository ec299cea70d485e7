/* The fake engine's adapters: a list of names, see fake_engine.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/route_rules.h"
#include "base/error.h"
#include "fake_engine.h"

static struct hs_adapter_info *find(const char *name)
{
    for (size_t i = 0; i < fake_engine.n_adapters; i++) {
        if (strcmp(fake_engine.adapters[i].name, name) == 0) {
            return &fake_engine.adapters[i];
        }
    }
    return NULL;
}

static hs_status need(const char *name, struct hs_adapter_info **ret_info, struct hs_error *err)
{
    *ret_info = find(name);
    if (*ret_info) {
        return HS_OK;
    }
    hs_error_set(err, HS_NOT_FOUND, "there is no adapter '%s'", name);
    hs_error_hint(err, "adapters that fit: none");
    return HS_NOT_FOUND;
}

hs_status fake_adapters_take(const char *model_id, const struct hs_adapter_ref *refs, int32_t n,
                             struct hs_error *err)
{
    for (int32_t i = 0; i < n; i++) {
        struct hs_adapter_info *info = NULL;
        hs_status status = need(refs[i].name, &info, err);
        if (status) {
            return status;
        }
        if (strcmp(info->model_id, model_id) != 0) {
            return hs_error_set(err, HS_MISMATCH, "adapter '%s' was made for model '%s'",
                                info->name, info->model_id);
        }
        info->n_uses++;
    }
    return HS_OK;
}

struct hs_adapter_ref *fake_adapters_copy(const struct hs_adapter_ref *refs, size_t n)
{
    struct hs_adapter_ref *copy = calloc(n + 1, sizeof *copy);
    if (!copy) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = (struct hs_adapter_ref){strdup(refs[i].name), refs[i].scale};
    }
    return copy;
}

void hs_adapter_refs_free(struct hs_adapter_ref *refs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free((char *)refs[i].name);
    }
    free(refs);
}

const char *hs_adapter_state_name(enum hs_adapter_state state)
{
    static const char *const names[] = {"registered", "loading", "ready", "failed"};
    return names[state];
}

const char *hs_adapter_weights_name(enum hs_adapter_weights weights)
{
    static const char *const names[] = {"file", "f16", "int8"};
    return names[weights];
}

const char *hs_lora_engine_name(enum hs_lora_engine engine)
{
    static const char *const names[] = {"auto", "rewrite", "stacked", "native"};
    return names[engine];
}

void hs_adapter_params_defaults(struct hs_adapter_params *params)
{
    *params = (struct hs_adapter_params){0};
}

static hs_status scripted(const char *what, const char *name, struct hs_error *err)
{
    if (fake_engine.adapter_status) {
        hs_error_set(err, fake_engine.adapter_status, "cannot %s adapter '%s'", what, name);
        hs_error_hint(err, "a hint");
    }
    return fake_engine.adapter_status;
}

static void fill(struct hs_adapter_info *info, const struct hs_adapter_params *params)
{
    snprintf(info->name, sizeof info->name, "%s", params->name);
    snprintf(info->version, sizeof info->version, "%s", params->version ? params->version : "1");
    snprintf(info->model_id, sizeof info->model_id, "%s", params->model_id);
    snprintf(info->path, sizeof info->path, "%s", params->path ? params->path : "");
    info->is_pinned = params->is_pinned;
    info->registered_unix_ms = 1700000000000;
}

hs_status hs_engine_register_adapter(hs_engine *engine, const struct hs_adapter_params *params,
                                     struct hs_error *err)
{
    hs_status status = fake_need_model(engine, params->model_id, err);
    if (!status) {
        status = scripted("register", params->name, err);
    }
    if (!status && find(params->name)) {
        status =
            hs_error_set(err, HS_ALREADY_EXISTS, "there is an adapter '%s' already", params->name);
    }
    if (status) {
        return status;
    }
    size_t i = fake_engine.n_adapters++;
    if (i == FAKE_MAX_ADAPTERS) {
        abort(); /* the test registers more than the fake was made for */
    }
    while (i > 0 && strcmp(fake_engine.adapters[i - 1].name, params->name) > 0) {
        fake_engine.adapters[i] = fake_engine.adapters[i - 1];
        i--;
    }
    fake_engine.adapters[i] = (struct hs_adapter_info){0};
    fill(&fake_engine.adapters[i], params);
    return HS_OK;
}

hs_status hs_engine_load_adapter(hs_engine *engine, const char *name, struct hs_error *err)
{
    (void)engine;
    struct hs_adapter_info *info = NULL;
    hs_status status = need(name, &info, err);
    if (!status) {
        status = scripted("load", name, err);
    }
    if (!status) {
        info->state = HS_ADAPTER_READY;
        info->bytes = 1000;
        info->n_loads++;
    }
    return status;
}

hs_status hs_engine_replace_adapter(hs_engine *engine, const struct hs_adapter_params *params,
                                    struct hs_error *err)
{
    (void)engine;
    struct hs_adapter_info *info = NULL;
    hs_status status = need(params->name, &info, err);
    if (!status) {
        status = scripted("replace", params->name, err);
    }
    if (!status) {
        fill(info, params);
        info->state = HS_ADAPTER_READY;
    }
    return status;
}

hs_status hs_engine_unregister_adapter(hs_engine *engine, const char *name, struct hs_error *err)
{
    (void)engine;
    struct hs_adapter_info *info = NULL;
    hs_status status = need(name, &info, err);
    if (!status) {
        size_t i = (size_t)(info - fake_engine.adapters);
        memmove(info, info + 1, (--fake_engine.n_adapters - i) * sizeof *info);
    }
    return status;
}

hs_status hs_engine_unload_adapter(hs_engine *engine, const char *name, struct hs_error *err)
{
    (void)engine;
    struct hs_adapter_info *info = NULL;
    hs_status status = need(name, &info, err);
    if (!status) {
        status = scripted("unload", name, err);
    }
    if (!status) {
        info->state = HS_ADAPTER_REGISTERED;
        info->bytes = 0;
    }
    return status;
}

hs_status hs_engine_adapter_info(hs_engine *engine, const char *name,
                                 struct hs_adapter_info *ret_info, struct hs_error *err)
{
    (void)engine;
    struct hs_adapter_info *info = NULL;
    hs_status status = need(name, &info, err);
    if (!status) {
        *ret_info = *info;
    }
    return status;
}

hs_status hs_engine_list_adapters(hs_engine *engine, const char *model_id,
                                  struct hs_adapter_info **ret_infos, size_t *ret_n,
                                  struct hs_error *err)
{
    (void)engine;
    struct hs_adapter_info *infos = calloc(fake_engine.n_adapters + 1, sizeof *infos);
    if (!infos) {
        return hs_error_nomem(err, "fake adapters");
    }
    size_t n = 0;
    for (size_t i = 0; i < fake_engine.n_adapters; i++) {
        if (!model_id || strcmp(fake_engine.adapters[i].model_id, model_id) == 0) {
            infos[n++] = fake_engine.adapters[i];
        }
    }
    *ret_infos = infos;
    *ret_n = n;
    return HS_OK;
}

void hs_adapter_infos_free(struct hs_adapter_info *infos)
{
    free(infos);
}

hs_status hs_engine_route_session(hs_engine *engine, const char *session_id, bool is_routed,
                                  struct hs_error *err)
{
    struct hs_session_record *record = fake_session(engine, session_id);
    if (!record) {
        return hs_error_set(err, HS_NOT_FOUND, "no session '%s' is open", session_id);
    }
    record->is_routed = is_routed;
    return HS_OK;
}

hs_status hs_session_is_routed(hs_engine *engine, const char *session_id, bool *ret_is_routed,
                               struct hs_error *err)
{
    const struct hs_session_record *record = fake_session(engine, session_id);
    if (!record) {
        return hs_error_set(err, HS_NOT_FOUND, "no session '%s' is open", session_id);
    }
    *ret_is_routed = record->is_routed;
    return HS_OK;
}

hs_status hs_engine_apply_lora_weights(hs_engine *engine, const char *session_id,
                                       const struct hs_adapter_ref *adapters, int32_t n_adapters,
                                       struct hs_error *err)
{
    struct hs_session_record *record = fake_session(engine, session_id);
    if (!record) {
        return hs_error_set(err, HS_NOT_FOUND, "no session '%s' is open", session_id);
    }
    hs_status status = fake_adapters_take(fake_model_id(engine), adapters, n_adapters, err);
    if (!status) {
        hs_adapter_refs_free(record->adapters, record->n_adapters);
        record->adapters = fake_adapters_copy(adapters, (size_t)n_adapters);
        record->n_adapters = (size_t)n_adapters;
    }
    return status;
}

hs_status hs_session_adapters(hs_engine *engine, const char *session_id,
                              struct hs_adapter_ref **ret_refs, size_t *ret_n, struct hs_error *err)
{
    struct hs_session_record *record = fake_session(engine, session_id);
    if (!record) {
        return hs_error_set(err, HS_NOT_FOUND, "no session '%s' is open", session_id);
    }
    *ret_refs = fake_adapters_copy(record->adapters, record->n_adapters);
    *ret_n = record->n_adapters;
    return HS_OK;
}

/* ---- routing ---- */

const char *hs_route_method_name(enum hs_route_method method)
{
    static const char *const names[] = {"both", "examples", "arrow"};
    return names[method];
}

void hs_route_params_defaults(struct hs_route_params *params)
{
    *params = (struct hs_route_params){.max_adapters = 1, .scale = 1};
}

hs_status hs_engine_set_adapter_examples(hs_engine *engine, const char *name,
                                         const char *const *texts, size_t n_texts,
                                         struct hs_error *err)
{
    (void)engine;
    struct hs_adapter_info *info = NULL;
    hs_status status = need(name, &info, err);
    size_t size = sizeof fake_engine.examples;
    size_t len = (size_t)snprintf(fake_engine.examples, size, "%s:", name);
    for (size_t i = 0; i < n_texts && len < size; i++) {
        len += (size_t)snprintf(fake_engine.examples + len, size - len, "%s %s", i == 0 ? "" : " |",
                                texts[i]);
    }
    return status;
}

static void choose(struct hs_route *route, const char *name, float scale)
{
    struct hs_route_choice *choice = &route->choices[route->n_choices++];
    snprintf(choice->name, sizeof choice->name, "%s", name);
    choice->scale = scale;
}

hs_status hs_engine_route(hs_engine *engine, const char *model_id, const char *text,
                          const struct hs_route_params *params, struct hs_route *ret_route,
                          struct hs_error *err)
{
    hs_status status = fake_need_model(engine, model_id, err);
    struct hs_route route = {.reason = "because of its name"};
    fake_engine.route_method = params->method;
    snprintf(fake_engine.route_embed_model, sizeof fake_engine.route_embed_model, "%s",
             params->embed_model_id ? params->embed_model_id : "");
    const struct hs_route_rule *rule = hs_route_rules_match(params->rules, text);
    if (rule) {
        for (int32_t k = 0; k < rule->n_adapters; k++) {
            choose(&route, rule->adapters[k].name, rule->adapters[k].scale);
        }
        snprintf(route.reason, sizeof route.reason, "rule %s", rule->pattern);
        *ret_route = route;
        return status;
    }
    for (size_t i = 0; i < fake_engine.n_adapters && route.n_choices < params->max_adapters; i++) {
        if (strstr(text, fake_engine.adapters[i].name)) {
            choose(&route, fake_engine.adapters[i].name, 0);
        }
    }
    for (int32_t i = 0; i < route.n_choices; i++) {
        route.choices[i].scale = params->scale / (float)route.n_choices;
    }
    *ret_route = route;
    return status;
}
