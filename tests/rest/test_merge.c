/* POST /api/v1/merge-adapters with a real registry, over merging that computes nothing. */
#include "adapters_test.h"

#include <unistd.h>

#include "adapters/adapter_write.h"
#include "fake_fusion.h"
#include "tiny_gguf.h"

#define MERGE "POST /api/v1/merge-adapters"
#define BOTH "\"adapters\":[{\"name\":\"french\",\"weight\":0.5},{\"name\":\"polite\"}]"

static char result_file[300];

/* What merging "writes": an adapter that fits the model. */
static void write_result(const char *model)
{
    static float values[2 * TINY_GGUF_N_EMBD];
    struct hs_lora_target target = {.tensor = "blk.0.attn_q.weight", .rank = 2, .scale = 1};
    hs_lora_base *base = NULL;
    assert_int_equal(hs_lora_base_open(model, &base, NULL), HS_OK);
    assert_true(hs_lora_base_find(base, target.tensor, &target.n_in, &target.n_out));
    target.a = (struct hs_lora_matrix){HS_LORA_F32, 2, target.n_in, values, NULL};
    target.b = (struct hs_lora_matrix){HS_LORA_F32, target.n_out, 2, values, NULL};
    const struct hs_lora lora = {&target, 1};
    const struct hs_adapter_about about = {.base = base, .name = "result"};
    snprintf(result_file, sizeof result_file, "%s/result.gguf", adapters_test.folder);
    assert_int_equal(hs_adapter_write_gguf(&lora, &about, result_file, NULL), HS_OK);
    hs_lora_base_free(base);
    fake_fusion = (struct fake_fusion){.file = result_file};
}

static int setup(void **state)
{
    if (adapters_setup(state) != 0) {
        return -1;
    }
    struct rest_test *test = *state;
    write_result(test->rest.models[0].path);
    adapters_create(test, "french", 0, "", 201);
    adapters_create(test, "polite", 1, "", 201);
    return 0;
}

static void test_merge(void **state)
{
    struct rest_test *test = *state;
    rest_ask(test, MERGE,
             "{\"method\":\"dare_ties_svd\",\"name\":\"both\"," BOTH
             ",\"density\":0.25,\"rank\":4,\"seed\":9,\"majority_sign\":\"frequency\","
             "\"svd\":\"exact\"}",
             201);
    rest_expect_string(test, "object", "adapter.merge");
    rest_expect_string(test, "name", "both");
    rest_expect_string(test, "method", "dare_ties_svd");
    rest_expect_int(test, "version", 1);
    rest_expect_int(test, "seed", 9);
    rest_expect_int(test, "rank", 9); /* the fake's */
    rest_expect_string(test, "targets/1/tensor", "blk.1.attn_q.weight");
    const struct fake_fusion *f = &fake_fusion;
    assert_string_equal(f->base, test->rest.models[0].path);
    assert_int_equal(f->n_sources, 2);
    assert_string_equal(f->names[1], "polite");
    assert_true(f->weights[0] == 0.5 && f->weights[1] == 1);
    assert_true(f->params.density == 0.25 && f->params.rank == 4 && f->params.seed == 9);
    assert_int_equal(f->params.majority_sign, HS_MERGE_SIGN_FREQUENCY);
    assert_int_equal(f->params.svd, HS_MERGE_SVD_EXACT);
    assert_int_equal(f->params.n_threads, 1);
    assert_true(access(f->out, F_OK) != 0);
    rest_ask(test, "GET /api/v1/adapters/both", "", 200);
    rest_expect_string(test, "parents/0", "french@1");
    rest_expect_string(test, "base", "fake");
    rest_chat(test, "\"lora\":[{\"name\":\"both\"}]", 200);
    rest_ask(test, MERGE, "{\"method\":\"svd\",\"name\":\"both\"," BOTH "}", 409);
    rest_ask(test, MERGE, "{\"method\":\"svd\",\"name\":\"both\",\"replace\":true," BOTH "}", 200);
    rest_ask(test, "GET /api/v1/merge-adapters", "", 405);
}

