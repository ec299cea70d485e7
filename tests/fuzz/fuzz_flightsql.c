/*
 * fuzz_flightsql.c - libFuzzer target of Flight SQL's dispatcher: calls on one connection, over a
 * database in memory. A call is a letter for its method, two bytes for a length (the lower first)
 * and a message; '+' instead of the letter is a further message of the call before. 16 times '@'
 * stands for the newest handle. Nothing may be left in use, and every refusal has a text.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "fake_grpc.h"
#include "session.h"

#define CALLS_MAX 8
#define SENT_MAX 64
#define CALL_MS 300
#define INPUTS_PER_DATABASE 50

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In the order of the service's methods. */
static const char letters[] = "hipsgual";

struct input {
    const uint8_t *at, *end; /* of the input: this call's messages come next */
    uint8_t *message;
    bool has_begun;
    int n_sent;
};

static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static hs_grpc_call *running; /* under running_lock, as is until_ms */
static double until_ms;
static hs_flight *flight;

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* ---- messages ---- */

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

static int receive(hs_grpc_call *call, const uint8_t **ret_data, size_t *ret_size)
{
    struct input *in = call->user;
    hs_free(in->message);
    in->message = NULL;
    if (in->end - in->at < 3 || (in->has_begun && *in->at != '+')) {
        return 0;
    }
    in->has_begun = true;
    size_t left = (size_t)(in->end - in->at) - 3, size = in->at[1] | (size_t)in->at[2] << 8;
    size = size < left ? size : left;
    in->message = hs_alloc(size + 1);
    require(in->message != NULL);
    memcpy(in->message, in->at + 3, size);
    fill_handles(in->message, size);
    in->at += 3 + size;
    *ret_data = in->message;
    *ret_size = size;
    return 1;
}

static bool take(hs_grpc_call *call, const struct hs_grpc_message *message)
{
    struct input *in = call->user;
    unsigned sum = 0;
    for (size_t i = 0; i < message->n_parts; i++) {
        const uint8_t *bytes = message->parts[i].data;
        for (size_t k = 0; k < message->parts[i].size; k++) {
            sum += bytes[k];
        }
    }
    volatile unsigned is_read = sum; /* every byte is there */
    (void)is_read;
    return ++in->n_sent < SENT_MAX;
}

/* ---- calls ---- */

/* Ends calls that take long: any statement may be among them. */
static void *watch(void *user)
{
    (void)user;
    for (;;) {
        pthread_mutex_lock(&running_lock);
        if (running && hs_clock_ms() > until_ms) {
            fake_grpc_end(running);
        }
        pthread_mutex_unlock(&running_lock);
        const struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void set_running(hs_grpc_call *call)
{
    pthread_mutex_lock(&running_lock);
    running = call;
    until_ms = hs_clock_ms() + CALL_MS;
    pthread_mutex_unlock(&running_lock);
}

static void check_idle(void)
{
    for (const struct hs_flight_session *i = flight->sessions; i; i = i->next) {
        require(i->n_calls == 0);
        for (const struct hs_flight_handle *k = i->handles; k; k = k->next) {
            require(k->n_users == 0 && !k->is_dropped);
        }
        for (const struct hs_flight_conn *k = i->conns; k; k = k->next) {
            require(!k->is_busy && !k->runs && !k->doomed);
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
    struct input in = {.at = at, .end = end};
    hs_grpc_call call = {.connection = 1, .recv = receive, .sent = take, .user = &in};
    char *text = hs_strndup((const char *)at + 3, (size_t)(skip(at, end) - at) - 3);
    require(text != NULL);
    call.authorization = letters[method] == 'h' ? text : NULL;
    set_running(&call);
    enum hs_grpc_code code = fake_grpc_config.methods[method].handler(&call, fake_grpc_config.user);
    set_running(NULL);
    require(code <= HS_GRPC_UNAUTHENTICATED && code != HS_GRPC_UNKNOWN);
    require(code == HS_GRPC_OK || code == HS_GRPC_CANCELLED || call.text[0] != '\0');
    require(!call.over_fn);
    check_idle();
    hs_free(text);
    hs_free(in.message);
    return in.at;
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
