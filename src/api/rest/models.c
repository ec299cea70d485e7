/* models.c - GET /v1/models and /v1/models/{id}. */
#include <string.h>

#include "rest.h"

static json_t *describe(const struct hs_rest *rest, const struct hs_model_info *model)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:{s:i, s:i, s:i, s:i, s:I, s:I}}", "id", model->id,
                     "object", "model", "created", (json_int_t)rest->created_unix_s, "owned_by",
                     "hyprstream", "meta", "n_ctx", (int)model->n_ctx, "n_ctx_train",
                     (int)model->n_ctx_train, "n_vocab", (int)model->n_vocab, "n_embd",
                     (int)model->n_embd, "n_params", (json_int_t)model->n_params, "size",
                     (json_int_t)model->memory.weights_bytes);
}

void hs_rest_model_list(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    json_t *list = json_array();
    for (size_t i = 0; i < rest->n_models && list != NULL; i++) {
        if (json_array_append_new(list, describe(rest, &rest->models[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    hs_http_respond_json(request, 200,
                         list == NULL ? NULL
                                      : json_pack("{s:s, s:o}", "object", "list", "data", list));
}

void hs_rest_model_get(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    const struct hs_model_info *model =
        hs_rest_model(rest, request, hs_http_request_param(request, "id"));
    if (model != NULL) {
        hs_http_respond_json(request, 200, describe(rest, model));
    }
}
