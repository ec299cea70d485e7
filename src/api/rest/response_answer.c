#include "response_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"
#include "json_quote.h"
#include "openai_answer.h"

void hs_response_answer_free(struct hs_response_answer *answer)
{
    if (answer == NULL) {
        return;
    }
    json_decref(answer->object);
    json_decref(answer->history);
    json_decref(answer->input);
    json_decref(answer->output);
    hs_free(answer);
}

static void free_data(void *data)
{
    hs_response_answer_free(data);
}

/* ---- items ---- */

static const char *status_of(const struct hs_choice *choice)
{
    return choice->finish == HS_FINISH_LENGTH ? "incomplete" : "completed";
}

/* The part of a choice's list from `at` on, without the comma that parts it from what was before.
 */
static const char *logprobs_from(const struct hs_choice *choice, size_t at, size_t *ret_len)
{
    const struct hs_buf *list = &choice->logprobs[0];
    at += at > 0 && at < list->len; /* the comma */
    *ret_len = list->len - at;
    return *ret_len == 0 ? "" : list->data + at;
}

static const char *text_from(const struct hs_buf *text, size_t at, size_t *ret_len)
{
    *ret_len = text->len - at;
    return *ret_len == 0 ? "" : text->data + at;
}

/* The open item as it is now. NULL: no memory. */
static json_t *make_item(const struct hs_response_answer *answer, const struct hs_choice *choice,
                         const char *status)
{
    size_t len = 0, logprobs_len = 0;
    const char *text = NULL, *logprobs = NULL;
    switch (answer->part) {
    case HS_RESPONSE_REASONING:
        text = text_from(&choice->reasoning, answer->text_at, &len);
        return hs_response_reasoning_item(answer->item_id, status, text, len);
    case HS_RESPONSE_CALL:
        return hs_response_call_item(answer->item_id, status, &choice->calls[answer->call]);
    case HS_RESPONSE_MESSAGE:
    case HS_RESPONSE_NOTHING:
        break;
    }
    text = text_from(&choice->text, answer->text_at, &len);
    logprobs = logprobs_from(choice, answer->logprobs_at, &logprobs_len);
    return hs_response_message_item(answer->item_id, status, text, len, logprobs, logprobs_len);
}

static hs_status set_part(struct hs_response_answer *answer, enum hs_response_part part,
                          size_t call)
{
    static const char *const prefixes[] = {"", "rs_", "msg_", "fc_"};
    answer->part = part;
    answer->call = call;
    return hs_generation_make_id(prefixes[part], answer->item_id, sizeof answer->item_id, NULL) ==
                   HS_OK
               ? HS_OK
               : HS_OUT_OF_MEMORY;
}

/* The open item joins the output. */
static hs_status keep_item(struct hs_response_answer *answer, const struct hs_choice *choice,
                           const char *status)
{
    json_t *item = make_item(answer, choice, status);
    return json_array_append_new(answer->output, item) == 0 ? HS_OK : HS_OUT_OF_MEMORY;
}

/* All items of a whole answer; the last one may be cut. */
static hs_status keep_items(struct hs_response_answer *answer, const struct hs_choice *choice)
{
    bool is_cut = choice->finish == HS_FINISH_LENGTH;
    bool has_message = choice->text.len > 0 || (choice->n_calls == 0 && !is_cut) ||
                       (choice->n_calls == 0 && choice->reasoning.len == 0);
    size_t n_left = (size_t)(choice->reasoning.len > 0) + (size_t)has_message + choice->n_calls;
    hs_status status = HS_OK;
    for (int part = HS_RESPONSE_REASONING; part <= HS_RESPONSE_CALL; part++) {
        size_t n = part == HS_RESPONSE_CALL ? choice->n_calls : has_message;
        n = part == HS_RESPONSE_REASONING ? choice->reasoning.len > 0 : n;
        for (size_t i = 0; i < n && status == HS_OK; i++) {
            status = set_part(answer, (enum hs_response_part)part, i);
            const char *how = --n_left == 0 ? status_of(choice) : "completed";
            status = status == HS_OK ? keep_item(answer, choice, how) : status;
        }
    }
    return status;
}

/* ---- the object ---- */

static json_t *make_usage(const struct hs_generation *generation)
{
    struct hs_generation_usage usage = hs_generation_usage(generation);
    return json_pack(
        "{s:I, s:{s:I, s:i}, s:I, s:{s:I}, s:I}", "input_tokens", (json_int_t)usage.prompt,
        "input_tokens_details", "cached_tokens", (json_int_t)usage.cached, "cache_write_tokens", 0,
        "output_tokens", (json_int_t)usage.completion, "output_tokens_details", "reasoning_tokens",
        (json_int_t)usage.reasoning, "total_tokens", (json_int_t)(usage.prompt + usage.completion));
}

