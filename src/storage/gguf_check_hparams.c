/*
 * gguf_check_hparams.c - the numbers that describe a model's layers, so that llama.cpp neither
 * asserts (src/llama-model.cpp, load_hparams; src/models/) nor divides by zero on them.
 */
#include "gguf_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

#define KEY_MAX 160u
#define MAX_LAYERS 512u   /* LLAMA_MAX_LAYERS */
#define MAX_EXPERTS 1024u /* LLAMA_MAX_EXPERTS */
#define MAX_WIDTH (1u << 20)
#define MAX_HEAD (1u << 16)

struct model {
    const hs_gguf *gguf;
    const char *arch;
    struct hs_error *err;
    uint32_t n_layer;
};

struct arch_rule {
    const char *arch;
    bool equal_heads, whole_rope;
    bool may_be_ungrouped, may_be_unrotated;
};

static const struct arch_rule arch_rules[] = {
#define HS_GGUF_ARCH(name, equal, whole) {name, equal, whole, false, false},
#define HS_GGUF_ARCH_REFUSED(name, what)
#define HS_GGUF_ARCH_UNGROUPED(name) {name, false, false, true, false},
#define HS_GGUF_ARCH_UNROTATED(name) {name, false, false, false, true},
#include "gguf_arch.def"
#undef HS_GGUF_ARCH
#undef HS_GGUF_ARCH_REFUSED
#undef HS_GGUF_ARCH_UNGROUPED
#undef HS_GGUF_ARCH_UNROTATED
};

static struct arch_rule find_rule(const char *arch)
{
    for (size_t i = 0; i < sizeof arch_rules / sizeof arch_rules[0]; i++) {
        if (strcmp(arch, arch_rules[i].arch) == 0) {
            return arch_rules[i];
        }
    }
    return (struct arch_rule){.arch = arch};
}

static hs_status bad(const struct model *model)
{
    hs_error_hint(model->err,
                  "the model is damaged or was converted wrongly; fetch or convert it again");
    return HS_BAD_FORMAT;
}

static const struct hs_gguf_kv *find(const struct model *model, const char *suffix)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%s.%s", model->arch, suffix);
    return hs_gguf_find(model->gguf, key);
}

struct range {
    const char *suffix;
    bool is_required;
    uint32_t min, max;
};

static const struct range ranges[] = {
    {"block_count", true, 1, MAX_LAYERS},
    {"context_length", true, 1, INT32_MAX},
    {"embedding_length", true, 1, MAX_WIDTH},
    {"vocab_size", false, 1, 1u << 22},
    {"nextn_predict_layers", false, 0, MAX_LAYERS - 1},
    {"leading_dense_block_count", false, 0, MAX_LAYERS},
    {"expert_count", false, 0, MAX_EXPERTS},
    {"expert_group_count", false, 0, MAX_EXPERTS},
    {"expert_group_used_count", false, 0, MAX_EXPERTS},
    {"attention.key_length", false, 1, MAX_HEAD},
    {"attention.value_length", false, 1, MAX_HEAD},
    {"attention.key_length_swa", false, 1, MAX_HEAD},
    {"attention.value_length_swa", false, 1, MAX_HEAD},
    {"attention.sliding_window", false, 0, INT32_MAX},
    {"attention.group_norm_groups", false, 1, MAX_WIDTH},
    {"rope.dimension_count", false, 0, MAX_HEAD},
    {"rope.dimension_count_swa", false, 0, MAX_HEAD},
    {"rope.scaling.original_context_length", false, 0, INT32_MAX},
    {"pooling_type", false, 0, 4},
    {"ssm.conv_kernel", false, 2, 4096},
    {"ssm.inner_size", false, 1, MAX_WIDTH},
    {"ssm.state_size", false, 1, MAX_WIDTH},
    {"ssm.time_step_rank", false, 1, MAX_WIDTH},
    {"ssm.group_count", false, 0, MAX_WIDTH},
    {"shortconv.l_cache", false, 2, 4096},
    {"wkv.head_size", false, 1, MAX_HEAD},
    {"token_shift_count", false, 1, 2},
};

