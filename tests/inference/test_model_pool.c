/* The model pool: one load for all who ask, the budget, who leaves, keep-alive, failures. */
#include "engine_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "model_pool.h"

#define MIB ((uint64_t)1 << 20)
#define WAIT_MS 60000

static struct hs_error err;

/* Each model takes 10 MiB and its context: 1 KiB for each of 1024 cells. */
static const struct fake_config plain = {
    .weights_bytes = 9 * MIB, .kv_bytes_per_token = 512, .compute_bytes = MIB / 2};
#define EACH (10 * MIB)

struct fixture {
    hs_engine *engine;
    hs_model_pool *pool;
    atomic_int n_loaded, n_unloaded;
    bool has_seen_model;
};

static void on_loaded(void *user, const struct hs_model_info *info)
{
    struct fixture *f = user;
    struct hs_model_info now;
    f->has_seen_model = hs_engine_model_info(f->engine, info->id, &now, NULL) == HS_OK;
    atomic_fetch_add(&f->n_loaded, 1);
}

static void on_unloaded(void *user, const char *model_id)
{
    struct fixture *f = user;
    assert_true(strlen(model_id) > 0);
    atomic_fetch_add(&f->n_unloaded, 1);
}

static void add(struct fixture *f, const char *id, int64_t keep_alive_ms, bool is_pinned)
{
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    params.n_ctx = 1024;
    params.use_mmap = false; /* all have one file */
    struct hs_model_pool_entry entry = {.id = id,
                                        .path = test_model_path(),
                                        .params = &params,
                                        .keep_alive_ms = keep_alive_ms,
                                        .is_pinned = is_pinned};
    assert_int_equal(hs_model_pool_add(f->pool, &entry, &err), HS_OK);
}

/* With models "a" to "e". */
static void open_pool(struct fixture *f, uint64_t budget_bytes, int64_t keep_alive_ms)
{
    *f = (struct fixture){0};
    fake_runtime_reset(&plain);
    assert_int_equal(hs_engine_create_with_runtime(NULL, fake_runtime(), &f->engine, &err), HS_OK);
    struct hs_model_pool_params params;
    hs_model_pool_params_defaults(&params);
    assert_int_equal(params.keep_alive_ms, 300000);
    params.budget_bytes = budget_bytes;
    params.keep_alive_ms = keep_alive_ms;
    params.loaded = on_loaded;
    params.unloaded = on_unloaded;
    params.user = f;
    assert_int_equal(hs_model_pool_new(f->engine, &params, &f->pool, &err), HS_OK);
    static const char *const ids[] = {"a", "b", "c", "d", "e"};
    for (size_t i = 0; i < 5; i++) {
        add(f, ids[i], HS_KEEP_ALIVE_DEFAULT, false);
    }
}

static void close_pool(struct fixture *f)
{
    hs_model_pool_free(f->pool);
    hs_engine_free(f->engine);
    test_check_clean();
}

static hs_model_lease *ask(struct fixture *f, const char *id)
{
    hs_model_lease *lease = NULL;
    assert_int_equal(hs_model_pool_lease(f->pool, id, NULL, NULL, &lease, &err), HS_OK);
    return lease;
}

static hs_model_lease *take(struct fixture *f, const char *id)
{
    hs_model_lease *lease = ask(f, id);
    struct hs_model_info info;
    hs_status status = hs_model_lease_wait(lease, WAIT_MS, &info, &err);
    if (status != HS_OK) {
        fail_msg("%s: %s", id, err.message);
    }
    assert_string_equal(info.id, id);
    return lease;
}

static void use(struct fixture *f, const char *id)
{
    hs_model_lease_release(take(f, id));
}

static struct hs_model_pool_status status_of(struct fixture *f, const char *id)
{
    struct hs_model_pool_status status;
    assert_int_equal(hs_model_pool_get(f->pool, id, &status, &err), HS_OK);
    return status;
}

static void wait_for(struct fixture *f, const char *id, enum hs_model_pool_state state)
{
    int64_t end = hs_clock_ns() + (int64_t)WAIT_MS * 1000000;
    while (status_of(f, id).state != state) {
        assert_true(hs_clock_ns() < end);
        usleep(500);
    }
}

