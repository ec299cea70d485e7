/*
 * model_ref.h - which file a model's name means, and which model to use when nobody named one.
 *
 * A reference is a path when it contains '/', else a name of the registry, else a file in the
 * models folder (with or without ".gguf"), else a file in the current folder. Without a reference:
 * the session's own model (by its name, or by its weights where a server's alias named it), the
 * only one registered, the one used last, the demo model when it lies in the models folder (it is
 * then registered).
 *
 * Owner:   struct hs_model_choice owns its strings; hs_model_choice_free releases them.
 * Threads: none.
 */
#ifndef API_MODEL_REF_H
#define API_MODEL_REF_H

#include "api/command.h"
#include "storage/registry.h"
#include "storage/session_store.h"

struct hs_model_choice {
    char *path;
    char *name;     /* in the registry; NULL: not registered */
    char note[256]; /* for the user, when one of several, or one of another name, was chosen */
};

/*
 * In:     *registry, opened when it is needed and NULL (the caller closes it).
 * Errors: HS_NOT_FOUND with what to do next; those of the registry.
 */
HS_CHECKED hs_status hs_model_resolve(const struct hs_paths *paths, const char *ref,
                                      hs_registry **registry, struct hs_model_choice *ret_choice,
                                      struct hs_error *err);
/* One model of the `model` setting (of several flags the last, of several in a file or variable,
 * which a server loads all, the first), else of the session (NULL, or without a model: none or
 * new), else the default. */
HS_CHECKED hs_status hs_model_choose(const struct hs_command_args *args,
                                     const struct hs_session_record *session,
                                     hs_registry **registry, struct hs_model_choice *ret_choice,
                                     struct hs_error *err);
/* Give a choice that is only a path its place in the registry: the row it has, or a new one. */
HS_CHECKED hs_status hs_model_register(const struct hs_paths *paths, hs_registry **registry,
                                       struct hs_model_choice *choice, struct hs_error *err);
/* The id to load it under: the registry's name, else the file's name as far as an id can hold it.
 */
void hs_model_choice_id(const struct hs_model_choice *choice, char ret_id[HS_ID_MAX]);
void hs_model_choice_free(struct hs_model_choice *choice);

HS_CHECKED hs_status hs_registry_need(const struct hs_paths *paths, hs_registry **registry,
                                      struct hs_error *err);

#endif
