/*
 * kv_cache.h - who holds which KV: the sequence slots of one context, contexts parked in host
 * memory, checkpoints of memories that cannot be cut, and the reuse of common prefixes.
 *
 * A slot's content says exactly what its sequence holds in the context. Cells are mirrored with
 * reference counts (a copied prefix shares them), so n_used is exact for full attention.
 *
 * Owner:   the cache owns slots, contents and parked states; the context is borrowed.
 * Threads: the worker's thread only; making and freeing it may happen elsewhere while no worker
 * runs.
 */
#ifndef INFERENCE_KV_CACHE_H
#define INFERENCE_KV_CACHE_H

#include "runtime/runtime.h"

#define HS_CACHE_KEY_MAX 65       /* hex SHA-256 with its NUL */
#define HS_KV_CHECKPOINTS_MAX 8   /* per context */
#define HS_KV_PARK_MIN_TOKENS 16u /* shorter ones are quicker evaluated than managed */

typedef struct hs_kv_cache hs_kv_cache;

/* State of the part that cannot be cut, after the first n_tokens tokens. Shared by copies. */
struct hs_kv_checkpoint {
    int32_t n_refs;
    size_t n_tokens;
    size_t state_len;
    uint8_t state[];
};

/* Tokens whose KV somebody holds. */
struct hs_kv_content {
    char key[HS_CACHE_KEY_MAX];
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens, cap;
    struct hs_kv_checkpoint *checkpoints[HS_KV_CHECKPOINTS_MAX]; /* by n_tokens */
    int32_t n_checkpoints;
};

struct hs_kv_slot {
    int32_t seq;
    bool is_active; /* a running request owns it; else idle, or free when it holds nothing */
    struct hs_kv_content content;
    int32_t *cells; /* [content.n_tokens], indices of the mirror */
    uint64_t last_used;
};

/* A whole sequence in host memory. */
struct hs_kv_state {
    struct hs_kv_content content;
    uint8_t *state;
    size_t state_len;
    uint64_t last_used;
};

struct hs_kv_cache_params {
    const struct hs_runtime *rt;
    hs_rt_context *context;
    int32_t n_seq_max;
    int32_t n_swa;
    bool is_recurrent;
    uint64_t park_budget_bytes;
};

enum hs_kv_source {
    HS_KV_NONE = 0,
    HS_KV_SLOT,
    HS_KV_PARKED,
    HS_KV_STATE /* brought along by the request */
};

/* The best reuse there is for a prompt; valid until the cache changes. */
struct hs_kv_match {
    enum hs_kv_source source;
    size_t index; /* of the slot or parked context */
    struct hs_kv_state *state;
    size_t n_reuse; /* tokens that need not be evaluated, < the prompt's */
    bool is_shared; /* their cells are held by a running request already */
};

HS_CHECKED hs_status hs_kv_cache_new(const struct hs_kv_cache_params *params,
                                     hs_kv_cache **ret_cache, struct hs_error *err);
void hs_kv_cache_free(hs_kv_cache *cache);

/* brought: a state that came with the request, or NULL. Taking a match with it takes over its
 * checkpoints, as far as the budget has room. */
void hs_kv_cache_match(const hs_kv_cache *cache, const char *key, const int32_t *tokens,
                       size_t n_tokens, struct hs_kv_state *brought, struct hs_kv_match *ret_match);
/*
 * Take a sequence for a prompt, with what can be reused by `match` (NULL: nothing).
 * Out:    ret_slot, active; its content.n_tokens tokens are already evaluated.
 * Errors: HS_UNAVAILABLE: every sequence is in use; HS_OUT_OF_MEMORY. A state that does not load is
 * not an error: nothing is reused then.
 */
HS_CHECKED hs_status hs_kv_cache_take(hs_kv_cache *cache, const char *key,
                                      const struct hs_kv_match *match,
                                      struct hs_kv_slot **ret_slot);
/* The request is done with its slot; keep: the KV stays for others. */
void hs_kv_cache_release(hs_kv_cache *cache, struct hs_kv_slot *slot, bool keep);
/* The request loses its slot for now; keep: its KV is parked when the budget allows. */
void hs_kv_cache_preempt(hs_kv_cache *cache, struct hs_kv_slot *slot, bool keep);

/* Room for n more tokens in the slot's lists, so that hs_kv_slot_append cannot fail. */
HS_CHECKED hs_status hs_kv_slot_reserve(struct hs_kv_slot *slot, size_t n);
/* tokens[n] were decoded into the slot; n was reserved and cells were free. */
void hs_kv_slot_append(hs_kv_cache *cache, struct hs_kv_slot *slot, const int32_t *tokens,
                       size_t n);
/* Cut to at most n tokens; what could not be cut there is cut earlier, at worst to nothing. */
void hs_kv_slot_cut(hs_kv_cache *cache, struct hs_kv_slot *slot, size_t n);
/* Empty the slot, whatever the context holds there. */
void hs_kv_slot_clear(hs_kv_cache *cache, struct hs_kv_slot *slot);
/* After a decode that did not succeed: compare with what the context really holds. */
void hs_kv_slot_resync(hs_kv_cache *cache, struct hs_kv_slot *slot);
/* Save the part that cannot be cut; does nothing for other memories or without budget. */
void hs_kv_slot_checkpoint(hs_kv_cache *cache, struct hs_kv_slot *slot);
/* Whether this memory needs checkpoints at all. */
bool hs_kv_cache_wants_checkpoints(const hs_kv_cache *cache);

/* Park or drop the least recently used idle KV. false: there is none. */
bool hs_kv_cache_evict_idle(hs_kv_cache *cache);
int32_t hs_kv_cache_free_cells(const hs_kv_cache *cache);
int32_t hs_kv_cache_used_cells(const hs_kv_cache *cache);
int32_t hs_kv_cache_active_cells(const hs_kv_cache *cache); /* held by running requests */
int32_t hs_kv_cache_n_parked(const hs_kv_cache *cache);
uint64_t hs_kv_cache_host_bytes(const hs_kv_cache *cache); /* parked and checkpoints */

/*
 * The state of the longest context that is a prefix of tokens[n_tokens], at most max_bytes of it;
 * of its checkpoints the last ones that fit beside it.
 * Errors: HS_NOT_FOUND, HS_LIMIT, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_kv_cache_export(hs_kv_cache *cache, const char *key, const int32_t *tokens,
                                        size_t n_tokens, size_t max_bytes,
                                        struct hs_kv_state *ret_state, struct hs_error *err);
/* For a state that is not the cache's: exported, or brought along. */
void hs_kv_state_clear(struct hs_kv_state *state);
/* A checkpoint of a state that is brought along, its data copied; false: no memory, or no room.
 * They come in the order of n_tokens. */
bool hs_kv_state_add_checkpoint(struct hs_kv_state *state, size_t n_tokens, const uint8_t *data,
                                size_t len);

/* Length of the common prefix of two token lists. */
size_t hs_tokens_common(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b);

#endif