/* The value of a u32 key; `missing` when it is not there. Ranges were checked before. */
static uint32_t value_of(const struct model *model, const char *suffix, uint32_t missing)
{
    const struct hs_gguf_kv *kv = find(model, suffix);
    return kv == NULL || kv->type != HS_GGUF_UINT32 ? missing : hs_gguf_le32(kv->value);
}

static hs_status check_range(const struct model *model, const struct range *range)
{
    const struct hs_gguf_kv *kv = find(model, range->suffix);
    if (kv == NULL && !range->is_required) {
        return HS_OK;
    }
    if (kv == NULL) {
        hs_error_set(model->err, HS_BAD_FORMAT, "key '%s.%s' is missing", model->arch,
                     range->suffix);
        return bad(model);
    }
    if (kv->type != HS_GGUF_UINT32) {
        hs_error_set(model->err, HS_BAD_FORMAT, "key '%s.%s' is of type %s, not u32", model->arch,
                     range->suffix, hs_gguf_type_name(kv->type));
        return bad(model);
    }
    uint32_t value = hs_gguf_le32(kv->value);
    if (value < range->min || value > range->max) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "'%s.%s' is %" PRIu32 ", not from %" PRIu32 " to %" PRIu32, model->arch,
                     range->suffix, value, range->min, range->max);
        return bad(model);
    }
    return HS_OK;
}

static hs_status check_float(const struct model *model, const char *suffix, float min)
{
    const struct hs_gguf_kv *kv = find(model, suffix);
    if (kv == NULL) {
        return HS_OK;
    }
    float value = NAN;
    if (kv->type == HS_GGUF_FLOAT32) {
        uint32_t bits = hs_gguf_le32(kv->value);
        memcpy(&value, &bits, sizeof value);
    }
    if (!isfinite(value) || value < min) {
        hs_error_set(model->err, HS_BAD_FORMAT, "'%s.%s' (%s) must be a finite f32%s", model->arch,
                     suffix, hs_gguf_type_name(kv->type), min >= 0 ? ", not negative" : "");
        return bad(model);
    }
    return HS_OK;
}

static hs_status check_floats(const struct model *model)
{
    static const char *const not_negative[] = {
        "attention.layer_norm_rms_epsilon",
        "attention.layer_norm_epsilon",
        "attention.group_norm_epsilon",
        "rope.freq_base",
        "rope.freq_base_swa",
        "attention.max_alibi_bias",
    };
    static const char *const finite[] = {
        "rope.scaling.factor",     "rope.scale_linear",    "rope.scaling.attn_factor",
        "attention.scale",         "attention.clamp_kqv",  "attn_logit_softcapping",
        "final_logit_softcapping", "logit_scale",          "embedding_scale",
        "residual_scale",          "expert_weights_scale",
    };
    hs_status status = HS_OK;
    for (size_t i = 0; i < sizeof not_negative / sizeof not_negative[0] && status == HS_OK; i++) {
        status = check_float(model, not_negative[i], 0);
    }
    for (size_t i = 0; i < sizeof finite / sizeof finite[0] && status == HS_OK; i++) {
        status = check_float(model, finite[i], -INFINITY);
    }
    return status;
}

/* A key that is one number for all layers or an array of one per layer. */
static hs_status check_per_layer(const struct model *model, const char *suffix, uint32_t max)
{
    const struct hs_gguf_kv *kv = find(model, suffix);
    if (kv == NULL) {
        return HS_OK;
    }
    bool is_number = kv->type == HS_GGUF_UINT32;
    bool is_array = kv->type == HS_GGUF_ARRAY && kv->n_items == model->n_layer &&
                    (kv->item_type == HS_GGUF_UINT32 || kv->item_type == HS_GGUF_INT32);
    if (!is_number && !is_array) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "'%s.%s' must be a u32 or an array of %" PRIu32 " of them", model->arch,
                     suffix, model->n_layer);
        return bad(model);
    }
    for (uint64_t i = 0; i < kv->n_items; i++) {
        uint32_t value = hs_gguf_le32(kv->value + 4 * i);
        if (value > max) {
            hs_error_set(model->err, HS_BAD_FORMAT, "'%s.%s' is %" PRIu32 ", more than %" PRIu32,
                         model->arch, suffix, value, max);
            return bad(model);
        }
    }
    return HS_OK;
}

