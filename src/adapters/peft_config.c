#include "peft_config.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "adapter_internal.h"
#include "base/error.h"
#include "base/mem.h"
#include "storage/json_memory.h"

#define MATCH_STEPS_MAX 100000u

struct pattern {
    pcre2_code *code;
    double value;
};

struct patterns {
    struct pattern *list;
    size_t n;
};

struct hs_peft_config {
    json_t *root;
    int32_t rank;
    double alpha;
    bool use_rslora;
    struct patterns ranks, alphas;
    struct patterns targets; /* one, when target_modules is a text */
    struct patterns layers;  /* each finds the number of a layer */
    pcre2_general_context *memory;
    pcre2_match_context *limits;
};

static hs_status bad(struct hs_error *err, const char *key, const char *what)
{
    hs_error_set(err, HS_BAD_FORMAT, "adapter_config.json: %s %s", key, what);
    hs_error_hint(err, "save the adapter anew with PEFT's save_pretrained");
    return HS_BAD_FORMAT;
}

/* As Python's bool(). */
static bool is_set(const json_t *value)
{
    return json_is_true(value) || (json_is_string(value) && json_string_length(value) > 0) ||
           (json_is_number(value) && json_number_value(value) != 0) || json_array_size(value) > 0 ||
           json_object_size(value) > 0;
}

/* ---- what cannot be computed ---- */

static const struct {
    const char *key, *what;
} unsupported[] = {
    {"use_dora", "DoRA"},
    {"lora_bias", "biases of LoRA (lora_bias)"},
    {"trainable_token_indices", "trained tokens (trainable_token_indices)"},
    {"target_parameters", "parameters that are no modules (target_parameters)"},
    {"layer_replication", "replicated layers (layer_replication)"},
    {"alora_invocation_tokens", "activated LoRA (alora_invocation_tokens)"},
    {"use_qalora", "QA-LoRA (use_qalora)"},
    {"use_bdlora", "block-diagonal LoRA (use_bdlora)"},
    {"arrow_config", "a router of adapters (arrow_config)"},
    {"kasa_config", "KaSA (kasa_config)"},
    {"monteclora_config", "MonteCLoRA (monteclora_config)"},
};

/* Ways to begin that take the adapter's first weights out of the base's. */
static const char *const changing_inits[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

static void refuse_saved_modules(const json_t *modules, struct hs_lora_faults *faults)
{
    size_t i;
    json_t *module;
    json_array_foreach((json_t *)modules, i, module)
    {
        const char *name = json_string_value(module);
        hs_lora_fault(faults, HS_NOT_SUPPORTED,
                      "a whole copy of the module '%.60s' "
                      "(modules_to_save)",
                      name == NULL ? "?" : name);
    }
}

static hs_status refuse(const json_t *root, struct hs_error *err)
{
    struct hs_lora_faults faults = {0};
    const char *bias = json_string_value(json_object_get(root, "bias"));
    const char *init = json_string_value(json_object_get(root, "init_lora_weights"));
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        if (is_set(json_object_get(root, unsupported[i].key))) {
            hs_lora_fault(&faults, HS_NOT_SUPPORTED, "%s", unsupported[i].what);
        }
    }
    refuse_saved_modules(json_object_get(root, "modules_to_save"), &faults);
    if (bias != NULL && strcmp(bias, "none") != 0) {
        hs_lora_fault(&faults, HS_NOT_SUPPORTED, "trained biases (bias \"%.20s\")", bias);
    }
    for (size_t i = 0; init != NULL && i < sizeof changing_inits / sizeof changing_inits[0]; i++) {
        if (strncmp(init, changing_inits[i], strlen(changing_inits[i])) == 0) {
            hs_lora_fault(&faults, HS_NOT_SUPPORTED,
                          "a base changed by init_lora_weights \"%.20s\"", init);
        }
    }
    hs_status status = hs_lora_faults_end(&faults, err);
    if (status != HS_OK) {
        hs_error_prefix(err, "the adapter uses what hyprstream cannot compute");
        hs_error_hint(err, "train or save it as plain LoRA, or merge it into the model with PEFT's "
                           "merge_and_unload");
    }
    return status;
}

static hs_status check_type(const json_t *root, struct hs_error *err)
{
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    if (type == NULL) {
        return bad(err, "peft_type", "is missing");
    }
    if (strcmp(type, "LORA") != 0) {
        hs_error_set(err, HS_NOT_SUPPORTED, "the adapter is of PEFT's type %.40s, not LORA", type);
        hs_error_hint(err, "only LoRA adapters can be used; merge this one into its model");
        return HS_NOT_SUPPORTED;
    }
    return refuse(root, err);
}

