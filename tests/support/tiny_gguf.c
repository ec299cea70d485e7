#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_internal.h"

#define K_MIN (-128)
#define K_MAX 127
#define K_MIN_WINDOW (-16)
#define K_MAX_WINDOW 15
#define MIN_DISTANCE 16

/* Makes a lead of 1/n in the sum of HISTORY at least ten in logits. */
#define HISTORY_SCALE 8192.0f
/* Lets a vote that ends in a tie count as won, by less than a single voice would. */
#define TIE_BREAK 0.004f

struct weights {
    float embd[N_VOCAB][N_EMBD];
    float output[N_VOCAB][N_EMBD];
};

void tiny_gguf_defaults(struct tiny_gguf_spec *spec)
{
    *spec = (struct tiny_gguf_spec){
        .kind = TINY_GGUF_BIGRAM,
        .arch = TINY_GGUF_LLAMA,
        .name = "tiny",
        .n_ctx_train = 4096,
        .n_layer = 0,
        .n_swa = 32,
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

bool tiny_gguf_vote(int32_t token, int i)
{
    return (mix((uint64_t)token + 1000) >> i) & 1;
}

/* The answer token of sum k and, in windowed models, of the votes in `window` (three bits). */
static int32_t history_token(const struct tiny_gguf_spec *spec, int32_t k, uint32_t window)
{
    if (k == 0 && spec->history_stops) {
        return TINY_GGUF_IM_END;
    }
    if (spec->arch == TINY_GGUF_GEMMA3) {
        return TINY_GGUF_ANSWER0 + (k - K_MIN_WINDOW) * 8 + (int32_t)window;
    }
    return TINY_GGUF_ANSWER0 + k - K_MIN;
}

static uint32_t window_votes(const struct tiny_gguf_spec *spec, const int32_t *tokens, size_t n)
{
    uint32_t bits = 0;
    for (int i = 0; i < 3; i++) {
        int32_t sum = 0;
        for (size_t at = n > spec->n_swa ? n - spec->n_swa : 0; at < n; at++) {
            sum += tiny_gguf_vote(tokens[at], i) ? 1 : -1;
        }
        bits |= (uint32_t)(sum >= 0) << i;
    }
    return bits;
}

static int32_t history_next(const struct tiny_gguf_spec *spec, int32_t shift, const int32_t *tokens,
                            size_t n)
{
    int64_t sum = shift;
    size_t n_bos = 0;
    for (size_t i = 0; i < n; i++) {
        sum += tiny_gguf_weight(tokens[i]);
        n_bos += tokens[i] == TINY_GGUF_BOS;
    }
    if (spec->arch != TINY_GGUF_MAMBA && (n_bos != 1 || n > TINY_GGUF_HISTORY_MAX)) {
        return -1;
    }
    bool is_windowed = spec->arch == TINY_GGUF_GEMMA3;
    int32_t min = is_windowed ? K_MIN_WINDOW : K_MIN, max = is_windowed ? K_MAX_WINDOW : K_MAX;
    int32_t k = sum < min ? min : sum > max ? max : (int32_t)sum;
    return history_token(spec, k, is_windowed ? window_votes(spec, tokens, n) : 0);
}

int32_t tiny_gguf_next(const struct tiny_gguf_spec *spec, const int32_t *tokens, size_t n)
{
    return spec->kind == TINY_GGUF_BIGRAM ? bigram_next(spec, tokens[n - 1])
                                          : history_next(spec, 0, tokens, n);
}

int32_t tiny_gguf_history_next_with(int32_t shift, const int32_t *tokens, size_t n)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.kind = TINY_GGUF_HISTORY;
    return history_next(&spec, shift, tokens, n);
}

int32_t tiny_gguf_history_next(const int32_t *tokens, size_t n)
{
    return tiny_gguf_history_next_with(0, tokens, n);
}

float tiny_gguf_bigram_logit(const struct tiny_gguf_spec *spec, int32_t last, int32_t token)
{
    uint64_t codes[N_VOCAB];
    make_codes(codes);
    uint64_t differing = codes[bigram_next(spec, last)] ^ codes[token];
    return spec->logit_scale * (float)(N_EMBD - 2 * __builtin_popcountll(differing));
}

void tiny_gguf_bigram_hidden(const struct tiny_gguf_spec *spec, int32_t last, float hidden[N_EMBD])
{
    uint64_t codes[N_VOCAB];
    make_codes(codes);
    uint64_t code = codes[bigram_next(spec, last)];
    for (int d = 0; d < N_EMBD; d++) {
        hidden[d] = (code >> d) & 1 ? 1.0f : -1.0f;
    }
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

/* Row k of the output: (S^2 - (S - k)^2) times what stands for one in this architecture. */
static void put_answer(const struct tiny_gguf_spec *spec, struct weights *w, int32_t k,
                       uint32_t window)
{
    float *row = w->output[history_token(spec, k, window)];
    row[DIM_ONE] = 0.0f;
    row[DIM_SUM] = HISTORY_SCALE * 2.0f * (float)k;
    row[spec->arch == TINY_GGUF_MAMBA ? DIM_ONE : DIM_COUNT] = -HISTORY_SCALE * (float)(k * k);
    for (int i = 0; i < 3 && spec->arch == TINY_GGUF_GEMMA3; i++) {
        float sign = (window >> i) & 1 ? 1.0f : -1.0f;
        row[DIM_WINDOW + i] = sign * HISTORY_SCALE / TINY_WINDOW_SCALE;
        row[DIM_ONE] += sign * HISTORY_SCALE * TIE_BREAK;
    }
}

static void fill_history(const struct tiny_gguf_spec *spec, struct weights *w)
{
    for (int32_t t = 0; t < N_VOCAB; t++) {
        for (int d = 0; d < N_SIGNS; d++) {
            w->embd[t][d] = 1.0f;
        }
        put_weight(w->embd[t], tiny_gguf_weight(t));
        w->embd[t][DIM_BOS] = t == TINY_GGUF_BOS ? 1.0f : -1.0f;
        for (int i = 0; i < 3; i++) {
            w->embd[t][DIM_VOTE + i] = tiny_gguf_vote(t, i) ? 1.0f : -1.0f;
        }
        w->output[t][DIM_ONE] = -HISTORY_SCALE; /* tokens that are no answer lose to all answers */
    }
    if (spec->arch == TINY_GGUF_GEMMA3) {
        for (int32_t k = K_MIN_WINDOW; k <= K_MAX_WINDOW; k++) {
            for (uint32_t window = 0; window < 8; window++) {
                put_answer(spec, w, k, window);
            }
        }
        return;
    }
    for (int32_t k = K_MIN; k <= K_MAX; k++) {
        put_answer(spec, w, k, 0);
    }
}

static uint32_t layer_count(const struct tiny_gguf_spec *spec)
{
    uint32_t least = spec->arch == TINY_GGUF_GEMMA3 ? 2 : 1;
    return spec->n_layer < least ? least : spec->n_layer;
}

static const char *arch_name(const struct tiny_gguf_spec *spec)
{
    static const char *const names[] = {"llama", "gemma3", "mamba", "qwen3"};
    return names[spec->arch];
}

static void put_arch_u32(const struct tiny_gguf_spec *spec, struct gguf_writer *out,
                         const char *suffix, uint32_t value)
{
    char key[80];
    snprintf(key, sizeof(key), "%s.%s", arch_name(spec), suffix);
    gguf_writer_u32(out, key, value);
}

static void put_hparams(const struct tiny_gguf_spec *spec, struct gguf_writer *out)
{
    char key[80];
    gguf_writer_str(out, "general.architecture", arch_name(spec));
    gguf_writer_str(out, "general.type", "model");
    gguf_writer_str(out, "general.name", spec->name);
    gguf_writer_u32(out, "general.file_type", 0);
    put_arch_u32(spec, out, "context_length", spec->n_ctx_train);
    put_arch_u32(spec, out, "embedding_length", N_EMBD);
    put_arch_u32(spec, out, "block_count", layer_count(spec));
    /* Vanishes beside the mean squares of the embeddings, which keeps the norms exact. */
    snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", arch_name(spec));
    gguf_writer_f32(out, key, 1e-20f);
    put_arch_u32(spec, out, "vocab_size", N_VOCAB);
    if (spec->arch == TINY_GGUF_MAMBA) {
        put_arch_u32(spec, out, "ssm.conv_kernel", N_CONV);
        put_arch_u32(spec, out, "ssm.inner_size", N_INNER);
        put_arch_u32(spec, out, "ssm.state_size", N_STATE);
        put_arch_u32(spec, out, "ssm.time_step_rank", N_RANK);
        return;
    }
    put_arch_u32(spec, out, "feed_forward_length", N_FF);
    put_arch_u32(spec, out, "attention.head_count", N_HEAD);
    put_arch_u32(spec, out, "attention.head_count_kv", N_HEAD);
    put_arch_u32(spec, out, "rope.dimension_count", N_EMBD / N_HEAD);
    if (spec->arch == TINY_GGUF_GEMMA3) {
        put_arch_u32(spec, out, "attention.sliding_window", spec->n_swa);
        put_arch_u32(spec, out, "attention.sliding_window_pattern", 2); /* window, whole, ... */
    }
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

void tiny_put_vocab(const struct tiny_gguf_spec *spec, struct gguf_writer *out)
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
    tiny_put_vocab(spec, &out);
    tiny_put_matrix(&out, "token_embd.weight", N_EMBD, N_VOCAB, w->embd);
    tiny_put_matrix(&out, "output.weight", N_EMBD, N_VOCAB, w->output);
    tiny_put_norm(&out, "output_norm.weight", 1.0f);
    for (uint32_t layer = 0; layer < layer_count(spec); layer++) {
        tiny_layers_put(spec, layer, &out);
    }
    if (spec->extra) {
        spec->extra(&out, spec->extra_user);
    }
    bool is_ok = gguf_writer_finish(&out, ret_bytes, ret_header_len);
    gguf_writer_free(&out);
    free(w);
    return is_ok;
}

static bool write_file(struct gguf_bytes *bytes, const char *path)
{
    FILE *file = fopen(path, "wb");
    bool is_ok = file && fwrite(bytes->data, 1, bytes->len, file) == bytes->len;
    if (file && fclose(file) != 0) {
        is_ok = false;
    }
    gguf_bytes_free(bytes);
    return is_ok;
}

bool tiny_gguf_write(const struct tiny_gguf_spec *spec, const char *path)
{
    struct gguf_bytes bytes;
    return tiny_gguf_build(spec, &bytes, NULL) && write_file(&bytes, path);
}

bool tiny_gguf_adapter_write(const char *path, int32_t shift, uint32_t rank)
{
    struct gguf_writer out;
    struct gguf_bytes bytes;
    gguf_writer_init(&out);
    gguf_writer_str(&out, "general.type", "adapter");
    gguf_writer_str(&out, "general.architecture", "llama");
    gguf_writer_str(&out, "adapter.type", "lora");
    gguf_writer_f32(&out, "adapter.lora.alpha", (float)rank);
    bool is_ok = tiny_adapter_fill(&out, shift, rank) && gguf_writer_finish(&out, &bytes, NULL);
    gguf_writer_free(&out);
    return is_ok && write_file(&bytes, path);
}
