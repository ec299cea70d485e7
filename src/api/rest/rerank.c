/* rerank.c - POST /v1/rerank: documents by how they fit a query, as Jina and llama-server do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "embed_run.h"
#include "json_quote.h"
#include "lora.h"

/* What the answer needs of the request. */
struct ranking {
    json_t *documents; /* a reference of our own; NULL: not wanted in the answer */
    size_t top_n;
    size_t *order; /* [n], filled when the scores are there */
};

static void free_ranking(void *own)
{
    struct ranking *ranking = own;
    json_decref(ranking->documents);
    hs_free(ranking->order);
    hs_free(ranking);
}

/* ---- answer ---- */

static float score_of(const struct hs_embed_answer *answer, size_t i)
{
    return answer->values[i * (size_t)answer->n_values];
}

static int by_score(const void *a, const void *b, void *user)
{
    const struct hs_embed_answer *answer = user;
    size_t i = *(const size_t *)a, j = *(const size_t *)b;
    float x = score_of(answer, i), y = score_of(answer, j);
    if (x != y) {
        return x > y ? -1 : 1;
    }
    return i < j ? -1 : 1;
}

static hs_status write_result(const struct hs_embed_answer *answer, size_t i, struct hs_buf *out)
{
    const struct ranking *ranking = answer->own;
    hs_status status = hs_buf_printf(out, "{\"index\":%zu,\"relevance_score\":%.9g", i,
                                     (double)score_of(answer, i));
    if (status == HS_OK && ranking->documents != NULL) {
        const json_t *text = json_array_get(ranking->documents, i);
        status = hs_buf_append_str(out, ",\"document\":{\"text\":");
        status = status == HS_OK
                     ? hs_json_quote(out, json_string_value(text), json_string_length(text))
                     : status;
        status = status == HS_OK ? hs_buf_append_str(out, "}") : status;
    }
    return status == HS_OK ? hs_buf_append_str(out, "}") : status;
}

static hs_status write_answer(const struct hs_embed_answer *answer, struct hs_buf *out)
{
    const struct ranking *ranking = answer->own;
    for (size_t i = 0; i < answer->n_inputs; i++) {
        ranking->order[i] = i;
    }
    qsort_r(ranking->order, answer->n_inputs, sizeof ranking->order[0], by_score, (void *)answer);
    const char *id = answer->model->id;
    hs_status status = hs_buf_append_str(out, "{\"object\":\"list\",\"model\":");
    status = status == HS_OK ? hs_json_quote(out, id, strlen(id)) : status;
    status = status == HS_OK ? hs_buf_append_str(out, ",\"results\":[") : status;
    for (size_t r = 0; r < ranking->top_n && status == HS_OK; r++) {
        status = r == 0 ? HS_OK : hs_buf_append_str(out, ",");
        status = status == HS_OK ? write_result(answer, ranking->order[r], out) : status;
    }
    int n = (int)answer->usage.prompt_tokens;
    return status == HS_OK ? hs_buf_printf(out,
                                           "],\"usage\":{\"prompt_tokens\":%d,"
                                           "\"total_tokens\":%d}}\n",
                                           n, n)
                           : status;
}

static const struct hs_embed_format format = {.write = write_answer, .free_own = free_ranking};

/* ---- request ---- */

struct question {
    const char *query;
    json_t *documents; /* borrowed */
    size_t n;
    int64_t top_n;
    bool return_documents;
};

static bool check_documents(const struct hs_rest *rest, const struct hs_fields *fields,
                            const struct question *question)
{
    if (!json_is_array(question->documents) || question->n == 0) {
        return hs_field_refuse(fields, "documents", "must be an array of at least one string");
    }
    if (question->n > (size_t)rest->max_inputs) {
        return hs_field_refuse(fields, "documents", "has %zu documents; at most %d are allowed",
                               question->n, (int)rest->max_inputs);
    }
    for (size_t i = 0; i < question->n; i++) {
        if (json_string_length(json_array_get(question->documents, i)) == 0) {
            char name[48];
            snprintf(name, sizeof name, "documents[%zu]", i);
            return hs_field_refuse(fields, name, "must be a string that is not empty");
        }
    }
    return true;
}

static bool read(const struct hs_rest *rest, const struct hs_model_info *model,
                 const struct hs_fields *fields, struct question *ret)
{
    if (!model->can_rank) {
        return hs_field_refuse(fields, "model",
                               "'%s' does not rank documents; use a reranking model (a GGUF file "
                               "with a classification head and pooling of the type rank)",
                               model->id);
    }
    if (!hs_field_string(fields, "query", &ret->query)) {
        return false;
    }
    if (ret->query == NULL || ret->query[0] == '\0') {
        return hs_field_refuse(fields, "query", "is missing or empty");
    }
    ret->documents = (json_t *)hs_field_get(fields, "documents");
    ret->n = json_array_size(ret->documents);
    ret->top_n = (int64_t)ret->n;
    return check_documents(rest, fields, ret) &&
           hs_field_int(fields, "top_n", 1, INT32_MAX, &ret->top_n) &&
           hs_field_bool(fields, "return_documents", &ret->return_documents);
}

static hs_status make_ranking(const struct question *question, struct ranking **ret,
                              struct hs_error *err)
{
    struct ranking *ranking = hs_calloc(1, sizeof *ranking);
    if (ranking == NULL) {
        return hs_error_nomem(err, "ranking");
    }
    ranking->order = hs_calloc(question->n, sizeof ranking->order[0]);
    if (ranking->order == NULL) {
        free_ranking(ranking);
        return hs_error_nomem(err, "ranking");
    }
    ranking->documents = question->return_documents ? json_incref(question->documents) : NULL;
    ranking->top_n = question->top_n < (int64_t)question->n ? (size_t)question->top_n : question->n;
    *ret = ranking;
    return HS_OK;
}

static hs_status make_inputs(const struct hs_rest *rest, const struct hs_model_info *model,
                             const struct question *question, struct hs_embed_inputs *inputs,
                             struct hs_error *err)
{
    hs_status status = HS_OK;
    for (size_t i = 0; i < question->n && status == HS_OK; i++) {
        const char *document = json_string_value(json_array_get(question->documents, i));
        int32_t *tokens = NULL;
        size_t n = 0;
        status = hs_engine_rank_tokens(rest->engine, model->id, question->query, document, &tokens,
                                       &n, err);
        if (status == HS_OK) {
            status = hs_embed_inputs_add(inputs, tokens, n, err);
            hs_tokens_free(tokens);
        }
    }
    return status;
}

void hs_rest_rerank(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    struct question question = {0};
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    if (model == NULL || !hs_rest_lora_refuse(model, &fields) ||
        !read(rest, model, &fields, &question)) {
        return;
    }
    struct hs_embed_inputs inputs = {0};
    struct ranking *ranking = NULL;
    struct hs_error err;
    hs_status status = make_inputs(rest, model, &question, &inputs, &err);
    status = status == HS_OK ? make_ranking(&question, &ranking, &err) : status;
    if (status == HS_OK) {
        struct hs_embed_call call = {.rest = rest,
                                     .model = model,
                                     .request = request,
                                     .inputs = &inputs,
                                     .format = &format,
                                     .own = ranking,
                                     .param = "documents"};
        hs_embed_params_defaults(&call.params);
        call.params.rank = true;
        call.params.normalize = false;
        hs_embed_run(&call);
    } else {
        hs_rest_respond_failure(request, &err, "documents");
    }
    hs_embed_inputs_free(&inputs);
}
