/*
 * bench_load.c - clients of a server's /v1/chat/completions, all streaming at once from one thread.
 *
 *   bench-load -p PORT [-c CLIENTS] [-r REQUESTS] [-n TOKENS] [-w WORDS] [-s SEED] [-l WORDS]
 *              [-t] [-a FILE [-z EXPONENT]]
 *
 * Each client sends its requests one after another. Prompts are WORDS random
 * words, different for each request. With -l one more client sends a prompt of that many words once
 * every other one has received a quarter of its first answer; what the others wait for a token from
 * then on until its first token is the figure `gap_ms_long`.
 *
 * -t: raw text to /v1/completions, for models without a chat template. -a: each line of the file is
 * a field that is added to a request's object; client i sends line i, modulo their number, or with
 * -z each request a line drawn by Zipf's law, line k with a probability in proportion to
 * k^-EXPONENT.
 *
 * Prints one JSON object: tokens per second of all clients (counted by the server's own usage),
 * time to the first token, time between tokens, and the CPU time that this program took itself.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 1024
#define FIELDS_MAX 65536
#define FIELD_MAX_BYTES 1024
#define SILENCE_MS 120000 /* a server that sends nothing for so long has failed */

struct client {
    int fd;
    int n_left;     /* requests */
    uint64_t state; /* of its random words */
    char *in;       /* [n_in] received and not yet looked at */
    size_t n_in, cap_in;
    bool is_body, is_ok;
    int n_events; /* of this answer with text */
    int n_all;    /* of all answers */
    double sent_at, last_at;
};

struct samples {
    double *values;
    size_t n, cap;
};

static struct client clients[CLIENTS_MAX + 1];
static struct pollfd fds[CLIENTS_MAX + 1];
static struct samples first_ms, between_ms, long_ms;
static int port, n_clients = 1, n_requests = 1, n_tokens = 64, n_words = 24, n_long;
static uint64_t seed = 1;
static bool is_raw;
static char *fields[FIELDS_MAX];
static double shares[FIELDS_MAX]; /* of the lines up to this one, by Zipf's law */
static int n_fields;
static double zipf; /* 0: by client */
static long n_completion, n_prompt, n_cached;
static double long_sent_at, long_first_ms; /* 0: not yet */

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void die(const char *what)
{
    fprintf(stderr, "bench-load: %s\n", what);
    exit(1);
}

static void *grow(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (memory == NULL) {
        die("out of memory");
    }
    return memory;
}

static void add_sample(struct samples *samples, double value)
{
    if (samples->n == samples->cap) {
        samples->cap = samples->cap * 2 + 1024;
        samples->values = grow(samples->values, samples->cap * sizeof(double));
    }
    samples->values[samples->n++] = value;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* ---- requests ---- */

/* The line of -a that a client's next request takes; "": none. */
static const char *next_field(struct client *client)
{
    if (n_fields == 0) {
        return "";
    }
    if (zipf <= 0) {
        return fields[(client - clients) % n_fields];
    }
    double at = (double)(next_random(&client->state) >> 11) / 9007199254740992.0;
    int low = 0, high = n_fields - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (shares[middle] > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return fields[low];
}

static void send_request(struct client *client, int words)
{
    static const char *const list[] = {"tree",   "water",  "house",  "light", "stone", "river",
                                       "bread",  "horse",  "music",  "night", "paper", "green",
                                       "winter", "window", "garden", "letter"};
    size_t cap = (size_t)words * 8 + 1024 + FIELD_MAX_BYTES, n = 0;
    const char *field = next_field(client);
    char *body = grow(NULL, cap), head[256];
    n = (size_t)snprintf(
        body, cap,
        "{\"stream\": true, \"stream_options\": {\"include_usage\": true}, "
        "\"max_tokens\": %d, \"ignore_eos\": true, \"temperature\": 0.8, "
        "\"top_k\": 40, \"top_p\": 0.95, \"min_p\": 0.05, \"seed\": %d, "
        "%s%s%sTell me of",
        words == n_long && words > n_words ? 4 : n_tokens,
        (int)(next_random(&client->state) & 0x7FFFFFFF), field, field[0] != '\0' ? ", " : "",
        is_raw ? "\"prompt\": \"" : "\"messages\": [{\"role\": \"user\", \"content\": \"");
    for (int i = 0; i < words; i++) {
        n += (size_t)snprintf(body + n, cap - n, " %s", list[next_random(&client->state) % 16]);
    }
    n += (size_t)snprintf(body + n, cap - n, is_raw ? "\"}" : "\"}]}");
    int n_head = snprintf(head, sizeof head,
                          "POST /v1/%scompletions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                          "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                          is_raw ? "" : "chat/", n);
    client->sent_at = now_ms();
    client->is_body = client->is_ok = false;
    client->n_events = 0;
    if (send(client->fd, head, (size_t)n_head, MSG_NOSIGNAL | MSG_MORE) != n_head) {
        die("cannot send a request");
    }
    for (size_t done = 0; done < n;) {
        ssize_t sent = send(client->fd, body + done, n - done, MSG_NOSIGNAL);
        if (sent <= 0) {
            die("cannot send a request");
        }
        done += (size_t)sent;
    }
    free(body);
}

/* A connection for each request: llama-server closes it behind a stream. */
static void begin_request(int number, int words)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct client *client = &clients[number];
    client->n_in = 0;
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        die("cannot connect");
    }
    fds[number] = (struct pollfd){.fd = client->fd, .events = POLLIN};
    send_request(client, words);
}

