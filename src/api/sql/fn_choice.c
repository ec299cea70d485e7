/*
 * classify, ai_filter and score: what the model thinks of texts that it is given to say.
 *
 * The log-probability of a label is the sum of those of its tokens behind the prompt; where labels
 * differ in tokens, their mean. Probabilities are the softmax of that over the labels.
 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fn_call.h"
#include "fn_value.h"

#define LABELS_MAX 256
#define GROUP_ROWS                                                                                 \
    16 /* their first labels are asked for, then the others, which find the prompts */

/* ---- what is scored ---- */

struct tokens {
    int32_t *items;
    size_t n;
};

static void free_tokens(struct tokens *tokens)
{
    hs_tokens_free(tokens->items);
}

static hs_status tokenize(const struct hs_fn_call *call, const struct hs_fn_target *target,
                          const char *text, bool is_prompt, bool is_template, struct tokens *ret,
                          struct hs_error *err)
{
    return hs_engine_tokenize(call->host->engine, target->model.id, text, strlen(text),
                              is_prompt && !is_template, is_template, &ret->items, &ret->n, err);
}

static hs_status add_score(struct hs_fn_batch *batch, const struct hs_fn_target *target,
                           const int32_t *prompt, size_t n_prompt, const int32_t *rest,
                           size_t n_rest, struct hs_fn_entry **ret, struct hs_error *err)
{
    struct hs_buf input HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    hs_status status = hs_buf_append(&input, &n_prompt, sizeof n_prompt);
    status = status == HS_OK ? hs_buf_append(&input, prompt, n_prompt * sizeof *prompt) : status;
    status = status == HS_OK ? hs_buf_append(&input, rest, n_rest * sizeof *rest) : status;
    if (status != HS_OK) {
        return hs_error_nomem(err, "tokens");
    }
    return hs_fn_batch_add(batch, HS_FN_SCORE, target, input.data, input.len, ret, err);
}

/* Text behind text: where the two join in a token, it counts as the second's. *ret NULL: there are
 * no tokens to score. */
static hs_status add_continuation(struct hs_fn_batch *batch, const struct hs_fn_call *call,
                                  const struct hs_fn_target *target, const char *text,
                                  const char *rest, struct hs_fn_entry **ret, struct hs_error *err)
{
    struct tokens prompt HS_CLEANUP(free_tokens) = {0};
    struct tokens all HS_CLEANUP(free_tokens) = {0};
    HS_CLEANUP(hs_freep) char *joined = hs_asprintf("%s%s", text, rest);
    size_t same = 0;
    hs_status status = joined == NULL ? hs_error_nomem(err, "a text")
                                      : tokenize(call, target, text, true, false, &prompt, err);
    status = status == HS_OK ? tokenize(call, target, joined, true, false, &all, err) : status;
    if (status != HS_OK) {
        return status;
    }
    while (same < prompt.n && same < all.n && prompt.items[same] == all.items[same]) {
        same++;
    }
    *ret = NULL;
    return same == all.n ? HS_OK
                         : add_score(batch, target, all.items, same, all.items + same, all.n - same,
                                     ret, err);
}

/* A label as the answer to a question, or behind it when the model has no template. */
static hs_status add_answer(struct hs_fn_batch *batch, const struct hs_fn_call *call,
                            const struct hs_fn_target *target, const char *prompt,
                            const char *label, struct hs_fn_entry **ret, struct hs_error *err)
{
    if (!target->model.has_chat_template) {
        HS_CLEANUP(hs_freep) char *spaced = hs_asprintf(" %s", label);
        return spaced == NULL ? hs_error_nomem(err, "a label")
                              : add_continuation(batch, call, target, prompt, spaced, ret, err);
    }
    struct tokens head HS_CLEANUP(free_tokens) = {0};
    struct tokens tail HS_CLEANUP(free_tokens) = {0};
    hs_status status = tokenize(call, target, prompt, true, true, &head, err);
    status = status == HS_OK ? tokenize(call, target, label, false, false, &tail, err) : status;
    return status == HS_OK
               ? add_score(batch, target, head.items, head.n, tail.items, tail.n, ret, err)
               : status;
}

/* ---- questions with a choice of answers ---- */

struct choice {
    bool is_null;
    const struct hs_fn_target *target;
    char *prompt;
    char **labels; /* [n_labels] */
    size_t n_labels;
    struct hs_fn_entry **entries; /* [n_labels] */
    double *probabilities;        /* [n_labels] */
};

