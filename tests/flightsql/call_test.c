#include "call_test.h"

#include <stdio.h>

#include "message.h"

hs_sql *flight_sql;
hs_flight *flight;

static hs_http_keys *keys;
static hs_sql_conn *direct;

static void must(hs_status status, const struct hs_error *err)
{
    if (status != HS_OK) {
        fail_msg("%s", err->message);
    }
}

void flight_open(const char *keys_file)
{
    struct hs_sql_params params;
    struct hs_flight_config config;
    struct hs_error err;
    hs_sql_params_defaults(&params);
    params.memory_bytes = (uint64_t)64 << 20;
    params.n_threads = 1;
    must(hs_sql_open(&params, &flight_sql, &err), &err);
    must(hs_sql_connect(flight_sql, NULL, &direct, &err), &err);
    keys = NULL;
    if (keys_file != NULL) {
        must(hs_http_keys_open(keys_file, &keys, &err), &err);
    }
    hs_flight_config_defaults(&config);
    config.sql = flight_sql;
    config.keys = keys;
    must(hs_flight_start(&config, &flight, &err), &err);
    assert_int_equal(flight_number("CREATE TABLE t AS SELECT 1::INT AS n; SELECT count(*) FROM t"),
                     1);
}

void flight_close(void)
{
    hs_flight_free(flight);
    hs_http_keys_free(keys);
    hs_sql_disconnect(direct);
    hs_sql_close(flight_sql);
}

int64_t flight_number(const char *sql)
{
    hs_sql_stmt *stmt = NULL;
    hs_sql_result *result = NULL;
    struct ArrowArray rows;
    struct hs_error err;
    must(hs_sql_prepare(direct, sql, strlen(sql), &stmt, &err), &err);
    must(hs_sql_execute(stmt, &result, &err), &err);
    must(hs_sql_result_next(result, &rows, &err), &err);
    assert_non_null(rows.release);
    int64_t number = ((const int64_t *)rows.children[0]->buffers[1])[0];
    rows.release(&rows);
    hs_sql_result_free(result);
    hs_sql_stmt_free(stmt);
    return number;
}

/* ---- messages ---- */

void flight_pack(const ProtobufCMessage *message, struct bytes *out)
{
    assert_true(protobuf_c_message_get_packed_size(message) <= BYTES_MAX);
    out->len = protobuf_c_message_pack(message, out->data);
}

void flight_pack_any(const char *name, const ProtobufCMessage *message, struct bytes *out)
{
    struct bytes value;
    char url[128];
    Fl__Any any = FL__ANY__INIT;
    flight_pack(message, &value);
    snprintf(url, sizeof url, HS_FLIGHT_TYPE_PREFIX "%s", name);
    any.type_url = url;
    any.value = (ProtobufCBinaryData){value.len, value.data};
    flight_pack(&any.base, out);
}

void flight_put(struct flight_call *call, const ProtobufCMessage *message)
{
    assert_true(call->n_in < MESSAGES_MAX);
    flight_pack(message, &call->in[call->n_in++]);
}

static ProtobufCBinaryData binary(const struct bytes *bytes)
{
    return (ProtobufCBinaryData){bytes->len, (uint8_t *)(uintptr_t)bytes->data};
}

static void copy(const ProtobufCBinaryData *from, struct bytes *to)
{
    assert_true(from->len <= BYTES_MAX);
    memcpy(to->data, from->data, from->len);
    to->len = from->len;
}

/* ---- calls ---- */

static int receive(hs_grpc_call *grpc, const uint8_t **ret_data, size_t *ret_size)
{
    struct flight_call *call = grpc->user;
    if (call->n_read == call->n_in) {
        return 0;
    }
    *ret_data = call->in[call->n_read].data;
    *ret_size = call->in[call->n_read++].len;
    return 1;
}

