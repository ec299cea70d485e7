/* API keys: made, listed, revoked, checked, reloaded; in a server; and files that are damaged. */
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "http_test.h"

static char folder[256], path[300];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/keys-XXXXXX", HS_TEST_TMP);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/data/%s", folder, HS_KEYS_FILE);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return hs_fs_remove_all(folder, NULL) == HS_OK ? 0 : -1;
}

static void create(const char *name, unsigned scopes, char ret_key[HS_KEY_TEXT_MAX])
{
    struct hs_http_key_info info;
    struct hs_error err = {.message = ""};
    if (hs_http_key_create(path, name, scopes, ret_key, &info, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
    assert_string_equal(info.name, name);
    assert_int_equal(info.scopes, scopes);
    assert_memory_equal(ret_key, "hs-", 3);
    assert_memory_equal(ret_key + 3, info.id, 8);
    assert_int_equal(strlen(ret_key), 3 + 8 + 1 + 43);
    assert_string_equal(ret_key + strlen(ret_key) - 4, info.last4);
}

static void test_life(void **state)
{
    (void)state;
    char one[HS_KEY_TEXT_MAX], two[HS_KEY_TEXT_MAX];
    struct hs_http_key_info *infos, info;
    struct hs_error err;
    size_t n;
    assert_int_equal(hs_http_key_list(path, &infos, &n, &err), HS_OK);
    assert_int_equal(n, 0);
    hs_free(infos);
    create("one", HS_KEY_INFERENCE, one);
    create("two words", HS_KEY_ADMIN | HS_KEY_INFERENCE, two);
    assert_int_equal(hs_http_key_list(path, &infos, &n, &err), HS_OK);
    assert_int_equal(n, 2);
    assert_string_equal(infos[1].name, "two words");
    assert_int_equal(infos[1].scopes, HS_KEY_ADMIN | HS_KEY_INFERENCE);
    hs_free(infos);

    hs_http_keys *keys;
    assert_int_equal(hs_http_keys_open(path, &keys, &err), HS_OK);
    assert_int_equal(hs_http_keys_count(keys), 2);
    assert_true(hs_http_keys_check(keys, one, &info));
    assert_string_equal(info.name, "one");
    for (size_t i = 0; i < strlen(one); i++) { /* any other character is another key */
        char changed[HS_KEY_TEXT_MAX];
        memcpy(changed, one, sizeof changed);
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        assert_false(hs_http_keys_check(keys, changed, &info));
    }
    one[strlen(one) - 1] = '\0';
    assert_false(hs_http_keys_check(keys, one, &info));
    static const char *const bad[] = {"", "hs-", "hs-00000000-", "sk-x"};
    for (size_t i = 0; i < 4; i++) {
        assert_false(hs_http_keys_check(keys, bad[i], &info));
    }
    assert_int_equal(hs_http_key_revoke(path, "one", &err), HS_OK);
    assert_int_equal(hs_http_key_revoke(path, "one", &err), HS_NOT_FOUND);
    assert_int_equal(hs_http_keys_count(keys), 2);
    assert_int_equal(hs_http_keys_reload(keys, &err), HS_OK);
    assert_int_equal(hs_http_keys_count(keys), 1);
    assert_true(hs_http_keys_check(keys, two, &info));
    assert_int_equal(hs_http_key_revoke(path, info.id, &err), HS_OK);
    hs_http_keys_free(keys);
    hs_http_keys_free(NULL);
}

static void read_file(struct hs_buf *text)
{
    assert_int_equal(hs_fs_read(path, text, NULL), HS_OK);
}

/* The file has no key, is for its owner alone, and its hash is the one described. */
static void test_file(void **state)
{
    (void)state;
    char key[HS_KEY_TEXT_MAX];
    struct stat info;
    create("laptop", HS_KEY_INFERENCE, key);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    struct hs_buf text = HS_BUF_INIT(65536);
    read_file(&text);
    assert_null(strstr(text.data, key));
    assert_null(strstr(text.data, key + 12));
    json_t *root = json_loads(text.data, 0, NULL);
    const json_t *row = json_array_get(json_object_get(root, "keys"), 0);
    const char *salt = json_string_value(json_object_get(row, "salt"));
    unsigned char salted[16 + HS_KEY_TEXT_MAX], digest[32];
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        assert_int_equal(sscanf(salt + 2 * i, "%2x", &byte), 1);
        salted[i] = (unsigned char)byte;
    }
    memcpy(salted + 16, key, strlen(key));
    SHA256(salted, 16 + strlen(key), digest);
    char hex[65];
    for (int i = 0; i < 32; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    assert_string_equal(json_string_value(json_object_get(row, "hash")), hex);
    json_decref(root);
    hs_buf_free(&text);
}

static void test_refused(void **state)
{
    (void)state;
    char key[HS_KEY_TEXT_MAX];
    struct hs_http_key_info info;
    struct hs_error err;
    char long_name[HS_KEY_NAME_MAX + 2];
    memset(long_name, 'n', sizeof long_name);
    long_name[HS_KEY_NAME_MAX + 1] = '\0';
    const char *bad[] = {"", " a", "a ", "a/b", "a\n", "\xC3\xA9", "a\"b", long_name};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(hs_http_key_create(path, bad[i], 1, key, &info, &err),
                         HS_INVALID_ARGUMENT);
    }
    long_name[HS_KEY_NAME_MAX] = '\0';
    create(long_name, HS_KEY_INFERENCE, key);
    assert_int_equal(hs_http_key_create(path, long_name, 1, key, &info, &err), HS_ALREADY_EXISTS);
    assert_int_equal(hs_http_key_create(path, "x", 0, key, &info, &err), HS_INVALID_ARGUMENT);
    assert_int_equal(hs_http_key_create(path, "x", 4, key, &info, &err), HS_INVALID_ARGUMENT);
    unsigned scopes;
    assert_int_equal(hs_http_key_scopes_parse("admin,inference", &scopes, &err), HS_OK);
    assert_int_equal(scopes, HS_KEY_ADMIN | HS_KEY_INFERENCE);
    assert_string_equal(hs_http_key_scopes_text(scopes), "inference,admin");
    static const char *const none[] = {"", "root", "admin,", "admin,,inference", "Admin"};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(hs_http_key_scopes_parse(none[i], &scopes, &err), HS_INVALID_ARGUMENT);
    }
}

