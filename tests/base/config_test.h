/* config_test.h - settings without an environment of their own, and values given as flags. */
#ifndef CONFIG_TEST_H
#define CONFIG_TEST_H

#include "base_test.h"

#include "base/config.h"

extern char **environ;

static char *no_environment[] = {NULL};

static inline int config_setup(void **state)
{
    static struct hs_config config;
    environ = no_environment;
    *state = &config;
    return hs_config_init(&config, NULL) == HS_OK ? 0 : -1;
}

static inline int config_teardown(void **state)
{
    hs_config_free(*state);
    return 0;
}

static inline void accept(struct hs_config *config, enum hs_config_id id, const char *text,
                          double number)
{
    struct hs_error err = {.message = ""};
    if (hs_config_set_flag(config, id, text, &err) != HS_OK) {
        fail_msg("'%s' was refused: %s", text, err.message);
    }
    assert_true(hs_config_float(config, id) == number);
    assert_string_equal(hs_config_str(config, id), text);
    assert_int_equal(config->values[id].source, HS_CONFIG_FLAG);
}

/* Refused with a message that names where it came from, the setting, the value and the range. */
static inline void refuse(struct hs_config *config, enum hs_config_id id, const char *text,
                          const char *range)
{
    struct hs_error err = {.message = ""};
    const char *old = config->values[id].text;
    char origin[64];
    snprintf(origin, sizeof origin, "--%s: ", hs_config_row(id)->name);
    hs_status status = hs_config_set_flag(config, id, text, &err);
    if (status != HS_INVALID_ARGUMENT) {
        fail_msg("'%s' was accepted", text);
    }
    assert_int_equal(err.status, HS_INVALID_ARGUMENT);
    assert_memory_equal(err.message, origin, strlen(origin));
    assert_non_null(strstr(err.message, hs_config_row(id)->name));
    if (strcspn(text, "\t\n") == strlen(text)) { /* test_shown_value has the others */
        assert_non_null(strstr(err.message, text));
    }
    assert_non_null(strstr(err.message, range));
    assert_ptr_equal(config->values[id].text, old);
    assert_int_equal(hs_config_set_flag(config, id, text, NULL), HS_INVALID_ARGUMENT);
}

#define CONFIG_TEST(name) cmocka_unit_test_setup_teardown(name, config_setup, config_teardown)

#endif
