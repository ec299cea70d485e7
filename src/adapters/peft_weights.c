/* peft_weights.c - PEFT's adapter_model.safetensors: pairs of A and B, by the names of modules. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter_internal.h"
#include "base/error.h"
#include "base/mem.h"
#include "models/lora_names.h"
#include "peft_config.h"
#include "storage/safetensors.h"

#define PREFIX "base_model.model."
#define FINGERPRINT_KEY "hyprstream.base_fingerprint"

/* One tensor of the file: which half of which module. */
struct part {
    const struct hs_safetensors_tensor *tensor;
    char module[HS_SAFETENSORS_MAX_NAME_BYTES + 1];
    bool is_b, is_embedding;
};

struct pair {
    const struct part *a, *b;
};

struct peft {
    struct hs_adapter_loaded *adapter;
    const hs_lora_base *base; /* NULL: not known */
    const struct hs_model_family *family;
    hs_peft_config *config;
    hs_safetensors *reader;
    struct part *parts;
    size_t n_parts;
    struct hs_lora_faults faults;
};

/* ---- names ---- */

/* "<module>.lora_A.weight", "<module>.lora_A.<adapter>.weight", "<module>.lora_embedding_A" and
 * "<module>.lora_embedding_A.<adapter>"; the same with B. */
static bool parse_key(const char *key, struct part *part)
{
    if (strncmp(key, PREFIX, strlen(PREFIX)) == 0) {
        key += strlen(PREFIX);
    }
    const char *at = strstr(key, ".lora_"), *next = at;
    while (next != NULL) {
        at = next;
        next = strstr(at + 1, ".lora_");
    }
    if (at == NULL || at == key) {
        return false;
    }
    const char *half = at + strlen(".lora_");
    part->is_embedding = strncmp(half, "embedding_", strlen("embedding_")) == 0;
    half += part->is_embedding ? strlen("embedding_") : 0;
    part->is_b = *half == 'B';
    if (*half != 'A' && *half != 'B') {
        return false;
    }
    const char *rest = half + 1;
    if (rest[0] == '.' && strcmp(rest, ".weight") != 0) {
        rest += 1 + strcspn(rest + 1, "."); /* the adapter's name */
    }
    memcpy(part->module, key, (size_t)(at - key));
    part->module[at - key] = '\0';
    return strcmp(rest, part->is_embedding ? "" : ".weight") == 0;
}

static bool type_of(enum hs_safetensors_dtype dtype, enum hs_lora_type *ret_type)
{
    *ret_type = dtype == HS_SAFETENSORS_F16    ? HS_LORA_F16
                : dtype == HS_SAFETENSORS_BF16 ? HS_LORA_BF16
                                               : HS_LORA_F32;
    return dtype == HS_SAFETENSORS_F32 || *ret_type != HS_LORA_F32;
}

static int by_module(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int order = strcmp(x->module, y->module);
    return order != 0 ? order : (int)x->is_b - (int)y->is_b;
}

static hs_status read_parts(struct peft *peft, struct hs_error *err)
{
    size_t n = hs_safetensors_n(peft->reader);
    peft->parts = hs_calloc(n, sizeof *peft->parts);
    if (peft->parts == NULL) {
        return hs_error_nomem(err, "the tensors of an adapter");
    }
    for (size_t i = 0; i < n; i++) {
        const struct hs_safetensors_tensor *tensor = hs_safetensors_at(peft->reader, i);
        struct part *part = &peft->parts[peft->n_parts];
        enum hs_lora_type type;
        part->tensor = tensor;
        if (!parse_key(tensor->name, part)) {
            hs_lora_fault(&peft->faults, HS_NOT_SUPPORTED, "'%.100s' is no weight of LoRA",
                          tensor->name);
        } else if (tensor->n_dims != 2) {
            hs_lora_fault(&peft->faults, HS_NOT_SUPPORTED, "'%.100s' is no matrix", tensor->name);
        } else if (!type_of(tensor->dtype, &type)) {
            hs_lora_fault(&peft->faults, HS_NOT_SUPPORTED, "'%.100s' is %s, not F32, F16 or BF16",
                          tensor->name, hs_safetensors_dtype_name(tensor->dtype));
        } else {
            peft->n_parts++;
        }
    }
    qsort(peft->parts, peft->n_parts, sizeof *peft->parts, by_module);
    return HS_OK;
}

/* ---- one pair ---- */

static hs_status view(struct peft *peft, const struct part *part, struct hs_lora_matrix *ret_matrix,
                      struct hs_error *err)
{
    enum hs_lora_type type = HS_LORA_F32;
    (void)type_of(part->tensor->dtype, &type);
    if (part->tensor->dims[0] > INT32_MAX || part->tensor->dims[1] > INT32_MAX) {
        return hs_error_set(err, HS_BAD_FORMAT, "'%.100s' has an impossible shape",
                            part->tensor->name);
    }
    if (!hs_adapter_matrix(peft->adapter, type, (int64_t)part->tensor->dims[0],
                           (int64_t)part->tensor->dims[1], part->tensor->data, ret_matrix)) {
        return hs_error_nomem(err, "the weights of an adapter");
    }
    return HS_OK;
}

