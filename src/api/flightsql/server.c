/* server.c - the service's methods, and its life. */
#include <time.h>

#include "auth.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"
#include "command.h"

#define METHOD(name) "/arrow.flight.protocol.FlightService/" name

static const struct hs_grpc_method methods[] = {
    {METHOD("Handshake"), hs_flight_handshake},
    {METHOD("GetFlightInfo"), hs_flight_get_info},
    {METHOD("PollFlightInfo"), hs_flight_poll_info},
    {METHOD("GetSchema"), hs_flight_get_schema},
    {METHOD("DoGet"), hs_flight_do_get},
    {METHOD("DoPut"), hs_flight_do_put},
    {METHOD("DoAction"), hs_flight_do_action},
    {METHOD("ListActions"), hs_flight_list_actions},
    {METHOD("ListFlights"), hs_flight_list_flights},
    {METHOD("DoExchange"), hs_flight_do_exchange},
};

void hs_flight_config_defaults(struct hs_flight_config *ret_config)
{
    *ret_config = (struct hs_flight_config){
        .max_sessions = 1024, .max_handles = 1024, .session_idle_ms = INT64_C(3600000)};
    hs_grpc_config_defaults(&ret_config->grpc);
}

hs_status hs_flight_start(const struct hs_flight_config *config, hs_flight **ret_flight,
                          struct hs_error *err)
{
    hs_flight *flight = hs_calloc(1, sizeof *flight);
    if (!flight) {
        return hs_error_nomem(err, "the Flight SQL server");
    }
    flight->config = *config;
    if (pthread_mutex_init(&flight->lock, NULL) != 0 || hs_cond_init(&flight->freed) != 0 ||
        hs_cond_init(&flight->swept) != 0) {
        hs_free(flight);
        return hs_error_nomem(err, "the Flight SQL server");
    }
    flight->config.grpc.methods = methods;
    flight->config.grpc.n_methods = sizeof methods / sizeof *methods;
    flight->config.grpc.on_disconnect = hs_flight_sessions_disconnect;
    flight->config.grpc.user = flight;
    hs_status status = hs_flight_sessions_sweep(flight, err);
    status = status ? status : hs_grpc_server_start(&flight->config.grpc, &flight->server, err);
    if (status) {
        hs_flight_free(flight);
        return status;
    }
    *ret_flight = flight;
    return HS_OK;
}

hs_grpc_server *hs_flight_server(hs_flight *flight)
{
    return flight->server;
}

hs_status hs_flight_stop(hs_flight *flight, int64_t drain_ms, struct hs_error *err)
{
    return hs_grpc_server_stop(flight->server, drain_ms, err);
}

void hs_flight_free(hs_flight *flight)
{
    if (!flight) {
        return;
    }
    hs_grpc_server_free(flight->server);
    hs_flight_sessions_free(flight);
    pthread_cond_destroy(&flight->swept);
    pthread_cond_destroy(&flight->freed);
    pthread_mutex_destroy(&flight->lock);
    hs_free(flight);
}
