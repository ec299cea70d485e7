#include "api/output.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"

static char *format_text(const char *format, va_list arguments)
{
    va_list copy;
    va_copy(copy, arguments);
    int len = vsnprintf(NULL, 0, format, copy);
    va_end(copy);
    char *text = len < 0 ? NULL : hs_alloc((size_t)len + 1);
    if (text) {
        vsnprintf(text, (size_t)len + 1, format, arguments);
    }
    return text;
}

hs_status hs_out_printf(const struct hs_command_io *io, struct hs_error *err, const char *format,
                        ...)
{
    va_list arguments;
    va_start(arguments, format);
    HS_CLEANUP(hs_freep) char *text = format_text(format, arguments);
    va_end(arguments);
    if (!text) {
        return hs_error_nomem(err, "output");
    }
    return io->out(io->self, text, strlen(text), err);
}

void hs_err_printf(const struct hs_command_io *io, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    HS_CLEANUP(hs_freep) char *text = format_text(format, arguments);
    va_end(arguments);
    if (text) {
        io->err(io->self, text, strlen(text));
    }
}

void hs_err_info(const struct hs_command_io *io, const char *format, ...)
{
    if (!io->err_is_terminal && hs_log_level_get() > HS_LOG_INFO) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    HS_CLEANUP(hs_freep) char *text = format_text(format, arguments);
    va_end(arguments);
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 20);
    if (text && hs_log_is_json()) {
        hs_log(HS_LOG_INFO, "hyprstream", "%s",
               text); /* a line that is no JSON would be in the way */
    } else if (text && !hs_safe_text(text, strlen(text), true, &safe)) {
        hs_err_printf(io, "%s\n", safe.len ? safe.data : "");
    }
}

/* Bytes of the UTF-8 code point that s[len] begins with, 0 when it is none. */
static size_t code_point_len(const unsigned char *s, size_t len)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    return n <= len && hs_utf8_valid((const char *)s, n) ? n : 0;
}

static bool is_control(const unsigned char *s, size_t n, bool one_line)
{
    if (n == 1) {
        bool is_layout = s[0] == '\n' || s[0] == '\t';
        return s[0] == 0x7F || (s[0] < 0x20 && (one_line || !is_layout));
    }
    return n == 2 && s[0] == 0xC2 && s[1] < 0xA0; /* U+0080 to U+009F */
}

hs_status hs_safe_text(const char *text, size_t len, bool one_line, struct hs_buf *buf)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t plain = 0; /* where what is not yet copied begins */
    for (size_t i = 0; i < len;) {
        size_t n = code_point_len(s + i, len - i);
        if (n > 0 && !is_control(s + i, n, one_line)) {
            i += n;
            continue;
        }
        char visible[] = "\xEF\xBF\xBD"; /* U+FFFD */
        if (n == 1) {
            unsigned picture = s[i] == 0x7F ? 0x21u : s[i]; /* U+2400 + picture */
            visible[0] = '\xE2';
            visible[1] = '\x90';
            visible[2] = (char)(0x80u + picture);
        }
        hs_status status = hs_buf_append(buf, text + plain, i - plain);
        if (!status) {
            status = hs_buf_append(buf, visible, 3);
        }
        if (status) {
            return status;
        }
        i += n > 0 ? n : 1;
        plain = i;
    }
    return hs_buf_append(buf, text + plain, len - plain);
}

hs_status hs_out_text(const struct hs_command_io *io, const char *text, size_t len,
                      struct hs_error *err)
{
    if (!io->out_is_terminal) {
        return io->out(io->self, text, len, err);
    }
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(SIZE_MAX / 4);
    hs_status status = hs_safe_text(text, len, false, &safe);
    if (status) {
        return hs_error_nomem(err, "output");
    }
    return io->out(io->self, safe.len ? safe.data : "", safe.len, err);
}

static const char *format_scaled(double value, const char *const *units, const char *gap,
                                 char *text, size_t size)
{
    size_t unit = 0;
    while (value >= 999.5 && units[unit + 1]) {
        value /= 1000;
        unit++;
    }
    int digits = unit == 0 || value >= 99.95 ? 0 : 1;
    snprintf(text, size, "%.*f%s%s", digits, value, gap, units[unit]);
    return text;
}

const char *hs_format_bytes(uint64_t bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", NULL};
    return format_scaled((double)bytes, units, " ", text, size);
}

const char *hs_format_count(uint64_t count, char *text, size_t size)
{
    static const char *const units[] = {"", "K", "M", "B", "T", NULL};
    return format_scaled((double)count, units, "", text, size);
}

const char *hs_format_time(int64_t unix_ms, char *text, size_t size)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm local;
    if (unix_ms <= 0 || !localtime_r(&seconds, &local) ||
        strftime(text, size, "%Y-%m-%d %H:%M", &local) == 0) {
        snprintf(text, size, "-");
    }
    return text;
}
