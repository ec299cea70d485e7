/*
 * sse_reader.h - server-sent events out of bytes as they come.
 *
 * Owner:   hs_sse_reader_free releases the buffers.
 * Threads: none.
 * Source:  WHATWG HTML, section 9.2.6. Ids and retry times are of no use here and dropped.
 */
#ifndef API_SSE_READER_H
#define API_SSE_READER_H

#include "base/buf.h"

struct hs_sse_reader {
    struct hs_buf line, data; /* data: of the event that is being read or was read last */
    char event[64];           /* its name, cut when longer; "": none */
    bool has_data, is_after_cr, is_begun, is_given;
};

/* max_bytes: of a line and of an event's data. */
void hs_sse_reader_init(struct hs_sse_reader *reader, size_t max_bytes);
/*
 * Read bytes[len] up to the end of an event.
 * Out:    ret_used: how many were taken, all of them unless an event is there; ret_has_event: it is
 *         in reader->event and reader->data (NUL-terminated) until the next call.
 * Errors: HS_LIMIT, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_sse_reader_feed(struct hs_sse_reader *reader, const char *bytes, size_t len,
                                        size_t *ret_used, bool *ret_has_event);
void hs_sse_reader_free(struct hs_sse_reader *reader);

#endif
