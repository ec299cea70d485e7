/*
 * fn_target.h - who answers a row and how: the model, its adapters and the parameters, read from
 * the options of a SQL function.
 *
 * Options are an object: model, adapter or adapters, system, max_tokens, temperature, seed, stop,
 * session (docs/sql.md). What is left out is as the program's settings say, but the temperature,
 * which is 0.
 *
 * Owner:   hs_fn_target_free. The model is held where models come and go; adapters are only named:
 *          they may leave the engine while the target lives, and requests then say so.
 * Threads: constant once made.
 */
#ifndef API_SQL_FN_TARGET_H
#define API_SQL_FN_TARGET_H

#include <jansson.h>

#include "api/sql_host.h"

#define HS_FN_ADAPTERS_MAX 64
#define HS_FN_STOP_MAX 64

struct hs_fn_target {
    struct hs_fn_target *next; /* of the list that holds it */
    char *options;             /* canonical JSON, by which it is found again */
    json_t *json;              /* the texts below stand in it */
    struct hs_model_info model;
    const struct hs_sql_host *host;
    void *hold;                      /* of the model; NULL: it stays */
    struct hs_adapter_ref *adapters; /* [n_adapters]; NULL: none */
    int32_t n_adapters;
    bool has_adapters;   /* the options say which, were it none */
    const char *system;  /* NULL: none */
    const char *session; /* NULL: none */
    const char **stop;
    struct hs_generate_params params;
};

/*
 * Resolve options. schema NULL: the answer is free text; else the JSON Schema that it must fit.
 * In:     json: an object or null; borrowed.
 * Errors: HS_INVALID_ARGUMENT (an option that is unknown or out of range, with the ones there are),
 *         those of find_model and find_adapter; HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_fn_target_new(const struct hs_sql_host *host, const json_t *json,
                                      const char *schema, struct hs_fn_target **ret_target,
                                      struct hs_error *err);
void hs_fn_target_free(struct hs_fn_target *target);

/* Options and schema as the text that names them; hs_free. NULL: no memory. */
char *hs_fn_target_key(const json_t *json, const char *schema);

#endif
