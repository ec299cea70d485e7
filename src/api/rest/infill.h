/*
 * infill.h - what every endpoint asks that has a gap in a text filled.
 *
 * Threads: those of the request's handler.
 */
#ifndef API_INFILL_H
#define API_INFILL_H

#include "fields.h"
#include "rest.h"

/* 400 about the field `name` when the model cannot fill gaps. */
bool hs_rest_infill_check(const struct hs_model_info *model, const struct hs_fields *fields,
                          const char *name);

#endif
