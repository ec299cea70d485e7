/* request.c - a request's life: made by the transport thread, worked on by the pool, released. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "http_internal.h"
#include "json_body.h"

/* ---- fields ---- */

hs_status hs_http_field_add(struct hs_http_field **list, const char *name, const char *value)
{
    size_t name_size = strlen(name) + 1, value_size = strlen(value) + 1;
    struct hs_http_field *field = hs_alloc(sizeof *field + name_size + value_size);
    if (field == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    field->name = (char *)(field + 1);
    field->value = field->name + name_size;
    memcpy(field->name, name, name_size);
    memcpy(field->value, value, value_size);
    field->next = *list;
    *list = field;
    return HS_OK;
}

void hs_http_fields_free(struct hs_http_field *list)
{
    while (list != NULL) {
        struct hs_http_field *next = list->next;
        hs_free(list);
        list = next;
    }
}

/* ---- life ---- */

static void make_id(hs_http_server *server, char ret_id[65])
{
    /* splitmix64: every number once, in an order that says nothing of the count */
    uint64_t x = server->id_seed +
                 (atomic_fetch_add(&server->id_counter, 1) + 1) * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    snprintf(ret_id, 65, "req-%016llx", (unsigned long long)(x ^ (x >> 31)));
}

hs_http_request *hs_http_request_new(hs_http_server *server, struct hs_http_conn *conn)
{
    hs_http_request *request = hs_calloc(1, sizeof *request);
    if (request == NULL) {
        return NULL;
    }
    if (pthread_mutex_init(&request->lock, NULL) != 0) {
        hs_free(request);
        return NULL;
    }
    request->server = server;
    request->conn = conn;
    request->body.max = server->config.limits.body_bytes;
    request->out.max = SIZE_MAX;
    request->start_ns = hs_clock_ns();
    request->deadline_ns = HS_NET_NEVER;
    memcpy(request->peer, conn->peer, sizeof request->peer);
    make_id(server, request->id);
    hs_http_pool_count(&server->pool, 1);
    atomic_fetch_add(&server->n_requests, 1);
    return request;
}

void hs_http_request_destroy(hs_http_request *request)
{
    struct hs_http_pool *pool = &request->server->pool;
    hs_http_target_free(&request->target);
    hs_http_fields_free(request->headers);
    hs_http_fields_free(request->answer_headers);
    hs_buf_free(&request->body);
    hs_buf_free(&request->out);
    hs_free(request->content_type_copy);
    json_decref(request->json);
    pthread_mutex_destroy(&request->lock);
    hs_free(request);
    hs_http_pool_count(pool, -1);
}

/* Whether a pool thread has something to do for it. Under the lock. */
static bool has_work(const hs_http_request *request)
{
    if (request->is_released) {
        return true;
    }
    if (request->gone != 0) {
        return false;
    }
    if (request->answer_kind == HS_HTTP_STREAM) {
        return request->stream.on_pool && request->is_pull_wanted && request->is_woken;
    }
    return !request->is_started || (request->answer_kind == HS_HTTP_NO_ANSWER &&
                                    request->step != NULL && request->is_woken);
}

bool hs_http_request_is_ready(const hs_http_request *request)
{
    bool is_stream = request->answer_kind == HS_HTTP_STREAM;
    if (!request->is_announced) {
        return request->gone != 0 ||
               (request->answer_kind != HS_HTTP_NO_ANSWER && request->work != HS_HTTP_RUNNING);
    }
    if (!is_stream) {
        return true;
    }
    if (request->stream.on_pool) { /* `out` is the pool's as long as it pulls */
        return request->work == HS_HTTP_AT_REST && (request->gone != 0 || !request->is_pull_wanted);
    }
    return request->gone != 0 || request->is_woken;
}

static void enter_ready(hs_http_request *request)
{
    hs_http_server *server = request->server;
    pthread_mutex_lock(&server->ready_lock);
    if (!request->is_ready) {
        request->is_ready = true;
        request->ready_next = server->ready;
        server->ready = request;
    }
    pthread_mutex_unlock(&server->ready_lock);
}

/* Whether the transport thread is to be signalled. */
static bool enter_queues(hs_http_request *request)
{
    if (request->work == HS_HTTP_AT_REST && has_work(request)) {
        request->work = HS_HTTP_QUEUED;
        bool is_beginning = !request->is_started && !request->is_released;
        hs_http_pool_push(&request->server->pool, request, is_beginning);
    }
    if (request->is_released || !request->is_parked || !hs_http_request_is_ready(request)) {
        return false;
    }
    enter_ready(request);
    return true;
}

void hs_http_request_poke(hs_http_request *request)
{
    if (enter_queues(request)) {
        hs_net_loop_signal(&request->server->loop);
    }
}

static void unlink_ready(hs_http_request *request)
{
    hs_http_server *server = request->server;
    pthread_mutex_lock(&server->ready_lock);
    if (request->is_ready) {
        hs_http_request **at = &server->ready;
        while (*at != request) {
            at = &(*at)->ready_next;
        }
        *at = request->ready_next;
        request->is_ready = false;
    }
    pthread_mutex_unlock(&server->ready_lock);
}

void hs_http_request_release(hs_http_request *request)
{
    pthread_mutex_lock(&request->lock);
    request->is_released = true;
    request->is_parked = false;
    request->conn = NULL;
    unlink_ready(request);
    bool is_free = request->work == HS_HTTP_AT_REST && !request->has_hooks && request->kept == NULL;
    if (!is_free) {
        hs_http_request_poke(request);
    }
    pthread_mutex_unlock(&request->lock);
    if (is_free) {
        hs_http_request_destroy(request);
    }
}

static void finish(hs_http_request *request)
{
    if (request->has_hooks && request->hooks.on_end != NULL) {
        request->hooks.on_end(request->hook_data);
    }
    if (request->kept != NULL) {
        request->drop_kept(request->kept);
    }
    hs_http_request_destroy(request);
}

static void run_handler(hs_http_request *request, hs_http_handler handler)
{
    handler(request, request->server->config.user);
    pthread_mutex_lock(&request->lock);
    bool is_lost = !request->is_claimed && request->step == NULL && request->gone == 0;
    pthread_mutex_unlock(&request->lock);
    if (is_lost) {
        hs_http_answer_error(request, &(struct hs_http_error){
                                          .status = 500,
                                          .message = "the request was left without an answer",
                                      });
    }
}

void hs_http_request_work(hs_http_request *request)
{
    pthread_mutex_lock(&request->lock);
    request->work = HS_HTTP_RUNNING;
    hs_http_handler handler = NULL;
    bool is_pull = false;
    if (!request->is_released && has_work(request)) {
        if (request->answer_kind == HS_HTTP_STREAM) {
            is_pull = true;
        } else if (!request->is_started) {
            handler = request->route->handler;
            request->is_started = true;
        } else {
            handler = request->step;
            request->is_woken = false;
        }
    }
    pthread_mutex_unlock(&request->lock);
    if (handler != NULL) {
        run_handler(request, handler);
    } else if (is_pull) {
        hs_http_stream_pull(request);
    }
    pthread_mutex_lock(&request->lock);
    bool is_over = request->is_released;
    if (!is_over) { /* else it stays at work, so that a late wake does not queue it again */
        request->work = HS_HTTP_AT_REST;
        hs_http_request_poke(request);
    }
    pthread_mutex_unlock(&request->lock);
    if (is_over) {
        finish(request);
    }
}

/* ---- for handlers ---- */

const char *hs_http_request_id(const hs_http_request *request)
{
    return request->id;
}

const struct hs_http_route *hs_http_request_route(const hs_http_request *request)
{
    return request->route;
}

const char *hs_http_request_path(const hs_http_request *request)
{
    return request->target.path;
}

const char *hs_http_request_param(const hs_http_request *request, const char *name)
{
    return hs_http_params_get(&request->params, name);
}

const char *hs_http_request_query(const hs_http_request *request, const char *name)
{
    return hs_http_target_query(&request->target, name);
}

const char *hs_http_request_header(const hs_http_request *request, const char *name)
{
    const char *found = NULL; /* the list is in reverse order */
    for (const struct hs_http_field *i = request->headers; i != NULL; i = i->next) {
        found = strcasecmp(i->name, name) == 0 ? i->value : found;
    }
    return found != NULL && hs_utf8_valid(found, strlen(found)) ? found : NULL;
}

const char *hs_http_request_body(const hs_http_request *request, size_t *ret_len)
{
    if (ret_len != NULL) {
        *ret_len = request->body.len;
    }
    return request->body.data == NULL ? "" : request->body.data;
}

const struct hs_http_key_info *hs_http_request_key(const hs_http_request *request)
{
    return request->has_key ? &request->key : NULL;
}

const char *hs_http_request_peer(const hs_http_request *request)
{
    return request->peer;
}

int64_t hs_http_request_left_ms(const hs_http_request *request)
{
    if (request->deadline_ns == HS_NET_NEVER) {
        return INT64_MAX;
    }
    int64_t left = request->deadline_ns - hs_clock_ns();
    return left > 0 ? left / HS_NET_NS_PER_MS : 0;
}

bool hs_http_request_is_gone(const hs_http_request *request)
{
    return atomic_load_explicit(&request->is_gone_flag, memory_order_relaxed);
}

json_t *hs_http_request_json(hs_http_request *request)
{
    if (request->json == NULL) {
        size_t len;
        const char *text = hs_http_request_body(request, &len);
        struct hs_error err;
        int depth = request->server->config.limits.json_depth;
        if (hs_http_json_parse(text, len, depth, &request->json, &err) != HS_OK) {
            hs_http_respond_failure(request, &err, NULL);
            return NULL;
        }
    }
    return request->json;
}

void hs_http_attach(hs_http_request *request, const struct hs_http_hooks *hooks, void *data)
{
    pthread_mutex_lock(&request->lock);
    request->hooks = *hooks;
    request->hook_data = data;
    request->has_hooks = true;
    enum hs_http_gone gone = request->gone;
    bool is_told_now = gone != 0 && !request->is_gone_told;
    request->is_gone_told = request->is_gone_told || is_told_now;
    pthread_mutex_unlock(&request->lock);
    if (is_told_now && hooks->on_gone != NULL) {
        hooks->on_gone(request, data, gone);
    }
}

void hs_http_keep(hs_http_request *request, void (*drop)(void *data), void *data)
{
    pthread_mutex_lock(&request->lock);
    request->drop_kept = drop;
    request->kept = data;
    pthread_mutex_unlock(&request->lock);
}

void *hs_http_kept(const hs_http_request *request)
{
    return request->kept;
}

void *hs_http_request_data(const hs_http_request *request)
{
    return request->hook_data;
}

void hs_http_wait(hs_http_request *request, hs_http_handler step)
{
    pthread_mutex_lock(&request->lock);
    request->step = step;
    pthread_mutex_unlock(&request->lock);
}

void hs_http_wake(hs_http_request *request)
{
    pthread_mutex_lock(&request->lock);
    request->is_woken = true;
    hs_http_server *server = request->server;
    bool is_due = enter_queues(request);
    pthread_mutex_unlock(&request->lock);
    if (is_due) {
        hs_net_loop_signal(
            &server->loop); /* under the lock, it would wake up only to wait for it */
    }
}
