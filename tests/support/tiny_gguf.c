#include "tiny_gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_EMBD 64
#define N_FF 32
#define N_VOCAB TINY_GGUF_N_VOCAB
#define K_MIN (-128)
#define K_MAX 127
#define MIN_DISTANCE 16

/* Dimensions of HISTORY's residual stream: sixteen signs, so that the root mean square of every
 * embedding is exactly 1/2, then what attention adds. */
enum { DIM_W1, DIM_W2, DIM_W4, DIM_BOS, DIM_ONE, N_SIGNS = 16, DIM_SUM = 16, DIM_COUNT = 17 };

/* Channels of V. The constant pins the scale of a q8_0 block to 1/16, so integers stay exact. */
enum { V_PIN, V_SUM, V_COUNT };
#define V_PIN_VALUE (127.0f / 16.0f)

/* Makes a lead of 1/n in the sum of HISTORY at least ten in logits. */
#define HISTORY_SCALE 8192.0f

struct weights {
    float embd[N_VOCAB][N_EMBD];
    float output[N_VOCAB][N_EMBD];
    float attn_v[N_EMBD][N_EMBD]; /* [out][in] */
    float attn_out[N_EMBD][N_EMBD];
};

void tiny_gguf_defaults(struct tiny_gguf_spec *spec)
{
    *spec = (struct tiny_gguf_spec){
        .kind = TINY_GGUF_BIGRAM,
        .name = "tiny",
        .n_ctx_train = 4096,
        .n_layer = 1,
        .eos = TINY_GGUF_EOS,
        .add_bos = true,
        .logit_scale = 2.0f,
    };
}

static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

int32_t tiny_gguf_weight(int32_t token)
{
    if (token >= TINY_GGUF_ANSWER0 && token < TINY_GGUF_ANSWER0 + TINY_GGUF_N_ANSWERS) {
        int32_t k = token - TINY_GGUF_ANSWER0 + K_MIN;
        int32_t size = 1 + 2 * (int32_t)(mix((uint64_t)token) % 4);
        return k >= 0 ? -size : size;
    }
    return mix((uint64_t)token) % 2 ? 1 : -1;
}

/* Code words that differ pairwise in at least MIN_DISTANCE of 64 signs. */
static void make_codes(uint64_t codes[N_VOCAB])
{
    uint64_t seed = 1;
    for (int32_t i = 0; i < N_VOCAB;) {
        codes[i] = mix(seed++);
        int32_t j = 0;
        while (j < i && __builtin_popcountll(codes[i] ^ codes[j]) >= MIN_DISTANCE) {
            j++;
        }
        i += j == i;
    }
}

static int32_t bigram_next(const struct tiny_gguf_spec *spec, int32_t last)
{
    int32_t table[N_VOCAB];
    const int32_t *next = spec->next;
    if (!next) {
        tiny_gguf_next_default(table);
        next = table;
    }
    return next[last] < 0 ? spec->eos : next[last];
}

static int32_t history_token(const struct tiny_gguf_spec *spec, int32_t k)
{
    return k == 0 && spec->history_stops ? TINY_GGUF_IM_END : TINY_GGUF_ANSWER0 + k - K_MIN;
}

int32_t tiny_gguf_next(const struct tiny_gguf_spec *spec, const int32_t *tokens, size_t n)
{
    if (spec->kind == TINY_GGUF_BIGRAM) {
        return bigram_next(spec, tokens[n - 1]);
    }
    int64_t sum = 0;
    size_t n_bos = 0;
    for (size_t i = 0; i < n; i++) {
        sum += tiny_gguf_weight(tokens[i]);
        n_bos += tokens[i] == TINY_GGUF_BOS;
    }
    if (n_bos != 1 || n > TINY_GGUF_HISTORY_MAX) {
        return -1;
    }
    sum = sum < K_MIN ? K_MIN : sum > K_MAX ? K_MAX : sum;
    return history_token(spec, (int32_t)sum);
}

int32_t tiny_gguf_history_next(const int32_t *tokens, size_t n)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.kind = TINY_GGUF_HISTORY;
    return tiny_gguf_next(&spec, tokens, n);
}

float tiny_gguf_bigram_logit(const struct tiny_gguf_spec *spec, int32_t last, int32_t token)
{
    uint64_t codes[N_VOCAB];
    make_codes(codes);
    uint64_t differing = codes[bigram_next(spec, last)] ^ codes[token];
    return spec->logit_scale * (float)(N_EMBD - 2 * __builtin_popcountll(differing));
}

static void fill_bigram(const struct tiny_gguf_spec *spec, struct weights *w)
{
    uint64_t codes[N_VOCAB];
    make_codes(codes);
    for (int32_t t = 0; t < N_VOCAB; t++) {
        uint64_t target = codes[bigram_next(spec, t)];
        for (int d = 0; d < N_EMBD; d++) {
            w->embd[t][d] = (target >> d) & 1 ? 1.0f : -1.0f;
            w->output[t][d] = (codes[t] >> d) & 1 ? spec->logit_scale : -spec->logit_scale;
        }
    }
}

