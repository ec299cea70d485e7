/*
 * params.h - from settings to the parameters that the engine takes.
 *
 * Owner:   hs_load_settings owns its strings; hs_generate_params borrow from the settings, until
 * these change or are freed. Threads: none.
 */
#ifndef API_PARAMS_H
#define API_PARAMS_H

#include "base/config.h"

struct hs_load_settings {
    struct hs_model_params model; /* borrows the strings below */
    char *devices, *rpc_servers, *chat_template;
};

/* Errors: those of reading --chat-template-file (HS_LIMIT above 1 MiB), HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_load_settings_fill(const struct hs_config *config,
                                           struct hs_load_settings *ret, struct hs_error *err);
void hs_load_settings_free(struct hs_load_settings *settings);

/* `saved` (may be NULL), the parameters a session was used with, stands in for sampling settings
 * that nobody gave. Lengths, stop strings and reasoning belong to a call and come from the settings
 * alone. The result borrows from `saved` too. */
void hs_generate_params_fill(const struct hs_config *config, const struct hs_generate_params *saved,
                             struct hs_generate_params *ret_params);
enum hs_overflow hs_config_overflow(const struct hs_config *config);

#endif
