/*
 * runtime.h - the seam between inference and the library that computes: a table of functions.
 *
 * hs_runtime_llama() is the one implementation of the product (LlamaCppEngine, over llama.cpp);
 * tests put a fake one behind the engine. Nothing of llama.h or ggml.h is visible here. No policy
 * lives below this line: which model, which session, which sequence is the caller's decision.
 *
 * Owner:   every object made here is freed by its *_free; a model must outlive its contexts and
 * samplers. Threads: init, model_load and the model's const functions (tokenize, piece, template,
 * info) may be called from any thread; a context and its samplers belong to one thread at a time.
 * Source:  llama.cpp's include/llama.h of the pinned version (pins.env).
 */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/lora.h"

typedef struct hs_rt_adapter hs_rt_adapter;
typedef struct hs_rt_model hs_rt_model;
typedef struct hs_rt_context hs_rt_context;
typedef struct hs_rt_sampler hs_rt_sampler;
typedef struct hs_rt_format hs_rt_format;

/* How one vector is made of an input's positions. */
enum hs_rt_pooling {
    HS_RT_POOLING_MEAN = 0, /* of all; also when the model does not say */
    HS_RT_POOLING_CLS,      /* the first */
    HS_RT_POOLING_LAST,
    HS_RT_POOLING_RANK /* scores of a classification head, by which documents are ranked */
};

/* What a model is, known once it is loaded. */
struct hs_rt_model_info {
    char architecture[64];
    char description[128];
    char backend[128]; /* devices that hold weights */
    uint64_t n_params;
    uint64_t weights_bytes;
    int32_t n_ctx_train, n_vocab, n_embd, n_layer, n_swa;
    int32_t n_gpu_layers;
    int32_t bos, eos, eot; /* -1: none */
    bool add_bos, add_eos;
    bool is_recurrent; /* a state per sequence instead of KV cells, wholly or in part (hybrid) */
    bool has_encoder, has_decoder;
    bool has_chat_template;
    enum hs_rt_pooling pooling;
    bool can_infill;
    int32_t n_embd_out; /* values of an embedding, or scores of a model that ranks */
};

/* Parameters of a context; every field is already decided (no zeros that mean "choose"). */
struct hs_rt_context_params {
    int32_t n_ctx; /* KV cells, unified over all sequences */
    int32_t n_batch, n_ubatch, n_seq_max;
    int32_t n_threads, n_threads_batch;
    enum hs_flash_attn flash_attn;
    enum hs_kv_type kv_type;
    bool has_embeddings; /* every token has an output; set by embedder_new */
    bool has_adapters;   /* items may name adapters */
    enum hs_lora_engine lora_engine;
};

/* What a context for embeddings takes. */
struct hs_rt_embedder {
    hs_rt_context *context; /* only embed*, context_free, context_memory and set_abort use it */
    int32_t n_input_max;    /* tokens of one input */
    int32_t n_batch;        /* tokens in one call */
    int32_t n_batch_good;   /* where more inputs in one call cost more than they save */
    int32_t n_seq_max;
    bool is_whole; /* an input's tokens must come in one call */
};

/* Adapters that are added together, each with its own signed scale. */
struct hs_rt_adapter_use {
    const hs_rt_adapter *adapter;
    float scale;
};
struct hs_rt_adapter_set {
    const struct hs_rt_adapter_use *uses; /* [n] */
    int32_t n;
};

/* One token of a batch. */
struct hs_rt_batch_item {
    int32_t token;
    int32_t pos;
    int32_t seq;
    bool want_logits;
    const struct hs_rt_adapter_set *adapters; /* lives as long as the call; NULL: the base alone */
};

/* How a context applies adapters, and what it has done. */
struct hs_rt_lora_stats {
    enum hs_lora_engine engine; /* the one that runs; AUTO: none was needed yet */
    char reason[128];           /* why it is not the one that was asked for; "": it is */
    bool is_one_set;            /* all items of a decode must have the same set (native) */
    uint64_t n_decodes;         /* with at least one adapter */
    uint64_t n_decodes_mixed;   /* with two different sets, or one and none */
    int32_t n_sets_max;         /* most different sets in one decode, the base alone among them */
    uint64_t n_nodes;           /* of graphs that were rewritten, all decodes together */
};

