#include "target.h"

#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Decodes raw[len] to *out, which moves behind the NUL; a plus is a space in queries only. */
static hs_status decode(const char *raw, size_t len, bool is_query, char **out,
                        struct hs_error *err)
{
    char *begin = *out, *end = *out;
    for (size_t i = 0; i < len; i++) {
        char c = raw[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(raw[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_digit(raw[i + 2]);
            if (low < 0) {
                return hs_error_set(err, HS_INVALID_ARGUMENT,
                                    "the URL has a '%%' that no two hex digits follow");
            }
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && is_query) {
            c = ' ';
        }
        if (c == '\0') {
            return hs_error_set(err, HS_INVALID_ARGUMENT, "the URL has a NUL character");
        }
        *end++ = c;
    }
    if (!hs_utf8_valid(begin, (size_t)(end - begin))) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the URL is not valid UTF-8 when decoded");
    }
    *end++ = '\0';
    *out = end;
    return HS_OK;
}

static hs_status parse_path(const char *raw, size_t len, struct hs_http_target *target, char **out,
                            struct hs_error *err)
{
    target->path = *out;
    hs_status status = decode(raw, len, false, out, err);
    size_t i = 1; /* behind the first slash */
    while (status == HS_OK && i <= len) {
        size_t n = 0;
        while (i + n < len && raw[i + n] != '/') {
            n++;
        }
        if (target->n_segments == HS_HTTP_SEGMENTS_MAX) {
            return hs_error_set(err, HS_LIMIT, "the URL's path has more than %d parts",
                                HS_HTTP_SEGMENTS_MAX);
        }
        target->segments[target->n_segments++] = *out;
        status = decode(raw + i, n, false, out, err);
        i += n + 1;
    }
    return status;
}

/* The decoded path has the decoded segments in it, each behind one slash of the raw path. */
static void find_rests(struct hs_http_target *target)
{
    const char *rest = target->path + 1;
    for (size_t i = 0; i < target->n_segments; i++) {
        target->rests[i] = rest;
        rest += strlen(target->segments[i]) + 1;
    }
}

static hs_status parse_query(const char *raw, struct hs_http_target *target, char **out,
                             struct hs_error *err)
{
    while (*raw != '\0') {
        size_t len = strcspn(raw, "&");
        size_t name_len = strcspn(raw, "&=");
        if (len > 0) {
            if (target->n_query == HS_HTTP_QUERY_MAX) {
                return hs_error_set(err, HS_LIMIT, "the URL has more than %d parameters",
                                    HS_HTTP_QUERY_MAX);
            }
            size_t value_at = name_len < len ? name_len + 1 : len;
            target->query[target->n_query].name = *out;
            hs_status status = decode(raw, name_len, true, out, err);
            target->query[target->n_query].value = *out;
            if (status == HS_OK) {
                status = decode(raw + value_at, len - value_at, true, out, err);
            }
            if (status != HS_OK) {
                return status;
            }
            target->n_query++;
        }
        raw += len + (raw[len] == '&');
    }
    return HS_OK;
}

/* Behind scheme and authority of an absolute URL; NULL: it is neither that nor a path. */
static const char *skip_authority(const char *raw)
{
    if (raw[0] == '/' || strcmp(raw, "*") == 0) {
        return raw;
    }
    size_t scheme = strncasecmp(raw, "http://", 7) == 0    ? 7
                    : strncasecmp(raw, "https://", 8) == 0 ? 8
                                                           : 0;
    return scheme == 0 ? NULL : raw + scheme + strcspn(raw + scheme, "/?");
}

hs_status hs_http_target_parse(const char *raw, struct hs_http_target *ret, struct hs_error *err)
{
    struct hs_http_target target = {.n_segments = 0};
    const char *path = skip_authority(raw);
    if (path == NULL || path[strcspn(path, "# \t")] != '\0') {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the request line has no valid URL");
    }
    size_t path_len = strcspn(path, "?");
    const char *query = path[path_len] == '?' ? path + path_len + 1 : "";
    if (path_len == 0) {
        path = "/";
        path_len = 1;
    }
    /* Decoding never lengthens; the path is kept twice, and every part has a NUL. */
    target.text = hs_alloc(3 * (path_len + strlen(query)) + 16);
    if (target.text == NULL) {
        return hs_error_nomem(err, "the URL of a request");
    }
    char *out = target.text;
    hs_status status;
    if (path[0] == '*') {
        target.path = out;
        status = decode(path, path_len, false, &out, err);
    } else {
        status = parse_path(path, path_len, &target, &out, err);
    }
    if (status == HS_OK) {
        find_rests(&target);
        status = parse_query(query, &target, &out, err);
    }
    if (status != HS_OK) {
        hs_free(target.text);
        return status;
    }
    *ret = target;
    return HS_OK;
}

const char *hs_http_target_query(const struct hs_http_target *target, const char *name)
{
    for (size_t i = 0; i < target->n_query; i++) {
        if (strcmp(target->query[i].name, name) == 0) {
            return target->query[i].value;
        }
    }
    return NULL;
}

void hs_http_target_free(struct hs_http_target *target)
{
    hs_free(target->text);
    *target = (struct hs_http_target){.n_segments = 0};
}
