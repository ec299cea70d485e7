/* Routing by examples: against the formula in double, and by hand where it can be seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "adapters/route_table.h"
#include "base/mem.h"

#define NEAR(value, wanted, error) assert_true(fabs((value) - (wanted)) <= (error))
#define DIMS 24
#define N_CARDS 7
#define N_EXAMPLES 5
#define N_BACKGROUND 9

static uint32_t state;

static float next_value(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)((double)(state >> 8) / (1 << 24) - 0.3);
}

static void fill(float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        values[i] = next_value();
    }
}

static void normalise(double *vector)
{
    double squares = 0;
    for (int i = 0; i < DIMS; i++) {
        squares += vector[i] * vector[i];
    }
    for (int i = 0; i < DIMS; i++) {
        vector[i] /= sqrt(squares);
    }
}

struct world {
    float background[N_BACKGROUND][DIMS];
    float examples[N_CARDS][N_EXAMPLES][DIMS];
    int32_t n[N_CARDS];
    double mean[DIMS];
    double metric[DIMS][DIMS]; /* the inverse of (covariance + mean variance) */
};

static const char *const names[N_CARDS] = {"a", "b", "c", "d", "e", "f", "g"};

/* Gauss and Jordan, with pivots. */
static void invert(double matrix[DIMS][DIMS], double inverse[DIMS][DIMS])
{
    for (int i = 0; i < DIMS * DIMS; i++) {
        inverse[i / DIMS][i % DIMS] = i / DIMS == i % DIMS;
    }
    for (int column = 0; column < DIMS; column++) {
        int pivot = column;
        for (int row = column; row < DIMS; row++) {
            pivot = fabs(matrix[row][column]) > fabs(matrix[pivot][column]) ? row : pivot;
        }
        for (int i = 0; i < DIMS; i++) {
            double a = matrix[column][i], b = inverse[column][i];
            matrix[column][i] = matrix[pivot][i];
            inverse[column][i] = inverse[pivot][i];
            matrix[pivot][i] = a;
            inverse[pivot][i] = b;
        }
        double by = matrix[column][column];
        for (int i = 0; i < DIMS; i++) {
            matrix[column][i] /= by;
            inverse[column][i] /= by;
        }
        for (int row = 0; row < DIMS; row++) {
            double times = row == column ? 0 : matrix[row][column];
            for (int i = 0; i < DIMS; i++) {
                matrix[row][i] -= times * matrix[column][i];
                inverse[row][i] -= times * inverse[column][i];
            }
        }
    }
}

static void take_unit(const float *vector, double *unit)
{
    for (int i = 0; i < DIMS; i++) {
        unit[i] = (double)vector[i];
    }
    normalise(unit);
}

static void make_world(struct world *world, uint32_t seed)
{
    state = seed;
    fill(&world->background[0][0], sizeof(world->background) / sizeof(float));
    fill(&world->examples[0][0][0], sizeof(world->examples) / sizeof(float));
    for (int c = 0; c < N_CARDS; c++) {
        world->n[c] = 1 + (c + (int)seed) % N_EXAMPLES;
    }
    double covariance[DIMS][DIMS] = {{0}}, trace = 0;
    memset(world->mean, 0, sizeof(world->mean));
    for (int pass = 0; pass < 2; pass++) {
        for (int k = 0; k < N_BACKGROUND; k++) {
            double unit[DIMS];
            take_unit(world->background[k], unit);
            for (int i = 0; i < DIMS; i++) {
                world->mean[i] += pass == 0 ? unit[i] / N_BACKGROUND : 0;
                for (int j = 0; pass == 1 && j < DIMS; j++) {
                    covariance[i][j] +=
                        (unit[i] - world->mean[i]) * (unit[j] - world->mean[j]) / N_BACKGROUND;
                }
            }
        }
    }
    for (int i = 0; i < DIMS; i++) {
        trace += covariance[i][i];
    }
    for (int i = 0; i < DIMS; i++) {
        covariance[i][i] += trace / N_BACKGROUND; /* of which there are less than DIMS */
    }
    invert(covariance, world->metric);
}

static double product(const struct world *world, const double *a, const double *b)
{
    double sum = 0;
    for (int i = 0; i < DIMS; i++) {
        for (int j = 0; j < DIMS; j++) {
            sum += (a[i] - world->mean[i]) * world->metric[i][j] * (b[j] - world->mean[j]);
        }
    }
    return sum;
}

/* The mean of the three largest cosines under that metric, of unit vectors less the mean. */
static double expected(const struct world *world, const float *query, const float *vectors,
                       int32_t n)
{
    double q[DIMS];
    take_unit(query, q);
    double best[3] = {-2, -2, -2};
    for (int32_t k = 0; k < n; k++) {
        double v[DIMS];
        take_unit(vectors + k * DIMS, v);
        double cosine = product(world, q, v) / sqrt(product(world, q, q) * product(world, v, v));
        for (int i = 0; i < 3; i++) {
            if (cosine > best[i]) {
                double other = best[i];
                best[i] = cosine;
                cosine = other;
            }
        }
    }
    int used = n < 3 ? n : 3;
    return (best[0] + (used > 1 ? best[1] : 0) + (used > 2 ? best[2] : 0)) / used;
}

