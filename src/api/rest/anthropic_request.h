/*
 * anthropic_request.h - a request of Anthropic's Messages API, as the engine takes it.
 *
 * What a local model has no use for is ignored: cache_control, metadata, service_tier, signatures.
 * The sampling of llama.cpp that other endpoints take works here, too.
 *
 * Owner:   hs_anthropic_request_free, after a failure too.
 * Threads: those of the request's handler.
 * Source:  Anthropic's API reference, "Create a Message" and "Count tokens in a Message".
 */
#ifndef API_ANTHROPIC_REQUEST_H
#define API_ANTHROPIC_REQUEST_H

#include "conversation.h"
#include "settings.h"

#define HS_ANTHROPIC_VERSIONS                                                                      \
    "2023-06-01 2026-10-21"          /* alike here; the later takes sampling, too */
#define HS_ANTHROPIC_BUDGET_MIN 1024 /* the least thinking.budget_tokens */

struct hs_anthropic_request {
    struct hs_rest_settings settings;
    struct hs_rest_conversation conversation;
    bool omits_thinking; /* the client does not want to read it */
};

/* All fields; is_counted: those of count_tokens only. false: the request was answered. */
bool hs_anthropic_request_read(const struct hs_rest *rest, const struct hs_model_info *model,
                               const struct hs_fields *fields, bool is_counted,
                               struct hs_anthropic_request *ret);
void hs_anthropic_request_free(struct hs_anthropic_request *request);

/* "system" and "messages". */
bool hs_anthropic_messages_read(const struct hs_fields *fields,
                                struct hs_rest_conversation *conversation);

#endif
