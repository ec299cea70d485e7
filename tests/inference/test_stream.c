/* Tests of inference/stream.h and of the stream functions of hyprstream.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <pthread.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stream.h"

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L}, NULL);
}

static void count_wake(void *user)
{
    atomic_fetch_add((atomic_int *)user, 1);
}

static hs_stream *new_stream(int32_t capacity, hs_stream_wake_fn wake, void *user)
{
    hs_stream *stream = NULL;
    assert_int_equal(hs_stream_new(capacity, wake, user, &stream, NULL), HS_OK);
    return stream;
}

static void post_text(hs_stream *stream, const char *text)
{
    assert_int_equal(hs_stream_post(stream, HS_EVENT_TEXT, text, strlen(text), 1, NULL, 0), HS_OK);
}

static void next_text(hs_stream *stream, const char *want)
{
    struct hs_event event;
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(event.type, HS_EVENT_TEXT);
    assert_string_equal(event.text, want);
    assert_int_equal(event.text_len, strlen(want));
}

static void free_both(hs_stream *stream)
{
    hs_stream_finish(stream, HS_FINISH_CANCELLED, NULL, NULL);
    hs_stream_unref(stream);
    hs_stream_free(stream);
}

/* ---- events ---- */

static void events_arrive_in_order_with_all_they_carry(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    const struct hs_token_logprob logprobs[] = {{7, -0.5f}, {8, -1.5f}, {9, -0.25f}, {7, -3.0f}};
    char long_text[500];
    memset(long_text, 'x', sizeof(long_text));
    struct hs_event event;

    assert_int_equal(hs_stream_post(stream, HS_EVENT_REASONING, "why", 3, 2, logprobs, 4), HS_OK);
    assert_int_equal(hs_stream_post(stream, HS_EVENT_TEXT, long_text, 500, 1, NULL, 4), HS_OK);
    assert_int_equal(hs_stream_post(stream, HS_EVENT_TEXT, NULL, 0, 1, NULL, 0), HS_OK);
    assert_int_equal(hs_stream_post(stream, HS_EVENT_TEXT, "a\0b", 3, 1, NULL, 0), HS_OK);
    const struct hs_usage usage = {.prompt_tokens = 3, .completion_tokens = 4, .seed = 5};
    hs_stream_finish(stream, HS_FINISH_STOP, &usage, NULL);

    assert_int_equal(hs_stream_next(stream, -1, &event, NULL), HS_OK);
    assert_int_equal(event.type, HS_EVENT_REASONING);
    assert_string_equal(event.text, "why");
    assert_int_equal(event.n_tokens, 2);
    assert_ptr_not_equal(event.logprobs, logprobs);
    assert_memory_equal(event.logprobs, logprobs, sizeof(logprobs));
    assert_int_equal(event.finish, HS_FINISH_NONE);

    assert_int_equal(hs_stream_next(stream, -1, &event, NULL), HS_OK);
    assert_int_equal(event.text_len, 500);
    assert_memory_equal(event.text, long_text, 500);
    assert_int_equal(event.text[500], '\0');
    assert_null(event.logprobs);

    next_text(stream, "");
    assert_int_equal(hs_stream_next(stream, -1, &event, NULL), HS_OK);
    assert_int_equal(event.text_len, 3);
    assert_memory_equal(event.text, "a\0b", 4);

    assert_int_equal(hs_stream_next(stream, -1, &event, NULL), HS_OK);
    assert_int_equal(event.type, HS_EVENT_DONE);
    assert_string_equal(event.text, "");
    assert_int_equal(event.text_len, 0);
    assert_int_equal(event.finish, HS_FINISH_STOP);
    assert_memory_equal(&event.usage, &usage, sizeof(usage));
    assert_int_equal(event.error.status, HS_OK);
    free_both(stream);
}

