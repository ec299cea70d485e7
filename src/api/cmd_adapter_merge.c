/* cmd_adapter_merge.c - `hyprstream adapter merge`: several adapters become one, or go into a
 * model. */
#include <math.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "adapter_add.h"
#include "adapters/adapter_ref.h"
#include "api/output.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"
#include "json_out.h"
#include "model_ref.h"

#define SOURCES_MAX 64

/* What the command was asked for. */
struct merge {
    const struct hs_command_args *args;
    hs_registry *registry;
    struct hs_model_choice model;
    struct hs_merge_params params;
    struct hs_merge_source sources[SOURCES_MAX];
    char *names[SOURCES_MAX], *paths[SOURCES_MAX];
    char *parents[SOURCES_MAX]; /* "name@version" of registered ones; NULL: a path */
    int32_t n_sources;
};

static void merge_clear(struct merge *merge)
{
    for (int32_t i = 0; i < merge->n_sources; i++) {
        hs_free(merge->names[i]);
        hs_free(merge->paths[i]);
        hs_free(merge->parents[i]);
    }
    hs_model_choice_free(&merge->model);
    hs_registry_close(merge->registry);
}

static void fused_free(hs_fused_weights **fused)
{
    hs_fused_weights_free(*fused);
}

/* ---- parameters ---- */

static hs_status find_method(const char *name, int32_t *ret_method, struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf names = HS_BUF_INIT(HS_HINT_MAX);
    *ret_method = hs_merge_method_find(name);
    if (*ret_method >= 0) {
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

/* A number as the weight in "x:NUMBER" is one. */
static hs_status parse_number(const char *text, double *ret_value)
{
    struct hs_adapter_ref ref = {0};
    HS_CLEANUP(hs_freep) char *joined = hs_asprintf("x:%s", text);
    hs_status status = joined == NULL ? HS_OUT_OF_MEMORY : hs_adapter_ref_parse(joined, &ref, NULL);
    if (status == HS_OK) {
        *ret_value = (double)ref.scale;
        hs_adapter_ref_clear(&ref);
    }
    return status;
}

/* Options that are numbers: refused with a method that does not take them. */
static hs_status take_number(const struct merge *merge, enum hs_option_id id, double *ret_value,
                             struct hs_error *err)
{
    const char *text = merge->args->options[id];
    const char *name = hs_option_row(id)->name;
    const char *params = hs_merge_method_params(merge->params.method);
    if (text == NULL) {
        return HS_OK;
    }
    if (!hs_command_list_has(params, name)) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "%s does not take --%s",
                     hs_merge_method_name(merge->params.method), name);
        hs_error_hint(err, "it takes: %s", params[0] == '\0' ? "nothing but weights" : params);
        return HS_INVALID_ARGUMENT;
    }
    hs_status status = parse_number(text, ret_value);
    if (status == HS_INVALID_ARGUMENT) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "--%s '%.40s' is not a number", name, text);
        hs_error_hint(err, "write it like 0.5");
    }
    return status == HS_OUT_OF_MEMORY ? hs_error_nomem(err, "a number") : status;
}

static hs_status take_choices(struct merge *merge, struct hs_error *err)
{
    static const char *const signs[] = {"total", "frequency"};
    static const char *const svds[] = {"auto", "exact", "randomised"};
    const char *sign = merge->args->options[HS_OPT_MAJORITY_SIGN];
    const char *svd = merge->args->options[HS_OPT_SVD];
    int32_t i_sign = 0;
    int32_t i_svd = 0;
    while (sign != NULL && i_sign < 2 && strcmp(sign, signs[i_sign]) != 0) {
        i_sign++;
    }
    while (svd != NULL && i_svd < 3 && strcmp(svd, svds[i_svd]) != 0) {
        i_svd++;
    }
    if (i_sign == 2 || i_svd == 3) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "--%s '%.40s' is not one of its values",
                     i_sign == 2 ? "majority-sign" : "svd", i_sign == 2 ? sign : svd);
        hs_error_hint(err,
                      i_sign == 2 ? "use total or frequency" : "use auto, exact or randomised");
        return HS_INVALID_ARGUMENT;
    }
    merge->params.majority_sign = (enum hs_merge_sign)i_sign;
    merge->params.svd = (enum hs_merge_svd)i_svd;
    return HS_OK;
}

