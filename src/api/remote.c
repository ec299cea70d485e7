#include "remote.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"

#define LISTED_MAX 200 /* bytes of models in a hint */

struct hs_remote {
    const struct hs_command_args *args;
    hs_http_client *client;
    json_t *models; /* the array "data" */
    char *model;
};

struct remote_answer {
    hs_remote *remote;
    hs_http_events *events;
    json_t *chunk; /* the last one */
    enum { REASONING, CONTENT, DONE_WITH_CHUNK } part;
    bool is_ended, is_cancelled;
    enum hs_finish finish;
    struct hs_usage usage;
    double asked_ms, first_ms;
};

/* ---- models ---- */

static hs_status fetch_models(hs_remote *remote, struct hs_error *err)
{
    json_t *list HS_CLEANUP(hs_json_freep) = NULL;
    hs_status status = hs_http_client_ask(remote->client, "GET", "/v1/models", NULL, &list, err);
    if (status) {
        return status;
    }
    json_t *models = json_object_get(list, "data");
    if (!json_is_array(models)) {
        return hs_error_set(err, HS_IO, "%s lists no models", hs_remote_url(remote));
    }
    json_decref(remote->models);
    remote->models = json_incref(models);
    return HS_OK;
}

const char *hs_remote_model_at(const hs_remote *remote, size_t i)
{
    return json_string_value(json_object_get(json_array_get(remote->models, i), "id"));
}

static hs_status no_such_model(const hs_remote *remote, const char *id, struct hs_error *err)
{
    char listed[LISTED_MAX + 1] = "";
    size_t len = 0;
    const char *name;
    for (size_t i = 0; (name = hs_remote_model_at(remote, i)) != NULL && len < LISTED_MAX; i++) {
        int n = snprintf(listed + len, sizeof listed - len, "%s%s", i == 0 ? "" : ", ", name);
        len += n > 0 ? (size_t)n : 0;
    }
    hs_error_set(err, HS_NOT_FOUND, "%s has no model '%s'", hs_remote_url(remote), id);
    return hs_error_hint(err, "it has: %s", *listed ? listed : "none");
}

static hs_status choose_model(hs_remote *remote, const char *id, struct hs_error *err)
{
    const char *found = id ? NULL : hs_remote_model_at(remote, 0);
    const char *name;
    for (size_t i = 0; id && (name = hs_remote_model_at(remote, i)) != NULL && !found; i++) {
        found = strcmp(name, id) == 0 ? name : NULL;
    }
    if (!found || strlen(found) >= HS_ID_MAX) {
        return no_such_model(remote, id ? id : "", err);
    }
    char *model = hs_strdup(found);
    if (!model) {
        return hs_error_nomem(err, "model name");
    }
    hs_free(remote->model);
    remote->model = model;
    return HS_OK;
}

hs_status hs_remote_set_model(hs_remote *remote, const char *id, struct hs_error *err)
{
    hs_status status = fetch_models(remote, err);
    return status ? status : choose_model(remote, id, err);
}

/* ---- life ---- */

/* Settings of loading act where the model is. */
static hs_status check_settings(const struct hs_config *config, struct hs_error *err)
{
    for (int id = 0; id < HS_CFG_COUNT; id++) {
        const char *name = hs_config_row((enum hs_config_id)id)->name;
        bool is_servers = hs_command_list_has(HS_SETTINGS_LOADING " overflow", name);
        if (is_servers && config->values[id].source == HS_CONFIG_FLAG) {
            hs_error_set(err, HS_INVALID_ARGUMENT, "--%s and --server do not go together", name);
            return hs_error_hint(err, "how models are loaded is up to the server");
        }
    }
    const char *session = hs_config_str(config, HS_CFG_SESSION);
    if (session) {
        hs_error_set(err, HS_NOT_SUPPORTED, "a server does not keep the named session '%s'",
                     session);
        return hs_error_hint(err, "leave out --session, or --server");
    }
    return HS_OK;
}

hs_status hs_remote_open(const struct hs_command_args *args, hs_remote **ret_remote,
                         struct hs_error *err)
{
    const struct hs_config_value *refs = &args->config->values[HS_CFG_MODEL];
    hs_remote *remote = hs_calloc(1, sizeof *remote);
    if (!remote) {
        return hs_error_nomem(err, "server");
    }
    remote->args = args;
    hs_status status = check_settings(args->config, err);
    status = status ? status : hs_http_client_new(args, &remote->client, err);
    status = status ? status : fetch_models(remote, err);
    if (!status) {
        bool is_flag = refs->source == HS_CONFIG_FLAG;
        const char *id = refs->n_items > 0 ? refs->items[is_flag ? refs->n_items - 1 : 0] : NULL;
        status = choose_model(remote, id, err);
        if (status == HS_NOT_FOUND && id && !is_flag) { /* it is meant for the engine here */
            status = choose_model(remote, NULL, err);
        }
    }
    if (status) {
        hs_remote_close(remote);
        return status;
    }
    *ret_remote = remote;
    return HS_OK;
}

void hs_remote_close(hs_remote *remote)
{
    if (remote) {
        hs_http_client_free(remote->client);
        json_decref(remote->models);
        hs_free(remote->model);
        hs_free(remote);
    }
}

const char *hs_remote_url(const hs_remote *remote)
{
    return hs_http_client_url(remote->client);
}

const char *hs_remote_model(const hs_remote *remote)
{
    return remote->model;
}

