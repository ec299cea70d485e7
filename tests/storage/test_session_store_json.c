/* session.json, read from memory: what is written can be read, everything else is refused. */
#include "record_example.h"

#include <jansson.h>

#include "base/fs.h"

/* ---- session.json ---- */

#define HEAD                                                                                       \
    "{\"format\":\"hyprstream-session\",\"version\":1,\"model\":\"m\",\"fingerprint\":\"f\","
#define TIMES "\"created_unix_ms\":1,\"updated_unix_ms\":2,"
#define TAIL "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[]}"

static void test_json_reads_the_documented_text(void **state)
{
    (void)state;
    static const char TEXT[] =
        "{\"format\": \"hyprstream-session\", \"version\": 1, \"model\": \"smollm2\",\n"
        " \"fingerprint\": \"00ff\", \"created_unix_ms\": 1790000000000,\n"
        " \"updated_unix_ms\": 1790000001000, \"overflow\": \"shift\",\n"
        " \"adapters\": [{\"name\": \"poet\", \"scale\": 0.5}, {\"name\": \"b\", \"scale\": 1}],\n"
        " \"messages\": [{\"role\": \"system\", \"content\": \"\"},\n"
        "  {\"role\": \"user\", \"content\": \"a \\u00e9 \\ud83d\\ude00 \\\" \\n z\"},\n"
        "  {\"role\": \"assistant\", \"content\": \"yes\", \"reasoning\": \"hm\"}],\n"
        " \"a later field\": [null]}";
    struct hs_session_record record = {0};
    assert_int_equal(parse(TEXT, &record, NULL), HS_OK);
    assert_string_equal(record.model_name, "smollm2");
    assert_string_equal(record.fingerprint, "00ff");
    assert_true(record.created_unix_ms == 1790000000000 && record.updated_unix_ms == 1790000001000);
    assert_int_equal(record.overflow, HS_OVERFLOW_SHIFT);
    assert_int_equal(record.n_adapters, 2);
    assert_string_equal(record.adapters[0].name, "poet");
    assert_true(record.adapters[0].scale == 0.5f && record.adapters[1].scale == 1.0f);
    assert_int_equal(record.n_messages, 3);
    assert_string_equal(record.messages[0].content, "");
    assert_string_equal(record.messages[1].content, "a \xc3\xa9 \xf0\x9f\x98\x80 \" \n z");
    assert_null(record.messages[1].reasoning);
    assert_string_equal(record.messages[2].role, "assistant");
    assert_string_equal(record.messages[2].reasoning, "hm");
    assert_null(record.params);
    hs_session_record_free(&record);
}

