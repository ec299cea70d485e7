/* cmd_serve.c - `hyprstream serve`: the REST server in the foreground. */
#include <signal.h>
#include <string.h>
#include <time.h>

#include "api/http.h"
#include "api/http_bind.h"
#include "api/output.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/machine.h"
#include "base/mem.h"
#include "params.h"
#include "rest/served_models.h"
#include "routing.h"
#include "sd_notify.h"
#include "serve_flight.h"
#include "serve_models.h"
#include "serve_signals.h"
#ifdef HS_HAVE_SQL
#include "sql_service.h"
#endif

/* Logprobs of many tokens can leave at once, after a long stop string was ruled out. */
#define STREAM_BYTES_MAX (8u << 20)
/* How often uses of adapters go into the registry. */
#define SAVE_COUNTS_MS 60000

struct server {
    const struct hs_command_args *args;
    struct hs_rest rest;
    hs_engine *engine;
    hs_http_keys *keys;
    hs_http_server *http;
    hs_serve_flight *flight; /* NULL: there is none */
    char *keys_file;
    struct hs_serve_models models;
    struct hs_load_settings settings; /* its texts are those of models that come later, too */
    struct hs_routing routing;
    hs_registry *registry;
    const char *loading; /* what is loaded now, of several models */
    int stopped_by;      /* the signal that came while the model was loaded; 0: none */
};

static void free_server(struct server *server)
{
    hs_serve_flight_free(server->flight);
    hs_http_server_free(server->http);
#ifdef HS_HAVE_SQL
    hs_sql_service_free(server->rest.sql);
#endif
    if (server->rest.adapters) {
        hs_adapter_table_save_counts(server->rest.adapters);
    }
    hs_served_models_free(server->rest.served);
    hs_adapter_table_free(server->rest.adapters);
    hs_engine_free(server->engine);
    hs_registry_close(server->registry);
    hs_response_store_close(server->rest.responses);
    hs_http_keys_free(server->keys);
    hs_free(server->keys_file);
    hs_serve_models_free(&server->models);
    hs_load_settings_free(&server->settings);
    hs_routing_close(&server->routing);
}

/* ---- models ---- */

static bool load_progress(float fraction, void *user)
{
    struct server *server = user;
    const struct hs_command_io *io = server->args->io;
    io->progress(io->self, "loading", fraction, server->loading);
    int number = hs_serve_signals_wait(0);
    server->stopped_by = number == SIGINT || number == SIGTERM ? number : server->stopped_by;
    return server->stopped_by == 0;
}

/* Weights on a GPU take no host memory, and how many of them go there is not known yet. */
static bool computes_on_host(void)
{
    struct hs_system_info system;
    bool is_host = hs_system_info_get(&system, NULL) == HS_OK;
    for (int32_t i = 0; is_host && i < system.n_devices; i++) {
        const struct hs_device *device = &system.devices[i];
        /* a BLAS library is a device, too, without memory of its own */
        is_host = strncmp(device->name, "CPU", 3) == 0 || device->memory_total_bytes == 0;
    }
    return is_host;
}

/* What is free, less what a load leaves alone; weights and KV on a GPU count, too. */
static uint64_t model_budget(const struct hs_config *config)
{
    struct hs_system_info system;
    uint64_t asked = (uint64_t)hs_config_float(config, HS_CFG_MODEL_MEMORY);
    uint64_t host = hs_machine_memory_available(), devices = 0;
    bool is_known = asked == 0 && hs_system_info_get(&system, NULL) == HS_OK;
    for (int32_t i = 0; is_known && i < system.n_devices; i++) {
        const struct hs_device *device = &system.devices[i];
        devices += strncmp(device->name, "CPU", 3) == 0 ? 0 : device->memory_free_bytes;
    }
    return asked > 0 ? asked : host - host / 16 + devices;
}

