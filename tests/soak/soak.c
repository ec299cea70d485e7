/*
 * soak.c - many threads use one engine in every way for a given time, on tiny models whose answers
 * are known by a formula: requests with shared and unshared prompts, stop strings, cancels, readers
 * that are slow or leave, deadlines, conversations that are closed and resumed, full queues, models
 * and adapters that come and go.
 *
 * usage: soak [SECONDS]   (else HS_SOAK_SECONDS, else 600)
 *
 * The time is cut into rounds. After each all threads are joined and the engine is idle: nothing
 * may run or wait, and memory in use, descriptors and threads may not have grown since the first
 * round.
 */
#include <malloc.h>
#include <stdarg.h>
#include <pthread.h>
#include <time.h>

#include "soak.h"

#define N_THREADS 12
#define N_ROUNDS 4
#define GROWTH_MAX_BYTES (3 << 20) /* parked contexts (1 MiB) and what allocators keep */
#define N_LOADERS 4      /* threads that load adapters are begun when there is need of one more */
#define SETTLE_MS 120000 /* what is idle only then, or never, is a fault */

static _Atomic uint64_t n_failures;
static uint64_t base_seed;

void soak_fail(const char *file, int line, const char *format, ...)
{
    if (atomic_fetch_add(&n_failures, 1) < 20) {
        va_list args;
        va_start(args, format);
        fprintf(stderr, "%s:%d: ", file, line);
        vfprintf(stderr, format, args);
        fputc('\n', stderr);
        va_end(args);
    }
}

static const struct {
    soak_action_fn run;
    uint32_t weight;
} actions[] = {
    {soak_complete, 30},    {soak_stop_string, 10},  {soak_cancel, 12},  {soak_leave, 10},
    {soak_deadline, 5},     {soak_conversation, 12}, {soak_tokenize, 5}, {soak_reload, 1},
    {soak_bad_requests, 3}, {soak_adapters, 30},     {soak_replace, 6},  {soak_unload, 3},
    {soak_come_and_go, 6},
};

static void run_one(struct soak_thread *thread)
{
    uint32_t total = 0;
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        total += actions[i].weight;
    }
    uint32_t pick = soak_random(thread, total);
    size_t i = 0;
    while (pick >= actions[i].weight) {
        pick -= actions[i++].weight;
    }
    actions[i].run(thread);
    thread->n_done++;
}

static void *thread_main(void *arg)
{
    struct soak_thread *thread = arg;
    while (hs_clock_ms() < thread->until_ms && atomic_load(&n_failures) == 0) {
        run_one(thread);
    }
    return NULL;
}

static size_t count_entries(const char *folder)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    if (dir != NULL) {
        while (readdir(dir) != NULL) {
            n++;
        }
        closedir(dir);
    }
    return n;
}

struct footprint {
    size_t heap_bytes, n_descriptors, n_threads;
};

static struct footprint measure(void)
{
    malloc_trim(0);
    struct mallinfo2 info = mallinfo2();
    return (struct footprint){.heap_bytes = info.uordblks + info.hblkhd,
                              .n_descriptors = count_entries("/proc/self/fd"),
                              .n_threads = count_entries("/proc/self/task")};
}

/*
 * A reader that left waits for nobody: its request ends a step later. A thread that was joined is
 * in /proc a moment longer. So both are asked for until they are as they must be.
 */
static bool is_settling(double until_ms)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return hs_clock_ms() < until_ms;
}

static void check_idle(hs_engine *engine)
{
    struct hs_model_stats stats = {0};
    double until_ms = hs_clock_ms() + SETTLE_MS;
    do {
        SOAK_OK(hs_engine_model_stats(engine, SOAK_MODEL, &stats, NULL));
    } while (stats.n_running + stats.n_queued != 0 && is_settling(until_ms));
    SOAK_CHECK(stats.n_running == 0 && stats.n_queued == 0, "%d run and %d wait when all is done",
               stats.n_running, stats.n_queued);
    SOAK_CHECK(stats.adapter_bytes <= SOAK_ADAPTER_BUDGET, "%llu bytes of adapters",
               (unsigned long long)stats.adapter_bytes);
    SOAK_CHECK(stats.parked_bytes <= SOAK_PARK_BUDGET, "%llu bytes parked",
               (unsigned long long)stats.parked_bytes);
}

static bool has_grown(const struct footprint *first, const struct footprint *now)
{
    return now->heap_bytes > first->heap_bytes + GROWTH_MAX_BYTES ||
           now->n_descriptors > first->n_descriptors ||
           now->n_threads > first->n_threads + N_LOADERS;
}

