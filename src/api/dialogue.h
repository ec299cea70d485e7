/*
 * dialogue.h - the messages of a chat: in a named session that the engine keeps on disk, or in
 * memory here, when it has no name.
 *
 * With a server (remote.h) it answers, and keeps sessions; the messages are here as well.
 *
 * A conversation without a name is held by the caller (hs_engine_chat), so that it can be carried
 * to another model or put into a named session.
 *
 * Owner:   hs_dialogue_free releases what hs_dialogue_close left; engine, model and server
 *          outlive it.
 * Threads: none.
 */
#ifndef API_DIALOGUE_H
#define API_DIALOGUE_H

#include "remote.h"

struct hs_dialogue {
    hs_engine *engine;
    hs_remote *remote; /* asked instead of the engine; NULL: the engine */
    char model_id[HS_ID_MAX];
    char session_id[HS_ID_MAX]; /* "": no named session */
    char *name;                 /* of the session; NULL: none */
    struct hs_message *messages;
    size_t n_messages, capacity;
    struct hs_adapter_ref *adapters; /* [n_adapters], of the engine without a session */
    size_t n_adapters;
    bool is_routed;        /* likewise: each answer chooses its adapters */
    struct hs_message cut; /* without a name: the answer cut off last, until another one is there */
    bool has_question;     /* without a name: the request that runs brought the last message */
};

/* With a server: a session that it keeps, of which the messages here are a copy, or without a name.
 */
HS_CHECKED hs_status hs_dialogue_open_remote(hs_remote *remote, const char *name,
                                             const char *system, struct hs_dialogue *ret,
                                             struct hs_error *err);
/* name NULL: without a name. system NULL: none, or what the session has. */
HS_CHECKED hs_status hs_dialogue_open(hs_engine *engine, const char *model_id, const char *name,
                                      const char *system, enum hs_overflow overflow,
                                      struct hs_dialogue *ret, struct hs_error *err);
/* A named session is saved by that; when it cannot be, everything stays as it is. The struct is
 * empty afterwards. */
HS_CHECKED hs_status hs_dialogue_close(struct hs_dialogue *conversation, struct hs_error *err);
/* Release the memory alone; the engine keeps a session that is still open. */
void hs_dialogue_free(struct hs_dialogue *conversation);
/* The same messages without a name. Out: ret, to be closed. */
HS_CHECKED hs_status hs_dialogue_copy(const struct hs_dialogue *conversation,
                                      struct hs_dialogue *ret, struct hs_error *err);

HS_CHECKED hs_status hs_dialogue_count(const struct hs_dialogue *conversation, size_t *ret_n,
                                       struct hs_error *err);
/* A copy, to be freed with hs_message_free. */
HS_CHECKED hs_status hs_dialogue_message(const struct hs_dialogue *conversation, size_t i,
                                         struct hs_message *ret_message, struct hs_error *err);
/* Keep the first n_keep messages. */
HS_CHECKED hs_status hs_dialogue_truncate(struct hs_dialogue *conversation, size_t n_keep,
                                          struct hs_error *err);
/* NULL removes the system message. */
HS_CHECKED hs_status hs_dialogue_set_system(struct hs_dialogue *conversation, const char *system,
                                            struct hs_error *err);

/* Copies of these are used from the next answer on; a session keeps them. Not with a server. */
HS_CHECKED hs_status hs_dialogue_set_adapters(struct hs_dialogue *conversation,
                                              const struct hs_adapter_ref *refs, size_t n,
                                              struct hs_error *err);
/* A copy of those in use, to be freed by hs_dialogue_adapters_free. */
HS_CHECKED hs_status hs_dialogue_adapters(const struct hs_dialogue *conversation,
                                          struct hs_adapter_ref **ret_refs, size_t *ret_n,
                                          struct hs_error *err);
/* Have each answer choose its adapters, or no longer; a session keeps it. The dialogue does not
 * choose: see chat_adapters.h. Not with a server. */
HS_CHECKED hs_status hs_dialogue_set_routed(struct hs_dialogue *conversation, bool is_routed,
                                            struct hs_error *err);
HS_CHECKED hs_status hs_dialogue_is_routed(const struct hs_dialogue *conversation,
                                           bool *ret_is_routed, struct hs_error *err);
void hs_dialogue_adapters_free(struct hs_adapter_ref *refs, size_t n);

/* Ask; prompt NULL: answer the messages as they stand. */
HS_CHECKED hs_status hs_dialogue_generate(struct hs_dialogue *conversation, const char *prompt,
                                          const struct hs_generate_params *params,
                                          struct hs_token_source *ret_source, struct hs_error *err);
/*
 * To be called with what the stream gave, once it is done. As the engine does it for sessions: an
 * answer joins the messages. After an error, and when nothing came before it was cancelled, the
 * user's message leaves them. An answer that was cut off to be given anew (prompt NULL) is back
 * after an error, a refusal or a cancellation.
 */
HS_CHECKED hs_status hs_dialogue_answered(struct hs_dialogue *conversation, enum hs_finish finish,
                                          const char *answer, const char *reasoning,
                                          struct hs_error *err);

#endif
