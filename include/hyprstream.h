/*
 * hyprstream.h - the embedding API: an engine that runs language models, sessions, and token
 * streams.
 *
 * An engine loads GGUF models, each with one worker thread that batches every running request. A
 * session is a conversation with one model; generating in it gives a stream of events. Requests
 * without a session pass their whole conversation (hs_engine_chat) or raw text
 * (hs_engine_complete).
 *
 * Errors:  functions that can fail return hs_status; `err`, always last and allowed to be NULL,
 * receives the message and what to do next. Outputs named ret_x are written only on HS_OK. Strings:
 * UTF-8, NUL-terminated unless a length stands beside them; in-parameters are copied. Structs:
 * start every parameter struct from its hs_x_defaults(); zero is not a default. Threads: an engine
 * may be used from any number of threads; a stream by one thread at a time, except
 *          hs_stream_cancel, which any thread may call while the stream exists.
 * Source:  the methods follow the project's architecture (ARCHITECTURE.md, "The engine's
 * interface").
 */
#ifndef HYPRSTREAM_H
#define HYPRSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HS_API __attribute__((visibility("default")))
#define HS_CHECKED __attribute__((warn_unused_result))
#else
#define HS_API
#define HS_CHECKED
#endif

/* ---- status and errors ---- */

typedef enum hs_status {
#define HS_STATUS(name, value, text) HS_##name = value,
#include "hyprstream/status.def"
#undef HS_STATUS
} hs_status;

#define HS_MESSAGE_MAX 512 /* bytes with the final NUL; longer messages are cut at a code point */
#define HS_HINT_MAX 256

/* What went wrong and what the user can do next. Plain memory: nothing to free. Never holds prompt
 * text. */
struct hs_error {
    hs_status status;
    char message[HS_MESSAGE_MAX]; /* what, which one, what limit */
    char hint[HS_HINT_MAX];       /* the next step; may be empty */
};

HS_API const char *
hs_status_name(hs_status status); /* "HS_NOT_FOUND"; "HS_UNKNOWN" for foreign values */
HS_API const char *hs_status_text(hs_status status); /* "not found" */
HS_API const char *hs_version(void);                 /* "0.1.0" */

/* ---- the library that computes, and what it found ---- */

#define HS_DEVICES_MAX 32

struct hs_device {
    char name[64];         /* as struct hs_model_params' devices names it: "CPU", "CUDA0" */
    char description[128]; /* "NVIDIA GeForce RTX 4090" */
    char library[64];      /* backend library chosen at run time: "libggml-cpu-haswell.so" */
    uint64_t memory_free_bytes, memory_total_bytes; /* 0: unknown */
};

struct hs_system_info {
    char llama_version[64];
    char cpu_features[512]; /* "AVX AVX2 FMA" that the CPU backend in use has */
    int32_t n_devices;
    struct hs_device devices[HS_DEVICES_MAX];
};

/* Loads the backends, once a process. Errors: HS_NOT_FOUND (no CPU backend). Threads: any. */
HS_API HS_CHECKED hs_status hs_system_info_get(struct hs_system_info *ret_info,
                                               struct hs_error *err);

/* ---- models ---- */

#define HS_ID_MAX 128 /* bytes of a model or session id with its final NUL */

enum hs_flash_attn { HS_FLASH_ATTN_AUTO = -1, HS_FLASH_ATTN_OFF = 0, HS_FLASH_ATTN_ON = 1 };
enum hs_kv_type { HS_KV_F16 = 0, HS_KV_Q8_0 = 1 };

/* Called while weights load, fraction in [0, 1]; returning false stops the load (HS_CANCELLED). */
typedef bool (*hs_progress_fn)(float fraction, void *user);

/* How adapters are applied (docs/adapters.md). */
enum hs_lora_engine {
    HS_LORA_ENGINE_AUTO = 0, /* the first of the following that the self-test finds right */
    HS_LORA_ENGINE_REWRITE,  /* any mix in one batch, by our own kernels */
    HS_LORA_ENGINE_STACKED,  /* any mix in one batch: ranks side by side and a mask */
    HS_LORA_ENGINE_NATIVE    /* one set of adapters a batch, llama.cpp's own way */
};
/* "auto", "rewrite", "stacked", "native" */
HS_API const char *hs_lora_engine_name(enum hs_lora_engine engine);

/* What adapters' weights are kept as in memory (docs/adapters.md). */
enum hs_adapter_weights {
    HS_ADAPTER_WEIGHTS_FILE = 0, /* as they are in the file */
    HS_ADAPTER_WEIGHTS_F16,      /* f32 becomes f16 */
    HS_ADAPTER_WEIGHTS_INT8      /* 8 bits and a factor for each row; of sparse deltas f16 */
};
/* "file", "f16", "int8" */
HS_API const char *hs_adapter_weights_name(enum hs_adapter_weights weights);

struct hs_model_params {
    int32_t n_ctx;           /* KV cells, shared by all sequences; 0: fitted to model and memory */
    int32_t n_batch;         /* tokens in one decode call; 0: 2048 */
    int32_t n_ubatch;        /* tokens computed at once; 0: 512 */
    int32_t n_seq_max;       /* sequences that may hold KV at a time, 1..256; 0: 64 */
    int32_t n_threads;       /* decode threads; 0: physical cores */
    int32_t n_threads_batch; /* prefill threads; 0: as n_threads */
    int32_t n_gpu_layers;    /* -1: as many as fit; 0: none */
    bool use_mmap;
    bool use_mlock;
    enum hs_flash_attn flash_attn;
    enum hs_kv_type kv_type;
    enum hs_lora_engine lora_engine;
    enum hs_adapter_weights adapter_weights;
    const char *devices;       /* comma-separated backend device names; NULL: all */
    const char *rpc_servers;   /* comma-separated host:port; NULL: none */
    const char *chat_template; /* Jinja source used instead of the model's own; NULL: the model's */
    uint64_t reserve_bytes;    /* host memory to leave alone, for models that come later */
    uint64_t limit_bytes;      /* most that weights, KV and compute may take, host and devices
                                  together; 0: what there is */
    hs_progress_fn progress;   /* may be NULL */
    void *progress_user;
};

