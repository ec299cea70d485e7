/* infill.c - POST /infill: fill a gap in a text, as llama-server does and editors ask for. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "generation.h"
#include "infill.h"
#include "json_quote.h"
#include "lora.h"

/* ---- answer ---- */

/* llama-server's word for how it ended. */
static const char *stop_type(const struct hs_choice *choice)
{
    if (choice->finish == HS_FINISH_LENGTH) {
        return "limit";
    }
    return choice->usage.stopped_by > 0 ? "word" : "eos";
}

static hs_status write_end(const struct hs_generation *generation, struct hs_buf *out)
{
    const struct hs_choice *choice = &generation->choices[0];
    const char *id = generation->model_name;
    hs_status status = hs_buf_printf(
        out, ",\"index\":0,\"stop\":true,\"stop_type\":\"%s\",\"model\":", stop_type(choice));
    status = status == HS_OK ? hs_json_quote(out, id, strlen(id)) : status;
    return status == HS_OK
               ? hs_buf_printf(out,
                               ",\"tokens_predicted\":%d,\"tokens_evaluated\":%d,"
                               "\"tokens_cached\":%d,\"timings\":{\"prompt_ms\":%.3f,"
                               "\"predicted_ms\":%.3f}}",
                               (int)choice->usage.completion_tokens,
                               (int)choice->usage.prompt_tokens, (int)choice->usage.cached_tokens,
                               choice->usage.prefill_ms, choice->usage.decode_ms)
               : status;
}

static hs_status write_whole(struct hs_generation *generation, struct hs_buf *out)
{
    const struct hs_choice *choice = &generation->choices[0];
    hs_status status = hs_buf_append_str(out, "{\"content\":");
    status = status == HS_OK
                 ? hs_json_quote(out, choice->text.data == NULL ? "" : choice->text.data,
                                 choice->text.len)
                 : status;
    status = status == HS_OK ? write_end(generation, out) : status;
    return status == HS_OK ? hs_buf_append_str(out, "\n") : status;
}

static hs_status write_event(struct hs_generation *generation, size_t i,
                             const struct hs_event *event, struct hs_buf *out)
{
    (void)i;
    hs_status status = hs_buf_append_str(out, "data: {\"content\":");
    status = status == HS_OK ? hs_json_quote(out, event->text, event->text_len) : status;
    if (status == HS_OK && event->type == HS_EVENT_DONE) {
        status = write_end(generation, out);
    } else if (status == HS_OK) {
        status = hs_buf_append_str(out, ",\"index\":0,\"stop\":false}");
    }
    return status == HS_OK ? hs_buf_append_str(out, "\n\n") : status;
}

static const struct hs_generation_format format = {
    .kind = HS_HTTP_SSE, .id_prefix = "infill-", .whole = write_whole, .event = write_event};

/* ---- request ---- */

bool hs_rest_infill_check(const struct hs_model_info *model, const struct hs_fields *fields,
                          const char *name)
{
    return model->can_infill ||
           hs_field_refuse(fields, name,
                           "needs a model that can fill gaps; the vocabulary of '%s' has no tokens "
                           "for that",
                           model->id);
}

struct gap {
    struct hs_infill infill;
    struct hs_infill_file *files;
    char *prefix; /* with the prompt behind it */
};

static bool read_file(const struct hs_fields *fields, const json_t *item, size_t i,
                      struct hs_infill_file *ret)
{
    char path[48];
    snprintf(path, sizeof path, "input_extra[%zu].", i);
    struct hs_fields file = {fields->request, item, path};
    if (!json_is_object(item)) {
        path[strlen(path) - 1] = '\0';
        return hs_field_refuse(fields, path, "must be an object");
    }
    if (!hs_field_string(&file, "filename", &ret->name) ||
        !hs_field_string(&file, "text", &ret->text)) {
        return false;
    }
    return ret->text != NULL || hs_field_refuse(&file, "text", "is missing");
}

