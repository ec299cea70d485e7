/* cmd_adapter.c - `hyprstream adapter add|pull|list|show|history`: the registry of adapters. */
#include <string.h>

#include "adapter_add.h"
#include "api/nearest.h"
#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "model_ref.h"
#include "table.h"

struct adapter_rows {
    struct hs_registry_adapter *rows;
    size_t n;
};

static void free_rows(struct adapter_rows *list)
{
    hs_registry_adapters_free(list->rows, list->n);
}

static void close_registry(hs_registry **registry)
{
    hs_registry_close(*registry);
}

static bool is_json(const struct hs_command_args *args)
{
    return hs_config_bool(args->config, HS_CFG_JSON);
}

/* ---- add, pull ---- */

/* Comma-separated and repeated: one a line. */
static void commas_to_lines(char *text)
{
    for (char *p = text; p != NULL && (p = strchr(p, ',')) != NULL;) {
        *p = '\n';
    }
}

static hs_status add(const struct hs_command_args *args, hs_registry *registry,
                     const struct hs_model_choice *model, struct hs_registry_adapter *ret_row,
                     struct hs_error *err)
{
    const char *tags = args->options[HS_OPT_TAG], *examples = args->options[HS_OPT_EXAMPLE];
    HS_CLEANUP(hs_freep) char *lines = hs_strdup(tags);
    commas_to_lines(lines);
    HS_CLEANUP(hs_freep) char *tags_json = lines == NULL ? NULL : hs_adapter_lines_json(lines);
    HS_CLEANUP(hs_freep)
    char *examples_json = examples == NULL ? NULL : hs_adapter_lines_json(examples);
    if ((tags != NULL && tags_json == NULL) || (examples != NULL && examples_json == NULL)) {
        return hs_error_nomem(err, "tags of an adapter");
    }
    char id[HS_ID_MAX];
    hs_model_choice_id(model, id);
    const struct hs_adapter_add how = {
        .path = args->args[0],
        .name = args->options[HS_OPT_NAME],
        .model_path = model->path,
        .model_name = id,
        .description = args->options[HS_OPT_DESCRIPTION],
        .tags = tags_json,
        .examples = examples_json,
        .is_linked = args->options[HS_OPT_LINK] != NULL,
        .replaces = args->options[HS_OPT_REPLACE] != NULL,
        .n_keep = hs_config_int(args->config, HS_CFG_ADAPTER_VERSIONS),
    };
    return hs_adapter_add(registry, &how, ret_row, err);
}

hs_status hs_cmd_adapter_add(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_model_choice model HS_CLEANUP(hs_model_choice_free) = {0};
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    hs_status status = hs_registry_need(args->paths, &registry, err);
    status = status ? status : hs_model_choose(args, NULL, &registry, &model, err);
    if (!status && model.note[0]) {
        hs_err_info(args->io, "%s", model.note);
    }
    status = status ? status : add(args, registry, &model, &row, err);
    if (status) {
        return status;
    }
    if (is_json(args)) {
        json_t *object HS_CLEANUP(hs_json_freep) = hs_adapter_row_json(&row, true);
        return hs_json_print(args->io, object, false, err);
    }
    char size[32];
    return hs_out_printf(args->io, err, "%s version %lld (for %s, rank %lld, %s)\n", row.name,
                         (long long)row.version, row.model_name, (long long)row.rank,
                         hs_format_bytes((uint64_t)row.size_bytes, size, sizeof size));
}

hs_status hs_cmd_adapter_pull(const struct hs_command_args *args, struct hs_error *err)
{
    hs_error_set(err, HS_NOT_SUPPORTED,
                 "cannot pull '%.120s': adapters of Hugging Face come with the model store, which "
                 "is not there yet",
                 args->args[0]);
    return hs_error_hint(err, "download its folder and run 'hyprstream adapter add FOLDER --name "
                              "NAME --model MODEL'");
}

/* ---- list ---- */

static hs_status print_table(const struct hs_command_io *io, const struct adapter_rows *list,
                             struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 7, 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5,
                  "NAME VERSION MODEL RANK SIZE USES USED");
    for (size_t i = 0; i < list->n; i++) {
        const struct hs_registry_adapter *row = &list->rows[i];
        char size[32], used[32];
        hs_table_cell(&table, "%s", row->name);
        hs_table_cell(&table, "%lld", (long long)row->version);
        hs_table_cell(&table, "%s", row->model_name);
        hs_table_cell(&table, "%lld", (long long)row->rank);
        hs_table_cell(&table, "%s", hs_format_bytes((uint64_t)row->size_bytes, size, sizeof size));
        hs_table_cell(&table, "%lld", (long long)row->n_uses);
        hs_format_time(row->used_unix_ms, used, sizeof used);
        hs_table_cell(&table, "%s", row->is_missing ? "file is missing" : used);
    }
    return hs_table_print(&table, io, err);
}

static hs_status print_json(const struct hs_command_io *io, const struct adapter_rows *list,
                            struct hs_error *err)
{
    json_t *array HS_CLEANUP(hs_json_freep) = json_array();
    for (size_t i = 0; i < list->n; i++) {
        hs_json_append(&array, hs_adapter_row_json(&list->rows[i], true));
    }
    return hs_json_print(io, array, false, err);
}

hs_status hs_cmd_adapter_list(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct adapter_rows list HS_CLEANUP(free_rows) = {0};
    hs_status status = hs_names_check(args, err);
    status = status ? status : hs_registry_need(args->paths, &registry, err);
    status = status ? status : hs_registry_adapter_list(registry, &list.rows, &list.n, err);
    if (status) {
        return status;
    }
    if (args->options[HS_OPT_NAMES]) {
        for (size_t i = 0; i < list.n && !status; i++) {
            status = hs_out_printf(args->io, err, "%s\n", list.rows[i].name);
        }
        return status;
    }
    if (is_json(args)) {
        return print_json(args->io, &list, err);
    }
    if (list.n == 0) {
        hs_err_info(args->io, "no adapters yet; 'hyprstream adapter add PATH' adds one");
        return HS_OK;
    }
    return print_table(args->io, &list, err);
}

