#include "sql_settings.h"

#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"

static hs_status fill_file(const struct hs_config *config, const struct hs_paths *paths,
                           struct hs_sql_settings *ret, struct hs_error *err)
{
    const char *given = hs_config_str(config, HS_CFG_SQL_FILE);
    if (given != NULL && strcmp(given, ":memory:") == 0) {
        return HS_OK;
    }
    bool is_ours = given == NULL || *given == '\0';
    ret->file = is_ours ? hs_fs_join(paths->data_dir, "tables.duckdb") : hs_strdup(given);
    ret->params.file = ret->file;
    if (ret->file == NULL) {
        return hs_error_nomem(err, "path");
    }
    return is_ours ? hs_fs_mkdir_p(paths->data_dir, err) : HS_OK;
}

hs_status hs_sql_settings_fill(const struct hs_config *config, const struct hs_paths *paths,
                               struct hs_sql_settings *ret, struct hs_error *err)
{
    const struct hs_config_value *allowed = &config->values[HS_CFG_SQL_ALLOW];
    *ret = (struct hs_sql_settings){.file = NULL};
    hs_sql_params_defaults(&ret->params);
    ret->params.allowed_dirs = (const char *const *)allowed->items;
    ret->params.n_allowed_dirs = allowed->n_items;
    ret->params.memory_bytes = (uint64_t)hs_config_float(config, HS_CFG_SQL_MEMORY);
    ret->params.n_threads = (int32_t)hs_config_int(config, HS_CFG_SQL_THREADS);
    ret->params.temp_bytes = (uint64_t)hs_config_float(config, HS_CFG_SQL_TEMP);
    hs_status status = fill_file(config, paths, ret, err);
    if (!status && ret->params.temp_bytes > 0) {
        ret->temp_dir = hs_fs_join(paths->cache_dir, "sql");
        ret->params.temp_dir = ret->temp_dir;
        status = ret->temp_dir != NULL ? hs_fs_mkdir_p(paths->cache_dir, err)
                                       : hs_error_nomem(err, "path");
    }
    if (status) {
        hs_sql_settings_free(ret);
    }
    return status;
}

void hs_sql_settings_free(struct hs_sql_settings *settings)
{
    hs_free(settings->file);
    hs_free(settings->temp_dir);
    *settings = (struct hs_sql_settings){.file = NULL};
}
