/* Names, versions, leases and the memory of adapters, with files that are slow when told to. */
#include "adapter_test.h"

#include <math.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/fs.h"

static struct hs_error err;
static struct hs_model model = {.info = {.id = "m"}, .cache_key = "base"};
static struct hs_model other = {.info = {.id = "other"}, .cache_key = "other"};
static struct adapter_files *files;
static hs_adapter_pool *pool;

static void open_pool(uint64_t budget, const struct fake_lora_config *config)
{
    fake_runtime_reset(NULL);
    fake_lora_reset(config);
    model.context_params.has_adapters = other.context_params.has_adapters = true;
    files = adapter_files_new();
    struct hs_adapter_pool_params params = {
        .rt = fake_runtime(), .budget_bytes = budget, .reader = adapter_files_reader(files)};
    assert_int_equal(hs_adapter_pool_new(&params, &pool, &err), HS_OK);
}

static void close_pool(void)
{
    hs_adapter_pool_free(pool);
    adapter_files_free(files);
    test_check_clean();
}

static hs_status try_register(const char *name, const char *path)
{
    struct hs_adapter_params params = test_adapter_params(name, path);
    return hs_adapter_pool_register(pool, &model, &params, &err);
}

static void add(const char *name, const char *text)
{
    if (try_register(name, adapter_file(files, name, text)) != HS_OK) {
        fail_msg("%s", err.message);
    }
}

static hs_status try_replace(const char *name, const char *path)
{
    struct hs_adapter_params params = test_adapter_params(name, path);
    return hs_adapter_pool_replace(pool, &model, &params, &err);
}

static struct hs_adapter_info info_of(const char *name)
{
    struct hs_adapter_info info;
    assert_int_equal(hs_adapter_pool_info(pool, name, &info, &err), HS_OK);
    return info;
}

static hs_status try_lease(const char *name, float scale, hs_adapter_lease **ret_lease)
{
    struct hs_adapter_ref ref = {.name = name, .scale = scale};
    return hs_adapter_lease_take(pool, &model, &ref, 1, NULL, NULL, ret_lease, &err);
}

static hs_adapter_lease *lease(const char *name)
{
    hs_adapter_lease *taken = NULL;
    if (try_lease(name, 1, &taken) != HS_OK) {
        fail_msg("%s", err.message);
    }
    return taken;
}

static hs_adapter_lease *lease_two(const char *a, const char *b)
{
    struct hs_adapter_ref refs[] = {{a, 1}, {b, 1}};
    hs_adapter_lease *taken = NULL;
    assert_int_equal(hs_adapter_lease_take(pool, &model, refs, 2, NULL, NULL, &taken, &err), HS_OK);
    return taken;
}

static enum hs_adapter_lease_state wait_for(const hs_adapter_lease *taken)
{
    double until_ms = hs_clock_ms() + 60000;
    while (hs_adapter_lease_state(taken) == HS_ADAPTER_LEASE_WAITING && hs_clock_ms() < until_ms) {
        test_sleep_ms(1);
    }
    return hs_adapter_lease_state(taken);
}

static int32_t effect(const hs_adapter_lease *taken)
{
    assert_int_equal(wait_for(taken), HS_ADAPTER_LEASE_READY);
    return fake_effect(hs_adapter_lease_set(taken));
}

static struct fake_lora_counters counters(void)
{
    struct fake_lora_counters now;
    fake_lora_counters(&now);
    return now;
}

static void wait_alive(int32_t n)
{
    double until_ms = hs_clock_ms() + 60000;
    while (counters().n_alive != n && hs_clock_ms() < until_ms) {
        test_sleep_ms(1);
    }
    assert_int_equal(counters().n_alive, n);
}

/* ---- names ---- */

static void a_registered_adapter_is_not_read(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("french", "7");
    struct hs_adapter_info info = info_of("french");
    assert_string_equal(info.name, "french");
    assert_string_equal(info.model_id, "m");
    assert_string_equal(strrchr(info.path, '/'), "/french");
    assert_int_equal(info.state, HS_ADAPTER_REGISTERED);
    assert_int_equal(info.bytes, 0);
    assert_int_equal(strlen(info.version), 16);
    assert_true(info.registered_unix_ms > 0);
    assert_int_equal(info.last_used_unix_ms, 0);
    assert_int_equal(adapter_files_n_read(files), 0);
    assert_int_equal(counters().n_prepared, 0);
    close_pool();
}

