#include "multiline.h"

#include <string.h>

static bool is_fence(const char *line)
{
    return strncmp(line, "\"\"\"", 3) == 0 && line[3 + strspn(line + 3, " \t")] == '\0';
}

static hs_status append_line(struct hs_multiline *message, const char *line, size_t len)
{
    hs_status status = message->has_line ? hs_buf_append(&message->text, "\n", 1) : HS_OK;
    message->has_line = true;
    return status ? status : hs_buf_append(&message->text, line, len);
}

hs_status hs_multiline_add(struct hs_multiline *message, const char *line, bool *ret_complete)
{
    *ret_complete = false;
    if (is_fence(line) && message->in_block) {
        *ret_complete = true;
        return hs_buf_reserve(&message->text, 0);
    }
    if (is_fence(line) && !message->has_line) {
        message->in_block = true;
        return HS_OK;
    }
    size_t len = strlen(line);
    size_t n_backslashes = 0;
    while (n_backslashes < len && line[len - 1 - n_backslashes] == '\\') {
        n_backslashes++;
    }
    bool goes_on = !message->in_block && n_backslashes % 2 == 1;
    hs_status status = append_line(message, line, goes_on ? len - 1 : len);
    *ret_complete = !status && !goes_on && !message->in_block;
    return status;
}

hs_status hs_multiline_add_plain(struct hs_multiline *message, const char *line)
{
    return append_line(message, line, strlen(line));
}

void hs_multiline_free(struct hs_multiline *message)
{
    hs_buf_free(&message->text);
    message->in_block = message->has_line = false;
}
