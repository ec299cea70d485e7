#include "http_client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "sse_reader.h"

#define CONNECT_MS 5000
#define WHOLE_MS 10000
#define WAIT_MS 50           /* how late Ctrl-C may be noticed */
#define AHEAD_MAX (1u << 20) /* of a stream that nobody reads */
#define SHOWN_MAX 300        /* bytes of a foreign answer in a message */

struct hs_http_client {
    const struct hs_command_io *io;
    char *url, *ca_file, *key_header;
    bool is_insecure;
};

/* One request under way. */
struct call {
    const hs_http_client *client;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    char *url;
    struct hs_buf in;
    size_t in_read; /* of a stream */
    bool is_stream, is_bytes, is_paused, is_done, is_too_long;
    CURLcode result;
    char detail[CURL_ERROR_SIZE];
};

struct hs_http_events {
    struct call call;
    struct hs_sse_reader reader;
};

struct hs_http_body {
    struct call call;
};

/* ---- the client ---- */

static bool is_any_address(const char *host)
{
    return *host == '\0' || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0;
}

/* Where a server with these settings listens, as seen from this machine. */
static char *url_of(const struct hs_config *config)
{
    const char *server = hs_config_str(config, HS_CFG_SERVER);
    if (server != NULL) {
        size_t len = strlen(server);
        while (len > 1 && server[len - 1] == '/' && server[len - 2] != '/') {
            len--;
        }
        char *given = hs_strndup(server, len);
        if (given == NULL || strstr(given, "://") != NULL) {
            return given;
        }
        char *url = hs_asprintf("http://%s", given);
        hs_free(given);
        return url;
    }
    const char *host = hs_config_str(config, HS_CFG_HOST);
    host = host == NULL || is_any_address(host) ? "127.0.0.1" : host;
    host = strcmp(host, "::") == 0 ? "::1" : host;
    bool is_v6 = strchr(host, ':') != NULL;
    return hs_asprintf("http%s://%s%s%s:%d", hs_config_is_set(config, HS_CFG_TLS_CERT) ? "s" : "",
                       is_v6 ? "[" : "", host, is_v6 ? "]" : "",
                       (int)hs_config_int(config, HS_CFG_PORT));
}

