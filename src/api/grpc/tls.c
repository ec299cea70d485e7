/* tls.c - OpenSSL, and the bytes of a connection with or without it. */
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "grpc_internal.h"

/* A TLS record carries so much; heads and slices are gathered in one. */
#define RECORD_MAX (16u << 10)

/* HTTP/2 or nothing. */
static int choose_protocol(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_len,
                           const unsigned char *offered, unsigned len, void *user)
{
    (void)ssl;
    (void)user;
    unsigned char *name = NULL;
    int found = nghttp2_select_next_protocol(&name, ret_len, offered, len);
    *ret_name = name;
    return found == 1 ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Never ask on the terminal. */
static int no_password(char *out, int size, int is_writing, void *user)
{
    (void)out;
    (void)size;
    (void)is_writing;
    (void)user;
    return 0;
}

hs_status hs_grpc_tls_open(const char *cert_file, const char *key_file, SSL_CTX **ret_tls,
                           struct hs_error *err)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL) {
        ERR_clear_error();
        return hs_error_nomem(err, "TLS");
    }
    SSL_CTX_set_default_passwd_cb(tls, no_password);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);
    bool is_good = SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) == 1 &&
                   SSL_CTX_use_certificate_chain_file(tls, cert_file) == 1 &&
                   SSL_CTX_use_PrivateKey_file(tls, key_file, SSL_FILETYPE_PEM) == 1 &&
                   SSL_CTX_check_private_key(tls) == 1;
    ERR_clear_error();
    if (!is_good) {
        SSL_CTX_free(tls);
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "the TLS certificate '%s' or its key '%s' cannot be used", cert_file,
                     key_file);
        return hs_error_hint(err, "both must be PEM files that belong together, the key without a "
                                  "password");
    }
    *ret_tls = tls;
    return HS_OK;
}

/* 0: would block, -1: broken. */
static ssize_t ssl_result(SSL *ssl, int result)
{
    int error = SSL_get_error(ssl, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

bool hs_grpc_tls_handshake(struct hs_grpc_conn *conn)
{
    int result = SSL_accept(conn->ssl);
    if (result != 1) {
        return ssl_result(conn->ssl, result) == 0;
    }
    const unsigned char *protocol;
    unsigned len;
    SSL_get0_alpn_selected(conn->ssl, &protocol, &len);
    conn->is_secured = len == 2; /* a client without ALPN is refused, too */
    return conn->is_secured;
}

ssize_t hs_grpc_io_read(struct hs_grpc_conn *conn, uint8_t *out, size_t max)
{
    if (conn->ssl != NULL) {
        int n = SSL_read(conn->ssl, out, max > INT_MAX ? INT_MAX : (int)max);
        return n > 0 ? n : ssl_result(conn->ssl, n);
    }
    ssize_t n = recv(conn->fd, out, max, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    return n > 0 ? n : -1;
}

static ssize_t write_record(struct hs_grpc_conn *conn)
{
    /* what would block is offered again as it was */
    if (conn->record_size == 0) {
        conn->record_size = hs_grpc_out_peek(conn->out, conn->record, RECORD_MAX);
    }
    int n = SSL_write(conn->ssl, conn->record, (int)conn->record_size);
    if (n <= 0) {
        return ssl_result(conn->ssl, n);
    }
    conn->record_size = 0;
    return n;
}

ssize_t hs_grpc_io_write(struct hs_grpc_conn *conn)
{
    struct hs_grpc_out_queue *out = conn->out;
    if (hs_grpc_out_is_empty(out)) {
        return 0;
    }
    ssize_t n;
    if (conn->ssl != NULL) {
        n = write_record(conn);
    } else {
        struct msghdr message = {.msg_iov = out->slices + out->first,
                                 .msg_iovlen = out->n - out->first};
        n = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
        n = n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
    }
    if (n > 0) {
        hs_grpc_out_advance(out, (size_t)n);
        atomic_fetch_add(&conn->server->bytes_out, (unsigned long long)n);
    }
    return n;
}
