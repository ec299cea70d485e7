/* Tests of adapters/sparse_file.h: what is written is read, and one wrong thing at a time is not.
 */
#include "adapter_test.h"

#include "adapters/sparse_file.h"
#include "base/error.h"
#include "storage/gguf_writer.h"

enum { F32 = 0, F16 = 1, I32 = 26, I64 = 27, BF16 = 30 };

/* Three blocks of 2 x 3 in a matrix of 4 x 6, and single values in one of 2 x 5. */
static const int64_t block_rows[] = {0, 2, 3}, value_rows[] = {0, 0, 2};
static const int32_t block_columns[] = {0, 1, 1}, value_columns[] = {1, 4};
static const float block_values[18] = {1, 2, 3, 4, 5, 6, 7, -8, 9, 10};
static const uint16_t single_values[] = {0x3c00, 0xc000};

static void make_targets(struct hs_lora_target targets[3])
{
    targets[0] = (struct hs_lora_target){
        .tensor = "blk.0.attn_q.weight",
        .n_in = 6,
        .n_out = 4,
        .scale = 1,
        .sparse = {HS_LORA_F32, 2, 3, 3, block_rows, block_columns, block_values},
    };
    targets[1] = (struct hs_lora_target){
        .tensor = "blk.0.attn_v.weight",
        .n_in = 5,
        .n_out = 2,
        .scale = 1,
        .sparse = {HS_LORA_F16, 1, 1, 2, value_rows, value_columns, single_values},
    };
    static const int64_t no_rows[] = {0, 0};
    targets[2] = (struct hs_lora_target){
        .tensor = "blk.1.attn_q.weight",
        .n_in = 6,
        .n_out = 4,
        .scale = 1,
        .sparse = {HS_LORA_F32, 4, 1, 0, no_rows, NULL, NULL},
    };
}

static void path_in(const char *folder, char path[512])
{
    snprintf(path, 512, "%s/sparse.gguf", folder);
}

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    char folder[256], path[512];
    path_in(test_folder(folder), path);
    struct hs_lora_target targets[3];
    make_targets(targets);
    struct hs_error err;
    struct hs_lora lora = {targets, 3};
    assert_int_equal(hs_sparse_file_write(path, &lora, "llama", "0123abcd", &err), HS_OK);
    struct hs_adapter_file *file = NULL;
    hs_error_clear(&err);
    if (hs_adapter_file_load(path, NULL, &file, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(file->lora.n_targets, 2); /* the one without blocks is left out */
    assert_string_equal(file->architecture, "llama");
    assert_string_equal(file->base_fingerprint, "0123abcd");
    assert_string_equal(file->targets, "attn_q,attn_v");
    assert_int_equal(file->rank, 0);
    for (int i = 0; i < 2; i++) {
        const struct hs_lora_target *read = &file->lora.targets[i];
        const struct hs_lora_sparse *a = &targets[i].sparse, *b = &read->sparse;
        assert_string_equal(read->tensor, targets[i].tensor);
        assert_true(read->n_in == targets[i].n_in && read->n_out == targets[i].n_out);
        assert_true(read->rank == 0 && read->scale == 1 && !read->is_embedding);
        assert_true(a->type == b->type && a->block_rows == b->block_rows &&
                    a->block_cols == b->block_cols && a->n_blocks == b->n_blocks);
        assert_memory_equal(a->row_start, b->row_start, 8 * (size_t)(read->n_out / a->block_rows));
        assert_memory_equal(a->block_column, b->block_column, 4 * (size_t)a->n_blocks);
        assert_memory_equal(a->values, b->values,
                            (size_t)(a->n_blocks * a->block_rows * a->block_cols) *
                                hs_lora_type_size(a->type));
    }
    hs_adapter_file_free(file);
    test_folder_remove(folder);
}

static void test_what_cannot_be_written(void **state)
{
    (void)state;
    char folder[256], path[512];
    path_in(test_folder(folder), path);
    struct hs_error err;
    struct hs_lora_target targets[3];
    make_targets(targets);
    struct hs_lora lora = {&targets[2], 1};
    assert_int_equal(hs_sparse_file_write(path, &lora, "llama", "", &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "no blocks"));
    lora = (struct hs_lora){targets, 2};
    targets[1].scale = 0.5f;
    assert_int_equal(hs_sparse_file_write(path, &lora, "llama", "", &err), HS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "blk.0.attn_v.weight"));
    targets[1].scale = 1;
    targets[1].rank = 1;
    assert_int_equal(hs_sparse_file_write(path, &lora, "llama", "", &err), HS_INVALID_ARGUMENT);
    targets[1].rank = 0;
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(hs_sparse_file_write("/nonexistent/a.gguf", &lora, "llama", "", &err),
                     HS_NOT_FOUND);
    test_folder_remove(folder);
}

static void test_allocations_fail(void **state)
{
    (void)state;
    char folder[256], path[512];
    path_in(test_folder(folder), path);
    struct hs_lora_target targets[3];
    make_targets(targets);
    struct hs_lora lora = {targets, 2};
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        struct hs_adapter_file *file = NULL;
        assert_in_range(nth, 1, 500);
        hs_mem_fail_after(nth);
        status = hs_sparse_file_write(path, &lora, "llama", "", NULL);
        if (status == HS_OK) {
            status = hs_adapter_file_load(path, NULL, &file, NULL);
        }
        hs_mem_fail_after(0);
        assert_int_equal(status, file == NULL ? HS_OUT_OF_MEMORY : HS_OK);
        hs_adapter_file_free(file);
    }
    test_folder_remove(folder);
}

/* ---- files with one thing wrong ---- */

struct part {
    const char *name;
    uint32_t type, n_dims;
    uint64_t dims[3];
    const void *data;
    size_t len;
};

