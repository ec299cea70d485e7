#include "lora.h"

#include <stdio.h>
#include <string.h>

#include "adapter_table.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "served_models.h"

#define NAMES_SHOWN 20
#define NAMES_BYTES 2048
#define SCALE_MAX 1000.0

hs_status hs_rest_lora_names(const struct hs_rest *rest, const char *model_id, struct hs_buf *out)
{
    struct hs_adapter_info *infos = NULL;
    size_t n = 0;
    hs_status status = hs_engine_list_adapters(rest->engine, model_id, &infos, &n, NULL);
    if (status == HS_OK && n == 0) {
        status = hs_buf_append_str(out, "none");
    }
    for (size_t i = 0; i < n && i < NAMES_SHOWN && status == HS_OK; i++) {
        status = hs_buf_printf(out, "%s'%s'", i == 0 ? "" : ", ", infos[i].name);
    }
    if (status == HS_OK && n > NAMES_SHOWN) {
        status = hs_buf_printf(out, " and %zu more", n - NAMES_SHOWN);
    }
    hs_adapter_infos_free(infos);
    return status;
}

/* ---- names ---- */

/* The next name of "a+b+c" and where the rest begins; names that are too long are cut, and then
 * unknown. false: there is none. */
static bool next_name(const char **list, char ret_name[HS_ADAPTER_NAME_SIZE + 1])
{
    if (*list == NULL) {
        return false;
    }
    size_t len = strcspn(*list, "+");
    size_t kept = hs_utf8_clip(*list, len, HS_ADAPTER_NAME_SIZE);
    memcpy(ret_name, *list, kept);
    ret_name[kept] = '\0';
    *list = (*list)[len] == '+' ? *list + len + 1 : NULL;
    return true;
}

static const struct hs_model_info *find_model(const struct hs_rest *rest, const char *id,
                                              size_t len)
{
    for (size_t i = 0; i < rest->n_models; i++) {
        if (strlen(rest->models[i].id) == len && memcmp(rest->models[i].id, id, len) == 0) {
            return &rest->models[i];
        }
    }
    return NULL;
}

/* The model that stands before the last colon, and where the adapters' names begin. */
static const struct hs_model_info *split(const struct hs_rest *rest, const char *name,
                                         const char **ret_list)
{
    const char *colon = strrchr(name, ':');
    const struct hs_model_info *model =
        colon == NULL ? NULL : find_model(rest, name, (size_t)(colon - name));
    *ret_list = model == NULL ? name : colon + 1;
    return model;
}

static hs_status unknown(const struct hs_rest *rest, const char *model_id, const char *name,
                         struct hs_error *err)
{
    struct hs_buf names HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(NAMES_BYTES);
    hs_status status = hs_rest_lora_names(rest, model_id, &names);
    return hs_error_set(err, HS_NOT_FOUND, "there is no adapter '%.64s'; those that fit: %.380s",
                        name, status == HS_OK ? names.data : "too many to name");
}

static hs_status check_adapter(const struct hs_rest *rest, const struct hs_model_info *model,
                               const char *name, struct hs_adapter_info *ret_info,
                               struct hs_error *err)
{
    hs_status status = hs_adapter_table_find(rest->adapters, name, ret_info, err);
    if (status == HS_NOT_FOUND) {
        return unknown(rest, model == NULL ? NULL : model->id, name, err);
    }
    if (status == HS_OK && model != NULL && strcmp(ret_info->model_id, model->id) != 0) {
        struct hs_buf names HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(NAMES_BYTES);
        bool has_names = hs_rest_lora_names(rest, model->id, &names) == HS_OK;
        return hs_error_set(err, HS_MISMATCH,
                            "adapter '%s' was made for the model '%s', not for '%s'; those that "
                            "fit: %.200s",
                            name, ret_info->model_id, model->id, has_names ? names.data : "-");
    }
    return status;
}

static bool is_loaded(const struct hs_rest *rest, const struct hs_model_info *model)
{
    struct hs_model_info info;
    bool is_loaded = false;
    return hs_served_model_info(rest, (size_t)(model - rest->models), &info, &is_loaded) &&
           is_loaded;
}

