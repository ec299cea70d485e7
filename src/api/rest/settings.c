#include "settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/command.h"
#include "base/error.h"
#include "base/mem.h"
#include "lora.h"

/* ---- numbers ---- */

#define FIELD(name) offsetof(struct hs_sampling, name)
#define BIG 1048576

static const struct {
    const char *name;
    size_t offset;
    double min, max;
} float_rows[] = {
    {"temperature", FIELD(temp), 0, 100},
    {"dynatemp_range", FIELD(dynatemp_range), 0, 100},
    {"dynatemp_exponent", FIELD(dynatemp_exponent), 0, 100},
    {"top_p", FIELD(top_p), 0, 1},
    {"min_p", FIELD(min_p), 0, 1},
    {"typical_p", FIELD(typical_p), 0, 1},
    {"top_n_sigma", FIELD(top_n_sigma), -1, 1000},
    {"xtc_probability", FIELD(xtc_probability), 0, 1},
    {"xtc_threshold", FIELD(xtc_threshold), 0, 1},
    {"repeat_penalty", FIELD(repeat_penalty), 0.01, 100},
    {"frequency_penalty", FIELD(frequency_penalty), -2, 2},
    {"presence_penalty", FIELD(presence_penalty), -2, 2},
    {"dry_multiplier", FIELD(dry_multiplier), 0, 100},
    {"dry_base", FIELD(dry_base), 0, 100},
    {"mirostat_tau", FIELD(mirostat_tau), 0, 100},
    {"mirostat_eta", FIELD(mirostat_eta), 0, 10},
    {"adaptive_target", FIELD(adaptive_target), -1, 1},
    {"adaptive_decay", FIELD(adaptive_decay), 0, 0.99},
};

static const struct {
    const char *name;
    size_t offset;
    int32_t min, max;
} int_rows[] = {
    {"top_k", FIELD(top_k), -1, BIG},
    {"repeat_last_n", FIELD(repeat_last_n), -1, BIG},
    {"dry_allowed_length", FIELD(dry_allowed_length), 0, BIG},
    {"dry_penalty_last_n", FIELD(dry_penalty_last_n), -1, BIG},
    {"mirostat", FIELD(mirostat), 0, 2},
};

static bool read_numbers(const struct hs_fields *fields, struct hs_sampling *sampling)
{
    char *base = (char *)sampling;
    for (size_t i = 0; i < sizeof float_rows / sizeof float_rows[0]; i++) {
        float value;
        memcpy(&value, base + float_rows[i].offset, sizeof value);
        if (!hs_field_float(fields, float_rows[i].name, float_rows[i].min, float_rows[i].max,
                            &value)) {
            return false;
        }
        memcpy(base + float_rows[i].offset, &value, sizeof value);
    }
    for (size_t i = 0; i < sizeof int_rows / sizeof int_rows[0]; i++) {
        int32_t value;
        memcpy(&value, base + int_rows[i].offset, sizeof value);
        int64_t number = value;
        if (!hs_field_int(fields, int_rows[i].name, int_rows[i].min, int_rows[i].max, &number)) {
            return false;
        }
        value = (int32_t)number;
        memcpy(base + int_rows[i].offset, &value, sizeof value);
    }
    return true;
}

/* Seeds of clients have 64 bits; the engine's have 32, of which one value means "any". */
static bool read_seed(const struct hs_fields *fields, struct hs_sampling *sampling)
{
    int64_t seed = -1;
    if (!hs_field_int(fields, "seed", INT64_MIN, INT64_MAX, &seed)) {
        return false;
    }
    if (hs_field_get(fields, "seed") != NULL) {
        uint64_t bits = (uint64_t)seed;
        uint32_t folded = (uint32_t)(bits ^ (bits >> 32));
        folded = folded == HS_SEED_RANDOM ? HS_SEED_RANDOM - 1 : folded;
        sampling->seed = seed == -1 ? HS_SEED_RANDOM : folded;
    }
    return true;
}