static const struct {
    const char *text;
    hs_status status;
} REFUSED[] = {
    {"", HS_CORRUPT},
    {"null", HS_CORRUPT},
    {"[]", HS_CORRUPT},
    {"{}", HS_CORRUPT},
    {HEAD TIMES TAIL, HS_OK},
    {HEAD TIMES TAIL " x", HS_CORRUPT},
    {HEAD TIMES TAIL "{}", HS_CORRUPT},
    {HEAD TAIL, HS_CORRUPT},
    {HEAD TIMES "\"version\":1," TAIL, HS_CORRUPT}, /* a key twice */
    {"{\"format\":\"other\",\"version\":1}", HS_CORRUPT},
    {"{\"format\":\"hyprstream-session\",\"version\":0}", HS_CORRUPT},
    {"{\"format\":\"hyprstream-session\",\"version\":\"1\"}", HS_CORRUPT},
    {"{\"format\":\"hyprstream-session\",\"version\":3}", HS_UNSUPPORTED_VERSION},
    {HEAD "\"created_unix_ms\":1.5,\"updated_unix_ms\":2," TAIL, HS_CORRUPT},
    {HEAD "\"created_unix_ms\":99999999999999999999,\"updated_unix_ms\":2," TAIL, HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"explode\",\"adapters\":[],\"messages\":[]}", HS_CORRUPT},
    {HEAD TIMES "\"overflow\":7,\"adapters\":[],\"messages\":[]}", HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":{},\"messages\":[]}", HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[3],\"messages\":[]}", HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[{\"name\":\"a\"}],\"messages\":[]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[{\"name\":\"a\",\"scale\":1e308}],"
                "\"messages\":[]}",
     HS_CORRUPT},
    {HEAD TIMES "\"routed\":1," TAIL, HS_CORRUPT},
    {HEAD TIMES "\"routed\":null," TAIL, HS_CORRUPT},
    {HEAD TIMES "\"routed\":false," TAIL, HS_OK},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{}]}", HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"user\"}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"user\","
                "\"content\":5}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"user\","
                "\"content\":\"a\\u0000b\"}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"user\","
                "\"content\":\"\xff\"}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"assistant\","
                "\"content\":\"\","
                "\"tool_calls\":{}}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"assistant\","
                "\"content\":\"\","
                "\"tool_calls\":[3]}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"assistant\","
                "\"content\":\"\","
                "\"tool_calls\":[{\"id\":\"c\",\"name\":\"n\"}]}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"assistant\","
                "\"content\":\"\","
                "\"tool_calls\":[{\"id\":\"c\",\"name\":\"n\",\"arguments\":{}}]}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"assistant\","
                "\"content\":\"\","
                "\"tool_calls\":[{\"id\":\"c\",\"name\":\"n\",\"arguments\":\"{}\"}]}]}",
     HS_OK},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"assistant\","
                "\"content\":\"\","
                "\"tool_call_id\":3}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"overflow\":\"stop\",\"adapters\":[],\"messages\":[{\"role\":\"assistant\","
                "\"content\":\"\","
                "\"name\":null}]}",
     HS_CORRUPT},
    {HEAD TIMES "\"params\":[]," TAIL, HS_CORRUPT},
    {HEAD TIMES "\"params\":{}," TAIL, HS_CORRUPT},
};

static void test_json_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(REFUSED); i++) {
        struct hs_session_record record = {0};
        struct hs_error err = {0};
        hs_status status = parse(REFUSED[i].text, &record, &err);
        if (status != REFUSED[i].status)
            fail_msg("case %zu gives %d (%s): %s", i, (int)status, err.message, REFUSED[i].text);
        assert_int_equal(err.status, status == HS_OK ? 0 : status);
        if (status != HS_OK)
            assert_true(err.message[0] != 0 && err.hint[0] != 0);
        hs_session_record_free(&record);
    }
}

/* Calls and what answers them come back; a text without them is of the first version. */
static void test_json_keeps_tool_calls(void **state)
{
    (void)state;
    const struct hs_tool_call calls[] = {{"c1", "look", "{\"a\": \"\xc3\xa9\"}"},
                                         {"c2", "go", "{}"}};
    struct hs_message messages[] = {
        {.role = "user", .content = "Hi"},
        {.role = "assistant", .content = "", .tool_calls = calls, .n_tool_calls = 2},
        {.role = "tool", .content = "seen", .tool_call_id = "c1", .name = "look"}};
    struct hs_session_record record = {
        .model_name = "m", .fingerprint = "f", .messages = messages, .n_messages = 1};
    struct hs_error err;
    for (int version = 1; version <= 2; version++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 16);
        char expected[32];
        snprintf(expected, sizeof expected, "\"version\": %d", version);
        assert_int_equal(hs_session_record_format(&record, &text, &err), HS_OK);
        assert_non_null(strstr(text.data, expected));
        struct hs_session_record read = {0};
        assert_int_equal(parse(text.data, &read, &err), HS_OK);
        assert_int_equal(read.n_messages, record.n_messages);
        if (version == 2) {
            assert_int_equal(read.messages[1].n_tool_calls, 2);
            assert_string_equal(read.messages[1].tool_calls[0].arguments, calls[0].arguments);
            assert_string_equal(read.messages[1].tool_calls[1].name, "go");
            assert_string_equal(read.messages[1].tool_calls[1].id, "c2");
            assert_string_equal(read.messages[2].tool_call_id, "c1");
            assert_string_equal(read.messages[2].name, "look");
        }
        hs_session_record_free(&read);
        record.n_messages = 3;
    }
}