/* Everything that is known at the end only. */
static hs_status complete_object(const struct hs_generation *generation)
{
    const struct hs_response_answer *answer = generation->data;
    bool is_cut = generation->choices[0].finish == HS_FINISH_LENGTH;
    json_t *object = answer->object;
    int failed = json_object_set(object, "output", answer->output);
    failed |= json_object_set_new(object, "usage", make_usage(generation));
    failed |=
        json_object_set_new(object, "status", json_string(status_of(&generation->choices[0])));
    failed |= json_object_set_new(object, "completed_at",
                                  is_cut ? json_null() : json_integer((json_int_t)time(NULL)));
    if (is_cut) {
        failed |= json_object_set_new(object, "incomplete_details",
                                      json_pack("{s:s}", "reason", "max_output_tokens"));
    }
    return failed == 0 ? HS_OK : HS_OUT_OF_MEMORY;
}

static hs_status keep_answer(const struct hs_generation *generation, struct hs_error *err)
{
    const struct hs_response_answer *answer = generation->data;
    struct hs_stored_response stored = {.body = json_dumps(answer->object, JSON_COMPACT),
                                        .input = json_dumps(answer->input, JSON_COMPACT),
                                        .history = json_dumps(answer->history, JSON_COMPACT)};
    hs_status status = stored.body == NULL || stored.input == NULL || stored.history == NULL
                           ? hs_error_nomem(err, "response")
                           : hs_response_store_put(generation->rest->responses, generation->id,
                                                   answer->owner, &stored, err);
    hs_stored_response_free(&stored);
    return status;
}

static hs_status done(struct hs_generation *generation, struct hs_error *err)
{
    struct hs_response_answer *answer = generation->data;
    hs_status status =
        generation->is_streamed ? HS_OK : keep_items(answer, &generation->choices[0]);
    status = status == HS_OK ? complete_object(generation) : status;
    if (status != HS_OK) {
        return hs_error_nomem(err, "response");
    }
    return answer->is_kept ? keep_answer(generation, err) : HS_OK;
}

static hs_status write_json(const json_t *json, struct hs_buf *out)
{
    char *text = json_dumps(json, JSON_COMPACT);
    hs_status status = text == NULL ? HS_OUT_OF_MEMORY : hs_buf_append_str(out, text);
    hs_free(text);
    return status;
}

static hs_status write_whole(struct hs_generation *generation, struct hs_buf *out)
{
    const struct hs_response_answer *answer = generation->data;
    hs_status status = write_json(answer->object, out);
    return status == HS_OK ? hs_buf_append_str(out, "\n") : status;
}

/* ---- events ---- */

static hs_status open_event(struct hs_response_answer *answer, const char *type, struct hs_buf *out)
{
    return hs_buf_printf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%lld", type,
                         type, (long long)answer->sequence++);
}

static hs_status close_event(struct hs_buf *out)
{
    return hs_buf_append_str(out, "}\n\n");
}

/* An event with a JSON value under `name`, which is freed. */
static hs_status write_value(struct hs_response_answer *answer, const char *type, const char *where,
                             const char *name, json_t *value, struct hs_buf *out)
{
    hs_status status = value == NULL ? HS_OUT_OF_MEMORY : open_event(answer, type, out);
    status = status == HS_OK ? hs_buf_printf(out, "%s,\"%s\":", where, name) : status;
    status = status == HS_OK ? write_json(value, out) : status;
    json_decref(value);
    return status == HS_OK ? close_event(out) : status;
}

/* ,"output_index":...,"item_id":... and, of texts, "content_index" */
static void locate(const struct hs_response_answer *answer, bool has_id, char ret[128])
{
    size_t len =
        (size_t)snprintf(ret, 128, ",\"output_index\":%zu", json_array_size(answer->output));
    if (has_id) {
        snprintf(ret + len, 128 - len, ",\"item_id\":\"%s\"%s", answer->item_id,
                 answer->part == HS_RESPONSE_CALL ? "" : ",\"content_index\":0");
    }
}

static hs_status write_item(struct hs_response_answer *answer, const char *type, json_t *item,
                            struct hs_buf *out)
{
    char where[128];
    locate(answer, false, where);
    return write_value(answer, type, where, "item", item, out);
}

/* The item's only part; NULL: no memory. */
static json_t *part_of(const json_t *item)
{
    return json_incref(json_array_get(json_object_get(item, "content"), 0));
}

