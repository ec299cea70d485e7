#include "storage/json_memory.h"

#include <pthread.h>

#include "base/mem.h"

static _Thread_local bool has_failed, is_loading;
static pthread_once_t allocator_once = PTHREAD_ONCE_INIT;

static void *json_allocate(size_t size)
{
    void *p = is_loading && has_failed ? NULL : hs_alloc(size);
    if (p == NULL)
        has_failed = true;
    return p;
}

static void set_allocator(void)
{
    json_set_alloc_funcs(json_allocate, hs_free);
}

void hs_json_memory_watch(void)
{
    pthread_once(&allocator_once, set_allocator);
    has_failed = false;
}

bool hs_json_memory_failed(void)
{
    return has_failed;
}

json_t *hs_json_load(const char *text, size_t len, size_t flags, json_error_t *ret_error)
{
    hs_json_memory_watch();
    is_loading = true;
    json_t *root = json_loadb(text, len, flags, ret_error);
    is_loading = false;
    if (has_failed) {
        json_decref(root);
        return NULL;
    }
    return root;
}
