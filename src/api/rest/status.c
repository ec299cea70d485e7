/* status.c - what the server is doing: GET /health, /props, /slots, /metrics, /api/v1/status. */
#include <string.h>

#include "base/error.h"
#include "base/machine.h"
#include "base/mem.h"
#include "json_quote.h"
#include "rest.h"
#include "served_models.h"
#include "sql.h"

#define METRICS_MAX_BYTES (1u << 20)

void hs_rest_health(hs_http_request *request, void *user)
{
    (void)user;
    hs_http_respond_json(request, 200, json_pack("{s:s}", "status", "ok"));
}

/* How adapters are applied, and what came of it. */
static json_t *describe_lora(const struct hs_model_info *model, const struct hs_model_stats *stats)
{
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:i}", "engine",
        hs_lora_engine_name(stats->lora_engine), "reason", stats->lora_reason, "weights",
        hs_adapter_weights_name(model->adapter_weights), "adapters", (int)stats->n_adapters,
        "adapters_ready", (int)stats->n_adapters_ready, "bytes", (json_int_t)stats->adapter_bytes,
        "decodes", (json_int_t)stats->n_lora_decodes, "mixed_decodes",
        (json_int_t)stats->n_lora_decodes_mixed, "sets_max", (int)stats->n_lora_sets_max);
}

void hs_rest_props(hs_http_request *request, void *user)
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
    /* where the file lies is nobody's business: its name says which one it is */
    const char *slash = strrchr(model->path, '/');
    const struct hs_sampling *sampling = &rest->defaults.sampling;
    json_t *json = json_pack(
        "{s:{s:i, s:{s:f, s:i, s:f, s:f, s:f, s:i}}, s:i, s:s, s:s, s:b, s:o, s:s, s:s}",
        "default_generation_settings", "n_ctx", (int)model->n_ctx, "params", "temperature",
        (double)sampling->temp, "top_k", (int)sampling->top_k, "top_p", (double)sampling->top_p,
        "min_p", (double)sampling->min_p, "repeat_penalty", (double)sampling->repeat_penalty,
        "max_tokens", (int)rest->defaults.max_tokens, "total_slots", (int)model->n_seq_max,
        "model_alias", model->id, "model_path", slash == NULL ? model->path : slash + 1,
        "has_chat_template", (int)model->has_chat_template, "lora", describe_lora(model, &stats),
        "description", model->description, "build_info", hs_version());
    hs_http_respond_json(request, 200, json);
}

/* ---- sequences ---- */

static json_t *describe_slot(const struct hs_model_info *model, const struct hs_slot *slot)
{
    return json_pack(
        "{s:i, s:i, s:b, s:s, s:I, s:i, s:i, s:i, s:f, s:s}", "id", (int)slot->id, "n_ctx",
        (int)model->n_ctx, "is_processing", (int)(slot->state != HS_SLOT_IDLE), "state",
        hs_slot_state_name(slot->state), "id_task",
        slot->state == HS_SLOT_IDLE ? (json_int_t)-1 : (json_int_t)slot->request, "n_prompt_tokens",
        (int)slot->n_prompt, "n_kv_tokens", (int)slot->n_evaluated, "n_decoded",
        (int)slot->n_generated, "age_ms", slot->age_ms, "request_id", slot->tag);
}

