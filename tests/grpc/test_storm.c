/* Many connections that begin, cancel, time out and vanish at random: nothing leaks, nothing waits
 * for ever, and whoever stays gets right answers. */
#include <stdio.h>
#include <sys/socket.h>

#include "grpc_test.h"

#define N_CLIENTS 12
#define N_STEPS 1500

static uint64_t random_state = 0x9E3779B97F4A7C15u;

/* xorshift64 */
static unsigned pick(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % n;
}

static const char *const paths[] = {"/toy/Echo", "/toy/Late",  "/toy/Flood", "/toy/Parts",
                                    "/toy/Fail", "/toy/Block", "/toy/Hello"};
static uint8_t body[64 * 1024];
static size_t body_size;

/* "3 50000" for those who read it, and a long message behind it. */
static void make_body(void)
{
    struct hs_buf buf = HS_BUF_INIT(sizeof body);
    static uint8_t rest[60000];
    frame_message(&buf, "3 50000", 7);
    frame_message(&buf, rest, sizeof rest);
    memcpy(body, buf.data, buf.len);
    body_size = buf.len;
    hs_buf_free(&buf);
}

static void begin(struct client *client)
{
    const struct header soon[] = {{"grpc-timeout", "3m"}, {NULL, NULL}};
    if (client->n_replies < 400) {
        size_t size = pick(3) == 0 ? pick((unsigned)body_size) : body_size;
        client_begin(client, paths[pick(7)], body, size, pick(4) == 0, pick(4) == 0 ? soon : NULL);
    }
}

static void cancel(struct client *client)
{
    if (client->n_replies > 0) {
        struct reply *reply = &client->replies[pick((unsigned)client->n_replies)];
        if (!reply->is_closed) {
            nghttp2_submit_rst_stream(client->session, 0, reply->stream_id, NGHTTP2_CANCEL);
        }
    }
}

static void step(const hs_grpc_server *server, struct client **client)
{
    switch (pick(16)) {
    case 0:
        shutdown((*client)->fd, SHUT_RDWR);
        client_close(*client);
        *client = NULL;
        break;
    case 1:
    case 2:
        cancel(*client);
        break;
    case 3:
        (*client)->is_slow = !(*client)->is_slow;
        break;
    case 4:
    case 5:
    case 6:
        begin(*client);
        break;
    default:
        client_run(*client, NULL, 0);
        break;
    }
    if (*client != NULL && (*client)->is_gone) {
        client_close(*client);
        *client = NULL;
    }
    if (*client == NULL) {
        *client = client_open(server, NULL, pick(2) == 0 ? 0 : 1 << 20);
        (*client)->drops = true;
    }
}

static void wait_for_quiet(hs_grpc_server *server)
{
    struct hs_grpc_stats stats;
    double end = now_ms() + LONG_MS;
    do {
        hs_grpc_server_stats(server, &stats);
    } while ((stats.n_connections > 0 || stats.n_active > 0) && now_ms() < end);
    assert_int_equal(stats.n_connections, 0);
    assert_int_equal(stats.n_active, 0);
    assert_int_equal(stats.n_queued, 0);
}

static void test_storm(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    test_config(&config);
    config.n_workers = 6;
    config.limits.queued_calls = 20;
    config.limits.stall_ms = 200;
    hs_grpc_server *server = test_start(&config);
    test_close_gate();
    make_body();
    struct client *clients[N_CLIENTS];
    for (int i = 0; i < N_CLIENTS; i++) {
        clients[i] = client_open(server, NULL, 0);
        clients[i]->drops = true;
    }
    for (int i = 0; i < N_STEPS; i++) {
        step(server, &clients[pick(N_CLIENTS)]);
    }
    test_open_gate();
    for (int i = 0; i < N_CLIENTS; i++) {
        client_close(clients[i]);
    }
    wait_for_quiet(server);
    struct client *client = client_open(server, NULL, 0);
    assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
    client_close(client);
    test_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_storm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
