/*
 * session_store_params.c - the params object of a session.json: struct hs_generate_params from one
 * table of fields.
 *
 * What belongs to a single request (deadline_ms, n_logprobs, stream_capacity) is not kept and reads
 * as zero; overflow is the session's own.
 */
#include "session_store_internal.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

enum kind { KIND_I32, KIND_U32, KIND_FLOAT, KIND_BOOL, KIND_TEXT, KIND_TEXTS };

struct field {
    const char *key;
    enum kind kind;
    size_t offset;
    size_t count_offset; /* of KIND_TEXTS */
};

#define FIELD(key, kind, member)                                                                   \
    {                                                                                              \
        key, kind, offsetof(struct hs_generate_params, member), 0                                  \
    }
#define SAMPLING(kind, member) FIELD(#member, kind, sampling.member)

static const struct field FIELDS[] = {
    FIELD("max_tokens", KIND_I32, max_tokens),
    FIELD("ignore_eos", KIND_BOOL, ignore_eos),
    FIELD("enable_thinking", KIND_BOOL, enable_thinking),
    FIELD("split_reasoning", KIND_BOOL, split_reasoning),
    FIELD("cache_prompt", KIND_BOOL, cache_prompt),
    {"stop", KIND_TEXTS, offsetof(struct hs_generate_params, stop),
     offsetof(struct hs_generate_params, n_stop)},
    SAMPLING(KIND_U32, seed),
    SAMPLING(KIND_FLOAT, temp),
    SAMPLING(KIND_FLOAT, dynatemp_range),
    SAMPLING(KIND_FLOAT, dynatemp_exponent),
    SAMPLING(KIND_I32, top_k),
    SAMPLING(KIND_FLOAT, top_p),
    SAMPLING(KIND_FLOAT, min_p),
    SAMPLING(KIND_FLOAT, typical_p),
    SAMPLING(KIND_FLOAT, top_n_sigma),
    SAMPLING(KIND_FLOAT, xtc_probability),
    SAMPLING(KIND_FLOAT, xtc_threshold),
    SAMPLING(KIND_FLOAT, repeat_penalty),
    SAMPLING(KIND_FLOAT, frequency_penalty),
    SAMPLING(KIND_FLOAT, presence_penalty),
    SAMPLING(KIND_I32, repeat_last_n),
    SAMPLING(KIND_FLOAT, dry_multiplier),
    SAMPLING(KIND_FLOAT, dry_base),
    SAMPLING(KIND_I32, dry_allowed_length),
    SAMPLING(KIND_I32, dry_penalty_last_n),
    {"dry_breakers", KIND_TEXTS, offsetof(struct hs_generate_params, sampling.dry_breakers),
     offsetof(struct hs_generate_params, sampling.n_dry_breakers)},
    SAMPLING(KIND_I32, mirostat),
    SAMPLING(KIND_FLOAT, mirostat_tau),
    SAMPLING(KIND_FLOAT, mirostat_eta),
    SAMPLING(KIND_FLOAT, adaptive_target),
    SAMPLING(KIND_FLOAT, adaptive_decay),
    SAMPLING(KIND_TEXT, samplers),
    SAMPLING(KIND_TEXT, grammar),
    SAMPLING(KIND_TEXT, grammar_root),
};
enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

/* The list of [token, value] pairs; two arrays of the struct make one of the file. */
static const char BIAS_KEY[] = "logit_bias";

static void *member_of(struct hs_generate_params *params, size_t offset)
{
    return (char *)params + offset;
}

static const void *const_member_of(const struct hs_generate_params *params, size_t offset)
{
    return (const char *)params + offset;
}

static void texts_free(const char *const *texts, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        hs_free((char *)texts[i]);
    hs_free((void *)texts);
}

void hs_session_params_free(struct hs_generate_params *params)
{
    if (params == NULL)
        return;
    for (size_t i = 0; i < N_FIELDS; i++) {
        const struct field *field = &FIELDS[i];
        void *member = member_of(params, field->offset);
        if (field->kind == KIND_TEXT)
            hs_free((char *)*(const char **)member);
        else if (field->kind == KIND_TEXTS)
            texts_free(*(const char *const **)member,
                       *(int32_t *)member_of(params, field->count_offset));
    }
    hs_free((int32_t *)params->sampling.logit_bias_tokens);
    hs_free((float *)params->sampling.logit_bias_values);
    hs_free(params);
}

/* ---- reading ---- */

