/* A chat with a running server, whose answers are scripted. */
#include "api_test.h"

#include "script_server.h"

#define MODELS SCRIPT_JSON("200 OK") "{\"data\":[{\"id\":\"small\"},{\"id\":\"large\"}]}"
#define CHUNK(delta) "data: {\"choices\":[{\"index\":0,\"delta\":{" delta "}}]}\n\n"
#define END(reason)                                                                                \
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}\n\n"        \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":5,"               \
    "\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\ndata: [DONE]\n\n"
#define HELLO                                                                                      \
    SCRIPT_EVENTS CHUNK("\"role\":\"assistant\",\"content\":\"\"") CHUNK("\"content\":\"Hel\"")    \
        CHUNK("\"content\":\"lo\"") END("stop")

static struct script_server server;
static bool is_running;

static void serve(struct api_test *test, const struct script_reply *replies, size_t n)
{
    char url[64];
    assert_true(script_server_start(&server, replies, n));
    is_running = true;
    snprintf(url, sizeof url, "http://127.0.0.1:%d", server.port);
    api_flag(test, HS_CFG_SERVER, url);
}

/* The models, then the answer. */
static void serve_answer(struct api_test *test, const char *text)
{
    static struct script_reply replies[2];
    replies[0] = (struct script_reply){.text = MODELS};
    replies[1] = (struct script_reply){.text = text};
    serve(test, replies, 2);
}

static void stop(void)
{
    if (is_running) {
        script_server_stop(&server);
    }
    is_running = false;
}

static int teardown(void **state)
{
    stop();
    return api_teardown(state);
}

/* The body of request i as JSON; to be released. */
static json_t *body_of(size_t i)
{
    assert_true(i < server.n_requests);
    json_t *json = json_loads(strstr(server.requests[i], "\r\n\r\n") + 4, 0, NULL);
    assert_non_null(json);
    return json;
}

static void one_question(void **state)
{
    struct api_test *test = *state;
    serve_answer(test, HELLO);
    api_flag(test, HS_CFG_SYSTEM, "Be brief.");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    assert_string_equal(test->out.data, "Hello\n");
    assert_int_equal(fake_engine.n_loads, 0); /* nothing is loaded here */
    assert_contains(server.requests[0], "GET /v1/models HTTP/1.1\r\n");
    assert_contains(server.requests[1], "POST /v1/chat/completions HTTP/1.1\r\n");
    json_t *body = body_of(1);
    json_t *want = json_pack("{s:s, s:[{s:s, s:s}, {s:s, s:s}], s:b, s:{s:b}}", "model", "small",
                             "messages", "role", "system", "content", "Be brief.", "role", "user",
                             "content", "Hi", "stream", 1, "stream_options", "include_usage", 1);
    assert_true(json_equal(body, want)); /* what nobody set is the server's to choose */
    json_decref(body);
    json_decref(want);
}

static void settings_that_were_given(void **state)
{
    struct api_test *test = *state;
    serve_answer(test, HELLO);
    api_flag(test, HS_CFG_MODEL, "large");
    api_flag(test, HS_CFG_TEMP, "0.25");
    api_flag(test, HS_CFG_TOP_P, "0.5");
    api_flag(test, HS_CFG_MIN_P, "0.125");
    api_flag(test, HS_CFG_REPEAT_PENALTY, "1.5");
    api_flag(test, HS_CFG_TOP_K, "7");
    api_flag(test, HS_CFG_REPEAT_LAST_N, "9");
    api_flag(test, HS_CFG_MAX_TOKENS, "11");
    api_flag(test, HS_CFG_SEED, "13");
    api_flag(test, HS_CFG_STOP, "a");
    api_flag(test, HS_CFG_STOP, "b,c");
    api_flag(test, HS_CFG_THINK, "false");
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    json_t *body = body_of(1);
    json_object_del(body, "messages");
    json_t *want =
        json_pack("{s:s, s:f, s:f, s:f, s:f, s:i, s:i, s:i, s:i, s:[s, s], s:{s:b}, s:b, s:{s:b}}",
                  "model", "large", "temperature", 0.25, "top_p", 0.5, "min_p", 0.125,
                  "repeat_penalty", 1.5, "top_k", 7, "repeat_last_n", 9, "max_tokens", 11, "seed",
                  13, "stop", "a", "b,c", "chat_template_kwargs", "enable_thinking", 0, "stream", 1,
                  "stream_options", "include_usage", 1);
    assert_true(json_equal(body, want));
    json_decref(body);
    json_decref(want);
    json_t *answer = api_json(test);
    const json_t *usage = json_object_get(answer, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), 20);
    assert_int_equal(json_integer_value(json_object_get(usage, "cached_tokens")), 8);
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 5);
    assert_int_equal(json_integer_value(json_object_get(usage, "seed")), 13);
    assert_string_equal(json_string_value(json_object_get(answer, "model")), "large");
    json_decref(answer);
}

