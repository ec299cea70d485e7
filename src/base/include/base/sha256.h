/* sha256.h - SHA-256 (FIPS 180-4) over libcrypto. Threads: one hash object by one thread at a time.
 */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include "hyprstream.h"

typedef struct hs_sha256 hs_sha256;

HS_CHECKED hs_status hs_sha256_new(hs_sha256 **ret_hash, struct hs_error *err);
HS_CHECKED hs_status hs_sha256_update(hs_sha256 *hash, const void *data, size_t len);
/* Out: 64 lower-case hex digits and a NUL. The object can only be freed afterwards. */
HS_CHECKED hs_status hs_sha256_final(hs_sha256 *hash, char ret_hex[65]);
void hs_sha256_free(hs_sha256 *hash);
/* Hash of a text. */
HS_CHECKED hs_status hs_sha256_text(const char *text, char ret_hex[65], struct hs_error *err);
/* Hash of a whole file; progress may be NULL, returning false gives HS_CANCELLED. */
HS_CHECKED hs_status hs_sha256_file(const char *path, hs_progress_fn progress, void *user,
                                    char ret_hex[65], struct hs_error *err);

#endif