static hs_status corrupt(struct hs_error *err, const char *key)
{
    hs_error_set(err, HS_CORRUPT,
                 "session.json is damaged: \"%s\" in \"params\" is missing or of a wrong type",
                 key);
    hs_error_hint(err,
                  "repair the file by hand, or remove the session with `hyprstream session rm`");
    return HS_CORRUPT;
}

static hs_status parse_text(const json_t *value, const char *key, const char **ret_text,
                            struct hs_error *err)
{
    if (!json_is_string(value))
        return corrupt(err, key);
    char *text = hs_strndup(json_string_value(value), json_string_length(value));
    if (text == NULL)
        return hs_error_nomem(err, "parameters of a session");
    *ret_text = text;
    return HS_OK;
}

/* Missing: NULL and 0, which for these fields means a default of its own. */
static hs_status parse_texts(const json_t *value, const char *key, const char *const **ret_texts,
                             int32_t *ret_n, struct hs_error *err)
{
    if (value == NULL)
        return HS_OK;
    size_t n = json_array_size(value);
    if (!json_is_array(value) || n > INT32_MAX)
        return corrupt(err, key);
    const char **texts = hs_calloc(n, sizeof *texts);
    if (texts == NULL)
        return hs_error_nomem(err, "parameters of a session");
    *ret_texts = texts;
    *ret_n = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        hs_status status = parse_text(json_array_get(value, i), key, &texts[i], err);
        if (status != HS_OK)
            return status;
    }
    return HS_OK;
}

static hs_status parse_number(const json_t *value, const struct field *field, void *member,
                              struct hs_error *err)
{
    json_int_t integer = json_integer_value(value);
    double real = json_number_value(value);
    if (field->kind == KIND_I32 && json_is_integer(value) && integer >= INT32_MIN &&
        integer <= INT32_MAX)
        *(int32_t *)member = (int32_t)integer;
    else if (field->kind == KIND_U32 && json_is_integer(value) && integer >= 0 &&
             integer <= UINT32_MAX)
        *(uint32_t *)member = (uint32_t)integer;
    else if (field->kind == KIND_FLOAT && json_is_number(value) && isfinite((float)real))
        *(float *)member = (float)real;
    else if (field->kind == KIND_BOOL && json_is_boolean(value))
        *(bool *)member = json_is_true(value);
    else
        return corrupt(err, field->key);
    return HS_OK;
}

static hs_status parse_bias(const json_t *list, struct hs_sampling *sampling, struct hs_error *err)
{
    if (list == NULL)
        return HS_OK;
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > INT32_MAX)
        return corrupt(err, BIAS_KEY);
    int32_t *tokens = hs_calloc(n, sizeof *tokens);
    float *values = hs_calloc(n, sizeof *values);
    sampling->logit_bias_tokens = tokens;
    sampling->logit_bias_values = values;
    if (tokens == NULL || values == NULL)
        return hs_error_nomem(err, "parameters of a session");
    sampling->n_logit_bias = (int32_t)n;
    static const struct field TOKEN = {BIAS_KEY, KIND_I32, 0, 0};
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        const json_t *value = json_array_get(pair, 1);
        hs_status status = parse_number(json_array_get(pair, 0), &TOKEN, &tokens[i], err);
        if (status != HS_OK)
            return status;
        /* Minus infinity, a usual way to forbid a token, is no JSON number: null stands for it. */
        if (json_is_null(value))
            values[i] = -INFINITY;
        else if (json_is_number(value) && isfinite((float)json_number_value(value)))
            values[i] = (float)json_number_value(value);
        else
            return corrupt(err, BIAS_KEY);
    }
    return HS_OK;
}

static hs_status parse_field(const json_t *object, const struct field *field,
                             struct hs_generate_params *params, struct hs_error *err)
{
    const json_t *value = json_object_get(object, field->key);
    void *member = member_of(params, field->offset);
    switch (field->kind) {
    case KIND_TEXT:
        if (value == NULL)
            return HS_OK;
        return parse_text(value, field->key, member, err);
    case KIND_TEXTS:
        return parse_texts(value, field->key, member, member_of(params, field->count_offset), err);
    default:
        return parse_number(value, field, member, err);
    }
}

