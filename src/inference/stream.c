#include "stream.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"

#define INLINE_BYTES                                                                               \
    40u /* a token's text nearly always fits, so that posting does not allocate                    \
         */
#define DEFAULT_CAPACITY 256

/* One queued event. Heap memory stays with the slot and serves the events after it. */
struct slot {
    char *heap;
    size_t heap_cap;
    struct hs_token_logprob *logprobs;
    size_t logprobs_cap;
    char *call; /* id and name of a call, NUL behind each; NULL: none */
    size_t len;
    size_t n_logprobs;
    int32_t n_tokens;
    int32_t index;
    enum hs_event_type type;
    char text[INLINE_BYTES];
};

struct hs_stream {
    pthread_mutex_t mutex;
    pthread_cond_t readable; /* monotonic clock; the reader waits here */
    pthread_cond_t quiet;    /* whoever takes a callback away waits here for its calls under way */
    hs_stream_wake_fn wake;  /* NULL once detached */
    void *wake_user;
    hs_stream_notify_fn notify; /* the reader's; NULL: none */
    void *notify_user;
    int32_t n_waking, n_notifying;
    int32_t n_refs;
    int32_t n_prompt_tokens; /* does not change once the reader is there */
    int32_t capacity;
    int32_t n_queued;
    int32_t n_wanted; /* room the worker asked for in vain; 0: it is not waiting */
    size_t first;     /* slot of the oldest queued event */
    bool is_cancelled, is_finished, is_done_delivered;
    bool is_reader_waiting, is_reader_gone;
    bool is_untold; /* something was put and the reader's callback does not know */
    enum hs_finish finish;
    struct hs_usage usage;
    struct hs_error error;
    size_t n_slots;      /* capacity + 1: the event the reader looks at keeps its slot */
    struct slot slots[]; /* [n_slots], a ring */
};

const char *hs_finish_name(enum hs_finish finish)
{
    switch (finish) {
    case HS_FINISH_STOP:
        return "stop";
    case HS_FINISH_LENGTH:
        return "length";
    case HS_FINISH_CANCELLED:
        return "cancelled";
    case HS_FINISH_ERROR:
        return "error";
    case HS_FINISH_TOOL_CALLS:
        return "tool_calls";
    case HS_FINISH_NONE:
        break;
    }
    return "none";
}

const char *hs_slot_state_name(enum hs_slot_state state)
{
    switch (state) {
    case HS_SLOT_IDLE:
        break;
    case HS_SLOT_PREFILL:
        return "prefill";
    case HS_SLOT_DECODE:
        return "decode";
    }
    return "idle";
}

static int init_locks(hs_stream *stream)
{
    int rc = hs_cond_init(&stream->readable);
    if (rc != 0) {
        return rc;
    }
    rc = pthread_cond_init(&stream->quiet, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&stream->readable);
        return rc;
    }
    rc = pthread_mutex_init(&stream->mutex, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&stream->quiet);
        pthread_cond_destroy(&stream->readable);
    }
    return rc;
}

hs_status hs_stream_new(int32_t capacity, hs_stream_wake_fn wake, void *user,
                        hs_stream **ret_stream, struct hs_error *err)
{
    if (capacity < 0 || capacity > HS_STREAM_CAPACITY_MAX) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "stream capacity %d is not in 0..%d", capacity,
                     HS_STREAM_CAPACITY_MAX);
        hs_error_hint(err, "leave stream_capacity at 0 for the default of %d events",
                      DEFAULT_CAPACITY);
        return HS_INVALID_ARGUMENT;
    }
    if (capacity == 0) {
        capacity = DEFAULT_CAPACITY;
    } else if (capacity < HS_STREAM_CAPACITY_MIN) {
        capacity = HS_STREAM_CAPACITY_MIN;
    }
    size_t n_slots = (size_t)capacity + 1;
    hs_stream *stream = hs_calloc(1, sizeof(*stream) + n_slots * sizeof(stream->slots[0]));
    if (stream == NULL) {
        return hs_error_nomem(err, "token stream");
    }
    int rc = init_locks(stream);
    if (rc != 0) {
        hs_free(stream);
        return hs_error_set(err, hs_status_from_errno(rc),
                            "cannot make the locks of a token stream: %s", strerror(rc));
    }
    stream->wake = wake;
    stream->wake_user = user;
    stream->n_refs = 2;
    stream->capacity = capacity;
    stream->n_slots = n_slots;
    *ret_stream = stream;
    return HS_OK;
}

void hs_stream_set_prompt_tokens(hs_stream *stream, int32_t n_tokens)
{
    stream->n_prompt_tokens = n_tokens;
}

