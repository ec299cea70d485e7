/*
 * sql_local.h - the program that SQL lives in when a command runs it by itself: models are loaded
 * when a function asks for them, adapters come from the registry.
 *
 * Owner:   hs_sql_local_close, after the database.
 * Threads: the host's functions any; the rest none.
 */
#ifndef API_SQL_LOCAL_H
#define API_SQL_LOCAL_H

#include "api/command.h"
#include "api/sql_host.h"

typedef struct hs_sql_local hs_sql_local;

/* Errors: those of making an engine and of opening the registry. */
HS_CHECKED hs_status hs_sql_local_open(const struct hs_command_args *args, hs_sql_local **ret_local,
                                       struct hs_error *err);
void hs_sql_local_close(hs_sql_local *local); /* NULL is allowed */
const struct hs_sql_host *hs_sql_local_host(const hs_sql_local *local);

#endif
