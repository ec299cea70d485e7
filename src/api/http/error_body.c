/* error_body.c - error objects in the styles of the APIs spoken, and events of streams. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/http.h"
#include "base/error.h"
#include "error_body.h"

/* What each style calls a status. */
static const struct {
    int status;
    const char *openai, *anthropic;
} types[] = {
    {401, "authentication_error", "authentication_error"},
    {403, "permission_error", "permission_error"},
    {404, "invalid_request_error", "not_found_error"},
    {413, "invalid_request_error", "request_too_large"},
    {429, "rate_limit_error", "rate_limit_error"},
    {503, "server_error", "overloaded_error"},
    {504, "timeout_error", "timeout_error"},
};

static const char *type_of(enum hs_http_error_style style, const struct hs_http_error *error)
{
    bool is_anthropic = style == HS_HTTP_ERRORS_ANTHROPIC;
    if (error->type != NULL) {
        return error->type;
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].status == error->status) {
            return is_anthropic ? types[i].anthropic : types[i].openai;
        }
    }
    if (error->status < 500) {
        return "invalid_request_error";
    }
    return is_anthropic ? "api_error" : "server_error";
}

static json_t *text_or_null(const char *text)
{
    return text == NULL ? json_null() : json_string(text);
}

hs_status hs_http_error_write(enum hs_http_error_style style, const struct hs_http_error *error,
                              const char *request_id, struct hs_buf *out)
{
    const char *message = error->message == NULL ? "" : error->message;
    const char *type = type_of(style, error);
    json_t *json = NULL;
    switch (style) {
    case HS_HTTP_ERRORS_OPENAI:
        json = json_pack("{s:{s:s, s:s, s:o, s:o}}", "error", "message", message, "type", type,
                         "param", text_or_null(error->param), "code", text_or_null(error->code));
        break;
    case HS_HTTP_ERRORS_ANTHROPIC:
        json = json_pack("{s:s, s:{s:s, s:s}, s:s}", "type", "error", "error", "type", type,
                         "message", message, "request_id", request_id);
        break;
    case HS_HTTP_ERRORS_OLLAMA:
        json = json_pack("{s:s}", "error", message);
        break;
    }
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    hs_status status = text == NULL ? HS_OUT_OF_MEMORY : hs_buf_append_str(out, text);
    free(text);
    return status;
}

hs_status hs_http_sse_append(struct hs_buf *out, const char *event, const char *text, size_t len)
{
    size_t before = out->len;
    hs_status status = HS_OK;
    if (event != NULL) {
        status = hs_buf_append_str(out, "event: ");
        if (status == HS_OK) {
            status = hs_buf_append_str(out, event);
        }
        if (status == HS_OK) {
            status = hs_buf_append(out, "\n", 1);
        }
    }
    /* CR, LF and CRLF end a line of an event stream; each line of data needs its own field */
    for (size_t i = 0; status == HS_OK;) {
        size_t n = 0;
        while (i + n < len && text[i + n] != '\n' && text[i + n] != '\r') {
            n++;
        }
        status = hs_buf_append(out, "data: ", 6);
        if (status == HS_OK && n > 0) {
            status = hs_buf_append(out, text + i, n);
        }
        if (status == HS_OK) {
            status = hs_buf_append(out, "\n", 1);
        }
        i += n;
        if (i >= len) {
            break;
        }
        i += text[i] == '\r' && i + 1 < len && text[i + 1] == '\n' ? 2 : 1;
    }
    if (status == HS_OK) {
        status = hs_buf_append(out, "\n", 1);
    }
    if (status != HS_OK && out->data != NULL) {
        out->len = before;
        out->data[before] = '\0';
    }
    return status;
}

hs_status hs_http_error_event(enum hs_http_stream_kind kind, enum hs_http_error_style style,
                              const struct hs_http_error *error, const char *request_id,
                              struct hs_buf *out)
{
    struct hs_buf body = HS_BUF_INIT(64u << 10);
    hs_status status = hs_http_error_write(style, error, request_id, &body);
    if (status == HS_OK && kind == HS_HTTP_SSE) {
        const char *event = style == HS_HTTP_ERRORS_ANTHROPIC ? "error" : NULL;
        status = hs_http_sse_append(out, event, body.data, body.len);
    } else if (status == HS_OK) {
        status = hs_buf_append(&body, "\n", 1);
        if (status == HS_OK) {
            status = hs_buf_append(out, body.data, body.len);
        }
    }
    hs_buf_free(&body);
    return status;
}