/* ---- patterns ---- */

static void *pattern_alloc(size_t size, void *user)
{
    (void)user;
    return hs_alloc(size);
}

static void pattern_free(void *p, void *user)
{
    (void)user;
    hs_free(p);
}

static hs_status patterns_room(const char *key, size_t n, struct patterns *patterns,
                               struct hs_error *err)
{
    if (n > HS_PEFT_PATTERNS_MAX) {
        hs_error_set(err, HS_LIMIT, "adapter_config.json: %s has %zu entries, more than %u", key, n,
                     HS_PEFT_PATTERNS_MAX);
        hs_error_hint(err, "write patterns that each match many modules");
        return HS_LIMIT;
    }
    patterns->list = hs_calloc(n, sizeof *patterns->list);
    return patterns->list == NULL ? hs_error_nomem(err, "patterns of an adapter") : HS_OK;
}

/* Add "<before><text><after>"; text is what the file says, value what goes with it. */
static hs_status add_pattern(hs_peft_config *config, struct patterns *patterns, const char *before,
                             const char *text, const char *after, double value,
                             struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *whole = hs_asprintf("%s%s%s", before, text, after);
    pcre2_compile_context *context = pcre2_compile_context_create(config->memory);
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *compiled = NULL;
    if (whole != NULL && context != NULL) {
        compiled = pcre2_compile((PCRE2_SPTR)whole, PCRE2_ZERO_TERMINATED,
                                 PCRE2_ANCHORED | PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                                 &code, &at, context);
    }
    pcre2_compile_context_free(context);
    if (whole == NULL || context == NULL || (compiled == NULL && code == PCRE2_ERROR_HEAP_FAILED)) {
        return hs_error_nomem(err, "a pattern of an adapter");
    }
    if (compiled == NULL) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        hs_error_set(err, HS_BAD_FORMAT, "adapter_config.json: the pattern '%.100s' is wrong: %s",
                     text, (const char *)why);
        hs_error_hint(err, "it must be a regular expression as Python's re module reads it");
        return HS_BAD_FORMAT;
    }
    patterns->list[patterns->n++] = (struct pattern){.code = compiled, .value = value};
    return HS_OK;
}

/* Out: ret_n: how many groups matched, 0: it does not match; ovector[2 * group] may be NULL. */
static hs_status match(const hs_peft_config *config, const pcre2_code *code, const char *text,
                       bool is_whole, int64_t *ret_number, bool *ret_matches, struct hs_error *err)
{
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, config->memory);
    if (data == NULL) {
        return hs_error_nomem(err, "a pattern of an adapter");
    }
    bool is_numbered = true;
    int n = pcre2_match(code, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0,
                        is_whole ? PCRE2_ENDANCHORED : 0, data, config->limits);
    if (n > 0 && ret_number != NULL) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);
        size_t begin = ends[(size_t)2 * (pcre2_get_ovector_count(data) - 1)];
        is_numbered = begin != PCRE2_UNSET;
        *ret_number = is_numbered ? strtoll(text + begin, NULL, 10) : 0;
    }
    pcre2_match_data_free(data);
    if (!is_numbered) {
        hs_error_set(err, HS_BAD_FORMAT,
                     "adapter_config.json: a pattern of layers_pattern matches '%.100s' without "
                     "the layer's number",
                     text);
        hs_error_hint(err, "it must not have alternatives outside of parentheses");
        return HS_BAD_FORMAT;
    }
    if (n == PCRE2_ERROR_NOMEMORY) {
        return hs_error_nomem(err, "a pattern of an adapter");
    }
    if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
        hs_error_set(err, HS_LIMIT, "a pattern of adapter_config.json takes more than %u steps",
                     MATCH_STEPS_MAX);
        hs_error_hint(err, "write patterns without nested repetition");
        return HS_LIMIT;
    }
    *ret_matches = n > 0;
    return HS_OK;
}

/* {"PATTERN": number, ...} */
static hs_status read_patterns(hs_peft_config *config, const char *key, struct patterns *patterns,
                               struct hs_error *err)
{
    json_t *object = json_object_get(config->root, key);
    const char *text;
    json_t *value;
    if (!is_set(object)) {
        return HS_OK;
    }
    if (!json_is_object(object)) {
        return bad(err, key, "is no object");
    }
    hs_status status = patterns_room(key, json_object_size(object), patterns, err);
    json_object_foreach(object, text, value)
    {
        if (status == HS_OK && !json_is_number(value)) {
            status = bad(err, key, "has a value that is no number");
        }
        if (status == HS_OK) {
            status = add_pattern(config, patterns, "(.*\\.)?(", text, ")$",
                                 json_number_value(value), err);
        }
    }
    return status;
}

