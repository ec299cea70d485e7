/*
 * json_quote.h - text as a JSON string, written straight into a buffer: the one thing that is done
 * for every token.
 *
 * Threads: none. Source: RFC 8259, section 7.
 */
#ifndef API_JSON_QUOTE_H
#define API_JSON_QUOTE_H

#include "base/buf.h"

/* Append text[len] in quotes; bytes that are no UTF-8 become U+FFFD. HS_LIMIT, HS_OUT_OF_MEMORY. */
HS_CHECKED hs_status hs_json_quote(struct hs_buf *out, const char *text, size_t len);
/* The same with `before` in front of it and `after` behind it, both as they are. */
HS_CHECKED hs_status hs_json_quote_between(struct hs_buf *out, const char *before, const char *text,
                                           size_t len, const char *after);

#endif
