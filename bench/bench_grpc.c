/*
 * bench_grpc.c - what the gRPC server costs for each GB that it sends over loopback, and for each
 * small call.
 *
 *   bench-grpc [MEGABYTES [MESSAGE_KB [FRAME_KB [CALLS]]]]
 *
 * A child process reads: it allows all bytes at once, so no window holds the server back, and drops
 * what comes. The CPU time of this process is then the server's own. The same bytes are also sent
 * by a thread that only calls send(), MESSAGE_KB at a time, which is the least that any server
 * pays. Prints three objects of JSON: the server, send(), and small calls one after the other.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/grpc.h"
#include "base/clock.h"

#define WINDOW 0x7FFFFFFFu
#define N_PARTS 8

static size_t total = 1000000000, message_size = 1 << 20, frame_size = 16 << 10;
static int n_calls = 5000;
static char *block; /* one message */
static struct hs_grpc_part parts[N_PARTS];

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void print(const char *name, double ms, double cpu)
{
    printf("{\"bench\": \"%s\", \"GB_per_s\": %.2f, \"cpu_s_per_GB\": %.3f}\n", name,
           (double)total / 1e6 / ms, cpu / ((double)total / 1e9));
}

/* ---- server ---- */

static enum hs_grpc_code flood(hs_grpc_call *call, void *user)
{
    (void)user;
    struct hs_grpc_message message = {.parts = parts, .n_parts = N_PARTS};
    for (size_t sent = 0; sent < total; sent += message_size) {
        if (!hs_grpc_call_send(call, &message)) {
            return HS_GRPC_CANCELLED;
        }
    }
    return HS_GRPC_OK;
}

static enum hs_grpc_code hello(hs_grpc_call *call, void *user)
{
    static const struct hs_grpc_part part = {"hello", 5};
    (void)user;
    hs_grpc_call_send(call, &(struct hs_grpc_message){.parts = &part, .n_parts = 1});
    return HS_GRPC_OK;
}

/* ---- client ---- */

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static void put(int fd, const void *data, size_t size)
{
    if (send(fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) {
        perror("send");
        exit(1);
    }
}

static void put_frame(int fd, uint8_t type, uint8_t flags, uint32_t stream, const void *body,
                      size_t size)
{
    uint8_t frame[256] = {(uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, type, flags};
    uint32_t id = htonl(stream);
    memcpy(frame + 5, &id, 4);
    memcpy(frame + 9, body, size);
    put(fd, frame, 9 + size);
}

/* Settings: windows of 2 GiB, frames as asked for. */
static void greet(int fd)
{
    uint32_t frame = (uint32_t)frame_size, window = htonl(WINDOW - 65535);
    const uint8_t settings[] = {0,
                                4,
                                0x7F,
                                0xFF,
                                0xFF,
                                0xFF,
                                0,
                                5,
                                (uint8_t)(frame >> 24),
                                (uint8_t)(frame >> 16),
                                (uint8_t)(frame >> 8),
                                (uint8_t)frame};
    put(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(fd, 4, 0, 0, settings, sizeof settings);
    put_frame(fd, 4, 1, 0, "", 0);
    put_frame(fd, 8, 0, 0, &window, 4);
}

/* HPACK without indexing: POST, http, authority, path, content-type; all of the call in one frame.
 */
static void put_call(int fd, uint32_t stream, const char *path)
{
    char fields[128];
    int n = snprintf(fields, sizeof fields, "\x83\x86\x01\x01x%c%c%s%c%c%c%s", 4, (int)strlen(path),
                     path, 0x0f, 0x10, 16, "application/grpc");
    put_frame(fd, 1, 5, stream, fields, (size_t)n);
}

static size_t drop(int fd, size_t wanted)
{
    static char bytes[1 << 20];
    size_t got = 0;
    while (got < wanted) {
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0) {
            perror("recv");
            exit(1);
        }
        got += (size_t)n;
    }
    return got;
}

static void read_exactly(int fd, uint8_t *out, size_t size)
{
    if (recv(fd, out, size, MSG_WAITALL) != (ssize_t)size) {
        perror("recv");
        exit(1);
    }
}

/* To the end of the stream. */
static void read_answer(int fd, uint32_t stream)
{
    uint8_t head[9], body[4096];
    do {
        read_exactly(fd, head, sizeof head);
        read_exactly(fd, body, (size_t)head[1] << 8 | head[2]);
    } while (head[3] != 1 || (head[4] & 1) == 0 ||
             ((uint32_t)head[7] << 8 | head[8]) != (stream & 0xFFFF));
}

static void client_main(int port, bool is_flood)
{
    int fd = connect_to(port);
    greet(fd);
    if (is_flood) {
        put_call(fd, 1, "/bench/Flood");
        drop(fd, total);
    }
    for (int i = 0; !is_flood && i < n_calls; i++) {
        put_call(fd, 1 + 2 * (uint32_t)i, "/bench/Hello");
        read_answer(fd, 1 + 2 * (uint32_t)i);
    }
    _exit(0);
}

/* ---- measuring ---- */

static void wait_for(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "bench-grpc: the client failed\n");
        exit(1);
    }
}

