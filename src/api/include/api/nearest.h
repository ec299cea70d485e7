/*
 * nearest.h - "did you mean": the known name nearest to a mistyped one.
 *
 * In:      begin with {.name = typed}, offer every known name, read `best` (NULL: none is near).
 * Limits:  names of more than 63 bytes are never near anything.
 * Threads: no state.
 * Source:  optimal string alignment distance (Levenshtein with swaps of neighbours), at most a
 * third of the name's length and at most 3.
 */
#ifndef API_NEAREST_H
#define API_NEAREST_H

#include <stddef.h>

struct hs_nearest {
    const char *name;
    const char *best; /* borrowed from what was offered */
    size_t distance;
};

void hs_nearest_offer(struct hs_nearest *nearest, const char *known);

#endif
