/* Messages with and without a name behave alike. */
#include "api_test.h"

#include "dialogue.h"

struct fixture {
    struct api_test *test;
    hs_engine *engine;
    char model_id[HS_ID_MAX];
    struct hs_dialogue conversation;
};

static void open_one(struct fixture *f, struct api_test *test, const char *name, const char *system)
{
    *f = (struct fixture){.test = test};
    struct hs_engine_params params = {.sessions_dir = test->paths.sessions_dir};
    struct hs_model_params model = {0};
    assert_int_equal(hs_engine_create(&params, &f->engine, &test->err), HS_OK);
    assert_int_equal(
        hs_engine_load_model(f->engine, "/m.gguf", "m", &model, f->model_id, &test->err), HS_OK);
    assert_int_equal(hs_dialogue_open(f->engine, f->model_id, name, system, HS_OVERFLOW_STOP,
                                      &f->conversation, &test->err),
                     HS_OK);
}

static void close_one(struct fixture *f)
{
    assert_int_equal(hs_dialogue_close(&f->conversation, &f->test->err), HS_OK);
    hs_engine_free(f->engine);
}

static void ask(struct fixture *f, const char *prompt, enum hs_finish finish)
{
    struct hs_generate_params params;
    hs_generate_params_defaults(&params);
    struct hs_token_source source;
    assert_int_equal(
        hs_dialogue_generate(&f->conversation, prompt, &params, &source, &f->test->err), HS_OK);
    struct hs_event event;
    do {
        assert_int_equal(source.next(source.self, -1, &event, NULL), HS_OK);
    } while (event.type != HS_EVENT_DONE);
    source.free(source.self);
    assert_int_equal(
        hs_dialogue_answered(&f->conversation, finish, "Hello world", NULL, &f->test->err), HS_OK);
}

/* The messages as "role:content|role:content". */
static const char *listing(struct fixture *f)
{
    static char text[1024];
    text[0] = '\0';
    size_t n = 0;
    assert_int_equal(hs_dialogue_count(&f->conversation, &n, NULL), HS_OK);
    for (size_t i = 0; i < n; i++) {
        struct hs_message message;
        assert_int_equal(hs_dialogue_message(&f->conversation, i, &message, NULL), HS_OK);
        size_t len = strlen(text);
        snprintf(text + len, sizeof text - len, "%s%s:%s", i ? "|" : "", message.role,
                 message.content);
        hs_message_free(&message);
    }
    struct hs_message message;
    assert_int_equal(hs_dialogue_message(&f->conversation, n, &message, NULL), HS_NOT_FOUND);
    return text;
}

static void walk(struct api_test *test, const char *name)
{
    struct fixture f;
    open_one(&f, test, name, "be brief");
    assert_string_equal(listing(&f), "system:be brief");
    ask(&f, "one", HS_FINISH_STOP);
    assert_string_equal(listing(&f), "system:be brief|user:one|assistant:Hello world");
    assert_int_equal(hs_dialogue_truncate(&f.conversation, 2, NULL), HS_OK);
    ask(&f, NULL, HS_FINISH_STOP);
    assert_string_equal(listing(&f), "system:be brief|user:one|assistant:Hello world");
    assert_int_equal(hs_dialogue_set_system(&f.conversation, "new", NULL), HS_OK);
    assert_string_equal(listing(&f), "system:new|user:one|assistant:Hello world");
    assert_int_equal(hs_dialogue_set_system(&f.conversation, NULL, NULL), HS_OK);
    assert_string_equal(listing(&f), "user:one|assistant:Hello world");
    assert_int_equal(hs_dialogue_set_system(&f.conversation, NULL, NULL), HS_OK);
    assert_int_equal(hs_dialogue_set_system(&f.conversation, "again", NULL), HS_OK);
    assert_string_equal(listing(&f), "system:again|user:one|assistant:Hello world");
    assert_int_equal(hs_dialogue_truncate(&f.conversation, 0, NULL), HS_OK);
    assert_string_equal(listing(&f), "");
    close_one(&f);
}

static void without_a_name(void **state)
{
    walk(*state, NULL);
}

static void with_a_name(void **state)
{
    walk(*state, "work");
}

