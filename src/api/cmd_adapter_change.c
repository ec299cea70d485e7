/* cmd_adapter_change.c - `hyprstream adapter rm|rename|tag`: changes that read no weights. */
#include <string.h>

#include "adapter_add.h"
#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "model_ref.h"

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

static hs_status print_row(const struct hs_command_args *args, hs_registry *registry,
                           const char *name, const char *what, struct hs_error *err)
{
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    hs_status status = hs_registry_adapter_get(registry, name, &row, err);
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = hs_adapter_row_json(&row, true);
        return hs_json_print(args->io, object, false, err);
    }
    return hs_out_printf(args->io, err, "%s %s\n", what, name);
}

/* ---- rm ---- */

static hs_status may_remove(const struct hs_command_args *args,
                            const struct hs_registry_adapter *row, size_t n_versions, bool *ret_yes,
                            struct hs_error *err)
{
    const char *what = row->is_linked ? "; its linked file stays" : " and its files";
    *ret_yes = args->options[HS_OPT_FORCE] != NULL;
    if (*ret_yes) {
        return HS_OK;
    }
    if (!args->io->in_is_terminal) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "adapter '%s' (%zu version%s)%s would be removed",
                     row->name, n_versions, n_versions == 1 ? "" : "s", what);
        return hs_error_hint(err, "say --force to remove it without a question");
    }
    HS_CLEANUP(hs_freep)
    char *question = hs_asprintf("Remove adapter '%s' (%zu version%s)%s?", row->name, n_versions,
                                 n_versions == 1 ? "" : "s", what);
    return question ? args->io->confirm(args->io->self, question, ret_yes, err)
                    : hs_error_nomem(err, "question");
}

hs_status hs_cmd_adapter_rm(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_registry_adapter *rows = NULL;
    size_t n = 0;
    bool yes = false;
    const char *name = args->args[0];
    hs_status status = hs_registry_need(args->paths, &registry, err);
    status = status ? status : hs_registry_adapter_history(registry, name, &rows, &n, err);
    status = status ? status : may_remove(args, &rows[0], n, &yes, err);
    hs_registry_adapters_free(rows, n);
    if (!status && !yes) {
        hs_err_printf(args->io, "nothing was removed\n");
        return HS_OK;
    }
    status = status ? status : hs_registry_adapter_remove(registry, name, err);
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = json_object();
        hs_json_set(&object, "removed", hs_json_text(name));
        hs_json_set(&object, "versions", json_integer((json_int_t)n));
        return hs_json_print(args->io, object, false, err);
    }
    return hs_out_printf(args->io, err, "removed adapter %s\n", name);
}

/* ---- rename, tag ---- */

hs_status hs_cmd_adapter_rename(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_registry_model model = {0};
    const char *name = args->args[1];
    hs_status status = hs_registry_need(args->paths, &registry, err);
    if (status) {
        return status;
    }
    status = hs_registry_model_get(registry, name, &model, err);
    hs_registry_model_free(&model);
    if (!status) {
        hs_error_set(err, HS_ALREADY_EXISTS, "there is a model called '%s'", name);
        return hs_error_hint(err, "requests name models and adapters alike: choose another name");
    }
    status = status == HS_NOT_FOUND ? hs_registry_adapter_rename(registry, args->args[0], name, err)
                                    : status;
    return status ? status : print_row(args, registry, name, "it is called", err);
}

/* The words behind the name as a JSON array; "-" alone: none. NULL without memory. */
static char *tags_of(const struct hs_command_args *args)
{
    json_t *list HS_CLEANUP(hs_json_freep) = json_array();
    bool is_none = args->n_args == 2 && strcmp(args->args[1], "-") == 0;
    for (int i = 1; i < args->n_args && !is_none; i++) {
        hs_json_append(&list, hs_json_text(args->args[i]));
    }
    return list == NULL ? NULL : json_dumps(list, JSON_COMPACT);
}

hs_status hs_cmd_adapter_tag(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    const char *description = args->options[HS_OPT_DESCRIPTION];
    const char *lines = args->options[HS_OPT_EXAMPLE];
    if (args->n_args == 1 && !description && !lines) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "'adapter tag' changes nothing without tags");
        return hs_error_hint(err, "name the tags ('-': none), or give --description or --example");
    }
    HS_CLEANUP(hs_freep) char *tags = args->n_args > 1 ? tags_of(args) : NULL;
    HS_CLEANUP(hs_freep) char *examples = lines ? hs_adapter_lines_json(lines) : NULL;
    if ((args->n_args > 1 && !tags) || (lines && !examples)) {
        return hs_error_nomem(err, "tags of an adapter");
    }
    hs_status status = hs_registry_need(args->paths, &registry, err);
    status = status ? status
                    : hs_registry_adapter_describe(registry, args->args[0], description, tags,
                                                   examples, err);
    return status ? status : print_row(args, registry, args->args[0], "changed", err);
}