static hs_status write_part(struct hs_response_answer *answer, const char *type, json_t *part,
                            struct hs_buf *out)
{
    char where[128];
    locate(answer, true, where);
    return write_value(answer, type, where, "part", part, out);
}

/* An event about a text: its piece under `name`, and logprobs when it is the message's. */
static hs_status write_text(struct hs_response_answer *answer, const char *type, const char *name,
                            const char *text, size_t len, const struct hs_choice *choice,
                            size_t logprobs_at, struct hs_buf *out)
{
    char where[128];
    locate(answer, true, where);
    hs_status status = open_event(answer, type, out);
    status = status == HS_OK ? hs_buf_printf(out, "%s,\"%s\":", where, name) : status;
    status = status == HS_OK ? hs_json_quote(out, text, len) : status;
    if (status == HS_OK && answer->part == HS_RESPONSE_MESSAGE) {
        size_t n = 0;
        const char *logprobs = logprobs_from(choice, logprobs_at, &n);
        status = hs_buf_append_str(out, ",\"logprobs\":[");
        status = status == HS_OK && n > 0 ? hs_buf_append(out, logprobs, n) : status;
        status = status == HS_OK ? hs_buf_append_str(out, "]") : status;
    }
    return status == HS_OK ? close_event(out) : status;
}

/* ---- a stream ---- */

static hs_status write_response(const struct hs_generation *generation, const char *type,
                                struct hs_buf *out)
{
    struct hs_response_answer *answer = generation->data;
    return write_value(answer, type, "", "response", json_incref(answer->object), out);
}

static hs_status write_start(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = write_response(generation, "response.created", out);
    return status == HS_OK ? write_response(generation, "response.in_progress", out) : status;
}

/* The new item as it is announced: without its text, which the events bring. */
static json_t *empty_item(const struct hs_response_answer *answer, const struct hs_choice *choice)
{
    if (answer->part == HS_RESPONSE_CALL) {
        struct hs_choice_call call = choice->calls[answer->call];
        call.arguments = (struct hs_buf){.data = NULL};
        return hs_response_call_item(answer->item_id, "in_progress", &call);
    }
    json_t *item = answer->part == HS_RESPONSE_REASONING
                       ? hs_response_reasoning_item(answer->item_id, "in_progress", "", 0)
                       : hs_response_message_item(answer->item_id, "in_progress", "", 0, "", 0);
    return item;
}

static hs_status open_item(struct hs_response_answer *answer, const struct hs_choice *choice,
                           enum hs_response_part part, const struct hs_event *event,
                           struct hs_buf *out)
{
    size_t call = part == HS_RESPONSE_CALL ? (size_t)event->index : 0;
    hs_status status = set_part(answer, part, call);
    answer->text_at = part == HS_RESPONSE_REASONING ? choice->reasoning.len : choice->text.len;
    answer->text_at -= event->type == HS_EVENT_DONE ? 0 : event->text_len; /* it is kept already */
    answer->logprobs_at = answer->logprobs_seen;
    json_t *item = empty_item(answer, choice);
    if (status != HS_OK || part == HS_RESPONSE_CALL || item == NULL) {
        status =
            status == HS_OK ? write_item(answer, "response.output_item.added", item, out) : status;
        return status;
    }
    json_t *first = part_of(item);
    json_array_clear(json_object_get(item, "content"));
    status = write_item(answer, "response.output_item.added", item, out);
    if (status != HS_OK) {
        json_decref(first);
        return status;
    }
    return write_part(answer, "response.content_part.added", first, out);
}

/* The events that end a text or a call, before the item itself. */
static hs_status write_item_text(struct hs_response_answer *answer, const struct hs_choice *choice,
                                 const json_t *item, struct hs_buf *out)
{
    if (answer->part == HS_RESPONSE_CALL) {
        const struct hs_buf *arguments = &choice->calls[answer->call].arguments;
        return write_text(answer, "response.function_call_arguments.done", "arguments",
                          arguments->data, arguments->len, choice, 0, out);
    }
    json_t *part = part_of(item);
    const json_t *text = json_object_get(part, "text");
    hs_status status =
        write_text(answer,
                   answer->part == HS_RESPONSE_MESSAGE ? "response.output_text.done"
                                                       : "response.reasoning_text.done",
                   "text", json_string_value(text), json_string_length(text), choice,
                   answer->logprobs_at, out);
    if (status != HS_OK) {
        json_decref(part);
        return status;
    }
    return write_part(answer, "response.content_part.done", part, out);
}

