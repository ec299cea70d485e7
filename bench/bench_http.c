/*
 * bench_http.c - what the HTTP core costs for each event of a stream, over loopback.
 *
 *   bench-http [STREAMS [STEPS [GAP_US]]]
 *
 * Twice: through the core, and by a thread that waits for the same wakes and only calls send(),
 * which is the least that any server pays. The difference is the core's own.
 *
 * A thread plays the engine: each step it makes one event for every stream and wakes it. A child
 * process reads all streams, so that the CPU time of this process is the server's and the thread's
 * own. An event is of the size of a chat completion chunk. Prints two objects of JSON: the time
 * from the wake until the client has the event, and the CPU time for each event.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/http.h"
#include "base/clock.h"

#define STREAMS_MAX 1024

struct stream {
    hs_http_request *request;
    atomic_llong made_ns; /* when the last event was made */
    atomic_int n_made;
    int n_taken;
};

static struct stream streams[STREAMS_MAX];
static atomic_int n_started, n_ended;
static atomic_bool is_signalled;
static int wake_fd;
static int n_streams = 16, n_steps = 2000, gap_us = 2000;

/* ---- server ---- */

static hs_status write_event(struct stream *stream, struct hs_buf *out)
{
    return hs_buf_printf(
        out,
        "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\","
        "\"created\":1767225600,\"model\":\"smollm2\",\"system_fingerprint\":\"fp_0123456789\","
        "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@%020lld\"},\"logprobs\":null,"
        "\"finish_reason\":null}]}\n\n",
        (long long)atomic_load(&stream->made_ns));
}

static enum hs_http_pull pull(hs_http_request *request, void *data, struct hs_buf *out,
                              struct hs_error *err)
{
    (void)request;
    (void)err;
    struct stream *stream = data;
    if (stream->n_taken == n_steps) {
        return HS_HTTP_END;
    }
    if (stream->n_taken == atomic_load(&stream->n_made)) {
        return HS_HTTP_NOT_YET;
    }
    stream->n_taken++;
    if (write_event(stream, out) != HS_OK) {
        return HS_HTTP_FAIL;
    }
    bool has_more = stream->n_taken == n_steps || stream->n_taken < atomic_load(&stream->n_made);
    return has_more ? HS_HTTP_MORE : HS_HTTP_NOT_YET;
}

static void on_end(void *data)
{
    (void)data;
    atomic_fetch_add(&n_ended, 1);
}

static void handle(hs_http_request *request, void *user)
{
    static const struct hs_http_hooks hooks = {.on_end = on_end};
    static atomic_int n_given;
    (void)user;
    struct stream *stream = &streams[atomic_fetch_add(&n_given, 1)];
    stream->request = request;
    hs_http_attach(request, &hooks, stream);
    hs_http_stream_start(request, 200, &(struct hs_http_stream){.pull = pull});
    atomic_fetch_add(&n_started, 1);
}

static void wake(struct stream *stream)
{
    if (stream->request != NULL) {
        hs_http_wake(stream->request);
    } else if (!atomic_exchange(&is_signalled, true)) {
        uint64_t one = 1;
        if (write(wake_fd, &one, sizeof one) < 0) {
            perror("bench-http");
        }
    }
}

static void *engine_main(void *arg)
{
    (void)arg;
    while (atomic_load(&n_started) < n_streams) {
        usleep(1000);
    }
    for (int step = 0; step < n_steps; step++) {
        usleep((useconds_t)gap_us);
        for (int i = 0; i < n_streams; i++) {
            atomic_store(&streams[i].made_ns, hs_clock_ns());
            atomic_fetch_add(&streams[i].n_made, 1);
            wake(&streams[i]);
        }
    }
    return NULL;
}

/* ---- the least: wait, send ---- */

static void *floor_main(void *arg)
{
    int listen_fd = *(int *)arg, fds[STREAMS_MAX];
    struct hs_buf out = HS_BUF_INIT(65536);
    for (int i = 0; i < n_streams; i++) {
        fds[i] = accept(listen_fd, NULL, NULL);
        atomic_fetch_add(&n_started, 1);
    }
    for (int n_open = n_streams; n_open > 0;) {
        uint64_t count;
        if (read(wake_fd, &count, sizeof count) < 0) {
            break;
        }
        atomic_store(&is_signalled, false);
        for (int i = 0; i < n_streams; i++) {
            while (streams[i].n_taken < atomic_load(&streams[i].n_made)) {
                hs_buf_clear(&out);
                if (write_event(&streams[i], &out) != HS_OK ||
                    send(fds[i], out.data, out.len, MSG_NOSIGNAL) < 0) {
                    perror("bench-http");
                }
                if (++streams[i].n_taken == n_steps) {
                    close(fds[i]);
                    n_open--;
                }
            }
        }
    }
    hs_buf_free(&out);
    return NULL;
}

/* ---- client ---- */

