/* put.c - DoPut: updates, values for parameters, bulk ingestion. */
#include <nanoarrow/nanoarrow.h>
#include <string.h>

#include "auth.h"
#include "base/error.h"
#include "base/mem.h"
#include "command.h"
#include "ipc_read.h"
#include "message.h"

/* The uploaded stream. */
struct upload {
    hs_flight *flight;
    hs_grpc_call *call;
    Fl__FlightData *first; /* it may have data, too */
    hs_ipc_reader *reader;
};

/* The next rows, to be released by the caller; release NULL: there are no more. */
static hs_status next_array(struct upload *upload, struct ArrowArray *ret_array,
                            struct hs_error *err)
{
    ret_array->release = NULL;
    hs_status status = HS_OK;
    while (!status && !ret_array->release) {
        Fl__FlightData *data HS_CLEANUP(hs_flight_message_freep) = upload->first;
        upload->first = NULL;
        if (!data) {
            const uint8_t *bytes;
            size_t size;
            int got = hs_grpc_call_recv(upload->call, &bytes, &size);
            if (got == 0) {
                return HS_OK;
            }
            if (got < 0) {
                return hs_error_set(err, HS_CANCELLED, "the call is over");
            }
            data = hs_flight_unpack(&fl__flight_data__descriptor, bytes, size);
        }
        if (!data) {
            status = hs_error_set(err, HS_INVALID_ARGUMENT, "FlightData is malformed");
        } else if (data->data_header.len > 0) {
            status =
                hs_ipc_reader_read(upload->reader, data->data_header.data, data->data_header.len,
                                   data->data_body.data, data->data_body.len, ret_array, err);
        }
    }
    return status;
}

static enum hs_grpc_code send_count(hs_grpc_call *call, int64_t n)
{
    struct hs_buf bytes HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(64);
    struct hs_error err;
    Fs__DoPutUpdateResult result = FS__DO_PUT_UPDATE_RESULT__INIT;
    Fl__PutResult put = FL__PUT_RESULT__INIT;
    result.record_count = n;
    if (hs_flight_pack(&result.base, &bytes, &err)) {
        return hs_flight_fail(call, &err);
    }
    put.app_metadata.data = (uint8_t *)bytes.data;
    put.app_metadata.len = bytes.len;
    return hs_flight_send(call, &put.base);
}

/* ---- updates ---- */

static enum hs_grpc_code put_statement(struct hs_flight_context *context,
                                       const ProtobufCBinaryData *value)
{
    struct hs_flight_lease lease;
    struct hs_flight_handle *handle;
    struct hs_error err;
    int64_t n = 0;
    Fs__Statement *statement HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__statement__descriptor, value->data, value->len);
    if (!statement) {
        return hs_flight_invalid(context->call,
                                 "CommandStatementUpdate is malformed" HS_FLIGHT_OR_TEXT);
    }
    enum hs_grpc_code code =
        hs_flight_prepare(context, statement, HS_FLIGHT_STATEMENT, &handle, &lease);
    if (code) {
        return code;
    }
    hs_status status = hs_flight_run(NULL, handle->stmt, 0, &n, &err);
    hs_flight_handle_drop(context->flight, context->session, handle);
    hs_flight_handle_put(context->flight, context->session, handle);
    hs_flight_lease_end(&lease);
    return status ? hs_flight_fail(context->call, &err) : send_count(context->call, n);
}

/* Values in place of those bound before, where some came; the array is taken over. Out: ret_values:
 * to be let go. */
static hs_status bind(struct upload *upload, struct hs_flight_handle *handle,
                      struct ArrowArray *array, struct hs_flight_values **ret_values,
                      struct hs_error *err)
{
    if (!array->release) {
        *ret_values = hs_flight_handle_values(upload->flight, handle);
        return HS_OK;
    }
    hs_status status =
        hs_flight_values_new(hs_ipc_reader_schema(upload->reader), array, ret_values, err);
    if (!status) {
        hs_flight_handle_bind(upload->flight, handle, *ret_values);
    }
    return status;
}

/* Once for each row of values; without any, once with those bound before. All rows or none. */
static hs_status run_rows(struct hs_flight_handle *handle, hs_sql_stmt *stmt, hs_sql_conn *conn,
                          struct upload *upload, int64_t *total, struct hs_error *err)
{
    struct ArrowArray array;
    struct hs_error own;
    bool is_first = true;
    hs_status status = next_array(upload, &array, err);
    /* a statement without parameters runs once; and it may itself be a BEGIN */
    bool is_ours = !status && array.release && hs_sql_stmt_n_params(stmt) > 0 &&
                   hs_sql_begin(conn, &own) == HS_OK;
    while (!status && (is_first || array.release)) {
        is_first = false;
        bool has_values = array.release != NULL;
        struct hs_flight_values *values = NULL;
        status = bind(upload, handle, &array, &values, err);
        /* JDBC sends a batch without rows where there is nothing to bind */
        bool has_rows = values && hs_sql_stmt_n_params(stmt) > 0;
        int64_t n = has_rows ? values->array.length : 1;
        for (int64_t row = 0; row < n && !status; row++) {
            status = hs_flight_run(values, stmt, row, total, err);
        }
        hs_flight_values_put(values);
        array.release = NULL;
        status = !status && has_values ? next_array(upload, &array, err) : status;
    }
    if (is_ours && status) {
        (void)!hs_sql_rollback(conn, NULL);
    } else if (is_ours) {
        status = hs_sql_commit(conn, err);
    }
    return status;
}

