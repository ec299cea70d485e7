#include "client_share.h"

#include <string.h>

#include "base/error.h"
#include "base/utf8.h"

void hs_client_place_init(struct hs_client_place *place, const char *client)
{
    size_t len = client == NULL ? 0 : hs_utf8_clip(client, strlen(client), HS_TAG_MAX - 1);
    *place = (struct hs_client_place){.client = ""};
    if (len > 0) {
        memcpy(place->client, client, len);
    }
}

hs_status hs_client_share_enter(struct hs_client_share *share, struct hs_client_place *place,
                                struct hs_error *err)
{
    int32_t n = 0;
    for (const struct hs_client_place *i = share->first; i != NULL && place->client[0] != '\0';
         i = i->next) {
        n += strcmp(i->client, place->client) == 0;
    }
    if (n >= share->max) {
        hs_error_set(err, HS_QUEUE_FULL, "client '%s' has %d requests running and waiting already",
                     place->client, n);
        return hs_error_hint(err, "wait for some of the answers, or give clients a larger share");
    }
    place->prev = NULL;
    place->next = share->first;
    if (place->next != NULL) {
        place->next->prev = place;
    }
    share->first = place;
    return HS_OK;
}

void hs_client_share_leave(struct hs_client_share *share, struct hs_client_place *place)
{
    if (place->prev != NULL) {
        place->prev->next = place->next;
    } else {
        share->first = place->next;
    }
    if (place->next != NULL) {
        place->next->prev = place->prev;
    }
}
