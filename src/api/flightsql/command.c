/* command.c - GetFlightInfo, GetSchema, PollFlightInfo and DoGet. */
#include "command.h"

#include <string.h>

#include "auth.h"
#include "base/error.h"
#include "base/mem.h"
#include "ipc_write.h"
#include "message.h"

/* ---- calls ---- */

enum hs_grpc_code hs_flight_invalid(hs_grpc_call *call, const char *what)
{
    return hs_grpc_call_fail(call, HS_GRPC_INVALID_ARGUMENT, "%s", what);
}

enum hs_grpc_code hs_flight_begin(hs_grpc_call *call, void *user,
                                  const ProtobufCMessageDescriptor *type,
                                  struct hs_flight_context *ret_context, void *ret_message)
{
    const uint8_t *data;
    size_t size;
    *ret_context = (struct hs_flight_context){user, call, NULL};
    enum hs_grpc_code code = hs_flight_auth_enter(user, call, &ret_context->session);
    if (code) {
        return code;
    }
    int got = hs_grpc_call_recv(call, &data, &size);
    void *message = got == 1 ? hs_flight_unpack(type, data, size) : NULL;
    if (!message) {
        hs_flight_end(ret_context);
        return got < 0 ? HS_GRPC_CANCELLED
                       : hs_flight_invalid(call, "the message is malformed" HS_FLIGHT_OR_TEXT);
    }
    *(void **)ret_message = message;
    return HS_GRPC_OK;
}

void hs_flight_end(struct hs_flight_context *context)
{
    hs_flight_session_leave(context->flight, context->session);
    context->session = NULL;
}

const char *hs_flight_any(const ProtobufCBinaryData *data, Fl__Any **ret_any)
{
    Fl__Any *any = hs_flight_unpack(&fl__any__descriptor, data->data, data->len);
    const char *dot = any ? strrchr(any->type_url, '.') : NULL;
    *ret_any = any;
    return dot && dot[1] ? dot + 1 : NULL;
}

/* ---- statements ---- */

static enum hs_grpc_code get_transaction(struct hs_flight_context *context,
                                         const ProtobufCBinaryData *id,
                                         struct hs_flight_handle **ret_transaction)
{
    struct hs_error err;
    return hs_flight_handle_get(context->flight, context->session, HS_FLIGHT_TRANSACTION, id->data,
                                id->len, ret_transaction, &err)
               ? hs_flight_fail(context->call, &err)
               : HS_GRPC_OK;
}

enum hs_grpc_code hs_flight_prepare(struct hs_flight_context *context,
                                    const Fs__Statement *statement, enum hs_flight_kind kind,
                                    struct hs_flight_handle **ret_handle,
                                    struct hs_flight_lease *ret_lease)
{
    struct hs_flight_handle *transaction = NULL;
    struct hs_error err;
    enum hs_grpc_code code = HS_GRPC_OK;
    if (statement->opt_transaction_case && statement->transaction_id.len > 0) {
        code = get_transaction(context, &statement->transaction_id, &transaction);
    }
    if (code) {
        return code;
    }
    if (!transaction && hs_sql_leaves_traces(statement->query)) {
        atomic_store(&context->session->is_sticky, true);
    }
    hs_sql_stmt *stmt = NULL;
    hs_status status = hs_flight_lease(context->flight, context->session, transaction,
                                       context->call, ret_lease, &err);
    bool is_leased = !status;
    if (!status) {
        status = hs_sql_prepare(ret_lease->conn->sql, statement->query, strlen(statement->query),
                                &stmt, &err);
    }
    char *text = status ? NULL : hs_strdup(statement->query);
    if (!status && !text) {
        hs_sql_stmt_free(stmt);
        status = hs_error_nomem(&err, "a statement");
    }
    if (!status) {
        status = hs_flight_handle_new(context->flight, context->session, kind, ret_lease->conn,
                                      stmt, text, ret_handle, &err);
    }
    if (transaction) {
        hs_flight_handle_put(context->flight, context->session, transaction);
    }
    if (status && is_leased) {
        hs_flight_lease_end(ret_lease);
    }
    return status ? hs_flight_fail(context->call, &err) : HS_GRPC_OK;
}

