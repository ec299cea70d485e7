#include "auth.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "flight.pb-c.h"
#include "message.h"

#define BASIC_MAX 1024 /* bytes of a decoded "name:password" */

struct login {
    char user[HS_KEY_NAME_MAX + 1];
    char key[HS_KEY_TEXT_MAX]; /* "": none was needed */
};

static enum hs_grpc_code refuse(hs_grpc_call *call, const char *text)
{
    return hs_grpc_call_fail(call, HS_GRPC_UNAUTHENTICATED, "%s", text);
}

/* What follows the scheme in the call's authorization; NULL: another scheme, or none. */
static const char *credentials(hs_grpc_call *call, const char *scheme)
{
    const char *value = hs_grpc_call_header(call, "authorization");
    size_t len = strlen(scheme);
    return value && strncasecmp(value, scheme, len) == 0 && value[len] == ' ' ? value + len + 1
                                                                              : NULL;
}

/* Whether the key is one of the server's for inference, or none is needed. */
static bool check_key(hs_flight *flight, const char *key, struct login *login)
{
    struct hs_http_key_info info;
    if (!flight->config.keys || hs_http_keys_count(flight->config.keys) == 0) {
        login->key[0] = '\0';
        return true;
    }
    if (strlen(key) >= sizeof login->key || !hs_http_keys_check(flight->config.keys, key, &info) ||
        !(info.scopes & (HS_KEY_INFERENCE | HS_KEY_ADMIN))) {
        return false;
    }
    snprintf(login->key, sizeof login->key, "%s", key);
    snprintf(login->user, sizeof login->user, "%s", info.name);
    return true;
}

/* Basic: the key is the password; the name is anybody's choice, and is noted where no keys are. */
static bool check_basic(hs_flight *flight, const char *base64, struct login *login)
{
    char text[BASIC_MAX + 4] = {0};
    size_t len = strlen(base64);
    if (len == 0 || len % 4 != 0 || len / 4 * 3 > BASIC_MAX ||
        EVP_DecodeBlock((unsigned char *)text, (const unsigned char *)base64, (int)len) < 0) {
        return false;
    }
    size_t n_text = len / 4 * 3 - (base64[len - 1] == '=') - (base64[len - 2] == '=');
    char *colon = strchr(text, ':');
    if (!colon || strlen(text) != n_text || !hs_utf8_valid(text, n_text)) {
        explicit_bzero(text, sizeof text);
        return false;
    }
    *colon = '\0';
    int n_user = (int)hs_utf8_clip(text, strlen(text), HS_KEY_NAME_MAX);
    snprintf(login->user, sizeof login->user, "%.*s", n_user, text);
    bool is_right = check_key(flight, colon + 1, login);
    explicit_bzero(text, sizeof text);
    return is_right;
}

static bool check_call(hs_flight *flight, hs_grpc_call *call, struct login *login)
{
    const char *basic = credentials(call, "Basic"), *bearer = credentials(call, "Bearer");
    *login = (struct login){0};
    return basic ? check_basic(flight, basic, login)
                 : check_key(flight, bearer ? bearer : "", login);
}

/* ---- sessions ---- */

/* Our cookie's value; false: there is none. */
static bool find_cookie(hs_grpc_call *call, char ret_value[64])
{
    const char *cookies = hs_grpc_call_header(call, "cookie");
    const char *found = cookies ? strstr(cookies, HS_FLIGHT_COOKIE "=") : NULL;
    if (!found) {
        return false;
    }
    found += strlen(HS_FLIGHT_COOKIE "=");
    snprintf(ret_value, 64, "%.*s", (int)strcspn(found, "; "), found);
    return true;
}

static enum hs_grpc_code enter_token(hs_flight *flight, hs_grpc_call *call, const char *token,
                                     struct hs_flight_session **ret_session)
{
    struct login login = {0};
    struct hs_flight_session *session = hs_flight_session_enter(flight, token);
    if (session && session->connection == 0 && check_key(flight, session->key, &login)) {
        *ret_session = session;
        return HS_GRPC_OK;
    }
    if (session) {
        hs_flight_session_leave(flight, session);
    }
    return refuse(call, "this login has ended; please connect again");
}

