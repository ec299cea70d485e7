/*
 * What our checks let through must not end the process inside llama.cpp: the tiny models with one
 * field changed at a time, those that pass loaded and run by the real library in a child process.
 * Loading may fail there; a signal may not come.
 */
#include "gguf_test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "llama.h"
#include "tiny_gguf.h"

struct hostile {
    struct gguf_bytes bytes;
    char path[512];
    int fd;
    size_t n_tried, n_loaded;
};

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)level;
    (void)text;
    (void)user;
}

static int load_backends(void **state)
{
    (void)state;
    setenv("GGML_NO_BACKTRACE", "1", 1);
    llama_log_set(quiet, NULL);
    ggml_backend_load_all_from_path(HS_LLAMA_BACKENDS);
    llama_backend_init();
    return 0;
}

static int free_backends(void **state)
{
    (void)state;
    llama_backend_free();
    return 0;
}

/* In the child: load, tokenize, decode, look at a token. */
static int run_model(const char *path)
{
    int32_t tokens[64];
    char piece[64];
    struct llama_model_params model_params = llama_model_default_params();
    struct llama_context_params params = llama_context_default_params();
    model_params.n_gpu_layers = 0;
    params.n_ctx = 128;
    params.n_threads = params.n_threads_batch = 1;
    struct llama_model *model = llama_model_load_from_file(path, model_params);
    struct llama_context *context = model ? llama_init_from_model(model, params) : NULL;
    if (!context) {
        return 1;
    }
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int32_t n = llama_tokenize(vocab, "Hi \xC3\xA9 <|im_end|>\x01", 16, tokens, 64, true, true);
    if (n <= 0 || llama_decode(context, llama_batch_get_one(tokens, n)) != 0) {
        return 1;
    }
    return llama_token_to_piece(vocab, tokens[n - 1], piece, 64, 0, true) < 0;
}

/* Write `value` over the bytes at `at`, see whether our checks refuse it, else run it. */
static void try_change(struct hostile *h, size_t at, const void *value, size_t len,
                       const char *what, const char *which)
{
    uint8_t old[8];
    struct hs_error err;
    hs_gguf *gguf = NULL;
    memcpy(old, h->bytes.data + at, len);
    memcpy(h->bytes.data + at, value, len);
    h->n_tried++;
    bool passes =
        hs_gguf_open_memory(h->bytes.data, h->bytes.len, h->bytes.len, &gguf, &err) == HS_OK &&
        hs_gguf_check_model(gguf, NULL, &err) == HS_OK;
    hs_gguf_free(gguf);
    if (passes) {
        int how = 0;
        assert_int_equal(pwrite(h->fd, value, len, (off_t)at), len);
        pid_t child = fork();
        if (child == 0) {
            setrlimit(RLIMIT_CPU, &(struct rlimit){30, 30}); /* the machine may be busy */
            alarm(600);
            _exit(run_model(h->path));
        }
        assert_int_equal(waitpid(child, &how, 0), child);
        if (!WIFEXITED(how)) {
            uint64_t shown = 0;
            memcpy(&shown, value, len);
            fail_msg("%s %s 0x%llx: signal %d", what, which, (unsigned long long)shown,
                     WTERMSIG(how));
        }
        h->n_loaded += WEXITSTATUS(how) == 0;
        assert_int_equal(pwrite(h->fd, old, len, (off_t)at), len);
    }
    memcpy(h->bytes.data + at, old, len);
}

/* Sizes, their neighbours, signs, and the bits of 1, -1, infinity and NaN. */
static const uint32_t values[] = {
    0,    1,     2,          3,          7,          31,         33,         64,         127,
    512,  513,   1024,       4096,       65535,      65536,      1u << 20,   0x3F800000, 0xBF800000,
    4097, 1000u, 0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
};
#define N_VALUES (sizeof values / sizeof values[0])

