/*
 * Damaged headers never crash the process: whatever our reader lets through, llama.cpp loads or
 * refuses, computes or refuses.
 *
 * Each round changes one byte of a tiny model's header. What hs_gguf_open and hs_gguf_check_model
 * accept is loaded, and run for a few tokens, in a child process that must end by itself. So are
 * chat templates that nest without end or never finish.
 * HYPRSTREAM_HOSTILE_ROUNDS raises the number of rounds (0: every byte, all eight bits).
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime_test.h"
#include "storage/gguf.h"
#include "tiny_bert.h"

#define DEFAULT_ROUNDS 200 /* for each architecture */
#ifdef __SANITIZE_THREAD__
#define CHILD_CPU_SECONDS 280 /* instrumented code is slow, a loop without end is still longer */
#else
#define CHILD_CPU_SECONDS 20
#endif
#define CHILD_SECONDS 300 /* a busy machine may be slow, a deadlock is for ever */

static char *path;
static size_t n_let_through; /* by the reader, in spoil_numbers */

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

/* Generate as the engine does; every refusal is fine. */
static void generate_tokens(hs_rt_model *model, const struct hs_rt_context_params *params)
{
    struct hs_error err = {0};
    hs_rt_context *context = NULL;
    hs_rt_sampler *sampler = NULL;
    struct hs_sampling sampling = sampling_off();
    struct hs_message message = {.role = "user", .content = "Hello <|im_start|> \xC3\xA9"};
    struct hs_rt_template_params render = {
        .messages = &message, .n_messages = 1, .add_generation_prompt = true};
    struct hs_rt_reasoning reasoning;
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(1 << 20);
    if (rt->render(model, &render, &text, &reasoning, &err) == HS_OK &&
        rt->tokenize(model, text.data, text.len, true, true, &tokens, &err) == HS_OK &&
        rt->context_new(model, params, &context, &err) == HS_OK &&
        rt->sampler_new(model, &sampling, NULL, true, 256, &sampler, &err) == HS_OK) {
        struct hs_rt_batch_item items[200];
        int32_t n = n_tokens_of(&tokens) < 200 ? n_tokens_of(&tokens) : 200;
        for (int32_t i = 0; i < n; i++) {
            items[i] = (struct hs_rt_batch_item){token_at(&tokens)[i], i, 0, i == n - 1, NULL};
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
            items[0] = (struct hs_rt_batch_item){token, pos, 0, true, NULL};
        }
    }
    rt->sampler_free(sampler);
    rt->context_free(context);
}

/* The same for embeddings or a score. */
static void embed_tokens(hs_rt_model *model, const struct hs_rt_context_params *params)
{
    struct hs_error err = {0};
    struct hs_rt_model_info info;
    struct hs_rt_embedder embedder = {0};
    HS_CLEANUP(hs_buf_free) struct hs_buf tokens = HS_BUF_INIT(1 << 20);
    rt->model_info(model, &info);
    if (rt->rank_tokens(model, "hello <s> world", "again", &tokens, &err) != HS_OK ||
        rt->embedder_new(model, params, &embedder, &err) != HS_OK) {
        return;
    }
    float *values = calloc((size_t)info.n_embd_out, sizeof(values[0]));
    int32_t most =
        embedder.n_input_max < embedder.n_batch ? embedder.n_input_max : embedder.n_batch;
    int32_t n = n_tokens_of(&tokens) < most ? n_tokens_of(&tokens) : most;
    struct hs_rt_batch_item items[200];
    for (int32_t i = 0; i < n && i < 200; i++) {
        items[i] = (struct hs_rt_batch_item){token_at(&tokens)[i], i, 0, false, NULL};
    }
    enum hs_rt_decode outcome;
    hs_status ignored = rt->embed(embedder.context, items, n < 200 ? n : 200, &outcome, &err);
    (void)ignored;
    if (values) {
        rt->embed_take(embedder.context, 0, values);
    }
    free(values);
    rt->context_free(embedder.context);
}