static void many_messages(void **state)
{
    struct fixture f;
    open_one(&f, *state, NULL, NULL);
    for (int i = 0; i < 15; i++) {
        ask(&f, "again", HS_FINISH_STOP);
    }
    size_t n = 0;
    assert_int_equal(hs_dialogue_count(&f.conversation, &n, NULL), HS_OK);
    assert_int_equal(n, 30);
    close_one(&f);
}

static void an_error_takes_the_question_back(void **state)
{
    struct fixture f;
    open_one(&f, *state, NULL, NULL);
    ask(&f, "one", HS_FINISH_STOP);
    ask(&f, "two", HS_FINISH_ERROR);
    assert_string_equal(listing(&f), "user:one|assistant:Hello world");
    close_one(&f);
}

static void an_answer_given_anew(void **state)
{
    struct fixture f;
    open_one(&f, *state, NULL, NULL);
    ask(&f, "one", HS_FINISH_STOP);
    static const enum hs_finish undone[] = {HS_FINISH_ERROR, HS_FINISH_CANCELLED};
    for (size_t i = 0; i < COUNT_OF(undone); i++) {
        assert_int_equal(hs_dialogue_truncate(&f.conversation, 1, NULL), HS_OK);
        assert_string_equal(listing(&f), "user:one");
        ask(&f, NULL, undone[i]);
        assert_string_equal(listing(&f), "user:one|assistant:Hello world");
    }
    /* another question is no new answer to the old one */
    assert_int_equal(hs_dialogue_truncate(&f.conversation, 1, NULL), HS_OK);
    ask(&f, "two", HS_FINISH_STOP);
    assert_string_equal(listing(&f), "user:one|user:two|assistant:Hello world");
    /* without an old answer an error leaves the question for another try */
    assert_int_equal(hs_dialogue_truncate(&f.conversation, 1, NULL), HS_OK);
    ask(&f, NULL, HS_FINISH_ERROR);
    assert_string_equal(listing(&f), "user:one");
    ask(&f, NULL, HS_FINISH_CANCELLED);
    assert_string_equal(listing(&f), "user:one|assistant:Hello world");
    close_one(&f);
}

static void a_copy_has_no_name(void **state)
{
    struct fixture f;
    open_one(&f, *state, "work", "be brief");
    ask(&f, "one", HS_FINISH_STOP);
    struct hs_dialogue copy = {0};
    assert_int_equal(hs_dialogue_copy(&f.conversation, &copy, NULL), HS_OK);
    struct hs_dialogue named = f.conversation;
    f.conversation = copy;
    assert_null(f.conversation.name);
    assert_string_equal(listing(&f), "system:be brief|user:one|assistant:Hello world");
    close_one(&(struct fixture){.test = f.test, .conversation = copy});
    f.conversation = named;
    close_one(&f);
}

static void a_refused_question_is_not_kept(void **state)
{
    struct fixture f;
    static const struct fake_answer refused = {.refuse = HS_CONTEXT_FULL,
                                               .error = {.message = "too long"}};
    open_one(&f, *state, NULL, NULL);
    fake_engine.answers = &refused;
    struct hs_generate_params params;
    hs_generate_params_defaults(&params);
    struct hs_token_source source;
    assert_int_equal(hs_dialogue_generate(&f.conversation, "x", &params, &source, &f.test->err),
                     HS_CONTEXT_FULL);
    assert_string_equal(listing(&f), "");
    close_one(&f);
}

static void memory_failures(void **state)
{
    struct api_test *test = *state;
    struct fixture f;
    open_one(&f, test, NULL, NULL);
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status != HS_OK; nth++) {
        assert_true(nth < 100);
        struct hs_dialogue c = {0};
        struct hs_message message = {0};
        hs_mem_fail_after(nth);
        status = hs_dialogue_open(f.engine, f.model_id, NULL, "system", HS_OVERFLOW_STOP, &c,
                                  &test->err);
        if (!status) {
            status = hs_dialogue_answered(&c, HS_FINISH_STOP, "a", "b", &test->err);
        }
        if (!status) {
            status = hs_dialogue_message(&c, 1, &message, &test->err);
        }
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        hs_message_free(&message);
        assert_int_equal(hs_dialogue_close(&c, NULL), HS_OK);
    }
    close_one(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_a_name, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(with_a_name, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(many_messages, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(an_error_takes_the_question_back, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(an_answer_given_anew, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_copy_has_no_name, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(a_refused_question_is_not_kept, api_setup, api_teardown),
        cmocka_unit_test_setup_teardown(memory_failures, api_setup, api_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
