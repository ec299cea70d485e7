#include "adapters/peft_write.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/half.h"
#include "base/mem.h"
#include "models/lora_names.h"
#include "storage/json_memory.h"

#define CONFIG_MAX_BYTES (16u << 20)
#define KEY_SIZE (HS_LORA_MODULE_SIZE + 64)

/* Where one target goes. */
struct place {
    char module[HS_LORA_MODULE_SIZE];
    uint32_t n_head; /* 0: its rows stay where they are */
};

struct writer {
    const struct hs_lora *lora;
    const hs_lora_base *base;
    struct place *places; /* [n_targets] */
    bool is_f16;          /* what is wider becomes f16 */
};

static void json_freep(json_t **value)
{
    json_decref(*value);
}

static enum hs_lora_type file_type(const struct writer *writer, const struct hs_lora_matrix *matrix)
{
    bool is_half = matrix->type == HS_LORA_F16 || matrix->type == HS_LORA_BF16;
    return is_half ? matrix->type : writer->is_f16 ? HS_LORA_F16 : HS_LORA_F32;
}

static hs_status find_place(const struct writer *writer, const struct hs_lora_target *target,
                            struct place *place, struct hs_error *err)
{
    const char *architecture = hs_lora_base_architecture(writer->base);
    const struct hs_model_family *family = hs_model_family_find(architecture);
    enum hs_lora_rows rows = HS_LORA_ROWS_SAME;
    if (target->rank == 0) {
        hs_error_set(err, HS_NOT_SUPPORTED, "%s is sparse: PEFT's files hold factors",
                     target->tensor);
        return hs_error_hint(err, "write sparse adapters as GGUF files");
    }
    if (family == NULL || family->lora_names == HS_LORA_NAMES_NONE) {
        hs_error_set(err, HS_NOT_SUPPORTED,
                     "PEFT's names of the modules of %s models are not known to hyprstream",
                     architecture);
        return hs_error_hint(err, "write the adapter as a GGUF file");
    }
    if (!hs_model_lora_module(family, target->tensor, place->module, &rows)) {
        hs_error_set(err, HS_MISMATCH, "%s is no matrix that %s models have in PEFT",
                     target->tensor, architecture);
        return hs_error_hint(err, "write the adapter as a GGUF file");
    }
    place->n_head =
        rows == HS_LORA_ROWS_SAME ? 0 : hs_lora_base_n_head(writer->base, rows == HS_LORA_ROWS_K);
    if (rows != HS_LORA_ROWS_SAME &&
        (place->n_head == 0 || target->n_out % (2 * (int64_t)place->n_head) != 0)) {
        hs_error_set(err, HS_MISMATCH, "%s: %" PRId64 " outputs do not go with %" PRIu32 " heads",
                     target->tensor, target->n_out, place->n_head);
        return hs_error_hint(err, "use the adapter with the model it was made for");
    }
    return HS_OK;
}

/* ---- the weights ---- */

static hs_status add_entry(json_t *header, const struct hs_lora_matrix *matrix,
                           enum hs_lora_type type, const char *module, const char *ending,
                           bool is_across, uint64_t *offset)
{
    static const char *const names[] = {
        [HS_LORA_F32] = "F32", [HS_LORA_F16] = "F16", [HS_LORA_BF16] = "BF16"};
    char key[KEY_SIZE];
    int64_t n_rows = is_across ? matrix->n_cols : matrix->n_rows;
    int64_t n_cols = is_across ? matrix->n_rows : matrix->n_cols;
    uint64_t end = *offset + (uint64_t)n_rows * (uint64_t)n_cols * hs_lora_type_size(type);
    snprintf(key, sizeof key, "base_model.model.%s.%s", module, ending);
    json_t *entry =
        json_pack("{s:s, s:[I,I], s:[I,I]}", "dtype", names[type], "shape", (json_int_t)n_rows,
                  (json_int_t)n_cols, "data_offsets", (json_int_t)*offset, (json_int_t)end);
    *offset = end;
    return json_object_set_new(header, key, entry) == 0 ? HS_OK : HS_OUT_OF_MEMORY;
}