/* NULL: the cookie is of no session of this login. */
static struct hs_flight_session *enter_cookie(hs_flight *flight, const char *cookie,
                                              const struct login *login)
{
    struct hs_flight_session *session = hs_flight_session_enter(flight, cookie);
    bool is_right = session && session->connection != 0 && strcmp(session->key, login->key) == 0 &&
                    strcmp(session->user, login->user) == 0;
    if (session && !is_right) {
        hs_flight_session_leave(flight, session);
    } else if (session) {
        pthread_mutex_lock(&flight->lock);
        session->has_cookie = true;
        pthread_mutex_unlock(&flight->lock);
    }
    return is_right ? session : NULL;
}

/* A session of the call's connection, with a cookie for the client. */
static enum hs_grpc_code begin_session(hs_flight *flight, hs_grpc_call *call,
                                       const struct login *login,
                                       struct hs_flight_session **ret_session)
{
    struct hs_error err;
    struct hs_flight_session *session;
    if (hs_flight_session_new(flight, login->user, login->key, hs_grpc_call_connection_id(call),
                              &session, &err)) {
        return hs_flight_fail(call, &err);
    }
    enum hs_grpc_code code = HS_GRPC_OK;
    char *set HS_CLEANUP(hs_freep) = hs_asprintf(HS_FLIGHT_COOKIE "=%s; HttpOnly", session->id);
    if (hs_grpc_call_is_over(call)) { /* its connection may have ended before the session began */
        code = HS_GRPC_CANCELLED;
    } else if (!set || hs_grpc_call_set_header(call, "set-cookie", set, &err)) {
        hs_error_nomem(&err, "a session");
        code = hs_flight_fail(call, &err);
    }
    if (code) {
        hs_flight_session_abandon(flight, session);
    } else {
        *ret_session = session;
    }
    return code;
}

enum hs_grpc_code hs_flight_auth_enter(hs_flight *flight, hs_grpc_call *call,
                                       struct hs_flight_session **ret_session)
{
    const char *bearer = credentials(call, "Bearer");
    size_t prefix = strlen(HS_FLIGHT_TOKEN_PREFIX);
    if (bearer && strncmp(bearer, HS_FLIGHT_TOKEN_PREFIX, prefix) == 0) {
        return enter_token(flight, call, bearer + prefix, ret_session);
    }
    struct login login;
    if (!check_call(flight, call, &login)) {
        return refuse(call, "an API key is needed: as the password of a login, or as a bearer "
                            "token; `hyprstream key create` makes one");
    }
    char cookie[64];
    struct hs_flight_session *session =
        find_cookie(call, cookie) ? enter_cookie(flight, cookie, &login) : NULL;
    if (!session) {
        session = hs_flight_session_enter_connection(flight, hs_grpc_call_connection_id(call),
                                                     login.user, login.key);
    }
    if (!session) {
        return begin_session(flight, call, &login, ret_session);
    }
    *ret_session = session;
    return HS_GRPC_OK;
}

enum hs_grpc_code hs_flight_handshake(hs_grpc_call *call, void *user)
{
    hs_flight *flight = user;
    struct login login;
    struct hs_error err;
    struct hs_flight_session *session;
    bool has_credentials = credentials(call, "Basic") || credentials(call, "Bearer");
    if (!has_credentials || !check_call(flight, call, &login)) {
        return refuse(call, "a login needs a name and, as its password, an API key; or the key "
                            "as a bearer token");
    }
    hs_status status = hs_flight_session_new(flight, login.user, login.key, 0, &session, &err);
    if (status) {
        return hs_flight_fail(call, &err);
    }
    char token[128];
    int scheme = snprintf(token, sizeof token, "Bearer ");
    snprintf(token + scheme, sizeof token - (size_t)scheme, "%s%s", HS_FLIGHT_TOKEN_PREFIX,
             session->id);
    Fl__HandshakeResponse response = FL__HANDSHAKE_RESPONSE__INIT;
    response.payload.data = (uint8_t *)token + scheme;
    response.payload.len = strlen(token) - (size_t)scheme;
    enum hs_grpc_code code = hs_grpc_call_set_header(call, "authorization", token, &err)
                                 ? hs_flight_fail(call, &err)
                                 : hs_flight_send(call, &response.base);
    if (code) {
        hs_flight_session_close(flight, session);
    }
    hs_flight_session_leave(flight, session);
    return code;
}
