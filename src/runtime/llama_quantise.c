/* llama_quantise.c - ggml's tensor types to f32 and back, and llama.cpp's mixtures of them. */
#include <string.h>

#include "base/error.h"
#include "ggml.h"
#include "llama_cxx.h"
#include "llama_internal.h"
#include "llama_log.h"

/* Those that need nothing but the weights; others want an importance matrix. */
static const struct {
    const char *name;
    enum llama_ftype ftype;
} mixtures[] = {
    {"F32", LLAMA_FTYPE_ALL_F32},          {"F16", LLAMA_FTYPE_MOSTLY_F16},
    {"BF16", LLAMA_FTYPE_MOSTLY_BF16},     {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
    {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},     {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S}, {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},     {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S}, {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},     {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL},
    {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS}, {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L},
    {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M}, {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S},
    {"IQ3_M", LLAMA_FTYPE_MOSTLY_IQ3_M},   {"IQ3_S", LLAMA_FTYPE_MOSTLY_IQ3_S},
    {"IQ3_XS", LLAMA_FTYPE_MOSTLY_IQ3_XS}, {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
    {"TQ2_0", LLAMA_FTYPE_MOSTLY_TQ2_0},   {"TQ1_0", LLAMA_FTYPE_MOSTLY_TQ1_0},
};
#define N_MIXTURES (sizeof mixtures / sizeof mixtures[0])
#define MIXTURES_HINT                                                                              \
    "use F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0, "     \
    "IQ4_NL, IQ4_XS, "                                                                             \
    "Q3_K_L, Q3_K_M, Q3_K_S, IQ3_M, IQ3_S, IQ3_XS, Q2_K, TQ2_0 or TQ1_0"

static hs_status not_supported(uint32_t type, const char *what, struct hs_error *err)
{
    const char *name = type < GGML_TYPE_COUNT ? ggml_type_name((enum ggml_type)type) : NULL;
    hs_error_set(err, HS_NOT_SUPPORTED, "tensors of type %u (%s) cannot be %s", type,
                 name == NULL ? "unknown" : name, what);
    hs_error_hint(err, "choose another type, F16 for one");
    return HS_NOT_SUPPORTED;
}

/* Whether n is whole blocks of a type that has a size. */
static hs_status check_blocks(uint32_t type, int64_t n, struct hs_error *err)
{
    int64_t block = type < GGML_TYPE_COUNT ? ggml_blck_size((enum ggml_type)type) : 0;
    if (block <= 0 || ggml_type_size((enum ggml_type)type) == 0) {
        return not_supported(type, "read", err);
    }
    if (n % block != 0) {
        hs_error_set(err, HS_INVALID_ARGUMENT,
                     "%lld values are not a multiple of the %lld in a block of %s", (long long)n,
                     (long long)block, ggml_type_name((enum ggml_type)type));
        hs_error_hint(err, "choose a type with smaller blocks");
        return HS_INVALID_ARGUMENT;
    }
    return HS_OK;
}

hs_status hs_llama_dequantise(uint32_t type, const void *data, int64_t n, float *values,
                              struct hs_error *err)
{
    hs_status status = check_blocks(type, n, err);
    if (status != HS_OK) {
        return status;
    }
    if (type == GGML_TYPE_F32) {
        memcpy(values, data, (size_t)n * sizeof *values);
        return HS_OK;
    }
    const struct ggml_type_traits *traits = ggml_get_type_traits((enum ggml_type)type);
    if (traits->to_float == NULL) {
        return not_supported(type, "read", err);
    }
    traits->to_float(data, values, n);
    return HS_OK;
}

hs_status hs_llama_quantise(uint32_t type, const float *values, int64_t n_rows, int64_t n_cols,
                            void *data, struct hs_error *err)
{
    hs_status status = check_blocks(type, n_cols, err);
    if (status != HS_OK) {
        return status;
    }
    const struct ggml_type_traits *traits = ggml_get_type_traits((enum ggml_type)type);
    bool is_float = type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
    bool is_internal = type == GGML_TYPE_Q8_1 || type == GGML_TYPE_Q8_K; /* of products only */
    if (!is_float && (is_internal || !traits->is_quantized || traits->from_float_ref == NULL ||
                      ggml_quantize_requires_imatrix((enum ggml_type)type))) {
        return not_supported(type, "made of weights alone", err);
    }
    ggml_quantize_chunk((enum ggml_type)type, values, data, 0, n_rows, n_cols, NULL);
    return HS_OK;
}

struct quantise_call {
    const char *path, *path_out;
    struct llama_model_quantize_params params;
    uint32_t result;
};

static void quantise_file(void *arg)
{
    struct quantise_call *call = arg;
    call->result = llama_model_quantize(call->path, call->path_out, &call->params);
}

hs_status hs_llama_model_quantise(const char *path, const char *path_out, const char *mixture,
                                  int32_t n_threads, struct hs_error *err)
{
    size_t i = 0;
    while (i < N_MIXTURES && strcmp(mixtures[i].name, mixture) != 0) {
        i++;
    }
    if (i == N_MIXTURES) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "'%.40s' is not a type that models are written in",
                     mixture);
        hs_error_hint(err, MIXTURES_HINT);
        return HS_INVALID_ARGUMENT;
    }
    struct quantise_call call = {
        .path = path, .path_out = path_out, .params = llama_model_quantize_default_params()};
    call.params.nthread = n_threads;
    call.params.ftype = mixtures[i].ftype;
    call.params.allow_requantize = true;
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    hs_status status = hs_cxx_guard(quantise_file, &call, "quantising a model", err);
    hs_llama_log_capture(NULL);
    if (status == HS_OK && call.result != 0) {
        hs_error_set(err, HS_INTERNAL, "'%s' cannot be written as %s: %s", path_out, mixture,
                     hs_llama_capture_essence(&log));
        hs_error_hint(err, "choose another type, F16 for one");
        return HS_INTERNAL;
    }
    return status;
}