/* It stays: it was named on the command line. */
static hs_status load_model(struct server *server, size_t i, const struct hs_model_params *params,
                            struct hs_error *err)
{
    const struct hs_command_io *io = server->args->io;
    const struct hs_serve_model *model = &server->models.items[i];
    hs_served_models *served = server->rest.served;
    server->loading = server->models.n > 1 ? model->id : NULL;
    hs_status status = hs_served_models_add(served, model->id, model->choice.path, params, err);
    status = status ? status : hs_served_models_load(served, model->id, load_progress, server, err);
    io->progress(io->self, "", -1, NULL);
    if (status && server->models.n > 1) {
        hs_error_prefix(err, "%s", model->id);
    }
    return status;
}

static hs_status make_engine(struct server *server, struct hs_error *err)
{
    const struct hs_command_args *args = server->args;
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = server->rest.sessions_dir = args->paths->sessions_dir;
    params.park_budget_bytes = (uint64_t)hs_config_float(args->config, HS_CFG_PARK_BUDGET);
    params.adapter_budget_bytes = (uint64_t)hs_config_float(args->config, HS_CFG_ADAPTER_MEMORY);
    params.max_queue = (int32_t)hs_config_int(args->config, HS_CFG_MAX_QUEUE);
    params.max_client_queue = (int32_t)hs_config_int(args->config, HS_CFG_MAX_CLIENT_QUEUE);
    hs_status status = hs_engine_create(&params, &server->engine, err);
    server->rest.engine = server->engine;
    return status;
}

static hs_status make_pool(struct server *server, struct hs_error *err)
{
    const struct hs_config *config = server->args->config;
    int64_t keep_alive_s = hs_config_int(config, HS_CFG_KEEP_ALIVE);
    struct hs_model_params model = server->settings.model;
    model.chat_template = NULL; /* the user's is for the models he names */
    const struct hs_served_params params = {
        .rest = &server->rest,
        .registry = server->registry,
        .is_on_demand = hs_config_bool(config, HS_CFG_ON_DEMAND),
        .budget_bytes = model_budget(config),
        .keep_alive_ms = keep_alive_s < 0 ? -1 : keep_alive_s * 1000,
        .model = &model};
    return hs_served_models_new(&params, err);
}

static hs_status load_models(struct server *server, struct hs_error *err)
{
    const struct hs_command_args *args = server->args;
    struct hs_serve_models *models = &server->models;
    hs_status status = hs_serve_models_choose(args, models, err);
    status = status ? status : hs_load_settings_fill(args->config, &server->settings, err);
    bool is_shared = !status && models->n > 1 && computes_on_host();
    if (is_shared) {
        status = hs_serve_models_check(models, hs_machine_memory_available(), err);
    }
    status = status ? status : make_engine(server, err);
    status = status ? status : make_pool(server, err);
    if (status) {
        return status;
    }
    if (models->items[0].choice.note[0]) {
        hs_err_info(args->io, "%s", models->items[0].choice.note);
    }
    for (size_t i = 0; i < models->n && !status; i++) {
        struct hs_model_params params = server->settings.model;
        params.reserve_bytes = is_shared ? hs_serve_models_reserve(models, i, params.use_mmap,
                                                                   hs_machine_memory_available())
                                         : 0;
        status = load_model(server, i, &params, err);
    }
    if (!status) {
        hs_serve_models_mark_used(args->paths, models);
    }
    return status;
}

/* ---- adapters ---- */

/* NAME=PATH, or NAME of one in the registry, which must be there. */
static hs_status add_adapter(struct server *server, const char *text, struct hs_error *err)
{
    const char *equals = strchr(text, '=');
    struct hs_adapter_info info;
    if (!equals) {
        return hs_adapter_table_find(server->rest.adapters, text, &info, err);
    }
    HS_CLEANUP(hs_freep) char *name = hs_strndup(text, (size_t)(equals - text));
    return name ? hs_adapter_table_add(server->rest.adapters, name, equals + 1, false, err)
                : hs_error_nomem(err, "adapter");
}

