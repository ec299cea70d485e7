/* cmd_ps.c - `hyprstream ps`: what a running server does. */
#include <string.h>
#include <time.h>

#include "api/output.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "http_client.h"
#include "json_out.h"
#include "table.h"

#define WATCH_MS 1000
#define WAIT_MS 50 /* how late Ctrl-C may be noticed */
#define CLEAR_SCREEN "\033[H\033[J"

struct watch {
    const struct hs_command_args *args;
    hs_http_client *client;
    json_t *last; /* the answer before; NULL: none */
    double last_ms, now_ms;
};

static long long number(const json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "-";
}

static const json_t *models_of(const json_t *status)
{
    return json_object_get(status, "models");
}

/* The same model as it was the time before; NULL: it was not there. */
static const json_t *model_before(const struct watch *watch, const char *id)
{
    size_t i;
    const json_t *model;
    json_array_foreach(models_of(watch->last), i, model)
    {
        if (strcmp(text(model, "id"), id) == 0) {
            return model;
        }
    }
    return NULL;
}

static uint64_t memory_of(const json_t *model)
{
    const json_t *memory = json_object_get(model, "memory");
    return (uint64_t)(number(memory, "weights_bytes") + number(memory, "kv_bytes") +
                      number(memory, "compute_bytes") + number(model, "parked_bytes"));
}

static void add_tokens(const struct watch *watch, struct hs_table *table, const json_t *model)
{
    long long n = number(model, "generated_tokens");
    if (!watch->args->options[HS_OPT_WATCH]) {
        hs_table_cell(table, "%lld", n);
        return;
    }
    const json_t *before = model_before(watch, text(model, "id"));
    double seconds = (watch->now_ms - watch->last_ms) / 1000;
    if (before && seconds > 0) {
        hs_table_cell(table, "%.1f", (double)(n - number(before, "generated_tokens")) / seconds);
    } else {
        hs_table_cell(table, "-");
    }
}

static hs_status print_models(const struct watch *watch, const json_t *status, struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    bool is_watching = watch->args->options[HS_OPT_WATCH] != NULL;
    hs_table_init(&table, 8, 0xFE,
                  is_watching ? "MODEL CONTEXT BUSY KV QUEUE PARKED TOKENS/S MEMORY"
                              : "MODEL CONTEXT BUSY KV QUEUE PARKED TOKENS MEMORY");
    size_t i;
    const json_t *model;
    json_array_foreach(models_of(status), i, model)
    {
        char bytes[32];
        hs_table_cell(&table, "%s", text(model, "id"));
        hs_table_cell(&table, "%lld", number(model, "n_ctx"));
        hs_table_cell(&table, "%lld/%lld", number(model, "running"), number(model, "n_sequences"));
        hs_table_cell(&table, "%lld", number(model, "kv_cells_used"));
        hs_table_cell(&table, "%lld", number(model, "queued"));
        hs_table_cell(&table, "%lld", number(model, "contexts_parked"));
        add_tokens(watch, &table, model);
        hs_table_cell(&table, "%s", hs_format_bytes(memory_of(model), bytes, sizeof bytes));
    }
    return hs_table_print(&table, watch->args->io, err);
}

/* Who applies adapters, for models that have some. */
static hs_status print_adapters(const struct watch *watch, const json_t *status,
                                struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 7, 0x7C, "MODEL LORA ADAPTERS READY DECODES MIXED MEMORY");
    size_t i, n = 0;
    const json_t *model;
    json_array_foreach(models_of(status), i, model)
    {
        const json_t *lora = json_object_get(model, "lora");
        char bytes[32];
        if (number(lora, "adapters") == 0) {
            continue;
        }
        hs_table_cell(&table, "%s", text(model, "id"));
        hs_table_cell(&table, "%s", text(lora, "engine"));
        hs_table_cell(&table, "%lld", number(lora, "adapters"));
        hs_table_cell(&table, "%lld", number(lora, "adapters_ready"));
        hs_table_cell(&table, "%lld", number(lora, "decodes"));
        hs_table_cell(&table, "%lld", number(lora, "mixed_decodes"));
        hs_table_cell(&table, "%s",
                      hs_format_bytes((uint64_t)number(lora, "bytes"), bytes, sizeof bytes));
        n++;
    }
    hs_status result = n == 0 ? HS_OK : hs_out_printf(watch->args->io, err, "\n");
    return result || n == 0 ? result : hs_table_print(&table, watch->args->io, err);
}

static hs_status print_requests(const struct watch *watch, const json_t *status,
                                struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 8, 0x7A, "MODEL SEQ STATE PROMPT KV ANSWER SECONDS REQUEST");
    size_t i, k, n = 0;
    const json_t *model, *slot;
    json_array_foreach(models_of(status), i, model)
    {
        json_array_foreach(json_object_get(model, "busy"), k, slot)
        {
            double age_ms = json_number_value(json_object_get(slot, "age_ms"));
            hs_table_cell(&table, "%s", text(model, "id"));
            hs_table_cell(&table, "%lld", number(slot, "id"));
            hs_table_cell(&table, "%s", text(slot, "state"));
            hs_table_cell(&table, "%lld", number(slot, "n_prompt_tokens"));
            hs_table_cell(&table, "%lld", number(slot, "n_kv_tokens"));
            hs_table_cell(&table, "%lld", number(slot, "n_decoded"));
            hs_table_cell(&table, "%.1f", age_ms / 1000);
            hs_table_cell(&table, "%s", text(slot, "request_id"));
            n++;
        }
    }
    if (n == 0) {
        return HS_OK;
    }
    hs_status result = hs_out_printf(watch->args->io, err, "\n");
    return result ? result : hs_table_print(&table, watch->args->io, err);
}

