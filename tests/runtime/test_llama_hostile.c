/*
 * Damaged headers never crash the process: whatever our reader lets through, llama.cpp loads or
 * refuses, computes or refuses.
 *
 * Each round changes one byte of a tiny model's header. What hs_gguf_open and hs_gguf_check_model
 * accept is loaded, and run for a few tokens, in a child process that must end by itself.
 * HYPRSTREAM_HOSTILE_ROUNDS raises the number of rounds (0: every byte, all eight bits).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime_test.h"
#include "storage/gguf.h"

#define DEFAULT_ROUNDS 400
#define CHILD_CPU_SECONDS 20
#define CHILD_SECONDS 300 /* a busy machine may be slow, a deadlock is for ever */

static char *path;

static int set_up(void **state)
{
    path = temp_path(".gguf");
    hs_log_set_level(HS_LOG_OFF);
    return start_runtime(state);
}

static int tear_down(void **state)
{
    unlink(path);
    free(path);
    return stop_runtime(state);
}

static void write_file(const struct gguf_bytes *bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, bytes->len, file), bytes->len);
    assert_int_equal(fclose(file), 0);
}

static bool reader_accepts(const struct gguf_bytes *bytes)
{
    struct hs_error err = {0};
    hs_gguf *gguf = NULL;
    write_file(bytes);
    bool ok =
        hs_gguf_open(path, &gguf, &err) == HS_OK && hs_gguf_check_model(gguf, path, &err) == HS_OK;
    hs_gguf_free(gguf);
    return ok;
}

/* Use the model as the engine does; every refusal is fine. */
static void use_model(void)
{
    struct hs_error err = {0};
    struct hs_model_params params = model_params();
    struct hs_rt_context_params context_p = context_params(256, 2);
    struct hs_rt_memory memory;
    int32_t n_ctx_train = 0;
    int32_t n_gpu_layers = 0;
    hs_rt_model *model = NULL;
    hs_rt_context *context = NULL;
    hs_rt_sampler *sampler = NULL;
    struct hs_sampling sampling = sampling_off();
    struct hs_message message = {"user", "Hello <|im_start|> \xC3\xA9", NULL};
    struct hs_rt_template_params render = {
        .messages = &message, .n_messages = 1, .add_generation_prompt = true};
    struct hs_rt_reasoning reasoning;
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(1 << 20);
    if (rt->estimate(path, &params, &context_p, &memory, &n_ctx_train, &n_gpu_layers, &err) !=
            HS_OK ||
        rt->model_load(path, &params, &model, &err) != HS_OK) {
        return;
    }
    if (rt->render(model, &render, &text, &reasoning, &err) == HS_OK &&
        rt->tokenize(model, text.data, text.len, true, true, &tokens, &err) == HS_OK &&
        rt->context_new(model, &context_p, &context, &err) == HS_OK &&
        rt->sampler_new(model, &sampling, true, 256, &sampler, &err) == HS_OK) {
        struct hs_rt_batch_item items[200];
        int32_t n = n_tokens_of(&tokens) < 200 ? n_tokens_of(&tokens) : 200;
        for (int32_t i = 0; i < n; i++) {
            items[i] = (struct hs_rt_batch_item){token_at(&tokens)[i], i, 0, i == n - 1};
        }
        enum hs_rt_decode outcome;
        int32_t token = -1;
        for (int32_t pos = n;
             pos < n + 3 && rt->decode(context, items, pos == n ? n : 1, &outcome, &err) == HS_OK;
             pos++) {
            if (rt->sample(sampler, context, pos == n ? n - 1 : 0, 0, &token, NULL, &err) !=
                HS_OK) {
                break;
            }
            hs_status ignored = rt->token_piece(model, token, true, &text, &err);
            (void)ignored;
            items[0] = (struct hs_rt_batch_item){token, pos, 0, true};
        }
    }
    rt->sampler_free(sampler);
    rt->context_free(context);
    rt->model_free(model);
}

/* 0, or the signal that ended the child. */
static int run_child(void)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        for (int s = 1; s < NSIG; s++) {
            signal(s, SIG_DFL); /* cmocka catches some */
        }
        setrlimit(RLIMIT_CPU, &(struct rlimit){CHILD_CPU_SECONDS, CHILD_CPU_SECONDS});
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        alarm(CHILD_SECONDS);
        use_model();
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        assert_int_equal(errno, EINTR);
    }
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void test_one_changed_byte(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.chat_template = tiny_gguf_chatml;
    struct gguf_bytes bytes = {0};
    size_t header_len = 0;
    assert_true(tiny_gguf_build(&spec, &bytes, &header_len));
    const char *wanted = getenv("HYPRSTREAM_HOSTILE_ROUNDS");
    size_t n_rounds = wanted ? strtoul(wanted, NULL, 10) : DEFAULT_ROUNDS;
    size_t all = header_len * 8;
    n_rounds = n_rounds == 0 || n_rounds > all ? all : n_rounds;
    size_t n_loaded = 0;
    size_t n_crashed = 0;
    for (size_t round = 0; round < n_rounds; round++) {
        size_t bit = round * all / n_rounds + (round * 5) % 8;
        bit = bit < all ? bit : all - 1;
        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (reader_accepts(&bytes)) {
            n_loaded++;
            int crash = run_child();
            if (crash != 0) {
                n_crashed++;
                print_error("byte %zu, bit %zu: the process ended with %d\n", bit / 8, bit % 8,
                            crash);
            }
        }
        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    print_message("%zu rounds, %zu let through, %zu crashed\n", n_rounds, n_loaded, n_crashed);
    assert_int_equal(n_crashed, 0);
    gguf_bytes_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_changed_byte),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