static void test_damage(void **state)
{
    (void)state;
    char key[HS_KEY_TEXT_MAX];
    create("a", HS_KEY_INFERENCE, key);
    struct hs_buf text = HS_BUF_INIT(65536);
    read_file(&text);
    hs_http_keys *keys, *kept;
    struct hs_error err;
    assert_int_equal(hs_http_keys_open(path, &kept, &err), HS_OK);
    for (size_t len = 0; len + 2 < text.len; len++) { /* cut anywhere: never taken for whole */
        assert_int_equal(hs_http_keys_parse(text.data, len, &keys, &err), HS_CORRUPT);
    }
    static const char *const bad[] = {
        "{}",
        "{\"version\":1}",
        "{\"version\":1,\"keys\":{}}",
        "{\"version\":1,\"keys\":[1]}",
        "{\"version\":1,\"keys\":[{\"id\":\"00000000\"}]}",
        "{\"version\":1,\"version\":1,\"keys\":[]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(hs_http_keys_parse(bad[i], strlen(bad[i]), &keys, &err), HS_CORRUPT);
    }
    static const char later[] = "{\"version\":2,\"keys\":[]}";
    assert_int_equal(hs_http_keys_parse(later, strlen(later), &keys, &err), HS_UNSUPPORTED_VERSION);
    assert_int_equal(hs_fs_write_atomic(path, "x", 1, 0600, &err), HS_OK);
    assert_int_equal(hs_http_keys_reload(kept, &err), HS_CORRUPT);
    assert_int_equal(hs_http_keys_count(kept), 1); /* those that were there stay */
    assert_non_null(strstr(err.message, path));
    struct hs_http_key_info info;
    assert_int_equal(hs_http_key_create(path, "b", 1, key, &info, &err), HS_CORRUPT);
    hs_http_keys_free(kept);
    hs_buf_free(&text);
}

