/*
 * adapter_test.h - adapter files for tests: a file holds the shift of the fake runtime's adapter as
 * text, and the reader of them can be slow and fail.
 */
#ifndef ADAPTER_TEST_H
#define ADAPTER_TEST_H

#include "engine_test.h"

#include "adapter_pool.h"

/* What the reader does; set while nothing is read. */
struct adapter_files {
    char *dir;
    int32_t n_read, n_reading; /* begun, and under way */
    char held[64];             /* files whose name begins so are read only once it is emptied */
};

/* A folder and a reader for it; one at a time. */
struct adapter_files *adapter_files_new(void);
void adapter_files_free(struct adapter_files *files);
struct hs_adapter_reader adapter_files_reader(struct adapter_files *files);
/* Write file `name`, of 100 bytes as the fake's adapters have; the path lives until the next call.
 * "bad" as text: reading fails. */
const char *adapter_file(struct adapter_files *files, const char *name, const char *text);
/* Hold files whose name begins with `prefix`; "": none any more. */
void adapter_files_hold(struct adapter_files *files, const char *prefix);
/* Wait, at most a minute, until n reads are under way. */
void adapter_files_wait(struct adapter_files *files, int32_t n_reading);
int32_t adapter_files_n_read(struct adapter_files *files);

#endif