/* Statements of SQL; what they asked models is known only as far as their rows were read. */
static hs_status print_statements(const struct watch *watch, const json_t *status,
                                  struct hs_error *err)
{
    struct hs_table table HS_CLEANUP(hs_table_free);
    hs_table_init(&table, 4, 0x6, "USER SECONDS ANSWERED STATEMENT");
    const json_t *statements = json_object_get(status, "statements"), *row;
    size_t i;
    json_array_foreach(statements, i, row)
    {
        const char *user = text(row, "user");
        hs_table_cell(&table, "%s", *user ? user : "-");
        hs_table_cell(&table, "%.1f", json_number_value(json_object_get(row, "age_ms")) / 1000);
        hs_table_cell(&table, "%lld/%lld", number(row, "n_answered"), number(row, "n_asked"));
        hs_table_cell(&table, "%s", text(row, "statement"));
    }
    hs_status result =
        json_array_size(statements) == 0 ? HS_OK : hs_out_printf(watch->args->io, err, "\n");
    return result || json_array_size(statements) == 0
               ? result
               : hs_table_print(&table, watch->args->io, err);
}

static hs_status print_people(const struct watch *watch, const json_t *status, struct hs_error *err)
{
    const struct hs_command_io *io = watch->args->io;
    const json_t *http = json_object_get(status, "http");
    char bytes[32];
    long long up_s = (long long)time(NULL) - number(status, "started");
    hs_status result = HS_OK;
    if (watch->args->options[HS_OPT_WATCH] && io->out_is_terminal) {
        result = io->out(io->self, CLEAR_SCREEN, strlen(CLEAR_SCREEN), err);
    }
    hs_err_info(
        io, "%s, hyprstream %s, up %lld:%02lld h, %s resident, %lld connections, %lld requests",
        hs_http_client_url(watch->client), text(status, "version"), up_s / 3600, up_s / 60 % 60,
        hs_format_bytes((uint64_t)number(status, "resident_bytes"), bytes, sizeof bytes),
        number(http, "connections"), number(http, "requests"));
    result = result ? result : print_models(watch, status, err);
    result = result ? result : print_adapters(watch, status, err);
    result = result ? result : print_requests(watch, status, err);
    return result ? result : print_statements(watch, status, err);
}

static hs_status ask(struct watch *watch, json_t **ret_status, struct hs_error *err)
{
    json_t *status HS_CLEANUP(hs_json_freep) = NULL;
    hs_status result =
        hs_http_client_ask(watch->client, "GET", "/api/v1/status", NULL, &status, err);
    if (result == HS_NOT_FOUND || (!result && !json_is_array(models_of(status)))) {
        result = hs_error_set(err, HS_NOT_SUPPORTED,
                              "what answers at %s is no server of hyprstream, or an older one",
                              hs_http_client_url(watch->client));
    }
    if (result) {
        return result;
    }
    watch->now_ms = hs_clock_ms();
    *ret_status = status;
    status = NULL;
    return HS_OK;
}

static hs_status show(struct watch *watch, struct hs_error *err)
{
    json_t *status = NULL;
    hs_status result = ask(watch, &status, err);
    if (result) {
        return result;
    }
    bool is_watching = watch->args->options[HS_OPT_WATCH] != NULL;
    result = hs_config_bool(watch->args->config, HS_CFG_JSON)
                 ? hs_json_print(watch->args->io, status, is_watching, err)
                 : print_people(watch, status, err);
    json_decref(watch->last);
    watch->last = status;
    watch->last_ms = watch->now_ms;
    return result;
}

/* Whether nobody pressed Ctrl-C meanwhile. */
static bool wait_for_next(const struct watch *watch)
{
    const struct hs_command_io *io = watch->args->io;
    const struct timespec pause = {0, WAIT_MS * 1000000L};
    bool is_interrupted = false;
    for (int ms = 0; ms < WATCH_MS && !is_interrupted; ms += WAIT_MS) {
        nanosleep(&pause, NULL);
        is_interrupted = io->interrupted(io->self);
    }
    return !is_interrupted;
}

hs_status hs_cmd_ps(const struct hs_command_args *args, struct hs_error *err)
{
    struct watch watch = {.args = args};
    hs_status status = hs_http_client_new(args, &watch.client, err);
    if (!status && args->options[HS_OPT_CHECK]) {
        status = hs_http_client_ask(watch.client, "GET", "/health", NULL, NULL, err);
    } else if (!status) {
        bool goes_on = true;
        while (!status && goes_on) {
            status = show(&watch, err);
            goes_on = !status && args->options[HS_OPT_WATCH] && wait_for_next(&watch);
        }
        if (args->options[HS_OPT_WATCH] && status == HS_CANCELLED) {
            status = HS_OK; /* Ctrl-C is how one leaves */
        }
    }
    json_decref(watch.last);
    hs_http_client_free(watch.client);
    return status;
}
