/*
 * json_memory.h - whether jansson ran out of memory.
 *
 * jansson 2.14 overlooks allocations that fail while it reads strings or adds to a buffer, and then
 * returns a text with holes, or a complaint about the syntax. So every failure is noted, for the
 * thread in which it happens.
 *
 * Threads: any; what is noted is the thread's own.
 */
#ifndef STORAGE_JSON_MEMORY_H
#define STORAGE_JSON_MEMORY_H

#include <jansson.h>
#include <stdbool.h>

/* From here on failures of this thread are noted. */
void hs_json_memory_watch(void);
/* Whether an allocation failed since. */
bool hs_json_memory_failed(void);

/*
 * json_loadb with a watch: NULL also when an allocation failed, which hs_json_memory_failed says.
 * After a first failure all others follow, for jansson goes on with what it could not store, and
 * reads past its end if the next one succeeds.
 */
json_t *hs_json_load(const char *text, size_t len, size_t flags, json_error_t *ret_error);

#endif
