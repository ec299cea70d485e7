#include "http_test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

struct test_counts counts;
static atomic_bool is_gate_open = true;

void test_close_gate(void)
{
    atomic_store(&is_gate_open, false);
}

void test_open_gate(void)
{
    atomic_store(&is_gate_open, true);
}

void wait_for_int(atomic_int *value, int wanted)
{
    double end = now_ms() + LONG_MS;
    while (atomic_load(value) != wanted && now_ms() < end) {
        sleep_ms(1);
    }
    assert_int_equal(atomic_load(value), wanted);
}

void wait_until_stats(hs_http_server *server, int n_connections, int n_active)
{
    struct hs_http_stats stats;
    double end = now_ms() + LONG_MS;
    do {
        hs_http_server_stats(server, &stats);
        if (stats.n_connections == n_connections && stats.n_active == n_active) {
            return;
        }
        sleep_ms(1);
    } while (now_ms() < end);
    assert_int_equal(stats.n_connections, n_connections);
    assert_int_equal(stats.n_active, n_active);
}

/* ---- work of a request ---- */

struct work {
    hs_http_request *request;
    pthread_t thread;
    bool has_thread;
    atomic_bool must_stop;
    atomic_int n_made, n_taken;
    int n, gap_us, fail_after;
    bool is_ndjson, is_gated;
    atomic_int n_gone;
};

static void on_gone(hs_http_request *request, void *data, enum hs_http_gone why)
{
    (void)request;
    struct work *work = data;
    atomic_store(&work->must_stop, true);
    atomic_store(&counts.gone_ns, hs_clock_ns());
    atomic_store(&counts.gone_why, (int)why);
    atomic_fetch_add(&counts.n_gone, 1);
    if (atomic_fetch_add(&work->n_gone, 1) > 0) {
        atomic_fetch_add(&counts.n_gone_twice, 1);
    }
    hs_http_wake(request); /* as an engine would that reports the cancelled end */
}

static void on_end(void *data)
{
    struct work *work = data;
    atomic_store(&work->must_stop, true);
    if (work->has_thread) {
        pthread_join(work->thread, NULL);
    }
    hs_free(work);
    atomic_fetch_add(&counts.n_ended, 1);
}

static int number(hs_http_request *request, const char *name, int missing)
{
    const char *text = hs_http_request_query(request, name);
    return text == NULL ? missing : (int)strtol(text, NULL, 10);
}

static struct work *attach(hs_http_request *request)
{
    static const struct hs_http_hooks hooks = {on_gone, on_end};
    struct work *work = hs_calloc(1, sizeof *work);
    if (work == NULL) {
        abort();
    }
    work->request = request;
    work->n = number(request, "n", 3);
    work->gap_us = number(request, "gap_us", 1000);
    work->fail_after = number(request, "after", -1);
    work->is_gated = number(request, "gated", 0) != 0;
    atomic_fetch_add(&counts.n_started, 1);
    hs_http_attach(request, &hooks, work);
    return work;
}

static void *make_events(void *arg)
{
    struct work *work = arg;
    while (!atomic_load(&work->must_stop) && atomic_load(&work->n_made) < work->n) {
        if (work->gap_us > 0) {
            usleep((useconds_t)work->gap_us);
        }
        if (work->is_gated && atomic_load(&work->n_made) >= atomic_load(&counts.n_allowed)) {
            continue;
        }
        atomic_fetch_add(&work->n_made, 1);
        hs_http_wake(work->request);
    }
    return NULL;
}

static void start_thread(struct work *work)
{
    if (pthread_create(&work->thread, NULL, make_events, work) != 0) {
        abort();
    }
    work->has_thread = true;
}

/* ---- handlers ---- */

static void hello(hs_http_request *request, void *user)
{
    (void)user;
    hs_http_respond_static(request, 200, "text/plain", "hello", 5);
}

static void echo(hs_http_request *request, void *user)
{
    (void)user;
    size_t len;
    const char *body = hs_http_request_body(request, &len);
    hs_http_respond(request, 200, "application/octet-stream", body, len);
}

static void json(hs_http_request *request, void *user)
{
    (void)user;
    json_t *body = hs_http_request_json(request);
    if (body != NULL) {
        hs_http_respond_json(request, 200, json_incref(body));
    }
}

static void text(hs_http_request *request, const char *value)
{
    hs_http_respond(request, 200, "text/plain", value, strlen(value));
}

static void item(hs_http_request *request, void *user)
{
    (void)user;
    text(request, hs_http_request_param(request, "id"));
}

static void literal(hs_http_request *request, void *user)
{
    (void)user;
    text(request, "literal");
}

static void file(hs_http_request *request, void *user)
{
    (void)user;
    text(request, hs_http_request_param(request, "path"));
}

static void query(hs_http_request *request, void *user)
{
    (void)user;
    const char *value = hs_http_request_query(request, "a");
    text(request, value == NULL ? "(none)" : value);
}

static void who(hs_http_request *request, void *user)
{
    (void)user;
    const struct hs_http_key_info *key = hs_http_request_key(request);
    text(request, key == NULL ? "(nobody)" : key->name);
}