/* The later name wins, as clients that send both mean max_completion_tokens. */
static bool read_lengths(const struct hs_rest *rest, const struct hs_fields *fields,
                         struct hs_rest_settings *ret)
{
    static const char *const names[] = {"n_predict", "max_tokens", "max_completion_tokens"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int64_t max_tokens = ret->params.max_tokens;
        if (!hs_field_int(fields, names[i], -1, INT32_MAX, &max_tokens)) {
            return false;
        }
        if (hs_field_get(fields, names[i]) != NULL && max_tokens == 0) {
            return hs_field_refuse(fields, names[i], "must be at least 1, or -1 for no limit");
        }
        ret->params.max_tokens = (int32_t)max_tokens;
    }
    int64_t n = 1;
    if (!hs_field_int(fields, "n", 1, rest->max_choices, &n)) {
        return false;
    }
    ret->n = (int32_t)n;
    return true;
}

/* ---- lists ---- */

static bool no_memory(const struct hs_fields *fields)
{
    struct hs_error err;
    hs_error_nomem(&err, "request fields");
    hs_rest_respond_failure(fields->request, &err, NULL);
    return false;
}

/* A string (when one may stand alone) or an array of at most `max`, none of them empty. */
static bool read_strings(const struct hs_fields *fields, const char *name, bool may_be_one,
                         size_t max, const char ***ret_items, size_t *ret_n)
{
    const json_t *json = hs_field_get(fields, name);
    *ret_n = 0;
    if (json == NULL) {
        return true;
    }
    bool is_one = may_be_one && json_is_string(json);
    if (!is_one && !json_is_array(json)) {
        return hs_field_refuse(fields, name, "must be %san array of strings",
                               may_be_one ? "a string or " : "");
    }
    size_t n = is_one ? 1 : json_array_size(json);
    if (n > max) {
        return hs_field_refuse(fields, name, "has %zu strings; at most %zu are allowed", n, max);
    }
    const char **items = hs_calloc(n + 1, sizeof *items);
    if (items == NULL) {
        return no_memory(fields);
    }
    *ret_items = items;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = is_one ? json : json_array_get(json, i);
        size_t len = json_is_string(item) ? json_string_length(item) : 0;
        if (len == 0 || len > HS_REST_STOP_BYTES_MAX) {
            return hs_field_refuse(fields, name, "must hold strings of 1 to %d bytes",
                                   HS_REST_STOP_BYTES_MAX);
        }
        items[i] = json_string_value(item);
    }
    *ret_n = n;
    return true;
}

static bool read_samplers(const struct hs_fields *fields, struct hs_rest_settings *ret)
{
    const char **names HS_CLEANUP(hs_freep) = NULL;
    size_t n = 0;
    if (!read_strings(fields, "samplers", false, HS_REST_STOP_MAX, &names, &n)) {
        return false;
    }
    struct hs_buf text HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 20);
    hs_status status = HS_OK;
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        status = hs_buf_printf(&text, "%s%s", i == 0 ? "" : ";", names[i]);
    }
    if (n > 0 && status == HS_OK) {
        status = hs_buf_take(&text, &ret->samplers, NULL);
        ret->params.sampling.samplers = ret->samplers;
    }
    return status == HS_OK || no_memory(fields);
}

static bool read_token(const struct hs_fields *fields, const char *text, int32_t n_vocab,
                       int32_t *ret_token)
{
    char *end = NULL;
    errno = 0;
    long token = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || token >= n_vocab) {
        return hs_field_refuse(fields, "logit_bias",
                               "has a key that is no token number from 0 to %d", (int)n_vocab - 1);
    }
    *ret_token = (int32_t)token;
    return true;
}

static bool read_biases(const struct hs_fields *fields, int32_t n_vocab,
                        struct hs_rest_settings *ret)
{
    const json_t *json = hs_field_get(fields, "logit_bias");
    if (json == NULL) {
        return true;
    }
    if (!json_is_object(json)) {
        return hs_field_refuse(fields, "logit_bias", "must be an object of token numbers");
    }
    size_t n = json_object_size(json);
    if (n > HS_REST_BIAS_MAX) {
        return hs_field_refuse(fields, "logit_bias", "has %zu entries; at most %d are allowed", n,
                               HS_REST_BIAS_MAX);
    }
    ret->bias_tokens = hs_calloc(n + 1, sizeof ret->bias_tokens[0]);
    ret->bias_values = hs_calloc(n + 1, sizeof ret->bias_values[0]);
    if (ret->bias_tokens == NULL || ret->bias_values == NULL) {
        return no_memory(fields);
    }
    size_t i = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json, key, value)
    {
        double bias = json_number_value(value);
        if (!json_is_number(value) || !(bias >= -100 && bias <= 100)) {
            return hs_field_refuse(fields, "logit_bias", "must hold numbers from -100 to 100");
        }
        if (!read_token(fields, key, n_vocab, &ret->bias_tokens[i])) {
            return false;
        }
        ret->bias_values[i++] = (float)bias;
    }
    ret->params.sampling.logit_bias_tokens = ret->bias_tokens;
    ret->params.sampling.logit_bias_values = ret->bias_values;
    ret->params.sampling.n_logit_bias = (int32_t)n;
    return true;
}

