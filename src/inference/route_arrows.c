#include "route_arrows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/adapter_file.h"
#include "adapters/arrow.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine_internal.h"
#include "route_examples.h"
#include "route_inputs.h"
#include "route_reading.h"

#define LEARN_AT_ONCE 64 /* adapters */
#define INPUTS_MAX_BYTES ((size_t)256 << 20)

/* One version of an adapter. */
struct card {
    char name[HS_ADAPTER_NAME_SIZE];
    char version[HS_ADAPTER_NAME_SIZE];
    hs_arrow *arrow; /* NULL: its weights say nothing */
    int32_t n_users; /* guarded by the mutex; the list is one of them */
};

struct hs_route_arrows {
    pthread_mutex_t learning; /* taken first: one at a time makes cards */
    pthread_mutex_t mutex;    /* guards everything below */
    struct card **cards;      /* [n], by name */
    size_t n, cap;
};

hs_status hs_route_arrows_new(hs_route_arrows **ret_arrows, struct hs_error *err)
{
    hs_route_arrows *all = hs_calloc(1, sizeof(*all));
    if (all == NULL) {
        return hs_error_nomem(err, "directions of adapters");
    }
    pthread_mutex_init(&all->learning, NULL);
    pthread_mutex_init(&all->mutex, NULL);
    *ret_arrows = all;
    return HS_OK;
}

/* ---- cards: with the mutex held ---- */

static void release(struct card *card)
{
    if (card != NULL && --card->n_users == 0) {
        hs_arrow_free(card->arrow);
        hs_free(card);
    }
}

