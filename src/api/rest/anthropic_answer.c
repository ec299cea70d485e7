#include "anthropic_answer.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "json_quote.h"

#define PING "event: ping\ndata: {\"type\":\"ping\"}\n\n"

/* The blocks of a stream. */
struct blocks {
    enum { NO_BLOCK, TEXT_BLOCK, THINKING_BLOCK, TOOL_BLOCK } open;
    int n; /* with the open one */
    bool omits_thinking;
};

/* ---- how it ended ---- */

/* A full context ends an answer before its own limit does. */
static const char *stop_reason(const struct hs_generation *generation)
{
    const struct hs_choice *choice = &generation->choices[0];
    const json_t *body = hs_http_request_json(generation->request);
    switch (choice->finish) {
    case HS_FINISH_TOOL_CALLS:
        return "tool_use";
    case HS_FINISH_LENGTH:
        return choice->usage.completion_tokens <
                       json_integer_value(json_object_get(body, "max_tokens"))
                   ? "model_context_window_exceeded"
                   : "max_tokens";
    case HS_FINISH_NONE:
    case HS_FINISH_STOP:
    case HS_FINISH_CANCELLED:
    case HS_FINISH_ERROR:
        break;
    }
    return choice->usage.stopped_by > 0 ? "stop_sequence" : "end_turn";
}

/* "stop_reason":...,"stop_sequence":... */
static hs_status write_stop(const struct hs_generation *generation, struct hs_buf *out)
{
    const char *reason = stop_reason(generation);
    hs_status status = hs_buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
    if (status != HS_OK || strcmp(reason, "stop_sequence") != 0) {
        return status == HS_OK ? hs_buf_append_str(out, "null") : status;
    }
    const json_t *body = hs_http_request_json(generation->request);
    const json_t *text = json_array_get(json_object_get(body, "stop_sequences"),
                                        (size_t)generation->choices[0].usage.stopped_by - 1);
    return hs_json_quote(out, json_string_value(text), json_string_length(text));
}

static hs_status write_usage(const struct hs_generation *generation, struct hs_buf *out)
{
    struct hs_generation_usage usage = hs_generation_usage(generation);
    return hs_buf_printf(out,
                         "\"usage\":{\"input_tokens\":%lld,\"cache_creation_input_tokens\":0,"
                         "\"cache_read_input_tokens\":%lld,\"output_tokens\":%lld,"
                         "\"output_tokens_details\":{\"thinking_tokens\":%lld}}",
                         (long long)(usage.prompt - usage.cached), (long long)usage.cached,
                         (long long)usage.completion, (long long)usage.reasoning);
}

