#include "soak.h"

#include <pthread.h>
#include <time.h>

#include "tiny_gguf.h"

#define TURNS_MAX 3
#define N_SHARED_PROMPTS 6
#define EVENT_MAX_MS 300000 /* only a lost event takes so long, on any machine */

static char model_path[4096];

uint32_t soak_random(struct soak_thread *thread, uint32_t n)
{
    uint64_t x = thread->rng += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)((x ^ (x >> 31)) >> 33) % n;
}

static void make_spec(struct tiny_gguf_spec *spec)
{
    tiny_gguf_defaults(spec);
    spec->kind = TINY_GGUF_HISTORY;
    spec->chat_template = tiny_gguf_chatml;
    spec->add_bos = false; /* the template writes it */
}

bool soak_make_model(const char *folder)
{
    struct tiny_gguf_spec spec;
    make_spec(&spec);
    snprintf(model_path, sizeof(model_path), "%s.gguf", folder);
    bool is_ok = tiny_gguf_write(&spec, model_path);
    SOAK_CHECK(is_ok, "cannot write %s", model_path);
    return is_ok;
}

void soak_remove_model(void)
{
    unlink(model_path);
}

hs_status soak_load(hs_engine *engine, const char *id, struct hs_error *err)
{
    struct hs_model_params params;
    char model_id[HS_ID_MAX];
    hs_model_params_defaults(&params);
    params.n_ctx = SOAK_N_CTX;
    params.n_batch = 256;
    params.n_ubatch = 128;
    params.n_seq_max = 8;
    params.n_threads = 1;
    return hs_engine_load_model(engine, model_path, id, &params, model_id, err);
}

/* ---- a request and what must come out ---- */

struct request {
    int32_t tokens[SOAK_PROMPT_MAX + SOAK_ANSWER_MAX];
    size_t n_prompt;
    int32_t max_tokens;
    char text[SOAK_ANSWER_MAX * 8]; /* the whole answer */
    size_t text_len;
    size_t token_end[SOAK_ANSWER_MAX]; /* where each token's text ends */
};

size_t soak_expect(int32_t shift, int32_t *tokens, size_t n, int32_t n_more, char *text,
                   size_t *ends)
{
    size_t len = 0;
    for (int32_t i = 0; i < n_more; i++) {
        size_t piece = 0;
        tokens[n] = tiny_gguf_history_next_with(shift, tokens, n);
        SOAK_CHECK(tiny_gguf_text(tokens[n], text + len, &piece), "no text for %d", tokens[n]);
        len += piece;
        n++;
        if (ends != NULL) {
            ends[i] = len;
        }
    }
    text[len] = '\0';
    return len;
}

size_t soak_prompt(struct soak_thread *thread, int32_t *tokens)
{
    size_t n = 1 + soak_random(thread, SOAK_PROMPT_MAX);
    size_t n_shared = soak_random(thread, 3) == 0 ? 0 : soak_random(thread, (uint32_t)n);
    struct soak_thread shared = {.rng = soak_random(thread, N_SHARED_PROMPTS)};
    tokens[0] = TINY_GGUF_BOS;
    for (size_t i = 1; i < n; i++) {
        struct soak_thread *source = i < n_shared ? &shared : thread;
        tokens[i] = TINY_GGUF_SPACE + (int32_t)soak_random(source, 300);
    }
    return n;
}

static void make_request(struct soak_thread *thread, struct request *request)
{
    size_t n = soak_prompt(thread, request->tokens);
    request->n_prompt = n;
    request->max_tokens = 1 + (int32_t)soak_random(thread, SOAK_ANSWER_MAX);
    request->text_len =
        soak_expect(0, request->tokens, n, request->max_tokens, request->text, request->token_end);
}

static void make_params(struct soak_thread *thread, struct hs_generate_params *params)
{
    hs_generate_params_defaults(params);
    params->sampling.temp = soak_random(thread, 2) == 0 ? 0.0f : 0.7f;
    params->sampling.seed = soak_random(thread, 1000);
    params->cache_prompt = soak_random(thread, 5) != 0;
    params->stream_capacity = soak_random(thread, 3) == 0 ? 1 : 0;
    params->n_logprobs = soak_random(thread, 4) == 0 ? (int32_t)soak_random(thread, 4) : 0;
}

