/*
 * bench_replace.c - how long it takes to replace an adapter while others generate.
 *
 *   bench-replace MODEL ADAPTER [ADAPTER2] [-c STREAMS] [-r REPLACES]
 *
 * STREAMS requests generate with the adapter all the time. REPLACES times the adapter is replaced
 * by the other file (or the same) and a short request is made with it. Prints one JSON object, in
 * ms, median and largest: `replace_ms`, the call, after which the scheduler's next step uses the
 * new version for what is accepted; `first_token_ms`, of that request, from the call on; `gap_ms`,
 * the longest wait between two tokens of the streams around a replace, beside `gap_before_ms`, the
 * same without one.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hyprstream.h"

#define STREAMS_MAX 64
#define REPLACES_MAX 1000
#define N_PROMPT 16
#define N_ANSWER 4

static hs_engine *engine;
static char model_id[HS_ID_MAX];
static atomic_bool is_over;
static _Atomic double longest_ms; /* the longest gap since it was set to 0 */

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void need(hs_status status, const struct hs_error *err)
{
    if (status != HS_OK) {
        fprintf(stderr, "bench-replace: %s\n", err->message);
        exit(1);
    }
}

static hs_stream *ask(int32_t max_tokens, int32_t seed)
{
    struct hs_error err;
    struct hs_generate_params params;
    struct hs_adapter_ref ref = {"bench", 1};
    hs_stream *stream = NULL;
    int32_t tokens[N_PROMPT];
    for (int32_t i = 0; i < N_PROMPT; i++) {
        tokens[i] = 300 + (seed * 31 + i * 7) % 1000;
    }
    hs_generate_params_defaults(&params);
    params.sampling.temp = 0;
    params.max_tokens = max_tokens;
    params.ignore_eos = true;
    params.cache_prompt = false;
    need(hs_engine_complete(engine, model_id, &ref, 1, tokens, N_PROMPT, &params, &stream, &err),
         &err);
    return stream;
}

static void note_gap(double gap_ms)
{
    double longest = atomic_load(&longest_ms);
    while (gap_ms > longest && !atomic_compare_exchange_weak(&longest_ms, &longest, gap_ms)) {
    }
}

/* Reads a stream to its end; returns when its first token came. */
static double read_stream(hs_stream *stream, bool notes_gaps)
{
    struct hs_event event;
    struct hs_error err;
    double first_ms = 0;
    double last_ms = 0;
    do {
        need(hs_stream_next(stream, -1, &event, &err), &err);
        double at_ms = now_ms();
        if (event.type == HS_EVENT_DONE) {
            need(event.error.status, &event.error);
        } else if (last_ms > 0 && notes_gaps) {
            note_gap(at_ms - last_ms);
        }
        first_ms = first_ms > 0 ? first_ms : at_ms;
        last_ms = at_ms;
    } while (event.type != HS_EVENT_DONE && !(notes_gaps && atomic_load(&is_over)));
    hs_stream_free(stream);
    return first_ms;
}

static void *stream_main(void *arg)
{
    while (!atomic_load(&is_over)) {
        (void)read_stream(ask(1000, *(const int32_t *)arg), true);
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_samples(const char *name, double *values, int n, const char *end)
{
    qsort(values, (size_t)n, sizeof(values[0]), compare);
    printf("\"%s\": [%.3f, %.3f]%s", name, values[n / 2], values[n - 1], end);
}

static void wait_ms(double ms)
{
    struct timespec pause = {.tv_sec = (time_t)(ms / 1e3),
                             .tv_nsec = (long)(ms * 1e6) % 1000000000};
    nanosleep(&pause, NULL);
}

static void measure(const char *const paths[2], int n_replaces)
{
    static double replace_ms[REPLACES_MAX], first_ms[REPLACES_MAX];
    static double gap_ms[REPLACES_MAX], before_ms[REPLACES_MAX];
    struct hs_error err;
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = "bench";
    params.model_id = model_id;
    for (int i = 0; i < n_replaces; i++) {
        atomic_store(&longest_ms, 0);
        wait_ms(300);
        (void)read_stream(ask(N_ANSWER, i + 1000), false);
        before_ms[i] = atomic_exchange(&longest_ms, 0);
        wait_ms(300);
        params.path = paths[(i + 1) % 2];
        double begin_ms = now_ms();
        need(hs_engine_replace_adapter(engine, &params, &err), &err);
        replace_ms[i] = now_ms() - begin_ms;
        first_ms[i] = read_stream(ask(N_ANSWER, i + 2000), false) - begin_ms;
        gap_ms[i] = atomic_load(&longest_ms);
    }
    struct hs_model_stats stats;
    need(hs_engine_model_stats(engine, model_id, &stats, &err), &err);
    printf("{\"lora_engine\": \"%s\", \"replaces\": %d, ", hs_lora_engine_name(stats.lora_engine),
           n_replaces);
    print_samples("replace_ms", replace_ms, n_replaces, ", ");
    print_samples("first_token_ms", first_ms, n_replaces, ", ");
    print_samples("gap_before_ms", before_ms, n_replaces, ", ");
    print_samples("gap_ms", gap_ms, n_replaces, "}\n");
}

int main(int argc, char **argv)
{
    int n_streams = 4;
    int n_replaces = 20;
    int option;
    while ((option = getopt(argc, argv, "c:r:")) != -1) {
        *(option == 'c' ? &n_streams : &n_replaces) = atoi(option == '?' ? "0" : optarg);
    }
    int n_files = argc - optind;
    if (n_streams < 1 || n_streams > STREAMS_MAX || n_replaces < 1 || n_replaces > REPLACES_MAX ||
        n_files < 2 || n_files > 3) {
        fprintf(stderr,
                "usage: bench-replace MODEL ADAPTER [ADAPTER2] [-c STREAMS] [-r REPLACES]\n");
        return 2;
    }
    const char *const paths[] = {argv[optind + 1], argv[optind + n_files - 1]};
    struct hs_error err;
    struct hs_adapter_params params;
    struct hs_model_params model;
    hs_model_params_defaults(&model);
    model.n_ctx = 16384;
    need(hs_engine_create(NULL, &engine, &err), &err);
    need(hs_engine_load_model(engine, argv[optind], "bench", &model, model_id, &err), &err);
    hs_adapter_params_defaults(&params);
    params.name = "bench";
    params.model_id = model_id;
    params.path = paths[0];
    need(hs_engine_register_adapter(engine, &params, &err), &err);
    need(hs_engine_load_adapter(engine, "bench", &err), &err);
    pthread_t threads[STREAMS_MAX];
    int32_t seeds[STREAMS_MAX];
    for (int i = 0; i < n_streams; i++) {
        seeds[i] = i;
        if (pthread_create(&threads[i], NULL, stream_main, &seeds[i]) != 0) {
            fprintf(stderr, "bench-replace: cannot start a thread\n");
            return 1;
        }
    }
    wait_ms(1000);
    measure(paths, n_replaces);
    atomic_store(&is_over, true);
    for (int i = 0; i < n_streams; i++) {
        pthread_join(threads[i], NULL);
    }
    hs_engine_free(engine);
    return 0;
}
