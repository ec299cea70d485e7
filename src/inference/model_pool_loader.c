/* model_pool_loader.c - the thread of a model pool: who loads next, who leaves for it. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "model_loader.h"
#include "model_pool.h"

#define NS_PER_MS 1000000
#define RETRY_MS 5 /* a request that was cancelled still has its step */
/* Sessions are open on it: nobody waits, or there is no telling when they end. */
#define RETRY_LATER_MS 1000

enum action_kind { ACTION_NONE = 0, ACTION_ESTIMATE, ACTION_LOAD, ACTION_UNLOAD };

struct action {
    enum action_kind kind;
    struct hs_pool_member *member;
    int64_t deadline_ns; /* of ACTION_NONE: plan again then */
};

/* ---- memory ---- */

static bool is_loaded(const struct hs_pool_member *member)
{
    return member->state == HS_MODEL_POOL_READY || member->state == HS_MODEL_POOL_LEAVING;
}

static bool is_resident(const struct hs_pool_member *member)
{
    return is_loaded(member) || member->state == HS_MODEL_POOL_LOADING;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Mapped pages of one file are there once. */
static bool shares_file(const struct hs_pool_member *a, const struct hs_pool_member *b)
{
    return a->params.use_mmap && b->params.use_mmap && a->inode != 0 && a->inode == b->inode &&
           a->device == b->device;
}

/* As measured, what came after the load included; until then as estimated. */
static struct hs_memory memory_of(const hs_model_pool *pool, const struct hs_pool_member *member)
{
    struct hs_model_info info;
    if (member->state == HS_MODEL_POOL_READY &&
        hs_engine_model_info(pool->engine, member->id, &info, NULL) == HS_OK) {
        return info.memory;
    }
    if (is_loaded(member)) {
        return member->info.memory;
    }
    return (struct hs_memory){.weights_bytes = member->need.weights_bytes,
                              .kv_bytes = member->need.kv_bytes,
                              .compute_bytes = member->need.compute_bytes};
}

/* What a member adds to the first n of the list that are resident. */
static uint64_t charge(const hs_model_pool *pool, const struct hs_pool_member *member, size_t n)
{
    struct hs_memory memory = memory_of(pool, member);
    bool is_shared = false;
    for (size_t i = 0; i < n && !is_shared; i++) {
        const struct hs_pool_member *other = pool->members[i];
        is_shared = other != member && is_resident(other) && shares_file(other, member);
    }
    return memory.kv_bytes + memory.compute_bytes + (is_shared ? 0 : memory.weights_bytes);
}

uint64_t hs_pool_used(const hs_model_pool *pool)
{
    uint64_t used = 0;
    for (size_t i = 0; i < pool->n_members; i++) {
        used += is_resident(pool->members[i]) ? charge(pool, pool->members[i], i) : 0;
    }
    return used;
}

/* What can never leave. */
static uint64_t pinned_bytes(const hs_model_pool *pool)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < pool->n_members; i++) {
        const struct hs_pool_member *member = pool->members[i];
        bytes += member->is_pinned && is_resident(member) ? charge(pool, member, i) : 0;
    }
    return bytes;
}

/* ---- who leaves ---- */

static bool may_leave(const struct hs_pool_member *member)
{
    return member->state == HS_MODEL_POOL_READY && !member->is_pinned && !member->is_leaving_asked;
}

/* Unused ones first, of them the least valuable; NULL: none is left. */
static struct hs_pool_member *least_valuable(const hs_model_pool *pool)
{
    struct hs_pool_member *least = NULL;
    for (size_t i = 0; i < pool->n_members; i++) {
        struct hs_pool_member *member = pool->members[i];
        if (!may_leave(member)) {
            continue;
        }
        bool is_used = member->n_granted > 0, is_least_used = least != NULL && least->n_granted > 0;
        if (least == NULL || is_used < is_least_used ||
            (is_used == is_least_used && member->value < least->value)) {
            least = member;
        }
    }
    return least;
}

/* ---- planning, with the mutex held ---- */

/* The one that has waited longest; those nobody waits for any more are cold again. */
static struct hs_pool_member *head_of(hs_model_pool *pool)
{
    struct hs_pool_member *head = NULL;
    for (size_t i = 0; i < pool->n_members; i++) {
        struct hs_pool_member *member = pool->members[i];
        if (member->state != HS_MODEL_POOL_WAITING) {
            continue;
        }
        if (member->n_waiting == 0) {
            member->state = HS_MODEL_POOL_COLD;
        } else if (head == NULL || member->turn < head->turn) {
            head = member;
        }
    }
    return head;
}

static void act_by(struct action *action, int64_t ns)
{
    action->deadline_ns = ns < action->deadline_ns ? ns : action->deadline_ns;
}

/* Unload it now, if that can be. */
static void plan_unload(struct action *action, struct hs_pool_member *member, int64_t now)
{
    if (member->n_granted > 0 || action->kind != ACTION_NONE) {
        return;
    }
    if (member->retry_ns > now) {
        act_by(action, member->retry_ns);
    } else {
        action->kind = ACTION_UNLOAD;
        action->member = member;
    }
}

