#include "fn_batch.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "fn_vectors.h"

#define UNITS_MAX 128      /* requests of one batch under way */
#define UNIT_INPUTS_MAX 32 /* texts of one request for embeddings */
#define RETRY_NS 20000000  /* until the engine's queue, full of others' requests, is asked again */
#define ANSWER_MAX (64u << 20) /* bytes */

struct pump;

/* A request under way. */
struct unit {
    struct pump *pump;
    hs_stream *stream; /* NULL: idle */
    struct hs_fn_entry *entries[UNIT_INPUTS_MAX];
    size_t n_entries;
    struct hs_buf text;
    size_t n_scored;
    double begun_ms;
    bool is_ready; /* there are events; guarded by the pump's mutex */
};

struct pump {
    struct hs_fn_batch *batch;
    struct unit *units; /* [UNITS_MAX] */
    size_t n_running;
    bool is_full; /* the engine refused a request because of its queue */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_cancelled, has_news; /* guarded by the mutex */
};

/* ---- what is asked of the engine ---- */

/* The system message of the options, then those of the input. */
static hs_status split_messages(const struct hs_fn_entry *entry, struct hs_message **ret,
                                size_t *ret_n, struct hs_error *err)
{
    const char *system = entry->target->system;
    size_t n = system != NULL, n_max = n;
    for (size_t i = 0; i < entry->input_len; i++) {
        n_max += entry->input[i] == '\0';
    }
    struct hs_message *messages = hs_calloc(n_max + 1, sizeof *messages);
    if (messages == NULL) {
        return hs_error_nomem(err, "messages");
    }
    messages[0] = (struct hs_message){.role = "system", .content = system};
    const char *at = entry->input, *end = entry->input + entry->input_len;
    while (at < end) {
        const char *content = at + strlen(at) + 1;
        messages[n++] = (struct hs_message){.role = at, .content = content};
        at = content + strlen(content) + 1;
    }
    *ret = messages;
    *ret_n = n;
    return HS_OK;
}

/* A model without a template goes on with the text as it is. */
static hs_status submit_text(const struct hs_fn_entry *entry, const struct hs_message *messages,
                             size_t n, const struct hs_generate_params *params, hs_stream **ret,
                             hs_engine *engine, struct hs_error *err)
{
    const struct hs_fn_target *target = entry->target;
    if (n != 1) {
        hs_error_set(err, HS_NOT_SUPPORTED, "the model '%s' has no chat template",
                     target->model.id);
        hs_error_hint(err, "give it one prompt, without a system message");
        return HS_NOT_SUPPORTED;
    }
    int32_t *tokens = NULL;
    size_t n_tokens = 0;
    const char *text = messages[0].content;
    hs_status status = hs_engine_tokenize(engine, target->model.id, text, strlen(text), true, false,
                                          &tokens, &n_tokens, err);
    if (status == HS_OK) {
        status = hs_engine_complete(engine, target->model.id, target->adapters, target->n_adapters,
                                    tokens, n_tokens, params, ret, err);
    }
    hs_tokens_free(tokens);
    return status;
}

static hs_status submit_answer(const struct hs_fn_batch *batch, const struct hs_fn_entry *entry,
                               const struct hs_generate_params *params, hs_stream **ret,
                               struct hs_error *err)
{
    const struct hs_fn_target *target = entry->target;
    HS_CLEANUP(hs_freep) struct hs_message *messages = NULL;
    size_t n = 0;
    hs_status status = split_messages(entry, &messages, &n, err);
    if (status != HS_OK) {
        return status;
    }
    if (!target->model.has_chat_template) {
        return submit_text(entry, messages, n, params, ret, batch->host->engine, err);
    }
    return hs_engine_chat(batch->host->engine, target->model.id, target->adapters,
                          target->n_adapters, messages, n, params, ret, err);
}

/* The tokens behind the prompt are the answer, whatever the model thinks of them. */
static hs_status submit_score(const struct hs_fn_batch *batch, const struct hs_fn_entry *entry,
                              struct hs_generate_params *params, hs_stream **ret,
                              struct hs_error *err)
{
    const struct hs_fn_target *target = entry->target;
    size_t n_prompt = 0, n = (entry->input_len - sizeof n_prompt) / sizeof(int32_t);
    HS_CLEANUP(hs_freep) int32_t *tokens = hs_calloc(n + 1, sizeof *tokens);
    if (tokens == NULL) {
        return hs_error_nomem(err, "tokens");
    }
    memcpy(&n_prompt, entry->input, sizeof n_prompt);
    memcpy(tokens, entry->input + sizeof n_prompt, n * sizeof *tokens);
    params->stop = NULL;
    params->n_stop = 0;
    params->json_schema = NULL;
    params->sampling.temp = 0;
    params->sampling.grammar = NULL;
    params->sampling.forced = tokens + n_prompt;
    params->sampling.n_forced = params->max_tokens = (int32_t)(n - n_prompt);
    params->n_logprobs = 1;
    return hs_engine_complete(batch->host->engine, target->model.id, target->adapters,
                              target->n_adapters, tokens, n_prompt, params, ret, err);
}

