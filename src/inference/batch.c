#include "batch.h"

#include "base/mem.h"

#define CHUNK_UNMEASURED 64
#define LONG_SHARE 16 /* one part of so many is not for prompts that end in the step */

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t plan_decode(const struct hs_batch_limits *limits, const int32_t *wants, int32_t n,
                           uint64_t turn, int32_t *quotas)
{
    int32_t n_decode = 0;
    for (int32_t i = 0; i < n; i++) {
        n_decode += wants[i] == 1;
    }
    bool is_batch_short = n_decode > limits->n_batch && limits->n_batch <= limits->n_free;
    int32_t room = min_i32(limits->n_batch, limits->n_free);
    int32_t start = is_batch_short ? (int32_t)(turn % (uint64_t)n) : 0;
    int32_t used = 0;
    for (int32_t k = 0; k < n && used < room; k++) {
        int32_t i = (start + k) % n;
        if (wants[i] == 1) {
            quotas[i] = 1;
            used++;
        }
    }
    return used;
}

/* The shortest prompts that end in this step, as a first token soon is worth more to them than an
 * even share; some of the room stays for longer ones. Returns what they use. */
static int32_t plan_endings(const int32_t *wants, int32_t n, int32_t room, int32_t *quotas)
{
    int32_t left = room - room / LONG_SHARE;
    for (;;) {
        int32_t shortest = -1;
        for (int32_t i = 0; i < n; i++) {
            bool is_open = wants[i] > 1 && quotas[i] == 0 && wants[i] <= left;
            if (is_open && (shortest < 0 || wants[i] < wants[shortest])) {
                shortest = i;
            }
        }
        if (shortest < 0) {
            return room - room / LONG_SHARE - left;
        }
        quotas[shortest] = wants[shortest];
        left -= wants[shortest];
    }
}

int32_t hs_batch_plan(const struct hs_batch_limits *limits, const int32_t *wants, int32_t n,
                      uint64_t turn, int32_t *quotas)
{
    int32_t n_prompts = 0;
    for (int32_t i = 0; i < n; i++) {
        quotas[i] = 0;
        n_prompts += wants[i] > 1;
    }
    if (n == 0) {
        return 0;
    }
    int32_t used = plan_decode(limits, wants, n, turn, quotas);
    int32_t room = min_i32(limits->n_batch, limits->n_free) - used;
    if (used > 0) {
        room = min_i32(room, limits->prefill_chunk);
    }
    if (n_prompts == 0 || room <= 0) {
        return used;
    }
    int32_t n_ending = plan_endings(wants, n, room, quotas);
    used += n_ending;
    room -= n_ending;
    n_prompts = 0;
    for (int32_t i = 0; i < n; i++) {
        n_prompts += wants[i] > 1 && quotas[i] == 0;
    }
    if (n_prompts == 0) {
        return used;
    }
    int32_t share = (room + n_prompts - 1) / n_prompts;
    int32_t start = (int32_t)(turn % (uint64_t)n);
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t k = 0; k < n && room > 0; k++) {
            int32_t i = (start + k) % n;
            if (wants[i] > 1) {
                int32_t extra = min_i32(room, wants[i] - quotas[i]);
                extra = pass == 0 ? min_i32(extra, share) : extra;
                quotas[i] += extra;
                room -= extra;
                used += extra;
            }
        }
    }
    return used;
}

int32_t hs_batch_chunk(int32_t most, double budget_ms, double token_ms, int32_t n_prompts)
{
    double n = token_ms > 0 ? budget_ms / token_ms : CHUNK_UNMEASURED;
    n *= n_prompts > 2 ? n_prompts / 2 : 1;
    int32_t chunk = n >= most ? most : (int32_t)n;
    return min_i32(chunk > HS_BATCH_CHUNK_MIN ? chunk : HS_BATCH_CHUNK_MIN, most);
}

hs_status hs_batch_init(struct hs_batch *batch, int32_t cap_items, int32_t cap_spans)
{
    *batch = (struct hs_batch){.cap_items = cap_items, .cap_spans = cap_spans};
    batch->items = hs_calloc((size_t)cap_items, sizeof(batch->items[0]));
    batch->spans = hs_calloc((size_t)cap_spans, sizeof(batch->spans[0]));
    if (batch->items == NULL || batch->spans == NULL) {
        hs_batch_free(batch);
        return HS_OUT_OF_MEMORY;
    }
    return HS_OK;
}

void hs_batch_free(struct hs_batch *batch)
{
    hs_free(batch->items);
    hs_free(batch->spans);
    *batch = (struct hs_batch){0};
}

void hs_batch_clear(struct hs_batch *batch)
{
    batch->n_items = 0;
    batch->n_spans = 0;
}

void hs_batch_add(struct hs_batch *batch, size_t owner, int32_t seq, int32_t pos,
                  const int32_t *tokens, int32_t n, bool wants_logits,
                  const struct hs_rt_adapter_set *adapters)
{
    batch->spans[batch->n_spans++] = (struct hs_batch_span){
        .owner = owner, .first = batch->n_items, .n = n, .wants_logits = wants_logits};
    for (int32_t i = 0; i < n; i++) {
        batch->items[batch->n_items++] = (struct hs_rt_batch_item){
            .token = tokens[i], .pos = pos + i, .seq = seq, .adapters = adapters};
    }
    if (wants_logits && n > 0) {
        batch->items[batch->n_items - 1].want_logits = true;
    }
}
