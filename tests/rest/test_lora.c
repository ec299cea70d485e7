/* Adapters in requests of every API: names in "model", the field "lora", standing scales; the
 * endpoints of vLLM and llama-server; lists of models. */
#include "rest_test.h"

#include <stdlib.h>

#include "base/fs.h"

static void add(struct rest_test *test, const char *name)
{
    struct hs_adapter_params params;
    hs_adapter_params_defaults(&params);
    params.name = name;
    params.model_id = "fake";
    params.path = "/adapters/file.gguf";
    assert_int_equal(hs_engine_register_adapter(test->engine, &params, NULL), HS_OK);
}

/* What the engine was asked to answer with: "a:1 b:0.5", "" for the model alone. */
static void expect_adapters(const char *want)
{
    const struct fake_asked *asked = rest_asked();
    char text[256] = "";
    size_t len = 0;
    for (size_t i = 0; i < asked->n_adapters; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s:%g", i == 0 ? "" : " ",
                                asked->adapters[i].name, (double)asked->adapters[i].scale);
    }
    assert_string_equal(text, want);
}

static void ask(struct rest_test *test, const char *line, const char *body, const char *want)
{
    struct hs_adapter_info adapters[4];
    size_t n = fake_engine.n_adapters;
    memcpy(adapters, fake_engine.adapters, n * sizeof adapters[0]);
    rest_reset();
    memcpy(fake_engine.adapters, adapters, n * sizeof adapters[0]);
    fake_engine.n_adapters = n;
    rest_ask(test, line, body, 200);
    expect_adapters(want);
}

#define CHAT "POST /v1/chat/completions"

static void names_in_model(void **state)
{
    static const struct {
        const char *model, *want, *answered;
    } cases[] = {
        {"fake", "", "fake"},
        {"", "", "fake"},
        {"french", "french:1", "french"},
        {"fake:french", "french:1", "fake:french"},
        {"fake:french+formal", "french:1 formal:1", "fake:french+formal"},
        {"french+formal", "french:1 formal:1", "french+formal"},
    };
    struct rest_test *test = *state;
    add(test, "french");
    add(test, "formal");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"model\":\"%s\"," USER "}", cases[i].model);
        ask(test, CHAT, body, cases[i].want);
        rest_expect_string(test, "model", cases[i].answered);
    }
}

static void the_field_lora(void **state)
{
    static const struct {
        const char *more, *want;
    } cases[] = {
        {"\"lora\":[]", ""},
        {"\"lora\":null", ""},
        {"\"lora\":[{\"name\":\"french\"}]", "french:1"},
        {"\"lora\":[{\"name\":\"french\",\"scale\":-0.5}]", "french:-0.5"},
        {"\"lora\":[{\"id\":\"french\",\"scale\":2}]", "french:2"},
        {"\"lora\":[{\"id\":0,\"scale\":0.25},{\"id\":1}]", "formal:0.25 french:1"},
        {"\"lora\":[{\"name\":\"french\",\"scale\":0}]", "french:0"},
    };
    struct rest_test *test = *state;
    add(test, "french");
    add(test, "formal");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"model\":\"fake\"," USER ",%s}", cases[i].more);
        ask(test, CHAT, body, cases[i].want);
        rest_expect_string(test, "model", "fake");
    }
    ask(test, CHAT, "{\"model\":\"french\"," USER ",\"lora\":[{\"name\":\"formal\",\"scale\":3}]}",
        "french:1 formal:3");
}

