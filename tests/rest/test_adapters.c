/* /api/v1/adapters with a real registry and real files, and what other processes change there. */
#include "adapters_test.h"

#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

static void create_and_get(void **state)
{
    struct rest_test *test = *state;
    adapters_create(test, "french", 1,
                    ",\"description\":\"d\",\"tags\":[\"t\"],\"examples\":[\"e\"]", 201);
    rest_expect_string(test, "name", "french");
    rest_expect_int(test, "version", 1);
    rest_expect_string(test, "base", "fake");
    rest_expect_string(test, "state", "registered");
    rest_expect_string(test, "tags/0", "t");
    assert_null(strstr(test->reply.body.data,
                       adapters_test.folder)); /* where it lies is nobody's business */
    rest_ask(test, "GET " ADAPTERS "/french", "", 200);
    rest_expect_string(test, "description", "d");
    rest_ask(test, "GET " ADAPTERS, "", 200);
    rest_expect_string(test, "data/0/name", "french");
    rest_ask(test, "GET " ADAPTERS "/none", "", 404);
    rest_chat(test, "\"lora\":[{\"name\":\"french\",\"scale\":0.5}]", 200);
    assert_string_equal(rest_asked()->adapters[0].name, "french");
    rest_ask(test, "GET /v1/models", "", 200);
    rest_expect_string(test, "data/1/id", "french");
    adapters_create(test, "french", 2, "", 409);
    adapters_create(test, "fake", 2, "", 400);
    adapters_create(test, "a b", 2, "", 400);
    rest_ask(test, "POST " ADAPTERS, "{\"name\":\"x\"}", 400);
    rest_expect_error(test, "path");
    rest_ask(test, "POST " ADAPTERS, "{\"name\":\"x\",\"path\":\"/nowhere/at/all\"}", 400);
    rest_expect_error(test, "path");
}

static void replace_and_history(void **state)
{
    struct rest_test *test = *state;
    adapters_create(test, "a", 1, "", 201);
    char before[HS_ADAPTER_NAME_SIZE];
    snprintf(before, sizeof before, "%s", fake_engine.adapters[0].version);
    for (int i = 2; i <= 4; i++) {
        adapters_create(test, "a", (float)i, ",\"replace\":true", 200);
        rest_expect_int(test, "version", i);
        assert_string_not_equal(fake_engine.adapters[0].version, before);
        snprintf(before, sizeof before, "%s", fake_engine.adapters[0].version);
    }
    rest_ask(test, "GET " ADAPTERS "/a/history", "", 200);
    assert_int_equal(json_array_size(rest_at(test, "data")), 3);
    rest_expect_int(test, "data/0/version", 4);
    rest_ask(test, "GET " ADAPTERS "/b/history", "", 404);
}

static void change_and_delete(void **state)
{
    struct rest_test *test = *state;
    adapters_create(test, "a", 1, "", 201);
    rest_ask(test, "PATCH " ADAPTERS "/a", "{\"description\":\"new\",\"tags\":[\"x\",\"y\"]}", 200);
    rest_expect_string(test, "description", "new");
    rest_expect_string(test, "tags/1", "y");
    static const char *const bad[] = {"{\"tags\":1}", "{\"tags\":[1]}", "{\"examples\":[\"\"]}",
                                      "{\"description\":1}", "{\"name\":\"a b\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        rest_ask(test, "PATCH " ADAPTERS "/a", bad[i], 400);
    }
    rest_ask(test, "PATCH " ADAPTERS "/a", "{\"name\":\"b\"}", 200);
    rest_expect_string(test, "name", "b");
    rest_ask(test, "GET " ADAPTERS "/a", "", 404);
    assert_string_equal(fake_engine.adapters[0].name, "b");
    rest_ask(test, "PATCH " ADAPTERS "/none", "{}", 404);
    rest_ask(test, "DELETE " ADAPTERS "/b", "", 200);
    assert_int_equal(fake_engine.n_adapters, 0);
    rest_ask(test, "DELETE " ADAPTERS "/b", "", 404);
}

