#include "json_quote.h"

#include <string.h>

#include "base/utf8.h"

/* Bytes of the code point at s[0, len), 0 when it is none. */
static size_t code_point_len(const char *s, size_t len)
{
    for (size_t n = 2; n <= 4 && n <= len; n++) {
        if (hs_utf8_valid(s, n)) {
            return n;
        }
    }
    return 0;
}

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

static hs_status append_escaped(struct hs_buf *out, char c)
{
    static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; i + 1 < sizeof names; i += 2) {
        if (names[i] == c) {
            return hs_buf_append(out, (const char[]){'\\', names[i + 1]}, 2);
        }
    }
    return hs_buf_printf(out, "\\u%04x", (unsigned)(unsigned char)c);
}

hs_status hs_json_quote(struct hs_buf *out, const char *text, size_t len)
{
    hs_status status = hs_buf_append(out, "\"", 1);
    size_t i = 0;
    while (i < len && status == HS_OK) {
        size_t n = 0;
        while (i + n < len && is_plain(text[i + n])) {
            n++;
        }
        if (n == 0 && (unsigned char)text[i] >= 0x80) {
            n = code_point_len(text + i, len - i);
            status = n == 0 ? hs_buf_append_str(out, "\xEF\xBF\xBD") : HS_OK;
        } else if (n == 0) {
            status = append_escaped(out, text[i]);
        }
        if (n > 0 && status == HS_OK) {
            status = hs_buf_append(out, text + i, n);
        }
        i += n > 0 ? n : 1;
    }
    return status == HS_OK ? hs_buf_append(out, "\"", 1) : status;
}

hs_status hs_json_quote_between(struct hs_buf *out, const char *before, const char *text,
                                size_t len, const char *after)
{
    hs_status status = hs_buf_append_str(out, before);
    status = status == HS_OK ? hs_json_quote(out, text, len) : status;
    return status == HS_OK ? hs_buf_append_str(out, after) : status;
}
