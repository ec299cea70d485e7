/* What hs_gguf_check_model says about models that are well-formed files but wrong in content. */
#include "gguf_check_test.h"

static void what_kind_of_file_it_is(void **state)
{
    (void)state;
    const struct check_case cases[] = {
        {{{0}}, HS_OK, ""},
        {{{DROP, "general.type", 0, NULL}}, HS_OK, ""},
        {{{DROP, "general.architecture", 0, NULL}}, NO, "general.architecture"},
        {{{DROP, "general.type", 0, NULL}, {ADD_STR, "general.type", 0, "adapter"}},
         NO,
         "an adapter"},
        {{{DROP, "general.type", 0, NULL}, {ADD_STR, "general.type", 0, "mmproj"}}, NO, "'mmproj'"},
        {{{DROP, "general.type", 0, NULL}, {ADD_U32, "general.type", 1, NULL}}, NO, "no model"},
        {{{DROP, "general.architecture", 0, NULL}, {ADD_STR, "general.architecture", 0, "clip"}},
         NO,
         "encoder"},
        {{{DROP, "general.architecture", 0, NULL}, {ADD_STR, "general.architecture", 0, ""}},
         NO,
         "1 to 63"},
        {{{DROP, "general.architecture", 0, NULL}, {ADD_STR, "general.architecture", 0, "a b"}},
         NO,
         "1 to 63"},
        {{{DROP, "general.architecture", 0, NULL}, {ADD_STR, "general.architecture", 0, "other"}},
         BAD,
         "'other.block_count' is missing"},
    };
    RUN(cases, 1);
}

/* ---- tokens ---- */

/* ---- tensors ---- */

static void add_bad_tensor(struct gguf_writer *w, void *user)
{
    const struct hs_gguf_tensor *tensor = user;
    gguf_writer_tensor(w, tensor->name, tensor->n_dims, tensor->dims, tensor->type, NULL,
                       tensor->size_bytes);
}

static void expect_tensor(const char *name, uint32_t n_dims, uint32_t type, size_t size,
                          hs_status expected)
{
    struct tiny_gguf_spec spec;
    struct gguf_bytes bytes;
    struct hs_gguf_tensor tensor = {.name = name, .n_dims = n_dims, .dims = {256, 2, 1, 1}};
    tensor.type = type;
    tensor.size_bytes = size;
    tiny_gguf_defaults(&spec);
    spec.extra = add_bad_tensor;
    spec.extra_user = &tensor;
    assert_true(tiny_gguf_build(&spec, &bytes, NULL));
    expect_tokens(bytes, expected, name);
}

static void tensor_types(void **state)
{
    (void)state;
    expect_tensor("x.bias", 1, 0, 1024, HS_OK);
    expect_tensor("x.bias", 1, 1, 512, BAD);         /* F16 */
    expect_tensor("x_norm.weight", 1, 30, 512, BAD); /* BF16 */
    expect_tensor("x.weight", 1, 8, 272, BAD);       /* a vector in blocks */
    expect_tensor("x.weight", 2, 8, 544, HS_OK);
    expect_tensor("x.weight", 2, 15, 584, BAD);  /* Q8_K */
    expect_tensor("x.weight", 2, 24, 512, BAD);  /* I8 */
    expect_tensor("x.weight", 2, 26, 2048, BAD); /* I32 */
    expect_tensor("ffn_gate_tid2eid.weight", 2, 26, 2048, HS_OK);
    expect_tensor("ffn_gate_tid2eid.weight", 2, 0, 2048, BAD);
    expect_tensor("ssm_a", 2, 1, 1024, BAD); /* F16 */
    expect_tensor("ssm_a", 2, 0, 2048, HS_OK);
    expect_tensor("x.weight", 2, 28, 4096, BAD); /* F64 */
}

