/*
 * paths.h - where hyprstream keeps things.
 *
 *   HYPRSTREAM_HOME set:  config HOME/config.toml, data HOME, cache HOME/cache, history
 * HOME/history otherwise (XDG):      config $XDG_CONFIG_HOME/hyprstream/config.toml, data
 * $XDG_DATA_HOME/hyprstream, cache $XDG_CACHE_HOME/hyprstream, history
 * $XDG_STATE_HOME/hyprstream/history Below the data folder: models/, sessions/, adapters/,
 * registry.db. Empty
 * or relative variables count as unset, as the XDG Base Directory Specification 0.8 says
 * (HYPRSTREAM_HOME may be relative).
 *
 * Owner:   struct hs_paths holds its strings; hs_paths_free releases them.
 * Threads: hs_paths_load reads the environment; afterwards read-only.
 * Errors:  HS_INVALID_ARGUMENT when neither the variables nor HOME say where; HS_OUT_OF_MEMORY.
 */
#ifndef BASE_PATHS_H
#define BASE_PATHS_H

#include "hyprstream.h"

struct hs_paths {
    char *config_file;
    char *data_dir;
    char *cache_dir;
    char *history_file;
    char *models_dir;
    char *sessions_dir;
    char *adapters_dir;
    char *registry_file;
};

HS_CHECKED hs_status hs_paths_load(struct hs_paths *ret_paths, struct hs_error *err);
void hs_paths_free(struct hs_paths *paths);

#endif
