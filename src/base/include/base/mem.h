/*
 * mem.h - scoped cleanup, checked allocation, and the test hook that makes every allocation fail
 * once.
 *
 * All allocations of the product go through these functions. They return NULL on failure, never
 * abort. Threads: safe from any thread; the failure hook is process-wide and for tests only.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* Run `fn(&variable)` when the variable leaves its scope. A function uses this or goto, never both.
 */
#define HS_CLEANUP(fn) __attribute__((cleanup(fn)))

void *hs_alloc(size_t size);            /* uninitialised; size 0 gives a valid pointer */
void *hs_calloc(size_t n, size_t size); /* zeroed; NULL on overflow */
void *hs_realloc(void *p, size_t size); /* as realloc, size > 0 */
void *hs_realloc_array(void *p, size_t n, size_t size); /* NULL on overflow */
char *hs_strdup(const char *s);                         /* NULL in, NULL out */
char *hs_strndup(const char *s, size_t n);
char *hs_asprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
void hs_free(void *p);

/* For HS_CLEANUP: frees *(void **)p. Declare `HS_CLEANUP(hs_freep) char *s = NULL;`. */
void hs_freep(void *p);
void hs_fclosep(void *p); /* FILE * */
void hs_closep(int *fd);  /* closes when >= 0 */

/* Fail the n-th allocation from now (1: the next one), 0: off. For tests. */
void hs_mem_fail_after(uint64_t n);
/* Allocations since the last hs_mem_fail_after. */
uint64_t hs_mem_count(void);

#endif
