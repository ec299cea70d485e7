#include "answer.h"

#include "api/output.h"
#include "base/error.h"
#include "base/mem.h"
#include "json_out.h"

#define WAIT_MS 50 /* how late Ctrl-C may be noticed */
#define DIM "\033[2m"
#define UNDIM "\033[0m"

static hs_status stream_next(void *self, int timeout_ms, struct hs_event *ret_event,
                             struct hs_error *err)
{
    return hs_stream_next(self, timeout_ms, ret_event, err);
}

static void stream_cancel(void *self)
{
    hs_stream_cancel(self);
}

static void stream_free(void *self)
{
    hs_stream_free(self);
}

struct hs_token_source hs_token_source_of(hs_stream *stream)
{
    return (struct hs_token_source){stream, stream_next, stream_cancel, stream_free};
}

struct printer {
    const struct hs_command_io *io;
    enum hs_answer_mode mode;
    bool in_reasoning; /* reasoning stands on the terminal and is not closed yet */
    bool ends_in_newline;
};

static void close_reasoning(struct printer *printer)
{
    if (printer->in_reasoning) {
        hs_err_printf(printer->io, "%s\n\n", printer->io->color_err ? UNDIM : "");
        printer->in_reasoning = false;
    }
}

static hs_status print_reasoning(struct printer *printer, const struct hs_event *event,
                                 struct hs_error *err)
{
    const struct hs_command_io *io = printer->io;
    if (printer->mode == HS_ANSWER_QUIET || !io->err_is_terminal) {
        return HS_OK;
    }
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_ANSWER_MAX_BYTES);
    if (hs_safe_text(event->text, event->text_len, false, &safe)) {
        return hs_error_nomem(err, "output");
    }
    if (!printer->in_reasoning && io->color_err) {
        hs_err_printf(io, DIM);
    }
    printer->in_reasoning = true;
    io->err(io->self, safe.len ? safe.data : "", safe.len);
    return HS_OK;
}

static hs_status print_text(struct printer *printer, const char *text, size_t len,
                            struct hs_error *err)
{
    if (len == 0) {
        return HS_OK;
    }
    printer->ends_in_newline = text[len - 1] == '\n';
    return hs_out_text(printer->io, text, len, err);
}

static hs_status print_event(struct printer *printer, const struct hs_event *event,
                             struct hs_error *err)
{
    if (printer->mode == HS_ANSWER_EVENTS) {
        json_t *object HS_CLEANUP(hs_json_freep) = json_object();
        bool is_text = event->type == HS_EVENT_TEXT;
        hs_json_set(&object, "event", json_string(is_text ? "text" : "reasoning"));
        hs_json_set(&object, "text", hs_json_text(event->text));
        return hs_json_print(printer->io, object, true, err);
    }
    if (event->type == HS_EVENT_REASONING) {
        return print_reasoning(printer, event, err);
    }
    close_reasoning(printer);
    return printer->mode == HS_ANSWER_STREAM
               ? print_text(printer, event->text, event->text_len, err)
               : HS_OK;
}

static hs_status keep(struct hs_answer *answer, const struct hs_event *event, struct hs_error *err)
{
    bool is_text = event->type == HS_EVENT_TEXT;
    hs_status status =
        hs_buf_append(is_text ? &answer->text : &answer->reasoning, event->text, event->text_len);
    if (status == HS_LIMIT) {
        status = hs_error_set(err, status, "the answer is longer than %u MiB",
                              HS_ANSWER_MAX_BYTES >> 20);
        hs_error_hint(err, "limit it with --max-tokens");
    } else if (status) {
        status = hs_error_nomem(err, "answer");
    }
    return status;
}

/* What is left after the last event. */
static hs_status print_end(struct printer *printer, const struct hs_answer *answer,
                           struct hs_error *err)
{
    close_reasoning(printer);
    hs_status status = HS_OK;
    if (printer->mode == HS_ANSWER_WHOLE) {
        status = print_text(printer, answer->text.data, answer->text.len, err);
    }
    bool prints_text = printer->mode == HS_ANSWER_STREAM || printer->mode == HS_ANSWER_WHOLE;
    bool nothing_came = answer->text.len == 0 && answer->finish == HS_FINISH_ERROR;
    if (!status && prints_text && !printer->ends_in_newline && !nothing_came) {
        status = printer->io->out(printer->io->self, "\n", 1, err);
    }
    return status;
}

/* Read to the end; after a failure of our own the rest is read and dropped. */
static hs_status read_events(struct printer *printer, const struct hs_token_source *source,
                             struct hs_answer *answer, struct hs_error *err)
{
    hs_status failure = HS_OK;
    for (;;) {
        struct hs_event event;
        struct hs_error wait_error;
        hs_status status = source->next(source->self, WAIT_MS, &event, &wait_error);
        if (printer->io->interrupted(printer->io->self)) {
            source->cancel(source->self);
        }
        if (status == HS_TIMEOUT) {
            continue;
        }
        if (status) {
            return hs_error_set(err, status, "%s", wait_error.message);
        }
        if (event.type == HS_EVENT_DONE) {
            answer->finish = event.finish;
            answer->usage = event.usage;
            answer->error = event.error;
            return failure;
        }
        if (!failure) {
            failure = keep(answer, &event, err);
        }
        if (!failure) {
            failure = print_event(printer, &event, err);
        }
        if (failure) {
            source->cancel(source->self);
        }
    }
}

hs_status hs_answer_read(const struct hs_command_io *io, const struct hs_token_source *source,
                         enum hs_answer_mode mode, struct hs_answer *ret, struct hs_error *err)
{
    *ret = (struct hs_answer){.text = HS_BUF_INIT(HS_ANSWER_MAX_BYTES),
                              .reasoning = HS_BUF_INIT(HS_ANSWER_MAX_BYTES)};
    struct printer printer = {.io = io, .mode = mode};
    hs_status status = HS_OK;
    if (hs_buf_reserve(&ret->text, 256) || hs_buf_reserve(&ret->reasoning, 1)) {
        source->cancel(source->self);
        status = hs_error_nomem(err, "answer");
    }
    hs_status read_status = read_events(&printer, source, ret, status ? NULL : err);
    status = status ? status : read_status;
    return status ? status : print_end(&printer, ret, err);
}

void hs_answer_free(struct hs_answer *answer)
{
    hs_buf_free(&answer->text);
    hs_buf_free(&answer->reasoning);
}
