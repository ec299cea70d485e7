/* routes.c - the one table of endpoints. */
#include "page/page.h"
#include "rest.h"
#include "sql.h"

#define GET HS_HTTP_GET
#define POST HS_HTTP_POST
#define DELETE HS_HTTP_DELETE
#define PATCH HS_HTTP_PATCH
#define PUT HS_HTTP_PUT
#define OPENAI HS_HTTP_ERRORS_OPENAI
#define ANTHROPIC HS_HTTP_ERRORS_ANTHROPIC
#define OLLAMA HS_HTTP_ERRORS_OLLAMA
#define INFERENCE HS_KEY_INFERENCE
#define ADMIN HS_KEY_ADMIN
#define JSON HS_HTTP_GIVES_JSON
#define NDJSON HS_HTTP_GIVES_NDJSON
#define SSE HS_HTTP_GIVES_SSE
#define TEXT HS_HTTP_GIVES_TEXT
#define HTML HS_HTTP_GIVES_HTML
#define CSV HS_HTTP_GIVES_CSV
#define ARROW HS_HTTP_GIVES_ARROW
#define CREATES HS_HTTP_CREATES

static const struct hs_http_route routes[] = {
    {POST, "/v1/chat/completions", hs_rest_chat_completions, INFERENCE, OPENAI, JSON | SSE,
     "OpenAI", "ChatRequest", "Answer", "Answer a conversation"},
    {POST, "/v1/completions", hs_rest_completions, INFERENCE, OPENAI, JSON | SSE, "OpenAI",
     "CompletionRequest", "Answer", "Continue a text"},
    {POST, "/v1/embeddings", hs_rest_embeddings, INFERENCE, OPENAI, JSON, "OpenAI",
     "EmbeddingRequest", "EmbeddingList", "Embed texts or tokens"},
    {POST, "/v1/responses", hs_rest_response_create, INFERENCE, OPENAI, JSON | SSE, "OpenAI",
     "ResponseRequest", "Response", "Answer, and keep the answer to go on from"},
    {GET, "/v1/responses/{id}", hs_rest_response_get, INFERENCE, OPENAI, JSON, "OpenAI", NULL,
     "Response", "A kept response"},
    {DELETE, "/v1/responses/{id}", hs_rest_response_delete, INFERENCE, OPENAI, JSON, "OpenAI", NULL,
     NULL, "Forget a kept response"},
    {GET, "/v1/responses/{id}/input_items", hs_rest_response_items, INFERENCE, OPENAI, JSON,
     "OpenAI", NULL, "ItemList", "The items that a kept response answers"},
    {POST, "/v1/rerank", hs_rest_rerank, INFERENCE, OPENAI, JSON, "Text", "RerankRequest",
     "RerankResult", "Rank documents by how they fit a query"},
    {POST, "/rerank", hs_rest_rerank, INFERENCE, OPENAI, JSON, "Text", "RerankRequest",
     "RerankResult", "The same"},
    {POST, "/infill", hs_rest_infill, INFERENCE, OPENAI, JSON | SSE, "Text", "InfillRequest",
     "InfillAnswer", "Fill a gap in a text"},
    {GET, "/v1/models", hs_rest_model_list, INFERENCE, OPENAI, JSON, "OpenAI", NULL, "ModelList",
     "List the models"},
    {GET, "/v1/models/{id+}", hs_rest_model_get, INFERENCE, OPENAI, JSON, "OpenAI", NULL, "Model",
     "Describe a model"},
    {POST, "/v1/messages", hs_rest_anthropic_messages, INFERENCE, ANTHROPIC, JSON | SSE,
     "Anthropic", "AnthropicRequest", "AnthropicMessage", "Answer a conversation"},
    {POST, "/v1/messages/count_tokens", hs_rest_anthropic_count_tokens, INFERENCE, ANTHROPIC, JSON,
     "Anthropic", "AnthropicCountRequest", "AnthropicCount", "Count a conversation's tokens"},
    {POST, "/api/chat", hs_rest_ollama_chat, INFERENCE, OLLAMA, JSON | NDJSON, "Ollama",
     "OllamaChatRequest", "OllamaAnswer", "Answer a conversation"},
    {POST, "/api/generate", hs_rest_ollama_generate, INFERENCE, OLLAMA, JSON | NDJSON, "Ollama",
     "OllamaGenerateRequest", "OllamaAnswer", "Answer a prompt"},
    {POST, "/api/embed", hs_rest_ollama_embed, INFERENCE, OLLAMA, JSON, "Ollama",
     "OllamaEmbedRequest", NULL, "Embed texts"},
    {POST, "/api/embeddings", hs_rest_ollama_embeddings, INFERENCE, OLLAMA, JSON, "Ollama",
     "OllamaEmbeddingsRequest", NULL, "Embed one text, as old clients ask"},
    {GET, "/api/tags", hs_rest_ollama_tags, INFERENCE, OLLAMA, JSON, "Ollama", NULL, "OllamaModels",
     "List the models"},
    {GET, "/api/ps", hs_rest_ollama_ps, INFERENCE, OLLAMA, JSON, "Ollama", NULL, "OllamaModels",
     "List the loaded models, which are all"},
    {POST, "/api/show", hs_rest_ollama_show, INFERENCE, OLLAMA, JSON, "Ollama", "OllamaModel", NULL,
     "Describe a model"},
    {GET, "/api/version", hs_rest_ollama_version, INFERENCE, OLLAMA, JSON, "Ollama", NULL, NULL,
     "The version of the API"},
    {POST, "/api/pull", hs_rest_ollama_unavailable, INFERENCE, OLLAMA, JSON, "Ollama",
     "OllamaModel", NULL, "Refused: models are not changed over HTTP"},
    {POST, "/api/push", hs_rest_ollama_unavailable, INFERENCE, OLLAMA, JSON, "Ollama",
     "OllamaModel", NULL, "Refused: models are not changed over HTTP"},
    {POST, "/api/create", hs_rest_ollama_unavailable, INFERENCE, OLLAMA, JSON, "Ollama",
     "OllamaModel", NULL, "Refused: models are not changed over HTTP"},
    {POST, "/api/copy", hs_rest_ollama_unavailable, INFERENCE, OLLAMA, JSON, "Ollama",
     "OllamaModel", NULL, "Refused: models are not changed over HTTP"},
    {DELETE, "/api/delete", hs_rest_ollama_unavailable, INFERENCE, OLLAMA, JSON, "Ollama", NULL,
     NULL, "Refused: models are not changed over HTTP"},
    {GET, "/api/v1/sessions", hs_rest_session_list, INFERENCE, OPENAI, JSON, "Sessions", NULL,
     "SessionList", "List the sessions"},
    {POST, "/api/v1/sessions", hs_rest_session_create, INFERENCE, OPENAI, JSON | CREATES,
     "Sessions", "SessionRequest", "Session", "Make a session"},
    {GET, "/api/v1/sessions/{id}", hs_rest_session_get, INFERENCE, OPENAI, JSON, "Sessions", NULL,
     "Session", "A session with its messages"},
    {PATCH, "/api/v1/sessions/{id}", hs_rest_session_patch, INFERENCE, OPENAI, JSON, "Sessions",
     "SessionChange", "Session", "Change a session's model, system message or overflow"},
    {DELETE, "/api/v1/sessions/{id}", hs_rest_session_delete, INFERENCE, OPENAI, JSON, "Sessions",
     NULL, NULL, "Remove a session"},
    {POST, "/api/v1/sessions/{id}/messages", hs_rest_session_append, INFERENCE, OPENAI, JSON,
     "Sessions", "TemplateRequest", "Session", "Append messages, such as the answers of tools"},
    {POST, "/api/v1/sessions/{id}/truncate", hs_rest_session_truncate, INFERENCE, OPENAI, JSON,
     "Sessions", "TruncateRequest", "Session", "Keep the first messages only"},
    {POST, "/api/v1/sessions/{id}/generate", hs_rest_session_generate, INFERENCE, OPENAI,
     JSON | SSE, "Sessions", "GenerateRequest", "Turn", "Ask, and let the answer join"},
    {GET, "/api/v1/models", hs_rest_pool_list, INFERENCE, OPENAI, JSON, "Models", NULL, "ModelPool",
     "List the models that can be loaded, and those that are"},
    {POST, "/api/v1/models/load", hs_rest_pool_load, ADMIN, OPENAI, JSON, "Models",
     "ModelLoadRequest", "PooledModel", "Load a model, and answer when it is loaded"},
    {POST, "/api/v1/models/unload", hs_rest_pool_unload, ADMIN, OPENAI, JSON, "Models",
     "ModelUnloadRequest", "PooledModel", "Unload a model that nobody uses"},
    {GET, "/api/v1/adapters", hs_rest_adapter_list, INFERENCE, OPENAI, JSON, "Adapters", NULL,
     "AdapterList", "List the adapters"},
    {POST, "/api/v1/adapters", hs_rest_adapter_create, ADMIN, OPENAI, JSON | CREATES, "Adapters",
     "AdapterRequest", "Adapter", "Add an adapter, or a version of one, from a path"},
    {POST, "/api/v1/merge-adapters", hs_rest_adapter_merge, ADMIN, OPENAI, JSON | CREATES,
     "Adapters", "AdapterMergeRequest", "AdapterMerge", "Make one adapter of several"},
    {GET, "/api/v1/adapters/{name}", hs_rest_adapter_get, INFERENCE, OPENAI, JSON, "Adapters", NULL,
     "Adapter", "An adapter"},
    {PUT, "/api/v1/adapters/{name}", hs_rest_adapter_put, ADMIN, OPENAI, JSON | CREATES, "Adapters",
     NULL, "Adapter", "Add an adapter, or a version of one, from the body"},
    {PATCH, "/api/v1/adapters/{name}", hs_rest_adapter_patch, ADMIN, OPENAI, JSON, "Adapters",
     "AdapterChange", "Adapter", "Change an adapter's name, description, tags or examples"},
    {DELETE, "/api/v1/adapters/{name}", hs_rest_adapter_delete, ADMIN, OPENAI, JSON, "Adapters",
     NULL, NULL, "Remove an adapter with all its versions"},
    {GET, "/api/v1/adapters/{name}/history", hs_rest_adapter_history, INFERENCE, OPENAI, JSON,
     "Adapters", NULL, "AdapterList", "An adapter's versions, the newest first"},
    {POST, "/v1/load_lora_adapter", hs_rest_lora_load, ADMIN, OPENAI, TEXT, "Adapters",
     "LoadAdapterRequest", NULL, "Load an adapter from a path, as vLLM does"},
    {POST, "/v1/unload_lora_adapter", hs_rest_lora_unload, ADMIN, OPENAI, TEXT, "Adapters",
     "UnloadAdapterRequest", NULL, "Take an adapter out of this server, as vLLM does"},
    {GET, "/lora-adapters", hs_rest_lora_scales_get, INFERENCE, OPENAI, JSON, "Adapters", NULL,
     "AdapterNumbers", "Adapters with their numbers and scales, as llama-server has them"},
    {POST, "/lora-adapters", hs_rest_lora_scales_set, ADMIN, OPENAI, JSON, "Adapters",
     "AdapterScales", NULL, "Set the scales for requests that name no adapters"},
    {POST, HS_REST_SQL_PATH, hs_rest_sql, INFERENCE, OPENAI, JSON | NDJSON | CSV | ARROW, "SQL",
     "SqlRequest", "SqlRows", "Run SQL over tables, files and models"},
    {POST, HS_REST_SQL_PATH "/sessions", hs_rest_sql_session_create, INFERENCE, OPENAI, JSON, "SQL",
     "SqlSessionRequest", "SqlSession", "Begin a session, in which statements share a connection"},
    {GET, HS_REST_SQL_PATH "/sessions/{id}", hs_rest_sql_session_get, INFERENCE, OPENAI, JSON,
     "SQL", NULL, "SqlSession", "A session, and how long it was not used"},
    {DELETE, HS_REST_SQL_PATH "/sessions/{id}", hs_rest_sql_session_delete, INFERENCE, OPENAI, JSON,
     "SQL", NULL, NULL, "End a session, and the statement that runs in it"},
    {GET, "/health", hs_rest_health, 0, OPENAI, JSON, "Server", NULL, "Health",
     "Whether the server is up"},
    {GET, "/props", hs_rest_props, INFERENCE, OPENAI, JSON, "Server", NULL, NULL,
     "The model and the defaults of requests"},
    {GET, "/slots", hs_rest_slots, INFERENCE, OPENAI, JSON, "Server", NULL, "Slots",
     "The sequences, and which request each of them has"},
    {GET, "/metrics", hs_rest_metrics, INFERENCE, OPENAI, TEXT, "Server", NULL, NULL,
     "Figures in Prometheus' text format"},
    {GET, "/api/v1/status", hs_rest_status, INFERENCE, OPENAI, JSON, "Server", NULL, "Status",
     "Models, busy sequences, queue and memory"},
    {POST, "/tokenize", hs_rest_tokenize, INFERENCE, OPENAI, JSON, "Text", "TokenizeRequest", NULL,
     "The tokens of a text"},
    {POST, "/detokenize", hs_rest_detokenize, INFERENCE, OPENAI, JSON, "Text", "DetokenizeRequest",
     NULL, "The text of tokens"},
    {POST, "/apply-template", hs_rest_apply_template, INFERENCE, OPENAI, JSON, "Text",
     "TemplateRequest", NULL, "A conversation as the model's prompt"},
    /* the page stays last: hs_rest_routes leaves it out by counting */
    {GET, "/", hs_page_get, 0, OPENAI, HTML, "Page", NULL, NULL, "The page for browsers"},
    {GET, "/page/{file}", hs_page_get, 0, OPENAI, HTML | TEXT, "Page", NULL, NULL,
     "A file of the page"},
};
#define N_PAGE_ROUTES 2

const struct hs_http_route *hs_rest_routes(bool with_page, size_t *ret_n)
{
    *ret_n = sizeof routes / sizeof routes[0] - (with_page ? 0 : N_PAGE_ROUTES);
    return routes;
}