static void a_seed_that_is_not_known(void **state)
{
    struct api_test *test = *state;
    serve_answer(test, HELLO);
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    json_t *answer = api_json(test);
    assert_true(json_is_null(json_object_get(json_object_get(answer, "usage"), "seed")));
    json_decref(answer);
}

static void reasoning_and_length(void **state)
{
    struct api_test *test = *state;
    serve_answer(test, SCRIPT_EVENTS CHUNK("\"reasoning_content\":\"hm\"")
                           CHUNK("\"reasoning_content\":\"!\",\"content\":\"4\"") END("length"));
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_chat, "2+2", NULL), HS_OK);
    json_t *answer = api_json(test);
    assert_string_equal(json_string_value(json_object_get(answer, "answer")), "4");
    assert_string_equal(json_string_value(json_object_get(answer, "reasoning")), "hm!");
    assert_string_equal(json_string_value(json_object_get(answer, "finish_reason")), "length");
    json_decref(answer);
}

static void servers_that_fail(void **state)
{
    struct api_test *test = *state;
    static const struct {
        const char *text;
        hs_status status;
        const char *message;
    } rows[] = {
        {SCRIPT_JSON("401 No") "{\"error\":{\"message\":\"who?\"}}", HS_PERMISSION_DENIED, "who?"},
        {SCRIPT_JSON("429 No") "{\"error\":{\"message\":\"full\"}}", HS_QUEUE_FULL, "full"},
        {SCRIPT_JSON("200 OK") "{}", HS_IO, "stream"},
        {SCRIPT_EVENTS CHUNK(
             "\"content\":\"He\"") "data: {\"error\":{\"message\":\"no room\"}}\n\n",
         HS_IO, "no room"},
        {SCRIPT_EVENTS CHUNK("\"content\":\"He\""), HS_IO, "broke off"},
        {SCRIPT_EVENTS CHUNK("\"content\":\"He\"") "data: {\"a\n\n", HS_IO, "no JSON"},
        {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n" CHUNK(
             "\"content\":\"He\""),
         HS_IO, "broke"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        api_clear_output(test);
        serve_answer(test, rows[i].text);
        hs_status status = api_run(test, hs_cmd_chat, "Hi", NULL);
        if (status != rows[i].status || !strstr(test->err.message, rows[i].message)) {
            fail_msg("row %zu: %s, '%s'", i, hs_status_name(status), test->err.message);
        }
        assert_string_equal(test->out.data ? test->out.data : "", i < 3 ? "" : "He\n");
        stop();
    }
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_UNAVAILABLE);
    assert_contains(test->err.message, "nothing answers");
}

/* A server that ends with a finish reason but says no [DONE] is no reason to complain. */
static void an_end_without_a_mark(void **state)
{
    struct api_test *test = *state;
    serve_answer(test, SCRIPT_EVENTS CHUNK(
                           "\"content\":\"Yes\"") "data: {\"choices\":[{\"index\":0,"
                                                  "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    assert_string_equal(test->out.data, "Yes\n");
}

static void models_of_the_server(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply models[] = {{.text = MODELS},
                                                 {.text = HELLO},
                                                 {.text = MODELS},
                                                 {.text = SCRIPT_JSON("200 OK") "{\"data\":[]}"},
                                                 {.text = SCRIPT_JSON("200 OK") "{}"}};
    serve(test, models, COUNT_OF(models));
    static const char text[] = "model = \"only-here\"\n";
    assert_int_equal(
        hs_config_load_text(&test->config, text, sizeof text - 1, "config.toml", &test->err),
        HS_OK);
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK); /* meant for the engine */
    json_t *body = body_of(1);
    assert_string_equal(json_string_value(json_object_get(body, "model")), "small");
    json_decref(body);
    api_flag(test, HS_CFG_MODEL, "huge");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_NOT_FOUND);
    assert_contains(test->err.message, "has no model 'huge'");
    assert_string_equal(test->err.hint, "it has: small, large");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_NOT_FOUND);
    assert_string_equal(test->err.hint, "it has: none");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_IO);
}

static void settings_that_are_the_servers(void **state)
{
    struct api_test *test = *state;
    serve_answer(test, HELLO);
    api_flag(test, HS_CFG_CTX_SIZE, "4096");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_INVALID_ARGUMENT);
    assert_contains(test->err.message, "--ctx-size");
    assert_int_equal(server.n_requests, 0);
}