static uint32_t layer_value(const struct model *model, const char *suffix, uint32_t layer,
                            uint32_t missing)
{
    const struct hs_gguf_kv *kv = find(model, suffix);
    if (kv == NULL) {
        return missing;
    }
    return hs_gguf_le32(kv->value + (kv->type == HS_GGUF_ARRAY ? 4 * (size_t)layer : 0));
}

static hs_status check_head_counts(const struct model *model)
{
    hs_status status = check_per_layer(model, "attention.head_count", MAX_HEAD);
    if (status == HS_OK) {
        status = check_per_layer(model, "attention.head_count_kv", MAX_HEAD);
    }
    if (status == HS_OK) {
        status = check_per_layer(model, "feed_forward_length", 1u << 24);
    }
    for (uint32_t i = 0; i < model->n_layer && status == HS_OK; i++) {
        uint32_t n_head = layer_value(model, "attention.head_count", i, 0);
        uint32_t n_kv = layer_value(model, "attention.head_count_kv", i, n_head);
        if (n_kv > 0 && (n_kv > n_head || n_head % n_kv != 0)) {
            hs_error_set(model->err, HS_BAD_FORMAT,
                         "layer %" PRIu32 ": %" PRIu32 " heads cannot share %" PRIu32
                         " key-value heads",
                         i, n_head, n_kv);
            status = bad(model);
        }
    }
    return status;
}

static hs_status check_rope(const struct model *model, const char *suffix, uint32_t n_rot,
                            uint32_t head, bool is_whole)
{
    bool is_none = n_rot == 0 && find(model, suffix) != NULL;
    if (n_rot % 2 != 0 || n_rot > head || (is_whole && n_rot != head) ||
        (is_none && !find_rule(model->arch).may_be_unrotated)) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "'%s.%s' is %" PRIu32 ", not an even number %s the head size %" PRIu32,
                     model->arch, suffix, n_rot, is_whole ? "equal to" : "from 2 to", head);
        return bad(model);
    }
    return HS_OK;
}

static hs_status check_heads(const struct model *model)
{
    struct arch_rule rule = find_rule(model->arch);
    uint32_t n_embd = value_of(model, "embedding_length", 0);
    uint32_t n_head = layer_value(model, "attention.head_count", 0, 0);
    if (n_head == 0) {
        return HS_OK;
    }
    uint32_t key = value_of(model, "attention.key_length", 0);
    uint32_t value = value_of(model, "attention.value_length", n_embd / n_head);
    if (key == 0 && (n_embd % n_head != 0)) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "the embedding length %" PRIu32 " does not divide into %" PRIu32 " heads",
                     n_embd, n_head);
        return bad(model);
    }
    key = key == 0 ? n_embd / n_head : key;
    if (rule.equal_heads && key != value) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "key and value heads of '%s' must be of equal size, not %" PRIu32
                     " and %" PRIu32,
                     model->arch, key, value);
        return bad(model);
    }
    uint32_t n_rot = value_of(model, "rope.dimension_count", key);
    hs_status status = check_rope(model, "rope.dimension_count", n_rot, key, rule.whole_rope);
    if (status == HS_OK) {
        status = check_rope(model, "rope.dimension_count_swa",
                            value_of(model, "rope.dimension_count_swa", n_rot),
                            value_of(model, "attention.key_length_swa", key), false);
    }
    return status;
}

static hs_status check_experts(const struct model *model)
{
    hs_status status = check_per_layer(model, "expert_used_count", MAX_EXPERTS);
    if (status != HS_OK) {
        return status;
    }
    uint32_t n = value_of(model, "expert_count", 0);
    uint32_t n_groups = value_of(model, "expert_group_count", 0);
    uint32_t n_groups_used = value_of(model, "expert_group_used_count", 0);
    uint32_t n_used = 0;
    for (uint32_t i = 0; i < model->n_layer; i++) {
        uint32_t here = layer_value(model, "expert_used_count", i, 0);
        n_used = here > n_used ? here : n_used;
    }
    if (n_used > n || (n > 0 && n_used == 0)) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "%" PRIu32 " experts used of %" PRIu32 " (expert_used_count, expert_count)",
                     n_used, n);
        return bad(model);
    }
    bool is_grouped = n_groups > 1;
    if ((n_groups > 0 && n_groups >= n) ||
        (is_grouped && (n % n_groups != 0 || n_groups_used == 0 || n_groups_used >= n_groups))) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "%" PRIu32 " experts cannot form %" PRIu32 " groups of which %" PRIu32
                     " are used",
                     n, n_groups, n_groups_used);
        return bad(model);
    }
    return HS_OK;
}

