/*
 * llama_lora.h - how LlamaCppEngine applies adapters to the rows of a batch.
 *
 * llama.cpp adds its own adapters to every row. We let it build their nodes for a "ghost", an
 * adapter of rank 1 and zeros that covers every matrix of the model, and replace the nodes' work:
 *
 *   res = W x        unchanged          (llama.cpp's kernels)
 *   a   = A x        CUSTOM, or NONE    hs_lora_shrink, for each row with its own adapters
 *   ba  = B a        CUSTOM             hs_lora_expand, which adds to res; or both, when each
 *                                       thread has rows of its own (llama_lora_split.c)
 *   s   = scale ba   NONE
 *   out = res + s    NONE, or DUP of res when it is not in place
 *
 * This happens in the callback that the scheduler asks about each node before it computes
 * (cb_eval), in every decode anew, so that a reused graph does what this batch wants; matrices that
 * no adapter of the batch changes cost nothing. Embeddings and the output matrix, which may be one
 * tensor, are changed behind their node: the callback asks for them to be computed first.
 *
 * A site is a matrix that adapters may change; a plan says which rows of a batch use which
 * adapters; a run is what a context keeps of all this.
 *
 * The ways (enum hs_lora_engine) and who falls back to whom: llama_lora_choice.c. Stacked and
 * native use adapters of llama.cpp with all weights, made by hs_lora_native_new.
 *
 * Threads: sites never change once found; a run and its plan belong to the context's thread.
 */
#ifndef RUNTIME_LLAMA_LORA_H
#define RUNTIME_LLAMA_LORA_H

#include <stdatomic.h>

#include "ggml.h"
#include "llama_internal.h"
#include "lora_kernels.h"

enum hs_lora_site_kind {
    HS_LORA_SITE_PRODUCT = 0, /* W x, in every layer */
    HS_LORA_SITE_EMBEDDING,
    HS_LORA_SITE_OUTPUT,
    HS_LORA_SITE_FIXED /* a product that llama.cpp adds no adapter to */
};

struct hs_lora_site {
    char tensor[HS_LORA_TENSOR_NAME_MAX];
    enum hs_lora_site_kind kind;
    int64_t n_in, n_out;
    const struct ggml_tensor *weight;
    const struct ggml_tensor *ghost_a, *ghost_b; /* PRODUCT */
};

/* What was found out about one way of a model. */
struct hs_lora_verdict {
    bool is_known;
    hs_status status; /* not HS_OK: it was forced and does not work */
    enum hs_lora_engine engine;
    char reason[128]; /* why it is not the first choice, or does not work */
};

/* What a model keeps. */
struct hs_llama_lora {
    hs_rt_model *model;
    pthread_mutex_t lock;       /* of what follows, while it is being found out */
    pthread_mutex_t llama_lock; /* llama.cpp's list of the model's adapters; taken last */
    bool is_found;              /* the sites and the ghost */
    struct hs_lora_site *sites; /* [n_sites] in the graph's order */
    int32_t n_sites, n_products;
    int32_t embedding, output;                          /* their sites; -1: none */
    const struct ggml_tensor *ghost_first, *ghost_last; /* where its A tensors lie */
    struct llama_adapter_lora *ghost;                   /* freed with the model; NULL: no PRODUCT */
    struct hs_lora_verdict verdicts[HS_LORA_ENGINE_NATIVE + 1]; /* by what was wanted */
    atomic_uint_least64_t n_adapters;                           /* ever made: their ids */
    enum hs_adapter_weights weights;                            /* what they are kept as */
};

struct hs_rt_adapter {
    const struct hs_llama_lora *lora;
    uint64_t id; /* of its model's adapters, never used again */
    int32_t n_sites;
    int64_t n_scratch; /* floats of scratch for a row, at most */
    uint64_t n_bytes;
    struct hs_lora_packed *weights[]; /* [n_sites], NULL: does not change it */
};

/* ---- llama_lora_plan.c: which rows use what ---- */

struct hs_lora_use {
    int32_t row;
    float scale;
};

struct hs_lora_rows {
    int32_t *rows; /* [n] */
    float *scales;
    int32_t n;
};

/* The rows of one adapter; pointers are into the plan. */
struct hs_lora_member {
    const hs_rt_adapter *adapter;
    struct hs_lora_use *uses; /* [n_uses], by row */
    int32_t n_uses;
    int32_t next;                /* use: the first one behind the micro-batch */
    struct hs_lora_rows all;     /* of the micro-batch */
    struct hs_lora_rows outputs; /* its rows with output, counted by themselves */
    float *ax;                   /* scratch of the kernels */
};