hs_status hs_session_params_parse(json_t *object, struct hs_generate_params **ret_params,
                                  struct hs_error *err)
{
    if (!json_is_object(object))
        return corrupt(err, "params");
    struct hs_generate_params *params = hs_calloc(1, sizeof *params);
    if (params == NULL)
        return hs_error_nomem(err, "parameters of a session");
    hs_status status = HS_OK;
    for (size_t i = 0; status == HS_OK && i < N_FIELDS; i++)
        status = parse_field(object, &FIELDS[i], params, err);
    if (status == HS_OK)
        status = parse_bias(json_object_get(object, BIAS_KEY), &params->sampling, err);
    if (status != HS_OK) {
        hs_session_params_free(params);
        return status;
    }
    *ret_params = params;
    return HS_OK;
}

/* ---- copying and writing ---- */

static hs_status invalid(struct hs_error *err, const char *key)
{
    return hs_error_set(err, HS_INVALID_ARGUMENT,
                        "a session's parameter \"%s\" cannot be saved: "
                        "it is not finite, missing or not valid UTF-8",
                        key);
}

static hs_status copy_text(const char *text, const char *key, const char **ret_copy,
                           struct hs_error *err)
{
    if (text == NULL || !hs_utf8_valid(text, strlen(text)))
        return invalid(err, key);
    *ret_copy = hs_strdup(text);
    return *ret_copy != NULL ? HS_OK : hs_error_nomem(err, "parameters of a session");
}

static hs_status copy_texts(const char *const *texts, int32_t n, const char *key,
                            const char *const **ret_copies, int32_t *ret_n, struct hs_error *err)
{
    const char **copies = n < 0 ? NULL : hs_calloc((size_t)n, sizeof *copies);
    if (copies == NULL)
        return n < 0 ? invalid(err, key) : hs_error_nomem(err, "parameters of a session");
    *ret_copies = copies;
    *ret_n = n;
    for (int32_t i = 0; i < n; i++) {
        hs_status status = copy_text(texts[i], key, &copies[i], err);
        if (status != HS_OK)
            return status;
    }
    return HS_OK;
}

static bool is_unset(const struct hs_generate_params *params, const struct field *field)
{
    const void *member = const_member_of(params, field->offset);
    return (field->kind == KIND_TEXT && *(const char *const *)member == NULL) ||
           (field->kind == KIND_TEXTS && *(const char *const *const *)member == NULL);
}

static hs_status copy_field(const struct hs_generate_params *params, const struct field *field,
                            struct hs_generate_params *copy, struct hs_error *err)
{
    const void *from = const_member_of(params, field->offset);
    void *to = member_of(copy, field->offset);
    if (is_unset(params, field))
        return HS_OK;
    switch (field->kind) {
    case KIND_I32:
        *(int32_t *)to = *(const int32_t *)from;
        return HS_OK;
    case KIND_U32:
        *(uint32_t *)to = *(const uint32_t *)from;
        return HS_OK;
    case KIND_BOOL:
        *(bool *)to = *(const bool *)from;
        return HS_OK;
    case KIND_FLOAT:
        *(float *)to = *(const float *)from;
        return isfinite(*(const float *)from) ? HS_OK : invalid(err, field->key);
    case KIND_TEXT:
        return copy_text(*(const char *const *)from, field->key, to, err);
    case KIND_TEXTS:
        return copy_texts(*(const char *const *const *)from,
                          *(const int32_t *)const_member_of(params, field->count_offset),
                          field->key, to, member_of(copy, field->count_offset), err);
    }
    return invalid(err, field->key);
}

static hs_status copy_bias(const struct hs_sampling *from, struct hs_sampling *to,
                           struct hs_error *err)
{
    if (from->n_logit_bias <= 0)
        return HS_OK;
    size_t n = (size_t)from->n_logit_bias;
    int32_t *tokens = hs_calloc(n, sizeof *tokens);
    float *values = hs_calloc(n, sizeof *values);
    to->logit_bias_tokens = tokens;
    to->logit_bias_values = values;
    if (tokens == NULL || values == NULL)
        return hs_error_nomem(err, "parameters of a session");
    to->n_logit_bias = from->n_logit_bias;
    for (size_t i = 0; i < n; i++) {
        float bias = from->logit_bias_values[i];
        if (isnan(bias) || (isinf(bias) && bias > 0))
            return invalid(err, BIAS_KEY);
        tokens[i] = from->logit_bias_tokens[i];
        values[i] = bias;
    }
    return HS_OK;
}