static uint64_t used(struct fixture *f)
{
    struct hs_pool_memory memory;
    hs_model_pool_memory(f->pool, &memory);
    return memory.used_bytes;
}

/* ---- loading ---- */

static void a_model_loads_when_it_is_asked_for_and_once(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 3 * EACH, -1);
    assert_int_equal(status_of(&f, "a").state, HS_MODEL_POOL_COLD);
    assert_int_equal(used(&f), 0);
    hs_model_lease *leases[8];
    for (size_t i = 0; i < 8; i++) {
        leases[i] = ask(&f, "a");
    }
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(hs_model_lease_wait(leases[i], WAIT_MS, NULL, &err), HS_OK);
    }
    struct hs_model_pool_status now = status_of(&f, "a");
    assert_int_equal(now.state, HS_MODEL_POOL_READY);
    assert_int_equal(now.n_leases, 8);
    assert_int_equal(now.n_waiting, 0);
    assert_int_equal(now.n_uses, 8);
    assert_int_equal(now.n_loads, 1);
    assert_int_equal(now.unused_ms, -1);
    assert_int_equal(now.expires_ms, -1);
    assert_int_equal(atomic_load(&f.n_loaded), 1);
    assert_true(f.has_seen_model);
    assert_int_equal(used(&f), EACH);
    assert_int_equal(now.memory.weights_bytes, 9 * MIB);
    for (size_t i = 0; i < 8; i++) {
        hs_model_lease_release(leases[i]);
    }
    assert_int_equal(status_of(&f, "a").n_leases, 0);
    assert_true(status_of(&f, "a").unused_ms >= 0);
    assert_int_equal(test_counters().n_models, 1);
    close_pool(&f);
}

static atomic_int n_told;

static void count_told(void *user)
{
    (void)user;
    atomic_fetch_add(&n_told, 1);
}

static void who_asks_is_told_unless_he_has_it_at_once(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 3 * EACH, -1);
    atomic_store(&n_told, 0);
    hs_model_lease *first = NULL, *second = NULL;
    assert_int_equal(hs_model_pool_lease(f.pool, "a", count_told, NULL, &first, &err), HS_OK);
    assert_int_equal(hs_model_lease_wait(first, WAIT_MS, NULL, &err), HS_OK);
    assert_int_equal(atomic_load(&n_told), 1);
    assert_int_equal(hs_model_pool_lease(f.pool, "a", count_told, NULL, &second, &err), HS_OK);
    assert_int_equal(hs_model_lease_state(second, NULL, &err), HS_OK);
    assert_int_equal(atomic_load(&n_told), 1);
    hs_model_lease_release(first);
    hs_model_lease_release(second);
    close_pool(&f);
}

static void a_failed_load_tells_everybody_why(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 3 * EACH, -1);
    struct hs_model_pool_entry entry = {
        .id = "gone", .path = "/nowhere/gone.gguf", .keep_alive_ms = HS_KEEP_ALIVE_DEFAULT};
    assert_int_equal(hs_model_pool_add(f.pool, &entry, &err), HS_OK);
    hs_model_lease *good = take(&f, "a");
    hs_model_lease *one = ask(&f, "gone"), *two = ask(&f, "gone");
    assert_int_equal(hs_model_lease_wait(one, WAIT_MS, NULL, &err), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere/gone.gguf"));
    assert_int_equal(hs_model_lease_wait(two, WAIT_MS, NULL, &err), HS_NOT_FOUND);
    struct hs_model_pool_status now = status_of(&f, "gone");
    assert_int_equal(now.state, HS_MODEL_POOL_COLD);
    assert_int_equal(now.failure.status, HS_NOT_FOUND);
    assert_int_equal(hs_model_lease_state(good, NULL, &err), HS_OK);
    hs_model_lease_release(one);
    hs_model_lease_release(two);
    hs_model_lease_release(good);
    close_pool(&f);
}

