#include "recent_tokens.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

hs_status hs_recent_tokens_init(struct hs_recent_tokens *recent, size_t cap, struct hs_error *err)
{
    *recent = (struct hs_recent_tokens){.cap = cap};
    if (cap == 0) {
        return HS_OK;
    }
    recent->ring = hs_calloc(cap, sizeof(recent->ring[0]));
    recent->distinct = hs_calloc(cap, sizeof(recent->distinct[0]));
    recent->counts = hs_calloc(cap, sizeof(recent->counts[0]));
    if (recent->ring == NULL || recent->distinct == NULL || recent->counts == NULL) {
        hs_recent_tokens_free(recent);
        return hs_error_nomem(err, "history of tokens");
    }
    return HS_OK;
}

void hs_recent_tokens_free(struct hs_recent_tokens *recent)
{
    hs_free(recent->ring);
    hs_free(recent->distinct);
    hs_free(recent->counts);
    *recent = (struct hs_recent_tokens){0};
}

/* Where the token is, or would have to be put. */
static size_t find(const struct hs_recent_tokens *recent, int32_t token)
{
    size_t low = 0, high = recent->n_distinct;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (recent->distinct[middle] < token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void count_out(struct hs_recent_tokens *recent, int32_t token)
{
    size_t at = find(recent, token);
    if (--recent->counts[at] == 0) {
        size_t n_behind = --recent->n_distinct - at;
        memmove(&recent->distinct[at], &recent->distinct[at + 1], n_behind * sizeof(int32_t));
        memmove(&recent->counts[at], &recent->counts[at + 1], n_behind * sizeof(int32_t));
    }
}

static void count_in(struct hs_recent_tokens *recent, int32_t token)
{
    size_t at = find(recent, token);
    if (at == recent->n_distinct || recent->distinct[at] != token) {
        size_t n_behind = recent->n_distinct++ - at;
        memmove(&recent->distinct[at + 1], &recent->distinct[at], n_behind * sizeof(int32_t));
        memmove(&recent->counts[at + 1], &recent->counts[at], n_behind * sizeof(int32_t));
        recent->distinct[at] = token;
        recent->counts[at] = 0;
    }
    recent->counts[at]++;
}

void hs_recent_tokens_push(struct hs_recent_tokens *recent, int32_t token)
{
    if (recent->cap == 0) {
        return;
    }
    if (recent->n < recent->cap) {
        recent->ring[recent->n++] = token;
    } else {
        count_out(recent, recent->ring[recent->first]);
        recent->ring[recent->first] = token;
        recent->first = (recent->first + 1) % recent->cap;
    }
    count_in(recent, token);
}
