#include "generation.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"
#include "json_quote.h"

#define PULL_BYTES (16u << 10) /* one pull gives about so much, so that streams take turns */
#define HEAD_MAX_BYTES 4096
#define BODY_MAX_BYTES ((size_t)1 << 30)
#define LOWEST_LOGPROB (-9999.0)

/* ---- made and freed ---- */

static hs_status write_head(struct hs_generation *generation, struct hs_error *err)
{
    const struct hs_generation_format *format = generation->format;
    uint64_t bits[2] = {0};
    if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits) {
        return hs_error_set(err, HS_IO, "the system gives no random numbers");
    }
    struct hs_buf *head = &generation->head;
    hs_status status = hs_buf_printf(
        head, "{\"id\":\"%s%016llx%08llx\",\"object\":\"%s\",\"created\":%lld,\"model\":",
        format->id_prefix, (unsigned long long)bits[0], (unsigned long long)bits[1] >> 32,
        generation->is_streamed ? format->chunk_object : format->object, (long long)time(NULL));
    const struct hs_model_info *model = generation->model;
    status = status == HS_OK ? hs_json_quote(head, model->id, strlen(model->id)) : status;
    if (status == HS_OK) {
        status = hs_buf_printf(head, ",\"system_fingerprint\":\"fp_%.12s\"", model->fingerprint);
    }
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "answer");
}

hs_status hs_generation_new(const struct hs_generation_format *format, const struct hs_rest *rest,
                            const struct hs_model_info *model, hs_http_request *request,
                            const struct hs_rest_settings *settings, size_t n_choices,
                            struct hs_generation **ret, struct hs_error *err)
{
    struct hs_generation *generation =
        hs_calloc(1, sizeof *generation + n_choices * sizeof generation->choices[0]);
    if (generation == NULL) {
        return hs_error_nomem(err, "answer");
    }
    generation->format = format;
    generation->rest = rest;
    generation->model = model;
    generation->request = request;
    generation->is_streamed = settings->stream;
    generation->include_usage = settings->include_usage;
    generation->wants_logprobs = settings->logprobs;
    generation->top_logprobs = settings->top_logprobs;
    generation->n_per_prompt = settings->n;
    generation->head.max = HEAD_MAX_BYTES;
    generation->n_choices = n_choices;
    for (size_t i = 0; i < n_choices; i++) {
        struct hs_choice *choice = &generation->choices[i];
        choice->text.max = HS_ANSWER_TEXT_MAX;
        choice->reasoning.max = HS_ANSWER_TEXT_MAX;
        for (size_t list = 0; list < 4; list++) {
            choice->logprobs[list].max = HS_ANSWER_TEXT_MAX;
        }
    }
    hs_status status = write_head(generation, err);
    if (status != HS_OK) {
        hs_generation_free(generation);
        return status;
    }
    *ret = generation;
    return HS_OK;
}

void hs_generation_free(struct hs_generation *generation)
{
    if (generation == NULL) {
        return;
    }
    for (size_t i = 0; i < generation->n_choices; i++) {
        struct hs_choice *choice = &generation->choices[i];
        hs_stream_free(choice->stream);
        hs_free(choice->echo);
        hs_buf_free(&choice->text);
        hs_buf_free(&choice->reasoning);
        for (size_t list = 0; list < 4; list++) {
            hs_buf_free(&choice->logprobs[list]);
        }
    }
    hs_buf_free(&generation->head);
    hs_free(generation);
}

/* ---- what formats share ---- */

const char *hs_generation_finish(const struct hs_choice *choice)
{
    return choice->finish == HS_FINISH_LENGTH ? "\"length\"" : "\"stop\"";
}

hs_status hs_generation_token_text(const struct hs_generation *generation, int32_t token,
                                   char **ret_text, size_t *ret_len, struct hs_error *err)
{
    return hs_engine_detokenize(generation->rest->engine, generation->model->id, &token, 1, true,
                                ret_text, ret_len, err);
}

hs_status hs_generation_logprob(struct hs_buf *out, float logprob)
{
    double value = (double)logprob;
    return hs_buf_printf(out, "%.8g", isfinite(value) ? value : LOWEST_LOGPROB);
}

/* Of several answers to one prompt the first one's prompt counts. */
static hs_status write_usage(const struct hs_generation *generation, struct hs_buf *out)
{
    int64_t prompt = 0, cached = 0, completion = 0, reasoning = 0;
    for (size_t i = 0; i < generation->n_choices; i++) {
        const struct hs_choice *choice = &generation->choices[i];
        if (i % (size_t)generation->n_per_prompt == 0) {
            prompt += choice->usage.prompt_tokens;
            cached += choice->usage.cached_tokens;
        }
        completion += choice->usage.completion_tokens;
        reasoning += choice->reasoning_tokens;
    }
    return hs_buf_printf(out,
                         "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
                         "\"total_tokens\":%lld,"
                         "\"prompt_tokens_details\":{\"cached_tokens\":%lld},"
                         "\"completion_tokens_details\":{\"reasoning_tokens\":%lld}}",
                         (long long)prompt, (long long)completion, (long long)(prompt + completion),
                         (long long)cached, (long long)reasoning);
}

