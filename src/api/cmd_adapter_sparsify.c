/* cmd_adapter_sparsify.c - `hyprstream adapter sparsify`: keep the largest blocks of an adapter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/adapter_file.h"
#include "adapters/sparse_file.h"
#include "adapters/sparsify.h"
#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "model_ref.h"
#include "storage/adapter_store.h"

struct job {
    const char *path; /* of the adapter */
    struct hs_registry_adapter row;
    hs_lora_base *base;
    struct hs_adapter_file *file;
    hs_merge_plan *plan;
    struct hs_sparse_adapter *sparse;
};

static void free_job(struct job *job)
{
    hs_sparse_adapter_free(job->sparse);
    hs_merge_plan_free(job->plan);
    hs_adapter_file_free(job->file);
    hs_lora_base_free(job->base);
    hs_registry_adapter_free(&job->row);
}

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

/* ---- options ---- */

static hs_status read_number(const struct hs_command_args *args, enum hs_option_id id,
                             double *number, struct hs_error *err)
{
    const char *text = args->options[id];
    if (text == NULL) {
        return HS_OK;
    }
    char *end = NULL;
    *number = strtod(text, &end);
    if (strspn(text, "0123456789.eE+-") != strlen(text) || end == text || *end != '\0') {
        hs_error_set(err, HS_INVALID_ARGUMENT, "--%s '%.40s' is no number", hs_option_row(id)->name,
                     text);
        return hs_error_hint(err, "write it like 0.1");
    }
    return HS_OK;
}

static hs_status read_block(const char *text, struct hs_sparsify_params *params,
                            struct hs_error *err)
{
    int n = 0;
    if (text != NULL &&
        (sscanf(text, "%3dx%3d%n", &params->block_rows, &params->block_cols, &n) != 2 ||
         text[n] != '\0')) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "--block '%.40s' is not like 16x1", text);
        return hs_error_hint(err, "give rows and columns of a block; 1x1 keeps single values");
    }
    return HS_OK;
}

static hs_status read_type(const char *text, struct hs_sparsify_params *params,
                           struct hs_error *err)
{
    static const char *const names[] = {"f32", "f16", "bf16"};
    static const enum hs_lora_type types[] = {HS_LORA_F32, HS_LORA_F16, HS_LORA_BF16};
    for (size_t i = 0; text != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            params->type = types[i];
            return HS_OK;
        }
    }
    if (text != NULL) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "--values '%.40s' is no type of values", text);
        return hs_error_hint(err, "use f32, f16 or bf16");
    }
    return HS_OK;
}

static hs_status read_params(const struct hs_command_args *args, struct hs_sparsify_params *params,
                             struct hs_error *err)
{
    bool by_error = args->options[HS_OPT_MAX_ERROR] != NULL;
    if (by_error && args->options[HS_OPT_KEEP] != NULL) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "--keep and --max-error exclude each other");
        return hs_error_hint(err, "say how much is kept, or how much may be lost");
    }
    params->density = by_error ? 0 : params->density;
    hs_status status = read_number(args, HS_OPT_KEEP, &params->density, err);
    if (status == HS_OK && !by_error && params->density == 0) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "--keep 0 keeps nothing");
        status = hs_error_hint(err, "keep more than 0, up to 1; 0.1 is a tenth of the blocks");
    }
    status = status ? status : read_number(args, HS_OPT_MAX_ERROR, &params->max_error, err);
    status = status ? status : read_block(args->options[HS_OPT_BLOCK], params, err);
    return status ? status : read_type(args->options[HS_OPT_VALUES], params, err);
}

/* ---- work ---- */

/* The adapter of that name, or the path itself. */
static hs_status find_adapter(const struct hs_command_args *args, hs_registry *registry,
                              struct job *job, struct hs_error *err)
{
    job->path = args->args[0];
    if (strchr(job->path, '/') != NULL) {
        return HS_OK;
    }
    hs_status status = hs_registry_adapter_get(registry, job->path, &job->row, err);
    if (status == HS_OK) {
        job->path = job->row.path;
    } else if (status == HS_NOT_FOUND) {
        hs_error_hint(err, "'hyprstream adapter list' lists them; a path has a '/': ./%.100s",
                      job->path);
    }
    return status;
}

static hs_status load(const struct hs_command_args *args, struct job *job, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_model_choice model HS_CLEANUP(hs_model_choice_free) = {0};
    hs_status status = hs_registry_need(args->paths, &registry, err);
    status = status ? status : find_adapter(args, registry, job, err);
    status = status ? status : hs_model_choose(args, NULL, &registry, &model, err);
    if (!status && model.note[0]) {
        hs_err_info(args->io, "%s", model.note);
    }
    status = status ? status : hs_lora_base_open(model.path, &job->base, err);
    return status ? status : hs_adapter_file_load(job->path, job->base, &job->file, err);
}

