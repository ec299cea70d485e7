/* action.c - DoAction and ListActions: statements, transactions, cancelling, sessions. */
#include <nanoarrow/nanoarrow.h>
#include <string.h>

#include "auth.h"
#include "base/error.h"
#include "base/mem.h"
#include "command.h"
#include "ipc_write.h"
#include "message.h"

/* `body` is the request: what an Any held, for those of Flight SQL. */
typedef enum hs_grpc_code (*handler)(struct hs_flight_context *context,
                                     const ProtobufCBinaryData *body);

/* ---- prepared statements ---- */

/*
 * What JDBC's driver can send, which goes by this: milliseconds, as it puts those into whatever
 * unit a timestamp or time has, and a text where the statement leaves the type open.
 */
static hs_status use_sendable_types(struct ArrowSchema *schema, struct hs_error *err)
{
    struct ArrowSchema copy;
    if (ArrowSchemaDeepCopy(schema, &copy)) {
        return hs_error_nomem(err, "a statement");
    }
    schema->release(schema);
    *schema = copy;
    for (int64_t i = 0; i < schema->n_children; i++) {
        const char *format = schema->children[i]->format;
        char *text HS_CLEANUP(hs_freep) = NULL;
        if (strncmp(format, "tsu:", 4) == 0 || strncmp(format, "tsn:", 4) == 0 ||
            strncmp(format, "tss:", 4) == 0) {
            text = hs_asprintf("tsm:%s", format + 4);
        } else if (strcmp(format, "ttu") == 0) {
            text = hs_strdup("ttm");
        } else if (strcmp(format, "n") == 0) {
            text = hs_strdup("u");
        } else {
            continue;
        }
        if (!text || ArrowSchemaSetFormat(schema->children[i], text)) {
            return hs_error_nomem(err, "a statement");
        }
    }
    return HS_OK;
}

static hs_status fill_schemas(hs_sql_stmt *stmt, struct hs_buf *dataset, struct hs_buf *parameters,
                              struct hs_error *err)
{
    struct ArrowSchema schema;
    hs_status status = HS_OK;
    if (hs_sql_stmt_kind(stmt) == HS_SQL_QUERY) { /* an update is known by having none */
        status = hs_sql_stmt_result_schema(stmt, &schema, err);
        if (!status) {
            status = hs_ipc_schema(&schema, true, dataset, err);
            schema.release(&schema);
        }
    }
    status = status ? status : hs_sql_stmt_param_schema(stmt, &schema, err);
    if (!status) {
        status = use_sendable_types(&schema, err);
        status = status ? status : hs_ipc_schema(&schema, true, parameters, err);
        schema.release(&schema);
    }
    return status;
}

static enum hs_grpc_code create_prepared(struct hs_flight_context *context,
                                         const ProtobufCBinaryData *body)
{
    struct hs_buf dataset HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX);
    struct hs_buf parameters HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX);
    struct hs_flight_lease lease;
    struct hs_flight_handle *handle;
    struct hs_error err;
    Fs__Statement *statement HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__statement__descriptor, body->data, body->len);
    if (!statement) {
        return hs_flight_invalid(context->call,
                                 "CreatePreparedStatement is malformed" HS_FLIGHT_OR_TEXT);
    }
    enum hs_grpc_code code =
        hs_flight_prepare(context, statement, HS_FLIGHT_PREPARED, &handle, &lease);
    if (code) {
        return code;
    }
    hs_status status = fill_schemas(handle->stmt, &dataset, &parameters, &err);
    hs_flight_lease_end(&lease);
    if (status) {
        hs_flight_handle_drop(context->flight, context->session, handle);
        code = hs_flight_fail(context->call, &err);
    } else {
        Fs__CreatePreparedStatementResult result = FS__CREATE_PREPARED_STATEMENT_RESULT__INIT;
        result.prepared_statement_handle.data = handle->id;
        result.prepared_statement_handle.len = sizeof handle->id;
        result.dataset_schema.data = (uint8_t *)dataset.data;
        result.dataset_schema.len = dataset.len;
        result.parameter_schema.data = (uint8_t *)parameters.data;
        result.parameter_schema.len = parameters.len;
        code = hs_flight_send_result(context->call, "ActionCreatePreparedStatementResult",
                                     &result.base);
    }
    hs_flight_handle_put(context->flight, context->session, handle);
    return code;
}

