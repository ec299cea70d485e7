#include "fake_runtime.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"

struct hs_rt_model {
    int32_t n_gpu_layers;
};

struct hs_rt_sampler {
    uint32_t seed;
    bool ignore_eos;
    int32_t n_forced, n_given, forced[];
};

/* What a sequence holds. The special part ends before special_end and reaches back to special_min.
 */
struct seq {
    int32_t *tokens; /* [n_ctx] */
    int32_t *cells;  /* [n_ctx] */
    int32_t n;
    int32_t special_min, special_end;
};

struct hs_rt_context {
    struct hs_rt_context_params params;
    struct seq *seqs;
    int32_t *cell_refs;
    int32_t n_cells, n_free;
    int32_t *outputs; /* next token by item of the last decode; -1: no logits */
    int32_t n_outputs;
    bool (*should_abort)(void *user);
    void *abort_user;
    atomic_int n_inside;
};

static struct fake_config config;

#define COUNTERS(X)                                                                                \
    X(n_decode)                                                                                    \
    X(n_items)                                                                                     \
    X(max_batch)                                                                                   \
    X(max_seqs)                                                                                    \
    X(n_no_room)                                                                                   \
    X(n_aborted)                                                                                   \
    X(n_state_save)                                                                                \
    X(n_state_load)                                                                                \
    X(n_partial_save)                                                                              \
    X(n_partial_load)                                                                              \
    X(n_copy)                                                                                      \
    X(n_corrupt)                                                                                   \
    X(n_violations)                                                                                \
    X(n_models)                                                                                    \
    X(n_contexts)                                                                                  \
    X(n_samplers)                                                                                  \
    X(n_prompt_accepted)

static struct {
#define DECLARE(name) atomic_int name;
    COUNTERS(DECLARE)
#undef DECLARE
    atomic_int n_decode_calls, n_sample_calls;
} counters;

static struct {
    atomic_bool is_paused, is_held;
    atomic_int credits;
} gate;

static _Atomic int16_t decode_log[FAKE_LOG_CALLS][FAKE_LOG_SEQS]; /* contexts share it */

static void nap(int32_t us)
{
    struct timespec pause = {.tv_nsec = us * 1000};
    nanosleep(&pause, NULL);
}

void fake_runtime_pause(void)
{
    atomic_store(&gate.credits, 0);
    atomic_store(&gate.is_paused, true);
}

void fake_runtime_resume(void)
{
    atomic_store(&gate.is_paused, false);
}

void fake_runtime_wait_held(void)
{
    for (int i = 0; atomic_load(&gate.credits) > 0 || !atomic_load(&gate.is_held); i++) {
        if (i == 300000) { /* a minute */
            fprintf(stderr, "fake_runtime: no decode came that could be held\n");
            abort();
        }
        nap(200);
    }
}

void fake_runtime_step(int32_t n)
{
    atomic_fetch_add(&gate.credits, n);
    fake_runtime_wait_held();
}

int32_t fake_runtime_logged(int32_t i, int32_t seq)
{
    return decode_log[i][seq];
}

void fake_runtime_reset(const struct fake_config *new_config)
{
    memset(&config, 0, sizeof(config));
    if (new_config != NULL) {
        config = *new_config;
    }
    fake_lora_reset(NULL);
#define ZERO(name) atomic_store(&counters.name, 0);
    COUNTERS(ZERO)
#undef ZERO
    atomic_store(&counters.n_decode_calls, 0);
    atomic_store(&counters.n_sample_calls, 0);
    for (size_t i = 0; i < FAKE_LOG_CALLS * FAKE_LOG_SEQS; i++) {
        atomic_store(&decode_log[i / FAKE_LOG_SEQS][i % FAKE_LOG_SEQS], 0);
    }
    fake_runtime_resume();
}

void fake_runtime_counters(struct fake_counters *ret_counters)
{
#define COPY(name) ret_counters->name = atomic_load(&counters.name);
    COUNTERS(COPY)
#undef COPY
}

static void count_max(atomic_int *counter, int value)
{
    if (value > atomic_load(counter)) {
        atomic_store(counter, value);
    }
}

static void enter(hs_rt_context *context)
{
    if (atomic_fetch_add(&context->n_inside, 1) != 0) {
        atomic_fetch_add(&counters.n_violations, 1);
    }
}

static void leave(hs_rt_context *context)
{
    atomic_fetch_sub(&context->n_inside, 1);
}

