/*
 * message.h - messages as gRPC frames them: a byte of flags, four bytes of length (big-endian), and
 * the message. Received bytes become whole messages within a budget; messages to send get their
 * prefix.
 *
 * Threads: a parser belongs to the transport thread; a budget may be used by any thread.
 * Source:  gRPC over HTTP/2 (PROTOCOL-HTTP2.md), "Length-Prefixed-Message".
 */
#ifndef GRPC_MESSAGE_H
#define GRPC_MESSAGE_H

#include <stdatomic.h>

#include "api/grpc.h"

#define HS_GRPC_PREFIX 5

/* Memory of messages that were received and not yet read, of all calls. */
struct hs_grpc_budget {
    size_t max;
    atomic_size_t used;
};

struct hs_grpc_received {
    struct hs_grpc_received *next;
    size_t size, capacity; /* bytes there, bytes paid for */
    uint8_t data[];
};

struct hs_grpc_parser {
    struct hs_grpc_budget *budget;
    size_t message_max;
    uint8_t prefix[HS_GRPC_PREFIX];
    size_t n_prefix, length;
    struct hs_grpc_received *message; /* being filled */
};

enum hs_grpc_parsed {
    HS_GRPC_PARSED_PART = 0, /* all was taken, a message is not complete */
    HS_GRPC_PARSED_MESSAGE,
    HS_GRPC_PARSED_COMPRESSED, /* flag 1 */
    HS_GRPC_PARSED_MALFORMED,  /* another flag */
    HS_GRPC_PARSED_TOO_LARGE,
    HS_GRPC_PARSED_NO_ROOM, /* in the budget */
    HS_GRPC_PARSED_NO_MEMORY
};

/* Take bytes up to the end of one message at most. Out: ret_used, and ret_message with
 * HS_GRPC_PARSED_MESSAGE, to be freed by the caller. After a refusal the parser is of no more use.
 */
enum hs_grpc_parsed hs_grpc_parser_feed(struct hs_grpc_parser *parser, const uint8_t *data,
                                        size_t size, size_t *ret_used,
                                        struct hs_grpc_received **ret_message);
/* Whether no message has begun. */
bool hs_grpc_parser_is_between(const struct hs_grpc_parser *parser);
void hs_grpc_parser_free(struct hs_grpc_parser *parser);

void hs_grpc_received_free(struct hs_grpc_budget *budget, struct hs_grpc_received *message);

/* A message to send; its parts are borrowed. */
struct hs_grpc_sent {
    struct hs_grpc_sent *next;
    struct hs_grpc_message message;
    uint8_t prefix[HS_GRPC_PREFIX];
    size_t size;      /* with the prefix */
    uint64_t out_end; /* see out_queue.h */
};

/* The size of the parts together; SIZE_MAX on overflow. */
size_t hs_grpc_message_size(const struct hs_grpc_message *message);
/* NULL: out of memory, and the message is not released. `size` is that of the parts. */
struct hs_grpc_sent *hs_grpc_sent_new(const struct hs_grpc_message *message, size_t size);
void hs_grpc_message_release(const struct hs_grpc_message *message);
/* Releases the message, too. */
void hs_grpc_sent_free(struct hs_grpc_sent *sent);

#endif