/* ---- show, history ---- */

/* HS_NOT_FOUND with the nearest name. */
static hs_status suggest(hs_registry *registry, const char *name, struct hs_error *err)
{
    struct adapter_rows list HS_CLEANUP(free_rows) = {0};
    struct hs_error ignored;
    struct hs_nearest nearest = {.name = name};
    if (hs_registry_adapter_list(registry, &list.rows, &list.n, &ignored)) {
        return HS_NOT_FOUND;
    }
    for (size_t i = 0; i < list.n; i++) {
        hs_nearest_offer(&nearest, list.rows[i].name);
    }
    if (nearest.best) {
        hs_error_hint(err, "did you mean '%s'? 'hyprstream adapter list' shows all", nearest.best);
    }
    return HS_NOT_FOUND;
}

static void add_line(struct hs_table *table, const char *title, const char *text)
{
    if (text != NULL && *text != '\0') {
        hs_table_cell(table, "%s", title);
        hs_table_cell(table, "%s", text);
    }
}

/* One line for each string of a JSON array. */
static void add_list(struct hs_table *table, const char *title, const char *json)
{
    json_t *list HS_CLEANUP(hs_json_freep) = json_loads(json, 0, NULL);
    for (size_t i = 0; i < json_array_size(list); i++) {
        add_line(table, i == 0 ? title : "", json_string_value(json_array_get(list, i)));
    }
}

static hs_status print_show(const struct hs_command_io *io, const struct hs_registry_adapter *row,
                            struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    char text[64];
    hs_table_init(&table, 2, 0, NULL);
    add_line(&table, "adapter", row->name);
    hs_table_cell(&table, "version");
    hs_table_cell(&table, "%lld", (long long)row->version);
    add_line(&table, "model", row->model_name);
    add_line(&table, "architecture", row->architecture);
    hs_table_cell(&table, "rank, alpha");
    hs_table_cell(&table, "%lld, %g", (long long)row->rank, row->alpha);
    add_line(&table, "targets", row->targets);
    add_line(&table, row->is_linked ? "linked file" : "file", row->path);
    add_line(&table, "", row->is_missing ? "is missing" : NULL);
    add_line(&table, "size", hs_format_bytes((uint64_t)row->size_bytes, text, sizeof text));
    add_line(&table, "sha256", row->sha256);
    add_line(&table, "source", row->source);
    add_list(&table, "made of", row->parents);
    add_line(&table, "description", row->description);
    add_list(&table, "tags", row->tags);
    add_list(&table, "examples", row->examples);
    add_line(&table, "training", row->training);
    add_line(&table, "added", hs_format_time(row->added_unix_ms, text, sizeof text));
    add_line(&table, "updated", hs_format_time(row->updated_unix_ms, text, sizeof text));
    add_line(&table, "used", hs_format_time(row->used_unix_ms, text, sizeof text));
    hs_table_cell(&table, "uses");
    hs_table_cell(&table, "%lld, %.0f ms each", (long long)row->n_uses,
                  row->n_uses == 0 ? 0.0 : (double)row->used_ms / (double)row->n_uses);
    return hs_table_print(&table, io, err);
}

hs_status hs_cmd_adapter_show(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct hs_registry_adapter row HS_CLEANUP(hs_registry_adapter_free) = {0};
    hs_status status = hs_registry_need(args->paths, &registry, err);
    status = status ? status : hs_registry_adapter_get(registry, args->args[0], &row, err);
    if (status) {
        return status == HS_NOT_FOUND ? suggest(registry, args->args[0], err) : status;
    }
    if (is_json(args)) {
        json_t *object HS_CLEANUP(hs_json_freep) = hs_adapter_row_json(&row, true);
        return hs_json_print(args->io, object, false, err);
    }
    return print_show(args->io, &row, err);
}

static hs_status print_history(const struct hs_command_io *io, const struct adapter_rows *list,
                               struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 6, 1u << 0 | 1u << 2 | 1u << 3, "VERSION ADDED RANK SIZE SHA256 SOURCE");
    for (size_t i = 0; i < list->n; i++) {
        const struct hs_registry_adapter *row = &list->rows[i];
        char size[32], added[32];
        hs_table_cell(&table, "%lld", (long long)row->version);
        hs_table_cell(&table, "%s", hs_format_time(row->created_unix_ms, added, sizeof added));
        hs_table_cell(&table, "%lld", (long long)row->rank);
        hs_table_cell(&table, "%s", hs_format_bytes((uint64_t)row->size_bytes, size, sizeof size));
        hs_table_cell(&table, "%.12s", row->sha256);
        hs_table_cell(&table, "%s", row->source);
    }
    return hs_table_print(&table, io, err);
}

hs_status hs_cmd_adapter_history(const struct hs_command_args *args, struct hs_error *err)
{
    hs_registry *registry HS_CLEANUP(close_registry) = NULL;
    struct adapter_rows list HS_CLEANUP(free_rows) = {0};
    hs_status status = hs_registry_need(args->paths, &registry, err);
    status = status
                 ? status
                 : hs_registry_adapter_history(registry, args->args[0], &list.rows, &list.n, err);
    if (status) {
        return status == HS_NOT_FOUND ? suggest(registry, args->args[0], err) : status;
    }
    return is_json(args) ? print_json(args->io, &list, err) : print_history(args->io, &list, err);
}