/* ---- the model ---- */

int32_t fake_next(const int32_t *tokens, size_t n)
{
    if (config.next != NULL) {
        return config.next(tokens, n, config.next_user);
    }
    uint32_t hash = 2166136261u;
    size_t n_answer = 0;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ (uint32_t)tokens[i]) * 16777619u;
        n_answer = FAKE_TOKEN(tokens[i]) == FAKE_GEN ? 0 : n_answer + 1;
    }
    if (config.answer_len > 0 && n_answer >= (size_t)config.answer_len) {
        return FAKE_EOG;
    }
    return 'a' + (int32_t)((hash >> 8) % 26);
}

size_t fake_answer(const int32_t *prompt, size_t n_prompt, size_t max_tokens, size_t n_ctx,
                   char *text)
{
    return fake_answer_with(0, prompt, n_prompt, max_tokens, n_ctx, text);
}

size_t fake_answer_with(int32_t effect, const int32_t *prompt, size_t n_prompt, size_t max_tokens,
                        size_t n_ctx, char *text)
{
    int32_t *tokens = hs_alloc((n_prompt + max_tokens + 1) * sizeof(tokens[0]));
    assert(tokens != NULL);
    for (size_t i = 0; i < n_prompt; i++) {
        tokens[i] = FAKE_MARK(prompt[i], effect);
    }
    size_t n = n_prompt;
    size_t len = 0;
    while (n - n_prompt < max_tokens && n < n_ctx) {
        int32_t next = fake_next(tokens, n);
        tokens[n++] = FAKE_MARK(next, effect);
        if (next == FAKE_EOG) {
            break;
        }
        if (next < 256) {
            text[len++] = (char)next;
        }
    }
    text[len] = '\0';
    hs_free(tokens);
    return n - n_prompt;
}

static hs_status fake_init(const char **ret_version, struct hs_error *err)
{
    (void)err;
    if (ret_version != NULL) {
        *ret_version = "fake 1";
    }
    return HS_OK;
}

static hs_status model_load(const char *path, const struct hs_model_params *params,
                            hs_rt_model **ret_model, struct hs_error *err)
{
    (void)path;
    if (params->progress != NULL && !params->progress(0.5f, params->progress_user)) {
        return hs_error_set(err, HS_CANCELLED, "loading was stopped");
    }
    hs_rt_model *model = hs_calloc(1, sizeof(*model));
    if (model == NULL) {
        return hs_error_nomem(err, "fake model");
    }
    model->n_gpu_layers = params->n_gpu_layers;
    atomic_fetch_add(&counters.n_models, 1);
    *ret_model = model;
    return HS_OK;
}

static void model_free(hs_rt_model *model)
{
    if (model != NULL) {
        atomic_fetch_sub(&counters.n_models, 1);
        hs_free(model);
    }
}

static void model_info(const hs_rt_model *model, struct hs_rt_model_info *ret_info)
{
    *ret_info = (struct hs_rt_model_info){
        .architecture = "fake",
        .description = "fake model",
        .backend = "none",
        .n_params = 1,
        .weights_bytes = config.weights_bytes,
        .n_ctx_train = 4096,
        .n_vocab = FAKE_N_VOCAB,
        .n_embd = 1,
        .n_layer = 1,
        .n_swa = config.n_swa,
        .n_gpu_layers = model->n_gpu_layers,
        .bos = FAKE_BOS,
        .eos = FAKE_EOG,
        .eot = -1,
        .is_recurrent = config.is_recurrent,
        .has_encoder = config.is_encoder,
        .has_decoder = true,
        .has_chat_template = !config.has_no_template,
        .pooling = config.is_ranker ? HS_RT_POOLING_RANK : HS_RT_POOLING_MEAN,
        .n_embd_out = FAKE_N_EMBD,
    };
}

