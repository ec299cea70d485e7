#include "ollama_answer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_quote.h"
#include "openai_answer.h"

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS 1e6

struct answer {
    const char *model_name;
    bool is_chat;
    struct hs_ollama_context context;
};

void hs_ollama_time(int64_t unix_ns, char ret_text[HS_OLLAMA_TIME_BYTES])
{
    struct timespec now = {.tv_sec = (time_t)(unix_ns / NS_PER_S),
                           .tv_nsec = (long)(unix_ns % NS_PER_S)};
    if (unix_ns < 0) {
        clock_gettime(CLOCK_REALTIME, &now);
    }
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char day[24];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(ret_text, HS_OLLAMA_TIME_BYTES, "%s.%09ldZ", day, now.tv_nsec);
}

/* ---- pieces of a line ---- */

/* Every line's beginning; the model's name as the client wrote it. */
static hs_status write_head(const char *model_name, struct hs_buf *out)
{
    char now[HS_OLLAMA_TIME_BYTES];
    hs_ollama_time(-1, now);
    hs_status status = hs_json_quote_between(out, "{\"model\":", model_name, strlen(model_name),
                                             ",\"created_at\":\"");
    return status == HS_OK ? hs_buf_printf(out, "%s\"", now) : status;
}

/* Texts as a chat's message (left open for calls) or as generate's fields. */
static hs_status write_texts(bool is_chat, const char *text, size_t len, const char *thinking,
                             size_t thinking_len, struct hs_buf *out)
{
    hs_status status = hs_json_quote_between(
        out, is_chat ? ",\"message\":{\"role\":\"assistant\",\"content\":" : ",\"response\":", text,
        len, "");
    return status == HS_OK && thinking_len > 0
               ? hs_json_quote_between(out, ",\"thinking\":", thinking, thinking_len, "")
               : status;
}

static hs_status write_call(const struct hs_choice_call *call, size_t i, bool is_first,
                            struct hs_buf *out)
{
    hs_status status = hs_json_quote_between(out, is_first ? "{\"id\":" : ",{\"id\":", call->id,
                                             strlen(call->id), ",\"function\":{\"index\":");
    status = status == HS_OK ? hs_buf_printf(out, "%zu", i) : status;
    status = status == HS_OK ? hs_json_quote_between(out, ",\"name\":", call->name,
                                                     strlen(call->name), ",\"arguments\":")
                             : status;
    status =
        status == HS_OK ? hs_buf_append(out, call->arguments.data, call->arguments.len) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}}") : status;
}

/* "tool_calls" of a message; nothing when no call is whole. */
static hs_status write_calls(const struct hs_choice *choice, struct hs_buf *out)
{
    size_t n = 0;
    hs_status status = HS_OK;
    for (size_t i = 0; i < choice->n_calls && status == HS_OK; i++) {
        bool is_whole = false;
        status = hs_generation_call_is_whole(&choice->calls[i], &is_whole);
        if (status != HS_OK || !is_whole) {
            continue;
        }
        status = n == 0 ? hs_buf_append_str(out, ",\"tool_calls\":[") : HS_OK;
        status = status == HS_OK ? write_call(&choice->calls[i], i, n == 0, out) : status;
        n++;
    }
    return status == HS_OK && n > 0 ? hs_buf_append_str(out, "]") : status;
}

static hs_status write_logprobs(const struct hs_generation *generation, struct hs_buf *out)
{
    const struct hs_buf *list = &generation->choices[0].logprobs[0];
    if (list->len == 0) {
        return HS_OK;
    }
    hs_status status = hs_buf_append_str(out, ",\"logprobs\":[");
    status = status == HS_OK ? hs_buf_append(out, list->data, list->len) : status;
    return status == HS_OK ? hs_buf_append_str(out, "]") : status;
}

static hs_status write_context(const struct hs_ollama_context *context, struct hs_buf *out)
{
    if (context->tokens == NULL) {
        return HS_OK;
    }
    hs_status status = hs_buf_append_str(out, ",\"context\":[");
    for (size_t i = 0; i < context->n && status == HS_OK; i++) {
        status = hs_buf_printf(out, "%s%d", i == 0 ? "" : ",", (int)context->tokens[i]);
    }
    return status == HS_OK ? hs_buf_append_str(out, "]") : status;
}

/* The end of the last line: why, and how long it took in nanoseconds. */
static hs_status write_done(const struct hs_generation *generation, struct hs_buf *out)
{
    const struct answer *answer = generation->data;
    const struct hs_choice *choice = &generation->choices[0];
    const struct hs_usage *usage = &choice->usage;
    double total_ms = hs_clock_ms() - generation->created_ms;
    hs_status status = hs_buf_printf(out, ",\"done\":true,\"done_reason\":\"%s\"",
                                     choice->finish == HS_FINISH_LENGTH ? "length" : "stop");
    status = status == HS_OK ? write_context(&answer->context, out) : status;
    return status == HS_OK
               ? hs_buf_printf(out,
                               ",\"total_duration\":%.0f,\"load_duration\":%.0f,"
                               "\"prompt_eval_count\":%d,\"prompt_eval_duration\":%.0f,"
                               "\"eval_count\":%d,\"eval_duration\":%.0f}\n",
                               total_ms * NS_PER_MS, usage->queue_ms * NS_PER_MS,
                               (int)usage->prompt_tokens, usage->prefill_ms * NS_PER_MS,
                               (int)usage->completion_tokens, usage->decode_ms * NS_PER_MS)
               : status;
}

/* ---- the format ---- */

