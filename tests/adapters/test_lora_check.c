/* Tests of adapters/lora_check.h: weights made in memory, one thing wrong at a time. */
#include "adapter_test.h"

#include "adapters/lora_check.h"

static const struct test_matrix matrices[] = {{"blk.0.attn_q.weight", 4, 2},
                                              {"token_embd.weight", 2, 6}};

struct example {
    struct hs_lora_target target;
    float a[12], b[4];
    float factors[6];
    int64_t row_start[3];
    int32_t columns[2];
    float values[4];
};

static void make(struct example *e)
{
    memset(e, 0, sizeof *e);
    e->target = (struct hs_lora_target){
        .tensor = "blk.0.attn_q.weight", .n_in = 4, .n_out = 2, .rank = 1, .scale = 1};
    e->target.a = (struct hs_lora_matrix){HS_LORA_F32, 1, 4, e->a, NULL};
    e->target.b = (struct hs_lora_matrix){HS_LORA_F32, 2, 1, e->b, NULL};
}

/* Blocks of one row and two columns: the right half of row 0, the left half of row 1. */
static void make_sparse(struct example *e)
{
    make(e);
    e->target.rank = 0;
    e->row_start[1] = 1;
    e->row_start[2] = 2;
    e->columns[0] = 1;
    e->target.sparse = (struct hs_lora_sparse){.type = HS_LORA_F32,
                                               .block_rows = 1,
                                               .block_cols = 2,
                                               .n_blocks = 2,
                                               .row_start = e->row_start,
                                               .block_column = e->columns,
                                               .values = e->values};
}

static void expect(struct example *e, hs_status status, const char *part)
{
    struct hs_error err = {0};
    hs_lora_base *base = test_base("llama", 1, 1, matrices, 2, NULL);
    const struct hs_lora lora = {&e->target, 1};
    assert_int_equal(hs_lora_check(&lora, base, &err), status);
    if (status != HS_OK && (strstr(err.message, part) == NULL || err.hint[0] == '\0')) {
        fail_msg("'%s' is not in '%s'", part, err.message);
    }
    hs_lora_base_free(base);
}

#define WRONG(maker, status, part, change)                                                         \
    do {                                                                                           \
        maker(&e);                                                                                 \
        change;                                                                                    \
        expect(&e, status, part);                                                                  \
    } while (0)

static void sides_are_checked(void **state)
{
    (void)state;
    struct example e;
    make(&e);
    expect(&e, HS_OK, "");
    WRONG(make, HS_MISMATCH, "no such matrix", strcpy(e.target.tensor, "blk.1.attn_q.weight"));
    WRONG(make, HS_MISMATCH, "made for 3 inputs and 2 outputs, the model has 4 and 2",
          e.target.n_in = e.target.a.n_cols = 3);
    WRONG(make, HS_BAD_FORMAT, "A is 1 x 3, not 1 x 4", e.target.a.n_cols = 3);
    WRONG(make, HS_BAD_FORMAT, "B is 1 x 1, not 2 x 1", e.target.b.n_rows = 1);
    WRONG(make, HS_BAD_FORMAT, "no inputs", e.target.n_in = 0);
    WRONG(make, HS_LIMIT, "rank -1", e.target.rank = -1);
    WRONG(make, HS_LIMIT, "rank 1025", e.target.rank = HS_LORA_RANK_MAX + 1);
}

static void embeddings_lie_across(void **state)
{
    (void)state;
    struct example e;
    make(&e);
    strcpy(e.target.tensor, "token_embd.weight");
    e.target.is_embedding = true;
    e.target.n_in = 6;
    e.target.n_out = 2;
    e.target.a = (struct hs_lora_matrix){HS_LORA_F32, 6, 1, e.a, NULL};
    expect(&e, HS_OK, "");
    e.target.is_embedding = false;
    e.target.a = (struct hs_lora_matrix){HS_LORA_F32, 1, 6, e.a, NULL};
    expect(&e, HS_MISMATCH, "made for 6 inputs and 2 outputs, the model has 2 and 6");
}

/* The last value of each type as infinity and as NaN, by IEEE 754; the largest number passes. */
static void every_value_is_a_number(void **state)
{
    (void)state;
    static const struct {
        enum hs_lora_type type;
        uint32_t largest, infinity, nan;
    } types[] = {{HS_LORA_F32, 0x7F7FFFFF, 0xFF800000, 0x7F800001},
                 {HS_LORA_F16, 0x7BFF, 0xFC00, 0x7C01},
                 {HS_LORA_BF16, 0x7F7F, 0xFF80, 0x7F81}};
    struct example e;
    for (size_t t = 0; t < 3; t++) {
        const uint32_t bits[] = {types[t].largest, types[t].infinity, types[t].nan};
        for (size_t i = 0; i < 3; i++) {
            make(&e);
            size_t size = hs_lora_type_size(types[t].type);
            e.target.a.type = types[t].type;
            memcpy((uint8_t *)e.a + 3 * size, &bits[i], size);
            expect(&e, i == 0 ? HS_OK : HS_BAD_FORMAT, "A has a NaN or infinity");
        }
    }
    WRONG(make, HS_BAD_FORMAT, "B has a NaN", e.b[1] = __builtin_nanf(""));
    WRONG(make, HS_BAD_FORMAT, "its scale", e.target.scale = __builtin_inff());
    make(&e);
    e.target.b.type = HS_LORA_I8;
    e.target.b.factors = e.factors;
    expect(&e, HS_OK, "");
    e.factors[1] = __builtin_inff();
    expect(&e, HS_BAD_FORMAT, "B has a NaN");
}

static void sparse_deltas_are_in_order(void **state)
{
    (void)state;
    struct example e;
    make_sparse(&e);
    expect(&e, HS_OK, "");
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.row_start[0] = 1);
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.row_start[1] = 3);
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.row_start[1] = -1);
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.row_start[2] = 1);
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.row_start[1] = 2); /* 1, 0 in a row */
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.columns[0] = 2);
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.columns[0] = -1);
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.target.sparse.block_rows = 0);
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.target.sparse.block_cols = 3);
    WRONG(make_sparse, HS_BAD_FORMAT, "not in order", e.target.sparse.type = HS_LORA_I8);
    WRONG(make_sparse, HS_BAD_FORMAT, "has a NaN", e.values[3] = __builtin_nanf(""));
    WRONG(make_sparse, HS_MISMATCH, "no such matrix", strcpy(e.target.tensor, "x"));
}

static void without_a_base_only_the_weights_are_checked(void **state)
{
    (void)state;
    struct example e;
    make(&e);
    strcpy(e.target.tensor, "anything");
    const struct hs_lora lora = {&e.target, 1}, none = {NULL, 0};
    assert_int_equal(hs_lora_check(&lora, NULL, NULL), HS_OK);
    assert_int_equal(hs_lora_check(&none, NULL, NULL), HS_OK);
    e.a[0] = __builtin_nanf("");
    assert_int_equal(hs_lora_check(&lora, NULL, NULL), HS_BAD_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sides_are_checked),
        cmocka_unit_test(embeddings_lie_across),
        cmocka_unit_test(every_value_is_a_number),
        cmocka_unit_test(sparse_deltas_are_in_order),
        cmocka_unit_test(without_a_base_only_the_weights_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
