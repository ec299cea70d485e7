/* mem.c - allocation with a failure hook that costs one relaxed load while it is off. */
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Only tests ever turn counting on, so the product's threads do not share a counter. */
static atomic_bool counting;
static _Atomic uint64_t n_allocations;
static _Atomic uint64_t failing_allocation;

static bool allocation_fails(void)
{
    if (!atomic_load_explicit(&counting, memory_order_relaxed)) {
        return false;
    }
    uint64_t n = atomic_fetch_add(&n_allocations, 1) + 1;
    if (n != atomic_load(&failing_allocation)) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

void hs_mem_fail_after(uint64_t n)
{
    atomic_store(&failing_allocation, 0);
    atomic_store(&n_allocations, 0);
    atomic_store(&failing_allocation, n);
    atomic_store(&counting, true);
}

uint64_t hs_mem_count(void)
{
    return atomic_load(&n_allocations);
}

void *hs_alloc(size_t size)
{
    return allocation_fails() ? NULL : malloc(size == 0 ? 1 : size);
}

void *hs_calloc(size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return allocation_fails() ? NULL : calloc(1, total == 0 ? 1 : total);
}

void *hs_realloc(void *p, size_t size)
{
    return allocation_fails() ? NULL : realloc(p, size == 0 ? 1 : size);
}

void *hs_realloc_array(void *p, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return hs_realloc(p, total);
}

char *hs_strdup(const char *s)
{
    return s == NULL ? NULL : hs_strndup(s, strlen(s));
}

char *hs_strndup(const char *s, size_t n)
{
    if (s == NULL) {
        return NULL;
    }
    size_t len = strnlen(s, n);
    char *copy = hs_alloc(len + 1);
    if (copy == NULL) {
        return NULL;
    }
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *hs_asprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : hs_alloc((size_t)len + 1);
    if (text != NULL) {
        vsnprintf(text, (size_t)len + 1, format, again);
    }
    va_end(again);
    return text;
}

void hs_free(void *p)
{
    free(p);
}

void hs_freep(void *p)
{
    void *target;
    memcpy(&target, p, sizeof target); /* p points to a pointer of any type */
    free(target);
    target = NULL;
    memcpy(p, &target, sizeof target);
}

void hs_fclosep(void *p)
{
    FILE **file = p;
    if (*file != NULL) {
        int saved = errno;
        fclose(*file);
        errno = saved;
        *file = NULL;
    }
}

void hs_closep(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
        *fd = -1;
    }
}