const struct hs_model_info *hs_rest_lora_model(const struct hs_rest *rest, const char *name,
                                               hs_status *ret_status, struct hs_error *err)
{
    const char *list = NULL;
    const struct hs_model_info *model = split(rest, name, &list);
    bool has_base = model != NULL;
    char part[HS_ADAPTER_NAME_SIZE + 1];
    *ret_status = HS_OK;
    if (has_base && !is_loaded(rest, model)) {
        return model; /* what it has is known once it is loaded */
    }
    for (bool is_first = true; next_name(&list, part); is_first = false) {
        struct hs_adapter_info info;
        hs_status status = check_adapter(rest, model, part, &info, err);
        if (status == HS_NOT_FOUND && is_first && !has_base) {
            size_t i = hs_served_model_of_adapter(rest, part);
            return i < rest->n_models ? &rest->models[i] : NULL; /* NULL: nor an adapter */
        }
        if (status != HS_OK) {
            *ret_status = status;
            return NULL;
        }
        model = find_model(rest, info.model_id, strlen(info.model_id));
        if (model == NULL) { /* the engine has a model that this server does not speak for */
            *ret_status = unknown(rest, NULL, part, err);
            return NULL;
        }
    }
    return model;
}

/* ---- what a request says ---- */

void hs_rest_lora_respond(hs_http_request *request, const char *param, const struct hs_error *err)
{
    if (err->status != HS_NOT_FOUND && err->status != HS_MISMATCH) {
        hs_rest_respond_failure(request, err, NULL);
        return;
    }
    char message[HS_MESSAGE_MAX + 64];
    snprintf(message, sizeof message, "%s: %s", param, err->message);
    hs_http_respond_error(
        request, &(struct hs_http_error){
                     .status = err->status == HS_NOT_FOUND ? 404 : 400,
                     .param = param,
                     .code = err->status == HS_NOT_FOUND ? "adapter_not_found" : "adapter_mismatch",
                     .message = message,
                 });
}

static bool no_memory(const struct hs_fields *fields)
{
    struct hs_error err;
    hs_error_nomem(&err, "adapters of a request");
    hs_rest_respond_failure(fields->request, &err, NULL);
    return false;
}

static bool add(const struct hs_fields *fields, const char *param, const char *name, float scale,
                struct hs_rest_lora *lora)
{
    for (int32_t i = 0; i < lora->n; i++) {
        if (strcmp(lora->names[i], name) == 0) {
            return hs_field_refuse(fields, param, "names the adapter '%s' twice", name);
        }
    }
    if (lora->n == HS_REST_ADAPTERS_MAX) {
        return hs_field_refuse(fields, param, "names more than %d adapters", HS_REST_ADAPTERS_MAX);
    }
    if (lora->names == NULL) {
        lora->names = hs_calloc(HS_REST_ADAPTERS_MAX, sizeof lora->names[0]);
        lora->refs = hs_calloc(HS_REST_ADAPTERS_MAX, sizeof lora->refs[0]);
    }
    if (lora->names == NULL || lora->refs == NULL) {
        return no_memory(fields);
    }
    memcpy(lora->names[lora->n], name, strlen(name) + 1);
    lora->refs[lora->n] = (struct hs_adapter_ref){lora->names[lora->n], scale};
    lora->n++;
    return true;
}

/* Of the model's name, which hs_rest_model has checked. */
static bool add_named(const struct hs_model_info *model, const struct hs_fields *fields,
                      const char *name, struct hs_rest_settings *settings)
{
    const char *list = NULL;
    char part[HS_ADAPTER_NAME_SIZE + 1];
    if (name == NULL || *name == '\0' || strcmp(name, model->id) == 0) {
        return true;
    }
    split(settings->rest, name, &list);
    settings->lora.is_said = true;
    settings->model_name = name;
    while (next_name(&list, part)) {
        if (!add(fields, "model", part, 1, &settings->lora)) {
            return false;
        }
    }
    return true;
}