static hs_route_table *make_table(const struct world *world)
{
    struct hs_error err;
    hs_route_table *table = NULL;
    assert_int_equal(hs_route_table_new(DIMS, &world->background[0][0], N_BACKGROUND, &table, &err),
                     HS_OK);
    for (int c = 0; c < N_CARDS; c++) {
        assert_int_equal(
            hs_route_table_set(table, names[c], &world->examples[c][0][0], world->n[c], &err),
            HS_OK);
    }
    return table;
}

/* Match and weigh. */
static hs_status match_some(const hs_route_table *table, const float *query,
                            bool (*is_wanted)(const char *name, void *user), int32_t max,
                            struct hs_route_matches *matches)
{
    struct hs_error err;
    hs_status status =
        hs_route_table_match(table, query, HS_ROUTE_FLOOR, is_wanted, NULL, matches, &err);
    if (status == HS_OK) {
        hs_route_matches_weigh(matches, max);
    }
    return status;
}

static void closeness_is_the_formulas(void **unused)
{
    (void)unused;
    static struct world world;
    for (uint32_t seed = 1; seed <= 50; seed++) {
        make_world(&world, seed);
        hs_route_table *table = make_table(&world);
        float query[DIMS];
        fill(query, DIMS);
        struct hs_route_matches found;
        assert_int_equal(match_some(table, query, NULL, N_CARDS, &found), HS_OK);
        const struct hs_route_match *matches = found.items, best = found.best;
        int32_t n = found.n;
        double background = found.background;
        NEAR(background, expected(&world, query, &world.background[0][0], N_BACKGROUND), 1e-5);
        double floor = background + HS_ROUTE_FLOOR, first = -2;
        for (int c = 0; c < N_CARDS; c++) {
            double value = expected(&world, query, &world.examples[c][0][0], world.n[c]);
            first = value > first ? value : first;
        }
        NEAR(best.closeness, first, 1e-5);
        double sum = 0;
        for (int32_t i = 0; i < n; i++) {
            int c = matches[i].name[0] - 'a';
            NEAR(matches[i].closeness,
                 expected(&world, query, &world.examples[c][0][0], world.n[c]), 1e-5);
            assert_true(matches[i].closeness > floor);
            assert_true(i == 0 || matches[i].closeness <= matches[i - 1].closeness);
            NEAR(matches[i].weight / matches[0].weight,
                 (matches[i].closeness - floor) / (first - floor), 1e-3);
            assert_true(matches[i].weight >= 0.4999 * matches[0].weight);
            sum += matches[i].weight;
        }
        assert_true(n == 0 ? first <= floor + 1e-5 : fabs(sum - 1) < 1e-6);
        hs_route_table_free(table);
    }
}

static bool not_b(const char *name, void *user)
{
    (void)user;
    return strcmp(name, "b") != 0;
}

/* Four axes; the background lies along the last. Two of the examples are near, a third is not. */
static void the_nearest_is_chosen_or_none(void **unused)
{
    (void)unused;
    const float background[] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, -1};
    const float a[] = {1, 0, 0, 0, 2, 0, 0, 0}, b[] = {0, 1, 0, 0}, c[] = {0, 0, 1, 0};
    struct hs_error err;
    hs_route_table *table = NULL;
    assert_int_equal(hs_route_table_new(4, background, 4, &table, &err), HS_OK);
    struct hs_route_matches found;
    const float along_b[] = {0.1f, 5, 0, 0}, along_none[] = {0, 0.1f, 0, 3};
    assert_int_equal(match_some(table, along_b, NULL, 2, &found), HS_OK);
    assert_int_equal(found.n, 0);
    assert_null(found.best.name);
    assert_int_equal(hs_route_table_set(table, "a", a, 2, &err), HS_OK);
    assert_int_equal(hs_route_table_set(table, "b", c, 1, &err), HS_OK);
    assert_int_equal(hs_route_table_set(table, "b", b, 1, &err), HS_OK); /* replaces */
    assert_int_equal(hs_route_table_set(table, "c", c, 1, &err), HS_OK);
    assert_true(hs_route_table_has(table, "b"));
    assert_int_equal(match_some(table, along_b, NULL, 2, &found), HS_OK);
    assert_int_equal(found.n, 1);
    assert_string_equal(found.items[0].name, "b");
    assert_string_equal(found.best.name, "b");
    NEAR(found.items[0].weight, 1, 1e-9);
    assert_int_equal(match_some(table, along_none, NULL, 2, &found), HS_OK);
    assert_int_equal(found.n, 0);
    assert_non_null(found.best.name);
    assert_true(found.background > found.best.closeness);
    /* Between two: both, half each; with room for one, or one not wanted: that one alone. */
    const float between[] = {0, 1, 1, 0};
    assert_int_equal(match_some(table, between, NULL, 2, &found), HS_OK);
    assert_int_equal(found.n, 2);
    NEAR(found.items[0].weight, 0.5, 1e-6);
    assert_int_equal(match_some(table, between, NULL, 1, &found), HS_OK);
    assert_int_equal(found.n, 1);
    NEAR(found.items[0].weight, 1, 1e-9);
    assert_int_equal(match_some(table, between, not_b, 2, &found), HS_OK);
    assert_int_equal(found.n, 1);
    assert_string_equal(found.items[0].name, "c");
    hs_route_table_remove(table, "c");
    hs_route_table_remove(table, "nobody");
    assert_false(hs_route_table_has(table, "c"));
    hs_route_table_free(table);
    hs_route_table_free(NULL);
}

