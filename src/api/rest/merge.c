/*
 * merge.c - POST /api/v1/merge-adapters: several adapters become one, by a thread of the request's
 * own, so that the pool's threads are there for others. One merge at a time: each may hold whole
 * matrices of the model.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "adapter_merge.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "rest.h"

#define WEIGHT_MAX 1e6

struct merge {
    struct hs_rest *rest;
    hs_http_request *request;
    hs_registry *registry;
    struct hs_fields fields;
    struct hs_adapter_merge job;
    const char *name; /* of the body, which lives as long as this */
    bool replaces, has_thread;
    pthread_t thread;
    atomic_bool is_gone;
    /* of the thread until it woke the request */
    hs_fused_weights *fused;
    struct hs_registry_adapter row;
    hs_status status;
    struct hs_error err;
};

/* A merge whose client left ends with the matrix in hand. */
static void merge_free(void *data)
{
    struct merge *merge = data;
    if (merge->has_thread) {
        pthread_join(merge->thread, NULL);
    }
    hs_adapter_merge_clear(&merge->job);
    hs_fused_weights_free(merge->fused);
    hs_registry_adapter_free(&merge->row);
    hs_free(merge);
}

/* ---- fields: false: the request was answered ---- */

static bool read_number(const struct merge *merge, const char *name, const char *param, double max,
                        double *value)
{
    float number = (float)*value;
    const char *params = hs_merge_method_params(merge->job.params.method);
    if (hs_field_get(&merge->fields, name) == NULL) {
        return true;
    }
    if (strstr(params, param) == NULL) {
        return hs_field_refuse(&merge->fields, name, "is no parameter of %s",
                               hs_merge_method_name(merge->job.params.method));
    }
    if (!hs_field_float(&merge->fields, name, 0, max, &number)) {
        return false;
    }
    *value = (double)number;
    return true;
}

/* One of `words`, NULL at the end; its number. */
static bool read_word(const struct merge *merge, const char *name, const char *const *words,
                      int *ret_i)
{
    const char *text = NULL;
    if (!hs_field_string(&merge->fields, name, &text)) {
        return false;
    }
    for (int i = 0; text != NULL && words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret_i = i;
            return true;
        }
    }
    return text == NULL || hs_field_refuse(&merge->fields, name, "is none of its values");
}

static bool go_on(float share, void *user)
{
    struct merge *merge = user;
    (void)share;
    return !atomic_load(&merge->is_gone);
}

static bool read_params(struct merge *merge)
{
    static const char *const signs[] = {"total", "frequency", NULL};
    static const char *const svds[] = {"auto", "exact", "randomised", NULL};
    struct hs_merge_params *params = &merge->job.params;
    const char *method = NULL;
    struct hs_error err;
    int sign = 0;
    int svd = 0;
    int64_t rank = 0;
    int64_t seed = -1;
    hs_merge_params_defaults(params);
    params->n_threads = 1; /* the model's threads have the rest */
    params->progress = go_on;
    params->progress_user = merge;
    if (!hs_field_string(&merge->fields, "method", &method)) {
        return false;
    }
    if (hs_adapter_merge_method(method == NULL ? "" : method, &params->method, &err) != HS_OK) {
        return hs_field_refuse(&merge->fields, "method", "%s; %s", err.message, err.hint);
    }
    if (!read_number(merge, "density", "density", 1, &params->density) ||
        !read_number(merge, "gamma", "gamma", 1, &params->gamma) ||
        !read_number(merge, "epsilon", "epsilon", 0.5, &params->epsilon) ||
        !read_number(merge, "t", "t", 1, &params->t) ||
        !read_word(merge, "majority_sign", signs, &sign) || !read_word(merge, "svd", svds, &svd) ||
        !hs_field_int(&merge->fields, "rank", 1, 1024, &rank) ||
        !hs_field_int(&merge->fields, "seed", 0, INT64_MAX, &seed)) {
        return false;
    }
    params->majority_sign = (enum hs_merge_sign)sign;
    params->svd = (enum hs_merge_svd)svd;
    params->rank = (int32_t)rank;
    params->seed = (uint64_t)seed;
    if (seed < 0 && hs_adapter_merge_draw_seed(params, &err) != HS_OK) {
        hs_rest_respond_failure(merge->request, &err, NULL);
        return false;
    }
    return true;
}

/* {"name", "weight"}; of the registry only: paths are for people of this machine. */
static bool read_source(struct merge *merge, size_t i)
{
    char path[48];
    struct hs_error err;
    const json_t *list = json_object_get(merge->fields.object, "adapters");
    struct hs_fields item = {merge->request, json_array_get(list, i), path};
    const char *name = NULL;
    float weight = 1;
    snprintf(path, sizeof path, "adapters[%zu].", i);
    if (!json_is_object(item.object)) {
        return hs_field_refuse(&merge->fields, "adapters", "must hold objects with a \"name\"");
    }
    if (!hs_field_string(&item, "name", &name) ||
        !hs_field_float(&item, "weight", -WEIGHT_MAX, WEIGHT_MAX, &weight)) {
        return false;
    }
    if (name == NULL || strchr(name, '/') != NULL) {
        return hs_field_refuse(&item, "name", "must be the name of an adapter");
    }
    hs_status status =
        hs_adapter_merge_source(&merge->job, merge->registry, name, (double)weight, &err);
    if (status == HS_NOT_FOUND) {
        return hs_field_refuse(&item, "name", "%s; GET /api/v1/adapters lists them", err.message);
    }
    if (status != HS_OK) {
        hs_rest_respond_failure(merge->request, &err, "adapters");
    }
    return status == HS_OK;
}

