/* The fake runtime's formats: see fake_runtime.h. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fake_runtime.h"

struct hs_rt_format {
    bool in_call, has_name, is_schema;
    int32_t n_calls;
    struct hs_buf out; /* texts of one feeding, a NUL behind each */
    struct hs_buf name;
    char id[16];
};

hs_status fake_format_new(const hs_rt_model *model, const struct hs_rt_template_params *prompt,
                          const struct hs_rt_format_params *params, hs_rt_format **ret_format,
                          struct hs_error *err)
{
    (void)model;
    (void)prompt;
    hs_rt_format *format = hs_calloc(1, sizeof(*format));
    if (format == NULL) {
        return hs_error_nomem(err, "fake format");
    }
    format->is_schema = params->json_schema != NULL;
    format->out = (struct hs_buf)HS_BUF_INIT(1 << 20);
    format->name = (struct hs_buf)HS_BUF_INIT(64);
    *ret_format = format;
    return HS_OK;
}

void fake_format_free(hs_rt_format *format)
{
    if (format != NULL) {
        hs_buf_free(&format->out);
        hs_buf_free(&format->name);
        hs_free(format);
    }
}

const char *fake_format_stop(const hs_rt_format *format)
{
    (void)format;
    return FAKE_FORMAT_STOP;
}

/* ---- prompts ---- */

hs_status fake_render_assistant(const struct hs_message *message, bool is_open, struct hs_buf *text)
{
    hs_status status = hs_buf_printf(text, "<|gen|>%s", message->content);
    for (int32_t i = 0; i < message->n_tool_calls && status == HS_OK; i++) {
        const struct hs_tool_call *call = &message->tool_calls[i];
        status = hs_buf_printf(text, "<%s:%s>", call->name, call->arguments);
    }
    return status == HS_OK && !is_open ? hs_buf_append_str(text, "<|end|>\n") : status;
}

size_t fake_tokenize(const char *text, int32_t *tokens)
{
    size_t n = 0;
    while (*text != '\0') {
        if (strncmp(text, "<|gen|>", 7) == 0) {
            tokens[n++] = FAKE_GEN;
            text += 7;
        } else if (strncmp(text, "<|end|>", 7) == 0) {
            tokens[n++] = FAKE_EOG;
            text += 7;
        } else {
            tokens[n++] = (unsigned char)*text++;
        }
    }
    return n;
}

hs_status fake_render_tools(const struct hs_rt_template_params *params, struct hs_buf *text)
{
    hs_status status = HS_OK;
    for (int32_t i = 0; i < params->n_tools && status == HS_OK; i++) {
        status = hs_buf_printf(text, "%s%s%s", i == 0 ? "[tools]" : ",", params->tools[i].name,
                               i + 1 == params->n_tools ? "\n" : "");
    }
    return status == HS_OK && params->template_kwargs != NULL
               ? hs_buf_printf(text, "[kwargs]%s\n", params->template_kwargs)
               : status;
}

/* ---- answers ---- */

/* A delta that is open collects bytes until the next begins. */
struct feeding {
    struct hs_rt_delta *deltas;
    int32_t n;
    size_t start; /* of the open delta's text */
};

static hs_status close_delta(hs_rt_format *format, struct feeding *feeding)
{
    if (feeding->n == 0) {
        return HS_OK;
    }
    feeding->deltas[feeding->n - 1].len = format->out.len - feeding->start;
    hs_status status = hs_buf_append(&format->out, "", 1);
    feeding->start = format->out.len;
    return status;
}

static hs_status take_char(hs_rt_format *format, struct feeding *feeding, char c)
{
    if (!format->is_schema && !format->in_call && c == '<') {
        format->in_call = true;
        format->has_name = false;
        hs_buf_clear(&format->name);
        return HS_OK;
    }
    if (format->in_call && !format->has_name && c != ':') {
        return hs_buf_append(&format->name, &c, 1);
    }
    if (format->in_call && c == '>') {
        format->in_call = false;
        return HS_OK;
    }
    bool begins = format->in_call && !format->has_name;
    enum hs_event_type type = format->in_call ? HS_EVENT_TOOL_CALL : HS_EVENT_TEXT;
    if (begins || feeding->n == 0 || feeding->deltas[feeding->n - 1].type != type) {
        hs_status status = close_delta(format, feeding);
        if (status != HS_OK) {
            return status;
        }
        format->n_calls += begins;
        feeding->deltas[feeding->n] = (struct hs_rt_delta){.type = type};
        feeding->deltas[feeding->n].index = format->in_call ? format->n_calls - 1 : 0;
        if (begins) {
            snprintf(format->id, sizeof(format->id), "id%d", format->n_calls - 1);
            feeding->deltas[feeding->n].id = format->id;
            feeding->deltas[feeding->n].name = format->name.data == NULL ? "" : format->name.data;
        }
        feeding->n++;
    }
    format->has_name = format->in_call;
    return begins ? HS_OK : hs_buf_append(&format->out, &c, 1);
}

/* One token is one byte, so that a feeding begins one call at most. */
hs_status fake_format_feed(hs_rt_format *format, const char *text, size_t len, bool is_end,
                           struct hs_rt_delta *ret_deltas, int32_t *ret_n, struct hs_error *err)
{
    (void)is_end;
    hs_buf_clear(&format->out);
    struct feeding feeding = {.deltas = ret_deltas};
    hs_status status = hs_buf_reserve(&format->out, 2 * len + HS_RT_DELTAS_MAX);
    for (size_t i = 0; i < len && status == HS_OK; i++) {
        status = take_char(format, &feeding, text[i]);
    }
    if (status == HS_OK) {
        status = close_delta(format, &feeding);
    }
    size_t at = 0;
    for (int32_t i = 0; i < feeding.n && status == HS_OK; i++) {
        ret_deltas[i].text = format->out.data + at;
        at += ret_deltas[i].len + 1;
    }
    *ret_n = feeding.n;
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "fake format");
}
