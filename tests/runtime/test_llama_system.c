/* What is known of llama.cpp and the machine. */
#include "runtime_test.h"

#include <string.h>

#include "base/machine.h"
#include "llama.h"

static void the_cpu_is_always_there(void **state)
{
    (void)state;
    struct hs_system_info info;
    assert_int_equal(hs_runtime_llama_system_info(&info, NULL), HS_OK);
    assert_string_equal(info.llama_version, llama_version());
    assert_in_range(info.n_devices, 1, HS_DEVICES_MAX);
    const struct hs_device *cpu = NULL;
    for (int32_t i = 0; i < info.n_devices; i++) {
        assert_true(info.devices[i].name[0] != '\0' && info.devices[i].description[0] != '\0');
        cpu = strcmp(info.devices[i].name, "CPU") == 0 ? &info.devices[i] : cpu;
    }
    assert_non_null(cpu);
    assert_true(cpu->memory_total_bytes > 0);
    assert_true(cpu->memory_free_bytes <= cpu->memory_total_bytes);
    hs_runtime_llama_shutdown();
}

/* The kernel's list of the processor's abilities has whatever is in use. */
static void features_are_the_processors(void **state)
{
    (void)state;
#ifdef __x86_64__
    struct hs_system_info info;
    assert_int_equal(hs_runtime_llama_system_info(&info, NULL), HS_OK);
    char line[65536] = "";
    FILE *file = fopen("/proc/cpuinfo", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) && strncmp(line, "flags", 5) != 0) {
    }
    fclose(file);
    static const char *const names[][2] = {
        {"AVX2", " avx2 "}, {"AVX512", " avx512f "}, {"FMA", " fma "}, {"F16C", " f16c "}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char padded[sizeof info.cpu_features + 2], word[16];
        snprintf(padded, sizeof padded, " %s ", info.cpu_features);
        snprintf(word, sizeof word, " %s ", names[i][0]);
        if (strstr(padded, word) != NULL) {
            assert_non_null(strstr(line, names[i][1]));
        }
    }
    hs_runtime_llama_shutdown();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_is_always_there),
        cmocka_unit_test(features_are_the_processors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
