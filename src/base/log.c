/* log.c - log lines, built on the stack so that running out of memory can be logged too. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"

/* A line of at most PIPE_BUF bytes is not mixed with those of other processes on the same pipe. */
#define LINE_SIZE 4096u
#define MESSAGE_SIZE 4096u

static atomic_int threshold = HS_LOG_WARN;
static atomic_bool as_json;
static struct {
    pthread_rwlock_t
        lock; /* held for reading while the sink runs: it is idle once it was replaced */
    hs_log_fn fn;
    void *user;
} sink = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

/* Text with room kept for what must end the line. */
struct line {
    char text[LINE_SIZE];
    size_t len;
    size_t limit;
};

static void line_raw(struct line *line, const char *text)
{
    size_t len = strlen(text);
    size_t room = line->limit - line->len;
    memcpy(line->text + line->len, text, len < room ? len : room);
    line->len += len < room ? len : room;
}

/* The escape of a control character, or of a byte that is no UTF-8. */
static void escape(char ret[8], unsigned code, bool is_json, bool is_valid)
{
    static const char controls[] = "\b\t\n\f\r", letters[] = "btnfr";
    const char *known = is_valid && code != 0 ? strchr(controls, (int)code) : NULL;
    if (known != NULL) {
        snprintf(ret, 8, "\\%c", letters[known - controls]);
    } else if (!is_json) {
        snprintf(ret, 8, "\\x%02x", code & 0xFFu);
    } else if (is_valid) {
        snprintf(ret, 8, "\\u%04x", code & 0xFFFFu);
    } else {
        snprintf(ret, 8, "%s", "\xEF\xBF\xBD"); /* U+FFFD: JSON cannot hold the byte itself */
    }
}

/* The next piece of text[len] as it stands in a line; returns how many bytes of text it covers. */
static size_t next_piece(const char *text, size_t len, bool is_json, char ret[8])
{
    unsigned char first = (unsigned char)text[0];
    if (first < 0x20 || first == 0x7F) {
        escape(ret, first, is_json, true);
        return 1;
    }
    if (is_json && (first == '"' || first == '\\')) {
        snprintf(ret, 8, "\\%c", first);
        return 1;
    }
    size_t n = 1;
    while (n <= 4 && n <= len && !hs_utf8_valid(text, n)) {
        n++;
    }
    if (n > 4 || n > len) {
        escape(ret, first, is_json, false);
        return 1;
    }
    if (n == 2 && first == 0xC2 && (unsigned char)text[1] < 0xA0) { /* C1 control characters */
        if (is_json) {
            escape(ret, (unsigned char)text[1], true, true);
        } else {
            snprintf(ret, 8, "\\u%04x", (unsigned)(unsigned char)text[1]);
        }
        return 2;
    }
    memcpy(ret, text, n);
    ret[n] = '\0';
    return n;
}

/* Append text so that it can neither end the line nor, in JSON, the string; cut with "...". */
static void line_escaped(struct line *line, const char *text, bool is_json)
{
    size_t len = strlen(text), i = 0, fits_dots = line->len;
    while (i < len) {
        char piece[8];
        i += next_piece(text + i, len - i, is_json, piece);
        size_t n = strlen(piece);
        if (line->len + n > line->limit) {
            line->len = fits_dots;
            line_raw(line, "...");
            return;
        }
        memcpy(line->text + line->len, piece, n);
        line->len += n;
        if (line->len + 3 <= line->limit) {
            fits_dots = line->len;
        }
    }
}

static void line_build_text(struct line *line, enum hs_log_level level, const char *component,
                            const char *request_id, const char *message)
{
    struct timespec now;
    struct tm local;
    char head[40];
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    snprintf(head, sizeof head, "%02d:%02d:%02d.%03d %c ", local.tm_hour, local.tm_min,
             local.tm_sec, (int)(now.tv_nsec / 1000000), "DIWE"[level]);
    line_raw(line, head);
    line->limit = LINE_SIZE / 4; /* names never crowd out the message */
    line_escaped(line, component, false);
    if (request_id != NULL) {
        line_raw(line, " [");
        line_escaped(line, request_id, false);
        line_raw(line, "]");
    }
    line->limit = LINE_SIZE - 1;
    line_raw(line, ": ");
    line_escaped(line, message, false);
}

