/* The table of tensor types against ggml's own. */
#include "gguf_test.h"

#include "ggml.h"

static void the_table_is_ggmls(void **state)
{
    (void)state;
    for (int number = 0; number < GGML_TYPE_COUNT; number++) {
        const struct hs_gguf_tensor_type *own = hs_gguf_tensor_type((uint32_t)number);
        int64_t block_size = ggml_blck_size((enum ggml_type)number);
        if (block_size == 0) { /* a number that was given up, or never given */
            assert_null(own);
            continue;
        }
        assert_non_null(own);
        assert_int_equal(own->number, number);
        assert_int_equal(strcasecmp(own->name, ggml_type_name((enum ggml_type)number)), 0);
        assert_int_equal(own->block_size, block_size);
        assert_int_equal(own->block_bytes, ggml_type_size((enum ggml_type)number));
    }
    assert_null(hs_gguf_tensor_type(GGML_TYPE_COUNT));
    assert_null(hs_gguf_tensor_type(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_table_is_ggmls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