static hs_status write_whole(struct hs_generation *generation, struct hs_buf *out)
{
    const struct answer *answer = generation->data;
    const struct hs_choice *choice = &generation->choices[0];
    hs_status status = write_head(answer->model_name, out);
    status = status == HS_OK ? write_texts(answer->is_chat, choice->text.data, choice->text.len,
                                           choice->reasoning.data, choice->reasoning.len, out)
                             : status;
    if (answer->is_chat) {
        status = status == HS_OK ? write_calls(choice, out) : status;
        status = status == HS_OK ? hs_buf_append_str(out, "}") : status;
    }
    status = status == HS_OK ? write_logprobs(generation, out) : status;
    return status == HS_OK ? write_done(generation, out) : status;
}

/* The line of an event; `calls` NULL: it has none. */
static hs_status write_line(struct hs_generation *generation, const struct hs_event *event,
                            const struct hs_choice *calls, struct hs_buf *out)
{
    const struct answer *answer = generation->data;
    bool is_thinking = event->type == HS_EVENT_REASONING;
    size_t len = calls == NULL ? event->text_len : 0;
    hs_status status = write_head(answer->model_name, out);
    status = status == HS_OK ? write_texts(answer->is_chat, event->text, is_thinking ? 0 : len,
                                           event->text, is_thinking ? len : 0, out)
                             : status;
    status = status == HS_OK && calls != NULL ? write_calls(calls, out) : status;
    status = status == HS_OK && answer->is_chat ? hs_buf_append_str(out, "}") : status;
    status = status == HS_OK ? write_logprobs(generation, out) : status;
    /* a format that keeps its texts keeps these, too, but they have left with this line */
    hs_buf_clear(&generation->choices[0].logprobs[0]);
    return status == HS_OK ? hs_buf_append_str(out, ",\"done\":false}\n") : status;
}

/* Calls leave when they are whole. */
static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    const struct hs_choice *choice = &generation->choices[i];
    if (event->type == HS_EVENT_TOOL_CALL ||
        (event->type == HS_EVENT_DONE && choice->n_calls == 0)) {
        return HS_OK;
    }
    return write_line(generation, event, event->type == HS_EVENT_DONE ? choice : NULL, out);
}

static hs_status write_end(struct hs_generation *generation, struct hs_buf *out)
{
    const struct answer *answer = generation->data;
    hs_status status = write_head(answer->model_name, out);
    status = status == HS_OK ? write_texts(answer->is_chat, "", 0, "", 0, out) : status;
    status = status == HS_OK && answer->is_chat ? hs_buf_append_str(out, "}") : status;
    return status == HS_OK ? write_done(generation, out) : status;
}

/* The answer's tokens join the context. */
static hs_status extend_context(struct hs_generation *generation, struct hs_error *err)
{
    struct hs_ollama_context *context = &((struct answer *)generation->data)->context;
    const struct hs_buf *text = &generation->choices[0].text;
    int32_t *tokens = NULL;
    size_t n = 0;
    if (context->tokens == NULL || text->len == 0) {
        return HS_OK;
    }
    hs_status status = hs_engine_tokenize(generation->rest->engine, generation->model->id,
                                          text->data, text->len, false, false, &tokens, &n, err);
    if (status != HS_OK) {
        return status;
    }
    int32_t *all = hs_realloc_array(context->tokens, context->n + n, sizeof *all);
    if (all != NULL) {
        memcpy(all + context->n, tokens, n * sizeof *all);
        context->tokens = all;
        context->n += n;
    }
    hs_tokens_free(tokens);
    return all == NULL ? hs_error_nomem(err, "context") : HS_OK;
}

static void free_answer(void *data)
{
    struct answer *answer = data;
    hs_free(answer->context.tokens);
    hs_free(answer);
}

#define FORMAT                                                                                     \
    .kind = HS_HTTP_NDJSON, .id_prefix = "", .logprobs = hs_openai_add_logprobs,                   \
    .whole = write_whole, .event = write_event, .end = write_end, .free_data = free_answer

static const struct hs_generation_format plain_format = {FORMAT};
static const struct hs_generation_format keeping_format = {FORMAT, .keeps_streams = true,
                                                           .is_slow = true, .done = extend_context};

hs_status hs_ollama_answer_new(const struct hs_rest *rest, const struct hs_model_info *model,
                               hs_http_request *request, const struct hs_ollama_request *asked,
                               struct hs_ollama_context *context, struct hs_generation **ret,
                               struct hs_error *err)
{
    bool keeps = asked->conversation.n_tools > 0 || (context != NULL && context->tokens != NULL);
    struct hs_generation *generation = NULL;
    struct answer *answer = hs_calloc(1, sizeof *answer);
    hs_status status = answer == NULL ? hs_error_nomem(err, "answer") : HS_OK;
    if (status == HS_OK) {
        answer->model_name = asked->model_name;
        answer->is_chat = context == NULL;
        status = hs_generation_new(keeps ? &keeping_format : &plain_format, rest, model, request,
                                   &asked->settings, 1, &generation, err);
    }
    if (status != HS_OK) {
        hs_free(answer);
        if (context != NULL) {
            hs_free(context->tokens);
        }
        return status;
    }
    if (context != NULL) {
        answer->context = *context;
    }
    generation->data = answer;
    *ret = generation;
    return HS_OK;
}

void hs_ollama_respond_loaded(hs_http_request *request, const struct hs_ollama_request *asked,
                              bool is_chat)
{
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 16);
    hs_status status = write_head(asked->model_name, &body);
    status = status == HS_OK ? write_texts(is_chat, "", 0, "", 0, &body) : status;
    status = status == HS_OK
                 ? hs_buf_printf(&body, "%s,\"done\":true,\"done_reason\":\"%s\"}\n",
                                 is_chat ? "}" : "", asked->is_unload ? "unload" : "load")
                 : status;
    if (status != HS_OK) {
        struct hs_error err;
        hs_error_nomem(&err, "answer");
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_buf(request, 200, "application/json", &body);
}
