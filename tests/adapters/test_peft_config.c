/* Tests of peft_config.h. Expected answers follow PEFT's rules as its source states them.
 */
#include "adapter_test.h"

#include <math.h>

#include "peft_config.h"

#define HEAD "{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16"
#define NAMED HEAD ",\"target_modules\":[\"q_proj\",\"mlp.up_proj\"]"

static hs_peft_config *parse(const char *text)
{
    hs_peft_config *config = NULL;
    struct hs_error err = {0};
    if (hs_peft_config_parse(text, strlen(text), &config, &err) != HS_OK) {
        fail_msg("%s: %s", text, err.message);
    }
    return config;
}

static void expect_refused(const char *text, hs_status status, const char *part)
{
    hs_peft_config *config = NULL;
    struct hs_error err = {0};
    hs_status found = hs_peft_config_parse(text, strlen(text), &config, &err);
    if (found != status || strstr(err.message, part) == NULL || err.hint[0] == '\0') {
        fail_msg("%s: expected '%s', found %s '%s'", text, part, hs_status_name(found),
                 err.message);
    }
    assert_null(config);
}

static bool has(const char *text, const char *module)
{
    hs_peft_config *config = parse(text);
    bool is_named = false;
    assert_int_equal(hs_peft_config_has(config, module, &is_named, NULL), HS_OK);
    hs_peft_config_free(config);
    return is_named;
}

static void expect_scale(const char *text, const char *module, int32_t rank, float scale)
{
    hs_peft_config *config = parse(text);
    int32_t found_rank = 0;
    float found_scale = 0;
    assert_int_equal(hs_peft_config_scale(config, module, &found_rank, &found_scale, NULL), HS_OK);
    hs_peft_config_free(config);
    assert_int_equal(found_rank, rank);
    assert_true(found_scale == scale);
}

/* ---- scales ---- */

static void scales_follow_rank_and_alpha(void **state)
{
    (void)state;
    const char *const q = "model.layers.0.self_attn.q_proj";
    expect_scale(NAMED "}", q, 8, 2.0f);
    expect_scale(NAMED ",\"use_rslora\":true}", q, 8, (float)(16 / sqrt(8)));
    expect_scale(NAMED ",\"use_rslora\":false,\"rank_pattern\":null,\"alpha_pattern\":{}}", q, 8,
                 2.0f);
    expect_scale(NAMED ",\"rank_pattern\":{\"q_proj\":4}}", q, 4, 4.0f);
    expect_scale(NAMED ",\"rank_pattern\":{\"proj\":4}}", q, 8, 2.0f);      /* whole components */
    expect_scale(NAMED ",\"rank_pattern\":{\"self_attn\":4}}", q, 8, 2.0f); /* at the end */
    expect_scale(NAMED ",\"rank_pattern\":{\"self_attn.q_proj\":4}}", q, 4, 4.0f);
    expect_scale(NAMED ",\"alpha_pattern\":{\"q_proj\":3.5}}", q, 8, 0.4375f);
    expect_scale(NAMED ",\"alpha_pattern\":{\"layers\\\\.[1-9].*\":8,\".*q_proj\":4}}", q, 8, 0.5f);
    expect_scale(NAMED ",\"alpha_pattern\":{\"layers.0.self_attn.q_proj\":8,\"q_proj\":4}}", q, 8,
                 1.0f); /* the first that matches */
    expect_scale(NAMED ",\"alpha_pattern\":{\"^model.layers.0.self_attn.q_proj\":8}}", q, 8, 1.0f);
    expect_scale(NAMED ",\"alpha_pattern\":{\"(?:q|k)_proj(?!x)\":8}}", q, 8, 1.0f);
    expect_scale(NAMED ",\"alpha_pattern\":{\"layers\\\\.\\\\d+\\\\.self_attn\\\\.\\\\w+\":8}}", q,
                 8, 1.0f);
}

