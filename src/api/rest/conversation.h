/*
 * conversation.h - messages and tools as the engine takes them, put together from any API's form.
 *
 * The arrays own what was made for them; texts that stand in the request as they are, are borrowed
 * from it. Every function that can fail answers the request and returns false or NULL; the handler
 * then just returns.
 *
 * Owner:   hs_rest_conversation_free, after a failure too.
 * Threads: those of the request's handler.
 */
#ifndef API_CONVERSATION_H
#define API_CONVERSATION_H

#include "fields.h"
#include "rest.h"

struct hs_rest_conversation {
    const struct hs_rest *rest;
    hs_http_request *request;
    struct hs_message *messages; /* [n_messages], for hs_engine_chat */
    size_t n_messages;
    struct hs_tool *tools; /* [n_tools], for struct hs_generate_params */
    size_t n_tools;
    char schema_field[96]; /* where the answer's JSON Schema stands; "": there is none */
    char **kept;           /* [n_kept] texts made for them */
    size_t n_kept;
};

void hs_rest_conversation_init(struct hs_rest_conversation *conversation,
                               const struct hs_rest *rest, hs_http_request *request);
void hs_rest_conversation_free(struct hs_rest_conversation *conversation);

/* ---- messages ---- */

/* One more message, with the role and the content "", valid until the next one. */
struct hs_message *hs_rest_conversation_add(struct hs_rest_conversation *conversation,
                                            const char *role);
/* One more call in the last message. */
bool hs_rest_conversation_add_call(struct hs_rest_conversation *conversation,
                                   const struct hs_tool_call *call);
/* The name of the tool that the call `id` in an earlier message called; NULL: there is no such
 * call. */
const char *hs_rest_conversation_call_name(const struct hs_rest_conversation *conversation,
                                           const char *id);
/* 400 when there are more messages than the server takes; `name` is the field that holds them. */
bool hs_rest_conversation_check_length(const struct hs_rest_conversation *conversation,
                                       const struct hs_fields *fields, const char *name, size_t n);

/* ---- tools ---- */

/* One more tool from the fields "name" and "description" and the JSON Schema in the field
 * `schema_name`: an object of type "object", NULL in ret when it is not there. Names are checked.
 */
bool hs_rest_conversation_add_tool(struct hs_rest_conversation *conversation,
                                   const struct hs_fields *tool, const char *schema_name);
/* The tool of that name, NULL: none. */
const struct hs_tool *hs_rest_conversation_tool(const struct hs_rest_conversation *conversation,
                                                const char *name);
/* 400 when there are more tools than the server takes. */
bool hs_rest_conversation_check_tools(const struct hs_rest_conversation *conversation,
                                      const struct hs_fields *fields, const char *name, size_t n);

/* ---- texts ---- */

/* Takes the text (hs_free), NULL: there was no memory for it. */
const char *hs_rest_conversation_keep(struct hs_rest_conversation *conversation, char *text);
/* The value as compact JSON. */
const char *hs_rest_conversation_json(struct hs_rest_conversation *conversation,
                                      const json_t *json);
/*
 * The field's text: a string, or an array of parts of one of the types in `types` ("text refusal"),
 * each with its text under "text", or for a type "refusal" under that name; parts are joined by
 * newlines. NULL in *ret_text: the field is absent.
 */
bool hs_rest_conversation_text(struct hs_rest_conversation *conversation,
                               const struct hs_fields *fields, const char *name, const char *types,
                               const char **ret_text);
/* A tool call's arguments: JSON of an object as text, or the object itself; absent or "": "{}". */
bool hs_rest_conversation_arguments(struct hs_rest_conversation *conversation,
                                    const struct hs_fields *fields, const char *name,
                                    const char **ret_text);

#endif
