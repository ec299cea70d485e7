/*
 * kv_internal.h - what kv_cache.c (slots, cells, prefixes) and kv_parked.c (host memory) share.
 */
#ifndef INFERENCE_KV_INTERNAL_H
#define INFERENCE_KV_INTERNAL_H

#include "kv_cache.h"

struct hs_kv_cache {
    struct hs_kv_cache_params p;
    struct hs_kv_slot *slots; /* [p.n_seq_max] */
    struct hs_kv_state **parked;
    size_t n_parked, parked_cap;
    uint16_t *cell_refs;   /* [n_cells] slots that hold the cell */
    uint16_t *cell_active; /* [n_cells] of them active ones */
    int32_t *free_cells;   /* stack of [n_free] */
    int32_t n_cells, n_free, n_active_cells;
    uint64_t host_bytes;
    uint64_t tick;
    bool cannot_cut; /* learned: the context refused a cut that should have worked */
};

/* Tokens cloned, checkpoints up to n shared. */
HS_CHECKED hs_status hs_kv_content_clone(const struct hs_kv_content *from, size_t n,
                                         struct hs_kv_content *to);
/* Releases everything the content holds; the key stays. */
void hs_kv_content_clear(hs_kv_cache *cache, struct hs_kv_content *content);
/* Drop tokens and checkpoints past n. */
void hs_kv_content_truncate(hs_kv_cache *cache, struct hs_kv_content *content, size_t n);
/* The last checkpoint at or before n, or NULL. */
const struct hs_kv_checkpoint *hs_kv_content_checkpoint(const struct hs_kv_content *content,
                                                        size_t n);

/* Cells for n more tokens of the slot, whose lists have room; n <= n_free. */
void hs_kv_cells_add(hs_kv_cache *cache, struct hs_kv_slot *slot, size_t first, size_t n);

/* Copy a slot to host memory; false when it is not worth it or does not fit the budget. */
bool hs_kv_park(hs_kv_cache *cache, const struct hs_kv_slot *slot);
/* Take a parked context out of the list; it is then the caller's. */
struct hs_kv_state *hs_kv_parked_take(hs_kv_cache *cache, size_t index);
/* Put it back as the most recently used one. */
void hs_kv_parked_put(hs_kv_cache *cache, struct hs_kv_state *state);
void hs_kv_parked_free(hs_kv_cache *cache, struct hs_kv_state *state);
/* Load a state into an empty, active slot. false: nothing was loaded. */
bool hs_kv_slot_load(hs_kv_cache *cache, struct hs_kv_slot *slot, const struct hs_kv_state *state);
/* The slot was loaded from a state that is not the cache's: its checkpoints are from now on, the
 * last ones as far as the budget has room. */
void hs_kv_slot_adopt(hs_kv_cache *cache, struct hs_kv_slot *slot, struct hs_kv_state *state);
/* Whether need more bytes fit the budget, after parked contexts have made way. */
bool hs_kv_host_reserve(hs_kv_cache *cache, uint64_t need);

#endif
