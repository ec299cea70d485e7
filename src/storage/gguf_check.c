/* gguf_check.c - whether a well-formed GGUF file is a language model that can be loaded. */
#include "gguf_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define MIN_ALIGNMENT 32u /* ggml's TENSOR_ALIGNMENT, which it asserts on mapped weights */

static hs_status bad(struct hs_error *err)
{
    hs_error_hint(err, "the model is damaged or was converted wrongly; fetch or convert it again");
    return HS_BAD_FORMAT;
}

static hs_status unsupported(struct hs_error *err)
{
    hs_error_hint(err, "give a language model: a GGUF file that llama.cpp can chat with");
    return HS_UNSUPPORTED_MODEL;
}

struct refused {
    const char *arch, *what;
};

static const struct refused refused[] = {
#define HS_GGUF_ARCH(name, equal, whole)
#define HS_GGUF_ARCH_REFUSED(name, what) {name, what},
#define HS_GGUF_ARCH_UNGROUPED(name)
#define HS_GGUF_ARCH_UNROTATED(name)
#include "gguf_arch.def"
#undef HS_GGUF_ARCH
#undef HS_GGUF_ARCH_REFUSED
#undef HS_GGUF_ARCH_UNGROUPED
#undef HS_GGUF_ARCH_UNROTATED
};

static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool is_ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.';
        if (!is_ok) {
            return false;
        }
    }
    return len > 0;
}

static hs_status check_architecture(const hs_gguf *gguf, char arch[64], struct hs_error *err)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, "general.architecture");
    if (kv == NULL || kv->type != HS_GGUF_STRING) {
        hs_error_set(err, HS_UNSUPPORTED_MODEL,
                     "the file does not say which architecture it is (general.architecture)");
        return unsupported(err);
    }
    if (kv->value_len > 63 || !is_plain((const char *)kv->value, kv->value_len)) {
        hs_error_set(err, HS_UNSUPPORTED_MODEL,
                     "general.architecture is no name of 1 to 63 letters, digits, '-', '_', '.'");
        return unsupported(err);
    }
    memcpy(arch, kv->value, kv->value_len);
    arch[kv->value_len] = '\0';
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (strcmp(arch, refused[i].arch) == 0) {
            hs_error_set(err, HS_UNSUPPORTED_MODEL, "'%s' is not a language model but %s", arch,
                         refused[i].what);
            return unsupported(err);
        }
    }
    return HS_OK;
}

static hs_status check_kind(const hs_gguf *gguf, struct hs_error *err)
{
    const struct hs_gguf_kv *kv = hs_gguf_find(gguf, "general.type");
    if (kv == NULL) {
        return HS_OK;
    }
    if (kv->type == HS_GGUF_STRING && kv->value_len == 7 && !memcmp(kv->value, "adapter", 7)) {
        hs_error_set(err, HS_UNSUPPORTED_MODEL, "the file is an adapter, not a model");
        hs_error_hint(err, "name the model it was made for, and give the adapter beside it");
        return HS_UNSUPPORTED_MODEL;
    }
    if (kv->type != HS_GGUF_STRING || kv->value_len != 5 || memcmp(kv->value, "model", 5) != 0) {
        hs_error_set(err, HS_UNSUPPORTED_MODEL, "the file is no model (general.type is '%.*s')",
                     kv->type == HS_GGUF_STRING && kv->value_len < 64 ? (int)kv->value_len : 0,
                     (const char *)kv->value);
        return unsupported(err);
    }
    return HS_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

enum need { ANY_WEIGHT, ONLY_F32, ONLY_I32 };

/* llama.cpp adds and multiplies these as F32 and looks the last kind up as I32; with other types it
 * ends the process. */
static enum need needed_type(const struct hs_gguf_tensor *tensor)
{
    static const char *const f32[] = {".bias", "norm.weight", "ssm_a", "ssm_conv1d.weight"};
    if (strstr(tensor->name, "tid2eid") != NULL) {
        return ONLY_I32;
    }
    for (size_t i = 0; i < sizeof f32 / sizeof f32[0]; i++) {
        if (ends_with(tensor->name, f32[i])) {
            return ONLY_F32;
        }
    }
    bool is_vector = tensor->dims[1] == 1 && tensor->dims[2] == 1 && tensor->dims[3] == 1;
    return is_vector ? ONLY_F32 : ANY_WEIGHT;
}

/* Not the types that ggml knows only as intermediate results or indices. */
static bool is_weight_type(uint32_t type)
{
    static const uint8_t others[] = {9, 15, 24, 25, 26, 27, 28}; /* Q8_1 Q8_K I8 .. I64 F64 */
    return memchr(others, (int)type, sizeof others) == NULL;
}

hs_status hs_gguf_check_tensors(const hs_gguf *gguf, struct hs_error *err)
{
    static const char *const only[] = {"", ", only F32", ", only I32"};
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        const struct hs_gguf_tensor *tensor = &gguf->tensors[i];
        enum need need = needed_type(tensor);
        bool is_ok = need == ANY_WEIGHT ? is_weight_type(tensor->type)
                                        : tensor->type == (need == ONLY_F32 ? 0 : 26);
        if (!is_ok) {
            hs_error_set(err, HS_BAD_FORMAT, "tensor '%s' must not be of type %s%s", tensor->name,
                         hs_gguf_tensor_type(tensor->type)->name, only[need]);
            return bad(err);
        }
        for (uint32_t d = 0; d < HS_GGUF_MAX_DIMS; d++) {
            if (tensor->dims[d] > INT32_MAX) {
                hs_error_set(err, HS_BAD_FORMAT,
                             "tensor '%s' has %" PRIu64 " in dimension %" PRIu32
                             ", more than the limit of %" PRId32,
                             tensor->name, tensor->dims[d], d, INT32_MAX);
                return bad(err);
            }
        }
    }
    return HS_OK;
}