/* Texts around the border between a slot's own bytes and the heap, in slots used again. */
static void texts_of_every_length_are_kept(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    char text[200];
    for (size_t round = 0; round < 3; round++) {
        for (size_t len = 0; len < sizeof(text); len++) {
            size_t n = round == 1 ? sizeof(text) - 1 - len : len;
            memset(text, 'a' + (int)(n % 26), n);
            text[n] = '\0';
            post_text(stream, text);
            next_text(stream, text);
        }
    }
    free_both(stream);
}

static void embeddings_keep_their_values_and_index(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    float values[300];
    for (int32_t v = 0; v < 300; v++) {
        values[v] = (float)v / 4;
    }
    static const int32_t sizes[] = {1, 9, 10, 11, 300, 2, 1, 7};
    for (int32_t round = 0; round < 3; round++) { /* slots are used again, after texts too */
        for (int32_t i = 0; i < 8; i++) {
            assert_int_equal(hs_stream_post_embedding(stream, 100 - i, values, sizes[i]), HS_OK);
        }
        assert_int_equal(hs_stream_post_embedding(stream, 1, values, 1), HS_LIMIT);
        for (int32_t i = 0; i < 8; i++) {
            struct hs_event event;
            assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
            assert_int_equal(event.type, HS_EVENT_EMBEDDING);
            assert_int_equal(event.index, 100 - i);
            assert_int_equal(event.n_values, sizes[i]);
            assert_int_equal((uintptr_t)event.values % _Alignof(float), 0);
            assert_memory_equal(event.values, values, (size_t)sizes[i] * sizeof values[0]);
            assert_string_equal(event.text, "");
            assert_int_equal(event.text_len, 0);
        }
        post_text(stream, "text between");
        next_text(stream, "text between");
    }
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    assert_int_equal(hs_stream_post_embedding(stream, 0, values, 1), HS_INVALID_ARGUMENT);
    free_both(stream);
}

static void text_stays_until_the_next_call(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    struct hs_event event;
    post_text(stream, "first");
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    for (int i = 0; i < 8; i++) {
        post_text(stream, "later");
    }
    assert_int_equal(hs_stream_post(stream, HS_EVENT_TEXT, "x", 1, 1, NULL, 0), HS_LIMIT);
    assert_string_equal(event.text, "first");
    free_both(stream);
}

static void the_end_comes_once(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    struct hs_event event;
    struct hs_error err = {0};
    const struct hs_error failure = {.status = HS_CONTEXT_FULL, .message = "full"};
    hs_stream_finish(stream, HS_FINISH_ERROR, NULL, &failure);
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    assert_int_equal(hs_stream_post(stream, HS_EVENT_TEXT, "x", 1, 1, NULL, 0),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_stream_next(stream, -1, &event, &err), HS_OK);
    assert_int_equal(event.type, HS_EVENT_DONE);
    assert_int_equal(event.finish, HS_FINISH_ERROR);
    assert_int_equal(event.error.status, HS_CONTEXT_FULL);
    assert_string_equal(event.error.message, "full");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hs_stream_next(stream, -1, &event, &err), HS_NOT_FOUND);
        assert_int_equal(err.status, HS_NOT_FOUND);
        assert_string_equal(event.error.message, "full");
    }
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_NOT_FOUND);
    hs_stream_unref(stream);
    hs_stream_free(stream);
}

static void a_done_event_is_not_posted(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    assert_int_equal(hs_stream_post(stream, HS_EVENT_DONE, "", 0, 0, NULL, 0), HS_INVALID_ARGUMENT);
    free_both(stream);
}

