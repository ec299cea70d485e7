#include "lora_router.h"

#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/route_table.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#define TEXT_MAX_BYTES ((size_t)64 << 10)
#define TOKENS_MAX 512 /* of a text; what it is about shows by then */
#define EMBED_AT_ONCE 64

static const char *const background[] = {
#define HS_BACKGROUND(text) text,
#include "route_background.def"
};
#define N_BACKGROUND (sizeof(background) / sizeof(background[0]))

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
};

struct hs_lora_router {
    pthread_mutex_t mutex; /* guards everything below */
    struct entry *entries; /* [n_entries] */
    size_t n_entries, cap_entries;
    struct model_table *tables; /* [n_tables] */
    size_t n_tables;
    uint64_t last_id;
};

void hs_route_params_defaults(struct hs_route_params *params)
{
    *params = (struct hs_route_params){.max_adapters = 1, .scale = 1};
}

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

hs_status hs_lora_router_new(hs_lora_router **ret_router, struct hs_error *err)
{
    hs_lora_router *router = hs_calloc(1, sizeof(*router));
    if (router == NULL) {
        return hs_error_nomem(err, "router");
    }
    int rc = pthread_mutex_init(&router->mutex, NULL);
    if (rc != 0) {
        hs_free(router);
        return hs_error_set(err, hs_status_from_errno(rc), "cannot make a lock: %s", strerror(rc));
    }
    *ret_router = router;
    return HS_OK;
}

void hs_lora_router_free(hs_lora_router *router)
{
    if (router == NULL) {
        return;
    }
    for (size_t i = 0; i < router->n_entries; i++) {
        clear_texts(&router->entries[i].texts);
    }
    for (size_t i = 0; i < router->n_tables; i++) {
        hs_route_table_free(router->tables[i].table);
    }
    hs_free(router->entries);
    hs_free(router->tables);
    pthread_mutex_destroy(&router->mutex);
    hs_free(router);
}

/* ---- texts ---- */

static struct entry *find_entry(const hs_lora_router *router, const char *name)
{
    for (size_t i = 0; i < router->n_entries; i++) {
        if (strcmp(router->entries[i].name, name) == 0) {
            return &router->entries[i];
        }
    }
    return NULL;
}

static void forget(hs_lora_router *router, const char *name)
{
    struct entry *entry = find_entry(router, name);
    if (entry == NULL) {
        return;
    }
    for (size_t i = 0; i < router->n_tables; i++) {
        hs_route_table_remove(router->tables[i].table, name);
    }
    clear_texts(&entry->texts);
    *entry = router->entries[--router->n_entries];
}