static hs_status submit_embeddings(const struct hs_fn_batch *batch, const struct unit *unit,
                                   const char *client, hs_stream **ret, struct hs_error *err)
{
    const char *model_id = unit->entries[0]->target->model.id;
    struct hs_embed_input inputs[UNIT_INPUTS_MAX];
    int32_t *tokens[UNIT_INPUTS_MAX] = {NULL};
    struct hs_embed_params params;
    hs_embed_params_defaults(&params);
    params.client = client;
    hs_status status = HS_OK;
    for (size_t i = 0; i < unit->n_entries && status == HS_OK; i++) {
        const struct hs_fn_entry *entry = unit->entries[i];
        status = hs_engine_tokenize(batch->host->engine, model_id, entry->input, entry->input_len,
                                    true, false, &tokens[i], &inputs[i].n_tokens, err);
        inputs[i].tokens = tokens[i];
    }
    if (status == HS_OK) {
        status = hs_engine_embed(batch->host->engine, model_id, inputs, unit->n_entries, &params,
                                 ret, err);
    }
    for (size_t i = 0; i < unit->n_entries; i++) {
        hs_tokens_free(tokens[i]);
    }
    return status;
}

static struct hs_generate_params params_of(const struct hs_fn_batch *batch,
                                           const struct hs_fn_entry *entry)
{
    const char *user = hs_sql_conn_user(batch->conn);
    struct hs_generate_params params = entry->target->params;
    params.client = user[0] == '\0' ? "sql" : user;
    return params;
}

hs_status hs_fn_submit(const struct hs_fn_batch *batch, const struct hs_fn_entry *entry,
                       hs_stream **ret_stream, struct hs_error *err)
{
    const struct hs_generate_params params = params_of(batch, entry);
    return submit_answer(batch, entry, &params, ret_stream, err);
}

static hs_status submit(const struct hs_fn_batch *batch, struct unit *unit, struct hs_error *err)
{
    const struct hs_fn_entry *entry = unit->entries[0];
    struct hs_generate_params params = params_of(batch, entry);
    switch (entry->kind) {
    case HS_FN_ANSWER:
        return submit_answer(batch, entry, &params, &unit->stream, err);
    case HS_FN_SCORE:
        return submit_score(batch, entry, &params, &unit->stream, err);
    default:
        return submit_embeddings(batch, unit, params.client, &unit->stream, err);
    }
}

/* ---- ends ---- */

/* The unit's questions are answered, or have `error`. */
static hs_status finish(struct pump *pump, struct unit *unit, const struct hs_error *error,
                        struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t i = 0; i < unit->n_entries && status == HS_OK; i++) {
        struct hs_fn_entry *entry = unit->entries[i];
        if (error != NULL) {
            entry->error = hs_alloc(sizeof *entry->error);
            if (entry->error == NULL) {
                return hs_error_nomem(err, "an error");
            }
            *entry->error = *error;
            if (pump->batch->stops_at_error) {
                *err = *error;
                status = error->status;
            }
        }
        entry->ms = hs_clock_ms() - unit->begun_ms;
        hs_sql_conn_progress(pump->batch->conn, 0, 1);
        if (entry->kind == HS_FN_EMBEDDING && entry->values != NULL) {
            hs_fn_vectors_put(pump->batch->conn->sql->vectors, &entry->target->model, entry->input,
                              entry->input_len, entry->values, entry->n_values);
        }
        hs_fn_memo_set(pump->batch->memo, entry, HS_FN_DONE);
    }
    return status;
}

static void clear(struct pump *pump, struct unit *unit)
{
    if (unit->stream != NULL) {
        hs_stream_free(unit->stream);
        pump->n_running--;
    }
    unit->stream = NULL;
    hs_buf_free(&unit->text);
    unit->n_entries = 0;
    unit->is_ready = false;
}