/* Who looks at what goes into a model's matrices. */
struct hs_rt_observer {
    bool (*wants)(void *user, const char *tensor); /* asked for each product, more than once */
    /* The matrix's inputs, f32[n_rows, n_in], a row for each token; fewer where the model goes on
     * with the last one only. Valid during the call. */
    void (*see)(void *user, const char *tensor, const float *rows, int64_t n_rows, int64_t n_in);
    void *user;
};

/* What to render through the chat template. */
struct hs_rt_template_params {
    const struct hs_message *messages; /* [n_messages] */
    size_t n_messages;
    bool add_generation_prompt;
    bool enable_thinking;
    bool continue_final;         /* the last message, the assistant's, is left open; needs
                                    add_generation_prompt */
    const struct hs_tool *tools; /* [n_tools] */
    int32_t n_tools;
    const char *template_kwargs; /* JSON object; NULL: none */
    const char
        *chat_template; /* overrides the model's own; NULL: the model's, else the plain one */
};

/* What an answer must look like. Schemas are as hs_schema_check leaves them: every keyword in them
 * is enforced. */
struct hs_rt_format_params {
    enum hs_tool_choice tool_choice;
    const char *tool_name; /* the one tool that may be called; NULL: any */
    bool parallel_tool_calls;
    const char *const *tool_schemas; /* [n_tools] of the prompt */
    const char *json_schema;         /* of an answer without calls; NULL: free text */
};

/* A piece of an answer; pointers are valid until the next call with its format. */
struct hs_rt_delta {
    enum hs_event_type type; /* TEXT, REASONING, TOOL_CALL */
    const char *text;        /* of a call: the next piece of its arguments */
    size_t len;
    int32_t index;         /* of the call */
    const char *id, *name; /* the call's first delta only; else NULL */
};
#define HS_RT_DELTAS_MAX 32 /* one feeding gives at most so many */

/* Tags that enclose reasoning in this model's output; empty strings: the model does not reason. */
struct hs_rt_reasoning {
    char start_tag[32];       /* "<think>" */
    char end_tag[32];         /* "</think>" */
    bool starts_in_reasoning; /* the prompt already ends inside the block */
};

/* Memory that a load with these parameters would take or takes, in bytes. */
struct hs_rt_memory {
    uint64_t weights_bytes, kv_bytes, compute_bytes; /* totals over all devices */
    uint64_t host_bytes;                             /* of them in host memory */
    uint64_t host_available_bytes;                   /* what the machine, or its cgroup, has left */
    uint64_t device_free_bytes;                      /* all GPU devices together; 0: none */
};

enum hs_rt_decode {
    HS_RT_DECODE_OK = 0,
    HS_RT_DECODE_NO_ROOM, /* no KV cells for this batch; nothing was computed or kept */
    HS_RT_DECODE_ABORTED  /* the abort callback asked; KV of the batch is removed */
};

/* A model without a chat template is prompted as "User: ...\nAssistant:" and does not know where to
 * stop: end its answers at this stop string. */
#define HS_RT_PLAIN_STOP "\nUser:"

#define HS_RT_STATE_WHOLE 0u
#define HS_RT_STATE_PARTIAL 1u /* only the part that cannot be cut: recurrent state, SWA cells */

struct hs_runtime {
    const char *name; /* "llama.cpp", "fake" */

    /* Load backends once a process; idempotent and thread-safe. ret_version lives as long as the
     * process. */
    hs_status (*init)(const char **ret_version, struct hs_error *err);

