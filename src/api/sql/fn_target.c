#include "fn_target.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define SCALE_MAX 1000.0
#define TEMPERATURE_MAX 100.0
#define STOP_BYTES_MAX 1024

struct reader {
    const struct hs_sql_host *host;
    struct hs_fn_target *target;
};

typedef hs_status (*read_fn)(const struct reader *reader, const char *name, const json_t *value,
                             struct hs_error *err);

static hs_status refuse(struct hs_error *err, const char *name, const char *text)
{
    return hs_error_set(err, HS_INVALID_ARGUMENT, "the option '%s' must be %s", name, text);
}

/* ---- numbers and texts ---- */

static hs_status read_integer(const char *name, const json_t *value, json_int_t min, json_int_t max,
                              json_int_t *ret, struct hs_error *err)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < min || number > max) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "the option '%s' must be an integer from %lld to %lld", name,
                            (long long)min, (long long)max);
    }
    *ret = number;
    return HS_OK;
}

static hs_status read_max_tokens(const struct reader *reader, const char *name, const json_t *value,
                                 struct hs_error *err)
{
    json_int_t number = 0;
    hs_status status = read_integer(name, value, 1, INT32_MAX, &number, err);
    if (status == HS_OK) {
        reader->target->params.max_tokens = (int32_t)number;
    }
    return status;
}

static hs_status read_seed(const struct reader *reader, const char *name, const json_t *value,
                           struct hs_error *err)
{
    json_int_t number = 0;
    hs_status status = read_integer(name, value, 0, UINT32_MAX, &number, err);
    if (status == HS_OK) {
        reader->target->params.sampling.seed = (uint32_t)number;
    }
    return status;
}

static hs_status read_temperature(const struct reader *reader, const char *name,
                                  const json_t *value, struct hs_error *err)
{
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= 0 && number <= TEMPERATURE_MAX)) {
        return refuse(err, name, "a number from 0 to 100");
    }
    reader->target->params.sampling.temp = (float)number;
    return HS_OK;
}

static hs_status read_text(const char *name, const json_t *value, const char **ret,
                           struct hs_error *err)
{
    if (!json_is_string(value)) {
        return refuse(err, name, "a text");
    }
    *ret = json_string_value(value);
    return HS_OK;
}

static hs_status read_system(const struct reader *reader, const char *name, const json_t *value,
                             struct hs_error *err)
{
    return read_text(name, value, &reader->target->system, err);
}

static hs_status read_session(const struct reader *reader, const char *name, const json_t *value,
                              struct hs_error *err)
{
    return read_text(name, value, &reader->target->session, err);
}

static hs_status read_model(const struct reader *reader, const char *name, const json_t *value,
                            struct hs_error *err)
{
    const char *text = NULL; /* it was resolved before */
    (void)reader;
    return read_text(name, value, &text, err);
}

static hs_status read_stop(const struct reader *reader, const char *name, const json_t *value,
                           struct hs_error *err)
{
    struct hs_fn_target *target = reader->target;
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n > HS_FN_STOP_MAX) {
        return refuse(err, name, "a text or a list of at most 64");
    }
    target->stop = hs_calloc(n, sizeof *target->stop);
    if (target->stop == NULL) {
        return hs_error_nomem(err, "stop texts");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        size_t len = json_string_length(item);
        if (!json_is_string(item) || len == 0 || len > STOP_BYTES_MAX) {
            return refuse(err, name, "a text of 1 to 1024 bytes, or a list of them");
        }
        target->stop[i] = json_string_value(item);
    }
    target->params.stop = target->stop;
    target->params.n_stop = (int32_t)n;
    return HS_OK;
}

/* ---- adapters ---- */

static hs_status add_adapter(const struct reader *reader, const char *name, const json_t *item,
                             struct hs_error *err)
{
    struct hs_fn_target *target = reader->target;
    const json_t *scale = json_is_object(item) ? json_object_get(item, "scale") : NULL;
    const json_t *text = json_is_object(item) ? json_object_get(item, "name") : item;
    struct hs_adapter_ref ref = {json_string_value(text), 1.0f};
    if (ref.name == NULL) {
        return refuse(err, name, "names of adapters, or structs of name and scale");
    }
    if (scale != NULL && !json_is_null(scale)) {
        if (!json_is_number(scale) || !(fabs(json_number_value(scale)) <= SCALE_MAX)) {
            return refuse(err, name, "given with scales from -1000 to 1000");
        }
        ref.scale = (float)json_number_value(scale);
    }
    hs_status status =
        reader->host->find_adapter == NULL
            ? HS_OK
            : reader->host->find_adapter(reader->host->user, target->model.id, ref.name, err);
    if (status == HS_OK) {
        target->adapters[target->n_adapters++] = ref;
    }
    return status;
}

