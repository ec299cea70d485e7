/* TLS: a certificate made here, streams and ends through it, and files that cannot be used. */
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "http_test.h"
#include "tls_files.h"

static char folder[256], cert_path[300], key_path[300];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/tls-XXXXXX", HS_TEST_TMP);
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

static void tls_config(struct hs_http_config *config)
{
    test_config(config);
    config->tls_cert_file = cert_path;
    config->tls_key_file = key_path;
}

static SSL *tls_connect(SSL_CTX *context, const hs_http_server *server)
{
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, client_connect(server));
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}

static void tls_send(SSL *ssl, const char *text)
{
    assert_int_equal(SSL_write(ssl, text, (int)strlen(text)), (int)strlen(text));
}

/* Reads until `end` came. */
static void tls_read(SSL *ssl, struct hs_buf *out, const char *end)
{
    while (out->data == NULL || strstr(out->data, end) == NULL) {
        char bytes[16384];
        int n = SSL_read(ssl, bytes, sizeof bytes);
        assert_true(n > 0);
        assert_int_equal(hs_buf_append(out, bytes, (size_t)n), HS_OK);
    }
}

static void test_exchanges(void **state)
{
    (void)state;
    struct hs_http_config config;
    tls_config(&config);
    hs_http_server *server = test_start(&config);
    assert_true(hs_http_server_has_tls(server));
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = tls_connect(context, server);
    assert_true(SSL_version(ssl) >= TLS1_2_VERSION);
    struct hs_buf out = HS_BUF_INIT(SIZE_MAX);
    tls_send(ssl, "GET /hello HTTP/1.1\r\nHost: any.example\r\n\r\n");
    tls_read(ssl, &out, "hello");
    tls_send(ssl, "GET /events?n=50 HTTP/1.1\r\nHost: x\r\n\r\n");
    tls_read(ssl, &out, "\r\n0\r\n\r\n");
    assert_non_null(strstr(out.data, "data: {\"i\":49}\n\n"));
    hs_buf_clear(&out);
    tls_send(ssl, "GET /flood?bytes=3000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    size_t total = 0;
    while (total < 3000000) {
        char bytes[65536];
        int n = SSL_read(ssl, bytes, sizeof bytes);
        assert_true(n > 0);
        total += (size_t)n;
    }
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    SSL_CTX_free(context);
    hs_buf_free(&out);
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

static void test_ends(void **state)
{
    (void)state;
    static const char *const paths[] = {"/silent", "/never", "/flood?bytes=500000000",
                                        "/events?n=100000"};
    struct hs_http_config config;
    tls_config(&config);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    for (size_t i = 0; i < 4; i++) {
        hs_http_server *server = test_start(&config);
        char text[128];
        SSL *ssl = tls_connect(context, server);
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", paths[i]);
        tls_send(ssl, text);
        wait_for_int(&counts.n_started, 1);
        sleep_ms(50);
        close(SSL_get_fd(ssl));
        SSL_free(ssl);
        wait_for_int(&counts.n_gone, 1);
        wait_until_stats(server, 0, 0);
        test_stop(server);
    }
    SSL_CTX_free(context);
}

static void test_not_tls(void **state)
{
    (void)state;
    struct hs_http_config config;
    tls_config(&config);
    config.limits.idle_ms = 400;
    hs_http_server *server = test_start(&config);
    int plain = client_connect(server), silent = client_connect(server);
    client_send(plain, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_true(client_is_closed(plain, LONG_MS));
    assert_true(client_is_closed(silent, LONG_MS)); /* a handshake that never begins */
    close(plain);
    close(silent);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, client_connect(server));
    assert_int_not_equal(SSL_connect(ssl), 1);
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    SSL_CTX_free(context);
    wait_until_stats(server, 0, 0);
    test_stop(server);
}

static void test_bad_files(void **state)
{
    (void)state;
    struct hs_http_config config;
    hs_http_server *server = NULL;
    struct hs_error err;
    tls_config(&config);
    config.tls_key_file = cert_path;
    assert_int_equal(hs_http_server_start(&config, &server, &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, cert_path));
    assert_int_equal(hs_fs_write_atomic(key_path, "", 0, 0600, &err), HS_OK);
    config.tls_key_file = key_path;
    assert_int_equal(hs_http_server_start(&config, &server, &err), HS_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exchanges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