struct hs_memory {
    uint64_t weights_bytes;
    uint64_t kv_bytes;
    uint64_t compute_bytes;
};

struct hs_model_info {
    char id[HS_ID_MAX];
    char path[1024];
    char architecture[64]; /* "llama", "qwen3", ... */
    char description[128]; /* llama.cpp's one-line description: size and quantisation */
    char backend[128];     /* device names that hold weights, e.g. "CPU" */
    uint64_t n_params;
    int32_t n_ctx;       /* cells in use for this load */
    int32_t n_ctx_train; /* the model's own limit */
    int32_t n_vocab;
    int32_t n_embd;
    int32_t n_layer;
    int32_t n_seq_max;
    int32_t n_threads;
    int32_t n_gpu_layers;
    bool has_chat_template;
    bool can_generate;   /* false: embeddings or scores only */
    bool can_infill;     /* has tokens for what stands before and behind a gap */
    bool can_rank;       /* its embeddings are scores of documents, see hs_embed_params */
    int32_t n_embedding; /* values of an embedding, or scores; 0: it has none */
    enum hs_adapter_weights adapter_weights;
    char fingerprint[65];    /* hex SHA-256 that names the weights, see docs/formats.md */
    struct hs_memory memory; /* measured after the load */
};

/* Live figures of a loaded model's worker. */
struct hs_model_stats {
    int32_t n_running; /* requests decoding or prefilling now */
    int32_t n_queued;
    int32_t n_kv_used; /* cells */
    int32_t n_parked;  /* contexts kept in host memory */
    uint64_t parked_bytes;
    uint64_t n_decode_calls;
    uint64_t n_prompt_tokens; /* evaluated, without reused ones */
    uint64_t n_cached_tokens; /* reused */
    uint64_t n_generated_tokens;
    int32_t n_embed_requests; /* queued or running */
    uint64_t n_embedded;      /* inputs, and their tokens */
    uint64_t n_embed_tokens;
    /* Adapters. */
    enum hs_lora_engine lora_engine; /* the one that runs; AUTO: none was needed yet */
    char lora_reason[128];           /* why it is not the one that was asked for; "": it is */
    uint64_t n_lora_decodes;         /* decode calls with at least one adapter */
    uint64_t n_lora_decodes_mixed;   /* of them with different sets of adapters */
    int32_t n_lora_sets_max; /* most different sets in one call, the base alone among them */
    uint64_t n_lora_nodes;   /* of graphs that were rewritten, all calls together */
    int32_t n_adapters;      /* registered for this model */
    int32_t n_adapters_ready;
    uint64_t adapter_bytes; /* their weights in host memory, replaced versions in use included */
};

#define HS_TAG_MAX 65 /* bytes of a request's tag with its final NUL; longer ones are cut */

enum hs_slot_state { HS_SLOT_IDLE = 0, HS_SLOT_PREFILL, HS_SLOT_DECODE };
HS_API const char *hs_slot_state_name(enum hs_slot_state state); /* "idle", "prefill", "decode" */

/* What one sequence of a model's context does. All but `id` is zero while it is idle. */
struct hs_slot {
    int32_t id;
    enum hs_slot_state state;
    uint64_t request; /* its number among the model's requests, from 1 */
    int32_t n_prompt;
    int32_t n_evaluated; /* tokens in the KV cache, reused ones and the answer's included */
    int32_t n_generated;
    double age_ms; /* since the request was submitted */
    char tag[HS_TAG_MAX];
};

/* ---- generation ---- */

/* Row order is the order in which llama.cpp applies them unless `samplers` says otherwise. */
struct hs_sampling {
    uint32_t seed; /* HS_SEED_RANDOM: drawn by the engine and reported in hs_usage */
    float temp;    /* <= 0: greedy */
    float dynatemp_range, dynatemp_exponent;
    int32_t top_k;     /* <= 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    float typical_p;   /* 1: off */
    float top_n_sigma; /* < 0: off */
    float xtc_probability, xtc_threshold;
    float repeat_penalty, frequency_penalty, presence_penalty;
    int32_t repeat_last_n; /* 0: off; -1: the context size */
    float dry_multiplier, dry_base;
    int32_t dry_allowed_length, dry_penalty_last_n;
    const char *const *dry_breakers; /* NULL: llama.cpp's "\n", ":", "\"", "*" */
    int32_t n_dry_breakers;
    int32_t mirostat; /* 0: off; 1, 2 */
    float mirostat_tau, mirostat_eta;
    float adaptive_target, adaptive_decay; /* target < 0: off */
    const char *samplers;     /* ';'-separated names in order; NULL: the default order */
    const char *grammar;      /* GBNF; NULL: none */
    const char *grammar_root; /* NULL: "root" */
    const int32_t *logit_bias_tokens;
    const float *logit_bias_values;
    int32_t n_logit_bias;
    const int32_t *forced; /* [n_forced] what the answer begins with, whatever the model thinks of
                              it, which logprobs tell; not with a grammar, a schema or tools */
    int32_t n_forced;
};
#define HS_SEED_RANDOM 0xFFFFFFFFu

/* A tool that the model may call, as the client describes it. */
struct hs_tool {
    const char *name;        /* [A-Za-z0-9_.-]{1,64}, unique in the request */
    const char *description; /* NULL: none */
    const char *parameters;  /* JSON Schema of an object, as text; NULL: no parameters */
};

enum hs_tool_choice {
    HS_TOOL_CHOICE_AUTO = 0, /* text or calls, as the model decides */
    HS_TOOL_CHOICE_NONE,     /* the tools are in the prompt, but no call is made */
    HS_TOOL_CHOICE_REQUIRED  /* at least one call */
};

enum hs_overflow {
    HS_OVERFLOW_SAVED = -1, /* sessions only: what the saved one has, otherwise HS_OVERFLOW_STOP */
    HS_OVERFLOW_STOP = 0,   /* a full context ends the answer with HS_FINISH_LENGTH */
    HS_OVERFLOW_SHIFT =
        1 /* the oldest turns are dropped by whole messages; the system message stays */
};

