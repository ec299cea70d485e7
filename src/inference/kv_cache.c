#include "kv_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

size_t hs_tokens_common(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t n = n_a < n_b ? n_a : n_b;
    size_t i = 0;
    while (i < n && a[i] == b[i]) {
        i++;
    }
    return i;
}

hs_status hs_kv_cache_new(const struct hs_kv_cache_params *params, hs_kv_cache **ret_cache,
                          struct hs_error *err)
{
    hs_kv_cache *cache = hs_calloc(1, sizeof(*cache));
    if (cache == NULL) {
        return hs_error_nomem(err, "context cache");
    }
    cache->p = *params;
    cache->n_cells = params->rt->context_n_ctx(params->context);
    cache->n_free = cache->n_cells;
    size_t n_cells = (size_t)cache->n_cells;
    cache->slots = hs_calloc((size_t)params->n_seq_max, sizeof(cache->slots[0]));
    cache->cell_refs = hs_calloc(n_cells, sizeof(cache->cell_refs[0]));
    cache->cell_active = hs_calloc(n_cells, sizeof(cache->cell_active[0]));
    cache->free_cells = hs_calloc(n_cells, sizeof(cache->free_cells[0]));
    if (cache->slots == NULL || cache->cell_refs == NULL || cache->cell_active == NULL ||
        cache->free_cells == NULL) {
        hs_kv_cache_free(cache);
        return hs_error_nomem(err, "context cache");
    }
    for (int32_t i = 0; i < params->n_seq_max; i++) {
        cache->slots[i].seq = i;
    }
    for (int32_t i = 0; i < cache->n_cells; i++) {
        cache->free_cells[i] = cache->n_cells - 1 - i;
    }
    *ret_cache = cache;
    return HS_OK;
}

void hs_kv_cache_free(hs_kv_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (int32_t i = 0; cache->slots != NULL && i < cache->p.n_seq_max; i++) {
        hs_kv_content_clear(cache, &cache->slots[i].content);
        hs_free(cache->slots[i].cells);
    }
    while (cache->n_parked > 0) {
        hs_kv_parked_free(cache, hs_kv_parked_take(cache, cache->n_parked - 1));
    }
    hs_free(cache->parked);
    hs_free(cache->slots);
    hs_free(cache->cell_refs);
    hs_free(cache->cell_active);
    hs_free(cache->free_cells);
    hs_free(cache);
}

/* ---- the mirror of the cells ---- */

static void cell_activate(hs_kv_cache *cache, int32_t cell, bool active)
{
    if (active) {
        cache->n_active_cells += cache->cell_active[cell]++ == 0;
    } else {
        cache->n_active_cells -= --cache->cell_active[cell] == 0;
    }
}

void hs_kv_cells_add(hs_kv_cache *cache, struct hs_kv_slot *slot, size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) {
        int32_t cell = cache->free_cells[--cache->n_free];
        cache->cell_refs[cell] = 1;
        slot->cells[i] = cell;
        if (slot->is_active) {
            cell_activate(cache, cell, true);
        }
    }
}

static void cells_share(hs_kv_cache *cache, const struct hs_kv_slot *from, struct hs_kv_slot *to,
                        size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t cell = from->cells[i];
        cache->cell_refs[cell]++;
        to->cells[i] = cell;
        if (to->is_active) {
            cell_activate(cache, cell, true);
        }
    }
}

static void cells_drop(hs_kv_cache *cache, struct hs_kv_slot *slot, size_t first)
{
    for (size_t i = first; i < slot->content.n_tokens; i++) {
        int32_t cell = slot->cells[i];
        if (slot->is_active) {
            cell_activate(cache, cell, false);
        }
        if (--cache->cell_refs[cell] == 0) {
            cache->free_cells[cache->n_free++] = cell;
        }
    }
}

static void slot_activate(hs_kv_cache *cache, struct hs_kv_slot *slot, bool active)
{
    if (slot->is_active == active) {
        return;
    }
    slot->is_active = active;
    slot->last_used = ++cache->tick;
    for (size_t i = 0; i < slot->content.n_tokens; i++) {
        cell_activate(cache, slot->cells[i], active);
    }
}

