/* paths.c - the places of the XDG Base Directory Specification, or all below HYPRSTREAM_HOME. */
#include "base/paths.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"

/* $variable, or $HOME/fallback; NULL with `err` filled. */
static char *xdg_dir(const char *variable, const char *fallback, struct hs_error *err)
{
    const char *dir = getenv(variable);
    const char *home = getenv("HOME");
    char *result;
    if (dir != NULL && dir[0] == '/') {
        result = hs_fs_join(dir, "hyprstream");
    } else if (home != NULL && home[0] == '/') {
        result = hs_asprintf("%s/%s/hyprstream", home[1] == '\0' ? "" : home, fallback);
    } else {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "no place for hyprstream's files: neither HYPRSTREAM_HOME nor %s nor HOME is "
                     "set to an absolute path",
                     variable);
        hs_error_hint(err, "set HYPRSTREAM_HOME to a folder for all of hyprstream's files");
        return NULL;
    }
    if (result == NULL) {
        hs_error_nomem(err, "the paths of hyprstream's files");
    }
    return result;
}

static hs_status join_into(char **ret, const char *dir, const char *name, struct hs_error *err)
{
    *ret = hs_fs_join(dir, name);
    return *ret == NULL ? hs_error_nomem(err, "the paths of hyprstream's files") : HS_OK;
}

/* A folder from xdg_dir and one file in it. */
static hs_status xdg_file(char **ret, const char *variable, const char *fallback, const char *name,
                          struct hs_error *err)
{
    struct hs_error local = {.status = HS_OK};
    HS_CLEANUP(hs_freep) char *dir = xdg_dir(variable, fallback, &local);
    if (dir == NULL) {
        if (err != NULL) {
            *err = local;
        }
        return local.status;
    }
    return join_into(ret, dir, name, err);
}

static hs_status load_xdg(struct hs_paths *paths, struct hs_error *err)
{
    hs_status status =
        xdg_file(&paths->config_file, "XDG_CONFIG_HOME", ".config", "config.toml", err);
    if (status == HS_OK) {
        status = xdg_file(&paths->history_file, "XDG_STATE_HOME", ".local/state", "history", err);
    }
    if (status == HS_OK) {
        status = xdg_file(&paths->data_dir, "XDG_DATA_HOME", ".local/share", "", err);
    }
    if (status == HS_OK) {
        status = xdg_file(&paths->cache_dir, "XDG_CACHE_HOME", ".cache", "", err);
    }
    return status;
}

static hs_status load_home(struct hs_paths *paths, const char *home, struct hs_error *err)
{
    hs_status status = join_into(&paths->config_file, home, "config.toml", err);
    if (status == HS_OK) {
        status = join_into(&paths->data_dir, home, "", err);
    }
    if (status == HS_OK) {
        status = join_into(&paths->cache_dir, home, "cache", err);
    }
    if (status == HS_OK) {
        status = join_into(&paths->history_file, home, "history", err);
    }
    return status;
}

hs_status hs_paths_load(struct hs_paths *ret_paths, struct hs_error *err)
{
    struct hs_paths paths = {.config_file = NULL};
    const char *home = getenv("HYPRSTREAM_HOME");
    bool has_home = home != NULL && home[0] != '\0';
    hs_status status = has_home ? load_home(&paths, home, err) : load_xdg(&paths, err);
    if (status == HS_OK) {
        status = join_into(&paths.models_dir, paths.data_dir, "models", err);
    }
    if (status == HS_OK) {
        status = join_into(&paths.sessions_dir, paths.data_dir, "sessions", err);
    }
    if (status == HS_OK) {
        status = join_into(&paths.adapters_dir, paths.data_dir, "adapters", err);
    }
    if (status == HS_OK) {
        status = join_into(&paths.registry_file, paths.data_dir, "registry.db", err);
    }
    if (status != HS_OK) {
        hs_paths_free(&paths);
        return status;
    }
    *ret_paths = paths;
    return HS_OK;
}

void hs_paths_free(struct hs_paths *paths)
{
    if (paths == NULL) {
        return;
    }
    char **const all[] = {&paths->config_file,  &paths->data_dir,     &paths->cache_dir,
                          &paths->history_file, &paths->models_dir,   &paths->sessions_dir,
                          &paths->adapters_dir, &paths->registry_file};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        hs_freep(all[i]);
    }
}
