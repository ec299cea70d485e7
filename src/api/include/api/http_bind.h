/*
 * http_bind.h - whether a server may listen where it is told to.
 *
 * Threads: no state.
 */
#ifndef API_HTTP_BIND_H
#define API_HTTP_BIND_H

#include "hyprstream.h"

/*
 * Whether every address that `host` (IPv4, IPv6, a name; "" and "*": all interfaces) resolves to is
 * one of this machine only (127.0.0.0/8, ::1, and those as IPv4-mapped IPv6).
 * Errors: HS_NOT_FOUND (the name has no address), HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_http_host_is_loopback(const char *host, bool *ret_is_loopback,
                                              struct hs_error *err);

/*
 * HS_PERMISSION_DENIED when others could reach the server there and it has no keys, unless
 * `insecure`; the hint names both ways out.
 */
HS_CHECKED hs_status hs_http_bind_check(const char *host, size_t n_keys, bool insecure,
                                        struct hs_error *err);

#endif
