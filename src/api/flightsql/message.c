#include "message.h"

#include <string.h>

#include "api/status_map.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "flight.pb-c.h"

static void *allocate(void *data, size_t size)
{
    (void)data;
    return hs_alloc(size);
}

static void release(void *data, void *pointer)
{
    (void)data;
    hs_free(pointer);
}

ProtobufCAllocator hs_flight_allocator = {allocate, release, NULL};

/* ---- texts: protobuf-c takes any bytes, and those behind a NUL would be lost ---- */

static bool take_number(const uint8_t **at, const uint8_t *end, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        number |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *ret_number = number;
            return true;
        }
    }
    return false;
}

/* The next field, its number and kind on the wire in *ret_tag; *ret_len bytes are left of it. */
static bool take_field(const uint8_t **at, const uint8_t *end, uint64_t *ret_tag, size_t *ret_len)
{
    uint64_t len;
    if (!take_number(at, end, ret_tag)) {
        return false;
    }
    switch (*ret_tag & 7) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        *ret_len = 0;
        return take_number(at, end, &len);
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        if (!take_number(at, end, &len)) {
            return false;
        }
        break;
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        len = 8;
        break;
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        len = 4;
        break;
    default:
        return false;
    }
    *ret_len = (size_t)len;
    return len <= (size_t)(end - *at);
}

/* Messages nest as deep as their descriptors do. */
static bool has_whole_texts(const ProtobufCMessageDescriptor *type, const uint8_t *at,
                            const uint8_t *end)
{
    bool is_whole = true;
    while (at < end && is_whole) {
        uint64_t tag;
        size_t len;
        if (!take_field(&at, end, &tag, &len)) {
            return false;
        }
        bool is_bytes = (tag & 7) == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED && tag >> 3 <= UINT32_MAX;
        const ProtobufCFieldDescriptor *field =
            is_bytes ? protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3)) : NULL;
        if (field && field->type == PROTOBUF_C_TYPE_STRING) {
            is_whole = !memchr(at, '\0', len) && hs_utf8_valid((const char *)at, len);
        } else if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
            is_whole = has_whole_texts(field->descriptor, at, at + len);
        }
        at += len;
    }
    return is_whole;
}

void *hs_flight_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len)
{
    const uint8_t *bytes = data ? data : (const uint8_t *)"";
    return has_whole_texts(type, bytes, bytes + len)
               ? protobuf_c_message_unpack(type, &hs_flight_allocator, len, bytes)
               : NULL;
}

void hs_flight_message_free(void *message)
{
    if (message) {
        protobuf_c_message_free_unpacked(message, &hs_flight_allocator);
    }
}

void hs_flight_message_freep(void *pointer)
{
    hs_flight_message_free(*(void **)pointer);
}

hs_status hs_flight_pack(const ProtobufCMessage *message, struct hs_buf *out, struct hs_error *err)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    hs_status status = hs_buf_reserve(out, size);
    if (status) {
        return hs_error_nomem(err, "an answer");
    }
    protobuf_c_message_pack(message, (uint8_t *)out->data + out->len);
    out->len += size;
    out->data[out->len] = '\0';
    return HS_OK;
}

hs_status hs_flight_pack_any(const char *name, const ProtobufCMessage *message, struct hs_buf *out,
                             struct hs_error *err)
{
    struct hs_buf value HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX);
    char *url HS_CLEANUP(hs_freep) = hs_asprintf(HS_FLIGHT_TYPE_PREFIX "%s", name);
    Fl__Any any = FL__ANY__INIT;
    hs_status status =
        url ? hs_flight_pack(message, &value, err) : hs_error_nomem(err, "an answer");
    if (status) {
        return status;
    }
    any.type_url = url;
    any.value.data = (uint8_t *)value.data;
    any.value.len = value.len;
    return hs_flight_pack(&any.base, out, err);
}

enum hs_grpc_code hs_flight_send(hs_grpc_call *call, const ProtobufCMessage *message)
{
    struct hs_buf bytes = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX);
    struct hs_error err;
    hs_status status = hs_flight_pack(message, &bytes, &err);
    struct hs_grpc_part *part = status ? NULL : hs_alloc(sizeof *part + bytes.len);
    if (!part) {
        hs_buf_free(&bytes);
        hs_error_nomem(&err, "an answer");
        return hs_flight_fail(call, &err);
    }
    *part = (struct hs_grpc_part){part + 1, bytes.len};
    if (bytes.len > 0) {
        memcpy(part + 1, bytes.data, bytes.len);
    }
    hs_buf_free(&bytes);
    const struct hs_grpc_message sent = {part, 1, hs_free, part};
    return hs_grpc_call_send(call, &sent) ? HS_GRPC_OK : HS_GRPC_CANCELLED;
}

enum hs_grpc_code hs_flight_send_result(hs_grpc_call *call, const char *name,
                                        const ProtobufCMessage *message)
{
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_FLIGHT_BYTES_MAX);
    struct hs_error err;
    hs_status status = name ? hs_flight_pack_any(name, message, &body, &err)
                            : hs_flight_pack(message, &body, &err);
    if (status) {
        return hs_flight_fail(call, &err);
    }
    Fl__Result result = FL__RESULT__INIT;
    result.body.data = (uint8_t *)body.data;
    result.body.len = body.len;
    return hs_flight_send(call, &result.base);
}

enum hs_grpc_code hs_flight_fail(hs_grpc_call *call, const struct hs_error *err)
{
    return hs_grpc_call_fail(call, hs_grpc_code_of(err->status), "%s%s%s", err->message,
                             err->hint[0] ? "; " : "", err->hint);
}
