/*
 * recent_tokens.h - which tokens came lately: the only ones whose logits repetition penalties and
 * DRY can change.
 *
 * Threads: one at a time.
 */
#ifndef RUNTIME_RECENT_TOKENS_H
#define RUNTIME_RECENT_TOKENS_H

#include "runtime/runtime.h"

struct hs_recent_tokens {
    int32_t *ring; /* [cap] the last n, the oldest one at `first` once it is full */
    size_t cap, n, first;
    int32_t *distinct; /* [n_distinct] ascending */
    int32_t *counts;   /* beside distinct: how often each is in the ring */
    size_t n_distinct;
};

/* Room for the last `cap` tokens. */
HS_CHECKED hs_status hs_recent_tokens_init(struct hs_recent_tokens *recent, size_t cap,
                                           struct hs_error *err);
void hs_recent_tokens_free(struct hs_recent_tokens *recent);
/* Does nothing with room for none. */
void hs_recent_tokens_push(struct hs_recent_tokens *recent, int32_t token);

#endif
