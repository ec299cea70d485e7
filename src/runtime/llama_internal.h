/*
 * llama_internal.h - what the files of LlamaCppEngine share: its objects and the functions behind
 * each row of the table in runtime.h. Contracts of the functions are in runtime.h.
 *
 * Each function group lives in the file of its name: llama_backend.c, llama_model.c, llama_vocab.c,
 * llama_context.c, llama_lora.c, llama_embed.c, llama_special.c, llama_state.c, llama_sampler.c,
 * llama_memory.c, chat_template.c, answer_format.c.
 */
#ifndef RUNTIME_LLAMA_INTERNAL_H
#define RUNTIME_LLAMA_INTERNAL_H

#include <pthread.h>

#include "ggml-backend.h"
#include "llama.h"
#include "runtime/runtime.h"

struct hs_chat_templates;
struct hs_llama_lora;
struct hs_lora_run;

struct hs_rt_model {
    struct llama_model *llama;
    const struct llama_vocab *vocab;
    int32_t n_vocab;
    int32_t *eog; /* [n_eog] tokens that end a generation, ascending */
    int32_t n_eog;
    struct hs_rt_model_info info;
    struct hs_chat_templates *templates; /* parsed ones; has a lock of its own */
    char *chat_template;                 /* override given at load; NULL: none */
    char *path;
    struct hs_llama_lora *lora; /* what adapters may change, and how; has locks of its own */
};

struct hs_rt_context {
    struct llama_context *llama;
    llama_memory_t memory;
    const hs_rt_model *model;
    struct hs_rt_context_params params;
    int32_t n_batch;              /* as llama.cpp set it */
    struct llama_batch batch;     /* room for n_batch items */
    int8_t *has_logits;           /* [n_batch] of the last decode */
    int32_t n_items;              /* of the last decode; 0: no logits */
    llama_token_data *candidates; /* [n_vocab] scratch of the samplers, made when first needed */
    bool (*should_abort)(void *user);
    void *abort_user;
    struct hs_lora_run *lora; /* NULL: without adapters */
    /* Of embedders. */
    bool is_encoder;   /* llama_encode */
    double *pooled;    /* [n_seq_max][n_embd_out], sums or, of CLS, LAST and RANK, the values */
    int32_t *n_pooled; /* [n_seq_max] tokens */
};

/* llama_backend.c */
hs_status hs_llama_init(const char **ret_version, struct hs_error *err);

/* llama_device.c: `ret_devices` (to be freed with hs_free) is NULL-terminated, or NULL: all. */
hs_status hs_llama_devices(const char *names, ggml_backend_dev_t **ret_devices,
                           struct hs_error *err);
hs_status hs_llama_rpc_servers(const char *servers, struct hs_error *err);
/* Free bytes of all GPU devices that this load would use; 0: none. */
uint64_t hs_llama_gpu_free(const ggml_backend_dev_t *devices);
/* "CPU", "CUDA0+CPU": devices that hold weights when n_gpu_layers of n_layer are offloaded. */
void hs_llama_device_names(const ggml_backend_dev_t *devices, int32_t n_gpu_layers, int32_t n_layer,
                           char *ret_names, size_t size);

/* llama_model.c */
hs_status hs_llama_model_load(const char *path, const struct hs_model_params *params,
                              hs_rt_model **ret_model, struct hs_error *err);
void hs_llama_model_free(hs_rt_model *model);
void hs_llama_model_info(const hs_rt_model *model, struct hs_rt_model_info *ret_info);
/* llama.cpp's parameters for a load, without callbacks. */
struct llama_model_params hs_llama_model_params(const struct hs_model_params *params,
                                                ggml_backend_dev_t *devices, int32_t n_gpu_layers);

/* llama_vocab.c */
hs_status hs_llama_tokenize(const hs_rt_model *model, const char *text, size_t len,
                            bool add_special, bool parse_special, struct hs_buf *tokens,
                            struct hs_error *err);
hs_status hs_llama_token_piece(const hs_rt_model *model, int32_t token, bool special,
                               struct hs_buf *text, struct hs_error *err);