bool hs_rest_settings_read_stop(const struct hs_fields *fields, const char *name, bool may_be_one,
                                struct hs_rest_settings *ret)
{
    size_t n = 0;
    if (!read_strings(fields, name, may_be_one, (size_t)ret->rest->max_stop, &ret->stop, &n)) {
        return false;
    }
    if (ret->stop != NULL) {
        ret->params.stop = ret->stop;
        ret->params.n_stop = (int32_t)n;
    }
    return true;
}

static bool read_lists(const struct hs_fields *fields, struct hs_rest_settings *ret)
{
    size_t n = 0;
    if (!read_strings(fields, "dry_sequence_breakers", false, HS_REST_STOP_MAX, &ret->breakers,
                      &n)) {
        return false;
    }
    if (ret->breakers != NULL) {
        ret->params.sampling.dry_breakers = ret->breakers;
        ret->params.sampling.n_dry_breakers = (int32_t)n;
    }
    return read_samplers(fields, ret);
}

/* ---- reasoning ---- */

/* Templates that know levels take them as a variable. */
static bool read_effort(const struct hs_fields *fields, const char *name, bool *enable,
                        const char **ret_level)
{
    static const char levels[] = "minimal low medium high xhigh max";
    const char *effort = NULL;
    if (!hs_field_string(fields, name, &effort)) {
        return false;
    }
    if (effort == NULL) {
        return true;
    }
    if (strcmp(effort, "none") == 0) {
        *enable = false;
    } else if (!hs_command_list_has(levels, effort)) {
        return hs_field_refuse(fields, name, "must be \"none\" or one of: %s", levels);
    } else {
        *ret_level = effort;
    }
    return true;
}

/* The template's variables. A model without a template has none, so that the level of reasoning,
 * which clients send to every model, is no reason to refuse them. */
static bool join_kwargs(const struct hs_fields *fields, const struct hs_model_info *model,
                        const json_t *kwargs, const char *level, struct hs_rest_settings *ret)
{
    json_t *all = kwargs == NULL ? json_object() : json_copy((json_t *)kwargs);
    int failed = all == NULL ? -1 : 0;
    if (level != NULL && model->has_chat_template &&
        json_object_get(all, "reasoning_effort") == NULL) {
        failed |= json_object_set_new(all, "reasoning_effort", json_string(level));
    }
    json_object_del(all, "enable_thinking"); /* has a parameter of its own */
    if (failed == 0 && json_object_size(all) > 0) {
        ret->template_kwargs = json_dumps(all, JSON_COMPACT);
        ret->params.template_kwargs = ret->template_kwargs;
        failed = ret->template_kwargs == NULL ? -1 : 0;
    }
    json_decref(all);
    return failed == 0 || no_memory(fields);
}

bool hs_rest_settings_read_reasoning(const struct hs_model_info *model,
                                     const struct hs_fields *fields, const struct hs_fields *effort,
                                     const char *effort_name, struct hs_rest_settings *ret)
{
    char path[64];
    struct hs_fields kwargs;
    struct hs_generate_params *params = &ret->params;
    const char *format = NULL, *level = NULL;
    if (!read_effort(effort, effort_name, &params->enable_thinking, &level) ||
        !hs_field_bool(fields, "enable_thinking", &params->enable_thinking) ||
        !hs_field_object(fields, "chat_template_kwargs", path, sizeof path, &kwargs) ||
        !hs_field_bool(&kwargs, "enable_thinking", &params->enable_thinking) ||
        !hs_field_string(fields, "reasoning_format", &format)) {
        return false;
    }
    if (format != NULL && !hs_command_list_has("none auto deepseek", format)) {
        return hs_field_refuse(fields, "reasoning_format",
                               "must be \"none\", \"auto\" or \"deepseek\"");
    }
    params->split_reasoning = format == NULL || strcmp(format, "none") != 0;
    return join_kwargs(fields, model, kwargs.object, level, ret);
}

