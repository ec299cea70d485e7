/* Every status has one exit code of its own, and one of HTTP and of gRPC. */
#include "api_test.h"

#include "api/nearest.h"
#include "api/report.h"
#include "api/status_map.h"

static const hs_status all[] = {
#define HS_STATUS(name, value, text) HS_##name,
#include "hyprstream/status.def"
#undef HS_STATUS
};

static void every_status_has_a_row(void **state)
{
    (void)state;
    size_t n = 0;
    const struct hs_exit_code_row *rows = hs_exit_code_rows(&n);
    assert_int_equal(n, COUNT_OF(all));
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        int n_found = 0;
        for (size_t r = 0; r < n; r++) {
            n_found += rows[r].status == all[i];
        }
        assert_int_equal(n_found, 1);
    }
}

static void codes_are_distinct_and_sorted(void **state)
{
    (void)state;
    size_t n = 0;
    const struct hs_exit_code_row *rows = hs_exit_code_rows(&n);
    for (size_t i = 0; i + 1 < n; i++) {
        assert_true(rows[i].exit_code < rows[i + 1].exit_code);
    }
    for (size_t i = 0; i < n; i++) {
        assert_true(rows[i].exit_code >= 0 && rows[i].exit_code < 256);
        assert_int_not_equal(rows[i].exit_code, HS_EXIT_PIPE_CLOSED);
        assert_true(strlen(rows[i].text) > 0);
        assert_int_equal(rows[i].exit_code == 0, rows[i].status == HS_OK);
        assert_int_equal(hs_exit_code(rows[i].status), rows[i].exit_code);
    }
}

static void known_codes(void **state)
{
    (void)state;
    /* wrong use is 2 and Ctrl-C 130 in every shell's tools */
    assert_int_equal(hs_exit_code(HS_OK), 0);
    assert_int_equal(hs_exit_code(HS_INVALID_ARGUMENT), 2);
    assert_int_equal(hs_exit_code(HS_CANCELLED), 130);
    assert_int_equal(hs_exit_code((hs_status)9999), hs_exit_code(HS_INTERNAL));
    assert_int_equal(hs_exit_code((hs_status)-1), hs_exit_code(HS_INTERNAL));
}

static const char *nearest_of(const char *typed, const char *const *known, size_t n)
{
    struct hs_nearest nearest = {.name = typed};
    for (size_t i = 0; i < n; i++) {
        hs_nearest_offer(&nearest, known[i]);
    }
    return nearest.best ? nearest.best : "-";
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const known[] = {"chat",  "model list", "session list", "temp",
                                        "top-k", "help",       "tokenize",     "rm"};
    size_t n = COUNT_OF(known);
    assert_string_equal(nearest_of("chta", known, n), "chat"); /* one swap */
    assert_string_equal(nearest_of("chat", known, n), "chat");
    assert_string_equal(nearest_of("tokenise", known, n), "tokenize");
    assert_string_equal(nearest_of("tmp", known, n), "temp");
    assert_string_equal(nearest_of("model lst", known, n), "model list");
    assert_string_equal(nearest_of("tokeni", known, n), "tokenize"); /* two letters missing */
    assert_string_equal(nearest_of("xyz", known, n), "-");
    assert_string_equal(nearest_of("", known, n), "-");
    assert_string_equal(nearest_of("ab", known, n), "-"); /* two changes are all of "rm" */
    char name[70];
    memset(name, 'a', sizeof name);
    name[64] = '\0';
    const char *own = name;
    assert_string_equal(nearest_of(name, &own, 1), "-"); /* 64 bytes: too long */
    name[63] = '\0';
    assert_string_equal(nearest_of(name, &own, 1), name);
}

