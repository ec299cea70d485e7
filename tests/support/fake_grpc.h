/*
 * fake_grpc.h - api/grpc.h without a transport: a test calls the handlers of the one server in its
 * own threads, and says when a call gets over. Linked instead of hs_grpc.
 *
 * Threads: fake_grpc_end may be called from any.
 */
#ifndef SUPPORT_FAKE_GRPC_H
#define SUPPORT_FAKE_GRPC_H

#include <stdatomic.h>
#include <string.h>

#include "api/grpc.h"

struct hs_grpc_call {
    const char *authorization, *cookie; /* NULL: none */
    uint64_t connection;
    /* The next message: 1, or 0 when there is none; NULL: there is none. */
    int (*recv)(hs_grpc_call *call, const uint8_t **ret_data, size_t *ret_size);
    /* A message of the answer, before it is released; false ends the call. NULL: all are taken. */
    bool (*sent)(hs_grpc_call *call, const struct hs_grpc_message *message);
    /* The handler has said what its end interrupts, and goes on when this returns. */
    void (*watched)(hs_grpc_call *call);
    void *user;
    /* What the handler left. */
    char text[1024], set_cookie[128];
    atomic_bool is_over;
    void (*over_fn)(void *user);
    void *over_user;
};

/* Of the server that was started last. */
extern struct hs_grpc_config fake_grpc_config;

/* Its method of this name, the part behind the slash. */
hs_grpc_handler fake_grpc_method(const char *name);
/* The call is over: its client has left. */
void fake_grpc_end(hs_grpc_call *call);

#endif