static void free_choices(struct choice *choices, idx_t n)
{
    for (idx_t i = 0; choices != NULL && i < n; i++) {
        for (size_t k = 0; choices[i].labels != NULL && k < choices[i].n_labels; k++) {
            hs_free(choices[i].labels[k]);
        }
        hs_free(choices[i].labels);
        hs_free(choices[i].entries);
        hs_free(choices[i].probabilities);
        hs_free(choices[i].prompt);
    }
    hs_free(choices);
}

static hs_status make_labels(struct choice *choice, size_t n, struct hs_error *err)
{
    choice->labels = hs_calloc(n, sizeof *choice->labels);
    choice->entries = hs_calloc(n, sizeof *choice->entries);
    choice->probabilities = hs_calloc(n, sizeof *choice->probabilities);
    choice->n_labels = n;
    return choice->labels == NULL || choice->entries == NULL || choice->probabilities == NULL
               ? hs_error_nomem(err, "labels")
               : HS_OK;
}

/* The question as the model reads it; takes it over. */
static hs_status set_prompt(const struct hs_fn_call *call, struct choice *choice, char *question,
                            struct hs_error *err)
{
    const struct hs_fn_target *target = choice->target;
    if (question == NULL) {
        return hs_error_nomem(err, "a question");
    }
    if (!target->model.has_chat_template) {
        choice->prompt = question;
        return HS_OK;
    }
    struct hs_message messages[2] = {{.role = "system", .content = target->system},
                                     {.role = "user", .content = question}};
    struct hs_generate_params params = target->params;
    params.enable_thinking = false; /* the label is the first thing that is said */
    size_t len = 0, first = target->system == NULL;
    char *text = NULL;
    hs_status status = hs_engine_render(call->host->engine, target->model.id, messages + first,
                                        2 - first, &params, &text, &len, err);
    hs_free(question);
    if (status != HS_OK) {
        return status;
    }
    choice->prompt = hs_strndup(text, len);
    hs_text_free(text);
    return choice->prompt == NULL ? hs_error_nomem(err, "a question") : HS_OK;
}

/* Labels first to last - 1 of rows from to to - 1. */
static hs_status add_labels(struct hs_fn_batch *batch, const struct hs_fn_call *call,
                            struct choice *choices, idx_t from, idx_t to, bool is_first,
                            struct hs_error *err)
{
    hs_status status = HS_OK;
    for (idx_t i = from; i < to; i++) {
        struct choice *choice = &choices[i];
        size_t first = is_first ? 0 : 1, last = is_first ? 1 : choice->n_labels;
        for (size_t k = first; k < last && k < choice->n_labels && status == HS_OK; k++) {
            status = add_answer(batch, call, choice->target, choice->prompt, choice->labels[k],
                                &choice->entries[k], err);
            if (status == HS_OK && choice->entries[k] == NULL) {
                status = hs_error_set(err, HS_INVALID_ARGUMENT, "a label has no tokens");
            }
        }
    }
    return status;
}

static size_t n_scored(const struct hs_fn_entry *entry)
{
    size_t n_prompt;
    memcpy(&n_prompt, entry->input, sizeof n_prompt);
    return (entry->input_len - sizeof n_prompt) / sizeof(int32_t) - n_prompt;
}

static void weigh(struct choice *choice)
{
    bool are_even = true;
    double largest = -INFINITY, sum = 0, *p = choice->probabilities;
    for (size_t k = 1; k < choice->n_labels; k++) {
        are_even = are_even && n_scored(choice->entries[k]) == n_scored(choice->entries[0]);
    }
    for (size_t k = 0; k < choice->n_labels; k++) {
        p[k] =
            choice->entries[k]->logprob / (are_even ? 1.0 : (double)n_scored(choice->entries[k]));
        largest = fmax(largest, p[k]);
    }
    for (size_t k = 0; k < choice->n_labels; k++) {
        p[k] = exp(p[k] - largest);
        sum += p[k];
    }
    for (size_t k = 0; k < choice->n_labels; k++) {
        p[k] /= sum;
    }
}

typedef hs_status (*read_fn)(const struct hs_fn_call *call, idx_t row, struct choice *choice,
                             struct hs_error *err);
typedef hs_status (*write_fn)(const struct hs_fn_call *call, const struct choice *choices,
                              struct hs_error *err);

