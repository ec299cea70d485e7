/*
 * settings.h - how to generate, as a request's fields say it: OpenAI's names and llama.cpp's.
 *
 * Owner:   hs_rest_settings_free releases what a reader made, after a failure too; strings are
 *          borrowed from the request.
 * Threads: those of the request's handler.
 */
#ifndef API_SETTINGS_H
#define API_SETTINGS_H

#include "fields.h"
#include "rest.h"

#define HS_REST_STOP_MAX 64         /* stop strings */
#define HS_REST_STOP_BYTES_MAX 1024 /* of one of them */
#define HS_REST_BIAS_MAX 4096       /* entries of logit_bias */
#define HS_REST_TOP_LOGPROBS_MAX 20

/* The adapters of a request (lora.h). */
struct hs_rest_lora {
    struct hs_adapter_ref *refs; /* [n], whose names stand in `names`; NULL: none */
    char (*names)[HS_ADAPTER_NAME_SIZE + 1];
    int32_t n;
    bool is_said; /* by the request, were it that there are none */
    bool is_auto; /* to be chosen by the prompt: hs_rest_lora_route */
};

struct hs_rest_settings {
    const struct hs_rest *rest;
    struct hs_rest_lora lora;
    const char *model_name; /* as the answer gives it: the model's id, or what named adapters */
    struct hs_generate_params params; /* borrows what stands below */
    int32_t n;                        /* answers to each prompt */
    bool stream, include_usage;
    bool logprobs; /* wanted by the client */
    int32_t top_logprobs;
    const char **stop, **breakers;
    char *samplers, *template_kwargs;
    int32_t *bias_tokens;
    float *bias_values;
    char client[HS_TAG_MAX]; /* the key's name, else the address: whose turn it is */
};

/* The server's defaults. */
void hs_rest_settings_init(const struct hs_rest *rest, struct hs_rest_settings *ret);
/* Sampling by llama.cpp's names, of which other APIs' are a part. false: the request was answered.
 */
bool hs_rest_settings_read_sampling(const struct hs_model_info *model,
                                    const struct hs_fields *fields, struct hs_rest_settings *ret);
/* Stop strings: an array, or one alone when that is allowed. */
bool hs_rest_settings_read_stop(const struct hs_fields *fields, const char *name, bool may_be_one,
                                struct hs_rest_settings *ret);
/* The chat template's variables and what to do about reasoning; the level of effort stands in a
 * field of its own. */
bool hs_rest_settings_read_reasoning(const struct hs_model_info *model,
                                     const struct hs_fields *fields, const struct hs_fields *effort,
                                     const char *effort_name, struct hs_rest_settings *ret);
/* All of OpenAI's but logprobs, which the endpoints disagree about. false: the request was
 * answered. */
bool hs_rest_settings_read(const struct hs_rest *rest, const struct hs_model_info *model,
                           const struct hs_fields *fields, struct hs_rest_settings *ret);
/* Ask the engine for the logprobs that the client wants. */
void hs_rest_settings_set_logprobs(struct hs_rest_settings *settings, int32_t top_logprobs);
/* The parameters of answer i of a prompt: seeds differ, so that answers do. */
struct hs_generate_params hs_rest_settings_of(const struct hs_rest_settings *settings, int32_t i);
void hs_rest_settings_free(struct hs_rest_settings *settings);

#endif