static void weights_must_be_there_and_aligned(void **state)
{
    (void)state;
    struct gguf_writer w;
    struct gguf_bytes bytes;
    struct edit align[4] = {{ADD_U32, "general.alignment", 32, NULL}};
    expect_tokens(edited_model(align, 1), HS_OK, "");
    gguf_writer_init(&w);
    gguf_writer_str(&w, "general.architecture", "gpt2");
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    expect_tokens(bytes, NO, "no weights");
    gguf_writer_free(&w);
    gguf_writer_init(&w);
    gguf_writer_str(&w, "general.architecture", "gpt2");
    gguf_writer_u32(&w, "gpt2.block_count", 1);
    gguf_writer_u32(&w, "gpt2.context_length", 64);
    gguf_writer_u32(&w, "gpt2.embedding_length", 64);
    gguf_writer_u32(&w, "general.alignment", 16);
    w.alignment = 16;
    put_words(&w, &(struct words){"gpt2", 20, 20, true, "x"});
    assert_true(gguf_writer_finish(&w, &bytes, NULL));
    expect_tokens(bytes, BAD, "general.alignment 16 is below 32");
    gguf_writer_free(&w);
}

static void embeddings_must_be_there(void **state)
{
    (void)state;
    struct edit missing[4] = {{DROP, "token_embd.weight", 0, NULL}};
    expect_tokens(edited_model(missing, 1), BAD, "'token_embd.weight' is missing");
    /* An architecture of a later llama.cpp: only the general rules apply. */
    expect_tokens(model_of_words("newer", &(struct words){"gpt2", 20, 20, true, "x"}), BAD,
                  "must not be of type I8");
}

static void dimensions_fit_an_int(void **state)
{
    (void)state;
    for (uint64_t over = 0; over <= 1; over++) {
        struct gguf_writer w;
        struct gguf_bytes bytes;
        struct gguf_test t;
        gguf_writer_init(&w);
        gguf_writer_tensor_info(&w, "long.weight", 2, (uint64_t[]){INT32_MAX + over, 2}, 0, 0);
        assert_true(gguf_writer_finish(&w, &bytes, NULL));
        assert_int_equal(gguf_test_open_claimed(&t, bytes.data, bytes.len, UINT64_C(1) << 40),
                         HS_OK);
        assert_int_equal(hs_gguf_check_tensors(t.gguf, &t.err), over ? BAD : HS_OK);
        assert_true(!over || strstr(t.err.message, "2147483648 in dimension 0") != NULL);
        gguf_test_close(&t);
        gguf_bytes_free(&bytes);
        gguf_writer_free(&w);
    }
}

/* The last status of a check with one allocation after the other failing. */
static hs_status check_without_memory(struct gguf_bytes bytes)
{
    struct gguf_test t;
    hs_status status = HS_OUT_OF_MEMORY;
    assert_int_equal(gguf_test_open(&t, bytes.data, bytes.len), HS_OK);
    for (uint64_t n = 1; status == HS_OUT_OF_MEMORY; n++) {
        hs_mem_fail_after(n);
        status = hs_gguf_check_model(t.gguf, NULL, &t.err);
        hs_mem_fail_after(0);
        assert_true(n < 100);
    }
    gguf_test_close(&t);
    gguf_bytes_free(&bytes);
    return status;
}

static void allocation_failures_are_told(void **state)
{
    (void)state;
    const struct words empty = {"gpt2", 20, 20, false, "x"};
    assert_int_equal(check_without_memory(edited_model((struct edit[4]){{0}}, 1)), HS_OK);
    assert_int_equal(check_without_memory(model_of_words("gpt2", &empty)), BAD); /* its I8 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_kind_of_file_it_is),
        cmocka_unit_test(tensor_types),
        cmocka_unit_test(weights_must_be_there_and_aligned),
        cmocka_unit_test(embeddings_must_be_there),
        cmocka_unit_test(dimensions_fit_an_int),
        cmocka_unit_test(allocation_failures_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
