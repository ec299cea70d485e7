#include "adapters/route_table.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define MATCH_SHARE 0.5 /* of the first's margin, below which another is left out */

/* Examples of one adapter or of the background, unit vectors. */
struct card {
    char *name;     /* NULL: the background */
    float *vectors; /* [n, n_dims] */
    int32_t n;
};

struct hs_route_table {
    int32_t n_dims;
    struct card background;
    struct card *cards; /* [n_cards] */
    size_t n_cards, cap_cards;
    double *sum; /* [n_dims] of all vectors */
    int64_t n_vectors;
};

static void clear_card(struct card *card)
{
    hs_free(card->name);
    hs_free(card->vectors);
    *card = (struct card){0};
}

static hs_status make_unit(const float *from, int32_t n_dims, float *to, struct hs_error *err)
{
    double squares = 0;
    for (int32_t i = 0; i < n_dims; i++) {
        squares += (double)from[i] * (double)from[i];
    }
    if (!isfinite(squares) || squares == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "an embedding of %d values has no direction: it is zero or not finite",
                            n_dims);
    }
    double factor = 1 / sqrt(squares);
    for (int32_t i = 0; i < n_dims; i++) {
        to[i] = (float)((double)from[i] * factor);
    }
    return HS_OK;
}

static hs_status make_card(const hs_route_table *table, const char *name, const float *examples,
                           int32_t n, struct card *ret_card, struct hs_error *err)
{
    if (n < 1 || n > HS_ROUTE_EXAMPLES_MAX) {
        return hs_error_set(err, n < 1 ? HS_INVALID_ARGUMENT : HS_LIMIT,
                            "%d examples of '%s'; there must be 1 to %d", n,
                            name == NULL ? "no adapter" : name, HS_ROUTE_EXAMPLES_MAX);
    }
    size_t n_dims = (size_t)table->n_dims;
    struct card card = {
        .name = hs_strdup(name),
        .vectors = hs_calloc((size_t)n * n_dims, sizeof(float)),
        .n = n,
    };
    hs_status status = HS_OK;
    if (card.vectors == NULL || (name != NULL && card.name == NULL)) {
        status = hs_error_nomem(err, "examples of an adapter");
    }
    for (int32_t i = 0; status == HS_OK && i < n; i++) {
        size_t at = (size_t)i * n_dims;
        status = make_unit(examples + at, table->n_dims, card.vectors + at, err);
    }
    if (status != HS_OK) {
        clear_card(&card);
        return status;
    }
    *ret_card = card;
    return HS_OK;
}

static void count_card(hs_route_table *table, const struct card *card, double sign)
{
    for (int32_t k = 0; k < card->n; k++) {
        for (int32_t i = 0; i < table->n_dims; i++) {
            table->sum[i] +=
                sign * (double)card->vectors[(size_t)k * (size_t)table->n_dims + (size_t)i];
        }
    }
    table->n_vectors += sign > 0 ? card->n : -card->n;
}

hs_status hs_route_table_new(int32_t n_dims, const float *background, int32_t n_background,
                             hs_route_table **ret_table, struct hs_error *err)
{
    if (n_dims < 1 || n_dims > HS_ROUTE_DIMS_MAX) {
        return hs_error_set(err, HS_LIMIT, "embeddings of %d values; there must be 1 to %d", n_dims,
                            HS_ROUTE_DIMS_MAX);
    }
    hs_route_table *table = hs_calloc(1, sizeof(*table));
    if (table == NULL) {
        return hs_error_nomem(err, "routing table");
    }
    table->n_dims = n_dims;
    table->sum = hs_calloc((size_t)n_dims, sizeof(*table->sum));
    hs_status status = table->sum == NULL ? hs_error_nomem(err, "routing table") : HS_OK;
    if (status == HS_OK) {
        status = make_card(table, NULL, background, n_background, &table->background, err);
    }
    if (status != HS_OK) {
        hs_route_table_free(table);
        return status;
    }
    count_card(table, &table->background, 1);
    *ret_table = table;
    return HS_OK;
}

void hs_route_table_free(hs_route_table *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->n_cards; i++) {
        clear_card(&table->cards[i]);
    }
    clear_card(&table->background);
    hs_free(table->cards);
    hs_free(table->sum);
    hs_free(table);
}

static struct card *find_card(const hs_route_table *table, const char *name)
{
    for (size_t i = 0; i < table->n_cards; i++) {
        if (strcmp(table->cards[i].name, name) == 0) {
            return &table->cards[i];
        }
    }
    return NULL;
}

bool hs_route_table_has(const hs_route_table *table, const char *name)
{
    return find_card(table, name) != NULL;
}

static hs_status grow(hs_route_table *table, struct hs_error *err)
{
    if (table->n_cards == HS_ROUTE_CARDS_MAX) {
        return hs_error_set(err, HS_LIMIT, "more than %d adapters to choose from",
                            HS_ROUTE_CARDS_MAX);
    }
    if (table->n_cards == table->cap_cards) {
        size_t cap = table->cap_cards == 0 ? 16 : table->cap_cards * 2;
        struct card *cards = hs_realloc_array(table->cards, cap, sizeof(*cards));
        if (cards == NULL) {
            return hs_error_nomem(err, "routing table");
        }
        table->cards = cards;
        table->cap_cards = cap;
    }
    return HS_OK;
}

hs_status hs_route_table_set(hs_route_table *table, const char *name, const float *examples,
                             int32_t n, struct hs_error *err)
{
    struct card card;
    hs_status status = make_card(table, name, examples, n, &card, err);
    if (status != HS_OK) {
        return status;
    }
    if (!hs_route_table_has(table, name) && (status = grow(table, err)) != HS_OK) {
        clear_card(&card);
        return status;
    }
    hs_route_table_remove(table, name);
    count_card(table, &card, 1);
    table->cards[table->n_cards++] = card;
    return HS_OK;
}