static bool show_progress(float fraction, void *user)
{
    const struct hs_command_io *io = user;
    io->progress(io->self, "choosing blocks", fraction, NULL);
    return !io->interrupted(io->self);
}

static hs_status make_sparse(const struct hs_command_args *args, struct job *job,
                             struct hs_error *err)
{
    struct hs_sparsify_params params = HS_SPARSIFY_PARAMS_DEFAULT;
    hs_status status = read_params(args, &params, err);
    status = status ? status : load(args, job, err);
    if (status) {
        return status;
    }
    const struct hs_merge_input input = {&job->file->lora, args->args[0], 1.0};
    struct hs_merge_params merge;
    hs_merge_params_defaults(&merge);
    merge.method = HS_MERGE_TASK_ARITHMETIC;
    merge.rank = 1; /* of factors, which are not computed */
    status = hs_merge_plan_new(&input, 1, &merge, &job->plan, err);
    if (!status) {
        status = hs_sparse_application(job->plan, &params, show_progress, (void *)args->io,
                                       &job->sparse, err);
        args->io->progress(args->io->self, "", -1, NULL);
    }
    return status ? status
                  : hs_sparse_file_write(args->args[1], &job->sparse->lora,
                                         hs_lora_base_architecture(job->base),
                                         hs_lora_base_fingerprint(job->base), err);
}

/* ---- report ---- */

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static json_t *report_json(const struct hs_sparsify_report *report)
{
    json_t *object = json_object();
    hs_json_set(&object, "n_blocks", json_integer(report->n_blocks));
    hs_json_set(&object, "n_kept", json_integer(report->n_kept));
    hs_json_set(&object, "norm", json_real(report->norm));
    hs_json_set(&object, "relative_error", json_real(share(report->error, report->norm)));
    hs_json_set(&object, "bytes", json_integer((json_int_t)report->n_bytes));
    return object;
}

static hs_status print_json(const struct hs_command_args *args, const struct job *job,
                            struct hs_error *err)
{
    json_t *object HS_CLEANUP(hs_json_freep) = report_json(&job->sparse->total);
    json_t *targets = json_array();
    for (int32_t i = 0; i < job->sparse->lora.n_targets; i++) {
        json_t *target = report_json(&job->sparse->reports[i]);
        hs_json_set(&target, "tensor", hs_json_text(job->sparse->lora.targets[i].tensor));
        hs_json_append(&targets, target);
    }
    hs_json_set(&object, "path", hs_json_text(args->args[1]));
    hs_json_set(&object, "bytes_before", json_integer((json_int_t)job->file->size_bytes));
    hs_json_set(&object, "targets", targets);
    return hs_json_print(args->io, object, false, err);
}

static hs_status print_text(const struct hs_command_args *args, const struct job *job,
                            struct hs_error *err)
{
    const struct hs_sparsify_report *total = &job->sparse->total;
    const struct hs_sparsify_report *worst = &job->sparse->reports[0];
    const char *worst_tensor = job->sparse->lora.targets[0].tensor;
    for (int32_t i = 1; i < job->sparse->lora.n_targets; i++) {
        const struct hs_sparsify_report *report = &job->sparse->reports[i];
        if (share(report->error, report->norm) > share(worst->error, worst->norm)) {
            worst = report;
            worst_tensor = job->sparse->lora.targets[i].tensor;
        }
    }
    char before[32], after[32];
    return hs_out_printf(
        args->io, err,
        "%s: %.2f %% of the blocks kept, %.2f %% of the norm lost (%s: %.2f %%), %s; the adapter "
        "has %s\n",
        args->args[1], 100 * share((double)total->n_kept, (double)total->n_blocks),
        100 * share(total->error, total->norm), worst_tensor,
        100 * share(worst->error, worst->norm),
        hs_format_bytes(total->n_bytes, after, sizeof after),
        hs_format_bytes(job->file->size_bytes, before, sizeof before));
}

hs_status hs_cmd_adapter_sparsify(const struct hs_command_args *args, struct hs_error *err)
{
    struct job job HS_CLEANUP(free_job) = {0};
    hs_status status = make_sparse(args, &job, err);
    if (status) {
        return status;
    }
    return hs_config_bool(args->config, HS_CFG_JSON) ? print_json(args, &job, err)
                                                     : print_text(args, &job, err);
}