static hs_status take_seed(struct merge *merge, struct hs_error *err)
{
    int64_t seed = hs_config_int(merge->args->config, HS_CFG_SEED);
    uint32_t drawn = 0;
    if (seed < 0 && getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) {
        return hs_error_set(err, HS_IO, "cannot draw a random seed");
    }
    merge->params.seed = seed < 0 ? drawn : (uint64_t)seed;
    return HS_OK;
}

static bool show_progress(float fraction, void *user)
{
    const struct hs_command_args *args = user;
    args->io->progress(args->io->self, "merging", fraction, args->args[0]);
    return !args->io->interrupted(args->io->self);
}

static hs_status take_params(struct merge *merge, struct hs_error *err)
{
    const struct hs_command_args *args = merge->args;
    struct hs_merge_params *params = &merge->params;
    double rank = 0;
    hs_merge_params_defaults(params);
    params->n_threads = (int32_t)hs_config_int(args->config, HS_CFG_THREADS);
    params->progress = show_progress;
    params->progress_user = (void *)args;
    hs_status status = find_method(args->args[0], &params->method, err);
    status = status ? status : take_number(merge, HS_OPT_DENSITY, &params->density, err);
    status = status ? status : take_number(merge, HS_OPT_GAMMA, &params->gamma, err);
    status = status ? status : take_number(merge, HS_OPT_EPSILON, &params->epsilon, err);
    status = status ? status : take_number(merge, HS_OPT_T, &params->t, err);
    status = status ? status : take_number(merge, HS_OPT_RANK, &rank, err);
    status = status ? status : take_choices(merge, err);
    status = status ? status : take_seed(merge, err);
    if (status == HS_OK && args->options[HS_OPT_RANK] != NULL &&
        !(rank >= 1 && rank <= 1024 && rank == floor(rank))) {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "--rank '%.40s' is not a whole number from 1 to 1024",
                     args->options[HS_OPT_RANK]);
        hs_error_hint(err, "leave it out to get the highest rank of the adapters");
        return HS_INVALID_ARGUMENT;
    }
    params->rank = (int32_t)rank;
    return status;
}

/* ---- adapters ---- */

/* NAME[:WEIGHT], or PATH[:WEIGHT], which has a '/'. */
static hs_status split_weight(const char *text, char **ret_name, double *ret_weight,
                              struct hs_error *err)
{
    const char *colon = strrchr(text, ':');
    bool has_weight = colon != NULL && strchr(colon, '/') == NULL;
    *ret_weight = 1;
    if (has_weight && parse_number(colon + 1, ret_weight) != HS_OK) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "the weight in '%.80s' is not a number", text);
        hs_error_hint(err, "write it like french:0.7 or french:-0.3");
        return HS_INVALID_ARGUMENT;
    }
    *ret_name = hs_strndup(text, has_weight ? (size_t)(colon - text) : strlen(text));
    return *ret_name == NULL ? hs_error_nomem(err, "the name of an adapter") : HS_OK;
}

/* Where a registered adapter lies, and which version it is. */
static hs_status resolve(struct merge *merge, int32_t i, struct hs_error *err)
{
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    const char *name = merge->names[i];
    if (strchr(name, '/') != NULL) {
        merge->paths[i] = hs_strdup(name);
        return merge->paths[i] == NULL ? hs_error_nomem(err, "the path of an adapter") : HS_OK;
    }
    hs_status status = hs_registry_adapter_get(merge->registry, name, &row, err);
    if (status != HS_OK) {
        hs_error_hint(err, "'hyprstream adapter list' shows the adapters; a path has a '/', as "
                           "./adapter.gguf");
        return status;
    }
    merge->paths[i] = hs_strdup(row.path);
    merge->parents[i] = hs_asprintf("%s@%lld", name, (long long)row.version);
    return merge->paths[i] == NULL || merge->parents[i] == NULL
               ? hs_error_nomem(err, "the path of an adapter")
               : HS_OK;
}

