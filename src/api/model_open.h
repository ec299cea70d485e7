/*
 * model_open.h - the one model of a command that asks the engine itself: chosen, loaded with its
 * progress shown, stopped when the user interrupts.
 *
 * Threads: none.
 */
#ifndef API_MODEL_OPEN_H
#define API_MODEL_OPEN_H

#include "model_ref.h"

/*
 * In:     *registry as hs_model_choose; params as they are to be, but for progress.
 * Errors: those of hs_model_choose and hs_engine_load_model.
 */
HS_CHECKED hs_status hs_model_open(const struct hs_command_args *args, hs_registry **registry,
                                   hs_engine *engine, const struct hs_model_params *params,
                                   char ret_model_id[HS_ID_MAX], struct hs_error *err);

/* The same for a model that is chosen, under this id. */
HS_CHECKED hs_status hs_model_open_as(const struct hs_command_args *args,
                                      const struct hs_model_choice *choice, const char *id,
                                      hs_engine *engine, const struct hs_model_params *params,
                                      char ret_model_id[HS_ID_MAX], struct hs_error *err);

#endif