static hs_status make_header(const struct writer *writer, struct hs_buf *text)
{
    HS_CLEANUP(json_freep) json_t *header = json_object();
    const char *fingerprint = hs_lora_base_fingerprint(writer->base);
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    uint64_t offset = 0;
    hs_status status = HS_OK;
    if (fingerprint[0] != '\0' && json_object_set_new(metadata, "hyprstream.base_fingerprint",
                                                      json_string(fingerprint)) != 0) {
        status = HS_OUT_OF_MEMORY;
    }
    if (json_object_set_new(header, "__metadata__", metadata) != 0) {
        return HS_OUT_OF_MEMORY;
    }
    for (int32_t i = 0; i < writer->lora->n_targets && status == HS_OK; i++) {
        const struct hs_lora_target *target = &writer->lora->targets[i];
        bool is_words = target->is_embedding;
        const char *module = writer->places[i].module;
        status = add_entry(header, &target->a, file_type(writer, &target->a), module,
                           is_words ? "lora_embedding_A" : "lora_A.weight", is_words, &offset);
        if (status == HS_OK) {
            status = add_entry(header, &target->b, file_type(writer, &target->b), module,
                               is_words ? "lora_embedding_B" : "lora_B.weight", false, &offset);
        }
    }
    HS_CLEANUP(hs_freep)
    char *dumped = status == HS_OK ? json_dumps(header, JSON_COMPACT) : NULL;
    if (dumped == NULL || hs_json_memory_failed()) {
        return HS_OUT_OF_MEMORY;
    }
    status = hs_buf_append_str(text, dumped);
    while (status == HS_OK && text->len % 8 != 0) {
        status = hs_buf_append(text, " ", 1);
    }
    return status;
}

/* Row `from` of the matrix as values of `type`; data is where it lies, or in row, which has room.
 */
static hs_status take_row(const struct hs_lora_matrix *matrix, size_t from, enum hs_lora_type type,
                          float *row, const uint8_t **ret_data, struct hs_error *err)
{
    size_t n = (size_t)matrix->n_cols;
    uint16_t *halves = (uint16_t *)(void *)row;
    *ret_data = (const uint8_t *)matrix->data + from * n * hs_lora_type_size(matrix->type);
    if (type == matrix->type) {
        return HS_OK;
    }
    hs_lora_matrix_row(matrix, (int64_t)from, row);
    *ret_data = (const uint8_t *)row;
    for (size_t i = 0; i < n && type == HS_LORA_F16; i++) {
        float value = row[i];
        uint16_t half = hs_f16_from_f32(value);
        memcpy(&halves[i], &half, sizeof half); /* behind what is still to be read */
        if (isinf(hs_f32_from_f16(half))) {
            hs_error_set(err, HS_LIMIT, "the adapter has the value %g, which f16 cannot hold",
                         (double)value);
            hs_error_hint(err, "write f32");
            return HS_LIMIT;
        }
    }
    return HS_OK;
}

/* One matrix as it lies in the file; in one piece, for its rows or columns change places. */
static hs_status write_matrix(struct hs_fs_atomic *file, const struct hs_lora_matrix *matrix,
                              enum hs_lora_type type, uint32_t n_head, bool is_across,
                              struct hs_error *err)
{
    size_t size = hs_lora_type_size(type);
    size_t n_rows = (size_t)matrix->n_rows, n_cols = (size_t)matrix->n_cols;
    HS_CLEANUP(hs_freep) uint8_t *out = hs_alloc(n_rows * n_cols * size);
    HS_CLEANUP(hs_freep) float *row = hs_alloc(n_cols * sizeof *row);
    if (out == NULL || row == NULL) {
        return hs_error_nomem(err, "the weights of an adapter");
    }
    for (size_t i = 0; i < n_rows; i++) {
        int64_t from =
            n_head == 0 ? (int64_t)i : hs_model_lora_row((int64_t)i, (int64_t)n_rows, n_head);
        const uint8_t *data = NULL;
        hs_status status = take_row(matrix, (size_t)from, type, row, &data, err);
        if (status != HS_OK) {
            return status;
        }
        for (size_t k = 0; is_across && k < n_cols; k++) {
            memcpy(out + (k * n_rows + i) * size, data + k * size, size);
        }
        if (!is_across) {
            memcpy(out + i * n_cols * size, data, n_cols * size);
        }
    }
    return hs_fs_atomic_write(file, out, n_rows * n_cols * size, err);
}

static hs_status write_tensors(const struct writer *writer, struct hs_fs_atomic *file,
                               const struct hs_buf *header, struct hs_error *err)
{
    uint8_t length[8];
    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)((uint64_t)header->len >> (8 * i));
    }
    hs_status status = hs_fs_atomic_write(file, length, sizeof length, err);
    if (status == HS_OK) {
        status = hs_fs_atomic_write(file, header->data, header->len, err);
    }
    for (int32_t i = 0; i < writer->lora->n_targets && status == HS_OK; i++) {
        const struct hs_lora_target *target = &writer->lora->targets[i];
        status = write_matrix(file, &target->a, file_type(writer, &target->a), 0,
                              target->is_embedding, err);
        if (status == HS_OK) {
            status = write_matrix(file, &target->b, file_type(writer, &target->b),
                                  writer->places[i].n_head, false, err);
        }
    }
    return status;
}

