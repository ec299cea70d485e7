#include "adapters/route_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "merge_svd.h"

#define MATCH_SHARE 0.5 /* of the first's margin, below which another is left out */

/* What is subtracted from every unit vector, and along which directions it is shortened. */
struct frame {
    double *mean;       /* [n_dims] */
    double *directions; /* [n, n_dims], of length 1 */
    double *shortening; /* [n], 0..1: what is taken away */
    int32_t n;
};

/* Examples of one adapter or of the background, unit vectors in the frame; or 0. */
struct card {
    char *name;     /* NULL: the background */
    float *vectors; /* [n, n_dims] */
    int32_t n;
};

struct hs_route_table {
    int32_t n_dims;
    struct frame frame;
    struct card background;
    struct card *cards; /* [n_cards], by name */
    size_t n_cards, cap_cards;
};

static void clear_card(struct card *card)
{
    hs_free(card->name);
    hs_free(card->vectors);
    *card = (struct card){0};
}

static hs_status make_unit(const float *from, int32_t n_dims, double *to, struct hs_error *err)
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
        to[i] = (double)from[i] * factor;
    }
    return HS_OK;
}

/* room f64[n_dims] is scratch. */
static hs_status put_into_frame(const hs_route_table *table, const float *from, double *room,
                                float *to, struct hs_error *err)
{
    const struct frame *frame = &table->frame;
    int32_t n_dims = table->n_dims;
    hs_status status = make_unit(from, n_dims, room, err);
    double squares = 0;
    if (status != HS_OK) {
        return status;
    }
    for (int32_t i = 0; i < n_dims; i++) {
        room[i] -= frame->mean[i];
    }
    for (int32_t k = 0; k < frame->n; k++) { /* orthogonal ones: the order does not matter */
        const double *direction = frame->directions + (size_t)k * (size_t)n_dims;
        double along = 0;
        for (int32_t i = 0; i < n_dims; i++) {
            along += room[i] * direction[i];
        }
        for (int32_t i = 0; i < n_dims; i++) {
            room[i] -= frame->shortening[k] * along * direction[i];
        }
    }
    for (int32_t i = 0; i < n_dims; i++) {
        squares += room[i] * room[i];
    }
    double factor = squares > 1e-12 ? 1 / sqrt(squares) : 0;
    for (int32_t i = 0; i < n_dims; i++) {
        to[i] = (float)(room[i] * factor);
    }
    return HS_OK;
}

/* ---- the frame ---- */

/* The unit vectors less their mean, f64[n, n_dims]; *ret_squares: of all their values. */
static hs_status centre(hs_route_table *table, const float *vectors, int32_t n, double *ret_rows,
                        double *ret_squares, struct hs_error *err)
{
    size_t n_dims = (size_t)table->n_dims;
    hs_status status = HS_OK;
    for (size_t k = 0; k < (size_t)n && status == HS_OK; k++) {
        status = make_unit(vectors + k * n_dims, table->n_dims, ret_rows + k * n_dims, err);
        for (size_t i = 0; i < n_dims && status == HS_OK; i++) {
            table->frame.mean[i] += ret_rows[k * n_dims + i] / n;
        }
    }
    *ret_squares = 0;
    for (size_t i = 0; i < (size_t)n * n_dims; i++) {
        ret_rows[i] -= table->frame.mean[i % n_dims];
        *ret_squares += ret_rows[i] * ret_rows[i];
    }
    return status;
}

/* Whitening, with the mean variance added to each: sqrt(m / (variance + m)) of it stays. */
static hs_status find_directions(hs_route_table *table, const double *rows, int32_t n,
                                 double squares, struct hs_error *err)
{
    struct frame *frame = &table->frame;
    size_t n_dims = (size_t)table->n_dims;
    int32_t rank = n < table->n_dims ? n : table->n_dims;
    struct hs_merge_product product = {0};
    hs_status status = hs_merge_svd_exact(rows, n, (int64_t)n_dims, rank, &product, err);
    if (status != HS_OK) {
        return status;
    }
    hs_free(product.left);
    frame->directions = product.right; /* each is as long as the root of its singular value */
    frame->shortening = hs_calloc((size_t)product.rank, sizeof(double));
    if (frame->shortening == NULL) {
        return hs_error_nomem(err, "routing table");
    }
    double mean_variance = squares / n / rank;
    for (int32_t k = 0; k < product.rank; k++) {
        double *direction = frame->directions + (size_t)frame->n * n_dims, length = 0;
        memmove(direction, frame->directions + (size_t)k * n_dims, n_dims * sizeof(*direction));
        for (size_t i = 0; i < n_dims; i++) {
            length += direction[i] * direction[i];
        }
        if (!(length * length > 1e-9 * squares)) {
            continue; /* what rounding leaves */
        }
        for (size_t i = 0; i < n_dims; i++) {
            direction[i] /= sqrt(length);
        }
        frame->shortening[frame->n++] =
            1 - sqrt(mean_variance / (length * length / n + mean_variance));
    }
    return HS_OK;
}

static hs_status make_frame(hs_route_table *table, const float *background, int32_t n,
                            struct hs_error *err)
{
    size_t n_dims = (size_t)table->n_dims;
    double squares = 0;
    table->frame.mean = hs_calloc(n_dims, sizeof(double));
    HS_CLEANUP(hs_freep) double *rows = hs_calloc((size_t)n * n_dims, sizeof(double));
    if (table->frame.mean == NULL || rows == NULL) {
        return hs_error_nomem(err, "routing table");
    }
    hs_status status = centre(table, background, n, rows, &squares, err);
    return status == HS_OK && squares > 1e-9 ? find_directions(table, rows, n, squares, err)
                                             : status;
}

