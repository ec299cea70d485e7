#include "adapters_test.h"

#include "adapter_table.h"
#include "base/fs.h"
#include "storage/gguf.h"
#include "tiny_adapter.h"
#include "tiny_gguf.h"

struct adapters_test adapters_test;

int adapters_setup(void **state)
{
    if (rest_setup(state) != 0) {
        return -1;
    }
    struct rest_test *test = *state;
    struct adapters_test *f = &adapters_test;
    struct tiny_gguf_spec spec;
    hs_gguf *gguf = NULL;
    snprintf(f->folder, sizeof f->folder, HS_TEST_TMP "/adapters-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    setenv("HYPRSTREAM_HOME", f->folder, 1);
    assert_int_equal(hs_paths_load(&f->paths, NULL), HS_OK);
    struct hs_model_info *model = &test->rest.models[0];
    snprintf(model->path, sizeof model->path, "%s/fake.gguf", f->folder);
    tiny_gguf_defaults(&spec);
    assert_true(tiny_gguf_write(&spec, model->path));
    assert_int_equal(hs_gguf_open(model->path, &gguf, NULL), HS_OK);
    assert_int_equal(hs_gguf_fingerprint(gguf, model->path, model->fingerprint, NULL), HS_OK);
    hs_gguf_free(gguf);
    assert_int_equal(hs_registry_open(&f->paths, &f->registry, NULL), HS_OK);
    hs_adapter_table_free(test->rest.adapters);
    assert_int_equal(
        hs_adapter_table_new(test->engine, f->registry, model, 1, &test->rest.adapters, NULL),
        HS_OK);
    test->rest.upload_dir = f->paths.cache_dir;
    test->rest.adapter_versions = 3;
    return 0;
}

int adapters_teardown(void **state)
{
    int result = rest_teardown(state);
    hs_registry_close(adapters_test.registry);
    hs_paths_free(&adapters_test.paths);
    return hs_fs_remove_all(adapters_test.folder, NULL) == HS_OK ? result : -1;
}

const char *adapters_make_source(float seed)
{
    static char folder[512];
    snprintf(folder, sizeof folder, "%s/source", adapters_test.folder);
    assert_true(tiny_adapter_write(folder, TINY_GGUF_N_EMBD, seed));
    return folder;
}

void adapters_create(struct rest_test *test, const char *name, float seed, const char *more,
                     int status)
{
    char body[1024];
    snprintf(body, sizeof body, "{\"path\":\"%s\",\"name\":\"%s\"%s}", adapters_make_source(seed),
             name, more);
    rest_ask(test, "POST " ADAPTERS, body, status);
}
