#include "json_body.h"

#include <string.h>

#include "base/error.h"

/* jansson's own limit is fixed at 2048 levels, so nesting is counted before it parses. */
static hs_status check_depth(const char *text, size_t len, int max_depth, struct hs_error *err)
{
    int depth = 0, line = 1;
    bool is_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        line += c == '\n';
        if (is_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                is_string = false;
            }
        } else if (c == '"') {
            is_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > max_depth) {
                return hs_error_set(err, HS_LIMIT,
                                    "the body has more than %d arrays and objects inside each "
                                    "other (line %d)",
                                    max_depth, line);
            }
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return HS_OK;
}

/* jansson's texts quote the input, which may be cut inside a code point. */
static const char *reason(const json_error_t *why)
{
    switch (json_error_code(why)) {
    case json_error_invalid_utf8:
        return "it is not valid UTF-8";
    case json_error_premature_end_of_input:
        return "it ends too early";
    case json_error_end_of_input_expected:
        return "there is text behind its end";
    case json_error_duplicate_key:
        return "an object has the same key twice";
    case json_error_numeric_overflow:
        return "a number is out of range";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "\\u0000 is not allowed";
    default:
        return "a value, a comma, a colon or a bracket is missing or misplaced";
    }
}

hs_status hs_http_json_parse(const char *text, size_t len, int max_depth, json_t **ret_json,
                             struct hs_error *err)
{
    if (len == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "the body is empty; it must be a JSON object");
    }
    hs_status status = check_depth(text, len, max_depth, err);
    if (status != HS_OK) {
        return status;
    }
    json_error_t why;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (json == NULL && json_error_code(&why) == json_error_out_of_memory) {
        return hs_error_nomem(err, "the body of a request");
    }
    if (json == NULL) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "the body is no valid JSON: %s (line %d, column %d)", reason(&why),
                            why.line, why.column);
    }
    if (!json_is_object(json)) {
        json_decref(json);
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the body must be a JSON object");
    }
    *ret_json = json;
    return HS_OK;
}
