#include "generation.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define PULL_BYTES (16u << 10) /* one pull gives about so much, so that streams take turns */
#define HEAD_MAX_BYTES 4096
#define BODY_MAX_BYTES ((size_t)1 << 30)
#define LOWEST_LOGPROB (-9999.0)

/* ---- made and freed ---- */

hs_status hs_generation_make_id(const char *prefix, char *ret_id, size_t size, struct hs_error *err)
{
    uint64_t bits[2] = {0};
    if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits) {
        return hs_error_set(err, HS_IO, "the system gives no random numbers");
    }
    snprintf(ret_id, size, "%s%016llx%08llx", prefix, (unsigned long long)bits[0],
             (unsigned long long)bits[1] >> 32);
    return HS_OK;
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
    generation->model_name = settings->model_name;
    generation->request = request;
    generation->created_unix_s = (int64_t)time(NULL);
    generation->created_ms = hs_clock_ms();
    generation->is_streamed = settings->stream;
    generation->include_usage = settings->include_usage;
    generation->wants_logprobs = settings->logprobs && format->logprobs != NULL;
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
    hs_status status =
        hs_generation_make_id(format->id_prefix, generation->id, sizeof generation->id, err);
    if (status != HS_OK) {
        hs_generation_free(generation);
        return status;
    }
    *ret = generation;
    return HS_OK;
}

static void free_choice(struct hs_choice *choice)
{
    hs_stream_free(choice->stream);
    hs_free(choice->echo);
    hs_buf_free(&choice->text);
    hs_buf_free(&choice->reasoning);
    for (size_t i = 0; i < choice->n_calls; i++) {
        hs_free(choice->calls[i].id);
        hs_free(choice->calls[i].name);
        hs_buf_free(&choice->calls[i].arguments);
    }
    hs_free(choice->calls);
    for (size_t list = 0; list < 4; list++) {
        hs_buf_free(&choice->logprobs[list]);
    }
}

static void leave(struct hs_generation *generation)
{
    if (generation->format->leave != NULL) {
        generation->format->leave(generation);
    }
}

void hs_generation_free(struct hs_generation *generation)
{
    if (generation == NULL) {
        return;
    }
    leave(generation);
    for (size_t i = 0; i < generation->n_choices; i++) {
        free_choice(&generation->choices[i]);
    }
    if (generation->format->free_data != NULL && generation->data != NULL) {
        generation->format->free_data(generation->data);
    }
    hs_buf_free(&generation->head);
    hs_free(generation);
}

/* ---- what formats share ---- */

hs_status hs_generation_call_is_whole(const struct hs_choice_call *call, bool *ret_is_whole)
{
    json_error_t error;
    const struct hs_buf *text = &call->arguments;
    json_t *json = json_loadb(text->len == 0 ? "" : text->data, text->len,
                              JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &error);
    if (json == NULL && json_error_code(&error) == json_error_out_of_memory) {
        return HS_OUT_OF_MEMORY;
    }
    *ret_is_whole = json_is_object(json);
    json_decref(json);
    return HS_OK;
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

struct hs_generation_usage hs_generation_usage(const struct hs_generation *generation)
{
    struct hs_generation_usage usage = {0};
    for (size_t i = 0; i < generation->n_choices; i++) {
        const struct hs_choice *choice = &generation->choices[i];
        if (i % (size_t)generation->n_per_prompt == 0) {
            usage.prompt += choice->usage.prompt_tokens;
            usage.cached += choice->usage.cached_tokens;
        }
        usage.completion += choice->usage.completion_tokens;
        usage.reasoning += choice->reasoning_tokens;
    }
    return usage;
}

/* ---- events of the engine ---- */

static hs_status write_failed(hs_status status, struct hs_error *err)
{
    if (status == HS_LIMIT) {
        return hs_error_set(err, HS_LIMIT, "the answer is too long for one piece");
    }
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "answer");
}

static struct hs_choice_call *add_call(struct hs_choice *choice, const struct hs_event *event)
{
    struct hs_choice_call *calls =
        hs_realloc_array(choice->calls, choice->n_calls + 1, sizeof *calls);
    if (calls == NULL) {
        return NULL;
    }
    choice->calls = calls;
    struct hs_choice_call *call = &calls[choice->n_calls++];
    *call = (struct hs_choice_call){.id = hs_strdup(event->tool_call_id),
                                    .name = hs_strdup(event->tool_name),
                                    .arguments = HS_BUF_INIT(HS_ANSWER_TEXT_MAX)};
    return call->id != NULL && call->name != NULL ? call : NULL;
}

static hs_status keep_call(struct hs_choice *choice, const struct hs_event *event)
{
    size_t i = (size_t)event->index;
    struct hs_choice_call *call = i < choice->n_calls ? &choice->calls[i] : add_call(choice, event);
    return call == NULL ? HS_OUT_OF_MEMORY
                        : hs_buf_append(&call->arguments, event->text, event->text_len);
}