static bool take(hs_grpc_call *grpc, const struct hs_grpc_message *message)
{
    struct flight_call *call = grpc->user;
    if (call->n_out < MESSAGES_MAX) {
        struct bytes *out = &call->out[call->n_out];
        out->len = 0;
        for (size_t i = 0; i < message->n_parts; i++) {
            assert_true(out->len + message->parts[i].size <= BYTES_MAX);
            memcpy(out->data + out->len, message->parts[i].data, message->parts[i].size);
            out->len += message->parts[i].size;
        }
    }
    call->n_out++;
    return true;
}

static void clear(struct flight_call *call)
{
    call->n_in = call->n_read = call->n_out = 0;
    call->grpc.text[0] = call->grpc.set_cookie[0] = '\0';
    atomic_store(&call->grpc.is_over, false);
}

enum hs_grpc_code flight_run(struct flight_call *call, const char *method)
{
    call->grpc.recv = receive;
    call->grpc.sent = take;
    call->grpc.user = call;
    enum hs_grpc_code code = fake_grpc_method(method)(&call->grpc, fake_grpc_config.user);
    assert_null(call->grpc.over_fn);
    return code;
}

/* A message of the answer, for protobuf_c_message_free_unpacked. */
static void *answer(const struct flight_call *call, const ProtobufCMessageDescriptor *type)
{
    assert_int_equal(call->n_out, 1);
    void *message = protobuf_c_message_unpack(type, NULL, call->out[0].len, call->out[0].data);
    assert_non_null(message);
    return message;
}

static void put_descriptor(struct flight_call *call, const char *name,
                           const ProtobufCMessage *command)
{
    struct bytes any;
    Fl__FlightDescriptor descriptor = FL__FLIGHT_DESCRIPTOR__INIT;
    flight_pack_any(name, command, &any);
    descriptor.type = FL__FLIGHT_DESCRIPTOR__DESCRIPTOR_TYPE__CMD;
    descriptor.cmd = binary(&any);
    flight_put(call, &descriptor.base);
}

static void fill_statement(Fs__Statement *statement, const char *sql, const struct bytes *id)
{
    fs__statement__init(statement);
    statement->query = (char *)(uintptr_t)sql;
    if (id != NULL) {
        statement->opt_transaction_case = FS__STATEMENT__OPT_TRANSACTION_TRANSACTION_ID;
        statement->transaction_id = binary(id);
    }
}

enum hs_grpc_code flight_info(struct flight_call *call, const char *sql, const struct bytes *id,
                              struct bytes *ret_ticket)
{
    Fs__Statement statement;
    clear(call);
    fill_statement(&statement, sql, id);
    put_descriptor(call, "CommandStatementQuery", &statement.base);
    enum hs_grpc_code code = flight_run(call, "GetFlightInfo");
    if (code == HS_GRPC_OK && ret_ticket != NULL) {
        Fl__FlightInfo *info = answer(call, &fl__flight_info__descriptor);
        copy(&info->endpoint[0]->ticket->ticket, ret_ticket);
        protobuf_c_message_free_unpacked(&info->base, NULL);
    }
    return code;
}

enum hs_grpc_code flight_get(struct flight_call *call, const struct bytes *ticket)
{
    Fl__Ticket message = FL__TICKET__INIT;
    clear(call);
    message.ticket = binary(ticket);
    flight_put(call, &message.base);
    return flight_run(call, "DoGet");
}

static enum hs_grpc_code put_command(struct flight_call *call, const char *name,
                                     const ProtobufCMessage *command)
{
    struct bytes any;
    Fl__FlightDescriptor descriptor = FL__FLIGHT_DESCRIPTOR__INIT;
    Fl__FlightData data = FL__FLIGHT_DATA__INIT;
    clear(call);
    flight_pack_any(name, command, &any);
    descriptor.type = FL__FLIGHT_DESCRIPTOR__DESCRIPTOR_TYPE__CMD;
    descriptor.cmd = binary(&any);
    data.flight_descriptor = &descriptor;
    flight_put(call, &data.base);
    return flight_run(call, "DoPut");
}

