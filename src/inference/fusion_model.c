/*
 * fusion_model.c - a merged model: the base's file copied tensor by tensor, with the merged deltas
 * added on the way.
 *
 * In the types of the base it is written in one go. For other types the changed tensors are first
 * written as F32 beside the others as they are, and llama.cpp makes the mixture of that file: so
 * nothing is rounded twice, and a tensor that has its type already keeps its bytes.
 */
#include "lora_fusion.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/machine.h"
#include "base/mem.h"
#include "storage/gguf_writer.h"

#define TYPE_F32 0
#define BLOCK_VALUES 1048576 /* rows that are handled at once: of about so many values */

struct copy {
    const struct hs_runtime *rt;
    const struct hs_fusion *fusion;
    const struct hs_merge_params *params;
    const hs_gguf *gguf;
    const char *path; /* of the base */
    int fd;
    hs_gguf_writer *writer;
    uint8_t *memory; /* where data goes when there is no writer */
    bool is_wide;    /* changed tensors become F32 */
    uint64_t n_bytes, n_bytes_done;
};

/* ---- a tensor ---- */

static hs_status read_at(struct copy *copy, void *data, size_t len, uint64_t offset,
                         struct hs_error *err)
{
    while (len > 0) {
        ssize_t n = pread(copy->fd, data, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? hs_error_errno(err, errno, "read", copy->path)
                         : hs_error_set(err, HS_TRUNCATED, "'%s' became shorter", copy->path);
        }
        data = (char *)data + n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return HS_OK;
}

static hs_status report(struct copy *copy, uint64_t n_bytes, struct hs_error *err)
{
    const struct hs_merge_params *params = copy->params;
    copy->n_bytes_done += n_bytes;
    float done = (float)((double)copy->n_bytes_done / (double)copy->n_bytes);
    if (params->progress != NULL && !params->progress(done, params->progress_user)) {
        return hs_error_set(err, HS_CANCELLED, "merging was cancelled");
    }
    return HS_OK;
}

static hs_status put(struct copy *copy, const void *data, size_t len, struct hs_error *err)
{
    if (copy->writer != NULL) {
        return hs_gguf_writer_data(copy->writer, data, len, err);
    }
    memcpy(copy->memory, data, len);
    copy->memory += len;
    return HS_OK;
}

static hs_status copy_bytes(struct copy *copy, const struct hs_gguf_tensor *tensor,
                            struct hs_error *err)
{
    size_t step = 4 * BLOCK_VALUES;
    HS_CLEANUP(hs_freep) void *data = hs_alloc(step);
    if (data == NULL) {
        return hs_error_nomem(err, "a piece of a model");
    }
    uint64_t offset = hs_gguf_data_offset(copy->gguf) + tensor->offset;
    hs_status status = HS_OK;
    for (uint64_t at = 0; at < tensor->size_bytes && status == HS_OK; at += step) {
        uint64_t left = tensor->size_bytes - at;
        size_t n = left < step ? (size_t)left : step;
        status = read_at(copy, data, n, offset + at, err);
        if (status == HS_OK) {
            status = put(copy, data, n, err);
        }
        if (status == HS_OK) {
            status = report(copy, n, err);
        }
    }
    return status;
}

/* A block of rows: as the file has them, as f32, and what is added. */
struct rows {
    void *data;
    float *values;
    double *delta;
};

static void rows_free(struct rows *rows)
{
    hs_freep(&rows->data);
    hs_freep(&rows->values);
    hs_freep(&rows->delta);
}

static hs_status add_rows(struct copy *copy, const struct hs_gguf_tensor *tensor,
                          hs_merge_delta *delta, int64_t first, int64_t n, struct rows *rows,
                          struct hs_error *err)
{
    int64_t n_cols = (int64_t)tensor->dims[0];
    size_t row_bytes = (size_t)(tensor->size_bytes / tensor->dims[1]);
    uint64_t offset =
        hs_gguf_data_offset(copy->gguf) + tensor->offset + (uint64_t)first * row_bytes;
    hs_status status = read_at(copy, rows->data, (size_t)n * row_bytes, offset, err);
    if (status == HS_OK) {
        status = copy->rt->dequantise(tensor->type, rows->data, n * n_cols, rows->values, err);
    }
    if (status == HS_OK) {
        status = hs_merge_delta_next(delta, n, rows->delta, err);
    }
    if (status != HS_OK) {
        return status;
    }
    for (int64_t i = 0; i < n * n_cols; i++) {
        rows->values[i] = (float)((double)rows->values[i] + rows->delta[i]);
    }
    if (copy->is_wide) {
        return put(copy, rows->values, (size_t)(n * n_cols) * sizeof *rows->values, err);
    }
    status = copy->rt->quantise(tensor->type, rows->values, n, n_cols, rows->data, err);
    return status != HS_OK ? status : put(copy, rows->data, (size_t)n * row_bytes, err);
}

static hs_status add_delta(struct copy *copy, const struct hs_gguf_tensor *tensor,
                           hs_merge_delta *delta, struct hs_error *err)
{
    HS_CLEANUP(rows_free) struct rows rows = {0};
    int64_t n_rows = hs_merge_delta_n_rows(delta);
    int64_t n_cols = hs_merge_delta_n_cols(delta);
    int64_t block = n_cols < BLOCK_VALUES ? BLOCK_VALUES / n_cols : 1;
    size_t n_values = (size_t)(block * n_cols);
    rows.data = hs_alloc(n_values * sizeof(double)); /* no type has more bytes a value */
    rows.values = hs_calloc(n_values, sizeof *rows.values);
    rows.delta = hs_calloc(n_values, sizeof *rows.delta);
    if (rows.data == NULL || rows.values == NULL || rows.delta == NULL) {
        return hs_error_nomem(err, "rows of a model");
    }
    hs_status status = HS_OK;
    for (int64_t row = 0; row < n_rows && status == HS_OK; row += block) {
        int64_t n = block < n_rows - row ? block : n_rows - row;
        status = add_rows(copy, tensor, delta, row, n, &rows, err);
        if (status == HS_OK) {
            status = report(copy, (uint64_t)n * (tensor->size_bytes / tensor->dims[1]), err);
        }
    }
    return status;
}

static hs_status write_tensor(struct copy *copy, const struct hs_gguf_tensor *tensor,
                              struct hs_error *err)
{
    int32_t i = hs_merge_plan_find(copy->fusion->plan, tensor->name);
    if (i < 0) {
        return copy_bytes(copy, tensor, err);
    }
    hs_merge_delta *delta = NULL;
    hs_status status = hs_merge_delta_new(copy->fusion->plan, i, &delta, err);
    if (status == HS_OK) {
        status = add_delta(copy, tensor, delta, err);
    }
    hs_merge_delta_free(delta);
    if (status != HS_OK) {
        hs_error_prefix(err, "%s", tensor->name);
    }
    return status;
}

hs_status hs_fusion_tensor(const struct hs_fusion_model *model, const hs_merge_plan *plan,
                           const struct hs_gguf_tensor *tensor,
                           const struct hs_merge_params *params, void *data, struct hs_error *err)
{
    const struct hs_fusion fusion = {.plan = (hs_merge_plan *)(uintptr_t)plan};
    struct copy copy = {.rt = model->rt,
                        .fusion = &fusion,
                        .params = params,
                        .gguf = model->gguf,
                        .path = model->path,
                        .fd = model->fd,
                        .memory = data,
                        .n_bytes = hs_gguf_weights_bytes(model->gguf)};
    return plan == NULL ? copy_bytes(&copy, tensor, err) : write_tensor(&copy, tensor, err);
}

/* ---- the file ---- */

static hs_status put_header(struct copy *copy, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *base = hs_gguf_strdup(copy->gguf, "general.name");
    HS_CLEANUP(hs_freep)
    char *name = hs_asprintf("%s with %s", base == NULL ? "model" : base, copy->fusion->recipe);
    if (name == NULL) {
        return hs_error_nomem(err, "a model's name");
    }
    hs_status status = hs_gguf_writer_put_string(copy->writer, "general.name", name, err);
    if (status == HS_OK) {
        status = hs_gguf_writer_put_string(copy->writer, "hyprstream.merge.recipe",
                                           copy->fusion->recipe, err);
    }
    if (status == HS_OK) {
        status = hs_gguf_writer_put_string(copy->writer, "hyprstream.merge.base_fingerprint",
                                           hs_lora_base_fingerprint(copy->fusion->base), err);
    }
    if (status == HS_OK) {
        status = hs_gguf_writer_copy(copy->writer, copy->gguf, err);
    }
    for (size_t i = 0; i < hs_gguf_n_tensors(copy->gguf) && status == HS_OK; i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(copy->gguf, i);
        bool is_changed = hs_merge_plan_find(copy->fusion->plan, tensor->name) >= 0;
        uint32_t type = is_changed && copy->is_wide ? TYPE_F32 : tensor->type;
        status = hs_gguf_writer_tensor(copy->writer, tensor->name, tensor->n_dims, tensor->dims,
                                       type, err);
    }
    return status;
}

static hs_status write_copy(struct copy *copy, const char *path, struct hs_error *err)
{
    hs_status status = hs_gguf_writer_new(hs_gguf_alignment(copy->gguf), &copy->writer, err);
    if (status == HS_OK) {
        status = put_header(copy, err);
    }
    if (status == HS_OK) {
        status = hs_gguf_writer_begin(copy->writer, path, err);
    }
    for (size_t i = 0; i < hs_gguf_n_tensors(copy->gguf) && status == HS_OK; i++) {
        status = write_tensor(copy, hs_gguf_tensor_at(copy->gguf, i), err);
    }
    if (status == HS_OK) {
        status = hs_gguf_writer_commit(copy->writer, err);
    }
    hs_gguf_writer_free(copy->writer);
    return status;
}

static hs_status check_base(const hs_gguf *gguf, const char *base_path, const char *path,
                            struct hs_error *err)
{
    uint64_t n_files = 1;
    struct stat base;
    struct stat out;
    if (hs_gguf_u64(gguf, "split.count", &n_files) && n_files > 1) {
        hs_error_set(err, HS_NOT_SUPPORTED, "'%s' is one of %llu files of a model", base_path,
                     (unsigned long long)n_files);
        hs_error_hint(err, "join them first, with llama.cpp's llama-gguf-split --merge");
        return HS_NOT_SUPPORTED;
    }
    if (stat(base_path, &base) == 0 && stat(path, &out) == 0 && base.st_dev == out.st_dev &&
        base.st_ino == out.st_ino) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "'%s' is the model itself", path);
        hs_error_hint(err, "give the merged model another name");
        return HS_INVALID_ARGUMENT;
    }
    return HS_OK;
}

