/* Tests of training_summary.c: states as transformers' Trainer writes them. */
#include "adapter_test.h"

#include "adapter_internal.h"

static void expect_summary(const char *text, const char *summary)
{
    char *found = NULL;
    assert_int_equal(hs_training_summary(text, strlen(text), &found, NULL), HS_OK);
    assert_string_equal(found, summary);
    hs_free(found);
}

static void figures_are_kept(void **state)
{
    (void)state;
    expect_summary("{}", "{\"history\":[]}");
    expect_summary("{\"best_metric\":0.25,\"best_model_checkpoint\":\"/home/me/x\",\"epoch\":3,"
                   "\"global_step\":120,\"max_steps\":120,\"train_batch_size\":8,"
                   "\"log_history\":[{\"epoch\":1,\"grad_norm\":2,\"learning_rate\":0.5,\"loss\":1,"
                   "\"step\":40,\"other\":1},{\"eval_loss\":2,\"step\":40}]}",
                   "{\"steps\":120,\"max_steps\":120,\"epochs\":3,\"batch_size\":8,"
                   "\"best_metric\":0.25,\"history\":[{\"step\":40,\"epoch\":1,\"loss\":1,"
                   "\"learning_rate\":0.5,\"grad_norm\":2},{\"step\":40,\"eval_loss\":2}]}");
    expect_summary("{\"global_step\":\"x\",\"log_history\":[1]}", "{\"history\":[{}]}");
}

/* 200 entries stay, of 201 every second and the last. */
static void long_histories_are_thinned(void **state)
{
    (void)state;
    for (int n = 200; n <= 201; n++) {
        struct gguf_bytes text = {0};
        char *summary = NULL;
        gguf_bytes_put(&text, "{\"log_history\":[", 16);
        for (int i = 1; i <= n; i++) {
            char entry[32];
            int len = snprintf(entry, sizeof entry, "%s{\"step\":%d}", i > 1 ? "," : "", i);
            gguf_bytes_put(&text, entry, (size_t)len);
        }
        gguf_bytes_put(&text, "]}", 2);
        assert_int_equal(hs_training_summary((const char *)text.data, text.len, &summary, NULL),
                         HS_OK);
        size_t n_kept = 0;
        for (const char *at = strstr(summary, "step"); at != NULL; at = strstr(at + 1, "step")) {
            n_kept++;
        }
        assert_int_equal(n_kept, n == 200 ? 200 : 101);
        assert_non_null(strstr(summary, n == 200 ? "{\"step\":200}]" : "{\"step\":201}]"));
        hs_free(summary);
        gguf_bytes_free(&text);
    }
}

static void other_texts_are_refused(void **state)
{
    (void)state;
    char *summary = NULL;
    struct hs_error err;
    assert_int_equal(hs_training_summary("[]", 2, &summary, &err), HS_BAD_FORMAT);
    assert_int_equal(hs_training_summary("{\"a\":NaN}", 9, &summary, &err), HS_BAD_FORMAT);
    assert_null(summary);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *text = "{\"global_step\":1,\"log_history\":[{\"step\":1,\"loss\":0.5}]}";
    for (uint64_t n = 1;; n++) {
        char *summary = NULL;
        hs_mem_fail_after(n);
        hs_status status = hs_training_summary(text, strlen(text), &summary, NULL);
        bool is_done = hs_mem_count() < n;
        hs_mem_fail_after(0);
        hs_free(summary);
        assert_int_equal(status, is_done ? HS_OK : HS_OUT_OF_MEMORY);
        if (is_done) {
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_kept),
        cmocka_unit_test(long_histories_are_thinned),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