static void what_cannot_be_registered_is_said(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "1");
    const char *path = adapter_file(files, "b", "2");
    assert_int_equal(try_register("a", path), HS_ALREADY_EXISTS);
    assert_non_null(strstr(err.message, "'a'"));
    assert_int_equal(try_register(NULL, path), HS_INVALID_ARGUMENT);
    assert_int_equal(try_register("", path), HS_INVALID_ARGUMENT);
    assert_int_equal(try_register("a b", path), HS_INVALID_ARGUMENT);
    assert_int_equal(try_register(".a", path), HS_INVALID_ARGUMENT);
    char name[HS_ADAPTER_NAME_SIZE + 1];
    memset(name, 'n', sizeof(name));
    name[HS_ADAPTER_NAME_SIZE] = '\0';
    assert_int_equal(try_register(name, path), HS_INVALID_ARGUMENT);
    name[HS_ADAPTER_NAME_SIZE - 1] = '\0';
    assert_int_equal(try_register(name, path), HS_OK);
    assert_int_equal(try_register("c", "/nowhere/at/all"), HS_NOT_FOUND);
    assert_int_equal(try_register("c", NULL), HS_INVALID_ARGUMENT);
    char long_path[HS_ADAPTER_PATH_SIZE + 1];
    memset(long_path, '/', sizeof(long_path));
    long_path[HS_ADAPTER_PATH_SIZE] = '\0';
    assert_int_equal(try_register("c", long_path), HS_LIMIT);
    long_path[HS_ADAPTER_PATH_SIZE - 1] = '\0';
    assert_int_equal(try_register("c", long_path), HS_OK); /* the root folder */
    struct fake_weights weights;
    struct hs_adapter_params params = {
        .name = "d", .model_id = "m", .path = path, .weights = fake_lora(&weights, 1)};
    assert_int_equal(hs_adapter_pool_register(pool, &model, &params, &err), HS_INVALID_ARGUMENT);
    params.weights = NULL;
    params.version = "1/2";
    assert_int_equal(hs_adapter_pool_register(pool, &model, &params, &err), HS_INVALID_ARGUMENT);
    params.version = "2024-01";
    assert_int_equal(hs_adapter_pool_register(pool, &model, &params, &err), HS_OK);
    assert_string_equal(info_of("d").version, "2024-01");
    close_pool();
}

static void without_a_budget_there_are_no_adapters(void **state)
{
    (void)state;
    open_pool(0, NULL);
    assert_int_equal(try_register("a", adapter_file(files, "a", "1")), HS_NOT_SUPPORTED);
    assert_non_null(strstr(err.hint, "--adapter-memory"));
    close_pool();
}

static void there_is_a_limit_of_names(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    char path[512];
    snprintf(path, sizeof(path), "%s", adapter_file(files, "one.gguf", "1"));
    char name[32];
    for (int32_t i = 0; i < HS_ADAPTERS_MAX; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(try_register(name, path), HS_OK);
    }
    assert_int_equal(try_register("more", path), HS_LIMIT);
    assert_int_equal(hs_adapter_pool_unregister(pool, "n77", &err), HS_OK);
    assert_int_equal(try_register("more", path), HS_OK);
    hs_adapter_lease *taken = lease("n16000");
    assert_int_equal(effect(taken), 1);
    hs_adapter_lease_free(taken, NULL);
    assert_int_equal(adapter_files_n_read(files), 1);
    close_pool();
}

static void an_unknown_name_is_told_with_those_that_fit(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    hs_adapter_lease *taken = NULL;
    assert_int_equal(try_lease("x", 1, &taken), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "it has none"));
    struct hs_adapter_params params = {
        .name = "foreign", .model_id = "other", .path = adapter_file(files, "f", "1")};
    assert_int_equal(hs_adapter_pool_register(pool, &other, &params, &err), HS_OK);
    add("beta", "1");
    add("alpha", "1");
    assert_int_equal(try_lease("x", 1, &taken), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, "it has alpha, beta"));
    assert_null(strstr(err.message, "foreign"));
    assert_int_equal(try_lease("x", 0, &taken), HS_NOT_FOUND); /* never ignored */
    assert_int_equal(try_lease("foreign", 1, &taken), HS_MISMATCH);
    assert_non_null(strstr(err.message, "'other'"));
    char name[32];
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "many-of-them-%d", i);
        add(name, "1");
    }
    assert_int_equal(try_lease("x", 1, &taken), HS_NOT_FOUND);
    assert_non_null(strstr(err.message, " more"));
    struct hs_adapter_info info;
    assert_int_equal(hs_adapter_pool_info(pool, "x", &info, &err), HS_NOT_FOUND);
    assert_int_equal(hs_adapter_pool_info(pool, NULL, &info, &err), HS_NOT_FOUND);
    assert_int_equal(hs_adapter_pool_unregister(pool, "x", &err), HS_NOT_FOUND);
    assert_int_equal(hs_adapter_pool_unload(pool, "x", &err), HS_NOT_FOUND);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "x", &err), HS_NOT_FOUND);
    assert_int_equal(try_replace("x", adapter_file(files, "f", "1")), HS_NOT_FOUND);
    close_pool();
}