static enum hs_grpc_code close_prepared(struct hs_flight_context *context,
                                        const ProtobufCBinaryData *body)
{
    struct hs_flight_handle *handle;
    struct hs_error err;
    Fs__Handle *message HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__handle__descriptor, body->data, body->len);
    if (!message) {
        return hs_flight_invalid(context->call, "ClosePreparedStatement is malformed");
    }
    if (hs_flight_handle_get(context->flight, context->session, HS_FLIGHT_PREPARED,
                             message->handle.data, message->handle.len, &handle, &err)) {
        return hs_flight_fail(context->call, &err);
    }
    hs_flight_handle_drop(context->flight, context->session, handle);
    hs_flight_handle_put(context->flight, context->session, handle);
    return HS_GRPC_OK;
}

/* ---- transactions ---- */

static enum hs_grpc_code begin_transaction(struct hs_flight_context *context,
                                           const ProtobufCBinaryData *body)
{
    (void)body;
    hs_flight *flight = context->flight;
    struct hs_flight_lease lease;
    struct hs_flight_handle *handle = NULL;
    struct hs_error err;
    if (hs_flight_lease_new(flight, context->session, context->call, &lease, &err)) {
        return hs_flight_fail(context->call, &err);
    }
    hs_status status = hs_sql_begin(lease.conn->sql, &err);
    if (!status) {
        status = hs_flight_handle_new(flight, context->session, HS_FLIGHT_TRANSACTION, lease.conn,
                                      NULL, NULL, &handle, &err);
    }
    if (status) {
        hs_flight_lease_close(context->session, &lease);
        return hs_flight_fail(context->call, &err);
    }
    hs_flight_lease_end(&lease);
    Fs__Handle result = FS__HANDLE__INIT;
    result.handle.data = handle->id;
    result.handle.len = sizeof handle->id;
    enum hs_grpc_code code =
        hs_flight_send_result(context->call, "ActionBeginTransactionResult", &result.base);
    hs_flight_handle_put(flight, context->session, handle);
    return code;
}

static hs_status end(struct hs_flight_context *context, struct hs_flight_handle *handle,
                     Fs__EndTransaction action, struct hs_error *err)
{
    struct hs_flight_lease lease;
    hs_status status =
        hs_flight_lease(context->flight, context->session, handle, context->call, &lease, err);
    if (status) {
        return status;
    }
    status = action == FS__END_TRANSACTION__END_TRANSACTION_COMMIT
                 ? hs_sql_commit(lease.conn->sql, err)
                 : hs_sql_rollback(lease.conn->sql, err);
    hs_flight_lease_close(context->session, &lease);
    hs_flight_handle_drop(context->flight, context->session, handle);
    return status;
}

static enum hs_grpc_code end_transaction(struct hs_flight_context *context,
                                         const ProtobufCBinaryData *body)
{
    struct hs_flight_handle *handle;
    struct hs_error err;
    Fs__EndTransactionRequest *request HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__end_transaction_request__descriptor, body->data, body->len);
    if (!request || (request->action != FS__END_TRANSACTION__END_TRANSACTION_COMMIT &&
                     request->action != FS__END_TRANSACTION__END_TRANSACTION_ROLLBACK)) {
        return hs_flight_invalid(context->call, "EndTransaction is malformed, or says neither "
                                                "commit nor rollback");
    }
    hs_status status = hs_flight_handle_get(context->flight, context->session,
                                            HS_FLIGHT_TRANSACTION, request->transaction_id.data,
                                            request->transaction_id.len, &handle, &err);
    if (!status) {
        status = end(context, handle, request->action, &err);
        hs_flight_handle_put(context->flight, context->session, handle);
    }
    return status ? hs_flight_fail(context->call, &err) : HS_GRPC_OK;
}

