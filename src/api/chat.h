/*
 * chat.h - what one-shot and interactive chat share: a model, loaded here or by a running server, a
 * conversation, one question at a time.
 *
 * Owner:   hs_chat_close releases everything, of a half-opened chat too.
 * Threads: none.
 */
#ifndef API_CHAT_H
#define API_CHAT_H

#include "answer.h"
#include "dialogue.h"
#include "model_ref.h"
#include "routing.h"
#include "storage/session_store.h"

struct hs_chat {
    const struct hs_command_args *args;
    hs_registry *registry; /* NULL until it is needed */
    hs_engine *engine;     /* NULL with a server */
    hs_remote *remote;     /* the server of the setting; NULL: the engine here */
    struct hs_model_choice model;
    char model_id[HS_ID_MAX]; /* "": none is loaded */
    struct hs_dialogue conversation;
    struct hs_routing routing;       /* of the model, once it was needed; table NULL: not yet */
    struct hs_session_record record; /* of the named session as it was opened */
    struct hs_usage usage;           /* of the last answer */
    bool has_usage;
};

/* Choose and load the model, or reach the server, open the conversation that the settings name. */
HS_CHECKED hs_status hs_chat_open(const struct hs_command_args *args, struct hs_chat *ret_chat,
                                  struct hs_error *err);
/* Save and release; the first failure is returned. */
HS_CHECKED hs_status hs_chat_close(struct hs_chat *chat, struct hs_error *err);

/*
 * Ask and read the answer; prompt NULL: answer the messages as they stand.
 * Out:    ret_answer, to be freed with hs_answer_free whatever is returned.
 * Errors: those of hs_engine_generate and hs_answer_read, and the answer's own. An answer that was
 *         cancelled is HS_OK with HS_FINISH_CANCELLED.
 */
HS_CHECKED hs_status hs_chat_ask(struct hs_chat *chat, const char *prompt, enum hs_answer_mode mode,
                                 struct hs_answer *ret_answer, struct hs_error *err);

/*
 * Load another model and go on with the same messages; after a failure the old one is loaded again.
 * When that fails as well, model_id is empty. A session that cannot be opened again is left, and
 * the conversation goes on without a name; the error tells.
 */
HS_CHECKED hs_status hs_chat_switch_model(struct hs_chat *chat, const char *ref,
                                          struct hs_error *err);
/* Close the named session and open it again, so that it takes the settings of today; when it cannot
 * be opened again, as above. */
HS_CHECKED hs_status hs_chat_reopen(struct hs_chat *chat, struct hs_error *err);
/* Leave this conversation (a named one is saved) and open or begin the session `name`. */
HS_CHECKED hs_status hs_chat_switch_session(struct hs_chat *chat, const char *name,
                                            struct hs_error *err);
/* Keep the conversation without a name as the new session `name` and go on in it. */
HS_CHECKED hs_status hs_chat_save_as(struct hs_chat *chat, const char *name, struct hs_error *err);

/* The name to show for the model: the registry's, else the engine's id. */
const char *hs_chat_model_name(const struct hs_chat *chat);

/* chat_loop.c: read messages and commands until the end of input. */
HS_CHECKED hs_status hs_chat_loop(struct hs_chat *chat, struct hs_error *err);

#endif