static void nothing(hs_http_request *request, void *user)
{
    (void)request;
    (void)user;
}

static void block(hs_http_request *request, void *user)
{
    (void)user;
    attach(request);
    bool is_stubborn = number(request, "hold", 0) == 1;
    while (!atomic_load(&is_gate_open) && (is_stubborn || !hs_http_request_is_gone(request))) {
        usleep(500);
    }
    text(request, "unblocked");
}

static void waited(hs_http_request *request, void *user)
{
    (void)user;
    struct work *work = hs_http_request_data(request);
    if (atomic_load(&work->n_made) == work->n) {
        text(request, "waited");
    }
}

static void wait_some(hs_http_request *request, void *user)
{
    (void)user;
    struct work *work = attach(request);
    start_thread(work);
    hs_http_wait(request, waited);
}

static void wait_for_ever(hs_http_request *request, void *user)
{
    (void)user;
    attach(request)->n = -1;
    hs_http_wait(request, waited);
}

static enum hs_http_pull pull_events(hs_http_request *request, void *data, struct hs_buf *out,
                                     struct hs_error *err)
{
    (void)request;
    struct work *work = data;
    atomic_fetch_add(&counts.n_pulls, 1);
    int taken = atomic_load(&work->n_taken);
    if (taken == work->fail_after) {
        (void)hs_error_set(err, HS_INTERNAL, "it \"broke\"");
        return HS_HTTP_FAIL;
    }
    if (taken >= work->n) {
        return HS_HTTP_END;
    }
    if (taken >= atomic_load(&work->n_made)) {
        return HS_HTTP_NOT_YET;
    }
    char number_text[32];
    int len = snprintf(number_text, sizeof number_text, "{\"i\":%d}", taken);
    hs_status status = work->is_ndjson ? hs_buf_printf(out, "%s\n", number_text)
                                       : hs_http_sse_append(out, NULL, number_text, (size_t)len);
    atomic_fetch_add(&work->n_taken, 1);
    if (status != HS_OK) {
        return HS_HTTP_FAIL;
    }
    bool has_more = taken + 1 == work->n || taken + 1 == work->fail_after ||
                    taken + 1 < atomic_load(&work->n_made);
    return has_more ? HS_HTTP_MORE : HS_HTTP_NOT_YET;
}

static void stream_events(hs_http_request *request, bool on_pool, bool is_ndjson)
{
    struct work *work = attach(request);
    work->is_ndjson = is_ndjson;
    const struct hs_http_stream stream = {
        .kind = is_ndjson ? HS_HTTP_NDJSON : HS_HTTP_SSE, .pull = pull_events, .on_pool = on_pool};
    hs_http_stream_start(request, 200, &stream);
    start_thread(work);
}

static void events(hs_http_request *request, void *user)
{
    (void)user;
    stream_events(request, false, false);
}

static void ndjson(hs_http_request *request, void *user)
{
    (void)user;
    stream_events(request, false, true);
}

static void pooled(hs_http_request *request, void *user)
{
    (void)user;
    stream_events(request, true, false);
}

static enum hs_http_pull pull_nothing(hs_http_request *request, void *data, struct hs_buf *out,
                                      struct hs_error *err)
{
    (void)request;
    (void)data;
    (void)out;
    (void)err;
    atomic_fetch_add(&counts.n_pulls, 1);
    return HS_HTTP_NOT_YET;
}

static void silent(hs_http_request *request, void *user)
{
    (void)user;
    attach(request);
    const char *ping_ms = hs_http_request_query(request, "ping");
    const struct hs_http_stream stream = {
        .kind = HS_HTTP_SSE,
        .pull = pull_nothing,
        .ping = ping_ms == NULL ? NULL : ": ping\n\n",
        .ping_ms = ping_ms == NULL ? 0 : strtol(ping_ms, NULL, 10),
    };
    hs_http_stream_start(request, 200, &stream);
}

static enum hs_http_pull pull_flood(hs_http_request *request, void *data, struct hs_buf *out,
                                    struct hs_error *err)
{
    static const char zeros[16384];
    (void)request;
    (void)err;
    struct work *work = data;
    int n = work->n < 16384 ? work->n : 16384;
    atomic_fetch_add(&counts.n_pulls, 1);
    work->n -= n;
    if (hs_buf_append(out, zeros, (size_t)n) != HS_OK) {
        return HS_HTTP_FAIL;
    }
    return work->n == 0 ? HS_HTTP_END : HS_HTTP_MORE;
}

static void flood(hs_http_request *request, void *user)
{
    (void)user;
    struct work *work = attach(request);
    work->n = number(request, "bytes", 100);
    const struct hs_http_stream stream = {
        .kind = HS_HTTP_RAW, .content_type = "application/octet-stream", .pull = pull_flood};
    hs_http_stream_start(request, 200, &stream);
}

static enum hs_http_pull pull_cut(hs_http_request *request, void *data, struct hs_buf *out,
                                  struct hs_error *err)
{
    (void)request;
    struct work *work = data;
    if (work->n_taken++ > 0) {
        (void)hs_error_set(err, HS_INTERNAL, "cut");
        return HS_HTTP_FAIL;
    }
    return hs_buf_append(out, "piece", 5) == HS_OK ? HS_HTTP_MORE : HS_HTTP_FAIL;
}

