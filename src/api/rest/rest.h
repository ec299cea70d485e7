/*
 * rest.h - the REST endpoints: what they share, their one table, and the models they speak for.
 *
 * A handler reads its fields (fields.h), asks the engine, and answers or leaves a generation that
 * the engine's notifications drive (generation.h). Nothing here knows the HTTP library.
 *
 * Owner:   struct hs_rest is the caller's and outlives the server; it borrows the engine.
 * Threads: read-only once the server runs, but for `server`, `is_merging` and the models
 *          (served_models.h).
 */
#ifndef API_REST_H
#define API_REST_H

#include <stdatomic.h>

#include "adapter_table.h"
#include "api/http.h"
#include "fields.h"
#include "storage/response_store.h"

#define HS_REST_MODELS_MAX 128
#define HS_REST_ADAPTERS_MAX 64 /* in one request */

typedef struct hs_served_models hs_served_models;

struct hs_rest {
    hs_engine *engine;
    struct hs_model_info models[HS_REST_MODELS_MAX]; /* the first is the default; of one that was
                                                        never loaded what its file says */
    atomic_size_t n_models;
    hs_served_models *served;           /* NULL: all are loaded, and stay */
    struct hs_generate_params defaults; /* of what a request leaves out */
    int64_t created_unix_s;             /* when the models were loaded */
    int32_t max_messages;               /* in one request */
    int32_t max_choices;                /* answers to one request: prompts times n */
    int32_t max_inputs;                 /* texts to embed, documents to rank, files to look at */
    int32_t max_stop;                   /* stop strings of one request */
    int32_t max_tools;                  /* in one request */
    size_t max_schema_bytes;            /* of one JSON schema or grammar */
    int64_t ping_ms;                    /* of silence in a stream of an API that has pings */
    hs_response_store *responses;       /* of /v1/responses; NULL: none are kept */
    int64_t adapter_versions;           /* kept of each adapter */
    const char *upload_dir;             /* for files of adapters on their way into the registry */
    const char *sessions_dir;           /* as the engine has it; NULL: there are no sessions */
    hs_adapter_table *adapters;         /* never NULL while the server runs */
    struct hs_route_params routing;     /* for "lora": "auto" */
    struct hs_sql_service *sql;         /* for /api/v1/sql; NULL: built without SQL */
    _Atomic(hs_http_server *) server;   /* for /metrics; NULL: its figures are left out */
    atomic_bool is_merging;             /* adapters, which one request may do at a time */
};

/* The settings' defaults without an engine or a model. */
void hs_rest_defaults(struct hs_rest *ret_rest);
/* Ask the engine for one more loaded model. HS_LIMIT, errors of hs_engine_model_info. */
HS_CHECKED hs_status hs_rest_add_model(struct hs_rest *rest, const char *model_id,
                                       struct hs_error *err);

/* Every endpoint, with the page for browsers or without; `user` of the HTTP configuration is the
 * struct hs_rest. */
const struct hs_http_route *hs_rest_routes(bool with_page, size_t *ret_n);
/* The routes' schemas: JSON text, an object by name. */
extern const char hs_rest_schemas[]; /* rest/schemas.json */

/* The index of a model, loaded or not. SIZE_MAX: there is none of that name, and the client was
 * told which there are. `name` NULL or "": the default model. */
size_t hs_rest_model_index(const struct hs_rest *rest, hs_http_request *request, const char *name);
/* The same, loaded and kept to the request's end (hs_served_model_take). NULL: the handler returns:
 * the request was answered, or is handled anew once the model is loaded. */
const struct hs_model_info *hs_rest_model(const struct hs_rest *rest, hs_http_request *request,
                                          const char *name);
/* The model that a saved session goes on with: the one of the name it asks for, else the one of its
 * weights. NULL: there is none. It may have to be loaded (hs_served_model_take). */
const struct hs_model_info *hs_rest_model_of(const struct hs_rest *rest, const char *name,
                                             const char *fingerprint);
/* 404: `text`, the name in quotes, and the models there are. */
void hs_rest_respond_no_model(const struct hs_rest *rest, hs_http_request *request,
                              const char *text, const char *name);
/* The body's fields and the model it names. NULL: the request was answered. */
const struct hs_model_info *hs_rest_open(const struct hs_rest *rest, hs_http_request *request,
                                         struct hs_fields *ret_fields);