static void finish_has_names(void **state)
{
    (void)state;
    assert_string_equal(hs_slot_state_name(HS_SLOT_IDLE), "idle");
    assert_string_equal(hs_slot_state_name(HS_SLOT_PREFILL), "prefill");
    assert_string_equal(hs_slot_state_name(HS_SLOT_DECODE), "decode");
    assert_string_equal(hs_finish_name(HS_FINISH_STOP), "stop");
    assert_string_equal(hs_finish_name(HS_FINISH_LENGTH), "length");
    assert_string_equal(hs_finish_name(HS_FINISH_CANCELLED), "cancelled");
    assert_string_equal(hs_finish_name(HS_FINISH_ERROR), "error");
    assert_string_equal(hs_finish_name(HS_FINISH_NONE), "none");
    assert_string_equal(hs_finish_name((enum hs_finish)99), "none");
}

/* ---- room ---- */

static void check_capacity(int32_t asked, int32_t want)
{
    hs_stream *stream = new_stream(asked, NULL, NULL);
    struct hs_event event;
    for (int round = 0; round < 3; round++) {
        int32_t n = 0;
        while (hs_stream_post(stream, HS_EVENT_TEXT, "x", 1, 1, NULL, 0) == HS_OK) {
            n++;
        }
        assert_int_equal(n, want);
        assert_false(hs_stream_has_room(stream, 1));
        for (int32_t i = 0; i < want; i++) {
            assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
        }
        assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_TIMEOUT);
    }
    /* The end has a place of its own in a full stream. */
    while (hs_stream_has_room(stream, 1)) {
        post_text(stream, "x");
    }
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    for (int32_t i = 0; i < want; i++) {
        next_text(stream, "x");
    }
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(event.type, HS_EVENT_DONE);
    hs_stream_unref(stream);
    hs_stream_free(stream);
}

static void capacity_holds_at_n_and_n_plus_1(void **state)
{
    (void)state;
    check_capacity(0, 256);
    check_capacity(1, HS_STREAM_CAPACITY_MIN);
    check_capacity(HS_STREAM_CAPACITY_MIN, HS_STREAM_CAPACITY_MIN);
    check_capacity(HS_STREAM_CAPACITY_MIN + 1, HS_STREAM_CAPACITY_MIN + 1);
    check_capacity(1000, 1000);
    check_capacity(HS_STREAM_CAPACITY_MAX, HS_STREAM_CAPACITY_MAX);
    hs_stream *stream = NULL;
    struct hs_error err = {0};
    const int32_t wrong[] = {-1, HS_STREAM_CAPACITY_MAX + 1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(hs_stream_new(wrong[i], NULL, NULL, &stream, &err), HS_INVALID_ARGUMENT);
        assert_int_equal(err.status, HS_INVALID_ARGUMENT);
        assert_null(stream);
    }
}

static void a_waiting_worker_is_woken_when_there_is_the_room_it_asked_for(void **state)
{
    (void)state;
    atomic_int n_wakes = 0;
    hs_stream *stream = new_stream(8, count_wake, &n_wakes);
    struct hs_event event;
    for (int i = 0; i < 8; i++) {
        assert_true(hs_stream_has_room(stream, 8 - i));
        post_text(stream, "x");
    }
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(n_wakes, 0); /* nobody waits */
    assert_false(hs_stream_has_room(stream, 3));
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(n_wakes, 0); /* room for 2 */
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(n_wakes, 1);
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(n_wakes, 1); /* once */
    assert_true(hs_stream_has_room(stream, 4));
    assert_false(hs_stream_has_room(stream, 5));
    assert_true(hs_stream_has_room(stream, 4)); /* asked for less meanwhile: content */
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(n_wakes, 1);
    for (int i = 0; i < 5; i++) {
        post_text(stream, "x");
    }
    assert_int_equal(hs_stream_post(stream, HS_EVENT_TEXT, "x", 1, 1, NULL, 0), HS_LIMIT);
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(n_wakes, 2); /* a refused post waits as well */
    free_both(stream);
}

/* The callback may look at the stream that calls it. */
struct curious {
    hs_stream *stream;
    bool saw_room;
};

static void look_at_stream(void *user)
{
    struct curious *curious = user;
    curious->saw_room = hs_stream_has_room(curious->stream, 1);
}