struct hs_generate_params {
    int32_t max_tokens;        /* <= 0: until the model stops or the context is full */
    int32_t max_prompt_tokens; /* a longer prompt is HS_CONTEXT_FULL; 0: what the context takes */
    struct hs_sampling sampling;
    const char *const *stop; /* stop strings, not emitted */
    int32_t n_stop;
    bool ignore_eos;
    bool enable_thinking;      /* passed to the chat template */
    bool split_reasoning;      /* reasoning blocks arrive as HS_EVENT_REASONING */
    bool cache_prompt;         /* reuse and keep KV */
    int64_t deadline_ms;       /* from submission; 0: none */
    enum hs_overflow overflow; /* for requests without a session; a session has its own */
    int32_t n_logprobs;        /* 0: none; events then carry the top n, at most 20 */
    /* What the chat template renders and the answer must look like. Refused without a template that
     * can do it (HS_NOT_SUPPORTED) and by hs_engine_complete, but for json_schema. */
    const struct hs_tool *tools; /* [n_tools] */
    int32_t n_tools;
    enum hs_tool_choice tool_choice;
    const char *tool_name;       /* REQUIRED only: this one; NULL: any */
    bool parallel_tool_calls;    /* more than one call in an answer */
    const char *json_schema;     /* the text after any reasoning is JSON that fits, unless tools are
                                    called instead; NULL: free text. HS_INVALID_ARGUMENT names a
                                    keyword that cannot be enforced */
    const char *template_kwargs; /* JSON object: more variables for the template; NULL: none */
    bool continue_final;         /* the last message is the assistant's: go on where it ends */
    int32_t stream_capacity;     /* events a slow reader may lag; 0: 256 */
    const char *tag;             /* shown in struct hs_slot; NULL: none */
    const char *client;          /* whose request it is: clients take turns; NULL: its own */
};

/* A call of a tool, as the model made it. */
struct hs_tool_call {
    const char *id; /* what the tool's answer refers to */
    const char *name;
    const char *arguments; /* JSON object, as text */
};

struct hs_message {
    const char *role; /* "system", "user", "assistant", "tool" */
    const char *content;
    const char *reasoning;                 /* NULL: none */
    const struct hs_tool_call *tool_calls; /* [n_tool_calls], of the assistant */
    int32_t n_tool_calls;
    const char *tool_call_id; /* the call that a tool's message answers; NULL: not said */
    const char *name;         /* of the tool that answers; NULL: not said */
};

/* An adapter as a request or session names it. */
struct hs_adapter_ref {
    const char *name;
    float scale;
};

enum hs_finish {
    HS_FINISH_NONE = 0,
    HS_FINISH_STOP,   /* end-of-generation token or stop string */
    HS_FINISH_LENGTH, /* max_tokens reached or context full */
    HS_FINISH_CANCELLED,
    HS_FINISH_ERROR,
    HS_FINISH_TOOL_CALLS /* stopped, and the answer calls tools */
};
HS_API const char *
hs_finish_name(enum hs_finish finish); /* "stop", "length", "cancelled", "error", "tool_calls" */

struct hs_usage {
    int32_t prompt_tokens;     /* all of the prompt, reused ones included */
    int32_t cached_tokens;     /* of them reused from KV */
    int32_t completion_tokens; /* the final end-of-generation token included */
    int32_t dropped_messages;  /* by HS_OVERFLOW_SHIFT in this request */
    int32_t stopped_by;        /* 1 + the index in params.stop of the one that ended it; 0: none */
    uint32_t seed;
    double queue_ms, prefill_ms, decode_ms;
};

struct hs_token_logprob {
    int32_t token;
    float logprob;
};

enum hs_event_type {
    HS_EVENT_TEXT = 0,
    HS_EVENT_REASONING,
    HS_EVENT_DONE,
    HS_EVENT_TOOL_CALL, /* a call begins, or more of its arguments */
    HS_EVENT_EMBEDDING  /* hs_engine_embed only */
};

/* Text pointers stay valid until the next hs_stream_next or hs_stream_free of the same stream. */
struct hs_event {
    enum hs_event_type type;
    const char *text; /* whole UTF-8 code points, NUL-terminated; of a tool call the next piece of
                         its arguments; "" for HS_EVENT_DONE and HS_EVENT_EMBEDDING */
    size_t text_len;
    int32_t index; /* of the tool call in the answer, or of the input of the embedding */
    const char *tool_call_id, *tool_name; /* the call's first event only; else NULL */
    const float *values;                  /* HS_EVENT_EMBEDDING: f32[n_values] */
    int32_t n_values;
    int32_t n_tokens; /* tokens that produced this text */
    const struct hs_token_logprob
        *logprobs;         /* [n_tokens][1 + n_logprobs], the chosen token first; or NULL */
    enum hs_finish finish; /* HS_EVENT_DONE only, as are the fields below */
    struct hs_usage usage;
    struct hs_error error; /* status HS_OK unless finish is HS_FINISH_ERROR */
};

/* ---- engine ---- */

typedef struct hs_engine hs_engine;
typedef struct hs_stream hs_stream;

struct hs_engine_params {
    const char *sessions_dir;   /* where named sessions are kept; NULL: they live in memory only */
    int32_t max_queue;          /* waiting requests per model, those for embeddings counted apart;
                                   one more is HS_QUEUE_FULL; 0: 256 */
    int32_t max_client_queue;   /* of them of one client, beside as many as may run; 0: half */
    uint64_t park_budget_bytes; /* host memory for KV of idle contexts, per model; 0: none */
    int32_t prefill_chunk;      /* most prompt tokens of a step while others decode; 0: 512 */
    int32_t prefill_ms;         /* fewer, when a step would take longer, in turn for every two
                                   prompts; 0: 200; -1: never fewer */
    uint64_t adapter_budget_bytes; /* host memory for adapters' weights, all models together; those
                                      not in use leave as needed; 0: no adapters */
};

struct hs_session_params {
    const char *name; /* NULL: anonymous, gone when closed; else [A-Za-z0-9._-]{1,64}, no '.' first,
                         kept on disk */
    const char *model_id;                  /* a loaded model */
    const struct hs_adapter_ref *adapters; /* [n_adapters] as hs_engine_apply_lora_weights; none:
                                              what the saved session has */
    int32_t n_adapters;
    const char *system;        /* system message; NULL: none, or what the saved session has */
    enum hs_overflow overflow; /* default: HS_OVERFLOW_SAVED */
    bool save_kv; /* keep KV beside the text, so that the prompt need not be evaluated again */
};