/* The name that "id" or "name" of an entry means. */
static bool read_name(const struct hs_rest *rest, const struct hs_fields *entry,
                      struct hs_adapter_number *ret)
{
    const json_t *id = hs_field_get(entry, "id");
    const char *name = json_string_value(id);
    if (json_is_integer(id)) {
        json_int_t number = json_integer_value(id);
        hs_adapter_table_sync(rest->adapters, false);
        return (number >= 0 && hs_adapter_table_number(rest->adapters, (size_t)number, ret)) ||
               hs_field_refuse(entry, "id",
                               "is the number of no adapter; GET /lora-adapters has "
                               "them");
    }
    if (id != NULL && name == NULL) {
        return hs_field_refuse(entry, "id", "must be a number or a string");
    }
    if (!hs_field_string(entry, "name", &name)) {
        return false;
    }
    if (name == NULL) {
        return hs_field_refuse(entry, "name", "is missing");
    }
    size_t len = hs_utf8_clip(name, strlen(name), sizeof ret->name - 1);
    memcpy(ret->name, name, len);
    ret->name[len] = '\0';
    return name[len] == '\0' || hs_field_refuse(entry, "name", "is no adapter's name: too long");
}

static bool read_entry(const struct hs_model_info *model, const struct hs_fields *fields, size_t i,
                       struct hs_rest_settings *settings)
{
    char path[64];
    struct hs_adapter_number named;
    struct hs_adapter_info info;
    struct hs_error err;
    float scale = 1;
    snprintf(path, sizeof path, "%slora[%zu].", fields->path, i);
    const struct hs_fields entry = {fields->request,
                                    json_array_get(hs_field_get(fields, "lora"), i), path};
    if (!json_is_object(entry.object)) {
        return hs_field_refuse(fields, "lora", "must hold objects {\"name\", \"scale\"}");
    }
    if (!hs_field_float(&entry, "scale", -SCALE_MAX, SCALE_MAX, &scale) ||
        !read_name(settings->rest, &entry, &named)) {
        return false;
    }
    if (check_adapter(settings->rest, model, named.name, &info, &err) != HS_OK) {
        hs_rest_lora_respond(fields->request, "lora", &err);
        return false;
    }
    return add(fields, "lora", named.name, scale, &settings->lora);
}

static bool read_list(const struct hs_model_info *model, const struct hs_fields *fields,
                      struct hs_rest_settings *settings)
{
    const json_t *list = hs_field_get(fields, "lora");
    const char *word = json_string_value(list);
    if (list == NULL) {
        return true;
    }
    if (word != NULL && strcmp(word, "auto") == 0) {
        if (settings->lora.n > 0) {
            return hs_field_refuse(fields, "lora",
                                   "is \"auto\", but the model's name names adapters");
        }
        settings->lora.is_said = settings->lora.is_auto = true;
        return true;
    }
    if (!json_is_array(list)) {
        return hs_field_refuse(fields, "lora",
                               "must be an array of {\"name\", \"scale\"} or \"auto\"");
    }
    settings->lora.is_said = true;
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!read_entry(model, fields, i, settings)) {
            return false;
        }
    }
    return true;
}

/* What POST /lora-adapters has set, for this model's adapters. */
static bool add_standing(const struct hs_model_info *model, const struct hs_fields *fields,
                         struct hs_rest_settings *settings)
{
    hs_adapter_table *table = settings->rest->adapters;
    size_t n = hs_adapter_table_count(table);
    for (size_t i = 0; i < n; i++) {
        struct hs_adapter_number entry;
        struct hs_adapter_info info;
        bool is_on =
            hs_adapter_table_number(table, i, &entry) && (entry.scale < 0 || entry.scale > 0) &&
            hs_engine_adapter_info(settings->rest->engine, entry.name, &info, NULL) == HS_OK &&
            strcmp(info.model_id, model->id) == 0;
        if (is_on && !add(fields, "lora", entry.name, entry.scale, &settings->lora)) {
            return false;
        }
    }
    return true;
}

