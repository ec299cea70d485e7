#include "runtime_test.h"

#include <stdio.h>
#include <unistd.h>

const struct hs_runtime *rt;

void expect_status(hs_status status, hs_status wanted, const struct hs_error *err, const char *what)
{
    if (status != wanted) {
        print_error("%s: %s instead of %s: %s (%s)\n", what, hs_status_name(status),
                    hs_status_name(wanted), err->message, err->hint);
        fail();
    }
}

char *temp_path(const char *suffix)
{
    char *path = NULL;
    assert_true(asprintf(&path, "%s/runtime-XXXXXX%s", HS_TEST_TMP, suffix) > 0);
    int fd = mkstemps(path, (int)strlen(suffix));
    assert_true(fd >= 0);
    close(fd);
    return path;
}

struct hs_model_params model_params(void)
{
    return (struct hs_model_params){.use_mmap = true, .flash_attn = HS_FLASH_ATTN_AUTO};
}

struct hs_rt_context_params context_params(int32_t n_ctx, int32_t n_seq_max)
{
    return (struct hs_rt_context_params){.n_ctx = n_ctx,
                                         .n_batch = 512,
                                         .n_ubatch = 512,
                                         .n_seq_max = n_seq_max,
                                         .n_threads = 1,
                                         .n_threads_batch = 1,
                                         .flash_attn = HS_FLASH_ATTN_AUTO};
}

struct hs_sampling sampling_off(void)
{
    return (struct hs_sampling){.seed = 1,
                                .temp = 0,
                                .dynatemp_exponent = 1,
                                .top_p = 1,
                                .typical_p = 1,
                                .top_n_sigma = -1,
                                .xtc_threshold = 0.1F,
                                .repeat_penalty = 1,
                                .repeat_last_n = 64,
                                .dry_base = 1.75F,
                                .dry_allowed_length = 2,
                                .dry_penalty_last_n = -1,
                                .mirostat_tau = 5,
                                .mirostat_eta = 0.1F,
                                .adaptive_target = -1,
                                .adaptive_decay = 0.9F};
}

hs_rt_model *load(const char *path)
{
    struct hs_error err = {0};
    struct hs_model_params params = model_params();
    hs_rt_model *model = NULL;
    OK(rt->model_load(path, &params, &model, &err));
    return model;
}

hs_rt_model *load_tiny(const struct tiny_gguf_spec *spec)
{
    char *path = temp_path(".gguf");
    assert_true(tiny_gguf_write(spec, path));
    hs_rt_model *model = load(path);
    unlink(path);
    free(path);
    return model;
}

hs_rt_context *new_context(hs_rt_model *model, int32_t n_ctx, int32_t n_seq_max)
{
    struct hs_error err = {0};
    struct hs_rt_context_params params = context_params(n_ctx, n_seq_max);
    hs_rt_context *context = NULL;
    OK(rt->context_new(model, &params, &context, &err));
    return context;
}

hs_rt_sampler *new_sampler(const hs_rt_model *model, const struct hs_sampling *sampling)
{
    struct hs_error err = {0};
    hs_rt_sampler *sampler = NULL;
    OK(rt->sampler_new(model, sampling, NULL, false, 1024, &sampler, &err));
    return sampler;
}

struct hs_buf tokens_of(const hs_rt_model *model, const char *text, bool add_special,
                        bool parse_special)
{
    struct hs_error err = {0};
    struct hs_buf tokens = HS_BUF_INIT(1 << 24);
    OK(rt->tokenize(model, text, strlen(text), add_special, parse_special, &tokens, &err));
    return tokens;
}

int32_t feed(hs_rt_context *context, int32_t seq, int32_t pos, const int32_t *tokens, int32_t n)
{
    struct hs_error err = {0};
    struct hs_rt_batch_item items[512];
    int32_t done = 0;
    int32_t chunk = 0;
    while (done < n) {
        chunk = n - done < 512 ? n - done : 512;
        for (int32_t i = 0; i < chunk; i++) {
            items[i] = (struct hs_rt_batch_item){.token = tokens[done + i],
                                                 .pos = pos + done + i,
                                                 .seq = seq,
                                                 .want_logits = done + i == n - 1};
        }
        enum hs_rt_decode outcome = HS_RT_DECODE_ABORTED;
        OK(rt->decode(context, items, chunk, &outcome, &err));
        assert_int_equal(outcome, HS_RT_DECODE_OK);
        done += chunk;
    }
    return chunk - 1;
}

int32_t generate(hs_rt_context *context, const hs_rt_model *model, hs_rt_sampler *sampler,
                 int32_t seq, int32_t pos, const int32_t *tokens, int32_t n, int32_t *out,
                 int32_t n_out)
{
    struct hs_error err = {0};
    int32_t item = feed(context, seq, pos, tokens, n);
    pos += n;
    for (int32_t i = 0; i < n_out; i++) {
        OK(rt->sample(sampler, context, item, 0, &out[i], NULL, &err));
        if (rt->is_eog(model, out[i])) {
            return i + 1;
        }
        if (i + 1 < n_out) {
            item = feed(context, seq, pos++, &out[i], 1);
        }
    }
    return n_out;
}

int start_runtime(void **state)
{
    (void)state;
    struct hs_error err = {0};
    const char *version = NULL;
    rt = hs_runtime_llama();
    return rt->init(&version, &err) == HS_OK && version ? 0 : -1;
}

int stop_runtime(void **state)
{
    (void)state;
    hs_runtime_llama_shutdown();
    return 0;
}
