#include "embed_run.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define BODY_MAX_BYTES ((size_t)1 << 30)
#define NAME_MAX_BYTES 96

/* ---- inputs ---- */

#define INPUT_RULE                                                                                 \
    "must be a string, or an array of strings, of token numbers or of arrays of token numbers"

hs_status hs_embed_inputs_add(struct hs_embed_inputs *inputs, const int32_t *tokens,
                              size_t n_tokens, struct hs_error *err)
{
    if (inputs->n == inputs->cap) {
        size_t cap = inputs->cap * 2 + 4;
        struct hs_embed_input *items =
            hs_realloc_array(inputs->items, cap, sizeof inputs->items[0]);
        if (items == NULL) {
            return hs_error_nomem(err, "inputs");
        }
        inputs->items = items;
        inputs->cap = cap;
    }
    int32_t *copy = hs_alloc(n_tokens * sizeof tokens[0]);
    if (copy == NULL) {
        return hs_error_nomem(err, "inputs");
    }
    if (n_tokens > 0) {
        memcpy(copy, tokens, n_tokens * sizeof tokens[0]);
    }
    inputs->items[inputs->n++] = (struct hs_embed_input){copy, n_tokens};
    return HS_OK;
}

void hs_embed_inputs_free(struct hs_embed_inputs *inputs)
{
    for (size_t i = 0; i < inputs->n; i++) {
        hs_free((int32_t *)inputs->items[i].tokens);
    }
    hs_free(inputs->items);
    *inputs = (struct hs_embed_inputs){0};
}

static hs_status add_text(const struct hs_rest *rest, const struct hs_model_info *model,
                          const json_t *text, struct hs_embed_inputs *inputs, struct hs_error *err)
{
    int32_t *tokens = NULL;
    size_t n = 0;
    hs_status status = hs_engine_tokenize(rest->engine, model->id, json_string_value(text),
                                          json_string_length(text), true, true, &tokens, &n, err);
    if (status == HS_OK) {
        status = hs_embed_inputs_add(inputs, tokens, n, err);
        hs_tokens_free(tokens);
    }
    return status;
}

