/*
 * fuzz_schema.c - libFuzzer target of JSON schemas: any bytes are refused with a message, or give a
 * schema that is taken again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "schema_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hs_status check(const char *text, bool is_lenient, char **ret_schema)
{
    struct hs_schema_use use = {.is_lenient = is_lenient, .is_object = is_lenient};
    struct hs_error err = {.message = ""};
    hs_status status = hs_schema_check(text, &use, ret_schema, &err);
    if (status != HS_OK && (err.message[0] == '\0' || *ret_schema != NULL)) {
        abort();
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = hs_strndup((const char *)data, size);
    if (text == NULL) {
        return 0;
    }
    char *strict = NULL;
    char *lenient = NULL;
    char *again = NULL;
    hs_status status = check(text, false, &strict);
    if (check(text, true, &lenient) != HS_OK && status == HS_OK) {
        abort();
    }
    /* Patterns are written in the converter's own escapes. */
    if (status == HS_OK && !strstr(strict, "\"pattern\"") &&
        strlen(strict) <= HS_SCHEMA_MAX_BYTES) {
        status = check(strict, false, &again);
        if (status != HS_OK && status != HS_LIMIT) {
            abort();
        }
    }
    hs_free(strict);
    hs_free(lenient);
    hs_free(again);
    hs_free(text);
    return 0;
}
