/*
 * ipc_write.h - results in Arrow's IPC format, as messages of Flight: headers are made here, bodies
 * are the buffers of the arrays as they are.
 *
 * Arrays are collected and leave as record batches; several small arrays become one batch, a large
 * one several, so that none has more than HS_IPC_BODY_MAX bytes (clients in Go refuse messages of
 * more than 4 MiB) unless one row alone is larger.
 *
 * Errors:  HS_NOT_SUPPORTED (dictionaries, views), HS_OUT_OF_MEMORY, HS_INTERNAL (an array that is
 *          not of the schema).
 * Threads: one at a time; messages may be released on any thread, at any time.
 * Source:  Apache Arrow, "Serialization and interprocess communication"; Message.fbs, Schema.fbs.
 */
#ifndef FLIGHTSQL_IPC_WRITE_H
#define FLIGHTSQL_IPC_WRITE_H

#include "api/arrow_abi.h"
#include "api/grpc.h"
#include "base/buf.h"

#define HS_IPC_BODY_MAX (3 << 20)
/* Enough for a batch. With larger ones rows have left the caches of a core before the kernel copies
 * them. */
#define HS_IPC_BODY_FULL (256 << 10)

/* The schema as a message of IPC: encapsulated with its length, or as Flight's data_header. */
HS_CHECKED hs_status hs_ipc_schema(const struct ArrowSchema *schema, bool is_encapsulated,
                                   struct hs_buf *out, struct hs_error *err);
/* The first message of a stream. */
HS_CHECKED hs_status hs_ipc_schema_message(const struct ArrowSchema *schema,
                                           struct hs_grpc_message *ret_message,
                                           struct hs_error *err);

typedef struct hs_ipc_writer hs_ipc_writer;

/* The schema is borrowed. */
HS_CHECKED hs_status hs_ipc_writer_new(const struct ArrowSchema *schema, hs_ipc_writer **ret_writer,
                                       struct hs_error *err);
/* Takes the array over, also when it fails. */
HS_CHECKED hs_status hs_ipc_writer_add(hs_ipc_writer *writer, struct ArrowArray *array,
                                       struct hs_error *err);
/* Whether what was added is enough for a batch: HS_IPC_BODY_FULL bytes, or many arrays. */
bool hs_ipc_writer_is_full(const hs_ipc_writer *writer);
int64_t hs_ipc_writer_n_rows(const hs_ipc_writer *writer);
/* The next batch as Flight's message, with at least one row; only while n_rows > 0. */
HS_CHECKED hs_status hs_ipc_writer_take(hs_ipc_writer *writer, struct hs_grpc_message *ret_message,
                                        struct hs_error *err);
void hs_ipc_writer_free(hs_ipc_writer *writer);

#endif