static bool read_files(const struct hs_rest *rest, const struct hs_fields *fields, struct gap *gap)
{
    const json_t *list = hs_field_get(fields, "input_extra");
    size_t n = json_array_size(list);
    if (list != NULL && !json_is_array(list)) {
        return hs_field_refuse(fields, "input_extra", "must be an array");
    }
    if (n > (size_t)rest->max_inputs) {
        return hs_field_refuse(fields, "input_extra", "has %zu files; at most %d are allowed", n,
                               (int)rest->max_inputs);
    }
    gap->files = hs_calloc(n + 1, sizeof gap->files[0]);
    if (gap->files == NULL) {
        struct hs_error err;
        hs_error_nomem(&err, "files");
        hs_rest_respond_failure(fields->request, &err, NULL);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!read_file(fields, json_array_get(list, i), i, &gap->files[i])) {
            return false;
        }
    }
    gap->infill.files = gap->files;
    gap->infill.n_files = n;
    return true;
}

static bool read_gap(const struct hs_rest *rest, const struct hs_model_info *model,
                     const struct hs_fields *fields, const struct hs_rest_settings *settings,
                     struct gap *gap)
{
    const char *prefix = "", *prompt = "";
    gap->infill.suffix = "";
    if (!hs_field_string(fields, "input_prefix", &prefix) ||
        !hs_field_string(fields, "prompt", &prompt) ||
        !hs_field_string(fields, "input_suffix", &gap->infill.suffix) ||
        !read_files(rest, fields, gap)) {
        return false;
    }
    gap->prefix = hs_asprintf("%s%s", prefix, prompt);
    if (gap->prefix == NULL) {
        struct hs_error err;
        hs_error_nomem(&err, "prompt");
        hs_rest_respond_failure(fields->request, &err, NULL);
        return false;
    }
    gap->infill.prefix = gap->prefix;
    /* files give way to the answer */
    int32_t n_answer = settings->params.max_tokens > 0 ? settings->params.max_tokens : 1;
    gap->infill.n_tokens_max = n_answer < model->n_ctx ? (size_t)(model->n_ctx - n_answer) : 1;
    return true;
}

static void start(const struct hs_rest *rest, const struct hs_model_info *model,
                  hs_http_request *request, struct hs_rest_settings *settings,
                  const struct hs_infill *infill)
{
    struct hs_generation *generation = NULL;
    int32_t *tokens = NULL;
    size_t n = 0;
    struct hs_error err;
    hs_status status =
        hs_rest_lora_route(rest, model, request, infill->prefix, &settings->lora, &err);
    if (status == HS_OK) {
        status = hs_engine_infill_tokens(rest->engine, model->id, infill, &tokens, &n, &err);
    }
    if (status == HS_OK) {
        status = hs_generation_new(&format, rest, model, request, settings, 1, &generation, &err);
    }
    if (status == HS_OK) {
        status =
            hs_engine_complete(rest->engine, model->id, settings->lora.refs, settings->lora.n,
                               tokens, n, &settings->params, &generation->choices[0].stream, &err);
    }
    hs_tokens_free(tokens);
    if (status != HS_OK) {
        hs_generation_free(generation);
        hs_rest_respond_failure(request, &err, "input_prefix");
        return;
    }
    hs_generation_run(generation);
}

void hs_rest_infill(hs_http_request *request, void *user)
{
    const struct hs_rest *rest = user;
    struct hs_fields fields;
    const struct hs_model_info *model = hs_rest_open(rest, request, &fields);
    if (model == NULL || !hs_rest_infill_check(model, &fields, "model")) {
        return;
    }
    struct hs_rest_settings settings = {0};
    struct gap gap = {0};
    if (hs_rest_settings_read(rest, model, &fields, &settings)) {
        if (settings.n > 1) {
            hs_field_refuse(&fields, "n", "above 1 is for /v1/completions");
        } else if (read_gap(rest, model, &fields, &settings, &gap)) {
            start(rest, model, request, &settings, &gap.infill);
        }
    }
    hs_free(gap.files);
    hs_free(gap.prefix);
    hs_rest_settings_free(&settings);
}
