#include "chat_adapters.h"

#include <string.h>

#include "adapters/adapter_ref.h"
#include "api/nearest.h"
#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "storage/adapter_store.h"

/* ---- names to the engine ---- */

static hs_status not_found(hs_registry *registry, const char *name, struct hs_error *err)
{
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    struct hs_nearest nearest = {.name = name};
    hs_status status = hs_registry_adapter_list(registry, &rows, &n, err);
    if (status) {
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        hs_nearest_offer(&nearest, rows[i].name);
    }
    status = hs_error_set(err, HS_NOT_FOUND, "there is no adapter named '%.80s'", name);
    hs_error_hint(err,
                  "%s%s%s'hyprstream adapter list' shows all, 'hyprstream adapter add PATH' "
                  "adds one",
                  nearest.best ? "did you mean '" : "", nearest.best ? nearest.best : "",
                  nearest.best ? "'? " : "");
    hs_registry_adapters_free(rows, n);
    return status;
}

/* Whoever names it means it for this model: whether it fits is checked when it is loaded. */
hs_status hs_adapter_bring(hs_engine *engine, const char *model_id, const struct hs_paths *paths,
                           hs_registry **registry, const char *name, struct hs_error *err)
{
    struct hs_adapter_info info;
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    hs_status status = hs_engine_adapter_info(engine, name, &info, err);
    if (status != HS_NOT_FOUND) {
        return status;
    }
    status = hs_registry_need(paths, registry, err);
    status = status ? status : hs_registry_adapter_get(*registry, name, &row, err);
    if (status) {
        return status == HS_NOT_FOUND ? not_found(*registry, name, err) : status;
    }
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = name;
    params.model_id = model_id;
    params.path = row.path;
    params.version = row.content;
    status = hs_engine_register_adapter(engine, &params, err);
    status = status ? status : hs_engine_load_adapter(engine, name, err);
    if (status) {
        struct hs_error ignored; /* it may not have been registered at all */
        hs_status dropped = hs_engine_unregister_adapter(engine, name, &ignored);
        (void)dropped;
        hs_error_prefix(err, "adapter '%s'", name);
    }
    return status;
}

static hs_status bring(struct hs_chat *chat, const char *name, struct hs_error *err)
{
    return hs_adapter_bring(chat->engine, chat->model_id, chat->args->paths, &chat->registry, name,
                            err);
}

hs_status hs_chat_adapters_restore(struct hs_chat *chat, struct hs_error *err)
{
    const struct hs_session_record *record = &chat->record;
    hs_status status = HS_OK;
    for (size_t i = 0; i < record->n_adapters && !status; i++) {
        status = bring(chat, record->adapters[i].name, err);
    }
    if (status) {
        hs_error_prefix(err, "the session's adapters");
    }
    return status;
}

/* ---- routing ---- */

static hs_status open_routing(struct hs_chat *chat, struct hs_error *err)
{
    struct hs_routing *routing = &chat->routing;
    if (routing->table) {
        return HS_OK;
    }
    hs_status status = routing->rules ? HS_OK : hs_routing_read(chat->args->config, routing, err);
    return status ? status
                  : hs_routing_open(chat->args, chat->engine, chat->model_id, &chat->registry,
                                    routing, err);
}

static hs_status take_route(struct hs_chat *chat, const struct hs_route *route,
                            struct hs_error *err)
{
    struct hs_adapter_ref refs[HS_ROUTE_MAX];
    for (int32_t i = 0; i < route->n_choices; i++) {
        refs[i] = (struct hs_adapter_ref){route->choices[i].name, route->choices[i].scale};
        hs_err_info(chat->args->io, "adapter %s:%g", refs[i].name, (double)refs[i].scale);
    }
    hs_err_info(chat->args->io, "%s%s", route->n_choices == 0 ? "no adapter: " : "", route->reason);
    return hs_dialogue_set_adapters(&chat->conversation, refs, (size_t)route->n_choices, err);
}

hs_status hs_chat_adapters_route(struct hs_chat *chat, const char *prompt, struct hs_error *err)
{
    struct hs_route route;
    bool is_routed = false;
    if (chat->remote || !prompt) {
        return HS_OK;
    }
    hs_status status = hs_dialogue_is_routed(&chat->conversation, &is_routed, err);
    if (status || !is_routed) {
        return status;
    }
    status = open_routing(chat, err);
    if (!status) {
        hs_adapter_table_sync(chat->routing.table, false);
        status = hs_engine_route(chat->engine, chat->model_id, prompt, &chat->routing.params,
                                 &route, err);
    }
    return status ? status : take_route(chat, &route, err);
}

/* ---- setting ---- */

struct refs {
    struct hs_adapter_ref *items;
    size_t n;
};

static void free_refs(struct refs *refs)
{
    for (size_t i = 0; i < refs->n; i++) {
        hs_adapter_ref_clear(&refs->items[i]);
    }
    hs_free(refs->items);
}

