/*
 * fn_session.h - rows that are turns of a session: one after the other, in order.
 *
 * Owner:   hs_fn_session_end gives the session back.
 * Threads: those of fn_call.h; a second thread of the statement waits until the first one's rows
 *          are through.
 */
#ifndef API_SQL_FN_SESSION_H
#define API_SQL_FN_SESSION_H

#include "fn_call.h"

struct hs_fn_session {
    const struct hs_fn_call *call;
    const struct hs_fn_target *target; /* of the open session; NULL: none is open */
    char id[HS_ID_MAX];
    bool is_locked;
};

/*
 * The next turn: `prompt` to the session of the target, opened when it is another than the last
 * one.
 * Out:    ret_entry, to be freed with hs_fn_entry_free; a turn that failed has its error there.
 * Errors: HS_CANCELLED, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_fn_session_ask(struct hs_fn_session *session,
                                       const struct hs_fn_target *target, const char *prompt,
                                       struct hs_fn_entry **ret_entry, struct hs_error *err);
/* HS_IO and the like: the turns could not be saved. */
HS_CHECKED hs_status hs_fn_session_end(struct hs_fn_session *session, struct hs_error *err);

#endif