HS_API void hs_engine_params_defaults(struct hs_engine_params *params);
HS_API void hs_model_params_defaults(struct hs_model_params *params);
HS_API void hs_session_params_defaults(struct hs_session_params *params);
HS_API void hs_generate_params_defaults(struct hs_generate_params *params);

HS_API HS_CHECKED hs_status hs_engine_create(const struct hs_engine_params *params,
                                             hs_engine **ret_engine, struct hs_error *err);
/* Cancels what runs, saves named sessions, joins the workers. Streams must be freed before. */
HS_API void hs_engine_free(hs_engine *engine);

/*
 * Load a GGUF file; blocks until it is ready.
 * In:     path of the file (of the first part when split); id to give it, NULL: the file's stem.
 * Errors: HS_NOT_FOUND, HS_IS_DIRECTORY, HS_PERMISSION_DENIED, HS_BAD_MAGIC, HS_TRUNCATED,
 * HS_BAD_FORMAT, HS_UNSUPPORTED_VERSION, HS_UNSUPPORTED_MODEL, HS_MODEL_TOO_LARGE,
 * HS_ALREADY_EXISTS, HS_CANCELLED. A failed load leaves the engine as it was.
 */
HS_API HS_CHECKED hs_status hs_engine_load_model(hs_engine *engine, const char *path,
                                                 const char *id,
                                                 const struct hs_model_params *params,
                                                 char ret_model_id[HS_ID_MAX],
                                                 struct hs_error *err);
/* HS_BUSY while requests run on it or sessions are open on it. */
HS_API HS_CHECKED hs_status hs_engine_unload_model(hs_engine *engine, const char *model_id,
                                                   struct hs_error *err);
HS_API HS_CHECKED hs_status hs_engine_model_info(hs_engine *engine, const char *model_id,
                                                 struct hs_model_info *ret_info,
                                                 struct hs_error *err);
HS_API HS_CHECKED hs_status hs_engine_model_stats(hs_engine *engine, const char *model_id,
                                                  struct hs_model_stats *ret_stats,
                                                  struct hs_error *err);

/* The model's sequences by id: the first `max` of n_seq_max, none of a model that only embeds. As
 * they were after the last step. */
HS_API HS_CHECKED hs_status hs_engine_model_slots(hs_engine *engine, const char *model_id,
                                                  struct hs_slot *ret_slots, size_t max,
                                                  size_t *ret_n, struct hs_error *err);

/* A request that has ended: an answer, or inputs that were embedded. */
struct hs_request_record {
    uint64_t number;         /* from 1, in the order in which they ended */
    int64_t started_unix_ms; /* submitted */
    double total_ms;         /* until it ended */
    char model_id[HS_ID_MAX];
    char client[HS_TAG_MAX]; /* whose it was; "": nobody's */
    char tag[HS_TAG_MAX];
    char adapters[256]; /* "name:scale+name:scale", cut when it is longer; "": none */
    bool is_embedding;
    enum hs_finish finish;
    struct hs_usage usage;
    char error[160]; /* of HS_FINISH_ERROR, cut when it is longer */
};
#define HS_REQUEST_RECORDS_MAX 4096 /* the engine keeps the last ones */

/* The last requests that have ended, the oldest first: at most `max` of those numbered above
 * `after`. */
HS_API HS_CHECKED hs_status hs_engine_requests(hs_engine *engine, uint64_t after,
                                               struct hs_request_record *ret_records, size_t max,
                                               size_t *ret_n, struct hs_error *err);

/*
 * Tokenize text with a model's vocabulary.
 * In:     add_special: BOS and the like as the model wants; parse_special: "<|x|>" texts become
 * their token. Out:    ret_tokens, i32[ret_n], to be freed by hs_tokens_free.
 */
HS_API HS_CHECKED hs_status hs_engine_tokenize(hs_engine *engine, const char *model_id,
                                               const char *text, size_t text_len, bool add_special,
                                               bool parse_special, int32_t **ret_tokens,
                                               size_t *ret_n, struct hs_error *err);
/* Out: ret_text, NUL-terminated with its length beside it, to be freed by hs_text_free. */
HS_API HS_CHECKED hs_status hs_engine_detokenize(hs_engine *engine, const char *model_id,
                                                 const int32_t *tokens, size_t n_tokens,
                                                 bool unparse_special, char **ret_text,
                                                 size_t *ret_len, struct hs_error *err);
HS_API void hs_tokens_free(int32_t *tokens);
HS_API void hs_text_free(char *text);

/* A named session that exists on disk is resumed: its messages, and its KV when the model's
 * fingerprint fits. The file also keeps the parameters of the last turn, for whoever reads it; here
 * every turn brings its own. HS_CORRUPT: the file cannot be read, and is left as it is. */
HS_API HS_CHECKED hs_status hs_engine_create_session(hs_engine *engine,
                                                     const struct hs_session_params *params,
                                                     char ret_session_id[HS_ID_MAX],
                                                     struct hs_error *err);
/* When turns or changes could not be saved, saving is tried again; when it fails again, that is the
 * error (HS_IO and the like), and the session stays open. */
HS_API HS_CHECKED hs_status hs_engine_close_session(hs_engine *engine, const char *session_id,
                                                    struct hs_error *err);
/* Number of messages, system message included. */
HS_API HS_CHECKED hs_status hs_session_message_count(hs_engine *engine, const char *session_id,
                                                     size_t *ret_n, struct hs_error *err);
/* A copy of message i, to be freed by hs_message_free. */
HS_API HS_CHECKED hs_status hs_session_message(hs_engine *engine, const char *session_id, size_t i,
                                               struct hs_message *ret_message,
                                               struct hs_error *err);
