/*
 * ipc_read.h - what others send in Arrow's IPC format: the schema, then arrays, each checked in
 * full before anybody sees it (buffers, offsets, union members, UTF-8).
 *
 * Errors:  HS_INVALID_ARGUMENT (malformed, or not in this order), HS_NOT_SUPPORTED (compressed
 *          bodies, tensors), HS_LIMIT (HS_IPC_ROWS_MAX), HS_OUT_OF_MEMORY.
 * Threads: one at a time.
 */
#ifndef FLIGHTSQL_IPC_READ_H
#define FLIGHTSQL_IPC_READ_H

#include "api/arrow_abi.h"
#include "hyprstream.h"

#define HS_IPC_ROWS_MAX (1 << 26) /* of one batch: columns of nulls need no bytes for theirs */

typedef struct hs_ipc_reader hs_ipc_reader;

HS_CHECKED hs_status hs_ipc_reader_new(hs_ipc_reader **ret_reader, struct hs_error *err);
/*
 * One message: its header without the encapsulation, and its body.
 * Out: ret_array, rows to be released by the caller; its release is NULL when the message was the
 * schema or a dictionary.
 */
HS_CHECKED hs_status hs_ipc_reader_read(hs_ipc_reader *reader, const uint8_t *header,
                                        size_t header_len, const uint8_t *body, size_t body_len,
                                        struct ArrowArray *ret_array, struct hs_error *err);
/* The bytes of the body that follows a header. Errors: as above. */
HS_CHECKED hs_status hs_ipc_body_len(const uint8_t *header, size_t header_len, uint64_t *ret_len,
                                     struct hs_error *err);
/* Valid as long as the reader; NULL: none came yet. */
const struct ArrowSchema *hs_ipc_reader_schema(const hs_ipc_reader *reader);
void hs_ipc_reader_free(hs_ipc_reader *reader);

#endif