static void gguf_freep(hs_gguf **gguf)
{
    hs_gguf_free(*gguf);
}

static hs_status check_first_part(const hs_gguf *gguf, struct hs_error *err)
{
    uint64_t no = 0;
    if (hs_gguf_u64(gguf, "split.no", &no) && no != 0) {
        hs_error_set(err, HS_UNSUPPORTED_MODEL, "the file is part %" PRIu64 " of a split model",
                     no + 1);
        hs_error_hint(err, "name the first part, '...-00001-of-%05" PRIu32 ".gguf'",
                      hs_gguf_split_count(gguf));
        return HS_UNSUPPORTED_MODEL;
    }
    return HS_OK;
}

static hs_status check_parts(const hs_gguf *gguf, const char *path, struct hs_error *err)
{
    uint32_t n = hs_gguf_split_count(gguf);
    uint64_t n_tensors = gguf->n_tensors, n_expected = 0;
    for (uint32_t i = 1; i < n && path != NULL; i++) {
        HS_CLEANUP(gguf_freep) hs_gguf *part = NULL;
        hs_status status = hs_gguf_split_open(path, i, n, &part, err);
        if (status == HS_OK) {
            status = hs_gguf_check_tensors(part, err);
        }
        if (status != HS_OK) {
            return status;
        }
        n_tensors += part->n_tensors;
    }
    if (n > 1 && path != NULL && hs_gguf_u64(gguf, "split.tensors.count", &n_expected) &&
        n_expected != n_tensors) {
        hs_error_set(err, HS_BAD_FORMAT,
                     "the %" PRIu32 " parts hold %" PRIu64 " tensors, not the %" PRIu64
                     " that split.tensors.count says",
                     n, n_tensors, n_expected);
        return bad(err);
    }
    return HS_OK;
}

static hs_status check_has_weights(const hs_gguf *gguf, struct hs_error *err)
{
    if (gguf->n_tensors == 0 && hs_gguf_split_count(gguf) == 1) {
        hs_error_set(err, HS_UNSUPPORTED_MODEL, "the file has no weights, only metadata");
        return unsupported(err);
    }
    return HS_OK;
}

static hs_status check_weights(const hs_gguf *gguf, struct hs_error *err)
{
    if (gguf->alignment < MIN_ALIGNMENT) {
        hs_error_set(err, HS_BAD_FORMAT, "general.alignment %" PRIu32 " is below %u",
                     gguf->alignment, MIN_ALIGNMENT);
        return bad(err);
    }
    return hs_gguf_check_tensors(gguf, err);
}

hs_status hs_gguf_check_model(const hs_gguf *gguf, const char *path, struct hs_error *err)
{
    char arch[64];
    hs_status status = check_first_part(gguf, err);
    if (status == HS_OK) {
        status = check_kind(gguf, err);
    }
    if (status == HS_OK) {
        status = check_architecture(gguf, arch, err);
    }
    if (status == HS_OK) {
        status = check_has_weights(gguf, err);
    }
    if (status == HS_OK) {
        status = check_parts(gguf, path, err);
    }
    if (status == HS_OK) {
        status = hs_gguf_check_hparams(gguf, arch, err);
    }
    if (status == HS_OK) {
        status = hs_gguf_check_vocab(gguf, err);
    }
    if (status == HS_OK) {
        status = check_weights(gguf, err);
    }
    if (status != HS_OK && path != NULL) {
        hs_error_prefix(err, "%s", path);
    }
    return status;
}
