/*
 * lora_check.h - whether weights in memory belong to a model, and are numbers.
 *
 * Errors:  HS_MISMATCH (matrices that the base does not have or of other sides), HS_BAD_FORMAT (NaN
 *          or infinity, sides that do not go together), HS_LIMIT (ranks above HS_LORA_RANK_MAX);
 *          one message lists all that does not fit, as far as there is room.
 * Threads: no state.
 */
#ifndef ADAPTERS_LORA_CHECK_H
#define ADAPTERS_LORA_CHECK_H

#include "adapters/lora_base.h"
#include "base/lora.h"

/* base NULL: only what needs none. */
HS_CHECKED hs_status hs_lora_check(const struct hs_lora *lora, const hs_lora_base *base,
                                   struct hs_error *err);

#endif
