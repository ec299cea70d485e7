/* generate, try_generate, chat and extract: rows that are answered with text. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fn_call.h"
#include "fn_session.h"
#include "fn_value.h"

/* A row's question; neither entry nor error: it is NULL. */
struct row {
    struct hs_fn_entry *entry;
    struct hs_error *error; /* why it could not be asked; hs_free */
    bool is_own;            /* the entry is the row's to free */
};

/* Read the row's question: its messages and who answers them. */
typedef hs_status (*read_fn)(const struct hs_fn_call *call, idx_t row, struct hs_buf *input,
                             const struct hs_fn_target **ret_target, struct hs_error *err);

struct job {
    const struct hs_fn_call *call;
    read_fn read;
    bool keeps_errors; /* a row that fails is no failure */
    struct hs_fn_batch batch;
    struct hs_fn_session session;
    struct row *rows;
};

/* ---- the rows ---- */

static hs_status ask_row(struct job *job, idx_t i, struct hs_error *err)
{
    struct hs_buf input HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    const struct hs_fn_target *target = NULL;
    struct row *row = &job->rows[i];
    hs_status status = job->read(job->call, i, &input, &target, err);
    if (status != HS_OK) {
        return status;
    }
    if (target->session == NULL) {
        return hs_fn_batch_add(&job->batch, HS_FN_ANSWER, target, input.data, input.len,
                               &row->entry, err);
    }
    const char *prompt = input.data + strlen(input.data) + 1;
    if (strlen(prompt) + (size_t)(prompt - input.data) + 1 != input.len) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "a session takes one prompt, not a list of messages");
    }
    row->is_own = true;
    status = hs_fn_session_ask(&job->session, target, prompt, &row->entry, err);
    if (status == HS_OK && row->entry->error != NULL && !job->keeps_errors) {
        *err = *row->entry->error;
        status = err->status;
    }
    return status;
}

static bool ends_all(hs_status status)
{
    return status == HS_CANCELLED || status == HS_OUT_OF_MEMORY;
}

static hs_status ask_all(struct job *job, struct hs_error *err)
{
    for (idx_t i = 0; i < job->call->n_rows; i++) {
        struct hs_error error;
        if (hs_fn_call_argument(job->call, 0, i) == NULL) {
            continue;
        }
        hs_status status = ask_row(job, i, &error);
        if (status == HS_OK) {
            continue;
        }
        if (!job->keeps_errors || ends_all(status)) {
            *err = error;
            return status;
        }
        job->rows[i].error = hs_alloc(sizeof error);
        if (job->rows[i].error == NULL) {
            return hs_error_nomem(err, "an error");
        }
        *job->rows[i].error = error;
    }
    return hs_fn_batch_run(&job->batch, err);
}

static hs_status run(struct job *job, void (*write)(const struct job *job), struct hs_error *err)
{
    const struct hs_fn_call *call = job->call;
    job->batch = (struct hs_fn_batch){.conn = call->conn,
                                      .host = call->host,
                                      .memo = call->memo,
                                      .stops_at_error = !job->keeps_errors};
    job->session = (struct hs_fn_session){.call = call};
    job->rows = hs_calloc(call->n_rows, sizeof *job->rows);
    hs_status status = job->rows == NULL ? hs_error_nomem(err, "rows") : ask_all(job, err);
    struct hs_error error;
    hs_status ended = hs_fn_session_end(&job->session, &error);
    if (status == HS_OK && ended != HS_OK) {
        *err = error;
        status = ended;
    }
    if (status == HS_OK) {
        write(job);
    }
    for (idx_t i = 0; job->rows != NULL && i < call->n_rows; i++) {
        hs_free(job->rows[i].error);
        if (job->rows[i].is_own) {
            hs_fn_entry_free(job->rows[i].entry);
        }
    }
    hs_free(job->rows);
    hs_fn_batch_free(&job->batch);
    return status;
}

static void write_texts(const struct job *job)
{
    duckdb_vector out = job->call->out;
    for (idx_t i = 0; i < job->call->n_rows; i++) {
        const struct hs_fn_entry *entry = job->rows[i].entry;
        if (entry == NULL) {
            hs_fn_set_null(out, i);
        } else {
            duckdb_vector_assign_string_element_len(out, i, entry->text, entry->text_len);
        }
    }
}

/* ---- generate ---- */

static hs_status read_prompt(const struct hs_fn_call *call, idx_t row, struct hs_buf *input,
                             const struct hs_fn_target **ret_target, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    hs_status status = hs_fn_call_text(call, 0, row, &text, err);
    status = status == HS_OK ? hs_fn_add_message(input, "user", text.data, err) : status;
    return status == HS_OK ? hs_fn_call_target(call, 1, row, NULL, ret_target, err) : status;
}

hs_status hs_fn_generate(const struct hs_fn_call *call, struct hs_error *err)
{
    struct job job = {.call = call, .read = read_prompt};
    return run(&job, write_texts, err);
}

enum { TRY_TEXT = 0, TRY_ERROR, TRY_PROMPT_TOKENS, TRY_COMPLETION_TOKENS, TRY_MS, TRY_N };

