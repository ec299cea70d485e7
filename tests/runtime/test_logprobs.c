#include <math.h>

#include "logprobs.h"
#include "runtime_test.h"

static void test_small_distribution(void **state)
{
    (void)state;
    /* exp: 1, 2, 4, 1; sum 8 */
    const float logits[] = {0, logf(2), logf(4), 0};
    struct hs_token_logprob top[4];
    hs_logprobs(logits, 4, 3, 3, top);
    assert_int_equal(top[0].token, 3);
    assert_true(fabsf(top[0].logprob - logf(1.0F / 8)) < 1e-6F);
    assert_int_equal(top[1].token, 2);
    assert_true(fabsf(top[1].logprob - logf(0.5F)) < 1e-6F);
    assert_int_equal(top[2].token, 1);
    assert_true(fabsf(top[2].logprob - logf(0.25F)) < 1e-6F);
    assert_int_equal(top[3].token, 0); /* of equal ones the first */
}

static void test_more_than_there_are(void **state)
{
    (void)state;
    const float logits[] = {5, -INFINITY};
    struct hs_token_logprob top[4];
    hs_logprobs(logits, 2, 0, 3, top);
    assert_true(fabsf(top[0].logprob) < 1e-6F);
    assert_int_equal(top[1].token, 0);
    assert_int_equal(top[2].token, -1);
    assert_true(isinf(top[2].logprob) && top[2].logprob < 0);
    hs_logprobs(logits, 2, 1, 0, top);
    assert_int_equal(top[0].token, 1);
    assert_true(isinf(top[0].logprob));
}

static int by_logit(const void *a, const void *b)
{
    const struct hs_token_logprob *x = a;
    const struct hs_token_logprob *y = b;
    int order = (x->logprob < y->logprob) - (x->logprob > y->logprob);
    return order ? order : x->token - y->token;
}

/* Against sorting everything, with large logits that would overflow an unshifted exp. */
static void test_against_a_full_sort(void **state)
{
    (void)state;
    enum { N = 5000, TOP = 20 };
    static float logits[N];
    static struct hs_token_logprob sorted[N];
    uint32_t seed = 1;
    double sum = 0;
    for (int32_t i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        logits[i] = 500 + (float)(seed >> 20) / 100; /* many equal ones */
        sorted[i] = (struct hs_token_logprob){i, logits[i]};
    }
    qsort(sorted, N, sizeof(*sorted), by_logit);
    for (int32_t i = 0; i < N; i++) {
        sum += exp((double)logits[i] - (double)sorted[0].logprob);
    }
    struct hs_token_logprob top[1 + TOP];
    hs_logprobs(logits, N, 77, TOP, top);
    for (int k = 0; k < TOP; k++) {
        assert_int_equal(top[k + 1].token, sorted[k].token);
        double wanted = (double)sorted[k].logprob - (double)sorted[0].logprob - log(sum);
        assert_true(fabs((double)top[k + 1].logprob - wanted) < 1e-3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_distribution),
        cmocka_unit_test(test_more_than_there_are),
        cmocka_unit_test(test_against_a_full_sort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
