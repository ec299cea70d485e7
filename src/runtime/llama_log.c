#include "llama_log.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "llama.h"

struct line_buffer {
    char text[1024];
    size_t len;
    enum ggml_log_level level;
};

static _Thread_local struct line_buffer line;
static _Thread_local struct hs_llama_capture *current_capture;

static enum hs_log_level map_level(enum ggml_log_level level)
{
    switch (level) {
    case GGML_LOG_LEVEL_ERROR:
        return current_capture ? HS_LOG_DEBUG : HS_LOG_ERROR;
    case GGML_LOG_LEVEL_WARN:
        return HS_LOG_INFO;
    default:
        return HS_LOG_DEBUG;
    }
}

static void keep_line(struct hs_llama_capture *capture, const char *text)
{
    if (capture->n_lines < HS_LLAMA_CAPTURE_LINES) {
        size_t len = hs_utf8_clip(text, strlen(text), HS_LLAMA_CAPTURE_BYTES - 1);
        memcpy(capture->lines[capture->n_lines], text, len);
        capture->lines[capture->n_lines][len] = '\0';
        capture->n_lines++;
    }
}

static void flush_line(void)
{
    while (line.len > 0 && (line.text[line.len - 1] == ' ' || line.text[line.len - 1] == '\r')) {
        line.len--;
    }
    line.text[line.len] = '\0';
    /* Progress dots carry nothing that a log reader wants. */
    if (strspn(line.text, ".") != line.len) {
        if (line.level == GGML_LOG_LEVEL_ERROR && current_capture) {
            keep_line(current_capture, line.text);
        }
        enum hs_log_level level = map_level(line.level);
        if (level >= hs_log_level_get()) {
            hs_log(level, "llama", "%s", line.text);
        }
    }
    line.len = 0;
}

static void receive(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level != GGML_LOG_LEVEL_CONT) {
        if (line.len > 0) {
            flush_line();
        }
        line.level = level;
    }
    for (const char *p = text; *p; p++) {
        if (*p == '\n') {
            flush_line();
        } else if (line.len < sizeof(line.text) - 1) {
            line.text[line.len++] = *p;
        }
    }
}

void hs_llama_log_install(void)
{
    llama_log_set(receive, NULL);
}

void hs_llama_log_capture(struct hs_llama_capture *capture)
{
    if (capture) {
        capture->n_lines = 0;
    } else if (line.len > 0) {
        flush_line();
    }
    current_capture = capture;
}

bool hs_llama_capture_has(const struct hs_llama_capture *capture, const char *text)
{
    for (int i = 0; i < capture->n_lines; i++) {
        if (strstr(capture->lines[i], text)) {
            return true;
        }
    }
    return false;
}

const char *hs_llama_capture_essence(const struct hs_llama_capture *capture)
{
    static const char *const marks[] = {
        "error loading model hyperparameters: ", "error loading model vocabulary: ",
        "error loading model: ", "failed to initialize the context: ", "error loading state: "};
    for (size_t m = 0; m < sizeof(marks) / sizeof(marks[0]); m++) {
        for (int i = 0; i < capture->n_lines; i++) {
            const char *found = strstr(capture->lines[i], marks[m]);
            if (found) {
                return found + strlen(marks[m]);
            }
        }
    }
    if (capture->n_lines == 0) {
        return "";
    }
    /* "llama_model_load: what happened" */
    const char *colon = strstr(capture->lines[0], ": ");
    return colon && colon[2] ? colon + 2 : capture->lines[0];
}
