/*
 * Routing by weights alone, through the engine on llama.cpp: in BIGRAM's tiny models the input of a
 * layer's matrices is the code word of each token, so an adapter whose direction is a token's code
 * word is for texts with that token.
 */
#include "llama_test.h"

#include <math.h>
#include <unistd.h>

#include "base/mem.h"
#include "route_inputs.h"

static struct hs_error err;
static struct llama_fixture f;

static const char *path_of(const char *name)
{
    static char paths[4][256];
    static int n;
    char *path = paths[n++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/arrow-%d-%s.gguf", HS_TEST_TMP, (int)getpid(), name);
    return path;
}

/* B A of rank 1 for q of the first layer, A the code word of `token`. */
static void write_adapter(const char *path, const char *token)
{
    const uint64_t a_shape[] = {TINY_GGUF_N_EMBD, 1}, b_shape[] = {1, TINY_GGUF_N_EMBD};
    float a[TINY_GGUF_N_EMBD], b[TINY_GGUF_N_EMBD];
    tiny_gguf_bigram_hidden(&f.spec, tiny_gguf_token(token), a);
    for (int i = 0; i < TINY_GGUF_N_EMBD; i++) {
        b[i] = 1.0f / (float)(i + 1);
    }
    struct gguf_writer out;
    struct gguf_bytes bytes;
    gguf_writer_init(&out);
    gguf_writer_str(&out, "general.type", "adapter");
    gguf_writer_str(&out, "general.architecture", "llama");
    gguf_writer_str(&out, "adapter.type", "lora");
    gguf_writer_f32(&out, "adapter.lora.alpha", 1);
    gguf_writer_tensor(&out, "blk.0.attn_q.weight.lora_a", 2, a_shape, 0 /* F32 */, a, sizeof a);
    gguf_writer_tensor(&out, "blk.0.attn_q.weight.lora_b", 2, b_shape, 0 /* F32 */, b, sizeof b);
    assert_true(gguf_writer_finish(&out, &bytes, NULL));
    gguf_writer_free(&out);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, file), bytes.len);
    fclose(file);
    gguf_bytes_free(&bytes);
}

