/*
 * Embeddings of the demo model, a chat model, compared with llama.cpp's own mean of a text that is
 * computed at once and alone. Alone ours is the same, also in parts. Texts that share a batch come
 * a little different out of llama.cpp's attention, which quantised weights amplify.
 */
#include <math.h>
#include <unistd.h>

#include "engine_test.h"
#include "hyprstream.h"
#include "llama.h"

#define N_TEXTS 6
#define MAX_EMBD 1024

static const char *const texts[N_TEXTS] = {
    "Hello",
    "The capital of France is Paris.",
    "A cat sat on the mat, and the dog looked on.",
    "int main(void) { return 0; }",
    "\xC3\x9C"
    "ber den Wolken muss die Freiheit wohl grenzenlos sein",
    NULL, /* long: see long_text */
};

static char long_text[1200];

static const char *text_of(size_t i)
{
    if (long_text[0] == '\0') {
        for (size_t at = 0; at + 64 < sizeof long_text;) {
            at += (size_t)snprintf(long_text + at, 64, "sentence %zu of a long text. ", at);
        }
    }
    return texts[i] != NULL ? texts[i] : long_text;
}

/* llama.cpp's own mean. */
static int32_t reference(const struct llama_model *model, const int32_t *tokens, size_t n,
                         float *values)
{
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = 2048;
    params.n_threads = params.n_threads_batch = 1;
    params.embeddings = true;
    params.pooling_type = LLAMA_POOLING_TYPE_MEAN;
    struct llama_context *context = llama_init_from_model((struct llama_model *)model, params);
    assert_non_null(context);
    struct llama_batch batch = llama_batch_init((int32_t)n, 0, 1);
    for (size_t i = 0; i < n; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = (int32_t)i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = (int32_t)n;
    assert_int_equal(llama_decode(context, batch), 0);
    int32_t n_embd = llama_model_n_embd(model);
    assert_true(n_embd <= MAX_EMBD);
    memcpy(values, llama_get_embeddings_seq(context, 0), (size_t)n_embd * sizeof values[0]);
    llama_batch_free(batch);
    llama_free(context);
    return n_embd;
}

static double cosine(const float *a, const float *b, int32_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int32_t d = 0; d < n; d++) {
        ab += (double)a[d] * (double)b[d];
        aa += (double)a[d] * (double)a[d];
        bb += (double)b[d] * (double)b[d];
    }
    return ab / sqrt(aa * bb);
}

struct texts {
    struct llama_model *model;
    struct hs_embed_input inputs[N_TEXTS];
    float want[N_TEXTS][MAX_EMBD];
    int32_t n_embd;
};

static void make_texts(hs_engine *engine, struct texts *texts_of_model)
{
    struct hs_error err;
    texts_of_model->model = llama_model_load_from_file(HS_DEMO_MODEL, llama_model_default_params());
    assert_non_null(texts_of_model->model);
    for (size_t i = 0; i < N_TEXTS; i++) {
        struct hs_embed_input *input = &texts_of_model->inputs[i];
        int32_t *tokens = NULL;
        const char *text = text_of(i);
        assert_int_equal(hs_engine_tokenize(engine, "m", text, strlen(text), true, true, &tokens,
                                            &input->n_tokens, &err),
                         HS_OK);
        input->tokens = tokens;
        texts_of_model->n_embd =
            reference(texts_of_model->model, tokens, input->n_tokens, texts_of_model->want[i]);
    }
    assert_true(texts_of_model->inputs[N_TEXTS - 1].n_tokens > 350); /* more than one batch */
}

/* Embed inputs [first, first + n) in one request. */
static void compare(hs_engine *engine, const struct texts *all, size_t first, size_t n,
                    double least)
{
    struct hs_error err;
    struct hs_embed_params params;
    hs_stream *stream = NULL;
    hs_embed_params_defaults(&params);
    assert_int_equal(hs_engine_embed(engine, "m", all->inputs + first, n, &params, &stream, &err),
                     HS_OK);
    struct hs_event event;
    while (hs_stream_next(stream, -1, &event, &err) == HS_OK && event.type != HS_EVENT_DONE) {
        size_t i = first + (size_t)event.index;
        assert_int_equal(event.n_values, all->n_embd);
        double similarity = cosine(event.values, all->want[i], all->n_embd);
        print_message("text %zu of %zu, %zu tokens: cosine %.7f\n", i, n, all->inputs[i].n_tokens,
                      similarity);
        assert_true(similarity >= least);
    }
    assert_int_equal(event.finish, HS_FINISH_STOP);
    hs_stream_free(stream);
}

static void as_llama_cpp_pools(void **state)
{
    (void)state;
    if (access(HS_DEMO_MODEL, R_OK) != 0) {
        skip(); /* `make deps` fetches the demo model */
    }
    struct hs_error err;
    hs_engine *engine = NULL;
    char id[HS_ID_MAX];
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    params.n_ctx = 2048;
    params.n_threads = 1;
    assert_int_equal(hs_engine_create(NULL, &engine, &err), HS_OK);
    assert_int_equal(hs_engine_load_model(engine, HS_DEMO_MODEL, "m", &params, id, &err), HS_OK);
    static struct texts all;
    make_texts(engine, &all);
    for (size_t i = 0; i < N_TEXTS; i++) {
        compare(engine, &all, i, 1, 0.99999);
    }
    compare(engine, &all, 0, N_TEXTS, 0.999);
    llama_model_free(all.model);
    for (size_t i = 0; i < N_TEXTS; i++) {
        hs_tokens_free((int32_t *)all.inputs[i].tokens);
    }
    hs_engine_free(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_llama_cpp_pools)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