static void reports(void **state)
{
    struct api_test *test = *state;
    hs_error_set(&test->err, HS_NOT_FOUND, "no model '\033[31mx'");
    hs_error_hint(&test->err, "add one");
    hs_error_report(&test->io, HS_NOT_FOUND, &test->err, false);
    /* U+241B stands for the escape character */
    assert_string_equal(test->err_out.data,
                        "hyprstream: no model '\xE2\x90\x9B[31mx'\n  add one\n");
    api_clear_output(test);
    hs_error_report(&test->io, HS_NOT_FOUND, &test->err, true);
    json_t *json = json_loads(test->err_out.data, 0, NULL);
    json_t *error = json_object_get(json, "error");
    assert_string_equal(json_string_value(json_object_get(error, "status")), "HS_NOT_FOUND");
    assert_string_equal(json_string_value(json_object_get(error, "hint")), "add one");
    assert_int_equal(json_integer_value(json_object_get(error, "exit_code")), 3);
    json_decref(json);
    api_clear_output(test);
    hs_error_set(&test->err, HS_CANCELLED, "stopped");
    hs_error_report(&test->io, HS_CANCELLED, &test->err, false);
    assert_string_equal(test->err_out.data, "");
    hs_error_clear(&test->err);
    hs_error_report(&test->io, HS_IO, &test->err, false);
    assert_string_equal(test->err_out.data, "hyprstream: input/output error\n");
    assert_string_equal(test->out.data, "");
}

/* What is the client's fault is 4xx, what is ours 5xx; every status has one of them. */
static void http_statuses(void **state)
{
    (void)state;
    static const struct {
        hs_status status;
        int http;
    } known[] = {
        {HS_OK, 200},          {HS_INVALID_ARGUMENT, 400},  {HS_CONTEXT_FULL, 400},
        {HS_NOT_FOUND, 404},   {HS_PERMISSION_DENIED, 403}, {HS_BUSY, 409},
        {HS_QUEUE_FULL, 429},  {HS_INTERNAL, 500},          {HS_OUT_OF_MEMORY, 500},
        {HS_UNAVAILABLE, 503}, {HS_TIMEOUT, 504},           {(hs_status)9999, 500},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(hs_http_status(known[i].status), known[i].http);
    }
    size_t n;
    const struct hs_exit_code_row *rows = hs_exit_code_rows(&n);
    for (size_t i = 0; i < n; i++) {
        int http = hs_http_status(rows[i].status);
        assert_true(rows[i].status == HS_OK || (http >= 400 && http <= 599));
    }
}

/* By the meanings in gRPC's own list; only success is OK. */
static void grpc_codes(void **state)
{
    (void)state;
    static const struct {
        hs_status status;
        enum hs_grpc_code code;
    } known[] = {
        {HS_OK, HS_GRPC_OK},
        {HS_INVALID_ARGUMENT, HS_GRPC_INVALID_ARGUMENT},
        {HS_NOT_FOUND, HS_GRPC_NOT_FOUND},
        {HS_ALREADY_EXISTS, HS_GRPC_ALREADY_EXISTS},
        {HS_PERMISSION_DENIED, HS_GRPC_PERMISSION_DENIED},
        {HS_QUEUE_FULL, HS_GRPC_RESOURCE_EXHAUSTED},
        {HS_CANCELLED, HS_GRPC_CANCELLED},
        {HS_TIMEOUT, HS_GRPC_DEADLINE_EXCEEDED},
        {HS_NOT_SUPPORTED, HS_GRPC_UNIMPLEMENTED},
        {HS_UNAVAILABLE, HS_GRPC_UNAVAILABLE},
        {HS_CORRUPT, HS_GRPC_DATA_LOSS},
        {HS_INTERNAL, HS_GRPC_INTERNAL},
        {(hs_status)9999, HS_GRPC_INTERNAL},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(hs_grpc_code_of(known[i].status), known[i].code);
    }
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        assert_int_equal(hs_grpc_code_of(all[i]) == HS_GRPC_OK, all[i] == HS_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_row),
        cmocka_unit_test(codes_are_distinct_and_sorted),
        cmocka_unit_test(known_codes),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(http_statuses),
        cmocka_unit_test(grpc_codes),
        cmocka_unit_test_setup_teardown(reports, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
