#include "route_reading.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define TOKENS_MAX 128 /* of a text */

struct text {
    const struct hs_route_reader *reader;
    int64_t n_tokens;
    float *unit; /* rows of length 1 */
    size_t n_unit;
    bool has_no_memory;
};

static bool wants(void *user, const char *tensor)
{
    const struct text *text = user;
    return text->reader->wants(text->reader->user, tensor);
}

static void make_unit(const float *from, int64_t n, float *to)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        squares += (double)from[i] * (double)from[i];
    }
    float factor = squares > 0 ? (float)(1 / sqrt(squares)) : 0;
    for (int64_t i = 0; i < n; i++) {
        to[i] = from[i] * factor;
    }
}

static void see(void *user, const char *tensor, const float *rows, int64_t n_rows, int64_t n_in)
{
    struct text *text = user;
    int64_t skip = n_rows > 1;
    size_t n = (size_t)((n_rows - skip) * n_in);
    if (n_rows != text->n_tokens) {
        return; /* only some tokens go on from here */
    }
    if (n > text->n_unit) {
        float *unit = hs_realloc_array(text->unit, n, sizeof(*unit));
        if (unit == NULL) {
            text->has_no_memory = true;
            return;
        }
        text->unit = unit;
        text->n_unit = n;
    }
    for (int64_t k = skip; k < n_rows; k++) {
        make_unit(rows + k * n_in, n_in, text->unit + (k - skip) * n_in);
    }
    text->reader->see(text->reader->user, tensor, text->unit, n_rows - skip, n_in);
}

hs_status hs_route_read(const struct hs_route_reading *how, const char *words,
                        const struct hs_route_reader *reader, struct hs_error *err)
{
    const struct hs_model *model = how->model;
    struct text text = {.reader = reader};
    const struct hs_rt_observer observer = {wants, see, &text};
    int32_t *tokens = NULL;
    size_t n = 0;
    if (how->deadline_at_ms > 0 && hs_clock_ms() > how->deadline_at_ms) {
        return hs_error_set(err, HS_TIMEOUT, "routing took longer than the request may");
    }
    hs_status status = hs_engine_tokenize(how->engine, model->info.id, words, strlen(words), true,
                                          false, &tokens, &n, err);
    if (status == HS_OK && n > 0) {
        text.n_tokens = (int64_t)(n < TOKENS_MAX ? n : TOKENS_MAX);
        status = model->rt->observe(model->rt_model, tokens, (int32_t)text.n_tokens,
                                    model->context_params.n_threads_batch, &observer, err);
    }
    hs_tokens_free(tokens);
    hs_free(text.unit);
    return status == HS_OK && text.has_no_memory ? hs_error_nomem(err, "rows of a matrix") : status;
}
