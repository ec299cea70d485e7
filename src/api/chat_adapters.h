/*
 * chat_adapters.h - the adapters of a chat: from names to the engine or the server.
 *
 * Owner:   the chat's; a copy of what is set lies in the conversation, or with the server.
 * Threads: none.
 */
#ifndef API_CHAT_ADAPTERS_H
#define API_CHAT_ADAPTERS_H

#include "chat.h"

/*
 * Make a registered adapter ready in the engine, for a model that is loaded there. It may be ready
 * already.
 * In:     *registry, opened when it is needed and NULL (the caller closes it).
 * Errors: HS_NOT_FOUND (not in the registry), HS_MISMATCH and the like.
 */
HS_CHECKED hs_status hs_adapter_bring(hs_engine *engine, const char *model_id,
                                      const struct hs_paths *paths, hs_registry **registry,
                                      const char *name, struct hs_error *err);

/*
 * Answer with these adapters from now on, each "NAME" or "NAME:SCALE"; none: the model alone;
 * "auto" by itself: with those that are chosen for each question. A named session keeps it. After a
 * failure those before stay.
 * Errors: HS_INVALID_ARGUMENT (a text that names none, one twice), HS_NOT_FOUND (not in the
 * registry), HS_MISMATCH and the like when it is loaded.
 */
HS_CHECKED hs_status hs_chat_adapters_set(struct hs_chat *chat, const char *const *texts,
                                          size_t n_texts, struct hs_error *err);
/*
 * Where each answer chooses its adapters: choose them for this question, and say which and why on
 * standard error. prompt NULL, for an answer anew: those of the last one stay. With a server
 * nothing is done here.
 * Errors: those of hs_routing_open and hs_engine_route.
 */
HS_CHECKED hs_status hs_chat_adapters_route(struct hs_chat *chat, const char *prompt,
                                            struct hs_error *err);
/* Bring those that the saved session uses into the engine, before it is opened. */
HS_CHECKED hs_status hs_chat_adapters_restore(struct hs_chat *chat, struct hs_error *err);
/* Those that there are, on standard error, with the scales of those in use. */
HS_CHECKED hs_status hs_chat_adapters_print(struct hs_chat *chat, struct hs_error *err);
/* Their names as a JSON array of strings, to be released; NULL: not known. */
json_t *hs_chat_adapters_names(struct hs_chat *chat);

#endif