static hs_status keep(struct hs_choice *choice, const struct hs_event *event, struct hs_error *err)
{
    hs_status status;
    if (event->type == HS_EVENT_TOOL_CALL) {
        status = keep_call(choice, event);
    } else {
        struct hs_buf *buf = event->type == HS_EVENT_REASONING ? &choice->reasoning : &choice->text;
        status = hs_buf_append(buf, event->text, event->text_len);
    }
    if (status == HS_LIMIT) {
        hs_error_set(err, status, "the answer is longer than %u MiB", HS_ANSWER_TEXT_MAX >> 20);
        hs_error_hint(err, "stream it, or set max_tokens");
        return status;
    }
    return write_failed(status, err);
}

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

/* The next event, kept if the format wants that. HS_TIMEOUT: nothing there yet. */
static hs_status next_event(struct hs_generation *generation, struct hs_choice *choice,
                            struct hs_event *event, struct hs_error *err)
{
    /* no text for "nothing yet", which is asked for with every token */
    hs_status status = hs_stream_next(choice->stream, 0, event, NULL);
    if (status == HS_TIMEOUT) {
        return status;
    }
    if (status != HS_OK) {
        return hs_error_set(err, status, "the stream of an answer ended before its last event");
    }
    if (event->type == HS_EVENT_DONE) {
        return end_choice(choice, event, err);
    }
    if (event->type == HS_EVENT_REASONING) {
        choice->reasoning_tokens += event->n_tokens;
    } else if (generation->wants_logprobs && event->logprobs != NULL) {
        status = generation->format->logprobs(generation, choice, event, err);
    }
    bool keeps = !generation->is_streamed || generation->format->keeps_streams;
    return status == HS_OK && keeps ? keep(choice, event, err) : status;
}

static hs_status finish(struct hs_generation *generation, struct hs_error *err)
{
    return generation->format->done == NULL ? HS_OK : generation->format->done(generation, err);
}

/* ---- whole answers ---- */

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
            if (status != HS_OK) {
                return status;
            }
        }
    }
    return HS_OK;
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
    status = status == HS_OK ? finish(generation, &err) : status;
    if (status == HS_OK) {
        status = write_failed(generation->format->whole(generation, &body), &err);
    }
    if (status != HS_OK) {
        leave(generation);
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_buf(request, 200, "application/json", &body);
}

/* ---- streams ---- */

static hs_status write_start(struct hs_generation *generation, struct hs_buf *out)
{
    if (generation->is_started || generation->format->start == NULL) {
        return HS_OK;
    }
    generation->is_started = true;
    return generation->format->start(generation, out);
}

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    const struct hs_generation_format *format = generation->format;
    struct hs_choice *choice = &generation->choices[i];
    bool is_text = event->type == HS_EVENT_TEXT || event->type == HS_EVENT_REASONING;
    if (is_text && event->text_len == 0 && choice->logprobs[0].len == 0) {
        return HS_OK;
    }
    hs_status status = format->event(generation, i, event, out);
    for (size_t list = 0; list < 4 && !format->keeps_streams; list++) {
        hs_buf_clear(&choice->logprobs[list]);
    }
    return status;
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

static hs_status write_end(struct hs_generation *generation, struct hs_buf *out,
                           struct hs_error *err)
{
    size_t before = out->len;
    hs_status status = finish(generation, err);
    if (status == HS_OK && generation->format->end != NULL) {
        status = write_failed(generation->format->end(generation, out), err);
    }
    if (status != HS_OK) {
        cut(out, before);
    }
    return status;
}

static enum hs_http_pull fail(struct hs_generation *generation, struct hs_buf *out,
                              const struct hs_error *err)
{
    size_t before = out->len;
    leave(generation);
    if (generation->format->failed == NULL) {
        return HS_HTTP_FAIL;
    }
    if (generation->format->failed(generation, err, out) != HS_OK) {
        cut(out, before);
        return HS_HTTP_FAIL;
    }
    return HS_HTTP_END;
}

static enum hs_http_pull pull(hs_http_request *request, void *data, struct hs_buf *out,
                              struct hs_error *err)
{
    (void)request;
    struct hs_generation *generation = data;
    size_t before = out->len;
    bool has_more = false, is_done = true;
    if (write_failed(write_start(generation, out), err) != HS_OK) {
        cut(out, before);
        return HS_HTTP_FAIL;
    }
    for (size_t i = 0; i < generation->n_choices; i++) {
        if (drain(generation, i, out, &has_more, err) != HS_OK) {
            return fail(generation, out, err);
        }
        is_done = is_done && generation->choices[i].is_done;
    }
    if (is_done) {
        return write_end(generation, out, err) == HS_OK ? HS_HTTP_END : fail(generation, out, err);
    }
    return has_more ? HS_HTTP_MORE : HS_HTTP_NOT_YET;
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
                         &(struct hs_http_stream){.kind = generation->format->kind,
                                                  .pull = pull,
                                                  .on_pool = generation->wants_logprobs ||
                                                             generation->format->is_slow,
                                                  .ping = generation->format->ping,
                                                  .ping_ms = generation->rest->ping_ms});
}
