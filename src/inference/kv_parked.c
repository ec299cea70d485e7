/* KV outside the context: parked sequences, checkpoints, exported states. */
#include "kv_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- contents ---- */

static void checkpoint_unref(hs_kv_cache *cache, struct hs_kv_checkpoint *checkpoint)
{
    if (--checkpoint->n_refs == 0) {
        cache->host_bytes -= checkpoint->state_len;
        hs_free(checkpoint);
    }
}

hs_status hs_kv_content_clone(const struct hs_kv_content *from, size_t n, struct hs_kv_content *to)
{
    struct hs_kv_content content = {0};
    memcpy(content.key, from->key, sizeof(content.key));
    content.tokens = hs_alloc(n * sizeof(content.tokens[0]));
    if (content.tokens == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    memcpy(content.tokens, from->tokens, n * sizeof(content.tokens[0]));
    content.n_tokens = n;
    content.cap = n;
    for (int32_t i = 0; i < from->n_checkpoints && from->checkpoints[i]->n_tokens <= n; i++) {
        from->checkpoints[i]->n_refs++;
        content.checkpoints[content.n_checkpoints++] = from->checkpoints[i];
    }
    *to = content;
    return HS_OK;
}

void hs_kv_content_truncate(hs_kv_cache *cache, struct hs_kv_content *content, size_t n)
{
    while (content->n_checkpoints > 0 &&
           content->checkpoints[content->n_checkpoints - 1]->n_tokens > n) {
        checkpoint_unref(cache, content->checkpoints[--content->n_checkpoints]);
    }
    if (n < content->n_tokens) {
        content->n_tokens = n;
    }
}

void hs_kv_content_clear(hs_kv_cache *cache, struct hs_kv_content *content)
{
    while (content->n_checkpoints > 0) {
        checkpoint_unref(cache, content->checkpoints[--content->n_checkpoints]);
    }
    hs_free(content->tokens);
    content->tokens = NULL;
    content->n_tokens = 0;
    content->cap = 0;
}

const struct hs_kv_checkpoint *hs_kv_content_checkpoint(const struct hs_kv_content *content,
                                                        size_t n)
{
    const struct hs_kv_checkpoint *best = NULL;
    for (int32_t i = 0; i < content->n_checkpoints && content->checkpoints[i]->n_tokens <= n; i++) {
        best = content->checkpoints[i];
    }
    return best;
}

/* ---- parked contexts ---- */

int32_t hs_kv_cache_n_parked(const hs_kv_cache *cache)
{
    return (int32_t)cache->n_parked;
}

uint64_t hs_kv_cache_host_bytes(const hs_kv_cache *cache)
{
    return cache->host_bytes;
}

struct hs_kv_state *hs_kv_parked_take(hs_kv_cache *cache, size_t index)
{
    struct hs_kv_state *state = cache->parked[index];
    cache->parked[index] = cache->parked[--cache->n_parked];
    return state;
}

void hs_kv_parked_free(hs_kv_cache *cache, struct hs_kv_state *state)
{
    cache->host_bytes -= state->state_len;
    hs_kv_content_clear(cache, &state->content);
    hs_free(state->state);
    hs_free(state);
}

void hs_kv_parked_put(hs_kv_cache *cache, struct hs_kv_state *state)
{
    if (cache->n_parked == cache->parked_cap) {
        size_t cap = cache->parked_cap * 2 + 8;
        struct hs_kv_state **parked =
            hs_realloc_array(cache->parked, cap, sizeof(cache->parked[0]));
        if (parked == NULL) {
            hs_kv_parked_free(cache, state);
            return;
        }
        cache->parked = parked;
        cache->parked_cap = cap;
    }
    state->last_used = ++cache->tick;
    cache->parked[cache->n_parked++] = state;
}

bool hs_kv_host_reserve(hs_kv_cache *cache, uint64_t need)
{
    if (need > cache->p.park_budget_bytes) {
        return false;
    }
    while (cache->host_bytes + need > cache->p.park_budget_bytes && cache->n_parked > 0) {
        size_t oldest = 0;
        for (size_t i = 1; i < cache->n_parked; i++) {
            if (cache->parked[i]->last_used < cache->parked[oldest]->last_used) {
                oldest = i;
            }
        }
        hs_kv_parked_free(cache, hs_kv_parked_take(cache, oldest));
    }
    return cache->host_bytes + need <= cache->p.park_budget_bytes;
}

static bool is_prefix_of(const struct hs_kv_content *a, const struct hs_kv_content *b)
{
    return a->n_tokens <= b->n_tokens && strcmp(a->key, b->key) == 0 &&
           memcmp(a->tokens, b->tokens, a->n_tokens * sizeof(a->tokens[0])) == 0;
}

/* Whether what the slot holds can be had elsewhere anyway. */
static bool is_covered(const hs_kv_cache *cache, const struct hs_kv_slot *slot)
{
    bool can_cut = !cache->cannot_cut && !cache->p.is_recurrent && cache->p.n_swa <= 0;
    for (int32_t i = 0; can_cut && i < cache->p.n_seq_max; i++) {
        const struct hs_kv_slot *other = &cache->slots[i];
        if (other != slot && other->content.n_tokens > 0 &&
            is_prefix_of(&slot->content, &other->content)) {
            return true;
        }
    }
    for (size_t i = 0; i < cache->n_parked; i++) {
        const struct hs_kv_content *other = &cache->parked[i]->content;
        if ((can_cut || other->n_tokens == slot->content.n_tokens) &&
            is_prefix_of(&slot->content, other)) {
            cache->parked[i]->last_used = cache->tick;
            return true;
        }
    }
    return false;
}

/* Parked contexts that the new one contains are of no more use. */
static void drop_covered_by(hs_kv_cache *cache, const struct hs_kv_content *content)
{
    bool can_cut = !cache->cannot_cut && !cache->p.is_recurrent && cache->p.n_swa <= 0;
    for (size_t i = cache->n_parked; can_cut && i-- > 0;) {
        if (is_prefix_of(&cache->parked[i]->content, content)) {
            hs_kv_parked_free(cache, hs_kv_parked_take(cache, i));
        }
    }
}

static hs_status state_save(hs_kv_cache *cache, const struct hs_kv_slot *slot, uint32_t flags,
                            uint8_t *data, size_t size, size_t *ret_len)
{
    struct hs_error error;
    hs_status status =
        cache->p.rt->state_save(cache->p.context, slot->seq, flags, data, size, ret_len, &error);
    if (status != HS_OK) {
        hs_log(HS_LOG_WARN, "inference", "KV was not saved: %s", error.message);
    }
    return status;
}

bool hs_kv_park(hs_kv_cache *cache, const struct hs_kv_slot *slot)
{
    if (slot->content.n_tokens < HS_KV_PARK_MIN_TOKENS || cache->p.park_budget_bytes == 0) {
        return false;
    }
    if (is_covered(cache, slot)) {
        return true;
    }
    size_t size = cache->p.rt->state_size(cache->p.context, slot->seq, HS_RT_STATE_WHOLE);
    if (size > cache->p.park_budget_bytes) {
        return false;
    }
    drop_covered_by(cache, &slot->content);
    if (!hs_kv_host_reserve(cache, size)) {
        return false;
    }
    struct hs_kv_state *state = hs_calloc(1, sizeof(*state));
    if (state == NULL) {
        return false;
    }
    state->state = hs_alloc(size);
    if (state->state == NULL ||
        hs_kv_content_clone(&slot->content, slot->content.n_tokens, &state->content) != HS_OK ||
        state_save(cache, slot, HS_RT_STATE_WHOLE, state->state, size, &state->state_len) !=
            HS_OK) {
        state->state_len = 0;
        hs_kv_parked_free(cache, state);
        return false;
    }
    cache->host_bytes += state->state_len;
    hs_kv_parked_put(cache, state);
    return true;
}

bool hs_kv_slot_load(hs_kv_cache *cache, struct hs_kv_slot *slot, const struct hs_kv_state *state)
{
    size_t n = state->content.n_tokens;
    if (n > (size_t)cache->n_cells) {
        return false;
    }
    while ((size_t)cache->n_free < n) {
        if (!hs_kv_cache_evict_idle(cache)) {
            return false;
        }
    }
    if (hs_kv_slot_reserve(slot, n) != HS_OK) {
        return false;
    }
    struct hs_error error;
    hs_status status = cache->p.rt->state_load(cache->p.context, slot->seq, HS_RT_STATE_WHOLE,
                                               state->state, state->state_len, &error);
    struct hs_kv_content content = {0};
    if (status == HS_OK && cache->p.rt->kv_pos_max(cache->p.context, slot->seq) == (int32_t)n - 1) {
        status = hs_kv_content_clone(&state->content, n, &content);
    } else {
        hs_log(HS_LOG_INFO, "inference", "stored KV does not load, evaluating anew: %s",
               status == HS_OK ? "it ends at another position" : error.message);
        status = HS_CORRUPT;
    }
    if (status != HS_OK) {
        hs_kv_slot_clear(cache, slot);
        return false;
    }
    hs_free(slot->content.tokens);
    slot->content = content;
    hs_kv_cells_add(cache, slot, 0, n);
    return true;
}

/* Of a state that is not the cache's. */
static void drop_checkpoints(struct hs_kv_state *state)
{
    while (state->content.n_checkpoints > 0) {
        struct hs_kv_checkpoint *checkpoint =
            state->content.checkpoints[--state->content.n_checkpoints];
        if (--checkpoint->n_refs == 0) {
            hs_free(checkpoint);
        }
    }
}

void hs_kv_slot_adopt(hs_kv_cache *cache, struct hs_kv_slot *slot, struct hs_kv_state *state)
{
    struct hs_kv_content *content = &slot->content;
    drop_checkpoints(state); /* the slot has references of its own */
    int32_t first = content->n_checkpoints;
    while (first > 0 && hs_kv_host_reserve(cache, content->checkpoints[first - 1]->state_len)) {
        cache->host_bytes += content->checkpoints[--first]->state_len;
    }
    for (int32_t i = 0; i < first; i++) {
        hs_free(content->checkpoints[i]);
    }
    content->n_checkpoints -= first;
    memmove(content->checkpoints, content->checkpoints + first,
            (size_t)content->n_checkpoints * sizeof(content->checkpoints[0]));
}

/* ---- checkpoints ---- */

bool hs_kv_cache_wants_checkpoints(const hs_kv_cache *cache)
{
    return cache->p.park_budget_bytes > 0 &&
           (cache->p.is_recurrent || cache->p.n_swa > 0 || cache->cannot_cut);
}

static void checkpoint_insert(hs_kv_cache *cache, struct hs_kv_content *content,
                              struct hs_kv_checkpoint *checkpoint)
{
    int32_t n = content->n_checkpoints;
    if (n > 0 && content->checkpoints[n - 1]->n_tokens == checkpoint->n_tokens) {
        checkpoint_unref(cache, content->checkpoints[--n]);
    } else if (n == HS_KV_CHECKPOINTS_MAX) {
        /* The first one is usually the system prompt, which other requests share. */
        checkpoint_unref(cache, content->checkpoints[1]);
        memmove(&content->checkpoints[1], &content->checkpoints[2],
                (HS_KV_CHECKPOINTS_MAX - 2) * sizeof(content->checkpoints[0]));
        n--;
    }
    content->checkpoints[n] = checkpoint;
    content->n_checkpoints = n + 1;
}

void hs_kv_slot_checkpoint(hs_kv_cache *cache, struct hs_kv_slot *slot)
{
    if (!hs_kv_cache_wants_checkpoints(cache) || slot->content.n_tokens == 0) {
        return;
    }
    size_t size = cache->p.rt->state_size(cache->p.context, slot->seq, HS_RT_STATE_PARTIAL);
    if (size == 0 || !hs_kv_host_reserve(cache, size)) {
        return;
    }
    struct hs_kv_checkpoint *checkpoint = hs_alloc(sizeof(*checkpoint) + size);
    if (checkpoint == NULL) {
        return;
    }
    checkpoint->n_refs = 1;
    checkpoint->n_tokens = slot->content.n_tokens;
    if (state_save(cache, slot, HS_RT_STATE_PARTIAL, checkpoint->state, size,
                   &checkpoint->state_len) != HS_OK) {
        hs_free(checkpoint);
        return;
    }
    cache->host_bytes += checkpoint->state_len;
    checkpoint_insert(cache, &slot->content, checkpoint);
}

/* ---- export ---- */

static bool is_prefix(const struct hs_kv_content *content, const char *key, const int32_t *tokens,
                      size_t n_tokens)
{
    return content->n_tokens > 0 && content->n_tokens <= n_tokens &&
           strcmp(content->key, key) == 0 &&
           memcmp(content->tokens, tokens, content->n_tokens * sizeof(tokens[0])) == 0;
}

static const struct hs_kv_slot *find_slot(const hs_kv_cache *cache, const char *key,
                                          const int32_t *tokens, size_t n_tokens)
{
    const struct hs_kv_slot *best = NULL;
    for (int32_t i = 0; i < cache->p.n_seq_max; i++) {
        const struct hs_kv_slot *slot = &cache->slots[i];
        if (is_prefix(&slot->content, key, tokens, n_tokens) &&
            (best == NULL || slot->content.n_tokens > best->content.n_tokens)) {
            best = slot;
        }
    }
    return best;
}

static const struct hs_kv_state *find_parked(const hs_kv_cache *cache, const char *key,
                                             const int32_t *tokens, size_t n_tokens)
{
    const struct hs_kv_state *best = NULL;
    for (size_t i = 0; i < cache->n_parked; i++) {
        const struct hs_kv_state *state = cache->parked[i];
        if (is_prefix(&state->content, key, tokens, n_tokens) &&
            (best == NULL || state->content.n_tokens > best->content.n_tokens)) {
            best = state;
        }
    }
    return best;
}

/* A copy for another thread. Without memory for one there are fewer: they only spare time. */
static void export_checkpoints(const struct hs_kv_content *content, size_t max_bytes,
                               struct hs_kv_state *state)
{
    int32_t first = content->n_checkpoints;
    while (first > 0 && content->checkpoints[first - 1]->state_len <= max_bytes) {
        max_bytes -= content->checkpoints[--first]->state_len;
    }
    for (int32_t i = first; i < content->n_checkpoints; i++) {
        const struct hs_kv_checkpoint *checkpoint = content->checkpoints[i];
        if (!hs_kv_state_add_checkpoint(state, checkpoint->n_tokens, checkpoint->state,
                                        checkpoint->state_len)) {
            return;
        }
    }
}

hs_status hs_kv_cache_export(hs_kv_cache *cache, const char *key, const int32_t *tokens,
                             size_t n_tokens, size_t max_bytes, struct hs_kv_state *ret_state,
                             struct hs_error *err)
{
    const struct hs_kv_slot *slot = find_slot(cache, key, tokens, n_tokens);
    const struct hs_kv_state *parked = find_parked(cache, key, tokens, n_tokens);
    if (slot != NULL && parked != NULL && parked->content.n_tokens > slot->content.n_tokens) {
        slot = NULL;
    }
    if (slot == NULL && parked == NULL) {
        return hs_error_set(err, HS_NOT_FOUND, "the KV of this conversation is not kept any more");
    }
    const struct hs_kv_content *content = slot != NULL ? &slot->content : &parked->content;
    size_t size = slot != NULL
                      ? cache->p.rt->state_size(cache->p.context, slot->seq, HS_RT_STATE_WHOLE)
                      : parked->state_len;
    if (size > max_bytes) {
        return hs_error_set(err, HS_LIMIT, "KV of %zu bytes exceeds %zu", size, max_bytes);
    }
    struct hs_kv_state state = {.state = hs_alloc(size), .state_len = size};
    state.content.tokens = hs_alloc(content->n_tokens * sizeof(tokens[0]));
    if (state.state == NULL || state.content.tokens == NULL) {
        hs_kv_state_clear(&state);
        return hs_error_nomem(err, "copy of KV");
    }
    memcpy(state.content.key, content->key, sizeof(state.content.key));
    memcpy(state.content.tokens, content->tokens, content->n_tokens * sizeof(tokens[0]));
    state.content.n_tokens = content->n_tokens;
    hs_status status = HS_OK;
    if (slot != NULL) {
        status = cache->p.rt->state_save(cache->p.context, slot->seq, HS_RT_STATE_WHOLE,
                                         state.state, size, &state.state_len, err);
    } else {
        memcpy(state.state, parked->state, size);
    }
    if (status != HS_OK) {
        hs_kv_state_clear(&state);
        return status;
    }
    export_checkpoints(content, max_bytes - state.state_len, &state);
    *ret_state = state;
    return HS_OK;
}

bool hs_kv_state_add_checkpoint(struct hs_kv_state *state, size_t n_tokens, const uint8_t *data,
                                size_t len)
{
    struct hs_kv_content *content = &state->content;
    if (content->n_checkpoints == HS_KV_CHECKPOINTS_MAX) {
        return false;
    }
    struct hs_kv_checkpoint *checkpoint = hs_alloc(sizeof(*checkpoint) + len);
    if (checkpoint == NULL) {
        return false;
    }
    checkpoint->n_refs = 1;
    checkpoint->n_tokens = n_tokens;
    checkpoint->state_len = len;
    memcpy(checkpoint->state, data, len);
    content->checkpoints[content->n_checkpoints++] = checkpoint;
    return true;
}

void hs_kv_state_clear(struct hs_kv_state *state)
{
    drop_checkpoints(state);
    hs_free(state->content.tokens);
    hs_free(state->state);
    *state = (struct hs_kv_state){0};
}
