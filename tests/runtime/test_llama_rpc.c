/* A model whose weights lie with an RPC server: one in a process of its own, on this machine. */
#include "runtime_test.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "llama_internal.h"

#define START_MS 120000 /* only a fault takes so long, on any machine */

static pid_t server = -1;
static char endpoint[32];

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Below those that the system gives to whoever asks for any, as the tests beside this one do until
 * the server has it. */
static int free_port(void)
{
    for (int port = 10000 + getpid() % 10000; port < 30000; port++) {
        struct sockaddr_in address = loopback(port);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        bool is_free = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        if (is_free) {
            return port;
        }
    }
    return -1;
}

typedef void (*start_server_fn)(const char *endpoint, const char *cache_dir, size_t n_threads,
                                size_t n_devices, ggml_backend_dev_t *devices);

/* In the child: serves the CPU until it is killed, or this test is. */
static void serve(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (hs_llama_init(NULL, NULL) != HS_OK) {
        _exit(1);
    }
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    void *address =
        rpc ? ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_start_server") : NULL;
    if (address == NULL) {
        _exit(77); /* built without the RPC backend */
    }
    start_server_fn start;
    memcpy(&start, &address, sizeof start);
    start(endpoint, NULL, 1, 1, &cpu);
    _exit(1);
}

/* 0: it listens; else the server's exit code. */
static int wait_for_server(int port)
{
    double until_ms = hs_clock_ms() + START_MS;
    int status = 0;
    while (hs_clock_ms() < until_ms) {
        struct sockaddr_in address = loopback(port);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        bool is_up = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        if (is_up) {
            return 0;
        }
        if (waitpid(server, &status, WNOHANG) == server) {
            server = -1;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
        usleep(10000);
    }
    return 1;
}

/* A long answer of a model whose every token depends on all before it. */
static void weights_on_a_server(void **state)
{
    (void)state;
    struct hs_error err = {0};
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.kind = TINY_GGUF_HISTORY;
    char *path = temp_path(".gguf");
    assert_true(tiny_gguf_write(&spec, path));
    struct hs_model_params params = model_params();
    params.rpc_servers = endpoint;
    params.n_gpu_layers = -1;
    hs_rt_model *model = NULL;
    OK(rt->model_load(path, &params, &model, &err));
    unlink(path);
    free(path);
    struct hs_rt_model_info info;
    rt->model_info(model, &info);
    assert_int_equal(info.n_gpu_layers, info.n_layer + 1);
    char names[128];
    hs_llama_device_names(NULL, info.n_gpu_layers, info.n_layer, names, sizeof names);
    assert_non_null(strstr(names, "RPC"));
    assert_true(hs_llama_gpu_free(NULL) > 0);
    hs_rt_context *context = new_context(model, 512, 1);
    struct hs_sampling off = sampling_off();
    hs_rt_sampler *sampler = new_sampler(model, &off);
    int32_t tokens[100] = {TINY_GGUF_BOS, TINY_GGUF_LETTER0, TINY_GGUF_LETTER0 + 3}, out[40];
    assert_int_equal(generate(context, model, sampler, 0, 0, tokens, 3, out, 40), 40);
    for (size_t i = 0; i < 40; i++) {
        tokens[3 + i] = tiny_gguf_history_next(tokens, 3 + i);
        assert_int_equal(out[i], tokens[3 + i]);
    }
    rt->sampler_free(sampler);
    rt->context_free(context);
    rt->model_free(model);
}

/* The same machine can still be asked not to. */
static void the_server_can_be_left_out(void **state)
{
    (void)state;
    struct hs_error err = {0};
    ggml_backend_dev_t *devices = NULL;
    OK(hs_llama_devices("CPU", &devices, &err));
    assert_int_equal(hs_llama_gpu_free(devices), 0);
    hs_free(devices);
}

/* llama.cpp keeps what it knows of an RPC server until the process ends; LeakSanitizer asks this.
 */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_on_a_server),
        cmocka_unit_test(the_server_can_be_left_out),
    };
    int port = free_port();
    snprintf(endpoint, sizeof endpoint, "127.0.0.1:%d", port);
    server = fork(); /* before llama.cpp has threads here */
    if (server == 0) {
        serve();
    }
    int code = wait_for_server(port);
    if (code == 0) {
        code = cmocka_run_group_tests(tests, start_runtime, stop_runtime);
    } else {
        printf(code == 77 ? "[  SKIPPED ] this llama.cpp has no RPC backend\n"
                          : "the RPC server did not start\n");
    }
    if (server > 0) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
    }
    return code;
}
