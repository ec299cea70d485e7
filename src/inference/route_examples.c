#include "route_examples.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define TEXT_MAX_BYTES ((size_t)64 << 10)
#define EMBED_AT_ONCE 128 /* texts, or a few more: an adapter's stay together */

const char *const hs_route_background[] = {
#define HS_BACKGROUND(text) text,
#include "route_background.def"
};
#define N_BACKGROUND (sizeof(hs_route_background) / sizeof(hs_route_background[0]))
const int32_t hs_route_n_background = (int32_t)N_BACKGROUND;

struct texts {
    char **texts; /* [n] */
    size_t n;
};

/* An id is never given twice: what was embedded meanwhile belongs to it or is thrown away. */
struct entry {
    uint64_t id;
    char name[HS_ADAPTER_NAME_SIZE];
    struct texts texts;
};

struct model_table {
    uint64_t id;
    char model_id[HS_ID_MAX];
    hs_route_table *table;
    uint64_t complete_to; /* it has all entries up to this id */
};

struct hs_route_examples {
    pthread_mutex_t mutex; /* guards everything below */
    struct entry *entries; /* [n_entries], by name */
    size_t n_entries, cap_entries;
    struct model_table *tables; /* [n_tables] */
    size_t n_tables;
    uint64_t last_id;
};

static void clear_texts(struct texts *texts)
{
    for (size_t i = 0; i < texts->n; i++) {
        hs_free(texts->texts[i]);
    }
    hs_free(texts->texts);
    *texts = (struct texts){0};
}

static hs_status copy_texts(const char *const *from, size_t n, struct texts *ret_texts,
                            struct hs_error *err)
{
    struct texts to = {.texts = hs_calloc(n, sizeof(*to.texts))};
    bool is_whole = to.texts != NULL;
    for (; is_whole && to.n < n; to.n += is_whole) {
        to.texts[to.n] = hs_strdup(from[to.n]);
        is_whole = to.texts[to.n] != NULL;
    }
    if (!is_whole) {
        clear_texts(&to);
        return hs_error_nomem(err, "examples of an adapter");
    }
    *ret_texts = to;
    return HS_OK;
}

/* ---- life ---- */

hs_status hs_route_examples_new(hs_route_examples **ret_examples, struct hs_error *err)
{
    hs_route_examples *all = hs_calloc(1, sizeof(*all));
    if (all == NULL) {
        return hs_error_nomem(err, "examples of adapters");
    }
    int rc = pthread_mutex_init(&all->mutex, NULL);
    if (rc != 0) {
        hs_free(all);
        return hs_error_set(err, hs_status_from_errno(rc), "cannot make a lock: %s", strerror(rc));
    }
    *ret_examples = all;
    return HS_OK;
}

void hs_route_examples_free(hs_route_examples *all)
{
    if (all == NULL) {
        return;
    }
    for (size_t i = 0; i < all->n_entries; i++) {
        clear_texts(&all->entries[i].texts);
    }
    for (size_t i = 0; i < all->n_tables; i++) {
        hs_route_table_free(all->tables[i].table);
    }
    hs_free(all->entries);
    hs_free(all->tables);
    pthread_mutex_destroy(&all->mutex);
    hs_free(all);
}

/* ---- texts ---- */

/* Where a name is, or would be. */
static size_t place_of(const hs_route_examples *all, const char *name)
{
    size_t first = 0, last = all->n_entries;
    while (first < last) {
        size_t middle = (first + last) / 2;
        if (strcmp(all->entries[middle].name, name) < 0) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    return first;
}

static struct entry *find_entry(const hs_route_examples *all, const char *name)
{
    size_t place = place_of(all, name);
    bool is_there = place < all->n_entries && strcmp(all->entries[place].name, name) == 0;
    return is_there ? &all->entries[place] : NULL;
}

static void forget(hs_route_examples *all, const char *name)
{
    struct entry *entry = find_entry(all, name);
    if (entry == NULL) {
        return;
    }
    for (size_t i = 0; i < all->n_tables; i++) {
        hs_route_table_remove(all->tables[i].table, name);
    }
    clear_texts(&entry->texts);
    memmove(entry, entry + 1, (size_t)(all->entries + --all->n_entries - entry) * sizeof(*entry));
}

static hs_status add_entry(hs_route_examples *all, const char *name, struct texts *texts,
                           struct hs_error *err)
{
    if (all->n_entries == all->cap_entries) {
        size_t cap = all->cap_entries == 0 ? 16 : all->cap_entries * 2;
        struct entry *entries = hs_realloc_array(all->entries, cap, sizeof(*entries));
        if (entries == NULL) {
            return hs_error_nomem(err, "examples of an adapter");
        }
        all->entries = entries;
        all->cap_entries = cap;
    }
    struct entry *entry = all->entries + place_of(all, name);
    memmove(entry + 1, entry, (size_t)(all->entries + all->n_entries++ - entry) * sizeof(*entry));
    *entry = (struct entry){.id = ++all->last_id, .texts = *texts};
    snprintf(entry->name, sizeof(entry->name), "%s", name);
    *texts = (struct texts){0};
    return HS_OK;
}

static hs_status check_texts(const char *name, const char *const *texts, size_t n,
                             struct hs_error *err)
{
    if (n > HS_ROUTE_EXAMPLES_MAX) {
        return hs_error_set(err, HS_LIMIT, "%zu examples of adapter '%s' are more than %d", n, name,
                            HS_ROUTE_EXAMPLES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(texts[i]);
        if (len == 0) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "example %zu of adapter '%s' is empty",
                                i + 1, name);
        }
        if (len > TEXT_MAX_BYTES) {
            return hs_error_set(err, HS_LIMIT,
                                "example %zu of adapter '%s' has %zu bytes; the limit is %zu",
                                i + 1, name, len, TEXT_MAX_BYTES);
        }
    }
    return HS_OK;
}