static void ctrl_c_leaves_the_answer(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply replies[] = {
        {.text = MODELS}, {.text = SCRIPT_EVENTS CHUNK("\"content\":\"He\""), .holds = true}};
    serve(test, replies, 2);
    test->interrupt_when = "He";
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_CANCELLED);
    assert_string_equal(test->out.data, "He\n");
    stop();
    assert_true(server.has_left[1]); /* the server can notice */
}

static void a_conversation(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply replies[] = {
        {.text = MODELS}, /* to open */
        {.text = HELLO},  /* Hi */
        {.text = HELLO},  /* /regen */
        {.text = MODELS}, /* /model large */
        {.text = HELLO},  /* again */
        {.text =
             SCRIPT_JSON("200 OK") "{\"models\":[{\"id\":\"large\",\"n_ctx\":4096,\"running\":1,"
                                   "\"queued\":2,\"kv_cells_used\":33,\"memory\":{}}]}"},
        {.text = SCRIPT_JSON("404 No") "{}"}, /* /stats */
        {.text = SCRIPT_JSON("404 No") "{}"}, /* /save */
        {.text = SCRIPT_JSON("404 No") "{}"}, /* /session */
        {.text = SCRIPT_JSON("404 No") "{}"}, /* which would make it */
        {.text = SCRIPT_JSON("500 No") "{\"error\":{\"message\":\"oops\"}}"},
        {.text = MODELS}, /* /model none */
    };
    const char *const lines[] = {
        "Hi",     "/regen",        "/model large",   "again", "/stats",
        "/stats", "/save mine",    "/session other", "fail",  "/model none",
        "/model", "/set temp 0.5", "/set threads 2", NULL};
    serve(test, replies, COUNT_OF(replies));
    test->io.in_is_terminal = test->io.err_is_terminal = true;
    test->lines = lines;
    assert_int_equal(api_run(test, hs_cmd_chat, NULL), HS_OK);
    assert_string_equal(test->out.data, "Hello\nHello\nHello\n");
    json_t *body = body_of(4);
    const json_t *messages = json_object_get(body, "messages");
    assert_int_equal(json_array_size(messages), 3); /* the answer given anew stands once */
    assert_string_equal(json_string_value(json_object_get(json_array_get(messages, 1), "content")),
                        "Hello");
    assert_string_equal(json_string_value(json_object_get(body, "model")), "large");
    json_decref(body);
    const char *said = test->err_out.data;
    assert_contains(said, "model small of http://127.0.0.1:");
    assert_contains(said, "model large of http://127.0.0.1:");
    assert_contains(said, "prompt   20 tokens (8 reused)");
    assert_contains(said, "context  33 of 4096 cells used");
    assert_contains(said, "server   1 requests running, 2 waiting");
    assert_contains(said, "tells no more");
    assert_contains(said, "keeps no sessions");
    assert_contains(said, "oops");
    assert_contains(said, "has no model 'none'");
    assert_contains(said, "'threads' is up to the server");
    assert_false(api_exists(api_path(test, "sessions/mine")));
}

#define SESSION(messages) SCRIPT_JSON("200 OK") "{\"id\":\"work\",\"messages\":[" messages "]}"
#define USER_SAYS(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define MODEL_SAYS(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define TURN(text)                                                                                 \
    SCRIPT_EVENTS "event: start\ndata: {\"session\":\"work\",\"model\":\"small\"}\n\n"             \
                  "event: reasoning\ndata: {\"text\":\"hm\"}\n\n"                                  \
                  "event: text\ndata: {\"text\":\"" text "\"}\n\nevent: done\ndata: "              \
                  "{\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":9,"                    \
                  "\"cached_tokens\":4,\"completion_tokens\":3,\"seed\":17}}\n\n"

static void expect_body(size_t i, const char *line, const char *want)
{
    json_t *body = body_of(i), *wanted = json_loads(want, 0, NULL);
    assert_contains(server.requests[i], line);
    assert_true(json_equal(body, wanted));
    json_decref(body);
    json_decref(wanted);
}

