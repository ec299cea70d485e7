/* One step of an embedder: plan, compute, post. */
#include "base/clock.h"
#include "base/error.h"
#include "embedder_internal.h"

/* ---- ending requests ---- */

static void free_slots(hs_embedder *embedder, const struct hs_embed_request *request)
{
    for (int32_t s = 0; s < embedder->made.n_seq_max; s++) {
        if (embedder->slots[s].request == request) {
            embedder->rt->embed_take(embedder->made.context, s, NULL);
            embedder->slots[s].request = NULL;
            embedder->partial = embedder->partial == s ? -1 : embedder->partial;
        }
    }
}

/* The counts are right before anybody can see that the request is done. */
static void end_request(hs_embedder *embedder, struct hs_embed_request *request)
{
    free_slots(embedder, request);
    bool is_whole = request->finish == HS_FINISH_STOP;
    pthread_mutex_lock(&embedder->mutex);
    embedder->n_requests--;
    hs_client_share_leave(&embedder->share, &request->place);
    embedder->n_embedded += request->n_posted;
    embedder->n_tokens += is_whole ? (uint64_t)request->usage.prompt_tokens : 0;
    if (embedder->n_requests == 0) {
        pthread_cond_broadcast(&embedder->changed);
    }
    pthread_mutex_unlock(&embedder->mutex);
    hs_embed_request_complete(request);
}

void hs_embedder_reap(hs_embedder *embedder)
{
    struct hs_embed_request **place = &embedder->first;
    while (*place != NULL) {
        struct hs_embed_request *request = *place;
        if (request->finish == HS_FINISH_NONE) {
            place = &request->next;
        } else {
            *place = request->next;
            end_request(embedder, request);
        }
    }
}

/* ---- planning ---- */

static ptrdiff_t free_slot(const hs_embedder *embedder)
{
    for (int32_t s = 0; s < embedder->made.n_seq_max; s++) {
        if (embedder->slots[s].request == NULL) {
            return s;
        }
    }
    return -1;
}

static void add_tokens(hs_embedder *embedder, ptrdiff_t s, int32_t n)
{
    const struct hs_embed_slot *slot = &embedder->slots[s];
    size_t n_all = 0;
    const int32_t *tokens = hs_embed_request_input(slot->request, slot->input, &n_all);
    hs_batch_add(&embedder->batch, (size_t)s, (int32_t)s, (int32_t)slot->n_done,
                 tokens + slot->n_done, n, false, NULL);
    slot->request->is_served = true;
}

/* An input is begun only when there is room for the events of all that the request has under way:
 * the thread never waits for a reader. */
static bool can_begin(struct hs_embed_request *request)
{
    size_t n_events = request->n_started - request->n_posted + 1;
    return request->n_started < request->n_inputs &&
           hs_stream_has_room(request->stream, (int32_t)n_events);
}

/* Begin the request's next input when it fits into `room`, or in parts when it is the only one.
 * Returns the tokens added. */
static int32_t begin_input(hs_embedder *embedder, struct hs_embed_request *request, int32_t room)
{
    const struct hs_rt_embedder *made = &embedder->made;
    ptrdiff_t s = free_slot(embedder);
    if (s < 0 || !can_begin(request)) {
        return 0;
    }
    size_t len = 0;
    (void)hs_embed_request_input(request, request->n_started, &len);
    int32_t n = (int32_t)len;
    bool is_first = embedder->batch.n_items == 0;
    bool fits =
        made->is_whole ? is_first || embedder->batch.n_items + n <= made->n_batch_good : n <= room;
    bool is_part = !fits && !made->is_whole && embedder->partial < 0;
    if (!fits && !is_part) {
        return 0;
    }
    if (request->started_at_ms <= 0) {
        request->started_at_ms = hs_clock_ms();
    }
    embedder->slots[s] =
        (struct hs_embed_slot){.request = request, .input = request->n_started++, .n_done = 0};
    embedder->partial = is_part ? s : embedder->partial;
    n = is_part ? room : n;
    add_tokens(embedder, s, n);
    return n;
}