/* ---- answers ---- */

static long number_after(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtol(at + strlen(name), NULL, 10);
}

static void take_text(struct client *client, double now)
{
    bool is_long = client == &clients[n_clients];
    if (client->n_events++ == 0) {
        if (is_long) {
            long_first_ms = now - client->sent_at;
        } else {
            add_sample(&first_ms, now - client->sent_at);
        }
    } else if (!is_long) {
        add_sample(&between_ms, now - client->last_at);
    }
    /* Waits that fall into the time of the long prompt, also those that began before it. */
    if (!is_long && client->n_events > 1 && long_sent_at > 0 && long_first_ms <= 0) {
        add_sample(&long_ms, now - client->last_at);
    }
    client->last_at = now;
    client->n_all++;
}

static void take_line(struct client *client, char *line, double now)
{
    if (strncmp(line, "data: ", 6) != 0) {
        return;
    }
    const char *name = is_raw ? "\"text\":" : "\"content\":";
    const char *content = strstr(line, name);
    if (content != NULL) {
        content += strlen(name);
        content += strspn(content, " ");
    }
    if (strncmp(line, "data: {\"error\"", 14) == 0) {
        die(line);
    }
    if (content != NULL && content[0] == '"' && content[1] != '"') {
        take_text(client, now);
    }
    if (strstr(line, "\"usage\":{") != NULL || strstr(line, "\"usage\": {") != NULL) {
        n_completion += number_after(line, "\"completion_tokens\":");
        n_prompt += number_after(line, "\"prompt_tokens\":");
        n_cached += number_after(line, "\"cached_tokens\":");
    }
    client->is_ok |= strncmp(line, "data: [DONE]", 12) == 0;
}

/* Look at what came; true: the answer is over. Lines never begin inside a chunk's framing: both
 * servers send events whole, and lines that are no events are passed over. */
static bool take_input(struct client *client, double now)
{
    size_t at = 0;
    bool is_over = false;
    while (!is_over) {
        char *line = client->in + at;
        char *end = memchr(line, '\n', client->n_in - at);
        if (end == NULL) {
            break;
        }
        *end = '\0';
        at = (size_t)(end + 1 - client->in);
        if (!client->is_body && line == client->in && strncmp(line, "HTTP/1.1 200", 12) != 0) {
            die(line);
        }
        client->is_body = true;
        take_line(client, line, now);
        is_over = client->is_ok;
    }
    memmove(client->in, client->in + at, client->n_in - at);
    client->n_in -= at;
    return is_over;
}

/* true: the answer is over. */
static bool read_client(struct client *client)
{
    if (client->cap_in - client->n_in < 65536) {
        client->cap_in = client->n_in + 131072;
        client->in = grow(client->in, client->cap_in);
    }
    ssize_t got = recv(client->fd, client->in + client->n_in, 65536, 0);
    if (got <= 0) {
        die("the server closed a connection");
    }
    client->n_in += (size_t)got;
    return take_input(client, now_ms());
}

static bool is_time_for_long(void)
{
    for (int i = 0; i < n_clients; i++) {
        if (clients[i].n_all < n_tokens / 4) {
            return false;
        }
    }
    return n_long > 0 && long_sent_at <= 0;
}

