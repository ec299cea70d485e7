#include "sd_notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"

bool hs_sd_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path == NULL ? 0 : strlen(path);
    bool is_path = len > 1 && len < sizeof address.sun_path && (*path == '/' || *path == '@');
    if (!is_path) {
        return false;
    }
    memcpy(address.sun_path, path, len);
    if (*path == '@') { /* a name that is no file */
        address.sun_path[0] = '\0';
    }
    HS_CLEANUP(hs_closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return fd >= 0 && sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                             size) == (ssize_t)strlen(state);
}
