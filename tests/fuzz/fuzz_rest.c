/*
 * fuzz_rest.c - libFuzzer target of every endpoint's reader of bodies: "METHOD /path?query\n" and
 * then the body. Whatever it is, the client gets one answer, of UTF-8 and of the form that its
 * endpoint promises, and never a 5xx; nothing of the request is left behind.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "fake_engine.h"
#include "fake_http.h"
#include "rest.h"

#define LINE_MAX_BYTES 512
#define SESSIONS "/api/v1/sessions"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[256];

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void remove_folder(void)
{
    hs_status status = hs_fs_remove_all(folder, NULL);
    (void)status; /* what is left lies among the temporary files */
}

static void make_folder(void)
{
    const char *parent = getenv("TMPDIR");
    if (folder[0] == '\0') {
        snprintf(folder, sizeof folder, "%s/fuzz-rest-XXXXXX", parent == NULL ? "/tmp" : parent);
        require(mkdtemp(folder) != NULL && atexit(remove_folder) == 0);
    }
}

/* ---- what an answer must be ---- */

static json_t *parse(const char *text, size_t len)
{
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    require(json != NULL);
    return json;
}

static void check_error(const struct hs_http_route *route, const json_t *json)
{
    const json_t *error = json_object_get(json, "error");
    const char *message = json_string_value(
        route->errors == HS_HTTP_ERRORS_OLLAMA ? error : json_object_get(error, "message"));
    require(message != NULL && *message != '\0');
    if (route->errors == HS_HTTP_ERRORS_OPENAI) {
        const json_t *param = json_object_get(error, "param");
        require(json_is_string(json_object_get(error, "type")));
        require(json_is_string(param) || json_is_null(param));
    }
}

static void check_whole(const struct fake_http_answer *answer)
{
    require(answer->status >= 200 && answer->status < 500);
    if (strcmp(answer->content_type, "application/json") != 0) {
        return;
    }
    json_t *json = parse(answer->body.len == 0 ? "" : answer->body.data, answer->body.len);
    if (answer->status >= 400) {
        check_error(answer->route, json);
    }
    json_decref(json);
}

/* A line of a stream: JSON, or what stands around it in server-sent events. */
static void check_line(enum hs_http_stream_kind kind, const char *line, size_t len)
{
    if (kind == HS_HTTP_SSE) {
        if (len == 0 || strncmp(line, "event: ", 7) == 0 || line[0] == ':') {
            return;
        }
        require(len > 6 && strncmp(line, "data: ", 6) == 0);
        line += 6;
        len -= 6;
        if (len == 6 && memcmp(line, "[DONE]", 6) == 0) {
            return;
        }
    }
    json_decref(parse(line, len));
}

static void check_stream(const struct fake_http_answer *answer)
{
    const char *text = answer->body.data;
    require(answer->status == 200 && answer->body.len > 0);
    require(text[answer->body.len - 1] == '\n');
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        check_line(answer->kind, text, len);
        text += len + 1;
    }
}

static void ask(struct hs_rest *rest, const char *line, const char *body, size_t len)
{
    size_t n_routes;
    const struct hs_http_route *routes = hs_rest_routes(true, &n_routes);
    struct fake_http_answer answer;
    fake_http_run(routes, n_routes, rest, line, body, len, &answer);
    if (answer.route != NULL) {
        require(answer.body.len == 0 || hs_utf8_valid(answer.body.data, answer.body.len));
        if (answer.is_stream) {
            check_stream(&answer);
        } else {
            check_whole(&answer);
        }
    }
    fake_http_free(&answer);
    require(fake_engine.n_streams == 0);
}

static void ask_text(struct hs_rest *rest, const char *line, const char *body)
{
    ask(rest, line, body, strlen(body));
}

/* ---- one input ---- */

static void set_answer(const char *body)
{
    static const struct fake_piece pieces[] = {
        {HS_EVENT_REASONING, "so"}, {HS_EVENT_TEXT, "a\"\\\xC3\xA9"}, {HS_EVENT_TEXT, NULL}};
    static const struct fake_piece calls[] = {{HS_EVENT_TEXT, "now"},
                                              FAKE_CALL(0, "c0", "f", "{\"a\""),
                                              FAKE_ARGUMENTS(0, ":1}"),
                                              {HS_EVENT_TEXT, NULL}};
    static const struct fake_answer plain = {.pieces = pieces}, calling = {.pieces = calls};
    fake_engine_reset();
    fake_engine.can_infill = fake_engine.can_rank = true;
    fake_engine.answers = strstr(body, "\"tools\"") == NULL ? &plain : &calling;
}

static void open_rest(struct hs_rest *rest)
{
    struct hs_engine_params params;
    struct hs_model_params model;
    char id[HS_ID_MAX];
    hs_rest_defaults(rest);
    hs_engine_params_defaults(&params);
    hs_model_params_defaults(&model);
    params.sessions_dir = rest->sessions_dir = folder;
    require(hs_engine_create(&params, &rest->engine, NULL) == HS_OK);
    require(hs_engine_load_model(rest->engine, "/fake.gguf", "fake", &model, id, NULL) == HS_OK);
    require(hs_rest_add_model(rest, id, NULL) == HS_OK);
    require(hs_adapter_table_new(rest->engine, NULL, rest->models, 1, &rest->adapters, NULL) ==
            HS_OK);
    rest->max_messages = rest->max_inputs = 8;
    rest->max_choices = 4;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char line[LINE_MAX_BYTES];
    char *text = hs_strndup((const char *)data, size);
    require(text != NULL);
    size_t n_line = strcspn(text, "\n");
    if (n_line < sizeof line && text[n_line] == '\n') {
        struct hs_rest rest;
        memcpy(line, text, n_line);
        line[n_line] = '\0';
        make_folder();
        set_answer(text + n_line + 1);
        open_rest(&rest);
        ask_text(&rest, "POST /v1/load_lora_adapter", "{\"lora_name\":\"a\",\"lora_path\":\"/a\"}");
        bool is_kept = strstr(line, SESSIONS) != NULL;
        if (is_kept) {
            ask_text(&rest, "POST " SESSIONS, "{\"name\":\"s\",\"system\":\"Be brief.\"}");
            ask_text(&rest, "POST " SESSIONS "/s/messages",
                     "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
        }
        ask(&rest, line, (const char *)data + n_line + 1, size - n_line - 1);
        hs_adapter_table_free(rest.adapters);
        hs_engine_free(rest.engine);
        if (is_kept) {
            remove_folder();
            require(hs_fs_mkdir_p(folder, NULL) == HS_OK);
        }
        fake_engine_reset();
    }
    hs_free(text);
    return 0;
}
