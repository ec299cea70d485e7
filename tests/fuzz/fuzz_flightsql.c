/*
 * fuzz_flightsql.c - libFuzzer target of Flight SQL's dispatcher: calls on one connection, over a
 * database in memory. A call is a letter for its method, two bytes for a length (the lower first)
 * and a message; '+' instead of the letter is a further message of the call before. 16 times '@'
 * stands for the newest handle. Nothing may be left in use, and every refusal has a text.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "session.h"

#define CALLS_MAX 8
#define SENT_MAX 64
#define CALL_MS 300
#define INPUTS_PER_DATABASE 50

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In the order of the service's methods. */
static const char letters[] = "hipsgual";

struct hs_grpc_call {
    const uint8_t *at, *end; /* of the input: this call's messages come next */
    uint8_t *message;
    char *authorization;
    char text[1024];
    bool has_begun;
    int n_sent;
    double until_ms;
    atomic_bool is_over;
    void (*over_fn)(void *user);
    void *over_user;
};

static pthread_mutex_t over_lock = PTHREAD_MUTEX_INITIALIZER;
static hs_grpc_call *running; /* under over_lock */
static struct hs_grpc_config server_config;
static hs_flight *flight;

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* ---- what the dispatcher calls of api/grpc.h ---- */

void hs_grpc_config_defaults(struct hs_grpc_config *ret_config)
{
    *ret_config = (struct hs_grpc_config){.host = "127.0.0.1"};
}

