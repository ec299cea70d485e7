#include <stdio.h>
#include <string.h>

#include "tiny_internal.h"

/* Channels of V. The constant pins the scale of a q8_0 block to 1/16, so integers stay exact. */
enum { V_PIN, V_SUM, V_COUNT, V_VOTE = 3, V_ONE = 6 };
#define RANK_MAX 64
#define V_PIN_VALUE (127.0f / 16.0f)

/* The norm before a layer doubles the signs of HISTORY, hence the halves below. */
struct attention {
    float v[N_EMBD][N_EMBD]; /* [out][in] */
    float out[N_EMBD][N_EMBD];
};

void tiny_put_matrix(struct gguf_writer *out, const char *name, uint64_t n_in, uint64_t n_out,
                     const void *data)
{
    uint64_t dims[2] = {n_in, n_out};
    gguf_writer_tensor(out, name, 2, dims, 0, data, (size_t)(n_in * n_out) * sizeof(float));
}

static void put_vector(struct gguf_writer *out, const char *name, uint64_t n, float value)
{
    float values[N_INNER];
    for (uint64_t i = 0; i < n; i++) {
        values[i] = value;
    }
    gguf_writer_tensor(out, name, 1, &n, 0, values, (size_t)n * sizeof(float));
}

void tiny_put_norm(struct gguf_writer *out, const char *name, float value)
{
    put_vector(out, name, N_EMBD, value);
}

/* Mean over the context of (weight, is <s>). */
static void fill_history(struct attention *a)
{
    a->v[V_PIN][DIM_ONE] = 0.5f * V_PIN_VALUE;
    a->v[V_SUM][DIM_W1] = 0.5f;
    a->v[V_SUM][DIM_W2] = 1.0f;
    a->v[V_SUM][DIM_W4] = 2.0f;
    a->v[V_COUNT][DIM_BOS] = 0.25f;
    a->v[V_COUNT][DIM_ONE] = 0.25f;
    a->out[DIM_SUM][V_SUM] = 1.0f;
    a->out[DIM_COUNT][V_COUNT] = 1.0f;
}

/* Mean over the window of the three votes, beside a constant that keeps the norm from blowing up
 * when all votes cancel. */
static void fill_window(struct attention *a)
{
    a->v[V_PIN][DIM_ONE] = 0.5f * V_PIN_VALUE;
    for (int i = 0; i < 3; i++) {
        a->v[V_VOTE + i][DIM_VOTE + i] = 0.5f;
        a->out[DIM_WINDOW + i][V_VOTE + i] = 1.0f;
    }
    a->v[V_ONE][DIM_ONE] = 0.5f;
    a->out[DIM_WINDOW + 3][V_ONE] = 1.0f;
}

bool tiny_adapter_fill(struct gguf_writer *out, int32_t shift, uint32_t rank)
{
    float a[RANK_MAX][N_EMBD] = {{0}};
    float b[N_EMBD * RANK_MAX] = {0}; /* [N_EMBD, rank] */
    if (rank == 0 || rank > RANK_MAX) {
        return false;
    }
    for (uint32_t r = 0; r < rank; r++) {
        a[r][DIM_BOS] = 0.25f;
        a[r][DIM_ONE] = 0.25f;
        b[V_SUM * rank + r] = (float)shift / (float)rank;
    }
    tiny_put_matrix(out, "blk.0.attn_v.weight.lora_a", N_EMBD, rank, a);
    tiny_put_matrix(out, "blk.0.attn_v.weight.lora_b", rank, N_EMBD, b);
    return true;
}

static const char *named(char name[64], uint32_t layer, const char *tensor)
{
    snprintf(name, 64, "blk.%u.%s", layer, tensor);
    return name;
}

static void put_attention(struct gguf_writer *out, uint32_t layer, const struct attention *a)
{
    char name[64];
    tiny_put_norm(out, named(name, layer, "attn_norm.weight"), 1.0f);
    tiny_put_matrix(out, named(name, layer, "attn_q.weight"), N_EMBD, N_EMBD, NULL);
    tiny_put_matrix(out, named(name, layer, "attn_k.weight"), N_EMBD, N_EMBD, NULL);
    tiny_put_matrix(out, named(name, layer, "attn_v.weight"), N_EMBD, N_EMBD, a->v);
    tiny_put_matrix(out, named(name, layer, "attn_output.weight"), N_EMBD, N_EMBD, a->out);
    tiny_put_norm(out, named(name, layer, "ffn_norm.weight"), 1.0f);
    tiny_put_matrix(out, named(name, layer, "ffn_gate.weight"), N_EMBD, N_FF, NULL);
    tiny_put_matrix(out, named(name, layer, "ffn_up.weight"), N_EMBD, N_FF, NULL);
    tiny_put_matrix(out, named(name, layer, "ffn_down.weight"), N_FF, N_EMBD, NULL);
}

