/* error_body.h - an error as the last event of a stream. Threads: none. */
#ifndef HTTP_ERROR_BODY_H
#define HTTP_ERROR_BODY_H

#include "api/http.h"

/* kind: HS_HTTP_SSE or HS_HTTP_NDJSON. */
HS_CHECKED hs_status hs_http_error_event(enum hs_http_stream_kind kind,
                                         enum hs_http_error_style style,
                                         const struct hs_http_error *error, const char *request_id,
                                         struct hs_buf *out);

#endif
