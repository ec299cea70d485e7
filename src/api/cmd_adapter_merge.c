/* cmd_adapter_merge.c - `hyprstream adapter merge`: several adapters become one, or go into a
 * model. */
#include <math.h>
#include <string.h>

#include "adapter_merge.h"
#include "adapters/adapter_ref.h"
#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "model_ref.h"

/* What the command was asked for. */
struct merge {
    const struct hs_command_args *args;
    hs_registry *registry;
    struct hs_model_choice model;
    char model_id[HS_ID_MAX];
    struct hs_adapter_merge job;
};

static void merge_clear(struct merge *merge)
{
    hs_adapter_merge_clear(&merge->job);
    hs_model_choice_free(&merge->model);
    hs_registry_close(merge->registry);
}

static void fused_free(hs_fused_weights **fused)
{
    hs_fused_weights_free(*fused);
}

/* ---- parameters ---- */

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
    const char *params = hs_merge_method_params(merge->job.params.method);
    if (text == NULL) {
        return HS_OK;
    }
    if (!hs_command_list_has(params, name)) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "%s does not take --%s",
                     hs_merge_method_name(merge->job.params.method), name);
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
    merge->job.params.majority_sign = (enum hs_merge_sign)i_sign;
    merge->job.params.svd = (enum hs_merge_svd)i_svd;
    return HS_OK;
}

static hs_status take_seed(struct merge *merge, struct hs_error *err)
{
    int64_t seed = hs_config_int(merge->args->config, HS_CFG_SEED);
    merge->job.params.seed = (uint64_t)seed;
    return seed < 0 ? hs_adapter_merge_draw_seed(&merge->job.params, err) : HS_OK;
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
    struct hs_merge_params *params = &merge->job.params;
    double rank = 0;
    hs_merge_params_defaults(params);
    params->n_threads = (int32_t)hs_config_int(args->config, HS_CFG_THREADS);
    params->progress = show_progress;
    params->progress_user = (void *)args;
    hs_status status = hs_adapter_merge_method(args->args[0], &params->method, err);
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

static hs_status take_adapters(struct merge *merge, struct hs_error *err)
{
    const struct hs_config_value *given = &merge->args->config->values[HS_CFG_ADAPTER];
    if (given->n_items == 0) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "no adapters to merge");
        hs_error_hint(err, "name them with --adapter NAME[:WEIGHT], once for each");
        return HS_INVALID_ARGUMENT;
    }
    hs_status status = HS_OK;
    for (size_t i = 0; i < given->n_items && status == HS_OK; i++) {
        HS_CLEANUP(hs_freep) char *name = NULL;
        double weight;
        status = split_weight(given->items[i], &name, &weight, err);
        status = status ? status
                        : hs_adapter_merge_source(&merge->job, merge->registry, name, weight, err);
    }
    return status;
}

/* ---- results ---- */

static hs_status print_cost(const struct merge *merge, const hs_fused_weights *fused,
                            struct hs_error *err)
{
    const struct hs_command_io *io = merge->args->io;
    struct hs_adapter_merge_cost cost;
    hs_adapter_merge_cost(fused, &cost);
    hs_status status = hs_out_printf(io, err, "%d matrices, rank %d, relative error %.3g\n",
                                     hs_fused_weights_n_targets(fused), cost.rank, cost.error);
    if (status == HS_OK && cost.largest > 0) {
        status =
            hs_out_printf(io, err, "largest error %.3g, in %s\n", cost.largest, cost.largest_name);
    }
    return status;
}

static hs_status print_result(const struct merge *merge, const hs_fused_weights *fused,
                              const char *where, struct hs_error *err)
{
    const struct hs_command_args *args = merge->args;
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = hs_adapter_merge_json(&merge->job, fused);
        hs_json_set(&object, "result", hs_json_text(where));
        return hs_json_print(args->io, object, false, err);
    }
    hs_status status =
        hs_out_printf(args->io, err, "%s of %d adapters: %s\n",
                      hs_merge_method_name(merge->job.params.method), merge->job.n_sources, where);
    if (status == HS_OK && fused != NULL) {
        status = print_cost(merge, fused, err);
    }
    if (status == HS_OK && hs_adapter_merge_has_seed(&merge->job)) {
        status =
            hs_out_printf(args->io, err, "seed %llu\n", (unsigned long long)merge->job.params.seed);
    }
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
    hs_status status = hs_merge_adapters(merge->model.path, merge->job.sources,
                                         merge->job.n_sources, &merge->job.params, &fused, err);
    args->io->progress(args->io->self, "", -1, NULL);
    if (status == HS_OK && output != NULL) {
        status = hs_fused_weights_write(fused, output, "merged", is_f16, err);
        where = hs_strdup(output);
    } else if (status == HS_OK) {
        const struct hs_adapter_merge_add add = {
            .name = args->options[HS_OPT_NAME],
            .folder = args->paths->adapters_dir,
            .is_f16 = is_f16,
            .replaces = args->options[HS_OPT_REPLACE] != NULL,
            .n_keep = hs_config_int(args->config, HS_CFG_ADAPTER_VERSIONS),
        };
        status = hs_adapter_merge_register(&merge->job, fused, merge->registry, &add, &row, err);
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
    hs_status status =
        hs_merge_into_model(merge->model.path, merge->job.sources, merge->job.n_sources,
                            &merge->job.params, path, args->options[HS_OPT_TYPE], err);
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
    hs_model_choice_id(&merge.model, merge.model_id);
    merge.job.model_path = merge.model.path;
    merge.job.model_name = merge.model_id;
    if (merge.model.note[0] != '\0') {
        hs_err_info(args->io, "%s", merge.model.note);
    }
    return into != NULL ? merge_to_model(&merge, into, err) : merge_to_adapter(&merge, err);
}