static hs_status estimate(const char *path, const struct hs_model_params *params,
                          const struct hs_rt_context_params *context,
                          struct hs_rt_memory *ret_memory, int32_t *ret_n_ctx_train,
                          int32_t *ret_n_gpu_layers, struct hs_error *err)
{
    (void)path;
    (void)err;
    *ret_memory = (struct hs_rt_memory){
        .weights_bytes = config.weights_bytes,
        .kv_bytes = config.kv_bytes_per_token * (uint64_t)context->n_ctx +
                    config.seq_bytes * (uint64_t)context->n_seq_max,
        .compute_bytes = config.compute_bytes,
        .host_available_bytes =
            config.available_bytes > 0 ? config.available_bytes : (uint64_t)1 << 40,
    };
    ret_memory->device_free_bytes = config.device_free_bytes;
    ret_memory->host_bytes = ret_memory->weights_bytes + ret_memory->compute_bytes +
                             (config.has_kv_on_device ? 0 : ret_memory->kv_bytes);
    if (ret_n_ctx_train != NULL) {
        *ret_n_ctx_train = 4096;
    }
    if (ret_n_gpu_layers != NULL) {
        *ret_n_gpu_layers = params->n_gpu_layers < 0 ? 0 : params->n_gpu_layers;
    }
    return HS_OK;
}

static hs_status tokenize(const hs_rt_model *model, const char *text, size_t len, bool add_special,
                          bool parse_special, struct hs_buf *tokens, struct hs_error *err)
{
    (void)model;
    char *copy = hs_strndup(text, len);
    int32_t *list = hs_alloc((len + 2) * sizeof(list[0]));
    hs_status status = HS_OUT_OF_MEMORY;
    if (copy != NULL && list != NULL) {
        size_t n = 0;
        if (add_special) {
            list[n++] = FAKE_BOS;
        }
        if (parse_special) {
            n += fake_tokenize(copy, list + n);
        } else {
            for (size_t i = 0; i < len; i++) {
                list[n++] = (unsigned char)copy[i];
            }
        }
        status = hs_buf_append(tokens, list, n * sizeof(list[0]));
    }
    hs_free(copy);
    hs_free(list);
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "fake tokens");
}

static hs_status token_piece(const hs_rt_model *model, int32_t token, bool special,
                             struct hs_buf *text, struct hs_error *err)
{
    (void)model;
    char byte = (char)token;
    hs_status status = HS_OK;
    if (token < 256) {
        status = hs_buf_append(text, &byte, 1);
    } else if (special) {
        status = hs_buf_append_str(text, token == FAKE_EOG ? "<|end|>" : "<|gen|>");
    }
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "fake piece");
}

static hs_status detokenize(const hs_rt_model *model, const int32_t *tokens, size_t n_tokens,
                            bool unparse_special, struct hs_buf *text, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t i = 0; i < n_tokens && status == HS_OK; i++) {
        status = token_piece(model, tokens[i], unparse_special, text, err);
    }
    return status;
}

static bool is_eog(const hs_rt_model *model, int32_t token)
{
    (void)model;
    return token == FAKE_EOG;
}

static hs_status render(const hs_rt_model *model, const struct hs_rt_template_params *params,
                        struct hs_buf *text, struct hs_rt_reasoning *ret_reasoning,
                        struct hs_error *err)
{
    (void)model;
    bool goes_on = params->add_generation_prompt && params->continue_final;
    hs_status status = fake_render_tools(params, text);
    for (size_t i = 0; i < params->n_messages && status == HS_OK; i++) {
        const struct hs_message *message = &params->messages[i];
        if (strcmp(message->role, "bad") == 0) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "the template knows no role 'bad'");
        }
        if (strcmp(message->role, "assistant") == 0) {
            status = fake_render_assistant(message, goes_on && i + 1 == params->n_messages, text);
        } else {
            status = hs_buf_printf(text, "[%s]%s\n", message->role, message->content);
        }
    }
    if (status == HS_OK && params->add_generation_prompt && !goes_on) {
        status = hs_buf_append_str(text, "<|gen|>");
    }
    *ret_reasoning = (struct hs_rt_reasoning){0};
    if (config.reasoning_start != NULL) {
        snprintf(ret_reasoning->start_tag, sizeof(ret_reasoning->start_tag), "%s",
                 config.reasoning_start);
        snprintf(ret_reasoning->end_tag, sizeof(ret_reasoning->end_tag), "%s",
                 config.reasoning_end);
    }
    return status == HS_OK ? HS_OK : hs_error_nomem(err, "fake prompt");
}

/* ---- the context ---- */

static void context_free(hs_rt_context *context)
{
    if (context == NULL) {
        return;
    }
    for (int32_t i = 0; context->seqs != NULL && i < context->params.n_seq_max; i++) {
        hs_free(context->seqs[i].tokens);
        hs_free(context->seqs[i].cells);
    }
    hs_free(context->seqs);
    hs_free(context->cell_refs);
    hs_free(context->outputs);
    hs_free(context);
    atomic_fetch_sub(&counters.n_contexts, 1);
}