int32_t hs_kv_cache_free_cells(const hs_kv_cache *cache)
{
    return cache->n_free;
}

int32_t hs_kv_cache_used_cells(const hs_kv_cache *cache)
{
    return cache->n_cells - cache->n_free;
}

int32_t hs_kv_cache_active_cells(const hs_kv_cache *cache)
{
    return cache->n_active_cells;
}

/* ---- slots ---- */

hs_status hs_kv_slot_reserve(struct hs_kv_slot *slot, size_t n)
{
    struct hs_kv_content *content = &slot->content;
    if (content->n_tokens + n <= content->cap) {
        return HS_OK;
    }
    size_t cap = content->n_tokens + n;
    cap += cap / 2 + 256;
    int32_t *tokens = hs_realloc_array(content->tokens, cap, sizeof(tokens[0]));
    if (tokens == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    content->tokens = tokens;
    int32_t *cells = hs_realloc_array(slot->cells, cap, sizeof(cells[0]));
    if (cells == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    slot->cells = cells;
    content->cap = cap;
    return HS_OK;
}

void hs_kv_slot_append(hs_kv_cache *cache, struct hs_kv_slot *slot, const int32_t *tokens, size_t n)
{
    struct hs_kv_content *content = &slot->content;
    memcpy(content->tokens + content->n_tokens, tokens, n * sizeof(tokens[0]));
    hs_kv_cells_add(cache, slot, content->n_tokens, n);
    content->n_tokens += n;
}

void hs_kv_slot_clear(hs_kv_cache *cache, struct hs_kv_slot *slot)
{
    cache->p.rt->kv_remove(cache->p.context, slot->seq, 0, -1);
    cells_drop(cache, slot, 0);
    hs_kv_content_clear(cache, &slot->content);
}

void hs_kv_slot_resync(hs_kv_cache *cache, struct hs_kv_slot *slot)
{
    const struct hs_runtime *rt = cache->p.rt;
    int32_t n = (int32_t)slot->content.n_tokens;
    if (rt->kv_pos_max(cache->p.context, slot->seq) + 1 > n && n > 0 && !cache->p.is_recurrent) {
        rt->kv_remove(cache->p.context, slot->seq, n, -1);
    }
    /* An end in the right place says nothing of the window before it. */
    int32_t needed = n > cache->p.n_swa ? n - cache->p.n_swa : 0;
    bool has_window = cache->p.n_swa <= 0 || rt->kv_pos_min(cache->p.context, slot->seq) <= needed;
    if (rt->kv_pos_max(cache->p.context, slot->seq) + 1 != n || !has_window) {
        hs_kv_slot_clear(cache, slot);
    }
}

/* Whether sequence `seq` can be cut to n tokens without a checkpoint. */
static bool slot_is_cuttable(const hs_kv_cache *cache, const struct hs_kv_slot *slot, size_t n)
{
    if (n == slot->content.n_tokens) {
        return true;
    }
    if (cache->cannot_cut || cache->p.is_recurrent) {
        return false;
    }
    if (cache->p.n_swa <= 0) {
        return true;
    }
    int32_t needed = (int32_t)n - cache->p.n_swa;
    int32_t pos_min = cache->p.rt->kv_pos_min(cache->p.context, slot->seq);
    return pos_min >= 0 && pos_min <= (needed > 0 ? needed : 0);
}

static size_t checkpoint_before(const struct hs_kv_content *content, size_t n)
{
    const struct hs_kv_checkpoint *checkpoint = hs_kv_content_checkpoint(content, n);
    return checkpoint == NULL ? 0 : checkpoint->n_tokens;
}

static size_t slot_usable(const hs_kv_cache *cache, const struct hs_kv_slot *slot, size_t n)
{
    return slot_is_cuttable(cache, slot, n) ? n : checkpoint_before(&slot->content, n);
}

static size_t state_usable(const hs_kv_cache *cache, const struct hs_kv_state *state, size_t n)
{
    size_t n_tokens = state->content.n_tokens;
    bool window_is_whole = cache->p.n_swa <= 0 || n_tokens <= (size_t)cache->p.n_swa;
    if (n == n_tokens || (!cache->cannot_cut && !cache->p.is_recurrent && window_is_whole)) {
        return n;
    }
    return checkpoint_before(&state->content, n);
}

/* Put the part that cannot be cut back to where it was after n tokens, then cut the rest there. */
static bool slot_rewind(hs_kv_cache *cache, struct hs_kv_slot *slot,
                        const struct hs_kv_content *from, size_t n)
{
    const struct hs_runtime *rt = cache->p.rt;
    const struct hs_kv_checkpoint *checkpoint = hs_kv_content_checkpoint(from, n);
    if (checkpoint == NULL || checkpoint->n_tokens != n) {
        return false;
    }
    struct hs_error error;
    hs_status status = rt->state_load(cache->p.context, slot->seq, HS_RT_STATE_PARTIAL,
                                      checkpoint->state, checkpoint->state_len, &error);
    if (status != HS_OK) {
        hs_log(HS_LOG_INFO, "inference", "a checkpoint does not load: %s", error.message);
        return false;
    }
    return rt->kv_remove(cache->p.context, slot->seq, (int32_t)n, -1) &&
           rt->kv_pos_max(cache->p.context, slot->seq) == (int32_t)n - 1;
}

static bool slot_cut_at(hs_kv_cache *cache, struct hs_kv_slot *slot, size_t n)
{
    const struct hs_runtime *rt = cache->p.rt;
    if (!slot_is_cuttable(cache, slot, n)) {
        return slot_rewind(cache, slot, &slot->content, n);
    }
    bool is_cut = rt->kv_remove(cache->p.context, slot->seq, (int32_t)n, -1) &&
                  rt->kv_pos_max(cache->p.context, slot->seq) == (int32_t)n - 1;
    if (!is_cut && !cache->cannot_cut) {
        hs_log(HS_LOG_DEBUG, "inference", "this context cannot be cut; using checkpoints");
        cache->cannot_cut = true;
    }
    return is_cut;
}

void hs_kv_slot_cut(hs_kv_cache *cache, struct hs_kv_slot *slot, size_t n)
{
    while (n < slot->content.n_tokens) {
        n = slot_usable(cache, slot, n);
        bool could_cut = !cache->cannot_cut;
        if (n > 0 && slot_cut_at(cache, slot, n)) {
            cells_drop(cache, slot, n);
            hs_kv_content_truncate(cache, &slot->content, n);
        } else if (n == 0 || could_cut == !cache->cannot_cut) {
            hs_kv_slot_clear(cache, slot);
        }
    }
}

/* Fill the empty, active slot `to` with the first n tokens of `from`. */
static bool slot_copy(hs_kv_cache *cache, const struct hs_kv_slot *from, struct hs_kv_slot *to,
                      size_t n)
{
    const struct hs_runtime *rt = cache->p.rt;
    if (hs_kv_slot_reserve(to, n) != HS_OK) {
        return false;
    }
    bool is_direct = slot_is_cuttable(cache, from, n);
    rt->kv_copy(cache->p.context, from->seq, to->seq, 0, (int32_t)n);
    bool is_copied = is_direct ? rt->kv_pos_max(cache->p.context, to->seq) == (int32_t)n - 1
                               : slot_rewind(cache, to, &from->content, n);
    struct hs_kv_content content = {0};
    if (!is_copied || hs_kv_content_clone(&from->content, n, &content) != HS_OK) {
        hs_kv_slot_clear(cache, to);
        return false;
    }
    hs_free(to->content.tokens);
    content.cap = n;
    to->content = content;
    cells_share(cache, from, to, n);
    return true;
}

/* A sequence without KV: a free one, else the least recently used idle one, emptied. */
static struct hs_kv_slot *slot_fresh(hs_kv_cache *cache, const struct hs_kv_slot *except)
{
    struct hs_kv_slot *oldest = NULL;
    for (int32_t i = 0; i < cache->p.n_seq_max; i++) {
        struct hs_kv_slot *slot = &cache->slots[i];
        if (slot->is_active || slot == except) {
            continue;
        }
        if (slot->content.n_tokens == 0) {
            return slot;
        }
        if (oldest == NULL || slot->last_used < oldest->last_used) {
            oldest = slot;
        }
    }
    if (oldest != NULL) {
        hs_kv_park(cache, oldest);
        hs_kv_slot_clear(cache, oldest);
    }
    return oldest;
}

bool hs_kv_cache_evict_idle(hs_kv_cache *cache)
{
    struct hs_kv_slot *oldest = NULL;
    for (int32_t i = 0; i < cache->p.n_seq_max; i++) {
        struct hs_kv_slot *slot = &cache->slots[i];
        if (!slot->is_active && slot->content.n_tokens > 0 &&
            (oldest == NULL || slot->last_used < oldest->last_used)) {
            oldest = slot;
        }
    }
    if (oldest == NULL) {
        return false;
    }
    hs_kv_park(cache, oldest);
    hs_kv_slot_clear(cache, oldest);
    return true;
}

/* ---- matching and taking ---- */

static bool is_worth_taking_over(const struct hs_kv_slot *slot, size_t n_reuse)
{
    return !slot->is_active && 2 * n_reuse >= slot->content.n_tokens;
}

static size_t common_with(const struct hs_kv_content *content, const char *key,
                          const int32_t *tokens, size_t n_tokens)
{
    if (content->n_tokens == 0 || strcmp(content->key, key) != 0) {
        return 0;
    }
    size_t n = hs_tokens_common(content->tokens, content->n_tokens, tokens, n_tokens);
    return n < n_tokens ? n : n_tokens - 1;
}

static void match_slots(const hs_kv_cache *cache, const char *key, const int32_t *tokens,
                        size_t n_tokens, struct hs_kv_match *match)
{
    int best_rank = 0;
    for (int32_t i = 0; i < cache->p.n_seq_max; i++) {
        const struct hs_kv_slot *slot = &cache->slots[i];
        size_t n = common_with(&slot->content, key, tokens, n_tokens);
        n = n == 0 ? 0 : slot_usable(cache, slot, n);
        int rank = is_worth_taking_over(slot, n) ? 2 : !slot->is_active;
        if (n > match->n_reuse || (n > 0 && n == match->n_reuse && rank > best_rank)) {
            best_rank = rank;
            *match = (struct hs_kv_match){.source = HS_KV_SLOT,
                                          .index = (size_t)i,
                                          .n_reuse = n,
                                          .is_shared = slot->is_active};
        }
    }
}

void hs_kv_cache_match(const hs_kv_cache *cache, const char *key, const int32_t *tokens,
                       size_t n_tokens, struct hs_kv_state *brought, struct hs_kv_match *ret_match)
{
    struct hs_kv_match match = {0};
    match_slots(cache, key, tokens, n_tokens, &match);
    size_t n_resident = match.n_reuse;
    for (size_t i = 0; i < cache->n_parked; i++) {
        const struct hs_kv_state *state = cache->parked[i];
        size_t n = common_with(&state->content, key, tokens, n_tokens);
        n = n == 0 ? 0 : state_usable(cache, state, n);
        /* Loading costs a copy of every token's KV: far less than evaluating one token, not
         * nothing. */
        bool is_worth = n > n_resident && (n - n_resident) * 64 >= state->content.n_tokens;
        if (is_worth && n > match.n_reuse) {
            match = (struct hs_kv_match){.source = HS_KV_PARKED, .index = i, .n_reuse = n};
        }
    }
    if (brought != NULL) {
        size_t n = common_with(&brought->content, key, tokens, n_tokens);
        n = n == 0 ? 0 : state_usable(cache, brought, n);
        if (n > match.n_reuse) {
            match = (struct hs_kv_match){.source = HS_KV_STATE, .state = brought, .n_reuse = n};
        }
    }
    *ret_match = match;
}

static hs_status take_from_slot(hs_kv_cache *cache, const struct hs_kv_match *match,
                                struct hs_kv_slot **ret_slot)
{
    struct hs_kv_slot *from = &cache->slots[match->index];
    struct hs_kv_slot *to = NULL;
    if (!is_worth_taking_over(from, match->n_reuse)) {
        to = slot_fresh(cache, from);
        if (to == NULL && from->is_active) {
            return HS_UNAVAILABLE;
        }
    }
    if (to == NULL) {
        if (!is_worth_taking_over(from, match->n_reuse)) {
            hs_kv_park(cache, from);
        }
        slot_activate(cache, from, true);
        hs_kv_slot_cut(cache, from, match->n_reuse);
        *ret_slot = from;
        return HS_OK;
    }
    slot_activate(cache, to, true);
    if (!slot_copy(cache, from, to, match->n_reuse)) {
        hs_log(HS_LOG_DEBUG, "inference", "a common prefix could not be copied");
    }
    *ret_slot = to;
    return HS_OK;
}

static hs_status take_parked(hs_kv_cache *cache, const struct hs_kv_match *match,
                             struct hs_kv_slot **ret_slot)
{
    struct hs_kv_state *parked =
        match->source == HS_KV_PARKED ? hs_kv_parked_take(cache, match->index) : NULL;
    struct hs_kv_state *state = parked != NULL ? parked : match->state;
    struct hs_kv_slot *slot = slot_fresh(cache, NULL);
    bool is_loaded = false;
    if (slot != NULL) {
        slot_activate(cache, slot, true);
        is_loaded = hs_kv_slot_load(cache, slot, state);
        if (is_loaded && parked == NULL) {
            hs_kv_slot_adopt(cache, slot, state);
        }
        hs_kv_slot_cut(cache, slot, match->n_reuse);
    }
    bool is_consumed = is_loaded && 2 * match->n_reuse >= state->content.n_tokens;
    if (parked != NULL && is_consumed) {
        hs_kv_parked_free(cache, parked);
    } else if (parked != NULL) {
        hs_kv_parked_put(cache, parked);
    }
    if (slot == NULL) {
        return HS_UNAVAILABLE;
    }
    *ret_slot = slot;
    return HS_OK;
}

hs_status hs_kv_cache_take(hs_kv_cache *cache, const char *key, const struct hs_kv_match *match,
                           struct hs_kv_slot **ret_slot)
{
    struct hs_kv_slot *slot = NULL;
    hs_status status = HS_OK;
    if (match != NULL && match->source == HS_KV_SLOT) {
        status = take_from_slot(cache, match, &slot);
    } else if (match != NULL && match->source != HS_KV_NONE) {
        status = take_parked(cache, match, &slot);
    } else {
        slot = slot_fresh(cache, NULL);
        if (slot == NULL) {
            return HS_UNAVAILABLE;
        }
        slot_activate(cache, slot, true);
    }
    if (status != HS_OK) {
        return status;
    }
    memcpy(slot->content.key, key, strnlen(key, HS_CACHE_KEY_MAX - 1) + 1);
    slot->content.key[HS_CACHE_KEY_MAX - 1] = '\0';
    *ret_slot = slot;
    return HS_OK;
}

void hs_kv_cache_release(hs_kv_cache *cache, struct hs_kv_slot *slot, bool keep)
{
    if (!keep) {
        hs_kv_slot_clear(cache, slot);
    }
    slot_activate(cache, slot, false);
}

void hs_kv_cache_preempt(hs_kv_cache *cache, struct hs_kv_slot *slot, bool keep)
{
    if (keep) {
        hs_kv_park(cache, slot);
    }
    hs_kv_cache_release(cache, slot, false);
}
