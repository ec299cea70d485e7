#include "origin.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

/* The host of "host[:port]"; brackets of an IPv6 address are left out. False: malformed. */
static bool split_host(const char *text, char *ret_host, size_t size, bool *ret_is_bracketed)
{
    bool is_bracketed = text[0] == '[';
    const char *begin = text + (is_bracketed ? 1 : 0);
    size_t len = is_bracketed ? strcspn(begin, "]") : strcspn(begin, ":");
    if (len == 0 || len >= size || (is_bracketed && begin[len] != ']')) {
        return false;
    }
    const char *rest = begin + len + (is_bracketed ? 1 : 0);
    if (rest[0] == ':') {
        rest++;
        rest += strspn(rest, "0123456789");
    }
    memcpy(ret_host, begin, len);
    ret_host[len] = '\0';
    *ret_is_bracketed = is_bracketed;
    return rest[0] == '\0';
}

static bool is_localhost_name(const char *host)
{
    static const char name[] = "localhost";
    size_t len = strlen(host), n = sizeof name - 1;
    return len >= n && strcasecmp(host + len - n, name) == 0 &&
           (len == n || host[len - n - 1] == '.');
}

static bool is_loopback_host(const char *host, bool is_bracketed)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (is_bracketed) {
        return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return is_localhost_name(host) ||
           (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

bool hs_http_origin_is_allowed(const struct hs_http_origins *origins, const char *origin,
                               const char *host)
{
    for (size_t i = 0; i < origins->n_allowed; i++) {
        if (strcmp(origins->allowed[i], "*") == 0 || strcasecmp(origins->allowed[i], origin) == 0) {
            return true;
        }
    }
    const char *authority = strstr(origin, "://");
    if (authority == NULL) {
        return false; /* "null" and the like */
    }
    authority += 3;
    if (host[0] != '\0' && strcasecmp(authority, host) == 0) {
        return true;
    }
    char name[256];
    bool is_bracketed;
    bool is_web = strncasecmp(origin, "http://", 7) == 0 || strncasecmp(origin, "https://", 8) == 0;
    return origins->n_allowed == 0 && is_web &&
           split_host(authority, name, sizeof name, &is_bracketed) &&
           is_loopback_host(name, is_bracketed);
}

bool hs_http_host_is_allowed(const struct hs_http_origins *origins, const char *host)
{
    char name[256];
    bool is_bracketed;
    struct in_addr v4;
    struct in6_addr v6;
    if (!split_host(host, name, sizeof name, &is_bracketed)) {
        return false;
    }
    if (is_bracketed) {
        return inet_pton(AF_INET6, name, &v6) == 1;
    }
    if (is_localhost_name(name) || inet_pton(AF_INET, name, &v4) == 1 ||
        (origins->host != NULL && strcasecmp(origins->host, name) == 0)) {
        return true;
    }
    for (size_t i = 0; i < origins->n_host_names; i++) {
        if (strcmp(origins->host_names[i], "*") == 0 ||
            strcasecmp(origins->host_names[i], name) == 0) {
            return true;
        }
    }
    return false;
}