static hs_status context_new(hs_rt_model *model, const struct hs_rt_context_params *params,
                             hs_rt_context **ret_context, struct hs_error *err)
{
    (void)model;
    if (config.generates_nothing && !params->has_embeddings) {
        return hs_error_set(err, HS_UNSUPPORTED_MODEL, "the fake model generates nothing");
    }
    if (config.fails_context_new) {
        return hs_error_set(err, HS_MODEL_TOO_LARGE, "no memory for the fake context");
    }
    hs_rt_context *context = hs_calloc(1, sizeof(*context));
    if (context == NULL) {
        return hs_error_nomem(err, "fake context");
    }
    atomic_fetch_add(&counters.n_contexts, 1);
    context->params = *params;
    context->n_cells = config.hidden_cells > 0 ? config.hidden_cells : params->n_ctx;
    context->n_free = context->n_cells;
    size_t n_ctx = (size_t)params->n_ctx;
    size_t n_seq = (size_t)params->n_seq_max;
    context->seqs = hs_calloc(n_seq, sizeof(context->seqs[0]));
    context->cell_refs = hs_calloc((size_t)context->n_cells, sizeof(context->cell_refs[0]));
    context->outputs = hs_calloc((size_t)params->n_batch, sizeof(context->outputs[0]));
    bool is_whole = context->seqs != NULL && context->cell_refs != NULL && context->outputs != NULL;
    for (size_t i = 0; is_whole && i < n_seq; i++) {
        context->seqs[i].tokens = hs_calloc(n_ctx, sizeof(int32_t));
        context->seqs[i].cells = hs_calloc(n_ctx, sizeof(int32_t));
        is_whole = context->seqs[i].tokens != NULL && context->seqs[i].cells != NULL;
    }
    if (!is_whole) {
        context_free(context);
        return hs_error_nomem(err, "fake context");
    }
    *ret_context = context;
    return HS_OK;
}

static int32_t context_n_ctx(const hs_rt_context *context)
{
    return context->params.n_ctx;
}

static void context_memory(const hs_rt_context *context, struct hs_rt_memory *ret_memory)
{
    *ret_memory = (struct hs_rt_memory){
        .weights_bytes = config.weights_bytes,
        .kv_bytes = config.kv_bytes_per_token * (uint64_t)context->params.n_ctx,
        .compute_bytes = config.compute_bytes,
    };
}

static void set_abort(hs_rt_context *context, bool (*should_abort)(void *user), void *user)
{
    context->should_abort = should_abort;
    context->abort_user = user;
}

static bool has_special(void)
{
    return config.n_swa > 0 || config.is_recurrent;
}

static int32_t cell_take(hs_rt_context *context)
{
    for (int32_t i = 0; i < context->n_cells; i++) {
        if (context->cell_refs[i] == 0) {
            context->cell_refs[i] = 1;
            context->n_free--;
            return i;
        }
    }
    atomic_fetch_add(&counters.n_violations, 1);
    return 0;
}

static void seq_cut(hs_rt_context *context, struct seq *seq, int32_t n)
{
    for (int32_t i = n; i < seq->n; i++) {
        if (--context->cell_refs[seq->cells[i]] == 0) {
            context->n_free++;
        }
    }
    seq->n = n < seq->n ? n : seq->n;
    if (seq->special_end > n) {
        seq->special_end = n;
    }
    if (n == 0) {
        seq->special_min = seq->special_end = 0;
    }
}

static void forget(struct seq *seq)
{
    if (config.n_swa > 0 && seq->special_end - config.n_swa > seq->special_min) {
        seq->special_min = seq->special_end - config.n_swa;
    }
    if (config.is_recurrent) {
        seq->special_min = seq->special_end > 0 ? seq->special_end - 1 : 0;
    }
}

/* Whether everything the next token looks at is there. */
static bool is_sound(const struct seq *seq)
{
    if (!has_special()) {
        return true;
    }
    if (seq->special_end != seq->n) {
        return false;
    }
    int32_t needed = config.n_swa > 0 ? seq->n - config.n_swa : 0;
    return config.is_recurrent || seq->special_min <= (needed > 0 ? needed : 0);
}

static bool is_aborted(const hs_rt_context *context)
{
    return context->should_abort != NULL && context->should_abort(context->abort_user);
}

