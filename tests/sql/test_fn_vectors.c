/* Embeddings that are kept: what is found, and what makes room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "fn_vectors.h"

static const struct hs_model_info one = {.id = "m", .fingerprint = "1"};

static float get(hs_fn_vectors *vectors, const struct hs_model_info *model, const char *text)
{
    int32_t n = 0;
    float *values = hs_fn_vectors_get(vectors, model, text, strlen(text), &n);
    float first = values != NULL && n == 2 && values[1] == 7 ? values[0] : -1;
    hs_free(values);
    return first;
}

static void put(hs_fn_vectors *vectors, const char *text, float first)
{
    hs_fn_vectors_put(vectors, &one, text, strlen(text), (float[]){first, 7}, 2);
}

static void test_by_text_and_model(void **state)
{
    (void)state;
    hs_fn_vectors *vectors = hs_fn_vectors_new(1 << 20);
    put(vectors, "a", 1);
    put(vectors, "", 2);
    assert_true(get(vectors, &one, "a") == 1);
    assert_true(get(vectors, &one, "") == 2);
    assert_true(get(vectors, &one, "b") == -1);
    assert_true(get(vectors, &(struct hs_model_info){.id = "m", .fingerprint = "2"}, "a") == -1);
    assert_true(get(vectors, &(struct hs_model_info){.id = "n", .fingerprint = "1"}, "a") == -1);
    hs_fn_vectors_free(vectors);
    hs_fn_vectors_free(NULL);
}

/* However large a vector is in memory: of as many as fit, the ones used last stay. */
static void test_the_oldest_make_room(void **state)
{
    (void)state;
    hs_fn_vectors *vectors = hs_fn_vectors_new(4096);
    char text[2] = "A";
    int n = 0;
    put(vectors, "A", 1);
    for (; get(vectors, &one, "A") == 1 && n < 60; n++) { /* each look keeps it */
        text[0] = (char)('B' + n);
        put(vectors, text, 2);
    }
    assert_int_equal(n, 60);
    assert_true(get(vectors, &one, "B") == -1);
    assert_true(get(vectors, &one, text) == 2);
    hs_fn_vectors_free(vectors);
    vectors = hs_fn_vectors_new(8); /* room for none */
    put(vectors, "a", 1);
    assert_true(get(vectors, &one, "a") == -1);
    hs_fn_vectors_free(vectors);
}

static void test_without_memory(void **state)
{
    (void)state;
    hs_fn_vectors *vectors = hs_fn_vectors_new(1 << 20);
    for (uint64_t nth = 1; nth < 5; nth++) {
        hs_mem_fail_after(nth);
        put(vectors, "a", 1);
        float found = get(vectors, &one, "a");
        hs_mem_fail_after(0);
        assert_true(found == 1 || found == -1);
    }
    put(vectors, "a", 1);
    assert_true(get(vectors, &one, "a") == 1);
    hs_mem_fail_after(1);
    assert_null(hs_fn_vectors_new(1));
    hs_mem_fail_after(0);
    hs_fn_vectors_free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_text_and_model),
        cmocka_unit_test(test_the_oldest_make_room),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