static hs_status close_item(struct hs_response_answer *answer, const struct hs_choice *choice,
                            const char *how, struct hs_buf *out)
{
    if (answer->part == HS_RESPONSE_NOTHING) {
        return HS_OK;
    }
    json_t *item = make_item(answer, choice, how);
    if (item == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    hs_status status = write_item_text(answer, choice, item, out);
    status = status == HS_OK
                 ? write_item(answer, "response.output_item.done", json_incref(item), out)
                 : status;
    answer->part = HS_RESPONSE_NOTHING;
    if (status != HS_OK) {
        json_decref(item);
        return status;
    }
    return json_array_append_new(answer->output, item) == 0 ? HS_OK : HS_OUT_OF_MEMORY;
}

/* The end: an answer without anything else has an empty message. */
static hs_status write_last(struct hs_response_answer *answer, const struct hs_choice *choice,
                            const struct hs_event *event, struct hs_buf *out)
{
    hs_status status = HS_OK;
    bool is_cut = choice->finish == HS_FINISH_LENGTH;
    bool is_bare =
        choice->text.len == 0 && choice->n_calls == 0 && (choice->reasoning.len == 0 || !is_cut);
    if (is_bare && answer->part != HS_RESPONSE_MESSAGE) {
        status = close_item(answer, choice, "completed", out);
        status =
            status == HS_OK ? open_item(answer, choice, HS_RESPONSE_MESSAGE, event, out) : status;
    }
    return status == HS_OK ? close_item(answer, choice, status_of(choice), out) : status;
}

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    static const struct {
        enum hs_response_part part;
        const char *type;
    } rows[] = {
        [HS_EVENT_TEXT] = {HS_RESPONSE_MESSAGE, "response.output_text.delta"},
        [HS_EVENT_REASONING] = {HS_RESPONSE_REASONING, "response.reasoning_text.delta"},
        [HS_EVENT_TOOL_CALL] = {HS_RESPONSE_CALL, "response.function_call_arguments.delta"},
    };
    struct hs_response_answer *answer = generation->data;
    const struct hs_choice *choice = &generation->choices[i];
    if (event->type == HS_EVENT_DONE) {
        return write_last(answer, choice, event, out);
    }
    enum hs_response_part part = rows[event->type].part;
    bool says_nothing = event->text_len == 0 && choice->logprobs[0].len == answer->logprobs_seen;
    if (says_nothing && part != HS_RESPONSE_CALL) {
        return HS_OK;
    }
    bool is_other_call = part == HS_RESPONSE_CALL && answer->call != (size_t)event->index;
    hs_status status = HS_OK;
    if (answer->part != part || is_other_call) {
        status = close_item(answer, choice, "completed", out);
        status = status == HS_OK ? open_item(answer, choice, part, event, out) : status;
    }
    if (status == HS_OK && !says_nothing) {
        status = write_text(answer, rows[event->type].type, "delta", event->text, event->text_len,
                            choice, answer->logprobs_seen, out);
    }
    answer->logprobs_seen = choice->logprobs[0].len;
    return status;
}

static hs_status write_end(struct hs_generation *generation, struct hs_buf *out)
{
    bool is_cut = generation->choices[0].finish == HS_FINISH_LENGTH;
    return write_response(generation, is_cut ? "response.incomplete" : "response.completed", out);
}

static hs_status write_failure(struct hs_generation *generation, const struct hs_error *err,
                               struct hs_buf *out)
{
    const struct hs_response_answer *answer = generation->data;
    int failed = json_object_set_new(answer->object, "status", json_string("failed"));
    failed |= json_object_set_new(
        answer->object, "error",
        json_pack("{s:s, s:s}", "code", "server_error", "message", err->message));
    failed |= json_object_set(answer->object, "output", answer->output);
    return failed == 0 ? write_response(generation, "response.failed", out) : HS_OUT_OF_MEMORY;
}

/* ---- format ---- */

/* Those of the message only. */
static hs_status add_logprobs(struct hs_generation *generation, struct hs_choice *choice,
                              const struct hs_event *event, struct hs_error *err)
{
    return event->type == HS_EVENT_TEXT ? hs_openai_add_logprobs(generation, choice, event, err)
                                        : HS_OK;
}

#define FORMAT(waits_for_disk)                                                                     \
    {                                                                                              \
        .kind = HS_HTTP_SSE, .id_prefix = "resp_", .keeps_streams = true,                          \
        .is_slow = (waits_for_disk), .logprobs = add_logprobs, .whole = write_whole,               \
        .start = write_start, .event = write_event, .end = write_end, .failed = write_failure,     \
        .done = done, .free_data = free_data                                                       \
    }

const struct hs_generation_format *hs_response_format(bool is_kept)
{
    static const struct hs_generation_format kept = FORMAT(true), passing = FORMAT(false);
    return is_kept ? &kept : &passing;
}