static void adapters_are_listed_by_name(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("c", "1");
    add("a", "1");
    add("b", "1");
    struct hs_adapter_params params = {
        .name = "aa", .model_id = "other", .path = adapter_file(files, "f", "1")};
    assert_int_equal(hs_adapter_pool_register(pool, &other, &params, &err), HS_OK);
    struct hs_adapter_info *infos = NULL;
    size_t n = 0;
    assert_int_equal(hs_adapter_pool_list(pool, NULL, &infos, &n, &err), HS_OK);
    assert_int_equal(n, 4);
    assert_string_equal(infos[1].name, "aa");
    hs_adapter_infos_free(infos);
    assert_int_equal(hs_adapter_pool_list(pool, "m", &infos, &n, &err), HS_OK);
    assert_int_equal(n, 3);
    assert_string_equal(infos[0].name, "a");
    assert_string_equal(infos[2].name, "c");
    hs_adapter_infos_free(infos);
    hs_adapter_pool_drop(pool, &model);
    assert_int_equal(hs_adapter_pool_list(pool, NULL, &infos, &n, &err), HS_OK);
    assert_int_equal(n, 1);
    hs_adapter_infos_free(infos);
    close_pool();
}

/* ---- loading ---- */

static void a_lease_loads_and_the_next_one_finds_it(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "3");
    adapter_files_hold(files, "a");
    hs_adapter_lease *first = lease("a");
    adapter_files_wait(files, 1);
    assert_int_equal(hs_adapter_lease_state(first), HS_ADAPTER_LEASE_WAITING);
    assert_int_equal(info_of("a").state, HS_ADAPTER_LOADING);
    adapter_files_hold(files, "");
    assert_int_equal(effect(first), 3);
    hs_adapter_lease *second = lease("a");
    assert_int_equal(hs_adapter_lease_state(second), HS_ADAPTER_LEASE_READY);
    struct hs_usage usage = {.prompt_tokens = 5, .completion_tokens = 6, .decode_ms = 2};
    hs_adapter_lease_free(first, &usage);
    assert_int_equal(info_of("a").n_active, 1);
    hs_adapter_lease_free(second, &usage);
    struct hs_adapter_info info = info_of("a");
    assert_int_equal(info.state, HS_ADAPTER_READY);
    assert_int_equal(info.bytes, 100);
    assert_int_equal(info.n_active, 0);
    assert_int_equal(info.n_uses, 2);
    assert_int_equal(info.n_loads, 1);
    assert_int_equal(info.n_prompt_tokens, 10);
    assert_int_equal(info.n_generated_tokens, 12);
    assert_true(info.decode_ms == 4);
    assert_true(info.load_ms > 0);
    assert_true(info.last_used_unix_ms >= info.registered_unix_ms);
    assert_int_equal(adapter_files_n_read(files), 1);
    struct hs_model_stats stats = {0};
    hs_adapter_pool_stats(pool, &model, &stats);
    assert_int_equal(stats.n_adapters, 1);
    assert_int_equal(stats.n_adapters_ready, 1);
    assert_int_equal(stats.adapter_bytes, 100);
    close_pool();
}

static void scales_of_zero_are_absent(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "3");
    add("b", "10");
    hs_adapter_lease *taken = NULL;
    assert_int_equal(try_lease("a", 0, &taken), HS_OK);
    assert_null(taken);
    struct hs_adapter_ref refs[] = {{"a", 0}, {"b", -2}};
    assert_int_equal(hs_adapter_lease_take(pool, &model, refs, 2, NULL, NULL, &taken, &err), HS_OK);
    assert_int_equal(effect(taken), -20);
    assert_int_equal(hs_adapter_lease_set(taken)->n, 1);
    hs_adapter_lease *alone = NULL;
    assert_int_equal(try_lease("b", -2, &alone), HS_OK);
    assert_string_equal(hs_adapter_lease_key(taken), hs_adapter_lease_key(alone));
    hs_adapter_lease_free(alone, NULL);
    hs_adapter_lease_free(taken, NULL);
    assert_int_equal(adapter_files_n_read(files), 1);
    close_pool();
}

