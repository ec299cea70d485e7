/* sparse_file.c - sparse deltas in GGUF; sparse_file.h describes the format. */
#include "adapters/sparse_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "adapter_internal.h"
#include "base/error.h"
#include "sparse_internal.h"
#include "storage/gguf_writer.h"

#define ALIGNMENT 32 /* the default of the format */

enum { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_I32 = 26, TYPE_I64 = 27, TYPE_BF16 = 30 };

/* The four tensors of a matrix, in the order in which they are written. */
enum part { SHAPE = 0, ROWS, COLUMNS, VALUES, N_PARTS };
static const char *const part_names[N_PARTS] = {".sparse_shape", ".sparse_rows", ".sparse_columns",
                                                ".sparse_values"};

/* ---- writing ---- */

static hs_status add_tensors(hs_gguf_writer *writer, const struct hs_lora_target *target,
                             struct hs_error *err)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    uint64_t n = (uint64_t)sparse->n_blocks;
    const uint64_t dims[N_PARTS][3] = {
        {2},
        {(uint64_t)(target->n_out / sparse->block_rows) + 1},
        {n},
        {(uint64_t)sparse->block_cols, (uint64_t)sparse->block_rows, n},
    };
    const uint32_t types[N_PARTS] = {TYPE_I64, TYPE_I64, TYPE_I32,
                                     sparse->type == HS_LORA_F32   ? TYPE_F32
                                     : sparse->type == HS_LORA_F16 ? TYPE_F16
                                                                   : TYPE_BF16};
    hs_status status = HS_OK;
    for (int part = 0; part < N_PARTS && status == HS_OK; part++) {
        char name[HS_LORA_TENSOR_NAME_MAX + 16];
        snprintf(name, sizeof name, "%s%s", target->tensor, part_names[part]);
        status = hs_gguf_writer_tensor(writer, name, part == VALUES ? 3 : 1, dims[part],
                                       types[part], err);
    }
    return status;
}

static hs_status write_data(hs_gguf_writer *writer, const struct hs_lora_target *target,
                            struct hs_error *err)
{
    const struct hs_lora_sparse *sparse = &target->sparse;
    size_t n = (size_t)sparse->n_blocks;
    size_t block = (size_t)sparse->block_rows * (size_t)sparse->block_cols;
    const int64_t shape[2] = {target->n_in, target->n_out};
    const void *data[N_PARTS] = {shape, sparse->row_start, sparse->block_column, sparse->values};
    const size_t sizes[N_PARTS] = {
        sizeof shape,
        ((size_t)(target->n_out / sparse->block_rows) + 1) * sizeof *sparse->row_start,
        n * sizeof *sparse->block_column,
        n * block * hs_lora_type_size(sparse->type),
    };
    hs_status status = HS_OK;
    for (int part = 0; part < N_PARTS && status == HS_OK; part++) {
        status = hs_gguf_writer_data(writer, data[part], sizes[part], err);
    }
    return status;
}

static hs_status check(const struct hs_lora *lora, struct hs_error *err)
{
    int64_t n = 0;
    for (int32_t i = 0; i < lora->n_targets; i++) {
        const struct hs_lora_target *target = &lora->targets[i];
        if (target->rank != 0 || target->scale != 1.0f) {
            hs_error_set(err, HS_INVALID_ARGUMENT, "%s: no sparse delta of scale 1",
                         target->tensor);
            return hs_error_hint(err, "make it sparse first");
        }
        n += target->sparse.n_blocks;
    }
    if (n == 0) {
        hs_error_set(err, HS_INVALID_ARGUMENT, "the sparse adapter has no blocks: it adds nothing");
        return hs_error_hint(err, "keep more of it: a higher density, or a smaller error");
    }
    return HS_OK;
}

static hs_status put_keys(hs_gguf_writer *writer, const char *architecture,
                          const char *base_fingerprint, struct hs_error *err)
{
    const char *const keys[][2] = {
        {"general.type", "adapter"},
        {"general.architecture", architecture},
        {"adapter.type", HS_SPARSE_TYPE},
        {"hyprstream.base_fingerprint", base_fingerprint},
    };
    hs_status status = HS_OK;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && status == HS_OK; i++) {
        if (keys[i][1][0] != '\0') {
            status = hs_gguf_writer_put_string(writer, keys[i][0], keys[i][1], err);
        }
    }
    return status;
}

/* `step` for each target that has blocks. */
static hs_status for_targets(hs_gguf_writer *writer, const struct hs_lora *lora,
                             hs_status (*step)(hs_gguf_writer *writer,
                                               const struct hs_lora_target *target,
                                               struct hs_error *err),
                             struct hs_error *err)
{
    hs_status status = HS_OK;
    for (int32_t i = 0; i < lora->n_targets && status == HS_OK; i++) {
        if (lora->targets[i].sparse.n_blocks > 0) {
            status = step(writer, &lora->targets[i], err);
        }
    }
    return status;
}

hs_status hs_sparse_file_write(const char *path, const struct hs_lora *lora,
                               const char *architecture, const char *base_fingerprint,
                               struct hs_error *err)
{
    hs_gguf_writer *writer = NULL;
    hs_status status = check(lora, err);
    if (status == HS_OK) {
        status = hs_gguf_writer_new(ALIGNMENT, &writer, err);
    }
    if (status == HS_OK) {
        status = put_keys(writer, architecture, base_fingerprint, err);
    }
    if (status == HS_OK) {
        status = for_targets(writer, lora, add_tensors, err);
    }
    if (status == HS_OK) {
        status = hs_gguf_writer_begin(writer, path, err);
    }
    if (status == HS_OK) {
        status = for_targets(writer, lora, write_data, err);
    }
    if (status == HS_OK) {
        status = hs_gguf_writer_commit(writer, err);
    }
    hs_gguf_writer_free(writer);
    return status;
}

