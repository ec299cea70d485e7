/* Lists of devices and of RPC servers, on a machine without a GPU. */
#include "runtime_test.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "llama_internal.h"

static int set_up(void **state)
{
    (void)state;
    return hs_llama_init(NULL, NULL) == HS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    hs_runtime_llama_shutdown();
    return 0;
}

/* llama.cpp always computes on the CPU as well: naming it means that no GPU is used. */
static void the_cpu_may_be_named(void **state)
{
    (void)state;
    static const char *const lists[] = {"CPU", " CPU ", "CPU,CPU", ",, CPU ,", "", " , "};
    ggml_backend_dev_t *devices = NULL;
    struct hs_error err;
    assert_int_equal(hs_llama_devices(NULL, &devices, &err), HS_OK);
    assert_null(devices); /* all */
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        assert_int_equal(hs_llama_devices(lists[i], &devices, &err), HS_OK);
        assert_non_null(devices);
        assert_null(devices[0]);
        assert_int_equal(hs_llama_gpu_free(devices), 0);
        hs_free(devices);
    }
}

static void unknown_devices_are_refused(void **state)
{
    (void)state;
    char long_name[200] = "CPU,";
    memset(long_name + 4, 'x', sizeof long_name - 5);
    const char *const lists[] = {"CUDA9", "CPU,nothing", "CP", "CPU0x", long_name};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        ggml_backend_dev_t *devices = NULL;
        struct hs_error err = {0};
        assert_int_equal(hs_llama_devices(lists[i], &devices, &err), HS_INVALID_ARGUMENT);
        assert_null(devices);
        assert_non_null(strstr(err.message, "there is no device '"));
        assert_non_null(strstr(err.hint, "CPU")); /* what there is */
    }
    struct hs_error err = {0};
    ggml_backend_dev_t *devices = NULL;
    hs_mem_fail_after(1);
    hs_status status = hs_llama_devices("CPU", &devices, &err);
    hs_mem_fail_after(0);
    assert_int_equal(status, HS_OUT_OF_MEMORY);
}

static void names_of_what_holds_weights(void **state)
{
    (void)state;
    char names[16];
    ggml_backend_dev_t none[] = {NULL};
    hs_llama_device_names(none, 0, 10, names, sizeof names);
    assert_string_equal(names, "CPU");
    hs_llama_device_names(none, 10, 10, names, sizeof names); /* asked for, but there is no GPU */
    assert_string_equal(names, "CPU");
    char small[3];
    hs_llama_device_names(none, 0, 10, small, sizeof small);
    assert_string_equal(small, "CP");
}

/* ggml would end the process: what cannot be reached is refused before. A build without the RPC
 * backend says so instead. */
static void rpc_servers_that_are_not_there(void **state)
{
    (void)state;
    bool has_rpc = ggml_backend_reg_by_name("RPC") != NULL;
    struct hs_error err = {0};
    assert_int_equal(hs_llama_rpc_servers(NULL, &err), HS_OK);
    assert_int_equal(hs_llama_rpc_servers(" , ", &err), HS_OK);
    /* nobody listens on port 1, and no test beside this one gets it */
    const char *const servers[] = {"127.0.0.1:1", "no-port", "127.0.0.1:not-a-port"};
    for (size_t i = 0; i < sizeof servers / sizeof servers[0]; i++) {
        assert_int_equal(hs_llama_rpc_servers(servers[i], &err),
                         has_rpc ? HS_INVALID_ARGUMENT : HS_NOT_SUPPORTED);
        assert_non_null(strstr(err.message, servers[i]));
        assert_non_null(strstr(err.hint, has_rpc ? "rpc-server" : "GGML_RPC=ON"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_may_be_named),
        cmocka_unit_test(unknown_devices_are_refused),
        cmocka_unit_test(names_of_what_holds_weights),
        cmocka_unit_test(rpc_servers_that_are_not_there),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