    /*
     * Load weights. The caller has validated the file.
     * Errors: HS_UNSUPPORTED_MODEL, HS_BAD_FORMAT, HS_OUT_OF_MEMORY, HS_CANCELLED,
     * HS_INVALID_ARGUMENT (unknown device, RPC server out of reach).
     */
    hs_status (*model_load)(const char *path, const struct hs_model_params *params,
                            hs_rt_model **ret_model, struct hs_error *err);
    void (*model_free)(hs_rt_model *model);
    void (*model_info)(const hs_rt_model *model, struct hs_rt_model_info *ret_info);
    /*
     * Figures for a file before it is loaded: weights, KV and compute buffers as they would be
     * allocated. ret_n_ctx_train may be NULL. gpu layers -1 is resolved into ret_n_gpu_layers.
     */
    hs_status (*estimate)(const char *path, const struct hs_model_params *params,
                          const struct hs_rt_context_params *context,
                          struct hs_rt_memory *ret_memory, int32_t *ret_n_ctx_train,
                          int32_t *ret_n_gpu_layers, struct hs_error *err);

    /* Tokens are appended to buf as int32_t. */
    hs_status (*tokenize)(const hs_rt_model *model, const char *text, size_t len, bool add_special,
                          bool parse_special, struct hs_buf *tokens, struct hs_error *err);
    /* Bytes of one token appended to `text`; control tokens give nothing unless `special`. */
    hs_status (*token_piece)(const hs_rt_model *model, int32_t token, bool special,
                             struct hs_buf *text, struct hs_error *err);
    hs_status (*detokenize)(const hs_rt_model *model, const int32_t *tokens, size_t n_tokens,
                            bool unparse_special, struct hs_buf *text, struct hs_error *err);
    /* As hs_engine_rank_tokens and hs_engine_infill_tokens; appended as int32_t. */
    hs_status (*rank_tokens)(const hs_rt_model *model, const char *query, const char *document,
                             struct hs_buf *tokens, struct hs_error *err);
    hs_status (*infill_tokens)(const hs_rt_model *model, const struct hs_infill *infill,
                               struct hs_buf *tokens, struct hs_error *err);
    bool (*is_eog)(const hs_rt_model *model, int32_t token);

    /*
     * Render messages to prompt text (to be tokenized with parse_special, without add_special).
     * Errors: HS_INVALID_ARGUMENT with the template's own complaint, HS_LIMIT for a template that
     * nests too deeply or takes too many steps.
     */
    hs_status (*render)(const hs_rt_model *model, const struct hs_rt_template_params *params,
                        struct hs_buf *text, struct hs_rt_reasoning *ret_reasoning,
                        struct hs_error *err);

    /*
     * How the answer to this prompt is constrained and read. `prompt` NULL: no template, the whole
     * answer fits json_schema. A format serves one request.
     * Errors: HS_NOT_SUPPORTED (the template cannot do it), HS_INVALID_ARGUMENT, HS_LIMIT.
     */
    hs_status (*format_new)(const hs_rt_model *model, const struct hs_rt_template_params *prompt,
                            const struct hs_rt_format_params *params, hs_rt_format **ret_format,
                            struct hs_error *err);
    void (*format_free)(hs_rt_format *format);
    /* The template's own stop string; NULL: none. */
    const char *(*format_stop)(const hs_rt_format *format);
    /*
     * More of the answer: whole code points, control tokens as text. Not every call gives
     * something; is_end: nothing follows, what is there is given, and what cannot be read is given
     * as text.
     * Out:    ret_deltas[HS_RT_DELTAS_MAX].
     * Errors: HS_OUT_OF_MEMORY, HS_LIMIT (too many calls at once, or the answer nests too deeply).
     */
    hs_status (*format_feed)(hs_rt_format *format, const char *text, size_t len, bool is_end,
                             struct hs_rt_delta *ret_deltas, int32_t *ret_n, struct hs_error *err);

    /* Errors: HS_OUT_OF_MEMORY, HS_MODEL_TOO_LARGE, HS_INVALID_ARGUMENT (KV type without flash
     * attention). */
    hs_status (*context_new)(hs_rt_model *model, const struct hs_rt_context_params *params,
                             hs_rt_context **ret_context, struct hs_error *err);
    void (*context_free)(hs_rt_context *context);
    int32_t (*context_n_ctx)(const hs_rt_context *context); /* cells really there */
    void (*context_memory)(const hs_rt_context *context, struct hs_rt_memory *ret_memory);
    /* Checked between graph nodes while decoding; true stops (CPU backends). May be NULL. */
    void (*set_abort)(hs_rt_context *context, bool (*should_abort)(void *user), void *user);

