/*
 * call_test.h - calls of Flight SQL without a transport (fake_grpc.h): what goes in, what came out,
 * and a server over a database in memory with a table t (n INT) of one row.
 *
 * A failure of what a test did not ask about ends the test. Nothing here uses base/mem.h, which may
 * be failing.
 */
#ifndef TESTS_FLIGHTSQL_CALL_TEST_H
#define TESTS_FLIGHTSQL_CALL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "command.h"
#include "fake_grpc.h"

#define BYTES_MAX 4096
#define MESSAGES_MAX 8

struct bytes {
    uint8_t data[BYTES_MAX];
    size_t len;
};

struct flight_call {
    hs_grpc_call grpc; /* whose it is: authorization, cookie, connection; `watched` */
    struct bytes in[MESSAGES_MAX], out[MESSAGES_MAX];
    size_t n_in, n_read, n_out; /* those that came, also those not kept */
};

extern hs_sql *flight_sql;
extern hs_flight *flight;

/* keys NULL: none are needed. */
void flight_open(const char *keys_file);
void flight_close(void);
/* What a query gives, as one number. */
int64_t flight_number(const char *sql);

/* ---- messages ---- */

void flight_pack(const ProtobufCMessage *message, struct bytes *out);
void flight_pack_any(const char *name, const ProtobufCMessage *message, struct bytes *out);
/* Append a message to what goes in. */
void flight_put(struct flight_call *call, const ProtobufCMessage *message);

/* ---- calls: each clears what was in the call before but whose it is ---- */

enum hs_grpc_code flight_run(struct flight_call *call, const char *method);
/* GetFlightInfo of a statement; id: a transaction's, or NULL. The ticket may be NULL. */
enum hs_grpc_code flight_info(struct flight_call *call, const char *sql, const struct bytes *id,
                              struct bytes *ret_ticket);
enum hs_grpc_code flight_get(struct flight_call *call, const struct bytes *ticket);
enum hs_grpc_code flight_update(struct flight_call *call, const char *sql, const struct bytes *id);
enum hs_grpc_code flight_prepare(struct flight_call *call, const char *sql, const struct bytes *id,
                                 struct bytes *ret_handle);
enum hs_grpc_code flight_close_prepared(struct flight_call *call, const struct bytes *handle);
/* DoGet, or DoPut as an update. */
enum hs_grpc_code flight_get_prepared(struct flight_call *call, const struct bytes *handle);
enum hs_grpc_code flight_put_prepared(struct flight_call *call, const struct bytes *handle);
enum hs_grpc_code flight_begin(struct flight_call *call, struct bytes *ret_id);
enum hs_grpc_code flight_end(struct flight_call *call, const struct bytes *id, bool commits);
/* *ret_status: a Fl__CancelStatus. */
enum hs_grpc_code flight_cancel(struct flight_call *call, const struct bytes *ticket,
                                int *ret_status);
enum hs_grpc_code flight_cancel_query(struct flight_call *call, const struct bytes *ticket,
                                      int *ret_status);
enum hs_grpc_code flight_action(struct flight_call *call, const char *type);
/* The ticket of a prepared statement. */
void flight_ticket(const struct bytes *handle, struct bytes *ret_ticket);
/* Set an option of the session. */
enum hs_grpc_code flight_set_option(struct flight_call *call, const char *key, const char *value);

#endif
