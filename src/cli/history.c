#include "history.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/mem.h"

static char *unescape(const char *line, size_t len)
{
    char *entry = hs_alloc(len + 1);
    size_t n = 0;
    for (size_t i = 0; entry && i < len; i++) {
        char c = line[i];
        if (c == '\\' && i + 1 < len) {
            i++;
            c = line[i] == 'n' ? '\n' : line[i];
        }
        entry[n++] = c;
    }
    if (entry) {
        entry[n] = '\0';
    }
    return entry;
}

static hs_status escape(const char *entry, struct hs_buf *line)
{
    hs_status status = HS_OK;
    for (; *entry && !status; entry++) {
        if (*entry == '\n') {
            status = hs_buf_append(line, "\\n", 2);
        } else if (*entry == '\\') {
            status = hs_buf_append(line, "\\\\", 2);
        } else {
            status = hs_buf_append(line, entry, 1);
        }
    }
    return status ? status : hs_buf_append(line, "\n", 1);
}

static size_t count_lines(const struct hs_buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++) {
        n += text->data[i] == '\n';
    }
    return n;
}

/* Where the newest HS_HISTORY_MAX of n_lines begin. */
static size_t newest(const struct hs_buf *text, size_t n_lines)
{
    size_t at = 0;
    for (size_t i = n_lines; i > HS_HISTORY_MAX; i--) {
        const char *end = memchr(text->data + at, '\n', text->len - at);
        at = (size_t)(end - text->data) + 1;
    }
    return at;
}

void hs_history_free(char **entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hs_free(entries[i]);
    }
    hs_free(entries);
}

static hs_status parse(const struct hs_buf *text, size_t at, char ***ret_entries, size_t *ret_n,
                       struct hs_error *err)
{
    char **entries = hs_calloc(HS_HISTORY_MAX + 1, sizeof *entries);
    size_t n = 0;
    bool failed = entries == NULL;
    while (!failed && at < text->len && n < HS_HISTORY_MAX) {
        const char *end = memchr(text->data + at, '\n', text->len - at);
        if (!end) {
            break; /* half a line that somebody is about to finish, or never did */
        }
        size_t len = (size_t)(end - text->data) - at;
        entries[n] = unescape(text->data + at, len);
        failed = entries[n] == NULL;
        n += !failed;
        at += len + 1;
    }
    if (failed) {
        hs_history_free(entries, n);
        return hs_error_nomem(err, "history");
    }
    *ret_entries = entries;
    *ret_n = n;
    return HS_OK;
}

hs_status hs_history_load(const char *path, char ***ret_entries, size_t *ret_n,
                          struct hs_error *err)
{
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(HS_HISTORY_MAX_BYTES);
    hs_status status = hs_fs_read(path, &text, err);
    if (status == HS_NOT_FOUND) {
        *ret_entries = NULL;
        *ret_n = 0;
        return HS_OK;
    }
    if (status) {
        return status;
    }
    size_t n_lines = count_lines(&text);
    size_t at = newest(&text, n_lines);
    if (n_lines > 2 * HS_HISTORY_MAX) {
        status = hs_fs_write_atomic(path, text.data + at, text.len - at, 0600, err);
    }
    return status ? status : parse(&text, at, ret_entries, ret_n, err);
}

static hs_status append_text(const char *path, const struct hs_buf *text, struct hs_error *err)
{
    HS_CLEANUP(hs_closep) int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return hs_error_errno(err, errno, "open", path);
    }
    if (fchmod(fd, 0600) != 0 || write(fd, text->data, text->len) != (ssize_t)text->len) {
        return hs_error_errno(err, errno, "write", path);
    }
    return HS_OK;
}

hs_status hs_history_append(const char *path, const char *entry, struct hs_error *err)
{
    if (strlen(entry) > HS_HISTORY_ENTRY_MAX) {
        return HS_OK;
    }
    struct hs_buf line HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(2 * HS_HISTORY_ENTRY_MAX + 1);
    if (escape(entry, &line)) {
        return hs_error_nomem(err, "history");
    }
    hs_status status = append_text(path, &line, NULL);
    if (status == HS_NOT_FOUND) {
        const char *slash = strrchr(path, '/');
        HS_CLEANUP(hs_freep)
        char *folder = slash ? hs_strndup(path, (size_t)(slash - path)) : hs_strdup(".");
        if (!folder) {
            return hs_error_nomem(err, "history");
        }
        status = hs_fs_mkdir_p(folder, err);
        return status ? status : append_text(path, &line, err);
    }
    return status ? append_text(path, &line, err) : HS_OK;
}