/* Which thread has which rows: thread i those in [cuts[i], cuts[i + 1]). */
struct hs_lora_split {
    bool is_by_rows; /* false: it is better to share each matrix */
    int32_t n_threads;
    int32_t *cuts; /* [n_threads + 1] */
};

struct hs_lora_plan {
    int32_t n_threads, n_threads_batch;   /* of the context: for one row, for more */
    const struct hs_rt_batch_item *items; /* [n_items], the caller's */
    int32_t n_items;
    int32_t n_sets;                 /* different ones, the base alone among them */
    struct hs_lora_member *members; /* [n_members] */
    int32_t n_members;
    /* The micro-batch under way. */
    int32_t first, n_rows, n_outputs;
    struct hs_lora_group *groups;                 /* [n_sites][n_members] */
    struct hs_lora_split all_split, output_split; /* as the members' rows */
    int32_t n_products;
    float *row_costs, *thread_costs; /* scratch: [n_items], [most threads] */
    void *memory, *group_memory;
    size_t memory_size, group_size;
};

/*
 * Plan a batch; nothing of it has begun. Sets of which all scales are zero are the base alone.
 * Errors: HS_INVALID_ARGUMENT (an adapter of another model, a scale that is no number),
 * HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_lora_plan_make(struct hs_lora_plan *plan, const struct hs_llama_lora *lora,
                                       const struct hs_rt_batch_item *items, int32_t n_items,
                                       struct hs_error *err);
/* Go on to the next n_rows rows; false: the batch has no such rows. */
bool hs_lora_plan_next(struct hs_lora_plan *plan, int32_t n_rows);
/*
 * The groups of a site for a node with n_rows rows; ret_groups NULL: none. false: the micro-batch
 * has neither so many rows nor so many rows with output.
 */
bool hs_lora_plan_groups(struct hs_lora_plan *plan, int32_t site, int64_t n_rows,
                         struct hs_lora_group **ret_groups, int32_t *ret_n);
/* How the rows of such a node are shared. */
const struct hs_lora_split *hs_lora_plan_split(const struct hs_lora_plan *plan, int64_t n_rows);
void hs_lora_plan_free(struct hs_lora_plan *plan);

/* ---- llama_lora_split.c: which thread has which rows ---- */

/* Share the rows of the plan's micro-batch; of its scratch the costs are overwritten. */
void hs_lora_split_make(const struct hs_lora_plan *plan, bool is_outputs, int32_t n_threads,
                        struct hs_lora_split *split);

/* ---- llama_lora_native.c: adapters of llama.cpp ---- */

/*
 * An adapter of llama.cpp that holds those of `members` side by side, with their scales but not
 * those of their uses; members NULL: the ghost, of the sites that are PRODUCT.
 * Out:    offsets (may be NULL): [n_members][n_sites], where a member's ranks begin;
 *         *ret_adapter NULL: they change no such site.
 * Errors: HS_NOT_SUPPORTED (a sparse delta), HS_OUT_OF_MEMORY, HS_INTERNAL.
 */
HS_CHECKED hs_status hs_lora_native_new(const hs_rt_model *model,
                                        const hs_rt_adapter *const *members, int32_t n_members,
                                        int32_t *offsets, struct llama_adapter_lora **ret_adapter,
                                        struct hs_error *err);
void hs_lora_native_free(const hs_rt_model *model, struct llama_adapter_lora *adapter);

/* ---- llama_lora_sites.c: what adapters may change ---- */

/* Find the sites of a model and make its ghost; lora->lock is held. */
HS_CHECKED hs_status hs_lora_sites_find(const hs_rt_model *model, struct hs_error *err);
/* -1: none. */
int32_t hs_lora_site_named(const struct hs_llama_lora *lora, const char *tensor);

/* ---- llama_lora_rewrite.c: the callback ---- */

/* One rewritten pair of nodes: what its operations read. */
struct hs_lora_call {
    const struct hs_lora_group *groups;
    int32_t n_groups;
    const struct hs_lora_split *split;
    const float *x;
    float *y;
    size_t x_stride, y_stride;
    bool is_done;                                         /* in this graph */
    int32_t shrink[GGML_MAX_OP_PARAMS / sizeof(int32_t)]; /* the nodes' parameters */
    int32_t expand[GGML_MAX_OP_PARAMS / sizeof(int32_t)];
    int32_t both[GGML_MAX_OP_PARAMS / sizeof(int32_t)];
};

struct hs_lora_chain {
    int32_t site; /* -1: none has begun */
    struct ggml_tensor *a, *ba, *scale;
};

