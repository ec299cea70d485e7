/* Directions of adapters, by what they must do to an input; scores against the formula. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "adapters/arrow.h"
#include "base/mem.h"

#define N_IN 20
#define N_OUT 12
#define RANK 3
#define N_TEXTS 9
#define N_TOKENS 5

static struct hs_error err;
static uint32_t random_state = 1;

static float next_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)((double)(random_state >> 8) / (1 << 24) - 0.5);
}

struct weights {
    float a[RANK][N_IN], b[N_OUT][RANK];
};

static struct hs_lora_target target_of(const char *tensor, const struct weights *weights)
{
    struct hs_lora_target target = {.n_in = N_IN, .n_out = N_OUT, .rank = RANK, .scale = 2};
    strcpy(target.tensor, tensor);
    target.a = (struct hs_lora_matrix){HS_LORA_F32, RANK, N_IN, weights->a, NULL};
    target.b = (struct hs_lora_matrix){HS_LORA_F32, N_OUT, RANK, weights->b, NULL};
    return target;
}

static void fill(struct weights *weights)
{
    for (int r = 0; r < RANK; r++) {
        for (int i = 0; i < N_IN; i++) {
            weights->a[r][i] = next_value();
        }
        for (int o = 0; o < N_OUT; o++) {
            weights->b[o][r] = next_value();
        }
    }
}

/* |B A x|^2 */
static double gain(const struct weights *weights, const float *x)
{
    double squares = 0;
    for (int o = 0; o < N_OUT; o++) {
        double y = 0;
        for (int r = 0; r < RANK; r++) {
            double ax = 0;
            for (int i = 0; i < N_IN; i++) {
                ax += (double)weights->a[r][i] * (double)x[i];
            }
            y += (double)weights->b[o][r] * ax;
        }
        squares += y * y;
    }
    return squares;
}

static void make_unit(float *x)
{
    double squares = 0;
    for (int i = 0; i < N_IN; i++) {
        squares += (double)x[i] * (double)x[i];
    }
    for (int i = 0; i < N_IN; i++) {
        x[i] = (float)((double)x[i] / sqrt(squares));
    }
}

/* No input of length 1 is changed more, and going on from v by power iteration does not leave it.
 */
static void the_direction_is_changed_most(void **state)
{
    (void)state;
    struct weights weights;
    for (int round = 0; round < 20; round++) {
        fill(&weights);
        const struct hs_lora_target target = target_of("blk.0.attn_q.weight", &weights);
        const struct hs_lora lora = {&target, 1};
        hs_arrow *arrow = NULL;
        assert_int_equal(hs_arrow_new(&lora, &arrow, &err), HS_OK);
        int64_t n_in = 0;
        const float *v = hs_arrow_direction(arrow, target.tensor, &n_in);
        assert_int_equal(n_in, N_IN);
        double most = gain(&weights, v);
        for (int k = 0; k < 500; k++) {
            float x[N_IN];
            for (int i = 0; i < N_IN; i++) {
                x[i] = v[i] + (k % 2 == 0 ? 0.05f : 2) * next_value();
            }
            make_unit(x);
            assert_true(gain(&weights, x) <= most * (1 + 1e-6));
        }
        hs_arrow_free(arrow);
    }
}

static void attention_counts_where_there_is_some(void **state)
{
    (void)state;
    struct weights weights;
    fill(&weights);
    struct hs_lora_target targets[] = {
        target_of("blk.1.ffn_up.weight", &weights), target_of("blk.1.attn_v.weight", &weights),
        target_of("blk.0.attn_q.weight", &weights), target_of("token_embd.weight", &weights)};
    targets[3].is_embedding = true;
    struct hs_lora lora = {targets, 4};
    hs_arrow *arrow = NULL;
    assert_int_equal(hs_arrow_new(&lora, &arrow, &err), HS_OK);
    assert_int_equal(hs_arrow_n_matrices(arrow), 2);
    assert_true(hs_arrow_has(arrow, "blk.0.attn_q.weight"));
    assert_true(hs_arrow_has(arrow, "blk.1.attn_v.weight"));
    assert_false(hs_arrow_has(arrow, "blk.1.ffn_up.weight"));
    hs_arrow_free(arrow);
    lora.n_targets = 1;
    assert_int_equal(hs_arrow_new(&lora, &arrow, &err), HS_OK);
    assert_true(hs_arrow_has(arrow, "blk.1.ffn_up.weight"));
    hs_arrow_free(arrow);
    /* Nothing to go by: an embedding alone, a sparse delta, a rank that its sides do not have. */
    lora.targets = targets + 3;
    targets[0].rank = 0;
    targets[1].rank = N_OUT + 1;
    for (int i = 0; i < 3; i++) {
        lora.targets = &targets[i == 2 ? 3 : i];
        assert_int_equal(hs_arrow_new(&lora, &arrow, &err), HS_OK);
        assert_int_equal(hs_arrow_n_matrices(arrow), 0);
        assert_false(hs_arrow_calibrate(arrow, NULL, 0));
        hs_arrow_free(arrow);
    }
    hs_arrow_free(NULL);
}

static double mean_of(const double *values, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += values[i];
    }
    return sum / n;
}