static hs_status open_adapters(struct server *server, struct hs_error *err)
{
    const struct hs_config_value *given = &server->args->config->values[HS_CFG_ADAPTER];
    hs_status status = hs_routing_read(server->args->config, &server->routing, err);
    status = status ? status
                    : hs_routing_load_model(server->args, server->engine, &server->registry,
                                            &server->routing, err);
    server->rest.routing = server->routing.params;
    status = status ? status
                    : hs_adapter_table_new(server->engine, server->registry, server->rest.models,
                                           server->rest.n_models, &server->rest.adapters, err);
    if (status) {
        return status;
    }
    hs_adapter_table_sync(server->rest.adapters, true);
    hs_served_models_sync(server->rest.served, true);
    for (size_t i = 0; i < given->n_items && !status; i++) {
        status = add_adapter(server, given->items[i], err);
        if (status) {
            hs_error_prefix(err, "--adapter %s", given->items[i]);
        }
    }
    return status;
}

/* ---- HTTP ---- */

static hs_status open_keys(struct server *server, struct hs_error *err)
{
    server->keys_file = hs_asprintf("%s/%s", server->args->paths->data_dir, HS_KEYS_FILE);
    return server->keys_file ? hs_http_keys_open(server->keys_file, &server->keys, err)
                             : hs_error_nomem(err, "path");
}

static void fill_limits(const struct hs_config *config, struct hs_http_limits *limits)
{
    limits->body_bytes = (size_t)hs_config_float(config, HS_CFG_MAX_BODY);
    limits->header_bytes = (size_t)hs_config_float(config, HS_CFG_MAX_HEADER);
    limits->connections = (int)hs_config_int(config, HS_CFG_MAX_CONNECTIONS);
    limits->connections_per_address = (int)hs_config_int(config, HS_CFG_MAX_PER_ADDRESS);
    limits->idle_ms = hs_config_int(config, HS_CFG_IDLE_TIMEOUT) * 1000;
    limits->slow_ms = hs_config_int(config, HS_CFG_READ_TIMEOUT) * 1000;
    limits->request_ms = hs_config_int(config, HS_CFG_REQUEST_TIMEOUT) * 1000;
    limits->json_depth = (int)hs_config_int(config, HS_CFG_MAX_JSON_DEPTH);
    limits->queued_requests = (int)hs_config_int(config, HS_CFG_MAX_PENDING);
    limits->stream_bytes = STREAM_BYTES_MAX;
}

static const char *text_or_null(const struct hs_config *config, enum hs_config_id id)
{
    const char *text = hs_config_str(config, id);
    return text && *text ? text : NULL;
}

static hs_status start_http(struct server *server, struct hs_error *err)
{
    const struct hs_config *config = server->args->config;
    struct hs_http_config http;
    hs_http_config_defaults(&http);
    http.host = hs_config_str(config, HS_CFG_HOST);
    http.port = (int)hs_config_int(config, HS_CFG_PORT);
    http.tls_cert_file = text_or_null(config, HS_CFG_TLS_CERT);
    http.tls_key_file = text_or_null(config, HS_CFG_TLS_KEY);
    fill_limits(config, &http.limits);
    http.n_workers = (int)hs_config_int(config, HS_CFG_THREADS_HTTP);
    http.routes = hs_rest_routes(hs_config_bool(config, HS_CFG_PAGE), &http.n_routes);
    http.user = &server->rest;
    http.keys = server->keys;
    const struct hs_config_value *origins = &config->values[HS_CFG_CORS_ORIGIN];
    http.cors_origins = (const char *const *)origins->items;
    http.n_cors_origins = origins->n_items;
    const struct hs_config_value *names = &config->values[HS_CFG_HOST_NAME];
    http.host_names = (const char *const *)names->items;
    http.n_host_names = names->n_items;
    http.openapi.title = "hyprstream";
    http.openapi.version = hs_version();
    http.openapi.description = "Local language models.";
    http.openapi.schemas = hs_rest_schemas;
    hs_status status = hs_http_server_start(&http, &server->http, err);
    atomic_store(&server->rest.server, server->http);
    return status;
}

