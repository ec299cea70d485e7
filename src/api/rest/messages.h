/*
 * messages.h - a request's conversation as the engine takes it.
 *
 * Owner:   hs_rest_messages_free releases the list and the texts that were put together; single
 *          texts are borrowed from the request.
 * Threads: those of the request's handler.
 */
#ifndef API_MESSAGES_H
#define API_MESSAGES_H

#include "fields.h"
#include "rest.h"

struct hs_rest_messages {
    struct hs_message *items;
    size_t n;
    char **joined; /* [n], contents made of several parts; else NULL */
};

/* The field "messages". false: the request was answered. */
bool hs_rest_messages_read(const struct hs_rest *rest, const struct hs_fields *fields,
                           struct hs_rest_messages *ret);
void hs_rest_messages_free(struct hs_rest_messages *messages);

#endif
