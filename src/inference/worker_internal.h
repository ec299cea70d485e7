/*
 * worker_internal.h - what worker.c (thread, inbox, admission) and worker_step.c (one step) share.
 */
#ifndef INFERENCE_WORKER_INTERNAL_H
#define INFERENCE_WORKER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "batch.h"
#include "worker.h"

struct export_command;

struct hs_worker {
    struct hs_worker_params p;
    const struct hs_runtime *rt;
    size_t n_ctx;
    pthread_t thread;

    pthread_mutex_t mutex;
    pthread_cond_t work;    /* the worker waits here; monotonic */
    pthread_cond_t changed; /* callers wait here: a command is done, the last request is gone */
    /* Guarded by the mutex. */
    struct hs_request *inbox_first, *inbox_last;
    struct export_command *commands;
    int32_t n_requests; /* submitted and not done */
    struct hs_client_share share;
    bool is_closing;  /* nothing new is taken */
    bool is_stopping; /* the thread ends when there is nothing left */
    struct hs_model_stats stats;
    struct hs_slot *busy;   /* [stats.n_running] what they did last; age_ms is when they began */
    bool wants_checkpoints; /* as the cache says */

    atomic_uint kicks; /* wakes by streams */
    atomic_bool is_waiting;
    atomic_bool is_giving_up; /* cancel everything */
    atomic_uint abort_seen;   /* kicks the abort callback has looked into */

    /* The worker's thread alone. */
    hs_kv_cache *cache;
    struct hs_request *waiting;  /* by rank and number, preempted ones first */
    struct hs_request **running; /* [n_running] by number, at most n_seq_max */
    size_t n_running;
    uint64_t next_number;
    uint64_t rank; /* the highest that was admitted */
    unsigned kicks_seen;
    double next_deadline_ms; /* 0: none */
    bool has_work;           /* the last step found something to compute */
    bool should_admit;       /* something changed that may let a waiting request in */
    bool is_holding;         /* nobody is admitted: the context had less room than it seems */
    struct hs_batch batch;
    size_t *owners;          /* [n_seq_max] running requests that may compute */
    int32_t *wants, *quotas; /* beside owners */
    int32_t batch_limit;     /* n_batch, less after a decode found no room */
    int32_t n_prefill;       /* prompt tokens in the batch under way */
    double token_ms;         /* what one token of a step with prompts took lately; 0: not known */
    bool takes_one_set;      /* a decode takes one set of adapters only, or may */
    bool is_abortable;       /* the batch under way is long enough to be worth stopping */
    uint64_t turn;
    struct hs_model_stats figures; /* the worker's own copy */
};

/* One step; false: nobody could compute anything. */
bool hs_worker_step(hs_worker *worker);
/* Show the figures to others; n_done requests are gone. */
void hs_worker_publish(hs_worker *worker, int32_t n_done);
/* Take running requests away that are marked as done (hs_request_mark). */
void hs_worker_reap(hs_worker *worker);
/* End a request that is not running. */
void hs_worker_end(hs_worker *worker, struct hs_request *request);
/* Take a running request's sequence away; it waits again. */
void hs_worker_preempt(hs_worker *worker, size_t index);
/* Index of the one to preempt: a lagging one, else the youngest, never `keep`. -1: none. */
ptrdiff_t hs_worker_victim(const hs_worker *worker, size_t keep);

#endif
