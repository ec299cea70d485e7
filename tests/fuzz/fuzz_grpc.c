/*
 * fuzz_grpc.c - libFuzzer target of the gRPC server. The first byte chooses: 'm' the parser of
 * messages, in pieces whose size the second byte gives; 't' time-outs and texts; anything else is
 * sent to a server behind HTTP/2's preface, and the connection must come to an end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message.h"
#include "metadata.h"

#define MESSAGE_MAX 5000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void fuzz_messages(const uint8_t *data, size_t size, size_t step)
{
    struct hs_grpc_budget budget = {.max = 1 << 20};
    struct hs_grpc_parser parser = {.budget = &budget, .message_max = MESSAGE_MAX};
    enum hs_grpc_parsed parsed = HS_GRPC_PARSED_PART;
    for (size_t at = 0; at < size && parsed <= HS_GRPC_PARSED_MESSAGE;) {
        size_t n = size - at < step ? size - at : step, used = 0;
        struct hs_grpc_received *message = NULL;
        parsed = hs_grpc_parser_feed(&parser, data + at, n, &used, &message);
        require(used <= n && (used == n || parsed != HS_GRPC_PARSED_PART));
        require((message != NULL) == (parsed == HS_GRPC_PARSED_MESSAGE));
        if (message != NULL) {
            require(message->size <= MESSAGE_MAX && message->size <= at + used);
            require(memcmp(message->data, data + at + used - message->size, message->size) == 0);
        }
        hs_grpc_received_free(&budget, message);
        at += used;
    }
    hs_grpc_parser_free(&parser);
    require(atomic_load(&budget.used) == 0);
}

static void fuzz_text(const uint8_t *data, size_t size)
{
    char text[256], encoded[256];
    size = size < sizeof text ? size : sizeof text - 1;
    memcpy(text, data, size);
    text[size] = '\0';
    int64_t ms;
    require(!hs_grpc_timeout_parse(text, &ms) || ms >= 0);
    (void)hs_grpc_content_type_fits(text);
    hs_grpc_text_encode(text, encoded, sizeof encoded);
    for (const char *i = encoded; *i != '\0'; i++) {
        require(*i >= 0x20 && *i <= 0x7E);
    }
}

static enum hs_grpc_code echo(hs_grpc_call *call, void *user)
{
    static const struct hs_grpc_part part = {"answer", 6};
    const uint8_t *data;
    size_t size;
    (void)user;
    while (hs_grpc_call_recv(call, &data, &size) == 1 &&
           hs_grpc_call_send(call, &(struct hs_grpc_message){.parts = &part, .n_parts = 1})) {
    }
    return HS_GRPC_OK;
}

/* From an address of its own: the ports of one wait for a minute after each connection. */
static int connect_from_new_address(const struct sockaddr_in *address)
{
    static uint32_t n;
    struct sockaddr_in own = {.sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (++n & 0xFFFF))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (bind(fd, (const struct sockaddr *)&own, sizeof own) != 0 ||
                    connect(fd, (const struct sockaddr *)address, sizeof *address) != 0)) {
        int cause = errno;
        close(fd);
        errno = cause;
        fd = -1;
    }
    return fd;
}

static int connect_to_server(void)
{
    static const struct hs_grpc_method methods[] = {{"/", echo}};
    static hs_grpc_server *server;
    if (server == NULL) {
        struct hs_grpc_config config;
        hs_grpc_config_defaults(&config);
        config.methods = methods;
        config.n_methods = 1;
        config.limits.message_bytes = MESSAGE_MAX;
        require(hs_grpc_server_start(&config, &server, NULL) == HS_OK);
    }
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)hs_grpc_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int n_tries = 0; n_tries < 500; n_tries++) {
        int fd = connect_from_new_address(&address);
        if (fd >= 0) {
            return fd;
        }
        usleep(20000); /* thousands come in a second: the kernel may be short of something */
    }
    perror("cannot connect");
    abort();
}

static void fuzz_connection(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    int fd = connect_to_server();
    ssize_t n = send(fd, preface, sizeof preface - 1, MSG_NOSIGNAL);
    if (n > 0 && size > 0) {
        n = send(fd, data, size, MSG_NOSIGNAL); /* in part, when the server has heard enough */
    }
    shutdown(fd, SHUT_WR);
    char bytes[4096];
    while (recv(fd, bytes, sizeof bytes, 0) > 0) {
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 2 && data[0] == 'm') {
        fuzz_messages(data + 2, size - 2, 1u + data[1]);
    } else if (size >= 1 && data[0] == 't') {
        fuzz_text(data + 1, size - 1);
    } else if (size >= 1 && size < 4096) {
        fuzz_connection(data + 1, size - 1);
    }
    return 0;
}