static void test_too_many(void **state)
{
    (void)state;
    struct hs_buf text = HS_BUF_INIT(1u << 20);
    struct hs_error err;
    for (int n = HS_KEYS_MAX; n <= HS_KEYS_MAX + 1; n++) {
        hs_buf_clear(&text);
        assert_int_equal(hs_buf_append_str(&text, "{\"version\":1,\"keys\":["), HS_OK);
        for (int i = 0; i < n; i++) {
            assert_int_equal(
                hs_buf_printf(&text,
                              "%s{\"id\":\"%08x\",\"name\":\"k%d\",\"scopes\":[\"admin\"],"
                              "\"created\":1,\"last4\":\"abcd\",\"salt\":\"%032x\",\"hash\":"
                              "\"%064x\"}",
                              i == 0 ? "" : ",", (unsigned)i, i, 0u, 0u),
                HS_OK);
        }
        assert_int_equal(hs_buf_append_str(&text, "]}"), HS_OK);
        hs_http_keys *keys = NULL;
        assert_int_equal(hs_http_keys_parse(text.data, text.len, &keys, &err),
                         n == HS_KEYS_MAX ? HS_OK : HS_LIMIT);
        hs_http_keys_free(keys);
    }
    hs_buf_free(&text);
}

static void *create_some(void *arg)
{
    for (int i = 0; i < 10; i++) {
        char name[32], key[HS_KEY_TEXT_MAX];
        struct hs_http_key_info info;
        snprintf(name, sizeof name, "t%d-%d", *(int *)arg, i);
        if (hs_http_key_create(path, name, 1, key, &info, NULL) != HS_OK) {
            return arg;
        }
    }
    return NULL;
}

static void test_at_once(void **state)
{
    (void)state;
    pthread_t threads[4];
    int numbers[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, create_some, &numbers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    struct hs_http_key_info *infos;
    size_t n;
    assert_int_equal(hs_http_key_list(path, &infos, &n, NULL), HS_OK);
    assert_int_equal(n, 40);
    hs_free(infos);
}

static void expect(const hs_http_server *server, const char *line, const char *format,
                   const char *key, int status, const char *body)
{
    char headers[256];
    struct reply reply;
    snprintf(headers, sizeof headers, format, key);
    request(server, line, headers, NULL, &reply);
    if (reply.status != status || (body != NULL && strcmp(reply.body.data, body) != 0)) {
        fail_msg("%s with %s: %d %s", line, headers, reply.status, reply.body.data);
    }
    reply_free(&reply);
}

#define BEARER "Authorization: Bearer %s\r\n"
static void test_in_server(void **state)
{
    (void)state;
    char user[HS_KEY_TEXT_MAX], admin[HS_KEY_TEXT_MAX];
    struct hs_http_config config;
    hs_http_keys *keys;
    struct hs_error err;
    assert_int_equal(hs_http_keys_open(path, &keys, &err), HS_OK);
    test_config(&config);
    config.keys = keys;
    hs_http_server *server = test_start(&config);
    expect(server, "GET /admin", "%s", "", 200, "(nobody)"); /* no keys yet */
    create("user", HS_KEY_INFERENCE, user);
    create("boss", HS_KEY_ADMIN, admin);
    assert_int_equal(hs_http_keys_reload(keys, &err), HS_OK);
    expect(server, "GET /hello", "%s", "", 200, "hello");
    expect(server, "GET /infer", "%s", "", 401, NULL);
    expect(server, "GET /infer", BEARER, "wrong", 401, NULL);
    expect(server, "GET /infer", "Authorization: Basic %s\r\n", user, 401, NULL);
    expect(server, "GET /infer", BEARER, user, 200, "user");
    expect(server, "GET /infer", "authorization: bearer  %s\r\n", user, 200, "user");
    expect(server, "GET /infer", "x-api-key: %s\r\n", user, 200, "user");
    expect(server, "GET /admin", BEARER, user, 403, NULL);
    expect(server, "GET /admin", BEARER, admin, 200, "boss");
    expect(server, "GET /infer", BEARER, admin, 200, "boss");
    expect(server, "GET /missing", "%s", "", 404, NULL);
    struct reply reply;
    char value[512];
    request(server, "GET /infer", NULL, NULL, &reply);
    assert_string_equal(reply_header(&reply, "WWW-Authenticate", value), "Bearer");
    assert_non_null(strstr(reply.body.data, "authentication_error"));
    reply_free(&reply);
    assert_int_equal(hs_http_key_revoke(path, "user", &err), HS_OK);
    assert_int_equal(hs_http_keys_reload(keys, &err), HS_OK);
    expect(server, "GET /infer", BEARER, user, 401, NULL);
    test_stop(server);
    hs_http_keys_free(keys);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_life),     TEST(test_file),    TEST(test_refused),   TEST(test_damage),
        TEST(test_too_many), TEST(test_at_once), TEST(test_in_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
