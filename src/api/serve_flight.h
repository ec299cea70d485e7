/*
 * serve_flight.h - the Flight SQL part of `hyprstream serve`: its gRPC server over the server's
 * SQL.
 *
 * Owner:   hs_serve_flight_free, before the SQL service and the keys.
 * Threads: the main one.
 */
#ifndef API_SERVE_FLIGHT_H
#define API_SERVE_FLIGHT_H

#include "api/command.h"
#include "api/http_keys.h"

struct hs_sql_service;
typedef struct hs_serve_flight hs_serve_flight;

/*
 * Out: NULL without --flight-port. Errors: those of opening the tables and of listening;
 * HS_NOT_SUPPORTED in a program that was built without SQL.
 */
HS_CHECKED hs_status hs_serve_flight_start(const struct hs_command_args *args,
                                           struct hs_sql_service *service, hs_http_keys *keys,
                                           hs_serve_flight **ret_flight, struct hs_error *err);
int hs_serve_flight_port(const hs_serve_flight *flight);
/* Let calls end for drain_ms, then end them; NULL is allowed. */
hs_status hs_serve_flight_stop(hs_serve_flight *flight, int64_t drain_ms, struct hs_error *err);
void hs_serve_flight_free(hs_serve_flight *flight); /* NULL is allowed */

#endif
