/*
 * auth.h - who calls: API keys, logins, and the session that a call belongs to.
 *
 * Threads: any.
 * Source:  RFC 7617 (Basic), RFC 6750 (Bearer), RFC 6265 (cookies).
 */
#ifndef FLIGHTSQL_AUTH_H
#define FLIGHTSQL_AUTH_H

#include "session.h"

/* The session of a call, to be left; or the call's status, UNAUTHENTICATED mostly. */
enum hs_grpc_code hs_flight_auth_enter(hs_flight *flight, hs_grpc_call *call,
                                       struct hs_flight_session **ret_session);
/* The handler of Handshake: a name and a key for the token of a new session. */
enum hs_grpc_code hs_flight_handshake(hs_grpc_call *call, void *user);

#endif