int32_t hs_stream_prompt_tokens(const hs_stream *stream)
{
    return stream->n_prompt_tokens;
}

static void stream_destroy(hs_stream *stream)
{
    for (size_t i = 0; i < stream->n_slots; i++) {
        hs_free(stream->slots[i].heap);
        hs_free(stream->slots[i].logprobs);
        hs_free(stream->slots[i].call);
    }
    pthread_mutex_destroy(&stream->mutex);
    pthread_cond_destroy(&stream->quiet);
    pthread_cond_destroy(&stream->readable);
    hs_free(stream);
}

/* Called with the mutex held, which is let go during the callback. The caller has a reference. */
static void notify_locked(hs_stream *stream)
{
    hs_stream_notify_fn notify = stream->notify;
    if (notify == NULL) {
        return;
    }
    void *user = stream->notify_user;
    stream->is_untold = false;
    stream->n_notifying++;
    pthread_mutex_unlock(&stream->mutex);
    notify(user);
    pthread_mutex_lock(&stream->mutex);
    if (--stream->n_notifying == 0) {
        pthread_cond_broadcast(&stream->quiet);
    }
}

static void drop_notify_locked(hs_stream *stream)
{
    stream->notify = NULL;
    while (stream->n_notifying > 0) {
        pthread_cond_wait(&stream->quiet, &stream->mutex);
    }
}

