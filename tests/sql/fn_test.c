#include "fn_test.h"

#include "base/error.h"

/* ---- answers ---- */

/* Where the content of the last message of a role begins, before `end`; -1: there is none. */
static int64_t find_role(const int32_t *tokens, int64_t end, const char *role)
{
    int64_t len = (int64_t)strlen(role);
    for (int64_t at = end - len; at >= 0; at--) {
        int64_t k = 0;
        while (k < len && FAKE_TOKEN(tokens[at + k]) == (unsigned char)role[k]) {
            k++;
        }
        if (k == len) {
            return at + len;
        }
    }
    return -1;
}

static bool says(const int32_t *tokens, int64_t at, const char *text)
{
    size_t k = 0;
    while (text[k] != '\0' && FAKE_TOKEN(tokens[at + (int64_t)k]) == (unsigned char)text[k]) {
        k++;
    }
    return text[k] == '\0';
}

static int32_t echo(const int32_t *tokens, size_t n, void *user)
{
    (void)user;
    int64_t end = (int64_t)n - 1;
    while (end >= 0 && FAKE_TOKEN(tokens[end]) != FAKE_GEN) {
        end--;
    }
    if (end < 0) { /* no template: the last byte again, once */
        return 'A';
    }
    int64_t at = find_role(tokens, end, "[user]");
    if (at >= 0 && says(tokens, at, "?system")) {
        at = find_role(tokens, end, "[system]");
    }
    int64_t i = at + (int64_t)n - end - 1;
    return at < 0 || i >= end || FAKE_TOKEN(tokens[i]) == '\n' ? FAKE_EOG : FAKE_TOKEN(tokens[i]);
}

/* ---- the host ---- */

static hs_status find_model(void *user, const char *name, char ret_id[HS_ID_MAX],
                            struct hs_error *err)
{
    struct fn_world *world = user;
    if (name != NULL && *name != '\0' && strcmp(name, "m") != 0) {
        return hs_error_set(err, HS_NOT_FOUND, "there is no model '%s'", name);
    }
    memcpy(ret_id, world->model_id, HS_ID_MAX);
    return HS_OK;
}

static hs_status open_session(void *user, const char *name, const char *model_id,
                              char ret_session_id[HS_ID_MAX], struct hs_error *err)
{
    struct fn_world *world = user;
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.name = name;
    params.model_id = model_id;
    world->n_opened++;
    return hs_engine_create_session(world->engine, &params, ret_session_id, err);
}

static hs_status close_session(void *user, const char *session_id, struct hs_error *err)
{
    struct fn_world *world = user;
    world->n_closed++;
    return hs_engine_close_session(world->engine, session_id, err);
}

static size_t list_models(void *user, char (*ret_ids)[HS_ID_MAX], size_t max)
{
    struct fn_world *world = user;
    if (max > 0) {
        memcpy(ret_ids[0], world->model_id, HS_ID_MAX);
    }
    return 1;
}