static void announce(const struct server *server)
{
    const struct hs_config *config = server->args->config;
    const char *host = hs_config_str(config, HS_CFG_HOST);
    bool is_v6 = strchr(host, ':') != NULL;
    hs_err_printf(server->args->io, "listening on %s://%s%s%s:%d",
                  hs_http_server_has_tls(server->http) ? "https" : "http", is_v6 ? "[" : "", host,
                  is_v6 ? "]" : "", hs_http_server_port(server->http));
    for (size_t i = 0; i < server->models.n; i++) {
        const struct hs_model_info *model = &server->rest.models[i];
        hs_err_printf(server->args->io, ", model %s, context %d", model->id, (int)model->n_ctx);
    }
    size_t n_more = server->rest.n_models - server->models.n;
    if (n_more > 0) {
        hs_err_printf(server->args->io, ", %zu more on demand", n_more);
    }
    size_t n_adapters = hs_adapter_table_count(server->rest.adapters);
    if (n_adapters > 0) {
        hs_err_printf(server->args->io, ", %zu adapter%s", n_adapters, n_adapters == 1 ? "" : "s");
    }
    if (server->flight) {
        hs_err_printf(server->args->io, ", Flight SQL on %s://%s%s%s:%d",
                      hs_http_server_has_tls(server->http) ? "grpc+tls" : "grpc", is_v6 ? "[" : "",
                      host, is_v6 ? "]" : "", hs_serve_flight_port(server->flight));
    }
    hs_err_printf(server->args->io, "\n");
}

/* ---- running ---- */

/* An error: without its last key this address would be open to everybody, so the server ends. */
static hs_status reload_keys(const struct server *server, struct hs_error *err)
{
    const struct hs_config *config = server->args->config;
    HS_CLEANUP(hs_freep) struct hs_http_key_info *infos = NULL;
    size_t n = 0;
    struct hs_error own;
    hs_status status = hs_http_key_list(server->keys_file, &infos, &n, &own);
    if (!status) {
        hs_status refused = hs_http_bind_check(hs_config_str(config, HS_CFG_HOST), n,
                                               hs_config_bool(config, HS_CFG_INSECURE), err);
        if (refused) {
            return refused;
        }
        status = hs_http_keys_reload(server->keys, &own);
    }
    if (status) {
        hs_err_printf(server->args->io, "the keys stay as they were: %s\n", own.message);
    } else {
        hs_err_printf(server->args->io, "read the keys again: %zu\n",
                      hs_http_keys_count(server->keys));
    }
    return HS_OK;
}

static hs_status run(struct server *server, struct hs_error *err)
{
    const struct hs_command_args *args = server->args;
    hs_status status = HS_OK;
    hs_sd_notify("READY=1");
    for (int number = 0; !status && (number == 0 || number == SIGHUP);) {
        number = hs_serve_signals_wait(SAVE_COUNTS_MS);
        if (number == 0) {
            hs_adapter_table_save_counts(server->rest.adapters);
        } else if (number == SIGHUP) {
            hs_sd_notify("RELOADING=1");
            status = reload_keys(server, err);
            hs_adapter_table_sync(server->rest.adapters, true);
            hs_sd_notify("READY=1");
        }
    }
    hs_sd_notify("STOPPING=1");
    int64_t drain_s = status ? 0 : hs_config_int(args->config, HS_CFG_DRAIN_TIMEOUT);
    struct hs_http_stats stats;
    hs_http_server_stats(server->http, &stats);
    hs_err_printf(args->io, "stopping: waiting up to %d s for %d requests\n", (int)drain_s,
                  stats.n_active);
    hs_serve_signals_kill();
    hs_status ended = hs_serve_flight_stop(server->flight, drain_s * 1000, status ? NULL : err);
    status = status ? status : ended;
    hs_status stopped = hs_http_server_stop(server->http, drain_s * 1000, status ? NULL : err);
    return status ? status : stopped;
}

