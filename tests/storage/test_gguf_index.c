/* The set of texts behind keys, tensor names and vocabularies. */
#include "gguf_test.h"

#include "base/mem.h"
#include "gguf_internal.h"

#define N_TEXTS 5000u

struct texts {
    char data[N_TEXTS][48];
    size_t len[N_TEXTS];
};

static struct hs_gguf_text text_at(const void *owner, size_t i)
{
    const struct texts *texts = owner;
    return (struct hs_gguf_text){texts->data[i], texts->len[i]};
}

/* Text i: its number in base 7 over letters with a zero byte among them, padded to all lengths, so
 * that texts differ at the front, in the middle or at the end only. */
static struct texts *make_texts(void)
{
    struct texts *texts = calloc(1, sizeof *texts);
    assert_non_null(texts);
    for (size_t i = 0; i < N_TEXTS; i++) {
        size_t len = i % 3 == 0 ? 6 : 6 + i % 41, at = i % 2 ? len - 6 : 0;
        memset(texts->data[i], 'x', len);
        for (size_t n = i, d = 0; d < 6; d++, n /= 7) {
            texts->data[i][at + d] = "\0abcdef"[n % 7];
        }
        texts->len[i] = len;
    }
    return texts;
}

static void all_texts_are_found(void **state)
{
    (void)state;
    struct texts *texts = make_texts();
    struct hs_gguf_index index;
    size_t pair[2] = {7, 7};
    assert_true(hs_gguf_index_init(&index, N_TEXTS));
    assert_true(hs_gguf_index_add_all(&index, N_TEXTS, text_at, texts, pair));
    assert_int_equal(pair[0], 7);
    for (size_t i = 0; i < N_TEXTS; i++) {
        assert_int_equal(hs_gguf_index_find(&index, text_at(texts, i), text_at, texts), i);
        assert_int_equal(hs_gguf_index_add(&index, i, text_at, texts), i);
    }
    const struct hs_gguf_text absent[] = {{NULL, 0}, {"x", 1}, {"xxxxxxxxxxxxxxxxxxxx", 20}};
    for (size_t i = 0; i < 3; i++) {
        assert_true(hs_gguf_index_find(&index, absent[i], text_at, texts) == HS_GGUF_INDEX_NONE);
    }
    hs_gguf_index_free(&index);
    hs_gguf_index_free(&index);
    free(texts);
}

static void the_first_pair_is_named(void **state)
{
    (void)state;
    const size_t pairs[][2] = {{0, 1}, {31, 32}, {0, N_TEXTS - 1}, {77, 4000}};
    for (size_t p = 0; p < sizeof pairs / sizeof pairs[0]; p++) {
        struct texts *texts = make_texts();
        struct hs_gguf_index index;
        size_t pair[2] = {0, 0};
        texts->len[pairs[p][1]] = texts->len[pairs[p][0]];
        memcpy(texts->data[pairs[p][1]], texts->data[pairs[p][0]], 48);
        assert_true(hs_gguf_index_init(&index, N_TEXTS));
        assert_false(hs_gguf_index_add_all(&index, N_TEXTS, text_at, texts, pair));
        assert_memory_equal(pair, pairs[p], sizeof pair);
        hs_gguf_index_free(&index);
        free(texts);
    }
}

static void no_memory_is_told(void **state)
{
    (void)state;
    struct hs_gguf_index index;
    hs_mem_fail_after(1);
    assert_false(hs_gguf_index_init(&index, 10));
    hs_mem_fail_after(0);
    hs_gguf_index_free(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_texts_are_found),
        cmocka_unit_test(the_first_pair_is_named),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