hs_status hs_session_params_copy(const struct hs_generate_params *params,
                                 struct hs_generate_params **ret_copy, struct hs_error *err)
{
    struct hs_generate_params *copy = hs_calloc(1, sizeof *copy);
    if (copy == NULL)
        return hs_error_nomem(err, "parameters of a session");
    hs_status status = HS_OK;
    for (size_t i = 0; status == HS_OK && i < N_FIELDS; i++)
        status = copy_field(params, &FIELDS[i], copy, err);
    if (status == HS_OK)
        status = copy_bias(&params->sampling, &copy->sampling, err);
    if (status != HS_OK) {
        hs_session_params_free(copy);
        return status;
    }
    *ret_copy = copy;
    return HS_OK;
}

static hs_status format_text(const char *text, const char *key, json_t **ret_value,
                             struct hs_error *err)
{
    if (text == NULL || !hs_utf8_valid(text, strlen(text)))
        return invalid(err, key);
    *ret_value = json_string(text);
    return HS_OK;
}

static hs_status format_texts(const char *const *texts, int32_t n, const char *key,
                              json_t **ret_value, struct hs_error *err)
{
    json_t *list = json_array();
    for (int32_t i = 0; list != NULL && i < n; i++) {
        json_t *item = NULL;
        hs_status status = format_text(texts[i], key, &item, err);
        if (status != HS_OK) {
            json_decref(list);
            return status;
        }
        if (json_array_append_new(list, item) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    *ret_value = list;
    return HS_OK;
}

/* ret_value NULL on HS_OK: no memory, which the caller notices when it adds it. */
static hs_status format_field(const struct hs_generate_params *params, const struct field *field,
                              json_t **ret_value, struct hs_error *err)
{
    const void *member = const_member_of(params, field->offset);
    switch (field->kind) {
    case KIND_I32:
        *ret_value = json_integer(*(const int32_t *)member);
        return HS_OK;
    case KIND_U32:
        *ret_value = json_integer(*(const uint32_t *)member);
        return HS_OK;
    case KIND_BOOL:
        *ret_value = json_boolean(*(const bool *)member);
        return HS_OK;
    case KIND_FLOAT:
        if (!isfinite(*(const float *)member))
            return invalid(err, field->key);
        *ret_value = json_real((double)*(const float *)member);
        return HS_OK;
    case KIND_TEXT:
        return format_text(*(const char *const *)member, field->key, ret_value, err);
    case KIND_TEXTS:
        return format_texts(*(const char *const *const *)member,
                            *(const int32_t *)const_member_of(params, field->count_offset),
                            field->key, ret_value, err);
    }
    return invalid(err, field->key);
}

static hs_status format_bias(const struct hs_sampling *sampling, json_t *object,
                             struct hs_error *err)
{
    json_t *list = json_array();
    if (json_object_set_new(object, BIAS_KEY, list) != 0)
        return hs_error_nomem(err, "parameters of a session");
    for (int32_t i = 0; i < sampling->n_logit_bias; i++) {
        float bias = sampling->logit_bias_values[i];
        if (isnan(bias) || (isinf(bias) && bias > 0))
            return invalid(err, BIAS_KEY);
        json_t *pair = json_array();
        if (json_array_append_new(list, pair) != 0 ||
            json_array_append_new(pair, json_integer(sampling->logit_bias_tokens[i])) != 0 ||
            json_array_append_new(pair, isinf(bias) ? json_null() : json_real((double)bias)) != 0)
            return hs_error_nomem(err, "parameters of a session");
    }
    return HS_OK;
}

static hs_status format_all(const struct hs_generate_params *params, json_t *object,
                            struct hs_error *err)
{
    for (size_t i = 0; i < N_FIELDS; i++) {
        if (is_unset(params, &FIELDS[i]))
            continue;
        json_t *value = NULL;
        hs_status status = format_field(params, &FIELDS[i], &value, err);
        if (status != HS_OK)
            return status;
        if (json_object_set_new(object, FIELDS[i].key, value) != 0)
            return hs_error_nomem(err, "parameters of a session");
    }
    if (params->sampling.n_logit_bias > 0)
        return format_bias(&params->sampling, object, err);
    return HS_OK;
}

hs_status hs_session_params_format(const struct hs_generate_params *params, json_t **ret_object,
                                   struct hs_error *err)
{
    json_t *object = json_object();
    if (object == NULL)
        return hs_error_nomem(err, "parameters of a session");
    hs_status status = format_all(params, object, err);
    if (status != HS_OK) {
        json_decref(object);
        return status;
    }
    *ret_object = object;
    return HS_OK;
}
