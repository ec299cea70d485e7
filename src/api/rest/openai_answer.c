#include "openai_answer.h"

#include <string.h>

#include "base/error.h"
#include "json_quote.h"

/* ---- objects ---- */

static const struct hs_openai_choices *choices_of(const struct hs_generation *generation)
{
    return generation->format->own;
}

/* What every object begins with, up to "choices". */
static hs_status append_head(struct hs_generation *generation, struct hs_buf *out)
{
    struct hs_buf *head = &generation->head;
    if (head->len == 0) {
        const struct hs_openai_choices *choices = choices_of(generation);
        const struct hs_model_info *model = generation->model;
        hs_status status = hs_buf_printf(
            head, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", generation->id,
            generation->is_streamed ? choices->chunk_object : choices->object,
            (long long)generation->created_unix_s);
        status = status == HS_OK
                     ? hs_json_quote(head, generation->model_name, strlen(generation->model_name))
                     : status;
        if (status == HS_OK) {
            status = hs_buf_printf(head, ",\"system_fingerprint\":\"fp_%.12s\",\"choices\":[",
                                   model->fingerprint);
        }
        if (status != HS_OK) {
            hs_buf_clear(head); /* half of it must not count as there */
            return status;
        }
    }
    return hs_buf_append(out, head->data, head->len);
}

static hs_status write_usage(const struct hs_generation *generation, struct hs_buf *out)
{
    struct hs_generation_usage usage = hs_generation_usage(generation);
    return hs_buf_printf(out,
                         "\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
                         "\"total_tokens\":%lld,"
                         "\"prompt_tokens_details\":{\"cached_tokens\":%lld},"
                         "\"completion_tokens_details\":{\"reasoning_tokens\":%lld}}",
                         (long long)usage.prompt, (long long)usage.completion,
                         (long long)(usage.prompt + usage.completion), (long long)usage.cached,
                         (long long)usage.reasoning);
}

hs_status hs_openai_whole(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = append_head(generation, out);
    for (size_t i = 0; i < generation->n_choices && status == HS_OK; i++) {
        status = i == 0 ? HS_OK : hs_buf_append_str(out, ",");
        status = status == HS_OK ? choices_of(generation)->whole(generation, i, out) : status;
    }
    status = status == HS_OK ? hs_buf_append_str(out, "],") : status;
    status = status == HS_OK ? write_usage(generation, out) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}\n") : status;
}

/* ---- chunks ---- */

static hs_status open_chunk(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "data: ");
    return status == HS_OK ? append_head(generation, out) : status;
}

static hs_status close_chunk(const struct hs_generation *generation, struct hs_buf *out)
{
    return hs_buf_append_str(out, generation->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

/* The first chunk of an answer, before whatever comes. */
static hs_status begin(struct hs_generation *generation, size_t i, struct hs_buf *out)
{
    struct hs_choice *choice = &generation->choices[i];
    const struct hs_openai_choices *choices = choices_of(generation);
    if (choice->is_begun || choices->first == NULL) {
        return HS_OK;
    }
    choice->is_begun = true;
    hs_status status = open_chunk(generation, out);
    status = status == HS_OK ? choices->first(generation, i, out) : status;
    return status == HS_OK ? close_chunk(generation, out) : status;
}

hs_status hs_openai_event(struct hs_generation *generation, size_t i, const struct hs_event *event,
                          struct hs_buf *out)
{
    const struct hs_openai_choices *choices = choices_of(generation);
    hs_status status = begin(generation, i, out);
    status = status == HS_OK ? open_chunk(generation, out) : status;
    if (status == HS_OK) {
        status = event->type == HS_EVENT_DONE ? choices->last(generation, i, out)
                                              : choices->event(generation, i, event, out);
    }
    return status == HS_OK ? close_chunk(generation, out) : status;
}

hs_status hs_openai_end(struct hs_generation *generation, struct hs_buf *out)
{
    hs_status status = HS_OK;
    if (generation->include_usage) {
        status = open_chunk(generation, out);
        status = status == HS_OK ? hs_buf_append_str(out, "],") : status;
        status = status == HS_OK ? write_usage(generation, out) : status;
        status = status == HS_OK ? hs_buf_append_str(out, "}\n\n") : status;
    }
    return status == HS_OK ? hs_buf_append_str(out, "data: [DONE]\n\n") : status;
}

/* ---- parts of choices ---- */

const char *hs_openai_finish(const struct hs_choice *choice)
{
    if (choice->finish == HS_FINISH_TOOL_CALLS) {
        return "\"tool_calls\"";
    }
    return choice->finish == HS_FINISH_LENGTH ? "\"length\"" : "\"stop\"";
}

/* "token":"...","logprob":-1.5,"bytes":[...] */
static hs_status write_token(const struct hs_generation *generation,
                             const struct hs_token_logprob *token, struct hs_buf *out,
                             struct hs_error *err)
{
    char *text = NULL;
    size_t len = 0;
    hs_status status = hs_generation_token_text(generation, token->token, &text, &len, err);
    if (status != HS_OK) {
        return status;
    }
    status = hs_buf_append_str(out, "\"token\":");
    status = status == HS_OK ? hs_json_quote(out, text, len) : status;
    status = status == HS_OK ? hs_buf_append_str(out, ",\"logprob\":") : status;
    status = status == HS_OK ? hs_generation_logprob(out, token->logprob) : status;
    status = status == HS_OK ? hs_buf_append_str(out, ",\"bytes\":[") : status;
    for (size_t i = 0; i < len && status == HS_OK; i++) {
        status = hs_buf_printf(out, "%s%u", i == 0 ? "" : ",", (unsigned)(unsigned char)text[i]);
    }
    hs_text_free(text);
    status = status == HS_OK ? hs_buf_append_str(out, "]") : status;
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "logprobs");
}

hs_status hs_openai_add_logprobs(struct hs_generation *generation, struct hs_choice *choice,
                                 const struct hs_event *event, struct hs_error *err)
{
    struct hs_buf *out = &choice->logprobs[0];
    size_t n_top = (size_t)generation->top_logprobs;
    size_t stride = 1 + (n_top > 0 ? n_top : 1);
    hs_status status = HS_OK;
    hs_error_clear(err);
    for (size_t t = 0; t < (size_t)event->n_tokens && status == HS_OK; t++) {
        const struct hs_token_logprob *row = event->logprobs + t * stride;
        hs_status put = hs_buf_append_str(out, out->len > 0 ? ",{" : "{");
        status = put == HS_OK ? write_token(generation, row, out, err) : put;
        put = status == HS_OK ? hs_buf_append_str(out, ",\"top_logprobs\":[") : HS_OK;
        for (size_t i = 0; i < n_top && status == HS_OK && put == HS_OK; i++) {
            put = hs_buf_append_str(out, i == 0 ? "{" : ",{");
            status = put == HS_OK ? write_token(generation, row + 1 + i, out, err) : put;
            put = status == HS_OK ? hs_buf_append_str(out, "}") : HS_OK;
        }
        put = put == HS_OK && status == HS_OK ? hs_buf_append_str(out, "]}") : put;
        if (put != HS_OK) {
            return hs_error_nomem(err, "logprobs");
        }
    }
    return status != HS_OK && err->status == HS_OK ? hs_error_nomem(err, "logprobs") : status;
}