static hs_status take_adapters(struct merge *merge, struct hs_error *err)
{
    const struct hs_config_value *given = &merge->args->config->values[HS_CFG_ADAPTER];
    if (given->n_items == 0 || given->n_items > SOURCES_MAX) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "%zu adapters to merge; it must be 1 to %d",
                     given->n_items, SOURCES_MAX);
        hs_error_hint(err, "name them with --adapter NAME[:WEIGHT], once for each");
        return HS_INVALID_ARGUMENT;
    }
    for (size_t k = 0; k < given->n_items; k++) {
        int32_t i = merge->n_sources++;
        struct hs_merge_source *source = &merge->sources[i];
        hs_status status = split_weight(given->items[k], &merge->names[i], &source->weight, err);
        status = status ? status : resolve(merge, i, err);
        if (status != HS_OK) {
            return status;
        }
        source->name = merge->names[i];
        source->path = merge->paths[i];
    }
    return HS_OK;
}

/* ---- results ---- */

struct total {
    double norm, error; /* of all targets together */
    double worst;       /* largest error / norm of a target */
    int32_t i_worst, rank;
};

static double share(double error, double norm)
{
    return norm > 0 ? error / norm : 0;
}

static struct total add_up(const hs_fused_weights *fused)
{
    struct total total = {0};
    for (int32_t i = 0; i < hs_fused_weights_n_targets(fused); i++) {
        struct hs_merge_target target;
        hs_fused_weights_target(fused, i, &target);
        total.norm = hypot(total.norm, target.norm);
        total.error = hypot(total.error, target.error);
        total.rank = target.rank > total.rank ? target.rank : total.rank;
        if (share(target.error, target.norm) > total.worst) {
            total.worst = share(target.error, target.norm);
            total.i_worst = i;
        }
    }
    return total;
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

static hs_status print_result(const struct merge *merge, const hs_fused_weights *fused,
                              const char *where, struct hs_error *err)
{
    const struct hs_command_args *args = merge->args;
    const char *method = hs_merge_method_name(merge->params.method);
    bool has_seed = hs_command_list_has(hs_merge_method_params(merge->params.method), "seed");
    struct total total = fused == NULL ? (struct total){0} : add_up(fused);
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = json_object();
        hs_json_set(&object, "method", hs_json_text(method));
        hs_json_set(&object, "result", hs_json_text(where));
        hs_json_set(&object, "seed",
                    has_seed ? json_integer((json_int_t)merge->params.seed) : json_null());
        if (fused != NULL) {
            hs_json_set(&object, "rank", json_integer(total.rank));
            hs_json_set(&object, "relative_error", json_real(share(total.error, total.norm)));
            hs_json_set(&object, "targets", targets_json(fused));
        }
        return hs_json_print(args->io, object, false, err);
    }
    hs_status status =
        hs_out_printf(args->io, err, "%s of %d adapters: %s\n", method, merge->n_sources, where);
    if (status == HS_OK && fused != NULL) {
        status = hs_out_printf(args->io, err, "%d matrices, rank %d, relative error %.3g\n",
                               hs_fused_weights_n_targets(fused), total.rank,
                               share(total.error, total.norm));
    }
    if (status == HS_OK && total.worst > 0) {
        struct hs_merge_target target;
        hs_fused_weights_target(fused, total.i_worst, &target);
        status =
            hs_out_printf(args->io, err, "largest error %.3g, in %s\n", total.worst, target.tensor);
    }
    if (status == HS_OK && has_seed) {
        status =
            hs_out_printf(args->io, err, "seed %llu\n", (unsigned long long)merge->params.seed);
    }
    return status;
}

static hs_status parents_json(const struct merge *merge, char **ret_text, struct hs_error *err)
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
static hs_status describe(const struct merge *merge, char **ret_text, struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 14);
    hs_status status = hs_buf_printf(&text, "%s of", hs_merge_method_name(merge->params.method));
    for (int32_t i = 0; i < merge->n_sources && status == HS_OK; i++) {
        status = hs_buf_printf(&text, "%s%.80s:%g", i == 0 ? " " : " + ", merge->names[i],
                               merge->sources[i].weight);
    }
    size_t len;
    status = status ? status : hs_buf_take(&text, ret_text, &len);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "the description of an adapter");
}