void fn_open_engine(struct fn_world *world, hs_engine *engine)
{
    struct hs_error err = {0};
    struct hs_sql_params params;
    *world = (struct fn_world){.engine = engine, .model_id = "m"};
    hs_generate_params_defaults(&world->defaults);
    world->host = (struct hs_sql_host){.user = world,
                                       .engine = engine,
                                       .defaults = &world->defaults,
                                       .find_model = find_model,
                                       .open_session = open_session,
                                       .close_session = close_session,
                                       .list_models = list_models};
    hs_sql_params_defaults(&params);
    params.host = &world->host;
    params.n_threads = 2;
    if (hs_sql_open(&params, &world->sql, &err) != HS_OK ||
        hs_sql_connect(world->sql, "tester", &world->conn, &err) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

void fn_open(struct fn_world *world, const struct fake_config *fake,
             const struct hs_engine_params *params, int32_t n_ctx, int32_t n_seq_max)
{
    struct fake_config config = fake == NULL ? (struct fake_config){0} : *fake;
    struct hs_engine_params defaults;
    hs_engine_params_defaults(&defaults);
    config.next = echo;
    fake_runtime_reset(&config);
    fn_open_engine(world, test_engine(params == NULL ? &defaults : params, n_ctx, n_seq_max));
}

void fn_close(struct fn_world *world)
{
    hs_sql_disconnect(world->conn);
    hs_sql_close(world->sql);
    hs_engine_free(world->engine);
}

/* ---- statements ---- */

/* No memory of ours, as that is made to fail. */
struct text {
    char *data; /* [FN_TEXT_MAX] */
    size_t len;
};

static void add_text(struct text *out, const char *text, size_t len)
{
    assert_true(out->len + len < FN_TEXT_MAX);
    memcpy(out->data + out->len, text, len);
    out->len += len;
    out->data[out->len] = '\0';
}

static void add_value(struct text *out, const struct ArrowArray *column, int64_t i)
{
    const uint8_t *valid = column->buffers[0];
    const int32_t *ends = column->buffers[1];
    if (valid != NULL && (valid[i / 8] & (1 << (i % 8))) == 0) {
        add_text(out, "~", 1);
    } else {
        add_text(out, (const char *)column->buffers[2] + ends[i], (size_t)(ends[i + 1] - ends[i]));
    }
}

static void add_rows(struct text *out, const struct ArrowArray *rows)
{
    for (int64_t i = 0; i < rows->length; i++) {
        for (int64_t k = 0; k < rows->n_children; k++) {
            add_value(out, rows->children[k], i);
            add_text(out, k + 1 < rows->n_children ? "|" : "\n", 1);
        }
    }
}

static hs_status check_types(hs_sql_stmt *stmt, struct hs_error *err)
{
    struct ArrowSchema schema;
    hs_status status = hs_sql_stmt_result_schema(stmt, &schema, err);
    for (int64_t k = 0; status == HS_OK && k < schema.n_children; k++) {
        assert_string_equal(schema.children[k]->format, "u");
    }
    if (status == HS_OK) {
        schema.release(&schema);
    }
    return status;
}

static hs_status read_rows(hs_sql_stmt *stmt, struct text *out, struct hs_error *err)
{
    hs_sql_result *result = NULL;
    struct ArrowArray rows;
    hs_status status = hs_sql_execute(stmt, &result, err);
    while (status == HS_OK) {
        status = hs_sql_result_next(result, &rows, err);
        if (status != HS_OK || rows.release == NULL) {
            break;
        }
        if (out != NULL) {
            add_rows(out, &rows);
        }
        rows.release(&rows);
    }
    hs_sql_result_free(result);
    return status;
}

static hs_status run(hs_sql_conn *conn, const char *sql, struct text *out, struct hs_error *err)
{
    hs_sql_stmt *stmt = NULL;
    hs_status status = hs_sql_prepare(conn, sql, strlen(sql), &stmt, err);
    if (status == HS_OK) {
        status = out == NULL ? HS_OK : check_types(stmt, err);
        status = status == HS_OK ? read_rows(stmt, out, err) : status;
    }
    hs_sql_stmt_free(stmt);
    return status;
}

hs_status fn_query(hs_sql_conn *conn, const char *sql, char ret_text[FN_TEXT_MAX],
                   struct hs_error *err)
{
    struct text out = {.data = ret_text};
    ret_text[0] = '\0';
    return run(conn, sql, &out, err);
}

void fn_expect(struct fn_world *world, const char *sql, const char *text)
{
    static char got[FN_TEXT_MAX];
    struct hs_error err = {0};
    if (fn_query(world->conn, sql, got, &err) != HS_OK) {
        fail_msg("%s: %s", sql, err.message);
    }
    assert_string_equal(got, text);
}

void fn_expect_error(struct fn_world *world, const char *sql, hs_status status, const char *part)
{
    struct hs_error err = {0};
    hs_status got = run(world->conn, sql, NULL, &err);
    if (got != status || strstr(err.message, part) == NULL) {
        fail_msg("%s: %s: %s", sql, hs_status_name(got), err.message);
    }
}

void fn_run(struct fn_world *world, const char *sql)
{
    struct hs_error err = {0};
    if (run(world->conn, sql, NULL, &err) != HS_OK) {
        fail_msg("%s: %s", sql, err.message);
    }
}

uint64_t fn_n_generated(struct fn_world *world)
{
    return test_stats(world->engine).n_generated_tokens;
}
