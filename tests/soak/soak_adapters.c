/*
 * Requests with adapters while these are replaced, unloaded and unregistered. What an adapter adds
 * to the formula's sum is known by its name and version; a request that is accepted while its
 * adapter is replaced may get either version, but nothing else.
 */
#include "soak.h"

#include <pthread.h>
#include <time.h>

#include "tiny_gguf.h"

#define N_NAMES 6
#define N_SHIFTS 40
#define REFS_MAX 2
#define CANDIDATES_MAX 256
#define EVENT_MAX_MS 300000

static char base_path[4096];
static struct {
    pthread_mutex_t mutex;  /* who replaces it */
    atomic_int begun, done; /* versions */
} names[N_NAMES];

static int32_t shift_of(int32_t name, int32_t version)
{
    return (name * 7 + version * 3) % N_SHIFTS - N_SHIFTS / 2;
}

static const char *file_of(int32_t shift, char path[4200])
{
    snprintf(path, 4200, "%s-%d.gguf", base_path, (int)shift + N_SHIFTS / 2);
    return path;
}

static hs_status set_adapter(hs_engine *engine, const char *name, int32_t shift, bool replaces,
                             struct hs_error *err)
{
    char path[4200];
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = name;
    params.model_id = SOAK_MODEL;
    params.path = file_of(shift, path);
    return replaces ? hs_engine_replace_adapter(engine, &params, err)
                    : hs_engine_register_adapter(engine, &params, err);
}

static const char *name_of(int32_t name)
{
    static const char *const texts[N_NAMES] = {"s0", "s1", "s2", "s3", "s4", "s5"};
    return texts[name];
}

bool soak_make_adapters(hs_engine *engine, const char *folder)
{
    snprintf(base_path, sizeof(base_path), "%s-adapter", folder);
    char path[4200];
    struct hs_error err = {0};
    for (int32_t shift = -N_SHIFTS / 2; shift < N_SHIFTS / 2; shift++) {
        SOAK_CHECK(tiny_gguf_adapter_write(file_of(shift, path), shift, 1), "cannot write %s",
                   path);
    }
    for (int32_t i = 0; i < N_NAMES; i++) {
        pthread_mutex_init(&names[i].mutex, NULL);
        if (set_adapter(engine, name_of(i), shift_of(i, 0), false, &err) != HS_OK) {
            soak_fail(__FILE__, __LINE__, "%s", err.message);
            return false;
        }
    }
    return true;
}

void soak_remove_adapters(void)
{
    char path[4200];
    for (int32_t shift = -N_SHIFTS / 2; shift < N_SHIFTS / 2; shift++) {
        unlink(file_of(shift, path));
    }
}

/* ---- what may come out ---- */

struct candidates {
    int32_t shifts[CANDIDATES_MAX];
    int32_t n;
};

/* Each of the sums so far, with each version from `first` to `last` of one more adapter. */
static void add_versions(struct candidates *sums, int32_t name, int32_t scale, int32_t first,
                         int32_t last)
{
    struct candidates more = {.n = 0};
    for (int32_t i = 0; i < sums->n; i++) {
        for (int32_t v = first; v <= last && more.n < CANDIDATES_MAX; v++) {
            more.shifts[more.n++] = sums->shifts[i] + scale * shift_of(name, v);
        }
    }
    *sums = more;
}

static bool is_expected(const struct candidates *sums, const int32_t *prompt, size_t n,
                        int32_t n_more, const char *text)
{
    int32_t tokens[SOAK_PROMPT_MAX + SOAK_ANSWER_MAX];
    char expected[SOAK_ANSWER_MAX * 8];
    for (int32_t i = 0; i < sums->n; i++) {
        memcpy(tokens, prompt, n * sizeof(tokens[0]));
        (void)soak_expect(sums->shifts[i], tokens, n, n_more, expected, NULL);
        if (strcmp(text, expected) == 0) {
            return true;
        }
    }
    return false;
}