hs_status hs_flight_execute(const struct hs_flight_values *values, hs_sql_stmt *stmt, int64_t row,
                            hs_sql_result **ret_result, struct hs_error *err)
{
    hs_status status = HS_OK;
    if (values && row < values->array.length) {
        status = hs_sql_bind(stmt, &values->schema, &values->array, row, err);
    } else if (hs_sql_stmt_n_params(stmt) > 0) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT,
                              "the statement has %zu parameters, and no "
                              "values are bound",
                              hs_sql_stmt_n_params(stmt));
    }
    return status ? status : hs_sql_execute(stmt, ret_result, err);
}

hs_status hs_flight_run(const struct hs_flight_values *values, hs_sql_stmt *stmt, int64_t row,
                        int64_t *total, struct hs_error *err)
{
    hs_sql_result *result = NULL;
    struct ArrowArray array;
    hs_status status = hs_flight_execute(values, stmt, row, &result, err);
    int64_t n = status ? 0 : hs_sql_result_n_changed(result);
    *total += n > 0 ? n : 0;
    bool is_done = status != HS_OK;
    while (!is_done) {
        status = hs_sql_result_next(result, &array, err);
        is_done = status || !array.release;
        if (!is_done) {
            array.release(&array);
        }
    }
    hs_sql_result_free(result);
    return status;
}

/* ADBC never asks for the rows of a statement that has none, so it has to run before. */
static hs_status run_update(struct hs_flight_handle *handle, const struct hs_flight_values *values,
                            hs_sql_stmt *stmt, struct hs_error *err)
{
    int64_t total = 0;
    if (hs_sql_stmt_kind(stmt) == HS_SQL_QUERY) {
        return HS_OK;
    }
    hs_status status = hs_flight_run(values, stmt, 0, &total, err);
    atomic_store(&handle->is_executed, !status);
    return status;
}

/* ---- where a command leads: its schema and its ticket ---- */

struct target {
    bool is_for_rows; /* they will be fetched; or else only the schema is wanted */
    struct ArrowSchema schema;
    struct hs_buf ticket;
};

static void target_free(struct target *target)
{
    if (target->schema.release) {
        target->schema.release(&target->schema);
    }
    hs_buf_free(&target->ticket);
}

static enum hs_grpc_code find_statement(struct hs_flight_context *context,
                                        const ProtobufCBinaryData *value, struct target *target)
{
    struct hs_flight_lease lease;
    struct hs_flight_handle *handle;
    struct hs_error err;
    Fs__Statement *statement HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__statement__descriptor, value->data, value->len);
    if (!statement) {
        return hs_flight_invalid(context->call,
                                 "CommandStatementQuery is malformed" HS_FLIGHT_OR_TEXT);
    }
    enum hs_grpc_code code =
        hs_flight_prepare(context, statement, HS_FLIGHT_STATEMENT, &handle, &lease);
    if (code) {
        return code;
    }
    Fs__Handle ticket = FS__HANDLE__INIT;
    ticket.handle.data = handle->id;
    ticket.handle.len = sizeof handle->id;
    hs_status status = hs_sql_stmt_result_schema(handle->stmt, &target->schema, &err);
    status = status
                 ? status
                 : hs_flight_pack_any("TicketStatementQuery", &ticket.base, &target->ticket, &err);
    if (!status && target->is_for_rows) {
        status = run_update(handle, NULL, handle->stmt, &err);
    }
    if (status || !target->is_for_rows) {
        hs_flight_handle_drop(context->flight, context->session, handle);
    }
    hs_flight_handle_put(context->flight, context->session, handle);
    hs_flight_lease_end(&lease);
    return status ? hs_flight_fail(context->call, &err) : HS_GRPC_OK;
}