static hs_status check_url(const char *url, struct hs_error *err)
{
    char *scheme = NULL;
    CURLU *parts = curl_url();
    bool is_ok = parts != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                 curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                 (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    curl_url_cleanup(parts);
    if (is_ok) {
        return HS_OK;
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' is no address of a server", url);
    return hs_error_hint(err, "write it like http://127.0.0.1:8080");
}

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

hs_status hs_http_client_new(const struct hs_command_args *args, hs_http_client **ret_client,
                             struct hs_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    const struct hs_config *config = args->config;
    const char *key = hs_config_str(config, HS_CFG_API_KEY);
    const char *ca_file = hs_config_str(config, HS_CFG_TLS_CA);
    hs_http_client *client = hs_calloc(1, sizeof *client);
    if (client == NULL) {
        return hs_error_nomem(err, "HTTP client");
    }
    client->io = args->io;
    client->is_insecure = hs_config_bool(config, HS_CFG_TLS_INSECURE);
    client->url = url_of(config);
    client->ca_file = hs_strdup(ca_file);
    client->key_header = key == NULL ? NULL : hs_asprintf("Authorization: Bearer %s", key);
    hs_status status = HS_OK;
    if (client->url == NULL || (ca_file != NULL && client->ca_file == NULL) ||
        (key != NULL && client->key_header == NULL)) {
        status = hs_error_nomem(err, "HTTP client");
    } else if (key != NULL && key[strcspn(key, "\r\n")] != '\0') {
        status = hs_error_set(err, HS_INVALID_ARGUMENT, "an API key is one line");
    } else {
        status = check_url(client->url, err);
    }
    if (status != HS_OK) {
        hs_http_client_free(client);
        return status;
    }
    *ret_client = client;
    return HS_OK;
}

void hs_http_client_free(hs_http_client *client)
{
    if (client == NULL) {
        return;
    }
    if (client->key_header != NULL) {
        explicit_bzero(client->key_header, strlen(client->key_header));
    }
    hs_free(client->key_header);
    hs_free(client->ca_file);
    hs_free(client->url);
    hs_free(client);
}

const char *hs_http_client_url(const hs_http_client *client)
{
    return client->url;
}

/* ---- one request ---- */

static long status_of(const struct call *call)
{
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static bool has_events(const struct call *call)
{
    const char *type = NULL;
    curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &type);
    return status_of(call) == 200 && type != NULL &&
           strncasecmp(type, "text/event-stream", 17) == 0;
}

static size_t on_data(char *data, size_t size, size_t n, void *user)
{
    struct call *call = user;
    size_t len = size * n;
    bool is_read = has_events(call) || (call->is_bytes && status_of(call) == 200);
    if (call->is_stream && call->in.len > AHEAD_MAX && is_read) {
        call->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    hs_status status = hs_buf_append(&call->in, data, len);
    call->is_too_long = status == HS_LIMIT;
    return status == HS_OK ? len : CURL_WRITEFUNC_ERROR;
}

static bool add_header(struct call *call, const char *header)
{
    struct curl_slist *headers = curl_slist_append(call->headers, header);
    call->headers = headers == NULL ? call->headers : headers;
    return headers != NULL;
}

/* Proxies are for what is far away. */
static bool is_loopback(const char *url)
{
    static const char *const hosts[] = {"://127.", "://localhost", "://[::1]"};
    bool is_here = false;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        is_here = is_here || strstr(url, hosts[i]) != NULL;
    }
    return is_here;
}

static void set_options(struct call *call, const char *method, const char *body)
{
    CURL *easy = call->easy;
    const hs_http_client *client = call->client;
    curl_easy_setopt(easy, CURLOPT_URL, call->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "hyprstream");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->detail);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    if (body != NULL) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, body);
    }
    if (!call->is_stream) {
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)WHOLE_MS);
    }
    if (is_loopback(call->url)) {
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    }
    if (client->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
    }
    if (client->is_insecure) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

static void call_end(struct call *call)
{
    if (call->multi != NULL && call->easy != NULL) {
        curl_multi_remove_handle(call->multi, call->easy);
    }
    curl_easy_cleanup(call->easy);
    if (call->multi != NULL) {
        curl_multi_cleanup(call->multi);
    }
    curl_slist_free_all(call->headers);
    hs_buf_free(&call->in);
    hs_free(call->url);
}

static hs_status call_begin(const hs_http_client *client, const char *method, const char *path,
                            const char *body, struct call *call, struct hs_error *err)
{
    call->client = client;
    call->in = (struct hs_buf)HS_BUF_INIT(HS_HTTP_CLIENT_ANSWER_MAX);
    call->multi = curl_multi_init();
    call->easy = curl_easy_init();
    call->url = hs_asprintf("%s%s", client->url, path);
    bool is_ok = call->multi != NULL && call->easy != NULL && call->url != NULL &&
                 add_header(call, "Content-Type: application/json") &&
                 add_header(call, "Expect:") &&
                 (client->key_header == NULL || add_header(call, client->key_header));
    if (is_ok) {
        set_options(call, method, body);
        is_ok = curl_multi_add_handle(call->multi, call->easy) == CURLM_OK;
    }
    return is_ok ? HS_OK : hs_error_nomem(err, "a request");
}

static void resume(struct call *call)
{
    if (call->is_paused) {
        call->is_paused = false;
        curl_easy_pause(call->easy, CURLPAUSE_CONT);
    }
}

