/*
 * embed_run.h - embeddings, or the scores of a model that ranks, for one request: its inputs, one
 * engine stream, no thread.
 *
 * The engine's notifications wake the request (hs_http_wake); a step takes what there is without
 * waiting. The whole answer is written at the end, as the format says. When the request is gone,
 * the stream is cancelled.
 *
 * Owner:   hs_embed_inputs_free releases inputs, after a failure too. hs_embed_run copies what it
 *          needs of them.
 * Threads: those of a request (api/http.h).
 */
#ifndef API_EMBED_RUN_H
#define API_EMBED_RUN_H

#include "rest.h"

struct hs_embed_inputs {
    struct hs_embed_input *items; /* [n] */
    size_t n, cap;
};

/*
 * The field `name`: a text, an array of texts, token numbers, or an array of arrays of token
 * numbers. Texts get the special tokens that the model wants around them. Refused by name
 * ("input[3]") are empty ones, and by number more than rest->max_inputs.
 * false: the request was answered.
 */
bool hs_embed_inputs_read(const struct hs_rest *rest, const struct hs_model_info *model,
                          const struct hs_fields *fields, const char *name,
                          struct hs_embed_inputs *ret);
/* One more: a copy of tokens[n_tokens]. HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_embed_inputs_add(struct hs_embed_inputs *inputs, const int32_t *tokens,
                                         size_t n_tokens, struct hs_error *err);
void hs_embed_inputs_free(struct hs_embed_inputs *inputs);

/* What was computed. */
struct hs_embed_answer {
    const struct hs_model_info *model;
    size_t n_inputs;
    const float *values; /* f32[n_inputs][n_values], in the order of the inputs */
    int32_t n_values;
    struct hs_usage usage; /* prompt_tokens of all inputs */
    double total_ms;       /* since hs_embed_run */
    const void *own;
};

struct hs_embed_format {
    /* Append the body of the answer: HS_OK, HS_LIMIT or HS_OUT_OF_MEMORY. */
    hs_status (*write)(const struct hs_embed_answer *answer, struct hs_buf *out);
    void (*free_own)(void *own); /* NULL: nothing to free */
};

struct hs_embed_call {
    const struct hs_rest *rest;
    const struct hs_model_info *model;
    hs_http_request *request;
    const struct hs_embed_inputs *inputs;
    struct hs_embed_params params;
    const struct hs_embed_format *format;
    void *own;         /* for the format; taken over */
    const char *param; /* the field that holds the inputs, static */
};

/* Answer the request: at once when the engine refuses, later when all is computed. */
void hs_embed_run(const struct hs_embed_call *call);

#endif
