/* The header's numbers: against our own writer, and against damage anywhere. */
#include "gguf_skim.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf_writer.h"
#include "runtime_test.h"

static void write_bytes(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void finish(struct gguf_writer *writer, const char *path)
{
    struct gguf_bytes bytes = {0};
    assert_true(gguf_writer_finish(writer, &bytes, NULL));
    write_bytes(path, bytes.data, bytes.len);
    gguf_bytes_free(&bytes);
    gguf_writer_free(writer);
}

/* Every kind of value stands between the numbers that are looked for. */
static void put_numbers(struct gguf_writer *writer, bool with_lengths)
{
    gguf_writer_init(writer);
    gguf_writer_str(writer, "general.architecture", "toy");
    gguf_writer_f32(writer, "toy.rope.freq_base", 10000);
    gguf_writer_u32(writer, "toy.context_length", 2048);
    gguf_writer_key(writer, "toy.embedding_length", GGUF_W_U64);
    gguf_bytes_u64(&writer->kv, 768);
    gguf_writer_array(writer, "tokenizer.ggml.tokens", GGUF_W_STRING, 5);
    for (int i = 0; i < 5; i++) {
        gguf_bytes_str(&writer->kv, i == 2 ? "" : "token");
    }
    gguf_writer_bool(writer, "tokenizer.ggml.add_bos_token", true);
    gguf_writer_key(writer, "toy.block_count", GGUF_W_U16);
    gguf_bytes_u16(&writer->kv, 4);
    gguf_writer_array(writer, "toy.feed_forward_length", GGUF_W_I32, 4);
    for (uint32_t i = 0; i < 4; i++) {
        gguf_bytes_u32(&writer->kv, 1000 + i);
    }
    gguf_writer_u32(writer, "toy.attention.head_count", 12);
    gguf_writer_u32(writer, "toy.attention.sliding_window", 512);
    if (with_lengths) {
        gguf_writer_array(writer, "toy.attention.head_count_kv", GGUF_W_U32, 4);
        for (uint32_t i = 0; i < 4; i++) {
            gguf_bytes_u32(&writer->kv, i + 1);
        }
        gguf_writer_u32(writer, "toy.attention.key_length", 128);
        gguf_writer_u32(writer, "toy.attention.value_length", 96);
    }
    const uint64_t matrix[] = {64, 10};
    gguf_writer_tensor(writer, "f32", 2, matrix, 0, NULL, 64 * 10 * 4);
    gguf_writer_tensor(writer, "q4_0", 2, matrix, 2, NULL, 64 * 10 / 32 * 18);
}

static void test_numbers(void **state)
{
    (void)state;
    struct hs_error err = {0};
    char *path = temp_path(".gguf");
    for (int with_lengths = 0; with_lengths < 2; with_lengths++) {
        struct gguf_writer writer;
        put_numbers(&writer, with_lengths);
        finish(&writer, path);
        struct hs_gguf_skim skim;
        OK(hs_gguf_skim(path, &skim, &err));
        assert_string_equal(skim.architecture, "toy");
        assert_int_equal(skim.n_ctx_train, 2048);
        assert_int_equal(skim.n_embd, 768);
        assert_int_equal(skim.n_layer, 4);
        assert_int_equal(skim.n_ff, 1003);
        assert_int_equal(skim.n_head, 12);
        assert_int_equal(skim.n_vocab, 5);
        assert_int_equal(skim.n_swa, 512);
        assert_int_equal(skim.weights_bytes, 64 * 10 * 4 + 64 * 10 / 32 * 18);
        assert_int_equal(skim.n_head_kv_sum, with_lengths ? 1 + 2 + 3 + 4 : 4 * 12);
        assert_int_equal(skim.key_length, with_lengths ? 128 : 64);
        assert_int_equal(skim.value_length, with_lengths ? 96 : 64);
        assert_false(skim.has_other_state);
    }
    unlink(path);
    free(path);
}

static void test_recurrent(void **state)
{
    (void)state;
    struct hs_error err = {0};
    char *path = temp_path(".gguf");
    struct gguf_writer writer;
    put_numbers(&writer, false);
    gguf_writer_u32(&writer, "toy.ssm.state_size", 16);
    finish(&writer, path);
    struct hs_gguf_skim skim;
    OK(hs_gguf_skim(path, &skim, &err));
    assert_true(skim.has_other_state);
    unlink(path);
    free(path);
}

/* The parts of a split model count with their file sizes. */
static void test_split(void **state)
{
    (void)state;
    struct hs_error err = {0};
    char *first = temp_path("-00001-of-00003.gguf");
    struct gguf_writer writer;
    put_numbers(&writer, false);
    gguf_writer_key(&writer, "split.count", GGUF_W_U16);
    gguf_bytes_u16(&writer.kv, 3);
    finish(&writer, first);
    char *other[2];
    for (int i = 0; i < 2; i++) {
        other[i] = strdup(first);
        assert_non_null(other[i]);
        memcpy(strstr(other[i], "-00001-of"), i ? "-00003" : "-00002", 6);
        char data[1000] = "";
        write_bytes(other[i], data, i ? 1000 : 500);
    }
    struct hs_gguf_skim skim;
    OK(hs_gguf_skim(first, &skim, &err));
    assert_int_equal(skim.weights_bytes, 64 * 10 * 4 + 64 * 10 / 32 * 18 + 1500);
    unlink(first);
    free(first);
    for (int i = 0; i < 2; i++) {
        unlink(other[i]);
        free(other[i]);
    }
}

/* Every cut and every flipped bit: an answer or an error, never a crash or a hang. */
static void test_damage(void **state)
{
    (void)state;
    struct hs_error err = {0};
    char *path = temp_path(".gguf");
    struct gguf_writer writer;
    put_numbers(&writer, true);
    struct gguf_bytes bytes = {0};
    size_t header_len = 0;
    assert_true(gguf_writer_finish(&writer, &bytes, &header_len));
    gguf_writer_free(&writer);
    struct hs_gguf_skim skim;
    size_t n_errors = 0;
    for (size_t cut = 0; cut < header_len; cut++) {
        write_bytes(path, bytes.data, cut);
        hs_status status = hs_gguf_skim(path, &skim, &err);
        assert_true(status == HS_OK || status == HS_BAD_FORMAT || status == HS_BAD_MAGIC);
        n_errors += status != HS_OK;
    }
    /* All but cuts in the padding behind the last table entry. */
    assert_true(n_errors >= header_len - 32);
    for (size_t bit = 0; bit < header_len * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        write_bytes(path, bytes.data, bytes.len);
        hs_status status = hs_gguf_skim(path, &skim, &err);
        assert_true(status == HS_OK || status == HS_BAD_FORMAT || status == HS_BAD_MAGIC);
        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    gguf_bytes_free(&bytes);
    unlink(path);
    EXPECT(HS_NOT_FOUND, hs_gguf_skim(path, &skim, &err));
    EXPECT(HS_BAD_MAGIC, hs_gguf_skim("/dev/null", &skim, &err));
    free(path);
}

static void test_allocation_failure(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct hs_gguf_skim skim;
    hs_mem_fail_after(1);
    hs_status status = hs_gguf_skim("/dev/null", &skim, &err);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_recurrent),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_allocation_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