/* NULL: the queue was full all the time (not a failure), or it was refused (one). */
static hs_stream *submit(struct soak_thread *thread, const struct request *request,
                         const struct hs_generate_params *params)
{
    struct hs_error err = {0};
    for (int i = 0; i < 1000; i++) {
        hs_stream *stream = NULL;
        hs_status status = hs_engine_complete(thread->engine, SOAK_MODEL, NULL, 0, request->tokens,
                                              request->n_prompt, params, &stream, &err);
        if (status == HS_OK) {
            return stream;
        }
        if (status != HS_QUEUE_FULL) {
            soak_fail(__FILE__, __LINE__, "refused: %s", err.message);
            return NULL;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return NULL;
}

static void dawdle(struct soak_thread *thread)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000L * soak_random(thread, 3000)}, NULL);
}

/* The next event; a text event must go on where `*at` of text[len] is. */
static enum hs_finish read_event(struct soak_thread *thread, hs_stream *stream, const char *text,
                                 size_t len, size_t *at, struct hs_event *ret_event)
{
    int timeout_ms = soak_random(thread, 4) == 0 ? (int)soak_random(thread, 3) : EVENT_MAX_MS;
    struct hs_error err = {0};
    hs_status status = hs_stream_next(stream, timeout_ms, ret_event, &err);
    while (status == HS_TIMEOUT && timeout_ms < EVENT_MAX_MS) {
        timeout_ms = EVENT_MAX_MS;
        status = hs_stream_next(stream, timeout_ms, ret_event, &err);
    }
    if (status != HS_OK) {
        soak_fail(__FILE__, __LINE__, "no event: %s", err.message);
        return HS_FINISH_ERROR;
    }
    if (ret_event->type == HS_EVENT_DONE) {
        return ret_event->finish;
    }
    if (ret_event->text_len > len - *at ||
        memcmp(ret_event->text, text + *at, ret_event->text_len) != 0) {
        soak_fail(__FILE__, __LINE__, "got '%s' at %zu of '%s'", ret_event->text, *at, text);
        return HS_FINISH_ERROR;
    }
    *at += ret_event->text_len;
    return HS_FINISH_NONE;
}

/* Read to the end. Returns how it ended; *ret_len is how much text came. */
static enum hs_finish read_all(struct soak_thread *thread, hs_stream *stream, const char *text,
                               size_t len, size_t *ret_len, struct hs_event *ret_done)
{
    bool is_slow = soak_random(thread, 6) == 0;
    enum hs_finish finish = HS_FINISH_NONE;
    *ret_len = 0;
    while (finish == HS_FINISH_NONE) {
        if (is_slow) {
            dawdle(thread);
        }
        finish = read_event(thread, stream, text, len, ret_len, ret_done);
    }
    return finish;
}

/* ---- actions on single requests ---- */

void soak_complete(struct soak_thread *thread)
{
    struct request request;
    struct hs_generate_params params;
    struct hs_event done = {0};
    size_t len = 0;
    make_request(thread, &request);
    make_params(thread, &params);
    params.max_tokens = request.max_tokens;
    hs_stream *stream = submit(thread, &request, &params);
    if (stream == NULL) {
        return;
    }
    enum hs_finish finish = read_all(thread, stream, request.text, request.text_len, &len, &done);
    SOAK_CHECK(finish == HS_FINISH_LENGTH, "ended with %s: %s", hs_finish_name(finish),
               done.error.message);
    SOAK_CHECK(len == request.text_len, "%zu bytes of '%s'", len, request.text);
    SOAK_CHECK(done.usage.prompt_tokens == (int32_t)request.n_prompt, "%d prompt tokens",
               done.usage.prompt_tokens);
    SOAK_CHECK(done.usage.completion_tokens == request.max_tokens, "%d tokens instead of %d",
               done.usage.completion_tokens, request.max_tokens);
    SOAK_CHECK(done.usage.cached_tokens < done.usage.prompt_tokens, "%d of %d tokens reused",
               done.usage.cached_tokens, done.usage.prompt_tokens);
    hs_stream_free(stream);
}

