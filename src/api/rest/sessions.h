/*
 * sessions.h - what the endpoints of /api/v1/sessions share: whose a session is, and its messages
 * as JSON.
 *
 * Sessions are those of `hyprstream chat --session`: folders with their text, locked while somebody
 * changes them or generates in them. A key without the scope admin has sessions of its own, which
 * lie beside the others as "<id of the key>.<name>"; it sees no others.
 *
 * Threads: those of the request's handler.
 */
#ifndef API_SESSIONS_H
#define API_SESSIONS_H

#include "rest.h"
#include "storage/session_store.h"

struct hs_session_ref {
    const char *name;                      /* as the client says it */
    char stored[HS_SESSION_NAME_MAX + 80]; /* as the folder is called; checked when it is opened */
};

/* What stands before this client's names in the folder; "": nothing. */
const char *hs_rest_session_prefix(const hs_http_request *request, char ret_prefix[16]);
/* The session in the path. false: the request was answered (404 without a sessions folder). */
bool hs_rest_session_ref(const struct hs_rest *rest, hs_http_request *request,
                         struct hs_session_ref *ret);
/* Its text. false: the request was answered. */
bool hs_rest_session_read(const struct hs_rest *rest, hs_http_request *request,
                          const struct hs_session_ref *ref, struct hs_session_record *ret,
                          uint64_t *ret_size_bytes);
/* A message in OpenAI's form; NULL: no memory. */
json_t *hs_rest_session_message(const struct hs_message *message);

#endif