static hs_status ask(const struct hs_fn_call *call, struct hs_fn_batch *batch,
                     struct choice *choices, read_fn read, struct hs_error *err)
{
    hs_status status = HS_OK;
    for (idx_t i = 0; i < call->n_rows && status == HS_OK; i++) {
        choices[i].is_null =
            hs_fn_call_argument(call, 0, i) == NULL || hs_fn_call_argument(call, 1, i) == NULL;
        status = choices[i].is_null ? HS_OK : read(call, i, &choices[i], err);
    }
    for (idx_t i = 0; i < call->n_rows && status == HS_OK; i += GROUP_ROWS) {
        idx_t to = i + GROUP_ROWS < call->n_rows ? i + GROUP_ROWS : call->n_rows;
        status = add_labels(batch, call, choices, i, to, true, err);
        status = status == HS_OK ? add_labels(batch, call, choices, i, to, false, err) : status;
    }
    return status == HS_OK ? hs_fn_batch_run(batch, err) : status;
}

static hs_status run(const struct hs_fn_call *call, read_fn read, write_fn write,
                     struct hs_error *err)
{
    struct hs_fn_batch batch = {
        .conn = call->conn, .host = call->host, .memo = call->memo, .stops_at_error = true};
    struct choice *choices = hs_calloc(call->n_rows, sizeof *choices);
    hs_status status =
        choices == NULL ? hs_error_nomem(err, "rows") : ask(call, &batch, choices, read, err);
    for (idx_t i = 0; i < call->n_rows && status == HS_OK; i++) {
        if (!choices[i].is_null) {
            weigh(&choices[i]);
        }
    }
    status = status == HS_OK ? write(call, choices, err) : status;
    free_choices(choices, call->n_rows);
    hs_fn_batch_free(&batch);
    return status;
}

/* ---- classify ---- */

static hs_status read_label(struct choice *choice, size_t k, duckdb_vector texts, idx_t at,
                            struct hs_error *err)
{
    size_t len = 0;
    if (hs_fn_is_null(texts, at)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "label %zu is NULL", k + 1);
    }
    const char *text = hs_fn_text(texts, at, &len);
    choice->labels[k] = hs_strndup(text, len);
    if (choice->labels[k] == NULL) {
        return hs_error_nomem(err, "a label");
    }
    if (len == 0 || strlen(choice->labels[k]) != len) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "label %zu is empty or has a zero byte",
                            k + 1);
    }
    for (size_t i = 0; i < k; i++) {
        if (strcmp(choice->labels[i], choice->labels[k]) == 0) {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "labels %zu and %zu are the same", i + 1,
                                k + 1);
        }
    }
    return HS_OK;
}

static hs_status read_labels(const struct hs_fn_call *call, idx_t row, struct choice *choice,
                             struct hs_buf *list, struct hs_error *err)
{
    duckdb_list_entry *entries = duckdb_vector_get_data(call->arguments[1]);
    duckdb_vector texts = duckdb_list_vector_get_child(call->arguments[1]);
    size_t n = entries[row].length;
    if (n == 0 || n > LABELS_MAX) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "labels must be 1 to %d texts", LABELS_MAX);
    }
    hs_status status = make_labels(choice, n, err);
    for (size_t k = 0; k < n && status == HS_OK; k++) {
        status = read_label(choice, k, texts, entries[row].offset + k, err);
        if (status == HS_OK &&
            hs_buf_printf(list, "%s%s", k == 0 ? "" : ", ", choice->labels[k]) != HS_OK) {
            status = hs_error_nomem(err, "labels");
        }
    }
    return status;
}

static hs_status read_classify(const struct hs_fn_call *call, idx_t row, struct choice *choice,
                               struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    struct hs_buf list HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    hs_status status = hs_fn_call_target(call, 2, row, NULL, &choice->target, err);
    status = status == HS_OK ? hs_fn_call_text(call, 0, row, &text, err) : status;
    status = status == HS_OK ? read_labels(call, row, choice, &list, err) : status;
    return status == HS_OK
               ? set_prompt(call, choice,
                            hs_asprintf("Text: %s\n\nWhich label fits the text: %s? Answer with "
                                        "the label alone.\n\nLabel:",
                                        text.data, list.data),
                            err)
               : status;
}

