/*
 * schema_check.h - a JSON schema as llama-common's converter enforces it, or a refusal.
 *
 * The converter ignores what it does not know, warns of patterns on stderr, and mixes up
 * definitions whose names differ in punctuation only. So a schema is written anew here, in the part
 * of the language that it does enforce, and everything else is refused by keyword and place. What
 * is written may allow less than the schema, never more: objects have the properties that the
 * schema names, patterns are matched in whole, and texts and lists longer than HS_SCHEMA_REPEAT_MAX
 * are not made.
 *
 * Annotations pass (title, description, default, examples, unknown keywords, ...), as does "format"
 * but for date, time, date-time and uuid, which are enforced.
 *
 * Limits:  HS_SCHEMA_MAX_BYTES, HS_SCHEMA_DEPTH_MAX levels through references, HS_SCHEMA_NODES_MAX
 *          schemas, HS_SCHEMA_PROPERTIES_MAX properties of an object.
 * Threads: no state; any.
 * Source:  JSON Schema 2020-12 and drafts 4 to 7; common/json-schema.cpp and
 *          common/json-schema-to-grammar.cpp of the pinned llama.cpp.
 */
#ifndef INFERENCE_SCHEMA_CHECK_H
#define INFERENCE_SCHEMA_CHECK_H

#include <stdbool.h>

#include "hyprstream.h"

#define HS_SCHEMA_MAX_BYTES ((size_t)256 << 10)
#define HS_SCHEMA_DEPTH_MAX 64
#define HS_SCHEMA_NODES_MAX 5000
#define HS_SCHEMA_PROPERTIES_MAX 256
#define HS_SCHEMA_REPEAT_MAX 2000

struct hs_schema_use {
    bool is_lenient; /* what cannot be enforced is left out instead of refused */
    bool is_object;  /* it describes the parameters of a tool */
    int32_t number;  /* of the schema among those of one grammar */
};

/*
 * Out:    ret_schema, to be freed with hs_free.
 * Errors: HS_INVALID_ARGUMENT naming keyword and JSON pointer, HS_LIMIT, HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_schema_check(const char *schema, const struct hs_schema_use *use,
                                     char **ret_schema, struct hs_error *err);

#endif