/* Mark those that must leave for the head. */
static void plan_load(hs_model_pool *pool, struct hs_pool_member *head, int64_t now,
                      struct action *action)
{
    uint64_t room = minus(pool->params.budget_bytes, hs_pool_used(pool));
    uint64_t need = charge(pool, head, pool->n_members);
    bool has_room = need <= room;
    while (need > room) {
        struct hs_pool_member *member = least_valuable(pool);
        if (member == NULL) { /* pinned ones have grown: it may need less, or not fit at all */
            head->need = (struct hs_rt_memory){0};
            break;
        }
        member->is_leaving_asked = true;
        room += charge(pool, member, pool->n_members);
        plan_unload(action, member, now);
    }
    if (has_room) {
        *action = (struct action){.kind = ACTION_LOAD, .member = head};
    }
}

static struct action plan(hs_model_pool *pool)
{
    struct action action = {.deadline_ns = INT64_MAX};
    int64_t now = hs_clock_ns();
    for (size_t i = 0; i < pool->n_members; i++) {
        pool->members[i]->is_leaving_asked = pool->members[i]->leave_by_ns != 0;
    }
    for (size_t i = 0; i < pool->n_members; i++) {
        struct hs_pool_member *member = pool->members[i];
        if (member->state == HS_MODEL_POOL_READY && member->leave_by_ns != 0) {
            plan_unload(&action, member, now);
        }
    }
    if (action.kind != ACTION_NONE) {
        return action;
    }
    struct hs_pool_member *head = head_of(pool);
    bool is_known = head != NULL && head->need.weights_bytes + head->need.compute_bytes > 0;
    if (head != NULL && !is_known) {
        return (struct action){.kind = ACTION_ESTIMATE, .member = head};
    }
    if (head != NULL) {
        plan_load(pool, head, now, &action);
    }
    for (size_t i = 0; i < pool->n_members; i++) {
        struct hs_pool_member *member = pool->members[i];
        if (member->state != HS_MODEL_POOL_READY) {
            continue;
        }
        int64_t expires = hs_pool_expires_ns(member);
        if (expires <= now) {
            plan_unload(&action, member, now);
        } else {
            act_by(&action, expires);
        }
        if (!member->is_leaving_asked && member->n_waiting > 0) {
            hs_pool_grant(member);
            pthread_cond_broadcast(&pool->changed);
        }
    }
    return action;
}

/* ---- doing, called with the mutex held, which is free meanwhile ---- */

static void fail(hs_model_pool *pool, struct hs_pool_member *member, const struct hs_error *failure)
{
    member->failure = *failure;
    member->state = HS_MODEL_POOL_COLD;
    member->need = (struct hs_rt_memory){0};
    hs_log(HS_LOG_WARN, "models", "model '%s' was not loaded: %s", member->id, failure->message);
    hs_pool_fail(member, failure);
    pthread_cond_broadcast(&pool->changed);
}

static struct hs_model_load load_of(const hs_model_pool *pool, const struct hs_pool_member *member,
                                    const struct hs_model_params *params)
{
    return (struct hs_model_load){.rt = pool->engine->rt,
                                  .path = member->path,
                                  .params = params,
                                  .engine = &pool->engine->params};
}

/* The head keeps its place: it is WAITING, and cannot be removed as long as leases name it. */
static void estimate(hs_model_pool *pool, struct hs_pool_member *member)
{
    struct hs_model_params params = member->params;
    uint64_t pinned = pinned_bytes(pool);
    params.limit_bytes = minus(pool->params.budget_bytes, pinned);
    params.limit_bytes += params.limit_bytes == 0; /* 0 is no limit */
    struct hs_model_load load = load_of(pool, member, &params);
    member->state = HS_MODEL_POOL_LOADING; /* so that nobody removes it */
    member->progress = 0;
    pthread_mutex_unlock(&pool->mutex);
    struct hs_rt_memory memory = {0};
    struct hs_error err;
    hs_status status = hs_model_estimate(&load, &memory, &err);
    struct stat stat_buf = {0};
    bool is_file = status == HS_OK && stat(load.path, &stat_buf) == 0;
    pthread_mutex_lock(&pool->mutex);
    if (status != HS_OK) {
        fail(pool, member, &err);
        return;
    }
    member->need = memory;
    member->need.compute_bytes += memory.compute_bytes == 0; /* known, even of an empty one */
    member->device = is_file ? stat_buf.st_dev : 0;
    member->inode = is_file ? stat_buf.st_ino : 0;
    member->state = HS_MODEL_POOL_WAITING;
}

struct loading {
    hs_model_pool *pool;
    struct hs_pool_member *member;
};

static bool load_progress(float fraction, void *user)
{
    struct loading *loading = user;
    pthread_mutex_lock(&loading->pool->mutex);
    loading->member->progress = fraction;
    bool goes_on = loading->member->n_waiting > 0 && !loading->pool->is_stopping;
    pthread_mutex_unlock(&loading->pool->mutex);
    return goes_on;
}

