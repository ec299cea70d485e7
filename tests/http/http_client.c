#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http_test.h"

double now_ms(void)
{
    return hs_clock_ms();
}

void sleep_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

int client_connect(const hs_http_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)hs_http_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

void client_send_bytes(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* the server may have closed; the reader sees it */
        }
        p += n;
        len -= (size_t)n;
    }
}

void client_send(int fd, const char *text)
{
    client_send_bytes(fd, text, strlen(text));
}

/* 1: read something, 0: closed, -1: the time is over. */
static int read_some(int fd, struct hs_buf *out, double end_ms)
{
    int left = (int)(end_ms - now_ms());
    struct pollfd event = {.fd = fd, .events = POLLIN};
    if (poll(&event, 1, left < 0 ? 0 : left) <= 0) {
        return -1;
    }
    char bytes[65536];
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    if (n <= 0) {
        return 0;
    }
    assert_int_equal(hs_buf_append(out, bytes, (size_t)n), HS_OK);
    return 1;
}

bool client_read_all(int fd, struct hs_buf *out, int timeout_ms)
{
    double end = now_ms() + timeout_ms;
    int n;
    while ((n = read_some(fd, out, end)) > 0) {
    }
    return n == 0;
}

bool client_read_until(int fd, struct hs_buf *out, const char *text, int timeout_ms)
{
    double end = now_ms() + timeout_ms;
    while (out->data == NULL || memmem(out->data, out->len, text, strlen(text)) == NULL) {
        if (read_some(fd, out, end) <= 0) {
            return false;
        }
    }
    return true;
}

bool client_is_closed(int fd, int timeout_ms)
{
    struct hs_buf dropped = HS_BUF_INIT(SIZE_MAX);
    bool is_closed = client_read_all(fd, &dropped, timeout_ms);
    hs_buf_free(&dropped);
    return is_closed;
}

const char *reply_header(const struct reply *reply, const char *name, char ret_value[512])
{
    size_t len = strlen(name);
    const char *line = strstr(reply->raw.data, "\r\n");
    for (; line != NULL && strncmp(line, "\r\n\r\n", 4) != 0; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') {
            const char *value = line + 2 + len + 1;
            value += strspn(value, " ");
            size_t n = strcspn(value, "\r");
            assert_true(n < 512);
            memcpy(ret_value, value, n);
            ret_value[n] = '\0';
            return ret_value;
        }
    }
    return NULL;
}

/* Reads until raw has n bytes. */
static bool fill(int fd, struct hs_buf *raw, size_t n, double end_ms)
{
    while (raw->len < n) {
        if (read_some(fd, raw, end_ms) <= 0) {
            return false;
        }
    }
    return true;
}

static bool read_chunks(int fd, struct reply *reply, size_t at, double end_ms)
{
    for (;;) {
        while (memmem(reply->raw.data + at, reply->raw.len - at, "\r\n", 2) == NULL) {
            if (read_some(fd, &reply->raw, end_ms) <= 0) {
                return false;
            }
        }
        char *end;
        size_t size = strtoul(reply->raw.data + at, &end, 16);
        size_t data_at = (size_t)(end - reply->raw.data) + 2;
        if (!fill(fd, &reply->raw, data_at + size + 2, end_ms)) {
            return false;
        }
        if (size == 0) {
            return true;
        }
        assert_int_equal(hs_buf_append(&reply->body, reply->raw.data + data_at, size), HS_OK);
        at = data_at + size + 2;
    }
}

void client_reply(int fd, struct reply *ret_reply, int timeout_ms)
{
    struct reply *reply = ret_reply;
    *reply = (struct reply){.raw = HS_BUF_INIT(SIZE_MAX), .body = HS_BUF_INIT(SIZE_MAX)};
    double end = now_ms() + timeout_ms;
    if (!client_read_until(fd, &reply->raw, "\r\n\r\n", timeout_ms)) {
        return;
    }
    const char *status = strchr(reply->raw.data, ' ');
    assert_non_null(status);
    reply->status = (int)strtol(status, NULL, 10);
    size_t body_at = (size_t)(strstr(reply->raw.data, "\r\n\r\n") - reply->raw.data) + 4;
    char value[512];
    if (reply->status == 204 || reply->status == 304) {
        reply->is_whole = true; /* these have no body, whatever length they tell */
    } else if (reply_header(reply, "Content-Length", value) != NULL) {
        size_t len = strtoul(value, NULL, 10);
        reply->is_whole = fill(fd, &reply->raw, body_at + len, end);
        size_t have = reply->raw.len - body_at;
        if (have > 0) {
            assert_int_equal(
                hs_buf_append(&reply->body, reply->raw.data + body_at, have < len ? have : len),
                HS_OK);
        }
    } else if (reply_header(reply, "Transfer-Encoding", value) != NULL) {
        reply->is_whole = read_chunks(fd, reply, body_at, end);
    } else {
        reply->is_whole = client_read_all(fd, &reply->raw, (int)(end - now_ms()));
        if (reply->raw.len > body_at) {
            assert_int_equal(
                hs_buf_append(&reply->body, reply->raw.data + body_at, reply->raw.len - body_at),
                HS_OK);
        }
    }
    assert_int_equal(hs_buf_append(&reply->body, "", 0), HS_OK); /* a NUL even when empty */
}

void reply_free(struct reply *reply)
{
    hs_buf_free(&reply->raw);
    hs_buf_free(&reply->body);
}

void request(const hs_http_server *server, const char *line, const char *headers, const char *body,
             struct reply *ret_reply)
{
    char length[64] = "";
    struct hs_buf text = HS_BUF_INIT(SIZE_MAX);
    if (body != NULL) {
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(body));
    }
    assert_int_equal(hs_buf_printf(&text, "%s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n", line,
                                   headers == NULL ? "" : headers, length),
                     HS_OK);
    int fd = client_connect(server);
    client_send_bytes(fd, text.data, text.len);
    if (body != NULL) {
        client_send(fd, body);
    }
    client_reply(fd, ret_reply, LONG_MS);
    close(fd);
    hs_buf_free(&text);
}
