/*
 * session_manager.h - conversations: their messages, their files, and the turn in progress.
 *
 * A session is busy from hs_session_begin to the end of its turn; until then its messages do not
 * change and every other change is HS_BUSY. Turns of sessions with a file are ended by the saver
 * thread: text on disk, then HS_EVENT_DONE, then the KV.
 *
 * Owner:   the manager owns sessions; a session borrows its model, which must stay loaded while it
 * is open.
 * Threads: any; the manager's mutex guards the list and every session.
 */
#ifndef INFERENCE_SESSION_MANAGER_H
#define INFERENCE_SESSION_MANAGER_H

#include "request.h"

typedef struct hs_session_manager hs_session_manager;
typedef struct hs_session hs_session;

/* sessions_dir NULL: sessions live in memory only. */
HS_CHECKED hs_status hs_session_manager_new(const char *sessions_dir,
                                            hs_session_manager **ret_manager, struct hs_error *err);
/* Waits for turns in progress, closes every session, joins the saver. Workers must be closed, not
 * freed. */
void hs_session_manager_free(hs_session_manager *manager);

HS_CHECKED hs_status hs_session_open(hs_session_manager *manager, struct hs_model *model,
                                     const struct hs_session_params *params, char ret_id[HS_ID_MAX],
                                     struct hs_error *err);
/* Out: ret_model, the model it borrowed. HS_BUSY while it generates; when the text cannot be saved,
 * the session stays open. */
HS_CHECKED hs_status hs_session_close(hs_session_manager *manager, const char *id,
                                      struct hs_model **ret_model, struct hs_error *err);
HS_CHECKED hs_status hs_session_count(hs_session_manager *manager, const char *id, size_t *ret_n,
                                      struct hs_error *err);
HS_CHECKED hs_status hs_session_get(hs_session_manager *manager, const char *id, size_t i,
                                    struct hs_message *ret_message, struct hs_error *err);
/* As hs_session_truncate says. */
HS_CHECKED hs_status hs_session_keep(hs_session_manager *manager, const char *id, size_t n_keep,
                                     struct hs_error *err);
/* As hs_session_append says; the message was checked. */
HS_CHECKED hs_status hs_session_add(hs_session_manager *manager, const char *id,
                                    const struct hs_message *message, struct hs_error *err);
HS_CHECKED hs_status hs_session_system(hs_session_manager *manager, const char *id,
                                       const char *system, struct hs_error *err);
/* As hs_engine_apply_lora_weights says; the pool knows the adapters. */
HS_CHECKED hs_status hs_session_set_adapters(hs_session_manager *manager, hs_adapter_pool *pool,
                                             const char *id, const struct hs_adapter_ref *refs,
                                             int32_t n, struct hs_error *err);
/* As hs_engine_route_session and hs_session_is_routed say. */
HS_CHECKED hs_status hs_session_set_routed(hs_session_manager *manager, const char *id,
                                           bool is_routed, struct hs_error *err);
HS_CHECKED hs_status hs_session_get_routed(hs_session_manager *manager, const char *id,
                                           bool *ret_is_routed, struct hs_error *err);
/* As hs_session_adapters says. */
HS_CHECKED hs_status hs_session_get_adapters(hs_session_manager *manager, const char *id,
                                             struct hs_adapter_ref **ret_refs, size_t *ret_n,
                                             struct hs_error *err);

/*
 * Begin a turn: the prompt, unless NULL, joins as a user message.
 * Out:    ret_session, busy, its model in *ret_model.
 * Errors: HS_NOT_FOUND, HS_BUSY, HS_INVALID_ARGUMENT (nothing to answer), HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_session_begin(hs_session_manager *manager, const char *id,
                                      const char *prompt, hs_session **ret_session,
                                      struct hs_model **ret_model, struct hs_error *err);
/* What the prompt is built from; valid while the turn lasts. */
const struct hs_conversation *hs_session_conversation(const hs_session *session);
enum hs_overflow hs_session_overflow(const hs_session *session);
const struct hs_adapter_ref *hs_session_refs(const hs_session *session, int32_t *ret_n);
/*
 * Hand the turn to a request: its end will end the turn. n_skipped: as the prompt was built;
 * params: kept in the file when the answer joins.
 * Errors: those of hs_session_params_copy.
 */
HS_CHECKED hs_status hs_session_attach(hs_session *session, struct hs_request *request,
                                       size_t n_skipped, const struct hs_generate_params *params,
                                       struct hs_error *err);
/* The request was not accepted: everything is as before hs_session_begin, and messages cut off to
 * answer a question anew are back. request may be NULL. */
void hs_session_revert(hs_session *session, struct hs_request *request);

#endif
