/*
 * embedder_internal.h - what embedder.c (thread, inbox) and embedder_step.c (one step) share.
 */
#ifndef INFERENCE_EMBEDDER_INTERNAL_H
#define INFERENCE_EMBEDDER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "batch.h"
#include "embed_request.h"
#include "embedder.h"

/* An input under way, in the sequence of its index. */
struct hs_embed_slot {
    struct hs_embed_request *request; /* NULL: free */
    size_t input;
    size_t n_done; /* tokens computed */
};

struct hs_embedder {
    struct hs_embedder_params p;
    const struct hs_runtime *rt;

    pthread_mutex_t open_mutex; /* held while thread and context are made; taken before `mutex` */
    pthread_mutex_t mutex;
    pthread_cond_t work;    /* the thread waits here; monotonic */
    pthread_cond_t changed; /* hs_embedder_close waits here */
    pthread_t thread;
    /* Guarded by the mutex. */
    struct hs_embed_request *inbox_first, *inbox_last;
    int32_t n_requests; /* submitted and not done */
    struct hs_client_share share;
    bool is_open, is_closing, is_stopping;
    uint64_t n_embedded, n_tokens;

    atomic_uint kicks; /* wakes by streams */
    atomic_bool is_giving_up;
    atomic_uint abort_seen;

    /* Constant once it is open. */
    struct hs_rt_embedder made;
    struct hs_memory memory;

    /* The thread's alone. */
    struct hs_embed_request *first; /* those who were not served longest */
    struct hs_embed_slot *slots;    /* [n_seq_max] */
    ptrdiff_t partial;              /* slot of the input that is computed in parts; -1: none */
    struct hs_batch batch;          /* owners are slots */
    float *values;                  /* [n_embd_out] */
    unsigned kicks_seen;
    double next_deadline_ms; /* 0: none */
    bool has_work;           /* the last step found something to compute */
};

/* One step; false: nobody could compute anything. */
bool hs_embedder_step(hs_embedder *embedder);
/* End the requests that are marked as done. */
void hs_embedder_reap(hs_embedder *embedder);

#endif