static void upload(void **state)
{
    struct rest_test *test = *state;
    struct hs_buf body HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(1u << 20);
    char path[600], head[1024];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", adapters_make_source(1));
    assert_int_equal(hs_fs_read(path, &body, NULL), HS_OK);
    for (int version = 1; version <= 2; version++) {
        snprintf(head, sizeof head,
                 "PUT " ADAPTERS "/up HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                 "Adapter-Config: {\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":16,"
                 "\"target_modules\":[\"q_proj\"]}\r\nContent-Length: %zu\r\n\r\n",
                 body.len);
        int fd = client_connect(test->server);
        client_send(fd, head);
        assert_int_equal(write(fd, body.data, body.len), body.len);
        char answer[8192];
        size_t len = 0;
        for (ssize_t n = 1; n > 0; len += n > 0 ? (size_t)n : 0) {
            n = read(fd, answer + len, sizeof answer - 1 - len);
        }
        close(fd);
        answer[len] = '\0';
        if (strncmp(answer, version == 1 ? "HTTP/1.1 201" : "HTTP/1.1 200", 12) != 0) {
            fail_msg("%s", answer);
        }
        assert_non_null(strstr(answer, "\"name\":\"up\""));
    }
    rest_ask(test, "PUT " ADAPTERS "/up", "not a GGUF file", 400);
    rest_expect_error(test, "Adapter-Config");
    rest_ask(test, "PUT " ADAPTERS "/up", "GGUF but no more", 422);
    assert_null(strstr(test->reply.body.data, adapters_test.folder));
    rest_ask(test, "PUT " ADAPTERS "/up?model=none", "GGUF", 404);
    /* nothing is left of uploads */
    char command[700];
    snprintf(command, sizeof command, "test -z \"$(ls '%s' | grep upload)\"",
             adapters_test.paths.cache_dir);
    assert_int_equal(system(command), 0);
}

/* Added, replaced and removed behind the server's back, as `hyprstream adapter` does it. */
static void other_processes(void **state)
{
    struct rest_test *test = *state;
    hs_registry *other = NULL;
    assert_int_equal(hs_registry_open(&adapters_test.paths, &other, NULL), HS_OK);
    struct hs_registry_adapter row = {.name = (char *)"late",
                                      .path = (char *)"/somewhere",
                                      .format = (char *)"peft",
                                      .fingerprint = test->rest.models[0].fingerprint,
                                      .content = (char *)"c1"};
    struct hs_registry_adapter_add how = {.replaces = true, .n_keep = 1};
    rest_ask(test, "GET " ADAPTERS, "", 200); /* the registry was looked at a moment ago */
    assert_int_equal(hs_registry_adapter_add(other, &row, &how, NULL, NULL), HS_OK);
    rest_chat(test, "\"lora\":[{\"name\":\"late\"}]", 200);
    assert_string_equal(fake_engine.adapters[0].version, "c1");
    row.content = (char *)"c2";
    assert_int_equal(hs_registry_adapter_add(other, &row, &how, NULL, NULL), HS_OK);
    hs_adapter_table_sync(test->rest.adapters, true);
    assert_string_equal(fake_engine.adapters[0].version, "c2");
    /* of another model: known, not served */
    row.name = (char *)"foreign";
    row.fingerprint = (char *)"f00d";
    assert_int_equal(hs_registry_adapter_add(other, &row, &how, NULL, NULL), HS_OK);
    rest_ask(test, "GET " ADAPTERS "/foreign", "", 200);
    assert_true(json_is_false(rest_at(test, "served")));
    rest_chat(test, "\"lora\":[{\"name\":\"foreign\"}]", 404);
    assert_int_equal(hs_registry_adapter_remove(other, "late", NULL), HS_OK);
    hs_adapter_table_sync(test->rest.adapters, true);
    assert_int_equal(fake_engine.n_adapters, 0);
    hs_registry_close(other);
}

static void uses_are_counted(void **state)
{
    struct rest_test *test = *state;
    adapters_create(test, "a", 1, "", 201);
    rest_chat(test, "\"lora\":[{\"name\":\"a\"}]", 200);
    fake_engine.adapters[0].decode_ms = 12;
    fake_engine.adapters[0].last_used_unix_ms = 77;
    for (int i = 0; i < 2; i++) { /* the second time nothing is new */
        hs_adapter_table_save_counts(test->rest.adapters);
        struct hs_registry_adapter row = {0};
        assert_int_equal(hs_registry_adapter_get(adapters_test.registry, "a", &row, NULL), HS_OK);
        assert_true(row.n_uses == 1 && row.used_ms == 12 && row.used_unix_ms == 77);
        hs_registry_adapter_free(&row);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, adapters_setup, adapters_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(create_and_get), TEST(replace_and_history), TEST(change_and_delete),
        TEST(upload),         TEST(other_processes),     TEST(uses_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
