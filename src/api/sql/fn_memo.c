#include "fn_memo.h"

#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"

#define FIRST_BUCKETS 1024
#define WAIT_NS 50000000 /* between two looks whether the statement was interrupted */

void *hs_fn_memo_new(void *user)
{
    (void)user;
    struct hs_fn_memo *memo = hs_calloc(1, sizeof *memo);
    struct hs_fn_entry **buckets = hs_calloc(FIRST_BUCKETS, sizeof(struct hs_fn_entry *));
    if (memo == NULL || buckets == NULL) {
        hs_free(memo);
        hs_free(buckets);
        return NULL;
    }
    memo->buckets = buckets;
    memo->n_buckets = FIRST_BUCKETS;
    pthread_mutex_init(&memo->mutex, NULL);
    pthread_mutex_init(&memo->session_mutex, NULL);
    pthread_cond_init(&memo->changed, NULL);
    return memo;
}

void hs_fn_entry_free(struct hs_fn_entry *entry)
{
    if (entry != NULL) {
        hs_free(entry->error);
        hs_free(entry->text);
        hs_free(entry->values);
        hs_free(entry);
    }
}

void hs_fn_memo_free(void *user)
{
    struct hs_fn_memo *memo = user;
    if (memo == NULL) {
        return;
    }
    for (size_t i = 0; i < memo->n_buckets; i++) {
        while (memo->buckets[i] != NULL) {
            struct hs_fn_entry *entry = memo->buckets[i];
            memo->buckets[i] = entry->next;
            hs_fn_entry_free(entry);
        }
    }
    while (memo->targets != NULL) {
        struct hs_fn_target *target = memo->targets;
        memo->targets = target->next;
        hs_fn_target_free(target);
    }
    hs_free(memo->buckets);
    pthread_cond_destroy(&memo->changed);
    pthread_mutex_destroy(&memo->session_mutex);
    pthread_mutex_destroy(&memo->mutex);
    hs_free(memo);
}

/* ---- targets ---- */

hs_status hs_fn_memo_target(struct hs_fn_memo *memo, const struct hs_sql_host *host,
                            const json_t *options, const char *schema,
                            const struct hs_fn_target **ret_target, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *key = hs_fn_target_key(options, schema);
    if (key == NULL) {
        return hs_error_nomem(err, "options");
    }
    /* Held while a model loads, too: other threads of the statement want the same one. */
    pthread_mutex_lock(&memo->mutex);
    struct hs_fn_target *target = memo->targets;
    while (target != NULL && strcmp(target->options, key) != 0) {
        target = target->next;
    }
    hs_status status = HS_OK;
    if (target == NULL) {
        status = hs_fn_target_new(host, options, schema, &target, err);
        if (status == HS_OK) {
            target->next = memo->targets;
            memo->targets = target;
        }
    }
    pthread_mutex_unlock(&memo->mutex);
    if (status == HS_OK) {
        *ret_target = target;
    }
    return status;
}

/* ---- entries ---- */

/* FNV-1a, 64 bits. */
static uint64_t hash_of(enum hs_fn_kind kind, const struct hs_fn_target *target, const void *input,
                        size_t len)
{
    uint64_t hash = 14695981039346656037u ^ (uint64_t)kind ^ (uint64_t)(uintptr_t)target;
    const uint8_t *bytes = input;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211u;
    }
    return hash;
}

/* Twice as many buckets; without the memory for them it goes on with those there are. */
static void grow(struct hs_fn_memo *memo)
{
    size_t n = 2 * memo->n_buckets;
    struct hs_fn_entry **buckets = hs_calloc(n, sizeof(struct hs_fn_entry *));
    if (buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < memo->n_buckets; i++) {
        while (memo->buckets[i] != NULL) {
            struct hs_fn_entry *entry = memo->buckets[i];
            memo->buckets[i] = entry->next;
            entry->next = buckets[entry->hash % n];
            buckets[entry->hash % n] = entry;
        }
    }
    hs_free(memo->buckets);
    memo->buckets = buckets;
    memo->n_buckets = n;
}

static struct hs_fn_entry *look_up(const struct hs_fn_memo *memo, const struct hs_fn_entry *wanted,
                                   const void *input)
{
    struct hs_fn_entry *entry = memo->buckets[wanted->hash % memo->n_buckets];
    while (entry != NULL &&
           (entry->hash != wanted->hash || entry->kind != wanted->kind ||
            entry->target != wanted->target || entry->input_len != wanted->input_len ||
            memcmp(entry->input, input, entry->input_len) != 0)) {
        entry = entry->next;
    }
    return entry;
}

static struct hs_fn_entry *add(struct hs_fn_memo *memo, const struct hs_fn_entry *wanted,
                               const void *input)
{
    struct hs_fn_entry *entry = hs_alloc(sizeof *entry + wanted->input_len);
    if (entry == NULL) {
        return NULL;
    }
    *entry = *wanted;
    memcpy(entry->input, input, wanted->input_len);
    entry->is_kept = memo->bytes < HS_FN_MEMO_BYTES_MAX;
    if (!entry->is_kept) {
        return entry;
    }
    memo->bytes += sizeof *entry + entry->input_len;
    if (++memo->n_entries > memo->n_buckets) {
        grow(memo);
    }
    entry->next = memo->buckets[entry->hash % memo->n_buckets];
    memo->buckets[entry->hash % memo->n_buckets] = entry;
    return entry;
}

hs_status hs_fn_memo_find(struct hs_fn_memo *memo, enum hs_fn_kind kind,
                          const struct hs_fn_target *target, const void *input, size_t input_len,
                          struct hs_fn_entry **ret_entry, bool *ret_is_new, struct hs_error *err)
{
    const struct hs_fn_entry wanted = {.kind = kind,
                                       .target = target,
                                       .hash = hash_of(kind, target, input, input_len),
                                       .input_len = input_len};
    pthread_mutex_lock(&memo->mutex);
    struct hs_fn_entry *entry = look_up(memo, &wanted, input);
    *ret_is_new = entry == NULL;
    if (entry == NULL) {
        entry = add(memo, &wanted, input);
    } else if (entry->state == HS_FN_LEFT) {
        entry->state = HS_FN_RUNNING;
        *ret_is_new = true;
    }
    pthread_mutex_unlock(&memo->mutex);
    *ret_entry = entry;
    return entry == NULL ? hs_error_nomem(err, "an answer") : HS_OK;
}

void hs_fn_memo_set(struct hs_fn_memo *memo, struct hs_fn_entry *entry, enum hs_fn_state state)
{
    pthread_mutex_lock(&memo->mutex);
    entry->state = state;
    if (entry->is_kept) {
        memo->bytes += entry->text_len + (size_t)entry->n_values * sizeof(float);
    }
    pthread_cond_broadcast(&memo->changed);
    pthread_mutex_unlock(&memo->mutex);
}

enum hs_fn_state hs_fn_memo_wait(struct hs_fn_memo *memo, struct hs_fn_entry *entry)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&memo->mutex);
    if (entry->state == HS_FN_RUNNING) {
        pthread_cond_timedwait(&memo->changed, &memo->mutex, &until);
    }
    enum hs_fn_state state = entry->state;
    if (state == HS_FN_LEFT) {
        entry->state = HS_FN_RUNNING;
    }
    pthread_mutex_unlock(&memo->mutex);
    return state;
}
