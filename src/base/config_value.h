/*
 * config_value.h - inside base/config: one setting's text turned into its value.
 *
 * Threads: no state.
 * Errors:  HS_INVALID_ARGUMENT "<origin>: setting '<name>' ..." with value and range.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "base/config.h"

/* One value on its way into a config. */
struct config_input {
    enum hs_config_id id;
    enum hs_config_source source;
    const char *origin;
    const char *text;         /* as given */
    const char *const *items; /* LIST: its items; NULL: text is split at commas */
    size_t n_items;
};

/*
 * Parse and store, unless a higher source has set the value already. An empty STRING, PATH or LIST
 * unsets; a flag's LIST items join those of earlier flags. On failure the config is unchanged.
 */
HS_CHECKED hs_status config_value_set(struct hs_config *config, const struct config_input *input,
                                      struct hs_error *err);
void config_value_free(struct hs_config_value *value);

#endif