static void write_tried_row(const struct row *row, const duckdb_vector *fields, idx_t i)
{
    const struct hs_fn_entry *entry = row->entry;
    const struct hs_error *error = entry == NULL ? row->error : entry->error;
    if (error != NULL) {
        char text[HS_MESSAGE_MAX + HS_HINT_MAX + 4];
        snprintf(text, sizeof text, "%s%s%s", error->message, error->hint[0] == '\0' ? "" : "; ",
                 error->hint);
        duckdb_vector_assign_string_element(fields[TRY_ERROR], i, text);
        hs_fn_set_null(fields[TRY_TEXT], i);
    } else {
        hs_fn_set_null(fields[TRY_ERROR], i);
        duckdb_vector_assign_string_element_len(fields[TRY_TEXT], i, entry->text, entry->text_len);
    }
    if (entry == NULL) {
        hs_fn_set_null(fields[TRY_PROMPT_TOKENS], i);
        hs_fn_set_null(fields[TRY_COMPLETION_TOKENS], i);
        hs_fn_set_null(fields[TRY_MS], i);
        return;
    }
    ((int32_t *)duckdb_vector_get_data(fields[TRY_PROMPT_TOKENS]))[i] = entry->prompt_tokens;
    ((int32_t *)duckdb_vector_get_data(fields[TRY_COMPLETION_TOKENS]))[i] =
        entry->completion_tokens;
    ((double *)duckdb_vector_get_data(fields[TRY_MS]))[i] = entry->ms;
}

static void write_tried(const struct job *job)
{
    duckdb_vector fields[TRY_N];
    for (idx_t k = 0; k < TRY_N; k++) {
        fields[k] = duckdb_struct_vector_get_child(job->call->out, k);
    }
    for (idx_t i = 0; i < job->call->n_rows; i++) {
        const struct row *row = &job->rows[i];
        if (row->entry != NULL || row->error != NULL) {
            write_tried_row(row, fields, i);
            continue;
        }
        hs_fn_set_null(job->call->out, i);
        for (idx_t k = 0; k < TRY_N; k++) {
            hs_fn_set_null(fields[k], i);
        }
    }
}

hs_status hs_fn_try_generate(const struct hs_fn_call *call, struct hs_error *err)
{
    struct job job = {.call = call, .read = read_prompt, .keeps_errors = true};
    return run(&job, write_tried, err);
}

/* ---- chat ---- */

static hs_status add_chat_message(const json_t *message, size_t i, struct hs_buf *input,
                                  struct hs_error *err)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    if (role == NULL || !json_is_string(content)) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "message %zu has no role and content", i + 1);
        hs_error_hint(err, "write messages as [{role: 'user', content: '...'}]");
        return HS_INVALID_ARGUMENT;
    }
    if (strlen(json_string_value(content)) != json_string_length(content)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "message %zu has a zero byte", i + 1);
    }
    return hs_fn_add_message(input, role, json_string_value(content), err);
}

static hs_status read_chat(const struct hs_fn_call *call, idx_t row, struct hs_buf *input,
                           const struct hs_fn_target **ret_target, struct hs_error *err)
{
    json_t *messages = NULL;
    hs_status status = hs_fn_json(call->arguments[0], row, &messages, err);
    if (status == HS_OK && (!json_is_array(messages) || json_array_size(messages) == 0)) {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "messages must be a list of at least one");
        hs_error_hint(err, "write messages as [{role: 'user', content: '...'}]");
    }
    for (size_t i = 0; status == HS_OK && i < json_array_size(messages); i++) {
        status = add_chat_message(json_array_get(messages, i), i, input, err);
    }
    json_decref(messages);
    return status == HS_OK ? hs_fn_call_target(call, 1, row, NULL, ret_target, err) : status;
}

hs_status hs_fn_chat(const struct hs_fn_call *call, struct hs_error *err)
{
    struct job job = {.call = call, .read = read_chat};
    return run(&job, write_texts, err);
}

/* ---- extract ---- */

static hs_status read_extract(const struct hs_fn_call *call, idx_t row, struct hs_buf *input,
                              const struct hs_fn_target **ret_target, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX);
    json_t *json = NULL;
    duckdb_vector vector = hs_fn_call_argument(call, 1, row);
    if (vector == NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the JSON schema is NULL");
    }
    hs_status status = hs_fn_json(vector, row, &json, err);
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_freep) char *schema = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(json);
    status = schema == NULL ? hs_error_nomem(err, "a schema")
                            : hs_fn_call_text(call, 0, row, &text, err);
    if (status != HS_OK) {
        return status;
    }
    HS_CLEANUP(hs_freep)
    char *prompt = hs_asprintf("Read from the text what this JSON schema describes, and answer "
                               "with JSON that fits it.\n\nSchema: %s\n\nText: %s\n\nJSON:",
                               schema, text.data);
    status = prompt == NULL ? hs_error_nomem(err, "a prompt")
                            : hs_fn_add_message(input, "user", prompt, err);
    return status == HS_OK ? hs_fn_call_target(call, 2, row, schema, ret_target, err) : status;
}

hs_status hs_fn_extract(const struct hs_fn_call *call, struct hs_error *err)
{
    struct job job = {.call = call, .read = read_extract};
    return run(&job, write_texts, err);
}