HS_API void hs_message_free(struct hs_message *message);
/*
 * Drop messages from index `n_keep` on (0: all, the system message too). HS_BUSY while it
 * generates. The messages on disk are replaced with the next answer that joins,
 * hs_session_set_system or hs_engine_close_session. So the last question can be answered anew
 * without risk: cut the answer off and generate without a prompt; when that is refused, fails or is
 * cancelled, the messages that were dropped are back.
 */
HS_API HS_CHECKED hs_status hs_session_truncate(hs_engine *engine, const char *session_id,
                                                size_t n_keep, struct hs_error *err);
/* Append a copy of a message, so that tools can answer; generate without a prompt goes on from
 * there. HS_BUSY while it generates. */
HS_API HS_CHECKED hs_status hs_session_append(hs_engine *engine, const char *session_id,
                                              const struct hs_message *message,
                                              struct hs_error *err);
/* Set or, with NULL, remove the system message. */
HS_API HS_CHECKED hs_status hs_session_set_system(hs_engine *engine, const char *session_id,
                                                  const char *system, struct hs_error *err);

/*
 * Set the adapters of a session from its next turn on; n_adapters 0: none. They are saved with it.
 * Which versions a turn uses is decided when it begins.
 * Errors: HS_NOT_FOUND (no such session or adapter), HS_BUSY while it generates, HS_MISMATCH (made
 * for another model), HS_INVALID_ARGUMENT (a scale that is not finite, an adapter twice), HS_LIMIT
 * (more than 64), HS_IO and the like (it cannot be saved; nothing has changed).
 */
HS_API HS_CHECKED hs_status hs_engine_apply_lora_weights(hs_engine *engine, const char *session_id,
                                                         const struct hs_adapter_ref *adapters,
                                                         int32_t n_adapters, struct hs_error *err);
/*
 * Say that every turn of a session is to choose its adapters by what its prompt is about, or no
 * longer. It is saved with the session. The engine does not choose by itself: whoever asks a turn
 * of such a session calls hs_engine_route and hs_engine_apply_lora_weights before, by rules and
 * settings of its own. Errors: HS_NOT_FOUND, HS_BUSY while it generates, HS_IO and the like.
 */
HS_API HS_CHECKED hs_status hs_engine_route_session(hs_engine *engine, const char *session_id,
                                                    bool is_routed, struct hs_error *err);
HS_API HS_CHECKED hs_status hs_session_is_routed(hs_engine *engine, const char *session_id,
                                                 bool *ret_is_routed, struct hs_error *err);
/* A copy of a session's adapters, refs[ret_n], to be freed by hs_adapter_refs_free. */
HS_API HS_CHECKED hs_status hs_session_adapters(hs_engine *engine, const char *session_id,
                                                struct hs_adapter_ref **ret_refs, size_t *ret_n,
                                                struct hs_error *err);
HS_API void hs_adapter_refs_free(struct hs_adapter_ref *refs, size_t n);

/*
 * Append `prompt` as a user message and generate the answer.
 * In:     prompt NULL: answer the messages as they stand (the last one must not be the
 * assistant's). Out:    ret_stream, to be freed by hs_stream_free. The answer joins the session
 * when the stream reports HS_EVENT_DONE; a cancelled answer joins with the text so far, an error,
 * or a cancellation before any text, removes the user message. Errors: HS_QUEUE_FULL, HS_BUSY (the
 * session already generates), HS_NOT_FOUND, HS_CONTEXT_FULL (the prompt alone exceeds the context),
 * HS_INVALID_ARGUMENT.
 */
HS_API HS_CHECKED hs_status hs_engine_generate(hs_engine *engine, const char *session_id,
                                               const char *prompt,
                                               const struct hs_generate_params *params,
                                               hs_stream **ret_stream, struct hs_error *err);
/*
 * The same for a conversation that the caller holds: messages[n_messages] through the chat
 * template. adapters[n_adapters] are added together, each with its own signed scale, 0 counting as
 * absent; their present versions serve the whole request. It waits in the queue while they load,
 * and delays nobody. More errors: HS_NOT_FOUND (an unknown adapter; the message names those that
 * fit), HS_MISMATCH (made for another model), HS_INVALID_ARGUMENT, HS_LIMIT as
 * hs_engine_apply_lora_weights. An adapter that does not load ends the stream with its error.
 */
HS_API HS_CHECKED hs_status hs_engine_chat(hs_engine *engine, const char *model_id,
                                           const struct hs_adapter_ref *adapters,
                                           int32_t n_adapters, const struct hs_message *messages,
                                           size_t n_messages,
                                           const struct hs_generate_params *params,
                                           hs_stream **ret_stream, struct hs_error *err);
/* The same for tokens as they are, without a template. */
HS_API HS_CHECKED hs_status hs_engine_complete(hs_engine *engine, const char *model_id,
                                               const struct hs_adapter_ref *adapters,
                                               int32_t n_adapters, const int32_t *tokens,
                                               size_t n_tokens,
                                               const struct hs_generate_params *params,
                                               hs_stream **ret_stream, struct hs_error *err);
/* The chat template's rendering of messages, with what `params` says of tools, thinking, the
 * template's variables and continuing; ret_text to be freed by hs_text_free. */
HS_API HS_CHECKED hs_status hs_engine_render(hs_engine *engine, const char *model_id,
                                             const struct hs_message *messages, size_t n_messages,
                                             const struct hs_generate_params *params,
                                             char **ret_text, size_t *ret_len,
                                             struct hs_error *err);

struct hs_embed_input {
    const int32_t *tokens; /* [n_tokens], at least one */
    size_t n_tokens;
};

struct hs_embed_params {
    bool normalize;      /* to Euclidean length 1 */
    bool truncate;       /* an input that is too long loses what is too much before its last token;
                            otherwise it is HS_CONTEXT_FULL */
    bool rank;           /* the scores of a model that ranks, each input a query and a document */
    int32_t dimensions;  /* the first so many, before normalizing; 0: all */
    int64_t deadline_ms; /* from submission; 0: none */
    const char *client;  /* whose request it is; NULL: its own */
};
HS_API void hs_embed_params_defaults(struct hs_embed_params *params);