static void refused_references(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "3");
    hs_adapter_lease *taken = NULL;
    assert_int_equal(try_lease("a", NAN, &taken), HS_INVALID_ARGUMENT);
    assert_int_equal(try_lease("a", INFINITY, &taken), HS_INVALID_ARGUMENT);
    struct hs_adapter_ref refs[65] = {{"a", 1}, {"a", 2}};
    assert_int_equal(hs_adapter_lease_take(pool, &model, refs, 2, NULL, NULL, &taken, &err),
                     HS_INVALID_ARGUMENT);
    assert_int_equal(hs_adapter_lease_take(pool, &model, refs, -1, NULL, NULL, &taken, &err),
                     HS_INVALID_ARGUMENT);
    char names[65][8];
    for (int i = 0; i < 65; i++) {
        snprintf(names[i], sizeof(names[i]), "n%d", i);
        add(names[i], "1");
        refs[i] = (struct hs_adapter_ref){names[i], 0.5f};
    }
    assert_int_equal(hs_adapter_lease_take(pool, &model, refs, 65, NULL, NULL, &taken, &err),
                     HS_LIMIT);
    assert_int_equal(hs_adapter_pool_check(pool, &model, refs, 65, &err), HS_LIMIT);
    assert_int_equal(hs_adapter_pool_check(pool, &model, refs, 64, &err), HS_OK);
    assert_int_equal(info_of("n0").n_uses, 0);
    close_pool();
}

static void keys_tell_names_scales_and_content_apart(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "3");
    add("b", "3");
    const struct hs_adapter_ref sets[][2] = {
        {{"a", 1}, {"b", 0}},  {{"b", 1}, {"a", 0}}, {{"a", 2}, {"b", 0}},
        {{"a", -1}, {"b", 0}}, {{"a", 1}, {"b", 1}}, {{"a", 1}, {"b", 2}},
    };
    char keys[8][HS_CACHE_KEY_MAX] = {"base"};
    hs_adapter_lease *taken = NULL;
    size_t n = 1;
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(hs_adapter_lease_take(pool, &model, sets[i], 2, NULL, NULL, &taken, &err),
                         HS_OK);
        memcpy(keys[n++], hs_adapter_lease_key(taken), HS_CACHE_KEY_MAX);
        hs_adapter_lease_free(taken, NULL);
    }
    /* The same path and label, another content. */
    assert_int_equal(try_replace("a", adapter_file(files, "a", "4")), HS_OK);
    taken = lease("a");
    memcpy(keys[n++], hs_adapter_lease_key(taken), HS_CACHE_KEY_MAX);
    hs_adapter_lease_free(taken, NULL);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            assert_string_not_equal(keys[i], keys[k]);
        }
    }
    struct hs_adapter_ref turned[] = {{"b", 1}, {"a", 1}};
    hs_adapter_lease *two = lease_two("a", "b");
    assert_int_equal(hs_adapter_lease_take(pool, &model, turned, 2, NULL, NULL, &taken, &err),
                     HS_OK);
    assert_string_equal(hs_adapter_lease_key(two), hs_adapter_lease_key(taken));
    hs_adapter_lease_free(two, NULL);
    hs_adapter_lease_free(taken, NULL);
    close_pool();
}

static void a_failed_load_is_told_and_tried_again(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "bad");
    add("b", "1");
    assert_int_equal(hs_adapter_pool_load(pool, &model, "b", &err), HS_OK);
    hs_adapter_lease *taken = lease("a");
    hs_adapter_lease *both = lease_two("b", "a");
    assert_int_equal(wait_for(taken), HS_ADAPTER_LEASE_FAILED);
    assert_int_equal(wait_for(both), HS_ADAPTER_LEASE_FAILED);
    assert_int_equal(hs_adapter_lease_error(taken)->status, HS_BAD_FORMAT);
    assert_non_null(strstr(hs_adapter_lease_error(taken)->message, "adapter 'a': it is damaged"));
    hs_adapter_lease_free(taken, NULL);
    hs_adapter_lease_free(both, NULL);
    struct hs_adapter_info info = info_of("a");
    assert_int_equal(info.state, HS_ADAPTER_FAILED);
    assert_int_equal(info.error.status, HS_BAD_FORMAT);
    assert_int_equal(info.n_loads, 0);
    int32_t n_read = adapter_files_n_read(files);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_BAD_FORMAT);
    assert_int_equal(adapter_files_n_read(files), n_read + 1);
    /* Mended under the pool's hands: it is another content, and has to be said. */
    (void)adapter_file(files, "a", "5");
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_MISMATCH);
    assert_non_null(strstr(err.message, "has changed"));
    assert_int_equal(try_replace("a", adapter_file(files, "a", "5")), HS_OK);
    taken = lease("a");
    assert_int_equal(effect(taken), 5);
    hs_adapter_lease_free(taken, NULL);
    assert_int_equal(info_of("a").error.status, HS_OK);
    close_pool();
}