/* The handle inside of a message with one. */
static enum hs_grpc_code get_handle(struct hs_flight_context *context, enum hs_flight_kind kind,
                                    const ProtobufCBinaryData *value,
                                    struct hs_flight_handle **ret_handle)
{
    struct hs_error err;
    Fs__Handle *message HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__handle__descriptor, value->data, value->len);
    if (!message) {
        return hs_flight_invalid(context->call, "the command is malformed");
    }
    return hs_flight_handle_get(context->flight, context->session, kind, message->handle.data,
                                message->handle.len, ret_handle, &err)
               ? hs_flight_fail(context->call, &err)
               : HS_GRPC_OK;
}

static bool has_open_type(const struct ArrowSchema *schema)
{
    bool is_open = false;
    for (int64_t i = 0; i < schema->n_children && !is_open; i++) {
        is_open = strcmp(schema->children[i]->format, "n") == 0;
    }
    return is_open;
}

/* The schema of a query whose types depend on its values: that of the query without its rows. */
static hs_status bound_schema(const struct hs_flight_handle *handle,
                              const struct hs_flight_values *values, hs_sql_conn *conn,
                              struct ArrowSchema *ret_schema, struct hs_error *err)
{
    hs_sql_stmt *stmt = NULL;
    hs_sql_result *result = NULL;
    struct hs_error own;
    char *text HS_CLEANUP(hs_freep) = hs_asprintf("SELECT * FROM (%s\n) LIMIT 0", handle->text);
    if (!text) {
        return hs_error_nomem(err, "a statement");
    }
    hs_status status = hs_sql_prepare(conn, text, strlen(text), &stmt, &own);
    status = status ? status : hs_sql_bind(stmt, &values->schema, &values->array, 0, &own);
    status = status ? status : hs_sql_execute(stmt, &result, &own);
    struct ArrowSchema schema;
    if (!status && hs_sql_result_schema(result, &schema, &own) == HS_OK) {
        ret_schema->release(ret_schema);
        *ret_schema = schema;
    } /* not every query can stand there: it keeps its open types */
    hs_sql_result_free(result);
    hs_sql_stmt_free(stmt);
    return HS_OK;
}

static enum hs_grpc_code find_prepared(struct hs_flight_context *context,
                                       const ProtobufCBinaryData *value, struct target *target)
{
    struct hs_flight_handle *handle;
    struct hs_flight_lease lease;
    struct hs_error err;
    hs_sql_stmt *stmt = NULL, *own = NULL;
    enum hs_grpc_code code = get_handle(context, HS_FLIGHT_PREPARED, value, &handle);
    if (code) {
        return code;
    }
    hs_status status = hs_flight_lease_handle(context->flight, context->session, handle,
                                              context->call, &lease, &stmt, &own, &err);
    if (!status) {
        struct hs_flight_values *values = hs_flight_handle_values(context->flight, handle);
        status = hs_sql_stmt_result_schema(stmt, &target->schema, &err);
        if (!status && values && values->array.length > 0 && has_open_type(&target->schema)) {
            status = bound_schema(handle, values, lease.conn->sql, &target->schema, &err);
        }
        if (!status && target->is_for_rows) {
            status = run_update(handle, values, stmt, &err);
        }
        hs_flight_values_put(values);
        hs_sql_stmt_free(own);
        hs_flight_lease_end(&lease);
    }
    hs_flight_handle_put(context->flight, context->session, handle);
    return status ? hs_flight_fail(context->call, &err) : HS_GRPC_OK;
}

/* The rows of a metadata command: their schema, or without ret_schema sent. Their connection is
 * leased until then. */
static enum hs_grpc_code run_metadata(struct hs_flight_context *context, const char *name,
                                      const ProtobufCBinaryData *value,
                                      struct ArrowSchema *ret_schema)
{
    struct hs_flight_lease lease;
    struct hs_flight_rows rows = {0};
    struct hs_error err;
    enum hs_grpc_code code = HS_GRPC_OK;
    if (hs_flight_lease(context->flight, context->session, NULL, context->call, &lease, &err)) {
        return hs_flight_fail(context->call, &err);
    }
    if (!hs_flight_metadata(context, name, value, lease.conn->sql, &rows, &code)) {
        code = hs_grpc_call_fail(context->call, HS_GRPC_UNIMPLEMENTED,
                                 "the command %s is not implemented", name);
    }
    if (!code && ret_schema) {
        *ret_schema = rows.schema;
        rows.schema.release = NULL;
    } else if (!code) {
        code = hs_flight_rows_send(context->call, &rows);
    }
    hs_flight_rows_free(&rows);
    hs_flight_lease_end(&lease);
    return code;
}