/* Every key that is written stands in docs/formats.md; "routed" when it is true alone. */
static void test_json_keys_are_documented(void **state)
{
    (void)state;
    HS_CLEANUP(hs_buf_free) struct hs_buf docs = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_fs_read(HS_TEST_DATA "/../../docs/formats.md", &docs, NULL), HS_OK);
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    for (int is_routed = 0; is_routed < 2; is_routed++) {
        HS_CLEANUP(hs_buf_free) struct hs_buf text = HS_BUF_INIT(1 << 20);
        record.is_routed = is_routed;
        assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
        json_t *root = json_loads(text.data, 0, NULL);
        const char *key;
        json_t *value;
        json_object_foreach(root, key, value)
        {
            char quoted[64];
            snprintf(quoted, sizeof quoted, "`%s`", key);
            if (strstr(docs.data, quoted) == NULL)
                fail_msg("docs/formats.md does not tell of %s", quoted);
        }
        assert_true((json_object_get(root, "routed") != NULL) == is_routed);
        json_decref(root);
        struct hs_session_record back = {0};
        assert_int_equal(parse(text.data, &back, NULL), HS_OK);
        assert_true(back.is_routed == is_routed);
        hs_session_record_free(&back);
    }
}

/* The conversation must not leak into messages and logs. */
static void test_json_errors_do_not_quote(void **state)
{
    (void)state;
    struct hs_session_record record = {0};
    struct hs_error err = {0};
    assert_int_equal(parse("{\"content\": \"my secret\" \"my other secret\"}", &record, &err),
                     HS_CORRUPT);
    assert_null(strstr(err.message, "secret"));
    assert_non_null(strstr(err.message, "line 1"));
}

static void test_json_nested_deep(void **state)
{
    (void)state;
    size_t n = 1u << 20;
    char *text = malloc(n);
    assert_non_null(text);
    struct hs_session_record record = {0};
    memset(text, '[', n);
    assert_int_equal(hs_session_record_parse(text, n, &record, NULL), HS_CORRUPT);
    for (size_t i = 0; i + 5 <= n; i += 5)
        memcpy(text + i, "{\"a\":", 5);
    assert_int_equal(hs_session_record_parse(text, n, &record, NULL), HS_CORRUPT);
    free(text);
}

static void assert_records_equal(const struct hs_session_record *a,
                                 const struct hs_session_record *b)
{
    assert_string_equal(a->model_name, b->model_name);
    assert_string_equal(a->fingerprint, b->fingerprint);
    assert_int_equal(a->n_adapters, b->n_adapters);
    for (size_t i = 0; i < a->n_adapters; i++) {
        assert_string_equal(a->adapters[i].name, b->adapters[i].name);
        assert_true(a->adapters[i].scale == b->adapters[i].scale);
    }
    assert_int_equal(a->n_messages, b->n_messages);
    for (size_t i = 0; i < a->n_messages; i++) {
        const struct hs_message *x = &a->messages[i], *y = &b->messages[i];
        assert_string_equal(x->role, y->role);
        assert_string_equal(x->content, y->content);
        assert_int_equal(x->reasoning == NULL, y->reasoning == NULL);
        if (x->reasoning != NULL)
            assert_string_equal(x->reasoning, y->reasoning);
    }
    assert_true(a->overflow == b->overflow && a->created_unix_ms == b->created_unix_ms &&
                a->updated_unix_ms == b->updated_unix_ms);
    assert_int_equal(a->params == NULL, b->params == NULL);
    if (a->params != NULL)
        assert_params_equal(a->params, b->params);
}

static void test_json_comes_back(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    for (int i = 0; i < 2; i++) {
        struct hs_session_record record = example_record(i == 0 ? &params : NULL), back = {0};
        struct hs_buf text = HS_BUF_INIT(1 << 20);
        assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
        assert_int_equal(hs_session_record_parse(text.data, text.len, &back, NULL), HS_OK);
        assert_records_equal(&record, &back);
        if (i == 0) /* these belong to one request */
            assert_true(back.params->deadline_ms == 0 && back.params->n_logprobs == 0 &&
                        back.params->stream_capacity == 0);
        hs_session_record_free(&back);
        assert_null(back.messages);
        hs_buf_free(&text);
    }
}