static void what_the_runtime_refuses_is_told(void **state)
{
    (void)state;
    struct fake_lora_config config = {.fails_new = true};
    open_pool(1000, &config);
    add("a", "1");
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_MISMATCH);
    config = (struct fake_lora_config){.fails_prepare = true};
    fake_lora_reset(&config);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_NOT_SUPPORTED);
    fake_lora_reset(NULL);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_OK);
    assert_int_equal(info_of("a").n_uses, 0);
    close_pool();
}

static void a_slow_load_holds_up_no_other(void **state)
{
    (void)state;
    open_pool(10000, NULL);
    add("slow1", "1");
    add("slow2", "2");
    add("slow3", "3");
    add("quick", "4");
    adapter_files_hold(files, "slow");
    hs_adapter_lease *slow[] = {lease("slow1"), lease("slow2"), lease("slow3")};
    hs_adapter_lease *quick = lease("quick");
    assert_int_equal(effect(quick), 4);
    assert_int_equal(hs_adapter_lease_state(slow[0]), HS_ADAPTER_LEASE_WAITING);
    hs_adapter_lease_free(slow[1], NULL); /* given up while it loads */
    assert_int_equal(hs_adapter_pool_unregister(pool, "slow2", &err), HS_OK);
    adapter_files_hold(files, "");
    assert_int_equal(effect(slow[0]), 1);
    assert_int_equal(effect(slow[2]), 3);
    hs_adapter_lease_free(slow[0], NULL);
    hs_adapter_lease_free(slow[2], NULL);
    hs_adapter_lease_free(quick, NULL);
    wait_alive(3);
    close_pool();
}

static void a_load_nobody_waits_for_any_more_is_not_begun(void **state)
{
    (void)state;
    open_pool(10000, NULL);
    char name[16];
    hs_adapter_lease *held[8];
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        add(name, "1");
    }
    adapter_files_hold(files, "s");
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        held[i] = lease(name);
    }
    adapter_files_wait(files, 4);
    for (int i = 0; i < 8; i++) {
        hs_adapter_lease_free(held[i], NULL);
    }
    adapter_files_hold(files, "");
    wait_alive(4);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "s7", &err), HS_OK);
    assert_int_equal(adapter_files_n_read(files), 5);
    close_pool();
}

/* ---- memory ---- */

static void the_least_recently_used_leaves(void **state)
{
    (void)state;
    open_pool(250, NULL);
    add("a", "1");
    add("b", "2");
    add("c", "3");
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_OK);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "b", &err), HS_OK);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_OK);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "c", &err), HS_OK);
    assert_int_equal(info_of("a").state, HS_ADAPTER_READY);
    assert_int_equal(info_of("b").state, HS_ADAPTER_REGISTERED);
    assert_int_equal(info_of("c").state, HS_ADAPTER_READY);
    wait_alive(2);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "b", &err), HS_OK);
    assert_int_equal(info_of("a").state, HS_ADAPTER_REGISTERED);
    assert_int_equal(info_of("b").n_loads, 2);
    close_pool();
}

static void pinned_ones_stay(void **state)
{
    (void)state;
    open_pool(250, NULL);
    struct hs_adapter_params params = {.name = "pinned",
                                       .model_id = "m",
                                       .path = adapter_file(files, "p", "1"),
                                       .is_pinned = true};
    assert_int_equal(hs_adapter_pool_register(pool, &model, &params, &err), HS_OK);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "pinned", &err), HS_OK);
    char name[16];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        add(name, "1");
        assert_int_equal(hs_adapter_pool_load(pool, &model, name, &err), HS_OK);
    }
    assert_int_equal(info_of("pinned").state, HS_ADAPTER_READY);
    assert_true(info_of("pinned").is_pinned);
    assert_int_equal(hs_adapter_pool_unload(pool, "pinned", &err), HS_OK);
    assert_int_equal(info_of("pinned").state, HS_ADAPTER_REGISTERED);
    wait_alive(1);
    close_pool();
}

