/*
 * fields.h - the fields of a request's JSON: read with type and range, or refused by name.
 *
 * Every reader leaves *value as it is when the field is absent or null, and returns false after it
 * answered the request with 400 about the field; the handler then just returns. Unknown fields are
 * nobody's business.
 *
 * Owner:   strings and objects read are borrowed from the request.
 * Threads: those of the request's handler.
 */
#ifndef API_FIELDS_H
#define API_FIELDS_H

#include "api/http.h"

struct hs_fields {
    hs_http_request *request;
    const json_t *object;
    const char *path; /* what stands before a field's name in errors: "", "stream_options." */
};

/* The value, NULL when it is absent or null. */
const json_t *hs_field_get(const struct hs_fields *fields, const char *name);
/* 400 about the field; returns false. */
bool hs_field_refuse(const struct hs_fields *fields, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bool hs_field_bool(const struct hs_fields *fields, const char *name, bool *value);
bool hs_field_int(const struct hs_fields *fields, const char *name, int64_t min, int64_t max,
                  int64_t *value);
bool hs_field_float(const struct hs_fields *fields, const char *name, double min, double max,
                    float *value);
bool hs_field_string(const struct hs_fields *fields, const char *name, const char **value);
/* An object's fields under their own path; ret->object NULL: absent. path[size] holds its path. */
bool hs_field_object(const struct hs_fields *fields, const char *name, char *path, size_t size,
                     struct hs_fields *ret);

/* The token number that a list holds there; -1: it is none from 0 to n_vocab - 1. */
int32_t hs_field_token(const json_t *item, int32_t n_vocab);

/* A field that is known but not there yet. It passes when it says nothing: null, false, 0, "", [],
 * {}, or one of the words. */
struct hs_unsupported_field {
    const char *name;
    const char *words; /* space-separated strings that ask for nothing; NULL: none */
};
bool hs_fields_refuse_unsupported(const struct hs_fields *fields,
                                  const struct hs_unsupported_field *rows, size_t n_rows);

#endif