struct hs_lora_stack; /* llama_lora_stack.c */

struct hs_lora_run {
    hs_rt_context *context;
    const hs_rt_model *model;
    struct hs_rt_lora_stats stats; /* engine AUTO: nothing is set up yet */
    struct hs_lora_plan plan;
    const int32_t *tokens;      /* of the micro-batch, in the graph's input */
    struct hs_lora_call *calls; /* [n_sites] */
    struct hs_lora_chain chain;
    int32_t next_site;  /* where the next chain's site is looked for first */
    int32_t n_done;     /* chains in this graph */
    bool is_planned;    /* a decode is under way that has a plan */
    bool is_reserving;  /* the next decode reads llama.cpp's list of adapters */
    char mismatch[160]; /* what is wrong with the graph of this decode; "": nothing */
    struct hs_lora_stack *stack;
};

/* Fill in the nodes' parameters; the call stays where it is. */
void hs_lora_call_init(struct hs_lora_call *call);
/* llama.cpp's cb_eval; user is a struct hs_lora_run. */
bool hs_lora_eval(struct ggml_tensor *node, bool ask, void *user);
/* Say what is wrong with the graph, and stop the decode. Returns false. */
bool hs_lora_mismatch(struct hs_lora_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The micro-batch that ends here was rewritten as a whole. */
bool hs_lora_graph_ended(struct hs_lora_run *run);
/* Rows of a tensor of f32[n_rows, n_columns] with equal distances; false: it is not one. */
bool hs_lora_rows(const struct ggml_tensor *tensor, int64_t n_columns, int64_t *ret_n_rows,
                  size_t *ret_stride);

/* ---- llama_lora_stack.c: the two fallbacks ---- */

HS_CHECKED hs_status hs_lora_stack_new(struct hs_lora_run *run, struct hs_error *err);
void hs_lora_stack_free(struct hs_lora_run *run);
/* Give llama.cpp the adapters of the plan. */
HS_CHECKED hs_status hs_lora_stack_set(struct hs_lora_run *run, struct hs_error *err);
/* Whether the callback wants the node, a product with a stacked A, computed; then mask it. */
bool hs_lora_stack_wants(const struct hs_lora_run *run, const struct ggml_tensor *node);
bool hs_lora_stack_mask(struct hs_lora_run *run, struct ggml_tensor *node);

/* ---- llama_lora_choice.c: which way ---- */

/*
 * Which way works for a model, found out once by a self-test; lora->lock is taken.
 * Errors: HS_NOT_SUPPORTED when `wanted` is forced and does not work.
 */
HS_CHECKED hs_status hs_lora_choose(const hs_rt_model *model, enum hs_lora_engine wanted,
                                    const struct hs_rt_context_params *params,
                                    struct hs_lora_verdict *ret_verdict, struct hs_error *err);

/* ---- llama_lora_test.c: the self-test ---- */

/* Compare a way with llama.cpp's own; lora->lock is held and the sites are known. */
HS_CHECKED hs_status hs_lora_self_test(const hs_rt_model *model, enum hs_lora_engine engine,
                                       const struct hs_rt_context_params *params,
                                       struct hs_error *err);

/* ---- llama_lora.c ---- */

HS_CHECKED hs_status hs_llama_lora_new(hs_rt_model *model, enum hs_adapter_weights weights,
                                       struct hs_error *err);
void hs_llama_lora_free(struct hs_llama_lora *lora);

HS_CHECKED hs_status hs_lora_run_new(hs_rt_context *context, struct hs_error *err);
/* Behind llama_free. */
void hs_lora_run_free(struct hs_lora_run *run);
/* Use this way from now on; the sites are known. */
HS_CHECKED hs_status hs_lora_run_set_up(struct hs_lora_run *run, enum hs_lora_engine engine,
                                        struct hs_error *err);
/* Before a decode. */
HS_CHECKED hs_status hs_lora_decode_begin(hs_rt_context *context,
                                          const struct hs_rt_batch_item *items, int32_t n_items,
                                          struct hs_error *err);
/*
 * After it, whatever came of it: `status` with its error, unless the graph was not as expected.
 * Errors: HS_INTERNAL.
 */
HS_CHECKED hs_status hs_lora_decode_end(hs_rt_context *context, bool is_computed, hs_status status,
                                        struct hs_error *err);

/* adapter_new, once the sites are known. */
HS_CHECKED hs_status hs_lora_adapter_pack(const hs_rt_model *model, const struct hs_lora *weights,
                                          enum hs_adapter_weights keep, hs_rt_adapter **ret_adapter,
                                          struct hs_error *err);

#endif
