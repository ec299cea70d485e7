/* adapters.c - /api/v1/adapters: the adapters of the registry and of this server. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "adapter_add.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "json_out.h"
#include "lora.h"

#define TEXT_MAX 4096 /* bytes of a description or an example */
#define LIST_MAX 64   /* tags or examples */

/* ---- as JSON ---- */

/* What this server does with it; `info` NULL: nothing. */
static void add_live(json_t **object, const struct hs_adapter_info *info)
{
    hs_json_set(object, "served", json_boolean(info != NULL));
    if (info == NULL) {
        return;
    }
    bool has_failed = info->state == HS_ADAPTER_FAILED;
    hs_json_set(object, "base", hs_json_text(info->model_id));
    hs_json_set(object, "state", json_string(hs_adapter_state_name(info->state)));
    hs_json_set(object, "error", has_failed ? hs_json_text(info->error.message) : json_null());
    hs_json_set(object, "memory_bytes", json_integer((json_int_t)info->bytes));
    hs_json_set(object, "active", json_integer(info->n_active));
    hs_json_set(object, "loads", json_integer((json_int_t)info->n_loads));
    hs_json_set(object, "load_ms", json_real(info->load_ms));
    hs_json_set(object, "requests", json_integer((json_int_t)info->n_uses));
    hs_json_set(object, "generated_tokens", json_integer((json_int_t)info->n_generated_tokens));
}

/* `row` NULL: it is in this server only. */
static json_t *describe(const struct hs_registry_adapter *row, const struct hs_adapter_info *info)
{
    json_t *object = row != NULL ? hs_adapter_row_json(row, false) : json_object();
    if (row == NULL) {
        hs_json_set(&object, "name", hs_json_text(info->name));
        hs_json_set(&object, "model", hs_json_text(info->model_id));
    }
    hs_json_set(&object, "object", json_string("adapter"));
    add_live(&object, info);
    return object;
}

static const struct hs_adapter_info *find_info(const struct hs_adapter_info *infos, size_t n,
                                               const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(infos[i].name, name) == 0) {
            return &infos[i];
        }
    }
    return NULL;
}

/* ---- list, get ---- */

struct lists {
    struct hs_registry_adapter *rows;
    struct hs_adapter_info *infos;
    size_t n_rows, n_infos;
};

static void free_lists(struct lists *lists)
{
    hs_registry_adapters_free(lists->rows, lists->n_rows);
    hs_adapter_infos_free(lists->infos);
}

static hs_status read_lists(const struct hs_rest *rest, struct lists *ret, struct hs_error *err)
{
    hs_registry *registry = hs_adapter_table_registry(rest->adapters);
    hs_adapter_table_sync(rest->adapters, false);
    hs_status status = hs_engine_list_adapters(rest->engine, NULL, &ret->infos, &ret->n_infos, err);
    if (status == HS_OK && registry != NULL) {
        status = hs_registry_adapter_list(registry, &ret->rows, &ret->n_rows, err);
    }
    return status;
}

void hs_rest_adapter_list(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct lists lists HS_CLEANUP(free_lists) = {0};
    struct hs_error err;
    if (read_lists(rest, &lists, &err) != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < lists.n_rows; i++) {
        const struct hs_registry_adapter *row = &lists.rows[i];
        hs_json_append(&list, describe(row, find_info(lists.infos, lists.n_infos, row->name)));
    }
    for (size_t i = 0; i < lists.n_infos; i++) {
        bool is_known = false;
        for (size_t k = 0; k < lists.n_rows && !is_known; k++) {
            is_known = strcmp(lists.rows[k].name, lists.infos[i].name) == 0;
        }
        if (!is_known) {
            hs_json_append(&list, describe(NULL, &lists.infos[i]));
        }
    }
    hs_http_respond_json(request, 200,
                         list == NULL ? NULL
                                      : json_pack("{s:s, s:o}", "object", "list", "data", list));
}

static void respond_unknown(hs_http_request *request, const struct hs_error *err)
{
    char message[HS_MESSAGE_MAX + 64];
    snprintf(message, sizeof message, "%s; GET /api/v1/adapters lists them", err->message);
    hs_http_respond_error(
        request,
        &(struct hs_http_error){.status = 404, .code = "adapter_not_found", .message = message});
}

static void respond_error(hs_http_request *request, const struct hs_error *err)
{
    if (err->status == HS_NOT_FOUND) {
        respond_unknown(request, err);
    } else {
        hs_rest_respond_failure(request, err, NULL);
    }
}

static void respond_adapter(const struct hs_rest *rest, hs_http_request *request, const char *name,
                            int status_ok)
{
    hs_registry *registry = hs_adapter_table_registry(rest->adapters);
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    struct hs_adapter_info info;
    struct hs_error err;
    hs_status status = hs_adapter_table_find(rest->adapters, name, &info, &err);
    bool is_served = status == HS_OK;
    hs_status in_registry =
        registry == NULL ? HS_NOT_FOUND : hs_registry_adapter_get(registry, name, &row, &err);
    bool has_row = in_registry == HS_OK;
    if ((!is_served && status != HS_NOT_FOUND) || (!has_row && in_registry != HS_NOT_FOUND) ||
        (!is_served && !has_row)) {
        respond_error(request, &err);
        return;
    }
    hs_http_respond_json(request, status_ok,
                         describe(has_row ? &row : NULL, is_served ? &info : NULL));
}