static void every_endpoint(void **state)
{
#define LORA "\"model\":\"french\",\"lora\":[{\"name\":\"formal\",\"scale\":0.5}]"
    static const struct {
        const char *line, *body;
    } cases[] = {
        {CHAT, "{" LORA "," USER "}"},
        {"POST /v1/completions", "{" LORA ",\"prompt\":\"a\"}"},
        {"POST /v1/responses", "{" LORA ",\"input\":\"a\"}"},
        {"POST /v1/messages", "{" LORA ",\"max_tokens\":4," USER "}"},
        {"POST /api/chat", "{" LORA ",\"stream\":false," USER "}"},
        {"POST /api/generate", "{" LORA ",\"stream\":false,\"prompt\":\"a\"}"},
        {"POST /api/generate", "{" LORA ",\"stream\":false,\"raw\":true,\"prompt\":\"a\"}"},
        {"POST /api/chat", "{\"model\":\"french:latest\",\"lora\":[{\"name\":\"formal\","
                           "\"scale\":0.5}],\"stream\":false," USER "}"},
    };
    struct rest_test *test = *state;
    add(test, "french");
    add(test, "formal");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask(test, cases[i].line, cases[i].body, "french:1 formal:0.5");
    }
    fake_engine.can_infill = true;
    test->rest.models[0].can_infill = true;
    ask(test, "POST /infill", "{" LORA ",\"input_prefix\":\"a\",\"input_suffix\":\"b\"}",
        "french:1 formal:0.5");
    ask(test, "POST /api/chat", "{\"model\":\"fake:latest\",\"stream\":false," USER "}", "");
}

/* In /openapi.json, too. */
static void every_description(void **state)
{
    static const char *const schemas[] = {
        "ChatRequest",           "CompletionRequest", "ResponseRequest",
        "AnthropicRequest",      "InfillRequest",     "OllamaChatRequest",
        "OllamaGenerateRequest", "SessionRequest",    "SessionChange",
        "GenerateRequest",       "Session",
    };
    struct rest_test *test = *state;
    rest_ask(test, "GET /openapi.json", "", 200);
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++) {
        char path[96];
        snprintf(path, sizeof path, "components/schemas/%s/properties/lora/$ref", schemas[i]);
        rest_expect_string(test, path, "#/components/schemas/Lora");
    }
    rest_expect_string(test, "components/schemas/Lora/pattern", "^auto$");
}

static void sessions_keep_them(void **state)
{
    struct rest_test *test = *state;
    add(test, "french");
    add(test, "formal");
    rest_ask(test, "POST /api/v1/sessions", "{\"name\":\"s\",\"model\":\"fake:french\"}", 201);
    rest_expect_string(test, "model", "fake");
    rest_expect_string(test, "lora/0/name", "french");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"a\"}", "french:1");
    ask(test, "POST /api/v1/sessions/s/generate",
        "{\"prompt\":\"a\",\"lora\":[{\"name\":\"formal\",\"scale\":0.5}]}", "formal:0.5");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"a\"}", "formal:0.5");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"a\",\"lora\":[]}", "");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"a\"}", "");
    rest_ask(test, "PATCH /api/v1/sessions/s", "{\"lora\":[{\"name\":\"french\",\"scale\":2}]}",
             200);
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"a\"}", "french:2");
    rest_ask(test, "PATCH /api/v1/sessions/s", "{\"model\":\"fake\"}", 200);
    assert_int_equal(json_array_size(rest_at(test, "lora")), 0);
    rest_ask(test, "PATCH /api/v1/sessions/s", "{\"lora\":[{\"name\":\"none\"}]}", 404);
}

