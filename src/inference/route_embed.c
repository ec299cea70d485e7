#include "route_embed.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define TOKENS_MAX 512 /* of a text; what it is about shows by then */
#define EMBED_AT_ONCE 64

void hs_embeddings_free(struct hs_embeddings *embeddings)
{
    hs_free(embeddings->values);
    *embeddings = (struct hs_embeddings){0};
}

static hs_status take_embeddings(hs_stream *stream, size_t first, size_t n_all,
                                 struct hs_embeddings *out, struct hs_error *err)
{
    for (;;) {
        struct hs_event event;
        hs_status status = hs_stream_next(stream, -1, &event, err);
        if (status != HS_OK) {
            return status;
        }
        if (event.type == HS_EVENT_DONE) {
            if (event.error.status != HS_OK && err != NULL) {
                *err = event.error;
            }
            return event.error.status;
        }
        if (event.type != HS_EVENT_EMBEDDING) {
            continue;
        }
        if (out->values == NULL) {
            out->n_dims = event.n_values;
            out->values = hs_calloc(n_all * (size_t)event.n_values, sizeof(float));
            if (out->values == NULL) {
                return hs_error_nomem(err, "embeddings");
            }
        }
        memcpy(out->values + (first + (size_t)event.index) * (size_t)out->n_dims, event.values,
               (size_t)out->n_dims * sizeof(float));
    }
}

static hs_status embed_some(const struct hs_route_embedder *how, const char *const *texts,
                            size_t first, size_t n, size_t n_all, struct hs_embeddings *out,
                            struct hs_error *err)
{
    struct hs_embed_input inputs[EMBED_AT_ONCE] = {0};
    int32_t *tokens[EMBED_AT_ONCE] = {0};
    struct hs_embed_params params;
    hs_embed_params_defaults(&params);
    params.truncate = true;
    hs_status status = HS_OK;
    if (how->deadline_at_ms > 0) {
        double left_ms = how->deadline_at_ms - hs_clock_ms();
        params.deadline_ms = left_ms < 1 ? 1 : (int64_t)left_ms;
    }
    for (size_t i = 0; status == HS_OK && i < n; i++) {
        size_t n_tokens = 0;
        status =
            hs_engine_tokenize(how->engine, how->model_id, texts[first + i],
                               strlen(texts[first + i]), true, false, &tokens[i], &n_tokens, err);
        n_tokens = n_tokens < TOKENS_MAX ? n_tokens : TOKENS_MAX;
        inputs[i] = (struct hs_embed_input){tokens[i], n_tokens};
    }
    hs_stream *stream = NULL;
    if (status == HS_OK) {
        status = hs_engine_embed(how->engine, how->model_id, inputs, n, &params, &stream, err);
    }
    if (status == HS_OK) {
        status = take_embeddings(stream, first, n_all, out, err);
    }
    hs_stream_free(stream);
    for (size_t i = 0; i < n; i++) {
        hs_tokens_free(tokens[i]);
    }
    return status;
}

hs_status hs_route_embed(const struct hs_route_embedder *how, const char *const *texts, size_t n,
                         struct hs_embeddings *out, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t first = 0; status == HS_OK && first < n; first += EMBED_AT_ONCE) {
        size_t n_now = n - first < EMBED_AT_ONCE ? n - first : EMBED_AT_ONCE;
        status = embed_some(how, texts, first, n_now, n, out, err);
    }
    return status;
}