/* ---- cancelling ---- */

/* What runs for the first endpoint's ticket. */
static bool cancel(struct hs_flight_context *context, const Fl__FlightInfo *info)
{
    Fl__Any *any HS_CLEANUP(hs_flight_message_freep) = NULL;
    if (!info || info->n_endpoint == 0 || !info->endpoint[0]->ticket ||
        !hs_flight_any(&info->endpoint[0]->ticket->ticket, &any)) {
        return false;
    }
    Fs__Handle *handle HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__handle__descriptor, any->value.data, any->value.len);
    return handle && hs_flight_handle_cancel(context->flight, context->session, handle->handle.data,
                                             handle->handle.len);
}

static enum hs_grpc_code cancel_info(struct hs_flight_context *context,
                                     const ProtobufCBinaryData *body)
{
    Fl__CancelFlightInfoRequest *request HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fl__cancel_flight_info_request__descriptor, body->data, body->len);
    if (!request || !request->info) {
        return hs_flight_invalid(context->call, "CancelFlightInfo is malformed");
    }
    Fl__CancelFlightInfoResult result = FL__CANCEL_FLIGHT_INFO_RESULT__INIT;
    result.status = cancel(context, request->info)
                        ? FL__CANCEL_STATUS__CANCEL_STATUS_CANCELLED
                        : FL__CANCEL_STATUS__CANCEL_STATUS_NOT_CANCELLABLE;
    return hs_flight_send_result(context->call, NULL, &result.base);
}

static enum hs_grpc_code cancel_query(struct hs_flight_context *context,
                                      const ProtobufCBinaryData *body)
{
    Fs__CancelQueryRequest *request HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fs__cancel_query_request__descriptor, body->data, body->len);
    Fl__FlightInfo *info HS_CLEANUP(hs_flight_message_freep) =
        request
            ? hs_flight_unpack(&fl__flight_info__descriptor, request->info.data, request->info.len)
            : NULL;
    if (!info) {
        return hs_flight_invalid(context->call, "CancelQuery is malformed");
    }
    Fs__CancelQueryResult result = FS__CANCEL_QUERY_RESULT__INIT;
    result.result = cancel(context, info) ? FL__CANCEL_STATUS__CANCEL_STATUS_CANCELLED
                                          : FL__CANCEL_STATUS__CANCEL_STATUS_NOT_CANCELLABLE;
    return hs_flight_send_result(context->call, "ActionCancelQueryResult", &result.base);
}

/* ---- sessions ---- */

/* Where an option's value is kept; NULL: there is no such option. */
static char **option_of(struct hs_flight_session *session, const char *key)
{
    return strcmp(key, "catalog") == 0  ? &session->catalog
           : strcmp(key, "schema") == 0 ? &session->schema
                                        : NULL;
}

static Fl__SessionErrorValue set_option(struct hs_flight_context *context,
                                        struct hs_flight_conn *conn,
                                        const Fl__SessionOption *option)
{
    char **slot = option_of(context->session, option->key);
    struct hs_error err;
    if (!slot) {
        return FL__SESSION_ERROR_VALUE__SESSION_ERROR_INVALID_NAME;
    }
    if (!option->value ||
        option->value->option_value_case != FL__SESSION_OPTION_VALUE__OPTION_VALUE_STRING_VALUE) {
        return FL__SESSION_ERROR_VALUE__SESSION_ERROR_INVALID_VALUE;
    }
    hs_status status = hs_flight_session_set(context->flight, context->session, conn, slot,
                                             option->value->string_value, &err);
    if (status == HS_OUT_OF_MEMORY) {
        return FL__SESSION_ERROR_VALUE__SESSION_ERROR_ERROR;
    }
    return status ? FL__SESSION_ERROR_VALUE__SESSION_ERROR_INVALID_VALUE
                  : FL__SESSION_ERROR_VALUE__SESSION_ERROR_UNSPECIFIED;
}

#define OPTIONS_MAX 16

