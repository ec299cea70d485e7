#include "route_examples.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define TEXT_MAX_BYTES ((size_t)64 << 10)

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
    size_t n_known; /* the first so many entries are in it */
};

struct hs_route_examples {
    pthread_mutex_t mutex; /* guards everything below */
    struct entry *entries; /* [n_entries] */
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

static struct entry *find_entry(const hs_route_examples *all, const char *name)
{
    for (size_t i = 0; i < all->n_entries; i++) {
        if (strcmp(all->entries[i].name, name) == 0) {
            return &all->entries[i];
        }
    }
    return NULL;
}

static void forget(hs_route_examples *all, const char *name)
{
    struct entry *entry = find_entry(all, name);
    if (entry == NULL) {
        return;
    }
    size_t place = (size_t)(entry - all->entries);
    for (size_t i = 0; i < all->n_tables; i++) {
        hs_route_table_remove(all->tables[i].table, name);
        if (all->tables[i].n_known > place) { /* the last entry comes here */
            all->tables[i].n_known = place;
        }
    }
    clear_texts(&entry->texts);
    *entry = all->entries[--all->n_entries];
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
    struct entry *entry = &all->entries[all->n_entries++];
    entry->id = ++all->last_id;
    snprintf(entry->name, sizeof(entry->name), "%s", name);
    entry->texts = *texts;
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
    added->n_known = 0;
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

/* Examples that a table lacks. */
struct missing {
    uint64_t entry_id, table_id;
    char name[HS_ADAPTER_NAME_SIZE];
    struct texts texts; /* none: the table is complete */
};

static void clear_missing(struct missing *missing)
{
    clear_texts(&missing->texts);
}

static hs_status find_missing(const hs_route_examples *all, struct model_table *table,
                              struct missing *missing, struct hs_error *err)
{
    for (; table->n_known < all->n_entries; table->n_known++) {
        const struct entry *entry = &all->entries[table->n_known];
        if (!hs_route_table_has(table->table, entry->name)) {
            missing->entry_id = entry->id;
            missing->table_id = table->id;
            memcpy(missing->name, entry->name, sizeof(missing->name));
            return copy_texts((const char *const *)entry->texts.texts, entry->texts.n,
                              &missing->texts, err);
        }
    }
    return HS_OK;
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
    const struct entry *entry = find_entry(all, missing->name);
    struct model_table *table = find_table(all, how->model_id);
    if (entry != NULL && entry->id == missing->entry_id && table != NULL &&
        table->id == missing->table_id) {
        status = hs_route_table_set(table->table, missing->name, embeddings.values,
                                    (int32_t)missing->texts.n, err);
    }
    pthread_mutex_unlock(&all->mutex);
    return status;
}

/* Bring the table of the model that embeds up to date, adapter by adapter. */
static hs_status complete_table(hs_route_examples *all, const struct hs_route_embedder *how,
                                struct hs_error *err)
{
    for (;;) {
        HS_CLEANUP(clear_missing) struct missing missing = {0};
        pthread_mutex_lock(&all->mutex);
        struct model_table *table = find_table(all, how->model_id);
        hs_status status = table == NULL ? HS_OK : find_missing(all, table, &missing, err);
        pthread_mutex_unlock(&all->mutex);
        if (status == HS_OK && table == NULL) {
            status = make_table(all, how, err);
        } else if (status == HS_OK && missing.texts.n > 0) {
            status = embed_missing(all, how, &missing, err);
        } else {
            return status;
        }
        if (status != HS_OK) {
            return status;
        }
    }
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
