/* message.c - length-prefixed messages, both ways. */
#include "message.h"

#include <string.h>

#include "base/mem.h"

/* A message's memory grows with the bytes that came, not with what its prefix announces. */
#define FIRST_CAPACITY 4096

static enum hs_grpc_parsed parse_prefix(struct hs_grpc_parser *parser)
{
    const uint8_t *p = parser->prefix;
    if (p[0] != 0) {
        return p[0] == 1 ? HS_GRPC_PARSED_COMPRESSED : HS_GRPC_PARSED_MALFORMED;
    }
    parser->length = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    return parser->length > parser->message_max ? HS_GRPC_PARSED_TOO_LARGE : HS_GRPC_PARSED_PART;
}

static bool pay(struct hs_grpc_budget *budget, size_t size)
{
    if (atomic_fetch_add(&budget->used, size) + size > budget->max) {
        atomic_fetch_sub(&budget->used, size);
        return false;
    }
    return true;
}

/* Room for `needed` bytes of the message. */
static enum hs_grpc_parsed grow(struct hs_grpc_parser *parser, size_t needed)
{
    struct hs_grpc_received *old = parser->message;
    if (old != NULL && needed <= old->capacity) {
        return HS_GRPC_PARSED_PART;
    }
    size_t capacity = old == NULL ? FIRST_CAPACITY : 2 * old->capacity;
    capacity = capacity < needed ? needed : capacity;
    capacity = capacity > parser->length ? parser->length : capacity;
    size_t more = old == NULL ? sizeof *old + capacity : capacity - old->capacity;
    if (!pay(parser->budget, more)) {
        return HS_GRPC_PARSED_NO_ROOM;
    }
    struct hs_grpc_received *message = hs_realloc(old, sizeof *message + capacity);
    if (message == NULL) {
        atomic_fetch_sub(&parser->budget->used, more);
        return HS_GRPC_PARSED_NO_MEMORY;
    }
    message->size = old == NULL ? 0 : message->size;
    message->capacity = capacity;
    parser->message = message;
    return HS_GRPC_PARSED_PART;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

enum hs_grpc_parsed hs_grpc_parser_feed(struct hs_grpc_parser *parser, const uint8_t *data,
                                        size_t size, size_t *ret_used,
                                        struct hs_grpc_received **ret_message)
{
    size_t n = min_size(size, HS_GRPC_PREFIX - parser->n_prefix);
    bool has_prefix = parser->n_prefix == HS_GRPC_PREFIX;
    memcpy(parser->prefix + parser->n_prefix, data, n);
    parser->n_prefix += n;
    *ret_used = n;
    if (parser->n_prefix < HS_GRPC_PREFIX) {
        return HS_GRPC_PARSED_PART;
    }
    enum hs_grpc_parsed parsed = has_prefix ? HS_GRPC_PARSED_PART : parse_prefix(parser);
    if (parsed != HS_GRPC_PARSED_PART) {
        return parsed;
    }
    size_t filled = parser->message == NULL ? 0 : parser->message->size;
    size_t take = min_size(size - n, parser->length - filled);
    parsed = grow(parser, filled + take);
    if (parsed != HS_GRPC_PARSED_PART) {
        return parsed;
    }
    struct hs_grpc_received *message = parser->message;
    memcpy(message->data + filled, data + n, take);
    message->size += take;
    *ret_used = n + take;
    if (message->size < parser->length) {
        return HS_GRPC_PARSED_PART;
    }
    message->next = NULL;
    *ret_message = message;
    parser->message = NULL;
    parser->n_prefix = 0;
    return HS_GRPC_PARSED_MESSAGE;
}

bool hs_grpc_parser_is_between(const struct hs_grpc_parser *parser)
{
    return parser->n_prefix == 0;
}

void hs_grpc_parser_free(struct hs_grpc_parser *parser)
{
    hs_grpc_received_free(parser->budget, parser->message);
    parser->message = NULL;
}

void hs_grpc_received_free(struct hs_grpc_budget *budget, struct hs_grpc_received *message)
{
    if (message != NULL) {
        atomic_fetch_sub(&budget->used, sizeof *message + message->capacity);
        hs_free(message);
    }
}

size_t hs_grpc_message_size(const struct hs_grpc_message *message)
{
    size_t size = 0;
    for (size_t i = 0; i < message->n_parts; i++) {
        if (__builtin_add_overflow(size, message->parts[i].size, &size)) {
            return SIZE_MAX;
        }
    }
    return size;
}

struct hs_grpc_sent *hs_grpc_sent_new(const struct hs_grpc_message *message, size_t size)
{
    struct hs_grpc_sent *sent = hs_alloc(sizeof *sent);
    if (sent != NULL) {
        *sent = (struct hs_grpc_sent){
            .message = *message,
            .prefix = {0, (uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
                       (uint8_t)size},
            .size = HS_GRPC_PREFIX + size,
        };
    }
    return sent;
}

void hs_grpc_message_release(const struct hs_grpc_message *message)
{
    if (message->release != NULL) {
        message->release(message->user);
    }
}

void hs_grpc_sent_free(struct hs_grpc_sent *sent)
{
    if (sent != NULL) {
        hs_grpc_message_release(&sent->message);
        hs_free(sent);
    }
}