static void what_is_in_use_stays_and_others_wait_in_turn(void **state)
{
    (void)state;
    open_pool(250, NULL);
    add("a", "1");
    add("b", "2");
    add("c", "3");
    hs_adapter_lease *ab = lease_two("a", "b");
    assert_int_equal(effect(ab), 3);
    assert_int_equal(hs_adapter_pool_unload(pool, "a", &err), HS_BUSY);
    hs_adapter_lease *c = lease("c");
    hs_adapter_lease *a = lease("a"); /* in memory, but c came first */
    test_sleep_ms(20);
    assert_int_equal(hs_adapter_lease_state(c), HS_ADAPTER_LEASE_WAITING);
    assert_int_equal(hs_adapter_lease_state(a), HS_ADAPTER_LEASE_WAITING);
    assert_int_equal(adapter_files_n_read(files), 2);
    hs_adapter_lease_free(ab, NULL);
    assert_int_equal(effect(c), 3);
    assert_int_equal(effect(a), 1);
    hs_adapter_lease_free(a, NULL);
    hs_adapter_lease_free(c, NULL);
    close_pool();
}

static void leaving_the_queue_lets_the_next_one_in(void **state)
{
    (void)state;
    open_pool(250, NULL);
    add("a", "1");
    add("b", "2");
    add("c", "3");
    hs_adapter_lease *ab = lease_two("a", "b");
    assert_int_equal(effect(ab), 3);
    hs_adapter_lease *c = lease("c");
    hs_adapter_lease *a = lease("a");
    hs_adapter_lease_free(c, NULL);
    assert_int_equal(effect(a), 1);
    c = lease("c");
    hs_adapter_lease_free(c, NULL);
    hs_adapter_lease_free(ab, NULL);
    hs_adapter_lease_free(a, NULL);
    close_pool();
}

static void what_alone_exceeds_the_budget_is_refused(void **state)
{
    (void)state;
    struct fake_lora_config config = {.bytes = 251};
    open_pool(250, &config);
    add("a", "1");
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_LIMIT);
    assert_non_null(strstr(err.hint, "--adapter-memory"));
    wait_alive(0);
    config.bytes = 250;
    fake_lora_reset(&config);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "a", &err), HS_OK);
    close_pool();
}

/* ---- versions ---- */

static void a_replaced_version_lives_as_long_as_its_leases(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "1");
    hs_adapter_lease *old = lease("a");
    assert_int_equal(effect(old), 1);
    char version[HS_ADAPTER_NAME_SIZE];
    memcpy(version, info_of("a").version, sizeof(version));
    assert_int_equal(try_replace("a", adapter_file(files, "a2", "2")), HS_OK);
    struct hs_adapter_info info = info_of("a");
    assert_int_equal(info.state, HS_ADAPTER_READY);
    assert_int_equal(info.n_active, 1);
    assert_string_not_equal(info.version, version);
    hs_adapter_lease *new = lease("a");
    assert_int_equal(hs_adapter_lease_state(new), HS_ADAPTER_LEASE_READY);
    assert_int_equal(effect(new), 2);
    assert_int_equal(effect(old), 1);
    assert_int_equal(counters().n_alive, 2);
    hs_adapter_lease_free(old, NULL);
    wait_alive(1);
    assert_int_equal(info_of("a").n_active, 1);
    hs_adapter_lease_free(new, NULL);
    close_pool();
}

static void a_replacement_that_fails_changes_nothing(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "1");
    assert_int_equal(try_replace("a", adapter_file(files, "a2", "bad")), HS_BAD_FORMAT);
    assert_int_equal(try_replace("a", "/nowhere"), HS_NOT_FOUND);
    struct hs_adapter_params params = {
        .name = "a", .model_id = "other", .path = adapter_file(files, "a3", "3")};
    assert_int_equal(hs_adapter_pool_replace(pool, &other, &params, &err), HS_MISMATCH);
    hs_adapter_lease *taken = lease("a");
    assert_int_equal(effect(taken), 1);
    hs_adapter_lease_free(taken, NULL);
    close_pool();
}

static void a_replacement_without_room_waits_for_its_first_use(void **state)
{
    (void)state;
    open_pool(250, NULL);
    add("a", "1");
    add("b", "2");
    hs_adapter_lease *ab = lease_two("a", "b");
    assert_int_equal(effect(ab), 3);
    assert_int_equal(try_replace("a", adapter_file(files, "a2", "7")), HS_OK);
    assert_int_equal(info_of("a").state, HS_ADAPTER_REGISTERED);
    hs_adapter_lease *taken = lease("a");
    test_sleep_ms(5);
    assert_int_equal(hs_adapter_lease_state(taken), HS_ADAPTER_LEASE_WAITING);
    hs_adapter_lease_free(ab, NULL);
    assert_int_equal(effect(taken), 7);
    hs_adapter_lease_free(taken, NULL);
    close_pool();
}