void hs_stream_set_notify(hs_stream *stream, hs_stream_notify_fn notify, void *user)
{
    pthread_mutex_lock(&stream->mutex);
    drop_notify_locked(stream);
    stream->notify = notify;
    stream->notify_user = user;
    bool has_end = stream->is_finished && !stream->is_done_delivered;
    if (stream->n_queued > 0 || has_end) {
        notify_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
}

static void finish_locked(hs_stream *stream, enum hs_finish finish, const struct hs_usage *usage,
                          const struct hs_error *error)
{
    if (stream->is_finished) {
        return;
    }
    stream->is_finished = true;
    stream->finish = finish;
    if (usage != NULL) {
        stream->usage = *usage;
    }
    if (error != NULL) {
        stream->error = *error;
    }
    if (stream->is_reader_waiting) {
        pthread_cond_signal(&stream->readable);
    }
    notify_locked(stream);
}

void hs_stream_unref(hs_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    pthread_mutex_lock(&stream->mutex);
    if (stream->n_refs > 1 && !stream->is_reader_gone && !stream->is_finished) {
        /* A reader must never wait for a worker that is gone. */
        struct hs_error error;
        hs_error_set(&error, HS_INTERNAL, "the worker dropped this request without finishing it");
        finish_locked(stream, HS_FINISH_ERROR, NULL, &error);
    }
    bool is_last = --stream->n_refs == 0;
    pthread_mutex_unlock(&stream->mutex);
    if (is_last) {
        stream_destroy(stream);
    }
}

void hs_stream_detach(hs_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    stream->wake = NULL;
    while (stream->n_waking > 0) {
        pthread_cond_wait(&stream->quiet, &stream->mutex);
    }
    pthread_mutex_unlock(&stream->mutex);
}

/* Called with the mutex held, which is let go during the callback: it may ask this stream things.
 */
static void wake_locked(hs_stream *stream)
{
    hs_stream_wake_fn wake = stream->wake;
    if (wake == NULL) {
        return;
    }
    void *user = stream->wake_user;
    stream->n_waking++;
    pthread_mutex_unlock(&stream->mutex);
    wake(user);
    pthread_mutex_lock(&stream->mutex);
    if (--stream->n_waking == 0) {
        pthread_cond_broadcast(&stream->quiet);
    }
}

bool hs_stream_has_room(hs_stream *stream, int32_t n_events)
{
    pthread_mutex_lock(&stream->mutex);
    bool has_room = stream->capacity - stream->n_queued >= n_events;
    stream->n_wanted = has_room ? 0 : n_events;
    pthread_mutex_unlock(&stream->mutex);
    return has_room;
}

bool hs_stream_is_cancelled(hs_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    bool is_cancelled = stream->is_cancelled;
    pthread_mutex_unlock(&stream->mutex);
    return is_cancelled;
}

/* Values of an embedding lie in the heap, which is aligned for them. */
static bool is_inline(enum hs_event_type type, size_t len)
{
    return len < INLINE_BYTES && type != HS_EVENT_EMBEDDING;
}

static char *slot_text(struct slot *slot)
{
    return is_inline(slot->type, slot->len) ? slot->text : slot->heap;
}

static hs_status slot_reserve(struct slot *slot, enum hs_event_type type, size_t len,
                              size_t n_logprobs)
{
    if (!is_inline(type, len) && len >= slot->heap_cap) {
        char *heap = hs_realloc(slot->heap, len + 1);
        if (heap == NULL) {
            return HS_OUT_OF_MEMORY;
        }
        slot->heap = heap;
        slot->heap_cap = len + 1;
    }
    if (n_logprobs > slot->logprobs_cap) {
        struct hs_token_logprob *logprobs =
            hs_realloc_array(slot->logprobs, n_logprobs, sizeof(slot->logprobs[0]));
        if (logprobs == NULL) {
            return HS_OUT_OF_MEMORY;
        }
        slot->logprobs = logprobs;
        slot->logprobs_cap = n_logprobs;
    }
    return HS_OK;
}

/* Takes `call` over on HS_OK. */
static hs_status post_locked(hs_stream *stream, enum hs_event_type type, int32_t index, char *call,
                             const void *text, size_t len, int32_t n_tokens,
                             const struct hs_token_logprob *logprobs, size_t n_logprobs)
{
    if (stream->n_queued == stream->capacity) {
        stream->n_wanted = 1;
        return HS_LIMIT;
    }
    size_t last = (stream->first + (size_t)stream->n_queued) % stream->n_slots;
    struct slot *slot = &stream->slots[last];
    if (logprobs == NULL) {
        n_logprobs = 0;
    }
    hs_status status = slot_reserve(slot, type, len, n_logprobs);
    if (status != HS_OK) {
        return status;
    }
    hs_free(slot->call);
    slot->call = call;
    slot->type = type;
    slot->index = index;
    slot->len = len;
    slot->n_tokens = n_tokens;
    slot->n_logprobs = n_logprobs;
    char *copy = slot_text(slot);
    if (len > 0) {
        memcpy(copy, text, len);
    }
    copy[len] = '\0';
    if (n_logprobs > 0) {
        memcpy(slot->logprobs, logprobs, n_logprobs * sizeof(logprobs[0]));
    }
    stream->n_queued++;
    if (stream->is_reader_waiting) {
        pthread_cond_signal(&stream->readable);
    }
    stream->is_untold = true;
    return HS_OK;
}

void hs_stream_tell(hs_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    if (stream->is_untold) {
        notify_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
}

hs_status hs_stream_put(hs_stream *stream, enum hs_event_type type, const char *text, size_t len,
                        int32_t n_tokens, const struct hs_token_logprob *logprobs,
                        size_t n_logprobs)
{
    if (type != HS_EVENT_TEXT && type != HS_EVENT_REASONING) {
        return HS_INVALID_ARGUMENT;
    }
    pthread_mutex_lock(&stream->mutex);
    hs_status status = HS_INVALID_ARGUMENT;
    if (!stream->is_finished) {
        status = post_locked(stream, type, 0, NULL, text, len, n_tokens, logprobs, n_logprobs);
    }
    pthread_mutex_unlock(&stream->mutex);
    return status;
}

static char *join_call(const char *id, const char *name)
{
    size_t id_size = strlen(id) + 1;
    size_t name_size = strlen(name) + 1;
    char *call = hs_alloc(id_size + name_size);
    if (call != NULL) {
        memcpy(call, id, id_size);
        memcpy(call + id_size, name, name_size);
    }
    return call;
}

hs_status hs_stream_post_call(hs_stream *stream, int32_t index, const char *id, const char *name,
                              const char *text, size_t len, int32_t n_tokens,
                              const struct hs_token_logprob *logprobs, size_t n_logprobs)
{
    char *call = name == NULL ? NULL : join_call(id, name);
    if (name != NULL && call == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    pthread_mutex_lock(&stream->mutex);
    hs_status status = HS_INVALID_ARGUMENT;
    if (!stream->is_finished) {
        status = post_locked(stream, HS_EVENT_TOOL_CALL, index, call, text, len, n_tokens, logprobs,
                             n_logprobs);
    }
    pthread_mutex_unlock(&stream->mutex);
    if (status != HS_OK) {
        hs_free(call);
        return status;
    }
    hs_stream_tell(stream);
    return HS_OK;
}

hs_status hs_stream_post(hs_stream *stream, enum hs_event_type type, const char *text, size_t len,
                         int32_t n_tokens, const struct hs_token_logprob *logprobs,
                         size_t n_logprobs)
{
    hs_status status = hs_stream_put(stream, type, text, len, n_tokens, logprobs, n_logprobs);
    if (status == HS_OK) {
        hs_stream_tell(stream);
    }
    return status;
}

hs_status hs_stream_post_embedding(hs_stream *stream, int32_t index, const float *values,
                                   int32_t n_values)
{
    pthread_mutex_lock(&stream->mutex);
    hs_status status = HS_INVALID_ARGUMENT;
    if (!stream->is_finished) {
        status = post_locked(stream, HS_EVENT_EMBEDDING, index, NULL, values,
                             (size_t)n_values * sizeof(values[0]), 0, NULL, 0);
    }
    if (status == HS_OK) {
        notify_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
    return status;
}

void hs_stream_finish(hs_stream *stream, enum hs_finish finish, const struct hs_usage *usage,
                      const struct hs_error *error)
{
    pthread_mutex_lock(&stream->mutex);
    finish_locked(stream, finish, usage, error);
    pthread_mutex_unlock(&stream->mutex);
}

/* Until an event can be read or the time is over; timeout_ms as in hs_stream_next. */
static void wait_locked(hs_stream *stream, int timeout_ms)
{
    if (timeout_ms == 0 || stream->n_queued > 0 || stream->is_finished) {
        return;
    }
    struct timespec deadline = {0};
    if (timeout_ms > 0) {
        deadline = hs_clock_deadline(timeout_ms);
    }
    int rc = 0;
    stream->is_reader_waiting = true;
    while (stream->n_queued == 0 && !stream->is_finished && rc != ETIMEDOUT) {
        if (timeout_ms < 0) {
            rc = pthread_cond_wait(&stream->readable, &stream->mutex);
        } else {
            rc = pthread_cond_timedwait(&stream->readable, &stream->mutex, &deadline);
        }
    }
    stream->is_reader_waiting = false;
}

static void take_locked(hs_stream *stream, struct hs_event *ret_event)
{
    memset(ret_event, 0, sizeof(*ret_event));
    if (stream->n_queued == 0) {
        ret_event->type = HS_EVENT_DONE;
        ret_event->text = "";
        ret_event->finish = stream->finish;
        ret_event->usage = stream->usage;
        ret_event->error = stream->error;
        stream->is_done_delivered = true;
        return;
    }
    struct slot *slot = &stream->slots[stream->first];
    ret_event->type = slot->type;
    ret_event->index = slot->index;
    if (slot->type == HS_EVENT_EMBEDDING) {
        ret_event->text = "";
        ret_event->values = (const float *)(const void *)slot_text(slot);
        ret_event->n_values = (int32_t)(slot->len / sizeof(float));
    } else {
        ret_event->text = slot_text(slot);
        ret_event->text_len = slot->len;
    }
    if (slot->call != NULL) {
        ret_event->tool_call_id = slot->call;
        ret_event->tool_name = slot->call + strlen(slot->call) + 1;
    }
    ret_event->n_tokens = slot->n_tokens;
    ret_event->logprobs = slot->n_logprobs > 0 ? slot->logprobs : NULL;
    stream->first = (stream->first + 1) % stream->n_slots;
    stream->n_queued--;
    if (stream->n_wanted > 0 && stream->capacity - stream->n_queued >= stream->n_wanted) {
        stream->n_wanted = 0;
        wake_locked(stream);
    }
}

hs_status hs_stream_next(hs_stream *stream, int timeout_ms, struct hs_event *ret_event,
                         struct hs_error *err)
{
    pthread_mutex_lock(&stream->mutex);
    hs_status status = HS_OK;
    if (stream->is_done_delivered) {
        status = HS_NOT_FOUND;
    } else {
        wait_locked(stream, timeout_ms);
        if (stream->n_queued > 0 || stream->is_finished) {
            take_locked(stream, ret_event);
        } else {
            status = HS_TIMEOUT;
        }
    }
    pthread_mutex_unlock(&stream->mutex);
    if (status == HS_NOT_FOUND) {
        hs_error_set(err, HS_NOT_FOUND, "the stream has ended: its last event was delivered");
    } else if (status == HS_TIMEOUT) {
        hs_error_set(err, HS_TIMEOUT, "no event within %d ms", timeout_ms);
    }
    return status;
}

void hs_stream_cancel(hs_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    if (!stream->is_cancelled && !stream->is_finished) {
        stream->is_cancelled = true;
        wake_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
}

void hs_stream_free(hs_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    hs_stream_cancel(stream);
    pthread_mutex_lock(&stream->mutex);
    drop_notify_locked(stream);
    stream->is_reader_gone = true;
    pthread_mutex_unlock(&stream->mutex);
    hs_stream_unref(stream);
}