json_t *hs_remote_status(hs_remote *remote)
{
    json_t *status HS_CLEANUP(hs_json_freep) = NULL;
    if (hs_http_client_ask(remote->client, "GET", "/api/v1/status", NULL, &status, NULL)) {
        return NULL;
    }
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(status, "models"), i, model)
    {
        const char *id = json_string_value(json_object_get(model, "id"));
        if (id && strcmp(id, remote->model) == 0) {
            return json_incref(model);
        }
    }
    return NULL;
}

/* ---- asking ---- */

/* What somebody set, by the names of the wire. */
static void add_settings(const struct hs_config *config, json_t **body)
{
    static const struct {
        enum hs_config_id id;
        const char *name;
    } rows[] = {
        {HS_CFG_MAX_TOKENS, "max_tokens"},
        {HS_CFG_TEMP, "temperature"},
        {HS_CFG_TOP_K, "top_k"},
        {HS_CFG_TOP_P, "top_p"},
        {HS_CFG_MIN_P, "min_p"},
        {HS_CFG_REPEAT_PENALTY, "repeat_penalty"},
        {HS_CFG_REPEAT_LAST_N, "repeat_last_n"},
        {HS_CFG_SEED, "seed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct hs_config_value *value = &config->values[rows[i].id];
        bool is_int = hs_config_row(rows[i].id)->type == HS_CONFIG_INT;
        if (value->source != HS_CONFIG_DEFAULT && !(is_int && value->number < 0)) {
            hs_json_set(body, rows[i].name,
                        is_int ? json_integer((json_int_t)value->number)
                               : json_real(value->number));
        }
    }
    const struct hs_config_value *stop = &config->values[HS_CFG_STOP];
    json_t *items = stop->n_items > 0 ? json_array() : NULL;
    for (size_t i = 0; i < stop->n_items; i++) {
        hs_json_append(&items, hs_json_text(stop->items[i]));
    }
    if (stop->n_items > 0) {
        hs_json_set(body, "stop", items);
    }
    if (config->values[HS_CFG_THINK].source != HS_CONFIG_DEFAULT) {
        hs_json_set(
            body, "chat_template_kwargs",
            json_pack("{s:b}", "enable_thinking", (int)hs_config_bool(config, HS_CFG_THINK)));
    }
}

static json_t *make_body(const hs_remote *remote, const struct hs_message *messages,
                         size_t n_messages)
{
    json_t *body = json_object();
    json_t *list = json_array();
    for (size_t i = 0; i < n_messages; i++) {
        json_t *message = json_object();
        hs_json_set(&message, "role", hs_json_text(messages[i].role));
        hs_json_set(&message, "content", hs_json_text(messages[i].content));
        if (messages[i].reasoning) {
            hs_json_set(&message, "reasoning_content", hs_json_text(messages[i].reasoning));
        }
        hs_json_append(&list, message);
    }
    hs_json_set(&body, "model", hs_json_text(remote->model));
    hs_json_set(&body, "messages", list);
    hs_json_set(&body, "stream", json_true());
    hs_json_set(&body, "stream_options", json_pack("{s:b}", "include_usage", 1));
    add_settings(remote->args->config, &body);
    return body;
}

/* ---- answers ---- */

static void take_usage(struct remote_answer *answer)
{
    const json_t *usage = json_object_get(answer->chunk, "usage");
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
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

/* Take one event's data in. Not HS_OK: the answer is over, well or badly. */
static hs_status take_chunk(struct remote_answer *answer, const char *data, struct hs_error *err)
{
    const char *url = hs_remote_url(answer->remote);
    if (strcmp(data, "[DONE]") == 0) {
        return HS_NOT_FOUND;
    }
    json_decref(answer->chunk);
    answer->part = REASONING;
    answer->chunk = json_loads(data, 0, NULL);
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
        const char *data = NULL;
        struct hs_error failure = {.status = HS_OK};
        hs_status status =
            hs_http_events_next(answer->events, left_ms > 0 ? (int)left_ms : 0, &data, &failure);
        if (status == HS_TIMEOUT && failure.status == HS_OK) {
            return hs_error_set(err, HS_TIMEOUT, "nothing came yet");
        }
        bool is_cut = status == HS_NOT_FOUND && failure.status == HS_OK;
        status = status ? status : take_chunk(answer, data, &failure);
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

hs_status hs_remote_chat(hs_remote *remote, const struct hs_message *messages, size_t n_messages,
                         struct hs_token_source *ret_source, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_HTTP_CLIENT_ANSWER_MAX);
    json_t *body HS_CLEANUP(hs_json_freep) = make_body(remote, messages, n_messages);
    struct remote_answer *answer = hs_calloc(1, sizeof *answer);
    hs_status status = answer && body ? hs_json_dump(body, true, &text) : HS_OUT_OF_MEMORY;
    if (status) {
        hs_free(answer);
        return status == HS_LIMIT
                   ? hs_error_set(err, status, "the conversation is over %u MiB long",
                                  HS_HTTP_CLIENT_ANSWER_MAX >> 20)
                   : hs_error_nomem(err, "a request");
    }
    answer->remote = remote;
    answer->part = DONE_WITH_CHUNK;
    answer->asked_ms = hs_clock_ms();
    int64_t seed = hs_config_int(remote->args->config, HS_CFG_SEED);
    answer->usage.seed = seed < 0 ? HS_SEED_RANDOM : (uint32_t)seed;
    status = hs_http_client_stream(remote->client, "/v1/chat/completions", text.data,
                                   &answer->events, err);
    if (status) {
        hs_free(answer);
        return status;
    }
    *ret_source = (struct hs_token_source){answer, answer_next, answer_cancel, answer_free};
    return HS_OK;
}