static void the_wake_callback_may_use_the_stream(void **state)
{
    (void)state;
    struct curious curious = {0};
    curious.stream = new_stream(8, look_at_stream, &curious);
    for (int i = 0; i < 8; i++) {
        post_text(curious.stream, "x");
    }
    assert_false(hs_stream_has_room(curious.stream, 1));
    next_text(curious.stream, "x");
    assert_true(curious.saw_room);
    free_both(curious.stream);
}

/* ---- time ---- */

static void polling_and_time_outs(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    struct hs_event event = {.n_tokens = 77};
    struct hs_error err = {0};
    assert_int_equal(hs_stream_next(stream, 0, &event, &err), HS_TIMEOUT);
    assert_int_equal(err.status, HS_TIMEOUT);
    assert_int_equal(event.n_tokens, 77); /* untouched */
    const int timeouts[] = {1, 20, 150};
    for (size_t i = 0; i < 3; i++) {
        double begin = hs_clock_ms();
        assert_int_equal(hs_stream_next(stream, timeouts[i], &event, NULL), HS_TIMEOUT);
        double took = hs_clock_ms() - begin;
        assert_true(took >= timeouts[i]);
    }
    free_both(stream);
}

static void *post_later(void *arg)
{
    sleep_ms(30);
    post_text(arg, "late");
    return NULL;
}

static void *finish_later(void *arg)
{
    sleep_ms(30);
    hs_stream_finish(arg, HS_FINISH_LENGTH, NULL, NULL);
    return NULL;
}

static void a_waiting_reader_gets_what_comes(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    struct hs_event event;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, post_later, stream), 0);
    double begin = hs_clock_ms();
    assert_int_equal(hs_stream_next(stream, 20000, &event, NULL), HS_OK);
    assert_true(hs_clock_ms() - begin < 10000);
    assert_string_equal(event.text, "late");
    pthread_join(thread, NULL);
    assert_int_equal(pthread_create(&thread, NULL, finish_later, stream), 0);
    assert_int_equal(hs_stream_next(stream, -1, &event, NULL), HS_OK);
    assert_int_equal(event.finish, HS_FINISH_LENGTH);
    pthread_join(thread, NULL);
    hs_stream_unref(stream);
    hs_stream_free(stream);
}

/* ---- ends of life ---- */

static void cancelling_wakes_the_worker_once(void **state)
{
    (void)state;
    atomic_int n_wakes = 0;
    hs_stream *stream = new_stream(8, count_wake, &n_wakes);
    struct hs_event event;
    post_text(stream, "before");
    assert_false(hs_stream_is_cancelled(stream));
    hs_stream_cancel(stream);
    hs_stream_cancel(stream);
    assert_true(hs_stream_is_cancelled(stream));
    assert_int_equal(n_wakes, 1);
    next_text(stream, "before");
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_TIMEOUT);
    hs_stream_finish(stream, HS_FINISH_CANCELLED, NULL, NULL);
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(event.finish, HS_FINISH_CANCELLED);
    hs_stream_unref(stream);
    hs_stream_free(stream);
    assert_int_equal(n_wakes, 1);
}

static void cancelling_a_finished_stream_changes_nothing(void **state)
{
    (void)state;
    atomic_int n_wakes = 0;
    hs_stream *stream = new_stream(8, count_wake, &n_wakes);
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    hs_stream_cancel(stream);
    assert_false(hs_stream_is_cancelled(stream));
    assert_int_equal(n_wakes, 0);
    hs_stream_unref(stream);
    hs_stream_free(stream);
}

static void the_reader_may_leave_first(void **state)
{
    (void)state;
    atomic_int n_wakes = 0;
    hs_stream *stream = new_stream(8, count_wake, &n_wakes);
    post_text(stream, "x");
    hs_stream_free(stream);
    assert_int_equal(n_wakes, 1);
    assert_true(hs_stream_is_cancelled(stream));
    post_text(stream, "nobody reads this");
    hs_stream_finish(stream, HS_FINISH_CANCELLED, NULL, NULL);
    hs_stream_unref(stream);
    hs_stream_free(NULL);
    hs_stream_unref(NULL);
}

