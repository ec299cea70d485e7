#include "tiny_random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_internal.h"

#define N TINY_RANDOM_N_EMBD
#define Q (TINY_RANDOM_N_HEAD * TINY_RANDOM_HEAD)
#define KV (TINY_RANDOM_N_HEAD_KV * TINY_RANDOM_HEAD)
#define FF TINY_RANDOM_N_FF
#define LARGEST ((size_t)TINY_GGUF_N_VOCAB * N)

const char *const tiny_random_matrices[] = {
    "attn_q.weight",   "attn_k.weight", "attn_v.weight",   "attn_output.weight",
    "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight", NULL,
};
static const int64_t shapes[][2] = {{Q, N}, {KV, N}, {KV, N}, {N, Q}, {FF, N}, {FF, N}, {N, FF}};

bool tiny_random_shape(const char *tensor, int64_t *ret_n_out, int64_t *ret_n_in)
{
    if (strcmp(tensor, "token_embd.weight") == 0 || strcmp(tensor, "output.weight") == 0) {
        *ret_n_out = TINY_GGUF_N_VOCAB;
        *ret_n_in = N;
        return true;
    }
    unsigned layer = 0;
    int len = 0;
    if (sscanf(tensor, "blk.%u.%n", &layer, &len) != 1 || len == 0 ||
        layer >= TINY_RANDOM_N_LAYER) {
        return false;
    }
    for (size_t i = 0; tiny_random_matrices[i]; i++) {
        if (strcmp(tensor + len, tiny_random_matrices[i]) == 0) {
            *ret_n_out = shapes[i][0];
            *ret_n_in = shapes[i][1];
            return true;
        }
    }
    return false;
}

struct model {
    const struct tiny_random_spec *spec;
    struct gguf_writer out;
    float *values; /* [LARGEST] */
};

/* splitmix64; values in [-1, 1), each tensor with a sequence of its own. */
static void fill(struct model *model, const char *name, size_t n)
{
    uint64_t state = model->spec->seed * 0x9E3779B97F4A7C15u + 1;
    for (const char *c = name; *c; c++) {
        state = (state ^ (uint8_t)*c) * 0x100000001B3u;
    }
    for (size_t i = 0; i < n; i++) {
        state += 0x9E3779B97F4A7C15u;
        uint64_t x = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
        model->values[i] = (float)(int32_t)((x ^ (x >> 31)) >> 32) / 2147483648.0f;
    }
}

/* Variance 1 / n_in, as in models before training; `as`: whose values it gets. */
static void put_matrix(struct model *model, const char *name, const char *as, int64_t n_out,
                       int64_t n_in)
{
    size_t n = (size_t)(n_out * n_in);
    fill(model, as, n);
    float scale = sqrtf(3.0f / (float)n_in);
    for (size_t i = 0; i < n; i++) {
        model->values[i] *= scale;
    }
    if (model->spec->change) {
        model->spec->change(name, model->values, n_out, n_in, model->spec->change_user);
    }
    tiny_put_matrix(&model->out, name, (uint64_t)n_in, (uint64_t)n_out, model->values);
}

static void put_norm(struct model *model, const char *name, uint64_t n)
{
    fill(model, name, (size_t)n);
    for (uint64_t i = 0; i < n; i++) {
        model->values[i] = 1.0f + 0.3f * model->values[i];
    }
    gguf_writer_tensor(&model->out, name, 1, &n, 0, model->values, (size_t)n * sizeof(float));
}

static void put_experts(struct model *model, unsigned layer)
{
    static const struct {
        const char *name;
        uint64_t dims[3];
    } tensors[] = {{"ffn_gate_inp.weight", {N, TINY_RANDOM_N_EXPERT, 1}},
                   {"ffn_gate_exps.weight", {N, FF, TINY_RANDOM_N_EXPERT}},
                   {"ffn_up_exps.weight", {N, FF, TINY_RANDOM_N_EXPERT}},
                   {"ffn_down_exps.weight", {FF, N, TINY_RANDOM_N_EXPERT}}};
    char name[64];
    for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++) {
        const uint64_t *dims = tensors[i].dims;
        size_t n = (size_t)(dims[0] * dims[1] * dims[2]);
        snprintf(name, sizeof(name), "blk.%u.%s", layer, tensors[i].name);
        fill(model, name, n);
        for (size_t k = 0; k < n; k++) {
            model->values[k] *= sqrtf(3.0f / (float)dims[0]);
        }
        gguf_writer_tensor(&model->out, name, dims[2] == 1 ? 2 : 3, dims, 0, model->values,
                           n * sizeof(float));
    }
}

