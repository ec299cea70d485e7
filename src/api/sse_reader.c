#include "sse_reader.h"

#include <string.h>

void hs_sse_reader_init(struct hs_sse_reader *reader, size_t max_bytes)
{
    *reader =
        (struct hs_sse_reader){.line = HS_BUF_INIT(max_bytes), .data = HS_BUF_INIT(max_bytes)};
}

void hs_sse_reader_free(struct hs_sse_reader *reader)
{
    hs_buf_free(&reader->line);
    hs_buf_free(&reader->data);
}

/* The value after "name:" and one blank; NULL: the line is another field. */
static const char *value_of(const char *line, const char *name)
{
    size_t len = strlen(name);
    if (strncmp(line, name, len) != 0 || (line[len] != ':' && line[len] != '\0')) {
        return NULL;
    }
    const char *value = line + len + (line[len] == ':');
    return value + (*value == ' ');
}

static hs_status take_line(struct hs_sse_reader *reader, bool *ret_has_event)
{
    const char *line = reader->line.len > 0 ? reader->line.data : "";
    if (!reader->is_begun && strncmp(line, "\xEF\xBB\xBF", 3) == 0) {
        line += 3;
    }
    reader->is_begun = true;
    hs_status status = HS_OK;
    const char *value = NULL;
    if (*line == '\0') {
        *ret_has_event = reader->has_data; /* without data it is none */
        reader->is_given = true;
    } else if ((value = value_of(line, "data")) != NULL) {
        status = reader->has_data ? hs_buf_append(&reader->data, "\n", 1) : HS_OK;
        status = status == HS_OK ? hs_buf_append_str(&reader->data, value) : status;
        reader->has_data = true;
    } else if ((value = value_of(line, "event")) != NULL) {
        size_t len = strnlen(value, sizeof reader->event - 1);
        memcpy(reader->event, value, len);
        reader->event[len] = '\0';
    }
    hs_buf_clear(&reader->line);
    return status;
}

/* Begin the next event once the one before was looked at. */
static void forget_given(struct hs_sse_reader *reader)
{
    if (reader->is_given) {
        hs_buf_clear(&reader->data);
        reader->event[0] = '\0';
        reader->is_given = reader->has_data = false;
    }
}

hs_status hs_sse_reader_feed(struct hs_sse_reader *reader, const char *bytes, size_t len,
                             size_t *ret_used, bool *ret_has_event)
{
    size_t used = 0;
    bool has_event = false;
    hs_status status = HS_OK;
    forget_given(reader);
    while (used < len && !has_event && status == HS_OK) {
        if (reader->is_after_cr && bytes[used] == '\n') { /* the second half of CR LF */
            reader->is_after_cr = false;
            used++;
            continue;
        }
        size_t n = 0;
        while (used + n < len && bytes[used + n] != '\r' && bytes[used + n] != '\n') {
            n++;
        }
        reader->is_after_cr = reader->is_after_cr && n == 0;
        status = n > 0 ? hs_buf_append(&reader->line, bytes + used, n) : HS_OK;
        used += n;
        if (used < len && status == HS_OK) {
            reader->is_after_cr = bytes[used++] == '\r';
            status = take_line(reader, &has_event);
            if (!has_event) {
                forget_given(reader);
            }
        }
    }
    if (status == HS_OK) {
        *ret_used = used;
        *ret_has_event = has_event;
    }
    return status;
}