static void a_name_that_is_gone_is_free_at_once(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    add("a", "1");
    hs_adapter_lease *old = lease("a");
    assert_int_equal(effect(old), 1);
    assert_int_equal(hs_adapter_pool_unregister(pool, "a", &err), HS_OK);
    hs_adapter_lease *taken = NULL;
    assert_int_equal(try_lease("a", 1, &taken), HS_NOT_FOUND);
    add("a", "9");
    taken = lease("a");
    assert_int_equal(effect(taken), 9);
    assert_int_equal(effect(old), 1);
    struct hs_usage usage = {.prompt_tokens = 1};
    hs_adapter_lease_free(old, &usage);
    assert_int_equal(info_of("a").n_prompt_tokens, 0);
    hs_adapter_lease_free(taken, NULL);
    wait_alive(1);
    close_pool();
}

static hs_status memory_call(bool replaces, const char *name, float shift)
{
    struct fake_weights weights;
    struct hs_adapter_params params = {
        .name = name, .model_id = "m", .weights = fake_lora(&weights, shift)};
    return replaces ? hs_adapter_pool_replace(pool, &model, &params, &err)
                    : hs_adapter_pool_register(pool, &model, &params, &err);
}

static void weights_in_memory_are_ready_and_stay(void **state)
{
    (void)state;
    open_pool(250, NULL);
    assert_int_equal(memory_call(false, "made", 4), HS_OK);
    assert_int_equal(memory_call(false, "made", 4), HS_ALREADY_EXISTS);
    struct hs_adapter_info info = info_of("made");
    assert_int_equal(info.state, HS_ADAPTER_READY);
    assert_string_equal(info.path, "");
    char name[16];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        add(name, "1");
        assert_int_equal(hs_adapter_pool_load(pool, &model, name, &err), HS_OK);
    }
    assert_int_equal(hs_adapter_pool_unload(pool, "made", &err), HS_BUSY);
    assert_non_null(strstr(err.message, "in memory"));
    hs_adapter_lease *old = lease("made");
    assert_int_equal(effect(old), 4);
    char key[HS_CACHE_KEY_MAX];
    memcpy(key, hs_adapter_lease_key(old), sizeof(key));
    assert_int_equal(memory_call(true, "made", 5), HS_OK);
    hs_adapter_lease *new = lease("made");
    assert_int_equal(effect(new), 5);
    assert_string_not_equal(hs_adapter_lease_key(new), key);
    assert_int_equal(memory_call(true, "made", 6), HS_LIMIT); /* both are in use */
    assert_int_equal(effect(new), 5);
    hs_adapter_lease_free(old, NULL);
    hs_adapter_lease_free(new, NULL);
    assert_int_equal(memory_call(true, "made", 6), HS_OK);
    assert_int_equal(memory_call(false, "second", 1), HS_OK);
    assert_int_equal(memory_call(false, "third", 1), HS_LIMIT);
    assert_int_equal(memory_call(true, "second", 2), HS_OK); /* in its place */
    close_pool();
}

static void a_folder_is_known_by_the_files_in_it(void **state)
{
    (void)state;
    open_pool(1000, NULL);
    char path[512];
    char dir[512];
    snprintf(dir, sizeof(dir), "%s/peft", files->dir);
    assert_int_equal(hs_fs_mkdir_p(dir, &err), HS_OK);
    snprintf(path, sizeof(path), "%s", adapter_file(files, "peft/adapter_model.safetensors", "1"));
    assert_int_equal(try_register("folder", dir), HS_OK);
    (void)adapter_file(files, "peft/README.md", "x");
    assert_int_equal(try_register("file", path), HS_OK);
    (void)adapter_file(files, "peft/adapter_config.json", "{}");
    assert_int_equal(hs_adapter_pool_load(pool, &model, "folder", &err), HS_MISMATCH);
    assert_int_equal(hs_adapter_pool_load(pool, &model, "file", &err), HS_MISMATCH);
    assert_int_equal(try_replace("file", path), HS_OK);
    close_pool();
}