static void no_wake_call_after_detach(void **state)
{
    (void)state;
    atomic_int n_wakes = 0;
    hs_stream *stream = new_stream(8, count_wake, &n_wakes);
    hs_stream_detach(stream);
    hs_stream_cancel(stream);
    hs_stream_detach(stream);
    assert_int_equal(n_wakes, 0);
    assert_true(hs_stream_is_cancelled(stream));
    free_both(stream);
}

struct slow_wake {
    atomic_bool has_begun, may_end, has_ended;
};

static void wake_slowly(void *user)
{
    struct slow_wake *slow = user;
    slow->has_begun = true;
    while (!slow->may_end) {
        sleep_ms(1);
    }
    slow->has_ended = true;
}

static void *cancel_thread(void *arg)
{
    hs_stream_cancel(arg);
    return NULL;
}

static void *let_end_later(void *arg)
{
    sleep_ms(50);
    ((struct slow_wake *)arg)->may_end = true;
    return NULL;
}

static void detach_waits_for_a_wake_call_under_way(void **state)
{
    (void)state;
    struct slow_wake slow = {0};
    hs_stream *stream = new_stream(8, wake_slowly, &slow);
    pthread_t canceller;
    pthread_t timer;
    assert_int_equal(pthread_create(&canceller, NULL, cancel_thread, stream), 0);
    while (!slow.has_begun) {
        sleep_ms(1);
    }
    post_text(stream, "the stream works meanwhile");
    assert_int_equal(pthread_create(&timer, NULL, let_end_later, &slow), 0);
    hs_stream_detach(stream);
    assert_true(slow.has_ended);
    pthread_join(canceller, NULL);
    pthread_join(timer, NULL);
    free_both(stream);
}

static void a_worker_that_vanishes_leaves_an_error(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    struct hs_event event;
    post_text(stream, "x");
    hs_stream_unref(stream);
    next_text(stream, "x");
    assert_int_equal(hs_stream_next(stream, -1, &event, NULL), HS_OK);
    assert_int_equal(event.finish, HS_FINISH_ERROR);
    assert_int_equal(event.error.status, HS_INTERNAL);
    hs_stream_free(stream);
}

/* ---- threads ---- */

#define N_EVENTS 20000

/* A worker as the engine has it: waits for a wake call when there is no room. */
struct worker {
    hs_stream *stream;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_woken;
    int n_posted;
};

static void wake_worker(void *user)
{
    struct worker *worker = user;
    pthread_mutex_lock(&worker->mutex);
    worker->is_woken = true;
    pthread_cond_signal(&worker->cond);
    pthread_mutex_unlock(&worker->mutex);
}

static void wait_for_wake(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    while (!worker->is_woken) {
        pthread_cond_wait(&worker->cond, &worker->mutex);
    }
    worker->is_woken = false;
    pthread_mutex_unlock(&worker->mutex);
}

static size_t numbered_text(int i, char text[128])
{
    return (size_t)snprintf(text, 128, "%d%.*s", i, i % 97,
                            "................................................"
                            "................................................");
}

static void *run_worker(void *arg)
{
    struct worker *worker = arg;
    enum hs_finish finish = HS_FINISH_STOP;
    while (worker->n_posted < N_EVENTS) {
        if (hs_stream_is_cancelled(worker->stream)) {
            finish = HS_FINISH_CANCELLED;
            break;
        }
        if (!hs_stream_has_room(worker->stream, 2)) {
            wait_for_wake(worker);
            continue;
        }
        char text[128];
        size_t len = numbered_text(worker->n_posted, text);
        struct hs_token_logprob logprob = {worker->n_posted, 0.0f};
        if (hs_stream_post(worker->stream, HS_EVENT_TEXT, text, len, 1, &logprob,
                           worker->n_posted % 2 == 0 ? 1 : 0) != HS_OK) {
            finish = HS_FINISH_ERROR;
            break;
        }
        worker->n_posted++;
    }
    const struct hs_usage usage = {.completion_tokens = worker->n_posted};
    hs_stream_finish(worker->stream, finish, &usage, NULL);
    hs_stream_detach(worker->stream);
    hs_stream_unref(worker->stream);
    return NULL;
}