/* The number of a layer stands in the last group. */
static hs_status read_layers(hs_peft_config *config, struct hs_error *err)
{
    json_t *value = json_object_get(config->root, "layers_pattern");
    json_t *item;
    size_t i;
    hs_status status =
        patterns_room("layers_pattern", json_array_size(value) + 1, &config->layers, err);
    if (status == HS_OK && json_is_string(value) && json_string_length(value) > 0) {
        return add_pattern(config, &config->layers, "(?:^|.*?\\.)", json_string_value(value),
                           "\\.(\\d+)\\.", 0, err);
    }
    json_array_foreach(value, i, item)
    {
        if (status == HS_OK && !json_is_string(item)) {
            status = bad(err, "layers_pattern", "is no text and no list of texts");
        }
        if (status == HS_OK) {
            status = add_pattern(config, &config->layers, "(?:^|.*?\\.)", json_string_value(item),
                                 "\\.(\\d+)\\.", 0, err);
        }
    }
    if (status == HS_OK && config->layers.n == 0) {
        status = add_pattern(config, &config->layers, ".*?\\.[^.]*", "", "\\.(\\d+)\\.", 0, err);
    }
    return status;
}

/* ---- reading ---- */

static hs_status read_targets(hs_peft_config *config, struct hs_error *err)
{
    json_t *value = json_object_get(config->root, "target_modules");
    json_t *item;
    size_t i;
    if (json_is_string(value)) {
        hs_status status = patterns_room("target_modules", 1, &config->targets, err);
        if (status == HS_OK && strcmp(json_string_value(value), "all-linear") != 0) {
            status =
                add_pattern(config, &config->targets, "", json_string_value(value), "", 0, err);
        }
        return status;
    }
    if (json_array_size(value) == 0) {
        return bad(err, "target_modules", "is no text and no list of names");
    }
    json_array_foreach(value, i, item)
    {
        if (!json_is_string(item)) {
            return bad(err, "target_modules", "has an entry that is no text");
        }
    }
    return read_layers(config, err);
}

static hs_status read_config(hs_peft_config *config, struct hs_error *err)
{
    hs_status status = check_type(config->root, err);
    if (status != HS_OK) {
        return status;
    }
    const json_t *rank = json_object_get(config->root, "r");
    const json_t *alpha = json_object_get(config->root, "lora_alpha");
    if (!json_is_integer(rank) || json_integer_value(rank) < 1 ||
        json_integer_value(rank) > HS_LORA_RANK_MAX) {
        hs_error_set(err, HS_LIMIT, "adapter_config.json: r is no number from 1 to %d",
                     HS_LORA_RANK_MAX);
        hs_error_hint(err, "save the adapter anew, with a lower rank");
        return HS_LIMIT;
    }
    if (!json_is_number(alpha)) {
        return bad(err, "lora_alpha", "is no number");
    }
    config->rank = (int32_t)json_integer_value(rank);
    config->alpha = json_number_value(alpha);
    config->use_rslora = is_set(json_object_get(config->root, "use_rslora"));
    status = read_patterns(config, "rank_pattern", &config->ranks, err);
    if (status == HS_OK) {
        status = read_patterns(config, "alpha_pattern", &config->alphas, err);
    }
    return status == HS_OK ? read_targets(config, err) : status;
}

static hs_status parse_text(hs_peft_config *config, const char *text, size_t len,
                            struct hs_error *err)
{
    json_error_t why;
    config->root = hs_json_load(text, len, JSON_REJECT_DUPLICATES, &why);
    if (hs_json_memory_failed()) {
        return hs_error_nomem(err, "adapter_config.json");
    }
    if (!json_is_object(config->root)) {
        hs_error_set(err, HS_BAD_FORMAT, "adapter_config.json is no JSON object (line %d)",
                     config->root == NULL ? why.line : 1);
        hs_error_hint(err, "copy or download it again");
        return HS_BAD_FORMAT;
    }
    config->memory = pcre2_general_context_create(pattern_alloc, pattern_free, NULL);
    config->limits = pcre2_match_context_create(config->memory);
    if (config->memory == NULL || config->limits == NULL) {
        return hs_error_nomem(err, "patterns of an adapter");
    }
    pcre2_set_match_limit(config->limits, MATCH_STEPS_MAX);
    return HS_OK;
}