static void change_value(struct hostile *h, const struct hs_gguf_kv *kv, const char *key)
{
    size_t at = (size_t)(kv->value - h->bytes.data);
    if (kv->type == HS_GGUF_UINT32 || kv->type == HS_GGUF_FLOAT32) {
        for (size_t i = 0; i < N_VALUES; i++) {
            try_change(h, at, &values[i], 4, "set", key);
        }
    } else if (kv->type == HS_GGUF_BOOL) {
        try_change(h, at, kv->value[0] ? "\0" : "\1", 1, "set", key);
    } else if (kv->type == HS_GGUF_ARRAY && kv->item_type != HS_GGUF_STRING) {
        for (size_t i = 0; i < kv->n_items; i += 97) {
            try_change(h, at + 4 * i, &values[i % N_VALUES], 4, "item of", key);
        }
    } else {
        for (size_t i = 0; i < kv->value_len && i < 4096; i += 1 + i / 16) {
            try_change(h, at + i, "\xFF", 1, "byte of", key);
        }
    }
}

/* Drop each key, give it each type, change its value. */
static void change_keys(struct hostile *h, const hs_gguf *gguf)
{
    for (size_t i = 0; i < hs_gguf_n_kv(gguf); i++) {
        const struct hs_gguf_kv *kv = hs_gguf_kv_at(gguf, i);
        size_t end = (size_t)((const uint8_t *)kv->key - h->bytes.data) + kv->key_len;
        char *key = strndup(kv->key, kv->key_len);
        assert_non_null(key);
        try_change(h, end - 1, "_", 1, "drop", key);
        for (uint32_t type = 0; type <= 12; type++) {
            try_change(h, end, &type, 4, "type of", key);
            if (kv->type == HS_GGUF_ARRAY) {
                try_change(h, end + 4, &type, 4, "item type of", key);
            }
        }
        change_value(h, kv, key);
        free(key);
    }
}

static void change_tensors(struct hostile *h, const hs_gguf *gguf)
{
    for (size_t i = 0; i < hs_gguf_n_tensors(gguf); i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(gguf, i);
        size_t len = strlen(tensor->name);
        uint8_t *name = memmem(h->bytes.data, hs_gguf_data_offset(gguf), tensor->name, len);
        assert_non_null(name);
        size_t end = (size_t)(name - h->bytes.data) + len;
        try_change(h, end - 1, "_", 1, "drop tensor", tensor->name);
        for (uint32_t type = 0; type < 43; type++) {
            try_change(h, end + 4 + 8 * tensor->n_dims, &type, 4, "type of tensor", tensor->name);
        }
    }
}

static void run_all(enum tiny_gguf_arch arch)
{
    struct tiny_gguf_spec spec;
    struct hostile h = {.fd = -1};
    struct hs_error err;
    hs_gguf *gguf = NULL;
    tiny_gguf_defaults(&spec);
    spec.arch = arch;
    spec.kind = TINY_GGUF_HISTORY;
    spec.chat_template = tiny_gguf_chatml;
    assert_true(tiny_gguf_build(&spec, &h.bytes, NULL));
    snprintf(h.path, sizeof h.path, "%s/gguf-hostile-%d", HS_TEST_TMP, (int)getpid());
    assert_true(tiny_gguf_write(&spec, h.path));
    h.fd = open(h.path, O_RDWR | O_CLOEXEC);
    assert_true(h.fd >= 0);
    assert_int_equal(hs_gguf_open_memory(h.bytes.data, h.bytes.len, h.bytes.len, &gguf, &err),
                     HS_OK);
    change_keys(&h, gguf);
    change_tensors(&h, gguf);
    print_message("%zu changes, %zu of them still run\n", h.n_tried, h.n_loaded);
    assert_true(h.n_loaded > 100);
    hs_gguf_free(gguf);
    close(h.fd);
    unlink(h.path);
    gguf_bytes_free(&h.bytes);
}

static void llama_survives(void **state)
{
    (void)state;
    run_all(TINY_GGUF_LLAMA);
}

static void gemma3_survives(void **state)
{
    (void)state;
    run_all(TINY_GGUF_GEMMA3);
}

static void mamba_survives(void **state)
{
    (void)state;
    run_all(TINY_GGUF_MAMBA);
}

static void qwen3_survives(void **state)
{
    (void)state;
    run_all(TINY_GGUF_QWEN3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_survives),
        cmocka_unit_test(gemma3_survives),
        cmocka_unit_test(mamba_survives),
        cmocka_unit_test(qwen3_survives),
    };
    return cmocka_run_group_tests(tests, load_backends, free_backends);
}