/* The machine has less room than the budget: whether an unused one can make some. */
static bool make_room(hs_model_pool *pool)
{
    int64_t now = hs_clock_ns();
    struct hs_pool_member *least = least_valuable(pool);
    if (least == NULL || least->n_granted > 0 || least->retry_ns > now) {
        return false;
    }
    least->leave_by_ns = now + RETRY_LATER_MS * NS_PER_MS;
    return true;
}

/* Somebody may have asked for it meanwhile. */
static void rest(struct hs_pool_member *member)
{
    member->state = member->n_waiting > 0 ? HS_MODEL_POOL_WAITING : HS_MODEL_POOL_COLD;
}

static void end_load(hs_model_pool *pool, struct hs_pool_member *member, hs_status status,
                     const struct hs_error *failure)
{
    if (status == HS_OK) {
        member->state = HS_MODEL_POOL_READY;
        member->failure = (struct hs_error){.status = HS_OK};
        member->unused_ns = hs_clock_ns();
        member->n_loads++;
        member->n_uses_now = 0;
        hs_pool_grant(member);
        pthread_cond_broadcast(&pool->changed);
    } else if (status == HS_CANCELLED || (status == HS_MODEL_TOO_LARGE && make_room(pool))) {
        rest(member);
    } else {
        fail(pool, member, failure);
    }
}

static void load(hs_model_pool *pool, struct hs_pool_member *member)
{
    struct loading loading = {pool, member};
    struct hs_model_params params = member->params;
    params.limit_bytes = minus(pool->params.budget_bytes, hs_pool_used(pool));
    /* what it shares is counted with the other */
    uint64_t need = member->need.weights_bytes + member->need.kv_bytes + member->need.compute_bytes;
    params.limit_bytes = params.limit_bytes < need ? need : params.limit_bytes;
    params.progress = load_progress;
    params.progress_user = &loading;
    member->state = HS_MODEL_POOL_LOADING;
    member->progress = 0;
    pthread_mutex_unlock(&pool->mutex);
    struct hs_error err;
    char id[HS_ID_MAX];
    double start = hs_clock_ms();
    hs_status status =
        hs_engine_load_model(pool->engine, member->path, member->id, &params, id, &err);
    double load_ms = hs_clock_ms() - start;
    if (status == HS_OK) {
        /* nobody unloads it but this thread */
        status = hs_engine_model_info(pool->engine, id, &member->info, &err);
    }
    if (status == HS_OK && pool->params.loaded != NULL) {
        pool->params.loaded(pool->params.user, &member->info);
    }
    pthread_mutex_lock(&pool->mutex);
    member->load_ms = status == HS_OK ? load_ms : member->load_ms;
    end_load(pool, member, status, &err);
}

static void unload(hs_model_pool *pool, struct hs_pool_member *member)
{
    bool makes_room = member->is_leaving_asked && member->leave_by_ns == 0;
    member->state = HS_MODEL_POOL_LEAVING;
    pthread_mutex_unlock(&pool->mutex);
    struct hs_error err;
    hs_status status = hs_engine_unload_model(pool->engine, member->id, &err);
    if (status == HS_OK && pool->params.unloaded != NULL) {
        pool->params.unloaded(pool->params.user, member->id);
    }
    pthread_mutex_lock(&pool->mutex);
    int64_t now = hs_clock_ns();
    if (status == HS_OK) {
        pool->floor = makes_room && member->value > pool->floor ? member->value : pool->floor;
        member->leave_by_ns = 0;
        member->turn = ++pool->last_turn;
        rest(member);
    } else {
        member->state = HS_MODEL_POOL_READY;
        bool is_urgent = makes_room || member->leave_by_ns > now;
        member->retry_ns = now + (int64_t)(is_urgent ? RETRY_MS : RETRY_LATER_MS) * NS_PER_MS;
        member->leave_by_ns = is_urgent ? member->leave_by_ns : 0;
    }
    pthread_cond_broadcast(&pool->changed);
}

static void wait_for_work(hs_model_pool *pool, int64_t deadline_ns)
{
    if (deadline_ns == INT64_MAX) {
        pthread_cond_wait(&pool->work, &pool->mutex);
        return;
    }
    struct timespec deadline = {.tv_sec = deadline_ns / 1000000000,
                                .tv_nsec = deadline_ns % 1000000000};
    pthread_cond_timedwait(&pool->work, &pool->mutex, &deadline);
}

void *hs_pool_loader_run(void *user)
{
    hs_model_pool *pool = user;
    pthread_mutex_lock(&pool->mutex);
    while (!pool->is_stopping) {
        struct action action = plan(pool);
        switch (action.kind) {
        case ACTION_NONE:
            wait_for_work(pool, action.deadline_ns);
            break;
        case ACTION_ESTIMATE:
            estimate(pool, action.member);
            break;
        case ACTION_LOAD:
            load(pool, action.member);
            break;
        case ACTION_UNLOAD:
            unload(pool, action.member);
            break;
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}
