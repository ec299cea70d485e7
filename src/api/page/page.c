#include "page.h"

#include <string.h>
#include <strings.h>

#define POLICY                                                                                     \
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "                \
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "          \
    "require-trusted-types-for 'script'; trusted-types 'none'"

static const struct hs_page_file *find(const char *name)
{
    for (size_t i = 0; i < hs_page_n_files; i++) {
        if (name == NULL || strcmp(hs_page_files[i].name, name) == 0) {
            return &hs_page_files[i];
        }
    }
    return NULL;
}

/* Whether the client has the file already. A tag that another server weakened counts as well. */
static bool has_tag(const char *if_none_match, const char *etag)
{
    return if_none_match != NULL &&
           (strcmp(if_none_match, "*") == 0 || strstr(if_none_match, etag) != NULL);
}

/* "gzip", "deflate, GZIP;q=0.5", but not "gzip;q=0" nor "xgzip". */
static bool takes_gzip(const char *accept)
{
    static const char name[] = "gzip";
    for (const char *at = accept; at != NULL && *at != '\0'; at += *at == ',') {
        at += strspn(at, " \t");
        if (strncasecmp(at, name, sizeof name - 1) == 0) {
            at += sizeof name - 1;
            bool is_whole = strchr(" \t;,", *at) != NULL;
            at += strspn(at, " \t;");
            bool is_never = strncasecmp(at, "q=0", 3) == 0 && at[2 + strspn(at + 2, "0.")] < '0';
            if (is_whole) {
                return !is_never;
            }
        }
        at += strcspn(at, ",");
    }
    return false;
}

void hs_page_get(hs_http_request *request, void *user)
{
    (void)user;
    const struct hs_page_file *file = find(hs_http_request_param(request, "file"));
    if (file == NULL) {
        hs_http_respond_error(request, &(struct hs_http_error){
                                           .status = 404,
                                           .code = "not_found",
                                           .message = "the page has no file of this name",
                                       });
        return;
    }
    hs_http_set_header(request, "Content-Security-Policy", POLICY);
    hs_http_set_header(request, "Cache-Control", "no-cache");
    hs_http_set_header(request, "Vary", "Accept-Encoding");
    bool is_gzip = takes_gzip(hs_http_request_header(request, "Accept-Encoding"));
    const char *etag = is_gzip ? file->gzip_etag : file->etag;
    hs_http_set_header(request, "ETag", etag);
    if (is_gzip) {
        hs_http_set_header(request, "Content-Encoding", "gzip");
    }
    bool is_known = has_tag(hs_http_request_header(request, "If-None-Match"), etag);
    /* a 304 has the length of the body that it stands for */
    hs_http_respond_static(request, is_known ? 304 : 200, file->content_type,
                           is_gzip ? file->gzip : file->data, is_gzip ? file->gzip_len : file->len);
}