static int use_model(void)
{
    struct hs_error err = {0};
    struct hs_model_params params = model_params();
    struct hs_rt_context_params context_p = context_params(256, 2);
    struct hs_rt_memory memory;
    int32_t n_ctx_train = 0;
    int32_t n_gpu_layers = 0;
    hs_rt_model *model = NULL;
    if (rt->estimate(path, &params, &context_p, &memory, &n_ctx_train, &n_gpu_layers, &err) !=
            HS_OK ||
        rt->model_load(path, &params, &model, &err) != HS_OK) {
        return 0;
    }
    generate_tokens(model, &context_p);
    embed_tokens(model, &context_p);
    rt->model_free(model);
    return 0;
}

/* Render twice with the file's template; the status. */
static int render_model(void)
{
    struct hs_error err = {0};
    struct hs_model_params params = model_params();
    hs_rt_model *model = NULL;
    OK(rt->model_load(path, &params, &model, &err));
    struct hs_message messages[] = {{.role = "user", .content = "Hello"},
                                    {.role = "assistant", .content = "Hi"}};
    struct hs_rt_template_params render = {.messages = messages, .n_messages = 2};
    struct hs_rt_reasoning reasoning;
    HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
    hs_status first = rt->render(model, &render, &text, &reasoning, &err);
    hs_status second = rt->render(model, &render, &text, &reasoning, &err);
    /* The next one is none the worse for it. */
    render.chat_template = "{{ messages[0].content }}";
    OK(rt->render(model, &render, &text, &reasoning, &err));
    assert_non_null(strstr(text.data, "Hello"));
    rt->model_free(model);
    return first == second ? (int)first : HS_INTERNAL;
}

/* 0 or what `use` said, or the signal that ended the child. */
static int run_child(int (*use)(void))
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
        _exit(use());
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        assert_int_equal(errno, EINTR);
    }
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static size_t wanted_rounds(size_t all)
{
    const char *wanted = getenv("HYPRSTREAM_HOSTILE_ROUNDS");
    size_t n = wanted ? strtoul(wanted, NULL, 10) : DEFAULT_ROUNDS;
    return n == 0 || n > all ? all : n;
}

enum { BERT = -1, RANKER = -2 };

/* `kind` is one of enum tiny_gguf_arch, or BERT, or RANKER. */
static void build(int kind, const char *chat_template, struct gguf_bytes *ret_bytes,
                  size_t *ret_header_len)
{
    if (kind < 0) {
        enum tiny_bert_pooling pooling = kind == BERT ? TINY_BERT_MEAN : TINY_BERT_RANK;
        assert_true(tiny_bert_build(pooling, ret_bytes, ret_header_len));
        return;
    }
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.arch = (enum tiny_gguf_arch)kind;
    spec.chat_template = chat_template;
    assert_true(tiny_gguf_build(&spec, ret_bytes, ret_header_len));
}

