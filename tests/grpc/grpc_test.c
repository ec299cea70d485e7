#include "grpc_test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

struct test_counts counts;
const char text_of_fail[] = "no table 'größe' at 100%\n";
static atomic_bool is_gate_open = true;

void test_close_gate(void)
{
    atomic_store(&is_gate_open, false);
}

void test_open_gate(void)
{
    atomic_store(&is_gate_open, true);
}

void sleep_ms(int ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

double now_ms(void)
{
    return hs_clock_ms();
}

void wait_for_int(atomic_int *value, int wanted)
{
    double end = now_ms() + LONG_MS;
    while (atomic_load(value) != wanted && now_ms() < end) {
        sleep_ms(1);
    }
    assert_int_equal(atomic_load(value), wanted);
}

/* ---- messages ---- */

struct payload {
    struct hs_grpc_part part;
    uint8_t data[];
};

static void release(void *user)
{
    atomic_fetch_add(&counts.n_released, 1);
    hs_free(user);
}

static bool send_payload(hs_grpc_call *call, struct payload *payload, size_t size)
{
    payload->part = (struct hs_grpc_part){payload->data, size};
    struct hs_grpc_message message = {&payload->part, 1, release, payload};
    atomic_fetch_add(&counts.n_sent, 1);
    return hs_grpc_call_send(call, &message);
}

static bool send_bytes(hs_grpc_call *call, const void *data, size_t size)
{
    struct payload *payload = hs_alloc(sizeof *payload + size);
    if (payload == NULL) {
        return false;
    }
    memcpy(payload->data, data, size);
    return send_payload(call, payload, size);
}

/* The request's only message as text. */
static bool read_text(hs_grpc_call *call, char *out, size_t max)
{
    const uint8_t *data;
    size_t size;
    if (hs_grpc_call_recv(call, &data, &size) != 1) {
        return false;
    }
    snprintf(out, max, "%.*s", (int)size, (const char *)data);
    return true;
}

/* ---- methods ---- */

static enum hs_grpc_code hello(hs_grpc_call *call, void *user)
{
    (void)user;
    send_bytes(call, "hello", 5);
    return HS_GRPC_OK;
}

static enum hs_grpc_code echo(hs_grpc_call *call, void *user)
{
    const uint8_t *data;
    size_t size;
    (void)user;
    int got = hs_grpc_call_recv(call, &data, &size);
    while (got == 1 && send_bytes(call, data, size)) {
        got = hs_grpc_call_recv(call, &data, &size);
    }
    return got == 0 ? HS_GRPC_OK : HS_GRPC_CANCELLED;
}

static enum hs_grpc_code late(hs_grpc_call *call, void *user)
{
    const uint8_t *data;
    size_t size;
    (void)user;
    HS_CLEANUP(hs_buf_free) struct hs_buf all = HS_BUF_INIT(SIZE_MAX);
    int got;
    while ((got = hs_grpc_call_recv(call, &data, &size)) == 1) {
        if (hs_buf_append(&all, data, size) != HS_OK) {
            return HS_GRPC_RESOURCE_EXHAUSTED;
        }
    }
    if (got == 0) {
        send_bytes(call, all.data == NULL ? "" : all.data, all.len);
    }
    return HS_GRPC_OK;
}

static enum hs_grpc_code flood(hs_grpc_call *call, void *user)
{
    char text[64];
    (void)user;
    if (!read_text(call, text, sizeof text)) {
        return HS_GRPC_INVALID_ARGUMENT;
    }
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    size_t size = strtoul(end, NULL, 10);
    for (unsigned long i = 0; i < n; i++) {
        struct payload *payload = hs_alloc(sizeof *payload + size);
        if (payload == NULL) {
            return HS_GRPC_RESOURCE_EXHAUSTED;
        }
        for (size_t j = 0; j < size; j++) {
            payload->data[j] = (uint8_t)(i + j);
        }
        if (!send_payload(call, payload, size)) {
            return HS_GRPC_CANCELLED;
        }
    }
    return HS_GRPC_OK;
}

static enum hs_grpc_code parts(hs_grpc_call *call, void *user)
{
    char text[64];
    (void)user;
    size_t n = read_text(call, text, sizeof text) ? strtoul(text, NULL, 10) : 0;
    struct hs_grpc_part *list = hs_calloc(n, sizeof *list + 2);
    if (list == NULL) {
        return HS_GRPC_RESOURCE_EXHAUSTED;
    }
    char *bytes = (char *)(list + n);
    for (size_t i = 0; i < n; i++) {
        bytes[2 * i] = bytes[2 * i + 1] = (char)('a' + i % 26);
        list[i] = (struct hs_grpc_part){i % 3 == 0 ? NULL : bytes + 2 * i, i % 3};
    }
    struct hs_grpc_message message = {list, n, release, list};
    atomic_fetch_add(&counts.n_sent, 1);
    hs_grpc_call_send(call, &message);
    return HS_GRPC_OK;
}

static enum hs_grpc_code not_found(hs_grpc_call *call, void *user)
{
    (void)user;
    return hs_grpc_call_fail(call, HS_GRPC_NOT_FOUND, "%s", text_of_fail);
}

static enum hs_grpc_code after(hs_grpc_call *call, void *user)
{
    (void)user;
    send_bytes(call, "one", 3);
    return hs_grpc_call_fail(call, HS_GRPC_ABORTED, "after one");
}

static enum hs_grpc_code head(hs_grpc_call *call, void *user)
{
    (void)user;
    struct hs_error err;
    hs_status status = hs_grpc_call_set_header(call, "x-answer", "yes", &err);
    return status == HS_OK ? HS_GRPC_OK
                           : hs_grpc_call_fail(call, HS_GRPC_INTERNAL, "%s", err.message);
}

static enum hs_grpc_code meta(hs_grpc_call *call, void *user)
{
    (void)user;
    const char *value = hs_grpc_call_header(call, "x-question");
    return value == NULL || send_bytes(call, value, strlen(value)) ? HS_GRPC_OK : HS_GRPC_CANCELLED;
}

static void on_over(void *user)
{
    atomic_store((atomic_bool *)user, true);
    atomic_fetch_add(&counts.n_over, 1);
}

static enum hs_grpc_code block(hs_grpc_call *call, void *user)
{
    (void)user;
    atomic_bool is_over = false;
    hs_grpc_call_on_over(call, on_over, &is_over);
    atomic_fetch_add(&counts.n_started, 1);
    while (!atomic_load(&is_gate_open) && !atomic_load(&is_over)) {
        sleep_ms(1);
    }
    atomic_fetch_add(&counts.n_ended, 1);
    return HS_GRPC_OK;
}

static enum hs_grpc_code gate(hs_grpc_call *call, void *user)
{
    (void)call;
    (void)user;
    atomic_fetch_add(&counts.n_started, 1);
    while (!atomic_load(&is_gate_open)) {
        sleep_ms(1);
    }
    atomic_fetch_add(&counts.n_ended, 1);
    return HS_GRPC_OK;
}

static enum hs_grpc_code count_messages(hs_grpc_call *call, void *user)
{
    const uint8_t *data;
    size_t size;
    (void)user;
    for (;;) {
        while (atomic_load(&counts.n_read) >= atomic_load(&counts.n_allowed) &&
               !hs_grpc_call_is_over(call)) {
            sleep_ms(1);
        }
        int got = hs_grpc_call_recv(call, &data, &size);
        if (got != 1) {
            atomic_fetch_add(&counts.n_ended, 1);
            return got == 0 ? HS_GRPC_OK : HS_GRPC_CANCELLED;
        }
        atomic_fetch_add(&counts.n_read, 1);
    }
}

static enum hs_grpc_code left(hs_grpc_call *call, void *user)
{
    (void)user;
    char text[32];
    int n = snprintf(text, sizeof text, "%lld", (long long)hs_grpc_call_deadline_ms(call));
    send_bytes(call, text, (size_t)n);
    return HS_GRPC_OK;
}

static enum hs_grpc_code where(hs_grpc_call *call, void *user)
{
    (void)user;
    char text[32];
    int n = snprintf(text, sizeof text, "%d", (int)hs_grpc_call_connection_id(call));
    send_bytes(call, text, (size_t)n);
    return HS_GRPC_OK;
}

static void on_disconnect(uint64_t connection_id, void *user)
{
    (void)user;
    atomic_store(&counts.last_disconnected, (int)connection_id);
    atomic_fetch_add(&counts.n_disconnected, 1);
}

static const struct hs_grpc_method methods[] = {
    {"/toy/Hello", hello},         {"/toy/Echo", echo},   {"/toy/Late", late},
    {"/toy/Flood", flood},         {"/toy/Parts", parts}, {"/toy/Fail", not_found},
    {"/toy/After", after},         {"/toy/Head", head},   {"/toy/Meta", meta},
    {"/toy/Left", left},           {"/toy/Block", block}, {"/toy/Gate", gate},
    {"/toy/Read", count_messages}, {"/toy/Where", where},
};

/* ---- server ---- */

void test_config(struct hs_grpc_config *ret_config)
{
    hs_grpc_config_defaults(ret_config);
    ret_config->methods = methods;
    ret_config->n_methods = sizeof methods / sizeof methods[0];
    ret_config->n_workers = 4;
    ret_config->on_disconnect = on_disconnect;
    test_open_gate();
    memset(&counts, 0, sizeof counts);
}

hs_grpc_server *test_start(const struct hs_grpc_config *config)
{
    hs_grpc_server *server = NULL;
    struct hs_error err = {.message = ""};
    if (hs_grpc_server_start(config, &server, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return server;
}

void test_stop(hs_grpc_server *server)
{
    struct hs_error err = {.message = ""};
    if (hs_grpc_server_stop(server, LONG_MS, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    hs_grpc_server_free(server);
    assert_int_equal(atomic_load(&counts.n_released), atomic_load(&counts.n_sent));
}