/* The fake chooses the adapters whose names stand in the text. */
static void chosen_by_the_prompt(void **state)
{
#define AUTO "\"lora\":\"auto\""
#define ASKS(text) "\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]"
    static const struct {
        const char *line, *body;
    } cases[] = {
        {CHAT, "{" AUTO "," ASKS("in french") "}"},
        {CHAT, "{" AUTO ",\"messages\":[{\"role\":\"user\",\"content\":\"in french\"},{\"role\":"
               "\"assistant\",\"content\":\"formal\"}]}"},
        {"POST /v1/completions", "{" AUTO ",\"prompt\":\"in french\"}"},
        {"POST /v1/responses", "{" AUTO ",\"input\":\"in french\"}"},
        {"POST /v1/messages", "{" AUTO ",\"max_tokens\":4," ASKS("in french") "}"},
        {"POST /api/chat", "{" AUTO ",\"stream\":false," ASKS("in french") "}"},
        {"POST /api/generate", "{" AUTO ",\"stream\":false,\"prompt\":\"in french\"}"},
    };
    struct rest_test *test = *state;
    char value[512];
    add(test, "french");
    add(test, "formal");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask(test, cases[i].line, cases[i].body, "french:1");
        assert_non_null(reply_header(&test->reply, "x-hyprstream-adapters", value));
        assert_string_equal(value, "french:1");
        assert_non_null(reply_header(&test->reply, "x-hyprstream-route", value));
        assert_string_equal(value, "because of its name");
    }
    ask(test, CHAT, "{" AUTO "," ASKS("Hi") "}", "");
    assert_non_null(reply_header(&test->reply, "x-hyprstream-adapters", value));
    assert_string_equal(value, "none");
    ask(test, CHAT, "{" USER "}", "");
    assert_null(reply_header(&test->reply, "x-hyprstream-adapters", value));
    test->rest.routing.max_adapters = 2;
    ask(test, CHAT, "{" AUTO "," ASKS("formal french") "}", "formal:0.5 french:0.5");
    const char *rule = "caf\xc3\xa9=formal:-1";
    hs_route_rules *rules = NULL;
    assert_int_equal(hs_route_rules_parse(&rule, 1, &rules, NULL), HS_OK);
    test->rest.routing.rules = rules;
    ask(test, CHAT, "{" AUTO "," ASKS("french caf\xc3\xa9") "}", "formal:-1");
    assert_non_null(reply_header(&test->reply, "x-hyprstream-route", value));
    assert_string_equal(value, "rule caf");
    rest_ask(test, "POST /v1/completions", "{" AUTO ",\"prompt\":[1,2]}", 400);
    hs_route_rules_free(rules);
}

static void chosen_in_a_session(void **state)
{
    struct rest_test *test = *state;
    char value[512];
    add(test, "french");
    add(test, "formal");
    rest_ask(test, "POST /api/v1/sessions", "{\"name\":\"s\",\"model\":\"fake\"}", 201);
    ask(test, "POST /api/v1/sessions/s/generate", "{" AUTO ",\"prompt\":\"in french\"}",
        "french:1");
    /* Chosen once, and kept. */
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"formal\"}", "french:1");
    ask(test, "POST /api/v1/sessions/s/generate", "{" AUTO ",\"prompt\":\"formal\"}", "formal:1");
    /* Answered anew by the question that is there. */
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"in french\"}", "formal:1");
    ask(test, "POST /api/v1/sessions/s/generate", "{" AUTO ",\"regenerate\":true}", "french:1");
    rest_ask(test, "POST /api/v1/sessions", "{\"name\":\"empty\",\"model\":\"fake\"}", 201);
    rest_ask(test, "POST /api/v1/sessions/empty/generate", "{" AUTO "}", 400);
    rest_ask(test, "DELETE /api/v1/sessions/empty", "", 200);
    /* A session that every turn chooses for, until somebody names adapters. */
    rest_ask(test, "PATCH /api/v1/sessions/s", "{" AUTO "}", 200);
    rest_expect_string(test, "lora", "auto");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"in french\"}", "french:1");
    assert_non_null(reply_header(&test->reply, "x-hyprstream-adapters", value));
    assert_string_equal(value, "french:1");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"formal\"}", "formal:1");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"regenerate\":true}", "formal:1");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"Hi\"}", "");
    rest_ask(test, "GET /api/v1/sessions/s", "", 200);
    rest_expect_string(test, "lora", "auto");
    ask(test, "POST /api/v1/sessions/s/generate",
        "{\"prompt\":\"in french\",\"lora\":[{\"name\":\"formal\"}]}", "formal:1");
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"in french\"}", "formal:1");
    rest_ask(test, "PATCH /api/v1/sessions/s", "{" AUTO "}", 200);
    rest_ask(test, "PATCH /api/v1/sessions/s", "{\"system\":\"Be brief\"}", 200);
    rest_expect_string(test, "lora", "auto");
    rest_ask(test, "PATCH /api/v1/sessions/s", "{\"lora\":[]}", 200);
    ask(test, "POST /api/v1/sessions/s/generate", "{\"prompt\":\"in french\"}", "");
}

