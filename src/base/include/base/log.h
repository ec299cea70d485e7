/*
 * log.h - the one log function: level, component, optional request id, message; to stderr unless
 * told otherwise.
 *
 * Threads: safe from any thread; hs_log_set_* before other threads start or at any time (atomic).
 * Lines:   one write(2) of at most 4096 bytes each; longer messages end in "...". Control
 * characters and bytes that are no UTF-8 are escaped (not so for a sink, which gets the message as
 * it is); newlines at the end are dropped. "12:34:56.789 W runtime: text" or, with JSON chosen, one
 * object a line.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum hs_log_level { HS_LOG_DEBUG = 0, HS_LOG_INFO, HS_LOG_WARN, HS_LOG_ERROR, HS_LOG_OFF };

typedef void (*hs_log_fn)(enum hs_log_level level, const char *component, const char *request_id,
                          const char *message, void *user);

void hs_log_set_level(enum hs_log_level level); /* the default is HS_LOG_WARN */
enum hs_log_level hs_log_level_get(void);
void hs_log_set_json(bool json);
bool hs_log_is_json(void);
/* NULL: back to stderr. Once it returns, the old sink is not running any more; a sink must not call
 * it. */
void hs_log_set_sink(hs_log_fn fn, void *user);
/* "debug", "info", "warn", "error", "off"; false for anything else. */
bool hs_log_level_parse(const char *text, enum hs_log_level *ret_level);

void hs_log(enum hs_log_level level, const char *component, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void hs_log_request(enum hs_log_level level, const char *component, const char *request_id,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