static hs_status read_adapters(const struct reader *reader, const char *name, const json_t *value,
                               struct hs_error *err)
{
    struct hs_fn_target *target = reader->target;
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (target->has_adapters) {
        return hs_error_set(err, HS_INVALID_ARGUMENT,
                            "the options 'adapter' and 'adapters' cannot be given both");
    }
    if (n > HS_FN_ADAPTERS_MAX) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the option '%s' names more than %d adapters",
                            name, HS_FN_ADAPTERS_MAX);
    }
    target->has_adapters = true;
    target->adapters = hs_calloc(n, sizeof *target->adapters);
    hs_status status = target->adapters == NULL ? hs_error_nomem(err, "adapters") : HS_OK;
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        status =
            add_adapter(reader, name, json_is_array(value) ? json_array_get(value, i) : value, err);
    }
    return status;
}

/* ---- all of them ---- */

static const struct {
    const char *name;
    read_fn read;
} options[] = {
    {"model", read_model},
    {"adapter", read_adapters},
    {"adapters", read_adapters},
    {"system", read_system},
    {"max_tokens", read_max_tokens},
    {"temperature", read_temperature},
    {"seed", read_seed},
    {"stop", read_stop},
    {"session", read_session},
};

static hs_status read_option(const struct reader *reader, const char *name, const json_t *value,
                             struct hs_error *err)
{
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return json_is_null(value) ? HS_OK : options[i].read(reader, name, value, err);
        }
    }
    hs_error_set(err, HS_INVALID_ARGUMENT, "there is no option '%.64s'", name);
    hs_error_hint(err, "the options are model, adapter, adapters, system, max_tokens, temperature, "
                       "seed, stop and session");
    return HS_INVALID_ARGUMENT;
}

static hs_status read_options(const struct reader *reader, struct hs_error *err)
{
    const struct hs_sql_host *host = reader->host;
    struct hs_fn_target *target = reader->target;
    const char *key;
    json_t *value;
    const json_t *model = json_object_get(target->json, "model");
    if (!json_is_object(target->json) && !json_is_null(target->json)) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "options must be a struct or a JSON object");
    }
    char id[HS_ID_MAX];
    hs_status status = host->find_model(host->user, json_string_value(model), id, err);
    if (status == HS_OK && host->hold_model != NULL) {
        status = host->hold_model(host->user, id, &target->hold, err);
    }
    if (status == HS_OK) {
        status = hs_engine_model_info(host->engine, id, &target->model, err);
    }
    json_object_foreach(target->json, key, value)
    {
        status = status == HS_OK ? read_option(reader, key, value, err) : status;
    }
    return status;
}

char *hs_fn_target_key(const json_t *json, const char *schema)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    char *key = text == NULL ? NULL
                             : hs_asprintf("%s%s%s", text, schema == NULL ? "" : "\n",
                                           schema == NULL ? "" : schema);
    hs_free(text);
    return key;
}

/* A copy of the schema behind the key, so that it lives as long. */
static const char *schema_of(const struct hs_fn_target *target)
{
    const char *line = strchr(target->options, '\n');
    return line == NULL ? NULL : line + 1;
}

hs_status hs_fn_target_new(const struct hs_sql_host *host, const json_t *json, const char *schema,
                           struct hs_fn_target **ret_target, struct hs_error *err)
{
    struct hs_fn_target *target = hs_calloc(1, sizeof *target);
    if (target == NULL) {
        return hs_error_nomem(err, "options");
    }
    target->host = host;
    target->params = *host->defaults;
    target->params.sampling.temp = 0;
    target->params.tag = "sql";
    target->json = json_deep_copy(json);
    target->options = hs_fn_target_key(json, schema);
    struct reader reader = {host, target};
    hs_status status = target->json == NULL || target->options == NULL
                           ? hs_error_nomem(err, "options")
                           : read_options(&reader, err);
    if (status != HS_OK) {
        hs_fn_target_free(target);
        return status;
    }
    target->params.json_schema = schema_of(target);
    *ret_target = target;
    return HS_OK;
}

void hs_fn_target_free(struct hs_fn_target *target)
{
    if (target == NULL) {
        return;
    }
    if (target->hold != NULL) {
        target->host->release_model(target->host->user, target->hold);
    }
    json_decref(target->json);
    hs_free(target->options);
    hs_free(target->adapters);
    hs_free(target->stop);
    hs_free(target);
}
