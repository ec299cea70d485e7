/*
 * json_body.h - a request's body as JSON, with bounded nesting and errors that name the position.
 *
 * Errors:  HS_INVALID_ARGUMENT; the message names line and column and quotes nothing of the text.
 *          HS_LIMIT (nesting), HS_OUT_OF_MEMORY.
 * Threads: none.
 * Source:  RFC 8259; I-JSON (RFC 7493): no duplicate keys, no NUL characters.
 */
#ifndef HTTP_JSON_BODY_H
#define HTTP_JSON_BODY_H

#include <jansson.h>

#include "hyprstream.h"

/* Out: ret_json, an object. max_depth: arrays and objects inside each other, the outermost being 1.
 */
HS_CHECKED hs_status hs_http_json_parse(const char *text, size_t len, int max_depth,
                                        json_t **ret_json, struct hs_error *err);

#endif