static void base_and_alpha_are_told(void **state)
{
    (void)state;
    hs_peft_config *config = parse(NAMED ",\"base_model_name_or_path\":\"org/model\",\"new\":[1]}");
    assert_string_equal(hs_peft_config_base(config), "org/model");
    assert_true(hs_peft_config_alpha(config) == 16);
    hs_peft_config_free(config);
    config = parse(NAMED ",\"base_model_name_or_path\":null}");
    assert_null(hs_peft_config_base(config));
    hs_peft_config_free(config);
    hs_peft_config_free(NULL);
}

/* ---- which modules ---- */

static void lists_name_the_ends_of_modules(void **state)
{
    (void)state;
    assert_true(has(NAMED "}", "model.layers.0.self_attn.q_proj"));
    assert_true(has(NAMED "}", "q_proj"));
    assert_true(has(NAMED "}", "model.layers.0.mlp.up_proj"));
    assert_false(has(NAMED "}", "model.layers.0.up_proj"));
    assert_false(has(NAMED "}", "model.layers.0.self_attn.xq_proj"));
    assert_false(has(NAMED "}", "model.layers.0.q_proj.more"));
    assert_false(has(NAMED "}", ""));
}

static void a_text_is_a_pattern_of_the_whole(void **state)
{
    (void)state;
    const char *text = HEAD ",\"target_modules\":\"model\\\\.layers\\\\.(?:0|2)\\\\..*[qk]_proj\"}";
    assert_true(has(text, "model.layers.0.self_attn.q_proj"));
    assert_true(has(text, "model.layers.2.self_attn.k_proj"));
    assert_false(has(text, "model.layers.1.self_attn.q_proj"));
    assert_false(has(text, "x.model.layers.0.self_attn.q_proj"));
    assert_false(has(text, "model.layers.0.self_attn.q_proj.x"));
    assert_true(has(HEAD ",\"target_modules\":\"all-linear\"}", "anything.at.all"));
}

static void layers_are_counted_by_their_first_number(void **state)
{
    (void)state;
    const char *const q0 = "model.layers.0.self_attn.q_proj";
    const char *const q1 = "model.layers.1.self_attn.q_proj";
    assert_true(has(NAMED ",\"layers_to_transform\":[1,3]}", q1));
    assert_false(has(NAMED ",\"layers_to_transform\":[1,3]}", q0));
    assert_true(has(NAMED ",\"layers_to_transform\":1}", q1));
    assert_false(has(NAMED ",\"layers_to_transform\":1}", q0));
    assert_true(has(NAMED ",\"layers_to_transform\":[]}", q0));
    assert_true(has(NAMED ",\"layers_to_transform\":null}", q0));
    assert_true(has(NAMED ",\"layers_to_transform\":[1],\"layers_pattern\":\"layers\"}", q1));
    assert_false(has(NAMED ",\"layers_to_transform\":[1],\"layers_pattern\":\"blocks\"}", q1));
    assert_true(
        has(NAMED ",\"layers_to_transform\":[1],\"layers_pattern\":[\"blocks\",\"layers\"]}", q1));
    assert_true(has(NAMED ",\"layers_to_transform\":[1],\"layers_pattern\":[]}", q1));
    assert_true(has(NAMED ",\"layers_to_transform\":[1]}", "q_proj")); /* named itself */
    assert_false(has(NAMED ",\"layers_to_transform\":[7]}", "model.layers.1.experts.7.q_proj"));
}

/* ---- what is refused ---- */