static void a_question_in_a_session(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply replies[] = {
        {.text = MODELS},
        {.text = SCRIPT_JSON("404 No") "{}"}, /* not there: it is made */
        {.text = SESSION("")},
        {.text = TURN("Hello")},
    };
    serve(test, replies, COUNT_OF(replies));
    api_flag(test, HS_CFG_SESSION, "work");
    api_flag(test, HS_CFG_SYSTEM, "Be brief.");
    api_flag(test, HS_CFG_TEMP, "0.5");
    api_flag(test, HS_CFG_JSON, "true");
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_OK);
    json_t *answer = api_json(test);
    assert_string_equal(json_string_value(json_object_get(answer, "answer")), "Hello");
    assert_string_equal(json_string_value(json_object_get(answer, "reasoning")), "hm");
    assert_string_equal(json_string_value(json_object_get(answer, "session")), "work");
    const json_t *usage = json_object_get(answer, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), 9);
    assert_int_equal(json_integer_value(json_object_get(usage, "cached_tokens")), 4);
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 3);
    assert_int_equal(json_integer_value(json_object_get(usage, "seed")), 17);
    json_decref(answer);
    assert_contains(server.requests[1], "GET /api/v1/sessions/work HTTP/1.1\r\n");
    expect_body(2, "POST /api/v1/sessions HTTP/1.1\r\n",
                "{\"name\":\"work\",\"model\":\"small\",\"system\":\"Be brief.\"}");
    expect_body(3, "POST /api/v1/sessions/work/generate HTTP/1.1\r\n",
                "{\"stream\":true,\"prompt\":\"Hi\",\"temperature\":0.5}"); /* its own model */
    assert_false(api_exists(api_path(test, "sessions/work"))); /* the server keeps it */
}

static void a_conversation_in_a_session(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply replies[] = {
        {.text = MODELS},
        {.text = SESSION(USER_SAYS("a") "," MODEL_SAYS("b"))},
        {.text = TURN("c")},               /* 2: more */
        {.text = TURN("d")},               /* 3: /regen */
        {.text = SESSION("")},             /* 4: /system */
        {.text = SESSION("")},             /* 5: /clear */
        {.text = SESSION(USER_SAYS("x"))}, /* 6: /session other */
        {.text = SCRIPT_JSON("500 No") "{\"error\":{\"message\":\"oops\"}}"}, /* 7: fail */
        {.text = SCRIPT_JSON("409 No") "{}"}, /* 8: it still ends there */
        {.text = SESSION(USER_SAYS("x") "," MODEL_SAYS("y"))},
    };
    const char *const lines[] = {"more",           "/regen", "/system Short.", "/clear", "/session",
                                 "/session other", "fail",   "/session",       NULL};
    serve(test, replies, COUNT_OF(replies));
    api_flag(test, HS_CFG_SESSION, "work");
    test->io.in_is_terminal = test->io.err_is_terminal = true;
    test->lines = lines;
    assert_int_equal(api_run(test, hs_cmd_chat, NULL), HS_OK);
    assert_string_equal(test->out.data, "c\nd\n");
    const char *said = test->err_out.data;
    assert_contains(said, "session 'work', 2 messages");
    assert_contains(said, "session 'work', 1 message\n"); /* the system's */
    assert_contains(said, "oops");
    assert_contains(said, "session 'other', 2 messages"); /* as the server kept it */
    expect_body(3, "/generate", "{\"stream\":true,\"regenerate\":true}");
    expect_body(4, "PATCH /api/v1/sessions/work ", "{\"system\":\"Short.\"}");
    expect_body(5, "POST /api/v1/sessions/work/truncate ", "{\"n_messages\":1}");
    assert_contains(server.requests[6], "GET /api/v1/sessions/other ");
    expect_body(8, "PATCH /api/v1/sessions/other ", "{}");
}

/* A session goes on with its own model until somebody names another. */
static void the_model_of_a_session(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply replies[] = {
        {.text = MODELS},
        {.text = SCRIPT_JSON("200 OK") "{\"model\":\"large\",\"messages\":[]}"},
        {.text = TURN("a")},
        {.text = SCRIPT_JSON("200 OK") "{\"model\":\"small\",\"messages\":[]}"}, /* /session b */
        {.text = SCRIPT_JSON("200 OK") "{\"model\":\"gone\",\"messages\":[]}"},  /* /session c */
        {.text = SCRIPT_JSON("404 No") "{\"error\":{\"message\":\"asks for 'gone'\"}}"},
        {.text = SESSION("")}, /* what the server kept of it */
        {.text = MODELS},      /* /model large */
        {.text = TURN("b")},
        {.text = SCRIPT_JSON("200 OK") "{\"model\":\"small\",\"messages\":[]}"}, /* /session d */
        {.text = TURN("c")},
    };
    const char *const lines[] = {"Hi",           "/session b", "/model",     "/session c", "you?",
                                 "/model large", "you?",       "/session d", "you?",       NULL};
    serve(test, replies, COUNT_OF(replies));
    api_flag(test, HS_CFG_SESSION, "a");
    test->io.in_is_terminal = test->io.err_is_terminal = true;
    test->lines = lines;
    assert_int_equal(api_run(test, hs_cmd_chat, NULL), HS_OK);
    assert_string_equal(test->out.data, "a\nb\nc\n");
    assert_contains(test->err_out.data, "model large of http://127.0.0.1:");
    assert_contains(test->err_out.data, "model small of http://127.0.0.1:");
    assert_contains(test->err_out.data, "\nsmall of http://127.0.0.1:");
    assert_contains(test->err_out.data, "asks for 'gone'");
    expect_body(2, "/sessions/a/generate", "{\"stream\":true,\"prompt\":\"Hi\"}");
    expect_body(5, "/sessions/c/generate", "{\"stream\":true,\"prompt\":\"you?\"}");
    expect_body(8, "/sessions/c/generate",
                "{\"stream\":true,\"model\":\"large\",\"prompt\":\"you?\"}");
    expect_body(10, "/sessions/d/generate",
                "{\"stream\":true,\"model\":\"large\",\"prompt\":\"you?\"}");
}