static void run(void)
{
    int n_all = n_clients + (n_long > 0);
    for (int i = 0; i < n_all; i++) {
        clients[i].state = seed * 1000003 + (uint64_t)i;
        clients[i].n_left = i < n_clients ? n_requests : 1;
        fds[i].fd = -1;
    }
    for (int i = 0; i < n_clients; i++) {
        begin_request(i, n_words);
    }
    for (int n_open = n_all; n_open > 0;) {
        if (poll(fds, (nfds_t)n_all, SILENCE_MS) <= 0) {
            die("the server is silent");
        }
        for (int i = 0; i < n_all; i++) {
            if (fds[i].revents == 0 || !read_client(&clients[i])) {
                continue;
            }
            close(fds[i].fd);
            fds[i] = (struct pollfd){.fd = -1};
            if (--clients[i].n_left > 0) {
                begin_request(i, n_words);
            } else {
                n_open--;
            }
        }
        if (is_time_for_long()) {
            long_sent_at = now_ms();
            begin_request(n_clients, n_long);
        }
    }
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(struct samples *samples, double q)
{
    if (samples->n == 0) {
        return 0;
    }
    qsort(samples->values, samples->n, sizeof(double), compare);
    return samples->values[(size_t)(q * (double)(samples->n - 1) + 0.5)];
}

static int number(const char *text, int max)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (*end != '\0' || end == text || value < 0 || value > max) {
        die("an argument is not a number in its range");
    }
    return (int)value;
}

/* Each line without its newline. */
static void read_fields(const char *path)
{
    FILE *file = fopen(path, "re");
    char line[FIELD_MAX_BYTES];
    if (file == NULL) {
        die("the file of -a is not there");
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (n_fields == FIELDS_MAX) {
            die("the file of -a has too many lines");
        }
        fields[n_fields++] = strdup(line);
    }
    fclose(file);
    double sum = 0;
    for (int i = 0; i < n_fields; i++) {
        sum += pow(i + 1, -zipf);
        shares[i] = sum;
    }
    for (int i = 0; i < n_fields; i++) {
        shares[i] /= sum;
    }
}

int main(int argc, char **argv)
{
    const char *fields_path = NULL;
    int option;
    while ((option = getopt(argc, argv, "p:c:r:n:w:s:l:ta:z:")) != -1) {
        int *const targets[] = {&port, &n_clients, &n_requests, &n_tokens, &n_words, &n_long};
        const char *const names = "pcrnwl", *at = strchr(names, option);
        if (option == 's') {
            seed = strtoull(optarg, NULL, 10);
        } else if (option == 't') {
            is_raw = true;
        } else if (option == 'a') {
            fields_path = optarg;
        } else if (option == 'z') {
            zipf = strtod(optarg, NULL);
        } else if (at != NULL) {
            *targets[at - names] = number(optarg, option == 'c' ? CLIENTS_MAX : 1000000);
        }
    }
    if (port < 1 || port > 65535 || n_clients < 1 || n_requests < 1 || optind != argc) {
        die("usage: bench-load -p PORT [-c CLIENTS] [-r REQUESTS] [-n TOKENS] [-w WORDS] "
            "[-s SEED] [-l WORDS] [-t] [-a FILE [-z EXPONENT]]");
    }
    if (fields_path != NULL) {
        read_fields(fields_path);
    }
    double begin = now_ms();
    run();
    double ms = now_ms() - begin;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu_ms = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
                    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
    printf("{\"clients\": %d, \"seconds\": %.3f, \"completion_tokens\": %ld, "
           "\"prompt_tokens\": %ld, \"cached_tokens\": %ld, \"tokens_per_s\": %.2f, "
           "\"first_ms_p50\": %.2f, \"first_ms_p99\": %.2f, \"between_ms_p50\": %.2f, "
           "\"between_ms_p99\": %.2f, \"gap_ms_long\": %.2f, \"first_ms_long\": %.2f, "
           "\"driver_cpu_share\": %.4f}\n",
           n_clients, ms / 1e3, n_completion, n_prompt, n_cached, (double)n_completion / (ms / 1e3),
           quantile(&first_ms, 0.5), quantile(&first_ms, 0.99), quantile(&between_ms, 0.5),
           quantile(&between_ms, 0.99), quantile(&long_ms, 1), long_first_ms, cpu_ms / ms);
    return 0;
}