void soak_stop_string(struct soak_thread *thread)
{
    struct request request;
    struct hs_generate_params params;
    struct hs_event done = {0};
    char stop_text[8] = "";
    const char *const stop[] = {"no such text", stop_text};
    size_t len = 0;
    make_request(thread, &request);
    make_params(thread, &params);
    params.max_tokens = request.max_tokens;
    size_t begin = soak_random(thread, (uint32_t)request.text_len);
    snprintf(stop_text, 2 + soak_random(thread, 6), "%s", request.text + begin);
    params.stop = stop;
    params.n_stop = 2;
    size_t want = (size_t)(strstr(request.text, stop_text) - request.text);
    hs_stream *stream = submit(thread, &request, &params);
    if (stream == NULL) {
        return;
    }
    enum hs_finish finish = read_all(thread, stream, request.text, want, &len, &done);
    SOAK_CHECK(finish == HS_FINISH_STOP, "ended with %s: %s", hs_finish_name(finish),
               done.error.message);
    SOAK_CHECK(len == want, "%zu bytes instead of %zu of '%s' before '%s'", len, want, request.text,
               stop_text);
    hs_stream_free(stream);
}

static void *cancel_main(void *arg)
{
    hs_stream_cancel(arg);
    return NULL;
}

void soak_cancel(struct soak_thread *thread)
{
    struct request request;
    struct hs_generate_params params;
    struct hs_event done = {0};
    pthread_t canceller;
    size_t at = 0;
    size_t rest = 0;
    make_request(thread, &request);
    make_params(thread, &params);
    params.max_tokens = request.max_tokens;
    hs_stream *stream = submit(thread, &request, &params);
    if (stream == NULL) {
        return;
    }
    enum hs_finish finish = HS_FINISH_NONE;
    for (uint32_t n = soak_random(thread, 20); n > 0 && finish == HS_FINISH_NONE; n--) {
        finish = read_event(thread, stream, request.text, request.text_len, &at, &done);
    }
    bool has_thread = pthread_create(&canceller, NULL, cancel_main, stream) == 0;
    if (finish == HS_FINISH_NONE) {
        finish = read_all(thread, stream, request.text + at, request.text_len - at, &rest, &done);
    }
    SOAK_CHECK(finish == HS_FINISH_CANCELLED || finish == HS_FINISH_LENGTH, "ended with %s",
               hs_finish_name(finish));
    SOAK_CHECK(finish == HS_FINISH_CANCELLED || at + rest == request.text_len, "%zu bytes of '%s'",
               at + rest, request.text);
    if (has_thread) {
        pthread_join(canceller, NULL);
    }
    hs_stream_free(stream);
}

void soak_leave(struct soak_thread *thread)
{
    struct request request;
    struct hs_generate_params params;
    struct hs_event event = {0};
    size_t at = 0;
    make_request(thread, &request);
    make_params(thread, &params);
    params.max_tokens = request.max_tokens;
    hs_stream *stream = submit(thread, &request, &params);
    enum hs_finish finish = stream == NULL ? HS_FINISH_ERROR : HS_FINISH_NONE;
    for (uint32_t n = soak_random(thread, 10); n > 0 && finish == HS_FINISH_NONE; n--) {
        finish = read_event(thread, stream, request.text, request.text_len, &at, &event);
    }
    hs_stream_free(stream);
}

void soak_deadline(struct soak_thread *thread)
{
    struct request request;
    struct hs_generate_params params;
    struct hs_event done = {0};
    size_t len = 0;
    make_request(thread, &request);
    make_params(thread, &params);
    params.max_tokens = request.max_tokens;
    params.deadline_ms = 1 + soak_random(thread, 40);
    hs_stream *stream = submit(thread, &request, &params);
    if (stream == NULL) {
        return;
    }
    enum hs_finish finish = read_all(thread, stream, request.text, request.text_len, &len, &done);
    bool is_late = finish == HS_FINISH_ERROR && done.error.status == HS_TIMEOUT;
    SOAK_CHECK(is_late || (finish == HS_FINISH_LENGTH && len == request.text_len),
               "ended with %s: %s", hs_finish_name(finish), done.error.message);
    hs_stream_free(stream);
}

/* ---- conversations ---- */