static void assert_unsaveable(const struct hs_session_record *record)
{
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    struct hs_error err = {0};
    assert_int_equal(hs_session_record_format(record, &text, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(err.status, HS_INVALID_ARGUMENT);
    assert_int_equal(text.len, 0);
    hs_buf_free(&text);
}

static void test_json_refuses_to_write(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(NULL);
    struct hs_message bad_text = {.role = "user", .content = "caf\xe9"},
                      no_text = {.role = "user", .content = NULL};
    struct hs_adapter_ref bad_scale = {"a", NAN};
    record.messages = &bad_text;
    record.n_messages = 1;
    assert_unsaveable(&record);
    record.messages = &no_text;
    assert_unsaveable(&record);
    record = example_record(NULL);
    record.adapters = &bad_scale;
    record.n_adapters = 1;
    assert_unsaveable(&record);
    record = example_record(NULL);
    record.model_name = NULL;
    assert_unsaveable(&record);
    record = example_record(NULL);
    record.overflow = (enum hs_overflow)2;
    assert_unsaveable(&record);
    record = example_record(&params);
    params.sampling.min_p = INFINITY;
    assert_unsaveable(&record);
    params = example_params();
    params.sampling.grammar = "\xc0\x80";
    assert_unsaveable(&record);
    params = example_params();
    const float bad_bias[] = {0, INFINITY, 0};
    params.sampling.logit_bias_values = bad_bias;
    assert_unsaveable(&record);
    params = example_params();
    const char *const bad_stops[] = {"a", "\xff", "b"};
    params.stop = bad_stops;
    assert_unsaveable(&record);
}

static void test_json_limit(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
    struct hs_buf exact = HS_BUF_INIT(text.len), tight = HS_BUF_INIT(text.len - 1);
    struct hs_error err = {0};
    assert_int_equal(hs_session_record_format(&record, &exact, NULL), HS_OK);
    assert_int_equal(hs_session_record_format(&record, &tight, &err), HS_LIMIT);
    assert_true(err.hint[0] != 0);
    hs_buf_free(&text);
    hs_buf_free(&exact);
    hs_buf_free(&tight);
}

static void test_json_cut_anywhere(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params);
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    assert_int_equal(hs_session_record_format(&record, &text, NULL), HS_OK);
    for (size_t len = 0; len < text.len; len++) {
        char *copy = malloc(len + 1);
        struct hs_session_record back = {0};
        assert_non_null(copy);
        memcpy(copy, text.data, len);
        assert_int_equal(hs_session_record_parse(copy, len, &back, NULL), HS_CORRUPT);
        free(copy);
    }
    hs_buf_free(&text);
}

static void test_json_out_of_memory(void **state)
{
    (void)state;
    struct hs_generate_params params = example_params();
    struct hs_session_record record = example_record(&params), back = {0};
    struct hs_buf text = HS_BUF_INIT(1 << 20);
    hs_status status = HS_OK;
    WITH_EVERY_ALLOCATION_FAILING(
        status,
        {
            hs_buf_free(&text);
            status = hs_session_record_format(&record, &text, NULL);
        },
        assert_int_equal(status, over ? HS_OK : HS_OUT_OF_MEMORY));
    WITH_EVERY_ALLOCATION_FAILING(
        status, status = hs_session_record_parse(text.data, text.len, &back, NULL), {
            assert_int_equal(back.messages != NULL, status == HS_OK);
            hs_session_record_free(&back);
        });
    hs_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_reads_the_documented_text),
        cmocka_unit_test(test_json_refuses),
        cmocka_unit_test(test_json_keeps_tool_calls),
        cmocka_unit_test(test_json_keys_are_documented),
        cmocka_unit_test(test_json_errors_do_not_quote),
        cmocka_unit_test(test_json_nested_deep),
        cmocka_unit_test(test_json_comes_back),
        cmocka_unit_test(test_json_refuses_to_write),
        cmocka_unit_test(test_json_limit),
        cmocka_unit_test(test_json_cut_anywhere),
        cmocka_unit_test(test_json_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