/* ---- events of the engine ---- */

/* The end of one answer. A failure, or a stop that nobody asked for, ends the whole request. */
static hs_status end_choice(struct hs_choice *choice, const struct hs_event *event,
                            struct hs_error *err)
{
    choice->is_done = true;
    choice->finish = event->finish;
    choice->usage = event->usage;
    if (event->finish == HS_FINISH_ERROR) {
        *err = event->error;
        return err->status == HS_OK ? hs_error_set(err, HS_INTERNAL, "the answer failed")
                                    : err->status;
    }
    if (event->finish == HS_FINISH_CANCELLED) {
        return hs_error_set(err, HS_UNAVAILABLE, "the answer was stopped");
    }
    return HS_OK;
}

/* HS_TIMEOUT: nothing there yet. */
static hs_status next_event(struct hs_generation *generation, struct hs_choice *choice,
                            struct hs_event *event, struct hs_error *err)
{
    struct hs_error ignored;
    hs_status status = hs_stream_next(choice->stream, 0, event, &ignored);
    if (status == HS_TIMEOUT) {
        return status;
    }
    if (status != HS_OK) {
        *err = ignored;
        return status;
    }
    if (event->type == HS_EVENT_DONE) {
        return end_choice(choice, event, err);
    }
    if (event->type == HS_EVENT_REASONING) {
        choice->reasoning_tokens += event->n_tokens;
    } else if (generation->wants_logprobs && event->logprobs != NULL) {
        return generation->format->logprobs(generation, choice, event, err);
    }
    return HS_OK;
}

static hs_status write_failed(hs_status status, struct hs_error *err)
{
    if (status == HS_LIMIT) {
        return hs_error_set(err, HS_LIMIT, "the answer is too long for one piece");
    }
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "answer");
}

/* ---- whole answers ---- */

static hs_status keep(struct hs_choice *choice, const struct hs_event *event, struct hs_error *err)
{
    struct hs_buf *buf = event->type == HS_EVENT_REASONING ? &choice->reasoning : &choice->text;
    hs_status status = hs_buf_append(buf, event->text, event->text_len);
    if (status == HS_LIMIT) {
        hs_error_set(err, status, "the answer is longer than %u MiB", HS_ANSWER_TEXT_MAX >> 20);
        hs_error_hint(err, "stream it, or set max_tokens");
        return status;
    }
    return write_failed(status, err);
}

static hs_status collect(struct hs_generation *generation, bool *ret_is_done, struct hs_error *err)
{
    *ret_is_done = true;
    for (size_t i = 0; i < generation->n_choices; i++) {
        struct hs_choice *choice = &generation->choices[i];
        while (!choice->is_done) {
            struct hs_event event;
            hs_status status = next_event(generation, choice, &event, err);
            if (status == HS_TIMEOUT) {
                *ret_is_done = false;
                break;
            }
            if (status == HS_OK && event.type != HS_EVENT_DONE) {
                status = keep(choice, &event, err);
            }
            if (status != HS_OK) {
                return status;
            }
        }
    }
    return HS_OK;
}

static hs_status write_whole(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = hs_buf_append(out, generation->head.data, generation->head.len);
    status = status == HS_OK ? hs_buf_append_str(out, ",\"choices\":[") : status;
    for (size_t i = 0; i < generation->n_choices && status == HS_OK; i++) {
        status = i == 0 ? HS_OK : hs_buf_append_str(out, ",");
        status = status == HS_OK ? generation->format->whole(generation, i, out) : status;
    }
    status = status == HS_OK ? hs_buf_append_str(out, "],\"usage\":") : status;
    status = status == HS_OK ? write_usage(generation, out) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}\n") : status;
}

static void step(hs_http_request *request, void *user)
{
    (void)user;
    struct hs_generation *generation = hs_http_request_data(request);
    struct hs_error err;
    bool is_done = false;
    hs_status status = collect(generation, &is_done, &err);
    if (status == HS_OK && !is_done) {
        hs_http_wait(request, step);
        return;
    }
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(BODY_MAX_BYTES);
    if (status == HS_OK) {
        status = write_failed(write_whole(generation, &body), &err);
    }
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_buf(request, 200, "application/json", &body);
}

/* ---- streams ---- */

static hs_status open_chunk(const struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "data: ");
    status =
        status == HS_OK ? hs_buf_append(out, generation->head.data, generation->head.len) : status;
    return status == HS_OK ? hs_buf_append_str(out, ",\"choices\":[") : status;
}