static void fill_rest(const struct hs_config *config, struct hs_rest *rest)
{
    hs_rest_defaults(rest);
    hs_generate_params_fill(config, NULL, &rest->defaults);
    rest->defaults.stop = NULL;
    rest->defaults.n_stop = 0;
    rest->defaults.max_prompt_tokens = (int32_t)hs_config_int(config, HS_CFG_MAX_PROMPT_TOKENS);
    rest->created_unix_s = (int64_t)time(NULL);
    rest->max_messages = (int32_t)hs_config_int(config, HS_CFG_MAX_MESSAGES);
    rest->max_choices = (int32_t)hs_config_int(config, HS_CFG_MAX_CHOICES);
    rest->max_inputs = (int32_t)hs_config_int(config, HS_CFG_MAX_INPUTS);
    rest->max_stop = (int32_t)hs_config_int(config, HS_CFG_MAX_STOP);
    rest->max_tools = (int32_t)hs_config_int(config, HS_CFG_MAX_TOOLS);
    rest->adapter_versions = hs_config_int(config, HS_CFG_ADAPTER_VERSIONS);
    rest->max_schema_bytes = (size_t)hs_config_float(config, HS_CFG_MAX_SCHEMA);
}

static hs_status open_responses(struct server *server, struct hs_error *err)
{
    const struct hs_config *config = server->args->config;
    const char *folder = server->args->paths->data_dir;
    const struct hs_response_store_limits limits = {
        .max_responses = hs_config_int(config, HS_CFG_MAX_RESPONSES),
        .max_age_s = hs_config_int(config, HS_CFG_RESPONSE_DAYS) * 86400};
    if (limits.max_responses == 0) {
        return HS_OK;
    }
    char *file HS_CLEANUP(hs_freep) = hs_fs_join(folder, "responses.db");
    hs_status status = file ? hs_fs_mkdir_p(folder, err) : hs_error_nomem(err, "path");
    status = status ? status : hs_response_store_open(file, &limits, &server->rest.responses, err);
    if (status) {
        hs_error_hint(err, "set this right, or keep no responses with --max-responses 0");
    }
    return status;
}

static hs_status open_sql(struct server *server, struct hs_error *err)
{
#ifdef HS_HAVE_SQL
    return hs_sql_service_new(server->args->config, server->args->paths, &server->rest,
                              server->registry, &server->rest.sql, err);
#else
    (void)server;
    (void)err;
    return HS_OK;
#endif
}

static hs_status serve(struct server *server, struct hs_error *err)
{
    const struct hs_config *config = server->args->config;
    fill_rest(config, &server->rest);
    server->rest.upload_dir = server->args->paths->cache_dir;
    hs_status status = open_keys(server, err);
    if (!status) { /* before the model is loaded, which takes its time */
        status =
            hs_http_bind_check(hs_config_str(config, HS_CFG_HOST), hs_http_keys_count(server->keys),
                               hs_config_bool(config, HS_CFG_INSECURE), err);
    }
    status = status ? status : open_responses(server, err);
    status = status ? status : hs_registry_open(server->args->paths, &server->registry, err);
    status = status ? status : load_models(server, err);
    status = status ? status : open_adapters(server, err);
    status = status ? status : open_sql(server, err);
    status = status ? status : start_http(server, err);
    status = status ? status
                    : hs_serve_flight_start(server->args, server->rest.sql, server->keys,
                                            &server->flight, err);
    if (status) {
        return status;
    }
    announce(server);
    return run(server, err);
}

hs_status hs_cmd_serve(const struct hs_command_args *args, struct hs_error *err)
{
    hs_serve_signals_begin();
    struct server server = {.args = args};
    hs_status status = serve(&server, err);
    free_server(&server);
    hs_serve_signals_end();
    return status;
}