/* The busy ones or all. NULL: the request was answered. */
static json_t *list_slots(const struct hs_rest *rest, hs_http_request *request,
                          const struct hs_model_info *model, bool only_busy)
{
    struct hs_slot *slots HS_CLEANUP(hs_freep) =
        hs_calloc((size_t)model->n_seq_max + 1, sizeof *slots);
    size_t n = 0;
    struct hs_error err;
    hs_status status = slots == NULL ? hs_error_nomem(&err, "slots")
                                     : hs_engine_model_slots(rest->engine, model->id, slots,
                                                             (size_t)model->n_seq_max, &n, &err);
    json_t *list = status == HS_OK ? json_array() : NULL;
    for (size_t i = 0; i < n && list != NULL; i++) {
        bool is_shown = !only_busy || slots[i].state != HS_SLOT_IDLE;
        if (is_shown && json_array_append_new(list, describe_slot(model, &slots[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    if (list == NULL) {
        status = status == HS_OK ? hs_error_nomem(&err, "slots") : status;
        hs_rest_respond_failure(request, &err, NULL);
    }
    return list;
}

void hs_rest_slots(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    const struct hs_model_info *model =
        hs_rest_model(rest, request, hs_http_request_query(request, "model"));
    json_t *slots = model == NULL ? NULL : list_slots(rest, request, model, false);
    if (slots != NULL) {
        hs_http_respond_json(request, 200, slots);
    }
}

/* ---- everything at once, for `hyprstream ps` ---- */

static json_t *describe_http(hs_http_server *server)
{
    struct hs_http_stats stats = {0};
    if (server != NULL) {
        hs_http_server_stats(server, &stats);
    }
    return json_pack("{s:i, s:i, s:i, s:I, s:I, s:I}", "connections", stats.n_connections, "active",
                     stats.n_active, "streams", stats.n_streams, "requests",
                     (json_int_t)stats.n_requests, "refused_connections",
                     (json_int_t)stats.n_refused_connections, "gone", (json_int_t)stats.n_gone);
}

/* NULL: the request was answered, or the model has been unloaded meanwhile. */
static json_t *describe_model(const struct hs_rest *rest, hs_http_request *request,
                              const struct hs_model_info *model, bool *ret_is_gone)
{
    struct hs_model_stats stats;
    struct hs_model_info now; /* its memory grows with the first request for embeddings */
    struct hs_error err;
    hs_status status = hs_engine_model_stats(rest->engine, model->id, &stats, &err);
    status = status == HS_OK ? hs_engine_model_info(rest->engine, model->id, &now, &err) : status;
    *ret_is_gone = status == HS_NOT_FOUND;
    if (status != HS_OK && status != HS_NOT_FOUND) {
        hs_rest_respond_failure(request, &err, NULL);
    }
    if (status != HS_OK) {
        return NULL;
    }
    json_t *slots = list_slots(rest, request, model, true);
    if (slots == NULL) {
        return NULL;
    }
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I}, s:o, "
        "s:o}",
        "id", model->id, "description", model->description, "n_ctx", (int)model->n_ctx,
        "n_sequences", (int)model->n_seq_max, "running", (int)stats.n_running, "queued",
        (int)stats.n_queued, "kv_cells_used", (int)stats.n_kv_used, "contexts_parked",
        (int)stats.n_parked, "parked_bytes", (json_int_t)stats.parked_bytes, "decode_calls",
        (json_int_t)stats.n_decode_calls, "prompt_tokens", (json_int_t)stats.n_prompt_tokens,
        "cached_tokens", (json_int_t)stats.n_cached_tokens, "generated_tokens",
        (json_int_t)stats.n_generated_tokens, "memory", "weights_bytes",
        (json_int_t)now.memory.weights_bytes, "kv_bytes", (json_int_t)now.memory.kv_bytes,
        "compute_bytes", (json_int_t)now.memory.compute_bytes, "lora", describe_lora(model, &stats),
        "busy", slots);
    if (json == NULL) {
        hs_error_nomem(&err, "status");
        hs_rest_respond_failure(request, &err, NULL);
    }
    return json;
}

void hs_rest_status(hs_http_request *request, void *user)
{
    struct hs_rest *rest = user;
    json_t *models = json_array();
    struct hs_model_info info;
    bool is_loaded = false;
    for (size_t i = 0; models != NULL && hs_served_model_info(rest, i, &info, &is_loaded); i++) {
        bool is_gone = !is_loaded;
        json_t *model = is_gone ? NULL : describe_model(rest, request, &info, &is_gone);
        if (model == NULL && !is_gone) {
            json_decref(models);
            return;
        }
        if (model != NULL && json_array_append_new(models, model) != 0) {
            json_decref(models);
            models = NULL;
        }
    }
    hs_http_respond_json(request, 200,
                         json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "version", hs_version(),
                                   "started", (json_int_t)rest->created_unix_s, "resident_bytes",
                                   (json_int_t)hs_machine_memory_resident(), "http",
                                   describe_http(atomic_load(&rest->server)), "statements",
                                   hs_rest_sql_running(rest), "models", models, "pool",
                                   hs_rest_pool_describe(rest)));
}

/* ---- Prometheus ---- */

struct figures {
    struct model_figures {
        char id[HS_ID_MAX];
        struct hs_model_stats stats;
    } * models; /* [n] */
    size_t n;
};

enum model_metric {
    RUNNING,
    QUEUED,
    KV_USED,
    PARKED,
    PARKED_BYTES,
    DECODE_CALLS,
    PROMPT,
    CACHED,
    EMBEDDING,
    EMBEDDED,
    EMBED_TOKENS,
    ADAPTERS,
    ADAPTERS_READY,
    ADAPTER_BYTES,
    LORA_DECODES,
    LORA_MIXED,
    LORA_SETS,
    LORA_NODES,
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
    [EMBEDDING] = {"embedding_requests", "gauge", "Requests for embeddings, running or waiting."},
    [EMBEDDED] = {"embedded_inputs_total", "counter", "Inputs embedded or ranked."},
    [EMBED_TOKENS] = {"embedded_tokens_total", "counter", "Their tokens."},
    [ADAPTERS] = {"adapters", "gauge", "Adapters registered for the model."},
    [ADAPTERS_READY] = {"adapters_ready", "gauge", "Adapters in memory."},
    [ADAPTER_BYTES] = {"adapter_bytes", "gauge", "Host memory of adapters."},
    [LORA_DECODES] = {"lora_decodes_total", "counter", "Decode calls with adapters."},
    [LORA_MIXED] = {"lora_decodes_mixed_total", "counter",
                    "Decode calls with different sets of adapters."},
    [LORA_SETS] = {"lora_sets_max", "gauge", "Most different sets in one decode call."},
    [LORA_NODES] = {"lora_nodes_total", "counter", "Nodes of graphs that were rewritten."},
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
    case EMBEDDING:
        return (unsigned long long)stats->n_embed_requests;
    case EMBEDDED:
        return stats->n_embedded;
    case EMBED_TOKENS:
        return stats->n_embed_tokens;
    case ADAPTERS:
        return (unsigned long long)stats->n_adapters;
    case ADAPTERS_READY:
        return (unsigned long long)stats->n_adapters_ready;
    case ADAPTER_BYTES:
        return stats->adapter_bytes;
    case LORA_DECODES:
        return stats->n_lora_decodes;
    case LORA_MIXED:
        return stats->n_lora_decodes_mixed;
    case LORA_SETS:
        return (unsigned long long)stats->n_lora_sets_max;
    case LORA_NODES:
        return stats->n_lora_nodes;
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
static hs_status write_model_metrics(const struct figures *figures, struct hs_buf *out)
{
    hs_status status = HS_OK;
    for (int m = RUNNING; m <= GENERATED && status == HS_OK; m++) {
        status =
            write_type(out, model_metrics[m].name, model_metrics[m].type, model_metrics[m].help);
        for (size_t i = 0; i < figures->n && status == HS_OK; i++) {
            const char *id = figures->models[i].id;
            status = hs_buf_printf(out, "hyprstream_%s{model=", model_metrics[m].name);
            status = status == HS_OK ? hs_json_quote(out, id, strlen(id)) : status;
            status = status == HS_OK
                         ? hs_buf_printf(out, "} %llu\n",
                                         metric_of(&figures->models[i].stats, (enum model_metric)m))
                         : status;
        }
    }
    return status;
}

/* Which engine applies adapters: the row of the one that does is 1. */
static hs_status write_lora_engines(const struct figures *figures, struct hs_buf *out)
{
    hs_status status = write_type(out, "lora_engine", "gauge", "The engine that applies adapters.");
    for (size_t i = 0; i < figures->n && status == HS_OK; i++) {
        const char *id = figures->models[i].id;
        status = hs_buf_append_str(out, "hyprstream_lora_engine{model=");
        status = status == HS_OK ? hs_json_quote(out, id, strlen(id)) : status;
        status = status == HS_OK
                     ? hs_buf_printf(out, ",engine=\"%s\"} 1\n",
                                     hs_lora_engine_name(figures->models[i].stats.lora_engine))
                     : status;
    }
    return status;
}

/* Sums over all adapters by model. */
static hs_status write_adapter_loads(const struct hs_rest *rest, const struct figures *figures,
                                     struct hs_buf *out)
{
    hs_status status = write_type(out, "adapter_loads_total", "counter",
                                  "Times that an adapter was read, after an eviction too.");
    for (size_t i = 0; i < figures->n && status == HS_OK; i++) {
        struct hs_adapter_info *infos = NULL;
        size_t n = 0;
        uint64_t n_loads = 0;
        const char *id = figures->models[i].id;
        status = hs_engine_list_adapters(rest->engine, id, &infos, &n, NULL);
        for (size_t k = 0; k < n; k++) {
            n_loads += infos[k].n_loads;
        }
        hs_adapter_infos_free(infos);
        status = status == HS_OK ? hs_buf_append_str(out, "hyprstream_adapter_loads_total{model=")
                                 : status;
        status = status == HS_OK ? hs_json_quote(out, id, strlen(id)) : status;
        status =
            status == HS_OK ? hs_buf_printf(out, "} %llu\n", (unsigned long long)n_loads) : status;
    }
    return status;
}

static hs_status write_sql_metrics(const struct hs_rest *rest, struct hs_buf *out)
{
    json_t *running = hs_rest_sql_running(rest);
    hs_status status = running == NULL ? HS_OUT_OF_MEMORY : HS_OK;
    status = status == HS_OK
                 ? write_type(out, "sql_statements", "gauge", "Statements of SQL that run.")
                 : status;
    status = status == HS_OK
                 ? hs_buf_printf(out, "hyprstream_sql_statements %zu\n", json_array_size(running))
                 : status;
    json_decref(running);
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

/* Of the models that are loaded. */
static hs_status read_figures(const struct hs_rest *rest, struct figures *ret, struct hs_error *err)
{
    struct hs_model_info info;
    bool is_loaded = false;
    ret->models = hs_calloc(HS_REST_MODELS_MAX, sizeof ret->models[0]);
    hs_status status = ret->models != NULL ? HS_OK : hs_error_nomem(err, "metrics");
    for (size_t i = 0; status == HS_OK && hs_served_model_info(rest, i, &info, &is_loaded); i++) {
        struct model_figures *model = &ret->models[ret->n];
        if (!is_loaded) {
            continue;
        }
        memcpy(model->id, info.id, sizeof model->id);
        status = hs_engine_model_stats(rest->engine, info.id, &model->stats, err);
        ret->n += status == HS_OK;
        status = status == HS_NOT_FOUND ? HS_OK : status; /* unloaded meanwhile */
    }
    return status;
}

void hs_rest_metrics(hs_http_request *request, void *user)
{
    struct hs_rest *rest = user;
    struct figures figures = {.models = NULL};
    struct hs_error err;
    hs_status status = read_figures(rest, &figures, &err);
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(METRICS_MAX_BYTES);
    if (status == HS_OK) {
        status = write_model_metrics(&figures, &body);
        status = status == HS_OK ? write_lora_engines(&figures, &body) : status;
        status = status == HS_OK ? write_adapter_loads(rest, &figures, &body) : status;
        status = status == HS_OK ? hs_rest_pool_metrics(rest, &body) : status;
        status = status == HS_OK ? write_sql_metrics(rest, &body) : status;
        hs_http_server *server = atomic_load(&rest->server);
        status = status == HS_OK && server != NULL ? write_http_metrics(server, &body) : status;
        if (status != HS_OK) {
            hs_error_nomem(&err, "metrics");
        }
    }
    hs_free(figures.models);
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_buf(request, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}