/* Whatever can be done within the time; call->is_done when it ended. */
static void advance(struct call *call, int timeout_ms)
{
    int n_running = 0, n_left = 0;
    curl_multi_perform(call->multi, &n_running);
    if (n_running > 0 && timeout_ms > 0) {
        curl_multi_poll(call->multi, NULL, 0, timeout_ms, NULL);
        curl_multi_perform(call->multi, &n_running);
    }
    const CURLMsg *message;
    while ((message = curl_multi_info_read(call->multi, &n_left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            call->result = message->data.result;
            call->is_done = true;
        }
    }
}

/* ---- what went wrong ---- */

static hs_status refused(const struct call *call, struct hs_error *err)
{
    hs_error_set(err, HS_UNAVAILABLE, "nothing answers at %s", call->client->url);
    return hs_error_hint(err, "start a server with 'hyprstream serve', or say with --server where "
                              "it is");
}

/* Nothing sensible came: the one side may speak HTTPS and the other not. */
static hs_status broke(const struct call *call, const char *detail, struct hs_error *err)
{
    const char *url = call->client->url;
    bool is_tls = strncasecmp(url, "https", 5) == 0;
    hs_error_set(err, HS_IO, "the connection to %s broke: %s", url, detail);
    if (is_tls && call->result == CURLE_SSL_CONNECT_ERROR) {
        return hs_error_hint(err, "a server without a certificate is called http://...");
    }
    return !is_tls && status_of(call) == 0
               ? hs_error_hint(err, "a server with a certificate is called https://...")
               : HS_IO;
}

/* An error of the connection. */
static hs_status failure(const struct call *call, struct hs_error *err)
{
    const char *url = call->client->url;
    const char *detail = call->detail[0] != '\0' ? call->detail : curl_easy_strerror(call->result);
    switch (call->result) {
    case CURLE_COULDNT_CONNECT:
        return refused(call, err);
    case CURLE_COULDNT_RESOLVE_HOST:
        hs_error_set(err, HS_UNAVAILABLE, "the host of %s is not known", url);
        return hs_error_hint(err, "check the name, or write the host's address");
    case CURLE_OPERATION_TIMEDOUT:
        return hs_error_set(err, HS_TIMEOUT, "%s did not answer in time", url);
    case CURLE_PEER_FAILED_VERIFICATION:
        hs_error_set(err, HS_PERMISSION_DENIED, "the certificate of %s is not trusted: %s", url,
                     detail);
        return hs_error_hint(err, "name its certificate, or its authority's, with --tls-ca FILE");
    case CURLE_SSL_CACERT_BADFILE:
        hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' cannot be used as --tls-ca",
                     call->client->ca_file);
        return hs_error_hint(err, "it is a PEM file with the server's certificate, or with that "
                                  "of its authority");
    case CURLE_OUT_OF_MEMORY:
        return hs_error_nomem(err, "a request");
    case CURLE_WRITE_ERROR:
        return call->is_too_long ? hs_error_set(err, HS_LIMIT, "the answer of %s is too long", url)
                                 : hs_error_nomem(err, "an answer");
    default:
        return broke(call, detail, err);
    }
}

static hs_status status_from_http(long http, const char *code)
{
    if (code != NULL && strcmp(code, "context_length_exceeded") == 0) {
        return HS_CONTEXT_FULL;
    }
    switch (http) {
    case 401:
    case 403:
        return HS_PERMISSION_DENIED;
    case 404:
    case 405:
        return HS_NOT_FOUND;
    case 409:
        return HS_BUSY;
    case 408:
    case 504:
        return HS_TIMEOUT;
    case 413:
    case 431:
        return HS_LIMIT;
    case 429:
        return HS_QUEUE_FULL;
    case 501:
        return HS_NOT_SUPPORTED;
    case 503:
        return HS_UNAVAILABLE;
    default:
        return http >= 400 && http < 500 ? HS_INVALID_ARGUMENT : HS_IO;
    }
}