/* What a request that went to its end gives. */
static const struct hs_error *check_end(const struct unit *unit, const struct hs_event *event,
                                        struct hs_error *error)
{
    const struct hs_fn_entry *entry = unit->entries[0];
    size_t n_forced = (entry->input_len - sizeof(size_t)) / sizeof(int32_t);
    if (event->finish == HS_FINISH_ERROR) {
        return &event->error;
    }
    if (event->finish == HS_FINISH_CANCELLED) {
        hs_error_set(error, HS_UNAVAILABLE, "the answer was stopped");
        return error;
    }
    if (entry->kind == HS_FN_ANSWER && entry->target->params.json_schema != NULL &&
        event->finish == HS_FINISH_LENGTH) {
        hs_error_set(error, HS_LIMIT, "the JSON is not complete: the answer ended after %d tokens",
                     event->usage.completion_tokens);
        hs_error_hint(error, "raise max_tokens, or bound the schema's texts and lists");
        return error;
    }
    if (entry->kind == HS_FN_SCORE) {
        size_t n_prompt;
        memcpy(&n_prompt, entry->input, sizeof n_prompt);
        if (unit->n_scored != n_forced - n_prompt) {
            hs_error_set(error, HS_CONTEXT_FULL, "%zu of %zu tokens could be scored",
                         unit->n_scored, n_forced - n_prompt);
            return error;
        }
    }
    return NULL;
}

static hs_status end(struct pump *pump, struct unit *unit, const struct hs_event *event,
                     struct hs_error *err)
{
    struct hs_fn_entry *entry = unit->entries[0];
    struct hs_error error;
    const struct hs_error *failure = check_end(unit, event, &error);
    hs_status status = HS_OK;
    if (entry->kind != HS_FN_EMBEDDING) {
        entry->prompt_tokens = event->usage.prompt_tokens;
        entry->completion_tokens = event->usage.completion_tokens;
    }
    if (failure == NULL && entry->kind == HS_FN_ANSWER) {
        status = hs_buf_append(&unit->text, "", 0);
        status =
            status == HS_OK ? hs_buf_take(&unit->text, &entry->text, &entry->text_len) : status;
        if (status != HS_OK) {
            return hs_error_nomem(err, "an answer");
        }
    }
    status = finish(pump, unit, failure, err);
    clear(pump, unit);
    pump->is_full = false;
    return status;
}

/* ---- events ---- */

static hs_status take_values(struct unit *unit, const struct hs_event *event, struct hs_error *err)
{
    struct hs_fn_entry *entry = unit->entries[event->index];
    size_t size = (size_t)event->n_values * sizeof(float);
    entry->values = hs_alloc(size);
    if (entry->values == NULL) {
        return hs_error_nomem(err, "an embedding");
    }
    memcpy(entry->values, event->values, size);
    entry->n_values = event->n_values;
    return HS_OK;
}

static hs_status take(struct pump *pump, struct unit *unit, const struct hs_event *event,
                      struct hs_error *err)
{
    struct hs_fn_entry *entry = unit->entries[0];
    if (event->type == HS_EVENT_EMBEDDING) {
        return take_values(unit, event, err);
    }
    for (int32_t i = 0; event->logprobs != NULL && i < event->n_tokens; i++) {
        entry->logprob += (double)event->logprobs[2 * i].logprob; /* n_logprobs is 1 */
        unit->n_scored++;
    }
    if (event->type == HS_EVENT_DONE) {
        return end(pump, unit, event, err);
    }
    if (event->type != HS_EVENT_TEXT || entry->kind != HS_FN_ANSWER) {
        return HS_OK;
    }
    hs_status status = hs_buf_append(&unit->text, event->text, event->text_len);
    return status == HS_LIMIT ? hs_error_set(err, status, "an answer is longer than 64 MiB")
           : status == HS_OK  ? HS_OK
                              : hs_error_nomem(err, "an answer");
}

static hs_status drain(struct pump *pump, struct unit *unit, struct hs_error *err)
{
    hs_status status = HS_OK;
    while (status == HS_OK && unit->stream != NULL) {
        struct hs_event event;
        status = hs_stream_next(unit->stream, 0, &event, err);
        if (status == HS_TIMEOUT) {
            return HS_OK;
        }
        status = status == HS_OK ? take(pump, unit, &event, err) : status;
    }
    return status;
}

/* ---- the loop ---- */

static void on_event(void *user)
{
    struct unit *unit = user;
    pthread_mutex_lock(&unit->pump->mutex);
    unit->is_ready = unit->pump->has_news = true;
    pthread_cond_signal(&unit->pump->changed);
    pthread_mutex_unlock(&unit->pump->mutex);
}