/* Words' rows in GGUF, where PEFT has a column for each. */
static hs_status transpose(struct peft *peft, struct hs_lora_matrix *matrix, struct hs_error *err)
{
    size_t bytes = hs_lora_type_size(matrix->type);
    size_t n_rows = (size_t)matrix->n_rows, n_cols = (size_t)matrix->n_cols;
    uint8_t *to = hs_adapter_block(peft->adapter, n_rows * n_cols * bytes);
    if (to == NULL) {
        return hs_error_nomem(err, "the weights of an adapter");
    }
    const uint8_t *from = matrix->data;
    for (size_t row = 0; row < n_rows; row++) {
        for (size_t col = 0; col < n_cols; col++) {
            memcpy(to + (col * n_rows + row) * bytes, from + (row * n_cols + col) * bytes, bytes);
        }
    }
    *matrix = (struct hs_lora_matrix){matrix->type, matrix->n_cols, matrix->n_rows, to, NULL};
    return HS_OK;
}

static hs_status permute(struct peft *peft, struct hs_lora_matrix *matrix, uint32_t n_head,
                         struct hs_error *err)
{
    size_t row_bytes = (size_t)matrix->n_cols * hs_lora_type_size(matrix->type);
    uint8_t *to = hs_adapter_block(peft->adapter, (size_t)matrix->n_rows * row_bytes);
    if (to == NULL) {
        return hs_error_nomem(err, "the weights of an adapter");
    }
    const uint8_t *from = matrix->data;
    for (int64_t row = 0; row < matrix->n_rows; row++) {
        memcpy(to + (size_t)hs_model_lora_row(row, matrix->n_rows, n_head) * row_bytes,
               from + (size_t)row * row_bytes, row_bytes);
    }
    matrix->data = to;
    return HS_OK;
}

/* A module of one expert, or of all in one: "...mlp.experts.7.up_proj", "...mlp.experts". */
static bool is_of_experts(const char *module)
{
    const char *at = strstr(module, ".experts");
    return at != NULL && (at[8] == '.' || at[8] == '\0');
}

/* Name and order of rows as the base has them. */
static hs_status fit_base(struct peft *peft, const char *module, struct hs_lora_target *target,
                          struct hs_error *err)
{
    enum hs_lora_rows rows = HS_LORA_ROWS_SAME;
    if (is_of_experts(module)) {
        hs_lora_fault(&peft->faults, HS_NOT_SUPPORTED, "'%.80s' is for the experts of a mixture",
                      module);
        return HS_OK;
    }
    if (!hs_model_lora_tensor(peft->family, module, target->tensor, &rows)) {
        hs_lora_fault(&peft->faults, HS_MISMATCH, "%s models have no module '%.80s'",
                      hs_lora_base_architecture(peft->base), module);
        return HS_OK;
    }
    if (target->is_embedding != (strcmp(target->tensor, "token_embd.weight") == 0)) {
        hs_lora_fault(&peft->faults, HS_MISMATCH, "'%.80s' is %s in the adapter only", module,
                      target->is_embedding ? "an embedding" : "a linear layer");
        return HS_OK;
    }
    if (rows == HS_LORA_ROWS_SAME) {
        return HS_OK;
    }
    uint32_t n_head = hs_lora_base_n_head(peft->base, rows == HS_LORA_ROWS_K);
    if (n_head == 0 || target->n_out == 0 || target->n_out % (2 * (int64_t)n_head) != 0) {
        hs_lora_fault(&peft->faults, HS_MISMATCH,
                      "%s: %" PRId64 " outputs do not go with %" PRIu32 " heads", target->tensor,
                      target->n_out, n_head);
        return HS_OK;
    }
    return permute(peft, &target->b, n_head, err);
}

static hs_status read_pair(struct peft *peft, const struct part *a, const struct part *b,
                           struct hs_lora_target *target, struct hs_error *err)
{
    int32_t rank = 0;
    hs_status status = view(peft, a, &target->a, err);
    if (status == HS_OK) {
        status = view(peft, b, &target->b, err);
    }
    if (status == HS_OK) {
        status = hs_peft_config_scale(peft->config, a->module, &rank, &target->scale, err);
    }
    if (status != HS_OK) {
        return status;
    }
    target->is_embedding = a->is_embedding;
    target->rank = rank;
    target->n_in = target->a.n_cols;
    target->n_out = target->b.n_rows;
    if (target->a.n_rows != rank || target->b.n_cols != rank) {
        hs_lora_fault(&peft->faults, HS_BAD_FORMAT,
                      "'%.80s' has ranks %" PRId64 " and %" PRId64
                      ", the configuration says %" PRId32,
                      a->module, target->a.n_rows, target->b.n_cols, rank);
        return HS_OK;
    }
    if (target->is_embedding) {
        status = transpose(peft, &target->a, err);
    }
    if (status == HS_OK && peft->base != NULL) {
        status = fit_base(peft, a->module, target, err);
    }
    return status;
}