/* Where a name is, or would be. */
static size_t place_of(const hs_route_arrows *all, const char *name)
{
    size_t first = 0, last = all->n;
    while (first < last) {
        size_t middle = (first + last) / 2;
        if (strcmp(all->cards[middle]->name, name) < 0) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    return first;
}

static bool is_at(const hs_route_arrows *all, size_t place, const char *name)
{
    return place < all->n && strcmp(all->cards[place]->name, name) == 0;
}

/* The card of this version, with one more user; NULL: there is none. */
static struct card *acquire(hs_route_arrows *all, const struct hs_adapter_info *adapter)
{
    size_t place = place_of(all, adapter->name);
    if (!is_at(all, place, adapter->name) ||
        strcmp(all->cards[place]->version, adapter->version) != 0) {
        return NULL;
    }
    all->cards[place]->n_users++;
    return all->cards[place];
}

/* In the place of another version. */
static hs_status put(hs_route_arrows *all, struct card *card, struct hs_error *err)
{
    size_t place = place_of(all, card->name);
    if (is_at(all, place, card->name)) {
        release(all->cards[place]);
        all->cards[place] = card;
        return HS_OK;
    }
    if (all->n == all->cap) {
        size_t cap = all->cap == 0 ? 16 : 2 * all->cap;
        struct card **cards = hs_realloc_array(all->cards, cap, sizeof(*cards));
        if (cards == NULL) {
            return hs_error_nomem(err, "directions of adapters");
        }
        all->cards = cards;
        all->cap = cap;
    }
    memmove(all->cards + place + 1, all->cards + place, (all->n - place) * sizeof(*all->cards));
    all->cards[place] = card;
    all->n++;
    return HS_OK;
}

void hs_route_arrows_forget(hs_route_arrows *all, const char *name)
{
    pthread_mutex_lock(&all->mutex);
    size_t place = place_of(all, name);
    if (is_at(all, place, name)) {
        release(all->cards[place]);
        all->n--;
        memmove(all->cards + place, all->cards + place + 1, (all->n - place) * sizeof(*all->cards));
    }
    pthread_mutex_unlock(&all->mutex);
}

void hs_route_arrows_free(hs_route_arrows *all)
{
    if (all == NULL) {
        return;
    }
    for (size_t i = 0; i < all->n; i++) {
        release(all->cards[i]);
    }
    hs_free(all->cards);
    pthread_mutex_destroy(&all->mutex);
    pthread_mutex_destroy(&all->learning);
    hs_free(all);
}

/* NULL: its weights say nothing. */
static const hs_arrow *arrow_of(const struct card *card)
{
    return card != NULL ? card->arrow : NULL;
}

/* ---- reading a text ---- */

/* One text for several cards; those without directions are passed over. */
struct text {
    struct card *const *cards; /* [n_cards] */
    size_t n_cards;
    struct hs_arrow_sum **sums; /* [n_cards] */
};

static bool wants(void *user, const char *tensor)
{
    const struct text *text = user;
    for (size_t i = 0; i < text->n_cards; i++) {
        const hs_arrow *arrow = arrow_of(text->cards[i]);
        if (arrow != NULL && hs_arrow_has(arrow, tensor)) {
            return true;
        }
    }
    return false;
}

static void see(void *user, const char *tensor, const float *rows, int64_t n_rows, int64_t n_in)
{
    const struct text *text = user;
    for (size_t i = 0; i < text->n_cards; i++) {
        const hs_arrow *arrow = arrow_of(text->cards[i]);
        if (arrow != NULL) {
            hs_arrow_see(arrow, tensor, rows, n_rows, n_in, text->sums[i]);
        }
    }
}

static hs_status read_text(const struct hs_route_reading *how, const char *words,
                           struct card *const *cards, size_t n_cards, struct hs_arrow_sum **sums,
                           struct hs_error *err)
{
    struct text text = {.cards = cards, .n_cards = n_cards, .sums = sums};
    const struct hs_route_reader reader = {wants, see, &text};
    return hs_route_read(how, words, &reader, err);
}

/* ---- learning ---- */

/* Directions from the adapter's file. One that cannot be read is not tried again. */
static hs_status make_card(const struct hs_model *model, const struct hs_adapter_info *adapter,
                           struct card **ret_card, struct hs_error *err)
{
    struct card *card = hs_calloc(1, sizeof(*card));
    struct hs_adapter_file *file = NULL;
    if (card == NULL) {
        return hs_error_nomem(err, "directions of an adapter");
    }
    card->n_users = 1;
    memcpy(card->name, adapter->name, sizeof(card->name));
    memcpy(card->version, adapter->version, sizeof(card->version));
    hs_status status = HS_OK;
    if (adapter->path[0] != '\0') {
        status = hs_adapter_file_load_weights(adapter->path, model->lora_base, &file, err);
        status = status == HS_OK ? hs_arrow_new(&file->lora, &card->arrow, err) : status;
    }
    hs_adapter_file_free(file);
    if (status == HS_OUT_OF_MEMORY) {
        hs_free(card);
        return status;
    }
    if (status != HS_OK) {
        hs_log(HS_LOG_INFO, "routing", "adapter '%s' is not known by its weights: %s",
               adapter->name, err != NULL ? err->message : hs_status_text(status));
    }
    *ret_card = card;
    return HS_OK;
}

static size_t n_matrices(const struct card *card)
{
    const hs_arrow *arrow = arrow_of(card);
    return arrow != NULL ? (size_t)hs_arrow_n_matrices(arrow) : 0;
}

static struct hs_arrow_sum *new_sums(const struct card *card, int32_t n_texts)
{
    return hs_calloc(n_matrices(card) * (size_t)n_texts, sizeof(struct hs_arrow_sum));
}

/* What the texts of the background make of the matrices is kept with the model, so that only the
 * first adapter waits for it; where that takes too much memory they are read again. */
static hs_status keep_inputs(const struct hs_route_reading *how, struct card *const *cards,
                             size_t n, struct hs_error *err)
{
    const hs_arrow *arrows[LEARN_AT_ONCE];
    hs_status status = HS_OK;
    for (size_t i = 0; i < n; i++) {
        arrows[i] = arrow_of(cards[i]);
    }
    if (how->model->route_inputs == NULL) {
        status = hs_route_inputs_new(INPUTS_MAX_BYTES, &how->model->route_inputs, err);
    }
    return status == HS_OK
               ? hs_route_inputs_read(how->model->route_inputs, how, hs_route_background,
                                      hs_route_n_background, arrows, n, err)
               : status;
}

/* now[n]: what text t adds up to. */
static hs_status sum_up(const struct hs_route_reading *how, bool is_kept, int32_t t,
                        struct card *const *cards, size_t n, struct hs_arrow_sum **now,
                        struct hs_error *err)
{
    hs_status status = HS_OK;
    if (!is_kept) {
        return read_text(how, hs_route_background[t], cards, n, now, err);
    }
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        if (cards[i]->arrow != NULL) {
            status = hs_route_inputs_see(how->model->route_inputs, t, cards[i]->arrow, now[i], err);
        }
    }
    return status;
}

static hs_status calibrate(const struct hs_route_reading *how, struct card *const *cards, size_t n,
                           struct hs_error *err)
{
    struct hs_arrow_sum *all[LEARN_AT_ONCE] = {0}, *now[LEARN_AT_ONCE] = {0};
    hs_status status = keep_inputs(how, cards, n, err);
    bool is_kept = status == HS_OK;
    status = status == HS_LIMIT ? HS_OK : status;
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        all[i] = new_sums(cards[i], hs_route_n_background);
        status = all[i] == NULL ? hs_error_nomem(err, "directions of adapters") : HS_OK;
    }
    for (int32_t t = 0; t < hs_route_n_background && status == HS_OK; t++) {
        for (size_t i = 0; i < n; i++) {
            now[i] = all[i] + (size_t)t * n_matrices(cards[i]);
        }
        status = sum_up(how, is_kept, t, cards, n, now, err);
    }
    for (size_t i = 0; i < n; i++) {
        if (status == HS_OK && cards[i]->arrow != NULL &&
            !hs_arrow_calibrate(cards[i]->arrow, all[i], hs_route_n_background)) {
            hs_arrow_free(cards[i]->arrow);
            cards[i]->arrow = NULL;
        }
        hs_free(all[i]);
    }
    return status;
}

