/*
 * status_map.h - from a status to what the outside sees: the process exit code with its
 * documentation, the HTTP status and the code of gRPC.
 *
 * Threads: constant data.
 */
#ifndef API_STATUS_MAP_H
#define API_STATUS_MAP_H

#include "api/grpc.h"
#include "hyprstream.h"

/* The reader of standard output went away: what a program that SIGPIPE ended gives. */
#define HS_EXIT_PIPE_CLOSED 141

struct hs_exit_code_row {
    hs_status status;
    int exit_code;
    const char *text; /* when it happens, for the man page */
};

/* Every status once, by exit code. */
const struct hs_exit_code_row *hs_exit_code_rows(size_t *ret_n);
/* The HTTP status; 200 for HS_OK, foreign values give that of HS_INTERNAL. */
int hs_http_status(hs_status status);
/* HS_GRPC_OK only for HS_OK; foreign values give the code of HS_INTERNAL. */
enum hs_grpc_code hs_grpc_code_of(hs_status status);
/* 0 only for HS_OK; foreign values give the code of HS_INTERNAL. */
int hs_exit_code(hs_status status);

#endif