static void put_head_norms(struct gguf_writer *out, uint32_t layer)
{
    char name[64];
    put_vector(out, named(name, layer, "attn_q_norm.weight"), N_EMBD / N_HEAD, 1.0f);
    put_vector(out, named(name, layer, "attn_k_norm.weight"), N_EMBD / N_HEAD, 1.0f);
}

/* The small norm keeps the window's votes far below the precision of the next layer's norm. */
static void put_gemma_norms(struct gguf_writer *out, uint32_t layer, bool is_window)
{
    char name[64];
    tiny_put_norm(out, named(name, layer, "post_attention_norm.weight"),
                  is_window ? TINY_WINDOW_SCALE : 1.0f);
    tiny_put_norm(out, named(name, layer, "post_ffw_norm.weight"), 1.0f);
}

/*
 * A state that sums: with A = 0 it never fades, with a time step of 32 (softplus of 32) it grows by
 * 32 * x * B, where channel 0 has x = 64 for every token and B = weight / 64. Bits travel as 0 or
 * 64 because SiLU leaves just those as they are, and C takes the factor 32 out again.
 */
struct mamba {
    float in[2 * N_INNER][N_EMBD];
    float conv[N_INNER][N_CONV];
    float x[N_RANK + 2 * N_STATE][N_INNER];
    float out[N_EMBD][N_INNER];
};

static void fill_mamba(struct mamba *m)
{
    static const int bits[] = {DIM_W1, DIM_W2, DIM_W4};
    m->in[0][DIM_ONE] = 32.0f;
    m->in[N_INNER][DIM_ONE] = 32.0f; /* the gate of channel 0: 64 */
    m->conv[0][N_CONV - 1] = 1.0f;
    m->x[N_RANK][0] = -7.0f / 4096.0f;
    m->x[N_RANK + N_STATE][0] = 1.0f / 2048.0f;
    for (int i = 0; i < 3; i++) {
        m->in[1 + i][DIM_ONE] = 16.0f;
        m->in[1 + i][bits[i]] = 16.0f;
        m->conv[1 + i][N_CONV - 1] = 1.0f;
        m->x[N_RANK][1 + i] = (float)(2 << i) / 4096.0f;
    }
    m->out[DIM_SUM][0] = 1.0f / 64.0f;
}

static void put_mamba(struct gguf_writer *out, uint32_t layer, const struct mamba *m)
{
    char name[64];
    tiny_put_norm(out, named(name, layer, "attn_norm.weight"), 1.0f);
    tiny_put_matrix(out, named(name, layer, "ssm_in.weight"), N_EMBD, 2 * N_INNER, m->in);
    tiny_put_matrix(out, named(name, layer, "ssm_conv1d.weight"), N_CONV, N_INNER, m->conv);
    put_vector(out, named(name, layer, "ssm_conv1d.bias"), N_INNER, 0.0f);
    tiny_put_matrix(out, named(name, layer, "ssm_x.weight"), N_INNER, N_RANK + 2 * N_STATE, m->x);
    tiny_put_matrix(out, named(name, layer, "ssm_dt.weight"), N_RANK, N_INNER, NULL);
    put_vector(out, named(name, layer, "ssm_dt.bias"), N_INNER, 32.0f);
    tiny_put_matrix(out, named(name, layer, "ssm_a"), N_STATE, N_INNER, NULL);
    put_vector(out, named(name, layer, "ssm_d"), N_INNER, 0.0f);
    tiny_put_matrix(out, named(name, layer, "ssm_out.weight"), N_INNER, N_EMBD, m->out);
}

void tiny_layers_put(const struct tiny_gguf_spec *spec, uint32_t i, struct gguf_writer *out)
{
    static const struct attention idle;
    struct attention a = idle;
    struct mamba m;
    bool is_history = spec->kind == TINY_GGUF_HISTORY;
    switch (spec->arch) {
    case TINY_GGUF_LLAMA:
    case TINY_GGUF_QWEN3:
        if (is_history && i == 0) {
            fill_history(&a);
        }
        put_attention(out, i, &a);
        if (spec->arch == TINY_GGUF_QWEN3) {
            put_head_norms(out, i);
        }
        break;
    case TINY_GGUF_GEMMA3:
        if (is_history && i == 0) {
            fill_window(&a);
        } else if (is_history && i == 1) {
            fill_history(&a);
        }
        put_attention(out, i, &a);
        put_gemma_norms(out, i, i == 0);
        put_head_norms(out, i);
        break;
    case TINY_GGUF_MAMBA:
        memset(&m, 0, sizeof(m));
        if (is_history && i == 0) {
            fill_mamba(&m);
        }
        put_mamba(out, i, &m);
        break;
    }
}
