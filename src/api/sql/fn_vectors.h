/*
 * fn_vectors.h - embeddings that were computed before, by any statement of the database, so that
 * `search` over a table embeds it once. The oldest unused ones make room.
 *
 * Best effort: without memory nothing is kept, and nothing fails.
 *
 * Owner:   the database.
 * Threads: any.
 */
#ifndef API_SQL_FN_VECTORS_H
#define API_SQL_FN_VECTORS_H

#include "hyprstream.h"

#define HS_FN_VECTORS_BYTES_MAX ((size_t)128 << 20)

typedef struct hs_fn_vectors hs_fn_vectors;

/* NULL: no memory. */
hs_fn_vectors *hs_fn_vectors_new(size_t max_bytes);
void hs_fn_vectors_free(hs_fn_vectors *vectors); /* NULL is allowed */
/* A copy of the vector of text[len], for hs_free; NULL: it is not there. */
float *hs_fn_vectors_get(hs_fn_vectors *vectors, const struct hs_model_info *model,
                         const char *text, size_t len, int32_t *ret_n);
void hs_fn_vectors_put(hs_fn_vectors *vectors, const struct hs_model_info *model, const char *text,
                       size_t len, const float *values, int32_t n);

#endif