/* Up to the content. */
static hs_status write_head(const struct hs_generation *generation, struct hs_buf *out)
{
    const char *model = generation->model_name;
    hs_status status = hs_buf_printf(
        out, "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",", generation->id);
    return status == HS_OK
               ? hs_json_quote_between(out, "\"model\":", model, strlen(model), ",\"content\":[")
               : status;
}

/* ---- whole answers ---- */

static hs_status next_block(struct hs_buf *out)
{
    return out->data[out->len - 1] == '[' ? HS_OK : hs_buf_append_str(out, ",");
}

static hs_status write_thinking(const struct hs_generation *generation, struct hs_buf *out)
{
    const struct blocks *blocks = generation->data;
    const struct hs_buf *text = &generation->choices[0].reasoning;
    if (text->len == 0) {
        return HS_OK;
    }
    hs_status status =
        hs_json_quote_between(out, "{\"type\":\"thinking\",\"thinking\":", text->data,
                              blocks->omits_thinking ? 0 : text->len, ",\"signature\":\"");
    status = status == HS_OK ? hs_buf_append_str(out, generation->id) : status;
    return status == HS_OK ? hs_buf_append_str(out, "\"}") : status;
}

static hs_status write_text(const struct hs_generation *generation, struct hs_buf *out)
{
    const struct hs_buf *text = &generation->choices[0].text;
    if (text->len == 0) {
        return HS_OK;
    }
    hs_status status = next_block(out);
    return status == HS_OK ? hs_json_quote_between(out, "{\"type\":\"text\",\"text\":", text->data,
                                                   text->len, "}")
                           : status;
}

/* Arguments that the end of the answer cut off are {}: the stop reason says that nothing is to be
 * called. */
static hs_status write_call(const struct hs_choice_call *call, struct hs_buf *out)
{
    bool is_whole = false;
    hs_status status = hs_generation_call_is_whole(call, &is_whole);
    status = status == HS_OK ? next_block(out) : status;
    status = status == HS_OK
                 ? hs_json_quote_between(out, "{\"type\":\"tool_use\",\"id\":", call->id,
                                         strlen(call->id), ",\"name\":")
                 : status;
    status = status == HS_OK
                 ? hs_json_quote_between(out, "", call->name, strlen(call->name), ",\"input\":")
                 : status;
    status =
        status == HS_OK ? hs_buf_append_str(out, is_whole ? call->arguments.data : "{}") : status;
    return status == HS_OK ? hs_buf_append_str(out, "}") : status;
}

static hs_status write_whole(struct hs_generation *generation, struct hs_buf *out)
{
    const struct hs_choice *choice = &generation->choices[0];
    hs_status status = write_head(generation, out);
    status = status == HS_OK ? write_thinking(generation, out) : status;
    status = status == HS_OK ? write_text(generation, out) : status;
    for (size_t i = 0; i < choice->n_calls && status == HS_OK; i++) {
        status = write_call(&choice->calls[i], out);
    }
    status = status == HS_OK ? hs_buf_append_str(out, "],") : status;
    status = status == HS_OK ? write_stop(generation, out) : status;
    status = status == HS_OK ? hs_buf_append_str(out, ",") : status;
    status = status == HS_OK ? write_usage(generation, out) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}\n") : status;
}

/* ---- streams ---- */

