/* Tests of rest/ollama_models.c and ollama_embed.c. */
#include <stdio.h>

#include "rest_test.h"

static void models_are_listed_as_ollama_does(void **state)
{
    static const char *const lines[] = {"GET /api/tags", "GET /api/ps"};
    struct rest_test *test = *state;
    for (size_t i = 0; i < 2; i++) {
        rest_ask(test, lines[i], "", 200);
        assert_int_equal(json_array_size(rest_at(test, "models")), 1);
        rest_expect_string(test, "models/0/name", "fake:latest");
        rest_expect_string(test, "models/0/model", "fake:latest");
        rest_expect_string(test, "models/0/digest", test->rest.models[0].fingerprint);
        rest_expect_string(test, "models/0/modified_at", "2023-11-14T22:13:20.000000000Z");
        rest_expect_string(test, "models/0/details/format", "gguf");
        rest_expect_string(test, "models/0/details/family", test->rest.models[0].architecture);
        assert_true(json_is_integer(rest_at(test, "models/0/size")));
    }
    rest_expect_int(test, "models/0/context_length", test->rest.models[0].n_ctx);
    rest_expect_int(test, "models/0/size_vram", 0);
    rest_at(test, "models/0/expires_at");
}

static void sizes_are_rounded_as_ollama_does(void **state)
{
    static const struct {
        uint64_t n;
        const char *want;
    } rows[] = {{999, "999"},
                {1000, "1K"},
                {134515008, "134.52M"},
                {7000000, "7M"},
                {999999999, "1000.00M"},
                {1000000000, "1B"},
                {8030261312, "8.0B"}};
    struct rest_test *test = *state;
    struct hs_model_info *model = &test->rest.models[0];
    snprintf(model->description, sizeof model->description, "llama 7B Q4_K - Medium");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        model->n_params = rows[i].n;
        rest_ask(test, "POST /api/show", "{\"model\":\"fake\"}", 200);
        rest_expect_string(test, "details/parameter_size", rows[i].want);
        rest_expect_int(test, "model_info/general.parameter_count", (json_int_t)rows[i].n);
    }
    rest_expect_string(test, "details/quantization_level", "Q4_K - Medium");
    snprintf(model->description, sizeof model->description, "strange");
    rest_ask(test, "POST /api/show", "{\"name\":\"fake:latest\"}", 200);
    rest_expect_string(test, "details/quantization_level", "unknown");
}

static void what_show_tells(void **state)
{
    struct rest_test *test = *state;
    struct hs_model_info *model = &test->rest.models[0];
    snprintf(model->architecture, sizeof model->architecture, "qwen3");
    model->n_ctx_train = 4096;
    model->n_layer = 30;
    model->n_embd = 576;
    model->can_generate = true;
    model->can_infill = false;
    rest_ask(test, "POST /api/show", "{\"model\":\"fake\"}", 200);
    rest_expect_string(test, "model_info/general.architecture", "qwen3");
    rest_expect_int(test, "model_info/qwen3.context_length", 4096);
    rest_expect_int(test, "model_info/qwen3.block_count", 30);
    rest_expect_int(test, "model_info/qwen3.embedding_length", 576);
    rest_expect_string(test, "capabilities/0", "completion");
    rest_expect_string(test, "capabilities/1", "tools");
    rest_expect_string(test, "template", "");
    assert_int_equal(json_array_size(rest_at(test, "capabilities")), 2);
    assert_int_equal(fake_engine.n_rendered, 3); /* what the template can do is tried */
    fake_engine.render_status = HS_NOT_SUPPORTED;
    model->can_infill = true;
    rest_ask(test, "POST /api/show", "{}", 200);
    assert_int_equal(json_array_size(rest_at(test, "capabilities")), 2);
    rest_expect_string(test, "capabilities/1", "insert");
    model->can_generate = false;
    rest_ask(test, "POST /api/show", "{}", 200);
    assert_int_equal(json_array_size(rest_at(test, "capabilities")), 1);
    rest_expect_string(test, "capabilities/0", "embedding");
    fake_engine.render_status = HS_OK;
    rest_ask(test, "POST /api/show", "{\"model\":\"no\"}", 404);
    assert_non_null(strstr(json_string_value(rest_at(test, "error")), "'no'"));
}