/* Wait for the gate and take the time, looking for the abort; true: stop. */
static bool compute(const hs_rt_context *context)
{
    while (atomic_load(&gate.is_paused)) {
        if (is_aborted(context)) {
            atomic_store(&gate.is_held, false);
            return true;
        }
        if (atomic_load(&gate.credits) > 0) {
            atomic_store(&gate.is_held, false);
            atomic_fetch_sub(&gate.credits, 1);
            break;
        }
        atomic_store(&gate.is_held, true);
        nap(100);
    }
    atomic_store(&gate.is_held, false);
    for (int32_t left_us = config.decode_us; left_us > 0; left_us -= 500) {
        if (is_aborted(context)) {
            return true;
        }
        nap(left_us < 500 ? left_us : 500);
    }
    return false;
}

static bool check_items(const hs_rt_context *context, const struct hs_rt_batch_item *items,
                        int32_t n_items)
{
    int32_t added[256] = {0};
    int32_t n_logits[256] = {0};
    int32_t n_seqs = 0;
    bool is_right = n_items > 0 && n_items <= context->params.n_batch;
    for (int32_t i = 0; is_right && i < n_items; i++) {
        int32_t seq = items[i].seq;
        is_right = seq >= 0 && seq < context->params.n_seq_max && items[i].token >= 0 &&
                   items[i].token < FAKE_N_VOCAB &&
                   items[i].pos == context->seqs[seq].n + added[seq] &&
                   items[i].pos < context->params.n_ctx;
        if (is_right) {
            n_seqs += added[seq]++ == 0;
            n_logits[seq] += items[i].want_logits;
            is_right = n_logits[seq] <= 1;
        }
    }
    if (!is_right) {
        atomic_fetch_add(&counters.n_violations, 1);
    }
    count_max(&counters.max_batch, n_items);
    count_max(&counters.max_seqs, n_seqs);
    return is_right;
}

static void compute_item(hs_rt_context *context, const struct hs_rt_batch_item *item, int32_t i)
{
    struct seq *seq = &context->seqs[item->seq];
    bool was_sound = is_sound(seq);
    seq->tokens[seq->n] = FAKE_MARK(item->token, fake_effect(item->adapters));
    seq->cells[seq->n] = cell_take(context);
    seq->n++;
    seq->special_end++;
    if (!was_sound) {
        seq->special_min = seq->n; /* wrong from here on */
        atomic_fetch_add(&counters.n_corrupt, 1);
    } else {
        forget(seq);
    }
    context->outputs[i] = -1;
    if (item->want_logits) {
        context->outputs[i] =
            was_sound ? fake_next(seq->tokens, (size_t)seq->n) : (int32_t)FAKE_GARBAGE;
    }
}

static hs_status decode_inside(hs_rt_context *context, const struct hs_rt_batch_item *items,
                               int32_t n_items, enum hs_rt_decode *ret_outcome,
                               struct hs_error *err)
{
    context->n_outputs = 0;
    if (!check_items(context, items, n_items)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "a batch that cannot be");
    }
    if (atomic_fetch_add(&counters.n_decode_calls, 1) + 1 == config.fail_decode) {
        return hs_error_set(err, HS_INTERNAL, "decode fails as configured");
    }
    if (n_items > context->n_free) {
        atomic_fetch_add(&counters.n_no_room, 1);
        *ret_outcome = HS_RT_DECODE_NO_ROOM;
        return HS_OK;
    }
    if (compute(context)) {
        atomic_fetch_add(&counters.n_aborted, 1);
        for (int32_t i = 0; config.is_recurrent && i < n_items; i++) {
            seq_cut(context, &context->seqs[items[i].seq], 0);
        }
        *ret_outcome = HS_RT_DECODE_ABORTED;
        return HS_OK;
    }
    int32_t call = atomic_load(&counters.n_decode);
    for (int32_t i = 0; i < n_items; i++) {
        compute_item(context, &items[i], i);
        if (call < FAKE_LOG_CALLS && items[i].seq < FAKE_LOG_SEQS) {
            decode_log[call][items[i].seq]++;
        }
    }
    context->n_outputs = n_items;
    fake_lora_count(items, n_items);
    atomic_fetch_add(&counters.n_decode, 1);
    atomic_fetch_add(&counters.n_items, n_items);
    *ret_outcome = HS_RT_DECODE_OK;
    return HS_OK;
}