static enum hs_grpc_code set_options(struct hs_flight_context *context,
                                     const ProtobufCBinaryData *body)
{
    struct hs_flight_lease lease;
    struct hs_error err;
    Fl__SessionError errors[OPTIONS_MAX];
    Fl__SessionOptionError entries[OPTIONS_MAX], *pointers[OPTIONS_MAX];
    Fl__SetSessionOptionsResult result = FL__SET_SESSION_OPTIONS_RESULT__INIT;
    Fl__SetSessionOptionsRequest *request HS_CLEANUP(hs_flight_message_freep) =
        hs_flight_unpack(&fl__set_session_options_request__descriptor, body->data, body->len);
    if (!request || request->n_session_options > OPTIONS_MAX) {
        return hs_flight_invalid(context->call, "SetSessionOptions is malformed, or sets more than "
                                                "16 options" HS_FLIGHT_OR_TEXT);
    }
    atomic_store(&context->session->is_sticky,
                 true); /* its first connection is the one that has them */
    if (hs_flight_lease(context->flight, context->session, NULL, context->call, &lease, &err)) {
        return hs_flight_fail(context->call, &err);
    }
    for (size_t i = 0; i < request->n_session_options; i++) {
        const Fl__SessionOption *option = request->session_options[i];
        Fl__SessionErrorValue value = set_option(context, lease.conn, option);
        if (value) {
            size_t n = result.n_errors++;
            errors[n] = (Fl__SessionError)FL__SESSION_ERROR__INIT;
            errors[n].value = value;
            entries[n] = (Fl__SessionOptionError)FL__SESSION_OPTION_ERROR__INIT;
            entries[n].key = option->key;
            entries[n].value = &errors[n];
            pointers[n] = &entries[n];
        }
    }
    hs_flight_lease_end(&lease);
    result.errors = pointers;
    return hs_flight_send_result(context->call, NULL, &result.base);
}

/* Another call may set them meanwhile. false: out of memory. */
static bool copy_options(struct hs_flight_context *context, const char *const keys[2],
                         char *ret_copies[2])
{
    bool is_whole = true;
    pthread_mutex_lock(&context->flight->lock);
    for (int i = 0; i < 2; i++) {
        const char *value = *option_of(context->session, keys[i]);
        ret_copies[i] = value ? hs_strdup(value) : NULL;
        is_whole = is_whole && (ret_copies[i] || !value);
    }
    pthread_mutex_unlock(&context->flight->lock);
    return is_whole;
}

static enum hs_grpc_code get_options(struct hs_flight_context *context,
                                     const ProtobufCBinaryData *body)
{
    (void)body;
    static const char *const keys[] = {"catalog", "schema"};
    Fl__SessionOptionValue values[2];
    Fl__SessionOption options[2], *pointers[2];
    Fl__GetSessionOptionsResult result = FL__GET_SESSION_OPTIONS_RESULT__INIT;
    char *copies[2];
    bool is_whole = copy_options(context, keys, copies);
    for (int i = 0; i < 2; i++) {
        char *value = copies[i];
        size_t n = result.n_session_options;
        if (value) {
            values[n] = (Fl__SessionOptionValue)FL__SESSION_OPTION_VALUE__INIT;
            values[n].option_value_case = FL__SESSION_OPTION_VALUE__OPTION_VALUE_STRING_VALUE;
            values[n].string_value = value;
            options[n] = (Fl__SessionOption)FL__SESSION_OPTION__INIT;
            options[n].key = (char *)(uintptr_t)keys[i];
            options[n].value = &values[n];
            pointers[n] = &options[n];
            result.n_session_options++;
        }
    }
    result.session_options = pointers;
    enum hs_grpc_code code =
        is_whole ? hs_flight_send_result(context->call, NULL, &result.base)
                 : hs_grpc_call_fail(context->call, HS_GRPC_RESOURCE_EXHAUSTED, "out of memory");
    hs_free(copies[0]);
    hs_free(copies[1]);
    return code;
}