hs_status hs_route_examples_set(hs_route_examples *all, const char *name, const char *const *texts,
                                size_t n_texts, struct hs_error *err)
{
    hs_status status = check_texts(name, texts, n_texts, err);
    HS_CLEANUP(clear_texts) struct texts copy = {0};
    if (status == HS_OK && n_texts > 0) {
        status = copy_texts(texts, n_texts, &copy, err);
    }
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&all->mutex);
    forget(all, name);
    if (n_texts > 0) {
        status = add_entry(all, name, &copy, err);
    }
    pthread_mutex_unlock(&all->mutex);
    return status;
}

void hs_route_examples_forget(hs_route_examples *all, const char *name)
{
    pthread_mutex_lock(&all->mutex);
    forget(all, name);
    pthread_mutex_unlock(&all->mutex);
}

void hs_route_examples_forget_model(hs_route_examples *all, const char *model_id)
{
    pthread_mutex_lock(&all->mutex);
    for (size_t i = 0; i < all->n_tables; i++) {
        if (strcmp(all->tables[i].model_id, model_id) == 0) {
            hs_route_table_free(all->tables[i].table);
            all->tables[i] = all->tables[--all->n_tables];
            break;
        }
    }
    pthread_mutex_unlock(&all->mutex);
}

/* ---- tables ---- */

static struct model_table *find_table(const hs_route_examples *all, const char *model_id)
{
    for (size_t i = 0; i < all->n_tables; i++) {
        if (strcmp(all->tables[i].model_id, model_id) == 0) {
            return &all->tables[i];
        }
    }
    return NULL;
}

/* Takes the table over when it succeeds. */
static hs_status add_table(hs_route_examples *all, const char *model_id, hs_route_table *table,
                           struct hs_error *err)
{
    struct model_table *tables = hs_realloc_array(all->tables, all->n_tables + 1, sizeof(*tables));
    if (tables == NULL) {
        return hs_error_nomem(err, "routing table");
    }
    all->tables = tables;
    struct model_table *added = &all->tables[all->n_tables++];
    added->id = ++all->last_id;
    snprintf(added->model_id, sizeof(added->model_id), "%s", model_id);
    added->table = table;
    added->complete_to = 0;
    return HS_OK;
}

static hs_status make_table(hs_route_examples *all, const struct hs_route_embedder *how,
                            struct hs_error *err)
{
    HS_CLEANUP(hs_embeddings_free) struct hs_embeddings embeddings = {0};
    hs_route_table *table = NULL;
    hs_status status = hs_route_embed(how, hs_route_background, N_BACKGROUND, &embeddings, err);
    if (status == HS_OK) {
        status = hs_route_table_new(embeddings.n_dims, embeddings.values, (int32_t)N_BACKGROUND,
                                    &table, err);
    }
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&all->mutex);
    bool is_first = find_table(all, how->model_id) == NULL;
    status = is_first ? add_table(all, how->model_id, table, err) : HS_OK;
    pthread_mutex_unlock(&all->mutex);
    if (!is_first || status != HS_OK) {
        hs_route_table_free(table);
    }
    return status;
}

/* Examples that a table lacks: of as many adapters as are embedded at once. */
struct missing {
    struct {
        uint64_t entry_id;
        char name[HS_ADAPTER_NAME_SIZE];
        size_t n_texts;
    } items[EMBED_AT_ONCE]; /* [n] */
    size_t n;
    uint64_t table_id;
    struct texts texts; /* of all items */
};

static void clear_missing(struct missing *missing)
{
    clear_texts(&missing->texts);
}

static hs_status add_missing(const struct entry *entry, struct missing *missing,
                             struct hs_error *err)
{
    struct texts *all = &missing->texts;
    char **texts = hs_realloc_array(all->texts, all->n + entry->texts.n, sizeof(*texts));
    if (texts == NULL) {
        return hs_error_nomem(err, "examples of an adapter");
    }
    all->texts = texts;
    for (size_t i = 0; i < entry->texts.n; i++) {
        texts[all->n] = hs_strdup(entry->texts.texts[i]);
        if (texts[all->n] == NULL) {
            return hs_error_nomem(err, "examples of an adapter");
        }
        all->n++;
    }
    missing->items[missing->n].entry_id = entry->id;
    missing->items[missing->n].n_texts = entry->texts.n;
    memcpy(missing->items[missing->n++].name, entry->name, sizeof(entry->name));
    return HS_OK;
}

