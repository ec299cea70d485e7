/* route: the adapters that a prompt would be answered with, and why. */
#include "fn_table.h"
#include "fn_value.h"

static void end(struct hs_fn_scan *scan)
{
    (void)scan;
}

static hs_status choose(const struct hs_sql_host *host, const char *model_id, const char *text,
                        struct hs_route *ret_route, struct hs_error *err)
{
    struct hs_route_params params;
    hs_route_params_defaults(&params);
    return host->route != NULL
               ? host->route(host->user, model_id, text, ret_route, err)
               : hs_engine_route(host->engine, model_id, text, &params, ret_route, err);
}

static hs_status next(struct hs_fn_scan *scan, duckdb_data_chunk out, struct hs_error *err)
{
    struct hs_route route;
    if (scan->state != NULL) {
        return HS_OK;
    }
    scan->state = scan; /* it was read */
    hs_status status = choose(scan->batch.host, scan->target->model.id, scan->prompt, &route, err);
    if (status != HS_OK) {
        return status;
    }
    duckdb_vector columns[4];
    for (idx_t k = 0; k < 4; k++) {
        columns[k] = duckdb_data_chunk_get_vector(out, k);
    }
    float *scales = duckdb_vector_get_data(columns[1]);
    float *closeness = duckdb_vector_get_data(columns[2]);
    for (int32_t i = 0; i < route.n_choices; i++) {
        duckdb_vector_assign_string_element(columns[0], (idx_t)i, route.choices[i].name);
        scales[i] = route.choices[i].scale;
        closeness[i] = route.choices[i].closeness;
        duckdb_vector_assign_string_element(columns[3], (idx_t)i, route.reason);
    }
    if (route.n_choices == 0) { /* the model alone, and why */
        hs_fn_set_null(columns[0], 0);
        hs_fn_set_null(columns[1], 0);
        closeness[0] = route.closeness;
        duckdb_vector_assign_string_element(columns[3], 0, route.reason);
    }
    duckdb_data_chunk_set_size(out, route.n_choices == 0 ? 1 : (idx_t)route.n_choices);
    return HS_OK;
}

const struct hs_fn_table hs_fn_route_table = {
    .name = "route",
    .columns = {{"adapter", DUCKDB_TYPE_VARCHAR},
                {"scale", DUCKDB_TYPE_FLOAT},
                {"closeness", DUCKDB_TYPE_FLOAT},
                {"reason", DUCKDB_TYPE_VARCHAR}},
    .next = next,
    .end = end,
};