/* The answer by the formula: rendered and tokenized by the engine, computed here. */
static size_t expect_answer(struct soak_thread *thread, const char *session_id, const char *prompt,
                            int32_t max_tokens, char *text)
{
    struct hs_message messages[2 * TURNS_MAX + 2] = {{0}};
    char *rendered = NULL;
    int32_t *tokens = NULL;
    size_t n = 0;
    size_t len = 0;
    size_t n_tokens = 0;
    struct hs_generate_params params;
    hs_generate_params_defaults(&params);
    SOAK_OK(hs_session_message_count(thread->engine, session_id, &n, NULL));
    for (size_t i = 0; i < n && i < 2 * TURNS_MAX + 1; i++) {
        SOAK_OK(hs_session_message(thread->engine, session_id, i, &messages[i], NULL));
    }
    messages[n] = (struct hs_message){.role = "user", .content = prompt};
    SOAK_OK(hs_engine_render(thread->engine, SOAK_MODEL, messages, n + 1, &params, &rendered, &len,
                             NULL));
    SOAK_OK(hs_engine_tokenize(thread->engine, SOAK_MODEL, rendered, len, false, true, &tokens,
                               &n_tokens, NULL));
    int32_t *all = malloc((n_tokens + (size_t)max_tokens) * sizeof(all[0]));
    if (all != NULL && tokens != NULL) {
        memcpy(all, tokens, n_tokens * sizeof(all[0]));
        len = soak_expect(0, all, n_tokens, max_tokens, text, NULL);
    }
    free(all);
    hs_tokens_free(tokens);
    hs_text_free(rendered);
    for (size_t i = 0; i < n; i++) {
        hs_message_free(&messages[i]);
    }
    return len;
}

static bool take_turn(struct soak_thread *thread, const char *session_id)
{
    char text[SOAK_ANSWER_MAX * 8];
    char prompt[64];
    struct hs_generate_params params;
    struct hs_error err = {0};
    struct hs_event done = {0};
    hs_stream *stream = NULL;
    size_t len = 0;
    int32_t max_tokens = 1 + (int32_t)soak_random(thread, SOAK_ANSWER_MAX);
    snprintf(prompt, sizeof(prompt), "say %u", soak_random(thread, 1000000));
    size_t want = expect_answer(thread, session_id, prompt, max_tokens, text);
    make_params(thread, &params);
    params.max_tokens = max_tokens;
    hs_status status = HS_QUEUE_FULL;
    while (status == HS_QUEUE_FULL && hs_clock_ms() < thread->until_ms) {
        status = hs_engine_generate(thread->engine, session_id, prompt, &params, &stream, &err);
        if (status == HS_QUEUE_FULL) {
            dawdle(thread);
        }
    }
    if (status != HS_OK) {
        SOAK_CHECK(status == HS_QUEUE_FULL, "turn refused: %s", err.message);
        return false;
    }
    enum hs_finish finish = read_all(thread, stream, text, want, &len, &done);
    SOAK_CHECK(finish == HS_FINISH_LENGTH && len == want, "turn ended with %s after %zu of %zu: %s",
               hs_finish_name(finish), len, want, done.error.message);
    hs_stream_free(stream);
    return finish == HS_FINISH_LENGTH;
}

/* A named session is one thread's own, so that nobody else has it open. */
void soak_conversation(struct soak_thread *thread)
{
    char name[64];
    char session_id[HS_ID_MAX];
    struct hs_session_params params;
    struct hs_error err = {0};
    hs_session_params_defaults(&params);
    params.model_id = SOAK_MODEL;
    params.save_kv = true;
    bool is_named = soak_random(thread, 2) == 0;
    snprintf(name, sizeof(name), "talk-%d-%u", thread->number, soak_random(thread, 3));
    params.name = is_named ? name : NULL;
    params.system = soak_random(thread, 2) == 0 ? "be brief" : NULL;
    if (hs_engine_create_session(thread->engine, &params, session_id, &err) != HS_OK) {
        soak_fail(__FILE__, __LINE__, "no session: %s", err.message);
        return;
    }
    size_t n = 0;
    SOAK_OK(hs_session_message_count(thread->engine, session_id, &n, NULL));
    if (n >= 2 * TURNS_MAX) {
        SOAK_OK(hs_session_truncate(thread->engine, session_id, 0, NULL));
        n = 0;
    }
    bool goes_on = true;
    for (size_t turn = n / 2; turn < TURNS_MAX && goes_on; turn++) {
        goes_on = soak_random(thread, 3) != 0 && take_turn(thread, session_id);
    }
    SOAK_OK(hs_engine_close_session(thread->engine, session_id, NULL));
}

