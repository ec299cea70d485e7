/* cmd_key.c - `hyprstream key create|list|revoke`: who may use the server. */
#include "api/http_keys.h"
#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"
#include "table.h"

static hs_status keys_file(const struct hs_command_args *args, char **ret_path,
                           struct hs_error *err)
{
    *ret_path = hs_asprintf("%s/%s", args->paths->data_dir, HS_KEYS_FILE);
    return *ret_path ? HS_OK : hs_error_nomem(err, "path");
}

static json_t *describe(const struct hs_http_key_info *info)
{
    json_t *object = json_object();
    hs_json_set(&object, "id", hs_json_text(info->id));
    hs_json_set(&object, "name", hs_json_text(info->name));
    hs_json_set(&object, "scopes", hs_json_text(hs_http_key_scopes_text(info->scopes)));
    hs_json_set(&object, "last4", hs_json_text(info->last4));
    hs_json_set(&object, "created_unix_ms", json_integer(info->created_unix_ms));
    return object;
}

hs_status hs_cmd_key_create(const struct hs_command_args *args, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = NULL;
    unsigned scopes = HS_KEY_INFERENCE;
    char key[HS_KEY_TEXT_MAX];
    struct hs_http_key_info info;
    hs_status status = keys_file(args, &path, err);
    if (!status && args->options[HS_OPT_SCOPES]) {
        status = hs_http_key_scopes_parse(args->options[HS_OPT_SCOPES], &scopes, err);
    }
    status = status ? status : hs_http_key_create(path, args->args[0], scopes, key, &info, err);
    if (status) {
        return status;
    }
    if (hs_config_bool(args->config, HS_CFG_JSON)) {
        json_t *object HS_CLEANUP(hs_json_freep) = describe(&info);
        hs_json_set(&object, "key", hs_json_text(key));
        return hs_json_print(args->io, object, false, err);
    }
    status = hs_out_printf(args->io, err, "%s\n", key);
    if (!status) {
        hs_err_printf(args->io, "keep it: only its hash is stored, and it is not shown again; a "
                                "running server takes it after SIGHUP\n");
    }
    return status;
}

hs_status hs_cmd_key_list(const struct hs_command_args *args, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = NULL;
    HS_CLEANUP(hs_freep) struct hs_http_key_info *infos = NULL;
    size_t n = 0;
    hs_status status = keys_file(args, &path, err);
    status = status ? status : hs_http_key_list(path, &infos, &n, err);
    if (status) {
        return status;
    }
    bool as_json = hs_config_bool(args->config, HS_CFG_JSON);
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 5, 0, "NAME ID KEY SCOPES CREATED");
    json_t *array HS_CLEANUP(hs_json_freep) = json_array();
    for (size_t i = 0; i < n; i++) {
        char time[32];
        if (as_json) {
            hs_json_append(&array, describe(&infos[i]));
            continue;
        }
        hs_table_cell(&table, "%s", infos[i].name);
        hs_table_cell(&table, "%s", infos[i].id);
        hs_table_cell(&table, "...%s", infos[i].last4);
        hs_table_cell(&table, "%s", hs_http_key_scopes_text(infos[i].scopes));
        hs_table_cell(&table, "%s", hs_format_time(infos[i].created_unix_ms, time, sizeof time));
    }
    if (as_json) {
        return hs_json_print(args->io, array, false, err);
    }
    if (n == 0) {
        hs_err_info(args->io, "no keys yet; 'hyprstream key create NAME' makes one");
        return HS_OK;
    }
    return hs_table_print(&table, args->io, err);
}

hs_status hs_cmd_key_revoke(const struct hs_command_args *args, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = NULL;
    hs_status status = keys_file(args, &path, err);
    status = status ? status : hs_http_key_revoke(path, args->args[0], err);
    if (!status) {
        hs_err_info(args->io, "revoked '%s'; a running server forgets it after SIGHUP",
                    args->args[0]);
    }
    return status;
}
