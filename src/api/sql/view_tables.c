/* The views of the schema `hyprstream`: columns, and where their rows come from. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "storage/adapter_store.h"
#include "storage/session_store.h"
#include "views.h"

#define MODELS_MAX 64

#define TEXT DUCKDB_TYPE_VARCHAR
#define INT DUCKDB_TYPE_BIGINT
#define REAL DUCKDB_TYPE_DOUBLE
#define BOOL DUCKDB_TYPE_BOOLEAN
#define TIME DUCKDB_TYPE_TIMESTAMP_TZ

struct loaded {
    char ids[MODELS_MAX][HS_ID_MAX];
    size_t n;
};

static void list_loaded(const struct hs_sql_host *host, struct loaded *ret)
{
    size_t n = host->list_models(host->user, ret->ids, MODELS_MAX);
    ret->n = n < MODELS_MAX ? n : MODELS_MAX;
}

/* ---- models ---- */

static void add_model(struct hs_view_rows *rows, const struct hs_registry_model *row,
                      const struct hs_model_info *info)
{
    hs_view_text(rows, info ? info->id : row->name);
    hs_view_int(rows, info != NULL);
    hs_view_text(rows, info ? info->path : row->path);
    hs_view_text(rows, info ? info->architecture : row->architecture);
    hs_view_text(rows, row ? row->quantization : NULL);
    hs_view_int(rows, (int64_t)(info ? info->n_params : row->n_params));
    hs_view_int(rows, info ? info->n_ctx : 0);
    hs_view_int(rows, info ? info->n_ctx_train : row->n_ctx_train);
    hs_view_int(rows, (int64_t)(info ? info->memory.weights_bytes : row->size_bytes));
    hs_view_time(rows, row ? row->added_unix_ms : 0);
    hs_view_time(rows, row ? row->used_unix_ms : 0);
}