static void names_and_parameters_are_checked(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, EACH, -1);
    hs_model_lease *lease = NULL;
    assert_int_equal(hs_model_pool_lease(f.pool, "x", NULL, NULL, &lease, &err), HS_NOT_FOUND);
    assert_int_equal(hs_model_pool_pin(f.pool, "x", true, &err), HS_NOT_FOUND);
    assert_int_equal(hs_model_pool_unload(f.pool, "x", &err), HS_NOT_FOUND);
    assert_int_equal(hs_model_pool_remove(f.pool, "x", &err), HS_NOT_FOUND);
    struct hs_model_pool_entry entry = {.id = "a", .path = "p"};
    assert_int_equal(hs_model_pool_add(f.pool, &entry, &err), HS_ALREADY_EXISTS);
    char name[HS_ID_MAX + 1];
    memset(name, 'x', sizeof name - 1);
    name[HS_ID_MAX] = '\0';
    entry.id = name;
    assert_int_equal(hs_model_pool_add(f.pool, &entry, &err), HS_INVALID_ARGUMENT);
    entry.id = name + 1; /* the longest */
    assert_int_equal(hs_model_pool_add(f.pool, &entry, &err), HS_OK);
    entry = (struct hs_model_pool_entry){.id = "", .path = "p"};
    assert_int_equal(hs_model_pool_add(f.pool, &entry, &err), HS_INVALID_ARGUMENT);
    entry = (struct hs_model_pool_entry){.id = "y", .path = ""};
    assert_int_equal(hs_model_pool_add(f.pool, &entry, &err), HS_INVALID_ARGUMENT);
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    params.n_seq_max = 257;
    entry = (struct hs_model_pool_entry){.id = "y", .path = "p", .params = &params};
    assert_int_equal(hs_model_pool_add(f.pool, &entry, &err), HS_INVALID_ARGUMENT);
    size_t n = 0;
    struct hs_model_pool_status list[2];
    hs_model_pool_list(f.pool, list, 2, &n);
    assert_int_equal(n, 6);
    assert_string_equal(list[1].id, "b");
    assert_int_equal(hs_model_pool_remove(f.pool, "a", &err), HS_OK);
    hs_model_pool_list(f.pool, list, 2, &n);
    assert_int_equal(n, 5);
    assert_string_equal(list[0].id, "b");
    close_pool(&f);
}

/* ---- the budget ---- */

static void the_budget_is_kept_to_the_byte(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 2 * EACH, -1);
    use(&f, "a");
    use(&f, "b");
    assert_int_equal(used(&f), 2 * EACH);
    assert_int_equal(atomic_load(&f.n_unloaded), 0);
    close_pool(&f);
    open_pool(&f, 2 * EACH - 1, -1);
    use(&f, "a");
    use(&f, "b");
    assert_int_equal(atomic_load(&f.n_unloaded), 1);
    assert_int_equal(status_of(&f, "a").state, HS_MODEL_POOL_COLD);
    assert_int_equal(used(&f), EACH);
    close_pool(&f);
}

static void what_is_used_most_stays(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 2 * EACH, -1);
    use(&f, "a");
    struct hs_model_pool_status loaded = status_of(&f, "a");
    /* Its load took any time: so often that it is worth more than one use of "b". */
    for (int i = 0; i < 20000 && loaded.load_ms > 0; i++) {
        use(&f, "a");
    }
    use(&f, "b");
    use(&f, "c");
    assert_int_equal(status_of(&f, "a").state, HS_MODEL_POOL_READY);
    assert_int_equal(status_of(&f, "b").state, HS_MODEL_POOL_COLD);
    assert_int_equal(status_of(&f, "c").state, HS_MODEL_POOL_READY);
    close_pool(&f);
}

static void one_that_can_never_fit_is_refused_with_what_is_missing(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 2 * EACH, -1);
    assert_int_equal(hs_model_pool_pin(f.pool, "a", true, &err), HS_OK);
    assert_int_equal(hs_model_pool_pin(f.pool, "b", true, &err), HS_OK);
    use(&f, "a");
    use(&f, "b");
    hs_model_lease *lease = ask(&f, "c");
    assert_int_equal(hs_model_lease_wait(lease, WAIT_MS, NULL, &err), HS_MODEL_TOO_LARGE);
    assert_non_null(strstr(err.message, "too little"));
    hs_model_lease_release(lease);
    /* the others run on, and when one may leave there is room */
    assert_int_equal(status_of(&f, "a").state, HS_MODEL_POOL_READY);
    assert_int_equal(hs_model_pool_pin(f.pool, "a", false, &err), HS_OK);
    use(&f, "c");
    assert_int_equal(status_of(&f, "a").state, HS_MODEL_POOL_COLD);
    assert_int_equal(status_of(&f, "b").state, HS_MODEL_POOL_READY);
    close_pool(&f);
}

