/* Adapters of llama.cpp are loaded from GGUF files; these are written in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "gguf.h"
#include "llama_cxx.h"
#include "llama_log.h"
#include "llama_lora.h"

/* The members' matrices of one site, side by side. */
struct piece {
    int32_t site, rank;
    float *a, *b; /* f32[rank, n_in], f32[n_out, rank] */
};

struct load_call {
    const hs_rt_model *model;
    const struct piece *pieces;
    int32_t n_pieces;
    void *tensors; /* memory for their descriptions */
    size_t tensors_size;
    char *file; /* malloc'ed by open_memstream */
    size_t file_size;
    bool is_written;
    FILE *reader;
    struct llama_adapter_lora *adapter;
};

static void add_tensor(struct gguf_context *gguf, struct ggml_context *ggml,
                       const struct hs_lora_site *site, const char *suffix, int64_t n_cols,
                       int64_t n_rows, float *data)
{
    struct ggml_tensor *tensor = ggml_new_tensor_2d(ggml, GGML_TYPE_F32, n_cols, n_rows);
    ggml_format_name(tensor, "%s%s", site->tensor, suffix);
    tensor->data = data;
    gguf_add_tensor(gguf, tensor);
}

/* Without alpha llama.cpp takes the scale as it is given. */
static void write_file(void *arg)
{
    struct load_call *call = arg;
    const struct hs_llama_lora *lora = call->model->lora;
    struct ggml_init_params params = {
        .mem_size = call->tensors_size, .mem_buffer = call->tensors, .no_alloc = true};
    struct ggml_context *ggml = ggml_init(params);
    struct gguf_context *gguf = gguf_init_empty();
    gguf_set_val_str(gguf, "general.type", "adapter");
    gguf_set_val_str(gguf, "general.architecture", call->model->info.architecture);
    gguf_set_val_str(gguf, "adapter.type", "lora");
    for (int32_t i = 0; i < call->n_pieces; i++) {
        const struct piece *piece = &call->pieces[i];
        const struct hs_lora_site *site = &lora->sites[piece->site];
        add_tensor(gguf, ggml, site, ".lora_a", site->n_in, piece->rank, piece->a);
        add_tensor(gguf, ggml, site, ".lora_b", piece->rank, site->n_out, piece->b);
    }
    FILE *writer = open_memstream(&call->file, &call->file_size);
    if (writer) {
        call->is_written = gguf_write_to_file_ptr(gguf, writer, false);
        call->is_written = fclose(writer) == 0 && call->is_written;
    }
    gguf_free(gguf);
    ggml_free(ggml);
}

static void read_file(void *arg)
{
    struct load_call *call = arg;
    call->adapter = llama_adapter_lora_init_from_file_ptr(call->model->llama, call->reader);
}

static hs_status load(struct load_call *call, struct hs_error *err)
{
    hs_status status = hs_cxx_guard(write_file, call, "writing an adapter for llama.cpp", err);
    if (status == HS_OK && call->is_written) {
        call->reader = fmemopen(call->file, call->file_size, "rb");
    }
    if (status != HS_OK || !call->reader) {
        free(call->file);
        return status != HS_OK ? status : hs_error_nomem(err, "adapter for llama.cpp");
    }
    struct hs_llama_capture log;
    hs_llama_log_capture(&log);
    pthread_mutex_lock(&call->model->lora->llama_lock);
    status = hs_cxx_guard(read_file, call, "loading an adapter into llama.cpp", err);
    pthread_mutex_unlock(&call->model->lora->llama_lock);
    hs_llama_log_capture(NULL);
    fclose(call->reader);
    free(call->file);
    if (status == HS_OK && !call->adapter) {
        status = hs_error_set(err, HS_INTERNAL, "llama.cpp refuses an adapter: %s",
                              hs_llama_capture_essence(&log));
    }
    return status;
}

static int32_t rank_of(const hs_rt_adapter *adapter, int32_t site)
{
    return adapter->weights[site] ? adapter->weights[site]->rank : 0;
}

static void fill_piece(const struct hs_lora_site *site, const hs_rt_adapter *const *members,
                       int32_t n_members, float *scratch, struct piece *piece)
{
    int32_t offset = 0;
    for (int32_t m = 0; m < n_members; m++) {
        int32_t rank = rank_of(members[m], piece->site);
        if (rank == 0) {
            continue;
        }
        const struct hs_lora_packed *weights = members[m]->weights[piece->site];
        hs_lora_packed_read(weights, piece->a + (size_t)offset * (size_t)site->n_in, scratch);
        for (int64_t row = 0; row < site->n_out; row++) {
            for (int32_t k = 0; k < rank; k++) {
                piece->b[row * piece->rank + offset + k] = scratch[row * rank + k] * weights->scale;
            }
        }
        offset += rank;
    }
}

