/*
 * adapters_test.h - a server whose model "fake" is a real file and whose registry is a real one, in
 * a folder of their own.
 *
 * Use adapters_setup and adapters_teardown as a test's fixtures; *state is the struct rest_test.
 */
#ifndef ADAPTERS_TEST_H
#define ADAPTERS_TEST_H

#include "base/paths.h"
#include "rest_test.h"
#include "storage/registry.h"

#define ADAPTERS "/api/v1/adapters"

struct adapters_test {
    char folder[256];
    struct hs_paths paths;
    hs_registry *registry;
};

extern struct adapters_test adapters_test;

int adapters_setup(void **state);
int adapters_teardown(void **state);

/* The folder of an adapter that fits, made of `seed`; valid until the next call. */
const char *adapters_make_source(float seed);
/* POST of such a folder; more: further fields, ",\"replace\":true". */
void adapters_create(struct rest_test *test, const char *name, float seed, const char *more,
                     int status);

#endif