static enum hs_grpc_code find_target(struct hs_flight_context *context,
                                     const Fl__FlightDescriptor *descriptor, struct target *target)
{
    Fl__Any *any HS_CLEANUP(hs_flight_message_freep) = NULL;
    if (descriptor->type != FL__FLIGHT_DESCRIPTOR__DESCRIPTOR_TYPE__CMD) {
        return hs_flight_invalid(context->call, "the descriptor is no command; paths are not used");
    }
    const char *name = hs_flight_any(&descriptor->cmd, &any);
    if (!name) {
        return hs_flight_invalid(context->call,
                                 "the descriptor's command is malformed" HS_FLIGHT_OR_TEXT);
    }
    if (strcmp(name, "CommandStatementQuery") == 0) {
        return find_statement(context, &any->value, target);
    }
    if (hs_buf_append(&target->ticket, descriptor->cmd.data, descriptor->cmd.len)) {
        return hs_grpc_call_fail(context->call, HS_GRPC_RESOURCE_EXHAUSTED, "out of memory");
    }
    return strcmp(name, "CommandPreparedStatementQuery") == 0
               ? find_prepared(context, &any->value, target)
               : run_metadata(context, name, &any->value, &target->schema);
}

/* ---- GetFlightInfo, PollFlightInfo, GetSchema ---- */

enum reply { REPLY_INFO, REPLY_POLL, REPLY_SCHEMA };

static enum hs_grpc_code send_target(hs_grpc_call *call, Fl__FlightDescriptor *descriptor,
                                     struct target *target, enum reply reply)
{
    struct hs_buf schema HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX);
    struct hs_error err;
    if (hs_ipc_schema(&target->schema, true, &schema, &err)) {
        return hs_flight_fail(call, &err);
    }
    const ProtobufCBinaryData bytes = {schema.len, (uint8_t *)schema.data};
    if (reply == REPLY_SCHEMA) {
        Fl__SchemaResult result = FL__SCHEMA_RESULT__INIT;
        result.schema = bytes;
        return hs_flight_send(call, &result.base);
    }
    Fl__Ticket ticket = FL__TICKET__INIT;
    Fl__FlightEndpoint endpoint = FL__FLIGHT_ENDPOINT__INIT, *endpoints = &endpoint;
    Fl__FlightInfo info = FL__FLIGHT_INFO__INIT;
    ticket.ticket.data = (uint8_t *)target->ticket.data;
    ticket.ticket.len = target->ticket.len;
    endpoint.ticket = &ticket; /* without a location: this very connection */
    info.schema = bytes;
    info.flight_descriptor = descriptor;
    info.n_endpoint = 1;
    info.endpoint = &endpoints;
    info.total_records = info.total_bytes = -1;
    if (reply == REPLY_INFO) {
        return hs_flight_send(call, &info.base);
    }
    Fl__PollInfo poll = FL__POLL_INFO__INIT; /* without a descriptor: it is complete */
    poll.info = &info;
    poll.opt_progress_case = FL__POLL_INFO__OPT_PROGRESS_PROGRESS;
    poll.progress = 1;
    return hs_flight_send(call, &poll.base);
}

static enum hs_grpc_code answer(hs_grpc_call *call, void *user, enum reply reply)
{
    struct hs_flight_context context;
    Fl__FlightDescriptor *descriptor HS_CLEANUP(hs_flight_message_freep) = NULL;
    enum hs_grpc_code code =
        hs_flight_begin(call, user, &fl__flight_descriptor__descriptor, &context, &descriptor);
    if (code) {
        return code;
    }
    struct target target = {.is_for_rows = reply != REPLY_SCHEMA,
                            .ticket = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX)};
    code = find_target(&context, descriptor, &target);
    code = code ? code : send_target(call, descriptor, &target, reply);
    target_free(&target);
    hs_flight_end(&context);
    return code;
}