static hs_status collect_models(const struct hs_sql_host *host, struct hs_view_rows *rows,
                                struct hs_error *err)
{
    struct hs_registry_model *models = NULL;
    size_t n = 0;
    struct loaded loaded;
    list_loaded(host, &loaded);
    hs_status status =
        host->registry ? hs_registry_model_list(host->registry, &models, &n, err) : HS_OK;
    if (status) {
        return status;
    }
    for (size_t i = 0; i < loaded.n; i++) {
        struct hs_model_info info;
        const struct hs_registry_model *row = NULL;
        if (hs_engine_model_info(host->engine, loaded.ids[i], &info, NULL) != HS_OK) {
            continue; /* unloaded meanwhile */
        }
        for (size_t j = 0; j < n && row == NULL; j++) {
            row = strcmp(models[j].path, info.path) == 0 ? &models[j] : NULL;
        }
        add_model(rows, row, &info);
        if (row != NULL) {
            models[row - models].is_missing = true; /* listed */
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (!models[i].is_missing) {
            add_model(rows, &models[i], NULL);
        }
    }
    hs_registry_models_free(models, n);
    return HS_OK;
}

/* ---- adapters ---- */

static hs_status collect_adapters(const struct hs_sql_host *host, struct hs_view_rows *rows,
                                  struct hs_error *err)
{
    struct hs_registry_adapter *adapters = NULL;
    size_t n = 0;
    hs_status status =
        host->registry ? hs_registry_adapter_list(host->registry, &adapters, &n, err) : HS_OK;
    for (size_t i = 0; i < n && !status; i++) {
        const struct hs_registry_adapter *row = &adapters[i];
        struct hs_adapter_info info;
        bool is_known = hs_engine_adapter_info(host->engine, row->name, &info, NULL) == HS_OK;
        hs_view_text(rows, row->name);
        hs_view_int(rows, row->version);
        hs_view_text(rows, row->model_name);
        hs_view_text(rows, is_known ? hs_adapter_state_name(info.state) : "stored");
        hs_view_text(rows, row->path);
        hs_view_text(rows, row->format);
        hs_view_text(rows, row->targets);
        hs_view_int(rows, row->rank);
        hs_view_real(rows, row->alpha);
        hs_view_int(rows, row->size_bytes);
        hs_view_text(rows, row->description);
        hs_view_text(rows, row->tags);
        hs_view_int(rows, row->n_uses);
        hs_view_time(rows, row->used_unix_ms);
        hs_view_time(rows, row->added_unix_ms);
        hs_view_int(rows, row->is_missing);
    }
    hs_registry_adapters_free(adapters, n);
    return status;
}

static hs_status add_versions(const struct hs_sql_host *host, const char *name,
                              struct hs_view_rows *rows, struct hs_error *err)
{
    struct hs_registry_adapter *versions;
    size_t n;
    hs_status status = hs_registry_adapter_history(host->registry, name, &versions, &n, err);
    if (status) { /* removed meanwhile: no row */
        return status == HS_NOT_FOUND ? HS_OK : status;
    }
    for (size_t i = 0; i < n; i++) {
        hs_view_text(rows, versions[i].name);
        hs_view_int(rows, versions[i].version);
        hs_view_text(rows, versions[i].path);
        hs_view_text(rows, versions[i].source);
        hs_view_text(rows, versions[i].parents);
        hs_view_text(rows, versions[i].training);
        hs_view_text(rows, versions[i].content);
        hs_view_time(rows, versions[i].created_unix_ms);
    }
    hs_registry_adapters_free(versions, n);
    return HS_OK;
}

static hs_status collect_history(const struct hs_sql_host *host, struct hs_view_rows *rows,
                                 struct hs_error *err)
{
    struct hs_registry_adapter *adapters = NULL;
    size_t n = 0;
    hs_status status =
        host->registry ? hs_registry_adapter_list(host->registry, &adapters, &n, err) : HS_OK;
    for (size_t i = 0; i < n && !status; i++) {
        status = add_versions(host, adapters[i].name, rows, err);
    }
    hs_registry_adapters_free(adapters, n);
    return status;
}

/* ---- sessions ---- */

static void add_session(struct hs_view_rows *rows, const char *name,
                        const struct hs_session_record *record, uint64_t size_bytes)
{
    hs_view_text(rows, name);
    hs_view_text(rows, record->model_name);
    hs_view_int(rows, (int64_t)record->n_messages);
    hs_view_int(rows, (int64_t)size_bytes);
    hs_view_time(rows, record->created_unix_ms);
    hs_view_time(rows, record->updated_unix_ms);
}

static void add_messages(struct hs_view_rows *rows, const char *name,
                         const struct hs_session_record *record, uint64_t size_bytes)
{
    (void)size_bytes;
    for (size_t i = 0; i < record->n_messages; i++) {
        hs_view_text(rows, name);
        hs_view_int(rows, (int64_t)i);
        hs_view_text(rows, record->messages[i].role);
        hs_view_text(rows, record->messages[i].content);
        hs_view_text(rows, record->messages[i].reasoning);
    }
}

/* A session that cannot be read, or is gone meanwhile, is left out: the others are still there. */
static hs_status each_session(const struct hs_sql_host *host, struct hs_view_rows *rows,
                              void (*add)(struct hs_view_rows *rows, const char *name,
                                          const struct hs_session_record *record,
                                          uint64_t size_bytes),
                              struct hs_error *err)
{
    char **names = NULL;
    size_t n = 0;
    hs_status status =
        host->sessions_dir ? hs_session_store_list(host->sessions_dir, &names, &n, err) : HS_OK;
    for (size_t i = 0; i < n && !status; i++) {
        struct hs_session_record record;
        uint64_t size_bytes;
        if (hs_session_store_read(host->sessions_dir, names[i], &record, &size_bytes, NULL) ==
            HS_OK) {
            add(rows, names[i], &record, size_bytes);
            hs_session_record_free(&record);
        }
    }
    hs_session_names_free(names, n);
    return status;
}

static hs_status collect_sessions(const struct hs_sql_host *host, struct hs_view_rows *rows,
                                  struct hs_error *err)
{
    return each_session(host, rows, add_session, err);
}

static hs_status collect_messages(const struct hs_sql_host *host, struct hs_view_rows *rows,
                                  struct hs_error *err)
{
    return each_session(host, rows, add_messages, err);
}

/* ---- what the engine does ---- */

static hs_status collect_requests(const struct hs_sql_host *host, struct hs_view_rows *rows,
                                  struct hs_error *err)
{
    HS_CLEANUP(hs_freep)
    struct hs_request_record *records = hs_calloc(HS_REQUEST_RECORDS_MAX, sizeof *records);
    size_t n = 0;
    if (records == NULL) {
        return hs_error_nomem(err, "requests");
    }
    hs_status status =
        hs_engine_requests(host->engine, 0, records, HS_REQUEST_RECORDS_MAX, &n, err);
    for (size_t i = 0; i < n && !status; i++) {
        const struct hs_request_record *record = &records[i];
        hs_view_int(rows, (int64_t)record->number);
        hs_view_time(rows, record->started_unix_ms);
        hs_view_text(rows, record->client);
        hs_view_text(rows, record->model_id);
        hs_view_text(rows, record->adapters);
        hs_view_text(rows, record->tag);
        hs_view_int(rows, record->is_embedding);
        hs_view_int(rows, record->usage.prompt_tokens);
        hs_view_int(rows, record->usage.cached_tokens);
        hs_view_int(rows, record->usage.completion_tokens);
        hs_view_real(rows, record->usage.queue_ms);
        hs_view_real(rows, record->usage.prefill_ms);
        hs_view_real(rows, record->usage.decode_ms);
        hs_view_real(rows, record->total_ms);
        hs_view_text(rows, hs_finish_name(record->finish));
        hs_view_text(rows, record->error);
    }
    return status;
}

static hs_status collect_slots(const struct hs_sql_host *host, struct hs_view_rows *rows,
                               struct hs_error *err)
{
    (void)err;
    struct loaded loaded;
    struct hs_slot slots[256];
    list_loaded(host, &loaded);
    for (size_t i = 0; i < loaded.n; i++) {
        size_t n = 0;
        if (hs_engine_model_slots(host->engine, loaded.ids[i], slots, 256, &n, NULL) != HS_OK) {
            continue; /* unloaded meanwhile */
        }
        for (size_t j = 0; j < n; j++) {
            hs_view_text(rows, loaded.ids[i]);
            hs_view_int(rows, slots[j].id);
            hs_view_text(rows, hs_slot_state_name(slots[j].state));
            hs_view_int(rows, slots[j].n_prompt);
            hs_view_int(rows, slots[j].n_evaluated);
            hs_view_int(rows, slots[j].n_generated);
            hs_view_real(rows, slots[j].age_ms);
            hs_view_text(rows, slots[j].tag);
        }
    }
    return HS_OK;
}

static void collect_statements(hs_sql *sql, struct hs_view_rows *rows)
{
    struct hs_sql_running *items HS_CLEANUP(hs_freep) =
        hs_calloc(HS_SQL_RUNNING_MAX, sizeof *items);
    rows->status = items == NULL ? HS_OUT_OF_MEMORY : rows->status;
    size_t n = items == NULL ? 0 : hs_sql_list(sql, items, HS_SQL_RUNNING_MAX);
    for (size_t i = 0; i < n; i++) {
        hs_view_text(rows, items[i].user);
        hs_view_text(rows, items[i].text);
        hs_view_real(rows, items[i].ms);
        hs_view_int(rows, (int64_t)items[i].n_asked);
        hs_view_int(rows, (int64_t)items[i].n_answered);
    }
}

static void add_metric(struct hs_view_rows *rows, const char *model, const char *name, double value)
{
    hs_view_text(rows, model);
    hs_view_text(rows, name);
    hs_view_real(rows, value);
}

static hs_status collect_metrics(const struct hs_sql_host *host, struct hs_view_rows *rows,
                                 struct hs_error *err)
{
    (void)err;
    struct loaded loaded;
    list_loaded(host, &loaded);
    for (size_t i = 0; i < loaded.n; i++) {
        struct hs_model_stats stats;
        const char *id = loaded.ids[i];
        if (hs_engine_model_stats(host->engine, id, &stats, NULL) != HS_OK) {
            continue; /* unloaded meanwhile */
        }
        add_metric(rows, id, "requests_running", stats.n_running);
        add_metric(rows, id, "requests_queued", stats.n_queued);
        add_metric(rows, id, "kv_cells_used", stats.n_kv_used);
        add_metric(rows, id, "decode_calls", (double)stats.n_decode_calls);
        add_metric(rows, id, "prompt_tokens", (double)stats.n_prompt_tokens);
        add_metric(rows, id, "cached_tokens", (double)stats.n_cached_tokens);
        add_metric(rows, id, "generated_tokens", (double)stats.n_generated_tokens);
        add_metric(rows, id, "inputs_embedded", (double)stats.n_embedded);
        add_metric(rows, id, "embedded_tokens", (double)stats.n_embed_tokens);
        add_metric(rows, id, "adapters_ready", stats.n_adapters_ready);
        add_metric(rows, id, "adapter_bytes", (double)stats.adapter_bytes);
    }
    return HS_OK;
}

const struct hs_view hs_views[] = {
    {"models",
     "Models that are loaded, or in the list of models",
     {{"name", TEXT, "How requests name it"},
      {"is_loaded", BOOL, "It is in memory now"},
      {"path", TEXT, "Its GGUF file"},
      {"architecture", TEXT, "Family, as the file names it"},
      {"quantization", TEXT, "Type that most weights have"},
      {"n_params", INT, "Parameters"},
      {"n_ctx", INT, "Context of this load in tokens, 0: not loaded"},
      {"n_ctx_train", INT, "Context that it was trained for"},
      {"size_bytes", INT, "Weights in memory, or files"},
      {"added_at", TIME, "When it came into the list"},
      {"used_at", TIME, "When it was loaded last"}},
     collect_models,
     NULL},
    {"adapters",
     "LoRA adapters of the list of adapters, present versions",
     {{"name", TEXT, "How requests name it"},
      {"version", INT, "Number of the present version"},
      {"model", TEXT, "Model that it was checked against"},
      {"state", TEXT, "stored, or what the engine knows: registered, loading, ready, failed"},
      {"path", TEXT, "Its file or folder"},
      {"format", TEXT, "peft or gguf"},
      {"targets", TEXT, "Kinds of matrices that it changes"},
      {"rank", INT, "Largest rank"},
      {"alpha", REAL, "Scaling of its training"},
      {"size_bytes", INT, "Of its files"},
      {"description", TEXT, "What it is for"},
      {"tags", TEXT, "JSON array"},
      {"n_uses", INT, "Requests, as far as they have been counted"},
      {"used_at", TIME, "Last use"},
      {"added_at", TIME, "When it came into the list"},
      {"is_missing", BOOL, "Nothing is at its path any more"}},
     collect_adapters,
     NULL},
    {"adapter_history",
     "Versions of the adapters that are kept, the newest first",
     {{"name", TEXT, "Adapter"},
      {"version", INT, "Number"},
      {"path", TEXT, "Its file or folder"},
      {"source", TEXT, "Where it came from"},
      {"parents", TEXT, "JSON array of those it was made of"},
      {"training", TEXT, "JSON object: its training"},
      {"content", TEXT, "Hash of what it computes"},
      {"created_at", TIME, "When this version came"}},
     collect_history,
     NULL},
    {"sessions",
     "Named sessions on disk",
     {{"name", TEXT, "Session"},
      {"model", TEXT, "Its model"},
      {"n_messages", INT, "Messages, the system message included"},
      {"size_bytes", INT, "On disk"},
      {"created_at", TIME, "Begun"},
      {"updated_at", TIME, "Saved last"}},
     collect_sessions,
     NULL},
    {"messages",
     "Messages of the named sessions on disk",
     {{"session", TEXT, "Session"},
      {"position", INT, "From 0"},
      {"role", TEXT, "system, user, assistant or tool"},
      {"content", TEXT, "Text"},
      {"reasoning", TEXT, "Of a model that reasons"}},
     collect_messages,
     NULL},
    {"requests",
     "The last 4096 requests that have ended, whatever way they came",
     {{"number", INT, "In the order in which they ended"},
      {"started_at", TIME, "Submitted"},
      {"user", TEXT, "Whose it was: the key or the connection"},
      {"model", TEXT, "Model"},
      {"adapters", TEXT, "name:scale, joined by +"},
      {"tag", TEXT, "As ps shows it"},
      {"is_embedding", BOOL, "Inputs were embedded, nothing was generated"},
      {"prompt_tokens", INT, "Of the prompt, reused ones included"},
      {"cached_tokens", INT, "Of them reused"},
      {"completion_tokens", INT, "Generated"},
      {"queue_ms", REAL, "Waited"},
      {"prefill_ms", REAL, "Until the first token"},
      {"decode_ms", REAL, "From then on"},
      {"total_ms", REAL, "From submission to the end"},
      {"finish", TEXT, "stop, length, cancelled, error or tool_calls"},
      {"error", TEXT, "Why it failed"}},
     collect_requests,
     NULL},
    {"slots",
     "Sequences of the loaded models, and what they do now",
     {{"model", TEXT, "Model"},
      {"slot", INT, "Number"},
      {"state", TEXT, "idle, prefill or decode"},
      {"n_prompt", INT, "Tokens of the prompt"},
      {"n_evaluated", INT, "Of them and of the answer in the context"},
      {"n_generated", INT, "Tokens of the answer"},
      {"age_ms", REAL, "Since it was submitted"},
      {"tag", TEXT, "As ps shows it"}},
     collect_slots,
     NULL},
    {"statements",
     "Statements of SQL that run now, in this process",
     {{"user", TEXT, "Whose it is: the key or the connection"},
      {"statement", TEXT, "Its first 60 characters, on one line"},
      {"age_ms", REAL, "Since it began"},
      {"n_asked", INT, "Questions to models that are known by now"},
      {"n_answered", INT, "Of these answered"}},
     NULL,
     collect_statements},
    {"metrics",
     "Figures of the loaded models since they were loaded",
     {{"model", TEXT, "Model"}, {"name", TEXT, "Figure"}, {"value", REAL, "Value"}},
     collect_metrics,
     NULL},
    {NULL, NULL, {{NULL, DUCKDB_TYPE_INVALID, NULL}}, NULL, NULL},
};
