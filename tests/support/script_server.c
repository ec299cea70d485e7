#include "script_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX (1u << 20)

/* Head and body; NULL: the client left before. */
static char *read_request(int fd)
{
    char *text = calloc(1, REQUEST_MAX + 1);
    size_t len = 0, wanted = REQUEST_MAX;
    while (text != NULL && len < wanted) {
        ssize_t n = recv(fd, text + len, wanted - len, 0);
        if (n <= 0) {
            free(text);
            return NULL;
        }
        len += (size_t)n;
        const char *body = strstr(text, "\r\n\r\n");
        if (body != NULL) {
            const char *length = strcasestr(text, "Content-Length: ");
            size_t n_body = length != NULL && length < body ? strtoul(length + 16, NULL, 10) : 0;
            wanted = (size_t)(body - text) + 4 + n_body;
        }
    }
    return text;
}

static void serve_one(struct script_server *server, int fd)
{
    char *request = read_request(fd);
    size_t i = server->n_requests;
    if (request == NULL || i == SCRIPT_REQUESTS_MAX) {
        free(request);
        return;
    }
    server->requests[i] = request;
    server->n_requests++;
    const struct script_reply *reply =
        &server->replies[i < server->n_replies ? i : server->n_replies - 1];
    size_t len = strlen(reply->text);
    for (size_t sent = 0; sent < len;) {
        ssize_t n = send(fd, reply->text + sent, len - sent, MSG_NOSIGNAL);
        if (n <= 0) {
            break;
        }
        sent += (size_t)n;
    }
    char byte;
    if (reply->holds) {
        server->has_left[i] = recv(fd, &byte, 1, 0) <= 0;
    } else { /* with a FIN, so that no answer is lost to a reset */
        shutdown(fd, SHUT_WR);
        while (recv(fd, &byte, 1, 0) > 0) {
        }
    }
}

static void *run(void *user)
{
    struct script_server *server = user;
    int fd;
    while ((fd = accept(server->listen_fd, NULL, NULL)) >= 0) {
        serve_one(server, fd);
        close(fd);
    }
    return NULL;
}

bool script_server_start(struct script_server *server, const struct script_reply *replies,
                         size_t n_replies)
{
    *server = (struct script_server){.replies = replies, .n_replies = n_replies};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;
    if (bind(server->listen_fd, (struct sockaddr *)&address, len) != 0 ||
        listen(server->listen_fd, 8) != 0 ||
        getsockname(server->listen_fd, (struct sockaddr *)&address, &len) != 0 ||
        pthread_create(&thread, NULL, run, server) != 0) {
        close(server->listen_fd);
        return false;
    }
    server->thread = thread;
    server->port = ntohs(address.sin_port);
    return true;
}

void script_server_stop(struct script_server *server)
{
    shutdown(server->listen_fd, SHUT_RDWR); /* wakes accept */
    pthread_join(server->thread, NULL);
    close(server->listen_fd);
    for (size_t i = 0; i < server->n_requests; i++) {
        free(server->requests[i]);
    }
    server->n_requests = 0;
}