/* Through a wide file beside the wanted one, and a name that is not seen until it is whole. */
static hs_status write_mixture(struct copy *copy, const char *path, const char *type,
                               struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *wide = hs_asprintf("%s.wide-%ld", path, (long)getpid());
    HS_CLEANUP(hs_freep) char *part = hs_asprintf("%s.part-%ld", path, (long)getpid());
    if (wide == NULL || part == NULL) {
        return hs_error_nomem(err, "the name of a file");
    }
    int32_t n_threads =
        copy->params->n_threads > 0 ? copy->params->n_threads : hs_machine_physical_cores();
    copy->is_wide = true;
    hs_status status = write_copy(copy, wide, err);
    if (status == HS_OK) {
        status = copy->rt->model_quantise(wide, part, type, n_threads, err);
    }
    if (status == HS_OK && rename(part, path) != 0) {
        status = hs_error_errno(err, errno, "write", path);
    }
    unlink(wide);
    unlink(part);
    return status;
}

hs_status hs_fusion_write_model(const struct hs_runtime *rt, const char *base_path,
                                const struct hs_fusion *fusion,
                                const struct hs_merge_params *params, const char *path,
                                const char *type, struct hs_error *err)
{
    hs_gguf *gguf = NULL;
    struct stat info;
    HS_CLEANUP(hs_closep) int fd = -1;
    hs_status status = rt->init(&(const char *){NULL}, err);
    if (status == HS_OK) {
        status = hs_gguf_open(base_path, &gguf, err);
    }
    if (status == HS_OK) {
        status = check_base(gguf, base_path, path, err);
    }
    if (status == HS_OK) {
        status = hs_fs_open(base_path, &fd, &info, err);
    }
    if (status == HS_OK) {
        struct copy copy = {.rt = rt,
                            .fusion = fusion,
                            .params = params,
                            .gguf = gguf,
                            .path = base_path,
                            .fd = fd,
                            .n_bytes = hs_gguf_weights_bytes(gguf)};
        status =
            type == NULL ? write_copy(&copy, path, err) : write_mixture(&copy, path, type, err);
    }
    hs_gguf_free(gguf);
    return status;
}
