#include "api/http_bind.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include "base/error.h"

static bool is_loopback_v4(uint32_t address)
{
    return address >> 24 == 127;
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        return is_loopback_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family != AF_INET6) {
        return false;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, address, sizeof v6);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
        uint32_t inner;
        memcpy(&inner, v6.sin6_addr.s6_addr + 12, sizeof inner);
        return is_loopback_v4(ntohl(inner));
    }
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

hs_status hs_http_host_is_loopback(const char *host, bool *ret_is_loopback, struct hs_error *err)
{
    if (host[0] == '\0' || strcmp(host, "*") == 0) {
        *ret_is_loopback = false;
        return HS_OK;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(host, "0", &hints, &list);
    if (code == EAI_MEMORY) {
        return hs_error_nomem(err, "an address to listen on");
    }
    if (code != 0) {
        hs_error_set(err, HS_NOT_FOUND, "no address is known for the host '%s': %s", host,
                     gai_strerror(code));
        return hs_error_hint(err, "give an address, such as --host 127.0.0.1");
    }
    bool all = true;
    for (const struct addrinfo *i = list; i != NULL; i = i->ai_next) {
        all = all && is_loopback(i->ai_addr);
    }
    freeaddrinfo(list);
    *ret_is_loopback = all;
    return HS_OK;
}

hs_status hs_http_bind_check(const char *host, size_t n_keys, bool insecure, struct hs_error *err)
{
    bool is_local = false;
    hs_status status = hs_http_host_is_loopback(host, &is_local, err);
    if (status != HS_OK || is_local || n_keys > 0 || insecure) {
        return status;
    }
    hs_error_set(err, HS_PERMISSION_DENIED,
                 "others could reach the server at '%s', and there is no API key", host);
    return hs_error_hint(err, "make a key with `hyprstream key create NAME`, or let everybody use "
                              "it with --insecure");
}