void hs_route_table_remove(hs_route_table *table, const char *name)
{
    struct card *card = find_card(table, name);
    if (card != NULL) {
        count_card(table, card, -1);
        clear_card(card);
        *card = table->cards[--table->n_cards];
    }
}

/* ---- matching ---- */

/* A query and the mean that every vector is compared less of. */
struct query {
    float *centred;                 /* [n_dims], a unit vector, or 0 */
    double *mean;                   /* [n_dims] */
    double mean_mean, centred_mean; /* products */
};

static hs_status make_query(const hs_route_table *table, const float *text, struct query *query,
                            struct hs_error *err)
{
    size_t n = (size_t)table->n_dims;
    query->centred = hs_calloc(n, sizeof(*query->centred));
    query->mean = hs_calloc(n, sizeof(*query->mean));
    if (query->centred == NULL || query->mean == NULL) {
        return hs_error_nomem(err, "routing");
    }
    hs_status status = make_unit(text, table->n_dims, query->centred, err);
    if (status != HS_OK) {
        return status;
    }
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        query->mean[i] = table->sum[i] / (double)table->n_vectors;
        double value = (double)query->centred[i] - query->mean[i];
        query->centred[i] = (float)value;
        squares += value * value;
    }
    double factor = squares > 0 ? 1 / sqrt(squares) : 0;
    for (size_t i = 0; i < n; i++) {
        query->centred[i] = (float)((double)query->centred[i] * factor);
        query->mean_mean += query->mean[i] * query->mean[i];
        query->centred_mean += query->mean[i] * (double)query->centred[i];
    }
    return HS_OK;
}

static void clear_query(struct query *query)
{
    hs_free(query->centred);
    hs_free(query->mean);
}

/* |v - m|^2 is 1 - 2 v.m + m.m for a unit vector, so that no centred copy of it is needed. */
static double cosine(const struct query *query, const float *vector, int32_t n_dims)
{
    double with_query = 0, with_mean = 0;
    for (int32_t i = 0; i < n_dims; i++) {
        with_query += (double)vector[i] * (double)query->centred[i];
        with_mean += (double)vector[i] * query->mean[i];
    }
    double squares = 1 - 2 * with_mean + query->mean_mean;
    return squares > 1e-12 ? (with_query - query->centred_mean) / sqrt(squares) : 0;
}

static double closeness(const hs_route_table *table, const struct query *query,
                        const struct card *card)
{
    double nearest[HS_ROUTE_NEAREST];
    int32_t n = 0;
    for (int32_t k = 0; k < card->n; k++) {
        double value =
            cosine(query, card->vectors + (size_t)k * (size_t)table->n_dims, table->n_dims);
        if (n == HS_ROUTE_NEAREST && value <= nearest[n - 1]) {
            continue;
        }
        int32_t at = n < HS_ROUTE_NEAREST ? n++ : n - 1;
        for (; at > 0 && nearest[at - 1] < value; at--) {
            nearest[at] = nearest[at - 1];
        }
        nearest[at] = value;
    }
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += nearest[i];
    }
    return sum / n;
}

/* Insert by closeness; the last one leaves when there is no room. */
static void keep_match(struct hs_route_matches *matches, struct hs_route_match match)
{
    struct hs_route_match *items = matches->items;
    if (matches->n == HS_ROUTE_MATCHES_MAX && items[matches->n - 1].closeness >= match.closeness) {
        return;
    }
    int32_t at = matches->n < HS_ROUTE_MATCHES_MAX ? matches->n++ : HS_ROUTE_MATCHES_MAX - 1;
    for (; at > 0 && items[at - 1].closeness < match.closeness; at--) {
        items[at] = items[at - 1];
    }
    items[at] = match;
}

void hs_route_matches_weigh(struct hs_route_matches *matches, int32_t max)
{
    double first = matches->n > 0 ? matches->items[0].closeness - matches->floor : 0;
    double sum = 0;
    int32_t n = 0;
    while (n < matches->n && n < max &&
           matches->items[n].closeness - matches->floor >= MATCH_SHARE * first) {
        sum += matches->items[n++].closeness - matches->floor;
    }
    for (int32_t i = 0; i < n; i++) {
        struct hs_route_match *match = &matches->items[i];
        match->weight = sum > 0 ? (match->closeness - matches->floor) / sum : 1.0 / n;
    }
    matches->n = n;
}

hs_status hs_route_table_match(const hs_route_table *table, const float *text, double floor,
                               bool (*is_wanted)(const char *name, void *user), void *user,
                               struct hs_route_matches *ret_matches, struct hs_error *err)
{
    HS_CLEANUP(clear_query) struct query query = {0};
    hs_status status = make_query(table, text, &query, err);
    struct hs_route_matches matches = {0};
    if (status != HS_OK) {
        return status;
    }
    matches.background = closeness(table, &query, &table->background);
    /* A background that points away still is no reason to take an adapter that does, too. */
    matches.floor = matches.background > 0 ? matches.background * floor : 0;
    for (size_t i = 0; i < table->n_cards; i++) {
        const struct card *card = &table->cards[i];
        if (is_wanted != NULL && !is_wanted(card->name, user)) {
            continue;
        }
        struct hs_route_match match = {card->name, closeness(table, &query, card), 0};
        if (matches.best.name == NULL || match.closeness > matches.best.closeness) {
            matches.best = match;
        }
        if (match.closeness > matches.floor) {
            keep_match(&matches, match);
        }
    }
    *ret_matches = matches;
    return HS_OK;
}
