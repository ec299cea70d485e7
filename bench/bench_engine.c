/*
 * bench_engine.c - measures the engine through include/hyprstream.h alone, counting tokens as
 * llama-bench does: `prefill` is one prompt of N tokens, `decode` is N calls for one token each
 * that begin with an empty context, `concurrent` is N/4 such calls for K sequences at once.
 *
 * Unlike llama-bench, the figures include sampling (greedy), text and the way through the stream.
 * Prints one JSON object; bench/run starts it and compares.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "hyprstream.h"

#define SEQUENCES_MAX 256

struct bench {
    const char *model_path;
    int32_t n_threads, n_ctx, n_prompt, n_gen, n_sequences, n_repeat;
    hs_engine *engine;
    char model_id[HS_ID_MAX];
    struct hs_model_info info;
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool fail(const struct hs_error *err)
{
    fprintf(stderr, "bench-engine: %s\n", err->message);
    if (err->hint[0] != '\0') {
        fprintf(stderr, "  %s\n", err->hint);
    }
    return false;
}

static bool load(struct bench *bench, double *ret_load_s)
{
    struct hs_error err = {0};
    struct hs_engine_params engine_params;
    struct hs_model_params params;
    hs_engine_params_defaults(&engine_params);
    if (hs_engine_create(&engine_params, &bench->engine, &err) != HS_OK) {
        return fail(&err);
    }
    hs_model_params_defaults(&params);
    params.n_threads = bench->n_threads;
    params.n_ctx = bench->n_ctx;
    double begin = now_s();
    if (hs_engine_load_model(bench->engine, bench->model_path, "bench", &params, bench->model_id,
                             &err) != HS_OK ||
        hs_engine_model_info(bench->engine, bench->model_id, &bench->info, &err) != HS_OK) {
        return fail(&err);
    }
    *ret_load_s = now_s() - begin;
    return true;
}

/* The same tokens every time, spread over the vocabulary. */
static bool make_tokens(struct bench *bench)
{
    size_t n = (size_t)bench->n_prompt;
    bench->n_tokens = n > SEQUENCES_MAX ? n : SEQUENCES_MAX;
    bench->tokens = calloc(bench->n_tokens, sizeof(bench->tokens[0]));
    if (bench->tokens == NULL) {
        fputs("bench-engine: out of memory\n", stderr);
        return false;
    }
    uint32_t state = 1;
    for (size_t i = 0; i < bench->n_tokens; i++) {
        state = state * 1664525u + 1013904223u;
        bench->tokens[i] = (int32_t)((state >> 8) % (uint32_t)bench->info.n_vocab);
    }
    return true;
}

static bool read_to_end(hs_stream *stream, int32_t n_gen)
{
    struct hs_error err = {0};
    struct hs_event event = {0};
    do {
        if (hs_stream_next(stream, -1, &event, &err) != HS_OK) {
            return fail(&err);
        }
    } while (event.type != HS_EVENT_DONE);
    if (event.finish == HS_FINISH_ERROR) {
        return fail(&event.error);
    }
    if (event.usage.completion_tokens != n_gen || event.usage.cached_tokens != 0) {
        fprintf(stderr, "bench-engine: %d tokens generated and %d reused instead of %d and 0\n",
                event.usage.completion_tokens, event.usage.cached_tokens, n_gen);
        return false;
    }
    return true;
}

/* n_sequences requests at once, each a prompt of n_prompt tokens and n_gen generated ones. */
static bool run_once(struct bench *bench, int32_t n_sequences, int32_t n_prompt, int32_t n_gen,
                     double *ret_seconds)
{
    struct hs_error err = {0};
    struct hs_generate_params params;
    hs_stream *streams[SEQUENCES_MAX] = {NULL};
    hs_generate_params_defaults(&params);
    params.max_tokens = n_gen;
    params.sampling.temp = 0.0f;
    params.ignore_eos = true;
    params.cache_prompt = false;
    params.stream_capacity = n_gen + 16;
    bool is_ok = true;
    int32_t n_started = 0;
    double begin = now_s();
    while (is_ok && n_started < n_sequences) {
        const int32_t *prompt = n_prompt == 1 ? bench->tokens + n_started : bench->tokens;
        is_ok = hs_engine_complete(bench->engine, bench->model_id, NULL, 0, prompt,
                                   (size_t)n_prompt, &params, &streams[n_started], &err) == HS_OK ||
                fail(&err);
        n_started += is_ok ? 1 : 0;
    }
    for (int32_t i = 0; i < n_started; i++) {
        is_ok = is_ok && read_to_end(streams[i], n_gen);
    }
    *ret_seconds = now_s() - begin;
    for (int32_t i = 0; i < n_started; i++) {
        hs_stream_free(streams[i]);
    }
    return is_ok;
}