static enum hs_grpc_code close_session(struct hs_flight_context *context,
                                       const ProtobufCBinaryData *body)
{
    (void)body;
    hs_flight_session_close(context->flight, context->session);
    Fl__CloseSessionResult result = FL__CLOSE_SESSION_RESULT__INIT;
    result.status = FL__CLOSE_STATUS__CLOSE_STATUS_CLOSED;
    return hs_flight_send_result(context->call, NULL, &result.base);
}

/* ---- the table ---- */

static const struct {
    const char *name;
    const char *text;
    bool is_any; /* the body is an Any */
    handler run;
} actions[] = {
    {"CreatePreparedStatement", "Prepare a statement: ActionCreatePreparedStatementRequest.", true,
     create_prepared},
    {"ClosePreparedStatement", "Free a statement: ActionClosePreparedStatementRequest.", true,
     close_prepared},
    {"BeginTransaction", "Begin a transaction: ActionBeginTransactionRequest.", true,
     begin_transaction},
    {"EndTransaction", "Commit or roll back: ActionEndTransactionRequest.", true, end_transaction},
    {"CancelFlightInfo", "Stop what a FlightInfo led to: CancelFlightInfoRequest.", false,
     cancel_info},
    {"CancelQuery", "The same, as it was before: ActionCancelQueryRequest.", true, cancel_query},
    {"SetSessionOptions", "Set catalog and schema: SetSessionOptionsRequest.", false, set_options},
    {"GetSessionOptions", "What was set: GetSessionOptionsRequest.", false, get_options},
    {"CloseSession", "End the session and what runs in it: CloseSessionRequest.", false,
     close_session},
};
#define N_ACTIONS (sizeof actions / sizeof *actions)

static enum hs_grpc_code run_action(struct hs_flight_context *context, const Fl__Action *action)
{
    for (size_t i = 0; i < N_ACTIONS; i++) {
        if (strcmp(action->type, actions[i].name) != 0) {
            continue;
        }
        if (!actions[i].is_any) {
            return actions[i].run(context, &action->body);
        }
        Fl__Any *any HS_CLEANUP(hs_flight_message_freep) = NULL;
        if (!hs_flight_any(&action->body, &any)) {
            return hs_flight_invalid(context->call,
                                     "the action's request is malformed" HS_FLIGHT_OR_TEXT);
        }
        return actions[i].run(context, &any->value);
    }
    return hs_grpc_call_fail(context->call, HS_GRPC_UNIMPLEMENTED,
                             "the action %s is not implemented", action->type);
}

enum hs_grpc_code hs_flight_do_action(hs_grpc_call *call, void *user)
{
    struct hs_flight_context context;
    Fl__Action *action HS_CLEANUP(hs_flight_message_freep) = NULL;
    enum hs_grpc_code code =
        hs_flight_begin(call, user, &fl__action__descriptor, &context, &action);
    if (code) {
        return code;
    }
    code = run_action(&context, action);
    hs_flight_end(&context);
    return code;
}

enum hs_grpc_code hs_flight_list_actions(hs_grpc_call *call, void *user)
{
    struct hs_flight_session *session = NULL;
    enum hs_grpc_code code = hs_flight_auth_enter(user, call, &session);
    for (size_t i = 0; i < N_ACTIONS && !code; i++) {
        Fl__ActionType type = FL__ACTION_TYPE__INIT;
        type.type = (char *)(uintptr_t)actions[i].name;
        type.description = (char *)(uintptr_t)actions[i].text;
        code = hs_flight_send(call, &type.base);
    }
    if (session) {
        hs_flight_session_leave(user, session);
    }
    return code;
}

enum hs_grpc_code hs_flight_list_flights(hs_grpc_call *call, void *user)
{
    (void)user;
    return hs_grpc_call_fail(call, HS_GRPC_UNIMPLEMENTED,
                             "ListFlights is not implemented: flights "
                             "come out of SQL commands");
}

enum hs_grpc_code hs_flight_do_exchange(hs_grpc_call *call, void *user)
{
    (void)user;
    return hs_grpc_call_fail(call, HS_GRPC_UNIMPLEMENTED, "DoExchange is not implemented");
}
