/*
 * flight_server [--keys FILE] [--cert FILE KEY] [--file DATABASE] [--port N] - Flight SQL without a
 * model, for clients' tests: prints its port, and serves until its standard input ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/flightsql.h"

int main(int argc, char **argv)
{
    struct hs_error err;
    struct hs_sql_params params;
    struct hs_flight_config config;
    hs_sql *sql = NULL;
    hs_flight *flight = NULL;
    hs_sql_params_defaults(&params);
    hs_flight_config_defaults(&config);
    params.memory_bytes = (uint64_t)512 << 20;
    params.n_threads = 2;
    hs_status status = HS_OK;
    for (int i = 1; i + 1 < argc && !status; i += 2) {
        if (strcmp(argv[i], "--keys") == 0) {
            status = hs_http_keys_open(argv[i + 1], &config.keys, &err);
        } else if (strcmp(argv[i], "--cert") == 0 && i + 2 < argc) {
            config.grpc.tls_cert_file = argv[i + 1];
            config.grpc.tls_key_file = argv[++i + 1];
        } else if (strcmp(argv[i], "--file") == 0) {
            params.file = argv[i + 1];
        } else if (strcmp(argv[i], "--port") == 0) {
            config.grpc.port = atoi(argv[i + 1]);
        }
    }
    status = status ? status : hs_sql_open(&params, &sql, &err);
    config.sql = sql;
    status = status ? status : hs_flight_start(&config, &flight, &err);
    if (status) {
        fprintf(stderr, "flight_server: %s; %s\n", err.message, err.hint);
        return 1;
    }
    printf("%d\n", hs_grpc_server_port(hs_flight_server(flight)));
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    status = hs_flight_stop(flight, 2000, &err);
    hs_flight_free(flight);
    hs_sql_close(sql);
    hs_http_keys_free(config.keys);
    return status ? 1 : 0;
}
