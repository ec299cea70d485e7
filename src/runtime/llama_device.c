#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama_cxx.h"
#include "llama_internal.h"

#define CONNECT_TIMEOUT_MS 3000

static bool is_gpu(ggml_backend_dev_t device)
{
    enum ggml_backend_dev_type type = ggml_backend_dev_type(device);
    return type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
}

/* Append "name" or ", name" while there is room. */
static void append_name(char *list, size_t size, const char *separator, const char *name)
{
    size_t len = strlen(list);
    if (len < size) {
        snprintf(list + len, size - len, "%s%s", len > 0 ? separator : "", name);
    }
}

static hs_status unknown_device(const char *name, size_t len, struct hs_error *err)
{
    char known[HS_HINT_MAX - 32] = "";
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        append_name(known, sizeof(known), ", ", ggml_backend_dev_name(ggml_backend_dev_get(i)));
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "there is no device '%.*s'", (int)len, name);
    hs_error_hint(err, "devices on this machine: %s", known);
    return HS_INVALID_ARGUMENT;
}

/* The next name of a comma-separated list, without blanks around it; NULL at the end. */
static const char *next_name(const char **cursor, size_t *ret_len)
{
    const char *p = *cursor;
    p += strspn(p, " ,");
    if (*p == '\0') {
        return NULL;
    }
    size_t len = strcspn(p, ",");
    *cursor = p + len;
    while (len > 0 && p[len - 1] == ' ') {
        len--;
    }
    *ret_len = len;
    return p;
}

static ggml_backend_dev_t find_device(const char *name, size_t len)
{
    char copy[128];
    if (len >= sizeof(copy)) {
        return NULL;
    }
    memcpy(copy, name, len);
    copy[len] = '\0';
    return ggml_backend_dev_by_name(copy);
}

hs_status hs_llama_devices(const char *names, ggml_backend_dev_t **ret_devices,
                           struct hs_error *err)
{
    *ret_devices = NULL;
    if (!names) {
        return HS_OK;
    }
    size_t capacity = ggml_backend_dev_count() + 1;
    ggml_backend_dev_t *devices = hs_calloc(capacity, sizeof(*devices));
    if (!devices) {
        return hs_error_nomem(err, "device list");
    }
    size_t n = 0;
    size_t len = 0;
    const char *name;
    while ((name = next_name(&names, &len))) {
        ggml_backend_dev_t device = find_device(name, len);
        if (!device) {
            hs_free(devices);
            return unknown_device(name, len, err);
        }
        /* llama.cpp always computes on the CPU as well; naming it means "no GPU". */
        bool is_listed = !is_gpu(device);
        for (size_t i = 0; i < n; i++) {
            is_listed = is_listed || devices[i] == device;
        }
        if (!is_listed) {
            devices[n++] = device;
        }
    }
    *ret_devices = devices;
    return HS_OK;
}

/* ggml aborts the process when it cannot connect, so try before it does. */
static bool can_connect(const char *endpoint)
{
    const char *colon = strrchr(endpoint, ':');
    if (!colon) {
        return false;
    }
    HS_CLEANUP(hs_freep) char *host = hs_strndup(endpoint, (size_t)(colon - endpoint));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses = NULL;
    if (!host || getaddrinfo(host, colon + 1, &hints, &addresses) != 0) {
        return false;
    }
    bool is_connected = false;
    for (struct addrinfo *a = addresses; a && !is_connected; a = a->ai_next) {
        HS_CLEANUP(hs_closep)
        int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        int failure = 0;
        socklen_t size = sizeof(failure);
        is_connected =
            fd >= 0 &&
            (connect(fd, a->ai_addr, a->ai_addrlen) == 0 ||
             (errno == EINPROGRESS && poll(&ready, 1, CONNECT_TIMEOUT_MS) == 1 &&
              getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) == 0 && failure == 0));
    }
    freeaddrinfo(addresses);
    return is_connected;
}

typedef ggml_backend_reg_t (*add_server_fn)(const char *endpoint);

struct add_server_call {
    add_server_fn add_server;
    const char *endpoint;
    ggml_backend_reg_t reg;
};

static void add_server(void *arg)
{
    struct add_server_call *call = arg;
    call->reg = call->add_server(call->endpoint);
    if (call->reg) {
        ggml_backend_register(call->reg);
    }
}

hs_status hs_llama_rpc_servers(const char *servers, struct hs_error *err)
{
    size_t len = 0;
    const char *server;
    while (servers && (server = next_name(&servers, &len))) {
        ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
        struct add_server_call call = {0};
        if (rpc) {
            void *address = ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server");
            memcpy(&call.add_server, &address, sizeof(address));
        }
        if (!call.add_server) {
            hs_error_set(err, HS_NOT_SUPPORTED,
                         "RPC server '%.*s' given, but this build has no RPC backend", (int)len,
                         server);
            hs_error_hint(err, "configure the build with -DGGML_RPC=ON");
            return HS_NOT_SUPPORTED;
        }
        HS_CLEANUP(hs_freep) char *endpoint = hs_strndup(server, len);
        if (!endpoint) {
            return hs_error_nomem(err, "RPC server name");
        }
        call.endpoint = endpoint;
        hs_status status = can_connect(endpoint)
                               ? hs_cxx_guard(add_server, &call, "RPC server", err)
                               : HS_UNAVAILABLE;
        if (status != HS_OK || !call.reg) {
            hs_error_set(err, HS_INVALID_ARGUMENT, "RPC server '%s' cannot be reached", endpoint);
            hs_error_hint(err, "start rpc-server there, and give host:port");
            return HS_INVALID_ARGUMENT;
        }
    }
    return HS_OK;
}

uint64_t hs_llama_gpu_free(const ggml_backend_dev_t *devices)
{
    uint64_t total_free = 0;
    size_t n = devices ? SIZE_MAX : ggml_backend_dev_count();
    for (size_t i = 0; i < n; i++) {
        ggml_backend_dev_t device = devices ? devices[i] : ggml_backend_dev_get(i);
        if (!device) {
            break;
        }
        if (is_gpu(device)) {
            size_t free_bytes = 0;
            size_t total_bytes = 0;
            ggml_backend_dev_memory(device, &free_bytes, &total_bytes);
            total_free += free_bytes;
        }
    }
    return total_free;
}

void hs_llama_device_names(const ggml_backend_dev_t *devices, int32_t n_gpu_layers, int32_t n_layer,
                           char *ret_names, size_t size)
{
    ret_names[0] = '\0';
    size_t n = devices ? SIZE_MAX : ggml_backend_dev_count();
    for (size_t i = 0; i < n && n_gpu_layers > 0; i++) {
        ggml_backend_dev_t device = devices ? devices[i] : ggml_backend_dev_get(i);
        if (!device) {
            break;
        }
        if (is_gpu(device)) {
            append_name(ret_names, size, "+", ggml_backend_dev_name(device));
        }
    }
    /* Token embeddings stay on the host in any case; they are not worth a mention. */
    if (ret_names[0] == '\0' || n_gpu_layers < n_layer) {
        append_name(ret_names, size, "+", "CPU");
    }
}