static void one_in_use_leaves_when_its_leases_end_and_new_ones_wait_behind(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, EACH, -1);
    hs_model_lease *a = take(&f, "a");
    hs_model_lease *b = ask(&f, "b");
    wait_for(&f, "b", HS_MODEL_POOL_WAITING);
    assert_int_equal(hs_model_lease_wait(b, 20, NULL, &err), HS_BUSY);
    hs_model_lease *again = ask(&f, "a"); /* would keep "a" for ever otherwise */
    assert_int_equal(hs_model_lease_state(again, NULL, &err), HS_BUSY);
    hs_model_lease_release(a);
    assert_int_equal(hs_model_lease_wait(b, WAIT_MS, NULL, &err), HS_OK);
    assert_int_equal(hs_model_lease_state(again, NULL, &err), HS_BUSY);
    hs_model_lease_release(b);
    assert_int_equal(hs_model_lease_wait(again, WAIT_MS, NULL, &err), HS_OK);
    assert_int_equal(status_of(&f, "a").n_loads, 2);
    hs_model_lease_release(again);
    close_pool(&f);
}

static void when_nobody_waits_any_more_the_one_in_use_stays(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, EACH, -1);
    hs_model_lease *a = take(&f, "a");
    hs_model_lease *b = ask(&f, "b");
    wait_for(&f, "b", HS_MODEL_POOL_WAITING);
    hs_model_lease *again = ask(&f, "a");
    hs_model_lease_release(b);
    assert_int_equal(hs_model_lease_wait(again, WAIT_MS, NULL, &err), HS_OK);
    wait_for(&f, "b", HS_MODEL_POOL_COLD);
    assert_int_equal(status_of(&f, "a").n_loads, 1);
    hs_model_lease_release(a);
    hs_model_lease_release(again);
    close_pool(&f);
}

static void mapped_weights_of_one_file_count_once(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 3 * EACH, -1);
    struct hs_model_params params;
    hs_model_params_defaults(&params);
    params.n_ctx = 1024;
    params.use_mmap = true;
    struct hs_model_pool_entry entry = {
        .path = test_model_path(), .params = &params, .keep_alive_ms = HS_KEEP_ALIVE_DEFAULT};
    static const char *const ids[] = {"one", "two", "three"};
    for (size_t i = 0; i < 3; i++) {
        entry.id = ids[i];
        assert_int_equal(hs_model_pool_add(f.pool, &entry, &err), HS_OK);
        use(&f, ids[i]);
    }
    assert_int_equal(used(&f), 9 * MIB + 3 * MIB);
    assert_int_equal(hs_model_pool_unload(f.pool, "one", &err), HS_OK);
    assert_int_equal(used(&f), 9 * MIB + 2 * MIB);
    close_pool(&f);
}

/* ---- leaving ---- */

static void unused_ones_leave_after_their_time(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 5 * EACH, 3600000);
    add(&f, "short", 1, false);
    add(&f, "pinned", 1, true);
    use(&f, "a");
    use(&f, "pinned");
    use(&f, "short");
    wait_for(&f, "short", HS_MODEL_POOL_COLD);
    assert_int_equal(atomic_load(&f.n_unloaded), 1);
    struct hs_model_pool_status now = status_of(&f, "a");
    assert_int_equal(now.state, HS_MODEL_POOL_READY);
    assert_true(now.expires_ms > 3500000 && now.expires_ms <= 3600000);
    assert_int_equal(status_of(&f, "pinned").state, HS_MODEL_POOL_READY);
    assert_int_equal(status_of(&f, "pinned").expires_ms, -1);
    /* a request may say otherwise */
    hs_model_lease *lease = take(&f, "a");
    hs_model_lease_keep_alive(lease, 0);
    hs_model_lease_release(lease);
    wait_for(&f, "a", HS_MODEL_POOL_COLD);
    lease = take(&f, "a");
    hs_model_lease_keep_alive(lease, HS_KEEP_ALIVE_DEFAULT);
    hs_model_lease_release(lease);
    assert_true(status_of(&f, "a").expires_ms > 3500000);
    close_pool(&f);
}

