/*
 * lora.h - which adapters a request is answered with: those that its model's name names and those
 * in its field "lora". The one place for all endpoints.
 *
 * A model's name is that of a model, of an adapter ("french"), of adapters ("french+formal"), or
 * both with a colon between ("smollm2:french+formal"); each adapter then has the scale 1. "lora" is
 * an array of {"name" or "id", "scale"}; an id is an adapter's name, or its number in GET
 * /lora-adapters; or "auto": adapters are chosen by what the prompt is about. A request that says
 * nothing gets the scales of POST /lora-adapters.
 *
 * Errors:  404 for a name that is not known, 400 for an adapter of another model; both name the
 *          adapters that fit.
 * Threads: those of the request's handler.
 */
#ifndef API_LORA_H
#define API_LORA_H

#include "conversation.h"
#include "settings.h"

/* The model of the adapters that `name` names, NULL with *ret_status HS_OK: it names no adapters.
 * HS_NOT_FOUND, HS_MISMATCH with `err` filled. */
const struct hs_model_info *hs_rest_lora_model(const struct hs_rest *rest, const char *name,
                                               hs_status *ret_status, struct hs_error *err);
/* Fills settings->lora and model_name. `name` is the model's as the client wrote it, NULL: not
 * said. false: the request was answered. */
bool hs_rest_lora_read(const struct hs_model_info *model, const struct hs_fields *fields,
                       const char *name, struct hs_rest_settings *settings);
/* Choose adapters for a text as the server's settings say, of those that the registry has now.
 * Errors: those of hs_engine_route. */
HS_CHECKED hs_status hs_rest_route(const struct hs_rest *rest, const char *model_id,
                                   const char *text, struct hs_route *ret_route,
                                   struct hs_error *err);
/*
 * Where the request says "lora": "auto": choose adapters for `text`, wait for that, and say which
 * and why in the headers x-hyprstream-adapters and x-hyprstream-route of the answer. Those that the
 * model's name or an earlier call has put there are replaced. Else nothing happens.
 * Errors: those of hs_engine_route; HS_INVALID_ARGUMENT: there is no text.
 */
HS_CHECKED hs_status hs_rest_lora_route(const struct hs_rest *rest,
                                        const struct hs_model_info *model, hs_http_request *request,
                                        const char *text, struct hs_rest_lora *lora,
                                        struct hs_error *err);
/* What the user said last; NULL: nothing. */
const char *hs_rest_lora_text(const struct hs_rest_conversation *conversation);
/* 400 when the request names adapters, which this endpoint does not apply. */
bool hs_rest_lora_refuse(const struct hs_model_info *model, const struct hs_fields *fields);
/* The answer to an adapter that is not known or does not fit, named by the field `param`; what else
 * went wrong as hs_rest_respond_failure. */
void hs_rest_lora_respond(hs_http_request *request, const char *param, const struct hs_error *err);
/* Append the names of the model's adapters, some 20 of them: "'a', 'b'"; "none". */
HS_CHECKED hs_status hs_rest_lora_names(const struct hs_rest *rest, const char *model_id,
                                        struct hs_buf *out);

#endif