static enum hs_grpc_code put_prepared(struct hs_flight_context *context, struct upload *upload,
                                      struct hs_flight_handle *handle)
{
    struct hs_flight_lease lease;
    struct hs_error err;
    hs_sql_stmt *stmt = NULL, *own = NULL;
    int64_t n = 0;
    hs_status status = hs_flight_lease_handle(context->flight, context->session, handle,
                                              context->call, &lease, &stmt, &own, &err);
    if (status) {
        return hs_flight_fail(context->call, &err);
    }
    status = run_rows(handle, stmt, lease.conn->sql, upload, &n, &err);
    hs_sql_stmt_free(own);
    hs_flight_lease_end(&lease);
    return status ? hs_flight_fail(context->call, &err) : send_count(context->call, n);
}

/* ---- parameters of a query ---- */

static enum hs_grpc_code put_parameters(struct hs_flight_context *context, struct upload *upload,
                                        struct hs_flight_handle *handle)
{
    struct ArrowArray array, more;
    struct hs_flight_values *values = NULL;
    struct hs_error err;
    struct hs_buf bytes HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(256);
    hs_status status = next_array(upload, &array, &err);
    if (!status && array.release) {
        status = hs_flight_values_new(hs_ipc_reader_schema(upload->reader), &array, &values, &err);
        status = status ? status : next_array(upload, &more, &err);
        if (!status && more.release) {
            more.release(&more);
            status =
                hs_error_set(&err, HS_INVALID_ARGUMENT, "parameters come in one batch for a query");
        }
    }
    hs_flight_handle_bind(upload->flight, handle, status ? NULL : values);
    hs_flight_values_put(values);
    Fs__DoPutPreparedStatementResult result = FS__DO_PUT_PREPARED_STATEMENT_RESULT__INIT;
    result.opt_handle_case =
        FS__DO_PUT_PREPARED_STATEMENT_RESULT__OPT_HANDLE_PREPARED_STATEMENT_HANDLE;
    result.prepared_statement_handle.data = handle->id;
    result.prepared_statement_handle.len = sizeof handle->id;
    status = status ? status : hs_flight_pack(&result.base, &bytes, &err);
    if (status) {
        return hs_flight_fail(context->call, &err);
    }
    Fl__PutResult put = FL__PUT_RESULT__INIT;
    put.app_metadata.data = (uint8_t *)bytes.data;
    put.app_metadata.len = bytes.len;
    return hs_flight_send(context->call, &put.base);
}

static enum hs_grpc_code put_handle(struct hs_flight_context *context, struct upload *upload,
                                    const ProtobufCBinaryData *value, bool is_update)
{
    struct hs_flight_handle *handle;
    struct hs_error err;
    Fs__Handle *message HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__handle__descriptor, value->data, value->len);
    if (!message) {
        return hs_flight_invalid(context->call, "the command is malformed");
    }
    if (hs_flight_handle_get(context->flight, context->session, HS_FLIGHT_PREPARED,
                             message->handle.data, message->handle.len, &handle, &err)) {
        return hs_flight_fail(context->call, &err);
    }
    enum hs_grpc_code code =
        is_update ? put_prepared(context, upload, handle) : put_parameters(context, upload, handle);
    hs_flight_handle_put(context->flight, context->session, handle);
    return code;
}

/* ---- bulk ingestion ---- */

static void fill_target(const Fs__CommandStatementIngest *command, struct hs_sql_target *target)
{
    const Fs__TableDefinitionOptions *options = command->table_definition_options;
    *target = (struct hs_sql_target){.catalog = command->opt_catalog_case ? command->catalog : NULL,
                                     .schema = command->opt_schema_case ? command->schema : NULL,
                                     .table = command->table,
                                     .is_temporary = command->temporary};
    if (options &&
        options->if_not_exist == FS__TABLE_DEFINITION_OPTIONS__IF_MISSING__MISSING_FAIL) {
        target->if_missing = HS_SQL_MISSING_FAIL;
    }
    if (options && options->if_exists == FS__TABLE_DEFINITION_OPTIONS__IF_EXISTS__EXISTS_APPEND) {
        target->if_exists = HS_SQL_EXISTS_APPEND;
    } else if (options &&
               options->if_exists == FS__TABLE_DEFINITION_OPTIONS__IF_EXISTS__EXISTS_REPLACE) {
        target->if_exists = HS_SQL_EXISTS_REPLACE;
    }
}