static void unloading_by_hand_is_refused_while_it_is_used(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 2 * EACH, -1);
    assert_int_equal(hs_model_pool_unload(f.pool, "a", &err), HS_OK); /* there is nothing to do */
    hs_model_lease *lease = take(&f, "a");
    assert_int_equal(hs_model_pool_unload(f.pool, "a", &err), HS_BUSY);
    assert_int_equal(hs_model_pool_remove(f.pool, "a", &err), HS_BUSY);
    hs_model_lease_release(lease);
    assert_int_equal(hs_model_pool_remove(f.pool, "a", &err), HS_BUSY); /* it is loaded */
    assert_int_equal(hs_model_pool_unload(f.pool, "a", &err), HS_OK);
    assert_int_equal(test_counters().n_models, 0);
    assert_int_equal(hs_model_pool_remove(f.pool, "a", &err), HS_OK);
    close_pool(&f);
}

static void a_session_keeps_its_model(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, EACH, -1);
    use(&f, "a");
    struct hs_session_params params;
    hs_session_params_defaults(&params);
    params.model_id = "a";
    char session[HS_ID_MAX];
    assert_int_equal(hs_engine_create_session(f.engine, &params, session, &err), HS_OK);
    assert_int_equal(hs_model_pool_unload(f.pool, "a", &err), HS_BUSY);
    hs_model_lease *b = ask(&f, "b");
    assert_int_equal(hs_model_lease_wait(b, 30, NULL, &err), HS_BUSY);
    assert_int_equal(hs_engine_close_session(f.engine, session, &err), HS_OK);
    assert_int_equal(hs_model_lease_wait(b, WAIT_MS, NULL, &err), HS_OK);
    hs_model_lease_release(b);
    close_pool(&f);
}

static void a_machine_with_less_room_than_the_budget_unloads_too(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 100 * EACH, -1);
    use(&f, "a");
    struct fake_config config = plain;
    /* nothing fits beside what there is, so "a" leaves, and even that does not help here */
    config.available_bytes = EACH;
    fake_runtime_reset(&config);
    hs_model_lease *b = ask(&f, "b");
    assert_int_equal(hs_model_lease_wait(b, WAIT_MS, NULL, &err), HS_MODEL_TOO_LARGE);
    hs_model_lease_release(b);
    hs_model_pool_free(f.pool);
    hs_engine_free(f.engine);
}

/* ---- all at once ---- */

#define N_THREADS 8

struct client {
    pthread_t thread;
    struct fixture *f;
    int n_turns;
    unsigned seed;
    int n_wrong;
};

/* cmocka's asserts are for the main thread. */
static bool answers_right(hs_engine *engine, const char *id, const char *text)
{
    int32_t tokens[64];
    char expected[64], got[64] = "";
    size_t len = 0, n = fake_tokenize(text, tokens);
    fake_answer(tokens, n, 4, 1024, expected);
    struct hs_generate_params params = test_params(4);
    struct hs_error own;
    struct hs_event event = {.type = HS_EVENT_TEXT};
    hs_stream *stream = NULL;
    hs_status status = hs_engine_complete(engine, id, NULL, 0, tokens, n, &params, &stream, &own);
    while (status == HS_OK && event.type != HS_EVENT_DONE) {
        status = hs_stream_next(stream, WAIT_MS, &event, &own);
        if (status == HS_OK && event.type == HS_EVENT_TEXT && len + event.text_len < sizeof got) {
            memcpy(got + len, event.text, event.text_len + 1);
            len += event.text_len;
        }
    }
    hs_stream_free(stream);
    return status == HS_OK && strcmp(got, expected) == 0;
}