/* The client's wall time; out: CPU time of this process meanwhile. */
static double run_client(int port, bool is_flood, double *ret_cpu)
{
    double begin = hs_clock_ms(), cpu = cpu_s();
    pid_t child = fork();
    if (child == 0) {
        client_main(port, is_flood);
    }
    wait_for(child);
    *ret_cpu = cpu_s() - cpu;
    return hs_clock_ms() - begin;
}

static void bench_send(void)
{
    int fds[2];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    if (bind(fd, (const struct sockaddr *)&address, len) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        perror("listen");
        exit(1);
    }
    double begin = hs_clock_ms(), cpu = cpu_s();
    pid_t child = fork();
    if (child == 0) {
        fds[0] = connect_to(ntohs(address.sin_port));
        drop(fds[0], total / message_size * message_size);
        _exit(0);
    }
    fds[1] = accept(fd, NULL, NULL);
    for (size_t sent = 0; sent + message_size <= total; sent += message_size) {
        for (size_t at = 0; at < message_size;) {
            ssize_t n = send(fds[1], block + at, message_size - at, MSG_NOSIGNAL);
            if (n <= 0) {
                perror("send");
                exit(1);
            }
            at += (size_t)n;
        }
    }
    wait_for(child);
    print("send", hs_clock_ms() - begin, cpu_s() - cpu);
    close(fds[1]);
    close(fd);
}

int main(int argc, char **argv)
{
    total = argc > 1 ? strtoul(argv[1], NULL, 10) * 1000000 : total;
    message_size = argc > 2 ? strtoul(argv[2], NULL, 10) << 10 : message_size;
    frame_size = argc > 3 ? strtoul(argv[3], NULL, 10) << 10 : frame_size;
    n_calls = argc > 4 ? (int)strtol(argv[4], NULL, 10) : n_calls;
    static const struct hs_grpc_method methods[] = {{"/bench/Flood", flood},
                                                    {"/bench/Hello", hello}};
    struct hs_grpc_config config;
    struct hs_error err;
    hs_grpc_server *server;
    hs_grpc_config_defaults(&config);
    config.methods = methods;
    config.n_methods = 2;
    block = calloc(1, message_size);
    if (total > 2000000000 || frame_size < 16 << 10 || frame_size >= 16 << 20 || block == NULL) {
        fprintf(stderr, "usage: bench-grpc [MEGABYTES <= 2000 [MESSAGE_KB [FRAME_KB >= 16 "
                        "[CALLS]]]]\n");
        return 2;
    }
    for (size_t i = 0, size = message_size / N_PARTS; i < N_PARTS; i++) {
        parts[i] = (struct hs_grpc_part){block + i * size, size};
    }
    if (hs_grpc_server_start(&config, &server, &err) != HS_OK) {
        fprintf(stderr, "bench-grpc: %s\n", err.message);
        return 1;
    }
    int port = hs_grpc_server_port(server);
    double cpu, ms = run_client(port, true, &cpu);
    print("grpc", ms, cpu);
    bench_send();
    ms = run_client(port, false, &cpu);
    printf("{\"bench\": \"call\", \"us\": %.1f, \"cpu_us\": %.1f}\n", ms * 1000 / n_calls,
           cpu * 1e6 / n_calls);
    hs_grpc_server_free(server);
    return 0;
}
