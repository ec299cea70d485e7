/* adapter_merge.c - from names and weights to a merged adapter in the registry. */
#include "adapter_merge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "json_out.h"

#define DESCRIPTION_MAX 16384

/* ---- what is asked for ---- */

hs_status hs_adapter_merge_method(const char *name, int32_t *ret_method, struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf names = HS_BUF_INIT(HS_HINT_MAX);
    int32_t method = hs_merge_method_find(name);
    if (method >= 0) {
        *ret_method = method;
        return HS_OK;
    }
    for (int32_t i = 0; i < hs_merge_n_methods(); i++) {
        if (hs_buf_printf(&names, "%s%s", i == 0 ? "" : ", ", hs_merge_method_name(i)) != HS_OK) {
            return hs_error_nomem(err, "names of methods");
        }
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "there is no merge method '%.40s'", name);
    hs_error_hint(err, "the methods are %s", names.data);
    return HS_INVALID_ARGUMENT;
}

hs_status hs_adapter_merge_draw_seed(struct hs_merge_params *params, struct hs_error *err)
{
    uint32_t drawn;
    if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) {
        return hs_error_set(err, HS_IO, "cannot draw a random seed");
    }
    params->seed = drawn;
    return HS_OK;
}

/* Where it lies, and which version it is. */
static hs_status resolve(hs_registry *registry, const char *name, char **ret_path,
                         char **ret_parent, struct hs_error *err)
{
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    if (strchr(name, '/') != NULL) {
        *ret_path = hs_strdup(name);
        return *ret_path == NULL ? hs_error_nomem(err, "the path of an adapter") : HS_OK;
    }
    hs_status status = hs_registry_adapter_get(registry, name, &row, err);
    if (status != HS_OK) {
        hs_error_hint(err, "'hyprstream adapter list' shows the adapters; a path has a '/', as "
                           "./adapter.gguf");
        return status;
    }
    *ret_path = hs_strdup(row.path);
    *ret_parent = hs_asprintf("%s@%lld", name, (long long)row.version);
    return *ret_path == NULL || *ret_parent == NULL ? hs_error_nomem(err, "the path of an adapter")
                                                    : HS_OK;
}

hs_status hs_adapter_merge_source(struct hs_adapter_merge *merge, hs_registry *registry,
                                  const char *name, double weight, struct hs_error *err)
{
    if (merge->n_sources == HS_ADAPTER_MERGE_SOURCES_MAX) {
        hs_error_set(err, HS_LIMIT, "more than %d adapters to merge", HS_ADAPTER_MERGE_SOURCES_MAX);
        hs_error_hint(err, "merge some first, then the results");
        return HS_LIMIT;
    }
    HS_CLEANUP(hs_freep) char *copy = hs_strdup(name);
    HS_CLEANUP(hs_freep) char *path = NULL;
    HS_CLEANUP(hs_freep) char *parent = NULL;
    hs_status status = copy == NULL ? hs_error_nomem(err, "the name of an adapter")
                                    : resolve(registry, name, &path, &parent, err);
    if (status == HS_OK) {
        merge->parents[merge->n_sources] = parent;
        merge->sources[merge->n_sources++] = (struct hs_merge_source){path, copy, weight};
        copy = path = parent = NULL;
    }
    return status;
}

void hs_adapter_merge_clear(struct hs_adapter_merge *merge)
{
    for (int32_t i = 0; i < merge->n_sources; i++) {
        hs_free((char *)(uintptr_t)merge->sources[i].name);
        hs_free((char *)(uintptr_t)merge->sources[i].path);
        hs_free(merge->parents[i]);
    }
    merge->n_sources = 0;
}

bool hs_adapter_merge_has_seed(const struct hs_adapter_merge *merge)
{
    return strstr(hs_merge_method_params(merge->params.method), "seed") != NULL;
}

/* ---- what it cost ---- */

static double share(double error, double norm)
{
    return norm > 0 ? error / norm : 0;
}

void hs_adapter_merge_cost(const hs_fused_weights *fused, struct hs_adapter_merge_cost *ret_cost)
{
    double norm = 0;
    double error = 0;
    *ret_cost = (struct hs_adapter_merge_cost){0};
    for (int32_t i = 0; i < hs_fused_weights_n_targets(fused); i++) {
        struct hs_merge_target target;
        hs_fused_weights_target(fused, i, &target);
        norm = hypot(norm, target.norm);
        error = hypot(error, target.error);
        ret_cost->rank = target.rank > ret_cost->rank ? target.rank : ret_cost->rank;
        if (share(target.error, target.norm) > ret_cost->largest) {
            ret_cost->largest = share(target.error, target.norm);
            memcpy(ret_cost->largest_name, target.tensor, sizeof target.tensor);
        }
    }
    ret_cost->error = share(error, norm);
}