static hs_status write_weights(const struct writer *writer, const char *folder,
                               struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(folder, "adapter_model.safetensors");
    HS_CLEANUP(hs_buf_free) struct hs_buf header = HS_BUF_INIT(CONFIG_MAX_BYTES);
    struct hs_fs_atomic file;
    hs_json_memory_watch();
    if (path == NULL || make_header(writer, &header) != HS_OK) {
        return hs_error_nomem(err, "the names of an adapter's weights");
    }
    hs_status status = hs_fs_atomic_begin(path, 0644, &file, err);
    if (status != HS_OK) {
        return status;
    }
    status = write_tensors(writer, &file, &header, err);
    if (status == HS_OK) {
        return hs_fs_atomic_commit(&file, err);
    }
    hs_fs_atomic_abort(&file);
    return status;
}

/* ---- the configuration ---- */

/* The module's name as a pattern that matches it alone. */
static bool put_pattern(json_t *patterns, const char *module, json_t *value)
{
    char key[2 * HS_LORA_MODULE_SIZE];
    size_t n = 0;
    for (const char *at = module; *at != '\0'; at++) {
        if (*at == '.') {
            key[n++] = '\\';
        }
        key[n++] = *at;
    }
    key[n] = '\0';
    return json_object_set_new(patterns, key, value) == 0;
}

/* Scales are alpha / rank: alpha = scale * rank is exact in double precision. */
static bool put_targets(const struct writer *writer, json_t *config)
{
    const struct hs_lora *lora = writer->lora;
    int32_t rank = lora->targets[0].rank;
    double alpha = (double)lora->targets[0].scale * rank;
    json_t *modules = json_array(), *ranks = json_object(), *alphas = json_object();
    bool is_whole = true;
    for (int32_t i = 0; i < lora->n_targets && is_whole; i++) {
        const struct hs_lora_target *target = &lora->targets[i];
        const char *module = writer->places[i].module;
        double own = (double)target->scale * target->rank;
        is_whole = json_array_append_new(modules, json_string(module)) == 0;
        if (is_whole && target->rank != rank) {
            is_whole = put_pattern(ranks, module, json_integer(target->rank));
        }
        if (is_whole && (own > alpha || own < alpha)) {
            is_whole = put_pattern(alphas, module, json_real(own));
        }
    }
    bool is_set = json_object_set_new(config, "target_modules", modules) == 0;
    is_set = json_object_set_new(config, "rank_pattern", ranks) == 0 && is_set;
    is_set = json_object_set_new(config, "alpha_pattern", alphas) == 0 && is_set;
    return json_object_set_new(config, "r", json_integer(rank)) == 0 &&
           json_object_set_new(config, "lora_alpha", json_real(alpha)) == 0 && is_whole && is_set;
}

static hs_status write_config(const struct writer *writer, const char *folder,
                              const char *base_model, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) char *path = hs_fs_join(folder, "adapter_config.json");
    hs_json_memory_watch();
    HS_CLEANUP(json_freep)
    json_t *config = json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:b, s:f, s:s?}", "peft_type",
                               "LORA", "task_type", "CAUSAL_LM", "bias", "none", "use_rslora", 0,
                               "use_dora", 0, "fan_in_fan_out", 0, "inference_mode", 1,
                               "lora_dropout", 0.0, "base_model_name_or_path", base_model);
    bool is_whole = config != NULL && put_targets(writer, config);
    HS_CLEANUP(hs_freep)
    char *text = is_whole ? json_dumps(config, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
    if (path == NULL || text == NULL || hs_json_memory_failed()) {
        return hs_error_nomem(err, "the configuration of an adapter");
    }
    return hs_fs_write_atomic(path, text, strlen(text), 0644, err);
}

hs_status hs_peft_write(const char *folder, const struct hs_lora *lora, const hs_lora_base *base,
                        const char *base_model, bool is_f16, struct hs_error *err)
{
    struct writer writer = {.lora = lora, .base = base, .is_f16 = is_f16};
    if (lora->n_targets == 0) {
        return hs_error_set(err, HS_INVALID_ARGUMENT, "the adapter has no weights");
    }
    HS_CLEANUP(hs_freep)
    struct place *places = hs_calloc((size_t)lora->n_targets, sizeof *places);
    if (places == NULL) {
        return hs_error_nomem(err, "the names of an adapter's weights");
    }
    writer.places = places;
    hs_status status = HS_OK;
    for (int32_t i = 0; i < lora->n_targets && status == HS_OK; i++) {
        status = find_place(&writer, &lora->targets[i], &places[i], err);
    }
    if (status == HS_OK) {
        status = hs_fs_mkdir_p(folder, err);
    }
    if (status == HS_OK) {
        status = write_weights(&writer, folder, err);
    }
    return status == HS_OK ? write_config(&writer, folder, base_model, err) : status;
}
