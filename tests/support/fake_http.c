#include "fake_http.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/status_map.h"
#include "base/mem.h"
#include "error_body.h"
#include "json_body.h"
#include "route.h"

#define BODY_MAX ((size_t)64 << 20)
#define JSON_DEPTH 64

struct hs_http_request {
    struct hs_http_target target;
    struct hs_http_params params;
    const char *body;
    size_t body_len;
    json_t *json;
    struct fake_http_answer *answer;
    bool is_answered, is_woken;
    hs_http_handler step;
    struct hs_http_hooks hooks;
    void *data;
    struct hs_http_stream stream;
};

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* ---- what a request holds ---- */

const char *hs_http_request_id(const hs_http_request *request)
{
    (void)request;
    return "req-fake";
}

const char *hs_http_request_body(const hs_http_request *request, size_t *ret_len)
{
    *ret_len = request->body_len;
    return request->body;
}

const char *hs_http_request_param(const hs_http_request *request, const char *name)
{
    return hs_http_params_get(&request->params, name);
}

const char *hs_http_request_query(const hs_http_request *request, const char *name)
{
    return hs_http_target_query(&request->target, name);
}

const char *hs_http_request_header(const hs_http_request *request, const char *name)
{
    (void)request;
    (void)name;
    return NULL;
}

const struct hs_http_key_info *hs_http_request_key(const hs_http_request *request)
{
    (void)request;
    return NULL;
}

const char *hs_http_request_peer(const hs_http_request *request)
{
    (void)request;
    return "127.0.0.1:1";
}

json_t *hs_http_request_json(hs_http_request *request)
{
    struct hs_error err;
    if (request->json == NULL && hs_http_json_parse(request->body, request->body_len, JSON_DEPTH,
                                                    &request->json, &err) != HS_OK) {
        hs_http_respond_failure(request, &err, NULL);
    }
    return request->json;
}

void hs_http_server_stats(hs_http_server *server, struct hs_http_stats *ret_stats)
{
    (void)server;
    *ret_stats = (struct hs_http_stats){0};
}

/* ---- answers ---- */

void hs_http_set_header(hs_http_request *request, const char *name, const char *value)
{
    (void)request;
    require(strpbrk(name, "\r\n: ") == NULL && value != NULL);
}

void hs_http_respond(hs_http_request *request, int status, const char *content_type,
                     const void *data, size_t len)
{
    if (request->is_answered) {
        return;
    }
    struct fake_http_answer *answer = request->answer;
    request->is_answered = true;
    answer->status = status;
    snprintf(answer->content_type, sizeof answer->content_type, "%s", content_type);
    require(hs_buf_append(&answer->body, data, len) == HS_OK);
}

void hs_http_respond_static(hs_http_request *request, int status, const char *content_type,
                            const void *data, size_t len)
{
    hs_http_respond(request, status, content_type, data, len);
}

void hs_http_respond_buf(hs_http_request *request, int status, const char *content_type,
                         struct hs_buf *body)
{
    hs_http_respond(request, status, content_type, body->len == 0 ? "" : body->data, body->len);
    hs_buf_free(body);
}

void hs_http_respond_json(hs_http_request *request, int status, json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    require(text != NULL);
    hs_http_respond(request, status, "application/json", text, strlen(text));
    free(text);
    json_decref(json);
}

void hs_http_respond_error(hs_http_request *request, const struct hs_http_error *error)
{
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(BODY_MAX);
    require(hs_http_error_write(request->answer->route->errors, error, "req-fake", &body) == HS_OK);
    hs_http_respond(request, error->status, "application/json", body.data, body.len);
}

void hs_http_respond_failure(hs_http_request *request, const struct hs_error *err,
                             const char *param)
{
    hs_http_respond_error(request, &(struct hs_http_error){.status = hs_http_status(err->status),
                                                           .param = param,
                                                           .message = err->message});
}

void hs_http_respond_bad_param(hs_http_request *request, const char *param, const char *format, ...)
{
    struct hs_error err = {.status = HS_INVALID_ARGUMENT};
    va_list args;
    va_start(args, format);
    vsnprintf(err.message, sizeof err.message, format, args);
    va_end(args);
    hs_http_respond_failure(request, &err, param);
}

/* ---- answers that come later ---- */

void hs_http_attach(hs_http_request *request, const struct hs_http_hooks *hooks, void *data)
{
    request->hooks = *hooks;
    request->data = data;
}

void *hs_http_request_data(const hs_http_request *request)
{
    return request->data;
}

/* Nothing is kept: the models of the fake server stay. */
void hs_http_keep(hs_http_request *request, void (*drop)(void *data), void *data)
{
    (void)request;
    drop(data);
}

void *hs_http_kept(const hs_http_request *request)
{
    (void)request;
    return NULL;
}

const struct hs_http_route *hs_http_request_route(const hs_http_request *request)
{
    return request->answer->route;
}

void hs_http_wait(hs_http_request *request, hs_http_handler step)
{
    request->step = step;
}

void hs_http_wake(hs_http_request *request)
{
    request->is_woken = true;
}

void hs_http_stream_start(hs_http_request *request, int status, const struct hs_http_stream *stream)
{
    if (!request->is_answered) {
        request->is_answered = true;
        request->answer->status = status;
        request->answer->is_stream = true;
        request->answer->kind = stream->kind;
        request->stream = *stream;
    }
}

static void pull_all(hs_http_request *request)
{
    struct fake_http_answer *answer = request->answer;
    for (enum hs_http_pull result = HS_HTTP_MORE; result != HS_HTTP_END;) {
        struct hs_error err = {.message = ""};
        request->is_woken = false;
        result = request->stream.pull(request, request->data, &answer->body, &err);
        if (result == HS_HTTP_FAIL) {
            const struct hs_http_error error = {.status = hs_http_status(err.status),
                                                .message = err.message};
            require(hs_http_error_event(request->stream.kind, answer->route->errors, &error,
                                        "req-fake", &answer->body) == HS_OK);
            return;
        }
        require(result != HS_HTTP_NOT_YET || request->is_woken);
    }
}

void fake_http_run(const struct hs_http_route *routes, size_t n_routes, void *user,
                   const char *line, const char *body, size_t len,
                   struct fake_http_answer *ret_answer)
{
    struct hs_http_request request = {.body = body, .body_len = len, .answer = ret_answer};
    *ret_answer = (struct fake_http_answer){.body = HS_BUF_INIT(BODY_MAX)};
    char method[16];
    unsigned methods;
    size_t n_method = strcspn(line, " ");
    snprintf(method, sizeof method, "%.*s", (int)(n_method < 15 ? n_method : 15), line);
    if (line[n_method] == '\0' ||
        hs_http_target_parse(line + n_method + 1, &request.target, NULL) != HS_OK) {
        return;
    }
    ret_answer->route = hs_http_route_find(routes, n_routes, hs_http_method_parse(method),
                                           &request.target, &request.params, &methods);
    if (ret_answer->route != NULL) {
        ret_answer->route->handler(&request, user);
        while (!request.is_answered) {
            require(request.step != NULL && request.is_woken);
            request.is_woken = false;
            request.step(&request, user);
        }
        if (ret_answer->is_stream) {
            pull_all(&request);
        }
        if (request.hooks.on_end != NULL) {
            request.hooks.on_end(request.data);
        }
    }
    json_decref(request.json);
    hs_http_target_free(&request.target);
}

void fake_http_free(struct fake_http_answer *answer)
{
    hs_buf_free(&answer->body);
}
