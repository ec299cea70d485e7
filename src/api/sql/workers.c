#include "workers.h"

#include <pthread.h>
#include <signal.h>

#include "base/error.h"
#include "base/mem.h"

struct worker {
    struct hs_sql_workers *workers;
    pthread_t thread;
    duckdb_task_state state; /* NULL: it does not compute */
};

struct hs_sql_workers {
    duckdb_database database;
    int32_t n;
    pthread_mutex_t mutex; /* of all that follows */
    pthread_cond_t changed;
    int n_pauses;
    bool is_stopping;
    struct worker items[];
};

static void *work(void *user)
{
    struct worker *worker = user;
    struct hs_sql_workers *workers = worker->workers;
    pthread_mutex_lock(&workers->mutex);
    while (!workers->is_stopping) {
        if (workers->n_pauses > 0) {
            pthread_cond_wait(&workers->changed, &workers->mutex);
            continue;
        }
        worker->state = duckdb_create_task_state(workers->database);
        pthread_mutex_unlock(&workers->mutex);
        duckdb_execute_tasks_state(worker->state);
        pthread_mutex_lock(&workers->mutex);
        duckdb_destroy_task_state(worker->state);
        worker->state = NULL;
    }
    pthread_mutex_unlock(&workers->mutex);
    return NULL;
}

/* In: the mutex is held. They leave after what they compute now. */
static void call_back(struct hs_sql_workers *workers)
{
    for (int32_t i = 0; i < workers->n; i++) {
        if (workers->items[i].state != NULL) {
            duckdb_finish_execution(workers->items[i].state);
        }
    }
}

hs_status hs_sql_workers_start(duckdb_database database, int32_t n,
                               struct hs_sql_workers **ret_workers, struct hs_error *err)
{
    struct hs_sql_workers *workers =
        hs_calloc(1, sizeof *workers + (size_t)n * sizeof workers->items[0]);
    if (workers == NULL) {
        return hs_error_nomem(err, "threads of the SQL engine");
    }
    workers->database = database;
    pthread_mutex_init(&workers->mutex, NULL);
    pthread_cond_init(&workers->changed, NULL);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
    int code = 0;
    pthread_mutex_lock(&workers->mutex);
    for (int32_t i = 0; i < n && code == 0; i++) {
        workers->items[i].workers = workers;
        code = pthread_create(&workers->items[i].thread, NULL, work, &workers->items[i]);
        workers->n += code == 0;
    }
    pthread_mutex_unlock(&workers->mutex);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code != 0) {
        hs_sql_workers_free(workers);
        return hs_error_errno(err, code, "start", "a thread of the SQL engine");
    }
    *ret_workers = workers;
    return HS_OK;
}

void hs_sql_workers_pause(struct hs_sql_workers *workers)
{
    pthread_mutex_lock(&workers->mutex);
    if (workers->n_pauses++ == 0) {
        call_back(workers);
    }
    pthread_mutex_unlock(&workers->mutex);
}

void hs_sql_workers_resume(struct hs_sql_workers *workers)
{
    pthread_mutex_lock(&workers->mutex);
    if (--workers->n_pauses == 0) {
        pthread_cond_broadcast(&workers->changed);
    }
    pthread_mutex_unlock(&workers->mutex);
}

void hs_sql_workers_free(struct hs_sql_workers *workers)
{
    if (workers == NULL) {
        return;
    }
    pthread_mutex_lock(&workers->mutex);
    workers->is_stopping = true;
    call_back(workers);
    pthread_cond_broadcast(&workers->changed);
    pthread_mutex_unlock(&workers->mutex);
    for (int32_t i = 0; i < workers->n; i++) {
        pthread_join(workers->items[i].thread, NULL);
    }
    pthread_cond_destroy(&workers->changed);
    pthread_mutex_destroy(&workers->mutex);
    hs_free(workers);
}