static void put_layer(struct model *model, unsigned layer)
{
    static const struct {
        const char *name;
        uint64_t n;
        bool in_arch[4];
    } norms[] = {
        {"attn_norm.weight", N, {true, true, true, true}},
        {"ffn_norm.weight", N, {true, true, true, true}},
        {"attn_q_norm.weight", TINY_RANDOM_HEAD, {false, true, true, true}},
        {"attn_k_norm.weight", TINY_RANDOM_HEAD, {false, true, true, true}},
        {"post_attention_norm.weight", N, {false, false, true}},
        {"post_ffw_norm.weight", N, {false, false, true}},
    };
    char name[64];
    for (size_t i = 0; i < sizeof(norms) / sizeof(norms[0]); i++) {
        if (norms[i].in_arch[model->spec->arch]) {
            snprintf(name, sizeof(name), "blk.%u.%s", layer, norms[i].name);
            put_norm(model, name, norms[i].n);
        }
    }
    bool is_mixture = model->spec->arch == TINY_RANDOM_QWEN3MOE;
    for (size_t i = 0; tiny_random_matrices[i]; i++) {
        if (!is_mixture || strncmp(tiny_random_matrices[i], "ffn_", 4) != 0) {
            snprintf(name, sizeof(name), "blk.%u.%s", layer, tiny_random_matrices[i]);
            put_matrix(model, name, name, shapes[i][0], shapes[i][1]);
        }
    }
    if (is_mixture) {
        put_experts(model, layer);
    }
}

static void put_hparams(struct model *model)
{
    static const char *const names[] = {"llama", "qwen3", "gemma3", "qwen3moe"};
    const char *arch = names[model->spec->arch];
    const struct {
        const char *key;
        uint32_t value;
    } values[] = {
        {"context_length", 4096},
        {"embedding_length", N},
        {"block_count", TINY_RANDOM_N_LAYER},
        {"vocab_size", TINY_GGUF_N_VOCAB},
        {"feed_forward_length", FF},
        {"attention.head_count", TINY_RANDOM_N_HEAD},
        {"attention.head_count_kv", TINY_RANDOM_N_HEAD_KV},
        {"attention.key_length", TINY_RANDOM_HEAD},
        {"attention.value_length", TINY_RANDOM_HEAD},
        {"rope.dimension_count", TINY_RANDOM_HEAD},
    };
    char key[80];
    gguf_writer_str(&model->out, "general.architecture", arch);
    gguf_writer_str(&model->out, "general.type", "model");
    gguf_writer_str(&model->out, "general.name", "tiny random");
    gguf_writer_u32(&model->out, "general.file_type", 0);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        snprintf(key, sizeof(key), "%s.%s", arch, values[i].key);
        gguf_writer_u32(&model->out, key, values[i].value);
    }
    snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_writer_f32(&model->out, key, 1e-6f);
    if (model->spec->arch == TINY_RANDOM_GEMMA3) {
        gguf_writer_u32(&model->out, "gemma3.attention.sliding_window", TINY_RANDOM_N_SWA);
        gguf_writer_u32(&model->out, "gemma3.attention.sliding_window_pattern", 2);
    }
    if (model->spec->arch == TINY_RANDOM_QWEN3MOE) {
        gguf_writer_u32(&model->out, "qwen3moe.expert_count", TINY_RANDOM_N_EXPERT);
        gguf_writer_u32(&model->out, "qwen3moe.expert_used_count", TINY_RANDOM_N_EXPERT);
        gguf_writer_u32(&model->out, "qwen3moe.expert_feed_forward_length", FF);
    }
}

static bool build(struct model *model, struct gguf_bytes *ret_bytes)
{
    static const char embedding[] = "token_embd.weight", output[] = "output.weight";
    struct tiny_gguf_spec words;
    tiny_gguf_defaults(&words);
    put_hparams(model);
    tiny_put_vocab(&words, &model->out);
    put_matrix(model, embedding, embedding, TINY_GGUF_N_VOCAB, N);
    if (!model->spec->is_tied || model->spec->change) {
        put_matrix(model, output, model->spec->is_tied ? embedding : output, TINY_GGUF_N_VOCAB, N);
    }
    put_norm(model, "output_norm.weight", N);
    for (unsigned layer = 0; layer < TINY_RANDOM_N_LAYER; layer++) {
        put_layer(model, layer);
    }
    return gguf_writer_finish(&model->out, ret_bytes, NULL);
}

bool tiny_random_write(const struct tiny_random_spec *spec, const char *path)
{
    struct model model = {.spec = spec, .values = malloc(LARGEST * sizeof(float))};
    struct gguf_bytes bytes = {0};
    if (!model.values) {
        return false;
    }
    gguf_writer_init(&model.out);
    bool is_ok = build(&model, &bytes);
    gguf_writer_free(&model.out);
    free(model.values);
    FILE *file = is_ok ? fopen(path, "wb") : NULL;
    is_ok = file && fwrite(bytes.data, 1, bytes.len, file) == bytes.len;
    is_ok = file && fclose(file) == 0 && is_ok;
    gguf_bytes_free(&bytes);
    return is_ok;
}
