#include "adapter_eval.h"

#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

#define N_RUNS 24 /* requests under way */
#define ANSWER_TOKENS_MAX 128
#define FORCED 1e9f /* a bias above all logits */
#define WAIT_MS 50

/* One question of one column on its way: first its answer, then each token of the expected one. */
struct run {
    hs_stream *stream; /* NULL: idle */
    struct hs_eval_answer *answer;
    struct hs_adapter_ref adapters[HS_ROUTE_MAX];
    int32_t n_adapters; /* 0: the model alone */
    const struct hs_eval_case *question;
    struct hs_buf text;
    int32_t *tokens; /* the prompt's, then those of the expected answer */
    size_t n_prompt, n_tokens;
    size_t n_known; /* tokens of the prompt under way */
};

struct eval_state {
    struct hs_eval *eval;
    struct run runs[N_RUNS];
    size_t next, n_done, n_all;
};

/* ---- questions ---- */

static hs_status bad_line(struct hs_error *err, size_t line)
{
    hs_error_set(err, HS_BAD_FORMAT, "line %zu is not a question, a tab and an answer", line);
    hs_error_hint(err, "write each question and its answer on a line, with one tab between them");
    return HS_BAD_FORMAT;
}

static hs_status add_case(struct hs_buf *cases, char *line, size_t number, struct hs_error *err)
{
    char *tab = strchr(line, '\t');
    if (tab == NULL || tab == line || tab[1] == '\0' || strchr(tab + 1, '\t') != NULL) {
        return bad_line(err, number);
    }
    *tab = '\0';
    struct hs_eval_case item = {line, tab + 1};
    hs_status status = hs_buf_append(cases, &item, sizeof item);
    if (status == HS_LIMIT) {
        hs_error_set(err, HS_LIMIT, "more than %u questions", HS_EVAL_CASES_MAX);
        hs_error_hint(err, "split the file");
    } else if (status != HS_OK) {
        hs_error_nomem(err, "questions");
    }
    return status;
}

hs_status hs_eval_parse(char *text, struct hs_eval_case **ret_cases, size_t *ret_n,
                        struct hs_error *err)
{
    HS_CLEANUP(hs_buf_free)
    struct hs_buf cases = HS_BUF_INIT(HS_EVAL_CASES_MAX * sizeof(struct hs_eval_case));
    size_t number = 0;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        size_t len = strlen(line);
        number++;
        if (len > 0 && line[len - 1] == '\r') {
            line[--len] = '\0';
        }
        hs_status status = len > 0 ? add_case(&cases, line, number, err) : HS_OK;
        if (status != HS_OK) {
            return status;
        }
    }
    if (cases.len == 0) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "the file has no questions");
        hs_error_hint(err, "write each question and its answer on a line, with a tab between them");
        return HS_INVALID_ARGUMENT;
    }
    *ret_n = cases.len / sizeof(struct hs_eval_case);
    *ret_cases = (struct hs_eval_case *)(void *)cases.data;
    cases.data = NULL;
    return HS_OK;
}

/* ---- requests ---- */

static hs_status tokenize(struct eval_state *state, const char *question, const char *expected,
                          int32_t **ret_tokens, size_t *ret_n, struct hs_error *err)
{
    const struct hs_eval *eval = state->eval;
    HS_CLEANUP(hs_freep)
    char *text = hs_asprintf("Q: %s\nA:%s%s", question, expected != NULL ? " " : "",
                             expected != NULL ? expected : "");
    if (text == NULL) {
        return hs_error_nomem(err, "a question");
    }
    return hs_engine_tokenize(eval->engine, eval->model_id, text, strlen(text), true, false,
                              ret_tokens, ret_n, err);
}