hs_status hs_peft_config_parse(const char *text, size_t len, hs_peft_config **ret_config,
                               struct hs_error *err)
{
    hs_peft_config *config = hs_calloc(1, sizeof *config);
    if (config == NULL) {
        return hs_error_nomem(err, "adapter_config.json");
    }
    hs_status status = parse_text(config, text, len, err);
    if (status == HS_OK) {
        status = read_config(config, err);
    }
    if (status != HS_OK) {
        hs_peft_config_free(config);
        return status;
    }
    *ret_config = config;
    return HS_OK;
}

static void patterns_free(struct patterns *patterns)
{
    for (size_t i = 0; i < patterns->n; i++) {
        pcre2_code_free(patterns->list[i].code);
    }
    hs_free(patterns->list);
}

void hs_peft_config_free(hs_peft_config *config)
{
    if (config != NULL) {
        patterns_free(&config->ranks);
        patterns_free(&config->alphas);
        patterns_free(&config->targets);
        patterns_free(&config->layers);
        pcre2_match_context_free(config->limits);
        pcre2_general_context_free(config->memory);
        json_decref(config->root);
        hs_free(config);
    }
}

/* ---- questions ---- */

const char *hs_peft_config_base(const hs_peft_config *config)
{
    return json_string_value(json_object_get(config->root, "base_model_name_or_path"));
}

float hs_peft_config_alpha(const hs_peft_config *config)
{
    return (float)config->alpha;
}

/* The value of the first pattern that matches, as PEFT looks for it. */
static hs_status find_value(const hs_peft_config *config, const struct patterns *patterns,
                            const char *module, double *value, struct hs_error *err)
{
    bool is_found = false;
    hs_status status = HS_OK;
    for (size_t i = 0; i < patterns->n && status == HS_OK && !is_found; i++) {
        status = match(config, patterns->list[i].code, module, false, NULL, &is_found, err);
        if (is_found) {
            *value = patterns->list[i].value;
        }
    }
    return status;
}

hs_status hs_peft_config_scale(const hs_peft_config *config, const char *module, int32_t *ret_rank,
                               float *ret_scale, struct hs_error *err)
{
    double rank = config->rank, alpha = config->alpha;
    hs_status status = find_value(config, &config->ranks, module, &rank, err);
    if (status == HS_OK) {
        status = find_value(config, &config->alphas, module, &alpha, err);
    }
    if (status != HS_OK) {
        return status;
    }
    if (!(rank >= 1 && rank <= HS_LORA_RANK_MAX)) {
        hs_error_set(err, HS_LIMIT, "adapter_config.json: rank_pattern has a rank outside 1 to %d",
                     HS_LORA_RANK_MAX);
        hs_error_hint(err, "save the adapter anew, with a lower rank");
        return HS_LIMIT;
    }
    *ret_rank = (int32_t)rank;
    *ret_scale = (float)(alpha / (config->use_rslora ? sqrt(rank) : rank));
    return HS_OK;
}

/* Whether layers_to_transform has the module's layer, when it is there. */
static hs_status has_layer(const hs_peft_config *config, const char *module, bool *ret_has,
                           struct hs_error *err)
{
    json_t *layers = json_object_get(config->root, "layers_to_transform");
    json_t *item;
    size_t i;
    int64_t layer = -1;
    bool is_found = false;
    hs_status status = HS_OK;
    if (!json_is_integer(layers) && json_array_size(layers) == 0) {
        *ret_has = true;
        return HS_OK;
    }
    for (size_t p = 0; p < config->layers.n && status == HS_OK && !is_found; p++) {
        status = match(config, config->layers.list[p].code, module, false, &layer, &is_found, err);
    }
    *ret_has = is_found && json_is_integer(layers) && json_integer_value(layers) == layer;
    json_array_foreach(layers, i, item)
    {
        *ret_has =
            *ret_has || (is_found && json_is_integer(item) && json_integer_value(item) == layer);
    }
    return status;
}

hs_status hs_peft_config_has(const hs_peft_config *config, const char *module, bool *ret_has,
                             struct hs_error *err)
{
    json_t *targets = json_object_get(config->root, "target_modules");
    json_t *item;
    size_t i, len = strlen(module);
    if (config->targets.n > 0) {
        return match(config, config->targets.list[0].code, module, true, NULL, ret_has, err);
    }
    bool is_named = json_is_string(targets); /* "all-linear" */
    json_array_foreach(targets, i, item)
    {
        const char *name = json_string_value(item);
        size_t n = json_string_length(item);
        if (strcmp(module, name) == 0) {
            *ret_has = true; /* PEFT does not look at layers then */
            return HS_OK;
        }
        is_named = is_named ||
                   (len > n && module[len - n - 1] == '.' && strcmp(module + len - n, name) == 0);
    }
    *ret_has = false;
    return is_named ? has_layer(config, module, ret_has, err) : HS_OK;
}