hs_status hs_llama_detokenize(const hs_rt_model *model, const int32_t *tokens, size_t n_tokens,
                              bool unparse_special, struct hs_buf *text, struct hs_error *err);
bool hs_llama_is_eog(const hs_rt_model *model, int32_t token);

/* chat_template.c */
hs_status hs_llama_render(const hs_rt_model *model, const struct hs_rt_template_params *params,
                          struct hs_buf *text, struct hs_rt_reasoning *ret_reasoning,
                          struct hs_error *err);
/* *ret_format NULL: the template is not a Jinja one, nor are there tools. */
struct hs_cxx_format;
hs_status hs_chat_format_new(const hs_rt_model *model, const struct hs_rt_template_params *prompt,
                             const struct hs_rt_format_params *params,
                             struct hs_cxx_format **ret_format, struct hs_error *err);
hs_status hs_chat_templates_new(struct hs_chat_templates **ret_templates, struct hs_error *err);
void hs_chat_templates_free(struct hs_chat_templates *templates);

/* answer_format.c */
hs_status hs_llama_format_new(const hs_rt_model *model, const struct hs_rt_template_params *prompt,
                              const struct hs_rt_format_params *params, hs_rt_format **ret_format,
                              struct hs_error *err);
void hs_llama_format_free(hs_rt_format *format);
const char *hs_llama_format_stop(const hs_rt_format *format);
hs_status hs_llama_format_feed(hs_rt_format *format, const char *text, size_t len, bool is_end,
                               struct hs_rt_delta *ret_deltas, int32_t *ret_n,
                               struct hs_error *err);
/* What the sampler needs of it; pointers live as long as the format. */
struct hs_cxx_binding;
void hs_llama_format_info(const hs_rt_format *format, struct hs_cxx_binding *ret_info);

/* llama_context.c */
hs_status hs_llama_context_new(hs_rt_model *model, const struct hs_rt_context_params *params,
                               hs_rt_context **ret_context, struct hs_error *err);
void hs_llama_context_free(hs_rt_context *context);
int32_t hs_llama_context_n_ctx(const hs_rt_context *context);
void hs_llama_set_abort(hs_rt_context *context, bool (*should_abort)(void *user), void *user);
hs_status hs_llama_decode(hs_rt_context *context, const struct hs_rt_batch_item *items,
                          int32_t n_items, enum hs_rt_decode *ret_outcome, struct hs_error *err);
const float *hs_llama_logits(const hs_rt_context *context, int32_t i);
bool hs_llama_kv_remove(hs_rt_context *context, int32_t seq, int32_t p0, int32_t p1);
void hs_llama_kv_copy(hs_rt_context *context, int32_t seq_from, int32_t seq_to, int32_t p0,
                      int32_t p1);
bool hs_llama_kv_shift(hs_rt_context *context, int32_t seq, int32_t p0, int32_t p1, int32_t delta);
int32_t hs_llama_kv_pos_min(const hs_rt_context *context, int32_t seq);
int32_t hs_llama_kv_pos_max(const hs_rt_context *context, int32_t seq);
void hs_llama_kv_clear(hs_rt_context *context);
/* llama.cpp's parameters for a context, without callbacks. */
struct llama_context_params hs_llama_context_params(const struct hs_rt_context_params *params);

/* llama_lora.c */
hs_status hs_llama_adapter_new(const hs_rt_model *model, const struct hs_lora *lora,
                               hs_rt_adapter **ret_adapter, struct hs_error *err);
void hs_llama_adapter_free(hs_rt_adapter *adapter);
uint64_t hs_llama_adapter_bytes(const hs_rt_adapter *adapter);
hs_status hs_llama_lora_prepare(hs_rt_model *model, enum hs_lora_engine wanted,
                                const struct hs_rt_context_params *params, struct hs_error *err);
void hs_llama_lora_stats(const hs_rt_context *context, struct hs_rt_lora_stats *ret_stats);

/* llama_embed.c */
hs_status hs_llama_embedder_new(hs_rt_model *model, const struct hs_rt_context_params *params,
                                struct hs_rt_embedder *ret_embedder, struct hs_error *err);
