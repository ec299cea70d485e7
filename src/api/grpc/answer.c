/* answer.c - what a call sends: the head, slices of messages, and the status as trailers. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grpc_internal.h"

#define FRAME_HEAD 9
/* :status, content-type, grpc-accept-encoding, grpc-status, grpc-message */
#define FIELDS_MAX 5
#define ENCODED_MAX (3 * HS_GRPC_TEXT_MAX + 1)

struct status_fields {
    char code[4];
    char text[ENCODED_MAX];
};

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

/* How many fields. Under call->lock. */
static size_t add_status(const hs_grpc_call *call, struct status_fields *status, nghttp2_nv *fields)
{
    size_t n = 0;
    snprintf(status->code, sizeof status->code, "%d", (int)call->code);
    fields[n++] = field("grpc-status", status->code);
    hs_grpc_text_encode(call->text, status->text, sizeof status->text);
    if (status->text[0] != '\0') {
        fields[n++] = field("grpc-message", status->text);
    }
    return n;
}

/* The next message, if there is one. */
static bool take_message(hs_grpc_call *call)
{
    if (call->sending != NULL) {
        return true;
    }
    struct hs_grpc_sent_queue *queue = &call->sent;
    pthread_mutex_lock(&call->lock);
    struct hs_grpc_sent *sent = queue->head;
    if (sent != NULL) {
        queue->head = sent->next;
        queue->n--;
        queue->size -= sizeof *sent + sent->size;
        pthread_cond_broadcast(&call->changed);
    }
    pthread_mutex_unlock(&call->lock);
    call->sending = sent;
    call->sent_offset = 0;
    return sent != NULL;
}

static ssize_t read_data(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t max,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    hs_grpc_call *call = source->ptr;
    (void)out;
    (void)user;
    if (take_message(call)) {
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
        return (ssize_t)hs_grpc_out_frame_size(call->sending, call->sent_offset, max);
    }
    nghttp2_nv fields[FIELDS_MAX];
    struct status_fields status;
    pthread_mutex_lock(&call->lock);
    /* between the look at the queue and this one the handler may have sent its last message */
    bool is_finished = call->is_finished && call->sent.head == NULL;
    bool has_more = call->sent.head != NULL;
    size_t n = is_finished ? add_status(call, &status, fields) : 0;
    pthread_mutex_unlock(&call->lock);
    if (has_more) {
        return read_data(session, stream_id, out, max, flags, source, user);
    }
    if (!is_finished) {
        call->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    int code = nghttp2_submit_trailer(session, stream_id, fields, n);
    return code == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

int hs_grpc_answer_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                             size_t size, nghttp2_data_source *source, void *user)
{
    struct hs_grpc_conn *conn = user;
    hs_grpc_call *call = source->ptr;
    (void)session;
    (void)frame;
    if (!hs_grpc_out_has_room(conn->out, FRAME_HEAD)) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    hs_grpc_out_copy(conn->out, head, FRAME_HEAD);
    hs_grpc_out_append(conn->out, call->sending, call->sent_offset, size);
    call->sent_offset += size;
    if (call->sent_offset == call->sending->size) {
        hs_grpc_out_retire(conn->out, call->sending);
        call->sending = NULL;
    }
    atomic_store(&call->progress_ns, hs_clock_ns());
    return 0;
}

/* Under call->lock; the fields point into the call and `status`. */
static size_t make_head(const hs_grpc_call *call, bool is_all, char http_status[4],
                        struct status_fields *status, nghttp2_nv *fields)
{
    size_t n = 0;
    snprintf(http_status, 4, "%d", call->http_status);
    fields[n++] = field(":status", http_status);
    fields[n++] = field("content-type", "application/grpc");
    fields[n++] = field("grpc-accept-encoding", "identity");
    for (const struct hs_grpc_field *i = call->answer_headers; i != NULL; i = i->next) {
        fields[n++] = field(i->name, i->value);
    }
    return is_all ? n + add_status(call, status, fields + n) : n;
}

static int submit_head(hs_grpc_call *call, bool is_all)
{
    size_t n = FIELDS_MAX;
    for (const struct hs_grpc_field *i = call->answer_headers; i != NULL; i = i->next) {
        n++;
    }
    HS_CLEANUP(hs_freep) nghttp2_nv *fields = hs_calloc(n, sizeof *fields);
    if (fields == NULL) {
        return NGHTTP2_ERR_NOMEM;
    }
    char http_status[4];
    struct status_fields status;
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_data};
    pthread_mutex_lock(&call->lock);
    n = make_head(call, is_all, http_status, &status, fields);
    pthread_mutex_unlock(&call->lock);
    return nghttp2_submit_response(call->conn->session, call->stream_id, fields, n,
                                   is_all ? NULL : &provider);
}

void hs_grpc_answer_advance(hs_grpc_call *call)
{
    struct hs_grpc_conn *conn = call->conn;
    if (conn == NULL) {
        return;
    }
    pthread_mutex_lock(&call->lock);
    bool has_news = call->is_finished || call->sent.n > 0;
    /* without anything before it, a failure is head and trailers in one */
    bool is_all = call->is_finished && call->sent.n == 0 && call->code != HS_GRPC_OK &&
                  call->answer_headers == NULL;
    call->is_committed = call->is_committed || has_news;
    pthread_mutex_unlock(&call->lock);
    if (!has_news) {
        return;
    }
    int code = 0;
    if (!call->is_answered) {
        call->is_answered = true;
        code = submit_head(call, is_all);
    } else if (call->is_deferred) {
        call->is_deferred = false;
        code = nghttp2_session_resume_data(conn->session, call->stream_id);
    }
    /* a stream that is being closed has no data to resume */
    if (code != 0 && code != NGHTTP2_ERR_INVALID_ARGUMENT) {
        hs_log(HS_LOG_WARN, "grpc", "an answer to %s: %s", call->peer, nghttp2_strerror(code));
        conn->is_dead = true;
    }
    hs_grpc_conn_touch(conn);
}