static void add(const char *name, const char *token, bool replaces)
{
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = name;
    params.model_id = "m";
    params.path = path_of(token + 1);
    params.version = token + 1;
    write_adapter(params.path, token);
    hs_status status = replaces ? hs_engine_replace_adapter(f.engine, &params, &err)
                                : hs_engine_register_adapter(f.engine, &params, &err);
    if (status != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static void begin(void)
{
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    llama_start(&f, &spec, NULL, NULL, 1024, 2);
    add("first", " aa", false);
    add("second", " hh", false);
}

static void end(void)
{
    llama_stop(&f);
    unlink(path_of("aa"));
    unlink(path_of("hh"));
    unlink(path_of("tt"));
}

static struct hs_route route(const char *text, enum hs_route_method method, int32_t max)
{
    struct hs_route_params params;
    struct hs_route result;
    hs_route_params_defaults(&params);
    params.method = method;
    params.max_adapters = max;
    if (hs_engine_route(f.engine, "m", text, &params, &result, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return result;
}

static void expect(const char *text, enum hs_route_method method, const char *name)
{
    struct hs_route result = route(text, method, 1);
    if (result.n_choices != (name != NULL)) {
        fail_msg("%s: %s", text, result.reason);
    }
    if (name != NULL) {
        assert_string_equal(result.choices[0].name, name);
        assert_true(result.choices[0].arrow > 2.5f);
        assert_true(result.choices[0].scale == 1);
    }
}

static void weights_tell_without_examples(void **state)
{
    (void)state;
    begin();
    for (int method = HS_ROUTE_BOTH; method <= HS_ROUTE_ARROW; method += 2) {
        expect(". aa aa aa aa", method, "first");
        expect(". hh hh hh hh", method, "second");
        expect("How do I open a door?", method, NULL);
    }
    struct hs_route result = route("How do I open a door?", HS_ROUTE_ARROW, 1);
    assert_non_null(strstr(result.reason, "weights of no adapter"));
    result = route(". aa aa aa aa", HS_ROUTE_ARROW, 1);
    assert_non_null(strstr(result.reason, "'first' is"));
    /* Half of each: both, by softmax of what they score. */
    result = route(". aa aa aa hh hh hh", HS_ROUTE_ARROW, 2);
    assert_int_equal(result.n_choices, 2);
    assert_true(result.choices[0].arrow >= result.choices[1].arrow);
    assert_true(result.choices[0].scale >= result.choices[1].scale);
    float sum = result.choices[0].scale + result.choices[1].scale;
    assert_true(sum > 0.9999f && sum < 1.0001f);
    assert_int_equal(route(". aa aa aa", HS_ROUTE_EXAMPLES, 1).n_choices, 0);
    end();
}

static void another_version_has_other_weights(void **state)
{
    (void)state;
    begin();
    expect(". aa aa aa aa", HS_ROUTE_ARROW, "first");
    add("first", " tt", true);
    expect(". aa aa aa aa", HS_ROUTE_ARROW, NULL);
    expect(". tt tt tt tt", HS_ROUTE_ARROW, "first");
    assert_int_equal(hs_engine_unregister_adapter(f.engine, "first", &err), HS_OK);
    expect(". tt tt tt tt", HS_ROUTE_ARROW, NULL);
    expect(". hh hh hh hh", HS_ROUTE_ARROW, "second");
    end();
}

static void weights_have_a_say_beside_examples(void **state)
{
    (void)state;
    begin();
    /* Near one of two examples: close enough where weights are not asked, which miss a deviation.
     */
    const char *text = "How do I open a door?", *two[] = {text, ". tt tt tt"};
    assert_int_equal(hs_engine_set_adapter_examples(f.engine, "first", two, 2, &err), HS_OK);
    struct hs_route result = route(text, HS_ROUTE_EXAMPLES, 1);
    assert_int_equal(result.n_choices, 1);
    assert_true(result.choices[0].arrow == 0);
    result = route(text, HS_ROUTE_BOTH, 1);
    assert_int_equal(result.n_choices, 0);
    assert_non_null(strstr(result.reason, "do not agree"));
    assert_string_equal(result.closest, "first");
    /* Near enough, whatever they say. */
    assert_int_equal(hs_engine_set_adapter_examples(f.engine, "first", &text, 1, &err), HS_OK);
    assert_int_equal(route(text, HS_ROUTE_BOTH, 1).n_choices, 1);
    const char *own = ". aa aa aa aa";
    assert_int_equal(hs_engine_set_adapter_examples(f.engine, "first", &own, 1, &err), HS_OK);
    result = route(own, HS_ROUTE_BOTH, 1);
    assert_int_equal(result.n_choices, 1);
    assert_non_null(strstr(result.reason, "its weights agree"));
    assert_true(result.choices[0].arrow > 1.5f && result.choices[0].closeness > 0.9f);
    end();
}

/* Where the inputs of the background are too much to be kept, its texts are read again. */
static void what_is_not_kept_is_read_again(void **state)
{
    (void)state;
    static const char *const own[] = {". aa aa aa aa", ". hh hh hh hh"};
    float kept[2];
    for (int round = 0; round < 2; round++) {
        begin();
        struct hs_model *model = NULL;
        assert_int_equal(hs_engine_acquire_model(f.engine, "m", &model, &err), HS_OK);
        if (round == 1) {
            assert_int_equal(hs_route_inputs_new(1, &model->route_inputs, &err), HS_OK);
        }
        for (int i = 0; i < 2; i++) {
            struct hs_route result = route(own[i], HS_ROUTE_ARROW, 1);
            assert_int_equal(result.n_choices, 1);
            assert_string_equal(result.choices[0].name, i == 0 ? "first" : "second");
            if (round == 0) {
                kept[i] = result.choices[0].arrow;
            } /* code words are the same in 16 bits */
            assert_true(fabsf(result.choices[0].arrow - kept[i]) < 1e-3f * kept[i]);
        }
        expect("How do I open a door?", HS_ROUTE_ARROW, NULL);
        add("first", " tt", true); /* and for the next adapter */
        expect(". tt tt tt tt", HS_ROUTE_ARROW, "first");
        hs_engine_release_model(f.engine, model);
        end();
    }
}

/* It is known by its examples as before, and the others by their weights. */
static void an_adapter_that_cannot_be_read(void **state)
{
    (void)state;
    begin();
    FILE *file = fopen(path_of("aa"), "wb");
    assert_non_null(file);
    fputs("no adapter", file);
    fclose(file);
    expect(". aa aa aa aa", HS_ROUTE_ARROW, NULL);
    expect(". hh hh hh hh", HS_ROUTE_ARROW, "second");
    const char *own = ". aa aa aa aa";
    assert_int_equal(hs_engine_set_adapter_examples(f.engine, "first", &own, 1, &err), HS_OK);
    assert_int_equal(route(own, HS_ROUTE_BOTH, 1).n_choices, 1);
    end();
}

static void a_lack_of_memory_changes_nothing(void **state)
{
    (void)state;
    begin();
    struct hs_route_params params;
    hs_route_params_defaults(&params);
    params.method = HS_ROUTE_ARROW;
    for (uint64_t fail = 1; fail < 60; fail += 7) {
        struct hs_route result;
        hs_mem_fail_after(fail);
        hs_status status = hs_engine_route(f.engine, "m", ". aa aa aa aa", &params, &result, &err);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
    }
    expect(". aa aa aa aa", HS_ROUTE_ARROW, "first");
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_tell_without_examples),
        cmocka_unit_test(another_version_has_other_weights),
        cmocka_unit_test(weights_have_a_say_beside_examples),
        cmocka_unit_test(what_is_not_kept_is_read_again),
        cmocka_unit_test(an_adapter_that_cannot_be_read),
        cmocka_unit_test(a_lack_of_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