enum hs_grpc_code hs_flight_get_info(hs_grpc_call *call, void *user)
{
    return answer(call, user, REPLY_INFO);
}

enum hs_grpc_code hs_flight_get_schema(hs_grpc_call *call, void *user)
{
    return answer(call, user, REPLY_SCHEMA);
}

enum hs_grpc_code hs_flight_poll_info(hs_grpc_call *call, void *user)
{
    return answer(call, user, REPLY_POLL);
}

/* ---- DoGet ---- */

/* Every row that was bound is one execution; their results follow each other. */
static enum hs_grpc_code send_executions(struct hs_flight_context *context,
                                         struct hs_flight_handle *handle, hs_sql_stmt *stmt)
{
    struct hs_flight_rows rows = {0};
    struct hs_error err;
    struct hs_flight_values *values = hs_flight_handle_values(context->flight, handle);
    if (values && values->array.length > 1) {
        hs_flight_values_put(values);
        return hs_flight_invalid(context->call, "a query takes one row of parameters");
    }
    hs_status status = HS_OK;
    if (atomic_exchange(&handle->is_executed, false)) {
        status = hs_sql_stmt_result_schema(stmt, &rows.schema, &err);
    } else {
        status = hs_flight_execute(values, stmt, 0, &rows.result, &err);
        status = status ? status : hs_sql_result_schema(rows.result, &rows.schema, &err);
    }
    hs_flight_values_put(values);
    enum hs_grpc_code code =
        status ? hs_flight_fail(context->call, &err) : hs_flight_rows_send(context->call, &rows);
    hs_flight_rows_free(&rows);
    return code;
}

static enum hs_grpc_code get_statement(struct hs_flight_context *context, enum hs_flight_kind kind,
                                       const ProtobufCBinaryData *value)
{
    struct hs_flight_handle *handle;
    struct hs_flight_lease lease;
    struct hs_error err;
    hs_sql_stmt *stmt = NULL, *own = NULL;
    enum hs_grpc_code code = get_handle(context, kind, value, &handle);
    if (code) {
        return code;
    }
    if (hs_flight_lease_handle(context->flight, context->session, handle, context->call, &lease,
                               &stmt, &own, &err)) {
        code = hs_flight_fail(context->call, &err);
    } else {
        code = send_executions(context, handle, stmt);
        hs_sql_stmt_free(own);
        hs_flight_lease_end(&lease);
    }
    if (kind == HS_FLIGHT_STATEMENT) {
        hs_flight_handle_drop(context->flight, context->session, handle);
    }
    hs_flight_handle_put(context->flight, context->session, handle);
    return code;
}

enum hs_grpc_code hs_flight_do_get(hs_grpc_call *call, void *user)
{
    struct hs_flight_context context;
    Fl__Ticket *ticket HS_CLEANUP(hs_flight_message_freep) = NULL;
    Fl__Any *any HS_CLEANUP(hs_flight_message_freep) = NULL;
    enum hs_grpc_code code =
        hs_flight_begin(call, user, &fl__ticket__descriptor, &context, &ticket);
    if (code) {
        return code;
    }
    const char *name = hs_flight_any(&ticket->ticket, &any);
    if (!name) {
        code = hs_flight_invalid(call, "the ticket is malformed" HS_FLIGHT_OR_TEXT);
    } else if (strcmp(name, "TicketStatementQuery") == 0) {
        code = get_statement(&context, HS_FLIGHT_STATEMENT, &any->value);
    } else if (strcmp(name, "CommandPreparedStatementQuery") == 0) {
        code = get_statement(&context, HS_FLIGHT_PREPARED, &any->value);
    } else {
        code = run_metadata(&context, name, &any->value, NULL);
    }
    hs_flight_end(&context);
    return code;
}