/* NULL: the queue was full all the time. */
static hs_stream *submit(struct soak_thread *thread, const struct hs_adapter_ref *refs,
                         int32_t n_refs, const int32_t *tokens, size_t n, int32_t max_tokens)
{
    struct hs_generate_params params;
    struct hs_error err = {0};
    hs_stream *stream = NULL;
    hs_generate_params_defaults(&params);
    params.sampling.temp = 0;
    params.max_tokens = max_tokens;
    params.cache_prompt = soak_random(thread, 8) != 0;
    hs_status status = HS_QUEUE_FULL;
    for (int i = 0; i < 1000 && status == HS_QUEUE_FULL; i++) {
        status = hs_engine_complete(thread->engine, SOAK_MODEL, refs, n_refs, tokens, n, &params,
                                    &stream, &err);
        if (status == HS_QUEUE_FULL) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    SOAK_CHECK(status == HS_OK || status == HS_QUEUE_FULL, "refused: %s", err.message);
    return status == HS_OK ? stream : NULL;
}

static void read_text(hs_stream *stream, char text[SOAK_ANSWER_MAX * 8])
{
    struct hs_event event = {0};
    struct hs_error err = {0};
    size_t len = 0;
    text[0] = '\0';
    for (;;) {
        hs_status status = hs_stream_next(stream, EVENT_MAX_MS, &event, &err);
        SOAK_CHECK(status == HS_OK, "no event: %s", err.message);
        if (status != HS_OK || event.type == HS_EVENT_DONE ||
            len + event.text_len >= SOAK_ANSWER_MAX * 8) {
            break;
        }
        memcpy(text + len, event.text, event.text_len + 1);
        len += event.text_len;
    }
    SOAK_CHECK(event.finish == HS_FINISH_LENGTH, "ended with %s: %s", hs_finish_name(event.finish),
               event.error.message);
    hs_stream_free(stream);
}

/* ---- actions ---- */

void soak_adapters(struct soak_thread *thread)
{
    int32_t tokens[SOAK_PROMPT_MAX + SOAK_ANSWER_MAX];
    char text[SOAK_ANSWER_MAX * 8];
    size_t n = soak_prompt(thread, tokens);
    int32_t max_tokens = 1 + (int32_t)soak_random(thread, SOAK_ANSWER_MAX);
    int32_t n_refs = 1 + (int32_t)soak_random(thread, REFS_MAX);
    struct hs_adapter_ref refs[REFS_MAX];
    int32_t chosen[REFS_MAX], before[REFS_MAX];
    chosen[0] = (int32_t)soak_random(thread, N_NAMES);
    chosen[1] = (chosen[0] + 1 + (int32_t)soak_random(thread, N_NAMES - 1)) % N_NAMES;
    for (int32_t i = 0; i < n_refs; i++) {
        static const float scales[] = {1, -1, 2, 0};
        refs[i] = (struct hs_adapter_ref){name_of(chosen[i]), scales[soak_random(thread, 4)]};
        before[i] = atomic_load(&names[chosen[i]].done);
    }
    hs_stream *stream = submit(thread, refs, n_refs, tokens, n, max_tokens);
    if (stream == NULL) {
        return;
    }
    struct candidates sums = {.shifts = {0}, .n = 1};
    for (int32_t i = 0; i < n_refs; i++) {
        int32_t after = atomic_load(&names[chosen[i]].begun);
        add_versions(&sums, chosen[i], (int32_t)refs[i].scale, before[i], after);
    }
    if (soak_random(thread, 10) == 0) {
        hs_stream_free(stream);
        return;
    }
    read_text(stream, text);
    SOAK_CHECK(is_expected(&sums, tokens, n, max_tokens, text),
               "%d adapters, %d sums such as %d: got '%s'", n_refs, sums.n, sums.shifts[0], text);
}

void soak_replace(struct soak_thread *thread)
{
    int32_t i = (int32_t)soak_random(thread, N_NAMES);
    struct hs_error err = {0};
    pthread_mutex_lock(&names[i].mutex);
    int32_t version = atomic_load(&names[i].done) + 1;
    atomic_store(&names[i].begun, version);
    hs_status status = set_adapter(thread->engine, name_of(i), shift_of(i, version), true, &err);
    SOAK_CHECK(status == HS_OK, "not replaced: %s", err.message);
    atomic_store(&names[i].done, version);
    pthread_mutex_unlock(&names[i].mutex);
}

void soak_unload(struct soak_thread *thread)
{
    struct hs_error err = {0};
    const char *name = name_of((int32_t)soak_random(thread, N_NAMES));
    hs_status status = hs_engine_unload_adapter(thread->engine, name, &err);
    SOAK_CHECK(status == HS_OK || status == HS_BUSY, "not unloaded: %s", err.message);
}

void soak_come_and_go(struct soak_thread *thread)
{
    int32_t tokens[SOAK_PROMPT_MAX + SOAK_ANSWER_MAX];
    char text[SOAK_ANSWER_MAX * 8];
    char name[32];
    struct hs_error err = {0};
    int32_t shift = (int32_t)soak_random(thread, N_SHIFTS) - N_SHIFTS / 2;
    size_t n = soak_prompt(thread, tokens);
    int32_t max_tokens = 1 + (int32_t)soak_random(thread, SOAK_ANSWER_MAX);
    snprintf(name, sizeof(name), "t%d", thread->number);
    hs_status status = set_adapter(thread->engine, name, shift, false, &err);
    SOAK_CHECK(status == HS_OK, "not registered: %s", err.message);
    struct hs_adapter_ref ref = {name, 1};
    hs_stream *stream = submit(thread, &ref, 1, tokens, n, max_tokens);
    SOAK_OK(hs_engine_unregister_adapter(thread->engine, name, NULL));
    if (stream != NULL) {
        struct candidates sums = {.shifts = {shift}, .n = 1};
        read_text(stream, text);
        SOAK_CHECK(is_expected(&sums, tokens, n, max_tokens, text), "shift %d: got '%s'", shift,
                   text);
    }
}
