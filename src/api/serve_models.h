/*
 * serve_models.h - the models of one server: which they are, whether they fit beside each other,
 * and what each of them must leave to the others.
 *
 * Owner:   hs_serve_models_free releases the choices.
 * Threads: none.
 */
#ifndef API_SERVE_MODELS_H
#define API_SERVE_MODELS_H

#include "model_ref.h"
#include "rest/rest.h"

struct hs_serve_models {
    size_t n;
    struct hs_serve_model {
        struct hs_model_choice choice;
        char id[HS_ID_MAX];
        uint64_t bytes; /* of its files; 0 when it is alone */
    } items[HS_REST_MODELS_MAX];
};

/*
 * The models of the settings `model` and `alias`, or the default one.
 * Errors: HS_LIMIT (too many), HS_INVALID_ARGUMENT (an alias without a model, or that is no id),
 *         HS_ALREADY_EXISTS (two of one id), those of hs_model_resolve; with several models also
 *         those of opening their files.
 */
HS_CHECKED hs_status hs_serve_models_choose(const struct hs_command_args *args,
                                            struct hs_serve_models *ret, struct hs_error *err);
void hs_serve_models_free(struct hs_serve_models *models);
/* Once they are loaded: each has its place in the list of models, so that the terminal can go on
 * with the server's sessions, and counts as used now. What keeps the list from it is only told. */
void hs_serve_models_mark_used(const struct hs_paths *paths, struct hs_serve_models *models);

/* Whether the weights of all together fit into so much host memory. HS_MODEL_TOO_LARGE. */
HS_CHECKED hs_status hs_serve_models_check(const struct hs_serve_models *models,
                                           uint64_t available_bytes, struct hs_error *err);
/*
 * Host memory that model i must leave to the others, when they are loaded in order: the weights of
 * the later ones and their share of what is left for contexts. Weights of earlier ones that are
 * mapped files count as available still, and are added, too.
 */
uint64_t hs_serve_models_reserve(const struct hs_serve_models *models, size_t i, bool is_mapped,
                                 uint64_t available_bytes);

#endif
