/*
 * remote_internal.h - what the files of a remote chat share: remote.c (the server and its models),
 * remote_answer.c (answers), remote_session.c (sessions that the server keeps).
 */
#ifndef API_REMOTE_INTERNAL_H
#define API_REMOTE_INTERNAL_H

#include "json_out.h"
#include "remote.h"

struct hs_remote {
    const struct hs_command_args *args;
    hs_http_client *client;
    json_t *models; /* the array "data" */
    char *model;
    json_t *lora;  /* of the next requests; NULL: they do not say */
    bool is_named; /* somebody chose the model; otherwise a session goes on with its own */
};

/* Go on with the model of a session, when the server has it and nobody chose another. */
void hs_remote_follow(hs_remote *remote, const char *id);
/* Messages as they go over the wire; NULL: no memory. */
json_t *hs_remote_messages(const struct hs_message *messages, size_t n_messages);
/* What somebody set, by the names of the wire; a failure makes *body NULL. */
void hs_remote_add_settings(const hs_remote *remote, json_t **body);
/* POST and read the answer. `body`, NULL after a failure, is taken over. is_session: the events are
 * those of /api/v1/sessions. */
HS_CHECKED hs_status hs_remote_ask(hs_remote *remote, const char *path, json_t *body,
                                   bool is_session, struct hs_token_source *ret_source,
                                   struct hs_error *err);

#endif