static void what_is_refused(void **state)
{
    static const struct {
        const char *more;
        int status;
        const char *param, *says;
    } cases[] = {
        {"\"lora\":\"automatic\"", 400, "lora", "auto"},
        {"\"model\":\"french\",\"lora\":\"auto\"", 400, "lora", "names adapters"},
        {"\"lora\":\"french\"", 400, "lora", "array"},
        {"\"lora\":[1]", 400, "lora", "objects"},
        {"\"lora\":[{}]", 400, "lora[0].name", "missing"},
        {"\"lora\":[{\"name\":1}]", 400, "lora[0].name", "string"},
        {"\"lora\":[{\"id\":true}]", 400, "lora[0].id", "number"},
        {"\"lora\":[{\"id\":7}]", 400, "lora[0].id", "no adapter"},
        {"\"lora\":[{\"id\":-1}]", 400, "lora[0].id", "no adapter"},
        {"\"lora\":[{\"name\":\"french\",\"scale\":\"x\"}]", 400, "lora[0].scale", "number"},
        {"\"lora\":[{\"name\":\"french\",\"scale\":1000.5}]", 400, "lora[0].scale", "1000"},
        {"\"lora\":[{\"name\":\"french\"},{\"id\":\"french\"}]", 400, "lora", "twice"},
        {"\"lora\":[{\"name\":\"none\"}]", 404, "lora", "'french'"},
        {"\"model\":\"none\"", 404, "model", "'french'"},
        {"\"model\":\"fake:none\"", 404, "model", "'french'"},
        {"\"model\":\"french+none\"", 404, "model", "'french'"},
        {"\"model\":\"french+\"", 404, "model", "'french'"},
        {"\"model\":\"fake:french+french\"", 400, "model", "twice"},
        {"\"model\":\"french\",\"lora\":[{\"name\":\"french\"}]", 400, "lora", "twice"},
    };
    struct rest_test *test = *state;
    add(test, "french");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char body[512];
        snprintf(body, sizeof body, "{" USER ",%s}", cases[i].more);
        rest_ask(test, CHAT, body, cases[i].status);
        if (cases[i].status == 400) {
            rest_expect_error(test, cases[i].param);
        }
        rest_expect_string(test, "error/param", cases[i].param);
        const char *message = json_string_value(rest_at(test, "error/message"));
        if (strstr(message, cases[i].says) == NULL) {
            fail_msg("'%s' does not say '%s'", message, cases[i].says);
        }
        assert_int_equal(fake_engine.n_asked, 0);
    }
}

/* 64 adapters pass, one more does not. */
static void the_limit(void **state)
{
    struct rest_test *test = *state;
    char body[8192];
    size_t len = 0;
    add(test, "french");
    for (int n = 64; n <= 65; n++) {
        len = (size_t)snprintf(body, sizeof body, "{" USER ",\"lora\":[");
        for (int i = 0; i < n; i++) {
            len += (size_t)snprintf(body + len, sizeof body - len, "%s{\"name\":\"french\"}",
                                    i == 0 ? "" : ",");
        }
        snprintf(body + len, sizeof body - len, "]}");
        rest_ask(test, CHAT, body, 400); /* named twice, and no crash at the limit */
    }
}

static void adapters_of_other_models(void **state)
{
    struct rest_test *test = *state;
    add(test, "french");
    snprintf(fake_engine.adapters[0].model_id, HS_ID_MAX, "other");
    rest_ask(test, CHAT, "{\"model\":\"fake:french\"," USER "}", 400);
    rest_expect_error(test, "model");
    assert_non_null(strstr(test->reply.body.data, "other"));
    rest_ask(test, CHAT, "{" USER ",\"lora\":[{\"name\":\"french\"}]}", 400);
    rest_expect_error(test, "lora");
}

static void embeddings_have_none(void **state)
{
    struct rest_test *test = *state;
    add(test, "french");
    rest_ask(test, "POST /v1/embeddings", "{\"model\":\"french\",\"input\":\"a\"}", 400);
    rest_expect_error(test, "model");
    rest_ask(test, "POST /v1/embeddings",
             "{\"model\":\"fake\",\"input\":\"a\",\"lora\":[{\"name\":\"french\"}]}", 400);
    rest_expect_error(test, "lora");
    rest_ask(test, "POST /api/embed", "{\"model\":\"french:latest\",\"input\":\"a\"}", 400);
    rest_ask(test, "POST /api/embed", "{\"model\":\"fake:latest\",\"input\":\"a\"}", 200);
    /* tokens are the model's, whatever the adapter */
    rest_ask(test, "POST /tokenize", "{\"model\":\"french\",\"content\":\"a\"}", 200);
}