static pthread_t start_worker(struct worker *worker, int32_t capacity)
{
    pthread_t thread;
    *worker = (struct worker){.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    worker->stream = new_stream(capacity, wake_worker, worker);
    assert_int_equal(pthread_create(&thread, NULL, run_worker, worker), 0);
    return thread;
}

/* Read to the end; every `pause_each` events (0: never) the reader dawdles. Returns text events. */
static int read_all(hs_stream *stream, int pause_each, struct hs_event *ret_done)
{
    for (int i = 0;; i++) {
        struct hs_event event;
        char want[128];
        assert_int_equal(hs_stream_next(stream, -1, &event, NULL), HS_OK);
        if (event.type == HS_EVENT_DONE) {
            *ret_done = event;
            return i;
        }
        size_t len = numbered_text(i, want);
        assert_int_equal(event.text_len, len);
        assert_string_equal(event.text, want);
        if (i % 2 == 0) {
            assert_int_equal(event.logprobs[0].token, i);
        }
        if (pause_each > 0 && i % pause_each == 0) {
            sleep_ms(1);
        }
    }
}

static void nothing_is_lost_between_threads(void **state)
{
    (void)state;
    const int32_t capacities[] = {HS_STREAM_CAPACITY_MIN, HS_STREAM_CAPACITY_MIN + 1, 256};
    const int pauses[] = {0, 300};
    for (size_t c = 0; c < 3; c++) {
        for (size_t p = 0; p < 2; p++) {
            struct worker worker;
            struct hs_event done;
            pthread_t thread = start_worker(&worker, capacities[c]);
            hs_stream *stream = worker.stream;
            assert_int_equal(read_all(stream, pauses[p], &done), N_EVENTS);
            assert_int_equal(done.finish, HS_FINISH_STOP);
            assert_int_equal(done.usage.completion_tokens, N_EVENTS);
            hs_stream_free(stream);
            pthread_join(thread, NULL);
        }
    }
}

static void a_third_thread_cancels(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        struct worker worker;
        struct hs_event done;
        pthread_t canceller;
        pthread_t thread = start_worker(&worker, 8);
        hs_stream *stream = worker.stream;
        assert_int_equal(pthread_create(&canceller, NULL, cancel_thread, stream), 0);
        int n_read = read_all(stream, 0, &done);
        assert_true(done.finish == HS_FINISH_CANCELLED || n_read == N_EVENTS);
        assert_int_equal(done.usage.completion_tokens, n_read);
        pthread_join(canceller, NULL);
        hs_stream_free(stream);
        pthread_join(thread, NULL);
    }
}

static void a_reader_leaves_in_the_middle(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        struct worker worker;
        struct hs_event event;
        pthread_t thread = start_worker(&worker, 8);
        hs_stream *stream = worker.stream;
        for (int i = 0; i < round; i++) {
            assert_int_equal(hs_stream_next(stream, -1, &event, NULL), HS_OK);
        }
        hs_stream_free(stream);
        pthread_join(thread, NULL);
        assert_true(worker.n_posted < N_EVENTS);
    }
}

/* ---- memory ---- */

