/*
 * token_source.h - where the events of an answer come from: a stream of the engine, or of a server.
 *
 * The functions are those of hyprstream.h for streams, with their contracts.
 *
 * Owner:   whoever got it calls `free`, once.
 * Threads: none.
 */
#ifndef API_TOKEN_SOURCE_H
#define API_TOKEN_SOURCE_H

#include "hyprstream.h"

struct hs_token_source {
    void *self;
    hs_status (*next)(void *self, int timeout_ms, struct hs_event *ret_event, struct hs_error *err);
    void (*cancel)(void *self);
    void (*free)(void *self);
};

/* Takes the stream over. */
struct hs_token_source hs_token_source_of(hs_stream *stream);

#endif
