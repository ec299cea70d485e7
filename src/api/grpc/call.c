/* call.c - a call as its handler sees it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "grpc_internal.h"

#define ANSWER_HEADERS_MAX (16u << 10)
#define LAST_CODE HS_GRPC_UNAUTHENTICATED

/* ---- the end ---- */

static void tell_over(hs_grpc_call *call)
{
    pthread_mutex_lock(&call->over_lock);
    void (*fn)(void *) = call->over_fn;
    call->over_fn = NULL;
    if (fn != NULL) {
        fn(call->over_user);
    }
    pthread_mutex_unlock(&call->over_lock);
}

bool hs_grpc_call_is_over(const hs_grpc_call *call)
{
    return atomic_load(&call->is_over);
}

void hs_grpc_call_on_over(hs_grpc_call *call, void (*fn)(void *user), void *user)
{
    pthread_mutex_lock(&call->over_lock);
    bool is_over = atomic_load(&call->is_over);
    call->over_fn = is_over ? NULL : fn;
    call->over_user = user;
    if (is_over && fn != NULL) {
        fn(user);
    }
    pthread_mutex_unlock(&call->over_lock);
}

static void note_text(hs_grpc_call *call, const char *text)
{
    snprintf(call->text, sizeof call->text, "%s", text);
}

static void drop_sent(struct hs_grpc_sent *list)
{
    while (list != NULL) {
        struct hs_grpc_sent *next = list->next;
        hs_grpc_sent_free(list);
        list = next;
    }
}

bool hs_grpc_call_stop(hs_grpc_call *call, enum hs_grpc_code code, const char *text)
{
    pthread_mutex_lock(&call->lock);
    if (call->is_finished) {
        pthread_mutex_unlock(&call->lock);
        return false;
    }
    if (!atomic_exchange(&call->is_over, true)) { /* else a message that could not be sent */
        call->code = code;
        note_text(call, text);
    }
    call->is_finished = true;
    struct hs_grpc_sent *unsent = call->sent.head;
    call->sent = (struct hs_grpc_sent_queue){.n = 0};
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
    hs_grpc_pool_remove(&call->server->pool, call);
    drop_sent(unsent);
    tell_over(call);
    return true;
}

void hs_grpc_call_run(hs_grpc_call *call)
{
    enum hs_grpc_code code = call->method->handler(call, call->server->config.user);
    hs_grpc_call_on_over(call, NULL, NULL);
    hs_grpc_received_free(&call->server->budget, call->reading);
    call->reading = NULL;
    pthread_mutex_lock(&call->lock);
    if (!call->is_finished && !atomic_load(&call->is_over)) {
        call->code = code > LAST_CODE ? HS_GRPC_UNKNOWN : code;
        if (code == HS_GRPC_OK) {
            note_text(call, "");
        }
    }
    call->is_finished = true;
    pthread_mutex_unlock(&call->lock);
    hs_grpc_loop_notify(call);
}

enum hs_grpc_code hs_grpc_call_fail(hs_grpc_call *call, enum hs_grpc_code code, const char *format,
                                    ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&call->lock);
    if (!call->is_finished && !atomic_load(&call->is_over)) {
        vsnprintf(call->text, sizeof call->text, format, args);
    }
    pthread_mutex_unlock(&call->lock);
    va_end(args);
    return code;
}

/* ---- messages ---- */

bool hs_grpc_received_has_room(const struct hs_grpc_received_queue *queue)
{
    return queue->n < HS_GRPC_QUEUE_MESSAGES || queue->size < HS_GRPC_QUEUE_BYTES;
}

/* Whether there is a message, the end, or the end of the call. Under call->lock. */
static bool has_news(const hs_grpc_call *call)
{
    return call->received.head != NULL || call->is_input_ended || atomic_load(&call->is_over);
}

int hs_grpc_call_recv(hs_grpc_call *call, const uint8_t **ret_data, size_t *ret_size)
{
    struct hs_grpc_received_queue *queue = &call->received;
    hs_grpc_received_free(&call->server->budget, call->reading);
    call->reading = NULL;
    pthread_mutex_lock(&call->lock);
    if (!has_news(call)) {
        call->is_waiting = true;
        atomic_store(&call->progress_ns, hs_clock_ns());
    }
    while (!has_news(call)) {
        pthread_cond_wait(&call->changed, &call->lock);
    }
    call->is_waiting = false;
    bool is_over = atomic_load(&call->is_over);
    struct hs_grpc_received *message = is_over ? NULL : queue->head;
    bool was_full = call->is_full;
    if (message != NULL) {
        queue->head = message->next;
        queue->n--;
        queue->size -= sizeof *message + message->size;
        call->is_full = call->is_full && !hs_grpc_received_has_room(queue);
    }
    was_full = was_full && !call->is_full;
    pthread_mutex_unlock(&call->lock);
    if (was_full) {
        hs_grpc_loop_notify(call);
    }
    if (message == NULL) {
        return is_over ? -1 : 0;
    }
    call->reading = message;
    *ret_data = message->data;
    *ret_size = message->size;
    return 1;
}

