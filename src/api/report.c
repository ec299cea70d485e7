#include "api/report.h"

#include <string.h>

#include "api/output.h"
#include "api/status_map.h"
#include "json_out.h"

static void report_json(const struct hs_command_io *io, hs_status status,
                        const struct hs_error *error)
{
    json_t *inner = json_object();
    hs_json_set(&inner, "status", json_string(hs_status_name(status)));
    hs_json_set(&inner, "message", hs_json_text(error->message));
    hs_json_set(&inner, "hint", hs_json_text(error->hint[0] ? error->hint : NULL));
    hs_json_set(&inner, "exit_code", json_integer(hs_exit_code(status)));
    json_t *object HS_CLEANUP(hs_json_freep) = json_object();
    hs_json_set(&object, "error", inner);
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 16);
    bool failed = hs_json_dump(object, true, &text) != HS_OK;
    hs_err_printf(io, "%s", failed ? "{\"error\":{\"status\":\"HS_OUT_OF_MEMORY\"}}\n" : text.data);
}

void hs_error_report(const struct hs_command_io *io, hs_status status, const struct hs_error *error,
                     bool as_json)
{
    if (as_json) {
        report_json(io, status, error);
        return;
    }
    if (status == HS_CANCELLED) {
        return;
    }
    const char *message = error->message[0] ? error->message : hs_status_text(status);
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 16);
    struct hs_buf hint HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 16);
    bool failed = hs_safe_text(message, strlen(message), true, &safe) ||
                  hs_safe_text(error->hint, strlen(error->hint), true, &hint);
    hs_err_printf(io, "%shyprstream:%s %s\n", io->color_err ? "\033[1;31m" : "",
                  io->color_err ? "\033[0m" : "",
                  failed || safe.len == 0 ? hs_status_text(status) : safe.data);
    if (!failed && hint.len > 0) {
        hs_err_printf(io, "  %s\n", hint.data);
    }
}

void hs_error_tell(const struct hs_command_io *io, const struct hs_error *error)
{
    struct hs_buf safe HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 16);
    if (!hs_safe_text(error->message, strlen(error->message), true, &safe)) {
        hs_err_printf(io, "%s\n", safe.len ? safe.data : "");
    }
    if (error->hint[0]) {
        hs_err_printf(io, "  %s\n", error->hint);
    }
}