/* ---- all ---- */

static bool read_stream(const struct hs_fields *fields, struct hs_rest_settings *ret)
{
    char path[64];
    struct hs_fields options;
    if (!hs_field_bool(fields, "stream", &ret->stream) ||
        !hs_field_object(fields, "stream_options", path, sizeof path, &options)) {
        return false;
    }
    if (options.object != NULL && !ret->stream) {
        return hs_field_refuse(fields, "stream_options", "is for requests with \"stream\": true");
    }
    return hs_field_bool(&options, "include_usage", &ret->include_usage);
}

/* An empty grammar is none, as in llama.cpp's server. */
static bool read_grammar(const struct hs_fields *fields, struct hs_rest_settings *ret)
{
    const char *grammar = NULL;
    size_t max = ret->rest->max_schema_bytes;
    if (!hs_field_string(fields, "grammar", &grammar)) {
        return false;
    }
    if (grammar != NULL && strlen(grammar) > max) {
        return hs_field_refuse(fields, "grammar", "has %zu bytes; at most %zu are allowed",
                               strlen(grammar), max);
    }
    ret->params.sampling.grammar = grammar != NULL && *grammar != '\0' ? grammar : NULL;
    return true;
}

void hs_rest_settings_init(const struct hs_rest *rest, struct hs_rest_settings *ret)
{
    *ret = (struct hs_rest_settings){.rest = rest, .params = rest->defaults, .n = 1};
}

bool hs_rest_settings_read_sampling(const struct hs_model_info *model,
                                    const struct hs_fields *fields, struct hs_rest_settings *ret)
{
    struct hs_generate_params *params = &ret->params;
    params->tag = hs_http_request_id(fields->request);
    hs_rest_client_name(fields->request, ret->client);
    params->client = ret->client;
    return read_numbers(fields, &params->sampling) && read_seed(fields, &params->sampling) &&
           read_lists(fields, ret) && read_biases(fields, model->n_vocab, ret) &&
           read_grammar(fields, ret) && hs_field_bool(fields, "ignore_eos", &params->ignore_eos) &&
           hs_field_bool(fields, "cache_prompt", &params->cache_prompt);
}

bool hs_rest_settings_read(const struct hs_rest *rest, const struct hs_model_info *model,
                           const struct hs_fields *fields, struct hs_rest_settings *ret)
{
    hs_rest_settings_init(rest, ret);
    return hs_rest_settings_read_sampling(model, fields, ret) &&
           hs_rest_settings_read_stop(fields, "stop", true, ret) &&
           read_lengths(rest, fields, ret) &&
           hs_rest_settings_read_reasoning(model, fields, fields, "reasoning_effort", ret) &&
           read_stream(fields, ret) &&
           hs_rest_lora_read(model, fields, json_string_value(hs_field_get(fields, "model")), ret);
}

void hs_rest_settings_set_logprobs(struct hs_rest_settings *settings, int32_t top_logprobs)
{
    settings->logprobs = true;
    settings->top_logprobs = top_logprobs;
    settings->params.n_logprobs = top_logprobs > 0 ? top_logprobs : 1;
}

struct hs_generate_params hs_rest_settings_of(const struct hs_rest_settings *settings, int32_t i)
{
    struct hs_generate_params params = settings->params;
    if (params.sampling.seed != HS_SEED_RANDOM) {
        params.sampling.seed = (params.sampling.seed + (uint32_t)i) % HS_SEED_RANDOM;
    }
    return params;
}

void hs_rest_settings_free(struct hs_rest_settings *settings)
{
    hs_free(settings->stop);
    hs_free(settings->breakers);
    hs_free(settings->samplers);
    hs_free(settings->template_kwargs);
    hs_free(settings->bias_tokens);
    hs_free(settings->bias_values);
    hs_free(settings->lora.refs);
    hs_free(settings->lora.names);
    *settings = (struct hs_rest_settings){0};
}
