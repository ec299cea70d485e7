/*
 * api/sql_host.h - what SQL may ask of the program that it lives in: functions and views use this
 * and nothing else of it.
 *
 * Owner:   the program; everything here outlives the database.
 * Threads: functions of any number of threads call at once.
 */
#ifndef API_SQL_HOST_H
#define API_SQL_HOST_H

#include "hyprstream.h"
#include "storage/registry.h"

struct hs_sql_host {
    void *user; /* handed to the functions below */
    hs_engine *engine;
    const struct hs_generate_params *defaults; /* the program's settings for answers */
    /*
     * The model that a name means, as in a request over HTTP; NULL or "": the default one. May
     * load it. Errors: HS_NOT_FOUND, those of loading.
     */
    hs_status (*find_model)(void *user, const char *name, char ret_id[HS_ID_MAX],
                            struct hs_error *err);
    /*
     * Load the model, if it is not, and keep it until release_model. NULL: loaded models stay.
     * Errors: those of loading; HS_BUSY when it took too long to get it.
     */
    hs_status (*hold_model)(void *user, const char *model_id, void **ret_hold,
                            struct hs_error *err);
    void (*release_model)(void *user, void *hold);
    /*
     * See to it that the engine knows an adapter of this name for the model: it may be new in the
     * registry. NULL: the engine knows all. Errors: HS_NOT_FOUND, HS_MISMATCH, those of
     * registering.
     */
    hs_status (*find_adapter)(void *user, const char *model_id, const char *name,
                              struct hs_error *err);
    /*
     * Choose adapters for a text as "lora": "auto" does in a request, of those that the registry
     * has now. NULL: of those that the engine knows, without rules. Errors: those of
     * hs_engine_route.
     */
    hs_status (*route)(void *user, const char *model_id, const char *text,
                       struct hs_route *ret_route, struct hs_error *err);
    /*
     * Open a named session of the model, or borrow it when it is open already; close_session gives
     * it back. Errors: HS_BUSY (somebody else has it open), those of hs_engine_create_session.
     */
    hs_status (*open_session)(void *user, const char *name, const char *model_id,
                              char ret_session_id[HS_ID_MAX], struct hs_error *err);
    hs_status (*close_session)(void *user, const char *session_id, struct hs_error *err);
    /* Ids of the loaded models: writes the first `max`, returns how many there are. */
    size_t (*list_models)(void *user, char (*ret_ids)[HS_ID_MAX], size_t max);
    hs_registry *registry;    /* NULL: there is none, its views are empty */
    const char *sessions_dir; /* NULL: none */
};

#endif