enum hs_grpc_code flight_update(struct flight_call *call, const char *sql, const struct bytes *id)
{
    Fs__Statement statement;
    fill_statement(&statement, sql, id);
    return put_command(call, "CommandStatementUpdate", &statement.base);
}

/* name NULL: the body is no Any; body NULL: it is empty. */
static enum hs_grpc_code act(struct flight_call *call, const char *type, const char *name,
                             const ProtobufCMessage *body)
{
    struct bytes bytes = {.len = 0};
    Fl__Action action = FL__ACTION__INIT;
    clear(call);
    if (name != NULL) {
        flight_pack_any(name, body, &bytes);
    } else if (body != NULL) {
        flight_pack(body, &bytes);
    }
    action.type = (char *)(uintptr_t)type;
    action.body = binary(&bytes);
    flight_put(call, &action.base);
    return flight_run(call, "DoAction");
}

/* The message inside of a Result; in an Any. */
static void *result(const struct flight_call *call, const ProtobufCMessageDescriptor *type,
                    bool is_any)
{
    Fl__Result *outer = answer(call, &fl__result__descriptor);
    ProtobufCBinaryData body = outer->body;
    Fl__Any *any = is_any ? (Fl__Any *)protobuf_c_message_unpack(&fl__any__descriptor, NULL,
                                                                 body.len, body.data)
                          : NULL;
    body = any != NULL ? any->value : body;
    void *message = protobuf_c_message_unpack(type, NULL, body.len, body.data);
    assert_non_null(message);
    protobuf_c_message_free_unpacked((ProtobufCMessage *)any, NULL);
    protobuf_c_message_free_unpacked(&outer->base, NULL);
    return message;
}

enum hs_grpc_code flight_prepare(struct flight_call *call, const char *sql, const struct bytes *id,
                                 struct bytes *ret_handle)
{
    Fs__Statement statement;
    fill_statement(&statement, sql, id);
    enum hs_grpc_code code = act(call, "CreatePreparedStatement",
                                 "ActionCreatePreparedStatementRequest", &statement.base);
    if (code == HS_GRPC_OK && ret_handle != NULL) {
        Fs__CreatePreparedStatementResult *made =
            result(call, &fs__create_prepared_statement_result__descriptor, true);
        copy(&made->prepared_statement_handle, ret_handle);
        protobuf_c_message_free_unpacked(&made->base, NULL);
    }
    return code;
}

enum hs_grpc_code flight_close_prepared(struct flight_call *call, const struct bytes *handle)
{
    Fs__Handle message = FS__HANDLE__INIT;
    message.handle = binary(handle);
    return act(call, "ClosePreparedStatement", "ActionClosePreparedStatementRequest",
               &message.base);
}

void flight_ticket(const struct bytes *handle, struct bytes *ret_ticket)
{
    Fs__Handle message = FS__HANDLE__INIT;
    message.handle = binary(handle);
    flight_pack_any("CommandPreparedStatementQuery", &message.base, ret_ticket);
}

enum hs_grpc_code flight_get_prepared(struct flight_call *call, const struct bytes *handle)
{
    struct bytes ticket;
    flight_ticket(handle, &ticket);
    return flight_get(call, &ticket);
}

enum hs_grpc_code flight_put_prepared(struct flight_call *call, const struct bytes *handle)
{
    Fs__Handle message = FS__HANDLE__INIT;
    message.handle = binary(handle);
    return put_command(call, "CommandPreparedStatementUpdate", &message.base);
}

enum hs_grpc_code flight_begin(struct flight_call *call, struct bytes *ret_id)
{
    Fs__Handle empty = FS__HANDLE__INIT;
    enum hs_grpc_code code =
        act(call, "BeginTransaction", "ActionBeginTransactionRequest", &empty.base);
    if (code == HS_GRPC_OK && ret_id != NULL) {
        Fs__Handle *made = result(call, &fs__handle__descriptor, true);
        copy(&made->handle, ret_id);
        protobuf_c_message_free_unpacked(&made->base, NULL);
    }
    return code;
}