static hs_status add_entry(hs_lora_router *router, const char *name, struct texts *texts,
                           struct hs_error *err)
{
    if (router->n_entries == router->cap_entries) {
        size_t cap = router->cap_entries == 0 ? 16 : router->cap_entries * 2;
        struct entry *entries = hs_realloc_array(router->entries, cap, sizeof(*entries));
        if (entries == NULL) {
            return hs_error_nomem(err, "examples of an adapter");
        }
        router->entries = entries;
        router->cap_entries = cap;
    }
    struct entry *entry = &router->entries[router->n_entries++];
    entry->id = ++router->last_id;
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

hs_status hs_lora_router_set(hs_lora_router *router, const char *name, const char *const *texts,
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
    pthread_mutex_lock(&router->mutex);
    forget(router, name);
    if (n_texts > 0) {
        status = add_entry(router, name, &copy, err);
    }
    pthread_mutex_unlock(&router->mutex);
    return status;
}

void hs_lora_router_forget_adapter(hs_lora_router *router, const char *name)
{
    pthread_mutex_lock(&router->mutex);
    forget(router, name);
    pthread_mutex_unlock(&router->mutex);
}

void hs_lora_router_forget_model(hs_lora_router *router, const char *model_id)
{
    pthread_mutex_lock(&router->mutex);
    for (size_t i = 0; i < router->n_tables; i++) {
        if (strcmp(router->tables[i].model_id, model_id) == 0) {
            hs_route_table_free(router->tables[i].table);
            router->tables[i] = router->tables[--router->n_tables];
            break;
        }
    }
    pthread_mutex_unlock(&router->mutex);
}

/* ---- embedding ---- */

struct embeddings {
    float *values; /* [n, n_dims] */
    int32_t n_dims;
};

static void clear_embeddings(struct embeddings *embeddings)
{
    hs_free(embeddings->values);
    *embeddings = (struct embeddings){0};
}

/* One call of route: who asks, of which model, until when. */
struct call {
    hs_engine *engine;
    const char *model_id;  /* the one that embeds */
    double deadline_at_ms; /* 0: none */
};

static hs_status take_embeddings(hs_stream *stream, size_t first, size_t n_all,
                                 struct embeddings *out, struct hs_error *err)
{
    for (;;) {
        struct hs_event event;
        hs_status status = hs_stream_next(stream, -1, &event, err);
        if (status != HS_OK) {
            return status;
        }
        if (event.type == HS_EVENT_DONE) {
            if (event.error.status != HS_OK && err != NULL) {
                *err = event.error;
            }
            return event.error.status;
        }
        if (event.type != HS_EVENT_EMBEDDING) {
            continue;
        }
        if (out->values == NULL) {
            out->n_dims = event.n_values;
            out->values = hs_calloc(n_all * (size_t)event.n_values, sizeof(float));
            if (out->values == NULL) {
                return hs_error_nomem(err, "embeddings");
            }
        }
        memcpy(out->values + (first + (size_t)event.index) * (size_t)out->n_dims, event.values,
               (size_t)out->n_dims * sizeof(float));
    }
}

static hs_status embed_some(const struct call *call, const char *const *texts, size_t first,
                            size_t n, size_t n_all, struct embeddings *out, struct hs_error *err)
{
    struct hs_embed_input inputs[EMBED_AT_ONCE] = {0};
    int32_t *tokens[EMBED_AT_ONCE] = {0};
    struct hs_embed_params params;
    hs_embed_params_defaults(&params);
    params.truncate = true;
    hs_status status = HS_OK;
    if (call->deadline_at_ms > 0) {
        double left_ms = call->deadline_at_ms - hs_clock_ms();
        params.deadline_ms = left_ms < 1 ? 1 : (int64_t)left_ms;
    }
    for (size_t i = 0; status == HS_OK && i < n; i++) {
        size_t n_tokens = 0;
        status =
            hs_engine_tokenize(call->engine, call->model_id, texts[first + i],
                               strlen(texts[first + i]), true, false, &tokens[i], &n_tokens, err);
        n_tokens = n_tokens < TOKENS_MAX ? n_tokens : TOKENS_MAX;
        inputs[i] = (struct hs_embed_input){tokens[i], n_tokens};
    }
    hs_stream *stream = NULL;
    if (status == HS_OK) {
        status = hs_engine_embed(call->engine, call->model_id, inputs, n, &params, &stream, err);
    }
    if (status == HS_OK) {
        status = take_embeddings(stream, first, n_all, out, err);
    }
    hs_stream_free(stream);
    for (size_t i = 0; i < n; i++) {
        hs_tokens_free(tokens[i]);
    }
    return status;
}

static hs_status embed(const struct call *call, const char *const *texts, size_t n,
                       struct embeddings *out, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t first = 0; status == HS_OK && first < n; first += EMBED_AT_ONCE) {
        size_t n_now = n - first < EMBED_AT_ONCE ? n - first : EMBED_AT_ONCE;
        status = embed_some(call, texts, first, n_now, n, out, err);
    }
    return status;
}

/* ---- tables ---- */

static struct model_table *find_table(const hs_lora_router *router, const char *model_id)
{
    for (size_t i = 0; i < router->n_tables; i++) {
        if (strcmp(router->tables[i].model_id, model_id) == 0) {
            return &router->tables[i];
        }
    }
    return NULL;
}

/* Takes the table over when it succeeds. */
static hs_status add_table(hs_lora_router *router, const char *model_id, hs_route_table *table,
                           struct hs_error *err)
{
    struct model_table *tables =
        hs_realloc_array(router->tables, router->n_tables + 1, sizeof(*tables));
    if (tables == NULL) {
        return hs_error_nomem(err, "routing table");
    }
    router->tables = tables;
    struct model_table *added = &router->tables[router->n_tables++];
    added->id = ++router->last_id;
    snprintf(added->model_id, sizeof(added->model_id), "%s", model_id);
    added->table = table;
    return HS_OK;
}