/* STRUCT(label, probability, probabilities MAP). */
static hs_status write_classes(const struct hs_fn_call *call, const struct choice *choices,
                               struct hs_error *err)
{
    duckdb_vector label = duckdb_struct_vector_get_child(call->out, 0);
    duckdb_vector probability = duckdb_struct_vector_get_child(call->out, 1);
    duckdb_vector map = duckdb_struct_vector_get_child(call->out, 2);
    for (idx_t i = 0; i < call->n_rows; i++) {
        const struct choice *choice = &choices[i];
        idx_t first = 0;
        hs_status status = hs_fn_set_list(map, i, choice->n_labels, &first, err);
        if (status != HS_OK) {
            return status;
        }
        if (choice->is_null) {
            hs_fn_set_null(call->out, i);
            hs_fn_set_null(label, i);
            hs_fn_set_null(probability, i);
            hs_fn_set_null(map, i);
            continue;
        }
        duckdb_vector pairs = duckdb_list_vector_get_child(map);
        duckdb_vector keys = duckdb_struct_vector_get_child(pairs, 0);
        double *values = duckdb_vector_get_data(duckdb_struct_vector_get_child(pairs, 1));
        size_t best = 0;
        for (size_t k = 0; k < choice->n_labels; k++) {
            duckdb_vector_assign_string_element(keys, first + k, choice->labels[k]);
            values[first + k] = choice->probabilities[k];
            best = choice->probabilities[k] > choice->probabilities[best] ? k : best;
        }
        duckdb_vector_assign_string_element(label, i, choice->labels[best]);
        ((double *)duckdb_vector_get_data(probability))[i] = choice->probabilities[best];
    }
    return HS_OK;
}

hs_status hs_fn_classify(const struct hs_fn_call *call, struct hs_error *err)
{
    return run(call, read_classify, write_classes, err);
}

/* ---- ai_filter ---- */

static hs_status read_filter(const struct hs_fn_call *call, idx_t row, struct choice *choice,
                             struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    struct hs_buf condition HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    hs_status status = hs_fn_call_target(call, 2, row, NULL, &choice->target, err);
    status = status == HS_OK ? hs_fn_call_text(call, 0, row, &text, err) : status;
    status = status == HS_OK ? hs_fn_call_text(call, 1, row, &condition, err) : status;
    status = status == HS_OK ? make_labels(choice, 2, err) : status;
    if (status != HS_OK) {
        return status;
    }
    choice->labels[0] = hs_strdup("yes");
    choice->labels[1] = hs_strdup("no");
    if (choice->labels[0] == NULL || choice->labels[1] == NULL) {
        return hs_error_nomem(err, "labels");
    }
    return set_prompt(call, choice,
                      hs_asprintf("Text: %s\n\nDoes this hold for the text: %s? Answer with yes "
                                  "or no.\n\nAnswer:",
                                  text.data, condition.data),
                      err);
}

static hs_status write_filter(const struct hs_fn_call *call, const struct choice *choices,
                              struct hs_error *err)
{
    (void)err;
    bool *values = duckdb_vector_get_data(call->out);
    for (idx_t i = 0; i < call->n_rows; i++) {
        if (choices[i].is_null) {
            hs_fn_set_null(call->out, i);
        } else {
            values[i] = choices[i].probabilities[0] > choices[i].probabilities[1];
        }
    }
    return HS_OK;
}

hs_status hs_fn_filter(const struct hs_fn_call *call, struct hs_error *err)
{
    return run(call, read_filter, write_filter, err);
}

/* ---- score ---- */

static hs_status ask_score(const struct hs_fn_call *call, struct hs_fn_batch *batch, idx_t row,
                           struct hs_fn_entry **ret, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    struct hs_buf rest HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    const struct hs_fn_target *target = NULL;
    hs_status status = hs_fn_call_target(call, 2, row, NULL, &target, err);
    status = status == HS_OK ? hs_fn_call_text(call, 0, row, &text, err) : status;
    status = status == HS_OK ? hs_fn_call_text(call, 1, row, &rest, err) : status;
    return status == HS_OK ? add_continuation(batch, call, target, text.data, rest.data, ret, err)
                           : status;
}

hs_status hs_fn_score(const struct hs_fn_call *call, struct hs_error *err)
{
    struct hs_fn_batch batch = {
        .conn = call->conn, .host = call->host, .memo = call->memo, .stops_at_error = true};
    HS_CLEANUP(hs_freep)
    struct hs_fn_entry **entries = hs_calloc(call->n_rows, sizeof(struct hs_fn_entry *));
    hs_status status = entries == NULL ? hs_error_nomem(err, "rows") : HS_OK;
    double *values = duckdb_vector_get_data(call->out);
    for (idx_t i = 0; i < call->n_rows && status == HS_OK; i++) {
        bool is_null =
            hs_fn_call_argument(call, 0, i) == NULL || hs_fn_call_argument(call, 1, i) == NULL;
        if (is_null) {
            hs_fn_set_null(call->out, i);
        }
        status = is_null ? HS_OK : ask_score(call, &batch, i, &entries[i], err);
    }
    status = status == HS_OK ? hs_fn_batch_run(&batch, err) : status;
    for (idx_t i = 0; i < call->n_rows && status == HS_OK; i++) {
        values[i] = entries[i] == NULL ? 0 : entries[i]->logprob;
    }
    hs_fn_batch_free(&batch);
    return status;
}