static void on_cancel(void *user)
{
    struct pump *pump = user;
    pthread_mutex_lock(&pump->mutex);
    pump->is_cancelled = true;
    pthread_cond_signal(&pump->changed);
    pthread_mutex_unlock(&pump->mutex);
}

/* The next question, and for embeddings those behind it that can go with it. */
static void gather(const struct hs_fn_batch *batch, struct unit *unit)
{
    const struct hs_fn_list *mine = &batch->mine;
    struct hs_fn_entry *first = mine->items[batch->n_sent];
    size_t max = first->kind == HS_FN_EMBEDDING ? UNIT_INPUTS_MAX : 1;
    for (size_t i = batch->n_sent; i < mine->n && unit->n_entries < max; i++) {
        if (mine->items[i]->kind != first->kind || mine->items[i]->target != first->target) {
            break;
        }
        unit->entries[unit->n_entries++] = mine->items[i];
    }
}

/* Put questions into idle units until there are no more of either, or the queue is full. */
static hs_status fill(struct pump *pump, struct hs_error *err)
{
    struct hs_fn_batch *batch = pump->batch;
    for (size_t i = 0; i < UNITS_MAX && batch->n_sent < batch->mine.n && !pump->is_full; i++) {
        struct unit *unit = &pump->units[i];
        if (unit->stream != NULL) {
            continue;
        }
        struct hs_error error;
        gather(batch, unit);
        unit->text = (struct hs_buf)HS_BUF_INIT(ANSWER_MAX);
        unit->n_scored = 0;
        unit->begun_ms = hs_clock_ms();
        hs_status status = submit(batch, unit, &error);
        if (status == HS_QUEUE_FULL) {
            pump->is_full = true;
            unit->n_entries = 0;
            return HS_OK;
        }
        batch->n_sent += unit->n_entries;
        if (status == HS_OK) {
            pump->n_running++;
            hs_stream_set_notify(unit->stream, on_event, unit);
            continue;
        }
        status = finish(pump, unit, &error, err);
        clear(pump, unit);
        if (status != HS_OK) {
            return status;
        }
    }
    return HS_OK;
}

/* Wait for news. With a queue full of others' requests for a while only. */
static hs_status wait_news(struct pump *pump, bool *ret_ready, struct hs_error *err)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += RETRY_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&pump->mutex);
    while (!pump->has_news && !pump->is_cancelled && pump->n_running > 0) {
        pthread_cond_wait(&pump->changed, &pump->mutex);
    }
    if (pump->n_running == 0 && pump->is_full && !pump->is_cancelled) {
        pthread_cond_timedwait(&pump->changed, &pump->mutex, &until);
        pump->is_full = false;
    }
    for (size_t i = 0; i < UNITS_MAX; i++) {
        ret_ready[i] = pump->units[i].is_ready;
        pump->units[i].is_ready = false;
    }
    pump->has_news = false;
    bool is_cancelled = pump->is_cancelled;
    pthread_mutex_unlock(&pump->mutex);
    return is_cancelled ? hs_error_set(err, HS_CANCELLED, "the statement was interrupted") : HS_OK;
}

static hs_status loop(struct pump *pump, struct hs_error *err)
{
    const struct hs_fn_batch *batch = pump->batch;
    bool is_ready[UNITS_MAX];
    hs_status status = fill(pump, err);
    while (status == HS_OK && (pump->n_running > 0 || batch->n_sent < batch->mine.n)) {
        status = wait_news(pump, is_ready, err);
        for (size_t i = 0; i < UNITS_MAX && status == HS_OK; i++) {
            status = is_ready[i] ? drain(pump, &pump->units[i], err) : HS_OK;
        }
        status = status == HS_OK ? fill(pump, err) : status;
    }
    return status;
}

static hs_status compute(struct hs_fn_batch *batch, struct hs_error *err)
{
    struct pump pump = {.batch = batch};
    struct hs_sql_work work = {.cancel = on_cancel, .user = &pump};
    if (batch->n_sent == batch->mine.n) {
        return HS_OK;
    }
    pump.units = hs_calloc(UNITS_MAX, sizeof *pump.units);
    if (pump.units == NULL) {
        return hs_error_nomem(err, "requests");
    }
    for (size_t i = 0; i < UNITS_MAX; i++) {
        pump.units[i].pump = &pump;
    }
    hs_sql_conn_progress(batch->conn, batch->mine.n - batch->n_sent, 0);
    pthread_mutex_init(&pump.mutex, NULL);
    pthread_cond_init(&pump.changed, NULL);
    hs_status status = HS_OK;
    if (hs_sql_work_begin(batch->conn, &work)) {
        status = loop(&pump, err);
        hs_sql_work_end(batch->conn, &work);
    } else {
        status = hs_error_set(err, HS_CANCELLED, "the statement was interrupted");
    }
    for (size_t i = 0; i < UNITS_MAX; i++) {
        clear(&pump, &pump.units[i]);
    }
    pthread_cond_destroy(&pump.changed);
    pthread_mutex_destroy(&pump.mutex);
    hs_free(pump.units);
    return status;
}

