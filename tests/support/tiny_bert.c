#include "tiny_bert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_EMBD TINY_BERT_N_EMBD
#define N_FF 64
#define N_HEAD 2
#define N_LAYER 2
#define MAX_VALUES (N_EMBD * N_FF)

/* The same stream of numbers for every file. */
static float next_value(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(*seed >> 40) / (float)(1 << 24) - 0.5F;
}

static void put(struct gguf_writer *out, uint64_t *seed, const char *name, uint64_t n_in,
                uint64_t n_out, float middle, float spread)
{
    float values[MAX_VALUES];
    size_t n = (size_t)(n_in * (n_out > 0 ? n_out : 1));
    for (size_t i = 0; i < n; i++) {
        values[i] = middle + spread * next_value(seed);
    }
    uint64_t dims[2] = {n_in, n_out};
    gguf_writer_tensor(out, name, n_out > 0 ? 2 : 1, dims, 0, values, n * sizeof values[0]);
}

/* A matrix and its bias, or a norm's scale and bias. */
static void put_linear(struct gguf_writer *out, uint64_t *seed, const char *name, uint64_t n_in,
                       uint64_t n_out)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    put(out, seed, full, n_in, n_out, 0, 0.6F);
    snprintf(full, sizeof full, "%s.bias", name);
    put(out, seed, full, n_out, 0, 0, 0.2F);
}

static void put_norm(struct gguf_writer *out, uint64_t *seed, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    put(out, seed, full, N_EMBD, 0, 1, 0.4F);
    snprintf(full, sizeof full, "%s.bias", name);
    put(out, seed, full, N_EMBD, 0, 0, 0.2F);
}

static void put_layer(struct gguf_writer *out, uint64_t *seed, int layer)
{
    static const struct {
        const char *name;
        uint64_t n_in, n_out; /* n_out 0: a norm */
    } rows[] = {
        {"attn_q", N_EMBD, N_EMBD},      {"attn_k", N_EMBD, N_EMBD},
        {"attn_v", N_EMBD, N_EMBD},      {"attn_output", N_EMBD, N_EMBD},
        {"attn_output_norm", N_EMBD, 0}, {"ffn_up", N_EMBD, N_FF},
        {"ffn_down", N_FF, N_EMBD},      {"layer_output_norm", N_EMBD, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[48];
        snprintf(name, sizeof name, "blk.%d.%s", layer, rows[i].name);
        if (rows[i].n_out > 0) {
            put_linear(out, seed, name, rows[i].n_in, rows[i].n_out);
        } else {
            put_norm(out, seed, name);
        }
    }
}

static void put_vocab(struct gguf_writer *out)
{
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    gguf_writer_str(out, "tokenizer.ggml.model", "bert");
    gguf_writer_array(out, "tokenizer.ggml.tokens", GGUF_W_STRING, TINY_BERT_N_VOCAB);
    for (int t = 0; t < TINY_BERT_N_VOCAB; t++) {
        char text[8];
        if (t < 5) {
            gguf_bytes_str(&out->kv, special[t]);
        } else {
            bool begins = t < 5 + 26;
            snprintf(text, sizeof text, "%s%c", begins ? "\xE2\x96\x81" : "", 'a' + (t - 5) % 26);
            gguf_bytes_str(&out->kv, text);
        }
    }
    gguf_writer_array(out, "tokenizer.ggml.token_type", GGUF_W_I32, TINY_BERT_N_VOCAB);
    for (int t = 0; t < TINY_BERT_N_VOCAB; t++) {
        gguf_bytes_u32(&out->kv, t < 5 ? 3 : 1); /* control, normal */
    }
    gguf_writer_u32(out, "tokenizer.ggml.token_type_count", 2);
    gguf_writer_u32(out, "tokenizer.ggml.padding_token_id", 0);
    gguf_writer_u32(out, "tokenizer.ggml.unknown_token_id", 1);
    gguf_writer_u32(out, "tokenizer.ggml.cls_token_id", TINY_BERT_CLS);
    gguf_writer_u32(out, "tokenizer.ggml.bos_token_id", TINY_BERT_CLS);
    gguf_writer_u32(out, "tokenizer.ggml.seperator_token_id", TINY_BERT_SEP);
    gguf_writer_u32(out, "tokenizer.ggml.mask_token_id", 4);
}

static void put_hparams(struct gguf_writer *out, enum tiny_bert_pooling pooling)
{
    gguf_writer_str(out, "general.architecture", "bert");
    gguf_writer_str(out, "general.type", "model");
    gguf_writer_str(out, "general.name", "tiny bert");
    gguf_writer_u32(out, "general.file_type", 0);
    gguf_writer_u32(out, "bert.context_length", TINY_BERT_N_CTX);
    gguf_writer_u32(out, "bert.embedding_length", N_EMBD);
    gguf_writer_u32(out, "bert.feed_forward_length", N_FF);
    gguf_writer_u32(out, "bert.block_count", N_LAYER);
    gguf_writer_u32(out, "bert.attention.head_count", N_HEAD);
    gguf_writer_f32(out, "bert.attention.layer_norm_epsilon", 1e-12F);
    gguf_writer_bool(out, "bert.attention.causal", false);
    if (pooling != TINY_BERT_SAYS_NOTHING) {
        gguf_writer_u32(out, "bert.pooling_type", (uint32_t)pooling);
    }
}

bool tiny_bert_build(enum tiny_bert_pooling pooling, struct gguf_bytes *ret_bytes,
                     size_t *ret_header_len)
{
    uint64_t seed = 7;
    struct gguf_writer out;
    gguf_writer_init(&out);
    put_hparams(&out, pooling);
    put_vocab(&out);
    put(&out, &seed, "token_embd.weight", N_EMBD, TINY_BERT_N_VOCAB, 0, 2);
    put(&out, &seed, "token_types.weight", N_EMBD, 2, 0, 1);
    put(&out, &seed, "position_embd.weight", N_EMBD, TINY_BERT_N_CTX, 0, 1);
    put_norm(&out, &seed, "token_embd_norm");
    for (int layer = 0; layer < N_LAYER; layer++) {
        put_layer(&out, &seed, layer);
    }
    if (pooling == TINY_BERT_RANK) {
        put_linear(&out, &seed, "cls", N_EMBD, N_EMBD);
        put_linear(&out, &seed, "cls.output", N_EMBD, 1);
    }
    bool is_ok = gguf_writer_finish(&out, ret_bytes, ret_header_len);
    gguf_writer_free(&out);
    return is_ok;
}

bool tiny_bert_write(enum tiny_bert_pooling pooling, const char *path)
{
    struct gguf_bytes bytes;
    if (!tiny_bert_build(pooling, &bytes, NULL)) {
        return false;
    }
    FILE *file = fopen(path, "wb");
    bool is_ok = file && fwrite(bytes.data, 1, bytes.len, file) == bytes.len;
    if (file && fclose(file) != 0) {
        is_ok = false;
    }
    gguf_bytes_free(&bytes);
    return is_ok;
}