static hs_status close_chunk(const struct hs_generation *generation, struct hs_buf *out)
{
    return hs_buf_append_str(out, generation->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

/* The first chunk of an answer, before whatever comes. */
static hs_status begin(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    struct hs_choice *choice = &generation->choices[i];
    if (choice->is_begun || generation->format->first == NULL) {
        return HS_OK;
    }
    choice->is_begun = true;
    hs_status status = open_chunk(generation, out);
    status = status == HS_OK ? generation->format->first(generation, i, out) : status;
    return status == HS_OK ? close_chunk(generation, out) : status;
}

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    const struct hs_generation_format *format = generation->format;
    struct hs_choice *choice = &generation->choices[i];
    bool is_last = event->type == HS_EVENT_DONE;
    if (!is_last && event->text_len == 0 && choice->logprobs[0].len == 0) {
        return HS_OK;
    }
    hs_status status = begin(generation, i, out);
    status = status == HS_OK ? open_chunk(generation, out) : status;
    if (status == HS_OK) {
        status =
            is_last ? format->last(generation, i, out) : format->event(generation, i, event, out);
    }
    for (size_t list = 0; list < 4; list++) {
        hs_buf_clear(&choice->logprobs[list]);
    }
    return status == HS_OK ? close_chunk(generation, out) : status;
}

/* Half an event must not leave. */
static void cut(struct hs_buf *out, size_t len)
{
    if (out->data != NULL) {
        out->len = len;
        out->data[len] = '\0';
    }
}

/* Everything of one answer that is there; *ret_has_more: the pull is long enough. */
static hs_status drain(struct hs_generation *generation, size_t i, struct hs_buf *out,
                       bool *ret_has_more, struct hs_error *err)
{
    struct hs_choice *choice = &generation->choices[i];
    while (!choice->is_done) {
        if (out->len >= PULL_BYTES) {
            *ret_has_more = true;
            return HS_OK;
        }
        struct hs_event event;
        hs_status status = next_event(generation, choice, &event, err);
        if (status == HS_TIMEOUT) {
            return HS_OK;
        }
        size_t before = out->len;
        status =
            status == HS_OK ? write_failed(write_event(generation, i, &event, out), err) : status;
        if (status != HS_OK) {
            cut(out, before);
            return status;
        }
    }
    return HS_OK;
}

static hs_status write_end(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = HS_OK;
    if (generation->include_usage) {
        status = open_chunk(generation, out);
        status = status == HS_OK ? hs_buf_append_str(out, "],\"usage\":") : status;
        status = status == HS_OK ? write_usage(generation, out) : status;
        status = status == HS_OK ? hs_buf_append_str(out, "}\n\n") : status;
    }
    return status == HS_OK ? hs_buf_append_str(out, "data: [DONE]\n\n") : status;
}

static enum hs_http_pull pull(hs_http_request *request, void *data, struct hs_buf *out,
                              struct hs_error *err)
{
    (void)request;
    struct hs_generation *generation = data;
    size_t before = out->len;
    bool has_more = false, is_done = true;
    for (size_t i = 0; i < generation->n_choices; i++) {
        if (drain(generation, i, out, &has_more, err) != HS_OK) {
            return HS_HTTP_FAIL;
        }
        is_done = is_done && generation->choices[i].is_done;
    }
    if (is_done) {
        return write_failed(write_end(generation, out), err) == HS_OK ? HS_HTTP_END : HS_HTTP_FAIL;
    }
    return has_more || out->len > before ? HS_HTTP_MORE : HS_HTTP_NOT_YET;
}

/* ---- the request ---- */

static void on_gone(hs_http_request *request, void *data, enum hs_http_gone why)
{
    (void)request;
    (void)why;
    const struct hs_generation *generation = data;
    for (size_t i = 0; i < generation->n_choices; i++) {
        hs_stream_cancel(generation->choices[i].stream);
    }
}

static void on_end(void *data)
{
    hs_generation_free(data);
}

static void wake(void *request)
{
    hs_http_wake(request);
}

void hs_generation_run(struct hs_generation *generation)
{
    static const struct hs_http_hooks hooks = {.on_gone = on_gone, .on_end = on_end};
    hs_http_request *request = generation->request;
    hs_http_attach(request, &hooks, generation);
    for (size_t i = 0; i < generation->n_choices; i++) {
        hs_stream_set_notify(generation->choices[i].stream, wake, request);
    }
    if (!generation->is_streamed) {
        hs_http_wait(request, step);
        return;
    }
    /* each token of logprobs asks the vocabulary up to 21 times: too long for a thread that serves
     * every other stream */
    hs_http_stream_start(request, 200,
                         &(struct hs_http_stream){.kind = HS_HTTP_SSE,
                                                  .pull = pull,
                                                  .on_pool = generation->wants_logprobs});
}