struct reader {
    struct pollfd fd;
    char tail[32]; /* of what came before: an event's time may be cut */
    size_t n_tail;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static size_t read_times(struct reader *reader, char *text, size_t len, double *times, size_t n_max)
{
    int64_t now = hs_clock_ns();
    size_t n = 0;
    text[len] = '\0';
    for (char *p = text; (p = strchr(p, '@')) != NULL && (size_t)(text + len - p) > 20; p++) {
        if (n < n_max) {
            times[n++] = (double)(now - strtoll(p + 1, NULL, 10)) / 1e3;
        }
    }
    reader->n_tail = 0;
    char *last = memrchr(text, '@', len);
    if (last != NULL && (size_t)(text + len - last) <= 20) {
        reader->n_tail = (size_t)(text + len - last);
        memcpy(reader->tail, last, reader->n_tail);
    }
    return n;
}

static void read_streams(const struct pollfd *fds, double *times, size_t n_max, size_t *ret_n)
{
    static struct reader readers[STREAMS_MAX];
    struct pollfd all[STREAMS_MAX];
    memcpy(all, fds, (size_t)n_streams * sizeof *fds);
    int n_open = n_streams;
    size_t n = 0;
    while (n_open > 0 && poll(all, (nfds_t)n_streams, 60000) > 0) {
        for (int i = 0; i < n_streams; i++) {
            char text[65536];
            if (all[i].fd < 0 || all[i].revents == 0) {
                continue;
            }
            struct reader *reader = &readers[i];
            memcpy(text, reader->tail, reader->n_tail);
            ssize_t got = recv(all[i].fd, text + reader->n_tail, sizeof text - 64, 0);
            if (got <= 0) {
                close(all[i].fd);
                all[i].fd = -1;
                n_open--;
                continue;
            }
            n += read_times(reader, text, reader->n_tail + (size_t)got, times + n, n_max - n);
        }
    }
    *ret_n = n;
}

static int client_main(int port, double ret_latency[2])
{
    static const char text[] =
        "GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct pollfd fds[STREAMS_MAX];
    for (int i = 0; i < n_streams; i++) {
        fds[i] = (struct pollfd){.fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN};
        if (connect(fds[i].fd, (struct sockaddr *)&address, sizeof address) != 0 ||
            send(fds[i].fd, text, sizeof text - 1, MSG_NOSIGNAL) < 0) {
            perror("bench-http");
            return 1;
        }
    }
    size_t n_max = (size_t)n_streams * (size_t)n_steps, n = 0;
    double *times = calloc(n_max, sizeof *times);
    if (times == NULL) {
        return 1;
    }
    read_streams(fds, times, n_max, &n);
    qsort(times, n, sizeof *times, compare);
    ret_latency[0] = n == 0 ? 0 : times[n / 2];
    ret_latency[1] = n == 0 ? 0 : times[n - 1 - n / 100];
    free(times);
    return n == n_max ? 0 : 1;
}

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Runs the engine's thread and a client until all is read; prints the line. False: it failed. */
static bool measure(const char *name, int port, double *ret_cpu_us)
{
    pthread_t engine;
    fflush(stdout);
    if (pthread_create(&engine, NULL, engine_main, NULL) != 0) {
        return false;
    }
    int pipe_fds[2], code = 1;
    if (pipe(pipe_fds) != 0) {
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        double latency[2] = {0, 0};
        int failed = client_main(port, latency);
        failed |= write(pipe_fds[1], latency, sizeof latency) < 0;
        _exit(failed);
    }
    while (atomic_load(&n_started) < n_streams) {
        usleep(1000);
    }
    double before = cpu_us(), latency[2];
    waitpid(child, &code, 0);
    *ret_cpu_us = (cpu_us() - before) / ((double)n_streams * n_steps);
    bool is_read = read(pipe_fds[0], latency, sizeof latency) == (ssize_t)sizeof latency;
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    pthread_join(engine, NULL);
    printf("{\"server\": \"%s\", \"streams\": %d, \"steps\": %d, \"gap_us\": %d, "
           "\"cpu_us_per_event\": %.2f, \"latency_us_p50\": %.1f, \"latency_us_p99\": %.1f}\n",
           name, n_streams, n_steps, gap_us, *ret_cpu_us, latency[0], latency[1]);
    return code == 0 && is_read;
}

static bool measure_floor(double *ret_cpu_us)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    wake_fd = eventfd(0, 0);
    pthread_t thread;
    if (bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, STREAMS_MAX) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
        pthread_create(&thread, NULL, floor_main, &fd) != 0) {
        return false;
    }
    bool ok = measure("send() alone", ntohs(address.sin_port), ret_cpu_us);
    pthread_join(thread, NULL);
    close(fd);
    close(wake_fd);
    return ok;
}

static bool measure_core(double *ret_cpu_us)
{
    static const struct hs_http_route route = {.path = "/stream", .handler = handle};
    struct hs_http_config config;
    hs_http_config_defaults(&config);
    config.limits.connections = config.limits.connections_per_address = STREAMS_MAX;
    config.limits.queued_requests = STREAMS_MAX;
    config.routes = &route;
    config.n_routes = 1;
    hs_http_server *server = NULL;
    struct hs_error err;
    if (hs_http_server_start(&config, &server, &err) != HS_OK) {
        fprintf(stderr, "bench-http: %s\n", err.message);
        return false;
    }
    bool ok = measure("http core", hs_http_server_port(server), ret_cpu_us);
    hs_http_server_free(server);
    return ok && atomic_load(&n_ended) == n_streams;
}

int main(int argc, char **argv)
{
    n_streams = argc > 1 ? (int)strtol(argv[1], NULL, 10) : n_streams;
    n_steps = argc > 2 ? (int)strtol(argv[2], NULL, 10) : n_steps;
    gap_us = argc > 3 ? (int)strtol(argv[3], NULL, 10) : gap_us;
    if (n_streams < 1 || n_streams > STREAMS_MAX || n_steps < 1 || gap_us < 0) {
        fprintf(stderr, "usage: bench-http [STREAMS [STEPS [GAP_US]]]\n");
        return 2;
    }
    double least, core;
    if (!measure_floor(&least)) {
        return 1;
    }
    memset(streams, 0, sizeof streams);
    atomic_store(&n_started, 0);
    if (!measure_core(&core)) {
        return 1;
    }
    printf("{\"core_us_per_event\": %.2f}\n", core - least);
    return 0;
}