/*
 * Embed inputs: one HS_EVENT_EMBEDDING for each, in any order, f32[n_embd] or fewer, then
 * HS_EVENT_DONE with usage.prompt_tokens. Pooled as the GGUF says; by the mean of all positions
 * when it says nothing, as chat models do. The model computes them in a context of its own, made
 * with the first request, which waits for it. An input may be as long as the context, 8192 tokens
 * at most in chat models. Errors: HS_CONTEXT_FULL (an input is longer than the model takes),
 * HS_MODEL_TOO_LARGE (no memory for that context), HS_QUEUE_FULL, HS_NOT_FOUND, HS_NOT_SUPPORTED
 * (the model has no embeddings, or does not rank), HS_INVALID_ARGUMENT.
 */
HS_API HS_CHECKED hs_status hs_engine_embed(hs_engine *engine, const char *model_id,
                                            const struct hs_embed_input *inputs, size_t n_inputs,
                                            const struct hs_embed_params *params,
                                            hs_stream **ret_stream, struct hs_error *err);

/* One input for ranking: a query and a document, joined as the model wants it (its template for
 * that, else its special tokens). ret_tokens[ret_n] is for hs_tokens_free. */
HS_API HS_CHECKED hs_status hs_engine_rank_tokens(hs_engine *engine, const char *model_id,
                                                  const char *query, const char *document,
                                                  int32_t **ret_tokens, size_t *ret_n,
                                                  struct hs_error *err);

/* Another file that the model may look at. */
struct hs_infill_file {
    const char *name; /* NULL: none */
    const char *text;
};

/* A text with a gap. */
struct hs_infill {
    const char *prefix, *suffix; /* before and behind the gap */
    const struct hs_infill_file *files;
    size_t n_files;
    size_t n_tokens_max; /* what does not fit of the files is left out, the first ones first; 0: no
                            limit */
};

/* The prompt for hs_engine_complete that has a gap filled. HS_NOT_SUPPORTED: the model's vocabulary
 * has no tokens for that. ret_tokens[ret_n] is for hs_tokens_free. */
HS_API HS_CHECKED hs_status hs_engine_infill_tokens(hs_engine *engine, const char *model_id,
                                                    const struct hs_infill *infill,
                                                    int32_t **ret_tokens, size_t *ret_n,
                                                    struct hs_error *err);

/* ---- adapters ---- */

#define HS_ADAPTER_NAME_SIZE 65 /* bytes of a name or version with its final NUL */

enum hs_adapter_state {
    HS_ADAPTER_REGISTERED = 0, /* not in memory: loaded when a request needs it */
    HS_ADAPTER_LOADING,
    HS_ADAPTER_READY,
    HS_ADAPTER_FAILED /* the last load failed; the next request tries again */
};
/* "registered", "loading", "ready", "failed" */
HS_API const char *hs_adapter_state_name(enum hs_adapter_state state);

struct hs_lora;

struct hs_adapter_params {
    const char *name;     /* as requests name it: [A-Za-z0-9._-]{1,64}, no '.' first */
    const char *model_id; /* the loaded model it was made for */
    const char *path;     /* GGUF or safetensors file, or PEFT folder */
    const char *version; /* what names its content, as a name is written, such as the SHA-256; NULL:
                            derived from path, size and time of change */
    const struct hs_lora
        *weights;   /* instead of a path, read before the call returns; such adapters
                       are always ready and pinned; needs a version. NULL: the path */
    bool is_pinned; /* once loaded it stays in memory */
};
HS_API void hs_adapter_params_defaults(struct hs_adapter_params *params);

/* Sums are over the requests that have ended, of all versions. */
struct hs_adapter_info {
    char name[HS_ADAPTER_NAME_SIZE];
    char version[HS_ADAPTER_NAME_SIZE];
    char model_id[HS_ID_MAX];
    char path[1024]; /* empty: made in memory */
    enum hs_adapter_state state;
    bool is_pinned;
    uint64_t bytes;   /* of host memory; 0 unless ready */
    int32_t n_active; /* requests, waiting or running */
    uint64_t n_uses;  /* requests accepted with it */
    uint64_t n_loads;
    double load_ms;                                /* what the last load took */
    int64_t registered_unix_ms, last_used_unix_ms; /* last_used 0: never */
    uint64_t n_prompt_tokens, n_generated_tokens;
    double queue_ms, prefill_ms, decode_ms;
    struct hs_error error; /* of HS_ADAPTER_FAILED */
};

/*
 * Register an adapter for a loaded model. Nothing is read yet but whether the path is there, so
 * thousands cost almost nothing; a model's first one computes a few small batches to find out how
 * adapters are applied to it. It is forgotten when the model is unloaded.
 * Errors: HS_ALREADY_EXISTS (the name is taken, also by another model's), HS_NOT_FOUND (no such
 * model or path), HS_NOT_SUPPORTED (the engine has no memory for adapters, or the way of applying
 * them that was asked for does not work), HS_INVALID_ARGUMENT, HS_LIMIT; for weights those of
 * loading, too.
 */
HS_API HS_CHECKED hs_status hs_engine_register_adapter(hs_engine *engine,
                                                       const struct hs_adapter_params *params,
                                                       struct hs_error *err);
/*
 * Load it now and wait until it is ready.
 * Errors: HS_NOT_FOUND, HS_MISMATCH (what does not fit the model), HS_LIMIT (it alone exceeds the
 * memory for adapters), HS_BAD_FORMAT, HS_NOT_SUPPORTED, HS_IO and the like.
 */
HS_API HS_CHECKED hs_status hs_engine_load_adapter(hs_engine *engine, const char *name,
                                                   struct hs_error *err);
/*
 * Put another version in the place of a registered adapter: loads it, then swaps at once. Requests
 * accepted before finish on the old version, those after use the new one; without a load and
 * without a step in between. When it fails, nothing has changed.
 * Errors: those of hs_engine_load_adapter and hs_engine_register_adapter; HS_MISMATCH: the name is
 * of another model.
 */
HS_API HS_CHECKED hs_status hs_engine_replace_adapter(hs_engine *engine,
                                                      const struct hs_adapter_params *params,
                                                      struct hs_error *err);
/* The name is free at once; requests accepted before finish, then its memory goes. */
HS_API HS_CHECKED hs_status hs_engine_unregister_adapter(hs_engine *engine, const char *name,
                                                         struct hs_error *err);
