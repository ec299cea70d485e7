/*
 * message.h - protobuf in and out of calls, and errors as their status.
 *
 * Threads: those of the call.
 */
#ifndef FLIGHTSQL_MESSAGE_H
#define FLIGHTSQL_MESSAGE_H

#include <protobuf-c/protobuf-c.h>

#include "api/grpc.h"
#include "base/buf.h"

/* What clients call the messages inside of an Any. */
#define HS_FLIGHT_TYPE_PREFIX "type.googleapis.com/arrow.flight.protocol.sql."

extern ProtobufCAllocator hs_flight_allocator;

/* NULL: malformed, a text that is not UTF-8 or has a NUL, or no memory; freed with
 * hs_flight_message_free. */
void *hs_flight_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len);
void hs_flight_message_free(void *message);
/* For HS_CLEANUP: of a pointer to a message. */
void hs_flight_message_freep(void *pointer);

HS_CHECKED hs_status hs_flight_pack(const ProtobufCMessage *message, struct hs_buf *out,
                                    struct hs_error *err);
/* Inside of an Any of that name. */
HS_CHECKED hs_status hs_flight_pack_any(const char *name, const ProtobufCMessage *message,
                                        struct hs_buf *out, struct hs_error *err);

/* Send one message; an error when the call is over. */
enum hs_grpc_code hs_flight_send(hs_grpc_call *call, const ProtobufCMessage *message);
/* Inside of a Result, and of an Any unless name is NULL. */
enum hs_grpc_code hs_flight_send_result(hs_grpc_call *call, const char *name,
                                        const ProtobufCMessage *message);

/* The call's status for an error, with message and hint. */
enum hs_grpc_code hs_flight_fail(hs_grpc_call *call, const struct hs_error *err);

#define HS_FLIGHT_BYTES_MAX ((size_t)64 << 20)

#endif