static void what_cannot_be_computed_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *more, *part;
    } cases[] = {
        {"\"use_dora\":true", "DoRA"},
        {"\"lora_bias\":true", "lora_bias"},
        {"\"bias\":\"lora_only\"", "bias \"lora_only\""},
        {"\"modules_to_save\":[\"lm_head\",\"score\"]", "module 'lm_head' (modules_to_save); "
                                                        "a whole copy of the module 'score'"},
        {"\"trainable_token_indices\":[1]", "trainable_token_indices"},
        {"\"trainable_token_indices\":{\"embed_tokens\":[1]}", "trainable_token_indices"},
        {"\"target_parameters\":[\"x\"]", "target_parameters"},
        {"\"layer_replication\":[[0,2]]", "layer_replication"},
        {"\"alora_invocation_tokens\":[1]", "alora_invocation_tokens"},
        {"\"use_qalora\":true", "use_qalora"},
        {"\"use_bdlora\":{\"nblocks\":2}", "use_bdlora"},
        {"\"arrow_config\":{\"top_k\":1}", "arrow_config"},
        {"\"init_lora_weights\":\"pissa_niter_4\"", "\"pissa_niter_4\""},
        {"\"init_lora_weights\":\"loftq\"", "\"loftq\""},
        {"\"use_dora\":true,\"bias\":\"all\"", "DoRA; trained biases (bias \"all\")"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, NAMED ",%s}", cases[i].more);
        expect_refused(text, HS_NOT_SUPPORTED, cases[i].part);
    }
    hs_peft_config_free(parse(NAMED ",\"init_lora_weights\":\"gaussian\",\"use_dora\":false,"
                                    "\"modules_to_save\":null,\"bias\":\"none\","
                                    "\"trainable_token_indices\":null,\"loftq_config\":{}}"));
}

static void malformed_configurations_are_refused(void **state)
{
    (void)state;
    expect_refused("", HS_BAD_FORMAT, "no JSON object");
    expect_refused("[]", HS_BAD_FORMAT, "no JSON object");
    expect_refused("{\"r\":1,\n\"r\":1}", HS_BAD_FORMAT, "no JSON object");
    expect_refused("{}", HS_BAD_FORMAT, "peft_type is missing");
    expect_refused("{\"peft_type\":\"IA3\"}", HS_NOT_SUPPORTED, "type IA3");
    expect_refused("{\"peft_type\":\"LORA\"}", HS_LIMIT, "r is no number");
    expect_refused("{\"peft_type\":\"LORA\",\"r\":8}", HS_BAD_FORMAT, "lora_alpha");
    expect_refused(HEAD "}", HS_BAD_FORMAT, "target_modules");
    expect_refused(HEAD ",\"target_modules\":[]}", HS_BAD_FORMAT, "target_modules");
    expect_refused(HEAD ",\"target_modules\":[1]}", HS_BAD_FORMAT, "target_modules");
    expect_refused(HEAD ",\"target_modules\":\"(\"}", HS_BAD_FORMAT, "pattern '(' is wrong");
    expect_refused(NAMED ",\"rank_pattern\":[1]}", HS_BAD_FORMAT, "rank_pattern");
    expect_refused(NAMED ",\"rank_pattern\":{\"a\":\"b\"}}", HS_BAD_FORMAT, "rank_pattern");
    expect_refused(NAMED ",\"alpha_pattern\":{\"a)\":1}}", HS_BAD_FORMAT, "pattern 'a)'");
    expect_refused(NAMED ",\"layers_pattern\":[1]}", HS_BAD_FORMAT, "layers_pattern");
}

/* ---- limits ---- */

static void ranks_are_limited(void **state)
{
    (void)state;
    const char *more = ",\"lora_alpha\":1,\"target_modules\":[\"a\"]";
    for (int i = 0; i < 4; i++) {
        const int ranks[] = {0, 1, HS_LORA_RANK_MAX, HS_LORA_RANK_MAX + 1};
        char text[256];
        snprintf(text, sizeof text, "{\"peft_type\":\"LORA\",\"r\":%d%s}", ranks[i], more);
        if (i == 0 || i == 3) {
            expect_refused(text, HS_LIMIT, "r is no number from 1 to 1024");
        } else {
            expect_scale(text, "a", ranks[i], 1.0f / (float)ranks[i]);
        }
        snprintf(text, sizeof text,
                 "{\"peft_type\":\"LORA\",\"r\":1%s,\"rank_pattern\":{\"a\":%d}}", more, ranks[i]);
        hs_peft_config *config = parse(text);
        int32_t rank;
        float scale;
        assert_int_equal(hs_peft_config_scale(config, "a", &rank, &scale, NULL),
                         i == 0 || i == 3 ? HS_LIMIT : HS_OK);
        hs_peft_config_free(config);
    }
}