static hs_status submit(struct eval_state *state, struct run *run, struct hs_error *err)
{
    const struct hs_eval *eval = state->eval;
    static const char *const stop[] = {"\n"};
    struct hs_generate_params params;
    const int32_t forced = run->n_known < run->n_tokens ? run->tokens[run->n_known] : 0;
    const float bias = FORCED;
    hs_generate_params_defaults(&params);
    params.sampling.temp = 0;
    params.cache_prompt = true;
    params.max_tokens = ANSWER_TOKENS_MAX;
    if (run->answer->text == NULL) {
        params.stop = stop;
        params.n_stop = 1;
    } else { /* just the one token, for what the model thinks of it */
        params.max_tokens = 1;
        params.n_logprobs = 1;
        params.ignore_eos = true;
        params.sampling.logit_bias_tokens = &forced;
        params.sampling.logit_bias_values = &bias;
        params.sampling.n_logit_bias = 1;
    }
    return hs_engine_complete(eval->engine, eval->model_id, run->adapters, run->n_adapters,
                              run->tokens, run->n_known, &params, &run->stream, err);
}

/* The tokens of the expected answer; those of the prompt may join with its first, then one of them
 * belongs to it. */
static hs_status prepare_scores(struct eval_state *state, struct run *run, struct hs_error *err)
{
    int32_t *all = NULL;
    size_t n = 0, same = 0;
    hs_status status =
        tokenize(state, run->question->question, run->question->expected, &all, &n, err);
    if (status != HS_OK) {
        return status;
    }
    while (same < run->n_prompt && same < n && all[same] == run->tokens[same]) {
        same++;
    }
    hs_tokens_free(run->tokens);
    run->tokens = all;
    run->n_tokens = n;
    run->n_prompt = run->n_known = same;
    return HS_OK;
}

/* The adapters of a column; those of routing are chosen now. */
static hs_status choose(struct hs_eval *eval, size_t column, size_t row, struct run *run,
                        struct hs_error *err)
{
    if (column == 0) {
        return HS_OK;
    }
    if (column <= eval->n_adapters) {
        run->adapters[run->n_adapters++] =
            (struct hs_adapter_ref){eval->adapters[column - 1], 1.0f};
        return HS_OK;
    }
    struct hs_route *route = &eval->routes[row];
    hs_status status = hs_engine_route(eval->engine, eval->model_id, run->question->question,
                                       eval->routing, route, err);
    for (int32_t i = 0; status == HS_OK && i < route->n_choices; i++) {
        run->adapters[run->n_adapters++] =
            (struct hs_adapter_ref){route->choices[i].name, route->choices[i].scale};
    }
    return status;
}

static hs_status begin(struct eval_state *state, struct run *run, struct hs_error *err)
{
    struct hs_eval *eval = state->eval;
    size_t n_columns = hs_eval_n_columns(eval);
    size_t column = state->next % n_columns, row = state->next / n_columns;
    *run = (struct run){.answer = &eval->answers[column * eval->n_cases + row],
                        .question = &eval->cases[row],
                        .text = HS_BUF_INIT(1u << 20)};
    state->next++;
    hs_status status = choose(eval, column, row, run, err);
    if (status == HS_OK) {
        status = tokenize(state, run->question->question, NULL, &run->tokens, &run->n_prompt, err);
    }
    run->n_known = run->n_tokens = run->n_prompt;
    return status == HS_OK ? submit(state, run, err) : status;
}

/* ---- answers ---- */

static void trim(char *text)
{
    size_t start = strspn(text, " "), len = strlen(text);
    while (len > start && text[len - 1] == ' ') {
        len--;
    }
    memmove(text, text + start, len - start);
    text[len - start] = '\0';
}

static bool equal_trimmed(const char *text, const char *expected)
{
    size_t start = strspn(expected, " "), len = strlen(expected);
    while (len > start && expected[len - 1] == ' ') {
        len--;
    }
    return strlen(text) == len - start && memcmp(text, expected + start, len - start) == 0;
}

/* The request of a run ended: on to the next token to score; without one the run is over. */
static hs_status go_on(struct eval_state *state, struct run *run, struct hs_error *err)
{
    hs_stream_free(run->stream);
    run->stream = NULL;
    hs_status status = HS_OK;
    if (run->answer->text == NULL) {
        status = hs_buf_append(&run->text, "", 0);
        status = status ? status : hs_buf_take(&run->text, &run->answer->text, NULL);
        if (status != HS_OK) {
            return hs_error_nomem(err, "an answer");
        }
        trim(run->answer->text);
        run->answer->is_exact = equal_trimmed(run->answer->text, run->question->expected);
        status = state->eval->with_likelihood ? prepare_scores(state, run, err) : HS_OK;
    } else {
        run->n_known++;
    }
    if (status == HS_OK && run->n_known < run->n_tokens) {
        return submit(state, run, err);
    }
    hs_tokens_free(run->tokens);
    run->tokens = NULL;
    state->n_done++;
    return status;
}

