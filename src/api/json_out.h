/*
 * json_out.h - JSON for standard output, over jansson.
 *
 * Errors:  values are built with the hs_json_set_* functions; the first failure (HS_OUT_OF_MEMORY)
 * is kept by making the object NULL, and hs_json_print reports it. Owner:   hs_json_set takes over
 * its value; everything else is borrowed. Threads: none.
 */
#ifndef API_JSON_OUT_H
#define API_JSON_OUT_H

#include <jansson.h>

#include "api/command.h"
#include "base/mem.h"

void hs_json_freep(json_t **json); /* for HS_CLEANUP */

/* Text as a JSON string, bytes that are no UTF-8 as U+FFFD; NULL gives null. */
json_t *hs_json_text(const char *text);
/* *object is released and NULL after a failure; NULL objects and values are failures. */
void hs_json_set(json_t **object, const char *key, json_t *value);
void hs_json_append(json_t **array, json_t *value);

/* Append the text of a value and a newline. HS_OUT_OF_MEMORY, HS_LIMIT. */
HS_CHECKED hs_status hs_json_dump(const json_t *json, bool compact, struct hs_buf *text);
/* One object or array and a newline to standard output; `compact`: on one line. */
HS_CHECKED hs_status hs_json_print(const struct hs_command_io *io, const json_t *json, bool compact,
                                   struct hs_error *err);

/* HS_INVALID_ARGUMENT when both --names and --json were given: each is a whole format. */
HS_CHECKED hs_status hs_names_check(const struct hs_command_args *args, struct hs_error *err);

#endif