enum hs_grpc_code flight_end(struct flight_call *call, const struct bytes *id, bool commits)
{
    Fs__EndTransactionRequest request = FS__END_TRANSACTION_REQUEST__INIT;
    request.transaction_id = binary(id);
    request.action = commits ? FS__END_TRANSACTION__END_TRANSACTION_COMMIT
                             : FS__END_TRANSACTION__END_TRANSACTION_ROLLBACK;
    return act(call, "EndTransaction", "ActionEndTransactionRequest", &request.base);
}

/* ---- cancelling and sessions ---- */

/* A FlightInfo that has the ticket and nothing else. */
static void fill_info(const struct bytes *ticket, struct bytes *ret_info)
{
    Fl__FlightInfo info = FL__FLIGHT_INFO__INIT;
    Fl__FlightEndpoint endpoint = FL__FLIGHT_ENDPOINT__INIT, *endpoints = &endpoint;
    Fl__Ticket message = FL__TICKET__INIT;
    message.ticket = binary(ticket);
    endpoint.ticket = &message;
    info.n_endpoint = 1;
    info.endpoint = &endpoints;
    flight_pack(&info.base, ret_info);
}

enum hs_grpc_code flight_cancel(struct flight_call *call, const struct bytes *ticket,
                                int *ret_status)
{
    struct bytes bytes;
    fill_info(ticket, &bytes);
    Fl__CancelFlightInfoRequest request = FL__CANCEL_FLIGHT_INFO_REQUEST__INIT;
    request.info = (Fl__FlightInfo *)protobuf_c_message_unpack(&fl__flight_info__descriptor, NULL,
                                                               bytes.len, bytes.data);
    assert_non_null(request.info);
    enum hs_grpc_code code = act(call, "CancelFlightInfo", NULL, &request.base);
    protobuf_c_message_free_unpacked(&request.info->base, NULL);
    if (code == HS_GRPC_OK) {
        Fl__CancelFlightInfoResult *made =
            result(call, &fl__cancel_flight_info_result__descriptor, false);
        *ret_status = (int)made->status;
        protobuf_c_message_free_unpacked(&made->base, NULL);
    }
    return code;
}

enum hs_grpc_code flight_cancel_query(struct flight_call *call, const struct bytes *ticket,
                                      int *ret_status)
{
    struct bytes bytes;
    Fs__CancelQueryRequest request = FS__CANCEL_QUERY_REQUEST__INIT;
    fill_info(ticket, &bytes);
    request.info = binary(&bytes);
    enum hs_grpc_code code = act(call, "CancelQuery", "ActionCancelQueryRequest", &request.base);
    if (code == HS_GRPC_OK) {
        Fs__CancelQueryResult *made = result(call, &fs__cancel_query_result__descriptor, true);
        *ret_status = made->result;
        protobuf_c_message_free_unpacked(&made->base, NULL);
    }
    return code;
}

enum hs_grpc_code flight_action(struct flight_call *call, const char *type)
{
    return act(call, type, NULL, NULL);
}

enum hs_grpc_code flight_set_option(struct flight_call *call, const char *key, const char *value)
{
    Fl__SetSessionOptionsRequest request = FL__SET_SESSION_OPTIONS_REQUEST__INIT;
    Fl__SessionOption option = FL__SESSION_OPTION__INIT, *options = &option;
    Fl__SessionOptionValue text = FL__SESSION_OPTION_VALUE__INIT;
    text.option_value_case = FL__SESSION_OPTION_VALUE__OPTION_VALUE_STRING_VALUE;
    text.string_value = (char *)(uintptr_t)value;
    option.key = (char *)(uintptr_t)key;
    option.value = &text;
    request.n_session_options = 1;
    request.session_options = &options;
    return act(call, "SetSessionOptions", NULL, &request.base);
}
