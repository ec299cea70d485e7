/* ollama_embed.c - POST /api/embed and, as old clients call it, /api/embeddings. */
#include <string.h>

#include "base/mem.h"
#include "embed_run.h"
#include "json_quote.h"
#include "lora.h"
#include "ollama_request.h"
#include "served_models.h"

#define NS_PER_MS 1e6

static hs_status write_vector(const float *values, int32_t n, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "[");
    for (int32_t v = 0; v < n && status == HS_OK; v++) {
        /* nine digits give every f32 back */
        status = hs_buf_printf(out, "%s%.9g", v == 0 ? "" : ",", (double)values[v]);
    }
    return status == HS_OK ? hs_buf_append_str(out, "]") : status;
}

static hs_status write_all(const struct hs_embed_answer *answer, struct hs_buf *out)
{
    const char *name = answer->own;
    hs_status status =
        hs_json_quote_between(out, "{\"model\":", name, strlen(name), ",\"embeddings\":[");
    for (size_t i = 0; i < answer->n_inputs && status == HS_OK; i++) {
        status = i == 0 ? HS_OK : hs_buf_append_str(out, ",");
        status = status == HS_OK ? write_vector(answer->values + i * (size_t)answer->n_values,
                                                answer->n_values, out)
                                 : status;
    }
    return status == HS_OK
               ? hs_buf_printf(out,
                               "],\"total_duration\":%.0f,\"load_duration\":%.0f,"
                               "\"prompt_eval_count\":%d}\n",
                               answer->total_ms * NS_PER_MS, answer->usage.queue_ms * NS_PER_MS,
                               (int)answer->usage.prompt_tokens)
               : status;
}

static hs_status write_one(const struct hs_embed_answer *answer, struct hs_buf *out)
{
    hs_status status = hs_buf_append_str(out, "{\"embedding\":");
    status = status == HS_OK ? write_vector(answer->values, answer->n_values, out) : status;
    return status == HS_OK ? hs_buf_append_str(out, "}\n") : status;
}

static bool read_common(const struct hs_fields *fields, struct hs_embed_params *params)
{
    char path[64];
    struct hs_fields options;
    int64_t keep_alive_ms = HS_KEEP_ALIVE_DEFAULT;
    params->truncate = true; /* as an Ollama server does, unless told otherwise */
    if (!hs_ollama_keep_alive_read(fields, &keep_alive_ms)) {
        return false;
    }
    hs_served_model_keep_alive(fields->request, keep_alive_ms);
    return hs_field_bool(fields, "truncate", &params->truncate) &&
           hs_ollama_options_open(fields, path, sizeof path, &options);
}

static void run(hs_http_request *request, const struct hs_rest *rest, const char *input,
                const struct hs_embed_format *format, bool is_normalized)
{
    struct hs_fields fields;
    const char *name = NULL;
    const struct hs_model_info *model = hs_ollama_open(rest, request, &fields, &name);
    if (model == NULL) {
        return;
    }
    struct hs_embed_inputs inputs HS_CLEANUP(hs_embed_inputs_free) = {0};
    struct hs_embed_call call = {.rest = rest,
                                 .model = model,
                                 .request = request,
                                 .inputs = &inputs,
                                 .format = format,
                                 .own = (void *)name,
                                 .param = input};
    hs_embed_params_defaults(&call.params);
    int64_t dimensions = 0;
    call.params.normalize = is_normalized;
    if (hs_rest_lora_refuse(model, &fields) && read_common(&fields, &call.params) &&
        hs_field_int(&fields, "dimensions", 1, model->n_embedding, &dimensions) &&
        hs_embed_inputs_read(rest, model, &fields, input, &inputs)) {
        call.params.dimensions = (int32_t)dimensions;
        hs_embed_run(&call);
    }
}

void hs_rest_ollama_embed(hs_http_request *request, void *user)
{
    static const struct hs_embed_format format = {.write = write_all};
    run(request, user, "input", &format, true);
}

void hs_rest_ollama_embeddings(hs_http_request *request, void *user)
{
    static const struct hs_embed_format format = {.write = write_one};
    run(request, user, "prompt", &format, false);
}