static json_t *targets_json(const hs_fused_weights *fused)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < hs_fused_weights_n_targets(fused); i++) {
        struct hs_merge_target target;
        json_t *object = json_object();
        hs_fused_weights_target(fused, i, &target);
        hs_json_set(&object, "tensor", hs_json_text(target.tensor));
        hs_json_set(&object, "rank", json_integer(target.rank));
        hs_json_set(&object, "norm", json_real(target.norm));
        hs_json_set(&object, "relative_error", json_real(share(target.error, target.norm)));
        hs_json_append(&list, object);
    }
    return list;
}

json_t *hs_adapter_merge_json(const struct hs_adapter_merge *merge, const hs_fused_weights *fused)
{
    json_t *object = json_object();
    bool has_seed = hs_adapter_merge_has_seed(merge);
    hs_json_set(&object, "method", hs_json_text(hs_merge_method_name(merge->params.method)));
    hs_json_set(&object, "seed",
                has_seed ? json_integer((json_int_t)merge->params.seed) : json_null());
    if (fused != NULL) {
        struct hs_adapter_merge_cost cost;
        hs_adapter_merge_cost(fused, &cost);
        hs_json_set(&object, "rank", json_integer(cost.rank));
        hs_json_set(&object, "relative_error", json_real(cost.error));
        hs_json_set(&object, "targets", targets_json(fused));
    }
    return object;
}

/* ---- into the registry ---- */

static hs_status parents_json(const struct hs_adapter_merge *merge, char **ret_text,
                              struct hs_error *err)
{
    json_t *list HS_CLEANUP(hs_json_freep) = json_array();
    for (int32_t i = 0; i < merge->n_sources; i++) {
        if (merge->parents[i] != NULL) {
            hs_json_append(&list, hs_json_text(merge->parents[i]));
        }
    }
    *ret_text = list == NULL ? NULL : json_dumps(list, JSON_COMPACT);
    return *ret_text == NULL ? hs_error_nomem(err, "the parents of an adapter") : HS_OK;
}

/* "ties of french:0.7 + polite:-0.3" */
static hs_status describe(const struct hs_adapter_merge *merge, char **ret_text,
                          struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(DESCRIPTION_MAX);
    hs_status status = hs_buf_printf(&text, "%s of", hs_merge_method_name(merge->params.method));
    for (int32_t i = 0; i < merge->n_sources && status == HS_OK; i++) {
        status = hs_buf_printf(&text, "%s%.80s:%g", i == 0 ? " " : " + ", merge->sources[i].name,
                               merge->sources[i].weight);
    }
    size_t len;
    status = status ? status : hs_buf_take(&text, ret_text, &len);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "the description of an adapter");
}

hs_status hs_adapter_merge_register(const struct hs_adapter_merge *merge,
                                    const hs_fused_weights *fused, hs_registry *registry,
                                    const struct hs_adapter_merge_add *add,
                                    struct hs_registry_adapter *ret_row, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *parents = NULL;
    HS_CLEANUP(hs_freep) char *description = NULL;
    HS_CLEANUP(hs_freep)
    char *path = hs_asprintf("%s/.merged-%ld-%s.gguf", add->folder, (long)getpid(), add->name);
    if (path == NULL) {
        return hs_error_nomem(err, "the path of an adapter");
    }
    hs_status status = parents_json(merge, &parents, err);
    status = status ? status : describe(merge, &description, err);
    status = status ? status : hs_fs_mkdir_p(add->folder, err);
    status = status ? status : hs_fused_weights_write(fused, path, add->name, add->is_f16, err);
    if (status == HS_OK) {
        const struct hs_adapter_add how = {
            .path = path,
            .name = add->name,
            .model_path = merge->model_path,
            .model_name = merge->model_name,
            .source = "merged",
            .description = description,
            .parents = parents,
            .replaces = add->replaces,
            .n_keep = add->n_keep,
        };
        status = hs_adapter_add(registry, &how, ret_row, err);
    }
    unlink(path);
    return status;
}