/* ---- the rest ---- */

void soak_tokenize(struct soak_thread *thread)
{
    struct request request;
    int32_t *tokens = NULL;
    char *text = NULL;
    size_t n = 0;
    size_t len = 0;
    make_request(thread, &request);
    SOAK_OK(hs_engine_tokenize(thread->engine, SOAK_MODEL, request.text, request.text_len, false,
                               false, &tokens, &n, NULL));
    SOAK_CHECK(n == (size_t)request.max_tokens, "'%s' became %zu tokens", request.text, n);
    SOAK_CHECK(n == 0 ||
                   memcmp(tokens, request.tokens + request.n_prompt, n * sizeof(tokens[0])) == 0,
               "'%s' became other tokens", request.text);
    SOAK_OK(hs_engine_detokenize(thread->engine, SOAK_MODEL, tokens, n, false, &text, &len, NULL));
    SOAK_CHECK(len == request.text_len && memcmp(text, request.text, len) == 0,
               "'%s' came back as '%s'", request.text, text);
    hs_tokens_free(tokens);
    hs_text_free(text);
}

void soak_reload(struct soak_thread *thread)
{
    char id[32];
    struct hs_error err = {0};
    struct request request;
    struct hs_generate_params params;
    struct hs_event done = {0};
    hs_stream *stream = NULL;
    size_t len = 0;
    snprintf(id, sizeof(id), "guest-%d", thread->number);
    if (soak_load(thread->engine, id, &err) != HS_OK) {
        soak_fail(__FILE__, __LINE__, "cannot load again: %s", err.message);
        return;
    }
    make_request(thread, &request);
    make_params(thread, &params);
    params.max_tokens = request.max_tokens;
    SOAK_OK(hs_engine_complete(thread->engine, id, NULL, 0, request.tokens, request.n_prompt,
                               &params, &stream, &err));
    if (stream != NULL) {
        enum hs_finish finish =
            read_all(thread, stream, request.text, request.text_len, &len, &done);
        SOAK_CHECK(finish == HS_FINISH_LENGTH && len == request.text_len, "guest ended with %s",
                   hs_finish_name(finish));
        hs_stream_free(stream);
    }
    SOAK_OK(hs_engine_unload_model(thread->engine, id, &err));
}

static void expect_refused(struct soak_thread *thread, const char *model_id, const int32_t *tokens,
                           size_t n, const struct hs_generate_params *params, hs_status want)
{
    hs_stream *stream = NULL;
    struct hs_error err = {0};
    hs_status status =
        hs_engine_complete(thread->engine, model_id, NULL, 0, tokens, n, params, &stream, &err);
    SOAK_CHECK(status == want || status == HS_QUEUE_FULL, "%s instead of %s",
               hs_status_name(status), hs_status_name(want));
    SOAK_CHECK(stream == NULL && err.message[0] != '\0', "a refusal without a message");
    hs_stream_free(stream);
}

void soak_bad_requests(struct soak_thread *thread)
{
    static const int32_t long_prompt[SOAK_N_CTX + 1] = {TINY_GGUF_BOS};
    const int32_t wrong_token[] = {TINY_GGUF_BOS, TINY_GGUF_N_VOCAB};
    const char *const stop[] = {""};
    struct hs_generate_params params;
    hs_generate_params_defaults(&params);
    expect_refused(thread, "nobody", long_prompt, 1, &params, HS_NOT_FOUND);
    expect_refused(thread, SOAK_MODEL, long_prompt, SOAK_N_CTX + 1, &params, HS_CONTEXT_FULL);
    expect_refused(thread, SOAK_MODEL, wrong_token, 2, &params, HS_INVALID_ARGUMENT);
    params.stop = stop;
    params.n_stop = 1;
    expect_refused(thread, SOAK_MODEL, long_prompt, 1, &params, HS_INVALID_ARGUMENT);
}
