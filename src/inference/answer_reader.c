#include "answer_reader.h"

#include "base/error.h"
#include "base/mem.h"

struct hs_answer_reader {
    struct hs_answer_reader_params p;
    hs_token_processor *whole; /* bytes to code points, and the format's stop string */
    hs_token_processor *text;  /* the caller's stop strings */
    bool is_stopped;
    int32_t stopped_by;
};

hs_status hs_answer_reader_new(const struct hs_answer_reader_params *params,
                               hs_answer_reader **ret_reader, struct hs_error *err)
{
    hs_answer_reader *reader = hs_calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return hs_error_nomem(err, "reader of an answer");
    }
    reader->p = *params;
    reader->p.format = NULL;
    const char *own_stop = params->rt->format_stop(params->format);
    struct hs_token_processor_params whole = {.own_stop =
                                                  own_stop != NULL ? own_stop : params->own_stop};
    struct hs_token_processor_params text = {.stop = params->stop, .n_stop = params->n_stop};
    hs_status status = hs_token_processor_new(&whole, &reader->whole, err);
    if (status == HS_OK) {
        status = hs_token_processor_new(&text, &reader->text, err);
    }
    if (status != HS_OK) {
        hs_answer_reader_free(reader);
        return status;
    }
    reader->p.format = params->format;
    *ret_reader = reader;
    return HS_OK;
}

void hs_answer_reader_free(hs_answer_reader *reader)
{
    if (reader != NULL) {
        reader->p.rt->format_free(reader->p.format);
        hs_token_processor_free(reader->whole);
        hs_token_processor_free(reader->text);
        hs_free(reader);
    }
}

static hs_status take_pieces(hs_answer_reader *reader, const struct hs_token_output *output)
{
    hs_status status = HS_OK;
    for (int32_t i = 0; i < output->n_pieces && status == HS_OK; i++) {
        struct hs_rt_delta piece = {
            .type = HS_EVENT_TEXT, .text = output->pieces[i].text, .len = output->pieces[i].len};
        status = reader->p.take(&piece, reader->p.user);
    }
    reader->is_stopped = output->stopped;
    reader->stopped_by = output->stopped_by;
    return status;
}

static hs_status take_delta(hs_answer_reader *reader, const struct hs_rt_delta *delta)
{
    struct hs_token_output output = {0};
    hs_status status = HS_OK;
    if (delta->type == HS_EVENT_TOOL_CALL && delta->index > 0 && reader->p.one_call) {
        /* Formats do not always keep the model from it. */
        reader->is_stopped = true;
        return HS_OK;
    }
    if (delta->type == HS_EVENT_TEXT) {
        status = hs_token_processor_push(reader->text, delta->text, delta->len, &output);
        return status == HS_OK ? take_pieces(reader, &output) : status;
    }
    if (delta->type == HS_EVENT_TOOL_CALL) {
        status = hs_token_processor_flush(reader->text, &output);
        if (status == HS_OK) {
            status = take_pieces(reader, &output);
        }
    }
    struct hs_rt_delta piece = *delta;
    if (delta->type == HS_EVENT_REASONING && !reader->p.split_reasoning) {
        piece.type = HS_EVENT_TEXT;
    }
    return status == HS_OK ? reader->p.take(&piece, reader->p.user) : status;
}

static hs_status feed(hs_answer_reader *reader, const struct hs_token_output *output, bool is_end,
                      struct hs_error *err)
{
    struct hs_rt_delta deltas[HS_RT_DELTAS_MAX];
    hs_status status = HS_OK;
    /* Without reasoning tags the processor gives one piece at most. */
    const char *text = output->n_pieces > 0 ? output->pieces[0].text : "";
    size_t len = output->n_pieces > 0 ? output->pieces[0].len : 0;
    int32_t n = 0;
    if (len > 0 || is_end) {
        status = reader->p.rt->format_feed(reader->p.format, text, len, is_end, deltas, &n, err);
    }
    for (int32_t i = 0; i < n && status == HS_OK && !reader->is_stopped; i++) {
        status = take_delta(reader, &deltas[i]);
    }
    return status;
}

hs_status hs_answer_reader_push(hs_answer_reader *reader, const char *bytes, size_t len,
                                bool is_end, struct hs_token_output *ret_stop, struct hs_error *err)
{
    struct hs_token_output output = {0};
    hs_status status = is_end ? hs_token_processor_finish(reader->whole, &output)
                              : hs_token_processor_push(reader->whole, bytes, len, &output);
    bool is_over = is_end || output.stopped;
    if (status == HS_OK && !reader->is_stopped) {
        status = feed(reader, &output, is_over, err);
    }
    if (status == HS_OK && is_over && !reader->is_stopped) {
        struct hs_token_output rest = {0};
        status = hs_token_processor_flush(reader->text, &rest);
        if (status == HS_OK) {
            status = take_pieces(reader, &rest);
        }
        reader->is_stopped |= output.stopped;
    }
    *ret_stop =
        (struct hs_token_output){.stopped = reader->is_stopped, .stopped_by = reader->stopped_by};
    return status;
}