/* The signs b1, b2, b4 with b1 + 2 b2 + 4 b4 = weight, an odd number in -7..7. */
static void put_weight(float *embd, int32_t weight)
{
    uint32_t bits = (uint32_t)(weight + 7) / 2;
    embd[DIM_W1] = bits & 1 ? 1.0f : -1.0f;
    embd[DIM_W2] = bits & 2 ? 1.0f : -1.0f;
    embd[DIM_W4] = bits & 4 ? 1.0f : -1.0f;
}

static void fill_history(const struct tiny_gguf_spec *spec, struct weights *w)
{
    for (int32_t t = 0; t < N_VOCAB; t++) {
        for (int d = 0; d < N_SIGNS; d++) {
            w->embd[t][d] = 1.0f;
        }
        put_weight(w->embd[t], tiny_gguf_weight(t));
        w->embd[t][DIM_BOS] = t == TINY_GGUF_BOS ? 1.0f : -1.0f;
        w->output[t][DIM_ONE] = -HISTORY_SCALE; /* tokens that are no answer lose to all answers */
    }
    for (int32_t k = K_MIN; k <= K_MAX; k++) {
        float *row = w->output[history_token(spec, k)];
        row[DIM_ONE] = 0.0f;
        row[DIM_SUM] = HISTORY_SCALE * 2.0f * (float)k;
        row[DIM_COUNT] = -HISTORY_SCALE * (float)(k * k);
    }
    /* The norm before attention doubles the signs, hence the halves. */
    w->attn_v[V_PIN][DIM_ONE] = 0.5f * V_PIN_VALUE;
    w->attn_v[V_SUM][DIM_W1] = 0.5f;
    w->attn_v[V_SUM][DIM_W2] = 1.0f;
    w->attn_v[V_SUM][DIM_W4] = 2.0f;
    w->attn_v[V_COUNT][DIM_BOS] = 0.25f;
    w->attn_v[V_COUNT][DIM_ONE] = 0.25f;
    w->attn_out[DIM_SUM][V_SUM] = 1.0f;
    w->attn_out[DIM_COUNT][V_COUNT] = 1.0f;
}

static void put_hparams(const struct tiny_gguf_spec *spec, struct gguf_writer *out)
{
    gguf_writer_str(out, "general.architecture", "llama");
    gguf_writer_str(out, "general.type", "model");
    gguf_writer_str(out, "general.name", spec->name);
    gguf_writer_u32(out, "general.file_type", 0);
    gguf_writer_u32(out, "llama.context_length", spec->n_ctx_train);
    gguf_writer_u32(out, "llama.embedding_length", N_EMBD);
    gguf_writer_u32(out, "llama.block_count", spec->n_layer);
    gguf_writer_u32(out, "llama.feed_forward_length", N_FF);
    gguf_writer_u32(out, "llama.attention.head_count", 1);
    gguf_writer_u32(out, "llama.attention.head_count_kv", 1);
    gguf_writer_u32(out, "llama.rope.dimension_count", N_EMBD);
    /* Vanishes beside the mean squares of the embeddings, which keeps the norms exact. */
    gguf_writer_f32(out, "llama.attention.layer_norm_rms_epsilon", 1e-20f);
    gguf_writer_u32(out, "llama.vocab_size", N_VOCAB);
}

/* llama.cpp's token types. */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, TYPE_BYTE = 6 };

static uint32_t token_type(int32_t token)
{
    if (token == TINY_GGUF_UNK) {
        return TYPE_UNKNOWN;
    }
    if (token == TINY_GGUF_BOS || token == TINY_GGUF_EOS || token == TINY_GGUF_IM_START ||
        token == TINY_GGUF_IM_END) {
        return TYPE_CONTROL;
    }
    if (token == TINY_GGUF_THINK || token == TINY_GGUF_THINK_END) {
        return TYPE_USER_DEFINED;
    }
    return token < TINY_GGUF_IM_START ? TYPE_BYTE : TYPE_NORMAL;
}

static void put_piece(struct gguf_writer *out, int32_t token)
{
    char text[16], piece[32];
    size_t n = 0;
    if (token_type(token) == TYPE_BYTE) {
        snprintf(piece, sizeof(piece), "<0x%02X>", (unsigned)(token - TINY_GGUF_BYTE0));
        gguf_bytes_str(&out->kv, piece);
        return;
    }
    tiny_gguf_text(token, text, NULL);
    for (const char *c = text; *c; c++) {
        const char *as = *c == ' ' ? "\xE2\x96\x81" : (char[]){*c, '\0'};
        memcpy(piece + n, as, strlen(as));
        n += strlen(as);
    }
    piece[n] = '\0';
    gguf_bytes_str(&out->kv, piece);
}