static void write_parts(const char *path, const struct part *parts, size_t n)
{
    hs_gguf_writer *writer = NULL;
    assert_int_equal(hs_gguf_writer_new(32, &writer, NULL), HS_OK);
    static const char *const keys[][2] = {
        {"general.type", "adapter"}, {"general.architecture", "llama"}, {"adapter.type", "sparse"}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(hs_gguf_writer_put_string(writer, keys[i][0], keys[i][1], NULL), HS_OK);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(hs_gguf_writer_tensor(writer, parts[i].name, parts[i].n_dims,
                                               parts[i].dims, parts[i].type, NULL),
                         HS_OK);
    }
    assert_int_equal(hs_gguf_writer_begin(writer, path, NULL), HS_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(hs_gguf_writer_data(writer, parts[i].data, parts[i].len, NULL), HS_OK);
    }
    assert_int_equal(hs_gguf_writer_commit(writer, NULL), HS_OK);
    hs_gguf_writer_free(writer);
}

static void expect(const char *path, const struct part *parts, size_t n, hs_status wanted,
                   const char *what)
{
    struct hs_error err;
    struct hs_adapter_file *file = NULL;
    hs_error_clear(&err);
    write_parts(path, parts, n);
    hs_status status = hs_adapter_file_load(path, NULL, &file, &err);
    if (status != wanted || strstr(err.message, what) == NULL) {
        fail_msg("status %d '%s' instead of %d '%s'", status, err.message, wanted, what);
    }
    hs_adapter_file_free(file);
}

#define WRONG(change, wanted, what)                                                                \
    do {                                                                                           \
        struct part p[5];                                                                          \
        int64_t shape[] = {6, 4}, rows[] = {0, 2, 3};                                              \
        int32_t columns[] = {0, 1, 1};                                                             \
        float values[18] = {1};                                                                    \
        size_t n = 4;                                                                              \
        p[0] = (struct part){"m.sparse_shape", I64, 1, {2}, shape, sizeof shape};                  \
        p[1] = (struct part){"m.sparse_rows", I64, 1, {3}, rows, sizeof rows};                     \
        p[2] = (struct part){"m.sparse_columns", I32, 1, {3}, columns, sizeof columns};            \
        p[3] = (struct part){"m.sparse_values", F32, 3, {3, 2, 3}, values, sizeof values};         \
        change;                                                                                    \
        expect(path, p, n, wanted, what);                                                          \
    } while (0)

static void test_one_wrong_thing(void **state)
{
    (void)state;
    char folder[256], path[512], long_name[80];
    path_in(test_folder(folder), path);
    const char *no_matrix = "no sparse matrix", *no_order = "not in order";
    WRONG((void)0, HS_OK, "");
    WRONG(n = 3, HS_BAD_FORMAT, "without its values");
    for (size_t i = 0; i < 3; i++) {
        WRONG((p[i] = p[3], p[3].name = "n.sparse_values"), HS_BAD_FORMAT, "has no '");
    }
    WRONG((p[4] = p[3], p[4].name = "m.lora_a", n = 5), HS_NOT_SUPPORTED, "no part of a sparse");
    WRONG((p[4] = p[0], p[4].name = "n.sparse_shape", n = 5), HS_BAD_FORMAT, "without its values");
    WRONG(p[0].type = 28, HS_BAD_FORMAT, no_matrix);
    WRONG((p[0].dims[0] = 1, p[0].len = 8), HS_BAD_FORMAT, no_matrix);
    WRONG((p[1].type = I32, p[1].len = 12), HS_BAD_FORMAT, no_matrix);
    WRONG((p[1].dims[0] = 2, p[1].len = 16), HS_BAD_FORMAT, no_matrix);
    WRONG((p[2].dims[0] = 2, p[2].len = 8), HS_BAD_FORMAT, no_matrix);
    WRONG(p[2].type = F32, HS_BAD_FORMAT, no_matrix);
    WRONG(p[3].type = I32, HS_BAD_FORMAT, no_matrix);
    WRONG((p[3].n_dims = 1, p[3].dims[0] = 18), HS_BAD_FORMAT, no_matrix);
    WRONG(shape[0] = 0, HS_BAD_FORMAT, no_matrix);
    WRONG(shape[1] = -4, HS_BAD_FORMAT, no_matrix);
    WRONG(shape[0] = (int64_t)INT32_MAX + 1, HS_BAD_FORMAT, no_matrix);
    WRONG(shape[1] = 6, HS_BAD_FORMAT, no_matrix);
    WRONG(shape[0] = 7, HS_BAD_FORMAT, no_order);
    WRONG(shape[1] = 5, HS_BAD_FORMAT, no_order);
    WRONG(rows[0] = 1, HS_BAD_FORMAT, no_order);
    WRONG(rows[1] = -1, HS_BAD_FORMAT, no_order);
    WRONG(rows[2] = 4, HS_BAD_FORMAT, no_order);
    WRONG(columns[1] = 0, HS_BAD_FORMAT, no_order);
    WRONG(columns[2] = 2, HS_BAD_FORMAT, no_order);
    WRONG(columns[0] = -1, HS_BAD_FORMAT, no_order);
    WRONG(values[17] = 1.0f / 0.0f, HS_BAD_FORMAT, "NaN or infinity");
    memset(long_name, 'm', sizeof long_name);
    memcpy(long_name + 64 - 15, ".sparse_values", sizeof ".sparse_values");
    WRONG(p[3].name = long_name, HS_BAD_FORMAT, "has no '");
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_what_cannot_be_written),
        cmocka_unit_test(test_allocations_fail),
        cmocka_unit_test(test_one_wrong_thing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