/* ---- all pairs ---- */

static hs_status is_wanted(struct peft *peft, const struct part *part, bool *ret_is_wanted,
                           struct hs_error *err)
{
    hs_status status = hs_peft_config_has(peft->config, part->module, ret_is_wanted, err);
    if (status == HS_OK && !*ret_is_wanted) {
        hs_lora_fault(&peft->faults, HS_BAD_FORMAT,
                      "'%.80s' has weights, but the configuration does not name it", part->module);
    }
    return status;
}

static hs_status read_pairs(struct peft *peft, struct hs_error *err)
{
    struct hs_adapter_loaded *adapter = peft->adapter;
    hs_status status = hs_adapter_targets(adapter, peft->n_parts / 2, err);
    for (size_t i = 0; i < peft->n_parts && status == HS_OK;) {
        const struct part *a = &peft->parts[i];
        size_t n = 1;
        bool is_named = false;
        while (i + n < peft->n_parts && strcmp(peft->parts[i + n].module, a->module) == 0) {
            n++;
        }
        i += n;
        if (n != 2 || a->is_b || !a[1].is_b || a->is_embedding != a[1].is_embedding) {
            hs_lora_fault(&peft->faults, HS_BAD_FORMAT, "'%.80s' has not one A and one B",
                          a->module);
            continue;
        }
        status = is_wanted(peft, a, &is_named, err);
        if (status == HS_OK && is_named) {
            struct hs_lora_target *target = &adapter->targets[adapter->n_targets++];
            const char *dot = strrchr(a->module, '.');
            const char *kind = dot == NULL ? a->module : dot + 1;
            snprintf(target->tensor, sizeof target->tensor, "%.63s", kind); /* until fit_base */
            status = read_pair(peft, a, &a[1], target, err);
        }
    }
    return status;
}

static hs_status check_family(struct peft *peft, struct hs_error *err)
{
    const char *architecture = hs_lora_base_architecture(peft->base);
    peft->family = hs_model_family_find(architecture);
    if (peft->family != NULL && peft->family->lora_names != HS_LORA_NAMES_NONE) {
        return HS_OK;
    }
    hs_error_set(err, HS_NOT_SUPPORTED,
                 "PEFT's names of the modules of %s models are not known to hyprstream",
                 architecture);
    hs_error_hint(err, "convert the adapter with llama.cpp's convert_lora_to_gguf.py, then use the "
                       ".gguf file");
    return HS_NOT_SUPPORTED;
}

static hs_status describe(struct peft *peft, struct hs_error *err)
{
    struct hs_adapter_file *file = &peft->adapter->file;
    const char *base = hs_peft_config_base(peft->config);
    const char *fingerprint = hs_safetensors_metadata(peft->reader, FINGERPRINT_KEY);
    file->format = HS_ADAPTER_PEFT;
    file->alpha = hs_peft_config_alpha(peft->config);
    file->base_model = hs_strdup(base);
    if (base != NULL && file->base_model == NULL) {
        return hs_error_nomem(err, "the name of an adapter's base");
    }
    if (fingerprint != NULL && strlen(fingerprint) < sizeof file->base_fingerprint) {
        memcpy(file->base_fingerprint, fingerprint, strlen(fingerprint));
    }
    return HS_OK;
}

hs_status hs_adapter_read_peft(struct hs_adapter_loaded *adapter, const char *config,
                               size_t config_len, const hs_lora_base *base, struct hs_error *err)
{
    struct peft peft = {.adapter = adapter, .base = base};
    hs_status status = hs_peft_config_parse(config, config_len, &peft.config, err);
    if (status == HS_OK && base != NULL) {
        status = check_family(&peft, err);
    }
    if (status == HS_OK) {
        status = hs_safetensors_open(adapter->bytes, adapter->len, &peft.reader, err);
    }
    if (status == HS_OK) {
        status = describe(&peft, err);
    }
    if (status == HS_OK) {
        status = read_parts(&peft, err);
    }
    if (status == HS_OK) {
        status = read_pairs(&peft, err);
    }
    if (status == HS_OK) {
        status = hs_adapter_finish(adapter, base, &peft.faults, err);
    }
    hs_free(peft.parts);
    hs_safetensors_free(peft.reader);
    hs_peft_config_free(peft.config);
    return status;
}
