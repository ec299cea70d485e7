/*
 * adapter_add.h - from files to a version in the registry, checked against its model; and a
 * registered adapter as JSON. What the command line and REST share.
 *
 * Owner:   see each function.
 * Threads: no state.
 */
#ifndef API_ADAPTER_ADD_H
#define API_ADAPTER_ADD_H

#include <jansson.h>

#include "storage/adapter_store.h"

struct hs_adapter_add {
    const char *path;                          /* what hs_adapter_file_load takes */
    const char *name;                          /* NULL: made of the path */
    const char *model_path;                    /* GGUF file of the model it was made for */
    const char *model_name;                    /* for people */
    const char *source;                        /* NULL: the path */
    const char *description, *tags, *examples; /* NULL: as before, or none */
    const char *parents;                       /* as of struct hs_registry_adapter; NULL: none */
    bool is_linked, replaces;
    int64_t n_keep; /* versions */
};

/*
 * Read the adapter, check it against the model and add it.
 * Errors: those of hs_adapter_file_load and hs_registry_adapter_add; HS_ALREADY_EXISTS also when a
 * model is called so, as a request could not tell them apart.
 */
HS_CHECKED hs_status hs_adapter_add(hs_registry *registry, const struct hs_adapter_add *add,
                                    struct hs_registry_adapter *ret_row, struct hs_error *err);

/* An object; NULL without memory. with_path: where it lies, which is for people of this machine. */
json_t *hs_adapter_row_json(const struct hs_registry_adapter *row, bool with_path);
/* JSON text of an array with each of the strings, one a line in `lines`: hs_free. NULL without
 * memory. */
char *hs_adapter_lines_json(const char *lines);

#endif