/* An answer that is no success: its error object's message, or what came instead. */
static hs_status refusal(const struct call *call, struct hs_error *err)
{
    long http = status_of(call);
    const char *text = call->in.len > 0 ? call->in.data : "";
    json_t *json = json_loadb(text, call->in.len, 0, NULL);
    const json_t *error = json_object_get(json, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    hs_status status = status_from_http(http, json_string_value(json_object_get(error, "code")));
    if (message != NULL) {
        hs_error_set(err, status, "%s", message);
    } else {
        hs_error_set(err, status, "%s answered with the HTTP status %ld%s%.*s", call->client->url,
                     http, *text == '\0' ? "" : ": ", SHOWN_MAX, text);
    }
    json_decref(json);
    if (http == 401) {
        hs_error_hint(err,
                      "give a key with HYPRSTREAM_API_KEY or --api-key; 'hyprstream key create' "
                      "makes one");
    }
    return status;
}

/* ---- whole answers ---- */

static hs_status wait_whole(struct call *call, struct hs_error *err)
{
    const struct hs_command_io *io = call->client->io;
    while (!call->is_done) {
        advance(call, WAIT_MS);
        if (io->interrupted(io->self)) {
            return hs_error_set(err, HS_CANCELLED, "interrupted");
        }
    }
    return call->result == CURLE_OK ? HS_OK : failure(call, err);
}

static hs_status parse(const struct call *call, json_t **ret_json, struct hs_error *err)
{
    json_t *json = json_loadb(call->in.len > 0 ? call->in.data : "", call->in.len, 0, NULL);
    if (json == NULL) {
        hs_error_set(err, HS_IO, "the answer of %s is no JSON", call->client->url);
        return hs_error_hint(err, "is it a server of hyprstream?");
    }
    *ret_json = json;
    return HS_OK;
}

hs_status hs_http_client_ask(hs_http_client *client, const char *method, const char *path,
                             const char *body, json_t **ret_json, struct hs_error *err)
{
    struct call call = {.is_stream = false};
    hs_status status = call_begin(client, method, path, body, &call, err);
    status = status == HS_OK ? wait_whole(&call, err) : status;
    if (status == HS_OK && status_of(&call) / 100 != 2) {
        status = refusal(&call, err);
    }
    if (status == HS_OK && ret_json != NULL) {
        status = parse(&call, ret_json, err);
    }
    call_end(&call);
    return status;
}

/* ---- streams ---- */

hs_status hs_http_client_stream(hs_http_client *client, const char *path, const char *body,
                                hs_http_events **ret_events, struct hs_error *err)
{
    hs_http_events *events = hs_calloc(1, sizeof *events);
    if (events == NULL) {
        return hs_error_nomem(err, "a request");
    }
    hs_sse_reader_init(&events->reader, HS_HTTP_CLIENT_EVENT_MAX);
    events->call.is_stream = true;
    hs_status status = call_begin(client, "POST", path, body, &events->call, err);
    if (status != HS_OK) {
        hs_http_events_free(events);
        return status;
    }
    *ret_events = events;
    return HS_OK;
}

void hs_http_events_free(hs_http_events *events)
{
    if (events != NULL) {
        call_end(&events->call);
        hs_sse_reader_free(&events->reader);
        hs_free(events);
    }
}

/* An event out of what came already. HS_TIMEOUT: there is none. */
static hs_status read_event(hs_http_events *events, const char **ret_data, struct hs_error *err)
{
    struct call *call = &events->call;
    size_t used = 0;
    bool has_event = false;
    if (call->in.len == call->in_read || !has_events(call)) {
        return HS_TIMEOUT;
    }
    hs_status status = hs_sse_reader_feed(&events->reader, call->in.data + call->in_read,
                                          call->in.len - call->in_read, &used, &has_event);
    if (status != HS_OK) {
        return hs_error_set(err, status, "an event of %s cannot be kept", call->client->url);
    }
    call->in_read += used;
    if (call->in_read == call->in.len) {
        hs_buf_clear(&call->in);
        call->in_read = 0;
    }
    *ret_data = events->reader.data.len > 0 ? events->reader.data.data : "";
    return has_event ? HS_OK : HS_TIMEOUT;
}

static hs_status end_of_stream(const struct call *call, struct hs_error *err)
{
    if (call->result != CURLE_OK) {
        return failure(call, err);
    }
    if (status_of(call) != 200) {
        return refusal(call, err);
    }
    if (!has_events(call)) {
        hs_error_set(err, HS_IO, "%s does not answer with a stream", call->client->url);
        return hs_error_hint(err, "is it a server of hyprstream?");
    }
    if (err != NULL) {
        hs_error_clear(err);
    }
    return HS_NOT_FOUND;
}

hs_status hs_http_events_next(hs_http_events *events, int timeout_ms, const char **ret_event,
                              const char **ret_data, struct hs_error *err)
{
    struct call *call = &events->call;
    int64_t end_ms = (int64_t)hs_clock_ms() + timeout_ms;
    for (;;) {
        hs_status status = read_event(events, ret_data, err);
        if (status == HS_OK && ret_event != NULL) {
            *ret_event = events->reader.event;
        }
        if (status != HS_TIMEOUT) {
            return status;
        }
        if (call->is_done) {
            return end_of_stream(call, err);
        }
        resume(call);
        int64_t left_ms = end_ms - (int64_t)hs_clock_ms();
        if (left_ms <= 0) {
            return HS_TIMEOUT;
        }
        advance(call, (int)left_ms);
    }
}

/* ---- bytes ---- */

/* Until there are bytes to read, or the answer is at its end. */
static hs_status await_bytes(struct call *call, struct hs_error *err)
{
    const struct hs_command_io *io = call->client->io;
    while (!call->is_done && (call->in.len == call->in_read || status_of(call) != 200)) {
        resume(call);
        advance(call, WAIT_MS);
        if (io->interrupted(io->self)) {
            return hs_error_set(err, HS_CANCELLED, "interrupted");
        }
    }
    if (call->is_done && call->result != CURLE_OK && call->in.len == call->in_read) {
        return failure(call, err);
    }
    return status_of(call) == 200 ? HS_OK : refusal(call, err);
}

hs_status hs_http_client_post(hs_http_client *client, const char *path, const char *body,
                              hs_http_body **ret_body, struct hs_error *err)
{
    hs_http_body *bytes = hs_calloc(1, sizeof *bytes);
    if (bytes == NULL) {
        return hs_error_nomem(err, "a request");
    }
    bytes->call.is_stream = bytes->call.is_bytes = true;
    hs_status status = call_begin(client, "POST", path, body, &bytes->call, err);
    status = status == HS_OK ? await_bytes(&bytes->call, err) : status;
    if (status != HS_OK) {
        hs_http_body_free(bytes);
        return status;
    }
    *ret_body = bytes;
    return HS_OK;
}

const char *hs_http_body_header(const hs_http_body *body, const char *name)
{
    struct curl_header *header;
    return curl_easy_header(body->call.easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK
               ? header->value
               : NULL;
}

hs_status hs_http_body_read(hs_http_body *body, void *data, size_t len, size_t *ret_n,
                            struct hs_error *err)
{
    struct call *call = &body->call;
    size_t n = 0;
    while (n < len) {
        hs_status status = await_bytes(call, err);
        size_t some = call->in.len - call->in_read;
        if (status != HS_OK) {
            return status;
        }
        if (some == 0) {
            break;
        }
        some = some < len - n ? some : len - n;
        memcpy((char *)data + n, call->in.data + call->in_read, some);
        n += some;
        call->in_read += some;
        if (call->in_read == call->in.len) {
            hs_buf_clear(&call->in);
            call->in_read = 0;
        }
    }
    *ret_n = n;
    return HS_OK;
}

void hs_http_body_free(hs_http_body *body)
{
    if (body != NULL) {
        call_end(&body->call);
        hs_free(body);
    }
}