/* A warm-up unless it is warm, then n_repeat times; prints "name": [tokens per second...] and the
 * CPU time of all that for each token, which a busy machine disturbs less (with one thread). */
static bool measure(struct bench *bench, const char *name, bool is_warm, int32_t n_sequences,
                    int32_t n_prompt, int32_t n_gen)
{
    double seconds = 0;
    /* A prompt of one token and n_gen generated ones are n_gen calls of one token. */
    double n_tokens = (double)n_sequences * (n_prompt == 1 ? n_gen : n_prompt);
    if (!is_warm && !run_once(bench, n_sequences, n_prompt, n_gen, &seconds)) {
        return false;
    }
    double begin = cpu_s();
    printf(",\n \"%s\": [", name);
    for (int32_t i = 0; i < bench->n_repeat; i++) {
        if (!run_once(bench, n_sequences, n_prompt, n_gen, &seconds)) {
            return false;
        }
        printf("%s%.3f", i > 0 ? ", " : "", n_tokens / seconds);
    }
    printf("],\n \"%s_cpu_us\": %.3f", name,
           bench->n_repeat > 0 ? (cpu_s() - begin) * 1e6 / (n_tokens * bench->n_repeat) : 0.0);
    return true;
}

static bool run(struct bench *bench)
{
    double load_s = 0;
    if (!load(bench, &load_s) || !make_tokens(bench)) {
        return false;
    }
    printf("{\"threads\": %d,\n \"n_ctx\": %d,\n \"load_ms\": %.3f", bench->info.n_threads,
           bench->info.n_ctx, load_s * 1e3);
    if (!measure(bench, "prefill", false, 1, bench->n_prompt, 1) ||
        !measure(bench, "decode", false, 1, 1, bench->n_gen) ||
        (bench->n_sequences > 1 &&
         !measure(bench, "concurrent", true, bench->n_sequences, 1, (bench->n_gen + 3) / 4))) {
        return false;
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf(",\n \"maxrss_kib\": %ld}\n", usage.ru_maxrss);
    return true;
}

static int32_t number(const char *text, int32_t max)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (*end != '\0' || end == text || value < 0 || value > max) {
        fprintf(stderr, "bench-engine: '%s' is not a number in 0..%d\n", text, max);
        exit(2);
    }
    return (int32_t)value;
}

int main(int argc, char **argv)
{
    struct bench bench = {.n_prompt = 512, .n_gen = 128, .n_sequences = 0, .n_repeat = 1};
    int option;
    while ((option = getopt(argc, argv, "m:t:c:p:n:k:r:")) != -1) {
        switch (option) {
        case 'm':
            bench.model_path = optarg;
            break;
        case 't':
            bench.n_threads = number(optarg, 1024);
            break;
        case 'c':
            bench.n_ctx = number(optarg, 1 << 20);
            break;
        case 'p':
            bench.n_prompt = number(optarg, 1 << 20);
            break;
        case 'n':
            bench.n_gen = number(optarg, 1 << 20);
            break;
        case 'k':
            bench.n_sequences = number(optarg, SEQUENCES_MAX);
            break;
        case 'r':
            bench.n_repeat = number(optarg, 1000);
            break;
        default:
            bench.model_path = NULL;
            optind = argc + 1;
        }
    }
    if (bench.model_path == NULL || bench.n_prompt < 2 || bench.n_gen < 1 || optind != argc) {
        fputs("usage: bench-engine -m MODEL [-t THREADS] [-c CONTEXT] [-p PROMPT_TOKENS]\n"
              "                    [-n GENERATED_TOKENS] [-k SEQUENCES] [-r REPETITIONS]\n",
              stderr);
        return 2;
    }
    bool is_ok = run(&bench);
    hs_engine_free(bench.engine);
    free(bench.tokens);
    return is_ok ? 0 : 1;
}
