/* access_log.c - one line for each request: what, how it ended, how long; never a body or a query.
 */
#include "base/clock.h"
#include "base/log.h"
#include "http_internal.h"

static const char *end_text(const hs_http_request *request)
{
    switch (request->gone) {
    case HS_HTTP_DISCONNECTED:
        return "disconnected";
    case HS_HTTP_DEADLINE:
        return "deadline";
    case HS_HTTP_STOPPED:
        return "stopped";
    }
    return request->is_begun ? "done" : "malformed";
}

void hs_http_access_log(const hs_http_request *request)
{
    if (hs_log_level_get() > HS_LOG_INFO) {
        return;
    }
    const struct hs_http_route *route = request->route;
    double ms = (double)(hs_clock_ns() - request->start_ns) / 1e6;
    hs_log_request(HS_LOG_INFO, "http", request->id,
                   "method=%s route=%s status=%d end=%s in=%zu out=%llu ms=%.1f key=\"%s\" peer=%s",
                   route == NULL      ? "-"
                   : request->is_head ? "HEAD"
                                      : hs_http_method_name(route->method),
                   route == NULL ? "-" : route->path, request->sent_status, end_text(request),
                   request->body_seen, (unsigned long long)request->bytes_out, ms,
                   request->has_key ? request->key.name : "", request->peer);
}