static void cut(hs_http_request *request, void *user)
{
    (void)user;
    attach(request);
    const struct hs_http_stream stream = {
        .kind = HS_HTTP_RAW, .content_type = "text/plain", .pull = pull_cut};
    hs_http_stream_start(request, 200, &stream);
}

static void big(hs_http_request *request, void *user)
{
    (void)user;
    size_t n = (size_t)number(request, "bytes", 1);
    struct hs_buf body = HS_BUF_INIT(SIZE_MAX);
    if (hs_buf_reserve(&body, n) == HS_OK) {
        memset(body.data, 'x', n);
        body.len = n;
        body.data[n] = '\0';
    }
    hs_http_respond_buf(request, 200, "text/plain", &body);
    hs_buf_free(&body);
}

static void headers(hs_http_request *request, void *user)
{
    (void)user;
    hs_http_set_header(request, "X-Split", "a\r\nX-Injected: b");
    hs_http_set_header(request, "Cache-Control", "max-age=60");
    const char *value = hs_http_request_header(request, "x-given");
    text(request, value == NULL ? "(none)" : value);
}

#define GET(path_, handler_)                                                                       \
    {                                                                                              \
        .method = HS_HTTP_GET, .path = path_, .handler = handler_                                  \
    }
const struct hs_http_route test_routes[] = {
    GET("/hello", hello),
    {.method = HS_HTTP_POST, .path = "/echo", .handler = echo},
    {.method = HS_HTTP_POST,
     .path = "/json",
     .handler = json,
     .summary = "The body back",
     .request_schema = "Thing",
     .response_schema = "Thing",
     .tag = "toys"},
    {.method = HS_HTTP_POST,
     .path = "/claude-json",
     .handler = json,
     .errors = HS_HTTP_ERRORS_ANTHROPIC},
    {.method = HS_HTTP_POST,
     .path = "/ollama-json",
     .handler = json,
     .errors = HS_HTTP_ERRORS_OLLAMA},
    GET("/items/{id}", item),
    {.method = HS_HTTP_DELETE, .path = "/items/{id}", .handler = item},
    GET("/items/first", literal),
    GET("/files/{path+}", file),
    GET("/query", query),
    GET("/headers", headers),
    {.method = HS_HTTP_GET, .path = "/infer", .handler = who, .scope = HS_KEY_INFERENCE},
    {.method = HS_HTTP_GET, .path = "/admin", .handler = who, .scope = HS_KEY_ADMIN},
    GET("/nothing", nothing),
    GET("/block", block),
    GET("/wait", wait_some),
    GET("/never", wait_for_ever),
    {.method = HS_HTTP_GET,
     .path = "/events",
     .handler = events,
     .gives = HS_HTTP_GIVES_JSON | HS_HTTP_GIVES_SSE},
    GET("/ndjson", ndjson),
    GET("/pooled", pooled),
    GET("/silent", silent),
    GET("/flood", flood),
    GET("/broken", events),
    {.method = HS_HTTP_GET,
     .path = "/claude-broken",
     .handler = events,
     .errors = HS_HTTP_ERRORS_ANTHROPIC},
    {.method = HS_HTTP_GET,
     .path = "/ollama-broken",
     .handler = ndjson,
     .errors = HS_HTTP_ERRORS_OLLAMA},
    GET("/cut", cut),
    GET("/big", big),
};
const size_t n_test_routes = sizeof test_routes / sizeof test_routes[0];

/* ---- server ---- */

void test_config(struct hs_http_config *ret_config)
{
    hs_http_config_defaults(ret_config);
    ret_config->n_workers = 2;
    ret_config->routes = test_routes;
    ret_config->n_routes = n_test_routes;
}

hs_http_server *test_start(const struct hs_http_config *config)
{
    atomic_store(&counts.n_started, 0);
    atomic_store(&counts.n_gone, 0);
    atomic_store(&counts.n_ended, 0);
    atomic_store(&counts.n_gone_twice, 0);
    atomic_store(&counts.n_pulls, 0);
    atomic_store(&counts.n_allowed, 0);
    atomic_store(&counts.gone_why, 0);
    test_open_gate();
    struct hs_http_config defaults;
    if (config == NULL) {
        test_config(&defaults);
        config = &defaults;
    }
    hs_http_server *server = NULL;
    struct hs_error err = {.message = ""};
    if (hs_http_server_start(config, &server, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return server;
}

void test_stop(hs_http_server *server)
{
    test_open_gate();
    struct hs_error err = {.message = ""};
    double begin = now_ms();
    hs_status status = hs_http_server_stop(server, 1000, &err);
    if (status != HS_OK) {
        fail_msg("%s", err.message);
    }
    assert_true(now_ms() - begin < LONG_MS);
    assert_int_equal(atomic_load(&counts.n_ended), atomic_load(&counts.n_started));
    assert_int_equal(atomic_load(&counts.n_gone_twice), 0);
    hs_http_server_free(server);
}
