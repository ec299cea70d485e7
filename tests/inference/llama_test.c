#include "llama_test.h"

#include <unistd.h>

#include "base/fs.h"

void llama_start(struct llama_fixture *f, const struct tiny_gguf_spec *spec,
                 const struct hs_engine_params *engine_params,
                 const struct hs_model_params *model_params, int32_t n_ctx, int32_t n_seq_max)
{
    struct hs_error err;
    char path[256];
    assert_int_equal(hs_fs_mkdir_p(HS_TEST_TMP, &err), HS_OK);
    snprintf(path, sizeof(path), "%s/llama-%d.gguf", HS_TEST_TMP, (int)getpid());
    assert_true(tiny_gguf_write(spec, path));
    f->spec = *spec;
    struct hs_model_params params;
    if (model_params == NULL) {
        hs_model_params_defaults(&params);
        params.n_ctx = n_ctx;
        params.n_seq_max = n_seq_max;
        params.n_threads = 1;
    } else {
        params = *model_params;
    }
    char id[HS_ID_MAX];
    assert_int_equal(hs_engine_create(engine_params, &f->engine, &err), HS_OK);
    if (hs_engine_load_model(f->engine, path, "m", &params, id, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    unlink(path);
}

void llama_stop(struct llama_fixture *f)
{
    hs_engine_free(f->engine);
    f->engine = NULL;
}

size_t llama_tokens(hs_engine *engine, const char *text, bool add_special, int32_t *tokens)
{
    struct hs_error err;
    int32_t *list = NULL;
    size_t n = 0;
    assert_int_equal(
        hs_engine_tokenize(engine, "m", text, strlen(text), add_special, true, &list, &n, &err),
        HS_OK);
    assert_true(n <= LLAMA_TOKENS_MAX);
    memcpy(tokens, list, n * sizeof(tokens[0]));
    hs_tokens_free(list);
    return n;
}

size_t llama_session_prompt(hs_engine *engine, const char *id, size_t first, size_t n,
                            int32_t *tokens)
{
    struct hs_error err;
    struct hs_message messages[128] = {{0}};
    assert_in_range(n - first, 1, 128);
    for (size_t i = first; i < n; i++) {
        assert_int_equal(hs_session_message(engine, id, i, &messages[i - first], &err), HS_OK);
    }
    char *text = NULL;
    size_t len = 0;
    struct hs_generate_params params;
    hs_generate_params_defaults(&params);
    assert_int_equal(hs_engine_render(engine, "m", messages, n - first, &params, &text, &len, &err),
                     HS_OK);
    size_t n_tokens = llama_tokens(engine, text, false, tokens);
    hs_text_free(text);
    for (size_t i = first; i < n; i++) {
        hs_message_free(&messages[i - first]);
    }
    return n_tokens;
}

hs_stream *llama_complete(hs_engine *engine, const int32_t *tokens, size_t n,
                          const struct hs_generate_params *params)
{
    struct hs_error err;
    hs_stream *stream = NULL;
    if (hs_engine_complete(engine, "m", NULL, 0, tokens, n, params, &stream, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return stream;
}

static bool is_end(const struct tiny_gguf_spec *spec, int32_t token)
{
    return token == spec->eos || token == TINY_GGUF_EOS || token == TINY_GGUF_IM_END;
}

size_t llama_answer(const struct tiny_gguf_spec *spec, int32_t *tokens, size_t n, size_t max_tokens,
                    size_t n_ctx, char *text)
{
    size_t len = 0;
    size_t n_prompt = n;
    while (n - n_prompt < max_tokens && n < n_ctx) {
        int32_t next = tiny_gguf_next(spec, tokens, n);
        assert_true(next >= 0);
        tokens[n++] = next;
        if (is_end(spec, next)) {
            break;
        }
        char piece[16];
        size_t piece_len = 0;
        assert_true(tiny_gguf_text(next, piece, &piece_len));
        memcpy(text + len, piece, piece_len);
        len += piece_len;
    }
    text[len] = '\0';
    return n - n_prompt;
}
