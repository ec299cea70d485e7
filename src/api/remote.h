/*
 * remote.h - a running server as the other side of a chat: its models, and answers through
 * /v1/chat/completions. It need not be one of hyprstream.
 *
 * Sampling settings are sent when somebody gave them; what nobody gave is the server's to choose.
 *
 * Owner:   hs_remote_close releases it, after its answers.
 * Threads: none.
 * Errors:  those of http_client.h.
 */
#ifndef API_REMOTE_H
#define API_REMOTE_H

#include "http_client.h"
#include "token_source.h"

typedef struct hs_remote hs_remote;

/*
 * Ask the server for its models and choose the one of the `model` setting, or its first.
 * Errors: HS_NOT_FOUND (no such model; the hint names those there are), HS_INVALID_ARGUMENT (a
 *         setting that is the server's was given as a flag).
 */
HS_CHECKED hs_status hs_remote_open(const struct hs_command_args *args, hs_remote **ret_remote,
                                    struct hs_error *err);
void hs_remote_close(hs_remote *remote);

const char *hs_remote_url(const hs_remote *remote);
const char *hs_remote_model(const hs_remote *remote);
/* Id of model i; NULL: there is none. */
const char *hs_remote_model_at(const hs_remote *remote, size_t i);
/* Go on with another of its models; asks again which there are. HS_NOT_FOUND. */
HS_CHECKED hs_status hs_remote_set_model(hs_remote *remote, const char *id, struct hs_error *err);

/* Ask; what the server refuses comes as HS_EVENT_DONE with HS_FINISH_ERROR. A seed that is not
 * known is HS_SEED_RANDOM in the usage. */
HS_CHECKED hs_status hs_remote_chat(hs_remote *remote, const struct hs_message *messages,
                                    size_t n_messages, struct hs_token_source *ret_source,
                                    struct hs_error *err);

/* ---- sessions that the server keeps (/api/v1/sessions); HS_NOT_SUPPORTED: it keeps none ---- */

/*
 * The messages of a session, which is made when it is not there; its model is the remote's then,
 * unless one was chosen. system NULL: none, or what the session has.
 * Out:    ret_messages: an array of messages as they go over the wire, to be released.
 * Errors: HS_INVALID_ARGUMENT (the name), HS_BUSY (somebody else has it open).
 */
HS_CHECKED hs_status hs_remote_session_open(hs_remote *remote, const char *name, const char *system,
                                            json_t **ret_messages, struct hs_error *err);
/* The messages once an answer that was left, or failed, has ended there: what the server kept. */
HS_CHECKED hs_status hs_remote_session_settle(hs_remote *remote, const char *name,
                                              json_t **ret_messages, struct hs_error *err);
/* Make it with these messages. HS_ALREADY_EXISTS. */
HS_CHECKED hs_status hs_remote_session_create(hs_remote *remote, const char *name,
                                              const struct hs_message *messages, size_t n_messages,
                                              struct hs_error *err);
HS_CHECKED hs_status hs_remote_session_truncate(hs_remote *remote, const char *name, size_t n_keep,
                                                struct hs_error *err);
/* NULL removes it. */
HS_CHECKED hs_status hs_remote_session_set_system(hs_remote *remote, const char *name,
                                                  const char *system, struct hs_error *err);
/* Ask in it, and its own model unless one was chosen; prompt NULL: answer the messages as they
 * stand, is_anew: in place of the last answer. */
HS_CHECKED hs_status hs_remote_session_generate(hs_remote *remote, const char *name,
                                                const char *prompt, bool is_anew,
                                                struct hs_token_source *ret_source,
                                                struct hs_error *err);
/* Their names, an array of strings to be released; NULL: it does not say. */
json_t *hs_remote_session_names(hs_remote *remote);

/* ---- adapters ---- */

/* From now on requests name these: an array of {"name", "scale"}, taken over. HS_NOT_FOUND: it does
 * not know one; those before stay then. */
HS_CHECKED hs_status hs_remote_set_adapters(hs_remote *remote, json_t *list, struct hs_error *err);
/* What was set last; NULL: nothing. */
const json_t *hs_remote_adapters(const hs_remote *remote);
/* Names of its adapters, an array of strings to be released; NULL: no memory. */
json_t *hs_remote_adapter_names(hs_remote *remote);

/* What it says of the model in /api/v1/status; NULL: it does not. To be released. */
json_t *hs_remote_status(hs_remote *remote);

#endif