static bool read_sources(struct merge *merge)
{
    const json_t *list = hs_field_get(&merge->fields, "adapters");
    size_t n = json_array_size(list);
    if (n < 1 || n > HS_ADAPTER_MERGE_SOURCES_MAX) {
        return hs_field_refuse(&merge->fields, "adapters", "must be an array of 1 to %d adapters",
                               HS_ADAPTER_MERGE_SOURCES_MAX);
    }
    bool is_good = true;
    for (size_t i = 0; i < n && is_good; i++) {
        is_good = read_source(merge, i);
    }
    return is_good;
}

static bool read_name(struct merge *merge)
{
    if (!hs_field_string(&merge->fields, "name", &merge->name) ||
        !hs_field_bool(&merge->fields, "replace", &merge->replaces)) {
        return false;
    }
    if (merge->name == NULL || strchr(merge->name, '/') != NULL) {
        return hs_field_refuse(&merge->fields, "name", "must name the new adapter");
    }
    for (size_t i = 0; i < merge->rest->n_models; i++) {
        if (strcmp(merge->rest->models[i].id, merge->name) == 0) {
            return hs_field_refuse(&merge->fields, "name", "'%s' is the name of a model",
                                   merge->name);
        }
    }
    return true;
}

/* ---- the thread ---- */

static void *run(void *data)
{
    struct merge *merge = data;
    struct hs_rest *rest = merge->rest;
    const struct hs_adapter_merge_add add = {.name = merge->name,
                                             .folder = rest->upload_dir,
                                             .is_f16 = true,
                                             .replaces = merge->replaces,
                                             .n_keep = rest->adapter_versions};
    merge->status =
        hs_merge_adapters(merge->job.model_path, merge->job.sources, merge->job.n_sources,
                          &merge->job.params, &merge->fused, &merge->err);
    if (merge->status == HS_OK) {
        merge->status = hs_adapter_merge_register(&merge->job, merge->fused, merge->registry, &add,
                                                  &merge->row, &merge->err);
    }
    if (merge->status == HS_OK) {
        hs_adapter_table_changed(rest->adapters);
    }
    atomic_store(&rest->is_merging, false);
    hs_http_wake(merge->request);
    return NULL;
}

static void respond(hs_http_request *request, void *user)
{
    const struct merge *merge = hs_http_request_data(request);
    (void)user;
    if (merge->status != HS_OK) {
        hs_rest_respond_failure(request, &merge->err, "adapters");
        return;
    }
    json_t *object = hs_adapter_merge_json(&merge->job, merge->fused);
    hs_json_set(&object, "object", json_string("adapter.merge"));
    hs_json_set(&object, "name", hs_json_text(merge->row.name));
    hs_json_set(&object, "version", json_integer(merge->row.version));
    hs_json_set(&object, "model", hs_json_text(merge->row.model_name));
    hs_http_respond_json(request, merge->row.version == 1 ? 201 : 200, object);
}

static void start(struct merge *merge)
{
    struct hs_rest *rest = merge->rest;
    if (atomic_exchange(&rest->is_merging, true)) {
        hs_http_respond_error(
            merge->request,
            &(struct hs_http_error){.status = 429,
                                    .code = "merge_running",
                                    .message = "adapters are being merged already, and one merge "
                                               "runs at a time; try again when it is done",
                                    .retry_after_s = 5});
        return;
    }
    int code = pthread_create(&merge->thread, NULL, run, merge);
    merge->has_thread = code == 0;
    if (code != 0) {
        struct hs_error err;
        atomic_store(&rest->is_merging, false);
        hs_error_set(&err, HS_UNAVAILABLE, "no thread for merging: %s", strerror(code));
        hs_error_hint(&err, "try again, or raise the limit of threads");
        hs_rest_respond_failure(merge->request, &err, NULL);
        return;
    }
    hs_http_wait(merge->request, respond);
}

static void on_gone(hs_http_request *request, void *data, enum hs_http_gone why)
{
    struct merge *merge = data;
    (void)request;
    (void)why;
    atomic_store(&merge->is_gone, true);
}

void hs_rest_adapter_merge(hs_http_request *request, void *user)
{
    static const struct hs_http_hooks hooks = {on_gone, merge_free};
    struct hs_rest *rest = user;
    struct hs_fields fields;
    hs_registry *registry = hs_adapter_table_registry(rest->adapters);
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    if (model == NULL) {
        return;
    }
    if (registry == NULL) {
        hs_http_respond_error(
            request,
            &(struct hs_http_error){.status = 404, .message = "this server keeps no adapters"});
        return;
    }
    struct merge *merge = hs_calloc(1, sizeof *merge);
    if (merge == NULL) {
        struct hs_error err;
        hs_error_nomem(&err, "a merge of adapters");
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    merge->rest = rest;
    merge->request = request;
    merge->registry = registry;
    merge->fields = fields;
    merge->job.model_path = model->path;
    merge->job.model_name = model->id;
    hs_http_attach(request, &hooks, merge);
    if (read_name(merge) && read_params(merge) && read_sources(merge)) {
        start(merge);
    }
}