/* Ranks of all members at a site; the ghost has one everywhere. */
static hs_status count_ranks(const struct hs_llama_lora *lora, int32_t site,
                             const hs_rt_adapter *const *members, int32_t n_members,
                             int32_t *offsets, int32_t *ret_rank, struct hs_error *err)
{
    int32_t rank = members ? 0 : 1;
    for (int32_t m = 0; m < n_members; m++) {
        if (members[m]->weights[site] && rank_of(members[m], site) == 0) {
            hs_error_set(err, HS_NOT_SUPPORTED,
                         "'%s' has a sparse delta, which llama.cpp's own adapters cannot hold",
                         lora->sites[site].tensor);
            return hs_error_hint(err, "use the rewriting engine, or keep the delta as A and B");
        }
        if (offsets) {
            offsets[m * lora->n_sites + site] = rank;
        }
        rank += rank_of(members[m], site);
    }
    *ret_rank = rank;
    return HS_OK;
}

static size_t n_values(const struct hs_lora_site *site, int32_t rank)
{
    return (size_t)rank * (size_t)(site->n_in + site->n_out);
}

static hs_status make_pieces(const struct hs_llama_lora *lora, const hs_rt_adapter *const *members,
                             int32_t n_members, struct piece *pieces, int32_t n_pieces,
                             float **ret_values, struct hs_error *err)
{
    size_t n = 0, n_scratch = 0;
    for (int32_t i = 0; i < n_pieces; i++) {
        const struct hs_lora_site *site = &lora->sites[pieces[i].site];
        size_t n_b = (size_t)pieces[i].rank * (size_t)site->n_out;
        n_scratch = n_b > n_scratch ? n_b : n_scratch;
        n += n_values(site, pieces[i].rank);
    }
    float *values = hs_calloc(n + n_scratch, sizeof(*values));
    if (!values) {
        return hs_error_nomem(err, "adapter for llama.cpp");
    }
    float *at = values + n_scratch;
    for (int32_t i = 0; i < n_pieces; i++) {
        const struct hs_lora_site *site = &lora->sites[pieces[i].site];
        pieces[i].a = at;
        pieces[i].b = at + (size_t)pieces[i].rank * (size_t)site->n_in;
        at += n_values(site, pieces[i].rank);
        fill_piece(site, members, n_members, values, &pieces[i]);
    }
    *ret_values = values;
    return HS_OK;
}

hs_status hs_lora_native_new(const hs_rt_model *model, const hs_rt_adapter *const *members,
                             int32_t n_members, int32_t *offsets,
                             struct llama_adapter_lora **ret_adapter, struct hs_error *err)
{
    const struct hs_llama_lora *lora = model->lora;
    HS_CLEANUP(hs_freep) struct piece *pieces = hs_calloc((size_t)lora->n_sites, sizeof(*pieces));
    size_t tensors_size = (2 * (size_t)lora->n_sites + 1) * ggml_tensor_overhead();
    HS_CLEANUP(hs_freep) void *tensors = hs_alloc(tensors_size);
    if (!pieces || !tensors) {
        return hs_error_nomem(err, "adapter for llama.cpp");
    }
    int32_t n_pieces = 0;
    for (int32_t site = 0; site < lora->n_sites; site++) {
        int32_t rank = 0;
        if (lora->sites[site].kind != HS_LORA_SITE_PRODUCT) {
            continue;
        }
        hs_status status = count_ranks(lora, site, members, n_members, offsets, &rank, err);
        if (status != HS_OK) {
            return status;
        }
        if (rank > 0) {
            pieces[n_pieces++] = (struct piece){.site = site, .rank = rank};
        }
    }
    if (n_pieces == 0) {
        *ret_adapter = NULL;
        return HS_OK;
    }
    HS_CLEANUP(hs_freep) float *values = NULL;
    hs_status status = make_pieces(lora, members, n_members, pieces, n_pieces, &values, err);
    if (status != HS_OK) {
        return status;
    }
    struct load_call call = {.model = model,
                             .pieces = pieces,
                             .n_pieces = n_pieces,
                             .tensors = tensors,
                             .tensors_size = tensors_size};
    status = load(&call, err);
    if (status == HS_OK) {
        *ret_adapter = call.adapter;
    }
    return status;
}

void hs_lora_native_free(const hs_rt_model *model, struct llama_adapter_lora *adapter)
{
    pthread_mutex_lock(&model->lora->llama_lock);
    llama_adapter_lora_free(adapter);
    pthread_mutex_unlock(&model->lora->llama_lock);
}