/* ---- batches ---- */

static hs_status append(struct hs_fn_list *list, struct hs_fn_entry *entry, struct hs_error *err)
{
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 64 : 2 * list->cap;
        struct hs_fn_entry **items = hs_realloc_array(list->items, cap, sizeof(items[0]));
        if (items == NULL) {
            return hs_error_nomem(err, "questions");
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = entry;
    return HS_OK;
}

static void leave(struct hs_fn_batch *batch, struct hs_fn_entry *entry)
{
    if (!entry->is_kept) {
        hs_fn_entry_free(entry);
    } else if (entry->state != HS_FN_DONE) {
        hs_free(entry->values);
        entry->values = NULL;
        entry->n_values = 0;
        entry->logprob = 0;
        hs_fn_memo_set(batch->memo, entry, HS_FN_LEFT);
    }
}

/* An embedding that an earlier statement computed: the last of mine, which counts as sent then. */
static void look_up(struct hs_fn_batch *batch)
{
    struct hs_fn_entry *entry = batch->mine.items[batch->mine.n - 1];
    entry->values = hs_fn_vectors_get(batch->conn->sql->vectors, &entry->target->model,
                                      entry->input, entry->input_len, &entry->n_values);
    if (entry->values != NULL) {
        batch->mine.items[batch->mine.n - 1] = batch->mine.items[batch->n_sent];
        batch->mine.items[batch->n_sent++] = entry;
        hs_fn_memo_set(batch->memo, entry, HS_FN_DONE);
    }
}

hs_status hs_fn_batch_add(struct hs_fn_batch *batch, enum hs_fn_kind kind,
                          const struct hs_fn_target *target, const void *input, size_t input_len,
                          struct hs_fn_entry **ret_entry, struct hs_error *err)
{
    bool is_new = false;
    hs_status status =
        hs_fn_memo_find(batch->memo, kind, target, input, input_len, ret_entry, &is_new, err);
    if (status == HS_OK) {
        status = append(is_new ? &batch->mine : &batch->others, *ret_entry, err);
    }
    if (status == HS_OUT_OF_MEMORY && is_new && *ret_entry != NULL) {
        leave(batch, *ret_entry);
    }
    if (status == HS_OK && is_new && kind == HS_FN_EMBEDDING) {
        look_up(batch);
    }
    return status;
}

/* Others compute it, unless they gave it up. */
static hs_status await(struct hs_fn_batch *batch, struct hs_fn_entry *entry, struct hs_error *err)
{
    enum hs_fn_state state;
    while ((state = hs_fn_memo_wait(batch->memo, entry)) != HS_FN_DONE) {
        hs_status status = HS_OK;
        if (hs_sql_conn_is_interrupted(batch->conn)) {
            status = hs_error_set(err, HS_CANCELLED, "the statement was interrupted");
        }
        if (state == HS_FN_LEFT) {
            hs_status added = append(&batch->mine, entry, err);
            if (added != HS_OK) {
                leave(batch, entry);
                return added;
            }
            status = status == HS_OK ? compute(batch, err) : status;
        }
        if (status != HS_OK) {
            return status;
        }
    }
    if (entry->error != NULL && batch->stops_at_error) {
        *err = *entry->error;
        return err->status;
    }
    return HS_OK;
}

hs_status hs_fn_batch_run(struct hs_fn_batch *batch, struct hs_error *err)
{
    hs_status status = compute(batch, err);
    for (size_t i = 0; i < batch->others.n && status == HS_OK; i++) {
        status = await(batch, batch->others.items[i], err);
    }
    return status;
}

void hs_fn_batch_free(struct hs_fn_batch *batch)
{
    for (size_t i = 0; i < batch->mine.n; i++) {
        leave(batch, batch->mine.items[i]);
    }
    hs_free(batch->mine.items);
    hs_free(batch->others.items);
    batch->mine = batch->others = (struct hs_fn_list){0};
}