static void change_bytes(int kind)
{
    struct gguf_bytes bytes = {0};
    size_t header_len = 0;
    build(kind, tiny_gguf_chatml, &bytes, &header_len);
    size_t all = header_len * 8;
    size_t n_rounds = wanted_rounds(all);
    size_t n_loaded = 0;
    size_t n_crashed = 0;
    for (size_t round = 0; round < n_rounds; round++) {
        size_t bit = round * all / n_rounds + (round * 5) % 8;
        bit = bit < all ? bit : all - 1;
        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (reader_accepts(&bytes)) {
            n_loaded++;
            int crash = run_child(use_model);
            if (crash != 0) {
                n_crashed++;
                print_error("architecture %d, byte %zu, bit %zu: the process ended with %d\n", kind,
                            bit / 8, bit % 8, crash);
            }
        }
        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    print_message("%zu rounds, %zu let through, %zu crashed\n", n_rounds, n_loaded, n_crashed);
    assert_int_equal(n_crashed, 0);
    gguf_bytes_free(&bytes);
}

/* Put `size` bytes over the number at `value` and see what happens; false: a crash. */
static bool try_number(struct gguf_bytes *bytes, size_t offset, const void *value, size_t size)
{
    uint8_t kept[8];
    memcpy(kept, bytes->data + offset, size);
    memcpy(bytes->data + offset, value, size);
    bool is_accepted = reader_accepts(bytes);
    int crash = is_accepted ? run_child(use_model) : 0;
    n_let_through += is_accepted;
    memcpy(bytes->data + offset, kept, size);
    return crash == 0;
}

/* Every scalar and the first items of every array become numbers that nobody expects. */
static size_t spoil_value(struct gguf_bytes *bytes, const struct hs_gguf_kv *kv, size_t offset)
{
    static const uint64_t integers[] = {0,      1,      2,          3,          7,       255,
                                        65535u, 65536u, 0x7FFFFFFF, 0xFFFFFFFF, 1u << 24};
    const float floats[] = {0, -1, 1e-30F, 1e30F, INFINITY, -INFINITY, NAN};
    enum hs_gguf_type type = kv->type == HS_GGUF_ARRAY ? kv->item_type : kv->type;
    size_t n_crashed = 0;
    if (type == HS_GGUF_FLOAT32) {
        for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++) {
            n_crashed += !try_number(bytes, offset, &floats[i], sizeof(floats[i]));
        }
    } else if (type == HS_GGUF_UINT32 || type == HS_GGUF_INT32) {
        for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
            uint32_t value = (uint32_t)integers[i];
            n_crashed += !try_number(bytes, offset, &value, sizeof(value));
        }
    }
    if (n_crashed > 0) {
        print_error("%zu crashes with another value of '%.*s'\n", n_crashed, (int)kv->key_len,
                    kv->key);
    }
    return n_crashed;
}

static void spoil_numbers(int kind)
{
    struct hs_error err = {0};
    struct gguf_bytes bytes = {0};
    size_t header_len = 0;
    build(kind, NULL, &bytes, &header_len);
    uint8_t *copy = malloc(bytes.len);
    assert_non_null(copy);
    memcpy(copy, bytes.data, bytes.len);
    hs_gguf *gguf = NULL;
    OK(hs_gguf_open_memory(copy, bytes.len, bytes.len, &gguf, &err));
    size_t n_crashed = 0;
    for (size_t i = 0; i < hs_gguf_n_kv(gguf); i++) {
        const struct hs_gguf_kv *kv = hs_gguf_kv_at(gguf, i);
        n_crashed += spoil_value(&bytes, kv, (size_t)(kv->value - copy));
    }
    assert_int_equal(n_crashed, 0);
    hs_gguf_free(gguf);
    free(copy);
    gguf_bytes_free(&bytes);
}

static void test_extreme_numbers(void **state)
{
    (void)state;
    spoil_numbers(TINY_GGUF_LLAMA);
    spoil_numbers(TINY_GGUF_GEMMA3);
    spoil_numbers(TINY_GGUF_MAMBA);
    spoil_numbers(BERT);
    spoil_numbers(RANKER);
    print_message("%zu odd numbers let through\n", n_let_through);
    assert_true(n_let_through > 50);
}

/* head, n times unit, then n times the end of it. */
static char *nested(const char *head, const char *unit, size_t n, const char *end)
{
    size_t size = strlen(head) + n * (strlen(unit) + strlen(end)) + 1;
    char *source = malloc(size);
    assert_non_null(source);
    char *at = stpcpy(source, head);
    for (size_t i = 0; i < n; i++) {
        at = stpcpy(at, unit);
    }
    for (size_t i = 0; i < n; i++) {
        at = stpcpy(at, end);
    }
    return source;
}

