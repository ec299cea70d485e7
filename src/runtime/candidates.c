#include "candidates.h"

#include <math.h>

/* Values looked at together: a constant number, so that the compiler uses vector instructions. */
#define BLOCK 64

struct keeper {
    const struct hs_keep *keep;
    float floor; /* only what is larger can be kept */
    float log_min_p;
    float heap[HS_KEEP_TOP_K_MAX]; /* the k largest so far, the smallest of them first */
    int32_t n_heap;
    llama_token_data *ret;
    size_t n;
};

/* Also when a value is not a number: written so that NaN is not at most the floor. */
static bool has_larger(const float *values, float floor)
{
    int larger = 0;
    for (int j = 0; j < BLOCK; j++) {
        larger |= -!(values[j] <= floor);
    }
    return larger != 0;
}

/* Put a value at the root of a heap of n and let it sink. */
static void heap_sink(float *heap, int32_t n, float value)
{
    int32_t i = 0;
    for (int32_t child = 1; child < n; child = 2 * i + 1) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (!(heap[child] < value)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = value;
}

static void heap_rise(float *heap, int32_t i, float value)
{
    while (i > 0 && value < heap[(i - 1) / 2]) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = value;
}

static void raise_floor(struct keeper *keeper, float value)
{
    if (keeper->keep->kind == HS_KEEP_MIN_P) {
        /* min_p keeps what is as large as its limit, too. */
        float floor = nextafterf(value + keeper->log_min_p, -INFINITY);
        keeper->floor = floor > keeper->floor ? floor : keeper->floor;
    } else if (keeper->keep->kind == HS_KEEP_TOP_K) {
        int32_t k = keeper->keep->k;
        if (keeper->n_heap < k) {
            heap_rise(keeper->heap, keeper->n_heap++, value);
        } else {
            heap_sink(keeper->heap, k, value);
        }
        keeper->floor = keeper->n_heap == k ? keeper->heap[0] : -INFINITY;
    }
}

static void offer(struct keeper *keeper, int32_t id, float value)
{
    if (value > keeper->floor) {
        keeper->ret[keeper->n++] = (llama_token_data){.id = id, .logit = value, .p = 0};
        raise_floor(keeper, value);
    }
}

bool hs_candidates_keep(const struct hs_logits *logits, const struct hs_keep *keep,
                        llama_token_data *ret, size_t *ret_n)
{
    struct keeper keeper = {.keep = keep, .floor = -INFINITY, .ret = ret};
    keeper.log_min_p = keep->kind == HS_KEEP_MIN_P ? logf(keep->min_p) : 0;
    const llama_token_data *changed = logits->changed;
    const llama_token_data *changed_end = changed + logits->n_changed;
    bool is_broken = false;
    for (int32_t first = 0; first < logits->n_vocab; first += BLOCK) {
        int32_t end = logits->n_vocab - first < BLOCK ? logits->n_vocab : first + BLOCK;
        bool is_whole = end - first == BLOCK;
        bool has_changed = changed < changed_end && changed->id < end;
        if (is_whole && !has_larger(logits->values + first, keeper.floor) && !has_changed) {
            continue;
        }
        for (int32_t id = first; id < end; id++) {
            float value = logits->values[id];
            is_broken |= !(value < INFINITY);
            if (changed < changed_end && changed->id == id) {
                value = changed++->logit;
            }
            offer(&keeper, id, value);
        }
    }
    *ret_n = keeper.n;
    return !is_broken;
}

int32_t hs_candidates_largest(const float *values, int32_t n_vocab)
{
    int32_t best = -1;
    float best_value = -INFINITY;
    bool is_broken = false;
    for (int32_t first = 0; first < n_vocab; first += BLOCK) {
        int32_t end = n_vocab - first < BLOCK ? n_vocab : first + BLOCK;
        if (end - first == BLOCK && !has_larger(values + first, best_value)) {
            continue;
        }
        for (int32_t id = first; id < end; id++) {
            is_broken |= !(values[id] < INFINITY);
            if (values[id] > best_value) {
                best = id;
                best_value = values[id];
            }
        }
    }
    return is_broken ? -1 : best;
}
