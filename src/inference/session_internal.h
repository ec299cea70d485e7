/*
 * session_internal.h - what session_manager.c (list, messages) and session_turn.c (turns, files,
 * saver) share.
 */
#ifndef INFERENCE_SESSION_INTERNAL_H
#define INFERENCE_SESSION_INTERNAL_H

#include <pthread.h>

#include "session_manager.h"
#include "storage/session_store.h"

struct hs_session {
    hs_session *next;
    hs_session_manager *manager;
    struct hs_model *model;
    char id[HS_ID_MAX];
    hs_session_file *file; /* NULL: in memory only */
    int64_t created_unix_ms;
    bool save_kv;
    enum hs_overflow overflow;
    struct hs_adapter_ref *adapters; /* [n_adapters], guarded by the manager's mutex; also read by
                                        whoever made it busy */
    size_t n_adapters;
    bool is_routed; /* guarded alike */
    /* Guarded by the manager's mutex; the messages are also read by whoever made it busy. */
    struct hs_conversation conversation;
    /* What hs_session_keep cut off behind it, until a turn joins or the text is saved: a turn that
     * answers the last question anew and fails puts it back. Room for it stays in conversation. */
    struct hs_conversation dropped;
    bool is_busy;
    bool has_added;          /* this turn appended the user message */
    size_t n_skipped_before; /* conversation.n_skipped before this turn */
    int32_t n_jobs;          /* turns the saver still works on */
    /* The busy one's. */
    bool is_unsaved;                        /* the text on disk is older */
    struct hs_generate_params *params;      /* of the last turn that joined; NULL: none */
    struct hs_generate_params *turn_params; /* of the turn in progress */
    int32_t *kv_tokens; /* [n_kv_tokens] of the last turn: some of its KV is in the worker */
    size_t n_kv_tokens;
    char kv_key[HS_CACHE_KEY_MAX]; /* what it is kept under */
    bool is_kv_saved;              /* kv.bin holds it */
    struct hs_kv_state brought;
};

struct hs_session_manager {
    char *sessions_dir; /* NULL: in memory */
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a session is not busy any more, a job is done */
    pthread_cond_t work;    /* the saver waits here */
    pthread_t saver;
    bool has_saver;
    /* Guarded by the mutex. */
    bool is_stopping;
    hs_session *sessions;
    uint64_t next_anonymous;
    struct hs_request *jobs_first, *jobs_last; /* finished turns to be saved */
};

/* Called with the mutex held; NULL: not open. */
hs_session *hs_session_find(hs_session_manager *manager, const char *id);
/* Replace session.json, with the session's messages or others in their place; the session is busy.
 */
HS_CHECKED hs_status hs_session_save_text(hs_session *session,
                                          const struct hs_conversation *conversation,
                                          struct hs_error *err);
/* The same when the text on disk is older. */
HS_CHECKED hs_status hs_session_save_pending(hs_session *session, struct hs_error *err);
/* Messages and, when it fits the model, KV of a saved session. */
HS_CHECKED hs_status hs_session_load(hs_session *session, struct hs_error *err);
/* Take the KV from the worker and write it, when asked for and not yet done; the session is busy.
 */
void hs_session_save_kv(hs_session *session);
/* The saver's thread. */
void *hs_session_saver(void *manager);

#endif
