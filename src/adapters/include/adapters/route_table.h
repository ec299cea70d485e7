/*
 * route_table.h - which adapters a text is close to: embeddings of example texts, and of texts that
 * belong to none.
 *
 * Nothing is trained. The closeness of a query to an adapter is the mean of its HS_ROUTE_NEAREST
 * largest cosines to the adapter's examples. Before, every vector gets length 1, loses the mean of
 * the background (embeddings of language models lie in a narrow cone, whose axis says nothing) and
 * is whitened by it: along each principal direction of the background sqrt(m / (variance + m)) of
 * it stays, m the mean of their variances. So what all texts vary in counts less, and an adapter
 * that is added changes nothing for the others.
 *
 * The background stands for everything that no adapter is for: an adapter matches only when it is
 * closer than the background is by more than `floor`: HS_ROUTE_FLOOR where nothing else is asked.
 * Where its weights have a say (arrow.h), HS_ROUTE_FLOOR_SEEN is asked, and HS_ROUTE_STEP more for
 * each deviation that they lack of HS_ROUTE_AGREES.
 *
 * Owner:   the table copies what it is given. Threads: none of its own.
 * Source:  centring: Mu and Viswanath, arXiv 1702.01417. The constants: bench/calibrate_routing,
 *          which says by what rule.
 */
#ifndef ADAPTERS_ROUTE_TABLE_H
#define ADAPTERS_ROUTE_TABLE_H

#include "adapters/adapter_ref.h"

#define HS_ROUTE_NEAREST 3
#define HS_ROUTE_FLOOR 0.14
#define HS_ROUTE_FLOOR_SEEN 0.10
#define HS_ROUTE_STEP 0.08
#define HS_ROUTE_AGREES 2.0
#define HS_ROUTE_DIMS_MAX 65536
#define HS_ROUTE_EXAMPLES_MAX 256 /* of one adapter, and of the background */
#define HS_ROUTE_CARDS_MAX 65536
#define HS_ROUTE_MATCHES_MAX 16 /* of one query */

typedef struct hs_route_table hs_route_table;

struct hs_route_match {
    const char *name; /* lives until the table changes */
    double closeness; /* -1..1 */
    double margin;    /* how much closer it is than it has to be */
    double arrow;     /* for the caller: what its weights say */
    double weight;    /* of the chosen ones, 1 in all */
};

/* In: background f32[n_background, n_dims], n_background >= 1. Errors: HS_INVALID_ARGUMENT (not
 * finite, or all zero), HS_LIMIT, HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_route_table_new(int32_t n_dims, const float *background,
                                        int32_t n_background, hs_route_table **ret_table,
                                        struct hs_error *err);
void hs_route_table_free(hs_route_table *table);
/* Set or replace an adapter's examples, f32[n, n_dims], n >= 1. Errors as hs_route_table_new. */
HS_CHECKED hs_status hs_route_table_set(hs_route_table *table, const char *name,
                                        const float *examples, int32_t n, struct hs_error *err);
void hs_route_table_remove(hs_route_table *table, const char *name);
bool hs_route_table_has(const hs_route_table *table, const char *name);

/* What a query is close to. */
struct hs_route_matches {
    struct hs_route_match items[HS_ROUTE_MATCHES_MAX]; /* [n], the closest first */
    int32_t n;
    struct hs_route_match best; /* above the floor or not; name NULL: there is no adapter */
    double background;          /* how close that is */
};

/*
 * The adapters that a query is close to.
 * In:     query f32[n_dims]; is_wanted (NULL: all) says which adapters may match; floor as above.
 * Errors: HS_INVALID_ARGUMENT (a query that is not finite, or all zero), HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_route_table_match(const hs_route_table *table, const float *query,
                                          double floor,
                                          bool (*is_wanted)(const char *name, void *user),
                                          void *user, struct hs_route_matches *ret_matches,
                                          struct hs_error *err);
/*
 * Choose the `max` of the largest margins, the largest first: weights, 1 in all, in proportion to
 * the margin; one that has less than half of the first's is left out.
 */
void hs_route_matches_weigh(struct hs_route_matches *matches, int32_t max);

#endif
