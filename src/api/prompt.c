#include "prompt.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

static hs_status too_long(struct hs_error *err)
{
    hs_status status =
        hs_error_set(err, HS_LIMIT, "the text is longer than %u MiB", HS_PROMPT_MAX_BYTES >> 20);
    hs_error_hint(err, "no context holds that much; shorten it");
    return status;
}

static hs_status append_stdin(const struct hs_command_args *args, struct hs_buf *text,
                              struct hs_error *err)
{
    struct hs_buf input HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_PROMPT_MAX_BYTES);
    hs_status status = args->io->read_all(args->io->self, &input, err);
    if (status) {
        return status == HS_LIMIT ? too_long(err) : status;
    }
    size_t len = input.len;
    if (len > 0 && input.data[len - 1] == '\n') {
        len--;
    }
    const char *line_break = text->len > 0 ? "\n" : "";
    status = hs_buf_append_str(text, line_break);
    status = status ? status : hs_buf_append(text, len ? input.data : "", len);
    return status == HS_LIMIT ? too_long(err) : status;
}

static hs_status append_argument(const struct hs_command_args *args, int i, struct hs_buf *text,
                                 struct hs_error *err)
{
    if (strcmp(args->args[i], "-") == 0) {
        return append_stdin(args, text, err);
    }
    bool after_stdin = i > 0 && strcmp(args->args[i - 1], "-") == 0;
    hs_status status = HS_OK;
    if (i > 0) {
        status = hs_buf_append_str(text, after_stdin ? "\n" : " ");
    }
    status = status ? status : hs_buf_append_str(text, args->args[i]);
    return status == HS_LIMIT ? too_long(err) : status;
}

static hs_status check(const struct hs_buf *text, struct hs_error *err)
{
    if (text->len == 0) {
        hs_status status = hs_error_set(err, HS_INVALID_ARGUMENT, "the text is empty");
        hs_error_hint(err, "give it as an argument or through standard input");
        return status;
    }
    if (memchr(text->data, '\0', text->len)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the text holds a NUL byte");
    }
    if (!hs_utf8_valid(text->data, text->len)) {
        hs_status status = hs_error_set(err, HS_INVALID_ARGUMENT, "the text is not UTF-8");
        hs_error_hint(err, "convert it, for example with iconv");
        return status;
    }
    return HS_OK;
}

hs_status hs_prompt_read(const struct hs_command_args *args, char **ret_text, struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_PROMPT_MAX_BYTES);
    hs_status status = args->n_args == 0 ? append_stdin(args, &text, err) : HS_OK;
    for (int i = 0; i < args->n_args && !status; i++) {
        status = append_argument(args, i, &text, err);
    }
    if (status == HS_OUT_OF_MEMORY) {
        return hs_error_nomem(err, "the text");
    }
    if (!status) {
        status = check(&text, err);
    }
    return status ? status : hs_buf_take(&text, ret_text, NULL);
}
