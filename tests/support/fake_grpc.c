#include "fake_grpc.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"

struct hs_grpc_config fake_grpc_config;

static pthread_mutex_t over_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the server ---- */

void hs_grpc_config_defaults(struct hs_grpc_config *ret_config)
{
    *ret_config = (struct hs_grpc_config){.host = "127.0.0.1"};
}

hs_status hs_grpc_server_start(const struct hs_grpc_config *config, hs_grpc_server **ret_server,
                               struct hs_error *err)
{
    (void)err;
    fake_grpc_config = *config;
    *ret_server = NULL;
    return HS_OK;
}

hs_status hs_grpc_server_stop(hs_grpc_server *server, int64_t drain_ms, struct hs_error *err)
{
    (void)server;
    (void)drain_ms;
    (void)err;
    return HS_OK;
}

void hs_grpc_server_free(hs_grpc_server *server)
{
    (void)server;
}

hs_grpc_handler fake_grpc_method(const char *name)
{
    for (size_t i = 0; i < fake_grpc_config.n_methods; i++) {
        const char *slash = strrchr(fake_grpc_config.methods[i].path, '/');
        if (slash != NULL && strcmp(slash + 1, name) == 0) {
            return fake_grpc_config.methods[i].handler;
        }
    }
    abort();
}

/* ---- calls ---- */

const char *hs_grpc_call_header(const hs_grpc_call *call, const char *name)
{
    return strcmp(name, "authorization") == 0 ? call->authorization
           : strcmp(name, "cookie") == 0      ? call->cookie
                                              : NULL;
}

hs_status hs_grpc_call_set_header(hs_grpc_call *call, const char *name, const char *value,
                                  struct hs_error *err)
{
    (void)err;
    if (*name == '\0' || !hs_utf8_valid(value, strlen(value))) {
        abort();
    }
    if (strcmp(name, "set-cookie") == 0) {
        snprintf(call->set_cookie, sizeof call->set_cookie, "%s", value);
    }
    return HS_OK;
}

uint64_t hs_grpc_call_connection_id(const hs_grpc_call *call)
{
    return call->connection;
}

int hs_grpc_call_recv(hs_grpc_call *call, const uint8_t **ret_data, size_t *ret_size)
{
    if (hs_grpc_call_is_over(call)) {
        return -1;
    }
    return call->recv != NULL ? call->recv(call, ret_data, ret_size) : 0;
}

bool hs_grpc_call_send(hs_grpc_call *call, const struct hs_grpc_message *message)
{
    bool goes_on = !hs_grpc_call_is_over(call) && (call->sent == NULL || call->sent(call, message));
    if (message->release != NULL) {
        message->release(message->user);
    }
    return goes_on;
}

enum hs_grpc_code hs_grpc_call_fail(hs_grpc_call *call, enum hs_grpc_code code, const char *format,
                                    ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(call->text, sizeof call->text, format, args);
    va_end(args);
    return code;
}

bool hs_grpc_call_is_over(const hs_grpc_call *call)
{
    return atomic_load(&call->is_over);
}

void hs_grpc_call_on_over(hs_grpc_call *call, void (*fn)(void *user), void *user)
{
    pthread_mutex_lock(&over_lock);
    call->over_fn = fn;
    call->over_user = user;
    if (fn != NULL && hs_grpc_call_is_over(call)) {
        fn(user);
    }
    pthread_mutex_unlock(&over_lock);
    if (fn != NULL && call->watched != NULL) {
        call->watched(call);
    }
}

void fake_grpc_end(hs_grpc_call *call)
{
    pthread_mutex_lock(&over_lock);
    atomic_store(&call->is_over, true);
    if (call->over_fn != NULL) {
        call->over_fn(call->over_user);
    }
    pthread_mutex_unlock(&over_lock);
}