hs_status hs_grpc_server_start(const struct hs_grpc_config *config, hs_grpc_server **ret_server,
                               struct hs_error *err)
{
    (void)err;
    server_config = *config;
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

const char *hs_grpc_call_header(const hs_grpc_call *call, const char *name)
{
    return strcmp(name, "authorization") == 0 ? call->authorization : NULL;
}

hs_status hs_grpc_call_set_header(hs_grpc_call *call, const char *name, const char *value,
                                  struct hs_error *err)
{
    (void)call;
    (void)err;
    require(*name != '\0' && hs_utf8_valid(value, strlen(value)));
    return HS_OK;
}

uint64_t hs_grpc_call_connection_id(const hs_grpc_call *call)
{
    (void)call;
    return 1;
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
    pthread_mutex_unlock(&over_lock);
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

static void fill_handles(uint8_t *message, size_t size)
{
    static const char place[] = "@@@@@@@@@@@@@@@@";
    const struct hs_flight_session *session = flight->sessions;
    uint8_t *found = memmem(message, size, place, HS_FLIGHT_HANDLE_SIZE);
    while (found && session && session->handles) {
        memcpy(found, session->handles->id, HS_FLIGHT_HANDLE_SIZE);
        found = memmem(message, size, place, HS_FLIGHT_HANDLE_SIZE);
    }
}

int hs_grpc_call_recv(hs_grpc_call *call, const uint8_t **ret_data, size_t *ret_size)
{
    hs_free(call->message);
    call->message = NULL;
    if (call->end - call->at < 3 || (call->has_begun && *call->at != '+')) {
        return 0;
    }
    call->has_begun = true;
    size_t left = (size_t)(call->end - call->at) - 3, size = call->at[1] | (size_t)call->at[2] << 8;
    size = size < left ? size : left;
    call->message = hs_alloc(size + 1);
    require(call->message != NULL);
    memcpy(call->message, call->at + 3, size);
    fill_handles(call->message, size);
    call->at += 3 + size;
    *ret_data = call->message;
    *ret_size = size;
    return 1;
}

bool hs_grpc_call_send(hs_grpc_call *call, const struct hs_grpc_message *message)
{
    unsigned sum = 0;
    for (size_t i = 0; i < message->n_parts; i++) {
        const uint8_t *bytes = message->parts[i].data;
        for (size_t k = 0; k < message->parts[i].size; k++) {
            sum += bytes[k];
        }
    }
    volatile unsigned is_read = sum; /* every byte is there */
    (void)is_read;
    if (message->release) {
        message->release(message->user);
    }
    return ++call->n_sent < SENT_MAX;
}

/* ---- calls ---- */

/* Ends calls that take long: any statement may be among them. */
static void *watch(void *user)
{
    (void)user;
    for (;;) {
        pthread_mutex_lock(&over_lock);
        if (running && hs_clock_ms() > running->until_ms) {
            atomic_store(&running->is_over, true);
            if (running->over_fn) {
                running->over_fn(running->over_user);
            }
        }
        pthread_mutex_unlock(&over_lock);
        const struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void set_running(hs_grpc_call *call)
{
    pthread_mutex_lock(&over_lock);
    running = call;
    pthread_mutex_unlock(&over_lock);
}

static void check_idle(void)
{
    for (const struct hs_flight_session *i = flight->sessions; i; i = i->next) {
        require(i->n_calls == 0);
        for (const struct hs_flight_handle *k = i->handles; k; k = k->next) {
            require(k->n_users == 0 && !k->running && !k->is_dropped);
        }
        for (const struct hs_flight_conn *k = i->conns; k; k = k->next) {
            require(!k->is_busy);
        }
    }
}

static const uint8_t *skip(const uint8_t *at, const uint8_t *end)
{
    size_t size = 3 + (at[1] | (size_t)at[2] << 8);
    return size < (size_t)(end - at) ? at + size : end;
}

/* Where the call has read to; a login has its record as its header. */
static const uint8_t *run_call(size_t method, const uint8_t *at, const uint8_t *end)
{
    hs_grpc_call call = {.at = at, .end = end, .until_ms = hs_clock_ms() + CALL_MS};
    char *text = hs_strndup((const char *)at + 3, (size_t)(skip(at, end) - at) - 3);
    require(text != NULL);
    call.authorization = letters[method] == 'h' ? text : NULL;
    set_running(&call);
    enum hs_grpc_code code = server_config.methods[method].handler(&call, server_config.user);
    set_running(NULL);
    require(code <= HS_GRPC_UNAUTHENTICATED && code != HS_GRPC_UNKNOWN);
    require(code == HS_GRPC_OK || code == HS_GRPC_CANCELLED || call.text[0] != '\0');
    require(!call.over_fn);
    check_idle();
    hs_free(text);
    hs_free(call.message);
    return call.at;
}

static void run_calls(const uint8_t *at, const uint8_t *end)
{
    for (int i = 0; i < CALLS_MAX && end - at > 3; i++) {
        const char *letter = *at ? strchr(letters, *at) : NULL;
        const uint8_t *next = skip(at, end);
        if (letter) {
            const uint8_t *after = run_call((size_t)(letter - letters), at, end);
            next = after > next ? after : next;
        }
        at = next;
    }
}

/* Opening one takes longer than most inputs: several have it one after the other. */
static hs_sql *open_database(void)
{
    static hs_sql *sql;
    static unsigned n_inputs;
    if (n_inputs++ % INPUTS_PER_DATABASE == 0) {
        struct hs_sql_params params;
        hs_sql_close(sql);
        hs_sql_params_defaults(&params);
        params.memory_bytes = (uint64_t)32 << 20;
        params.n_threads = 1;
        require(hs_sql_open(&params, &sql, NULL) == HS_OK);
    }
    return sql;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pthread_t watcher;
    struct hs_flight_config config;
    if (!watcher) {
        require(pthread_create(&watcher, NULL, watch, NULL) == 0);
    }
    hs_flight_config_defaults(&config);
    config.sql = open_database();
    require(hs_flight_start(&config, &flight, NULL) == HS_OK);
    run_calls(data, data + size);
    hs_flight_sessions_disconnect(1, flight);
    require(flight->n_sessions <= CALLS_MAX);
    hs_flight_free(flight);
    return 0;
}