/* ---- reading ---- */

/* The part that a tensor is, and the length of its matrix's name; N_PARTS: none. */
static enum part part_of(const char *name, size_t *ret_len)
{
    size_t len = strlen(name);
    for (enum part part = 0; part < N_PARTS; part++) {
        size_t n = strlen(part_names[part]);
        if (len > n && strcmp(name + len - n, part_names[part]) == 0) {
            *ret_len = len - n;
            return part;
        }
    }
    return N_PARTS;
}

static bool lora_type(uint32_t type, enum hs_lora_type *ret_type)
{
    *ret_type = type == TYPE_F32 ? HS_LORA_F32 : type == TYPE_F16 ? HS_LORA_F16 : HS_LORA_BF16;
    return type == TYPE_F32 || type == TYPE_F16 || type == TYPE_BF16;
}

/* Whether the four tensors go together; what is in them is hs_lora_check's to judge. */
static bool fits(const struct hs_gguf_tensor *const *parts, const int64_t *shape)
{
    const uint64_t *values = parts[VALUES]->dims;
    if (parts[SHAPE]->type != TYPE_I64 || parts[SHAPE]->dims[0] != 2 || parts[SHAPE]->n_dims != 1 ||
        parts[ROWS]->type != TYPE_I64 || parts[ROWS]->n_dims != 1 ||
        parts[COLUMNS]->type != TYPE_I32 || parts[COLUMNS]->n_dims != 1) {
        return false;
    }
    return shape[0] > 0 && shape[0] <= INT32_MAX && shape[1] > 0 && shape[1] <= INT32_MAX &&
           values[0] <= (uint64_t)shape[0] && values[1] <= (uint64_t)shape[1] && values[3] == 1 &&
           values[2] == parts[COLUMNS]->dims[0] &&
           parts[ROWS]->dims[0] == (uint64_t)shape[1] / values[1] + 1;
}

static void read_target(const hs_gguf *gguf, struct hs_adapter_loaded *adapter,
                        const struct hs_gguf_tensor *values, size_t name_len,
                        struct hs_lora_faults *faults)
{
    const struct hs_gguf_tensor *parts[N_PARTS] = {[VALUES] = values};
    const void *data[N_PARTS];
    for (enum part part = 0; part < N_PARTS; part++) {
        char name[HS_GGUF_MAX_NAME_BYTES + 16];
        snprintf(name, sizeof name, "%.*s%s", (int)name_len, values->name, part_names[part]);
        parts[part] = hs_gguf_find_tensor(gguf, name);
        if (parts[part] == NULL) {
            hs_lora_fault(faults, HS_BAD_FORMAT, "'%s' has no '%s'", values->name, name);
            return;
        }
        data[part] = adapter->bytes + hs_gguf_data_offset(gguf) + parts[part]->offset;
        if ((uintptr_t)data[part] % sizeof(int64_t) != 0) {
            hs_lora_fault(faults, HS_BAD_FORMAT, "'%s' does not begin at a multiple of 8", name);
            return;
        }
    }
    struct hs_lora_target *target = &adapter->targets[adapter->n_targets];
    enum hs_lora_type type;
    const int64_t *shape = data[SHAPE];
    if (name_len >= sizeof target->tensor || !lora_type(values->type, &type) ||
        !fits(parts, shape)) {
        hs_lora_fault(faults, HS_BAD_FORMAT, "'%s' and what belongs to it are no sparse matrix",
                      values->name);
        return;
    }
    memcpy(target->tensor, values->name, name_len);
    target->n_in = shape[0];
    target->n_out = shape[1];
    target->scale = 1;
    target->sparse = (struct hs_lora_sparse){type,
                                             (int32_t)values->dims[1],
                                             (int32_t)values->dims[0],
                                             (int64_t)values->dims[2],
                                             data[ROWS],
                                             data[COLUMNS],
                                             data[VALUES]};
    adapter->n_targets++;
}

hs_status hs_sparse_read(const hs_gguf *gguf, struct hs_adapter_loaded *adapter,
                         struct hs_lora_faults *faults, struct hs_error *err)
{
    size_t n = hs_gguf_n_tensors(gguf), n_parts = 0;
    hs_status status = hs_adapter_targets(adapter, n, err);
    for (size_t i = 0; i < n && status == HS_OK; i++) {
        const struct hs_gguf_tensor *tensor = hs_gguf_tensor_at(gguf, i);
        size_t name_len = 0;
        enum part part = part_of(tensor->name, &name_len);
        n_parts += part != N_PARTS;
        if (part == N_PARTS) {
            hs_lora_fault(faults, HS_NOT_SUPPORTED, "'%s' is no part of a sparse delta",
                          tensor->name);
        } else if (part == VALUES) {
            read_target(gguf, adapter, tensor, name_len, faults);
        }
    }
    if (status == HS_OK && faults->n == 0 && n_parts != N_PARTS * adapter->n_targets) {
        hs_lora_fault(faults, HS_BAD_FORMAT, "a sparse delta without its values");
    }
    return status;
}
