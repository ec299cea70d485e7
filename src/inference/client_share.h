/*
 * client_share.h - how many requests of one client a queue holds, so that none fills it alone.
 *
 * Owner:   places lie in the requests; a list has no memory of its own.
 * Threads: none; under the mutex of the queue.
 */
#ifndef INFERENCE_CLIENT_SHARE_H
#define INFERENCE_CLIENT_SHARE_H

#include "hyprstream.h"

struct hs_client_place {
    char client[HS_TAG_MAX]; /* empty: nobody else's */
    struct hs_client_place *prev, *next;
};

struct hs_client_share {
    struct hs_client_place *first; /* of every request that is not done */
    int32_t max;                   /* of one client */
};

/* NULL, "" : nobody. A name that is too long is cut at a code point. */
void hs_client_place_init(struct hs_client_place *place, const char *client);
/* HS_QUEUE_FULL: its client has `max` already, and the place is not taken. */
HS_CHECKED hs_status hs_client_share_enter(struct hs_client_share *share,
                                           struct hs_client_place *place, struct hs_error *err);
/* One that entered. */
void hs_client_share_leave(struct hs_client_share *share, struct hs_client_place *place);

#endif
