/* TLS: calls through it, who is refused, and files that cannot be used. */
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "grpc_test.h"
#include "tls_files.h"

static char folder[256], cert_path[300], key_path[300];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/grpc-tls-XXXXXX", HS_TEST_TMP);
    assert_non_null(mkdtemp(folder));
    snprintf(cert_path, sizeof cert_path, "%s/cert.pem", folder);
    snprintf(key_path, sizeof key_path, "%s/key.pem", folder);
    assert_true(tls_files_write(cert_path, key_path, NULL));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return hs_fs_remove_all(folder, NULL) == HS_OK ? 0 : -1;
}

static void tls_config(struct hs_grpc_config *config)
{
    test_config(config);
    config->tls_cert_file = cert_path;
    config->tls_key_file = key_path;
}

static SSL_CTX *make_context(const char *protocols, size_t size)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert_int_equal(
        SSL_CTX_set_alpn_protos(context, (const unsigned char *)protocols, (unsigned)size), 0);
    return context;
}

static void test_calls(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    tls_config(&config);
    hs_grpc_server *server = test_start(&config);
    assert_true(hs_grpc_server_has_tls(server));
    SSL_CTX *context = make_context("\x8http/1.1\x2h2", 12);
    struct client *client = client_open(server, context, 0);
    assert_true(SSL_version(client->ssl) >= TLS1_2_VERSION);
    assert_message(client_call(client, "/toy/Hello", "", NULL), 0, "hello");
    const struct reply *reply = client_call(client, "/toy/Flood", "5 1000003", NULL);
    assert_int_equal(reply->grpc_status, HS_GRPC_OK);
    for (size_t i = 0; i < 5; i++) {
        const uint8_t *data;
        size_t size;
        assert_true(reply_message(reply, i, &data, &size));
        assert_int_equal(size, 1000003);
        for (size_t j = 0; j < size; j++) {
            if (data[j] != (uint8_t)(i + j)) {
                fail_msg("message %zu, byte %zu", i, j);
            }
        }
    }
    struct hs_buf body = HS_BUF_INIT(8u << 20);
    uint8_t *message = calloc(1, 3000000);
    frame_message(&body, message, 3000000);
    struct reply *echo = client_begin(client, "/toy/Echo", body.data, body.len, false, NULL);
    assert_true(client_run(client, &echo->is_closed, LONG_MS));
    assert_int_equal(echo->n_data, body.len);
    hs_buf_free(&body);
    free(message);
    client_close(client);
    SSL_CTX_free(context);
    test_stop(server);
}

static void check_refused(const hs_grpc_server *server, SSL_CTX *context)
{
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, client_socket(server));
    char byte;
    /* in TLS 1.3 the client hears of a refusal after its own part */
    assert_true(SSL_connect(ssl) != 1 || SSL_read(ssl, &byte, 1) <= 0);
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    SSL_CTX_free(context);
}

static void test_who_is_refused(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    tls_config(&config);
    hs_grpc_server *server = test_start(&config);
    check_refused(server, make_context("\x8http/1.1", 9));
    check_refused(server, SSL_CTX_new(TLS_client_method())); /* no ALPN */
    SSL_CTX *old = make_context("\x2h2", 3);
    SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION);
    check_refused(server, old);
    int fd = client_socket(server);
    char bytes[100] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_int_equal(send(fd, bytes, 24, 0), 24);
    assert_true(recv(fd, bytes, sizeof bytes, MSG_WAITALL) < (ssize_t)sizeof bytes); /* ends */
    close(fd);
    test_stop(server);
}

/* A client that says nothing, and one that stops within its handshake. */
static void test_handshake_in_time(void **state)
{
    (void)state;
    struct hs_grpc_config config;
    tls_config(&config);
    config.limits.handshake_ms = 50;
    hs_grpc_server *server = test_start(&config);
    int silent = client_socket(server), half = client_socket(server);
    char byte;
    assert_int_equal(send(half, "\x16\x3\x1\2\0\1", 6, 0), 6);
    assert_true(recv(silent, &byte, 1, 0) <= 0);
    assert_true(recv(half, &byte, 1, 0) <= 0);
    close(silent);
    close(half);
    test_stop(server);
}

static void check_files(const char *cert, const char *key)
{
    struct hs_grpc_config config;
    tls_config(&config);
    config.tls_cert_file = cert;
    config.tls_key_file = key;
    hs_grpc_server *server = NULL;
    struct hs_error err = {.message = ""};
    assert_int_equal(hs_grpc_server_start(&config, &server, &err), HS_INVALID_ARGUMENT);
    assert_null(server);
    assert_non_null(strstr(err.message, cert));
    assert_non_null(strstr(err.hint, "PEM"));
}

static void test_bad_files(void **state)
{
    (void)state;
    char other_cert[300], other_key[300];
    snprintf(other_cert, sizeof other_cert, "%s/other.pem", folder);
    snprintf(other_key, sizeof other_key, "%s/other-key.pem", folder);
    check_files(cert_path, other_key); /* not there */
    assert_true(tls_files_write(other_cert, other_key, NULL));
    check_files(cert_path, other_key); /* of another certificate */
    check_files(key_path, key_path);
    assert_true(tls_files_write(other_cert, other_key, "secret"));
    check_files(other_cert, other_key); /* and nobody is asked for the password */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_handshake_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
