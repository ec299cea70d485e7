/*
 * adapter_table.h - the adapters of a server: what the registry says, brought into the engine, and
 * what only a server knows of them: their number and their scale for requests that name none.
 *
 * Every adapter of the registry that was checked against a model of this server is registered in
 * the engine under its name; it is read when it is used first. The registry is looked at again when
 * a name is not known and otherwise at most once a second, so that what another process adds,
 * replaces or removes counts without a restart. Adapters that came by path alone (serve --adapter,
 * vLLM's endpoint) are in the engine only.
 *
 * Owner:   hs_adapter_table_free; registry, engine and models are the caller's.
 * Threads: any. One at a time reads the registry and loads what was replaced; requests that name
 *          adapters known here do not wait for it.
 */
#ifndef API_ADAPTER_TABLE_H
#define API_ADAPTER_TABLE_H

#include "hyprstream.h"
#include "storage/adapter_store.h"

typedef struct hs_adapter_table hs_adapter_table;

/* A model that adapters can be for. */
struct hs_served_id {
    char id[HS_ID_MAX];
    char fingerprint[65];
};

/* registry NULL: there is none. models[n_models]: those that are loaded. */
HS_CHECKED hs_status hs_adapter_table_new(hs_engine *engine, hs_registry *registry,
                                          const struct hs_model_info *models, size_t n_models,
                                          hs_adapter_table **ret_table, struct hs_error *err);
/* The models that are loaded now: adapters of new ones come into the engine, and those of others
 * have left it with their model. Without memory the old list stays, which is logged. */
void hs_adapter_table_set_models(hs_adapter_table *table, const struct hs_served_id *models,
                                 size_t n);
void hs_adapter_table_free(hs_adapter_table *table);
hs_registry *hs_adapter_table_registry(const hs_adapter_table *table);

/* Bring the engine to what the registry says; not `now`: at most once a second. What fails is told
 * in the log and tried again. */
void hs_adapter_table_sync(hs_adapter_table *table, bool now);
/* This process has changed the registry: as sync, and whatever its stamp says. */
void hs_adapter_table_changed(hs_adapter_table *table);
/* What the engine knows of a name, after a look into the registry when it knows nothing.
 * HS_NOT_FOUND. */
HS_CHECKED hs_status hs_adapter_table_find(hs_adapter_table *table, const char *name,
                                           struct hs_adapter_info *ret_info, struct hs_error *err);
/*
 * Register the adapter at `path`, in the engine only, for the first model that it fits, and load
 * it; `replaces`: in place of one of that name, if there is one.
 * Errors: HS_ALREADY_EXISTS, HS_INVALID_ARGUMENT (also the name of a model), those of
 * hs_engine_load_adapter.
 */
HS_CHECKED hs_status hs_adapter_table_add(hs_adapter_table *table, const char *name,
                                          const char *path, bool replaces, struct hs_error *err);
/* Take an adapter out of the engine; the registry keeps it. HS_NOT_FOUND. */
HS_CHECKED hs_status hs_adapter_table_drop(hs_adapter_table *table, const char *name,
                                           struct hs_error *err);
/* Add what requests used since the last call to the registry's counters. */
void hs_adapter_table_save_counts(hs_adapter_table *table);

/* ---- llama-server's numbers and scales ---- */

/* One adapter by its number, which it keeps as long as the server runs. */
struct hs_adapter_number {
    char name[HS_ADAPTER_NAME_SIZE];
    float scale; /* for requests that name no adapters; 0: not applied to them */
};
/* false: there is no adapter of that number. */
bool hs_adapter_table_number(hs_adapter_table *table, size_t number, struct hs_adapter_number *ret);
/* One more than the highest number. */
size_t hs_adapter_table_count(hs_adapter_table *table);
/* scales[n] by number: set those, and all others to 0. n at most hs_adapter_table_count. */
void hs_adapter_table_set_scales(hs_adapter_table *table, const float *scales, size_t n);

#endif