static void every_allocation_fails_once(void **state)
{
    (void)state;
    char text[100];
    memset(text, 'y', sizeof(text));
    const struct hs_token_logprob logprobs[2] = {{1, 0.0f}, {2, -1.0f}};
    bool has_failed = true;
    for (uint64_t n = 1; has_failed; n++) {
        hs_stream *stream = NULL;
        struct hs_error err = {0};
        struct hs_event event;
        has_failed = false;
        hs_mem_fail_after(n);
        if (hs_stream_new(8, NULL, NULL, &stream, &err) != HS_OK) {
            assert_int_equal(err.status, HS_OUT_OF_MEMORY);
            assert_null(stream);
            has_failed = true;
            continue;
        }
        hs_status status = hs_stream_post(stream, HS_EVENT_TEXT, text, 100, 1, logprobs, 2);
        if (status != HS_OK) {
            has_failed = true;
            assert_int_equal(status, HS_OUT_OF_MEMORY);
            assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_TIMEOUT);
            assert_int_equal(hs_stream_post(stream, HS_EVENT_TEXT, text, 100, 1, logprobs, 2),
                             HS_OK);
        }
        hs_mem_fail_after(1);
        post_text(stream, "short texts need no memory");
        hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
        hs_mem_fail_after(0);
        assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
        assert_memory_equal(event.text, text, 100);
        assert_memory_equal(event.logprobs, logprobs, sizeof(logprobs));
        next_text(stream, "short texts need no memory");
        hs_stream_unref(stream);
        hs_stream_free(stream);
    }
    hs_mem_fail_after(0);
}

/* ---- notifications ---- */

static void each_event_notifies_once(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    atomic_int n = 0;
    hs_stream_set_notify(stream, count_wake, &n);
    assert_int_equal(atomic_load(&n), 0);
    post_text(stream, "a");
    assert_int_equal(atomic_load(&n), 1);
    post_text(stream, "b");
    assert_int_equal(atomic_load(&n), 2);
    assert_int_equal(hs_stream_post(stream, HS_EVENT_DONE, "", 0, 1, NULL, 0), HS_INVALID_ARGUMENT);
    assert_int_equal(atomic_load(&n), 2);
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    assert_int_equal(atomic_load(&n), 3);
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    assert_int_equal(atomic_load(&n), 3);
    free_both(stream);
    assert_int_equal(atomic_load(&n), 3);
}

static void what_is_put_is_told_when_asked(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    atomic_int n = 0;
    hs_stream_set_notify(stream, count_wake, &n);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hs_stream_put(stream, HS_EVENT_TEXT, "a", 1, 1, NULL, 0), HS_OK);
        assert_int_equal(atomic_load(&n), 0);
    }
    hs_stream_tell(stream);
    assert_int_equal(atomic_load(&n), 1);
    hs_stream_tell(stream);
    assert_int_equal(atomic_load(&n), 1);
    assert_int_equal(hs_stream_put(stream, HS_EVENT_TEXT, "b", 1, 1, NULL, 0), HS_OK);
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    assert_int_equal(atomic_load(&n), 2);
    hs_stream_tell(stream);
    assert_int_equal(atomic_load(&n), 2);
    free_both(stream);
}

static void what_waits_notifies_at_once(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    atomic_int n = 0;
    struct hs_event event;
    post_text(stream, "a");
    post_text(stream, "b");
    hs_stream_set_notify(stream, count_wake, &n);
    assert_int_equal(atomic_load(&n), 1);
    hs_stream_set_notify(stream, NULL, NULL);
    next_text(stream, "a");
    next_text(stream, "b");
    hs_stream_set_notify(stream, count_wake, &n);
    assert_int_equal(atomic_load(&n), 1);
    hs_stream_set_notify(stream, NULL, NULL);
    post_text(stream, "c");
    assert_int_equal(atomic_load(&n), 1);
    next_text(stream, "c");
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    hs_stream_set_notify(stream, count_wake, &n);
    assert_int_equal(atomic_load(&n), 2);
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    hs_stream_set_notify(stream, count_wake, &n); /* the end was delivered: nothing waits */
    assert_int_equal(atomic_load(&n), 2);
    free_both(stream);
}