void hs_rest_adapter_get(hs_http_request *request, void *user)
{
    respond_adapter(user, request, hs_http_request_param(request, "name"), 200);
}

/* ---- changes: all need the registry ---- */

static hs_registry *need_registry(const struct hs_rest *rest, hs_http_request *request)
{
    hs_registry *registry = hs_adapter_table_registry(rest->adapters);
    if (registry == NULL) {
        hs_http_respond_error(
            request,
            &(struct hs_http_error){.status = 404, .message = "this server keeps no adapters"});
    }
    return registry;
}

void hs_rest_adapter_history(hs_http_request *request, void *user)
{
    hs_registry *registry = need_registry(user, request);
    struct lists lists HS_CLEANUP(free_lists) = {0};
    struct hs_error err;
    if (registry == NULL) {
        return;
    }
    if (hs_registry_adapter_history(registry, hs_http_request_param(request, "name"), &lists.rows,
                                    &lists.n_rows, &err) != HS_OK) {
        respond_error(request, &err);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < lists.n_rows; i++) {
        hs_json_append(&list, hs_adapter_row_json(&lists.rows[i], false));
    }
    hs_http_respond_json(request, 200,
                         list == NULL ? NULL
                                      : json_pack("{s:s, s:o}", "object", "list", "data", list));
}

void hs_rest_adapter_delete(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    hs_registry *registry = need_registry(rest, request);
    const char *name = hs_http_request_param(request, "name");
    struct hs_error err;
    if (registry == NULL) {
        return;
    }
    if (hs_registry_adapter_remove(registry, name, &err) != HS_OK) {
        respond_error(request, &err);
        return;
    }
    hs_adapter_table_changed(rest->adapters);
    hs_http_respond_json(
        request, 200,
        json_pack("{s:s, s:s, s:b}", "name", name, "object", "adapter", "deleted", 1));
}

/* An array of strings as its JSON text in *ret (hs_free); stays NULL when it is absent. */
static bool read_list(const struct hs_fields *fields, const char *name, char **ret)
{
    const json_t *list = hs_field_get(fields, name);
    if (list == NULL) {
        return true;
    }
    if (!json_is_array(list) || json_array_size(list) > LIST_MAX) {
        return hs_field_refuse(fields, name, "must be an array of at most %d strings", LIST_MAX);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        size_t len = json_string_length(item);
        if (!json_is_string(item) || len == 0 || len > TEXT_MAX) {
            return hs_field_refuse(fields, name, "must hold strings of 1 to %d bytes", TEXT_MAX);
        }
    }
    *ret = json_dumps(list, JSON_COMPACT);
    return *ret != NULL;
}

struct texts {
    const char *description;
    char *tags, *examples;
};

static void free_texts(struct texts *texts)
{
    hs_free(texts->tags);
    hs_free(texts->examples);
}

static bool read_texts(const struct hs_fields *fields, struct texts *ret)
{
    if (!hs_field_string(fields, "description", &ret->description)) {
        return false;
    }
    if (ret->description != NULL && strlen(ret->description) > TEXT_MAX) {
        return hs_field_refuse(fields, "description", "has %zu bytes; at most %d are allowed",
                               strlen(ret->description), TEXT_MAX);
    }
    return read_list(fields, "tags", &ret->tags) && read_list(fields, "examples", &ret->examples);
}

void hs_rest_adapter_patch(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    const char *name = hs_http_request_param(request, "name"), *new_name = NULL;
    struct hs_fields fields = {request, hs_http_request_json(request), ""};
    struct texts texts HS_CLEANUP(free_texts) = {0};
    struct hs_error err;
    hs_registry *registry = fields.object == NULL ? NULL : need_registry(rest, request);
    if (registry == NULL || !read_texts(&fields, &texts) ||
        !hs_field_string(&fields, "name", &new_name)) {
        return;
    }
    hs_status status = hs_registry_adapter_describe(registry, name, texts.description, texts.tags,
                                                    texts.examples, &err);
    if (status == HS_OK && new_name != NULL) {
        status = hs_registry_adapter_rename(registry, name, new_name, &err);
    }
    if (status != HS_OK) {
        respond_error(request, &err);
        return;
    }
    hs_adapter_table_changed(rest->adapters);
    respond_adapter(rest, request, new_name == NULL ? name : new_name, 200);
}

/* ---- new adapters and versions ---- */

/* Whether a loaded model is called so; then no adapter may be. */
static bool check_name(const struct hs_rest *rest, hs_http_request *request, const char *name)
{
    for (size_t i = 0; i < rest->n_models; i++) {
        if (strcmp(rest->models[i].id, name) == 0) {
            hs_http_respond_bad_param(request, "name", "name: '%s' is the name of a model", name);
            return false;
        }
    }
    return true;
}

