/*
 * llama_log.h - llama.cpp's log lines become ours, and error lines of one call can be kept for its
 * message.
 *
 * llama.cpp writes pieces of lines; pieces are joined per thread until the newline. Its levels map
 * to ours one step lower except for errors, because what it calls information is about its inside:
 * info and debug become debug, warn becomes info, error stays error. While a thread captures, its
 * error lines go into the capture and appear at debug level only: the caller gets them through
 * struct hs_error.
 *
 * Threads: any; the line buffer and the capture belong to the calling thread.
 */
#ifndef RUNTIME_LLAMA_LOG_H
#define RUNTIME_LLAMA_LOG_H

#include <stdbool.h>

#define HS_LLAMA_CAPTURE_LINES 8
#define HS_LLAMA_CAPTURE_BYTES 320

/* The first error lines since the capture began; later ones are counted only. */
struct hs_llama_capture {
    char lines[HS_LLAMA_CAPTURE_LINES][HS_LLAMA_CAPTURE_BYTES];
    int n_lines;
};

/* Route llama.cpp's and ggml's log; call once before anything else of llama.cpp. */
void hs_llama_log_install(void);

/* Begin keeping this thread's error lines in `capture`; NULL ends it. */
void hs_llama_log_capture(struct hs_llama_capture *capture);

/* Whether any kept line contains `text`. */
bool hs_llama_capture_has(const struct hs_llama_capture *capture, const char *text);

/*
 * The line that says what went wrong: the part behind "error loading model: " and the like when
 * there is one, else the first line without the name of llama.cpp's function; "" without lines.
 */
const char *hs_llama_capture_essence(const struct hs_llama_capture *capture);

#endif
