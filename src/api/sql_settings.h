/*
 * sql_settings.h - from settings to the parameters of the SQL engine.
 *
 * Owner:   hs_sql_settings_free releases the strings that params borrows.
 * Threads: none.
 */
#ifndef API_SQL_SETTINGS_H
#define API_SQL_SETTINGS_H

#include "api/command.h"
#include "api/sql.h"

struct hs_sql_settings {
    struct hs_sql_params params; /* its host is left to the caller */
    char *file, *temp_dir;
};

/* Makes the folders that the tables and what exceeds the memory need. HS_IO and the like. */
HS_CHECKED hs_status hs_sql_settings_fill(const struct hs_config *config,
                                          const struct hs_paths *paths, struct hs_sql_settings *ret,
                                          struct hs_error *err);
void hs_sql_settings_free(struct hs_sql_settings *settings);

#endif