/* As many as there is room for, the closest ones. */
static void the_closest_are_kept(void **unused)
{
    (void)unused;
    const float background[] = {-1, -1};
    struct hs_error err;
    hs_route_table *table = NULL;
    assert_int_equal(hs_route_table_new(2, background, 1, &table, &err), HS_OK);
    for (int i = 0; i <= HS_ROUTE_MATCHES_MAX; i++) {
        char name[8];
        snprintf(name, sizeof name, "%c", 'a' + (i * 5) % (HS_ROUTE_MATCHES_MAX + 1));
        const float example[] = {1, 0.01f * (float)(name[0] - 'a')};
        assert_int_equal(hs_route_table_set(table, name, example, 1, &err), HS_OK);
    }
    const float query[] = {1, 0};
    struct hs_route_matches found;
    assert_int_equal(hs_route_table_match(table, query, 0.9, NULL, NULL, &found, &err), HS_OK);
    assert_int_equal(found.n, HS_ROUTE_MATCHES_MAX);
    for (int i = 1; i < found.n; i++) {
        assert_true(found.items[i - 1].closeness >= found.items[i].closeness);
    }
    assert_true(found.best.closeness <= found.items[0].closeness);
    hs_route_table_free(table);
}

static void refuses_what_has_no_direction(void **unused)
{
    (void)unused;
    struct hs_error err;
    hs_route_table *table = NULL;
    float one[2] = {1, 0}, zero[2] = {0, 0}, nan[2] = {NAN, 1}, inf[2] = {INFINITY, 1};
    assert_int_equal(hs_route_table_new(0, one, 1, &table, &err), HS_LIMIT);
    assert_int_equal(hs_route_table_new(HS_ROUTE_DIMS_MAX + 1, one, 1, &table, &err), HS_LIMIT);
    assert_int_equal(hs_route_table_new(2, one, 0, &table, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_route_table_new(2, zero, 1, &table, &err), HS_INVALID_ARGUMENT);
    assert_null(table);
    assert_int_equal(hs_route_table_new(2, one, 1, &table, &err), HS_OK);
    assert_int_equal(hs_route_table_set(table, "x", nan, 1, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_route_table_set(table, "x", inf, 1, &err), HS_INVALID_ARGUMENT);
    assert_false(hs_route_table_has(table, "x"));
    static float many[(HS_ROUTE_EXAMPLES_MAX + 1) * 2];
    for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
        many[i] = 1;
    }
    assert_int_equal(hs_route_table_set(table, "x", many, HS_ROUTE_EXAMPLES_MAX, &err), HS_OK);
    assert_int_equal(hs_route_table_set(table, "x", many, HS_ROUTE_EXAMPLES_MAX + 1, &err),
                     HS_LIMIT);
    struct hs_route_matches found;
    assert_int_equal(match_some(table, zero, NULL, 1, &found), HS_INVALID_ARGUMENT);
    hs_route_table_free(table);
}

static void every_allocation_may_fail(void **unused)
{
    (void)unused;
    float one[4] = {1, 0, 0.5f, 1};
    struct hs_error err;
    for (uint64_t fail = 1;; fail++) {
        hs_mem_fail_after(fail);
        hs_route_table *table = NULL;
        struct hs_route_matches found;
        hs_status status = hs_route_table_new(2, one, 2, &table, &err);
        if (status == HS_OK) {
            status = hs_route_table_set(table, "x", one + 2, 1, &err);
        }
        if (status == HS_OK) {
            status = match_some(table, one, NULL, 1, &found);
        }
        hs_mem_fail_after(0);
        hs_route_table_free(table);
        if (status == HS_OK) {
            assert_true(fail > 7);
            return;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closeness_is_the_formulas),
        cmocka_unit_test(the_nearest_is_chosen_or_none),
        cmocka_unit_test(the_closest_are_kept),
        cmocka_unit_test(refuses_what_has_no_direction),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
