/*
 * ipc_check.h - whether a message of IPC may be handed to its decoder, which takes parts for
 * granted that the format's verifier lets be absent, and whose verifier takes time exponential in
 * the depth of a damaged schema.
 *
 * In:      flatbuffer[len], a Message; any bytes, 8-byte aligned.
 * Threads: no state.
 * Source:  FlatBuffers, "Internals"; Arrow's Message.fbs and Schema.fbs.
 */
#ifndef FLIGHTSQL_IPC_CHECK_H
#define FLIGHTSQL_IPC_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HS_IPC_DEPTH_MAX 12    /* of nested types, the column's own counted */
#define HS_IPC_FIELDS_MAX 8192 /* columns and what is nested in them */

/* All parts are there, and inside the message; depth and number of fields are within the limits. */
bool hs_ipc_is_complete(const uint8_t *flatbuffer, size_t len);

#endif