hs_status hs_llama_embed(hs_rt_context *context, const struct hs_rt_batch_item *items,
                         int32_t n_items, enum hs_rt_decode *ret_outcome, struct hs_error *err);
/* For cb_eval, where nobody wants logits: the product with the vocabulary is not computed. */
bool hs_llama_drop_logits(struct ggml_tensor *node, bool ask, void *user);
void hs_llama_embed_take(hs_rt_context *context, int32_t seq, float *values);
/* What the file says of pooling, and how many values come of it. */
void hs_llama_embed_info(const struct llama_model *model, struct hs_rt_model_info *info);

/* llama_observe.c */
hs_status hs_llama_observe(hs_rt_model *model, const int32_t *tokens, int32_t n_tokens,
                           int32_t n_threads, const struct hs_rt_observer *observer,
                           struct hs_error *err);

/* llama_quantise.c */
hs_status hs_llama_dequantise(uint32_t type, const void *data, int64_t n, float *values,
                              struct hs_error *err);
hs_status hs_llama_quantise(uint32_t type, const float *values, int64_t n_rows, int64_t n_cols,
                            void *data, struct hs_error *err);
hs_status hs_llama_model_quantise(const char *path, const char *path_out, const char *mixture,
                                  int32_t n_threads, struct hs_error *err);

/* llama_weights.c */
hs_status hs_llama_weights_set(hs_rt_model *model, const char *tensor, uint32_t type,
                               const void *data, size_t size, struct hs_error *err);

/* llama_special.c */
hs_status hs_llama_rank_tokens(const hs_rt_model *model, const char *query, const char *document,
                               struct hs_buf *tokens, struct hs_error *err);
bool hs_llama_can_infill(const struct llama_vocab *vocab);
hs_status hs_llama_infill_tokens(const hs_rt_model *model, const struct hs_infill *infill,
                                 struct hs_buf *tokens, struct hs_error *err);

/* llama_state.c */
size_t hs_llama_state_size(hs_rt_context *context, int32_t seq, uint32_t flags);
hs_status hs_llama_state_save(hs_rt_context *context, int32_t seq, uint32_t flags, void *data,
                              size_t size, size_t *ret_written, struct hs_error *err);
hs_status hs_llama_state_load(hs_rt_context *context, int32_t seq, uint32_t flags, const void *data,
                              size_t size, struct hs_error *err);

/* llama_sampler.c */
hs_status hs_llama_sampler_new(const hs_rt_model *model, const struct hs_sampling *sampling,
                               const hs_rt_format *format, bool ignore_eos, int32_t n_ctx,
                               hs_rt_sampler **ret_sampler, struct hs_error *err);
void hs_llama_sampler_free(hs_rt_sampler *sampler);
uint32_t hs_llama_sampler_seed(const hs_rt_sampler *sampler);
void hs_llama_sampler_accept_prompt(hs_rt_sampler *sampler, int32_t token);
/* Choose and accept a token from logits[n_vocab]; scratch[n_vocab]. */
hs_status hs_llama_choose(hs_rt_sampler *sampler, const float *logits, llama_token_data *scratch,
                          int32_t *ret_token, struct hs_error *err);
hs_status hs_llama_sample(hs_rt_sampler *sampler, hs_rt_context *context, int32_t i,
                          int32_t n_logprobs, int32_t *ret_token,
                          struct hs_token_logprob *ret_logprobs, struct hs_error *err);

/* llama_memory.c */
hs_status hs_llama_estimate(const char *path, const struct hs_model_params *params,
                            const struct hs_rt_context_params *context,
                            struct hs_rt_memory *ret_memory, int32_t *ret_n_ctx_train,
                            int32_t *ret_n_gpu_layers, struct hs_error *err);
/* HS_MODEL_TOO_LARGE when a context would not fit what the machine has left. */
hs_status hs_llama_check_room(const hs_rt_model *model, const struct hs_rt_context_params *params,
                              struct hs_error *err);
void hs_llama_context_memory(const hs_rt_context *context, struct hs_rt_memory *ret_memory);

#endif