/* The input in parts leaves half of the batch to others who wait. */
static int32_t go_on(hs_embedder *embedder, int32_t room)
{
    if (embedder->partial < 0) {
        return 0;
    }
    const struct hs_embed_slot *slot = &embedder->slots[embedder->partial];
    size_t n_all = 0;
    (void)hs_embed_request_input(slot->request, slot->input, &n_all);
    size_t n = n_all - slot->n_done;
    bool is_alone = embedder->first->next == NULL;
    size_t most = (size_t)(is_alone || room < 2 ? room : room / 2);
    n = n < most ? n : most;
    add_tokens(embedder, embedder->partial, (int32_t)n);
    return (int32_t)n;
}

/* Who was served goes behind those who were not, in order. */
static void rotate(hs_embedder *embedder)
{
    struct hs_embed_request *served = NULL;
    struct hs_embed_request **last_served = &served;
    struct hs_embed_request **place = &embedder->first;
    while (*place != NULL) {
        struct hs_embed_request *request = *place;
        if (!request->is_served) {
            place = &request->next;
            continue;
        }
        request->is_served = false;
        *place = request->next;
        request->next = NULL;
        *last_served = request;
        last_served = &request->next;
    }
    *place = served;
}

static void plan(hs_embedder *embedder)
{
    hs_batch_clear(&embedder->batch);
    int32_t room = embedder->made.n_batch;
    room -= go_on(embedder, room);
    int32_t n_before;
    do {
        n_before = embedder->batch.n_items;
        for (struct hs_embed_request *r = embedder->first; r != NULL && room > 0; r = r->next) {
            room -= begin_input(embedder, r, room);
        }
    } while (embedder->batch.n_items > n_before && room > 0);
    rotate(embedder);
}

/* ---- computing ---- */

static void fail_batch(hs_embedder *embedder, const struct hs_error *error)
{
    for (int32_t i = 0; i < embedder->batch.n_spans; i++) {
        struct hs_embed_request *request = embedder->slots[embedder->batch.spans[i].owner].request;
        request->error = *error;
        hs_embed_request_mark(request, HS_FINISH_ERROR);
    }
}

static void take_results(hs_embedder *embedder)
{
    for (int32_t i = 0; i < embedder->batch.n_spans; i++) {
        const struct hs_batch_span *span = &embedder->batch.spans[i];
        struct hs_embed_slot *slot = &embedder->slots[span->owner];
        struct hs_embed_request *request = slot->request;
        size_t n_all = 0;
        (void)hs_embed_request_input(request, slot->input, &n_all);
        slot->n_done += (size_t)span->n;
        if (slot->n_done < n_all) {
            continue;
        }
        embedder->rt->embed_take(embedder->made.context, (int32_t)span->owner, embedder->values);
        slot->request = NULL;
        embedder->partial = embedder->partial == (ptrdiff_t)span->owner ? -1 : embedder->partial;
        if (request->finish == HS_FINISH_NONE) {
            hs_embed_request_post(request, slot->input, embedder->values,
                                  embedder->p.model->rt_info.n_embd_out);
        }
    }
}

bool hs_embedder_step(hs_embedder *embedder)
{
    plan(embedder);
    if (embedder->batch.n_items == 0) {
        return false;
    }
    enum hs_rt_decode outcome = HS_RT_DECODE_OK;
    struct hs_error error;
    hs_status status = embedder->rt->embed(embedder->made.context, embedder->batch.items,
                                           embedder->batch.n_items, &outcome, &error);
    if (status == HS_OK && outcome == HS_RT_DECODE_NO_ROOM) {
        status = hs_error_set(&error, HS_INTERNAL, "the context has no room for its own batch");
    }
    if (status != HS_OK) {
        fail_batch(embedder, &error);
    } else if (outcome == HS_RT_DECODE_OK) {
        take_results(embedder);
    }
    /* Aborted: everybody in the batch was cancelled, which the next sweep finds. */
    hs_embedder_reap(embedder);
    return true;
}