/* Into the registry, by way of a file in the adapters' folder. */
static hs_status add_to_registry(struct merge *merge, const hs_fused_weights *fused, bool is_f16,
                                 struct hs_registry_adapter *ret_row, struct hs_error *err)
{
    const struct hs_command_args *args = merge->args;
    const char *name = args->options[HS_OPT_NAME];
    HS_CLEANUP(hs_freep) char *parents = NULL;
    HS_CLEANUP(hs_freep) char *description = NULL;
    HS_CLEANUP(hs_freep)
    char *path = hs_asprintf("%s/.merged-%ld.gguf", args->paths->adapters_dir, (long)getpid());
    if (path == NULL) {
        return hs_error_nomem(err, "the path of an adapter");
    }
    hs_status status = parents_json(merge, &parents, err);
    status = status ? status : describe(merge, &description, err);
    status = status ? status : hs_fs_mkdir_p(args->paths->adapters_dir, err);
    status = status ? status : hs_fused_weights_write(fused, path, name, is_f16, err);
    if (status == HS_OK) {
        char id[HS_ID_MAX];
        hs_model_choice_id(&merge->model, id);
        const struct hs_adapter_add how = {
            .path = path,
            .name = name,
            .model_path = merge->model.path,
            .model_name = id,
            .source = "merged",
            .description = description,
            .parents = parents,
            .replaces = args->options[HS_OPT_REPLACE] != NULL,
            .n_keep = hs_config_int(args->config, HS_CFG_ADAPTER_VERSIONS),
        };
        status = hs_adapter_add(merge->registry, &how, ret_row, err);
    }
    unlink(path);
    return status;
}

static hs_status merge_to_adapter(struct merge *merge, struct hs_error *err)
{
    const struct hs_command_args *args = merge->args;
    hs_fused_weights *fused HS_CLEANUP(fused_free) = NULL;
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    const char *type = args->options[HS_OPT_TYPE];
    const char *output = args->options[HS_OPT_OUTPUT];
    bool is_f16 = type == NULL || strcmp(type, "F16") == 0;
    HS_CLEANUP(hs_freep) char *where = NULL;
    if (!is_f16 && strcmp(type, "F32") != 0) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "an adapter cannot be written as '%.40s'", type);
        hs_error_hint(err, "use F16 or F32; other types are for --into-model");
        return HS_INVALID_ARGUMENT;
    }
    hs_status status = hs_merge_adapters(merge->model.path, merge->sources, merge->n_sources,
                                         &merge->params, &fused, err);
    args->io->progress(args->io->self, "", -1, NULL);
    if (status == HS_OK && output != NULL) {
        status = hs_fused_weights_write(fused, output, "merged", is_f16, err);
        where = hs_strdup(output);
    } else if (status == HS_OK) {
        status = add_to_registry(merge, fused, is_f16, &row, err);
        where = row.name == NULL ? NULL
                                 : hs_asprintf("%s version %lld", row.name, (long long)row.version);
    }
    if (status == HS_OK && where == NULL) {
        return hs_error_nomem(err, "the name of a result");
    }
    return status != HS_OK ? status : print_result(merge, fused, where, err);
}

static hs_status merge_to_model(struct merge *merge, const char *path, struct hs_error *err)
{
    const struct hs_command_args *args = merge->args;
    hs_status status = hs_merge_into_model(merge->model.path, merge->sources, merge->n_sources,
                                           &merge->params, path, args->options[HS_OPT_TYPE], err);
    args->io->progress(args->io->self, "", -1, NULL);
    return status != HS_OK ? status : print_result(merge, NULL, path, err);
}

hs_status hs_cmd_adapter_merge(const struct hs_command_args *args, struct hs_error *err)
{
    struct merge merge HS_CLEANUP(merge_clear) = {.args = args};
    const char *into = args->options[HS_OPT_INTO_MODEL];
    int n_results = (args->options[HS_OPT_NAME] != NULL) + (args->options[HS_OPT_OUTPUT] != NULL) +
                    (into != NULL);
    if (n_results != 1) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "%s says where the result goes",
                     n_results == 0 ? "nothing" : "more than one option");
        hs_error_hint(err, "give one of --name NAME, --output FILE and --into-model FILE");
        return HS_INVALID_ARGUMENT;
    }
    hs_status status = take_params(&merge, err);
    status = status ? status : hs_registry_need(args->paths, &merge.registry, err);
    status = status ? status : take_adapters(&merge, err);
    status = status ? status : hs_model_choose(args, NULL, &merge.registry, &merge.model, err);
    if (status != HS_OK) {
        return status;
    }
    if (merge.model.note[0] != '\0') {
        hs_err_info(args->io, "%s", merge.model.note);
    }
    return into != NULL ? merge_to_model(&merge, into, err) : merge_to_adapter(&merge, err);
}
