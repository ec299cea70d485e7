/*
 * metadata.h - the header fields that gRPC gives a meaning, and lists of fields.
 *
 * Threads: no state.
 * Source:  gRPC over HTTP/2 (PROTOCOL-HTTP2.md), "Requests" and "Responses".
 */
#ifndef GRPC_METADATA_H
#define GRPC_METADATA_H

#include "hyprstream.h"

struct hs_grpc_field {
    struct hs_grpc_field *next;
    char *name, *value;
    size_t name_len, value_len;
};

/* At the front of the list; one NUL-terminated copy of each. false: out of memory. */
bool hs_grpc_field_add(struct hs_grpc_field **list, const void *name, size_t name_len,
                       const void *value, size_t value_len);
/* The value that was added first, or NULL. */
const char *hs_grpc_field_find(const struct hs_grpc_field *list, const char *name);
void hs_grpc_fields_free(struct hs_grpc_field *list);
/* As HPACK counts: with 32 bytes on top. */
size_t hs_grpc_field_cost(size_t name_len, size_t value_len);

/* "application/grpc", alone or followed by "+proto", ";..." and the like. */
bool hs_grpc_content_type_fits(const char *value);
/* "100m": at most eight digits and one of H M S m u n; rounded up to milliseconds. */
bool hs_grpc_timeout_parse(const char *text, int64_t *ret_ms);
/* Percent-encode what grpc-message cannot carry as it is. `size` is at least 4. Cut before the
 * character that does not fit. */
void hs_grpc_text_encode(const char *text, char *ret_text, size_t size);

#endif