static hs_status parse(const char *const *texts, size_t n, struct refs *ret, struct hs_error *err)
{
    ret->items = hs_calloc(n + 1, sizeof *ret->items);
    if (!ret->items) {
        return hs_error_nomem(err, "adapters");
    }
    for (size_t i = 0; i < n; i++) {
        hs_status status = hs_adapter_ref_parse(texts[i], &ret->items[i], err);
        if (status) {
            return status;
        }
        ret->n++;
        for (size_t k = 0; k < i; k++) {
            if (strcmp(ret->items[k].name, ret->items[i].name) == 0) {
                return hs_error_set(err, HS_INVALID_ARGUMENT, "adapter '%s' is named twice",
                                    ret->items[i].name);
            }
        }
    }
    return HS_OK;
}

/* false: they are names. */
static bool is_auto(const char *const *texts, size_t n)
{
    return n == 1 && strcmp(texts[0], "auto") == 0;
}

static hs_status set_auto(struct hs_chat *chat, struct hs_error *err)
{
    if (chat->remote) {
        json_t *word = json_string("auto");
        return word ? hs_remote_set_adapters(chat->remote, word, err)
                    : hs_error_nomem(err, "adapters");
    }
    hs_status status = open_routing(chat, err);
    return status ? status : hs_dialogue_set_routed(&chat->conversation, true, err);
}

static json_t *wire_list(const struct refs *refs)
{
    json_t *list = json_array();
    for (size_t i = 0; i < refs->n; i++) {
        json_t *entry = json_object();
        hs_json_set(&entry, "name", hs_json_text(refs->items[i].name));
        hs_json_set(&entry, "scale", json_real((double)refs->items[i].scale));
        hs_json_append(&list, entry);
    }
    return list;
}

hs_status hs_chat_adapters_set(struct hs_chat *chat, const char *const *texts, size_t n_texts,
                               struct hs_error *err)
{
    struct refs refs HS_CLEANUP(free_refs) = {0};
    if (is_auto(texts, n_texts)) {
        return set_auto(chat, err);
    }
    hs_status status = parse(texts, n_texts, &refs, err);
    if (status) {
        return status;
    }
    if (chat->remote) {
        json_t *list = wire_list(&refs);
        return list ? hs_remote_set_adapters(chat->remote, list, err)
                    : hs_error_nomem(err, "adapters");
    }
    for (size_t i = 0; i < refs.n && !status; i++) {
        status = bring(chat, refs.items[i].name, err);
    }
    status =
        status ? status : hs_dialogue_set_adapters(&chat->conversation, refs.items, refs.n, err);
    return status ? status : hs_dialogue_set_routed(&chat->conversation, false, err);
}

/* ---- showing ---- */

json_t *hs_chat_adapters_names(struct hs_chat *chat)
{
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    if (chat->remote) {
        return hs_remote_adapter_names(chat->remote);
    }
    if (hs_registry_need(chat->args->paths, &chat->registry, NULL) ||
        hs_registry_adapter_list(chat->registry, &rows, &n, NULL)) {
        return NULL;
    }
    json_t *names = json_array();
    for (size_t i = 0; i < n; i++) {
        hs_json_append(&names, hs_json_text(rows[i].name));
    }
    hs_registry_adapters_free(rows, n);
    return names;
}

/* The scales in use by name, to be released; NULL: no memory. */
static json_t *scales_in_use(struct hs_chat *chat, struct hs_error *err)
{
    struct hs_adapter_ref *refs = NULL;
    size_t n = 0;
    json_t *scales = json_object();
    if (chat->remote) {
        size_t i;
        const json_t *entry;
        json_array_foreach(hs_remote_adapters(chat->remote), i, entry)
        {
            const char *name = json_string_value(json_object_get(entry, "name"));
            hs_json_set(&scales, name ? name : "", json_incref(json_object_get(entry, "scale")));
        }
        return scales;
    }
    if (hs_dialogue_adapters(&chat->conversation, &refs, &n, err)) {
        json_decref(scales);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        hs_json_set(&scales, refs[i].name, json_real((double)refs[i].scale));
    }
    hs_dialogue_adapters_free(refs, n);
    return scales;
}

static bool is_chosen(struct hs_chat *chat)
{
    bool is_routed = false;
    return chat->remote
               ? json_is_string(hs_remote_adapters(chat->remote))
               : hs_dialogue_is_routed(&chat->conversation, &is_routed, NULL) == HS_OK && is_routed;
}

hs_status hs_chat_adapters_print(struct hs_chat *chat, struct hs_error *err)
{
    json_t *names HS_CLEANUP(hs_json_freep) = hs_chat_adapters_names(chat);
    json_t *scales HS_CLEANUP(hs_json_freep) = scales_in_use(chat, err);
    if (!scales) {
        return err && err->status ? err->status : hs_error_nomem(err, "adapters");
    }
    size_t i, n = 0;
    const json_t *name;
    if (is_chosen(chat)) {
        hs_err_printf(chat->args->io, "chosen for each question; at present:\n");
    }
    json_array_foreach(names, i, name)
    {
        const json_t *scale = json_object_get(scales, json_string_value(name));
        if (scale) {
            hs_err_printf(chat->args->io, "* %s:%g\n", json_string_value(name),
                          json_number_value(scale));
        } else {
            hs_err_printf(chat->args->io, "  %s\n", json_string_value(name));
        }
        n++;
    }
    if (n == 0) {
        hs_err_printf(chat->args->io, "there are no adapters; 'hyprstream adapter add PATH' adds "
                                      "one\n");
    }
    return HS_OK;
}
