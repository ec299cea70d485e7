/*
 * ollama_request.h - what requests of Ollama's API have in common: the model's name, "options" and
 * the fields around them, messages without ids for tool calls.
 *
 * Sampling stands in "options" under llama.cpp's names; all that other endpoints take works there.
 * What an Ollama server would load a model with (num_ctx, num_gpu and the like) is checked for its
 * type and otherwise ignored. keep_alive counts where models load on demand (served_models.h).
 *
 * Owner:   hs_ollama_request_free, after a failure too.
 * Threads: those of the request's handler.
 * Source:  Ollama's API documentation (docs/api.md) and the types of its Python client.
 */
#ifndef API_OLLAMA_REQUEST_H
#define API_OLLAMA_REQUEST_H

#include "conversation.h"
#include "settings.h"

#define HS_OLLAMA_TAG ":latest" /* what a name without a tag means */

struct hs_ollama_request {
    const char *model_name; /* as the client wrote it; never NULL */
    struct hs_rest_settings settings;
    struct hs_rest_conversation conversation;
    bool is_unload; /* keep_alive is zero */
};

/* The body's fields and the model that "model" (or, as in old clients, "name") means, with or
 * without the tag "latest". NULL: the request was answered. ret_name may be NULL. */
const struct hs_model_info *hs_ollama_open(const struct hs_rest *rest, hs_http_request *request,
                                           struct hs_fields *ret_fields, const char **ret_name);
/* The fields that chat and generate share, and "messages" and "tools" when there are any. false:
 * the request was answered. */
bool hs_ollama_request_read(const struct hs_rest *rest, const struct hs_model_info *model,
                            const struct hs_fields *fields, struct hs_ollama_request *ret);
void hs_ollama_request_free(struct hs_ollama_request *request);
/* "keep_alive": seconds, or a duration like "5m"; less than 0: -1; without it
 * HS_KEEP_ALIVE_DEFAULT. */
bool hs_ollama_keep_alive_read(const struct hs_fields *fields, int64_t *ret_ms);
/* "options" as fields; the types of what is ignored in it are checked. path[size] holds its path.
 */
bool hs_ollama_options_open(const struct hs_fields *fields, char *path, size_t size,
                            struct hs_fields *ret);

#endif