static hs_status ingest(struct upload *upload, hs_sql_conn *conn,
                        const Fs__CommandStatementIngest *command, int64_t *ret_n,
                        struct hs_error *err)
{
    struct hs_sql_target target;
    struct ArrowArray array;
    hs_sql_ingest *work = NULL;
    fill_target(command, &target);
    hs_status status = next_array(upload, &array, err);
    const struct ArrowSchema *schema = hs_ipc_reader_schema(upload->reader);
    if (!status && !schema) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "there is no data, not even a schema");
    }
    status = status ? status : hs_sql_ingest_begin(conn, &target, schema, &work, err);
    while (!status && array.release) {
        status = hs_sql_ingest_add(work, &array, err);
        array.release = NULL; /* taken over */
        status = status ? status : next_array(upload, &array, err);
    }
    if (status) {
        if (array.release) {
            array.release(&array);
        }
        hs_sql_ingest_abort(work);
        return status;
    }
    return hs_sql_ingest_end(work, ret_n, err);
}

static enum hs_grpc_code put_ingest(struct hs_flight_context *context, struct upload *upload,
                                    const ProtobufCBinaryData *value)
{
    struct hs_flight_handle *transaction = NULL;
    struct hs_flight_lease lease;
    struct hs_error err;
    int64_t n = 0;
    Fs__CommandStatementIngest *command HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__command_statement_ingest__descriptor, value->data, value->len);
    if (!command || !command->table[0]) {
        return hs_flight_invalid(context->call, "CommandStatementIngest is malformed, or names no "
                                                "table" HS_FLIGHT_OR_TEXT);
    }
    hs_status status = HS_OK;
    if (command->opt_transaction_case && command->transaction_id.len > 0) {
        status = hs_flight_handle_get(context->flight, context->session, HS_FLIGHT_TRANSACTION,
                                      command->transaction_id.data, command->transaction_id.len,
                                      &transaction, &err);
    }
    if (!status) {
        if (command->temporary && !transaction) {
            atomic_store(&context->session->is_sticky, true);
        }
        status = hs_flight_lease(context->flight, context->session, transaction, context->call,
                                 &lease, &err);
        if (!status) {
            status = ingest(upload, lease.conn->sql, command, &n, &err);
            hs_flight_lease_end(&lease);
        }
    }
    if (transaction) {
        hs_flight_handle_put(context->flight, context->session, transaction);
    }
    return status ? hs_flight_fail(context->call, &err) : send_count(context->call, n);
}

/* ---- */

static enum hs_grpc_code put_command(struct hs_flight_context *context, struct upload *upload,
                                     const Fl__FlightDescriptor *descriptor)
{
    Fl__Any *any HS_CLEANUP(hs_flight_message_freep) = NULL;
    const char *name = descriptor ? hs_flight_any(&descriptor->cmd, &any) : NULL;
    if (!name) {
        return hs_flight_invalid(context->call, "the first message has no command");
    }
    if (strcmp(name, "CommandStatementUpdate") == 0) {
        return put_statement(context, &any->value);
    }
    if (strcmp(name, "CommandPreparedStatementUpdate") == 0) {
        return put_handle(context, upload, &any->value, true);
    }
    if (strcmp(name, "CommandPreparedStatementQuery") == 0) {
        return put_handle(context, upload, &any->value, false);
    }
    if (strcmp(name, "CommandStatementIngest") == 0) {
        return put_ingest(context, upload, &any->value);
    }
    return hs_grpc_call_fail(context->call, HS_GRPC_UNIMPLEMENTED,
                             "the command %s is not implemented", name);
}

enum hs_grpc_code hs_flight_do_put(hs_grpc_call *call, void *user)
{
    struct hs_flight_context context;
    struct upload upload = {.flight = user, .call = call};
    struct hs_error err;
    enum hs_grpc_code code =
        hs_flight_begin(call, user, &fl__flight_data__descriptor, &context, &upload.first);
    if (code) {
        return code;
    }
    Fl__FlightDescriptor *descriptor = upload.first->flight_descriptor;
    upload.first->flight_descriptor = NULL;
    code = hs_ipc_reader_new(&upload.reader, &err) ? hs_flight_fail(call, &err)
                                                   : put_command(&context, &upload, descriptor);
    hs_flight_message_free(descriptor);
    hs_flight_message_free(upload.first);
    hs_ipc_reader_free(upload.reader);
    hs_flight_end(&context);
    return code;
}