static void versions(void **state)
{
    rest_ask(*state, "GET /api/version", "", 200);
    rest_expect_string(*state, "hyprstream", hs_version());
    int major = 0, minor = 0, patch = 0;
    assert_int_equal(
        sscanf(json_string_value(rest_at(*state, "version")), "%d.%d.%d", &major, &minor, &patch),
        3);
}

static void models_are_not_changed(void **state)
{
    static const char *const lines[] = {"POST /api/pull", "POST /api/push", "POST /api/create",
                                        "POST /api/copy", "DELETE /api/delete"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        rest_ask(*state, lines[i], "{\"model\":\"fake\"}", 403);
        assert_non_null(
            strstr(json_string_value(rest_at(*state, "error")), "hyprstream model add"));
    }
}

/* ---- embeddings: the fake's begin with the first token and grow by eighths ---- */

static void embeddings_of_texts(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, "POST /api/embed",
             "{\"model\":\"fake:latest\",\"input\":[\"Hi\",\"a\"],\"keep_alive\":\"5m\","
             "\"options\":{\"num_ctx\":99}}",
             200);
    rest_expect_string(test, "model", "fake:latest");
    assert_int_equal(json_array_size(rest_at(test, "embeddings")), 2);
    assert_int_equal(json_array_size(rest_at(test, "embeddings/1")), FAKE_N_EMBEDDING);
    assert_true(json_number_value(rest_at(test, "embeddings/0/1")) == 256.125);
    rest_expect_int(test, "prompt_eval_count", 5);
    assert_true(json_integer_value(rest_at(test, "total_duration")) > 0);
    rest_at(test, "load_duration");
    assert_true(fake_engine.embedding.params.normalize);
    assert_true(fake_engine.embedding.params.truncate);
    rest_ask(test, "POST /api/embed", "{\"input\":\"a\",\"truncate\":false,\"dimensions\":2}", 200);
    assert_int_equal(json_array_size(rest_at(test, "embeddings/0")), 2);
    assert_false(fake_engine.embedding.params.truncate);
    rest_ask(test, "POST /api/embeddings", "{\"prompt\":\"Hi\"}", 200);
    assert_int_equal(json_array_size(rest_at(test, "embedding")), FAKE_N_EMBEDDING);
    assert_int_equal(json_object_size(test->json), 1);
    assert_false(fake_engine.embedding.params.normalize);
}

static void embeddings_that_are_refused(void **state)
{
    static const char *const rows[][3] = {
        {"POST /api/embed", "{}", "input"},
        {"POST /api/embed", "{\"input\":3}", "input"},
        {"POST /api/embed", "{\"input\":\"a\",\"truncate\":1}", "truncate"},
        {"POST /api/embed", "{\"input\":\"a\",\"dimensions\":0}", "dimensions"},
        {"POST /api/embed", "{\"input\":\"a\",\"keep_alive\":\"x\"}", "keep_alive"},
        {"POST /api/embed", "{\"input\":\"a\",\"options\":{\"num_gpu\":\"x\"}}", "num_gpu"},
        {"POST /api/embeddings", "{}", "prompt"},
        {"POST /api/embeddings", "{\"prompt\":{}}", "prompt"},
    };
    struct rest_test *test = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_ask(test, rows[i][0], rows[i][1], 400);
        assert_non_null(strstr(json_string_value(rest_at(test, "error")), rows[i][2]));
    }
    rest_ask(test, "POST /api/embed", "{\"model\":\"no\",\"input\":\"a\"}", 404);
}

static void every_allocation_fails_once(void **state)
{
    static const char *const rows[][2] = {{"GET /api/tags", ""},
                                          {"GET /api/ps", ""},
                                          {"POST /api/show", "{\"model\":\"fake:latest\"}"},
                                          {"POST /api/embed", "{\"input\":[\"a\",\"b\"]}"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rest_without_memory(*state, rows[i][0], rows[i][1], fake_engine.answers, 1);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(models_are_listed_as_ollama_does),
        TEST(sizes_are_rounded_as_ollama_does),
        TEST(what_show_tells),
        TEST(versions),
        TEST(models_are_not_changed),
        TEST(embeddings_of_texts),
        TEST(embeddings_that_are_refused),
        TEST(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