/* llama.cpp asserts that a model with a window has a layer that uses it. */
static hs_status check_window(const struct model *model)
{
    const struct hs_gguf_kv *kv = find(model, "attention.sliding_window_pattern");
    if (kv == NULL || value_of(model, "attention.sliding_window", 0) == 0) {
        return HS_OK;
    }
    bool is_used = kv->type == HS_GGUF_UINT32 && hs_gguf_le32(kv->value) != 1;
    size_t item_bytes = hs_gguf_type_bytes(kv->item_type);
    for (size_t i = 0; kv->type == HS_GGUF_ARRAY && i < kv->n_items * item_bytes; i++) {
        is_used = is_used || (i / item_bytes < model->n_layer && kv->value[i] != 0);
    }
    if (!is_used) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "'%s.attention.sliding_window_pattern' leaves no layer with a window",
                     model->arch);
        return bad(model);
    }
    return HS_OK;
}

static hs_status check_rope_scaling(const struct model *model)
{
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    const struct hs_gguf_kv *kv = find(model, "rope.scaling.type");
    if (kv == NULL) {
        return HS_OK;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (kv->type == HS_GGUF_STRING && kv->value_len == strlen(names[i]) &&
            memcmp(kv->value, names[i], kv->value_len) == 0) {
            return HS_OK;
        }
    }
    hs_error_set(model->err, HS_BAD_FORMAT,
                 "'%s.rope.scaling.type' is none of none, linear, yarn, longrope", model->arch);
    return bad(model);
}

static hs_status check_recurrent(const struct model *model)
{
    uint32_t n_embd = value_of(model, "embedding_length", 0);
    uint32_t head = value_of(model, "wkv.head_size", 1);
    uint32_t inner = value_of(model, "ssm.inner_size", 0);
    uint32_t rank = value_of(model, "ssm.time_step_rank", 1);
    uint32_t n_groups = value_of(model, "ssm.group_count", 1);
    bool is_grouped = n_groups > 0 || !find_rule(model->arch).may_be_ungrouped;
    if (n_embd % head != 0) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "the embedding length %" PRIu32 " is not a multiple of wkv.head_size %" PRIu32,
                     n_embd, head);
        return bad(model);
    }
    if (is_grouped &&
        (n_groups == 0 || inner % n_groups != 0 || (n_groups > 1 && rank % n_groups != 0))) {
        hs_error_set(model->err, HS_BAD_FORMAT,
                     "ssm.inner_size %" PRIu32 " and ssm.time_step_rank %" PRIu32
                     " do not divide into ssm.group_count %" PRIu32,
                     inner, rank, n_groups);
        return bad(model);
    }
    return HS_OK;
}

hs_status hs_gguf_check_hparams(const hs_gguf *gguf, const char *arch, struct hs_error *err)
{
    struct model model = {gguf, arch, err, 0};
    hs_status (*const checks[])(const struct model *) = {
        check_floats,       check_head_counts, check_heads,  check_experts,
        check_rope_scaling, check_recurrent,   check_window,
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        hs_status status = check_range(&model, &ranges[i]);
        if (status != HS_OK) {
            return status;
        }
    }
    model.n_layer = value_of(&model, "block_count", 0);
    if (value_of(&model, "nextn_predict_layers", 0) >= model.n_layer) {
        hs_error_set(err, HS_BAD_FORMAT, "all %" PRIu32 " layers of '%s' predict further tokens",
                     model.n_layer, arch);
        return bad(&model);
    }
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        hs_status status = checks[i](&model);
        if (status != HS_OK) {
            return status;
        }
    }
    return HS_OK;
}