static struct footprint check_growth(int round, const struct footprint *first)
{
    double until_ms = hs_clock_ms() + SETTLE_MS;
    struct footprint now = measure();
    while (first != NULL && has_grown(first, &now) && is_settling(until_ms)) {
        now = measure();
    }
    printf("round %d: %zu KiB of heap, %zu descriptors, %zu threads\n", round,
           now.heap_bytes / 1024, now.n_descriptors, now.n_threads);
    if (first != NULL && has_grown(first, &now)) {
        soak_fail(__FILE__, __LINE__,
                  "grew from %zu KiB of heap, %zu descriptors and %zu threads in the first round",
                  first->heap_bytes / 1024, first->n_descriptors, first->n_threads);
    }
    return now;
}

static uint64_t run_round(hs_engine *engine, int round, double seconds)
{
    struct soak_thread threads[N_THREADS];
    pthread_t ids[N_THREADS];
    uint64_t n_done = 0;
    int n_started = 0;
    for (int i = 0; i < N_THREADS; i++) {
        threads[i] = (struct soak_thread){.engine = engine,
                                          .number = i,
                                          .rng = base_seed + (uint64_t)(round * N_THREADS + i + 1),
                                          .until_ms = hs_clock_ms() + seconds * 1e3};
        if (pthread_create(&ids[i], NULL, thread_main, &threads[i]) != 0) {
            soak_fail(__FILE__, __LINE__, "cannot start thread %d", i);
            break;
        }
        n_started++;
    }
    for (int i = 0; i < n_started; i++) {
        pthread_join(ids[i], NULL);
        n_done += threads[i].n_done;
    }
    return n_done;
}

static bool start_engine(const char *folder, hs_engine **ret_engine)
{
    struct hs_error err = {0};
    struct hs_engine_params params;
    hs_engine_params_defaults(&params);
    params.sessions_dir = folder;
    params.max_queue = 4;
    params.park_budget_bytes = SOAK_PARK_BUDGET;
    params.adapter_budget_bytes = SOAK_ADAPTER_BUDGET;
    params.prefill_chunk = 64;
    if (hs_engine_create(&params, ret_engine, &err) != HS_OK ||
        soak_load(*ret_engine, SOAK_MODEL, &err) != HS_OK) {
        soak_fail(__FILE__, __LINE__, "%s", err.message);
        return false;
    }
    return soak_make_adapters(*ret_engine, folder);
}

static void soak(const char *folder, double seconds)
{
    hs_engine *engine = NULL;
    if (start_engine(folder, &engine)) {
        struct footprint first = {0};
        uint64_t n_done = 0;
        for (int round = 0; round < N_ROUNDS && atomic_load(&n_failures) == 0; round++) {
            n_done += run_round(engine, round, seconds / N_ROUNDS);
            check_idle(engine);
            struct footprint now = check_growth(round + 1, round == 0 ? NULL : &first);
            first = round == 0 ? now : first;
        }
        struct hs_model_stats stats;
        SOAK_OK(hs_engine_model_stats(engine, SOAK_MODEL, &stats, NULL));
        printf("%llu actions; %llu tokens generated, %llu evaluated and %llu reused of prompts\n",
               (unsigned long long)n_done, (unsigned long long)stats.n_generated_tokens,
               (unsigned long long)stats.n_prompt_tokens,
               (unsigned long long)stats.n_cached_tokens);
        printf("adapters (%s): %llu decodes, %llu of them with different sets, at most %d\n",
               hs_lora_engine_name(stats.lora_engine), (unsigned long long)stats.n_lora_decodes,
               (unsigned long long)stats.n_lora_decodes_mixed, stats.n_lora_sets_max);
        SOAK_CHECK(stats.lora_engine == HS_LORA_ENGINE_REWRITE && stats.n_lora_decodes_mixed > 0,
                   "adapters were not mixed in a batch: %s", stats.lora_reason);
    }
    hs_engine_free(engine);
}

int main(int argc, char **argv)
{
    const char *text = argc > 1 ? argv[1] : getenv("HS_SOAK_SECONDS");
    double seconds = text == NULL ? 600 : strtod(text, NULL);
    char folder[] = HS_TEST_TMP "/soak-XXXXXX";
    if (seconds <= 0 || mkdtemp(folder) == NULL) {
        fprintf(stderr, "usage: soak [SECONDS]\n");
        return 2;
    }
    const char *seed = getenv("HS_SOAK_SEED");
    base_seed = seed == NULL ? (uint64_t)hs_clock_unix_ms() * 1000 : strtoull(seed, NULL, 10);
    printf("seed %llu (HS_SOAK_SEED)\n", (unsigned long long)base_seed);
    if (soak_make_model(folder)) {
        soak(folder, seconds);
    }
    soak_remove_model();
    soak_remove_adapters();
    struct hs_error err;
    SOAK_OK(hs_fs_remove_all(folder, &err));
    printf("%llu failures\n", (unsigned long long)atomic_load(&n_failures));
    return atomic_load(&n_failures) == 0 ? 0 : 1;
}