/* Whose request it is, for the engine: its key's name, without one its address. */
void hs_rest_client_name(const hs_http_request *request, char ret[HS_TAG_MAX]);
/* The answer to what the engine refused; `param` is the field that holds the prompt. */
void hs_rest_respond_failure(hs_http_request *request, const struct hs_error *err,
                             const char *param);

/* ---- handlers ---- */

void hs_rest_chat_completions(hs_http_request *request, void *user);
void hs_rest_completions(hs_http_request *request, void *user);
void hs_rest_embeddings(hs_http_request *request, void *user);
void hs_rest_rerank(hs_http_request *request, void *user);
void hs_rest_infill(hs_http_request *request, void *user);
void hs_rest_response_create(hs_http_request *request, void *user);
void hs_rest_response_get(hs_http_request *request, void *user);
void hs_rest_response_delete(hs_http_request *request, void *user);
void hs_rest_response_items(hs_http_request *request, void *user);
void hs_rest_session_list(hs_http_request *request, void *user);
void hs_rest_session_create(hs_http_request *request, void *user);
void hs_rest_session_get(hs_http_request *request, void *user);
void hs_rest_session_patch(hs_http_request *request, void *user);
void hs_rest_session_delete(hs_http_request *request, void *user);
void hs_rest_session_append(hs_http_request *request, void *user);
void hs_rest_session_truncate(hs_http_request *request, void *user);
void hs_rest_session_generate(hs_http_request *request, void *user);
void hs_rest_model_list(hs_http_request *request, void *user);
void hs_rest_model_get(hs_http_request *request, void *user);
void hs_rest_pool_list(hs_http_request *request, void *user);
void hs_rest_pool_load(hs_http_request *request, void *user);
void hs_rest_pool_unload(hs_http_request *request, void *user);
void hs_rest_adapter_list(hs_http_request *request, void *user);
void hs_rest_adapter_create(hs_http_request *request, void *user);
void hs_rest_adapter_merge(hs_http_request *request, void *user);
void hs_rest_adapter_get(hs_http_request *request, void *user);
void hs_rest_adapter_history(hs_http_request *request, void *user);
void hs_rest_adapter_put(hs_http_request *request, void *user);
void hs_rest_adapter_patch(hs_http_request *request, void *user);
void hs_rest_adapter_delete(hs_http_request *request, void *user);
void hs_rest_lora_load(hs_http_request *request, void *user);
void hs_rest_lora_unload(hs_http_request *request, void *user);
void hs_rest_lora_scales_get(hs_http_request *request, void *user);
void hs_rest_lora_scales_set(hs_http_request *request, void *user);
void hs_rest_sql(hs_http_request *request, void *user);
void hs_rest_sql_session_create(hs_http_request *request, void *user);
void hs_rest_sql_session_get(hs_http_request *request, void *user);
void hs_rest_sql_session_delete(hs_http_request *request, void *user);
void hs_rest_health(hs_http_request *request, void *user);
void hs_rest_props(hs_http_request *request, void *user);
void hs_rest_slots(hs_http_request *request, void *user);
void hs_rest_metrics(hs_http_request *request, void *user);
void hs_rest_status(hs_http_request *request, void *user);
void hs_rest_anthropic_messages(hs_http_request *request, void *user);
void hs_rest_anthropic_count_tokens(hs_http_request *request, void *user);
void hs_rest_ollama_chat(hs_http_request *request, void *user);
void hs_rest_ollama_generate(hs_http_request *request, void *user);
void hs_rest_ollama_embed(hs_http_request *request, void *user);
void hs_rest_ollama_embeddings(hs_http_request *request, void *user);
void hs_rest_ollama_tags(hs_http_request *request, void *user);
void hs_rest_ollama_ps(hs_http_request *request, void *user);
void hs_rest_ollama_show(hs_http_request *request, void *user);
void hs_rest_ollama_version(hs_http_request *request, void *user);
void hs_rest_ollama_unavailable(hs_http_request *request, void *user);
void hs_rest_tokenize(hs_http_request *request, void *user);
void hs_rest_detokenize(hs_http_request *request, void *user);
void hs_rest_apply_template(hs_http_request *request, void *user);

#endif