static hs_status decode(hs_rt_context *context, const struct hs_rt_batch_item *items,
                        int32_t n_items, enum hs_rt_decode *ret_outcome, struct hs_error *err)
{
    enter(context);
    hs_status status = decode_inside(context, items, n_items, ret_outcome, err);
    leave(context);
    return status;
}

/* ---- embeddings ---- */

static hs_status embedder_new(hs_rt_model *model, const struct hs_rt_context_params *wanted,
                              struct hs_rt_embedder *ret_embedder, struct hs_error *err)
{
    struct hs_rt_context_params params = *wanted;
    params.has_embeddings = true;
    params.n_batch = config.embed_batch > 0 ? config.embed_batch : 16;
    int32_t n_input = params.n_ctx;
    if (config.embed_is_whole && params.n_batch < n_input) {
        params.n_batch = n_input;
    }
    params.n_ctx += params.n_batch;
    struct hs_rt_embedder embedder = {
        .n_input_max = n_input,
        .n_batch = params.n_batch,
        .n_batch_good = config.embed_batch > 0 ? config.embed_batch : 16,
        .n_seq_max = params.n_seq_max,
        .is_whole = config.embed_is_whole,
    };
    hs_status status = context_new(model, &params, &embedder.context, err);
    if (status == HS_OK) {
        *ret_embedder = embedder;
    }
    return status;
}

static hs_status embed(hs_rt_context *context, const struct hs_rt_batch_item *items,
                       int32_t n_items, enum hs_rt_decode *ret_outcome, struct hs_error *err)
{
    for (int32_t i = 0; config.embed_is_whole && i < n_items; i++) {
        if (items[i].pos == 0 && context->seqs[items[i].seq].n > 0) {
            atomic_fetch_add(&counters.n_violations, 1); /* taken or emptied too late */
        }
    }
    return decode(context, items, n_items, ret_outcome, err);
}

void fake_embedding(const int32_t *tokens, size_t n, float values[FAKE_N_EMBD])
{
    float sum = 0, weighted = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (float)tokens[i];
        weighted += (float)(i + 1) * (float)tokens[i];
    }
    values[0] = (float)n;
    values[1] = sum;
    values[2] = weighted;
    values[3] = -1;
}

static void embed_take(hs_rt_context *context, int32_t index, float *values)
{
    enter(context);
    struct seq *seq = &context->seqs[index];
    if (values != NULL) {
        fake_embedding(seq->tokens, (size_t)seq->n, values);
    }
    for (int32_t i = 0; values != NULL && config.nan_token != 0 && i < seq->n; i++) {
        if (seq->tokens[i] == config.nan_token) {
            values[1] = NAN;
        }
    }
    seq_cut(context, seq, 0);
    leave(context);
}

static const float *logits(const hs_rt_context *context, int32_t i)
{
    (void)context;
    (void)i;
    return NULL;
}

static bool kv_remove(hs_rt_context *context, int32_t index, int32_t p0, int32_t p1)
{
    enter(context);
    struct seq *seq = &context->seqs[index];
    bool is_whole = p0 <= 0;
    bool is_cut = p1 < 0;
    if (!is_cut) {
        atomic_fetch_add(&counters.n_violations, 1); /* the engine never makes holes */
    } else if (p0 < seq->n && !is_whole &&
               ((config.is_recurrent && p0 < seq->special_end) || config.refuses_cuts)) {
        is_cut = false;
    } else {
        seq_cut(context, seq, is_whole ? 0 : p0);
    }
    leave(context);
    return is_cut;
}

static void kv_copy(hs_rt_context *context, int32_t from_index, int32_t to_index, int32_t p0,
                    int32_t p1)
{
    enter(context);
    const struct seq *from = &context->seqs[from_index];
    struct seq *to = &context->seqs[to_index];
    if (p0 != 0 || to->n != 0 || from_index == to_index) {
        atomic_fetch_add(&counters.n_violations, 1);
    }
    int32_t n = p1 < 0 || p1 > from->n ? from->n : p1;
    for (int32_t i = 0; i < n; i++) {
        to->tokens[i] = from->tokens[i];
        to->cells[i] = from->cells[i];
        context->cell_refs[from->cells[i]]++;
    }
    to->n = n;
    to->special_min = from->special_min;
    to->special_end = config.is_recurrent || from->special_end < n ? from->special_end : n;
    atomic_fetch_add(&counters.n_copy, 1);
    leave(context);
}