bool hs_rest_lora_read(const struct hs_model_info *model, const struct hs_fields *fields,
                       const char *name, struct hs_rest_settings *settings)
{
    settings->model_name = model->id;
    if (!add_named(model, fields, name, settings) || !read_list(model, fields, settings)) {
        return false;
    }
    return settings->lora.is_said || add_standing(model, fields, settings);
}

/* ---- routing ---- */

const char *hs_rest_lora_text(const struct hs_rest_conversation *conversation)
{
    for (size_t i = conversation->n_messages; i-- > 0;) {
        if (strcmp(conversation->messages[i].role, "user") == 0) {
            return conversation->messages[i].content;
        }
    }
    return NULL;
}

static hs_status take_route(const struct hs_route *route, struct hs_rest_lora *lora,
                            struct hs_error *err)
{
    if (lora->names == NULL) {
        lora->names = hs_calloc(HS_REST_ADAPTERS_MAX, sizeof lora->names[0]);
        lora->refs = hs_calloc(HS_REST_ADAPTERS_MAX, sizeof lora->refs[0]);
    }
    if (lora->names == NULL || lora->refs == NULL) {
        return hs_error_nomem(err, "adapters of a request");
    }
    for (lora->n = 0; lora->n < route->n_choices; lora->n++) {
        const struct hs_route_choice *choice = &route->choices[lora->n];
        memcpy(lora->names[lora->n], choice->name, sizeof choice->name);
        lora->refs[lora->n] = (struct hs_adapter_ref){lora->names[lora->n], choice->scale};
    }
    return HS_OK;
}

/* Headers are ASCII: what a pattern has beyond it is left out. */
static void say_route(hs_http_request *request, const struct hs_route *route)
{
    char names[HS_ROUTE_MAX * (HS_ADAPTER_NAME_SIZE + 20)] = "none", reason[sizeof route->reason];
    size_t at = 0, n = 0;
    for (int32_t i = 0; i < route->n_choices; i++) {
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s:%g", i > 0 ? ", " : "",
                               route->choices[i].name, (double)route->choices[i].scale);
    }
    for (const char *p = route->reason; *p != '\0'; p++) {
        if (*p >= ' ' && *p <= '~') {
            reason[n++] = *p;
        }
    }
    reason[n] = '\0';
    hs_http_set_header(request, "x-hyprstream-adapters", names);
    hs_http_set_header(request, "x-hyprstream-route", reason);
}

hs_status hs_rest_route(const struct hs_rest *rest, const char *model_id, const char *text,
                        struct hs_route *ret_route, struct hs_error *err)
{
    hs_adapter_table_sync(rest->adapters, false);
    return hs_engine_route(rest->engine, model_id, text, &rest->routing, ret_route, err);
}

hs_status hs_rest_lora_route(const struct hs_rest *rest, const struct hs_model_info *model,
                             hs_http_request *request, const char *text, struct hs_rest_lora *lora,
                             struct hs_error *err)
{
    struct hs_route route;
    if (!lora->is_auto) {
        return HS_OK;
    }
    if (text == NULL || *text == '\0') {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "\"lora\" is \"auto\", but there is no text to choose by");
    }
    hs_status status = hs_rest_route(rest, model->id, text, &route, err);
    status = status ? status : take_route(&route, lora, err);
    if (!status) {
        say_route(request, &route);
    }
    return status;
}

bool hs_rest_lora_refuse(const struct hs_model_info *model, const struct hs_fields *fields)
{
    static const struct hs_unsupported_field lora = {"lora", NULL};
    const char *name = json_string_value(hs_field_get(fields, "model"));
    const json_t *list = hs_field_get(fields, "lora");
    size_t len = strlen(model->id);
    bool is_model = name == NULL || *name == '\0' ||
                    (strncmp(name, model->id, len) == 0 &&
                     (name[len] == '\0' || strcmp(name + len, ":latest") == 0));
    if (!is_model) {
        return hs_field_refuse(fields, "model",
                               "names an adapter; embeddings and scores are the base model's: "
                               "ask '%s'",
                               model->id);
    }
    return list == NULL || hs_fields_refuse_unsupported(fields, &lora, 1);
}