static hs_status find_missing(const hs_route_examples *all, struct model_table *table,
                              struct missing *missing, struct hs_error *err)
{
    hs_status status = HS_OK;
    missing->table_id = table->id;
    if (table->complete_to == all->last_id) {
        return HS_OK;
    }
    for (size_t i = 0; i < all->n_entries && missing->texts.n < EMBED_AT_ONCE; i++) {
        const struct entry *entry = &all->entries[i];
        if (status == HS_OK && !hs_route_table_has(table->table, entry->name)) {
            status = add_missing(entry, missing, err);
        }
    }
    if (status == HS_OK && missing->n == 0) {
        table->complete_to = all->last_id;
    }
    return status;
}

/* With the mutex held. What was set anew meanwhile is still missing. */
static hs_status take_missing(hs_route_examples *all, struct model_table *table,
                              const struct missing *missing, const struct hs_embeddings *embeddings,
                              struct hs_error *err)
{
    const float *values = embeddings->values;
    hs_status status = HS_OK;
    for (size_t i = 0; i < missing->n && status == HS_OK; i++) {
        const struct entry *entry = find_entry(all, missing->items[i].name);
        size_t n = missing->items[i].n_texts;
        if (entry != NULL && entry->id == missing->items[i].entry_id) {
            status = hs_route_table_set(table->table, entry->name, values, (int32_t)n, err);
        }
        values += n * (size_t)embeddings->n_dims;
    }
    return status;
}

static hs_status embed_missing(hs_route_examples *all, const struct hs_route_embedder *how,
                               const struct missing *missing, struct hs_error *err)
{
    HS_CLEANUP(hs_embeddings_free) struct hs_embeddings embeddings = {0};
    hs_status status = hs_route_embed(how, (const char *const *)missing->texts.texts,
                                      missing->texts.n, &embeddings, err);
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&all->mutex);
    struct model_table *table = find_table(all, how->model_id);
    if (table != NULL && table->id == missing->table_id) {
        status = take_missing(all, table, missing, &embeddings, err);
    }
    pthread_mutex_unlock(&all->mutex);
    return status;
}

/* Bring the table of the model that embeds up to date, some adapters at a time. */
static hs_status complete_table(hs_route_examples *all, const struct hs_route_embedder *how,
                                struct hs_error *err)
{
    HS_CLEANUP(hs_freep) struct missing *missing = hs_calloc(1, sizeof(*missing));
    hs_status status = missing == NULL ? hs_error_nomem(err, "examples of adapters") : HS_OK;
    for (bool is_done = false; status == HS_OK && !is_done;) {
        *missing = (struct missing){0};
        pthread_mutex_lock(&all->mutex);
        struct model_table *table = find_table(all, how->model_id);
        status = table == NULL ? HS_OK : find_missing(all, table, missing, err);
        pthread_mutex_unlock(&all->mutex);
        is_done = table != NULL && missing->n == 0;
        if (status == HS_OK && !is_done) {
            status =
                table == NULL ? make_table(all, how, err) : embed_missing(all, how, missing, err);
        }
        clear_missing(missing);
    }
    return status;
}

/* ---- matching ---- */

bool hs_route_examples_has(hs_route_examples *all, const char *name)
{
    pthread_mutex_lock(&all->mutex);
    bool has = find_entry(all, name) != NULL;
    pthread_mutex_unlock(&all->mutex);
    return has;
}

/* With the mutex held. */
static void keep_names(struct hs_route_found *found)
{
    for (int32_t i = 0; i <= found->matches.n; i++) {
        bool is_best = i == found->matches.n;
        int32_t at = is_best ? HS_ROUTE_MATCHES_MAX : i;
        struct hs_route_match *match = is_best ? &found->matches.best : &found->matches.items[i];
        if (match->name != NULL) {
            snprintf(found->names[at], sizeof(found->names[at]), "%s", match->name);
            match->name = found->names[at];
        }
    }
}

hs_status hs_route_examples_match(hs_route_examples *all, const struct hs_route_embedder *how,
                                  const char *text, double floor,
                                  bool (*is_wanted)(const char *name, void *user), void *user,
                                  struct hs_route_found *found, struct hs_error *err)
{
    HS_CLEANUP(hs_embeddings_free) struct hs_embeddings query = {0};
    hs_status status = complete_table(all, how, err);
    if (status == HS_OK) {
        status = hs_route_embed(how, &text, 1, &query, err);
    }
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&all->mutex);
    const struct model_table *table = find_table(all, how->model_id);
    status = table == NULL ? hs_error_set(err, HS_NOT_FOUND, "model '%s' was unloaded meanwhile",
                                          how->model_id)
                           : hs_route_table_match(table->table, query.values, floor, is_wanted,
                                                  user, &found->matches, err);
    if (status == HS_OK) {
        keep_names(found);
    }
    pthread_mutex_unlock(&all->mutex);
    return status;
}