static bool kv_shift(hs_rt_context *context, int32_t seq, int32_t p0, int32_t p1, int32_t delta)
{
    (void)context;
    (void)seq;
    (void)p0;
    (void)p1;
    (void)delta;
    return false;
}

static int32_t kv_pos_min(const hs_rt_context *context, int32_t index)
{
    const struct seq *seq = &context->seqs[index];
    if (seq->n == 0) {
        return -1;
    }
    return has_special() ? seq->special_min : 0;
}

static int32_t kv_pos_max(const hs_rt_context *context, int32_t index)
{
    const struct seq *seq = &context->seqs[index];
    return (has_special() && seq->special_end < seq->n ? seq->special_end : seq->n) - 1;
}

static void kv_clear(hs_rt_context *context)
{
    for (int32_t i = 0; i < context->params.n_seq_max; i++) {
        seq_cut(context, &context->seqs[i], 0);
    }
}

/* ---- states: four numbers, then the tokens of a whole one ---- */

struct state_header {
    int32_t flags, n, special_min, special_end;
};

static size_t state_size(hs_rt_context *context, int32_t index, uint32_t flags)
{
    size_t n = (size_t)context->seqs[index].n;
    return sizeof(struct state_header) + (flags == HS_RT_STATE_WHOLE ? n * sizeof(int32_t) : 0);
}

static hs_status state_save(hs_rt_context *context, int32_t index, uint32_t flags, void *data,
                            size_t size, size_t *ret_written, struct hs_error *err)
{
    enter(context);
    const struct seq *seq = &context->seqs[index];
    size_t needed = state_size(context, index, flags);
    hs_status status = HS_OK;
    if (size < needed) {
        status = hs_error_set(err, HS_LIMIT, "the state needs %zu bytes", needed);
    } else {
        struct state_header header = {(int32_t)flags, seq->n, seq->special_min, seq->special_end};
        memcpy(data, &header, sizeof(header));
        memcpy((char *)data + sizeof(header), seq->tokens, needed - sizeof(header));
        *ret_written = needed;
        atomic_fetch_add(
            flags == HS_RT_STATE_WHOLE ? &counters.n_state_save : &counters.n_partial_save, 1);
    }
    leave(context);
    return status;
}

static hs_status load_whole(hs_rt_context *context, struct seq *seq,
                            const struct state_header *header, const char *body,
                            struct hs_error *err)
{
    seq_cut(context, seq, 0);
    if (header->n > context->n_free) {
        return hs_error_set(err, HS_CONTEXT_FULL, "no cells for the fake state");
    }
    for (int32_t i = 0; i < header->n; i++) {
        memcpy(&seq->tokens[i], body + (size_t)i * sizeof(int32_t), sizeof(int32_t));
        seq->cells[i] = cell_take(context);
    }
    seq->n = header->n;
    atomic_fetch_add(&counters.n_state_load, 1);
    return HS_OK;
}

static hs_status state_load(hs_rt_context *context, int32_t index, uint32_t flags, const void *data,
                            size_t size, struct hs_error *err)
{
    enter(context);
    struct seq *seq = &context->seqs[index];
    struct state_header header = {.flags = -1};
    if (size >= sizeof(header)) {
        memcpy(&header, data, sizeof(header));
    }
    size_t n_tokens = (size - sizeof(header)) / sizeof(int32_t);
    hs_status status = HS_OK;
    if (config.fails_state_load || header.flags != (int32_t)flags ||
        (flags == HS_RT_STATE_WHOLE && n_tokens != (size_t)header.n)) {
        status = hs_error_set(err, HS_CORRUPT, "the fake state does not fit");
    } else if (flags == HS_RT_STATE_WHOLE) {
        status = load_whole(context, seq, &header, (const char *)data + sizeof(header), err);
    } else {
        atomic_fetch_add(&counters.n_partial_load, 1);
    }
    if (status == HS_OK) {
        seq->special_min = header.special_min;
        seq->special_end = header.special_end;
    }
    leave(context);
    return status;
}

/* ---- samplers ---- */

