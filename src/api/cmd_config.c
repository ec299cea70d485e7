/* cmd_config.c - `hyprstream config show|path`: settings, and where things lie. */
#include <stdlib.h>

#include "api/output.h"
#include "base/error.h"
#include "json_out.h"
#include "table.h"

static const char *const source_names[] = {
    [HS_CONFIG_DEFAULT] = "default",
    [HS_CONFIG_FILE] = "file",
    [HS_CONFIG_ENV] = "environment",
    [HS_CONFIG_FLAG] = "flag",
};

/* Secrets are for the server alone. */
static const char *shown_text(const struct hs_config_row *row, const struct hs_config_value *value)
{
    bool is_secret = row == hs_config_row(HS_CFG_API_KEY);
    return is_secret && value->is_set ? "(hidden)" : value->text;
}

static json_t *value_json(const struct hs_config_row *row, const struct hs_config_value *value)
{
    if (!value->is_set) {
        return json_null();
    }
    switch (row->type) {
    case HS_CONFIG_BOOL:
        return json_boolean(value->number != 0);
    case HS_CONFIG_INT:
    case HS_CONFIG_SIZE:
        return json_integer((json_int_t)value->number);
    case HS_CONFIG_FLOAT:
        return json_real(value->number);
    case HS_CONFIG_LIST: {
        json_t *array = json_array();
        for (size_t i = 0; i < value->n_items; i++) {
            hs_json_append(&array, hs_json_text(value->items[i]));
        }
        return array;
    }
    case HS_CONFIG_STRING:
    case HS_CONFIG_PATH:
    case HS_CONFIG_ENUM:
        break;
    }
    return hs_json_text(shown_text(row, value));
}

static hs_status show_json(const struct hs_command_args *args, struct hs_error *err)
{
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
        const struct hs_config_value *value = &args->config->values[id];
        json_t *entry = json_object();
        hs_json_set(&entry, "value", value_json(row, value));
        hs_json_set(&entry, "source", json_string(source_names[value->source]));
        hs_json_set(&entry, "origin", hs_json_text(value->origin));
        hs_json_set(&object, row->name, entry);
    }
    return hs_json_print(args->io, object, false, err);
}

hs_status hs_cmd_config_show(const struct hs_command_args *args, struct hs_error *err)
{
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        return show_json(args, err);
    }
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 3, 0, "SETTING VALUE FROM");
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const struct hs_config_row *row = hs_config_row((enum hs_config_id)id);
        const struct hs_config_value *value = &args->config->values[id];
        hs_table_cell(&table, "%s", row->name);
        hs_table_cell(&table, "%s", value->is_set ? shown_text(row, value) : "-");
        hs_table_cell(&table, "%s", value->origin ? value->origin : "default");
    }
    return hs_table_print(&table, args->io, err);
}

hs_status hs_cmd_config_path(const struct hs_command_args *args, struct hs_error *err)
{
    const struct hs_paths *paths = args->paths;
    const char *flag = hs_config_str(args->config, HS_CFG_CONFIG);
    const char *chosen = flag ? flag : getenv("HYPRSTREAM_CONFIG"); /* no layer was read for us */
    const char *config_file = chosen && *chosen ? chosen : paths->config_file;
    if (!paths->data_dir) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "neither HYPRSTREAM_HOME nor HOME says where things lie");
    }
    if (!hs_config_bool(args->config, HS_CFG_JSON)) {
        return hs_out_printf(args->io, err, "%s\n", config_file);
    }
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    hs_json_set(&object, "config_file", hs_json_text(config_file));
    hs_json_set(&object, "data_dir", hs_json_text(paths->data_dir));
    hs_json_set(&object, "cache_dir", hs_json_text(paths->cache_dir));
    hs_json_set(&object, "history_file", hs_json_text(paths->history_file));
    hs_json_set(&object, "models_dir", hs_json_text(paths->models_dir));
    hs_json_set(&object, "sessions_dir", hs_json_text(paths->sessions_dir));
    hs_json_set(&object, "adapters_dir", hs_json_text(paths->adapters_dir));
    hs_json_set(&object, "registry_file", hs_json_text(paths->registry_file));
    return hs_json_print(args->io, object, false, err);
}
