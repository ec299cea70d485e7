/* status.c - what the server is doing: GET /health, /props, /slots and /metrics. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "json_quote.h"
#include "rest.h"

#define METRICS_MAX_BYTES (1u << 20)

void hs_rest_health(hs_http_request *request, void *user)
{
    (void)user;
    hs_http_respond_json(request, 200, json_pack("{s:s}", "status", "ok"));
}

void hs_rest_props(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    const struct hs_model_info *model =
        hs_rest_model(rest, request, hs_http_request_query(request, "model"));
    if (model == NULL) {
        return;
    }
    /* where the file lies is nobody's business: its name says which one it is */
    const char *slash = strrchr(model->path, '/');
    const struct hs_sampling *sampling = &rest->defaults.sampling;
    json_t *json = json_pack(
        "{s:{s:i, s:{s:f, s:i, s:f, s:f, s:f, s:i}}, s:i, s:s, s:s, s:b, s:s, s:s}",
        "default_generation_settings", "n_ctx", (int)model->n_ctx, "params", "temperature",
        (double)sampling->temp, "top_k", (int)sampling->top_k, "top_p", (double)sampling->top_p,
        "min_p", (double)sampling->min_p, "repeat_penalty", (double)sampling->repeat_penalty,
        "max_tokens", (int)rest->defaults.max_tokens, "total_slots", (int)model->n_seq_max,
        "model_alias", model->id, "model_path", slash == NULL ? model->path : slash + 1,
        "has_chat_template", (int)model->has_chat_template, "description", model->description,
        "build_info", hs_version());
    hs_http_respond_json(request, 200, json);
}

/* One entry a sequence. Which of them a request has is the worker's to know: the first n are shown
 * as busy. */
void hs_rest_slots(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    const struct hs_model_info *model =
        hs_rest_model(rest, request, hs_http_request_query(request, "model"));
    if (model == NULL) {
        return;
    }
    struct hs_model_stats stats;
    struct hs_error err;
    if (hs_engine_model_stats(rest->engine, model->id, &stats, &err) != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    json_t *slots = json_array();
    for (int32_t i = 0; i < model->n_seq_max && slots != NULL; i++) {
        json_t *slot = json_pack("{s:i, s:i, s:b}", "id", (int)i, "n_ctx", (int)model->n_ctx,
                                 "is_processing", (int)(i < stats.n_running));
        if (json_array_append_new(slots, slot) != 0) {
            json_decref(slots);
            slots = NULL;
        }
    }
    hs_http_respond_json(request, 200, slots);
}

/* ---- Prometheus ---- */

enum model_metric {
    RUNNING,
    QUEUED,
    KV_USED,
    PARKED,
    PARKED_BYTES,
    DECODE_CALLS,
    PROMPT,
    CACHED,
    GENERATED
};

static const struct {
    const char *name, *type, *help;
} model_metrics[] = {
    [RUNNING] = {"requests_running", "gauge", "Requests in prefill or decoding."},
    [QUEUED] = {"requests_queued", "gauge", "Requests that wait for the model."},
    [KV_USED] = {"kv_cells_used", "gauge", "Cells of the KV cache in use."},
    [PARKED] = {"contexts_parked", "gauge", "Contexts kept in host memory."},
    [PARKED_BYTES] = {"parked_bytes", "gauge", "Host memory of parked contexts."},
    [DECODE_CALLS] = {"decode_calls_total", "counter", "Decode calls."},
    [PROMPT] = {"prompt_tokens_total", "counter", "Prompt tokens evaluated."},
    [CACHED] = {"cached_tokens_total", "counter", "Prompt tokens reused from KV."},
    [GENERATED] = {"generated_tokens_total", "counter", "Tokens generated."},
};

static unsigned long long metric_of(const struct hs_model_stats *stats, enum model_metric which)
{
    switch (which) {
    case RUNNING:
        return (unsigned long long)stats->n_running;
    case QUEUED:
        return (unsigned long long)stats->n_queued;
    case KV_USED:
        return (unsigned long long)stats->n_kv_used;
    case PARKED:
        return (unsigned long long)stats->n_parked;
    case PARKED_BYTES:
        return stats->parked_bytes;
    case DECODE_CALLS:
        return stats->n_decode_calls;
    case PROMPT:
        return stats->n_prompt_tokens;
    case CACHED:
        return stats->n_cached_tokens;
    case GENERATED:
        break;
    }
    return stats->n_generated_tokens;
}

static hs_status write_type(struct hs_buf *out, const char *name, const char *type,
                            const char *help)
{
    return hs_buf_printf(out, "# HELP hyprstream_%s %s\n# TYPE hyprstream_%s %s\n", name, help,
                         name, type);
}

/* JSON's escapes of quotes, backslashes and newlines are those of a label's value. */
static hs_status write_model_metrics(const struct hs_rest *rest, const struct hs_model_stats *stats,
                                     struct hs_buf *out)
{
    hs_status status = HS_OK;
    for (int m = RUNNING; m <= GENERATED && status == HS_OK; m++) {
        status =
            write_type(out, model_metrics[m].name, model_metrics[m].type, model_metrics[m].help);
        for (size_t i = 0; i < rest->n_models && status == HS_OK; i++) {
            const char *id = rest->models[i].id;
            status = hs_buf_printf(out, "hyprstream_%s{model=", model_metrics[m].name);
            status = status == HS_OK ? hs_json_quote(out, id, strlen(id)) : status;
            status = status == HS_OK ? hs_buf_printf(out, "} %llu\n",
                                                     metric_of(&stats[i], (enum model_metric)m))
                                     : status;
        }
    }
    return status;
}

static hs_status write_http_metrics(hs_http_server *server, struct hs_buf *out)
{
    struct hs_http_stats stats;
    hs_http_server_stats(server, &stats);
    const struct {
        const char *name, *type, *help;
        unsigned long long value;
    } rows[] = {
        {"http_connections", "gauge", "Open connections.", (unsigned long long)stats.n_connections},
        {"http_requests_active", "gauge", "Requests whose answer is not complete.",
         (unsigned long long)stats.n_active},
        {"http_streams", "gauge", "Answers being streamed.", (unsigned long long)stats.n_streams},
        {"http_requests_total", "counter", "Requests.", stats.n_requests},
        {"http_requests_gone_total", "counter", "Requests that ended before their answer.",
         stats.n_gone},
        {"http_connections_refused_total", "counter", "Connections above a limit.",
         stats.n_refused_connections},
    };
    hs_status status = HS_OK;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && status == HS_OK; i++) {
        status = write_type(out, rows[i].name, rows[i].type, rows[i].help);
        status = status == HS_OK
                     ? hs_buf_printf(out, "hyprstream_%s %llu\n", rows[i].name, rows[i].value)
                     : status;
    }
    return status;
}

void hs_rest_metrics(hs_http_request *request, void *user)
{
    struct hs_rest *rest = user;
    struct hs_model_stats stats[HS_REST_MODELS_MAX];
    struct hs_error err;
    hs_status status = HS_OK;
    for (size_t i = 0; i < rest->n_models && status == HS_OK; i++) {
        status = hs_engine_model_stats(rest->engine, rest->models[i].id, &stats[i], &err);
    }
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(METRICS_MAX_BYTES);
    if (status == HS_OK) {
        status = write_model_metrics(rest, stats, &body);
        hs_http_server *server = atomic_load(&rest->server);
        status = status == HS_OK && server != NULL ? write_http_metrics(server, &body) : status;
        if (status != HS_OK) {
            hs_error_nomem(&err, "metrics");
        }
    }
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_buf(request, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}