/* Cards of adapters[n], n <= LEARN_AT_ONCE, that have none; with `learning` held. */
static hs_status learn(hs_route_arrows *all, const struct hs_route_reading *how,
                       const struct hs_adapter_info *const *adapters, size_t n,
                       struct hs_error *err)
{
    struct card *cards[LEARN_AT_ONCE] = {0};
    size_t n_cards = 0;
    hs_status status = HS_OK;
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        status = make_card(how->model, adapters[i], &cards[n_cards], err);
        n_cards += status == HS_OK;
    }
    if (status == HS_OK) {
        status = calibrate(how, cards, n_cards, err);
    }
    pthread_mutex_lock(&all->mutex);
    for (size_t i = 0; i < n_cards; i++) {
        status = status == HS_OK ? put(all, cards[i], err) : status;
        if (status != HS_OK) {
            release(cards[i]);
        }
    }
    pthread_mutex_unlock(&all->mutex);
    return status;
}

static hs_status learn_missing(hs_route_arrows *all, const struct hs_route_reading *how,
                               const struct hs_adapter_info *const *adapters, size_t n,
                               struct hs_error *err)
{
    const struct hs_adapter_info *missing[LEARN_AT_ONCE];
    hs_status status = HS_OK;
    pthread_mutex_lock(&all->learning);
    for (size_t i = 0, n_missing = 0; i < n && status == HS_OK; i++) {
        pthread_mutex_lock(&all->mutex);
        struct card *card = acquire(all, adapters[i]);
        release(card);
        pthread_mutex_unlock(&all->mutex);
        if (card == NULL) {
            missing[n_missing++] = adapters[i];
        }
        if (n_missing == LEARN_AT_ONCE || (i + 1 == n && n_missing > 0)) {
            status = learn(all, how, missing, n_missing, err);
            n_missing = 0;
        }
    }
    pthread_mutex_unlock(&all->learning);
    return status;
}

/* ---- scores ---- */

static hs_status score(const struct hs_route_reading *how, const char *text,
                       struct card *const *cards, size_t n, double *scores, struct hs_error *err)
{
    struct hs_arrow_sum **sums = hs_calloc(n, sizeof(*sums));
    hs_status status = sums == NULL ? hs_error_nomem(err, "routing") : HS_OK;
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        sums[i] = new_sums(cards[i], 1);
        status = sums[i] == NULL ? hs_error_nomem(err, "routing") : HS_OK;
    }
    status = status == HS_OK ? read_text(how, text, cards, n, sums, err) : status;
    for (size_t i = 0; i < n && sums != NULL; i++) {
        if (status == HS_OK) {
            const hs_arrow *arrow = arrow_of(cards[i]);
            scores[i] = arrow != NULL ? hs_arrow_score(arrow, sums[i]) : (double)NAN;
        }
        hs_free(sums[i]);
    }
    hs_free(sums);
    return status;
}

static hs_status score_known(hs_route_arrows *all, const struct hs_route_reading *how,
                             const struct hs_adapter_info *const *adapters, size_t n,
                             const char *text, double *scores, struct hs_error *err)
{
    struct card **cards = hs_calloc(n, sizeof(*cards));
    if (cards == NULL) {
        return hs_error_nomem(err, "routing");
    }
    pthread_mutex_lock(&all->mutex);
    for (size_t i = 0; i < n; i++) {
        cards[i] = acquire(all, adapters[i]); /* NULL: it was replaced since */
    }
    pthread_mutex_unlock(&all->mutex);
    hs_status status = score(how, text, cards, n, scores, err);
    pthread_mutex_lock(&all->mutex);
    for (size_t i = 0; i < n; i++) {
        release(cards[i]);
    }
    pthread_mutex_unlock(&all->mutex);
    hs_free(cards);
    return status;
}

hs_status hs_route_arrows_score(hs_route_arrows *all, hs_engine *engine, const char *model_id,
                                const struct hs_adapter_info *const *adapters, size_t n,
                                const char *text, double deadline_at_ms, double *scores,
                                struct hs_error *err)
{
    struct hs_route_reading how = {.engine = engine, .deadline_at_ms = deadline_at_ms};
    hs_status status = hs_engine_acquire_model(engine, model_id, &how.model, err);
    if (status != HS_OK) {
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        scores[i] = (double)NAN;
    }
    if (how.model->rt->observe != NULL && n > 0) {
        status = learn_missing(all, &how, adapters, n, err);
        status = status == HS_OK ? score_known(all, &how, adapters, n, text, scores, err) : status;
    }
    hs_engine_release_model(engine, how.model);
    return status;
}