/* Free an adapter's weights until the next request needs them, pinned or not. HS_BUSY while
 * requests use them or when they were made in memory. */
HS_API HS_CHECKED hs_status hs_engine_unload_adapter(hs_engine *engine, const char *name,
                                                     struct hs_error *err);
HS_API HS_CHECKED hs_status hs_engine_adapter_info(hs_engine *engine, const char *name,
                                                   struct hs_adapter_info *ret_info,
                                                   struct hs_error *err);
/* All of a model, or with NULL of every model, by name; to be freed by hs_adapter_infos_free. */
HS_API HS_CHECKED hs_status hs_engine_list_adapters(hs_engine *engine, const char *model_id,
                                                    struct hs_adapter_info **ret_infos,
                                                    size_t *ret_n, struct hs_error *err);
HS_API void hs_adapter_infos_free(struct hs_adapter_info *infos);

/* ---- routing: adapters chosen by what a text is about ---- */

#define HS_ROUTE_MAX 8 /* adapters of one choice */

/*
 * The user's own rules, which go before closeness, each "REGEX=NAME[:SCALE]+NAME...": a POSIX
 * extended regular expression, letters of either case, then at most HS_ROUTE_MAX adapters; none:
 * the base alone. Errors: HS_INVALID_ARGUMENT (which rule, and what is wrong with it), HS_LIMIT,
 * HS_OUT_OF_MEMORY. Owner:  ret_rules is for hs_route_rules_free. Threads: constant once made.
 */
typedef struct hs_route_rules hs_route_rules;
HS_API HS_CHECKED hs_status hs_route_rules_parse(const char *const *texts, size_t n_texts,
                                                 hs_route_rules **ret_rules, struct hs_error *err);
HS_API void hs_route_rules_free(hs_route_rules *rules);

/* What tells the adapters that a text is for. */
enum hs_route_method {
    HS_ROUTE_BOTH = 0, /* examples, and the weights must agree; of adapters without: the weights */
    HS_ROUTE_EXAMPLES, /* examples alone */
    HS_ROUTE_ARROW     /* weights alone: Arrow, arXiv 2405.11157 */
};
/* "both", "examples", "arrow" */
HS_API const char *hs_route_method_name(enum hs_route_method method);

struct hs_route_params {
    enum hs_route_method method;
    int32_t max_adapters;        /* 1..HS_ROUTE_MAX */
    float scale;                 /* of the chosen ones, in all */
    const hs_route_rules *rules; /* the first that matches decides; NULL: none */
    const char *embed_model_id;  /* the loaded model that embeds; NULL: the model itself */
    int64_t deadline_ms;         /* for the text and, the first time, the examples; 0: none */
};
HS_API void hs_route_params_defaults(struct hs_route_params *params); /* one adapter, scale 1 */

struct hs_route_choice {
    char name[HS_ADAPTER_NAME_SIZE];
    float scale;
    float closeness; /* of examples, -1..1; 0: none were asked */
    float arrow;     /* of the weights: standard deviations above texts that no adapter is for; 0:
                        they were not asked */
};

struct hs_route {
    struct hs_route_choice choices[HS_ROUTE_MAX]; /* the closest first */
    int32_t n_choices;                            /* 0: the base alone */
    char closest[HS_ADAPTER_NAME_SIZE];           /* by examples, chosen or not; "": none has any */
    float closeness, background; /* of the closest, and of texts that no adapter is for */
    char reason[256];            /* one sentence */
};

/*
 * Texts that an adapter is for, as its users write them: they are embedded when a text is first
 * routed. n_texts 0: it is chosen by rules or its weights. They are forgotten with the adapter.
 * Errors: HS_NOT_FOUND (no adapter of that name), HS_LIMIT (more than 256, or 64 KiB in one),
 * HS_INVALID_ARGUMENT (an empty text).
 */
HS_API HS_CHECKED hs_status hs_engine_set_adapter_examples(hs_engine *engine, const char *name,
                                                           const char *const *texts, size_t n_texts,
                                                           struct hs_error *err);
/*
 * Choose adapters of a model for a text: by the rules, else those whose examples or weights are
 * closest to it (docs/adapters.md), or none when nothing is. Waits for what the model computes.
 * Errors: HS_NOT_FOUND (no such model; an adapter of a rule that is not registered for it),
 * HS_INVALID_ARGUMENT (max_adapters, scale), those of hs_engine_embed, HS_TIMEOUT.
 */
HS_API HS_CHECKED hs_status hs_engine_route(hs_engine *engine, const char *model_id,
                                            const char *text, const struct hs_route_params *params,
                                            struct hs_route *ret_route, struct hs_error *err);

/* ---- merging adapters (docs/adapters.md) ---- */

/* Methods are numbered from 0; hs_merge_method_find: -1, no method has this name. */
HS_API int32_t hs_merge_n_methods(void);
HS_API int32_t hs_merge_method_find(const char *name);
HS_API const char *hs_merge_method_name(int32_t method);
HS_API const char *hs_merge_method_text(int32_t method);
/* Names of the parameters that it takes, separated by blanks: "density majority-sign rank". */
HS_API const char *hs_merge_method_params(int32_t method);

/* The sign that counts where adapters disagree. */
enum hs_merge_sign {
    HS_MERGE_SIGN_TOTAL = 0, /* of the sum */
    HS_MERGE_SIGN_FREQUENCY  /* that most of them have */
};

/* How a full delta is brought to a rank. */
enum hs_merge_svd {
    HS_MERGE_SVD_AUTO = 0, /* exact where the smaller side is at most HS_MERGE_SVD_EXACT_SIDE */
    HS_MERGE_SVD_EXACT,
    HS_MERGE_SVD_RANDOMISED
};
#define HS_MERGE_SVD_EXACT_SIDE 2048

