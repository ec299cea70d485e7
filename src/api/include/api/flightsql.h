/*
 * api/flightsql.h - Arrow Flight SQL: the SQL engine behind a gRPC server, for JDBC, ADBC, pyarrow
 * and others.
 *
 * Each login has a session with connections of its own (src/api/flightsql/README.md). Without API
 * keys everybody may connect, as over HTTP; with them a key is the password of a login, or the
 * bearer token of every call.
 *
 * Threads: a server may be used from any.
 */
#ifndef API_FLIGHTSQL_H
#define API_FLIGHTSQL_H

#include "api/grpc.h"
#include "api/http_keys.h"
#include "api/sql.h"

typedef struct hs_flight hs_flight;

struct hs_flight_config {
    hs_sql *sql;                /* outlives the server */
    hs_http_keys *keys;         /* likewise; NULL: none */
    struct hs_grpc_config grpc; /* methods and user are set here */
    int max_sessions;           /* one more login is refused */
    int max_handles;            /* open statements and transactions of a session */
    int64_t session_idle_ms;    /* a session without calls for so long ends */
};
void hs_flight_config_defaults(struct hs_flight_config *ret_config);

/* Errors: those of hs_grpc_server_start. */
HS_CHECKED hs_status hs_flight_start(const struct hs_flight_config *config, hs_flight **ret_flight,
                                     struct hs_error *err);
hs_grpc_server *hs_flight_server(hs_flight *flight); /* for its port and figures */
/* Let calls end for drain_ms, then interrupt them. Errors: those of hs_grpc_server_stop. */
hs_status hs_flight_stop(hs_flight *flight, int64_t drain_ms, struct hs_error *err);
void hs_flight_free(hs_flight *flight); /* before its hs_sql is closed */

#endif