static void expect_from_template(const char *source, hs_status wanted)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.chat_template = source;
    assert_true(tiny_gguf_write(&spec, path));
    int got = run_child(render_model);
    if (got != (int)wanted) {
        fail_msg("%d instead of %d with the template '%.70s'", got, (int)wanted, source);
    }
}

/* Nesting that would overflow the stack of a recursive parser, interpreter or destructor. */
static void test_nested_templates(void **state)
{
    (void)state;
    static const struct {
        const char *head, *unit, *end;
    } rows[] = {
        {"{{ ", "(", ")"},
        {"{{ ", "[", "]"},
        {"{{ x", "[x", "]"},
        {"{{ ", "{'a':", "}"},
        {"{{ ", "- ", ""},
        {"{{ x is ", "not ", ""},
        {"{{ ", "not ", ""},
        {"{{ f", "()", ""},
        {"{{ 1", "+1", ""},
        {"{{ x", ".x", ""},
        {"{{ x", "|trim", ""},
        {"{{ ", "x if x else ", ""},
        {"", "{% if x %}", "{% endif %}"},
        {"{% if x %}", "{% elif x %}", ""},
        {"", "{% for x in messages %}", "{% endfor %}"},
        {"", "{% macro x() %}", "{% endmacro %}"},
        {"", "{% set x %}", "{% endset %}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *source = nested(rows[i].head, rows[i].unit, 20000, rows[i].end);
        expect_from_template(source, HS_LIMIT);
        free(source);
    }
}

/* What the scan lets through at its limits neither the parser nor the interpreter dies of. */
static void test_nested_templates_at_the_limit(void **state)
{
    (void)state;
    static const struct {
        const char *head, *unit, *middle, *end;
        size_t n;
    } rows[] = {
        {"{{ ", "(", "1", ")", 200},
        {"{{ ", "[", "1", "]", 200},
        {"{{ 1", "+1", "", "", 990},
        {"{{ ", "not ", "x", "", 1990},
        {"", "{% if true %}", "x", "{% endif %}", 200},
        {"", "{% set x %}", "x", "{% endset %}", 200},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *half = nested(rows[i].head, rows[i].unit, rows[i].n, "");
        char *other = nested(rows[i].middle, rows[i].end, rows[i].n, "");
        char *head = malloc(strlen(half) + strlen(other) + 8);
        assert_non_null(head);
        stpcpy(stpcpy(stpcpy(head, half), other), half[1] == '{' ? " }}" : "");
        expect_from_template(head, HS_OK);
        free(half);
        free(other);
        free(head);
    }
}

/* Programs that would run, grow or call themselves for ever. */
static void test_endless_templates(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "{% for i in range(100000000) %}{% endfor %}",
        "{% set n = 100000000 %}{% for i in range(n) %}x{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ g(1) "
        "}}",
        "{% macro f(n) %}{% for i in range(9) %}{{ f(n) if n > 0 }}{% endfor %}{% endmacro %}"
        "{{ f(9) }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}"
        "{% endfor %}",
        "{{ 'xxxxxxxxxxxxxxxx' * 1000000000 }}",
    };
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        expect_from_template(sources[i], HS_LIMIT);
    }
}

static void test_plain_attention(void **state)
{
    (void)state;
    change_bytes(TINY_GGUF_LLAMA);
}

static void test_sliding_window(void **state)
{
    (void)state;
    change_bytes(TINY_GGUF_GEMMA3);
}

static void test_recurrent(void **state)
{
    (void)state;
    change_bytes(TINY_GGUF_MAMBA);
}

static void test_encoder(void **state)
{
    (void)state;
    change_bytes(BERT);
    change_bytes(RANKER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nested_templates),
        cmocka_unit_test(test_nested_templates_at_the_limit),
        cmocka_unit_test(test_endless_templates),
        cmocka_unit_test(test_extreme_numbers),
        cmocka_unit_test(test_plain_attention),
        cmocka_unit_test(test_sliding_window),
        cmocka_unit_test(test_recurrent),
        cmocka_unit_test(test_encoder),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