struct hs_merge_params {
    int32_t method;
    double density; /* (0, 1]: share of the values that is kept */
    double gamma;   /* [0, 1): share of the largest values that breadcrumbs leaves out */
    double epsilon; /* [0, 0.5): della keeps with density - epsilon to density + epsilon, which must
                       be in (0, 1) */
    double t;       /* [0, 1]: slerp from the first to the second */
    enum hs_merge_sign majority_sign;
    uint64_t seed;
    int32_t rank; /* of the new adapter; 0: the highest of those merged */
    enum hs_merge_svd svd;
    int32_t n_threads; /* 0: physical cores; each may hold a whole matrix of the model as f64 */
    hs_progress_fn progress;
    void *progress_user;
};
/* svd, density 0.5, gamma 0.01, epsilon 0.15, t 0.5 */
HS_API void hs_merge_params_defaults(struct hs_merge_params *params);

struct hs_merge_source {
    const char *path; /* GGUF or safetensors file, or PEFT folder */
    const char *name; /* for messages and what the result says of itself */
    double weight;    /* any sign */
};

/* What a merge did to one matrix of the model. */
struct hs_merge_target {
    char tensor[64];
    int32_t rank;
    double norm;  /* of the merged change (Frobenius) */
    double error; /* of what the rank cut off */
};

typedef struct hs_fused_weights hs_fused_weights;

/*
 * Merge adapters of the model whose GGUF file is base_path into one. The model is not loaded.
 * Out:    ret_fused, to be freed by hs_fused_weights_free.
 * Errors: those of reading adapters (HS_MISMATCH: not of this model); HS_INVALID_ARGUMENT (a
 * parameter out of its range), HS_MISMATCH (unequal ranks, and a method that needs equal ones: the
 * hint names one that does not), HS_LIMIT, HS_CANCELLED, HS_OUT_OF_MEMORY.
 * Threads: any; starts n_threads - 1 of its own. The result does not depend on their number.
 */
HS_API HS_CHECKED hs_status hs_merge_adapters(const char *base_path,
                                              const struct hs_merge_source *sources,
                                              int32_t n_sources,
                                              const struct hs_merge_params *params,
                                              hs_fused_weights **ret_fused, struct hs_error *err);
HS_API void hs_fused_weights_free(hs_fused_weights *fused);
HS_API int32_t hs_fused_weights_n_targets(const hs_fused_weights *fused);
HS_API void hs_fused_weights_target(const hs_fused_weights *fused, int32_t i,
                                    struct hs_merge_target *ret_target);
/* For hs_adapter_params.weights; lives as long as `fused`. */
HS_API const struct hs_lora *hs_fused_weights_lora(const hs_fused_weights *fused);
/* Write a GGUF LoRA file, or with a path that ends in '/' the folder of files that PEFT writes, in
 * f32 or f16; HS_LIMIT: a value that f16 cannot hold. */
HS_API HS_CHECKED hs_status hs_fused_weights_write(const hs_fused_weights *fused, const char *path,
                                                   const char *name, bool is_f16,
                                                   struct hs_error *err);

/*
 * Merge adapters into a copy of their model, a GGUF file. Nothing is cut to a rank.
 * In:     type NULL: each tensor keeps its type, and those that no adapter changes their bytes;
 *         else F32, F16, BF16 or one of llama.cpp's mixtures such as "Q4_K_M".
 * Errors: those of hs_merge_adapters; HS_NOT_SUPPORTED (a model in several files, a tensor's type
 *         that cannot be written), HS_IO and the like.
 */
HS_API HS_CHECKED hs_status hs_merge_into_model(
    const char *base_path, const struct hs_merge_source *sources, int32_t n_sources,
    const struct hs_merge_params *params, const char *path, const char *type, struct hs_error *err);

/*
 * Merge adapters into the weights of a loaded model, in place: every request has them from then on,
 * at no cost. Each changed tensor keeps its type, so quantised weights are rounded anew. Adapters
 * can still be used beside. The new weights are made while requests go on; they need as much host
 * memory as the changed tensors meanwhile.
 * Errors: those of hs_merge_into_model; HS_BUSY (the model has requests at the end),
 *         HS_ALREADY_EXISTS (some are merged already), HS_NOT_SUPPORTED (the weights are a mapped
 *         file: hs_model_params.use_mmap), HS_MISMATCH (the file changed since the load).
 */
HS_API HS_CHECKED hs_status hs_engine_fuse_weights(hs_engine *engine, const char *model_id,
                                                   const struct hs_merge_source *sources,
                                                   int32_t n_sources,
                                                   const struct hs_merge_params *params,
                                                   struct hs_error *err);
/* Put the file's weights back, bit by bit. HS_NOT_FOUND: none are merged; HS_BUSY, HS_MISMATCH. */
HS_API HS_CHECKED hs_status hs_engine_unfuse_weights(hs_engine *engine, const char *model_id,
                                                     struct hs_error *err);

/* ---- token streams ---- */

/*
 * Wait for the next event.
 * In:     timeout_ms < 0: for ever; 0: poll.
 * Errors: HS_TIMEOUT (nothing yet), HS_NOT_FOUND (HS_EVENT_DONE was already delivered).
 *         A failed generation is HS_OK with an HS_EVENT_DONE that carries the error.
 */
HS_API HS_CHECKED hs_status hs_stream_next(hs_stream *stream, int timeout_ms,
                                           struct hs_event *ret_event, struct hs_error *err);
/* Something was queued for this stream's reader; must not block, nor call any function of the
 * stream but hs_stream_cancel. */
typedef void (*hs_stream_notify_fn)(void *user);

/*
 * Have `notify` called, outside the stream's locks and on any thread, each time an event is queued,
 * so that a reader without a thread of its own can poll with hs_stream_next(stream, 0, ...). Events
 * that wait already count: it is then called once before this returns. NULL: no more calls.
 * Once this or hs_stream_free returns, calls of an earlier `notify` are over: hold no lock that it
 * takes. Threads: the reader's.
 */
HS_API void hs_stream_set_notify(hs_stream *stream, hs_stream_notify_fn notify, void *user);
/* Tokens of the prompt that the stream answers, reused ones included, known from the start. */
HS_API int32_t hs_stream_prompt_tokens(const hs_stream *stream);
/* Ask the worker to stop within one step; HS_EVENT_DONE with HS_FINISH_CANCELLED still arrives. */
HS_API void hs_stream_cancel(hs_stream *stream);
/* Cancels when still running. NULL is allowed. */
HS_API void hs_stream_free(hs_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