static double spread_of(const double *values, int n)
{
    double mean = mean_of(values, n), squares = 0;
    for (int i = 0; i < n; i++) {
        squares += (values[i] - mean) * (values[i] - mean);
    }
    return sqrt(squares / n);
}

/* The definition, step by step; cosines [2][N_TEXTS + 1][N_TOKENS], the last text is scored. */
static double wanted_score(double cosines[2][N_TEXTS + 1][N_TOKENS])
{
    double mean[N_TEXTS + 1] = {0};
    for (int m = 0; m < 2; m++) {
        double m_all = mean_of(&cosines[m][0][0], N_TEXTS * N_TOKENS);
        double s_all = spread_of(&cosines[m][0][0], N_TEXTS * N_TOKENS);
        double scores[N_TEXTS + 1];
        for (int t = 0; t <= N_TEXTS; t++) {
            scores[t] = 0;
            for (int k = 0; k < N_TOKENS; k++) {
                scores[t] += pow((cosines[m][t][k] - m_all) / s_all, 2) / N_TOKENS;
            }
        }
        double level = mean_of(scores, N_TEXTS), spread = spread_of(scores, N_TEXTS);
        for (int t = 0; t <= N_TEXTS; t++) {
            mean[t] += (scores[t] - level) / spread / 2;
        }
    }
    return (mean[N_TEXTS] - mean_of(mean, N_TEXTS)) / spread_of(mean, N_TEXTS);
}

static void a_score_is_the_formulas(void **state)
{
    (void)state;
    static const char *const names[2] = {"blk.0.attn_q.weight", "blk.0.attn_v.weight"};
    for (int round = 0; round < 20; round++) {
        struct weights weights[2];
        fill(&weights[0]);
        fill(&weights[1]);
        const struct hs_lora_target targets[2] = {target_of(names[0], &weights[0]),
                                                  target_of(names[1], &weights[1])};
        const struct hs_lora lora = {targets, 2};
        hs_arrow *arrow = NULL;
        assert_int_equal(hs_arrow_new(&lora, &arrow, &err), HS_OK);
        struct hs_arrow_sum sums[N_TEXTS + 1][2] = {0};
        double cosines[2][N_TEXTS + 1][N_TOKENS];
        for (int t = 0; t <= N_TEXTS; t++) {
            for (int m = 0; m < 2; m++) {
                float rows[N_TOKENS][N_IN];
                int64_t n_in = 0;
                const float *v = hs_arrow_direction(arrow, names[m], &n_in);
                for (int k = 0; k < N_TOKENS; k++) {
                    cosines[m][t][k] = 0;
                    for (int i = 0; i < N_IN; i++) {
                        rows[k][i] = next_value();
                    }
                    make_unit(rows[k]);
                    for (int i = 0; i < N_IN; i++) {
                        cosines[m][t][k] += (double)rows[k][i] * (double)v[i];
                    }
                }
                hs_arrow_see(arrow, names[m], rows[0], N_TOKENS, N_IN, sums[t]);
                hs_arrow_see(arrow, names[m], rows[0], N_TOKENS, N_IN - 1, sums[t]); /* ignored */
                hs_arrow_see(arrow, "another", rows[0], N_TOKENS, N_IN, sums[t]);
            }
        }
        assert_true(hs_arrow_calibrate(arrow, sums[0], N_TEXTS));
        assert_true(fabs(hs_arrow_score(arrow, sums[N_TEXTS]) - wanted_score(cosines)) < 1e-3);
        hs_arrow_free(arrow);
    }
}

static void a_matrix_that_was_not_seen_does_not_count(void **state)
{
    (void)state;
    struct weights weights;
    fill(&weights);
    const struct hs_lora_target target = target_of("blk.0.attn_q.weight", &weights);
    const struct hs_lora lora = {&target, 1};
    hs_arrow *arrow = NULL;
    assert_int_equal(hs_arrow_new(&lora, &arrow, &err), HS_OK);
    struct hs_arrow_sum sums[3] = {{0.5, 0.25, 1}, {0, 0, 0}, {0.1, 0.01, 1}};
    assert_false(hs_arrow_calibrate(arrow, sums, 3));
    sums[1] = (struct hs_arrow_sum){0.2, 0.04, 1};
    assert_true(hs_arrow_calibrate(arrow, sums, 3));
    for (int i = 1; i < 3; i++) { /* texts that do not differ */
        sums[i] = sums[0];
    }
    assert_false(hs_arrow_calibrate(arrow, sums, 3));
    hs_arrow_free(arrow);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct weights weights;
    fill(&weights);
    const struct hs_lora_target target = target_of("blk.0.attn_q.weight", &weights);
    const struct hs_lora lora = {&target, 1};
    for (uint64_t fail = 1;; fail++) {
        hs_arrow *arrow = NULL;
        hs_mem_fail_after(fail);
        hs_status status = hs_arrow_new(&lora, &arrow, &err);
        hs_mem_fail_after(0);
        hs_arrow_free(arrow);
        if (status == HS_OK) {
            assert_true(fail > 4);
            return;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_direction_is_changed_most),
        cmocka_unit_test(attention_counts_where_there_is_some),
        cmocka_unit_test(a_score_is_the_formulas),
        cmocka_unit_test(a_matrix_that_was_not_seen_does_not_count),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