/* An upload lay somewhere for a moment, which is nobody's business: take it out of the message. */
static void forget_path(struct hs_error *err, const char *path)
{
    char *at = strstr(err->message, path);
    size_t len = strlen(path);
    if (at != NULL && at[len] == '/') { /* a file in the folder */
        len += 1 + strcspn(at + len + 1, "'");
    }
    if (at != NULL) {
        memmove(at, at + len, strlen(at + len) + 1);
    }
}

static void add(const struct hs_rest *rest, hs_http_request *request, struct hs_adapter_add *add)
{
    hs_registry *registry = need_registry(rest, request);
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    struct hs_error err;
    add->n_keep = rest->adapter_versions;
    if (registry == NULL || (add->name != NULL && !check_name(rest, request, add->name))) {
        return;
    }
    hs_status status = hs_adapter_add(registry, add, &row, &err);
    if (status != HS_OK && add->source != NULL) {
        forget_path(&err, add->path);
    }
    if (status == HS_MISMATCH || status == HS_NOT_FOUND) {
        hs_http_respond_bad_param(request, "path", "path: %s", err.message);
        return;
    }
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_adapter_table_changed(rest->adapters);
    respond_adapter(rest, request, row.name, row.version == 1 ? 201 : 200);
}

void hs_rest_adapter_create(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    struct texts texts HS_CLEANUP(free_texts) = {0};
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    struct hs_adapter_add how = {.path = NULL};
    if (model == NULL || !hs_field_string(&fields, "path", &how.path) ||
        !hs_field_string(&fields, "name", &how.name) || !read_texts(&fields, &texts) ||
        !hs_field_bool(&fields, "link", &how.is_linked) ||
        !hs_field_bool(&fields, "replace", &how.replaces)) {
        return;
    }
    if (how.path == NULL) {
        hs_field_refuse(&fields, "path", "is missing; PUT /api/v1/adapters/NAME takes a file");
        return;
    }
    how.model_path = model->path;
    how.model_name = model->id;
    how.description = texts.description;
    how.tags = texts.tags;
    how.examples = texts.examples;
    add(rest, request, &how);
}

/* The body, and what says how PEFT made it, as files of a folder. false: the request was answered.
 */
static bool write_upload(hs_http_request *request, const char *folder, struct hs_error *err)
{
    size_t len = 0;
    const char *body = hs_http_request_body(request, &len);
    const char *config = hs_http_request_header(request, "Adapter-Config");
    bool is_gguf = len >= 4 && memcmp(body, "GGUF", 4) == 0;
    if (!is_gguf && config == NULL) {
        hs_http_respond_bad_param(
            request, "Adapter-Config",
            "Adapter-Config: the body is no GGUF file; safetensors of PEFT need their "
            "adapter_config.json in this header");
        return false;
    }
    HS_CLEANUP(hs_freep)
    char *weights =
        hs_fs_join(folder, is_gguf ? HS_REGISTRY_ADAPTER_GGUF : "adapter_model.safetensors");
    HS_CLEANUP(hs_freep) char *config_file = hs_fs_join(folder, "adapter_config.json");
    hs_status status = weights == NULL || config_file == NULL
                           ? hs_error_nomem(err, "upload")
                           : hs_fs_write_atomic(weights, body, len, 0600, err);
    if (status == HS_OK && !is_gguf) {
        status = hs_fs_write_atomic(config_file, config, strlen(config), 0600, err);
    }
    if (status != HS_OK) {
        hs_rest_respond_failure(request, err, NULL);
    }
    return status == HS_OK;
}

/* Best effort: the folder of temporary files is emptied by the system. */
static void remove_folder(char **folder)
{
    struct hs_error ignored;
    hs_status status = *folder == NULL ? HS_OK : hs_fs_remove_all(*folder, &ignored);
    (void)status;
    hs_free(*folder);
}

void hs_rest_adapter_put(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_error err;
    const struct hs_model_info *model =
        hs_rest_model(rest, request, hs_http_request_query(request, "model"));
    if (model == NULL || need_registry(rest, request) == NULL) {
        return;
    }
    HS_CLEANUP(remove_folder) char *folder = NULL;
    char *path = hs_asprintf("%s/upload-XXXXXX", rest->upload_dir);
    if (path == NULL || hs_fs_mkdir_p(rest->upload_dir, &err) != HS_OK || mkdtemp(path) == NULL) {
        hs_free(path);
        hs_error_set(&err, HS_IO, "cannot write to the folder of uploads");
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    folder = path;
    if (!write_upload(request, folder, &err)) {
        return;
    }
    HS_CLEANUP(hs_freep) char *gguf = hs_fs_join(folder, HS_REGISTRY_ADAPTER_GGUF);
    bool is_gguf = gguf != NULL && access(gguf, F_OK) == 0;
    struct hs_adapter_add how = {.path = is_gguf ? gguf : folder,
                                 .name = hs_http_request_param(request, "name"),
                                 .model_path = model->path,
                                 .model_name = model->id,
                                 .source = "uploaded",
                                 .replaces = true};
    add(rest, request, &how);
}