static void line_build_json(struct line *line, enum hs_log_level level, const char *component,
                            const char *request_id, const char *message)
{
    struct timespec now;
    struct tm utc;
    char date[32], head[96];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(head, sizeof head, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"component\":\"", date,
             (int)(now.tv_nsec / 1000000), level_names[level]);
    line_raw(line, head);
    line->limit = LINE_SIZE / 4;
    line_escaped(line, component, true);
    line->limit = LINE_SIZE / 2;
    if (request_id != NULL) {
        line_raw(line, "\",\"request_id\":\"");
        line_escaped(line, request_id, true);
    }
    line->limit = LINE_SIZE - sizeof "\"}\n" + 1;
    line_raw(line, "\",\"message\":\"");
    line_escaped(line, message, true);
    line->limit = LINE_SIZE - 1;
    line_raw(line, "\"}");
}

static void line_write(struct line *line)
{
    line->limit = LINE_SIZE;
    line_raw(line, "\n");
    size_t done = 0;
    while (done < line->len) {
        ssize_t n = write(STDERR_FILENO, line->text + done, line->len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; /* nowhere is left to report that to */
        }
        done += (size_t)n;
    }
}

static void emit(enum hs_log_level level, const char *component, const char *request_id,
                 const char *message)
{
    pthread_rwlock_rdlock(&sink.lock);
    if (sink.fn != NULL) {
        sink.fn(level, component, request_id, message, sink.user);
        pthread_rwlock_unlock(&sink.lock);
        return;
    }
    pthread_rwlock_unlock(&sink.lock);
    struct line line = {.len = 0, .limit = LINE_SIZE - 1};
    if (atomic_load_explicit(&as_json, memory_order_relaxed)) {
        line_build_json(&line, level, component, request_id, message);
    } else {
        line_build_text(&line, level, component, request_id, message);
    }
    line_write(&line);
}

static void log_format(enum hs_log_level level, const char *component, const char *request_id,
                       const char *format, va_list args)
{
    if (level < HS_LOG_DEBUG || level >= HS_LOG_OFF || level < hs_log_level_get()) {
        return;
    }
    int saved = errno;
    char message[MESSAGE_SIZE];
    int len = vsnprintf(message, sizeof message, format, args);
    if (len < 0) {
        snprintf(message, sizeof message, "%s", format);
    } else if ((size_t)len >= sizeof message) {
        size_t keep = hs_utf8_clip(message, sizeof message - 1, sizeof message - 4);
        memcpy(message + keep, "...", 4);
    }
    size_t end = strlen(message);
    while (end > 0 && message[end - 1] == '\n') {
        message[--end] = '\0';
    }
    emit(level, component == NULL ? "" : component, request_id, message);
    errno = saved;
}

void hs_log(enum hs_log_level level, const char *component, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_format(level, component, NULL, format, args);
    va_end(args);
}

void hs_log_request(enum hs_log_level level, const char *component, const char *request_id,
                    const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_format(level, component, request_id, format, args);
    va_end(args);
}

void hs_log_set_level(enum hs_log_level level)
{
    atomic_store(&threshold, (int)level);
}

enum hs_log_level hs_log_level_get(void)
{
    return (enum hs_log_level)atomic_load_explicit(&threshold, memory_order_relaxed);
}

void hs_log_set_json(bool json)
{
    atomic_store(&as_json, json);
}

bool hs_log_is_json(void)
{
    return atomic_load(&as_json);
}

void hs_log_set_sink(hs_log_fn fn, void *user)
{
    pthread_rwlock_wrlock(&sink.lock);
    sink.fn = fn;
    sink.user = user;
    pthread_rwlock_unlock(&sink.lock);
}

bool hs_log_level_parse(const char *text, enum hs_log_level *ret_level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret_level = (enum hs_log_level)i;
            return true;
        }
    }
    return false;
}