static hs_status add_tokens(const json_t *list, struct hs_embed_inputs *inputs,
                            struct hs_error *err)
{
    size_t n = json_array_size(list);
    int32_t *tokens HS_CLEANUP(hs_freep) = hs_calloc(n, sizeof *tokens);
    if (tokens == NULL) {
        return hs_error_nomem(err, "inputs");
    }
    for (size_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return hs_embed_inputs_add(inputs, tokens, n, err);
}

static bool check_input(const struct hs_model_info *model, const struct hs_fields *fields,
                        const char *name, const json_t *input)
{
    if (json_is_string(input) ? json_string_length(input) == 0
                              : json_is_array(input) && json_array_size(input) == 0) {
        return hs_field_refuse(fields, name, "is empty");
    }
    for (size_t i = 0; i < json_array_size(input); i++) {
        if (hs_field_token(json_array_get(input, i), model->n_vocab) < 0) {
            return hs_field_refuse(fields, name,
                                   "has something that is no token number from 0 to %d",
                                   (int)model->n_vocab - 1);
        }
    }
    return json_is_string(input) || json_is_array(input) ||
           hs_field_refuse(fields, name, INPUT_RULE);
}

static bool read_input(const struct hs_rest *rest, const struct hs_model_info *model,
                       const struct hs_fields *fields, const char *name, const json_t *input,
                       struct hs_embed_inputs *ret)
{
    if (!check_input(model, fields, name, input)) {
        return false;
    }
    struct hs_error err;
    hs_status status = json_is_string(input) ? add_text(rest, model, input, ret, &err)
                                             : add_tokens(input, ret, &err);
    if (status != HS_OK) {
        hs_rest_respond_failure(fields->request, &err, name);
        return false;
    }
    return true;
}

bool hs_embed_inputs_read(const struct hs_rest *rest, const struct hs_model_info *model,
                          const struct hs_fields *fields, const char *name,
                          struct hs_embed_inputs *ret)
{
    const json_t *json = hs_field_get(fields, name);
    const json_t *first = json_array_get(json, 0);
    bool is_list = json_is_array(json) && (json_is_string(first) || json_is_array(first));
    if (json == NULL) {
        return hs_field_refuse(fields, name, "is missing");
    }
    if (!is_list) {
        return read_input(rest, model, fields, name, json, ret);
    }
    size_t n = json_array_size(json);
    if (n > (size_t)rest->max_inputs) {
        return hs_field_refuse(fields, name, "has %zu inputs; at most %d are allowed", n,
                               (int)rest->max_inputs);
    }
    for (size_t i = 0; i < n; i++) {
        char item[NAME_MAX_BYTES];
        snprintf(item, sizeof item, "%s[%zu]", name, i);
        if (!read_input(rest, model, fields, item, json_array_get(json, i), ret)) {
            return false;
        }
    }
    return true;
}

/* ---- the run ---- */

struct run {
    struct hs_embed_answer answer;
    const struct hs_embed_format *format;
    void *own;
    const char *param;
    hs_stream *stream;
    float *values; /* [n_inputs][n_values], once the first one came */
    double started_ms;
    bool is_done;
};

static void free_run(struct run *run)
{
    hs_stream_free(run->stream);
    if (run->format->free_own != NULL) {
        run->format->free_own(run->own);
    }
    hs_free(run->values);
    hs_free(run);
}

static hs_status keep(struct run *run, const struct hs_event *event, struct hs_error *err)
{
    struct hs_embed_answer *answer = &run->answer;
    if (run->values == NULL) {
        answer->n_values = event->n_values;
        run->values = hs_calloc(answer->n_inputs * (size_t)event->n_values, sizeof run->values[0]);
        if (run->values == NULL) {
            return hs_error_nomem(err, "embeddings");
        }
        answer->values = run->values;
    }
    size_t n_values = (size_t)answer->n_values;
    memcpy(run->values + (size_t)event->index * n_values, event->values,
           n_values * sizeof run->values[0]);
    return HS_OK;
}

static hs_status end(struct run *run, const struct hs_event *event, struct hs_error *err)
{
    run->is_done = true;
    run->answer.usage = event->usage;
    run->answer.total_ms = hs_clock_ms() - run->started_ms;
    if (event->finish == HS_FINISH_STOP) {
        return HS_OK;
    }
    if (event->finish == HS_FINISH_CANCELLED || event->error.status == HS_OK) {
        return hs_error_set(err, HS_UNAVAILABLE, "the embeddings were stopped");
    }
    *err = event->error;
    return err->status;
}

/* Everything that is there. */
static hs_status collect(struct run *run, struct hs_error *err)
{
    while (!run->is_done) {
        struct hs_event event;
        hs_status status = hs_stream_next(run->stream, 0, &event, err);
        if (status == HS_TIMEOUT) {
            return HS_OK;
        }
        if (status == HS_OK) {
            status =
                event.type == HS_EVENT_EMBEDDING ? keep(run, &event, err) : end(run, &event, err);
        }
        if (status != HS_OK) {
            return status;
        }
    }
    return HS_OK;
}

static void step(hs_http_request *request, void *user)
{
    (void)user;
    struct run *run = hs_http_request_data(request);
    struct hs_error err;
    hs_status status = collect(run, &err);
    if (status == HS_OK && !run->is_done) {
        hs_http_wait(request, step);
        return;
    }
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(BODY_MAX_BYTES);
    if (status == HS_OK) {
        status = run->format->write(&run->answer, &body);
        if (status == HS_LIMIT) {
            hs_error_set(&err, HS_LIMIT, "the answer is longer than %zu bytes", BODY_MAX_BYTES);
        } else if (status != HS_OK) {
            hs_error_nomem(&err, "answer");
        }
    }
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, run->param);
        return;
    }
    hs_http_respond_buf(request, 200, "application/json", &body);
}

static void on_gone(hs_http_request *request, void *data, enum hs_http_gone why)
{
    (void)request;
    (void)why;
    const struct run *run = data;
    hs_stream_cancel(run->stream);
}

static void on_end(void *data)
{
    free_run(data);
}

static void wake(void *request)
{
    hs_http_wake(request);
}

static struct run *new_run(const struct hs_embed_call *call, struct hs_error *err)
{
    struct run *run = hs_calloc(1, sizeof *run);
    if (run == NULL) {
        if (call->format->free_own != NULL) {
            call->format->free_own(call->own);
        }
        hs_error_nomem(err, "embeddings");
        return NULL;
    }
    run->answer = (struct hs_embed_answer){
        .model = call->model, .n_inputs = call->inputs->n, .own = call->own};
    run->format = call->format;
    run->own = call->own;
    run->param = call->param;
    run->started_ms = hs_clock_ms();
    return run;
}

void hs_embed_run(const struct hs_embed_call *call)
{
    static const struct hs_http_hooks hooks = {.on_gone = on_gone, .on_end = on_end};
    struct hs_error err;
    struct hs_embed_params params = call->params;
    char client[HS_TAG_MAX];
    hs_rest_client_name(call->request, client);
    params.client = client;
    struct run *run = new_run(call, &err);
    if (run == NULL || hs_engine_embed(call->rest->engine, call->model->id, call->inputs->items,
                                       call->inputs->n, &params, &run->stream, &err) != HS_OK) {
        hs_rest_respond_failure(call->request, &err, call->param);
        if (run != NULL) {
            free_run(run);
        }
        return;
    }
    hs_http_attach(call->request, &hooks, run);
    hs_stream_set_notify(run->stream, wake, call->request);
    hs_http_wait(call->request, step);
}