    /*
     * Compute items[n_items], n_items <= n_batch; positions of each sequence continue where its KV
     * ends. Logits of the items that want them can be sampled, by item index, until the next
     * decode.
     */
    hs_status (*decode)(hs_rt_context *context, const struct hs_rt_batch_item *items,
                        int32_t n_items, enum hs_rt_decode *ret_outcome, struct hs_error *err);
    /* f32[n_vocab] of item i of the last decode; NULL when it had none. */
    const float *(*logits)(const hs_rt_context *context, int32_t i);

    /*
     * Weights of an adapter, packed for this model; the weights are copied. From any thread. NULL
     * pointers in the table: this runtime has no adapters.
     * Errors: HS_MISMATCH (a tensor that the model does not have or of another shape),
     * HS_NOT_SUPPORTED (a matrix whose product cannot be adapted), HS_OUT_OF_MEMORY.
     */
    hs_status (*adapter_new)(const hs_rt_model *model, const struct hs_lora *lora,
                             hs_rt_adapter **ret_adapter, struct hs_error *err);
    /* No decode under way may use it. */
    void (*adapter_free)(hs_rt_adapter *adapter);
    uint64_t (*adapter_bytes)(const hs_rt_adapter *adapter);
    /*
     * Find out which way to apply adapters works with this model (a self-test in a context of its
     * own, once for a model and engine; takes some decodes), so that the first decode with adapters
     * need not. From any thread.
     */
    hs_status (*lora_prepare)(hs_rt_model *model, enum hs_lora_engine wanted,
                              const struct hs_rt_context_params *params, struct hs_error *err);
    void (*lora_stats)(const hs_rt_context *context, struct hs_rt_lora_stats *ret_stats);

    /*
     * Compute tokens on the base alone, in a context of their own that is gone afterwards, and show
     * what goes into its matrices. From any thread. NULL: this runtime cannot.
     * Errors: those of context_new; HS_NOT_SUPPORTED (not a decoder).
     */
    hs_status (*observe)(hs_rt_model *model, const int32_t *tokens, int32_t n_tokens,
                         int32_t n_threads, const struct hs_rt_observer *observer,
                         struct hs_error *err);

    /*
     * Values of a tensor type (ggml's number) as f32, and back; n, and n_cols, are multiples of the
     * type's block. From any thread.
     * Errors: HS_NOT_SUPPORTED (a type that cannot be read, or not be made of values alone),
     * HS_INVALID_ARGUMENT (half a block).
     */
    hs_status (*dequantise)(uint32_t type, const void *data, int64_t n, float *values,
                            struct hs_error *err);
    hs_status (*quantise)(uint32_t type, const float *values, int64_t n_rows, int64_t n_cols,
                          void *data, struct hs_error *err);
    /*
     * Write a GGUF file anew in F32, F16, BF16 or one of llama.cpp's mixtures of types ("Q4_K_M").
     * Tensors that have their type already are copied. What path_out was is lost, whether it
     * succeeds or not.
     * Errors: HS_INVALID_ARGUMENT (no such mixture; the hint lists them), HS_NOT_SUPPORTED,
     * HS_INTERNAL (what llama.cpp says), HS_OUT_OF_MEMORY.
     */
    hs_status (*model_quantise)(const char *path, const char *path_out, const char *mixture,
                                int32_t n_threads, struct hs_error *err);

    /*
     * Put other data into a matrix of a loaded model: data[size], in its type and order in the
     * file. No context of the model may compute meanwhile.
     * Errors: HS_NOT_FOUND (no graph of the model multiplies with it), HS_NOT_SUPPORTED (the
     * weights are a mapped file), HS_MISMATCH (type or size).
     */
    hs_status (*weights_set)(hs_rt_model *model, const char *tensor, uint32_t type,
                             const void *data, size_t size, struct hs_error *err);