static hs_status make_table(hs_lora_router *router, const struct call *call, struct hs_error *err)
{
    HS_CLEANUP(clear_embeddings) struct embeddings embeddings = {0};
    hs_route_table *table = NULL;
    hs_status status = embed(call, background, N_BACKGROUND, &embeddings, err);
    if (status == HS_OK) {
        status = hs_route_table_new(embeddings.n_dims, embeddings.values, (int32_t)N_BACKGROUND,
                                    &table, err);
    }
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&router->mutex);
    bool is_first = find_table(router, call->model_id) == NULL;
    status = is_first ? add_table(router, call->model_id, table, err) : HS_OK;
    pthread_mutex_unlock(&router->mutex);
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

static hs_status find_missing(const hs_lora_router *router, const struct model_table *table,
                              struct missing *missing, struct hs_error *err)
{
    for (size_t i = 0; i < router->n_entries; i++) {
        const struct entry *entry = &router->entries[i];
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

static hs_status embed_missing(hs_lora_router *router, const struct call *call,
                               const struct missing *missing, struct hs_error *err)
{
    HS_CLEANUP(clear_embeddings) struct embeddings embeddings = {0};
    hs_status status =
        embed(call, (const char *const *)missing->texts.texts, missing->texts.n, &embeddings, err);
    if (status != HS_OK) {
        return status;
    }
    pthread_mutex_lock(&router->mutex);
    const struct entry *entry = find_entry(router, missing->name);
    struct model_table *table = find_table(router, call->model_id);
    if (entry != NULL && entry->id == missing->entry_id && table != NULL &&
        table->id == missing->table_id) {
        status = hs_route_table_set(table->table, missing->name, embeddings.values,
                                    (int32_t)missing->texts.n, err);
    }
    pthread_mutex_unlock(&router->mutex);
    return status;
}

/* Bring the table of the model that embeds up to date, adapter by adapter. */
static hs_status complete_table(hs_lora_router *router, const struct call *call,
                                struct hs_error *err)
{
    for (;;) {
        HS_CLEANUP(clear_missing) struct missing missing = {0};
        pthread_mutex_lock(&router->mutex);
        const struct model_table *table = find_table(router, call->model_id);
        hs_status status = table == NULL ? HS_OK : find_missing(router, table, &missing, err);
        pthread_mutex_unlock(&router->mutex);
        if (status == HS_OK && table == NULL) {
            status = make_table(router, call, err);
        } else if (status == HS_OK && missing.texts.n > 0) {
            status = embed_missing(router, call, &missing, err);
        } else {
            return status;
        }
        if (status != HS_OK) {
            return status;
        }
    }
}

/* ---- choosing ---- */

/* The adapters that a choice may name, by name. */
struct candidates {
    struct hs_adapter_info *infos;
    size_t n;
};

static void clear_candidates(struct candidates *candidates)
{
    hs_adapter_infos_free(candidates->infos);
}

static int compare_name(const void *name, const void *info)
{
    return strcmp(name, ((const struct hs_adapter_info *)info)->name);
}

static bool is_candidate(const char *name, void *user)
{
    const struct candidates *candidates = user;
    return candidates->n > 0 && bsearch(name, candidates->infos, candidates->n,
                                        sizeof(candidates->infos[0]), compare_name) != NULL;
}

static hs_status check_params(const struct hs_route_params *params, struct hs_error *err)
{
    if (params->max_adapters < 1 || params->max_adapters > HS_ROUTE_MAX) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "max_adapters is %d; it must be 1 to %d",
                            params->max_adapters, HS_ROUTE_MAX);
    }
    if (!(params->scale >= -100 && params->scale <= 100)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "the scale of routed adapters is %g; it must be -100 to 100",
                            (double)params->scale);
    }
    return HS_OK;
}

static hs_status rule_matches(const struct hs_route_rule *rule, const char *text, bool *ret_matches,
                              struct hs_error *err)
{
    regex_t regex;
    int rc = regcomp(&regex, rule->pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB);
    if (rc != 0) {
        char why[100];
        regerror(rc, &regex, why, sizeof(why));
        hs_error_set(err, HS_INVALID_ARGUMENT, "the pattern '%.100s' of a rule does not parse: %s",
                     rule->pattern, why);
        hs_error_hint(err, "write a POSIX extended regular expression");
        return HS_INVALID_ARGUMENT;
    }
    *ret_matches = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return HS_OK;
}