static hs_status write_start(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(
        out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    status = status == HS_OK ? write_head(generation, out) : status;
    return status == HS_OK
               ? hs_buf_printf(out,
                               "],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{"
                               "\"input_tokens\":%d,\"cache_creation_input_tokens\":0,"
                               "\"cache_read_input_tokens\":0,\"output_tokens\":0}}}\n\n" PING,
                               (int)hs_stream_prompt_tokens(generation->choices[0].stream))
               : status;
}

/* event and data of a delta in the open block, up to the delta's text */
static hs_status open_delta(const struct blocks *blocks, const char *type, const char *field,
                            struct hs_buf *out)
{
    return hs_buf_printf(out,
                         "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
                         "\"index\":%d,\"delta\":{\"type\":\"%s\",\"%s\":",
                         blocks->n - 1, type, field);
}

static hs_status write_delta(const struct blocks *blocks, const char *type, const char *field,
                             const char *text, size_t len, struct hs_buf *out)
{
    hs_status status = open_delta(blocks, type, field, out);
    return status == HS_OK ? hs_json_quote_between(out, "", text, len, "}}\n\n") : status;
}

static hs_status close_block(const struct hs_generation *generation, struct hs_buf *out)
{
    struct blocks *blocks = generation->data;
    hs_status status = HS_OK;
    if (blocks->open == NO_BLOCK) {
        return HS_OK;
    }
    if (blocks->open == THINKING_BLOCK) {
        status = write_delta(blocks, "signature_delta", "signature", generation->id,
                             strlen(generation->id), out);
    }
    blocks->open = NO_BLOCK;
    return status == HS_OK
               ? hs_buf_printf(out,
                               "event: content_block_stop\ndata: {\"type\":\"content_block_stop\","
                               "\"index\":%d}\n\n",
                               blocks->n - 1)
               : status;
}

/* What kind of block the event's text belongs to. */
static int kind_of(const struct hs_event *event)
{
    if (event->type == HS_EVENT_TOOL_CALL) {
        return TOOL_BLOCK;
    }
    return event->type == HS_EVENT_REASONING ? THINKING_BLOCK : TEXT_BLOCK;
}

/* Close the block before and open the event's, unless it is that one already. */
static hs_status open_block(const struct hs_generation *generation, const struct hs_event *event,
                            struct hs_buf *out)
{
    static const char *const beginnings[] = {
        [TEXT_BLOCK] = "{\"type\":\"text\",\"text\":\"\"}}\n\n",
        [THINKING_BLOCK] = "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
    };
    struct blocks *blocks = generation->data;
    int kind = kind_of(event);
    if ((int)blocks->open == kind && event->tool_call_id == NULL) {
        return HS_OK;
    }
    hs_status status = close_block(generation, out);
    status = status == HS_OK
                 ? hs_buf_printf(out,
                                 "event: content_block_start\ndata: {\"type\":"
                                 "\"content_block_start\",\"index\":%d,\"content_block\":",
                                 blocks->n)
                 : status;
    blocks->n++;
    blocks->open = kind;
    if (kind != TOOL_BLOCK || status != HS_OK) {
        return status == HS_OK ? hs_buf_append_str(out, beginnings[kind]) : status;
    }
    status = hs_json_quote_between(out, "{\"type\":\"tool_use\",\"id\":", event->tool_call_id,
                                   strlen(event->tool_call_id), ",\"name\":");
    return status == HS_OK ? hs_json_quote_between(out, "", event->tool_name,
                                                   strlen(event->tool_name), ",\"input\":{}}}\n\n")
                           : status;
}

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    static const char *const deltas[][2] = {
        [TEXT_BLOCK] = {"text_delta", "text"},
        [THINKING_BLOCK] = {"thinking_delta", "thinking"},
        [TOOL_BLOCK] = {"input_json_delta", "partial_json"},
    };
    (void)i; /* there is one answer */
    const struct blocks *blocks = generation->data;
    if (event->type == HS_EVENT_DONE) {
        return close_block(generation, out);
    }
    hs_status status = open_block(generation, event, out);
    bool is_silent =
        event->text_len == 0 || (blocks->open == THINKING_BLOCK && blocks->omits_thinking);
    if (status != HS_OK || is_silent) {
        return status;
    }
    const char *const *delta = deltas[blocks->open];
    return write_delta(blocks, delta[0], delta[1], event->text, event->text_len, out);
}

static hs_status write_end(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(
        out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    status = status == HS_OK ? write_stop(generation, out) : status;
    status = status == HS_OK ? hs_buf_append_str(out, "},") : status;
    status = status == HS_OK ? write_usage(generation, out) : status;
    return status == HS_OK
               ? hs_buf_append_str(
                     out, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
               : status;
}

/* ---- made ---- */

hs_status hs_anthropic_answer_new(const struct hs_rest *rest, const struct hs_model_info *model,
                                  hs_http_request *request, const struct hs_rest_settings *settings,
                                  bool omits_thinking, struct hs_generation **ret,
                                  struct hs_error *err)
{
    static const struct hs_generation_format format = {
        .kind = HS_HTTP_SSE,
        .id_prefix = "msg_",
        .ping = PING,
        .whole = write_whole,
        .start = write_start,
        .event = write_event,
        .end = write_end,
        .free_data = hs_free,
    };
    struct hs_generation *generation = NULL;
    hs_status status =
        hs_generation_new(&format, rest, model, request, settings, 1, &generation, err);
    if (status != HS_OK) {
        return status;
    }
    struct blocks *blocks = hs_calloc(1, sizeof *blocks);
    if (blocks == NULL) {
        hs_generation_free(generation);
        return hs_error_nomem(err, "answer");
    }
    blocks->omits_thinking = omits_thinking;
    generation->data = blocks;
    *ret = generation;
    return HS_OK;
}