static void patterns_are_limited(void **state)
{
    (void)state;
    for (size_t n = HS_PEFT_PATTERNS_MAX; n <= HS_PEFT_PATTERNS_MAX + 1; n++) {
        struct gguf_bytes text = {0};
        gguf_bytes_put(&text, NAMED ",\"alpha_pattern\":{", strlen(NAMED ",\"alpha_pattern\":{"));
        for (size_t i = 0; i < n; i++) {
            char entry[32];
            int len = snprintf(entry, sizeof entry, "%s\"x%zu\":1", i > 0 ? "," : "", i);
            gguf_bytes_put(&text, entry, (size_t)len);
        }
        gguf_bytes_put(&text, "}}", 3);
        if (n == HS_PEFT_PATTERNS_MAX) {
            hs_peft_config_free(parse((const char *)text.data));
        } else {
            expect_refused((const char *)text.data, HS_LIMIT, "4097 entries");
        }
        gguf_bytes_free(&text);
    }
}

static void slow_patterns_end(void **state)
{
    (void)state;
    hs_peft_config *config = parse(HEAD ",\"target_modules\":\"(a|aa|aaa)*[^a]\"}");
    char module[101] = "";
    bool is_named;
    struct hs_error err;
    memset(module, 'a', sizeof module - 1);
    assert_int_equal(hs_peft_config_has(config, module, &is_named, &err), HS_LIMIT);
    assert_non_null(strstr(err.message, "steps"));
    hs_peft_config_free(config);
}

/* PEFT fails there, too: int(None). */
static void a_layer_needs_its_number(void **state)
{
    (void)state;
    hs_peft_config *config =
        parse(NAMED ",\"layers_to_transform\":[0],\"layers_pattern\":[\"|layers\"]}");
    bool is_named;
    struct hs_error err;
    assert_int_equal(hs_peft_config_has(config, "model.layers.0.q_proj", &is_named, &err),
                     HS_BAD_FORMAT);
    assert_non_null(strstr(err.message, "layers_pattern"));
    hs_peft_config_free(config);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *text = NAMED ",\"rank_pattern\":{\"q_proj\":2},\"layers_to_transform\":[0],"
                             "\"layers_pattern\":[\"layers\"]}";
    for (uint64_t n = 1;; n++) {
        hs_peft_config *config = NULL;
        struct hs_error err;
        int32_t rank;
        float scale;
        bool is_named;
        hs_mem_fail_after(n);
        hs_status status = hs_peft_config_parse(text, strlen(text), &config, &err);
        if (status == HS_OK) {
            status = hs_peft_config_has(config, "model.layers.0.q_proj", &is_named, &err);
        }
        if (status == HS_OK) {
            status = hs_peft_config_scale(config, "model.layers.0.q_proj", &rank, &scale, &err);
        }
        bool is_done = hs_mem_count() < n;
        hs_mem_fail_after(0);
        hs_peft_config_free(config);
        if (is_done) {
            assert_int_equal(status, HS_OK);
            assert_int_equal(rank, 2);
            break;
        }
        assert_int_equal(status, HS_OUT_OF_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_follow_rank_and_alpha),
        cmocka_unit_test(base_and_alpha_are_told),
        cmocka_unit_test(lists_name_the_ends_of_modules),
        cmocka_unit_test(a_text_is_a_pattern_of_the_whole),
        cmocka_unit_test(layers_are_counted_by_their_first_number),
        cmocka_unit_test(what_cannot_be_computed_is_named),
        cmocka_unit_test(malformed_configurations_are_refused),
        cmocka_unit_test(ranks_are_limited),
        cmocka_unit_test(patterns_are_limited),
        cmocka_unit_test(slow_patterns_end),
        cmocka_unit_test(a_layer_needs_its_number),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
