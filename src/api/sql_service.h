/*
 * sql_service.h - the SQL of a server: one database over its models and adapters for Flight SQL and
 * for /api/v1/sql, opened when the first of them asks for it.
 *
 * Owner:   hs_sql_service_free, after both servers were freed, before the engine and the registry.
 * Threads: any, but making and freeing it.
 */
#ifndef API_SQL_SERVICE_H
#define API_SQL_SERVICE_H

#include "api/command.h"
#include "api/sql.h"
#include "rest/rest.h"
#include "sql_sessions.h"

typedef struct hs_sql_service hs_sql_service;

/* Everything given is borrowed. */
HS_CHECKED hs_status hs_sql_service_new(const struct hs_config *config,
                                        const struct hs_paths *paths, const struct hs_rest *rest,
                                        hs_registry *registry, hs_sql_service **ret_service,
                                        struct hs_error *err);
/* Waits for statements that were entered. NULL is allowed. */
void hs_sql_service_free(hs_sql_service *service);
/* The database, which is the service's. Errors: those of hs_sql_settings_fill and
 * hs_sql_open; the next call tries again. */
HS_CHECKED hs_status hs_sql_service_open(hs_sql_service *service, hs_sql **ret_sql,
                                         struct hs_error *err);
/* Sessions of /api/v1/sql, which are the service's. */
hs_sql_sessions *hs_sql_service_sessions(hs_sql_service *service);
/* Whether SQL may be asked for over HTTP. */
HS_CHECKED hs_status hs_sql_service_check(const hs_sql_service *service, struct hs_error *err);
/* As hs_sql_list; none before it was opened. */
size_t hs_sql_service_list(hs_sql_service *service, struct hs_sql_running *ret_items, size_t max);
/* One more statement of HTTP runs, until hs_sql_service_leave. HS_QUEUE_FULL: as many run as may;
 * HS_NOT_FOUND: none may. */
HS_CHECKED hs_status hs_sql_service_enter(hs_sql_service *service, struct hs_error *err);
void hs_sql_service_leave(hs_sql_service *service);

#endif