static hs_status take(struct eval_state *state, struct run *run, const struct hs_event *event,
                      struct hs_error *err)
{
    if (event->type == HS_EVENT_DONE && event->finish == HS_FINISH_ERROR) {
        *err = event->error;
        return event->error.status;
    }
    if (event->logprobs != NULL && run->answer->text != NULL && event->n_tokens > 0) {
        run->answer->log_likelihood += (double)event->logprobs[0].logprob;
        run->answer->n_scored++;
    }
    if (event->type == HS_EVENT_DONE) {
        return go_on(state, run, err);
    }
    if (run->answer->text == NULL &&
        hs_buf_append(&run->text, event->text, event->text_len) != HS_OK) {
        return hs_error_nomem(err, "an answer");
    }
    return HS_OK;
}

/* Events of one run; waits for the first. ret_moved: there was one. */
static hs_status poll_run(struct eval_state *state, struct run *run, int timeout_ms,
                          bool *ret_moved, struct hs_error *err)
{
    while (run->stream != NULL) {
        struct hs_event event;
        hs_status status = hs_stream_next(run->stream, timeout_ms, &event, err);
        if (status == HS_TIMEOUT) {
            return HS_OK;
        }
        *ret_moved = true;
        timeout_ms = 0;
        status = status == HS_OK ? take(state, run, &event, err) : status;
        if (status != HS_OK) {
            return status;
        }
    }
    return HS_OK;
}

static hs_status step(struct eval_state *state, struct hs_error *err)
{
    bool has_moved = false;
    hs_status status = HS_OK;
    for (size_t i = 0; i < N_RUNS && status == HS_OK; i++) {
        struct run *run = &state->runs[i];
        if (run->stream == NULL && state->next < state->n_all) {
            status = begin(state, run, err);
        }
        status = status ? status : poll_run(state, run, 0, &has_moved, err);
    }
    for (size_t i = 0; i < N_RUNS && status == HS_OK && !has_moved; i++) {
        if (state->runs[i].stream != NULL) {
            return poll_run(state, &state->runs[i], WAIT_MS, &has_moved, err);
        }
    }
    return status;
}

static hs_status start(struct eval_state *state, struct hs_eval *eval, struct hs_error *err)
{
    state->eval = eval;
    state->n_all = hs_eval_n_columns(eval) * eval->n_cases;
    eval->answers = hs_calloc(state->n_all, sizeof *eval->answers);
    eval->routes = hs_calloc(eval->routing == NULL ? 1 : eval->n_cases, sizeof *eval->routes);
    if (eval->answers == NULL || eval->routes == NULL) {
        return hs_error_nomem(err, "answers");
    }
    return HS_OK;
}

hs_status hs_eval_run(struct hs_eval *eval, hs_progress_fn progress, void *user,
                      struct hs_error *err)
{
    struct eval_state state = {0};
    hs_status status = start(&state, eval, err);
    while (status == HS_OK && state.n_done < state.n_all) {
        status = step(&state, err);
        if (status == HS_OK && progress != NULL &&
            !progress((float)state.n_done / (float)state.n_all, user)) {
            status = hs_error_set(err, HS_CANCELLED, "the evaluation was stopped");
        }
    }
    for (size_t i = 0; i < N_RUNS; i++) {
        hs_stream_free(state.runs[i].stream);
        hs_tokens_free(state.runs[i].tokens);
        hs_buf_free(&state.runs[i].text);
    }
    return status;
}

size_t hs_eval_n_columns(const struct hs_eval *eval)
{
    return 1 + eval->n_adapters + (eval->routing != NULL);
}

void hs_eval_free(struct hs_eval *eval)
{
    size_t n = hs_eval_n_columns(eval) * eval->n_cases;
    for (size_t i = 0; eval->answers != NULL && i < n; i++) {
        hs_free(eval->answers[i].text);
    }
    hs_free(eval->answers);
    hs_free(eval->routes);
    eval->answers = NULL;
    eval->routes = NULL;
}
