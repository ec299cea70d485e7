/*
 * route_reading.h - what goes into a model's matrices while it reads a text, for routing.
 *
 * Threads: any; each reading has a context of its own.
 */
#ifndef INFERENCE_ROUTE_READING_H
#define INFERENCE_ROUTE_READING_H

#include "model.h"

/* Who reads, and until when. */
struct hs_route_reading {
    hs_engine *engine;
    struct hs_model *model;
    double deadline_at_ms; /* of hs_clock_ms; 0: none */
};

/* Matrices that are wanted, and what they get: rows f32[n_rows, n_in], each of length 1 or 0, one
 * for each token but the first, whose activations are alike in all texts, and large. */
struct hs_route_reader {
    bool (*wants)(void *user, const char *tensor);
    void (*see)(void *user, const char *tensor, const float *rows, int64_t n_rows, int64_t n_in);
    void *user;
};

/*
 * Read a text, cut after some hundred tokens. Matrices that do not get all tokens are not seen.
 * Errors: HS_TIMEOUT, HS_OUT_OF_MEMORY, those of the runtime's observe.
 */
HS_CHECKED hs_status hs_route_read(const struct hs_route_reading *how, const char *text,
                                   const struct hs_route_reader *reader, struct hs_error *err);

#endif