static void test_refused(void **state)
{
    struct rest_test *test = *state;
    static const char *const bodies[] = {
        "{" BOTH ",\"name\":\"x\"}",
        "{" BOTH ",\"name\":\"x\",\"method\":\"tie\"}",
        "{" BOTH ",\"name\":\"x\",\"method\":7}",
        "{" BOTH ",\"method\":\"svd\"}",
        "{" BOTH ",\"method\":\"svd\",\"name\":\"a/b\"}",
        "{" BOTH ",\"method\":\"svd\",\"name\":\"fake\"}",
        "{" BOTH ",\"method\":\"svd\",\"name\":\"x\",\"density\":0.5}",
        "{" BOTH ",\"method\":\"ties\",\"name\":\"x\",\"density\":1.5}",
        "{" BOTH ",\"method\":\"svd\",\"name\":\"x\",\"rank\":1025}",
        "{" BOTH ",\"method\":\"svd\",\"name\":\"x\",\"rank\":0}",
        "{" BOTH ",\"method\":\"svd\",\"name\":\"x\",\"seed\":-1}",
        "{" BOTH ",\"method\":\"svd\",\"name\":\"x\",\"svd\":\"fast\"}",
        "{" BOTH ",\"method\":\"ties\",\"name\":\"x\",\"majority_sign\":\"most\"}",
        "{\"method\":\"svd\",\"name\":\"x\"}",
        "{\"method\":\"svd\",\"name\":\"x\",\"adapters\":[]}",
        "{\"method\":\"svd\",\"name\":\"x\",\"adapters\":[\"french\"]}",
        "{\"method\":\"svd\",\"name\":\"x\",\"adapters\":[{\"weight\":1}]}",
        "{\"method\":\"svd\",\"name\":\"x\",\"adapters\":[{\"name\":\"./french\"}]}",
        "{\"method\":\"svd\",\"name\":\"x\",\"adapters\":[{\"name\":\"german\"}]}",
        "{\"method\":\"svd\",\"name\":\"x\",\"adapters\":[{\"name\":\"french\",\"weight\":2e6}]}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        rest_ask(test, MERGE, bodies[i], 400);
    }
    assert_int_equal(fake_fusion.n_calls, 0);
    fake_fusion.status = HS_INVALID_ARGUMENT;
    rest_ask(test, MERGE, "{\"method\":\"svd\",\"name\":\"x\"," BOTH "}", 400);
    rest_ask(test, "GET /api/v1/adapters/x", "", 404);
}

/* One more than may be merged at once. */
static void test_too_many(void **state)
{
    struct rest_test *test = *state;
    for (int n = 64; n <= 65; n++) {
        struct hs_buf body = HS_BUF_INIT(1 << 16);
        assert_int_equal(
            hs_buf_append_str(&body, "{\"method\":\"svd\",\"name\":\"x\",\"adapters\":["), HS_OK);
        for (int i = 0; i < n; i++) {
            assert_int_equal(hs_buf_printf(&body, "%s{\"name\":\"french\"}", i == 0 ? "" : ","),
                             HS_OK);
        }
        assert_int_equal(hs_buf_append_str(&body, "]}"), HS_OK);
        rest_ask(test, MERGE, body.data, n == 64 ? 201 : 400);
        hs_buf_free(&body);
    }
}

/* The server has one thread for handlers here; a merge leaves it to others. */
static void test_while_merging(void **state)
{
    struct rest_test *test = *state;
    static const char merge[] = "{\"method\":\"svd\",\"name\":\"x\"," BOTH "}";
    char text[512], wait_s[512];
    atomic_store(&fake_fusion.is_held, true);
    snprintf(text, sizeof text,
             MERGE " HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s", strlen(merge),
             merge);
    int fd = client_connect(test->server);
    client_send(fd, text);
    wait_for_int(&fake_fusion.n_running, 1);
    rest_chat(test, "", 200);
    rest_ask(test, "GET /api/v1/adapters", "", 200);
    rest_ask(test, MERGE, "{\"method\":\"svd\",\"name\":\"y\"," BOTH "}", 429);
    rest_expect_string(test, "error/code", "merge_running");
    reply_header(&test->reply, "Retry-After", wait_s);
    assert_string_equal(wait_s, "5");
    atomic_store(&fake_fusion.is_held, false);
    struct reply reply = {0};
    client_reply(fd, &reply, LONG_MS);
    assert_int_equal(reply.status, 201);
    reply_free(&reply);
    close(fd);
    rest_ask(test, MERGE, "{\"method\":\"svd\",\"name\":\"y\"," BOTH "}", 201);

    atomic_store(&fake_fusion.is_held, true);
    fd = client_connect(test->server);
    client_send(fd, text);
    wait_for_int(&fake_fusion.n_running, 1);
    close(fd);
    wait_for_int(&fake_fusion.n_cancelled, 1);
    wait_until_stats(test->server, 0, 0);
    atomic_store(&fake_fusion.is_held, false);
    rest_ask(test, MERGE, "{\"method\":\"svd\",\"name\":\"z\"," BOTH "}", 201);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, adapters_teardown)
    const struct CMUnitTest tests[] = {TEST(test_merge), TEST(test_refused), TEST(test_too_many),
                                       TEST(test_while_merging)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
