/* remote_answer.c - the stream of a server's answer as a token source. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "remote_internal.h"

struct remote_answer {
    hs_remote *remote;
    hs_http_events *events;
    json_t *chunk; /* the last one */
    enum { REASONING, CONTENT, DONE_WITH_CHUNK } part;
    bool is_session, is_ended, is_cancelled;
    enum hs_finish finish;
    struct hs_usage usage;
    double asked_ms, first_ms;
};

static void take_usage(struct remote_answer *answer)
{
    const json_t *usage = json_object_get(answer->chunk, "usage");
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    const json_t *seed = json_object_get(usage, "seed");
    if (json_is_integer(seed)) {
        answer->usage.seed = (uint32_t)json_integer_value(seed);
    }
    if (json_is_object(usage)) {
        answer->usage.prompt_tokens =
            (int32_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
        answer->usage.completion_tokens =
            (int32_t)json_integer_value(json_object_get(usage, "completion_tokens"));
        answer->usage.cached_tokens =
            (int32_t)json_integer_value(json_object_get(details, "cached_tokens"));
    }
}

static const json_t *choice_of(const struct remote_answer *answer)
{
    return json_array_get(json_object_get(answer->chunk, "choices"), 0);
}

static void take_finish(struct remote_answer *answer)
{
    const char *reason = json_string_value(json_object_get(choice_of(answer), "finish_reason"));
    if (reason) {
        answer->finish = strcmp(reason, "length") == 0 ? HS_FINISH_LENGTH : HS_FINISH_STOP;
    }
}

static hs_status give_done(struct remote_answer *answer, enum hs_finish finish,
                           const struct hs_error *error, struct hs_event *ret_event)
{
    double now_ms = hs_clock_ms();
    double first_ms = answer->first_ms > 0 ? answer->first_ms : now_ms;
    answer->is_ended = true;
    answer->usage.prefill_ms = first_ms - answer->asked_ms;
    answer->usage.decode_ms = now_ms - first_ms;
    *ret_event = (struct hs_event){
        .type = HS_EVENT_DONE, .text = "", .finish = finish, .usage = answer->usage};
    if (error) {
        ret_event->error = *error;
    }
    return HS_OK;
}

/* The next text of the last chunk; false: it has no more. */
static bool give_text(struct remote_answer *answer, struct hs_event *ret_event)
{
    const json_t *delta = json_object_get(choice_of(answer), "delta");
    while (answer->chunk && answer->part != DONE_WITH_CHUNK) {
        bool is_reasoning = answer->part == REASONING;
        const json_t *text = json_object_get(delta, is_reasoning ? "reasoning_content" : "content");
        answer->part = is_reasoning ? CONTENT : DONE_WITH_CHUNK;
        if (json_is_string(text) && json_string_length(text) > 0) {
            answer->first_ms = answer->first_ms > 0 ? answer->first_ms : hs_clock_ms();
            *ret_event = (struct hs_event){
                .type = is_reasoning ? HS_EVENT_REASONING : HS_EVENT_TEXT,
                .text = json_string_value(text),
                .text_len = json_string_length(text),
            };
            return true;
        }
    }
    return false;
}

/* An event of a session as the chunk of /v1/chat/completions that says the same; takes `json`. */
static json_t *chunk_of(const char *event, json_t *json)
{
    const json_t *text = json_object_get(json, "text");
    const json_t *usage = json_object_get(json, "usage");
    json_t *chunk = NULL;
    if (json_object_get(json, "error")) {
        return json;
    }
    if (text && (strcmp(event, "text") == 0 || strcmp(event, "reasoning") == 0)) {
        const char *name = *event == 't' ? "content" : "reasoning_content";
        chunk = json_pack("{s:[{s:{s:O}}]}", "choices", "delta", name, text);
    } else if (usage) {
        chunk = json_pack("{s:[{s:O*}], s:{s:O*, s:O*, s:O*, s:{s:O*}}}", "choices",
                          "finish_reason", json_object_get(json, "finish_reason"), "usage",
                          "prompt_tokens", json_object_get(usage, "prompt_tokens"),
                          "completion_tokens", json_object_get(usage, "completion_tokens"), "seed",
                          json_object_get(usage, "seed"), "prompt_tokens_details", "cached_tokens",
                          json_object_get(usage, "cached_tokens"));
    } else {
        chunk = json_object(); /* what need not be known */
    }
    json_decref(json);
    return chunk;
}

/* Take one event in. Not HS_OK: the answer is over, well or badly. */
static hs_status take_chunk(struct remote_answer *answer, const char *event, const char *data,
                            struct hs_error *err)
{
    const char *url = hs_remote_url(answer->remote);
    if (strcmp(data, "[DONE]") == 0) {
        return HS_NOT_FOUND;
    }
    json_decref(answer->chunk);
    answer->part = REASONING;
    answer->chunk = json_loads(data, 0, NULL);
    if (answer->chunk && answer->is_session) {
        answer->chunk = chunk_of(event, answer->chunk);
    }
    if (!answer->chunk) {
        return hs_error_set(err, HS_IO, "an event of %s is no JSON", url);
    }
    const json_t *error = json_object_get(answer->chunk, "error");
    if (error) {
        const char *message = json_string_value(json_object_get(error, "message"));
        return hs_error_set(err, HS_IO, "%s", message ? message : "the server failed");
    }
    take_usage(answer);
    take_finish(answer);
    return HS_OK;
}

static hs_status answer_next(void *self, int timeout_ms, struct hs_event *ret_event,
                             struct hs_error *err)
{
    struct remote_answer *answer = self;
    if (answer->is_ended) {
        return hs_error_set(err, HS_NOT_FOUND, "the answer has ended");
    }
    int64_t end_ms = (int64_t)hs_clock_ms() + timeout_ms;
    while (!answer->is_cancelled) {
        if (give_text(answer, ret_event)) {
            return HS_OK;
        }
        int64_t left_ms = end_ms - (int64_t)hs_clock_ms();
        const char *event = "", *data = NULL;
        struct hs_error failure = {.status = HS_OK};
        hs_status status = hs_http_events_next(answer->events, left_ms > 0 ? (int)left_ms : 0,
                                               &event, &data, &failure);
        if (status == HS_TIMEOUT && failure.status == HS_OK) {
            return hs_error_set(err, HS_TIMEOUT, "nothing came yet");
        }
        bool is_cut = status == HS_NOT_FOUND && failure.status == HS_OK;
        status = status ? status : take_chunk(answer, event, data, &failure);
        if (is_cut && answer->finish == HS_FINISH_NONE) {
            hs_error_set(&failure, HS_IO, "the answer of %s broke off",
                         hs_remote_url(answer->remote));
        }
        if (failure.status) {
            return give_done(answer, HS_FINISH_ERROR, &failure, ret_event);
        }
        if (status) {
            enum hs_finish finish = answer->finish ? answer->finish : HS_FINISH_STOP;
            return give_done(answer, finish, NULL, ret_event);
        }
    }
    return give_done(answer, HS_FINISH_CANCELLED, NULL, ret_event);
}

/* The server notices that its client left. */
static void answer_cancel(void *self)
{
    struct remote_answer *answer = self;
    answer->is_cancelled = true;
    hs_http_events_free(answer->events);
    answer->events = NULL;
}

static void answer_free(void *self)
{
    struct remote_answer *answer = self;
    hs_http_events_free(answer->events);
    json_decref(answer->chunk);
    hs_free(answer);
}

hs_status hs_remote_ask(hs_remote *remote, const char *path, json_t *body, bool is_session,
                        struct hs_token_source *ret_source, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_HTTP_CLIENT_ANSWER_MAX);
    struct remote_answer *answer = hs_calloc(1, sizeof *answer);
    hs_status status = answer && body ? hs_json_dump(body, true, &text) : HS_OUT_OF_MEMORY;
    json_decref(body);
    if (status) {
        hs_free(answer);
        return status == HS_LIMIT
                   ? hs_error_set(err, status, "the conversation is over %u MiB long",
                                  HS_HTTP_CLIENT_ANSWER_MAX >> 20)
                   : hs_error_nomem(err, "a request");
    }
    answer->remote = remote;
    answer->is_session = is_session;
    answer->part = DONE_WITH_CHUNK;
    answer->asked_ms = hs_clock_ms();
    int64_t seed = hs_config_int(remote->args->config, HS_CFG_SEED);
    answer->usage.seed = seed < 0 ? HS_SEED_RANDOM : (uint32_t)seed;
    status = hs_http_client_stream(remote->client, path, text.data, &answer->events, err);
    if (status) {
        hs_free(answer);
        return status;
    }
    *ret_source = (struct hs_token_source){answer, answer_next, answer_cancel, answer_free};
    return HS_OK;
}
