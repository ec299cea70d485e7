/*
 * command.h - the commands of Flight SQL: what a descriptor or a ticket asks for.
 *
 * Threads: those of the call.
 * Source:  Arrow Flight RPC and Arrow Flight SQL, protocol definitions.
 */
#ifndef FLIGHTSQL_COMMAND_H
#define FLIGHTSQL_COMMAND_H

#include "flight.pb-c.h"
#include "flight_sql.pb-c.h"
#include "rows.h"

/* A call with its session. */
struct hs_flight_context {
    hs_flight *flight;
    hs_grpc_call *call;
    struct hs_flight_session *session;
};

/* The handlers of GetFlightInfo, GetSchema, PollFlightInfo and DoGet, and the rest below. */
enum hs_grpc_code hs_flight_get_info(hs_grpc_call *call, void *user);
enum hs_grpc_code hs_flight_get_schema(hs_grpc_call *call, void *user);
enum hs_grpc_code hs_flight_poll_info(hs_grpc_call *call, void *user);
enum hs_grpc_code hs_flight_do_get(hs_grpc_call *call, void *user);
enum hs_grpc_code hs_flight_do_put(hs_grpc_call *call, void *user);
enum hs_grpc_code hs_flight_do_action(hs_grpc_call *call, void *user);
enum hs_grpc_code hs_flight_list_actions(hs_grpc_call *call, void *user);
enum hs_grpc_code hs_flight_list_flights(hs_grpc_call *call, void *user);
enum hs_grpc_code hs_flight_do_exchange(hs_grpc_call *call, void *user);

/* ---- shared by the handlers ---- */

/* What else makes a message with texts malformed. */
#define HS_FLIGHT_OR_TEXT ", or has text that is not UTF-8 or has a NUL"

enum hs_grpc_code hs_flight_invalid(hs_grpc_call *call, const char *what);
/* The one message of a call: with its session, to be left; *ret_message is to be freed. */
enum hs_grpc_code hs_flight_begin(hs_grpc_call *call, void *user,
                                  const ProtobufCMessageDescriptor *type,
                                  struct hs_flight_context *ret_context, void *ret_message);
void hs_flight_end(struct hs_flight_context *context);
/* The command inside: its name behind the last dot (in `any`), NULL when it is none. */
const char *hs_flight_any(const ProtobufCBinaryData *data, Fl__Any **ret_any);
/* Prepare a text, in a transaction when the statement names one, and make a handle of it. */
enum hs_grpc_code hs_flight_prepare(struct hs_flight_context *context,
                                    const Fs__Statement *statement, enum hs_flight_kind kind,
                                    struct hs_flight_handle **ret_handle,
                                    struct hs_flight_lease *ret_lease);
/* Bind row `row` of the values (NULL: there are none), and execute; rows are freed before the lease
 * ends. */
HS_CHECKED hs_status hs_flight_execute(const struct hs_flight_values *values, hs_sql_stmt *stmt,
                                       int64_t row, hs_sql_result **ret_result,
                                       struct hs_error *err);
/* Likewise to its end, whatever kind it is; the changed rows are added to *total. */
HS_CHECKED hs_status hs_flight_run(const struct hs_flight_values *values, hs_sql_stmt *stmt,
                                   int64_t row, int64_t *total, struct hs_error *err);
/* Rows of a metadata command; false: there is no command of this name. A status with an error:
 * *ret_code. */
bool hs_flight_metadata(struct hs_flight_context *context, const char *name,
                        const ProtobufCBinaryData *value, hs_sql_conn *conn,
                        struct hs_flight_rows *ret_rows, enum hs_grpc_code *ret_code);
/* The rows of GetSqlInfo: of these ids, all when n is 0. */
HS_CHECKED hs_status hs_flight_sql_info(const uint32_t *ids, size_t n,
                                        struct hs_flight_rows *ret_rows, struct hs_error *err);

#endif
