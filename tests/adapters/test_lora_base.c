/* Tests of adapters/lora_base.h. */
#include "adapter_test.h"

#include "tiny_gguf.h"

static void a_model_file_is_described(void **state)
{
    (void)state;
    struct tiny_gguf_spec spec;
    char folder[256], path[512], fingerprint[65];
    int64_t n_in = 0, n_out = 0;
    hs_lora_base *base = NULL;
    hs_gguf *gguf = NULL;
    test_folder(folder);
    snprintf(path, sizeof path, "%s/tiny.gguf", folder);
    tiny_gguf_defaults(&spec);
    assert_true(tiny_gguf_write(&spec, path));
    assert_int_equal(hs_lora_base_open(path, &base, NULL), HS_OK);
    assert_string_equal(hs_lora_base_architecture(base), "llama");
    assert_int_equal(hs_lora_base_n_head(base, false), 2);
    assert_true(hs_lora_base_find(base, "token_embd.weight", &n_in, &n_out));
    assert_int_equal(n_in, TINY_GGUF_N_EMBD);
    assert_int_equal(n_out, TINY_GGUF_N_VOCAB);
    assert_true(hs_lora_base_find(base, "blk.0.attn_q.weight", &n_in, &n_out));
    assert_false(hs_lora_base_find(base, "blk.0.attn_norm.weight", &n_in, &n_out)); /* a vector */
    assert_false(hs_lora_base_find(base, "blk.9.attn_q.weight", &n_in, &n_out));
    assert_false(hs_lora_base_find(
        base, "a name that is longer than what GGUF files may have as the name of a tensor", &n_in,
        &n_out));
    assert_int_equal(hs_gguf_open(path, &gguf, NULL), HS_OK);
    assert_int_equal(hs_gguf_fingerprint(gguf, path, fingerprint, NULL), HS_OK);
    assert_string_equal(hs_lora_base_fingerprint(base), fingerprint);
    hs_gguf_free(gguf);
    for (uint64_t n = 1;; n++) {
        hs_lora_base *again = NULL;
        hs_mem_fail_after(n);
        hs_status status = hs_lora_base_open(path, &again, NULL);
        bool is_done = hs_mem_count() < n;
        hs_mem_fail_after(0);
        hs_lora_base_free(again);
        assert_int_equal(status, is_done ? HS_OK : HS_OUT_OF_MEMORY);
        if (is_done) {
            break;
        }
    }
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

/* Two parts as llama.cpp's gguf-split writes them: the first with the keys, both with tensors. */
static void put_part(const char *folder, unsigned i)
{
    struct gguf_writer writer;
    struct gguf_bytes bytes = {0};
    char name[64];
    const uint64_t dims[2] = {4, i + 1};
    gguf_writer_init(&writer);
    if (i == 0) {
        gguf_writer_str(&writer, "general.architecture", "qwen3");
    }
    gguf_writer_key(&writer, "split.no", GGUF_W_U16);
    gguf_bytes_u16(&writer.kv, (uint16_t)i);
    gguf_writer_key(&writer, "split.count", GGUF_W_U16);
    gguf_bytes_u16(&writer.kv, 2);
    snprintf(name, sizeof name, "blk.%u.attn_q.weight", i);
    gguf_writer_tensor(&writer, name, 2, dims, 0, NULL, 16 * (i + 1));
    assert_true(gguf_writer_finish(&writer, &bytes, NULL));
    snprintf(name, sizeof name, "m-%05u-of-00002.gguf", i + 1);
    test_write(folder, name, bytes.data, bytes.len);
    gguf_bytes_free(&bytes);
    gguf_writer_free(&writer);
}

static void all_parts_of_a_model_count(void **state)
{
    (void)state;
    char folder[256], path[512];
    int64_t n_in = 0, n_out = 0;
    hs_lora_base *base = NULL;
    test_folder(folder);
    put_part(folder, 0);
    snprintf(path, sizeof path, "%s/m-00001-of-00002.gguf", folder);
    assert_int_equal(hs_lora_base_open(path, &base, NULL), HS_NOT_FOUND);
    put_part(folder, 1);
    assert_int_equal(hs_lora_base_open(path, &base, NULL), HS_OK);
    assert_true(hs_lora_base_find(base, "blk.0.attn_q.weight", &n_in, &n_out));
    assert_int_equal(n_out, 1);
    assert_true(hs_lora_base_find(base, "blk.1.attn_q.weight", &n_in, &n_out));
    assert_int_equal(n_out, 2);
    assert_int_equal(hs_lora_base_n_head(base, true), 0);
    hs_lora_base_free(base);
    test_folder_remove(folder);
}

static void other_files_are_no_base(void **state)
{
    (void)state;
    struct gguf_writer writer;
    struct gguf_bytes bytes = {0};
    struct hs_error err;
    hs_lora_base *base = NULL;
    hs_gguf *gguf = NULL;
    assert_int_equal(hs_lora_base_open("/nowhere", &base, &err), HS_NOT_FOUND);
    gguf_writer_init(&writer);
    assert_true(gguf_writer_finish(&writer, &bytes, NULL));
    assert_int_equal(hs_gguf_open_memory(bytes.data, bytes.len, bytes.len, &gguf, NULL), HS_OK);
    assert_int_equal(hs_lora_base_new(gguf, NULL, &base, &err), HS_BAD_FORMAT);
    assert_non_null(strstr(err.message, "general.architecture"));
    assert_true(err.hint[0] != '\0');
    hs_gguf_free(gguf);
    gguf_bytes_free(&bytes);
    gguf_writer_free(&writer);
    hs_lora_base_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_file_is_described),
        cmocka_unit_test(all_parts_of_a_model_count),
        cmocka_unit_test(other_files_are_no_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
