#include "models/lora_names.h"

#include <stdio.h>
#include <string.h>

#define HS_LORA_NAME(module_, tensor_, rows_) {(module_), (tensor_), HS_LORA_ROWS_##rows_},

static const struct lora_name {
    const char *module, *tensor;
    enum hs_lora_rows rows;
} lora_names[] = {
#include "lora_names.def"
};
#define N_LORA_NAMES (sizeof lora_names / sizeof lora_names[0])

/* What stands before the names of a text model: alone, with a head, or as a part of more. */
static const struct {
    const char *from, *to;
} prefixes[] = {
    {"model.language_model.", "model."},
    {"language_model.model.", "model."},
    {"model.text_model.", "model."},
    {"language_model.lm_head", "lm_head"},
    {"layers.", "model.layers."},
    {"embed_tokens", "model.embed_tokens"},
    {"h.", "transformer.h."},
    {"wte", "transformer.wte"},
};

/* Whether text is like pattern, with the number in the place of '#': its digits. */
static bool matches(const char *pattern, const char *text, const char **ret_digits, int *ret_n)
{
    size_t before = strcspn(pattern, "#");
    if (pattern[before] == '\0') {
        return strcmp(pattern, text) == 0;
    }
    if (strncmp(pattern, text, before) != 0) {
        return false;
    }
    size_t n = strspn(text + before, "0123456789");
    if (n == 0 || n > 5 || (n > 1 && text[before] == '0') ||
        strcmp(pattern + before + 1, text + before + n) != 0) {
        return false;
    }
    *ret_digits = text + before;
    *ret_n = (int)n;
    return true;
}

/* pattern with the digits in the place of '#'; false when there is no room. */
static bool expand(const char *pattern, const char *digits, int n, char *text, size_t size)
{
    size_t before = strcspn(pattern, "#");
    const char *after = pattern[before] == '#' ? pattern + before + 1 : "";
    int len = snprintf(text, size, "%.*s%.*s%s", (int)before, pattern, n, digits, after);
    return len > 0 && (size_t)len < size;
}

static enum hs_lora_rows rows_of(const struct hs_model_family *family, enum hs_lora_rows rows)
{
    return family->rope_permute == HS_ROPE_PERMUTE_LLAMA ? rows : HS_LORA_ROWS_SAME;
}

bool hs_model_lora_tensor(const struct hs_model_family *family, const char *module,
                          char ret_tensor[HS_LORA_TENSOR_SIZE], enum hs_lora_rows *ret_rows)
{
    char name[HS_LORA_MODULE_SIZE];
    const char *to = "";
    if (family == NULL || family->lora_names == HS_LORA_NAMES_NONE) {
        return false;
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0] && to[0] == '\0'; i++) {
        size_t len = strlen(prefixes[i].from);
        if (strncmp(module, prefixes[i].from, len) == 0) {
            to = prefixes[i].to;
            module += len;
        }
    }
    int len = snprintf(name, sizeof name, "%s%s", to, module);
    if (len < 0 || (size_t)len >= sizeof name) {
        return false;
    }
    for (size_t i = 0; i < N_LORA_NAMES; i++) {
        const char *digits = "";
        int n = 0;
        if (matches(lora_names[i].module, name, &digits, &n)) {
            *ret_rows = rows_of(family, lora_names[i].rows);
            return expand(lora_names[i].tensor, digits, n, ret_tensor, HS_LORA_TENSOR_SIZE);
        }
    }
    return false;
}

/* Whether a comma-separated list has this name. */
static bool has_name(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

/* Whether the family's checkpoints have this module: a linear layer by its last component, others
 * by the prefix that their linear layers have. */
static bool is_of_family(const struct hs_model_family *family, const char *module)
{
    bool is_transformer = has_name(family->lora_targets, "c_attn");
    if (strncmp(module, "lm_head", 7) == 0) {
        return true;
    }
    if (is_transformer != (strncmp(module, "transformer.", 12) == 0)) {
        return false;
    }
    return strchr(module, '#') == NULL || has_name(family->lora_targets, strrchr(module, '.') + 1);
}

bool hs_model_lora_module(const struct hs_model_family *family, const char *tensor,
                          char ret_module[HS_LORA_MODULE_SIZE], enum hs_lora_rows *ret_rows)
{
    if (family == NULL || family->lora_names == HS_LORA_NAMES_NONE) {
        return false;
    }
    for (size_t i = 0; i < N_LORA_NAMES; i++) {
        const char *digits = "";
        int n = 0;
        if (is_of_family(family, lora_names[i].module) &&
            matches(lora_names[i].tensor, tensor, &digits, &n)) {
            *ret_rows = rows_of(family, lora_names[i].rows);
            return expand(lora_names[i].module, digits, n, ret_module, HS_LORA_MODULE_SIZE);
        }
    }
    return false;
}

int64_t hs_model_lora_row(int64_t i, int64_t n, uint32_t n_head)
{
    int64_t per_head = n / n_head, half = per_head / 2;
    int64_t head = i / per_head, within = i % per_head;
    return head * per_head + within % half * 2 + within / half;
}