static hs_status sampler_new(const hs_rt_model *model, const struct hs_sampling *sampling,
                             const hs_rt_format *format, bool ignore_eos, int32_t n_ctx,
                             hs_rt_sampler **ret_sampler, struct hs_error *err)
{
    (void)model;
    (void)format;
    (void)n_ctx;
    if (sampling->top_p > 1.0f) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "top_p is above 1");
    }
    size_t n = (size_t)sampling->n_forced;
    hs_rt_sampler *sampler = hs_calloc(1, sizeof(*sampler) + n * sizeof(int32_t));
    if (sampler == NULL) {
        return hs_error_nomem(err, "fake sampler");
    }
    sampler->seed = sampling->seed == HS_SEED_RANDOM ? 4711 : sampling->seed;
    sampler->ignore_eos = ignore_eos;
    sampler->n_forced = sampling->n_forced;
    for (int32_t i = 0; i < sampling->n_forced; i++) {
        sampler->forced[i] = sampling->forced[i];
    }
    atomic_fetch_add(&counters.n_samplers, 1);
    *ret_sampler = sampler;
    return HS_OK;
}

static void sampler_free(hs_rt_sampler *sampler)
{
    if (sampler != NULL) {
        atomic_fetch_sub(&counters.n_samplers, 1);
        hs_free(sampler);
    }
}

static uint32_t sampler_seed(const hs_rt_sampler *sampler)
{
    return sampler->seed;
}

static void sampler_accept_prompt(hs_rt_sampler *sampler, int32_t token)
{
    (void)sampler;
    (void)token;
    atomic_fetch_add(&counters.n_prompt_accepted, 1);
}

static hs_status sample(hs_rt_sampler *sampler, hs_rt_context *context, int32_t i,
                        int32_t n_logprobs, int32_t *ret_token,
                        struct hs_token_logprob *ret_logprobs, struct hs_error *err)
{
    if (i < 0 || i >= context->n_outputs || context->outputs[i] < 0) {
        atomic_fetch_add(&counters.n_violations, 1);
        return hs_error_set(err, HS_INVALID_ARGUMENT, "item %d has no logits", i);
    }
    if (atomic_fetch_add(&counters.n_sample_calls, 1) + 1 == config.fail_sample) {
        return hs_error_set(err, HS_INTERNAL, "sampling fails as configured");
    }
    int32_t token = context->outputs[i];
    if (sampler->ignore_eos && token == FAKE_EOG) {
        token = 'z';
    }
    if (sampler->n_given < sampler->n_forced) {
        token = sampler->forced[sampler->n_given++];
    }
    for (int32_t k = 0; n_logprobs > 0 && k <= n_logprobs; k++) {
        ret_logprobs[k].token = k == 0 ? token : k - 1;
        ret_logprobs[k].logprob = sampler->n_forced > 0 ? FAKE_FORCED_LOGPROB(token) : -(float)k;
    }
    *ret_token = token;
    return HS_OK;
}

const struct hs_runtime *fake_runtime(void)
{
    static const struct hs_runtime table = {
        .name = "fake",
        .init = fake_init,
        .model_load = model_load,
        .model_free = model_free,
        .model_info = model_info,
        .estimate = estimate,
        .tokenize = tokenize,
        .token_piece = token_piece,
        .detokenize = detokenize,
        .is_eog = is_eog,
        .render = render,
        .format_new = fake_format_new,
        .format_free = fake_format_free,
        .format_stop = fake_format_stop,
        .format_feed = fake_format_feed,
        .context_new = context_new,
        .context_free = context_free,
        .context_n_ctx = context_n_ctx,
        .context_memory = context_memory,
        .set_abort = set_abort,
        .decode = decode,
        .logits = logits,
        .adapter_new = fake_adapter_new,
        .adapter_free = fake_adapter_free,
        .adapter_bytes = fake_adapter_bytes,
        .lora_prepare = fake_lora_prepare,
        .lora_stats = fake_lora_stats,
        .embedder_new = embedder_new,
        .embed = embed,
        .embed_take = embed_take,
        .kv_remove = kv_remove,
        .kv_copy = kv_copy,
        .kv_shift = kv_shift,
        .kv_pos_min = kv_pos_min,
        .kv_pos_max = kv_pos_max,
        .kv_clear = kv_clear,
        .state_size = state_size,
        .state_save = state_save,
        .state_load = state_load,
        .sampler_new = sampler_new,
        .sampler_free = sampler_free,
        .sampler_seed = sampler_seed,
        .sampler_accept_prompt = sampler_accept_prompt,
        .sample = sample,
    };
    return &table;
}