    /*
     * A context for embeddings, beside the one that generates.
     * In:     params: n_ctx is the longest input wanted, n_ubatch and n_seq_max the most.
     * Errors: those of context_new; HS_NOT_SUPPORTED (an encoder with a decoder behind it).
     */
    hs_status (*embedder_new)(hs_rt_model *model, const struct hs_rt_context_params *params,
                              struct hs_rt_embedder *ret_embedder, struct hs_error *err);
    /*
     * Compute items as decode does (want_logits is not looked at) and add them to what is pooled of
     * their sequences. There is room for one input of n_input_max tokens and a batch beside it.
     */
    hs_status (*embed)(hs_rt_context *context, const struct hs_rt_batch_item *items,
                       int32_t n_items, enum hs_rt_decode *ret_outcome, struct hs_error *err);
    /* The sequence's n_embd_out values, as computed, NaN included; it is empty afterwards. values
     * NULL: only empty it. */
    void (*embed_take)(hs_rt_context *context, int32_t seq, float *values);

    /* KV of one sequence, positions [p0, p1), p1 < 0: to the end. false: this memory cannot cut
     * there. */
    bool (*kv_remove)(hs_rt_context *context, int32_t seq, int32_t p0, int32_t p1);
    void (*kv_copy)(hs_rt_context *context, int32_t seq_from, int32_t seq_to, int32_t p0,
                    int32_t p1);
    /* Move positions [p0, p1) by delta. false when the memory cannot shift. The engine drops old
     * turns and evaluates again instead; kept for callers that give up exactness for speed. */
    bool (*kv_shift)(hs_rt_context *context, int32_t seq, int32_t p0, int32_t p1, int32_t delta);
    int32_t (*kv_pos_min)(const hs_rt_context *context, int32_t seq); /* -1: empty */
    int32_t (*kv_pos_max)(const hs_rt_context *context, int32_t seq); /* -1: empty */
    void (*kv_clear)(hs_rt_context *context);                         /* all sequences */

    /* State of one sequence as bytes. flags: HS_RT_STATE_*. */
    size_t (*state_size)(hs_rt_context *context, int32_t seq, uint32_t flags);
    hs_status (*state_save)(hs_rt_context *context, int32_t seq, uint32_t flags, void *data,
                            size_t size, size_t *ret_written, struct hs_error *err);
    /* Replaces the sequence's state. HS_CONTEXT_FULL when cells are missing, HS_CORRUPT when it
     * does not fit. */
    hs_status (*state_load)(hs_rt_context *context, int32_t seq, uint32_t flags, const void *data,
                            size_t size, struct hs_error *err);

    /*
     * A sampler chain for one request; format NULL: the answer is free, but for sampling->grammar.
     * HS_INVALID_ARGUMENT names the parameter that is out of range, the unknown sampler name or
     * says that the grammar does not parse.
     */
    hs_status (*sampler_new)(const hs_rt_model *model, const struct hs_sampling *sampling,
                             const hs_rt_format *format, bool ignore_eos, int32_t n_ctx,
                             hs_rt_sampler **ret_sampler, struct hs_error *err);
    void (*sampler_free)(hs_rt_sampler *sampler);
    uint32_t (*sampler_seed)(const hs_rt_sampler *sampler); /* the one in use */
    /* Feed a token that was not sampled here (prompt tokens, for the penalties; the grammar is not
     * advanced). */
    void (*sampler_accept_prompt)(hs_rt_sampler *sampler, int32_t token);
    /*
     * Choose and accept a token from the logits of item i of the last decode.
     * Out:    ret_logprobs (may be NULL when n_logprobs is 0): [1 + n_logprobs], the chosen token
     * first, then the most likely ones of the unmodified distribution (log-softmax of the raw
     * logits).
     */
    hs_status (*sample)(hs_rt_sampler *sampler, hs_rt_context *context, int32_t i,
                        int32_t n_logprobs, int32_t *ret_token,
                        struct hs_token_logprob *ret_logprobs, struct hs_error *err);
};

/* The table of LlamaCppEngine; lives as long as the process. */
const struct hs_runtime *hs_runtime_llama(void);

/* Version, devices and CPU features of llama.cpp; loads the backends. */
HS_CHECKED hs_status hs_runtime_llama_system_info(struct hs_system_info *ret_info,
                                                  struct hs_error *err);

/* Release the backends at the end of a process (leak checkers); no model may be loaded. */
void hs_runtime_llama_shutdown(void);

#endif