/* ---- out of memory ---- */

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t i = 1; i < 200; i++) {
        open_pool(1000, NULL);
        char first[512];
        snprintf(first, sizeof(first), "%s", adapter_file(files, "a", "1"));
        const char *second = adapter_file(files, "b", "2");
        hs_adapter_lease *taken = NULL;
        hs_mem_fail_after(i);
        hs_status status = try_register("a", first);
        if (status == HS_OK) {
            status = hs_adapter_pool_load(pool, &model, "a", &err);
        }
        if (status == HS_OK) {
            status = try_replace("a", second);
        }
        if (status == HS_OK) {
            status = try_lease("a", 1, &taken);
        }
        bool is_over = hs_mem_count() < i;
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        hs_adapter_lease_free(status == HS_OK ? taken : NULL, NULL);
        close_pool();
        if (is_over) {
            return;
        }
    }
    fail_msg("it never succeeded");
}

/* ---- many threads ---- */

static void *use_them(void *arg)
{
    uint32_t rng = *(uint32_t *)arg;
    for (int i = 0; i < 300; i++) {
        rng = rng * 1664525u + 1013904223u;
        char name[8];
        snprintf(name, sizeof(name), "n%u", (rng >> 16) % 6);
        struct hs_adapter_ref ref = {name, 1};
        struct hs_error error;
        hs_adapter_lease *taken = NULL;
        if (hs_adapter_lease_take(pool, &model, &ref, 1, NULL, NULL, &taken, &error) != HS_OK) {
            continue; /* its name is gone for the moment */
        }
        if ((rng >> 8) % 4 != 0 && wait_for(taken) == HS_ADAPTER_LEASE_READY &&
            fake_effect(hs_adapter_lease_set(taken)) != name[1] - '0') {
            return "another's weights";
        }
        hs_adapter_lease_free(taken, NULL);
    }
    return NULL;
}

static void many_threads_get_what_they_named(void **state)
{
    (void)state;
    open_pool(250, NULL);
    char name[8];
    char text[8];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        snprintf(text, sizeof(text), "%d", i);
        add(name, text);
    }
    pthread_t threads[4];
    uint32_t seeds[4];
    for (uint32_t i = 0; i < 4; i++) {
        seeds[i] = i + 1;
        assert_int_equal(pthread_create(&threads[i], NULL, use_them, &seeds[i]), 0);
    }
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof(name), "n%d", i % 6);
        snprintf(text, sizeof(text), "%d", i % 6);
        if (i % 3 == 0) {
            assert_int_equal(hs_adapter_pool_unregister(pool, name, &err), HS_OK);
            add(name, text);
        } else {
            assert_int_equal(try_replace(name, adapter_file(files, name, text)), HS_OK);
        }
    }
    for (int i = 0; i < 4; i++) {
        void *fault = NULL;
        pthread_join(threads[i], &fault);
        assert_null(fault);
    }
    struct hs_model_stats stats = {0};
    hs_adapter_pool_stats(pool, &model, &stats);
    assert_true(stats.adapter_bytes <= 250);
    close_pool();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_registered_adapter_is_not_read),
        cmocka_unit_test(what_cannot_be_registered_is_said),
        cmocka_unit_test(without_a_budget_there_are_no_adapters),
        cmocka_unit_test(there_is_a_limit_of_names),
        cmocka_unit_test(an_unknown_name_is_told_with_those_that_fit),
        cmocka_unit_test(adapters_are_listed_by_name),
        cmocka_unit_test(a_lease_loads_and_the_next_one_finds_it),
        cmocka_unit_test(scales_of_zero_are_absent),
        cmocka_unit_test(refused_references),
        cmocka_unit_test(keys_tell_names_scales_and_content_apart),
        cmocka_unit_test(a_failed_load_is_told_and_tried_again),
        cmocka_unit_test(what_the_runtime_refuses_is_told),
        cmocka_unit_test(a_slow_load_holds_up_no_other),
        cmocka_unit_test(a_load_nobody_waits_for_any_more_is_not_begun),
        cmocka_unit_test(the_least_recently_used_leaves),
        cmocka_unit_test(pinned_ones_stay),
        cmocka_unit_test(what_is_in_use_stays_and_others_wait_in_turn),
        cmocka_unit_test(leaving_the_queue_lets_the_next_one_in),
        cmocka_unit_test(what_alone_exceeds_the_budget_is_refused),
        cmocka_unit_test(a_replaced_version_lives_as_long_as_its_leases),
        cmocka_unit_test(a_replacement_that_fails_changes_nothing),
        cmocka_unit_test(a_replacement_without_room_waits_for_its_first_use),
        cmocka_unit_test(a_name_that_is_gone_is_free_at_once),
        cmocka_unit_test(weights_in_memory_are_ready_and_stay),
        cmocka_unit_test(a_folder_is_known_by_the_files_in_it),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(many_threads_get_what_they_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