static void lists_of_models(void **state)
{
    struct rest_test *test = *state;
    add(test, "french");
    rest_ask(test, "GET /v1/models", "", 200);
    rest_expect_string(test, "data/0/id", "fake");
    assert_true(json_is_null(rest_at(test, "data/0/parent")));
    rest_expect_string(test, "data/0/root", "fake");
    rest_expect_string(test, "data/1/id", "french");
    rest_expect_string(test, "data/1/parent", "fake");
    rest_expect_string(test, "data/1/root", "fake");
    rest_expect_int(test, "data/1/created", 1700000000);
    rest_ask(test, "GET /v1/models/french", "", 200);
    rest_expect_string(test, "parent", "fake");
    rest_ask(test, "GET /v1/models/none", "", 404);
}

/* ---- llama-server's scales ---- */

static void standing_scales(void **state)
{
    struct rest_test *test = *state;
    add(test, "french");
    add(test, "formal");
    rest_ask(test, "GET /lora-adapters", "", 200);
    rest_expect_int(test, "0/id", 0);
    rest_expect_string(test, "0/name", "formal");
    rest_expect_string(test, "0/path", "file.gguf");
    rest_expect_string(test, "1/name", "french");
    assert_true(json_number_value(rest_at(test, "1/scale")) == 0);
    rest_ask(test, "POST /lora-adapters", "[{\"id\":1,\"scale\":0.5},{\"id\":0,\"scale\":-1}]",
             200);
    ask(test, CHAT, "{" USER "}", "formal:-1 french:0.5");
    ask(test, CHAT, "{\"model\":\"french\"," USER "}", "french:1");
    ask(test, CHAT, "{" USER ",\"lora\":[]}", "");
    rest_ask(test, "GET /lora-adapters", "", 200);
    assert_true(json_number_value(rest_at(test, "1/scale")) == 0.5);
    /* those that are left out are off */
    rest_ask(test, "POST /lora-adapters", "[{\"id\":1,\"scale\":2}]", 200);
    ask(test, CHAT, "{" USER "}", "french:2");
    rest_ask(test, "POST /lora-adapters", "[]", 200);
    ask(test, CHAT, "{" USER "}", "");
    static const char *const bad[] = {"{}",
                                      "[1]",
                                      "x",
                                      "",
                                      "[{\"id\":0}]",
                                      "[{\"id\":2,\"scale\":1}]",
                                      "[{\"id\":-1,\"scale\":1}]",
                                      "[{\"scale\":1}]",
                                      "[{\"id\":0,\"scale\":1001}]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        rest_ask(test, "POST /lora-adapters", bad[i], 400);
    }
    /* a number stays with its adapter */
    assert_int_equal(hs_engine_unregister_adapter(test->engine, "formal", NULL), HS_OK);
    add(test, "a-new-one");
    rest_ask(test, "POST /v1/load_lora_adapter", "{\"lora_name\":\"b\",\"lora_path\":\"/x\"}", 200);
    rest_ask(test, "GET /lora-adapters", "", 200);
    rest_expect_int(test, "0/id", 1);
    rest_expect_string(test, "0/name", "french");
    rest_expect_int(test, "1/id", 2);
}

/* ---- vLLM's endpoints ---- */