static hs_status take_rule(const struct hs_route_rule *rule, const struct candidates *candidates,
                           struct hs_route *route, struct hs_error *err)
{
    if (rule->n_adapters > HS_ROUTE_MAX) {
        return hs_error_set(err, HS_LIMIT, "a rule names %d adapters; the limit is %d",
                            rule->n_adapters, HS_ROUTE_MAX);
    }
    for (int32_t i = 0; i < rule->n_adapters; i++) {
        const struct hs_adapter_ref *ref = &rule->adapters[i];
        if (!is_candidate(ref->name, (void *)candidates)) {
            hs_error_set(
                err, HS_NOT_FOUND,
                "the rule '%.60s' names adapter '%.64s', which is not there for this model",
                rule->pattern, ref->name);
            return hs_error_hint(err, "add it with `hyprstream adapter add`, or change the rule");
        }
        struct hs_route_choice *choice = &route->choices[route->n_choices++];
        snprintf(choice->name, sizeof(choice->name), "%s", ref->name);
        choice->scale = ref->scale;
    }
    snprintf(route->reason, sizeof(route->reason), "the rule '%.200s' matches", rule->pattern);
    return HS_OK;
}

static void give_reason(struct hs_route *route)
{
    size_t size = sizeof(route->reason);
    if (route->closest[0] == '\0') {
        snprintf(route->reason, size, "no adapter of this model has examples");
    } else if (route->n_choices == 0) {
        snprintf(route->reason, size,
                 "nothing is close enough: '%s' is at %.3f, other texts are at %.3f",
                 route->closest, (double)route->closeness, (double)route->background);
    } else {
        snprintf(route->reason, size,
                 "closest to the examples of '%s': %.3f, other texts are at %.3f", route->closest,
                 (double)route->closeness, (double)route->background);
    }
}

static hs_status choose(hs_lora_router *router, const struct call *call, const char *text,
                        const struct hs_route_params *params, struct candidates *candidates,
                        struct hs_route *route, struct hs_error *err)
{
    HS_CLEANUP(clear_embeddings) struct embeddings query = {0};
    hs_status status = complete_table(router, call, err);
    if (status == HS_OK) {
        status = embed(call, &text, 1, &query, err);
    }
    if (status != HS_OK) {
        return status;
    }
    struct hs_route_match matches[HS_ROUTE_MAX], best = {0};
    double background_closeness = 0;
    int32_t n = 0;
    pthread_mutex_lock(&router->mutex);
    const struct model_table *table = find_table(router, call->model_id);
    if (table == NULL) {
        status =
            hs_error_set(err, HS_NOT_FOUND, "model '%s' was unloaded meanwhile", call->model_id);
    } else {
        status = hs_route_table_match(table->table, query.values, is_candidate, candidates,
                                      params->max_adapters, matches, &n, &best,
                                      &background_closeness, err);
    }
    for (int32_t i = 0; status == HS_OK && i < n; i++) {
        struct hs_route_choice *choice = &route->choices[route->n_choices++];
        snprintf(choice->name, sizeof(choice->name), "%s", matches[i].name);
        choice->scale = (float)(matches[i].weight * (double)params->scale);
        choice->closeness = (float)matches[i].closeness;
    }
    if (status == HS_OK && best.name != NULL) {
        snprintf(route->closest, sizeof(route->closest), "%s", best.name);
        route->closeness = (float)best.closeness;
    }
    pthread_mutex_unlock(&router->mutex);
    route->background = (float)background_closeness;
    give_reason(route);
    return status;
}

hs_status hs_lora_router_route(hs_lora_router *router, hs_engine *engine, const char *model_id,
                               const char *text, const struct hs_route_params *params,
                               struct hs_route *ret_route, struct hs_error *err)
{
    hs_status status = check_params(params, err);
    HS_CLEANUP(clear_candidates) struct candidates candidates = {0};
    if (status == HS_OK) {
        status = hs_engine_list_adapters(engine, model_id, &candidates.infos, &candidates.n, err);
    }
    struct hs_route route = {0};
    bool is_ruled = false;
    for (int32_t i = 0; status == HS_OK && !is_ruled && i < params->n_rules; i++) {
        status = rule_matches(&params->rules[i], text, &is_ruled, err);
        if (status == HS_OK && is_ruled) {
            status = take_rule(&params->rules[i], &candidates, &route, err);
        }
    }
    if (status == HS_OK && !is_ruled) {
        struct call call = {
            .engine = engine,
            .model_id = params->embed_model_id != NULL ? params->embed_model_id : model_id,
            .deadline_at_ms =
                params->deadline_ms > 0 ? hs_clock_ms() + (double)params->deadline_ms : 0,
        };
        status = choose(router, &call, text, params, &candidates, &route, err);
    }
    if (status == HS_OK) {
        *ret_route = route;
    }
    return status;
}