/* The handler cannot go on; the client hears of it when the handler returns. */
static bool refuse_send(hs_grpc_call *call, const struct hs_grpc_message *message, const char *text)
{
    hs_grpc_call_fail(call, HS_GRPC_RESOURCE_EXHAUSTED, "%s", text);
    pthread_mutex_lock(&call->lock);
    if (!call->is_finished && !atomic_exchange(&call->is_over, true)) {
        call->code = HS_GRPC_RESOURCE_EXHAUSTED;
    }
    pthread_mutex_unlock(&call->lock);
    hs_grpc_message_release(message);
    return false;
}

bool hs_grpc_call_send(hs_grpc_call *call, const struct hs_grpc_message *message)
{
    struct hs_grpc_sent_queue *queue = &call->sent;
    size_t size = hs_grpc_message_size(message);
    size_t max = call->server->config.limits.message_bytes;
    if (size > max) {
        char text[128];
        snprintf(text, sizeof text, "an answer with a message of %zu bytes; the limit is %zu", size,
                 max);
        return refuse_send(call, message, text);
    }
    struct hs_grpc_sent *sent = hs_grpc_sent_new(message, size);
    if (sent == NULL) {
        return refuse_send(call, message, "no memory for an answer");
    }
    pthread_mutex_lock(&call->lock);
    call->is_committed = true;
    while (!atomic_load(&call->is_over) && queue->n >= HS_GRPC_QUEUE_MESSAGES &&
           queue->size >= HS_GRPC_QUEUE_BYTES) {
        pthread_cond_wait(&call->changed, &call->lock);
    }
    bool is_over = atomic_load(&call->is_over);
    if (!is_over) {
        if (queue->head == NULL) {
            atomic_store(&call->progress_ns, hs_clock_ns());
        }
        *(queue->head == NULL ? &queue->head : &queue->tail->next) = sent;
        queue->tail = sent;
        queue->n++;
        queue->size += sizeof *sent + sent->size;
    }
    pthread_mutex_unlock(&call->lock);
    if (is_over) {
        hs_grpc_sent_free(sent);
        return false;
    }
    hs_grpc_loop_notify(call);
    return true;
}

/* ---- metadata ---- */

const char *hs_grpc_call_header(const hs_grpc_call *call, const char *name)
{
    return hs_grpc_field_find(call->headers, name);
}

static hs_status check_header(const hs_grpc_call *call, const char *name, const char *value,
                              size_t cost, struct hs_error *err)
{
    size_t name_len = strlen(name), value_len = strlen(value);
    if (call->is_committed) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "metadata '%s' comes behind the first message", name);
    }
    if (name[0] == ':' || strncmp(name, "grpc-", 5) == 0 ||
        !nghttp2_check_header_name((const uint8_t *)name, name_len) ||
        !nghttp2_check_header_value((const uint8_t *)value, value_len)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "metadata '%s' cannot be sent", name);
    }
    if (call->answer_header_bytes + cost > ANSWER_HEADERS_MAX) {
        return hs_error_set(err, HS_LIMIT, "metadata '%s' does not fit in %u bytes", name,
                            ANSWER_HEADERS_MAX);
    }
    return HS_OK;
}

hs_status hs_grpc_call_set_header(hs_grpc_call *call, const char *name, const char *value,
                                  struct hs_error *err)
{
    size_t cost = hs_grpc_field_cost(strlen(name), strlen(value));
    pthread_mutex_lock(&call->lock);
    hs_status status = check_header(call, name, value, cost, err);
    if (status == HS_OK) {
        if (hs_grpc_field_add(&call->answer_headers, name, strlen(name), value, strlen(value))) {
            call->answer_header_bytes += cost;
        } else {
            status = hs_error_nomem(err, "metadata");
        }
    }
    pthread_mutex_unlock(&call->lock);
    return status;
}

const char *hs_grpc_call_path(const hs_grpc_call *call)
{
    return call->path;
}

const char *hs_grpc_call_peer(const hs_grpc_call *call)
{
    return call->peer;
}

uint64_t hs_grpc_call_connection_id(const hs_grpc_call *call)
{
    return call->connection_id;
}

int64_t hs_grpc_call_deadline_ms(const hs_grpc_call *call)
{
    if (call->deadline_ns == HS_NET_NEVER) {
        return -1;
    }
    int64_t left_ns = call->deadline_ns - hs_clock_ns();
    return left_ns > 0 ? (left_ns + HS_NET_NS_PER_MS - 1) / HS_NET_NS_PER_MS : 0;
}