static void saving_as_a_session(void **state)
{
    struct api_test *test = *state;
    static const struct script_reply replies[] = {
        {.text = MODELS},
        {.text = HELLO},
        {.text = SCRIPT_JSON("409 No") "{}"}, /* /save taken */
        {.text = SESSION("")},                /* /save mine */
        {.text = SESSION("")},
        {.text = SESSION(USER_SAYS("Hi") "," MODEL_SAYS("Hello"))},
    };
    const char *const lines[] = {"Hi", "/save taken", "/save no/name", "/save mine", NULL};
    serve(test, replies, COUNT_OF(replies));
    test->io.in_is_terminal = true;
    test->lines = lines;
    assert_int_equal(api_run(test, hs_cmd_chat, NULL), HS_OK);
    const char *said = test->err_out.data;
    assert_contains(said, "there is a session 'taken' already");
    assert_contains(said, "not '.' first");
    assert_contains(said, "saved as session 'mine'");
    expect_body(4, "POST /api/v1/sessions/mine/messages ",
                "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
                "{\"role\":\"assistant\",\"content\":\"Hello\"}]}");
}

static void sessions_that_cannot_be_used(void **state)
{
    struct api_test *test = *state;
    static const struct {
        const char *first, *second;
        hs_status status;
    } rows[] = {
        {SCRIPT_JSON("404 No") "{}", SCRIPT_JSON("404 No") "{}", HS_NOT_SUPPORTED},
        {SCRIPT_JSON("403 No") "{}", "", HS_PERMISSION_DENIED},
        {SCRIPT_JSON("200 OK") "{}", "", HS_IO},
        {SESSION(""), SCRIPT_JSON("409 No") "{\"error\":{\"message\":\"open\"}}", HS_BUSY},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct script_reply replies[] = {{.text = MODELS},
                                         {.text = rows[i].first},
                                         {.text = rows[i].second},
                                         {.text = SESSION("")}};
        serve(test, replies, COUNT_OF(replies));
        api_flag(test, HS_CFG_SESSION, "work");
        assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), rows[i].status);
        stop();
    }
    api_flag(test, HS_CFG_SESSION, "a/b");
    serve_answer(test, HELLO);
    assert_int_equal(api_run(test, hs_cmd_chat, "Hi", NULL), HS_INVALID_ARGUMENT);
    assert_int_equal(server.n_requests, 1);
}

static void without_memory(void **state)
{
    struct api_test *test = *state;
    static struct script_reply replies[SCRIPT_REQUESTS_MAX];
    char *prompt = (char *)"Hi";
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status == HS_OUT_OF_MEMORY; nth++) {
        assert_true(nth < 200);
        api_clear_output(test);
        replies[0] = (struct script_reply){.text = MODELS};
        replies[1] = (struct script_reply){.text = HELLO};
        serve(test, replies, 2);
        hs_mem_fail_after(nth);
        status = api_run_args(test, hs_cmd_chat, 1, &prompt);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        stop();
    }
    assert_string_equal(test->out.data, "Hello\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, api_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_question),
        TEST(settings_that_were_given),
        TEST(a_seed_that_is_not_known),
        TEST(reasoning_and_length),
        TEST(servers_that_fail),
        TEST(an_end_without_a_mark),
        TEST(models_of_the_server),
        TEST(settings_that_are_the_servers),
        TEST(ctrl_c_leaves_the_answer),
        TEST(a_conversation),
        TEST(a_question_in_a_session),
        TEST(a_conversation_in_a_session),
        TEST(the_model_of_a_session),
        TEST(saving_as_a_session),
        TEST(sessions_that_cannot_be_used),
        TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