/* ---- cards ---- */

static hs_status check_number(const char *name, int32_t n, struct hs_error *err)
{
    if (n >= 1 && n <= HS_ROUTE_EXAMPLES_MAX) {
        return HS_OK;
    }
    return hs_error_set(err, n < 1 ? HS_INVALID_ARGUMENT : HS_LIMIT,
                        "%d examples of '%s'; there must be 1 to %d", n,
                        name == NULL ? "no adapter" : name, HS_ROUTE_EXAMPLES_MAX);
}

static hs_status make_card(const hs_route_table *table, const char *name, const float *examples,
                           int32_t n, struct card *ret_card, struct hs_error *err)
{
    hs_status status = check_number(name, n, err);
    if (status != HS_OK) {
        return status;
    }
    size_t n_dims = (size_t)table->n_dims;
    struct card card = {
        .name = hs_strdup(name),
        .vectors = hs_calloc((size_t)n * n_dims, sizeof(float)),
        .n = n,
    };
    HS_CLEANUP(hs_freep) double *room = hs_calloc(n_dims, sizeof(double));
    if (room == NULL || card.vectors == NULL || (name != NULL && card.name == NULL)) {
        status = hs_error_nomem(err, "examples of an adapter");
    }
    for (int32_t i = 0; status == HS_OK && i < n; i++) {
        size_t at = (size_t)i * n_dims;
        status = put_into_frame(table, examples + at, room, card.vectors + at, err);
    }
    if (status != HS_OK) {
        clear_card(&card);
        return status;
    }
    *ret_card = card;
    return HS_OK;
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
    hs_status status = check_number(NULL, n_background, err);
    status = status == HS_OK ? make_frame(table, background, n_background, err) : status;
    if (status == HS_OK) {
        status = make_card(table, NULL, background, n_background, &table->background, err);
    }
    if (status != HS_OK) {
        hs_route_table_free(table);
        return status;
    }
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
    hs_free(table->frame.mean);
    hs_free(table->frame.directions);
    hs_free(table->frame.shortening);
    hs_free(table);
}

/* Where a name is, or would be. */
static size_t place_of(const hs_route_table *table, const char *name)
{
    size_t first = 0, last = table->n_cards;
    while (first < last) {
        size_t middle = (first + last) / 2;
        if (strcmp(table->cards[middle].name, name) < 0) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    return first;
}

static struct card *find_card(const hs_route_table *table, const char *name)
{
    size_t place = place_of(table, name);
    bool is_there = place < table->n_cards && strcmp(table->cards[place].name, name) == 0;
    return is_there ? &table->cards[place] : NULL;
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
    struct card *at = table->cards + place_of(table, name);
    memmove(at + 1, at, (size_t)(table->cards + table->n_cards++ - at) * sizeof(*at));
    *at = card;
    return HS_OK;
}

void hs_route_table_remove(hs_route_table *table, const char *name)
{
    struct card *card = find_card(table, name);
    if (card != NULL) {
        clear_card(card);
        memmove(card, card + 1, (size_t)(table->cards + --table->n_cards - card) * sizeof(*card));
    }
}

/* ---- matching ---- */

static double dot(const float *a, const float *b, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static double closeness(const hs_route_table *table, const float *query, const struct card *card)
{
    double nearest[HS_ROUTE_NEAREST];
    int32_t n = 0;
    for (int32_t k = 0; k < card->n; k++) {
        double value = dot(query, card->vectors + (size_t)k * (size_t)table->n_dims, table->n_dims);
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

static int compare_margins(const void *a, const void *b)
{
    double x = ((const struct hs_route_match *)a)->margin;
    double y = ((const struct hs_route_match *)b)->margin;
    return (x < y) - (x > y);
}

void hs_route_matches_weigh(struct hs_route_matches *matches, int32_t max)
{
    struct hs_route_match *items = matches->items;
    qsort(items, (size_t)matches->n, sizeof(items[0]), compare_margins);
    double sum = 0;
    int32_t n = 0;
    while (n < matches->n && n < max && items[n].margin >= MATCH_SHARE * items[0].margin) {
        sum += items[n++].margin;
    }
    for (int32_t i = 0; i < n; i++) {
        items[i].weight = sum > 0 ? items[i].margin / sum : 1.0 / n;
    }
    matches->n = n;
}

hs_status hs_route_table_match(const hs_route_table *table, const float *text, double floor,
                               bool (*is_wanted)(const char *name, void *user), void *user,
                               struct hs_route_matches *ret_matches, struct hs_error *err)
{
    size_t n_dims = (size_t)table->n_dims;
    HS_CLEANUP(hs_freep) float *query = hs_calloc(n_dims, sizeof(*query));
    HS_CLEANUP(hs_freep) double *room = hs_calloc(n_dims, sizeof(*room));
    if (query == NULL || room == NULL) {
        return hs_error_nomem(err, "routing");
    }
    hs_status status = put_into_frame(table, text, room, query, err);
    struct hs_route_matches matches = {0};
    if (status != HS_OK) {
        return status;
    }
    matches.background = closeness(table, query, &table->background);
    for (size_t i = 0; i < table->n_cards; i++) {
        const struct card *card = &table->cards[i];
        if (is_wanted != NULL && !is_wanted(card->name, user)) {
            continue;
        }
        struct hs_route_match match = {.name = card->name};
        match.closeness = closeness(table, query, card);
        match.margin = match.closeness - matches.background - floor;
        if (matches.best.name == NULL || match.closeness > matches.best.closeness) {
            matches.best = match;
        }
        if (match.margin > 0) {
            keep_match(&matches, match);
        }
    }
    *ret_matches = matches;
    return HS_OK;
}