static void load_and_unload(void **state)
{
    struct rest_test *test = *state;
#define LOAD "POST /v1/load_lora_adapter"
#define UNLOAD "POST /v1/unload_lora_adapter"
    rest_ask(test, LOAD, "{\"lora_name\":\"french\",\"lora_path\":\"/x/french\"}", 200);
    assert_string_equal(test->reply.body.data,
                        "Success: LoRA adapter 'french' added successfully.");
    assert_int_equal(fake_engine.adapters[0].state, HS_ADAPTER_READY);
    assert_string_equal(fake_engine.adapters[0].path, "/x/french");
    rest_ask(test, LOAD, "{\"lora_name\":\"french\",\"lora_path\":\"/x/2\"}", 400);
    rest_expect_error(test, "lora_name");
    rest_ask(test, LOAD, "{\"lora_name\":\"french\",\"lora_path\":\"/x/2\",\"load_inplace\":true}",
             200);
    assert_string_equal(fake_engine.adapters[0].path, "/x/2");
    assert_int_equal(fake_engine.n_adapters, 1);
    ask(test, CHAT, "{\"model\":\"french\"," USER "}", "french:1");
    rest_ask(test, UNLOAD, "{\"lora_name\":\"french\"}", 200);
    assert_int_equal(fake_engine.n_adapters, 0);
    rest_ask(test, UNLOAD, "{\"lora_name\":\"french\"}", 404);
    rest_expect_string(test, "error/param", "lora_name");
    rest_ask(test, LOAD, "{\"lora_name\":\"fake\",\"lora_path\":\"/x\"}", 400);
    rest_ask(test, LOAD, "{\"lora_path\":\"/x\"}", 400);
    rest_ask(test, LOAD, "{\"lora_name\":\"x\"}", 400);
    rest_ask(test, UNLOAD, "{}", 400);
    fake_engine.adapter_status = HS_MISMATCH;
    rest_ask(test, LOAD, "{\"lora_name\":\"x\",\"lora_path\":\"/x\"}", 400);
    rest_expect_error(test, "lora_path");
    assert_int_equal(fake_engine.n_adapters, 0); /* nothing is left of it */
}

static void without_memory(void **state)
{
    struct rest_test *test = *state;
    static const struct fake_piece pieces[] = {{HS_EVENT_TEXT, "a"}, {0}};
    static const struct fake_answer answer = {.pieces = pieces};
    rest_ask(test, LOAD, "{\"lora_name\":\"french\",\"lora_path\":\"/x/french\"}", 200);
    struct hs_adapter_info adapter = fake_engine.adapters[0];
    (void)adapter;
    rest_without_memory(test, CHAT, "{" USER ",\"lora\":[]}", &answer, 1);
    rest_without_memory(test, "GET /v1/models", "", NULL, 0);
}

static void figures(void **state)
{
    struct rest_test *test = *state;
    fake_engine.stats = (struct hs_model_stats){.lora_engine = HS_LORA_ENGINE_REWRITE,
                                                .n_adapters = 3,
                                                .n_adapters_ready = 2,
                                                .adapter_bytes = 1000,
                                                .n_lora_decodes = 7,
                                                .n_lora_decodes_mixed = 5};
    rest_ask(test, "GET /api/v1/status", "", 200);
    rest_expect_string(test, "models/0/lora/engine", "rewrite");
    rest_expect_int(test, "models/0/lora/mixed_decodes", 5);
    rest_ask(test, "GET /props", "", 200);
    rest_expect_string(test, "lora/engine", "rewrite");
    rest_expect_string(test, "lora/weights", "file");
    rest_expect_int(test, "lora/adapters", 3);
    rest_ask(test, "GET /metrics", "", 200);
    const char *text = test->reply.body.data;
    assert_non_null(
        strstr(text, "\nhyprstream_lora_engine{model=\"fake\",engine=\"rewrite\"} 1\n"));
    assert_non_null(strstr(text, "\nhyprstream_lora_decodes_mixed_total{model=\"fake\"} 5\n"));
    assert_non_null(strstr(text, "\nhyprstream_adapters_ready{model=\"fake\"} 2\n"));
    assert_non_null(strstr(text, "\nhyprstream_adapter_bytes{model=\"fake\"} 1000\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rest_setup, rest_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_in_model),
        TEST(the_field_lora),
        TEST(every_endpoint),
        TEST(every_description),
        TEST(sessions_keep_them),
        TEST(chosen_by_the_prompt),
        TEST(chosen_in_a_session),
        TEST(what_is_refused),
        TEST(the_limit),
        TEST(adapters_of_other_models),
        TEST(embeddings_have_none),
        TEST(lists_of_models),
        TEST(standing_scales),
        TEST(load_and_unload),
        TEST(without_memory),
        TEST(figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
