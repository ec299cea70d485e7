/* sql.c - POST /api/v1/sql, and its sessions. */
#include "sql.h"

#include <string.h>

#include "rest.h"

#ifdef HS_HAVE_SQL

#define WITH_SQL(run) run

#include "base/mem.h"
#include "json_out.h"
#include "sql_bind.h"
#include "sql_job.h"

static bool read_format(const struct hs_fields *fields, enum hs_sql_format *format)
{
    const char *name = NULL;
    if (!hs_field_string(fields, "format", &name)) {
        return false;
    }
    if (name != NULL && (!hs_sql_format_find(name, format) || *format == HS_SQL_FORMAT_TABLE)) {
        return hs_field_refuse(fields, "format", "must be json, ndjson, csv or arrow");
    }
    return true;
}

static bool read_values(const struct hs_fields *fields, const json_t **ret_values)
{
    const json_t *values = hs_field_get(fields, "parameters"), *value;
    size_t i;
    if (values != NULL && !json_is_array(values)) {
        return hs_field_refuse(fields, "parameters", "must be an array");
    }
    json_array_foreach(values, i, value)
    {
        if (!hs_rest_sql_can_bind(value)) {
            return hs_field_refuse(fields, "parameters",
                                   "must hold texts, numbers, booleans and nulls; number %zu is "
                                   "none of these",
                                   i + 1);
        }
    }
    *ret_values = values;
    return true;
}

/* Keys see the sessions that they made; without keys there is one owner. */
static const char *owner_of(const hs_http_request *request)
{
    const struct hs_http_key_info *key = hs_http_request_key(request);
    return key == NULL ? "" : key->id;
}

static void run(const struct hs_rest *rest, hs_http_request *request)
{
    struct hs_fields fields = {request, hs_http_request_json(request), ""};
    struct hs_rest_sql_ask ask = {.format = HS_SQL_FORMAT_JSON};
    char client[HS_TAG_MAX];
    if (fields.object == NULL || !hs_field_string(&fields, "query", &ask.text) ||
        !read_format(&fields, &ask.format) || !hs_field_string(&fields, "session", &ask.session) ||
        !read_values(&fields, &ask.values)) {
        return;
    }
    if (ask.text == NULL) {
        hs_field_refuse(&fields, "query", "is missing");
        return;
    }
    hs_rest_client_name(request, client);
    ask.user = client;
    ask.owner = owner_of(request);
    hs_rest_sql_job_start(request, rest->sql, &ask);
}

/* ---- sessions ---- */

static void respond_session(hs_http_request *request, const char *id, int64_t idle_ms)
{
    hs_http_respond_json(request, 200,
                         json_pack("{s:s, s:s, s:I}", "id", id, "object", "sql_session", "idle_ms",
                                   (json_int_t)idle_ms));
}

static void create(const struct hs_rest *rest, hs_http_request *request)
{
    char client[HS_TAG_MAX], id[HS_SQL_SESSION_ID_SIZE];
    struct hs_error err;
    if (hs_http_request_json(request) == NULL) {
        return;
    }
    hs_rest_client_name(request, client);
    hs_status status = hs_sql_service_check(rest->sql, &err);
    status = status != HS_OK ? status
                             : hs_sql_session_new(hs_sql_service_sessions(rest->sql),
                                                  owner_of(request), client, id, &err);
    if (status != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    respond_session(request, id, 0);
}

static void get(const struct hs_rest *rest, hs_http_request *request)
{
    const char *id = hs_http_request_param(request, "id");
    int64_t idle_ms = 0;
    struct hs_error err;
    if (hs_sql_session_idle_ms(hs_sql_service_sessions(rest->sql), owner_of(request), id, &idle_ms,
                               &err) != HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    respond_session(request, id, idle_ms);
}

static void end(const struct hs_rest *rest, hs_http_request *request)
{
    const char *id = hs_http_request_param(request, "id");
    struct hs_error err;
    if (hs_sql_session_end(hs_sql_service_sessions(rest->sql), owner_of(request), id, &err) !=
        HS_OK) {
        hs_rest_respond_failure(request, &err, NULL);
        return;
    }
    hs_http_respond_json(
        request, 200,
        json_pack("{s:s, s:s, s:b}", "id", id, "object", "sql_session", "deleted", 1));
}

/* ---- */

static json_t *list_running(struct hs_sql_service *service)
{
    struct hs_sql_running *items HS_CLEANUP(hs_freep) =
        hs_calloc(HS_SQL_RUNNING_MAX, sizeof *items);
    json_t *list = items != NULL ? json_array() : NULL;
    size_t n = list != NULL ? hs_sql_service_list(service, items, HS_SQL_RUNNING_MAX) : 0;
    for (size_t i = 0; i < n && list != NULL; i++) {
        hs_json_append(&list, json_pack("{s:s, s:s, s:f, s:I, s:I}", "user", items[i].user,
                                        "statement", items[i].text, "age_ms", items[i].ms,
                                        "n_asked", (json_int_t)items[i].n_asked, "n_answered",
                                        (json_int_t)items[i].n_answered));
    }
    return list;
}

#else

static json_t *list_running(struct hs_sql_service *service)
{
    (void)service;
    return NULL;
}

#define WITH_SQL(run) NULL

#endif

json_t *hs_rest_sql_running(const struct hs_rest *rest)
{
    return rest->sql != NULL ? list_running(rest->sql) : json_array();
}

static void answer(const struct hs_rest *rest, hs_http_request *request,
                   void (*with)(const struct hs_rest *rest, hs_http_request *request))
{
    if (rest->sql != NULL) {
        with(rest, request);
        return;
    }
    hs_http_respond_error(request, &(struct hs_http_error){
                                       .status = 501,
                                       .message = "this server was built without SQL; 'make "
                                                  "build' builds one with it",
                                   });
}

void hs_rest_sql(hs_http_request *request, void *user)
{
    answer(user, request, WITH_SQL(run));
}

void hs_rest_sql_session_create(hs_http_request *request, void *user)
{
    answer(user, request, WITH_SQL(create));
}

void hs_rest_sql_session_get(hs_http_request *request, void *user)
{
    answer(user, request, WITH_SQL(get));
}

void hs_rest_sql_session_delete(hs_http_request *request, void *user)
{
    answer(user, request, WITH_SQL(end));
}