static void put_vocab(const struct tiny_gguf_spec *spec, struct gguf_writer *out)
{
    gguf_writer_str(out, "tokenizer.ggml.model", "llama");
    gguf_writer_str(out, "tokenizer.ggml.pre", "default");
    gguf_writer_array(out, "tokenizer.ggml.tokens", GGUF_W_STRING, N_VOCAB);
    for (int32_t t = 0; t < N_VOCAB; t++) {
        put_piece(out, t);
    }
    gguf_writer_array(out, "tokenizer.ggml.scores", GGUF_W_F32, N_VOCAB);
    for (int32_t t = 0; t < N_VOCAB; t++) {
        gguf_bytes_f32(&out->kv, t < TINY_GGUF_SPACE ? 0.0f : (float)-t);
    }
    gguf_writer_array(out, "tokenizer.ggml.token_type", GGUF_W_I32, N_VOCAB);
    for (int32_t t = 0; t < N_VOCAB; t++) {
        gguf_bytes_u32(&out->kv, token_type(t));
    }
    gguf_writer_u32(out, "tokenizer.ggml.bos_token_id", TINY_GGUF_BOS);
    gguf_writer_u32(out, "tokenizer.ggml.eos_token_id", (uint32_t)spec->eos);
    gguf_writer_u32(out, "tokenizer.ggml.unknown_token_id", TINY_GGUF_UNK);
    gguf_writer_bool(out, "tokenizer.ggml.add_bos_token", spec->add_bos);
    gguf_writer_bool(out, "tokenizer.ggml.add_eos_token", false);
    gguf_writer_bool(out, "tokenizer.ggml.add_space_prefix", spec->add_space_prefix);
    if (spec->chat_template) {
        gguf_writer_str(out, "tokenizer.chat_template", spec->chat_template);
    }
}

static void put_matrix(struct gguf_writer *out, const char *name, uint64_t n_in, uint64_t n_out,
                       const void *data)
{
    uint64_t dims[2] = {n_in, n_out};
    gguf_writer_tensor(out, name, 2, dims, 0, data, (size_t)(n_in * n_out) * sizeof(float));
}

static void put_norm(struct gguf_writer *out, const char *name)
{
    float ones[N_EMBD];
    uint64_t dims[1] = {N_EMBD};
    for (int d = 0; d < N_EMBD; d++) {
        ones[d] = 1.0f;
    }
    gguf_writer_tensor(out, name, 1, dims, 0, ones, sizeof(ones));
}

static void put_layer(struct gguf_writer *out, uint32_t layer, const struct weights *w)
{
    char name[64];
    const char *const zeros[] = {"attn_q", "attn_k"};
    const char *const acting[] = {"attn_v", "attn_output"};
    const void *const data[] = {layer == 0 ? w->attn_v : NULL, layer == 0 ? w->attn_out : NULL};
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, zeros[i]);
        put_matrix(out, name, N_EMBD, N_EMBD, NULL);
        snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, acting[i]);
        put_matrix(out, name, N_EMBD, N_EMBD, data[i]);
    }
    const char *const norms[] = {"attn_norm", "ffn_norm"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, norms[i]);
        put_norm(out, name);
    }
    snprintf(name, sizeof(name), "blk.%u.ffn_gate.weight", layer);
    put_matrix(out, name, N_EMBD, N_FF, NULL);
    snprintf(name, sizeof(name), "blk.%u.ffn_up.weight", layer);
    put_matrix(out, name, N_EMBD, N_FF, NULL);
    snprintf(name, sizeof(name), "blk.%u.ffn_down.weight", layer);
    put_matrix(out, name, N_FF, N_EMBD, NULL);
}

bool tiny_gguf_build(const struct tiny_gguf_spec *spec, struct gguf_bytes *ret_bytes,
                     size_t *ret_header_len)
{
    struct weights *w = calloc(1, sizeof(*w));
    if (!w) {
        return false;
    }
    if (spec->kind == TINY_GGUF_BIGRAM) {
        fill_bigram(spec, w);
    } else {
        fill_history(spec, w);
    }
    struct gguf_writer out;
    gguf_writer_init(&out);
    put_hparams(spec, &out);
    put_vocab(spec, &out);
    put_matrix(&out, "token_embd.weight", N_EMBD, N_VOCAB, w->embd);
    put_matrix(&out, "output.weight", N_EMBD, N_VOCAB, w->output);
    put_norm(&out, "output_norm.weight");
    for (uint32_t layer = 0; layer < spec->n_layer; layer++) {
        put_layer(&out, layer, w);
    }
    if (spec->extra) {
        spec->extra(&out, spec->extra_user);
    }
    bool is_ok = gguf_writer_finish(&out, ret_bytes, ret_header_len);
    gguf_writer_free(&out);
    free(w);
    return is_ok;
}

bool tiny_gguf_write(const struct tiny_gguf_spec *spec, const char *path)
{
    struct gguf_bytes bytes;
    if (!tiny_gguf_build(spec, &bytes, NULL)) {
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
