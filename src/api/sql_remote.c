#include "sql_remote.h"

#include <jansson.h>
#include <nanoarrow/nanoarrow.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "flightsql/ipc_read.h"
#include "json_out.h"
#include "rest/sql.h"

#define HEADER_MAX (16u << 20) /* bytes of a message's head */
#define BODY_MAX (1u << 30)    /* and of its rows */
#define ERROR_MAX 65536

/* An answer on its way in. */
struct answer {
    hs_http_body *body;
    hs_ipc_reader *reader;
    struct hs_buf header, rows;
    bool is_over;
};

static void answer_free(struct answer *answer)
{
    hs_ipc_reader_free(answer->reader);
    hs_buf_free(&answer->header);
    hs_buf_free(&answer->rows);
    hs_http_body_free(answer->body);
}

static hs_status no_stream(struct hs_error *err)
{
    hs_error_set(err, HS_IO, "the server's answer is not whole, or no stream of Arrow's");
    return hs_error_hint(err, "is it a server of hyprstream? Its log may say more");
}

/* Exactly so many bytes. */
static hs_status read_bytes(struct answer *answer, struct hs_buf *buf, size_t len,
                            struct hs_error *err)
{
    size_t n = 0;
    hs_buf_clear(buf);
    if (hs_buf_reserve(buf, len) != HS_OK) {
        return hs_error_nomem(err, "rows of the server");
    }
    hs_status status = hs_http_body_read(answer->body, buf->data, len, &n, err);
    buf->len = n;
    return status ? status : n == len ? HS_OK : no_stream(err);
}

/* What came in place of a message: why the statement failed after its first rows. */
static hs_status read_failure(struct answer *answer, const char start[8], struct hs_error *err)
{
    char text[ERROR_MAX];
    size_t n = 0;
    memcpy(text, start, 8);
    hs_status status = hs_http_body_read(answer->body, text + 8, sizeof text - 8, &n, err);
    if (status) {
        return status;
    }
    json_t *json HS_CLEANUP(hs_json_freep) = json_loadb(text, n + 8, JSON_DISABLE_EOF_CHECK, NULL);
    const char *message =
        json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    return message ? hs_error_set(err, HS_IO, "%s", message) : no_stream(err);
}

/* One message of the stream. ret_array->release NULL: the schema, or the end (is_over). */
static hs_status read_message(struct answer *answer, struct ArrowArray *ret_array,
                              struct hs_error *err)
{
    char start[8];
    uint32_t mark, header_len;
    uint64_t body_len = 0;
    size_t n = 0;
    ret_array->release = NULL;
    hs_status status = hs_http_body_read(answer->body, start, sizeof start, &n, err);
    if (status) {
        return status;
    }
    if (n < sizeof start) {
        return no_stream(err);
    }
    memcpy(&mark, start, 4);
    memcpy(&header_len, start + 4, 4);
    if (mark != UINT32_MAX) {
        return read_failure(answer, start, err);
    }
    if (header_len == 0) {
        answer->is_over = true;
        return HS_OK;
    }
    if (header_len > HEADER_MAX) {
        return no_stream(err);
    }
    status = read_bytes(answer, &answer->header, header_len, err);
    const uint8_t *header = (const uint8_t *)answer->header.data;
    status = status ? status : hs_ipc_body_len(header, header_len, &body_len, err);
    if (!status && body_len > BODY_MAX) {
        return hs_error_set(err, HS_LIMIT, "a batch of rows has %llu bytes, at most %u are taken",
                            (unsigned long long)body_len, BODY_MAX);
    }
    status = status ? status : read_bytes(answer, &answer->rows, (size_t)body_len, err);
    return status ? status
                  : hs_ipc_reader_read(answer->reader, header, header_len,
                                       (const uint8_t *)answer->rows.data, (size_t)body_len,
                                       ret_array, err);
}

static hs_status schema_of(void *user, struct ArrowSchema *ret_schema, struct hs_error *err)
{
    struct answer *answer = user;
    struct ArrowArray none;
    hs_status status = read_message(answer, &none, err);
    const struct ArrowSchema *schema = hs_ipc_reader_schema(answer->reader);
    if (!status && schema == NULL) {
        return no_stream(err);
    }
    if (!status && ArrowSchemaDeepCopy(schema, ret_schema) != NANOARROW_OK) {
        return hs_error_nomem(err, "columns");
    }
    return status;
}

static hs_status next_of(void *user, struct ArrowArray *ret_array, struct hs_error *err)
{
    struct answer *answer = user;
    hs_status status = HS_OK;
    ret_array->release = NULL;
    while (!status && !answer->is_over && ret_array->release == NULL) {
        status = read_message(answer, ret_array, err);
    }
    return status;
}

static char *write_request(const char *text, const char *session)
{
    json_t *request =
        json_pack("{s:s, s:s, s:s*}", "query", text, "format", "arrow", "session", session);
    char *body = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    return body;
}

hs_status hs_sql_remote_run(hs_http_client *client, const struct hs_command_io *io,
                            const char *text, const char *session, enum hs_sql_format format,
                            int64_t *ret_n_changed, struct hs_error *err)
{
    struct answer answer HS_CLEANUP(answer_free) = {.header = HS_BUF_INIT(HEADER_MAX),
                                                    .rows = HS_BUF_INIT(BODY_MAX)};
    char *body = write_request(text, session);
    if (body == NULL) {
        return hs_error_nomem(err, "a request");
    }
    hs_status status = hs_http_client_post(client, HS_REST_SQL_PATH, body, &answer.body, err);
    free(body);
    status = status ? status : hs_ipc_reader_new(&answer.reader, err);
    if (status) {
        return status;
    }
    const char *n_changed = hs_http_body_header(answer.body, HS_REST_SQL_CHANGED);
    *ret_n_changed = n_changed ? strtoll(n_changed, NULL, 10) : -1;
    const struct hs_sql_rows rows = {&answer, schema_of, next_of};
    return hs_sql_print(io, &rows, format, err);
}

/* ---- sessions ---- */

hs_status hs_sql_remote_session_new(hs_http_client *client, char **ret_id, struct hs_error *err)
{
    json_t *json HS_CLEANUP(hs_json_freep) = NULL;
    hs_status status =
        hs_http_client_ask(client, "POST", HS_REST_SQL_PATH "/sessions", "{}", &json, err);
    const char *id = json_string_value(json_object_get(json, "id"));
    if (!status && id == NULL) {
        return no_stream(err);
    }
    *ret_id = status ? NULL : hs_strdup(id);
    return status || *ret_id != NULL ? status : hs_error_nomem(err, "a session");
}

static hs_status ask_session(hs_http_client *client, const char *method, const char *id)
{
    HS_CLEANUP(hs_freep) char *path = hs_asprintf(HS_REST_SQL_PATH "/sessions/%s", id);
    return path != NULL ? hs_http_client_ask(client, method, path, NULL, NULL, NULL)
                        : HS_OUT_OF_MEMORY;
}

bool hs_sql_remote_session_is_there(hs_http_client *client, const char *id)
{
    return ask_session(client, "GET", id) != HS_NOT_FOUND;
}

void hs_sql_remote_session_end(hs_http_client *client, const char *id)
{
    hs_status status = ask_session(client, "DELETE", id);
    (void)status; /* the server ends it by itself */
}
