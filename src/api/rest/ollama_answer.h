/*
 * ollama_answer.h - answers as Ollama's chat and generate write them: lines of JSON, or one object.
 *
 * Calls of tools come whole, behind the texts; one that the end of the answer cut off is left out.
 *
 * Owner:   as generation.h says.
 * Threads: those of a request.
 * Source:  Ollama's API documentation (docs/api.md).
 */
#ifndef API_OLLAMA_ANSWER_H
#define API_OLLAMA_ANSWER_H

#include "generation.h"
#include "ollama_request.h"

/* What an answer of generate ends with: the tokens of the conversation so far. */
struct hs_ollama_context {
    int32_t *tokens; /* hs_free; the prompt's, then the answer's */
    size_t n;
};

/* context NULL: a chat; else taken over, also after a failure. tokens NULL in it: the answer has
 * none. HS_OUT_OF_MEMORY, HS_IO. */
HS_CHECKED hs_status hs_ollama_answer_new(const struct hs_rest *rest,
                                          const struct hs_model_info *model,
                                          hs_http_request *request,
                                          const struct hs_ollama_request *asked,
                                          struct hs_ollama_context *context,
                                          struct hs_generation **ret, struct hs_error *err);
/* The answer to a request that asks nothing, which loads or unloads a model elsewhere. */
void hs_ollama_respond_loaded(hs_http_request *request, const struct hs_ollama_request *asked,
                              bool is_chat);

/* RFC 3339 with nanoseconds; unix_ns < 0: now. */
#define HS_OLLAMA_TIME_BYTES 40
void hs_ollama_time(int64_t unix_ns, char ret_text[HS_OLLAMA_TIME_BYTES]);

#endif