static void *ask_at_random(void *user)
{
    struct client *client = user;
    for (int i = 0; i < client->n_turns; i++) {
        client->seed = client->seed * 1103515245u + 12345u;
        char id[2] = {(char)('a' + (client->seed >> 16) % 5), '\0'};
        char text[40];
        snprintf(text, sizeof text, "text %u of %s<|gen|>", client->seed, id);
        struct hs_error own;
        hs_model_lease *lease = NULL;
        hs_status status = hs_model_pool_lease(client->f->pool, id, NULL, NULL, &lease, &own);
        bool gives_up = i % 13 == 12; /* some do not wait */
        if (status == HS_OK && !gives_up) {
            status = hs_model_lease_wait(lease, WAIT_MS, NULL, &own);
            client->n_wrong += status == HS_OK && !answers_right(client->f->engine, id, text);
        }
        client->n_wrong += status != HS_OK;
        hs_model_lease_release(lease);
    }
    return NULL;
}

static void random_requests_over_five_models_in_room_for_two(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, 2 * EACH, 2);
    struct client clients[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        clients[i] = (struct client){.f = &f, .n_turns = 60, .seed = (unsigned)i * 7919u + 1};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, ask_at_random, &clients[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_int_equal(clients[i].n_wrong, 0);
    }
    assert_true(used(&f) <= 2 * EACH);
    assert_true(atomic_load(&f.n_loaded) > 5);
    close_pool(&f);
}

static void a_thousand_loads_and_unloads(void **state)
{
    (void)state;
    struct fixture f;
    open_pool(&f, EACH, -1);
    for (int i = 0; i < 1000; i++) {
        use(&f, i % 2 == 0 ? "a" : "b");
        assert_true(test_counters().n_models <= 1);
    }
    assert_int_equal(status_of(&f, "a").n_loads, 500);
    assert_int_equal(status_of(&f, "b").n_loads, 500);
    close_pool(&f);
}

static void nothing_is_lost_without_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 40; n++) {
        struct fixture f;
        open_pool(&f, 2 * EACH, -1);
        hs_mem_fail_after(n);
        struct hs_model_pool_entry entry = {.id = "new", .path = test_model_path()};
        hs_status status = hs_model_pool_add(f.pool, &entry, &err);
        hs_model_lease *lease = NULL;
        if (status == HS_OK) {
            status = hs_model_pool_lease(f.pool, "a", NULL, NULL, &lease, &err);
        }
        if (status == HS_OK) {
            status = hs_model_lease_wait(lease, WAIT_MS, NULL, &err);
        }
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        hs_model_lease_release(lease);
        use(&f, "b");
        close_pool(&f);
    }
}

static void states_have_names(void **state)
{
    (void)state;
    assert_string_equal(hs_model_pool_state_name(HS_MODEL_POOL_COLD), "cold");
    assert_string_equal(hs_model_pool_state_name(HS_MODEL_POOL_LEAVING), "leaving");
    assert_string_equal(hs_model_pool_state_name((enum hs_model_pool_state)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_loads_when_it_is_asked_for_and_once),
        cmocka_unit_test(who_asks_is_told_unless_he_has_it_at_once),
        cmocka_unit_test(a_failed_load_tells_everybody_why),
        cmocka_unit_test(names_and_parameters_are_checked),
        cmocka_unit_test(the_budget_is_kept_to_the_byte),
        cmocka_unit_test(what_is_used_most_stays),
        cmocka_unit_test(one_that_can_never_fit_is_refused_with_what_is_missing),
        cmocka_unit_test(one_in_use_leaves_when_its_leases_end_and_new_ones_wait_behind),
        cmocka_unit_test(when_nobody_waits_any_more_the_one_in_use_stays),
        cmocka_unit_test(mapped_weights_of_one_file_count_once),
        cmocka_unit_test(unused_ones_leave_after_their_time),
        cmocka_unit_test(unloading_by_hand_is_refused_while_it_is_used),
        cmocka_unit_test(a_session_keeps_its_model),
        cmocka_unit_test(a_machine_with_less_room_than_the_budget_unloads_too),
        cmocka_unit_test(random_requests_over_five_models_in_room_for_two),
        cmocka_unit_test(a_thousand_loads_and_unloads),
        cmocka_unit_test(nothing_is_lost_without_memory),
        cmocka_unit_test(states_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