static void a_worker_that_vanishes_notifies(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    atomic_int n = 0;
    struct hs_event event;
    hs_stream_set_notify(stream, count_wake, &n);
    hs_stream_unref(stream);
    assert_int_equal(atomic_load(&n), 1);
    assert_int_equal(hs_stream_next(stream, 0, &event, NULL), HS_OK);
    assert_int_equal(event.finish, HS_FINISH_ERROR);
    hs_stream_free(stream);
}

static void cancel_stream(void *user)
{
    hs_stream_cancel(user);
}

static void the_notification_may_cancel(void **state)
{
    (void)state;
    atomic_int n = 0;
    hs_stream *stream = new_stream(8, count_wake, &n);
    hs_stream_set_notify(stream, cancel_stream, stream);
    post_text(stream, "a");
    assert_true(hs_stream_is_cancelled(stream));
    assert_int_equal(atomic_load(&n), 1);
    free_both(stream);
}

struct slow_notification {
    atomic_bool is_running, is_over;
};

static void notify_slowly(void *user)
{
    struct slow_notification *slow = user;
    atomic_store(&slow->is_running, true);
    sleep_ms(50);
    atomic_store(&slow->is_over, true);
}

static void *post_and_finish(void *user)
{
    hs_stream *stream = user;
    post_text(stream, "a");
    hs_stream_finish(stream, HS_FINISH_STOP, NULL, NULL);
    hs_stream_unref(stream);
    return NULL;
}

/* What the callback uses may be freed once hs_stream_free returned. */
static void freeing_waits_for_a_notification_under_way(void **state)
{
    (void)state;
    hs_stream *stream = new_stream(8, NULL, NULL);
    struct slow_notification slow = {false, false};
    hs_stream_set_notify(stream, notify_slowly, &slow);
    pthread_t worker;
    assert_int_equal(pthread_create(&worker, NULL, post_and_finish, stream), 0);
    while (!atomic_load(&slow.is_running)) {
        sleep_ms(1);
    }
    hs_stream_free(stream);
    assert_true(atomic_load(&slow.is_over));
    assert_int_equal(pthread_join(worker, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_arrive_in_order_with_all_they_carry),
        cmocka_unit_test(texts_of_every_length_are_kept),
        cmocka_unit_test(embeddings_keep_their_values_and_index),
        cmocka_unit_test(text_stays_until_the_next_call),
        cmocka_unit_test(the_end_comes_once),
        cmocka_unit_test(a_done_event_is_not_posted),
        cmocka_unit_test(finish_has_names),
        cmocka_unit_test(capacity_holds_at_n_and_n_plus_1),
        cmocka_unit_test(a_waiting_worker_is_woken_when_there_is_the_room_it_asked_for),
        cmocka_unit_test(the_wake_callback_may_use_the_stream),
        cmocka_unit_test(polling_and_time_outs),
        cmocka_unit_test(a_waiting_reader_gets_what_comes),
        cmocka_unit_test(cancelling_wakes_the_worker_once),
        cmocka_unit_test(cancelling_a_finished_stream_changes_nothing),
        cmocka_unit_test(the_reader_may_leave_first),
        cmocka_unit_test(no_wake_call_after_detach),
        cmocka_unit_test(detach_waits_for_a_wake_call_under_way),
        cmocka_unit_test(a_worker_that_vanishes_leaves_an_error),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(a_third_thread_cancels),
        cmocka_unit_test(a_reader_leaves_in_the_middle),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(each_event_notifies_once),
        cmocka_unit_test(what_is_put_is_told_when_asked),
        cmocka_unit_test(what_waits_notifies_at_once),
        cmocka_unit_test(a_worker_that_vanishes_notifies),
        cmocka_unit_test(the_notification_may_cancel),
        cmocka_unit_test(freeing_waits_for_a_notification_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
